//! OpenTelemetry traces: spans are sent to a collector over OTLP, and a call continues the trace of its caller (W3C
//! Trace Context). The one user of the OpenTelemetry crates.

use std::time::Duration;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tonic::codegen::http::HeaderMap;
use tracing::{Level, Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::config::TracingConfig;
use crate::error::{Error, Result};

/// How long the last spans may take to be sent when the server stops.
const FLUSH: Duration = Duration::from_secs(3);
/// How long one batch of spans may take to be sent.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends spans until it is shut down.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts sending, where an endpoint is set. Must be called within the async runtime.
    ///
    /// # Errors
    /// `BAD_CONFIG` where the endpoint is no address.
    pub fn start(config: &TracingConfig) -> Result<Option<Self>> {
        let Some(endpoint) = &config.endpoint else { return Ok(None) };
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|e| Error::invalid("BAD_CONFIG", format!("tracing.endpoint: {e}")).with_source(e))?;
        let resource = Resource::builder()
            .with_service_name(config.service_name.clone())
            .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio)));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(sampler)
            .with_batch_exporter(exporter)
            .build();
        Ok(Some(Self(provider)))
    }

    /// The layer that makes spans of the program's own.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("trove"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_traced))
    }

    /// Sends what is left.
    pub fn shutdown(&self) {
        if let Err(error) = self.0.shutdown_with_timeout(FLUSH) {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

/// The program's own spans but for the one that is for logs, and what went wrong within them.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    let is_own = metadata.target().starts_with("trove");
    let is_wanted = if metadata.is_span() {
        metadata.name() != super::calls::LOG_SPAN
    } else {
        *metadata.level() <= Level::WARN
    };
    is_own && is_wanted
}

/// Makes a span, before anything is in it, a part of the trace that the caller's metadata names.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() {
        return;
    }
    let context = TraceContextPropagator::new().extract(&Headers(headers));
    // Without a layer for traces there is nothing to continue.
    let _ = span.set_parent(context);
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}
