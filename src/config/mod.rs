//! Configuration from a file, the environment and flags; docs/CONFIG.md is the reference.

mod key;
mod reference;
mod settings;
mod sources;

pub use key::{Key, Rule};
pub use reference::{default_toml, markdown, toml};
pub use settings::{
    AccessConfig, AnswerConfig, Config, CudaConfig, EncoderConfig, ExtractConfig, GeneratorConfig,
    HttpConfig, IndexConfig, LimitsConfig, LogConfig, MetricsConfig, SnapshotsConfig, StoreConfig, TlsConfig,
    TracingConfig,
};
pub use sources::{Flag, Loaded, Origin, Setting};
