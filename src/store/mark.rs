//! A witness beside the database of how far it has come.
//!
//! sled takes a damaged place in its log for the end of what was written: it opens, and everything after that place
//! is gone without a word. So each sync counts one further, in a row of the database and, once that is on the disk,
//! in this file. A database that counts less than the file has lost what was acknowledged. The file is not synced:
//! after a power cut it may be behind, which proves nothing, but it is never ahead.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::live::from_io;
use crate::error::{Error, Result};
use crate::private;

const NAME: &str = "mark";

/// The file, and the count.
pub struct Mark {
    file: File,
    count: AtomicU64,
}

impl Mark {
    /// Opens the file in a database's directory, or makes it, and compares it with the database's own count.
    ///
    /// # Errors
    /// `ACKNOWLEDGED_WRITES_LOST`, with what can be done.
    pub fn open(directory: &Path, count: u64) -> Result<Self> {
        let path = directory.join(NAME);
        let file = private::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(from_io)?;
        let mut bytes = [0; 12];
        if let Ok(()) = file.read_exact_at(&mut bytes, 0) {
            match read(bytes) {
                Some(marked) if marked > count => return Err(lost(marked, count, path)),
                Some(_) => {}
                None => tracing::warn!(path = %path.display(), "the mark is damaged: it is written anew"),
            }
        }
        Ok(Self { file, count: AtomicU64::new(count) })
    }

    /// The next count, for the database.
    pub fn next(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Called when the database has a count on the disk.
    pub fn set(&self, count: u64) {
        let sum = crc32fast::hash(&count.to_le_bytes());
        let bytes = [count.to_le_bytes().as_slice(), &sum.to_le_bytes()].concat();
        // What was committed stays committed; only a later loss would not be noticed.
        if let Err(error) = self.file.write_all_at(&bytes, 0) {
            tracing::warn!(%error, "the mark beside the database could not be written");
        }
    }
}

fn read(bytes: [u8; 12]) -> Option<u64> {
    let (count, sum) = bytes.split_first_chunk::<8>()?;
    (crc32fast::hash(count).to_le_bytes().as_slice() == sum).then(|| u64::from_le_bytes(*count))
}

fn lost(marked: u64, count: u64, path: PathBuf) -> Error {
    Error::data_loss(
        "ACKNOWLEDGED_WRITES_LOST",
        format!(
            "the database is damaged: it has lost the last {} of {marked} commits; restore a snapshot in a new data directory, or delete {} to go on with what is left",
            marked - count,
            path.display()
        ),
    )
}
