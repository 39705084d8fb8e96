//! One round: the time between a start of the server and its kill.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tonic::{Code, Status};

/// What the tasks of a round share.
#[derive(Clone, Default)]
pub struct Round {
    is_over: Arc<AtomicBool>,
    is_killed: Arc<AtomicBool>,
}

impl Round {
    /// Tells the tasks to end after the call that they are in.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Notes that the server is about to be killed: from now on calls may fail.
    pub fn kill(&self) {
        self.is_killed.store(true, Ordering::Relaxed);
        self.end();
    }

    /// Whether a task goes on.
    pub fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Accepts a failed call only if the server was killed.
    pub fn check_failure(&self, what: &str, status: &Status) {
        assert!(self.is_killed.load(Ordering::Relaxed), "{what} failed before the kill: {status:?}");
    }

    /// The answer of a reader, or `None` where it was told that what it read was replaced meanwhile. Fails where the
    /// call failed for another reason before the kill.
    pub fn answer<T>(&self, what: &str, result: Result<T, Status>) -> Option<T> {
        match result {
            Ok(answer) => Some(answer),
            Err(status) if status.code() == Code::Aborted => None,
            Err(status) => {
                self.check_failure(what, &status);
                None
            }
        }
    }
}

/// How often something was done.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What was done in all rounds.
#[derive(Default)]
pub struct Counts {
    pub compactions: Count,
    pub snapshots: Count,
    pub restores: Count,
    pub exports: Count,
    pub searches: Count,
}
