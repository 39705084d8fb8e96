//! Room for what a call answers: asked for before each part of the answer is made, so that a small request cannot make
//! a large answer that nobody has room for.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};

/// Room is taken in steps of so many bytes.
const STEP: usize = 16 << 10;

/// The memory that one call may take.
pub trait CallMemory: Send + Sync {
    /// Takes room for so many bytes more, until the call ends.
    ///
    /// # Errors
    /// Where there is none.
    fn take(&self, bytes: usize) -> Result<()>;

    /// Takes room for so many bytes more, until what is given is dropped.
    ///
    /// # Errors
    /// Where there is none.
    fn hold(&self, bytes: usize) -> Result<Held>;
}

/// Room that is free again when it is dropped.
pub type Held = Box<dyn Send + Sync>;

/// Room for one answer. Copies share it: what makes parts of the same answer adds to the same sum.
#[derive(Clone)]
pub struct AnswerRoom(Option<Arc<Inner>>);

struct Inner {
    memory: Box<dyn CallMemory>,
    most: usize,
    /// Bytes that were added, and those that were taken for them.
    sums: Mutex<(usize, usize)>,
}

impl AnswerRoom {
    /// Room for an answer that takes at most so many bytes.
    pub fn new(memory: impl CallMemory + 'static, most: usize) -> Self {
        Self(Some(Arc::new(Inner { memory: Box::new(memory), most, sums: Mutex::default() })))
    }

    /// Room without a bound, for work that answers nobody.
    pub fn unbounded() -> Self {
        Self(None)
    }

    /// Takes room for so many bytes more of the answer.
    ///
    /// # Errors
    /// `RESPONSE_TOO_LARGE` where the answer is over its bound; what the memory of the call gives.
    pub fn add(&self, bytes: usize) -> Result<()> {
        let Some(inner) = &self.0 else { return Ok(()) };
        let mut sums = inner.sums.lock();
        let added = sums.0.saturating_add(bytes);
        if added > inner.most {
            return Err(too_large(inner.most));
        }
        if added > sums.1 {
            let more = (added - sums.1).max(STEP);
            inner.memory.take(more)?;
            sums.1 += more;
        }
        sums.0 = added;
        Ok(())
    }

    /// Takes room for work on the answer, until what is given is dropped.
    ///
    /// # Errors
    /// What the memory of the call gives.
    pub fn hold(&self, bytes: usize) -> Result<Option<Held>> {
        self.0.as_ref().map(|inner| inner.memory.hold(bytes)).transpose()
    }

    /// Bytes that the answer may still grow by.
    pub fn left(&self) -> usize {
        self.0.as_ref().map_or(usize::MAX, |inner| inner.most - inner.sums.lock().0)
    }
}

impl fmt::Debug for AnswerRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnswerRoom({} bytes left)", self.left())
    }
}

fn too_large(most: usize) -> Error {
    let message = format!(
        "expected a request whose answer takes at most {most} bytes of memory, got one for a larger answer"
    );
    Error::new(ErrorKind::OutOfRange, "RESPONSE_TOO_LARGE", message)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Memory(Arc<AtomicUsize>);

    impl CallMemory for Memory {
        fn take(&self, bytes: usize) -> Result<()> {
            self.0.fetch_add(bytes, Ordering::Relaxed);
            Ok(())
        }

        fn hold(&self, _: usize) -> Result<Held> {
            Ok(Box::new(()))
        }
    }

    #[test]
    fn an_answer_takes_its_room_in_steps_up_to_its_bound() {
        let taken = Arc::new(AtomicUsize::new(0));
        let room = AnswerRoom::new(Memory(taken.clone()), 3 * STEP);
        let copy = room.clone();
        for _ in 0..3 {
            room.add(10).unwrap();
        }
        assert_eq!(taken.load(Ordering::Relaxed), STEP);
        copy.add(2 * STEP).unwrap();
        assert_eq!(
            taken.load(Ordering::Relaxed),
            2 * STEP + 30,
            "what is lacking, where that is more than a step"
        );
        assert_eq!(room.left(), STEP - 30);
        let error = room.add(STEP).unwrap_err();
        assert_eq!((error.kind, error.reason), (ErrorKind::OutOfRange, "RESPONSE_TOO_LARGE"));
        assert_eq!(room.left(), STEP - 30, "what is refused is not counted");
        AnswerRoom::unbounded().add(usize::MAX).unwrap();
    }
}
