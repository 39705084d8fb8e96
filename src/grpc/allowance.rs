use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, ErrorKind, Result};

/// Memory is granted in units of this many bytes.
const UNIT: usize = 1 << 10;
/// When a caller should try again where memory is short.
const RETRY_AFTER: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// The allowance of the call that is served: for what has no request at hand, such as a codec. It is set while the
    /// service makes its response and while the body of the response is polled, not in tasks that these start.
    pub static ALLOWANCE: Allowance;
}

/// Memory for what all calls have received and answer.
#[derive(Clone)]
pub struct Memory {
    units: Arc<Semaphore>,
    total: usize,
}

impl Memory {
    /// So many bytes, and at least enough for one message.
    pub fn new(bytes: usize, max_message_bytes: usize) -> Self {
        let units = bytes.max(max_message_bytes).div_ceil(UNIT);
        let total = units.clamp(1, (u32::MAX as usize).min(Semaphore::MAX_PERMITS));
        Self { units: Arc::new(Semaphore::new(total)), total }
    }

    /// What its units are taken from.
    pub fn units(&self) -> &Arc<Semaphore> {
        &self.units
    }

    /// The units of so many bytes, at most all that there are.
    pub fn units_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT).clamp(1, self.total)).unwrap_or(u32::MAX)
    }

    /// The error where there is no room.
    pub fn short(&self) -> Error {
        let message =
            format!("the messages of other calls take up the {} KiB that there are for them", self.total);
        Error::exhausted("REQUEST_MEMORY_FULL", message, RETRY_AFTER)
    }

    fn part(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        if bytes.div_ceil(UNIT) > self.total {
            let message = format!("expected a call that takes at most {} KiB, got {bytes} bytes", self.total);
            return Err(Error::new(ErrorKind::ResourceExhausted, "CALL_TOO_LARGE", message));
        }
        self.units.clone().try_acquire_many_owned(self.units_of(bytes)).map_err(|_| self.short())
    }
}

/// The memory that one call takes. It is free again when the last copy is dropped: what works for a call after its
/// caller has left keeps one.
#[derive(Clone)]
pub struct Allowance {
    memory: Memory,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    call: Option<OwnedSemaphorePermit>,
    message: Option<OwnedSemaphorePermit>,
    answer: Option<OwnedSemaphorePermit>,
}

impl Allowance {
    /// An allowance that has taken nothing.
    pub fn new(memory: Memory) -> Self {
        Self { memory, held: Arc::default() }
    }

    /// Takes room for so many bytes more, until the call ends.
    ///
    /// # Errors
    /// `REQUEST_MEMORY_FULL` where others take it up; `CALL_TOO_LARGE` where there is never so much.
    pub fn take(&self, bytes: usize) -> Result<()> {
        let part = self.memory.part(bytes)?;
        merge(&mut self.held.lock().call, part);
        Ok(())
    }

    /// Takes room for so many bytes more, until the next message of the call is asked for, or the call ends: for
    /// what a message becomes when it is decoded.
    ///
    /// # Errors
    /// Those of [`take`](Self::take).
    pub fn take_for_message(&self, bytes: usize) -> Result<()> {
        self.keep_for_message(self.memory.part(bytes)?);
        Ok(())
    }

    /// Takes room for so many bytes of an answer before they are written, until they have been sent.
    ///
    /// # Errors
    /// Those of [`take`](Self::take).
    pub fn take_for_answer(&self, bytes: usize) -> Result<()> {
        let part = self.memory.part(bytes)?;
        merge(&mut self.held.lock().answer, part);
        Ok(())
    }

    /// Room for bytes of an answer that are sent now: what was taken for them, and what that lacks.
    ///
    /// # Errors
    /// Those of [`take`](Self::take).
    pub fn sent(&self, bytes: usize) -> Result<Part> {
        let taken = self.held.lock().answer.take();
        let lacks = bytes.saturating_sub(taken.as_ref().map_or(0, |taken| taken.num_permits() * UNIT));
        let more = (lacks > 0).then(|| self.memory.part(lacks)).transpose()?;
        Ok(Part { _permits: [taken, more] })
    }

    /// Takes room for so many bytes more, until the part is dropped: for what a stream holds for a while.
    ///
    /// # Errors
    /// Those of [`take`](Self::take).
    pub fn part(&self, bytes: usize) -> Result<Part> {
        self.memory.part(bytes).map(|permit| Part { _permits: [Some(permit), None] })
    }

    /// Keeps units that were taken for the present message.
    pub fn keep_for_message(&self, units: OwnedSemaphorePermit) {
        merge(&mut self.held.lock().message, units);
    }

    /// Gives back what the present message takes.
    pub fn free_message(&self) {
        self.held.lock().message = None;
    }
}

/// Memory that is taken until it is dropped.
pub struct Part {
    _permits: [Option<OwnedSemaphorePermit>; 2],
}

fn merge(held: &mut Option<OwnedSemaphorePermit>, more: OwnedSemaphorePermit) {
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
}

/// The allowance of a request, as the server has put it there.
#[allow(dead_code, reason = "services take room for what they decode and answer")]
pub(super) fn allowance<T>(request: &tonic::Request<T>) -> Result<Allowance> {
    let unknown = || Error::internal("NO_ALLOWANCE", "the server does not count the memory of the call");
    request.extensions().get::<Allowance>().cloned().ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_takes_is_free_when_its_last_copy_is_dropped() {
        let memory = Memory::new(10 * UNIT, UNIT);
        let allowance = Allowance::new(memory.clone());
        allowance.take(2 * UNIT).unwrap();
        allowance.take_for_message(3 * UNIT).unwrap();
        let part = allowance.part(4 * UNIT).unwrap();
        assert_eq!(memory.units.available_permits(), 1);
        let error = allowance.take(2 * UNIT).unwrap_err();
        assert_eq!((error.reason, error.retry_after.is_some()), ("REQUEST_MEMORY_FULL", true));
        let error = allowance.take(11 * UNIT).unwrap_err();
        assert_eq!((error.reason, error.retry_after.is_some()), ("CALL_TOO_LARGE", false));
        drop(part);
        assert_eq!(memory.units.available_permits(), 5);
        allowance.free_message();
        assert_eq!(memory.units.available_permits(), 8);
        let copy = allowance.clone();
        drop(allowance);
        assert_eq!(memory.units.available_permits(), 8);
        drop(copy);
        assert_eq!(memory.units.available_permits(), 10);
    }

    #[test]
    fn an_answer_takes_room_until_it_is_sent() {
        let memory = Memory::new(10 * UNIT, UNIT);
        let allowance = Allowance::new(memory.clone());
        allowance.take_for_answer(2 * UNIT).unwrap();
        let first = allowance.sent(2 * UNIT).unwrap();
        assert_eq!(memory.units.available_permits(), 8);
        let second = allowance.sent(5 * UNIT).unwrap();
        assert_eq!(memory.units.available_permits(), 3, "nothing had been taken for it");
        drop((first, allowance));
        assert_eq!(memory.units.available_permits(), 5);
        drop(second);
        assert_eq!(memory.units.available_permits(), 10);
    }
}
