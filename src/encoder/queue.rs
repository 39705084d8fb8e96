//! One bounded queue of sequences that the session threads take batches from.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::plan::{Sequence, reduce};
use crate::error::{Error, Result};
use crate::model::EncoderSession;

const RETRY_AFTER: Duration = Duration::from_millis(200);

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
    since: Instant,
}

impl Unit {
    pub fn new(sequence: Sequence, reply: oneshot::Sender<Result<Done>>) -> Self {
        Self { sequence, reply, since: Instant::now() }
    }

    fn len(&self) -> usize {
        self.sequence.ids.len()
    }
}

#[derive(Default)]
struct State {
    interactive: VecDeque<Unit>,
    bulk: VecDeque<Unit>,
    closed: bool,
}

pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    capacity: usize,
    max_batch_tokens: usize,
}

impl Queue {
    pub fn new(capacity: usize, max_batch_tokens: usize) -> Self {
        Self { state: Mutex::default(), arrived: Condvar::new(), capacity: capacity.max(1), max_batch_tokens }
    }

    /// Takes all of them or, where as many as the capacity wait already, none.
    pub fn push(&self, class: Class, units: Vec<Unit>) -> Result<()> {
        let mut state = self.state.lock();
        let waiting = state.interactive.len() + state.bulk.len();
        if waiting >= self.capacity {
            return Err(Error::exhausted(
                "QUEUE_FULL",
                format!("{waiting} inputs wait already, at most {} may", self.capacity),
                RETRY_AFTER,
            ));
        }
        match class {
            Class::Interactive => state.interactive.extend(units),
            Class::Bulk => state.bulk.extend(units),
        }
        self.arrived.notify_all();
        Ok(())
    }

    pub fn waiting(&self) -> usize {
        let state = self.state.lock();
        state.interactive.len() + state.bulk.len()
    }

    /// Lets the workers end; what waits is dropped.
    pub fn close(&self) {
        let mut state = self.state.lock();
        *state = State { closed: true, ..State::default() };
        self.arrived.notify_all();
    }

    /// Runs batches until the queue is closed.
    pub fn work(&self, mut session: EncoderSession, width: usize) {
        while let Some(batch) = self.next_batch() {
            run(&mut session, batch, width);
        }
    }

    fn next_batch(&self) -> Option<Vec<Unit>> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            let State { interactive, bulk, .. } = &mut *state;
            for waiting in [interactive, bulk] {
                waiting.retain(|unit| !unit.reply.is_closed());
                if !waiting.is_empty() {
                    return Some(take(waiting, self.max_batch_tokens));
                }
            }
            self.arrived.wait(&mut state);
        }
    }
}

/// The oldest and those nearest to its length, as long as the padded batch keeps to the budget.
fn take(waiting: &mut VecDeque<Unit>, budget: usize) -> Vec<Unit> {
    let lengths: Vec<usize> = waiting.iter().map(Unit::len).collect();
    let chosen = choose(&lengths, budget);
    let mut batch = Vec::new();
    let mut rest = VecDeque::with_capacity(waiting.len());
    for (unit, chosen) in waiting.drain(..).zip(chosen) {
        if chosen { batch.push(unit) } else { rest.push_back(unit) }
    }
    *waiting = rest;
    batch
}

fn choose(lengths: &[usize], budget: usize) -> Vec<bool> {
    let mut chosen = vec![false; lengths.len()];
    let first = lengths.first().copied().unwrap_or(0);
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| lengths[i].abs_diff(first));
    // The sort is stable, so the oldest stays first.
    let mut longest = 0;
    for (count, i) in order.into_iter().enumerate() {
        longest = longest.max(lengths[i]);
        if count > 0 && longest * (count + 1) > budget {
            break;
        }
        chosen[i] = true;
    }
    chosen
}

fn run(session: &mut EncoderSession, batch: Vec<Unit>, width: usize) {
    let started = Instant::now();
    let longest = batch.iter().map(Unit::len).max().unwrap_or(0);
    let mut ids = vec![0_i64; batch.len() * longest];
    let mut mask = ids.clone();
    for (row, unit) in batch.iter().enumerate() {
        for (column, &id) in unit.sequence.ids.iter().enumerate() {
            ids[row * longest + column] = i64::from(id);
            mask[row * longest + column] = 1;
        }
    }
    let result = session.run(&ids, &mask, batch.len(), longest);
    let inference = started.elapsed();
    for (row, unit) in batch.into_iter().enumerate() {
        let answer = match &result {
            Ok(hidden) => {
                let states = &hidden[row * longest * width..(row + 1) * longest * width];
                let of = |range: &std::ops::Range<usize>| &states[range.start * width..range.end * width];
                let parts = unit.sequence.parts.iter();
                let vectors = parts.map(|p| reduce(of(&p.range), width, p.pooling)).collect();
                Ok(Done { vectors, queue: started - unit.since, inference })
            }
            Err(error) => Err(Error::new(error.kind, error.reason, error.message.clone())),
        };
        // The caller may have left meanwhile.
        let _ = unit.reply.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn batches_hold_the_oldest_and_near_lengths() {
        assert_eq!(choose(&[10, 100, 11, 9, 50], 40), [true, false, true, true, false]);
        assert_eq!(choose(&[500, 1], 40), [true, false]);
    }
}
