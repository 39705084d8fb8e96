use super::growing::GrowingCache;
use super::shared::SharedCache;
use super::slots::SlotCache;
use crate::error::{Error, Result};
use crate::model::{CudaOptions, Device};

/// How to load a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderOptions {
    /// Where it runs.
    pub device: Device,
    /// Threads of the session, at least one.
    pub threads: usize,
    /// Whether waiting threads spin during a run.
    pub spinning: bool,
    /// Tokens that a slot's KV cache holds.
    pub context_tokens: usize,
    /// KV caches.
    pub slots: usize,
    /// Settings of the CUDA provider.
    pub cuda: CudaOptions,
}

/// Sizes of the KV caches of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CacheShape {
    pub slots: usize,
    pub heads: usize,
    pub capacity: usize,
    pub width: usize,
}

impl CacheShape {
    /// Elements of a slot.
    pub fn of_slot(&self) -> usize {
        self.heads * self.capacity * self.width
    }
}

/// New tokens of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The slot.
    pub slot: usize,
    /// Tokens in its cache that the new ones follow; what is behind them is overwritten.
    pub past: usize,
    /// New tokens.
    pub tokens: usize,
}

/// What a decoder computes at once.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Slots with new tokens, at least one, each once.
    pub runs: &'a [Run],
    /// The new tokens of all of them, one after the other.
    pub ids: &'a [i64],
    /// Which of the new tokens get logits, by index into `ids`; at least one.
    pub rows: &'a [i64],
}

/// Which slots may share a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Any, with any number of tokens.
    Any,
    /// Neighbours in order, with one token each.
    Neighbours,
    /// None.
    Alone,
}

/// A loaded decoder with its KV caches; runs one step at a time.
pub struct DecoderSession {
    cache: Cache,
    layers: usize,
    shape: CacheShape,
    vocabulary: usize,
    provider: &'static str,
}

/// Who holds the caches.
pub(super) enum Cache {
    /// Operators on the CPU.
    Slots(Box<SlotCache>),
    /// Buffers that are past and present, on the device.
    Shared(Box<SharedCache>),
    /// Nobody for longer than a step.
    Growing(Box<GrowingCache>),
}

impl DecoderSession {
    pub(super) fn new(
        cache: Cache,
        (layers, shape): (usize, CacheShape),
        vocabulary: usize,
        provider: &'static str,
    ) -> Self {
        Self { cache, layers, shape, vocabulary, provider }
    }

    /// Most bytes that keys and values of all slots take, in 32-bit floats.
    pub fn cache_bytes(&self) -> usize {
        let values = self.shape.of_slot().saturating_mul(self.shape.slots).saturating_mul(2 * self.layers);
        values.saturating_mul(size_of::<f32>())
    }

    /// ONNX Runtime's provider that runs it.
    pub fn provider(&self) -> &'static str {
        self.provider
    }

    /// Tokens in the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Which slots may share a step.
    pub fn sharing(&self) -> Sharing {
        match self.cache {
            Cache::Slots(_) => Sharing::Any,
            Cache::Shared(_) => Sharing::Neighbours,
            Cache::Growing(_) => Sharing::Alone,
        }
    }

    /// Runs a step; gives the logits of the rows that it asks for, `[rows, vocabulary]`.
    ///
    /// # Errors
    /// `INFERENCE_FAILED` where the step does not fit the caches, or the model fails.
    pub fn run(&mut self, step: &Step<'_>) -> Result<&[f32]> {
        self.check(step)?;
        match &mut self.cache {
            Cache::Slots(cache) => cache.run(step),
            Cache::Shared(cache) => cache.run(step),
            Cache::Growing(cache) => cache.run(step),
        }
    }

    fn check(&self, step: &Step<'_>) -> Result<()> {
        let Step { runs, ids, rows } = step;
        let whole = !runs.is_empty() && runs.iter().map(|run| run.tokens).sum::<usize>() == ids.len();
        let fit = runs.iter().all(|run| {
            run.tokens > 0 && run.slot < self.shape.slots && run.past + run.tokens <= self.shape.capacity
        });
        let once =
            runs.iter().enumerate().all(|(at, run)| runs[..at].iter().all(|other| other.slot != run.slot));
        let shared = runs.len() == 1
            || match self.sharing() {
                Sharing::Any => true,
                Sharing::Neighbours => {
                    runs.iter().all(|run| run.tokens == 1)
                        && runs.windows(2).all(|pair| pair[0].slot + 1 == pair[1].slot)
                }
                Sharing::Alone => false,
            };
        let known = ids.iter().all(|&id| (0..self.vocabulary as i64).contains(&id));
        let asked = !rows.is_empty() && rows.iter().all(|&row| (0..ids.len() as i64).contains(&row));
        if whole && fit && once && shared && known && asked {
            return Ok(());
        }
        Err(Error::internal(
            "INFERENCE_FAILED",
            format!("the step does not fit: {runs:?} with {} tokens, rows {rows:?}", ids.len()),
        ))
    }

    /// Copies the first tokens of a slot's cache to another slot.
    pub fn copy(&mut self, from: usize, to: usize, tokens: usize) -> Result<()> {
        self.check_slots(from, to, tokens)?;
        match &mut self.cache {
            Cache::Slots(cache) => {
                cache.copy(from, to, tokens);
                Ok(())
            }
            Cache::Shared(cache) => cache.copy(from, to),
            Cache::Growing(cache) => cache.copy(from, to, tokens),
        }
    }

    /// Exchanges two slots' caches, as far as they hold tokens.
    pub fn swap(&mut self, a: usize, b: usize, tokens: usize) -> Result<()> {
        self.check_slots(a, b, tokens)?;
        match &mut self.cache {
            Cache::Slots(cache) => cache.swap(a, b),
            Cache::Shared(cache) => cache.swap(a, b)?,
            Cache::Growing(cache) => cache.swap(a, b),
        }
        Ok(())
    }

    fn check_slots(&self, a: usize, b: usize, tokens: usize) -> Result<()> {
        if a.max(b) < self.shape.slots && tokens <= self.shape.capacity {
            return Ok(());
        }
        Err(Error::internal("INFERENCE_FAILED", format!("no {tokens} tokens in slots {a} and {b}")))
    }
}
