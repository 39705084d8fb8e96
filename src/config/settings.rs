//! The settings. A field's doc comment, default and rule are the reference: `trove config default`,
//! `trove config check` and docs/CONFIG.md are made from them.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::key::{Rule, section};

section! {
    /// Everything that can be set.
    Config in "" {
        /// Address to listen on; port 0 takes a free one.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7700)), Rule::Address;
        /// Directory of the store, the models and the runtime library. One process at a time.
        data_dir: PathBuf = PathBuf::from(".trove"), Rule::Path;
    }
    sections {
        /// Encoder settings.
        encoder: EncoderConfig;
        /// Limits of one request.
        limits: LimitsConfig;
        /// Extraction of files.
        extract: ExtractConfig;
        /// Logging.
        log: LogConfig;
    }
}

section! {
    /// Settings of the encoders.
    EncoderConfig in "encoder." {
        /// Model directories to load, by name under `data_dir/models`; the first is the default.
        models: Vec<String> = vec!["all-MiniLM-L6-v2".to_owned()], Rule::DirectoryNames;
        /// ONNX Runtime library, or its directory. Unset means `data_dir/runtime`.
        library: Option<PathBuf> = None, Rule::OptionalPath;
        /// Where the encoders run. What is named runs there, or the start fails; `auto` takes
        /// OpenVINO where the processor multiplies bf16, else the default CPU provider.
        device: String = "auto".to_owned(), Rule::OneOf(&["auto", "cpu", "openvino", "cuda"]);
        /// What they compute in. Whatever is not exact fp32 is checked against it at load.
        precision: String = "auto".to_owned(), Rule::OneOf(&["auto", "fp32", "bf16"]);
        /// Model sessions, each with its own thread and copy of the weights. Zero means one per core, at most 4.
        sessions: usize = 0, Rule::AtLeast(0);
        /// Threads of one session. Zero means the cores divided by the sessions.
        threads: usize = 0, Rule::AtLeast(0);
        /// Most tokens of one batch, padding counted.
        max_batch_tokens: usize = 4096, Rule::AtLeast(1);
        /// Most texts that wait; beyond it calls get RESOURCE_EXHAUSTED.
        queue_capacity: usize = 8192, Rule::AtLeast(1);
    }
}

section! {
    /// Limits of one request.
    LimitsConfig in "limits." {
        /// Most inputs of one call.
        max_batch_size: usize = 1024, Rule::AtLeast(1);
        /// Most bytes of one message.
        max_message_bytes: usize = 64 << 20, Rule::AtLeast(1);
        /// Calls of one connection that may run at once.
        max_concurrent_requests: usize = 256, Rule::AtLeast(1);
    }
}

section! {
    /// Extraction in child processes.
    ExtractConfig in "extract." {
        /// Program that runs `extract-worker`. Unset means this one.
        worker: Option<PathBuf> = None, Rule::OptionalPath;
        /// Seconds one file may take.
        timeout_seconds: u64 = 60, Rule::AtLeast(1);
        /// Bytes of address space one file may take.
        memory_bytes: u64 = 2 << 30, Rule::AtLeast(1);
        /// Files extracted at once.
        workers: usize = 2, Rule::AtLeast(1);
    }
}

section! {
    /// Logging, to standard error.
    LogConfig in "log." {
        /// What is logged. `trove=debug` adds a line for every call.
        filter: String = "info,ort=warn".to_owned(), Rule::LogFilter;
        /// Lines for people or JSON for programs.
        format: String = "text".to_owned(), Rule::OneOf(&["text", "json"]);
    }
}
