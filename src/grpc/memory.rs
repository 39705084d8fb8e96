//! The memory that calls share: who has how much of it, and who waits for more.
//!
//! 1. Nobody takes more than it leaves free for all others. So however much callers take, a further one finds something:
//!    the first gets half of the memory at most, the next half of what is left, and so on.
//! 2. Calls with one message never wait: where there is no room they are refused. So they always end.
//! 3. Streams wait. They take room as their bytes come, so that several may stand still half way. For that a place is
//!    kept which is lent to one of them at a time, until its message and its document are whole, and which has room for
//!    the largest of both. So one of them always goes on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::error::{Error, ErrorKind, Result};
use crate::party::Party;

/// When a caller should try again where memory is short.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What is no larger is granted from the spare bytes too: answers of streams, which are not to break for want of them.
const SMALL: usize = 64 << 10;

/// Memory that calls share.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    /// Bytes for all.
    common: usize,
    /// Bytes beside them for what is small and cannot wait.
    spare: usize,
    /// Bytes of the place that is lent to one stream at a time.
    kept: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes that are taken of the common part, and by whom.
    used: usize,
    parties: HashMap<Party, usize>,
    /// Bytes that are taken of the kept place; also by calls that had it before.
    lent: usize,
    /// The call that has the kept place.
    tenant: Option<u64>,
    waiting: BTreeMap<u64, Waiting>,
    calls: u64,
}

/// A call that waits, by its number.
struct Waiting {
    party: Party,
    waker: Waker,
}

impl Memory {
    /// So many bytes for calls that do not wait.
    pub fn new(common: usize) -> Self {
        Self(Arc::new(Shared { common, spare: 0, kept: 0, state: Mutex::default() }))
    }

    /// So many bytes for streams, `spare` ones for what is small, and a place of `kept` bytes for one of them.
    pub fn with_kept_place(common: usize, spare: usize, kept: usize) -> Self {
        Self(Arc::new(Shared { common, spare, kept, state: Mutex::default() }))
    }

    /// Most bytes that are taken at once.
    pub fn bytes(&self) -> usize {
        self.0.common.saturating_add(self.0.spare).saturating_add(self.0.kept)
    }

    /// Most bytes that one party can have where there are no others.
    fn share(&self) -> usize {
        self.0.common / 2
    }

    /// A number for a call, in the order of the calls.
    pub(super) fn number(&self) -> u64 {
        let mut state = self.0.state.lock();
        state.calls += 1;
        state.calls
    }

    /// Takes bytes for a call that has `held` already, or refuses.
    ///
    /// # Errors
    /// `REQUEST_MEMORY_FULL` where others take it up; `CALL_TOO_LARGE` where there is never so much.
    pub(super) fn take(&self, party: &Party, held: usize, bytes: usize) -> Result<Grant> {
        if held.saturating_add(bytes) > self.share().max(self.0.kept) {
            let most = self.share().max(self.0.kept) >> 10;
            let message =
                format!("expected a call that takes at most {most} KiB of memory, got one for more");
            return Err(Error::new(ErrorKind::ResourceExhausted, "CALL_TOO_LARGE", message));
        }
        let there_is =
            if bytes <= SMALL { self.0.common.saturating_add(self.0.spare) } else { self.0.common };
        let mut state = self.0.state.lock();
        if !state.fits(party, bytes, there_is) {
            return Err(self.short());
        }
        Ok(self.grant(&mut state, party, bytes, 0))
    }

    /// Takes bytes for a stream, once there is room. Whoever waits and gives up says so with [`leave`](Self::leave).
    pub(super) fn poll_take(
        &self,
        call: u64,
        party: &Party,
        bytes: usize,
        context: &mut Context<'_>,
    ) -> Poll<Grant> {
        let mut state = self.0.state.lock();
        if state.fits(party, bytes, self.0.common) {
            state.waiting.remove(&call);
            return Poll::Ready(self.grant(&mut state, party, bytes, 0));
        }
        let waiting = Waiting { party: party.clone(), waker: context.waker().clone() };
        state.waiting.insert(call, waiting);
        if state.tenant.is_none() && state.next_tenant() == Some(call) {
            state.tenant = Some(call);
        }
        if state.tenant != Some(call) || state.lent.saturating_add(bytes) > self.0.kept {
            return Poll::Pending;
        }
        state.waiting.remove(&call);
        Poll::Ready(self.grant(&mut state, party, 0, bytes))
    }

    /// Whether a call has the kept place while others wait for it.
    pub(super) fn is_in_the_way(&self, call: u64) -> bool {
        let state = self.0.state.lock();
        state.tenant == Some(call) && state.waiting.keys().any(|&other| other != call)
    }

    /// Whether a call has the kept place.
    pub(super) fn is_tenant(&self, call: u64) -> bool {
        self.0.state.lock().tenant == Some(call)
    }

    /// A call waits no more, and needs the kept place no more if it has it.
    pub(super) fn leave(&self, call: u64) {
        let mut state = self.0.state.lock();
        let waited = state.waiting.remove(&call).is_some();
        let had_it = state.tenant == Some(call);
        if had_it {
            state.tenant = None;
        }
        if waited || had_it {
            wake_all(state);
        }
    }

    /// The error where there is no room.
    pub(super) fn short(&self) -> Error {
        let message = format!(
            "calls take up the {} KiB of memory that there are for them, or this caller has its share of it",
            self.0.common >> 10
        );
        Error::exhausted("REQUEST_MEMORY_FULL", message, RETRY_AFTER)
    }

    fn grant(&self, state: &mut State, party: &Party, common: usize, lent: usize) -> Grant {
        state.used += common;
        state.lent += lent;
        if common > 0 {
            *state.parties.entry(party.clone()).or_default() += common;
        }
        Grant { memory: self.clone(), party: party.clone(), common, lent }
    }
}

impl State {
    /// Whether an party may have more: not more than is free for all others then.
    fn fits(&self, party: &Party, bytes: usize, common: usize) -> bool {
        let own = self.parties.get(party).copied().unwrap_or_default().saturating_add(bytes);
        common.checked_sub(self.used.saturating_add(bytes)).is_some_and(|free| own <= free)
    }

    /// Who gets the kept place next: of those whose parties have the least, the first call.
    fn next_tenant(&self) -> Option<u64> {
        let has = |waiting: &Waiting| self.parties.get(&waiting.party).copied().unwrap_or_default();
        self.waiting.iter().min_by_key(|(call, waiting)| (has(waiting), **call)).map(|(call, _)| *call)
    }
}

/// Bytes that are taken until this is dropped.
pub(super) struct Grant {
    memory: Memory,
    party: Party,
    common: usize,
    lent: usize,
}

impl Grant {
    pub fn bytes(&self) -> usize {
        self.common + self.lent
    }

    /// Adds what was taken from the same memory for the same party.
    pub fn merge(&mut self, mut more: Grant) {
        debug_assert!(Arc::ptr_eq(&self.memory.0, &more.memory.0) && self.party == more.party);
        self.common += std::mem::take(&mut more.common);
        self.lent += std::mem::take(&mut more.lent);
    }

    /// Takes so many bytes out of it, or all that it has.
    pub fn split(&mut self, bytes: usize) -> Grant {
        let lent = self.lent.min(bytes);
        let common = self.common.min(bytes - lent);
        self.lent -= lent;
        self.common -= common;
        Grant { memory: self.memory.clone(), party: self.party.clone(), common, lent }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if self.bytes() == 0 {
            return;
        }
        let mut state = self.memory.0.state.lock();
        state.used -= self.common;
        state.lent -= self.lent;
        if let Some(own) = state.parties.get_mut(&self.party) {
            *own -= self.common;
            if *own == 0 {
                state.parties.remove(&self.party);
            }
        }
        wake_all(state);
    }
}

/// Wakes those who wait, once the state is free.
fn wake_all(state: MutexGuard<'_, State>) {
    let wakers: Vec<Waker> = state.waiting.values().map(|waiting| waiting.waker.clone()).collect();
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
}

#[cfg(test)]
impl Memory {
    /// Bytes that are taken of both parts.
    pub fn taken(&self) -> usize {
        let state = self.0.state.lock();
        state.used + state.lent
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    fn key(name: &str) -> Party {
        Party::Key(name.into())
    }

    fn poll(memory: &Memory, call: u64, party: &Party, bytes: usize) -> Option<Grant> {
        match memory.poll_take(call, party, bytes, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(grant) => Some(grant),
            Poll::Pending => None,
        }
    }

    /// Takes as much as there is, in parts of this size.
    fn greedy(memory: &Memory, party: &Party, part: usize) -> Vec<Grant> {
        std::iter::from_fn(|| memory.take(party, 0, part).ok()).collect()
    }

    #[test]
    fn whoever_takes_all_that_there_is_leaves_as_much() {
        let memory = Memory::new(1000);
        let first = greedy(&memory, &key("a"), 10);
        assert_eq!(first.len(), 50);
        let second = greedy(&memory, &key("b"), 10);
        assert_eq!(second.len(), 25);
        let third = greedy(&memory, &key("c"), 10);
        assert_eq!(third.len(), 12);
        assert_eq!(memory.take(&key("a"), 0, 10).err().unwrap().reason, "REQUEST_MEMORY_FULL");
        assert!(memory.take(&key("d"), 0, 10).is_ok());
        drop(first);
        assert!(memory.take(&key("c"), 0, 200).is_ok());
        drop((second, third));
        assert_eq!(memory.taken(), 0);
        assert!(memory.0.state.lock().parties.is_empty(), "nothing is kept of who has nothing");
    }

    #[test]
    fn what_is_never_there_is_refused_as_such() {
        let memory = Memory::new(1000);
        let error = memory.take(&key("a"), 400, 101).err().unwrap();
        assert_eq!((error.reason, error.retry_after), ("CALL_TOO_LARGE", None));
        assert!(memory.take(&key("a"), 400, 100).is_ok());
    }

    #[test]
    fn the_kept_place_goes_to_whose_party_has_least_and_then_to_the_next() {
        let memory = Memory::with_kept_place(1000, 0, 300);
        let full = greedy(&memory, &key("a"), 10);
        let other = greedy(&memory, &key("b"), 10);
        let (first, second, third) = (memory.number(), memory.number(), memory.number());
        let lent = poll(&memory, first, &key("a"), 200).unwrap();
        assert!(poll(&memory, second, &key("a"), 10).is_none(), "one at a time");
        assert!(poll(&memory, third, &key("b"), 10).is_none());
        assert!(memory.is_in_the_way(first));
        assert!(poll(&memory, first, &key("a"), 101).is_none(), "it is no larger than that");
        memory.leave(first);
        assert!(poll(&memory, second, &key("a"), 10).is_none(), "another party has less");
        let next = poll(&memory, third, &key("b"), 100).unwrap();
        assert!(poll(&memory, third, &key("b"), 10).is_none(), "what was lent before is not there yet");
        drop(lent);
        assert!(poll(&memory, third, &key("b"), 200).is_some());
        memory.leave(third);
        assert!(poll(&memory, second, &key("a"), 10).is_some());
        memory.leave(second);
        drop((full, other, next));
        assert_eq!(memory.taken(), 0);
        let state = memory.0.state.lock();
        assert!(state.tenant.is_none() && state.waiting.is_empty());
    }

    #[test]
    fn what_is_small_has_spare_bytes() {
        let memory = Memory::with_kept_place(4 * SMALL, 2 * SMALL, 100);
        let full = greedy(&memory, &key("a"), 2 * SMALL);
        assert!(memory.take(&key("a"), 0, SMALL + 1).is_err());
        assert!(memory.take(&key("a"), 0, SMALL).is_ok());
        drop(full);
        assert_eq!(memory.taken(), 0);
    }

    #[test]
    fn parts_of_a_grant_are_as_much_as_it_was() {
        let memory = Memory::with_kept_place(1000, 0, 100);
        let mut grant = memory.take(&key("a"), 0, 300).unwrap();
        let mut part = grant.split(100);
        assert_eq!((grant.bytes(), part.bytes(), memory.taken()), (200, 100, 300));
        assert_eq!(grant.split(500).bytes(), 200);
        part.merge(memory.take(&key("a"), 0, 50).unwrap());
        assert_eq!((part.bytes(), memory.taken()), (150, 150));
        drop((grant, part));
        assert_eq!(memory.taken(), 0);
    }

    /// A stream that takes a document part by part, has it worked on for a while, and takes the next.
    struct Stream {
        call: u64,
        party: Party,
        documents: Vec<usize>,
        came: usize,
        grant: Option<Grant>,
        /// Whole documents, with the steps that the work on them still takes.
        worked_on: Vec<(usize, Grant)>,
    }

    impl Stream {
        /// Whether anything went on.
        fn step(&mut self, memory: &Memory, part: usize, work: usize) -> bool {
            let before = self.worked_on.len();
            self.worked_on.iter_mut().for_each(|(left, _)| *left = left.saturating_sub(1));
            self.worked_on.retain(|(left, _)| *left > 0);
            let went_on = before > 0;
            let Some(&size) = self.documents.last() else { return went_on };
            if self.came == size {
                self.documents.pop();
                self.came = 0;
                self.worked_on.extend(self.grant.take().map(|grant| (work, grant)));
                memory.leave(self.call);
                return true;
            }
            let more = part.min(size - self.came);
            let Some(more) = poll(memory, self.call, &self.party, more) else { return went_on };
            self.came += more.bytes();
            match &mut self.grant {
                Some(grant) => grant.merge(more),
                None => self.grant = Some(more),
            }
            true
        }
    }

    proptest! {
        /// Whatever order streams come in: all of their documents get through, for none is larger than the kept place;
        /// no more is taken than there is, and something is always free.
        #[test]
        fn honest_streams_always_get_to_the_end(
            common in 100_usize..2000,
            streams in prop::collection::vec(
                (0_usize..4, prop::collection::vec(1_usize..=500, 1..5)), 1..12),
            order in prop::collection::vec((0_usize..12, 1_usize..200, 1_usize..10), 50..400),
        ) {
            let memory = Memory::with_kept_place(common, 0, 500);
            let mut streams: Vec<Stream> = streams
                .into_iter()
                .map(|(party, documents)| Stream {
                    call: memory.number(),
                    party: key(&party.to_string()),
                    documents,
                    came: 0,
                    grant: None,
                    worked_on: Vec::new(),
                })
                .collect();
            let count = streams.len();
            for (which, part, work) in order {
                streams[which % count].step(&memory, part, work);
                prop_assert!(memory.taken() <= memory.bytes());
                let state = memory.0.state.lock();
                let free = common - state.used;
                prop_assert!(state.parties.values().sum::<usize>() == state.used);
                prop_assert!(free > 0 || state.used == 0);
            }
            // From here on each has its turn: in every round something goes on, until all is done.
            while streams.iter().any(|stream| !stream.documents.is_empty() || !stream.worked_on.is_empty()) {
                let mut went_on = false;
                for stream in &mut streams {
                    went_on |= stream.step(&memory, 70, 3);
                }
                prop_assert!(went_on, "all stand still");
            }
            prop_assert_eq!(memory.taken(), 0);
        }
    }
}
