//! A request id, a log line, a span and metrics for every call.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use ::metrics::{Gauge, Histogram, counter, gauge, histogram};
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use prost::Message;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::traces::continue_trace;
use crate::grpc;
use crate::{metrics, proto};

/// Metadata key of a request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Most bytes of a caller's own request id; a longer one is replaced.
const MAX_ID: usize = 64;
/// Name of the span that log lines are in; traces have another one.
pub const LOG_SPAN: &str = "call";
/// Most bytes of a method's path in a log line: a caller may make up any.
const MAX_PATH: usize = 128;
/// What methods are called that no service has: the label must not grow with what callers make up.
const UNKNOWN: &str = "unknown";

/// Puts [`Calls`] around the services.
#[derive(Debug, Clone, Default)]
pub struct CallsLayer {
    ids: Arc<Ids>,
    methods: Arc<Methods>,
}

/// Makes ids that differ within a process and, by chance, between processes.
#[derive(Debug, Default)]
struct Ids {
    random: RandomState,
    next: AtomicU64,
}

/// Gives each call the id in `x-request-id`, or a new one, and sends it back, in the details of an error too. Logs each
/// call with its status and latency when its last message is sent: fine ones at `debug`, refused ones at `info`, faults
/// of the server at `warn`. Counts it, and puts it into a span that continues the caller's trace.
#[derive(Debug, Clone)]
pub struct Calls<S> {
    inner: S,
    ids: Arc<Ids>,
    methods: Arc<Methods>,
}

impl<S> Layer<S> for CallsLayer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        Calls { inner, ids: self.ids.clone(), methods: self.methods.clone() }
    }
}

impl<S> Service<Request<Body>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let given = request.headers().get(&REQUEST_ID).filter(|id| is_printable(id)).cloned();
        let id = given.or_else(|| self.ids.next());
        let method = self.methods.get(request.uri().path());
        let shown = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
        let span = span(request.uri().path(), &method.name, shown);
        continue_trace(&span, request.headers());
        let log = CallLog::begin(span.clone(), method, shown.to_owned());
        let answer = span.in_scope(|| self.inner.call(request)).instrument(span.clone());
        Box::pin(async move {
            let mut response = answer.await?;
            if let Some(id) = id {
                response.headers_mut().insert(REQUEST_ID, id);
            }
            Ok(watched(response, log))
        })
    }
}

/// The innermost span of a call: the one for traces where they are sent, within the one for logs.
fn span(path: &str, method: &str, request_id: &str) -> Span {
    let log = tracing::info_span!("call", method = &path[..path.floor_char_boundary(MAX_PATH)], request_id);
    let (service, name) = method.split_once('/').unwrap_or((method, ""));
    let trace = log.in_scope(|| {
        tracing::debug_span!(
            "grpc",
            otel.name = method,
            otel.kind = "server",
            otel.status_code = Empty,
            rpc.system = "grpc",
            rpc.service = service,
            rpc.method = name,
            rpc.grpc.status_code = Empty,
            trove.request_id = request_id,
        )
    });
    if trace.is_disabled() { log } else { trace }
}

/// The methods that there are.
#[derive(Debug)]
struct Methods {
    known: HashMap<String, Arc<Method>>,
    unknown: Arc<Method>,
}

/// One method and what is counted of it.
#[derive(Debug)]
struct Method {
    /// Such as `trove.v1.SearchService/Search`.
    name: String,
    in_flight: Gauge,
    duration: Histogram,
}

impl Method {
    fn new(name: String) -> Arc<Self> {
        let in_flight = gauge!(metrics::GRPC_REQUESTS_IN_FLIGHT, "method" => name.clone());
        let duration = histogram!(metrics::GRPC_REQUEST_DURATION, "method" => name.clone());
        Arc::new(Self { name, in_flight, duration })
    }

    fn count(&self, code: Code) {
        let labels = [("method", self.name.clone()), ("code", grpc::code_name(code).to_owned())];
        counter!(metrics::GRPC_REQUESTS, &labels).increment(1);
    }
}

impl Default for Methods {
    /// Those of all services of the server.
    fn default() -> Self {
        let sets = [
            proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        ];
        let files = sets.into_iter().filter_map(|set| prost_types::FileDescriptorSet::decode(set).ok());
        let names = files.flat_map(|set| set.file).flat_map(|file| {
            let package = file.package().to_owned();
            file.service.into_iter().flat_map(move |service| {
                let service_name = format!("{package}.{}", service.name());
                let methods = service.method.into_iter();
                methods.map(move |method| format!("{service_name}/{}", method.name()))
            })
        });
        let known = names.map(|name| (format!("/{name}"), Method::new(name))).collect();
        Self { known, unknown: Method::new(UNKNOWN.to_owned()) }
    }
}

impl Methods {
    fn get(&self, path: &str) -> Arc<Method> {
        self.known.get(path).unwrap_or(&self.unknown).clone()
    }
}

/// Whether an id is short and of characters that belong into a log.
fn is_printable(id: &HeaderValue) -> bool {
    !id.is_empty() && id.len() <= MAX_ID && id.to_str().is_ok()
}

impl Ids {
    fn next(&self) -> Option<HeaderValue> {
        let id = self.random.hash_one(self.next.fetch_add(1, Ordering::Relaxed));
        HeaderValue::from_str(&format!("{id:016x}")).ok()
    }
}

/// Logs and counts the end of one call, once.
struct CallLog {
    span: Span,
    method: Arc<Method>,
    request_id: String,
    started: Instant,
    ended: bool,
}

impl CallLog {
    fn begin(span: Span, method: Arc<Method>, request_id: String) -> Self {
        method.in_flight.increment(1.0);
        Self { span, method, request_id, started: Instant::now(), ended: false }
    }

    fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let _entered = self.span.enter();
        let elapsed = self.started.elapsed();
        self.method.in_flight.decrement(1.0);
        self.method.duration.record(elapsed);
        self.method.count(code);
        self.span.record("rpc.grpc.status_code", code as i32);
        let latency_ms = elapsed.as_secs_f64() * 1000.0;
        match code {
            Code::Ok => tracing::debug!(?code, latency_ms, "call finished"),
            Code::Internal | Code::DataLoss | Code::Unknown => {
                self.span.record("otel.status_code", "ERROR");
                tracing::warn!(?code, latency_ms, "call failed")
            }
            _ => tracing::info!(?code, latency_ms, "call refused"),
        }
    }
}

impl Drop for CallLog {
    /// What has not ended by now was left by its caller.
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// A response whose end is logged: its status is in the headers where it has no messages, else in the trailers.
fn watched(mut response: Response<Body>, mut log: CallLog) -> Response<Body> {
    match code_in(response.headers()) {
        Some(code) => {
            grpc::complete(response.headers_mut(), &log.request_id);
            // What the transport takes for a fault of the server may be one of the caller.
            log.end(code_in(response.headers()).unwrap_or(code));
            response
        }
        None => response.map(|body| Body::new(WatchedBody { body, log })),
    }
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers
        .contains_key("grpc-status")
        .then(|| Status::from_header_map(headers).map_or(Code::Unknown, |s| s.code()))
}

struct WatchedBody {
    body: Body,
    log: CallLog,
}

impl http_body::Body for WatchedBody {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        // The handler of a stream runs when its messages are asked for.
        let span = self.log.span.clone();
        let mut polled = span.in_scope(|| Pin::new(&mut self.body).poll_frame(context));
        match &mut polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_mut()
                    && let Some(code) = code_in(trailers)
                {
                    grpc::complete(trailers, &self.log.request_id);
                    let code = code_in(trailers).unwrap_or(code);
                    self.log.end(code);
                }
            }
            Poll::Ready(Some(Err(_))) => self.log.end(Code::Unknown),
            Poll::Ready(None) => self.log.end(Code::Ok),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_foreign_ones_must_be_printable() {
        let ids = Ids::default();
        assert_ne!(ids.next(), ids.next());
        assert!(is_printable(&HeaderValue::from_static("abc-1")));
        assert!(!is_printable(&HeaderValue::from_static("")));
        assert!(HeaderValue::from_bytes(b"\xff").is_ok_and(|id| !is_printable(&id)));
        assert!(HeaderValue::from_str(&"a".repeat(65)).is_ok_and(|id| !is_printable(&id)));
    }

    #[test]
    fn every_path_of_a_method_is_logged_whole() {
        let longest = Methods::default().known.keys().map(String::len).max();
        assert!(longest.is_some_and(|longest| longest <= MAX_PATH), "{longest:?}");
    }

    #[test]
    fn the_status_is_read_from_headers_and_trailers() {
        let mut headers = HeaderMap::new();
        assert_eq!(code_in(&headers), None);
        headers.insert("grpc-status", HeaderValue::from_static("5"));
        assert_eq!(code_in(&headers), Some(Code::NotFound));
    }
}
