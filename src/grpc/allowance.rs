use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;

use super::memory::{Grant, Memory};
use crate::error::{Error, Result};
use crate::party::Party;
use crate::room::{self, CallMemory};

tokio::task_local! {
    /// The allowance of the call that is served: for what has no request at hand, such as a codec. It is set while the
    /// service makes its response and while the body of the response is polled, not in tasks that these start.
    pub static ALLOWANCE: Allowance;
}

/// The memory that one call takes. It is free again when the last copy is dropped: what works for a call after its
/// caller has left keeps one.
#[derive(Clone)]
pub struct Allowance(Arc<Account>);

struct Account {
    memory: Memory,
    party: Party,
    /// The number of the call.
    call: u64,
    /// Documents of which a part has come.
    unfinished: AtomicUsize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// Until the call ends.
    call: Option<Grant>,
    /// For the bytes of a message as they come. The buffer that they come into lives as long as the body of the request
    /// and stays as large as the largest message was.
    buffer: Option<Grant>,
    /// For the present message, decoded.
    message: Option<Grant>,
    /// How much of that has been taken for it beforehand.
    ahead: usize,
    /// For an answer that is not sent yet.
    answer: Option<Grant>,
}

impl Allowance {
    /// An allowance that has taken nothing.
    pub fn new(memory: Memory, party: Party) -> Self {
        let call = memory.number();
        Self(Arc::new(Account {
            memory,
            party,
            call,
            unfinished: AtomicUsize::new(0),
            held: Mutex::default(),
        }))
    }

    /// Takes room for so many bytes more, until the call ends.
    ///
    /// # Errors
    /// `REQUEST_MEMORY_FULL` where others take it up; `CALL_TOO_LARGE` where there is never so much.
    pub fn take(&self, bytes: usize) -> Result<()> {
        let mut held = self.0.held.lock();
        let more = self.more(&held, bytes)?;
        merge(&mut held.call, more);
        Ok(())
    }

    /// Takes room for what the present message becomes when it is decoded, until the next message of the call is asked
    /// for, or the call ends.
    ///
    /// # Errors
    /// Those of [`take`](Self::take).
    pub fn take_for_message(&self, bytes: usize) -> Result<()> {
        let mut held = self.0.held.lock();
        let more = self.more(&held, bytes.saturating_sub(held.ahead))?;
        held.ahead = held.ahead.saturating_sub(bytes);
        merge(&mut held.message, more);
        Ok(())
    }

    /// Takes room for so many bytes of an answer before they are written, until they have been sent.
    ///
    /// # Errors
    /// Those of [`take`](Self::take).
    pub fn take_for_answer(&self, bytes: usize) -> Result<()> {
        let mut held = self.0.held.lock();
        let more = self.more(&held, bytes)?;
        merge(&mut held.answer, more);
        Ok(())
    }

    /// Room for bytes of an answer that are sent now: what was taken for them, and what that lacks.
    ///
    /// # Errors
    /// Those of [`take`](Self::take).
    pub fn sent(&self, bytes: usize) -> Result<Part> {
        let mut held = self.0.held.lock();
        let taken = held.answer.take();
        let lacks = bytes.saturating_sub(bytes_of(&taken));
        let more = if lacks > 0 { Some(self.more(&held, lacks)?) } else { None };
        Ok(Part([taken, more]))
    }

    /// Takes room for so many bytes more, until the part is dropped: for what a stream holds for a while.
    ///
    /// # Errors
    /// Those of [`take`](Self::take).
    pub fn part(&self, bytes: usize) -> Result<Part> {
        let held = self.0.held.lock();
        Ok(Part([Some(self.more(&held, bytes)?), None]))
    }

    /// An allowance out of the same memory for the same caller, for a part of the call: what it takes is free again when
    /// its last copy is dropped.
    pub fn of_part(&self) -> Self {
        Self::new(self.0.memory.clone(), self.0.party.clone())
    }

    /// Room for so many bytes of the present message that are kept beyond it. It is what the message has; only what
    /// that lacks is taken.
    ///
    /// # Errors
    /// Those of [`take`](Self::take).
    pub(super) fn keep(&self, bytes: usize) -> Result<Part> {
        let mut held = self.0.held.lock();
        let own = held.message.as_mut().map(|message| message.split(bytes));
        let lacks = bytes.saturating_sub(bytes_of(&own));
        let more = if lacks > 0 { Some(self.more(&held, lacks)?) } else { None };
        Ok(Part([own, more]))
    }

    /// A document of which a part has come, until this is dropped.
    pub(super) fn begin_document(&self) -> Unfinished {
        self.0.unfinished.fetch_add(1, Ordering::Relaxed);
        Unfinished(self.clone())
    }

    /// Takes room for bytes that have come of a message of which `came` are there then, or refuses.
    ///
    /// # Errors
    /// Those of [`take`](Self::take).
    pub fn receive(&self, came: usize) -> Result<()> {
        let mut held = self.0.held.lock();
        let more = self.more(&held, came.saturating_sub(bytes_of(&held.buffer)))?;
        merge(&mut held.buffer, more);
        Ok(())
    }

    /// The same in a stream, once there is room; with what the message will take, `decoded`, beside the bytes.
    pub fn poll_receive(&self, came: usize, decoded: usize, context: &mut Context<'_>) -> Poll<()> {
        let mut held = self.0.held.lock();
        let buffer = came.saturating_sub(bytes_of(&held.buffer));
        let message = decoded.saturating_sub(held.ahead);
        if buffer + message == 0 {
            return Poll::Ready(());
        }
        let account = &self.0;
        let mut more =
            ready!(account.memory.poll_take(account.call, &account.party, buffer + message, context));
        merge(&mut held.buffer, more.split(buffer));
        held.ahead += message;
        merge(&mut held.message, more);
        Poll::Ready(())
    }

    /// Whoever asks for the next message has taken what came before: gives back what that took, and the kept place,
    /// unless a document waits for its rest.
    pub fn next_message(&self) {
        let message = {
            let mut held = self.0.held.lock();
            held.ahead = 0;
            held.message.take()
        };
        drop(message);
        if self.0.unfinished.load(Ordering::Relaxed) == 0 {
            self.0.memory.leave(self.0.call);
        }
    }

    /// The body of the request is gone, with its buffer. What was decoded from it remains; where nobody has taken room
    /// for that, the buffer's stands for it.
    pub fn end_of_request(&self, is_stream: bool) {
        let spare = {
            let mut held = self.0.held.lock();
            let spare = if is_stream { usize::MAX } else { bytes_of(&held.message) };
            held.buffer.as_mut().map(|buffer| buffer.split(spare))
        };
        drop(spare);
        self.0.memory.leave(self.0.call);
    }

    /// Whether the call has the kept place while others wait for it.
    pub fn is_in_the_way(&self) -> bool {
        self.0.memory.is_in_the_way(self.0.call)
    }

    /// Whether the call has the kept place.
    pub fn is_tenant(&self) -> bool {
        self.0.memory.is_tenant(self.0.call)
    }

    fn more(&self, held: &Held, bytes: usize) -> Result<Grant> {
        let own = [&held.call, &held.buffer, &held.message, &held.answer];
        self.0.memory.take(&self.0.party, own.into_iter().map(bytes_of).sum(), bytes)
    }
}

impl CallMemory for Allowance {
    fn take(&self, bytes: usize) -> Result<()> {
        Self::take(self, bytes)
    }

    fn hold(&self, bytes: usize) -> Result<room::Held> {
        Ok(Box::new(self.part(bytes)?))
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.memory.leave(self.call);
    }
}

/// Memory that is taken until it is dropped.
pub struct Part([Option<Grant>; 2]);

impl Part {
    /// Bytes that it has.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(bytes_of).sum()
    }

    /// Adds another one.
    pub fn merge(&mut self, more: Part) {
        let [grant, _] = &mut self.0;
        more.0.into_iter().flatten().for_each(|more| merge(grant, more));
    }
}

/// A document that is not whole yet, until this is dropped.
pub(super) struct Unfinished(Allowance);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.0.unfinished.fetch_sub(1, Ordering::Relaxed);
    }
}

fn merge(held: &mut Option<Grant>, more: Grant) {
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
}

fn bytes_of(grant: &Option<Grant>) -> usize {
    grant.as_ref().map_or(0, Grant::bytes)
}

/// The allowance of a request, as the server has put it there.
pub(super) fn allowance<T>(request: &tonic::Request<T>) -> Result<Allowance> {
    let unknown = || Error::internal("NO_ALLOWANCE", "the server does not count the memory of the call");
    request.extensions().get::<Allowance>().cloned().ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn allowance(memory: &Memory) -> Allowance {
        Allowance::new(memory.clone(), Party::Key("a".into()))
    }

    fn receive(allowance: &Allowance, came: usize, decoded: usize) -> bool {
        allowance.poll_receive(came, decoded, &mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn what_a_call_takes_is_free_when_its_last_copy_is_dropped() {
        let memory = Memory::new(2000);
        let allowance = allowance(&memory);
        allowance.take(200).unwrap();
        allowance.take_for_message(300).unwrap();
        let part = allowance.part(400).unwrap();
        assert_eq!(memory.taken(), 900);
        let error = allowance.take(101).unwrap_err();
        assert_eq!((error.reason, error.retry_after.is_some()), ("REQUEST_MEMORY_FULL", true));
        let error = allowance.take(1001).unwrap_err();
        assert_eq!((error.reason, error.retry_after.is_some()), ("CALL_TOO_LARGE", false));
        drop(part);
        assert_eq!(memory.taken(), 500);
        allowance.next_message();
        assert_eq!(memory.taken(), 200);
        let copy = allowance.clone();
        drop(allowance);
        assert_eq!(memory.taken(), 200);
        drop(copy);
        assert_eq!(memory.taken(), 0);
    }

    #[test]
    fn a_message_takes_what_has_come_and_then_what_it_was_decoded_to() {
        let memory = Memory::new(2000);
        let allowance = allowance(&memory);
        allowance.receive(100).unwrap();
        allowance.receive(300).unwrap();
        assert_eq!(memory.taken(), 300);
        allowance.take_for_message(200).unwrap();
        assert_eq!(memory.taken(), 500);
        allowance.end_of_request(false);
        assert_eq!(
            memory.taken(),
            300,
            "the buffer is gone, but as much as nobody has taken for what came in it"
        );
        drop(allowance);
        assert_eq!(memory.taken(), 0);
    }

    #[test]
    fn the_buffer_of_a_stream_stays_as_large_as_its_largest_message() {
        let memory = Memory::with_kept_place(2000, 0, 0);
        let allowance = allowance(&memory);
        assert!(receive(&allowance, 300, 400));
        allowance.take_for_message(350).unwrap();
        assert_eq!(memory.taken(), 700, "that was taken beforehand");
        let mut kept = allowance.keep(300).unwrap();
        allowance.next_message();
        assert_eq!((kept.bytes(), memory.taken()), (300, 600));
        assert!(receive(&allowance, 200, 250));
        assert_eq!(memory.taken(), 850);
        kept.merge(allowance.keep(100).unwrap());
        allowance.end_of_request(true);
        drop(allowance);
        assert_eq!((kept.bytes(), memory.taken()), (400, 400));
    }

    #[test]
    fn the_kept_place_is_given_up_between_documents() {
        let memory = Memory::with_kept_place(100, 0, 500);
        let (first, second) = (allowance(&memory), allowance(&memory));
        let document = first.begin_document();
        assert!(receive(&first, 200, 0) && first.is_tenant() && !receive(&second, 200, 0));
        first.next_message();
        assert!(first.is_in_the_way() && !receive(&second, 200, 0));
        drop(document);
        first.next_message();
        assert!(!first.is_tenant() && receive(&second, 200, 0));
        drop((first, second));
        assert_eq!(memory.taken(), 0);
    }

    #[test]
    fn an_answer_takes_room_until_it_is_sent() {
        let memory = Memory::new(2000);
        let allowance = allowance(&memory);
        allowance.take_for_answer(200).unwrap();
        let first = allowance.sent(200).unwrap();
        assert_eq!(memory.taken(), 200);
        let second = allowance.sent(500).unwrap();
        assert_eq!(memory.taken(), 700, "nothing had been taken for it");
        drop((first, allowance));
        assert_eq!(memory.taken(), 500);
        drop(second);
        assert_eq!(memory.taken(), 0);
    }
}
