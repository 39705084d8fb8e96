use std::time::Duration;

use ::metrics::{Counter, Histogram, counter, histogram};

use crate::metrics;

/// What is counted of one encoder.
pub(super) struct Meter {
    pub rejected: Counter,
    pub deduplicated: Counter,
    sequences: Counter,
    tokens: Counter,
    padding: Counter,
    failures: Counter,
    batch_sequences: Histogram,
    batch_fill: Histogram,
    queue: Histogram,
    duration: Histogram,
}

impl Meter {
    /// Registers the metrics of a model.
    pub fn new(model: &str) -> Self {
        let counter = |name| counter!(name, "model" => model.to_owned());
        let histogram = |name| histogram!(name, "model" => model.to_owned());
        Self {
            rejected: counter(metrics::ENCODER_REJECTED),
            deduplicated: counter(metrics::ENCODER_DEDUPLICATED_SEQUENCES),
            sequences: counter(metrics::ENCODER_SEQUENCES),
            tokens: counter(metrics::ENCODER_TOKENS),
            padding: counter(metrics::ENCODER_PADDING_TOKENS),
            failures: counter(metrics::ENCODER_FAILURES),
            batch_sequences: histogram(metrics::ENCODER_BATCH_SEQUENCES),
            batch_fill: histogram(metrics::ENCODER_BATCH_FILL_RATIO),
            queue: histogram(metrics::ENCODER_QUEUE_DURATION),
            duration: histogram(metrics::ENCODER_BATCH_DURATION),
        }
    }

    /// A sequence left the queue.
    pub fn waited(&self, queue: Duration) {
        self.queue.record(queue);
    }

    /// A batch was run: so many sequences, as long as the longest of them.
    pub fn ran(&self, batch: &Batch, max_tokens: usize, duration: Duration) {
        let padded = batch.sequences * batch.longest;
        self.sequences.increment(batch.sequences as u64);
        self.tokens.increment(batch.tokens as u64);
        self.padding.increment((padded - batch.tokens) as u64);
        self.batch_sequences.record(batch.sequences as f64);
        self.batch_fill.record(padded as f64 / max_tokens.max(1) as f64);
        self.duration.record(duration);
    }

    /// A batch failed.
    pub fn failed(&self) {
        self.failures.increment(1);
    }
}

/// The shape of a batch.
pub(super) struct Batch {
    pub sequences: usize,
    pub longest: usize,
    /// Without padding.
    pub tokens: usize,
}
