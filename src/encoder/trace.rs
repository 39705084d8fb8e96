//! Spans of one call's way through the queue and the batches, for traces. They cost next to nothing unless traces are
//! sent.

use std::sync::Arc;

use parking_lot::Mutex;
use tracing::{Span, debug_span};

use super::meter::Batch;

/// The spans that the sequences of one call share.
pub(super) struct Trace {
    /// What the call was in.
    parent: Span,
    /// Ends when the first of its sequences leaves the queue.
    queue: Mutex<Option<Span>>,
}

impl Trace {
    /// Of the call that is running.
    pub fn new() -> Self {
        let parent = Span::current();
        let queue = debug_span!(parent: &parent, "encoder.queue");
        Self { parent, queue: Mutex::new(Some(queue)) }
    }

    /// One span for each call that has sequences in a batch; they end when they are dropped.
    pub fn spans<'a>(traces: impl Iterator<Item = &'a Arc<Trace>>, batch: &Batch) -> Vec<Span> {
        let mut seen: Vec<&Arc<Trace>> = Vec::new();
        for trace in traces {
            // The sequences of a call come in a row, mostly.
            if !seen.iter().rev().any(|other| Arc::ptr_eq(other, trace)) {
                trace.queue.lock().take();
                seen.push(trace);
            }
        }
        // Traces know signed numbers only; others become texts.
        let number = |n: usize| n as i64;
        let (sequences, tokens, longest) =
            (number(batch.sequences), number(batch.tokens), number(batch.longest));
        let span = |trace: &&Arc<Trace>| debug_span!(parent: &trace.parent, "encoder.batch", sequences, tokens, longest);
        seen.iter().map(span).collect()
    }
}

#[cfg(test)]
impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}
