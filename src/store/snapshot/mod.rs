//! Snapshots: files that hold what the store holds of some collections at one moment. Indexes are not in them;
//! they are made from the documents again.

mod create;
mod folder;
mod format;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod restore;
#[cfg(test)]
mod tests;

pub(super) use folder::Folder;
pub use folder::{SnapshotInfo, SnapshotName};
#[cfg(feature = "fuzzing")]
pub(super) use fuzz::{example, fuzz, seal, seed};
pub use restore::PreparedRestore;

use std::time::Instant;

use ::metrics::{counter, histogram};

use crate::error::{ErrorKind, Result};
use crate::metrics;
use crate::task::{Cancelled, check_cancelled};

/// Counts a work on snapshots, and how long it took.
pub(crate) fn counted<T>(operation: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let done = work();
    let outcome = match &done {
        Ok(_) => "ok",
        Err(error) if error.kind == ErrorKind::Cancelled => "cancelled",
        Err(_) => "failed",
    };
    let labels = [("operation", operation), ("outcome", outcome)];
    counter!(metrics::SNAPSHOT_OPERATIONS, &labels).increment(1);
    histogram!(metrics::SNAPSHOT_DURATION, "operation" => operation).record(started.elapsed());
    done
}
