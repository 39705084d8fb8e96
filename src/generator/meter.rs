use std::sync::atomic::{AtomicUsize, Ordering};

use ::metrics::{Counter, Histogram, counter, histogram};

use super::options::FinishReason;
use crate::metrics;

/// What is counted of one generator.
pub(super) struct Meter {
    pub rejected: Counter,
    pub queue: Histogram,
    pub time_to_first_token: Histogram,
    pub duration: Histogram,
    pub prefill: Counter,
    pub cached: Counter,
    pub decode: Counter,
    pub drafted: Counter,
    pub accepted: Counter,
    stop: Counter,
    length: Counter,
    cancelled: Counter,
    pub failed: Counter,
    slots_in_use: AtomicUsize,
}

impl Meter {
    /// Registers the metrics of a model.
    pub fn new(model: &str) -> Self {
        let counter = |name| counter!(name, "model" => model.to_owned());
        let histogram = |name| histogram!(name, "model" => model.to_owned());
        let outcome = |outcome: &'static str| counter!(metrics::GENERATOR_GENERATIONS, "model" => model.to_owned(), "outcome" => outcome);
        Self {
            rejected: counter(metrics::GENERATOR_REJECTED),
            queue: histogram(metrics::GENERATOR_QUEUE_DURATION),
            time_to_first_token: histogram(metrics::GENERATOR_TIME_TO_FIRST_TOKEN),
            duration: histogram(metrics::GENERATOR_DURATION),
            prefill: counter(metrics::GENERATOR_PREFILL_TOKENS),
            cached: counter(metrics::GENERATOR_CACHED_PROMPT_TOKENS),
            decode: counter(metrics::GENERATOR_DECODE_TOKENS),
            drafted: counter(metrics::GENERATOR_DRAFTED_TOKENS),
            accepted: counter(metrics::GENERATOR_ACCEPTED_TOKENS),
            stop: outcome("stop"),
            length: outcome("length"),
            cancelled: outcome("cancelled"),
            failed: outcome("failed"),
            slots_in_use: AtomicUsize::new(0),
        }
    }

    /// The counter of generations that end so.
    pub fn finished(&self, reason: FinishReason) -> &Counter {
        match reason {
            FinishReason::Stop => &self.stop,
            FinishReason::Length => &self.length,
            FinishReason::Cancelled => &self.cancelled,
        }
    }

    /// Slots with a generation.
    pub fn slots_in_use(&self) -> usize {
        self.slots_in_use.load(Ordering::Relaxed)
    }

    /// Notes how many slots have one.
    pub fn set_slots_in_use(&self, slots: usize) {
        self.slots_in_use.store(slots, Ordering::Relaxed);
    }
}
