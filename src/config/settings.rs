//! The settings. A field's doc comment, default and rule are the reference: `trove config default`,
//! `trove config check` and docs/CONFIG.md are made from them.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::key::{Rule, section};

/// Most of a 32-bit number.
const U32: u64 = u32::MAX as u64;
/// Ten years: longer than anything waits, and short enough to be added to a time.
const MOST_SECONDS: u64 = 10 * 365 * 86_400;

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
        /// Cross-encoders.
        reranker: RerankerConfig;
        /// Generator settings.
        generator: GeneratorConfig;
        /// Answers from retrieved passages.
        answer: AnswerConfig;
        /// Settings of the CUDA provider.
        cuda: CudaConfig;
        /// TLS and client certificates.
        tls: TlsConfig;
        /// Who may call.
        access: AccessConfig;
        /// Limits of requests, connections and the whole server.
        limits: LimitsConfig;
        /// Extraction of files.
        extract: ExtractConfig;
        /// The store.
        store: StoreConfig;
        /// The vector index.
        index: IndexConfig;
        /// Snapshots by schedule.
        snapshots: SnapshotsConfig;
        /// Logging.
        log: LogConfig;
        /// HTTP beside gRPC.
        http: HttpConfig;
        /// Metrics and health over HTTP.
        metrics: MetricsConfig;
        /// Traces.
        tracing: TracingConfig;
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
        /// What they compute in. Whatever is not fp32 on the CPU is checked against it at load, and
        /// refused where it is off.
        precision: String = "auto".to_owned(), Rule::OneOf(&["auto", "fp32", "fp16", "bf16", "int8"]);
        /// Model sessions, each with its own thread and copy of the weights. Zero means one per core, at most 4.
        sessions: usize = 0, Rule::AtLeast(0);
        /// Threads of one session. Zero means the cores divided by the sessions.
        threads: usize = 0, Rule::AtLeast(0);
        /// Most tokens of one batch, padding counted. More gains nothing on a CPU and lets queries wait longer.
        max_batch_tokens: usize = 1024, Rule::AtLeast(1);
        /// Most texts that wait, of interactive and of bulk work each; beyond it a caller who has an equal part of them gets RESOURCE_EXHAUSTED.
        queue_capacity: usize = 8192, Rule::AtLeast(1);
    }
}

section! {
    /// Settings of the cross-encoders, which score a query and a text together. Device, precision, sessions, threads
    /// and limits are those of `encoder`.
    RerankerConfig in "reranker." {
        /// Model directories to load, by name under `data_dir/models`; the first is the default. `none` loads none.
        models: Vec<String> = vec!["none".to_owned()], Rule::DirectoryNames;
    }
}

section! {
    /// Settings of the generators.
    GeneratorConfig in "generator." {
        /// Model directories to load, by name under `data_dir/models`; the first is the default. `auto` loads
        /// SmolLM2-135M-Instruct where it is there, `none` loads none: answers are extractive then.
        models: Vec<String> = vec!["auto".to_owned()], Rule::DirectoryNames;
        /// Where the generators run. What is named runs there, or the start fails.
        device: String = "auto".to_owned(), Rule::OneOf(&["auto", "cpu", "cuda"]);
        /// Threads of a generator. Zero means one per core.
        threads: usize = 0, Rule::AtLeast(0);
        /// Whether waiting threads spin during a run: faster where the machine has nothing else to do, slower
        /// where it has.
        spinning: bool = false, Rule::Switch;
        /// Tokens of prompt and answer together. Zero means what the model takes, 8192 at most.
        context_tokens: usize = 4096, Rule::AtLeast(0);
        /// Generations that run at once, each with a KV cache of the whole context.
        slots: usize = 4, Rule::AtLeast(1);
        /// Generations that wait for a slot; beyond it a caller who has an equal part of them gets RESOURCE_EXHAUSTED.
        queue_capacity: usize = 64, Rule::AtLeast(1);
        /// Prompt tokens that are computed at once; other generations get their turn in between.
        prefill_tokens: usize = 256, Rule::AtLeast(2);
    }
}

section! {
    /// Answers from retrieved passages.
    AnswerConfig in "answer." {
        /// Passages in the prompt of a generated answer, unless a request says otherwise.
        passages: usize = 1, Rule::AtLeast(1);
        /// Passages whose sentences an extractive answer is chosen from, unless a request says otherwise.
        extractive_passages: usize = 8, Rule::AtLeast(1);
        /// Most sentences that an answer is quoted with, beside those that they need to be understood.
        extractive_sentences: usize = 3, Rule::Between(1, 1000);
        /// Room for a generated answer in tokens, unless a request says otherwise.
        max_tokens: u32 = 128, Rule::Between(1, U32);
        /// Whether a reader, all-MiniLM-L6-v2 with an adapter that the program brings along, looks for the answer in the
        /// passages: `auto` where that model is there, `none` goes by similarity and words alone.
        reader: String = "auto".to_owned(), Rule::OneOf(&["auto", "none"]);
        /// Least answerability, the probability that the best sentence answers the question, from which on there is an answer.
        answerability_threshold: f64 = 0.28, Rule::Fraction;
        /// Least support by the passages from which on a sentence that a generator wrote is shown.
        support_threshold: f64 = 0.5, Rule::Fraction;
        /// Prompt template: `default`, or the name of a file `data_dir/prompts/NAME.toml` with `user` and maybe
        /// `system`, Jinja templates over `question` and `passages` (`number`, `text`, `title`, `headings`, `page`).
        prompt: String = "default".to_owned(), Rule::Name;
    }
}

section! {
    /// Settings of the CUDA provider, used where a device is `cuda`.
    CudaConfig in "cuda." {
        /// Number of the device.
        device_id: u32 = 0, Rule::Between(0, i32::MAX as u64);
        /// Most bytes of the memory arena of each session. Zero means no limit.
        memory_limit_bytes: u64 = 0, Rule::AtLeast(0);
        /// How the arena grows; `same_as_requested` is slower and smaller.
        arena_extend_strategy: String = "next_power_of_two".to_owned(),
            Rule::OneOf(&["next_power_of_two", "same_as_requested"]);
        /// Whether matrix products may round to TF32.
        tf32: bool = false, Rule::Switch;
    }
}

section! {
    /// TLS. docs/SECURITY.md says how to make the files and how to replace them.
    TlsConfig in "tls." {
        /// Certificate chain of the server in PEM, its own certificate first. Unset means no TLS. The files are read
        /// again when they change.
        certificate: Option<PathBuf> = None, Rule::OptionalPath;
        /// Private key of the certificate, in PEM.
        key: Option<PathBuf> = None, Rule::OptionalPath;
        /// Certificates, in PEM, one of which must have signed a client's certificate. Unset means that clients need
        /// none.
        client_ca: Option<PathBuf> = None, Rule::OptionalPath;
    }
}

section! {
    /// Who may call. `trove keys` makes and revokes API keys; without any, all may do everything.
    AccessConfig in "access." {
        /// Whether to refuse the start where the server listens beyond this machine without TLS or without API keys.
        /// Otherwise it warns.
        strict: bool = false, Rule::Switch;
    }
}

section! {
    /// Limits of requests, connections and the whole server. What is over one of them is refused at once.
    LimitsConfig in "limits." {
        /// Most inputs of one call.
        max_batch_size: usize = 1024, Rule::AtLeast(1);
        /// Most bytes of one message.
        max_message_bytes: usize = 64 << 20, Rule::AtLeast(1);
        /// Most bytes of one text to embed, tokenize or classify, and of all messages of a question or generation.
        max_text_bytes: usize = 1 << 20, Rule::AtLeast(1);
        /// Most bytes of one file; a document that is imported may take twice as many with its vectors.
        max_document_bytes: usize = 256 << 20, Rule::AtLeast(1);
        /// Calls of the whole server that may run at once. Calls for the server's health are not counted.
        max_concurrent_requests: usize = 512, Rule::AtLeast(1);
        /// Calls of one API key that may run at once.
        max_concurrent_requests_per_key: usize = 512, Rule::AtLeast(1);
        /// Calls that one connection may have open at once; clients keep further ones back themselves.
        max_concurrent_requests_per_connection: u32 = 256, Rule::Between(1, U32);
        /// Calls of the whole server whose client sends messages without end, such as IngestDocuments.
        max_streams: usize = 128, Rule::AtLeast(1);
        /// Such calls of one client: an IPv4 address or the first 64 bits of an IPv6 one.
        max_streams_per_client: usize = 32, Rule::AtLeast(1);
        /// Connections that are served at once. Each takes a file descriptor: the start is refused where the process may
        /// not have so many, those that are kept for the store, and 10 for each of `extract.workers`.
        max_connections: usize = 1024, Rule::AtLeast(1);
        /// Connections of one client.
        max_connections_per_client: usize = 256, Rule::AtLeast(1);
        /// Memory for what calls with one message receive, decode and answer; at least four times `max_message_bytes`. One
        /// API key, or one client without a key, takes no more of it than it leaves free: half of it at most.
        max_request_memory_bytes: usize = 512 << 20, Rule::AtLeast(1);
        /// Memory for the messages and documents of streams, shared in the same way. Beside it a place is kept for one
        /// stream that finds no room, of twice `max_document_bytes` and twice `max_message_bytes`; the others wait for it.
        max_stream_memory_bytes: usize = 256 << 20, Rule::AtLeast(1);
        /// Seconds without a byte after which a message that is not whole is given up, and a document that comes in several.
        receive_timeout_seconds: u64 = 30, Rule::Between(1, MOST_SECONDS);
        /// Bytes for each second that the client of such a message or document is waited for, beyond
        /// `receive_timeout_seconds`. What comes more slowly is given up.
        least_receive_bytes_per_second: u64 = 4096, Rule::AtLeast(1);
        /// Seconds that a client may take to read what it was sent, before more of it is sent. Then the call is ended.
        send_timeout_seconds: u64 = 60, Rule::Between(1, MOST_SECONDS);
        /// Seconds a new connection may take for TLS and the beginning of HTTP/2.
        handshake_timeout_seconds: u64 = 10, Rule::Between(1, MOST_SECONDS);
        /// Seconds without a call after which a connection is closed; clients open another one when they need it.
        idle_timeout_seconds: u64 = 600, Rule::Between(1, MOST_SECONDS);
        /// Seconds that calls may take to end once the server stops.
        shutdown_seconds: u64 = 20, Rule::Between(0, MOST_SECONDS);
    }
}

section! {
    /// Extraction in child processes.
    ExtractConfig in "extract." {
        /// Program that runs `extract-worker`. Unset means this one.
        worker: Option<PathBuf> = None, Rule::OptionalPath;
        /// The PDFium library, which reads PDF files, or the directory that holds it. Unset means `data_dir/runtime/pdfium`.
        pdfium: Option<PathBuf> = None, Rule::OptionalPath;
        /// Seconds one file may take.
        timeout_seconds: u64 = 60, Rule::Between(1, MOST_SECONDS);
        /// Bytes of address space one file may take.
        memory_bytes: u64 = 2 << 30, Rule::AtLeast(1);
        /// Files extracted at once.
        workers: usize = 2, Rule::AtLeast(1);
    }
}

section! {
    /// The store.
    StoreConfig in "store." {
        /// Memory for pages of the database; twice as much while a compaction copies it.
        cache_bytes: u64 = 256 << 20, Rule::AtLeast(1 << 20);
        /// Room on the disk that is never used up: with less than this free, documents are refused, and with less than
        /// half of it all other writes.
        min_free_bytes: u64 = 64 << 20, Rule::AtLeast(0);
        /// Writes that may wait for the disk before further ones wait to be prepared.
        queue: usize = 256, Rule::Between(1, U32);
    }
}

section! {
    /// The vector index.
    IndexConfig in "index." {
        /// New points of a level that are scanned before a graph is built of them. Fewer make many small graphs.
        head_limit: usize = 16_384, Rule::Between(1, U32);
        /// Threads that build graphs of new points, and as many of a low priority that do what can wait. Zero means half of
        /// the cores.
        build_threads: usize = 0, Rule::Between(0, 1024);
    }
}

section! {
    /// Snapshots by schedule, in `data_dir/snapshots`.
    SnapshotsConfig in "snapshots." {
        /// Hours from one scheduled snapshot of all collections to the next. Zero means none.
        interval_hours: u64 = 0, Rule::AtLeast(0);
        /// Scheduled snapshots that are kept; the oldest is deleted when there are more. More stay where their dates tell
        /// of a clock that was wrong. Others are never deleted.
        keep: usize = 7, Rule::AtLeast(1);
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

section! {
    /// HTTP with JSON, OpenAI's form and the page, at the address of gRPC.
    HttpConfig in "http." {
        /// Origins of web pages elsewhere that may call, such as https://search.example.org. A server that listens to its
        /// own machine also takes calls to the names of these, as behind a proxy; else only to those of the machine.
        origins: Vec<String> = Vec::new(), Rule::Origins;
    }
}

section! {
    /// Metrics and health over HTTP, for operators.
    MetricsConfig in "metrics." {
        /// Address of `/metrics` (Prometheus), `/healthz` and `/readyz`, such as 127.0.0.1:7701. It has neither keys nor
        /// encryption: keep it away from users. Unset means that there is none, and nothing is counted.
        listen: Option<SocketAddr> = None, Rule::OptionalAddress;
    }
}

section! {
    /// Traces, sent over OTLP (gRPC).
    TracingConfig in "tracing." {
        /// OpenTelemetry collector that spans are sent to. Unset means that there are none.
        endpoint: Option<String> = None, Rule::OptionalUrl;
        /// Share of the traces that are sent, for calls whose caller has not decided.
        sample_ratio: f64 = 1.0, Rule::Fraction;
        /// Name of this server in traces.
        service_name: String = "trove".to_owned(), Rule::Name;
    }
}
