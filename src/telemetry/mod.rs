//! Logs to standard error, metrics for Prometheus, traces for OpenTelemetry, and an id for every call.

mod calls;
mod exporter;
mod flood;
mod gauges;
mod log;
mod process;
mod traces;

use std::sync::Arc;

pub use calls::{Calls, CallsLayer};
pub use exporter::Metrics;
pub use gauges::Gauges;

use tokio_util::task::AbortOnDropHandle;
use tracing_subscriber::filter::FilterExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::Config;
use crate::error::{Error, Result};
use flood::Flood;
use traces::Traces;

/// What was started, to be stopped at the end.
pub struct Telemetry {
    metrics: Option<Arc<Metrics>>,
    traces: Option<Traces>,
    flood: Flood,
    _reports: AbortOnDropHandle<()>,
}

impl Telemetry {
    /// Starts logging; counting where `metrics.listen` is set; sending traces where `tracing.endpoint` is set. Must be
    /// called within the async runtime, and before anything is loaded.
    ///
    /// # Errors
    /// `BAD_CONFIG` where a setting does not fit or logging was started before.
    pub fn start(config: &Config) -> Result<Self> {
        let filter = EnvFilter::try_new(&config.log.filter)
            .map_err(|e| Error::invalid("BAD_CONFIG", format!("log.filter: {e}")))?;
        let log = match config.log.format.as_str() {
            "json" => log::json(std::io::stderr).boxed(),
            _ => {
                let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
                log::text(is_terminal, std::io::stderr).boxed()
            }
        };
        let traces = Traces::start(&config.tracing)?;
        let flood = Flood::default();
        tracing_subscriber::registry()
            .with(traces.as_ref().map(Traces::layer))
            .with(log.with_filter(filter.and(flood.clone())))
            .try_init()
            .map_err(|e| Error::invalid("BAD_CONFIG", format!("logging can't be started: {e}")))?;
        let metrics = config.metrics.listen.map(|_| Metrics::install()).transpose()?;
        let _reports = flood.follow();
        Ok(Self { metrics, traces, flood, _reports })
    }

    /// What is counted, if it is.
    pub fn metrics(&self) -> Option<&Arc<Metrics>> {
        self.metrics.as_ref()
    }

    /// Lets go of the parts that are observed and sends the last spans. Blocks for a moment.
    pub fn shutdown(&self) {
        self.flood.report();
        self.metrics.iter().for_each(|metrics| metrics.forget());
        self.traces.iter().for_each(Traces::shutdown);
    }
}
