//! Configuration from a file, the environment and flags; docs/CONFIG.md is the reference.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Everything that can be set. Later sources win: defaults, file, environment
/// (`TROVE__SECTION__KEY`), flags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one. Default `127.0.0.1:7700`.
    pub listen: SocketAddr,
    /// Directory of the store, the models and the runtime library. Default `.trove`.
    pub data_dir: PathBuf,
    /// Encoder settings.
    pub encoder: EncoderConfig,
    /// Limits of one request.
    pub limits: LimitsConfig,
    /// Extraction of files.
    pub extract: ExtractConfig,
    /// Logging.
    pub log: LogConfig,
}

/// Settings of the encoders.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderConfig {
    /// Model directories to load, by name under `data_dir/models`; the first is the default.
    pub models: Vec<String>,
    /// ONNX Runtime library; unset means `data_dir/runtime`.
    pub library: Option<PathBuf>,
    /// `auto`, `cpu`, `openvino` or `cuda`. What is named runs or the start fails; `auto` takes
    /// OpenVINO where the processor multiplies bf16, else the default CPU provider.
    pub device: String,
    /// `auto`, `fp32` or `bf16`. Whatever is not exact fp32 is checked against it at load.
    pub precision: String,
    /// Model sessions, each with its own thread and copy of the weights. Zero means one per core, at most 4.
    pub sessions: usize,
    /// Threads of one session. Zero means the cores divided by the sessions.
    pub threads: usize,
    /// Most tokens of one batch, padding counted.
    pub max_batch_tokens: usize,
    /// Most texts that wait; beyond it calls get RESOURCE_EXHAUSTED.
    pub queue_capacity: usize,
}

/// Limits of one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Most inputs of one call.
    pub max_batch_size: usize,
    /// Most bytes of one message.
    pub max_message_bytes: usize,
    /// Calls of one connection that may run at once.
    pub max_concurrent_requests: usize,
}

/// Extraction in child processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractConfig {
    /// Program that runs `extract-worker`; unset means this one.
    pub worker: Option<PathBuf>,
    /// Seconds one file may take.
    pub timeout_seconds: u64,
    /// Bytes of address space one file may take.
    pub memory_bytes: u64,
    /// Files extracted at once.
    pub workers: usize,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// A tracing filter, such as `info` or `trove=debug`.
    pub filter: String,
    /// `text` or `json`.
    pub format: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7700)),
            data_dir: PathBuf::from(".trove"),
            encoder: EncoderConfig::default(),
            limits: LimitsConfig::default(),
            extract: ExtractConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self {
            models: vec!["all-MiniLM-L6-v2".to_owned()],
            library: None,
            device: "auto".to_owned(),
            precision: "auto".to_owned(),
            sessions: 0,
            threads: 0,
            max_batch_tokens: 1024,
            queue_capacity: 8192,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { max_batch_size: 1024, max_message_bytes: 64 << 20, max_concurrent_requests: 256 }
    }
}

impl Default for ExtractConfig {
    fn default() -> Self {
        Self { worker: None, timeout_seconds: 60, memory_bytes: 2 << 30, workers: 2 }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info,ort=warn".to_owned(), format: "text".to_owned() }
    }
}

impl Config {
    /// Reads the file, where one is named, and the environment, and checks the whole.
    ///
    /// # Errors
    /// `BAD_CONFIG` names the key, what was expected and what came.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let mut builder = config::Config::builder();
        if let Some(path) = file {
            builder = builder.add_source(config::File::from(path).format(config::FileFormat::Toml));
        }
        let environment = config::Environment::with_prefix("TROVE").prefix_separator("__").separator("__");
        let config: Config = builder
            .add_source(
                environment.try_parsing(true).list_separator(",").with_list_parse_key("encoder.models"),
            )
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|e| Error::invalid("BAD_CONFIG", e.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Checks values that types alone do not.
    ///
    /// # Errors
    /// `BAD_CONFIG` names the key, what was expected and what came.
    pub fn check(&self) -> Result<()> {
        let one_of = |key: &str, value: &str, allowed: &[&str]| {
            if allowed.contains(&value) {
                return Ok(());
            }
            Err(Error::invalid(
                "BAD_CONFIG",
                format!("{key}: expected one of {}, got {value:?}", allowed.join(", ")),
            ))
        };
        let at_least_one = |key: &str, value: usize| {
            if value > 0 {
                return Ok(());
            }
            Err(Error::invalid("BAD_CONFIG", format!("{key}: expected at least 1, got 0")))
        };
        one_of("encoder.device", &self.encoder.device, &["auto", "cpu", "openvino", "cuda"])?;
        one_of("encoder.precision", &self.encoder.precision, &["auto", "fp32", "bf16"])?;
        one_of("log.format", &self.log.format, &["text", "json"])?;
        at_least_one("encoder.models", self.encoder.models.len())?;
        at_least_one("encoder.max_batch_tokens", self.encoder.max_batch_tokens)?;
        at_least_one("encoder.queue_capacity", self.encoder.queue_capacity)?;
        at_least_one("limits.max_batch_size", self.limits.max_batch_size)?;
        at_least_one("limits.max_message_bytes", self.limits.max_message_bytes)?;
        at_least_one("limits.max_concurrent_requests", self.limits.max_concurrent_requests)?;
        at_least_one("extract.workers", self.extract.workers)?;
        if let Some(name) = self.encoder.models.iter().find(|n| n.is_empty() || n.contains("..")) {
            return Err(Error::invalid(
                "BAD_CONFIG",
                format!("encoder.models: expected directory names, got {name:?}"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_overrides_defaults_and_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trove.toml");
        std::fs::write(&path, "listen = \"127.0.0.1:0\"\n[encoder]\nmax_batch_tokens = 99\n").unwrap();
        let config = Config::load(Some(&path)).unwrap();
        assert_eq!(config.encoder.max_batch_tokens, 99);
        assert_eq!(config.limits, LimitsConfig::default());
        for bad in ["[encoder]\ndevice = \"tpu\"", "[limits]\nmax_batch_size = 0", "typo = 1", "not toml"] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(Config::load(Some(&path)).unwrap_err().reason, "BAD_CONFIG", "{bad}");
        }
    }
}
