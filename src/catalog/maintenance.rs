//! One thread seals and merges, so that neither writes nor searches wait for a build.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::time::{Duration, Instant};

use ::metrics::counter;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::indexes::Site;
use super::{Catalog, INDEX_FAILED, Indexes};
use crate::error::{Error, Result};
use crate::lock::{Line, check_free};
use crate::{metrics, task};

/// A head of at least so many points that did not change meanwhile is sealed although it is not
/// full: from there on a graph answers faster than a scan.
const IDLE_POINTS: usize = 2048;
/// How long what failed rests before it is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Niceness of the threads that build what can wait: searches and encoding go first.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Threads that build. They hold no lock of the catalog or the store and wait for none for long: a thread of a pool that
/// waits for a part of its work takes up other work meanwhile, which might wait for the lock that it holds itself.
pub struct Pool(ThreadPool);

impl Pool {
    /// So many threads, each of which begins with `start`.
    pub fn new(threads: usize, start: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("index-build-{i}"))
            .start_handler(move |_| start())
            .build()
            .map(Self)
            .map_err(|e| failed(&e))
    }

    /// Waits for a build.
    pub fn run<T: Send>(&self, build: impl FnOnce() -> T + Send) -> T {
        check_free("a build");
        self.0.install(build)
    }
}

/// The threads that build.
pub struct Builders {
    /// For what must keep up with writes: one thread alone uses them. Encoding can leave a thread that steps back a tenth
    /// of a core; heads would grow faster than they are sealed, and each search scans them.
    pub due: Pool,
    /// For what can wait for a quiet hour, by whoever has the turn: a build that is begun beside another may have to wait
    /// for all of that. A thread that stepped back may not be allowed to step forward again, hence threads of their own.
    pub idle: Pool,
    /// Who uses them.
    pub idle_line: Line,
}

impl Builders {
    /// So many threads for either kind of work.
    pub fn new(threads: usize) -> Result<Self> {
        let (due, idle) = (Pool::new(threads, || ())?, Pool::new(threads, step_back)?);
        Ok(Self { due, idle, idle_line: Line::default() })
    }
}

/// Collections that something is due for, for the thread.
pub struct Work {
    sender: mpsc::Sender<u32>,
    /// Whether any has come since the thread last looked.
    has_come: AtomicBool,
}

impl Work {
    /// What sends to the receiver.
    pub fn new() -> (Self, mpsc::Receiver<u32>) {
        let (sender, receiver) = mpsc::channel();
        (Self { sender, has_come: AtomicBool::new(false) }, receiver)
    }

    /// Has a collection looked at.
    pub fn wake(&self, cid: u32) {
        self.has_come.store(true, Ordering::Relaxed);
        // A closed channel means that the program is stopping.
        let _ = self.sender.send(cid);
    }

    /// Whether what can wait should make way.
    fn is_due(&self) -> bool {
        self.has_come.load(Ordering::Relaxed)
    }
}

/// Starts the thread; it ends with the catalog.
pub fn start(catalog: Weak<Catalog>, jobs: mpsc::Receiver<u32>, idle: Duration) -> Result<()> {
    std::thread::Builder::new()
        .name("index-maintenance".to_owned())
        .spawn(move || run(&catalog, &jobs, idle))
        .map(drop)
        .map_err(|e| failed(&e))
}

fn failed(error: &dyn std::error::Error) -> Error {
    Error::internal("NO_THREAD", format!("the index threads can't be started: {error}"))
}

/// Gives the calling thread a lower priority; where that is not possible it keeps its own.
fn step_back() {
    // On Linux a niceness is a thread's own, and `None` means the calling one.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

fn run(catalog: &Weak<Catalog>, jobs: &mpsc::Receiver<u32>, idle: Duration) {
    let mut unsealed: HashMap<u32, usize> = HashMap::new();
    let mut failed: HashMap<u32, Instant> = HashMap::new();
    loop {
        let job = jobs.recv_timeout(idle);
        let Some(catalog) = catalog.upgrade() else { return };
        failed.retain(|_, at| at.elapsed() < RETRY);
        catalog.work.has_come.store(false, Ordering::Relaxed);
        match job {
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let indexes = catalog.all_indexes();
                // What failed before is tried again at least now.
                let behind = indexes.iter().filter(|(_, indexes)| indexes.has_work());
                behind.for_each(|(cid, _)| maintain(&catalog, *cid, &mut failed));
                unsealed = settle_idle(&catalog, indexes, &unsealed);
            }
            Ok(cid) => {
                // One pass serves all wishes that wait.
                let waiting: BTreeSet<u32> = [cid].into_iter().chain(jobs.try_iter()).collect();
                waiting.into_iter().for_each(|cid| maintain(&catalog, cid, &mut failed));
            }
        }
    }
}

/// Every commit asks for what could not be done, so what has failed rests for a while.
fn maintain(catalog: &Catalog, cid: u32, failed: &mut HashMap<u32, Instant>) {
    let Some(indexes) = catalog.open_of(cid).map(|open| open.indexes).filter(|indexes| indexes.has_work())
    else {
        return;
    };
    if failed.contains_key(&cid) {
        return;
    }
    let site = Site { pool: &catalog.builders.due, store: &catalog.store, cid };
    if let Err(error) = task::guarded(INDEX_FAILED, || indexes.maintain(site)) {
        // A collection that was deleted meanwhile has no index to build.
        if catalog.open_of(cid).is_none() {
            return;
        }
        counter!(metrics::INDEX_BUILD_FAILURES).increment(1);
        tracing::error!(cid, %error, "sealing or merging failed; the head goes on growing");
        failed.insert(cid, Instant::now());
    }
}

/// Settles the indexes of which as many points are unsealed as the last time, and returns how many each has now. Nothing is
/// settled while somebody compacts: heads must not wait for that.
fn settle_idle(
    catalog: &Catalog,
    indexes: Vec<(u32, Arc<Indexes>)>,
    before: &HashMap<u32, usize>,
) -> HashMap<u32, usize> {
    let mut now = HashMap::new();
    for (cid, indexes) in indexes {
        let idle = before.get(&cid) == Some(&indexes.unsealed());
        if idle
            && indexes.is_unsettled(IDLE_POINTS)
            && let Some(_turn) = catalog.builders.idle_line.try_take()
        {
            let site = Site { pool: &catalog.builders.idle, store: &catalog.store, cid };
            let settle = || indexes.settle(site, IDLE_POINTS, &|| catalog.work.is_due());
            if let Err(error) = task::guarded(INDEX_FAILED, settle) {
                counter!(metrics::INDEX_BUILD_FAILURES).increment(1);
                tracing::error!(cid, %error, "an idle index could not be settled; searches of it are slower");
            }
        }
        now.insert(cid, indexes.unsealed());
    }
    now
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_builds_that_can_wait_step_back() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let builders = Builders::new(1).unwrap();
        assert_eq!(builders.due.run(niceness), niceness());
        assert_eq!(builders.idle.run(niceness), NICENESS.max(niceness()));
    }
}
