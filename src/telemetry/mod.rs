//! Structured logs: to standard error, as text or JSON, with an id for every call.

mod calls;

pub use calls::{Calls, CallsLayer};

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
    // A reader of the log that has left must not take the server with it.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    let started = if config.format == "json" { builder.json().try_init() } else { builder.try_init() };
    started.map_err(|e| Error::invalid("BAD_CONFIG", format!("logging can't be started: {e}")))
}
