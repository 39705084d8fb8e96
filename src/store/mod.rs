//! The only source of truth: collections, documents, texts, vectors and index data in one sled tree,
//! so that one batch is atomic. A write is answered after its flush and fsync; one of them serves all
//! writers that wait.

mod blobs;
mod codec;
mod collections;
mod commit;
mod content;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod inspect;
mod keys;
mod live;
mod mark;
mod migrate;
mod read;
mod readers;
mod records;
mod retitled;
mod salvage;
mod segments;
mod snapshot;
#[cfg(test)]
mod tests;
mod versions;
mod view;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::lock::{LEAF, Mutex, RwLock, SNAPSHOTS, WRITER};
use crate::task::Cancelled;
use crate::{fault, private};
pub use inspect::{StoreState, inspect};
use live::Live;
pub(crate) use live::from_io;
pub use migrate::SCHEMA_VERSION;

pub use retitled::Retitled;

pub use commit::Seen;
pub use readers::Lease;
pub use records::{
    CollectionRecord, CommitListener, Committed, Damaged, DocumentRecord, DocumentUpdate, Inserted,
    LANGUAGE_KEY, NewDocument, NewPassage, PassageRecord, Processing, Updated,
};

const CURRENT: &str = "CURRENT";
const FIRST: &str = "store-000001";

/// How long an opener waits for the data directory: a process that has just ended may have left a child
/// behind that holds the lock until it executes its own program.
const LOCK_GRACE: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(20);

pub use content::{ReadableDocument, check_copies, check_foreign, check_unit_vectors};
pub(crate) use snapshot::counted;
pub use snapshot::{PreparedRestore, SnapshotInfo, SnapshotName};
pub use view::{View, ViewPage};

/// How to open a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Memory for the database's page cache.
    pub cache_bytes: u64,
    /// Writes that may wait for the committer before more writers have to wait themselves.
    pub queue: usize,
    /// Room on the disk that is never used up: with less than this free, documents are refused; with less
    /// than half of it, all other writes too. Running into a full disk would end writing until a restart.
    pub min_free_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 256 << 20, queue: 256, min_free_bytes: 64 << 20 }
    }
}

/// What the callers and the committing thread share.
struct Inner {
    dir: PathBuf,
    options: StoreOptions,
    live: ArcSwap<Live>,
    /// Held by whoever writes.
    writer: Mutex<(), WRITER>,
    listener: RwLock<Option<Arc<dyn CommitListener>>, LEAF>,
    snapshots: snapshot::Folder,
    /// Held by whoever makes or restores a snapshot.
    snapshotting: Mutex<(), SNAPSHOTS>,
    /// Who reads what, so that it stays.
    readers: Arc<readers::Readers>,
    _lock: File,
}

impl Inner {
    /// Whether documents may be written.
    fn check_room(&self) -> Result<()> {
        live::check_free(&self.dir, self.options.min_free_bytes)
    }

    /// Whether what takes little room, or makes room, may be written.
    fn check_little_room(&self) -> Result<()> {
        live::check_free(&self.dir, self.options.min_free_bytes / 2)
    }

    /// The database, of which all that can be read is on the disk. For whoever holds the writer's lock and answers a
    /// write by what it reads.
    fn settled(&self) -> Result<Arc<Live>> {
        let live = self.live.load_full();
        if !live.is_settled() {
            self.check_little_room()?;
            live.sync()?;
        }
        Ok(live)
    }
}

/// An open store. Reads block shortly on the disk; writes of documents go through one committing thread.
pub struct Store {
    inner: Arc<Inner>,
    sender: Option<mpsc::Sender<commit::Op>>,
    committer: Option<JoinHandle<()>>,
    reaper: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the store of a data directory, or makes one. Only one process at a time may hold it.
    ///
    /// # Errors
    /// `DATA_DIR_LOCKED`, `SCHEMA_TOO_NEW`, `CORRUPT_STORE` where the database is damaged or missing,
    /// `ACKNOWLEDGED_WRITES_LOST`, and whatever the disk gives.
    pub fn open(data: &Path, options: StoreOptions) -> Result<Self> {
        let dir = data.join("store");
        private::create_dir_all(&dir).map_err(from_io)?;
        let lock = lock(data)?;
        let named = current(&dir)?;
        match &named {
            Some(name) => check_database(&dir, name)?,
            None => check_unused(&dir)?,
        }
        let name = named.as_deref().unwrap_or(FIRST);
        let live = Live::open(&dir.join(name), options.cache_bytes)?;
        migrate::run(&live)?;
        live::sync_dir(&dir.join(name))?;
        live::sync_dir(&dir)?;
        // The first database gets its name when it is there, so that a name without a database always means a loss.
        if named.is_none() {
            live::replace_file(&dir, CURRENT, FIRST)?;
        }
        remove_leftovers(&dir, name)?;
        let snapshots = snapshot::Folder::open(data.join("snapshots"))?;
        live::sync_dir(data)?;
        let queue = options.queue.max(1);
        let inner = Arc::new(Inner {
            dir,
            options,
            live: ArcSwap::from_pointee(live),
            writer: Mutex::new(()),
            listener: RwLock::new(None),
            snapshots,
            snapshotting: Mutex::new(()),
            readers: Arc::default(),
            _lock: lock,
        });
        collections::repair_counters(&inner.live.load_full())?;
        collections::purge_orphans(&inner.live.load_full())?;
        let (sender, receiver) = mpsc::channel(queue);
        let committer = std::thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn({
                let inner = inner.clone();
                move || commit::run(&inner, receiver)
            })
            .map_err(from_io)?;
        let reaper = std::thread::Builder::new()
            .name("store-reaper".to_owned())
            .spawn({
                let inner = inner.clone();
                move || readers::run(&inner)
            })
            .map_err(from_io)?;
        Ok(Self { inner, sender: Some(sender), committer: Some(committer), reaper: Some(reaper) })
    }

    /// Sets who hears of every change from now on.
    pub fn set_listener(&self, listener: Arc<dyn CommitListener>) {
        *self.inner.listener.write() = Some(listener);
    }

    /// Copies the live data into a new database and switches to it; the old one is deleted when its last
    /// reader is gone. Writers wait, readers do not. Blocks for as long as the copy takes.
    ///
    /// # Errors
    /// `DISK_FULL`, `CANCELLED`, and whatever the disk gives; the old database stays in use. If the disk fails so
    /// late that the next start may find either of the two, there are no writes until then. `STORE_READ_ONLY` after a
    /// write that failed.
    pub fn compact(&self, is_cancelled: Cancelled<'_>) -> Result<()> {
        let inner = &self.inner;
        let _writer = inner.writer.lock();
        let old = inner.live.load_full();
        // After a write that failed half of it may be in memory.
        old.check_writable()?;
        live::check_free(&inner.dir, old.size_on_disk()?.saturating_add(inner.options.min_free_bytes / 2))?;
        let old_name = current(&inner.dir)?.ok_or_else(|| {
            Error::data_loss("CORRUPT_STORE", format!("the store's {CURRENT} file is gone"))
        })?;
        let name = next_name(&old_name);
        let path = inner.dir.join(&name);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(from_io)?;
        }
        let new = Live::open(&path, inner.options.cache_bytes)?;
        if let Err(error) = old.copy_to(&new, is_cancelled).and_then(|()| live::sync_dir(&path)) {
            new.remove_when_closed();
            return Err(error);
        }
        if let Err(error) = make_current(&inner.dir, &name) {
            if current(&inner.dir).is_ok_and(|now| now.as_ref() == Some(&old_name)) {
                new.remove_when_closed();
            } else {
                old.note(&error);
            }
            return Err(error);
        }
        inner.live.store(Arc::new(new));
        old.remove_when_closed();
        Ok(())
    }

    /// Bytes that the database takes on disk.
    pub fn size_on_disk(&self) -> Result<u64> {
        self.live().size_on_disk()
    }

    /// Bytes that are free on its disk.
    pub fn free_bytes(&self) -> Result<u64> {
        live::free_bytes(&self.inner.dir)
    }

    /// Whether it takes writes: not after one that failed on the disk.
    pub fn is_writable(&self) -> bool {
        self.live().check_writable().is_ok()
    }

    fn live(&self) -> Arc<Live> {
        self.inner.live.load_full()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.sender = None;
        self.inner.readers.stop();
        let threads = [self.committer.take(), self.reaper.take()];
        // The listener of commits may be what holds the store last; then the committing thread is this one, and holds what
        // the other may wait for. Both end by themselves.
        let is_own = |thread: &JoinHandle<()>| thread.thread().id() == std::thread::current().id();
        if threads.iter().flatten().any(is_own) {
            return;
        }
        if threads.into_iter().flatten().any(|thread| thread.join().is_err()) {
            tracing::error!("a thread of the store panicked");
        }
    }
}

fn lock(data: &Path) -> Result<File> {
    let mut options = private::options();
    let file = options.create(true).truncate(false).write(true).open(data.join("LOCK")).map_err(from_io)?;
    let deadline = Instant::now() + LOCK_GRACE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::precondition(
                    "DATA_DIR_LOCKED",
                    format!("the data directory {} is in use by another process", data.display()),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(from_io(error)),
        }
    }
}

/// The name of the live database's directory; `None` before the first run.
fn current(dir: &Path) -> Result<Option<String>> {
    let name = match fs::read_to_string(dir.join(CURRENT)) {
        Ok(name) => name.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(from_io(error)),
    };
    if number_of(&name).is_none() {
        return Err(Error::data_loss(
            "CORRUPT_STORE",
            format!("the store's {CURRENT} file names no database: {name:?}"),
        ));
    }
    Ok(Some(name))
}

/// Makes a database the live one from the next start on.
fn make_current(dir: &Path, name: &str) -> Result<()> {
    fault::point!("compact-switch");
    live::replace_file(dir, CURRENT, name)
}

/// The number of a database's directory.
fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix("store-")?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok()).flatten()
}

fn next_name(name: &str) -> String {
    format!("store-{:06}", number_of(name).unwrap_or(0) + 1)
}

/// Refuses a database that is not there: opening it would make an empty one in its place.
fn check_database(dir: &Path, name: &str) -> Result<()> {
    let path = dir.join(name);
    match fs::metadata(path.join("db")) {
        Ok(db) if db.is_file() => Ok(()),
        Ok(_) => Err(missing(&path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing(&path)),
        Err(error) => Err(from_io(error)),
    }
}

fn missing(path: &Path) -> Error {
    Error::data_loss(
        "CORRUPT_STORE",
        format!("the store's {CURRENT} file names a database that is not there: {}", path.display()),
    )
}

/// Refuses to start anew beside databases of which nobody can tell which is the live one.
fn check_unused(dir: &Path) -> Result<()> {
    match databases(dir)?.into_iter().find(|name| name != FIRST) {
        None => Ok(()),
        Some(name) => Err(Error::data_loss(
            "CORRUPT_STORE",
            format!("the store has no {CURRENT} file, but a database: {}", dir.join(name).display()),
        )),
    }
}

/// Names of the databases' directories.
fn databases(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(from_io)? {
        let entry = entry.map_err(from_io)?;
        let name = entry.file_name().into_string().ok().filter(|name| number_of(name).is_some());
        if entry.file_type().map_err(from_io)?.is_dir() {
            names.extend(name);
        }
    }
    Ok(names)
}

/// Deletes what a crash during a compaction left behind.
fn remove_leftovers(dir: &Path, live: &str) -> Result<()> {
    for name in databases(dir)?.into_iter().filter(|name| name != live) {
        let path = dir.join(name);
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), %error, "what a compaction left stays until the next start");
        }
    }
    Ok(())
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn unknown_collection(what: impl std::fmt::Display) -> Error {
    let what = what.to_string();
    let error = Error::not_found("UNKNOWN_COLLECTION", format!("there is no collection {what}"));
    error.about("collection", what.trim_matches('"'))
}
