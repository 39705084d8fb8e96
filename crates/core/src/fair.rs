//! What parties share: places that they take turns for, and counts of which each may have its part.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::party::Party;

/// A number of places that work waits for. The next free ones go to the party that holds the fewest, and among equals to
/// the one that was served longest ago; within a party, in the order of the calls. So a party waits until one of the
/// others gives places back, however much these have waiting.
#[derive(Debug, Clone)]
pub struct Fair {
    state: Arc<Mutex<State>>,
    total: usize,
}

#[derive(Debug)]
struct State {
    free: usize,
    parties: HashMap<Party, Turns>,
    /// Counts what was granted.
    grants: u64,
    /// Counts who came.
    tickets: u64,
}

/// What a party holds and waits for.
#[derive(Debug, Default)]
struct Turns {
    held: usize,
    /// Number of its last grant.
    served: u64,
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    places: usize,
    grant: oneshot::Sender<Places>,
}

/// Places that are held until they are dropped.
#[derive(Debug)]
pub struct Places {
    fair: Fair,
    party: Party,
    places: usize,
}

/// A place in the line, which is left when it is dropped.
struct Ticket<'a> {
    fair: &'a Fair,
    party: &'a Party,
    number: u64,
    is_served: bool,
}

impl Fair {
    /// So many places, at least one.
    pub fn new(total: usize) -> Self {
        let total = total.max(1);
        let state = State { free: total, parties: HashMap::new(), grants: 0, tickets: 0 };
        Self { state: Arc::new(Mutex::new(state)), total }
    }

    /// Waits for so many places, at most all that there are, on behalf of the party of the call. Dropping the future
    /// leaves the line.
    pub async fn take(&self, places: usize) -> Places {
        let party = Party::current();
        let places = places.clamp(1, self.total);
        loop {
            let (grant, granted) = oneshot::channel();
            let number = {
                let mut state = self.state.lock();
                state.tickets += 1;
                let ticket = state.tickets;
                let turns = state.parties.entry(party.clone()).or_default();
                turns.waiting.push_back(Waiter { ticket, places, grant });
                ticket
            };
            let mut ticket = Ticket { fair: self, party: &party, number, is_served: false };
            self.serve();
            // The line is never closed: a waiter goes by being served, or with this future.
            if let Ok(places) = granted.await {
                ticket.is_served = true;
                return places;
            }
        }
    }

    /// Grants what is free.
    fn serve(&self) {
        loop {
            let next = self.state.lock().next();
            let Some((party, waiter)) = next else { return };
            let places = Places { fair: self.clone(), party, places: waiter.places };
            // A caller who has left in between gives its places back by this drop, which serves the others.
            drop(waiter.grant.send(places));
        }
    }
}

impl State {
    /// Takes places for the next in turn, if there are as many as it wants: smaller wishes do not pass it.
    fn next(&mut self) -> Option<(Party, Waiter)> {
        let waiting = self.parties.iter_mut().filter(|(_, turns)| !turns.waiting.is_empty());
        let (party, turns) = waiting.min_by_key(|(_, turns)| (turns.held, turns.served))?;
        turns.waiting.front().filter(|waiter| waiter.places <= self.free)?;
        let waiter = turns.waiting.pop_front()?;
        self.grants += 1;
        turns.served = self.grants;
        turns.held += waiter.places;
        self.free -= waiter.places;
        Some((party.clone(), waiter))
    }

    fn forget_if_idle(&mut self, party: &Party) {
        if self.parties.get(party).is_some_and(|turns| turns.held == 0 && turns.waiting.is_empty()) {
            self.parties.remove(party);
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.is_served {
            return;
        }
        {
            let mut state = self.fair.state.lock();
            if let Some(turns) = state.parties.get_mut(self.party) {
                turns.waiting.retain(|waiter| waiter.ticket != self.number);
            }
            state.forget_if_idle(self.party);
        }
        // It may have kept others waiting for fewer places.
        self.fair.serve();
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        {
            let mut state = self.fair.state.lock();
            state.free += self.places;
            if let Some(turns) = state.parties.get_mut(&self.party) {
                turns.held = turns.held.saturating_sub(self.places);
            }
            state.forget_if_idle(&self.party);
        }
        self.fair.serve();
    }
}

/// A count of what parties have, which is refused above a total. A party that has less than an equal part of the total
/// may still add to it, so that one party cannot have others refused.
#[derive(Debug)]
pub struct Shares {
    total: usize,
    counts: Mutex<HashMap<Party, usize>>,
}

/// A part of a count, until it is dropped.
#[derive(Debug)]
pub struct Share<'a> {
    shares: &'a Shares,
    party: Party,
    count: usize,
}

impl Shares {
    /// None yet of such a total.
    pub fn new(total: usize) -> Self {
        Self { total, counts: Mutex::default() }
    }

    /// Adds to the count of the party of the call.
    ///
    /// # Errors
    /// The count of all, where that has reached the total and the party its part.
    pub fn add(&self, count: usize) -> Result<Share<'_>, usize> {
        let party = Party::current();
        let mut counts = self.counts.lock();
        let all = counts.values().sum();
        let own = counts.get(&party).copied();
        let parties = counts.len() + usize::from(own.is_none());
        if !has_room(self.total, all, own.unwrap_or(0), parties) {
            return Err(all);
        }
        *counts.entry(party.clone()).or_default() += count;
        Ok(Share { shares: self, party, count })
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut counts = self.shares.counts.lock();
        let Some(count) = counts.get_mut(&self.party) else { return };
        *count = count.saturating_sub(self.count);
        if *count == 0 {
            counts.remove(&self.party);
        }
    }
}

/// Whether one of so many parties may add to what it has: while all have less than the total, and above it while it has
/// less than an equal part.
pub fn has_room(total: usize, all: usize, own: usize, parties: usize) -> bool {
    all < total || own < (total / parties.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;
    use futures::future::{BoxFuture, poll_immediate};
    use proptest::prelude::*;

    use super::*;

    fn party(name: &str) -> Party {
        Party::Key(name.into())
    }

    fn wait(fair: &Fair, name: &str, places: usize) -> BoxFuture<'static, Places> {
        let fair = fair.clone();
        party(name).with(async move { fair.take(places).await }).boxed()
    }

    /// Those of the futures that have their places now.
    async fn served(waiting: &mut [BoxFuture<'static, Places>]) -> Vec<Option<Places>> {
        let mut out = Vec::new();
        for future in waiting {
            out.push(poll_immediate(future).await);
        }
        out
    }

    #[tokio::test]
    async fn who_holds_fewest_is_next_however_much_others_wait_for() {
        let fair = Fair::new(2);
        let held = [wait(&fair, "a", 1).await, wait(&fair, "a", 1).await];
        let mut a: Vec<_> = (0..50).map(|_| wait(&fair, "a", 1)).collect();
        assert!(served(&mut a).await.iter().all(Option::is_none));
        let mut b: Vec<_> = (0..2).map(|_| wait(&fair, "b", 1)).collect();
        assert!(served(&mut b).await.iter().all(Option::is_none));
        let [first, second] = held;
        drop(first);
        let got = served(&mut b).await;
        assert!(got[0].is_some() && got[1].is_none(), "one of b, after one of a");
        // Both hold one: the one that was served longest ago is next, which is a.
        drop(second);
        assert!(served(&mut b[1..]).await[0].is_none());
        let now: Vec<_> = served(&mut a).await.into_iter().flatten().collect();
        assert_eq!(now.len(), 1);
    }

    #[tokio::test]
    async fn a_large_wish_is_not_passed_by_small_ones_and_gets_all_that_there_is() {
        let fair = Fair::new(4);
        let held = wait(&fair, "b", 1).await;
        let mut large = [wait(&fair, "a", 100)];
        assert!(served(&mut large).await[0].is_none());
        let mut small = [wait(&fair, "a", 1)];
        assert!(served(&mut small).await[0].is_none());
        drop(held);
        let got = served(&mut large).await.remove(0).unwrap();
        assert_eq!(got.places, 4);
        drop(got);
        assert!(served(&mut small).await[0].is_some());
    }

    #[tokio::test]
    async fn who_leaves_keeps_nobody_waiting() {
        let fair = Fair::new(2);
        let held = wait(&fair, "a", 1).await;
        let mut large = wait(&fair, "b", 2);
        assert!(poll_immediate(&mut large).await.is_none());
        let mut small = [wait(&fair, "a", 1)];
        assert!(served(&mut small).await[0].is_none());
        drop(large);
        assert!(served(&mut small).await[0].is_some());
        // One that was granted its places, and did not look any more.
        let mut left = wait(&fair, "c", 2);
        assert!(poll_immediate(&mut left).await.is_none());
        drop(held);
        drop(left);
        assert!(pin!(wait(&fair, "d", 2)).now_or_never().is_some());
        assert!(fair.state.lock().parties.is_empty(), "nothing is kept of who has left");
    }

    #[test]
    fn a_party_has_its_part_of_a_full_count() {
        let shares = Shares::new(100);
        let add = |name: &str, count| party(name).run(|| shares.add(count));
        let a = add("a", 150).unwrap();
        assert_eq!(add("a", 1).unwrap_err(), 150);
        let b = add("b", 40).unwrap();
        let more = add("b", 40).unwrap();
        assert_eq!(add("b", 1).map(drop), Err(230));
        drop((a, b, more));
        assert!(shares.counts.lock().is_empty());
    }

    proptest! {
        #[test]
        fn all_are_served_and_all_places_come_back(wishes in prop::collection::vec((0_usize..4, 1_usize..9), 1..60), total in 1_usize..8) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let fair = Fair::new(total);
                let tasks: Vec<_> = wishes.iter().enumerate().map(|(index, &(name, places))| {
                    let work = wait(&fair, &name.to_string(), places);
                    tokio::spawn(async move {
                        if index % 7 == 3 {
                            // Leaves at once.
                            drop(poll_immediate(work).await);
                            return;
                        }
                        let _held = work.await;
                        tokio::task::yield_now().await;
                    })
                }).collect();
                for task in tasks {
                    task.await.unwrap();
                }
                let state = fair.state.lock();
                assert_eq!((state.free, state.parties.len()), (total, 0));
            });
        }
    }
}
