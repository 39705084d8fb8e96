use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tracing::Span;

use super::meter::Meter;
use super::options::{Event, FinishReason, Sampling};
use crate::error::{Error, ErrorKind, Result};
use crate::fair::has_room;
use crate::lock::{Condvar, LEAF, Mutex};
use crate::party::Party;

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A generation that waits for a slot.
pub(super) struct Job {
    pub prompt: Vec<u32>,
    pub sampling: Sampling,
    /// Bounded by `max_tokens`.
    pub events: UnboundedSender<Result<Event>>,
    /// On whose behalf.
    pub party: Party,
    pub since: Instant,
    /// What the call was in.
    pub parent: Span,
    /// Ends when the job leaves the queue.
    pub waiting: Span,
}

/// Generations that wait. Parties take turns; those of one party go oldest first.
pub(super) struct Queue {
    state: Mutex<State, LEAF>,
    changed: Condvar,
    capacity: usize,
    pub(super) meter: Meter,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Numbers of the last jobs that were taken for the parties that wait.
    served: HashMap<Party, u64>,
    taken: u64,
    closed: bool,
}

impl Queue {
    pub fn new(capacity: usize, meter: Meter) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), capacity: capacity.max(1), meter }
    }

    pub fn push(&self, job: Job) -> Result<()> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(stopping());
        }
        self.purge(&mut state);
        let waiting = state.waiting.len();
        let own = state.waiting.iter().filter(|other| other.party == job.party).count();
        let others: HashSet<&Party> = state.waiting.iter().map(|other| &other.party).collect();
        let parties = others.len() + usize::from(own == 0);
        if !has_room(self.capacity, waiting, own, parties) {
            self.meter.rejected.increment(1);
            return Err(Error::exhausted(
                "QUEUE_FULL",
                format!("{waiting} generations wait already, at most {} may", self.capacity),
                RETRY_AFTER,
            ));
        }
        state.waiting.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// The oldest one, whose caller is still there, of the party that was served longest ago.
    pub fn take(&self) -> Option<Job> {
        let mut state = self.state.lock();
        self.purge(&mut state);
        let served = |job: &Job| state.served.get(&job.party).copied().unwrap_or(0);
        let (index, _) = state.waiting.iter().enumerate().min_by_key(|(_, job)| served(job))?;
        let job = state.waiting.remove(index)?;
        state.taken += 1;
        let taken = state.taken;
        state.served.insert(job.party.clone(), taken);
        let State { served, waiting, .. } = &mut *state;
        served.retain(|party, last| *last == taken || waiting.iter().any(|job| job.party == *party));
        Some(job)
    }

    /// Drops the jobs whose callers have left.
    fn purge(&self, state: &mut State) {
        let waiting = state.waiting.len();
        state.waiting.retain(|job| !job.events.is_closed());
        let left = waiting - state.waiting.len();
        self.meter.finished(FinishReason::Cancelled).increment(left as u64);
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Waits until there is a job, or the queue is closed.
    pub fn wait(&self) {
        let mut state = self.state.lock();
        while state.waiting.is_empty() && !state.closed {
            self.changed.wait(&mut state);
        }
    }

    /// Turns away all that wait and all that come.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for job in state.waiting.drain(..) {
            // The caller may have left meanwhile.
            let _ = job.events.send(Err(stopping()));
        }
        self.changed.notify_all();
    }
}

/// What the engine's thread holds: when it ends, be it by a panic, its queue is closed, for nobody else would answer
/// what waits.
pub(super) struct Served(pub Arc<Queue>);

impl Drop for Served {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the generator's thread has died; it serves again after a restart");
        }
        self.0.close();
    }
}

pub(super) fn stopping() -> Error {
    Error::new(ErrorKind::Unavailable, "STOPPING", "the generator is stopping or has died")
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    fn job() -> (Job, UnboundedReceiver<Result<Event>>) {
        job_of(Party::Own)
    }

    fn job_of(party: Party) -> (Job, UnboundedReceiver<Result<Event>>) {
        let (events, receiver) = unbounded_channel();
        let (parent, waiting) = (Span::none(), Span::none());
        let sampling = Sampling::default();
        (Job { prompt: vec![1], sampling, events, party, since: Instant::now(), parent, waiting }, receiver)
    }

    #[test]
    fn parties_take_turns_and_have_their_part_of_a_full_queue() {
        let queue = Queue::new(8, Meter::new("test"));
        let mut kept = Vec::new();
        let mut push = |name: &str| {
            let (job, events) = job_of(Party::Key(name.into()));
            kept.push(events);
            queue.push(job).map_err(|error| error.reason)
        };
        (0..8).for_each(|_| push("a").unwrap());
        assert_eq!(push("a"), Err("QUEUE_FULL"));
        (0..4).for_each(|_| push("b").unwrap());
        assert_eq!(push("b"), Err("QUEUE_FULL"));
        let order: Vec<String> =
            std::iter::from_fn(|| queue.take().map(|job| job.party.to_string())).collect();
        assert_eq!(
            order.join(" "),
            "key a key b key a key b key a key b key a key b key a key a key a key a"
        );
    }

    #[test]
    fn a_thread_that_panics_turns_away_what_waits_and_what_comes() {
        let queue = Arc::new(Queue::new(4, Meter::new("test")));
        let (waiting, mut events) = job();
        queue.push(waiting).unwrap();
        let served = Served(Arc::clone(&queue));
        let engine = std::thread::spawn(move || {
            let _served = served;
            panic!("on purpose");
        });
        assert!(engine.join().is_err());
        assert_eq!(events.try_recv().unwrap().unwrap_err().reason, "STOPPING");
        assert_eq!(queue.push(job().0).unwrap_err().reason, "STOPPING");
    }
}
