//! The one user of the Prometheus exporter.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use parking_lot::Mutex;

use super::gauges::Gauges;
use super::process;
use crate::error::{Error, Result};
use crate::metrics::{Kind, METRICS};

/// How often the values of histograms are put into their buckets, where nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// What was recorded since the start, ready to be written.
pub struct Metrics {
    handle: PrometheusHandle,
    gauges: Mutex<Option<Arc<Gauges>>>,
}

impl Metrics {
    /// Installs the recorder of the process. Must be called within the async runtime, and before anything is counted.
    ///
    /// # Errors
    /// `METRICS_FAILED` where there is a recorder already.
    pub(super) fn install() -> Result<Arc<Self>> {
        let failed = |e: String| Error::internal("METRICS_FAILED", format!("metrics can't be started: {e}"));
        let recorder = recorder()?;
        let handle = recorder.handle();
        ::metrics::set_global_recorder(recorder).map_err(|e| failed(e.to_string()))?;
        describe();
        begin_at_zero();
        let upkeep = handle.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                // It goes on if it panics, or the histograms would grow.
                let _ = crate::task::guarded("METRICS_FAILED", || {
                    upkeep.run_upkeep();
                    Ok(())
                });
            }
        });
        Ok(Arc::new(Self { handle, gauges: Mutex::new(None) }))
    }

    /// From now on the state of these parts is told too.
    pub fn observe(&self, gauges: Gauges) {
        *self.gauges.lock() = Some(Arc::new(gauges));
    }

    /// Lets go of the parts.
    pub(super) fn forget(&self) {
        self.gauges.lock().take();
    }

    /// All metrics in the Prometheus text format. Reads the store: it blocks.
    pub fn render(&self) -> String {
        let gauges = self.gauges.lock().clone();
        self.handle.render() + &state(gauges.as_deref()).unwrap_or_default()
    }
}

/// The gauges as they are at this moment. They are written by a recorder of their own, so that nothing is left of a
/// collection that is gone.
fn state(gauges: Option<&Gauges>) -> Result<String> {
    let recorder = recorder()?;
    ::metrics::with_local_recorder(&recorder, || {
        describe();
        process::record();
        gauges.iter().for_each(|gauges| gauges.record());
    });
    Ok(recorder.handle().render())
}

fn recorder() -> Result<PrometheusRecorder> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        if let Kind::Histogram(buckets) = metric.kind {
            let name = Matcher::Full(metric.name.to_owned());
            builder = builder.set_buckets_for_metric(name, buckets.bounds()).map_err(|e| {
                Error::internal("METRICS_FAILED", format!("metrics can't be started: {e}")).with_source(e)
            })?;
        }
    }
    Ok(builder.build_recorder())
}

/// Lets the metrics without labels be there before anything happens, so that a rate over them has a start.
fn begin_at_zero() {
    for metric in METRICS.iter().filter(|metric| metric.labels.is_empty()) {
        match metric.kind {
            Kind::Counter => ::metrics::counter!(metric.name).increment(0),
            Kind::Histogram(_) => drop(::metrics::histogram!(metric.name)),
            Kind::Gauge => {}
        }
    }
}

fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => ::metrics::describe_counter!(metric.name, metric.help()),
            Kind::Gauge => ::metrics::describe_gauge!(metric.name, metric.help()),
            Kind::Histogram(_) => ::metrics::describe_histogram!(metric.name, metric.help()),
        }
    }
}

#[cfg(test)]
mod tests {
    use ::metrics::{counter, histogram};

    use super::*;
    use crate::metrics;

    #[test]
    fn histograms_have_buckets_and_all_have_help() {
        let recorder = recorder().unwrap();
        ::metrics::with_local_recorder(&recorder, || {
            describe();
            counter!(metrics::STORE_COMMIT_FAILURES).increment(2);
            histogram!(metrics::STORE_FSYNC_DURATION).record(0.002);
        });
        let text = recorder.handle().render();
        for line in [
            "# HELP trove_store_commit_failures_total Commits that could not be made durable.",
            "# TYPE trove_store_commit_failures_total counter",
            "trove_store_commit_failures_total 2",
            "# TYPE trove_store_fsync_duration_seconds histogram",
            "trove_store_fsync_duration_seconds_bucket{le=\"0.001\"} 0",
            "trove_store_fsync_duration_seconds_bucket{le=\"0.0025\"} 1",
            "trove_store_fsync_duration_seconds_count 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
