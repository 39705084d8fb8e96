//! One thread seals and merges, so that neither writes nor searches wait for a build.

use std::collections::HashMap;
use std::sync::{Weak, mpsc};
use std::time::Duration;

use ::metrics::counter;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::Catalog;
use crate::error::{Error, Result};
use crate::metrics;

/// How long nothing may be asked for until heads are looked at.
const IDLE: Duration = Duration::from_secs(10);
/// A head of at least so many points that did not change meanwhile is sealed although it is not
/// full: from there on a graph answers faster than a scan.
const IDLE_POINTS: usize = 2048;
/// Niceness of the threads that build what can wait: searches and encoding go first.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// The threads that build.
pub struct Builders {
    /// For what must keep up with writes. Encoding can leave a thread that steps back a tenth of a core; heads would
    /// grow faster than they are sealed, and each search scans them.
    due: ThreadPool,
    /// For what can wait for a quiet hour. A thread that stepped back may not be allowed to step forward again, hence
    /// threads of their own.
    idle: ThreadPool,
}

impl Builders {
    /// So many threads for either kind of work.
    pub fn new(threads: usize) -> Result<Self> {
        let builder =
            || ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("index-build-{i}"));
        let due = builder().build().map_err(|e| failed(&e))?;
        let idle = builder().start_handler(|_| step_back()).build().map_err(|e| failed(&e))?;
        Ok(Self { due, idle })
    }

    /// Waits for a build that keeps up with writes.
    pub fn due<T: Send>(&self, build: impl FnOnce() -> T + Send) -> T {
        self.due.install(build)
    }

    /// Waits for a build that makes way for all else.
    pub fn idle<T: Send>(&self, build: impl FnOnce() -> T + Send) -> T {
        self.idle.install(build)
    }
}

/// Starts the thread; it ends with the catalog.
pub fn start(catalog: Weak<Catalog>, jobs: mpsc::Receiver<u32>) -> Result<()> {
    std::thread::Builder::new()
        .name("index-maintenance".to_owned())
        .spawn(move || run(&catalog, &jobs))
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

fn run(catalog: &Weak<Catalog>, jobs: &mpsc::Receiver<u32>) {
    let mut unsealed: HashMap<u32, usize> = HashMap::new();
    loop {
        let job = jobs.recv_timeout(IDLE);
        let Some(catalog) = catalog.upgrade() else { return };
        match job {
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) => unsealed = settle_idle(&catalog, &unsealed),
            Ok(cid) => {
                // One pass serves all wishes that wait.
                let mut waiting = vec![cid];
                waiting.extend(jobs.try_iter());
                waiting.sort_unstable();
                waiting.dedup();
                waiting.into_iter().for_each(|cid| maintain(&catalog, cid));
            }
        }
    }
}

fn maintain(catalog: &Catalog, cid: u32) {
    let Some(indexes) = catalog.open_of(cid).map(|open| open.indexes).filter(|indexes| indexes.has_work())
    else {
        return;
    };
    if let Err(error) = catalog.builders.due(|| indexes.maintain(&catalog.store, cid)) {
        counter!(metrics::INDEX_BUILD_FAILURES).increment(1);
        tracing::error!(cid, %error, "sealing or merging failed; the head goes on growing");
    }
}

/// Settles the indexes of which as many points are unsealed as the last time, and returns how many each has now.
fn settle_idle(catalog: &Catalog, before: &HashMap<u32, usize>) -> HashMap<u32, usize> {
    let mut now = HashMap::new();
    for (cid, indexes) in catalog.all_indexes() {
        let idle = before.get(&cid) == Some(&indexes.unsealed());
        if idle
            && indexes.is_unsettled(IDLE_POINTS)
            && let Err(error) = catalog.builders.idle(|| indexes.settle(&catalog.store, cid, IDLE_POINTS))
        {
            counter!(metrics::INDEX_BUILD_FAILURES).increment(1);
            tracing::error!(cid, %error, "an idle index could not be settled; searches of it are slower");
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
        assert_eq!(builders.due(niceness), niceness());
        assert_eq!(builders.idle(niceness), NICENESS.max(niceness()));
    }
}
