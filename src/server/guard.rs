//! Stands before every service: who calls, may it, is there room, and how long has it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

use super::clients::{Connection, OpenCall};
use super::deadline::{deadline, passed};
use super::receive::{Held, Memory, Received, Receiving};
use crate::access::{Caller, Keyring, method};
use crate::config::LimitsConfig;
use crate::error::{Error, Result};

/// What the methods of health start with; they are open to all.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// The one of them that does not end.
const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// Watches of health at once: they need no key, so that they have a limit of their own.
const MAX_WATCHES: usize = 64;
/// Headers that may hold a key.
const AUTHORIZATION: &str = "authorization";
const API_KEY: &str = "x-api-key";
/// When a caller should try again where too many calls run.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Decides which calls are served.
pub(super) struct Guard {
    keyring: Keyring,
    requests: Arc<Semaphore>,
    max_requests: usize,
    watches: Arc<Semaphore>,
    memory: Memory,
    max_message_bytes: usize,
    receive_timeout: Duration,
}

/// What a call that is served holds until it ends.
struct Admitted {
    /// Checked again while the call goes on; none for calls that need no key.
    caller: Option<Caller>,
    deadline: Option<Instant>,
    _held: Held,
    _permit: Option<OwnedSemaphorePermit>,
    _call: OpenCall,
}

impl Guard {
    pub fn new(keyring: Keyring, limits: &LimitsConfig) -> Arc<Self> {
        Arc::new(Self {
            keyring,
            requests: Arc::new(Semaphore::new(limits.max_concurrent_requests.min(Semaphore::MAX_PERMITS))),
            max_requests: limits.max_concurrent_requests,
            watches: Arc::new(Semaphore::new(MAX_WATCHES)),
            memory: Memory::new(limits.max_request_memory_bytes, limits.max_message_bytes),
            max_message_bytes: limits.max_message_bytes,
            receive_timeout: Duration::from_secs(limits.receive_timeout_seconds),
        })
    }

    /// Admits a call and prepares its request for the services, or tells why not.
    fn admit(&self, request: Request<Body>) -> Result<(Request<Body>, Admitted)> {
        let (mut parts, body) = request.into_parts();
        let no_connection = || Error::internal("NO_CONNECTION", "a call came without its connection");
        let connection = parts.extensions.get::<Arc<Connection>>().cloned().ok_or_else(no_connection)?;
        let path = parts.uri.path();
        let is_health = path.starts_with(HEALTH);
        if !is_health {
            connection.check()?;
        }
        let shown = key_in(&parts.headers);
        let caller = if is_health { None } else { Some(self.keyring.caller(shown.as_deref())?) };
        if let Some(caller) = &caller {
            caller.check_method(path)?;
        }
        let permit = match path {
            WATCH => Some(take(&self.watches, "TOO_MANY_WATCHES", "watches of health", MAX_WATCHES)?),
            _ if is_health => None,
            _ => Some(take(&self.requests, "TOO_MANY_REQUESTS", "calls at once", self.max_requests)?),
        };
        let is_stream = method(path).is_some_and(|method| method.is_stream);
        let call = connection.open_call(is_stream)?;
        // No service has a use for the key, so none can tell it.
        parts.headers.remove(AUTHORIZATION);
        parts.headers.remove(API_KEY);
        if let Some(caller) = &caller {
            tracing::debug!(key = caller.name(), "call admitted");
            parts.extensions.insert(caller.clone());
        }
        let held = Held::default();
        let receiving = Receiving {
            memory: self.memory.clone(),
            held: held.clone(),
            max_message_bytes: if is_health { 0 } else { self.max_message_bytes },
            timeout: self.receive_timeout,
            is_stream,
        };
        let admitted = Admitted {
            caller,
            deadline: deadline(&parts.headers),
            _held: held,
            _permit: permit,
            _call: call,
        };
        let body = Body::new(Received::new(body, receiving));
        Ok((Request::from_parts(parts, body), admitted))
    }
}

/// The key that a caller shows.
fn key_in(headers: &HeaderMap) -> Option<String> {
    let bearer = |value: &str| {
        let (scheme, key) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim().to_owned())
    };
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    text(AUTHORIZATION).and_then(bearer).or_else(|| text(API_KEY).map(|key| key.trim().to_owned()))
}

fn take(
    semaphore: &Arc<Semaphore>,
    reason: &'static str,
    what: &str,
    most: usize,
) -> Result<OwnedSemaphorePermit> {
    let full =
        |_| Error::exhausted(reason, format!("expected at most {most} {what}, got one more"), RETRY_AFTER);
    semaphore.clone().try_acquire_owned().map_err(full)
}

/// Puts a [`Guard`] before services.
#[derive(Clone)]
pub(super) struct GuardLayer(pub Arc<Guard>);

/// Services behind a [`Guard`].
#[derive(Clone)]
pub(super) struct Guarded<S> {
    inner: S,
    guard: Arc<Guard>,
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, guard: self.0.clone() }
    }
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, std::result::Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (request, admitted) = match self.guard.admit(request) {
            Ok(admitted) => admitted,
            Err(error) => return Box::pin(std::future::ready(Ok(Status::from(error).into_http()))),
        };
        let guard = self.guard.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = match admitted.deadline {
                None => answer.await?,
                // Dropping the answer stops what works on it.
                Some(at) => match tokio::time::timeout_at(at, answer).await {
                    Ok(response) => response?,
                    Err(_) => return Ok(Status::from(passed()).into_http()),
                },
            };
            Ok(response.map(|inner| Body::new(Answered::new(inner, admitted, guard))))
        })
    }
}

/// The body of a response: holds what the call holds until its end, and ends it at its deadline or when its key is
/// revoked.
struct Answered {
    inner: Option<Body>,
    admitted: Admitted,
    guard: Arc<Guard>,
    timer: Option<Pin<Box<Sleep>>>,
    messages: usize,
}

impl Answered {
    fn new(inner: Body, admitted: Admitted, guard: Arc<Guard>) -> Self {
        let timer = admitted.deadline.map(|at| Box::pin(tokio::time::sleep_until(at)));
        Self { inner: Some(inner), admitted, guard, timer, messages: 0 }
    }

    /// Ends the call with an error, which stops what feeds it.
    fn end(&mut self, error: Error) -> Frame<Bytes> {
        self.inner = None;
        let mut trailers = HeaderMap::new();
        if Status::from(error).add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", tonic::codegen::http::HeaderValue::from_static("13"));
        }
        Frame::trailers(trailers)
    }
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        if let Some(timer) = &mut this.timer
            && timer.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Ok(this.end(passed()))));
        }
        let polled = Pin::new(inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && frame.is_data()
        {
            this.messages += 1;
            // The first answer was due when the call was admitted.
            let caller = this.admitted.caller.as_ref().filter(|_| this.messages > 1);
            if let Some(Err(error)) = caller.map(|caller| this.guard.keyring.check(caller)) {
                return Poll::Ready(Some(Ok(this.end(error))));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_key_is_found_in_either_header() {
        let key = |pairs: &[(&'static str, &str)]| key_in(&headers(pairs));
        assert_eq!(key(&[("authorization", "Bearer a")]).as_deref(), Some("a"));
        assert_eq!(key(&[("authorization", "bearer  a ")]).as_deref(), Some("a"));
        assert_eq!(key(&[("x-api-key", "a")]).as_deref(), Some("a"));
        assert_eq!(key(&[("authorization", "Basic b"), ("x-api-key", "a")]).as_deref(), Some("a"));
        for none in [&[][..], &[("authorization", "a")], &[("authorization", "Bearer")]] {
            assert_eq!(key(none), None);
        }
    }
}
