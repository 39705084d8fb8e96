//! Locks with a rank. A thread takes them in rising order only, and holds none of them while it waits for a thread pool,
//! a channel or a condition: so no two threads can wait for each other.
//!
//! Builds with debug assertions, such as those of all tests, check both each time and panic where a rule is broken, whether
//! or not another thread is there to wait for. Other builds check nothing and keep nothing.
//!
//! What takes long and must be done by one at a time has a [`Line`] instead: a turn is no lock, so that who has it may wait
//! for others.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::task::{Cancelled, check_cancelled};

/// Position in [`RANKS`].
pub type Rank = u8;

/// Of [`RANKS`], by name.
pub const SNAPSHOTS: Rank = 0;
/// Of [`RANKS`], by name.
pub const KEYWORDS: Rank = 1;
/// Of [`RANKS`], by name.
pub const MANIFEST: Rank = 2;
/// Of [`RANKS`], by name.
pub const WRITER: Rank = 3;
/// Of [`RANKS`], by name.
pub const OPEN: Rank = 4;
/// Of [`RANKS`], by name.
pub const FILTERS: Rank = 5;
/// Of [`RANKS`], by name.
pub const EVALUATIONS: Rank = 6;
/// Of [`RANKS`], by name.
pub const LEAF: Rank = 7;

/// The ranks in the order in which a thread may take them: name, and what it guards. docs/RELIABILITY.md has this table.
pub const RANKS: [(&str, &str); 8] = [
    ("SNAPSHOTS", "one snapshot is made or read back at a time; held for as long as that takes"),
    ("KEYWORDS", "the writer of a collection's keyword index; held while it is written or made anew"),
    ("MANIFEST", "which segments a level's stored manifest names; held while it is stored"),
    (
        "WRITER",
        "the store: one writes at a time; held for a commit, for a batch of anything else, or for a compaction's copy",
    ),
    ("OPEN", "which collections are open"),
    ("FILTERS", "the metadata index of a collection; held for one step of a filter, or one change"),
    ("EVALUATIONS", "which filters are being asked, so that changes meanwhile are noted for them"),
    (
        "LEAF",
        "what one statement or a short block reads or changes, such as the head of an index; no lock is taken under it",
    ),
];

/// How often a lock that may be given up is asked for again.
const LOOK: Duration = Duration::from_millis(50);

/// A mutex of a rank.
#[derive(Default)]
pub struct Mutex<T, const RANK: Rank>(parking_lot::Mutex<T>);

/// A reader-writer lock of a rank.
#[derive(Default)]
pub struct RwLock<T, const RANK: Rank>(parking_lot::RwLock<T>);

/// A lock that is held.
pub struct Guard<G> {
    guard: G,
    // Dropped after the guard: what is noted as held may be free already, and never the other way round.
    held: Held,
}

/// A [`Mutex`] that is held.
pub type MutexGuard<'a, T> = Guard<parking_lot::MutexGuard<'a, T>>;
/// A [`RwLock`] that is held for reading.
pub type ReadGuard<'a, T> = Guard<parking_lot::RwLockReadGuard<'a, T>>;
/// A [`RwLock`] that is held for writing.
pub type WriteGuard<'a, T> = Guard<parking_lot::RwLockWriteGuard<'a, T>>;

impl<T, const RANK: Rank> Mutex<T, RANK> {
    /// A free mutex.
    pub const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    /// Waits until it is free.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let held = Held::note(RANK);
        Guard { guard: self.0.lock(), held }
    }

    /// Waits until it is free, but not for longer.
    pub fn try_lock_for(&self, most: Duration) -> Option<MutexGuard<'_, T>> {
        let held = Held::note(RANK);
        self.0.try_lock_for(most).map(|guard| Guard { guard, held })
    }

    /// Waits until it is free, or until nobody waits for the caller any more.
    ///
    /// # Errors
    /// `CANCELLED`.
    pub fn lock_until(&self, is_cancelled: Cancelled<'_>) -> crate::error::Result<MutexGuard<'_, T>> {
        loop {
            check_cancelled(is_cancelled)?;
            if let Some(guard) = self.try_lock_for(LOOK) {
                return Ok(guard);
            }
        }
    }

    /// What it guards, for who has all of it.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T> MutexGuard<'_, T> {
    /// Hands the lock to the thread that has waited longest, if there is one.
    pub fn unlock_fair(self) {
        let Self { guard, held: _held } = self;
        parking_lot::MutexGuard::unlock_fair(guard);
    }
}

impl<T, const RANK: Rank> RwLock<T, RANK> {
    /// A free lock.
    pub const fn new(value: T) -> Self {
        Self(parking_lot::RwLock::new(value))
    }

    /// Waits until nobody writes.
    pub fn read(&self) -> ReadGuard<'_, T> {
        let held = Held::note(RANK);
        Guard { guard: self.0.read(), held }
    }

    /// Waits until nobody reads or writes.
    pub fn write(&self) -> WriteGuard<'_, T> {
        let held = Held::note(RANK);
        Guard { guard: self.0.write(), held }
    }
}

impl<G: Deref> Deref for Guard<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Guard<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

impl<T: fmt::Debug, const RANK: Rank> fmt::Debug for Mutex<T, RANK> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: fmt::Debug, const RANK: Rank> fmt::Debug for RwLock<T, RANK> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A condition that threads wait for.
#[derive(Default)]
pub struct Condvar(parking_lot::Condvar);

impl Condvar {
    /// A condition.
    pub const fn new() -> Self {
        Self(parking_lot::Condvar::new())
    }

    /// Waits for a notice, without the lock meanwhile; no other may be held.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        check_waiting(1, "a condition");
        self.0.wait(&mut guard.guard);
    }

    /// Wakes one thread that waits.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all threads that wait.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A line in which one at a time has the turn, in the order in which they came. Whoever waits needs no thread for it, and
/// leaves the line when the future is dropped. Who has a turn of one line may wait in another where that is documented; the
/// threads of a pool never do.
#[derive(Debug)]
pub struct Line(Arc<Semaphore>);

/// A turn. Dropped, it is the next one's.
#[derive(Debug)]
pub struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Default for Line {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Line {
    /// Waits for the turn.
    pub async fn wait(&self) -> Turn {
        // The line is never closed, so there is always one.
        Turn { _permit: self.0.clone().acquire_owned().await.ok() }
    }

    /// The turn, if nobody has it or waits for it.
    pub fn try_take(&self) -> Option<Turn> {
        self.0.clone().try_acquire_owned().ok().map(|permit| Turn { _permit: Some(permit) })
    }
}

/// To be called before a thread waits for others, such as those of a pool: it may hold no lock.
pub fn check_free(what: &str) {
    check_waiting(0, what);
}

#[cfg(debug_assertions)]
use checks::{Held, check_waiting};

#[cfg(debug_assertions)]
mod checks {
    use std::cell::RefCell;

    use super::{RANKS, Rank};

    thread_local! {
        /// Ranks of the locks that this thread holds or waits for.
        static MINE: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
    }

    /// A lock that its thread holds.
    pub struct Held(Rank);

    impl Held {
        pub fn note(rank: Rank) -> Self {
            let greatest = MINE.with_borrow(|mine| mine.iter().max().copied());
            let above = greatest.filter(|greatest| *greatest >= rank).map(name);
            assert!(above.is_none(), "a lock of the rank {} is asked for under one of {above:?}", name(rank));
            MINE.with_borrow_mut(|mine| mine.push(rank));
            Self(rank)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            // A thread that ends may have lost its list already.
            let _ = MINE.try_with(|mine| {
                let mut mine = mine.borrow_mut();
                if let Some(at) = mine.iter().rposition(|rank| *rank == self.0) {
                    mine.remove(at);
                }
            });
        }
    }

    pub fn check_waiting(most: usize, what: &str) {
        MINE.with_borrow(|mine| {
            let names: Vec<&str> = mine.iter().map(|rank| name(*rank)).collect();
            assert!(mine.len() <= most, "a thread waits for {what} and holds {names:?}");
        });
    }

    fn name(rank: Rank) -> &'static str {
        RANKS.get(usize::from(rank)).map_or("?", |(name, _)| name)
    }
}

#[cfg(not(debug_assertions))]
use no_checks::{Held, check_waiting};

#[cfg(not(debug_assertions))]
mod no_checks {
    use super::Rank;

    pub struct Held;

    impl Held {
        #[inline]
        pub fn note(_rank: Rank) -> Self {
            Self
        }
    }

    #[inline]
    pub fn check_waiting(_most: usize, _what: &str) {}
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn panics(work: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(work)).is_err()
    }

    #[test]
    fn locks_are_taken_in_rising_order_and_none_is_held_by_who_waits() {
        let writer = Mutex::<(), WRITER>::default();
        let open = RwLock::<u32, OPEN>::new(1);
        let (other, leaf) = (RwLock::<u32, OPEN>::new(2), Mutex::<(), LEAF>::default());
        {
            let _writer = writer.lock();
            let _open = open.read();
            let _leaf = leaf.lock();
        }
        {
            let _open = open.write();
            assert!(panics(|| drop(writer.lock())), "the other way round");
            assert!(panics(|| drop(other.read())), "of one rank");
            assert!(panics(|| drop(open.read())), "the same once more");
            assert!(panics(|| check_free("a pool")));
            drop(leaf.lock());
        }
        // What was refused is not taken for held, and what was let go is free.
        check_free("a pool");
        writer.lock().unlock_fair();
        drop(writer.lock());
        let condition = Condvar::new();
        let _writer = writer.lock();
        assert!(panics(|| condition.wait(&mut leaf.lock())), "with the writer's lock");
        drop(leaf.lock());
    }

    #[test]
    fn who_leaves_does_not_wait_for_a_lock() {
        let lock = Mutex::<(), SNAPSHOTS>::default();
        let held = lock.lock();
        std::thread::scope(|scope| {
            let left = scope.spawn(|| lock.lock_until(&|| true).map(drop).unwrap_err().reason);
            assert_eq!(left.join().unwrap(), "CANCELLED");
        });
        drop(held);
        assert!(lock.lock_until(&|| false).is_ok());
    }

    #[test]
    fn the_documentation_has_this_table() {
        let written = std::fs::read_to_string("../../docs/RELIABILITY.md").unwrap();
        for (name, meaning) in RANKS {
            let line = format!("| `{name}` | {meaning} |");
            assert!(written.contains(&line), "docs/RELIABILITY.md lacks {line}");
        }
    }
}
