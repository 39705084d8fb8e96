//! Snapshots: files that hold what the store holds of some collections at one moment. Indexes are not in them;
//! they are made from the documents again.

mod create;
mod folder;
mod format;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod hold;
mod restore;
#[cfg(test)]
mod tests;

pub(super) use folder::Folder;
pub use folder::{SnapshotInfo, SnapshotName};
#[cfg(feature = "fuzzing")]
pub(super) use fuzz::{example, fuzz, seal, seed};
pub(super) use hold::Hold;
pub use restore::PreparedRestore;

use crate::error::{Error, ErrorKind, Result};

/// Asked now and then by what takes long: whether nobody waits for it any more.
pub type Cancelled<'a> = &'a (dyn Fn() -> bool + Sync);

fn check_cancelled(is_cancelled: Cancelled<'_>) -> Result<()> {
    if is_cancelled() {
        return Err(Error::new(ErrorKind::Cancelled, "CANCELLED", "the caller has left"));
    }
    Ok(())
}
