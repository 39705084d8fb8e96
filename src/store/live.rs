//! One open sled directory. sled's types go no further than this file and the batches built for it.

use std::fs::{self, File};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::metrics::histogram;

use super::blobs::Blobs;
use super::mark::Mark;
use super::{codec, keys};
use crate::error::{Error, Result, TOO_MANY_OPEN_FILES};
use crate::task::{Cancelled, check_cancelled};
use crate::{fault, metrics, private};

/// Most changes put into one batch where atomicity is not needed.
const BATCH: usize = 512;

/// With less than this free, what failed without a cause failed for it.
const NO_ROOM: u64 = 1 << 20;

/// Deletes a directory once the database in it is closed.
struct Cleanup {
    path: PathBuf,
    wanted: AtomicBool,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        if !self.wanted.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "an old store could not be removed");
        }
    }
}

/// How long an opener waits for the one before it to let go of the database.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// Whether sled's own lock is held. The lock of the data directory is ours by then, so the holder is a
/// database of this process that was dropped and whose background threads are about to end.
fn is_closing(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(e) if e.to_string().contains("could not acquire lock"))
}

/// An open database. Fields drop in order: the directory goes last.
pub struct Live {
    db: sled::Db,
    file: File,
    blobs: Blobs,
    mark: Mark,
    /// Writes that were begun, each counted before it can be read. What was found when the database was opened counts
    /// as one: the program before may have been killed in its fsync.
    begun: AtomicU64,
    /// How many of these are on the disk.
    durable: AtomicU64,
    /// Why a write failed. sled takes no writes after one that failed, and an fsync that failed says
    /// nothing of the next one's success: so there are none until the database is opened again.
    failure: OnceLock<String>,
    cleanup: Cleanup,
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.failure.get().is_some() {
            // Closing flushes, and after a write that failed sled's flush waits forever, with a lock that
            // every database of the process needs. So the database is left open for the process to end with.
            std::mem::forget(self.db.clone());
        }
    }
}

impl Live {
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Self> {
        let config = sled::Config::new().path(path).cache_capacity(cache_bytes).flush_every_ms(None);
        let deadline = Instant::now() + CLOSE_GRACE;
        let db = loop {
            let opened = catch_unwind(AssertUnwindSafe(|| config.open())).map_err(|_| {
                Error::data_loss("CORRUPT_STORE", "the store's database is damaged and cannot be opened")
            })?;
            match opened {
                Err(error) if is_closing(&error) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                opened => break opened.map_err(from_sled)?,
            }
        };
        let file = File::open(path.join("db")).map_err(from_io)?;
        let count = db.get(keys::SYNCS).map_err(from_sled)?;
        let count = count.map(|value| codec::unpack::<codec::Number>(keys::SYNCS, &value)).transpose()?;
        let mark = Mark::open(path, count.map_or(0, |count| count.value))?;
        Ok(Self {
            db,
            file,
            blobs: Blobs::of(path),
            mark,
            begun: AtomicU64::new(1),
            durable: AtomicU64::new(0),
            failure: OnceLock::new(),
            cleanup: Cleanup { path: path.to_owned(), wanted: AtomicBool::new(false) },
        })
    }

    /// Asks for the directory to be deleted when the last reader is gone.
    pub fn remove_when_closed(&self) {
        self.cleanup.wanted.store(true, Ordering::Relaxed);
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        // A write of sled's own threads that failed comes to light in the next call, whatever it is. A file of a record
        // that could not be opened for want of a descriptor says nothing of writes.
        let found = self.db.get(key).map_err(from_sled).inspect_err(|error| self.note_failed(error));
        Ok(found?.map(|value| value.to_vec()))
    }

    /// Whether a write may be tried.
    ///
    /// # Errors
    /// `STORE_READ_ONLY` after a write that failed.
    pub fn check_writable(&self) -> Result<()> {
        let Some(cause) = self.failure.get() else { return Ok(()) };
        Err(Error::precondition(
            "STORE_READ_ONLY",
            format!("the store takes no writes until the server is started again, since one failed: {cause}"),
        ))
    }

    /// Ends writing for an error of what has changed nothing, unless it was for want of a descriptor.
    fn note_failed(&self, error: &Error) {
        if error.reason != TOO_MANY_OPEN_FILES {
            self.note(error);
        }
    }

    /// Ends writing until the database is opened again. Keeps the first failure.
    pub fn note(&self, error: &Error) {
        if self.failure.set(error.message.clone()).is_ok() {
            tracing::error!(%error, "the disk failed: the store takes no writes until it is opened again");
        }
    }

    pub fn put(&self, key: &[u8], value: Vec<u8>) -> Result<()> {
        self.begin();
        self.write(|| self.db.insert(key, value).map(drop).map_err(from_sled))
    }

    pub fn apply(&self, batch: sled::Batch) -> Result<()> {
        self.begin();
        self.write(|| {
            fault::point!("store-apply");
            self.db.apply_batch(batch).map_err(from_sled)
        })
    }

    fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether all that can be read is on the disk. To be asked after the read.
    pub fn is_settled(&self) -> bool {
        let begun = self.begun.load(Ordering::SeqCst);
        self.durable.load(Ordering::SeqCst) >= begun
    }

    /// Everything written so far outlives a power cut: sled's own flush does not fsync, and nothing of sled fsyncs the
    /// files beside the log. To be called by who holds the writer's lock, so that no write is half done.
    pub fn sync(&self) -> Result<()> {
        let begun = self.begun.load(Ordering::SeqCst);
        // If this fails, nothing has been tried, and the next sync may succeed.
        fault::point!("store-blobs");
        let last_blob = self.blobs.last()?;
        let count = self.mark.next();
        self.write(|| {
            fault::point!("store-flush");
            let value = codec::pack(keys::SYNCS, &codec::Number { value: count });
            self.db.insert(keys::SYNCS, value).map_err(from_sled)?;
            let started = Instant::now();
            self.db.flush().map_err(from_sled)?;
            histogram!(metrics::STORE_FLUSH_DURATION).record(started.elapsed());
            Ok(())
        })?;
        let flushed = Instant::now();
        // Without a descriptor no fsync was tried: the next sync begins with the same files.
        self.blobs.sync(last_blob).inspect_err(|error| self.note_failed(error))?;
        self.write(|| {
            fault::point!("store-fsync");
            self.file.sync_data().map_err(from_io)?;
            histogram!(metrics::STORE_FSYNC_DURATION).record(flushed.elapsed());
            self.mark.set(count);
            self.durable.fetch_max(begun, Ordering::SeqCst);
            Ok(())
        })
    }

    /// Writes, unless a write has failed before.
    fn write(&self, write: impl FnOnce() -> Result<()>) -> Result<()> {
        self.check_writable()?;
        // sled panics on some failed writes.
        let written = catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|_| Err(self.panicked()));
        written.inspect_err(|error| self.note(error))
    }

    /// What a panic of sled means: it does not say.
    fn panicked(&self) -> Error {
        match free_bytes(&self.cleanup.path) {
            Ok(free) if free < NO_ROOM => Error::disk_full(""),
            _ => Error::internal("STORE_FAILED", "a write to the database panicked"),
        }
    }

    pub fn prefix(
        &self,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(Vec<u8>, Vec<u8>)>> + Send + use<> {
        self.db.scan_prefix(prefix).map(pair)
    }

    /// Pairs from `start` on.
    pub fn from(&self, start: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>> + Send + use<> {
        self.db.range(start.to_vec()..).map(pair)
    }

    /// Removes all keys with a prefix, in batches.
    pub fn purge(&self, prefix: &[u8]) -> Result<()> {
        while self.purge_some(prefix, BATCH)? {}
        Ok(())
    }

    /// Removes at most so many keys with a prefix; whether there may be more.
    pub fn purge_some(&self, prefix: &[u8], most: usize) -> Result<bool> {
        let mut batch = sled::Batch::default();
        let mut size = 0;
        for key in self.db.scan_prefix(prefix).keys().take(most) {
            batch.remove(key.map_err(from_sled)?);
            size += 1;
        }
        if size > 0 {
            self.apply(batch)?;
        }
        Ok(size == most)
    }

    /// Copies everything into another database.
    pub fn copy_to(&self, other: &Live, is_cancelled: Cancelled<'_>) -> Result<()> {
        let mut batch = sled::Batch::default();
        let mut size = 0;
        for item in self.db.iter() {
            let (key, value) = item.map_err(from_sled)?;
            batch.insert(key, value);
            size += 1;
            if size == BATCH {
                other.apply(std::mem::take(&mut batch))?;
                size = 0;
                check_cancelled(is_cancelled)?;
            }
        }
        other.apply(batch)?;
        fault::point!("compact-copy");
        check_cancelled(is_cancelled)?;
        other.sync()
    }

    pub fn size_on_disk(&self) -> Result<u64> {
        self.db.size_on_disk().map_err(from_sled)
    }
}

fn pair(item: sled::Result<(sled::IVec, sled::IVec)>) -> Result<(Vec<u8>, Vec<u8>)> {
    item.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(from_sled)
}

/// Replaces a small file atomically and durably. After an error either content may be there.
pub fn replace_file(dir: &Path, name: &str, content: &str) -> Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    let mut file =
        private::options().write(true).create(true).truncate(true).open(&temporary).map_err(from_io)?;
    file.write_all(content.as_bytes()).map_err(from_io)?;
    file.sync_all().map_err(from_io)?;
    fs::rename(&temporary, dir.join(name)).map_err(from_io)?;
    fault::point!("replace-sync");
    sync_dir(dir)
}

/// Makes the entries of a directory durable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(from_io)
}

/// Whether the disk of a directory has so many bytes free.
pub fn check_free(dir: &Path, wanted: u64) -> Result<()> {
    if wanted == 0 {
        return Ok(());
    }
    let free = free_bytes(dir)?;
    if free < wanted {
        return Err(Error::disk_full(format!(": expected {wanted} bytes to be free, there are {free}")));
    }
    Ok(())
}

/// Bytes that are free on the disk of a directory.
pub fn free_bytes(dir: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(dir).map_err(|error| from_io(error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

pub fn from_io(error: std::io::Error) -> Error {
    if let Some(known) = Error::of_want(&error) {
        return known.with_source(error);
    }
    Error::internal("STORE_IO", format!("the store could not be read or written: {error}")).with_source(error)
}

pub fn from_sled(error: sled::Error) -> Error {
    match error {
        sled::Error::Io(error) => from_io(error),
        sled::Error::Corruption { .. } => {
            Error::data_loss("CORRUPT_STORE", "the store's database is damaged").with_source(error)
        }
        error => Error::internal("STORE_FAILED", format!("the store failed: {error}")).with_source(error),
    }
}
