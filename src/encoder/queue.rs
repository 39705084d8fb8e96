//! One bounded queue of sequences that the session threads take batches from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::meter::{Batch, Meter};
use super::plan::{Sequence, reduce};
use super::trace::Trace;
use crate::error::{Error, ErrorKind, Result};
use crate::fair::has_room;
use crate::lock::{Condvar, LEAF, Mutex};
use crate::model::{EncoderSession, Rows};
use crate::party::Party;
use crate::task;

const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Interactive batches in a row after which bulk work that waits gets one.
const INTERACTIVE_RUN: u32 = 4;
/// Tokens below which work is not shared out among idle sessions: a run costs something whatever its size.
const LEAST_SHARE: usize = 64;
/// Padding that a batch may have whatever its size, for the same reason.
const FREE_PADDING: usize = 24;
/// While interactive work comes in, batches of bulk work are smaller by this factor: a query waits for the batch that
/// runs.
const BULK_CUT: usize = 4;
/// For so long after interactive work.
const INTERACTIVE_MEMORY: Duration = Duration::from_secs(1);
/// Greatest part of a larger batch that may be padding is one in this many.
const PADDING_SHARE: usize = 8;

/// Which work goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Interactive,
    Bulk,
}

/// A finished sequence.
pub(super) struct Done {
    /// One per part.
    pub vectors: Vec<Vec<f32>>,
    pub queue: Duration,
    pub inference: Duration,
}

/// A waiting sequence.
pub(super) struct Unit {
    sequence: Sequence,
    reply: oneshot::Sender<Result<Done>>,
    trace: Arc<Trace>,
    party: Party,
    since: Instant,
    turn: Turn,
}

/// When a sequence is due: by the work that its party has asked for up to it, and among equals by arrival.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    work: u64,
    number: u64,
}

impl Unit {
    /// On behalf of the party of the call.
    pub fn new(sequence: Sequence, reply: oneshot::Sender<Result<Done>>, trace: Arc<Trace>) -> Self {
        let (party, since, turn) = (Party::current(), Instant::now(), Turn::default());
        Self { sequence, reply, trace, party, since, turn }
    }

    fn len(&self) -> usize {
        self.sequence.ids.len()
    }
}

/// Sequences of one class, by length and turn. Parties have equal shares of the work: each sequence is due after the
/// tokens that its party has asked for before it, counted from what is worked on as it comes (start-time fair
/// queueing). So what a party has waiting puts off its own work alone, and nothing waits for ever.
#[derive(Default)]
struct Waiting {
    lengths: BTreeMap<usize, BTreeMap<Turn, Unit>>,
    parties: HashMap<Party, Asked>,
    count: usize,
    tokens: usize,
    /// The work of the turn that was served last.
    now: u64,
}

/// What one party has asked for.
#[derive(Default)]
struct Asked {
    waiting: usize,
    /// Work up to the end of its last sequence.
    work: u64,
}

impl Waiting {
    /// Takes a sequence in, behind those of its party.
    fn push(&mut self, mut unit: Unit, number: u64) {
        if self.count == 0 {
            (self.parties, self.now) = (HashMap::new(), 0);
        }
        let asked = self.parties.entry(unit.party.clone()).or_default();
        unit.turn = Turn { work: asked.work.max(self.now), number };
        asked.work = unit.turn.work + unit.len() as u64;
        asked.waiting += 1;
        self.count += 1;
        self.tokens += unit.len();
        self.lengths.entry(unit.len()).or_default().insert(unit.turn, unit);
    }

    /// The sequence of a length that is due first and whose caller has not left.
    fn pop(&mut self, length: usize) -> Option<Unit> {
        let units = self.lengths.get_mut(&length)?;
        let mut found = None;
        while found.is_none()
            && let Some((_, unit)) = units.pop_first()
        {
            self.count -= 1;
            self.tokens -= length;
            if let Some(asked) = self.parties.get_mut(&unit.party) {
                asked.waiting -= 1;
            }
            found = Some(unit).filter(|unit| !unit.reply.is_closed());
        }
        if units.is_empty() {
            self.lengths.remove(&length);
        }
        found
    }

    /// Drops what nobody waits for.
    fn purge(&mut self) {
        let (count, tokens, parties) = (&mut self.count, &mut self.tokens, &mut self.parties);
        self.lengths.retain(|&length, units| {
            units.retain(|_, unit| {
                let is_awaited = !unit.reply.is_closed();
                if !is_awaited {
                    *count -= 1;
                    *tokens -= length;
                    if let Some(asked) = parties.get_mut(&unit.party) {
                        asked.waiting -= 1;
                    }
                }
                is_awaited
            });
            !units.is_empty()
        });
    }

    /// Whether a party may add to what waits.
    fn has_room(&self, capacity: usize, party: &Party) -> bool {
        let own = self.parties.get(party).map_or(0, |asked| asked.waiting);
        let others =
            self.parties.iter().filter(|(other, asked)| *other != party && asked.waiting > 0).count();
        has_room(capacity, self.count, own, others + 1)
    }

    /// The sequence that is due first and those nearest to its length, as long as the padded batch keeps to the budget and
    /// little of it is padding.
    fn take(&mut self, budget: usize) -> Vec<Unit> {
        let mut batch: Vec<Unit> = Vec::new();
        let (mut real, mut longest) = (0, 0);
        let mut next = self.due();
        let (mut low, mut high) = next.map_or((0, 0), |first| (first, first));
        while let Some(length) = next {
            let padded = (batch.len() + 1) * longest.max(length);
            let padding = padded - real - length;
            if !batch.is_empty() && (padded > budget || padding > FREE_PADDING.max(padded / PADDING_SHARE)) {
                break;
            }
            if let Some(unit) = self.pop(length) {
                if batch.is_empty() {
                    self.advance(unit.turn.work);
                }
                (real, longest) = (real + length, longest.max(length));
                batch.push(unit);
            }
            if self.lengths.contains_key(&length) {
                continue;
            }
            (low, high) = (low.min(length), high.max(length));
            next = self.nearest(low, high);
            if batch.is_empty() {
                // All of that length had left.
                next = self.due();
                (low, high) = next.map_or((0, 0), |first| (first, first));
            }
        }
        batch
    }

    /// Goes on to a turn, and forgets the parties that it has caught up with.
    fn advance(&mut self, work: u64) {
        let now = self.now.max(work);
        self.now = now;
        self.parties.retain(|_, asked| asked.waiting > 0 || asked.work > now);
    }

    /// The length of the sequence that is due first.
    fn due(&self) -> Option<usize> {
        let firsts =
            self.lengths.iter().filter_map(|(&length, units)| Some((units.first_key_value()?.0, length)));
        firsts.min().map(|(_, length)| length)
    }

    /// The length outside of a range that is nearest to it.
    fn nearest(&self, low: usize, high: usize) -> Option<usize> {
        let below = self.lengths.range(..low).next_back().map(|(&length, _)| length);
        let above = self.lengths.range(high + 1..).next().map(|(&length, _)| length);
        match (below, above) {
            (Some(below), Some(above)) => Some(if low - below <= above - high { below } else { above }),
            (below, above) => below.or(above),
        }
    }
}

#[derive(Default)]
struct State {
    interactive: Waiting,
    bulk: Waiting,
    arrived: u64,
    /// Sessions that wait for work.
    idle: usize,
    /// Interactive batches since the last of bulk.
    run: u32,
    last_interactive: Option<Instant>,
    closed: bool,
}

impl State {
    fn waiting(&self) -> usize {
        self.interactive.count + self.bulk.count
    }

    fn of(&mut self, class: Class) -> &mut Waiting {
        match class {
            Class::Interactive => &mut self.interactive,
            Class::Bulk => &mut self.bulk,
        }
    }

    /// The next batch, for one of the sessions that have nothing to do.
    fn take(&mut self, max_batch_tokens: usize) -> Vec<Unit> {
        let bulk_turn = self.bulk.count > 0 && self.run >= INTERACTIVE_RUN;
        let bulk = bulk_turn || self.interactive.count == 0;
        let sessions = self.idle + 1;
        let waiting = if bulk { &mut self.bulk } else { &mut self.interactive };
        let share = waiting.tokens.div_ceil(sessions).max(LEAST_SHARE);
        let cut = bulk && self.last_interactive.is_some_and(|at| at.elapsed() < INTERACTIVE_MEMORY);
        let most = if cut { max_batch_tokens / BULK_CUT } else { max_batch_tokens };
        self.run = if bulk { 0 } else { self.run + 1 };
        waiting.take(most.min(share))
    }
}

pub(super) struct Queue {
    state: Mutex<State, LEAF>,
    arrived: Condvar,
    capacity: usize,
    max_batch_tokens: usize,
    pub(super) meter: Meter,
}

impl Queue {
    pub fn new(capacity: usize, max_batch_tokens: usize, meter: Meter) -> Self {
        let (state, arrived) = (Mutex::default(), Condvar::new());
        Self { state, arrived, capacity: capacity.max(1), max_batch_tokens, meter }
    }

    /// Takes all of them or none, where as many of the class as the capacity wait already, of which the party has its
    /// part: neither bulk work nor another party takes the place of others.
    ///
    /// # Errors
    /// `QUEUE_FULL`; `STOPPING` once it is closed.
    pub fn push(&self, class: Class, units: Vec<Unit>) -> Result<()> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(stopping());
        }
        if state.of(class).count >= self.capacity {
            state.of(class).purge();
        }
        let waiting = state.of(class);
        if !waiting.has_room(self.capacity, &Party::current()) {
            return Err(self.refuse(waiting.count));
        }
        if class == Class::Interactive {
            state.last_interactive = Some(Instant::now());
        }
        for unit in units {
            let number = state.arrived;
            state.arrived += 1;
            state.of(class).push(unit, number);
        }
        self.arrived.notify_all();
        Ok(())
    }

    /// Counts a refusal and gives its error.
    pub fn refuse(&self, waiting: usize) -> Error {
        self.meter.rejected.increment(1);
        let message = format!("{waiting} inputs wait already, at most {} may", self.capacity);
        Error::exhausted("QUEUE_FULL", message, RETRY_AFTER)
    }

    pub fn max_batch_tokens(&self) -> usize {
        self.max_batch_tokens
    }

    pub fn waiting(&self) -> usize {
        self.state.lock().waiting()
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Lets the workers end; what waits is dropped, which tells its callers, and what comes is turned away.
    pub fn close(&self) {
        let mut state = self.state.lock();
        *state = State { closed: true, ..State::default() };
        self.arrived.notify_all();
    }

    /// Runs batches until the queue is closed. A token's state has `width` values; the output of a cross-encoder is
    /// like one token of one value.
    pub fn work(&self, mut session: EncoderSession, width: usize) {
        while let Some(batch) = self.next_batch() {
            self.run(&mut session, batch, width);
        }
    }

    fn next_batch(&self) -> Option<Vec<Unit>> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            let batch = state.take(self.max_batch_tokens);
            if !batch.is_empty() {
                return Some(batch);
            }
            if state.waiting() > 0 {
                continue;
            }
            state.idle += 1;
            self.arrived.wait(&mut state);
            state.idle = state.idle.saturating_sub(1);
        }
    }

    fn run(&self, session: &mut EncoderSession, batch: Vec<Unit>, width: usize) {
        let started = Instant::now();
        let longest = batch.iter().map(Unit::len).max().unwrap_or(0);
        let tokens = batch.iter().map(Unit::len).sum();
        let shape = Batch { sequences: batch.len(), longest, tokens };
        batch.iter().for_each(|unit| self.meter.waited(started - unit.since));
        let spans = Trace::spans(batch.iter().map(|unit| &unit.trace), &shape);
        let result = task::guarded("INFERENCE_FAILED", || forward(session, &batch, longest, width));
        let inference = started.elapsed();
        drop(spans);
        // A caller may have left meanwhile, so that sending fails.
        match result {
            Ok(all) => {
                self.meter.ran(&shape, self.max_batch_tokens, inference);
                for (unit, vectors) in batch.into_iter().zip(all) {
                    let _ = unit.reply.send(Ok(Done { vectors, queue: started - unit.since, inference }));
                }
            }
            Err(error) => {
                self.meter.failed();
                for unit in batch {
                    let _ = unit.reply.send(Err(Error::new(error.kind, error.reason, error.message.clone())));
                }
            }
        }
    }
}

/// The vectors of a batch's sequences.
fn forward(
    session: &mut EncoderSession,
    batch: &[Unit],
    longest: usize,
    width: usize,
) -> Result<Vec<Vec<Vec<f32>>>> {
    let mut ids = vec![0_i64; batch.len() * longest];
    let mut mask = ids.clone();
    let has_types = batch.iter().any(|unit| unit.sequence.first_type < unit.len());
    let mut types = if has_types { ids.clone() } else { Vec::new() };
    for (row, unit) in batch.iter().enumerate() {
        for (column, &id) in unit.sequence.ids.iter().enumerate() {
            ids[row * longest + column] = i64::from(id);
            mask[row * longest + column] = 1;
        }
        if has_types {
            types[row * longest + unit.sequence.first_type..][..unit.len() - unit.sequence.first_type]
                .fill(1);
        }
    }
    let values_of_row = session.values_of_row(longest);
    let pool = |output: &[f32]| {
        let rows = output.chunks_exact(values_of_row);
        rows.zip(batch).map(|(states, unit)| pooled(states, &unit.sequence, width)).collect::<Vec<_>>()
    };
    let rows = Rows { ids: &ids, mask: &mask, types: &types, batch: batch.len(), sequence: longest };
    session.run_with(&rows, pool)
}

/// What the threads of all sessions hold together: when the last of them ends, be it by a panic, the queue is closed, for
/// nobody else would answer what waits.
pub(super) struct Served(pub Arc<Queue>);

impl Drop for Served {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "the last thread of a model's sessions has died; it serves again after a restart"
            );
        }
        self.0.close();
    }
}

pub(super) fn stopping() -> Error {
    Error::new(ErrorKind::Unavailable, "STOPPING", "the encoder is stopping or has died")
}

/// One vector for each part of a sequence.
fn pooled(states: &[f32], sequence: &Sequence, width: usize) -> Vec<Vec<f32>> {
    let of = |range: &std::ops::Range<usize>| &states[range.start * width..range.end * width];
    sequence.parts.iter().map(|part| reduce(of(&part.range), width, part.pooling)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Receivers = Vec<oneshot::Receiver<Result<Done>>>;

    fn sequence(length: usize) -> Sequence {
        Sequence { ids: vec![0; length], first_type: length, parts: Vec::new() }
    }

    fn units(lengths: &[usize]) -> (Vec<Unit>, Receivers) {
        let unit = |&length: &usize| {
            let (sender, receiver) = oneshot::channel();
            (Unit::new(sequence(length), sender, Arc::default()), receiver)
        };
        lengths.iter().map(unit).unzip()
    }

    fn queue(class: Class, lengths: &[usize]) -> (Queue, Receivers) {
        let queue = Queue::new(1000, 4096, Meter::new("test"));
        let (units, receivers) = units(lengths);
        queue.push(class, units).unwrap();
        (queue, receivers)
    }

    fn lengths(batch: &[Unit]) -> Vec<usize> {
        batch.iter().map(Unit::len).collect()
    }

    #[test]
    fn batches_hold_the_oldest_and_near_lengths() {
        let (queue, _receivers) = queue(Class::Bulk, &[10, 300, 11, 9, 50]);
        let mut state = queue.state.lock();
        assert_eq!(lengths(&state.bulk.take(40)), [10, 9, 11]);
        assert_eq!(lengths(&state.bulk.take(40)), [300]);
        assert_eq!(lengths(&state.bulk.take(40)), [50]);
        assert_eq!((state.waiting(), state.bulk.tokens), (0, 0));
    }

    #[test]
    fn little_of_a_batch_is_padding() {
        let (queue, _receivers) = queue(Class::Bulk, &[200, 200, 20, 190]);
        assert_eq!(lengths(&queue.state.lock().bulk.take(4096)), [200, 200, 190]);
    }

    #[test]
    fn idle_sessions_share_the_work() {
        let (queue, _receivers) = queue(Class::Interactive, &[100; 8]);
        let mut state = queue.state.lock();
        state.idle = 1;
        assert_eq!(state.take(4096).len(), 4);
        state.idle = 0;
        assert_eq!(state.take(4096).len(), 4);
    }

    #[test]
    fn bulk_work_gets_its_turn() {
        let (queue, _interactive) = queue(Class::Interactive, &[100; 20]);
        let (bulk, _bulk) = units(&[7; 3]);
        queue.push(Class::Bulk, bulk).unwrap();
        let mut state = queue.state.lock();
        let first: Vec<usize> = (0..6).map(|_| state.take(100)[0].len()).collect();
        assert_eq!(first, [100, 100, 100, 100, 7, 100]);
    }

    #[test]
    fn bulk_batches_are_small_while_interactive_work_comes_in() {
        let (queue, _bulk) = queue(Class::Bulk, &[100; 20]);
        let (query, _query) = units(&[7]);
        queue.push(Class::Interactive, query).unwrap();
        let mut state = queue.state.lock();
        assert_eq!(lengths(&state.take(800)), [7]);
        assert_eq!(state.take(800).len(), 2);
        state.last_interactive = None;
        assert_eq!(state.take(800).len(), 8);
    }

    #[test]
    fn what_nobody_waits_for_is_dropped() {
        let (queue, receivers) = queue(Class::Interactive, &[5, 5, 9]);
        drop(receivers);
        let (new, _kept) = units(&[7]);
        queue.push(Class::Interactive, new).unwrap();
        assert_eq!(lengths(&queue.state.lock().take(4096)), [7]);
        let full = Queue::new(1, 4096, Meter::new("test"));
        let (first, gone) = units(&[5]);
        full.push(Class::Bulk, first).unwrap();
        assert_eq!(full.push(Class::Bulk, units(&[5]).0).unwrap_err().reason, "QUEUE_FULL");
        drop(gone);
        full.push(Class::Bulk, units(&[5]).0).unwrap();
    }

    #[test]
    fn each_class_has_the_capacity_for_itself() {
        let queue = Queue::new(2, 4096, Meter::new("test"));
        let (large, _large) = units(&[5; 100]);
        queue.push(Class::Bulk, large).unwrap();
        assert_eq!(queue.push(Class::Bulk, units(&[5]).0).unwrap_err().reason, "QUEUE_FULL");
        let (query, _query) = units(&[5, 5]);
        queue.push(Class::Interactive, query).unwrap();
        assert_eq!(queue.push(Class::Interactive, units(&[5]).0).unwrap_err().reason, "QUEUE_FULL");
    }

    #[test]
    fn the_last_thread_that_panics_turns_away_what_waits_and_what_comes() {
        let queue = Arc::new(Queue::new(8, 4096, Meter::new("test")));
        let (waiting, mut receivers) = units(&[5]);
        queue.push(Class::Bulk, waiting).unwrap();
        let served = Arc::new(Served(Arc::clone(&queue)));
        let panics = |served: Arc<Served>| {
            let thread = std::thread::spawn(move || {
                let _served = served;
                panic!("on purpose");
            });
            assert!(thread.join().is_err());
        };
        panics(Arc::clone(&served));
        let (next, _next) = units(&[5]);
        queue.push(Class::Interactive, next).unwrap();
        panics(served);
        assert!(matches!(receivers[0].try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert_eq!(queue.push(Class::Interactive, units(&[5]).0).unwrap_err().reason, "STOPPING");
    }

    fn key(name: &str) -> Party {
        Party::Key(name.into())
    }

    /// Lengths of the batches until all of a party's work is done.
    fn batches_until_served(queue: &Queue, party: &Party) -> usize {
        let mut state = queue.state.lock();
        let waits = |waiting: &Waiting| waiting.parties.get(party).is_some_and(|asked| asked.waiting > 0);
        let mut batches = 0;
        while waits(&state.bulk) {
            batches += 1;
            assert!(!state.take(1024).is_empty());
        }
        batches
    }

    #[test]
    fn what_one_party_has_waiting_does_not_put_off_another() {
        let queue = Queue::new(10_000, 1024, Meter::new("test"));
        let (many, _many) = key("a").run(|| units(&[200; 2000]));
        key("a").run(|| queue.push(Class::Bulk, many)).unwrap();
        let (few, _few) = key("b").run(|| units(&[30, 200, 100]));
        key("b").run(|| queue.push(Class::Bulk, few)).unwrap();
        assert!(batches_until_served(&queue, &key("b")) <= 3);
        // And the other way round: more and more of b does not keep a waiting for ever.
        let mut kept = Vec::new();
        let mut served = 0;
        for _ in 0..100 {
            let (more, receivers) = key("b").run(|| units(&[100; 20]));
            key("b").run(|| queue.push(Class::Bulk, more)).unwrap();
            kept.push(receivers);
            let batch = queue.state.lock().take(1024);
            served += batch.iter().filter(|unit| unit.party == key("a")).map(Unit::len).sum::<usize>();
        }
        assert!((30_000..70_000).contains(&served), "about half of 100 batches of 1024: {served}");
    }

    #[test]
    fn a_party_has_its_part_of_a_full_queue() {
        let queue = Queue::new(100, 1024, Meter::new("test"));
        let push = |name: &str, count: usize| {
            key(name).run(|| {
                let (units, receivers) = units(&vec![5; count]);
                queue.push(Class::Interactive, units).map(|()| receivers).map_err(|error| error.reason)
            })
        };
        let a = push("a", 100).unwrap();
        assert_eq!(push("a", 1).err(), Some("QUEUE_FULL"));
        let b = push("b", 50).unwrap();
        assert_eq!(push("b", 1).err(), Some("QUEUE_FULL"));
        let c = push("c", 1).unwrap();
        drop((a, b, c));
        let _d = push("d", 1).unwrap();
        let state = queue.state.lock();
        assert_eq!((state.interactive.count, state.interactive.tokens), (1, 5));
    }

    proptest! {
        #[test]
        fn every_sequence_comes_out_once_within_the_budget(
            all in prop::collection::vec(1_usize..400, 1..100),
            budget in 1_usize..2000,
        ) {
            let (queue, _receivers) = queue(Class::Bulk, &all);
            let mut state = queue.state.lock();
            let mut out = Vec::new();
            while state.waiting() > 0 {
                let due = state.bulk.lengths.values().flat_map(|units| units.keys()).min().copied();
                let batch = state.bulk.take(budget);
                prop_assert_eq!(batch.first().map(|unit| unit.turn), due);
                let longest = batch.iter().map(Unit::len).max().unwrap_or(0);
                prop_assert!(batch.len() == 1 || batch.len() * longest <= budget);
                out.extend(batch.iter().map(|unit| unit.turn.number));
            }
            out.sort_unstable();
            prop_assert_eq!(out, (0..all.len() as u64).collect::<Vec<_>>());
        }
    }
}
