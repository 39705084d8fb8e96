//! Stands before every service: who calls, may it, is there room, and how long has it.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

use super::answered::Answered;
use super::clients::{Connection, Kind, OpenCall};
use super::deadline::{deadline, passed};
use super::key_calls::{KeyCall, KeyCalls};
use super::receive::{Received, Receiving};
use super::resident;
use crate::access::{Caller, Keyring, method};
use crate::config::LimitsConfig;
use crate::error::{Error, Result};
use crate::grpc::to_status;
use crate::grpc::{ALLOWANCE, Allowance, Least, Memory, Pulse};
use crate::party::Party;

/// What the methods of health start with; they are open to all.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// The one of them that does not end.
const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// Calls of health need no key, so that they have limits of their own. Watches, and other calls, at once.
const MAX_WATCHES: usize = 256;
const MAX_CHECKS: usize = 512;
/// Most bytes of a message of theirs, which is the name of a service.
pub(super) const HEALTH_MESSAGE: usize = 1 << 10;
/// Memory for what they receive and answer.
pub(super) const HEALTH_MEMORY: usize = 2 << 20;
/// All calls of health at once.
pub(super) const HEALTH_CALLS: usize = MAX_WATCHES + MAX_CHECKS;
/// How long a check may take, and how long a watch may take to say what it watches.
const HEALTH_TIME: Duration = Duration::from_secs(10);
/// Headers that may hold a key.
const AUTHORIZATION: &str = "authorization";
const API_KEY: &str = "x-api-key";
/// When a caller should try again where too many calls run.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Decides which calls are served.
pub(super) struct Guard {
    keyring: Arc<Keyring>,
    requests: Arc<Semaphore>,
    max_requests: usize,
    watches: Arc<Semaphore>,
    checks: Arc<Semaphore>,
    /// For calls with one message.
    memory: Memory,
    /// For streams. No call takes from both, so that none waits here for what it holds there.
    stream_memory: Memory,
    /// For calls of health: they are answered when others take up the rest.
    health_memory: Memory,
    max_message_bytes: usize,
    least: Least,
    send_timeout: Duration,
    key_calls: Arc<KeyCalls>,
}

/// What a call that is served holds until it ends.
pub(super) struct Admitted {
    /// Checked again while the call goes on; none for calls that need no key.
    pub caller: Option<Caller>,
    /// When it is over.
    pub deadline: Option<Instant>,
    _key_call: Option<KeyCall>,
    /// The memory that it takes.
    pub allowance: Allowance,
    _permit: OwnedSemaphorePermit,
    _call: OpenCall,
}

impl Guard {
    pub fn new(keyring: Arc<Keyring>, limits: &LimitsConfig) -> Arc<Self> {
        Arc::new(Self {
            keyring,
            requests: Arc::new(Semaphore::new(limits.max_concurrent_requests.min(Semaphore::MAX_PERMITS))),
            max_requests: limits.max_concurrent_requests,
            watches: Arc::new(Semaphore::new(MAX_WATCHES)),
            checks: Arc::new(Semaphore::new(MAX_CHECKS)),
            memory: resident::request_memory(limits),
            stream_memory: resident::stream_memory(limits),
            health_memory: Memory::new(HEALTH_MEMORY),
            max_message_bytes: limits.max_message_bytes,
            least: Least {
                timeout: Duration::from_secs(limits.receive_timeout_seconds),
                bytes_per_second: limits.least_receive_bytes_per_second,
            },
            send_timeout: Duration::from_secs(limits.send_timeout_seconds),
            key_calls: KeyCalls::new(limits.max_concurrent_requests_per_key),
        })
    }

    /// Checks again the key of a call that goes on.
    pub fn check(&self, caller: &Caller) -> Result<()> {
        self.keyring.check(caller)
    }

    /// How long a client may take to read what it was sent.
    pub fn send_timeout(&self) -> Duration {
        self.send_timeout
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
        let key_call =
            caller.as_ref().and_then(Caller::key_id).map(|id| self.key_calls.open(id)).transpose()?;
        let permit = match path {
            WATCH => take(&self.watches, "TOO_MANY_WATCHES", "watches of health", MAX_WATCHES)?,
            _ if is_health => take(&self.checks, "TOO_MANY_CHECKS", "checks of health", MAX_CHECKS)?,
            _ => take(&self.requests, "TOO_MANY_REQUESTS", "calls at once", self.max_requests)?,
        };
        let is_stream = method(path).is_some_and(|method| method.is_stream);
        let kind = match is_stream {
            _ if is_health => Kind::Health,
            true => Kind::Stream,
            false => Kind::Other,
        };
        let client = connection.client();
        let party = caller.as_ref().map_or(Party::Client(client), |caller| caller.party(client));
        let given = deadline(&parts.headers);
        let (memory, max_message_bytes, least, deadline) = match kind {
            Kind::Health => {
                let most = Some(Instant::now() + HEALTH_TIME).filter(|_| path != WATCH);
                let least = Least { timeout: self.least.timeout.min(HEALTH_TIME), ..self.least };
                (&self.health_memory, HEALTH_MESSAGE, least, given.into_iter().chain(most).min())
            }
            Kind::Stream => (&self.stream_memory, self.max_message_bytes, self.least, given),
            Kind::Other => (&self.memory, self.max_message_bytes, self.least, given),
        };
        let call = connection.open_call(kind)?;
        // No service has a use for the key, so none can tell it.
        parts.headers.remove(AUTHORIZATION);
        parts.headers.remove(API_KEY);
        if let Some(caller) = &caller {
            tracing::debug!(key = caller.name(), "call admitted");
            parts.extensions.insert(caller.clone());
        }
        let pulse = Pulse::new(least);
        parts.extensions.insert(pulse.clone());
        let allowance = Allowance::new(memory.clone(), party);
        parts.extensions.insert(allowance.clone());
        let receiving =
            Receiving { allowance: allowance.clone(), pulse, max_message_bytes, least, is_stream };
        let admitted =
            Admitted { caller, deadline, _key_call: key_call, allowance, _permit: permit, _call: call };
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
            Err(error) => return Box::pin(std::future::ready(Ok(to_status(error).into_http()))),
        };
        let guard = self.guard.clone();
        let allowance = admitted.allowance.clone();
        let answer = ALLOWANCE.sync_scope(allowance.clone(), || self.inner.call(request));
        let answer = ALLOWANCE.scope(allowance, answer);
        Box::pin(async move {
            let response = match admitted.deadline {
                None => answer.await?,
                // Dropping the answer stops what works on it.
                Some(at) => match tokio::time::timeout_at(at, answer).await {
                    Ok(response) => response?,
                    Err(_) => return Ok(to_status(passed()).into_http()),
                },
            };
            Ok(response.map(|inner| Body::new(Answered::new(inner, admitted, guard))))
        })
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
