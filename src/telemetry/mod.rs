//! Sets up structured logs.

use tracing_subscriber::EnvFilter;

use crate::config::LogConfig;
use crate::error::{Error, Result};

/// Starts logging to standard error.
///
/// # Errors
/// `BAD_CONFIG` where the filter does not parse or logging was started before.
pub fn init(config: &LogConfig) -> Result<()> {
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|e| Error::invalid("BAD_CONFIG", format!("log.filter: {e}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if config.format == "json" { builder.json().try_init() } else { builder.try_init() };
    started.map_err(|e| Error::invalid("BAD_CONFIG", format!("logging can't be started: {e}")))
}
