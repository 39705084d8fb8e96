use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::plan::Sequence;
use super::queue::{Class, Done, Queue, Served, Unit, stopping};
use super::trace::Trace;
use crate::error::{Error, Result};
use crate::model::EncoderSession;

/// Sessions, each on a thread of its own, behind one queue.
pub(super) struct Workers {
    pub queue: Arc<Queue>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// What became of some sequences.
#[derive(Default)]
pub(super) struct Ran {
    /// For each sequence, in order, the vectors of its parts.
    pub vectors: Vec<Vec<Vec<f32>>>,
    /// Longest wait for a session.
    pub queue: Duration,
    /// Longest run.
    pub inference: Duration,
}

impl Workers {
    /// Starts the threads. `width` is that of a token's state; one for the logit of a cross-encoder.
    pub fn start(name: &str, sessions: Vec<EncoderSession>, queue: Arc<Queue>, width: usize) -> Result<Self> {
        let served = Arc::new(Served(Arc::clone(&queue)));
        let mut this = Self { queue, threads: Vec::with_capacity(sessions.len()) };
        for (number, session) in sessions.into_iter().enumerate() {
            let served = Arc::clone(&served);
            let thread = std::thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || served.0.work(session, width))
                .map_err(|e| {
                    Error::internal("THREAD_FAILED", "cannot start a session's thread").with_source(e)
                })?;
            this.threads.push(thread);
        }
        Ok(this)
    }

    /// Queues every sequence, equal ones once, and waits for all.
    ///
    /// # Errors
    /// `QUEUE_FULL`, `STOPPING`, `INFERENCE_FAILED`.
    pub async fn run(&self, class: Class, sequences: &[&Sequence]) -> Result<Ran> {
        let trace = Arc::new(Trace::new());
        let mut units = Vec::new();
        let mut receivers = Vec::new();
        let mut firsts: HashMap<&[u32], (&Sequence, usize)> = HashMap::new();
        let mut places = Vec::new();
        for &sequence in sequences {
            let known = firsts.get(sequence.ids.as_slice()).filter(|(first, _)| *first == sequence);
            if let Some(&(_, place)) = known {
                self.queue.meter.deduplicated.increment(1);
                places.push(place);
                continue;
            }
            let (sender, receiver) = oneshot::channel();
            units.push(Unit::new(sequence.clone(), sender, Arc::clone(&trace)));
            firsts.insert(&sequence.ids, (sequence, receivers.len()));
            places.push(receivers.len());
            receivers.push(receiver);
        }
        self.queue.push(class, units)?;
        let (mut waited, mut ran) = (Duration::ZERO, Duration::ZERO);
        let mut results = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            let Done { vectors, queue, inference } = receiver.await.map_err(|_| stopping())??;
            (waited, ran) = (waited.max(queue), ran.max(inference));
            results.push(vectors);
        }
        // Only what several sequences share is copied.
        let mut uses = vec![0_usize; results.len()];
        places.iter().for_each(|&place| uses[place] += 1);
        let mut give = |place: usize| {
            uses[place] -= 1;
            if uses[place] == 0 { std::mem::take(&mut results[place]) } else { results[place].clone() }
        };
        let vectors = places.into_iter().map(&mut give).collect();
        Ok(Ran { vectors, queue: waited, inference: ran })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            // A worker that panicked has nothing left to clean up.
            let _ = thread.join();
        }
    }
}
