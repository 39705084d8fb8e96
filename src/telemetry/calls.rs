//! A request id and a log line for every call.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tower::layer::util::{Identity, Stack};
use tower_http::classify::{GrpcErrorsAsFailures, GrpcFailureClass, SharedClassifier};
use tower_http::request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::trace::{MakeSpan, OnEos, OnFailure, OnResponse, TraceLayer};
use tracing::{Span, field};

/// Most characters of a caller's request id that are logged.
const MAX_ID: usize = 64;

/// What [`calls`] puts around the services.
pub type CallsLayer =
    Stack<PropagateRequestIdLayer, Stack<CallTrace, Stack<SetRequestIdLayer<NewIds>, Identity>>>;

type CallTrace =
    TraceLayer<SharedClassifier<GrpcErrorsAsFailures>, CallSpan, (), LogResponse, (), LogEnd, LogFailure>;

/// Gives each call the id in `x-request-id`, or a new one, and sends it back; logs calls with their
/// status and latency: finished ones at `debug`, refused ones at `info`, faults of the server at `warn`.
pub fn calls() -> CallsLayer {
    let ids = NewIds { random: RandomState::new(), next: Arc::new(AtomicU64::new(0)) };
    let trace = TraceLayer::new_for_grpc()
        .make_span_with(CallSpan)
        .on_request(())
        .on_response(LogResponse)
        .on_body_chunk(())
        .on_eos(LogEnd)
        .on_failure(LogFailure);
    let ids = Stack::new(SetRequestIdLayer::x_request_id(ids), Identity::new());
    Stack::new(PropagateRequestIdLayer::x_request_id(), Stack::new(trace, ids))
}

/// Makes ids that differ within a process and, by chance, between processes.
#[derive(Debug, Clone)]
pub struct NewIds {
    random: RandomState,
    next: Arc<AtomicU64>,
}

impl MakeRequestId for NewIds {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        let id = self.random.hash_one(self.next.fetch_add(1, Ordering::Relaxed));
        HeaderValue::from_str(&format!("{id:016x}")).ok().map(RequestId::new)
    }
}

/// The span of a call, with its method and id.
#[derive(Debug, Clone)]
pub struct CallSpan;

impl<B> MakeSpan<B> for CallSpan {
    fn make_span(&mut self, request: &Request<B>) -> Span {
        let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        let id = id.get(..MAX_ID).unwrap_or(id);
        tracing::info_span!("call", method = request.uri().path(), request_id = id)
    }
}

fn milliseconds(latency: Duration) -> f64 {
    latency.as_secs_f64() * 1000.0
}

fn status_of(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status").and_then(|status| status.to_str().ok()).and_then(|status| status.parse().ok())
}

fn log_end(status: i32, latency: Duration) {
    let code = tonic::Code::from(status);
    let latency_ms = milliseconds(latency);
    if code == tonic::Code::Ok {
        tracing::debug!(code = ?code, latency_ms, "call finished");
    } else {
        tracing::info!(code = ?code, latency_ms, "call refused");
    }
}

/// Logs the answers that are a status alone.
#[derive(Debug, Clone)]
pub struct LogResponse;

impl<B> OnResponse<B> for LogResponse {
    fn on_response(self, response: &Response<B>, latency: Duration, _: &Span) {
        if let Some(status) = status_of(response.headers()) {
            log_end(status, latency);
        }
    }
}

/// Logs the ends of answers with messages.
#[derive(Debug, Clone)]
pub struct LogEnd;

impl OnEos for LogEnd {
    fn on_eos(self, trailers: Option<&HeaderMap>, stream_duration: Duration, _: &Span) {
        log_end(trailers.and_then(status_of).unwrap_or_default(), stream_duration);
    }
}

/// Logs what went wrong in the server.
#[derive(Debug, Clone)]
pub struct LogFailure;

impl OnFailure<GrpcFailureClass> for LogFailure {
    fn on_failure(&mut self, failure: GrpcFailureClass, latency: Duration, _: &Span) {
        tracing::warn!(failure = field::display(failure), latency_ms = milliseconds(latency), "call failed");
    }
}
