//! Who reads, so that nothing goes away beneath a reader.
//!
//! A [`Lease`] is for one collection: once that is deleted or replaced, its rows go when the last lease of it has ended.
//! A [`View`](super::View) is of one moment besides: what is changed or removed later is kept in its version of then
//! until no view needs it any more (`versions.rs`). One thread, the reaper, deletes what has waited for readers. What it
//! has not come to when the program ends is deleted by the next open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Inner, keys, versions};
use crate::error::Result;
use crate::lock::{Condvar, LEAF, Mutex};
use crate::task;

/// Rows that are deleted before others may write.
const BATCH: usize = 512;

/// All readers.
#[derive(Default)]
pub struct Readers {
    state: Mutex<State, LEAF>,
    due: Condvar,
}

#[derive(Default)]
struct State {
    /// How many read each collection.
    leases: BTreeMap<u32, usize>,
    /// Collections that are gone and have readers still.
    retired: BTreeSet<u32>,
    /// How many views there are of each collection at each moment.
    views: BTreeMap<(u32, u64), usize>,
    /// The moment of the latest view. It moves on with each of them.
    moment: u64,
    /// Collections of which versions are kept for views.
    kept: BTreeSet<u32>,
    /// Whether something may go that has waited.
    is_due: bool,
    is_stopping: bool,
}

/// One reader of a collection.
pub struct Lease {
    readers: Arc<Readers>,
    cid: u32,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.readers.state.lock();
        if is_last(&mut state.leases, &self.cid) && state.retired.contains(&self.cid) {
            self.readers.wake(&mut state);
        }
    }
}

/// A moment of a collection that somebody reads.
pub struct Moment {
    readers: Arc<Readers>,
    cid: u32,
    number: u64,
}

impl Moment {
    /// The number of the moment. What is changed later has this number or a greater one.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        let mut state = self.readers.state.lock();
        if is_last(&mut state.views, &(self.cid, self.number)) && state.kept.contains(&self.cid) {
            self.readers.wake(&mut state);
        }
    }
}

/// Takes one away; whether it was the last.
fn is_last<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) -> bool {
    let Some(count) = counts.get_mut(key) else { return false };
    *count -= 1;
    let is_last = *count == 0;
    if is_last {
        counts.remove(key);
    }
    is_last
}

impl Readers {
    /// Begins to read a collection. Whoever asks must find afterwards that the collection is there still.
    pub fn lease(self: &Arc<Self>, cid: u32) -> Lease {
        *self.state.lock().leases.entry(cid).or_default() += 1;
        Lease { readers: self.clone(), cid }
    }

    /// Begins to read a collection as it is now. Called while nobody writes.
    pub fn moment(self: &Arc<Self>, cid: u32) -> Moment {
        let mut state = self.state.lock();
        state.moment += 1;
        let number = state.moment;
        state.views.insert((cid, number), 1);
        Moment { readers: self.clone(), cid, number }
    }

    /// The number under which the version before a change must be kept, where somebody reads the collection as it was.
    /// Called while nobody else writes.
    pub fn keeps(&self, cid: u32) -> Option<u64> {
        let mut state = self.state.lock();
        state.oldest(cid)?;
        state.kept.insert(cid);
        Some(state.moment)
    }

    /// Called when a collection's record is gone: whether nobody reads it, so that its rows may go at once. Else the
    /// reaper deletes them when the last reader has gone.
    pub fn retire(&self, cid: u32) -> bool {
        let mut state = self.state.lock();
        let is_read = state.leases.contains_key(&cid);
        if is_read {
            state.retired.insert(cid);
        }
        !is_read
    }

    fn wake(&self, state: &mut State) {
        state.is_due = true;
        self.due.notify_one();
    }

    /// Ends the reaper.
    pub fn stop(&self) {
        self.state.lock().is_stopping = true;
        self.due.notify_one();
    }

    fn is_stopping(&self) -> bool {
        self.state.lock().is_stopping
    }

    /// Waits until something may go; false when the program stops.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.is_due && !state.is_stopping {
            self.due.wait(&mut state);
        }
        state.is_due = false;
        !state.is_stopping
    }

    /// Takes the collections whose rows may go.
    fn take_retired(&self) -> Vec<u32> {
        let mut state = self.state.lock();
        let (read, unread): (BTreeSet<u32>, BTreeSet<u32>) =
            std::mem::take(&mut state.retired).into_iter().partition(|cid| state.leases.contains_key(cid));
        state.retired = read;
        unread.into_iter().collect()
    }

    /// Collections of which versions are kept, each with the moment before which nobody needs them.
    fn outdated(&self) -> Vec<(u32, u64)> {
        let mut state = self.state.lock();
        let mut outdated = Vec::new();
        for cid in std::mem::take(&mut state.kept) {
            let oldest = state.oldest(cid);
            if oldest.is_some() {
                state.kept.insert(cid);
            }
            // A view that begins from now on has a greater number.
            outdated.push((cid, oldest.unwrap_or(state.moment + 1)));
        }
        outdated
    }
}

impl State {
    /// The earliest moment of a collection that somebody reads.
    fn oldest(&self, cid: u32) -> Option<u64> {
        self.views.range((cid, 0)..=(cid, u64::MAX)).next().map(|((_, moment), _)| *moment)
    }
}

/// The reaper: deletes what has waited for readers, until it is stopped.
pub fn run(inner: &Inner) {
    while inner.readers.wait() {
        // What a panic has left is for the next round, or for the next open.
        let _ = task::guarded("REAPER_FAILED", || {
            reap(inner);
            Ok(())
        });
    }
}

/// Deletes what nobody reads any more.
pub fn reap(inner: &Inner) {
    for cid in inner.readers.take_retired() {
        delete(inner, cid);
    }
    for (cid, oldest) in inner.readers.outdated() {
        let dropped = versions::drop_before(inner, cid, oldest, || inner.readers.is_stopping());
        if let Err(error) = dropped {
            tracing::warn!(cid, %error, "versions that were kept for readers stay until the next start");
        }
    }
}

/// Deletes the rows of a collection that is gone.
pub fn delete(inner: &Inner, cid: u32) {
    if let Err(error) = purge_in_turns(inner, cid) {
        tracing::warn!(cid, %error, "what is left of a deleted collection stays until the next start");
    }
}

/// Deletes all that belongs to a collection's number, and lets others write in between.
fn purge_in_turns(inner: &Inner, cid: u32) -> Result<()> {
    for kind in keys::OWNED {
        let mut is_more = true;
        while is_more && !inner.readers.is_stopping() {
            let writer = inner.writer.lock();
            is_more = inner.live.load_full().purge_some(&keys::owned(kind, cid), BATCH)?;
            writer.unlock_fair();
        }
    }
    let _writer = inner.writer.lock();
    inner.live.load_full().sync()
}
