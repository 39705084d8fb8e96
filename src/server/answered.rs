//! The body of a response: holds what its call holds until the end, and ends it at its deadline, when its key is
//! revoked, or when the client does not read.
//!
//! Nobody asks the body for more while the client does not read. So a task watches over it: it drops what feeds the
//! body, and what the call holds, and the body then has nothing to give but the reason.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::metrics::counter;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue};

use super::deadline::passed;
use super::guard::{Admitted, Guard};
use crate::error::{Error, ErrorKind};
use crate::grpc::to_status;
use crate::grpc::{ALLOWANCE, Allowance, Part};
use crate::metrics;

/// The body.
pub(super) struct Answered {
    call: Arc<Call>,
    guard: Arc<Guard>,
    messages: usize,
    _watch: AbortOnDropHandle<()>,
}

/// What the body and its watch share.
struct Call(Mutex<State>);

struct State {
    /// Until the call is ended.
    open: Option<(Body, Admitted)>,
    /// Why it was ended; told once.
    ended: Option<Error>,
    /// Since when a message that was given has not been followed by the wish for another one.
    given: Option<Instant>,
    /// Who waits for the next message.
    waker: Option<Waker>,
}

impl Answered {
    pub fn new(inner: Body, admitted: Admitted, guard: Arc<Guard>) -> Self {
        let deadline = admitted.deadline;
        let state = State { open: Some((inner, admitted)), ended: None, given: None, waker: None };
        let call = Arc::new(Call(Mutex::new(state)));
        let watch = tokio::spawn(watch(call.clone(), deadline, guard.send_timeout()));
        Self { call, guard, messages: 0, _watch: AbortOnDropHandle::new(watch) }
    }
}

impl Drop for Answered {
    /// The watch keeps its share until the runtime drops it; what the call holds must not wait for that.
    fn drop(&mut self) {
        let open = self.call.0.lock().open.take();
        drop(open);
    }
}

/// Ends the call at its deadline, or when the client has not read for so long.
async fn watch(call: Arc<Call>, deadline: Option<Instant>, send_timeout: Duration) {
    loop {
        let now = Instant::now();
        if deadline.is_some_and(|at| at <= now) {
            return call.end(passed());
        }
        let given = call.0.lock().given;
        if given.is_some_and(|at| at + send_timeout <= now) {
            counter!(metrics::RESPONSES_NOT_READ).increment(1);
            return call.end(not_read(send_timeout));
        }
        let look = given.unwrap_or(now) + send_timeout;
        tokio::time::sleep_until(deadline.map_or(look, |at| at.min(look))).await;
    }
}

fn not_read(send_timeout: Duration) -> Error {
    let message = format!(
        "expected a client that reads what it is sent within {send_timeout:?}, got one that does not"
    );
    Error::new(ErrorKind::DeadlineExceeded, "RESPONSE_NOT_READ", message)
}

impl Call {
    /// Ends it, which stops what feeds it, and tells who waits.
    fn end(&self, error: Error) {
        let mut state = self.0.lock();
        let open = state.open.take();
        state.ended = Some(error);
        let waker = state.waker.take();
        drop(state);
        drop(open);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Bytes of an answer. The transport drops them once they are written, maybe long after the call has ended here: until
/// then the call keeps the memory that it took.
struct Sent {
    data: Bytes,
    _room: Part,
    _allowance: Allowance,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

fn trailers(error: Error) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    if to_status(error).add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from_static("13"));
    }
    Frame::trailers(trailers)
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let mut state = this.call.0.lock();
        state.given = None;
        if let Some(error) = state.ended.take() {
            return Poll::Ready(Some(Ok(trailers(error))));
        }
        let Some((inner, admitted)) = &mut state.open else { return Poll::Ready(None) };
        let allowance = admitted.allowance.clone();
        let polled = ALLOWANCE.sync_scope(allowance.clone(), || Pin::new(inner).poll_frame(context));
        let frame = match polled {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Pending => {
                state.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            ended => return ended,
        };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return Poll::Ready(Some(Ok(frame))),
        };
        this.messages += 1;
        // The first answer was due when the call was admitted.
        let caller = admitted.caller.as_ref().filter(|_| this.messages > 1);
        let allowed = caller.map_or(Ok(()), |caller| this.guard.check(caller));
        match allowed.and_then(|()| allowance.sent(data.len())) {
            Ok(room) => {
                state.given = Some(Instant::now());
                let data = Bytes::from_owner(Sent { data, _room: room, _allowance: allowance });
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Err(error) => {
                let open = state.open.take();
                drop(state);
                drop(open);
                Poll::Ready(Some(Ok(trailers(error))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.call.0.lock();
        state.ended.is_none() && state.open.as_ref().is_none_or(|(inner, _)| inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
