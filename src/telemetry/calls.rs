//! A request id and a log line for every call.

use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::{Instrument, Span};

/// Metadata key of a request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Most bytes of a caller's own request id; a longer one is replaced.
const MAX_ID: usize = 64;

/// Puts [`Calls`] around the services.
#[derive(Debug, Clone, Default)]
pub struct CallsLayer {
    ids: Arc<Ids>,
}

/// Makes ids that differ within a process and, by chance, between processes.
#[derive(Debug, Default)]
struct Ids {
    random: RandomState,
    next: AtomicU64,
}

/// Gives each call the id in `x-request-id`, or a new one, and sends it back; logs each call with its status
/// and latency when its last message is sent: fine ones at `debug`, refused ones at `info`, faults of the
/// server at `warn`.
#[derive(Debug, Clone)]
pub struct Calls<S> {
    inner: S,
    ids: Arc<Ids>,
}

impl<S> Layer<S> for CallsLayer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        Calls { inner, ids: self.ids.clone() }
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
        let shown = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
        let span = tracing::info_span!("call", method = request.uri().path(), request_id = shown);
        let log = CallLog { span: span.clone(), started: Instant::now(), ended: false };
        let answer = self.inner.call(request).instrument(span);
        Box::pin(async move {
            let mut response = answer.await?;
            if let Some(id) = id {
                response.headers_mut().insert(REQUEST_ID, id);
            }
            Ok(watched(response, log))
        })
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

/// Logs the end of one call, once.
struct CallLog {
    span: Span,
    started: Instant,
    ended: bool,
}

impl CallLog {
    fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let _entered = self.span.enter();
        let latency_ms = self.started.elapsed().as_secs_f64() * 1000.0;
        match code {
            Code::Ok => tracing::debug!(?code, latency_ms, "call finished"),
            Code::Internal | Code::DataLoss | Code::Unknown => {
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
fn watched(response: Response<Body>, mut log: CallLog) -> Response<Body> {
    match code_in(response.headers()) {
        Some(code) => {
            log.end(code);
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
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(code) = frame.trailers_ref().and_then(code_in) {
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
    fn the_status_is_read_from_headers_and_trailers() {
        let mut headers = HeaderMap::new();
        assert_eq!(code_in(&headers), None);
        headers.insert("grpc-status", HeaderValue::from_static("5"));
        assert_eq!(code_in(&headers), Some(Code::NotFound));
    }
}
