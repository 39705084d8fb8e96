use std::path::Path;

use ort::session::Session;
use ort::value::{Outlet, ValueType};

use super::graph::{LOGIT_ROWS, LOGITS};
use super::growing::GrowingCache;
use super::shared::SharedCache;
use crate::error::{Error, Result};
use crate::model::Device;
use crate::model::runtime::Runtime;

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

/// One run of a decoder: new tokens of one slot, or one new token each of neighbouring slots.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The first slot.
    pub slot: usize,
    /// For each slot, the tokens in its cache that the new ones follow; what is behind them is overwritten.
    pub past: &'a [usize],
    /// New tokens, `[slots, sequence]`.
    pub ids: &'a [i64],
    /// Which of the new tokens get logits, by index into `ids`; at least one.
    pub rows: &'a [i64],
}

impl Step<'_> {
    pub(super) fn sequence(&self) -> usize {
        self.ids.len() / self.past.len().max(1)
    }
}

/// A loaded decoder with its KV caches; runs one step at a time.
pub struct DecoderSession {
    cache: Cache,
    shape: CacheShape,
    vocabulary: usize,
}

enum Cache {
    Shared(Box<SharedCache>),
    Growing(Box<GrowingCache>),
}

impl DecoderSession {
    /// ONNX Runtime's provider. Decoders run on the CPU only: `GroupQueryAttention` on CUDA does not take 32-bit floats,
    /// and nothing here has shown another one right.
    pub const PROVIDER: &'static str = "CPUExecutionProvider";

    /// Loads a graph: one that [`super::import_gguf`] has written, or a ready-made one in the Hugging Face layout.
    ///
    /// # Errors
    /// `SESSION_FAILED` where ONNX Runtime cannot load it, `UNSUPPORTED_DEVICE`, `UNSUPPORTED_MODEL`.
    pub fn load(graph: &Path, options: DecoderOptions) -> Result<Self> {
        if !matches!(options.device, Device::Auto | Device::Cpu) {
            return Err(Error::invalid(
                "UNSUPPORTED_DEVICE",
                format!("expected a generator on device auto or cpu, got {:?}", options.device),
            ));
        }
        let session = open(graph, options)?;
        let layers = session.inputs().iter().filter(|input| is_key(input.name())).count();
        let cache = axes(session.inputs(), "past_key_values.0.key")?;
        let (Some(&heads), Some(&width), 4) = (cache.get(1), cache.get(3), cache.len()) else {
            return Err(unsupported(format!("expected a KV cache of rank 4, got axes {cache:?}")));
        };
        let logits = axes(session.outputs(), LOGITS)?;
        let sizes = [heads, width, logits.last().copied().unwrap_or(-1)].map(usize::try_from);
        let [Ok(heads), Ok(width), Ok(vocabulary)] = sizes else {
            return Err(unsupported(format!("expected fixed heads, widths and vocabulary, got {sizes:?}")));
        };
        let shape =
            CacheShape { slots: options.slots.max(1), heads, capacity: options.context_tokens, width };
        let fits = shape.of_slot().checked_mul(shape.slots).is_some_and(|n| n < isize::MAX as usize / 4);
        if heads == 0 || width == 0 || vocabulary == 0 || !fits {
            return Err(unsupported(format!(
                "expected sizes above zero that fit into memory, got {shape:?}"
            )));
        }
        let cache = if session.inputs().iter().any(|input| input.name() == LOGIT_ROWS) {
            Cache::Shared(Box::new(SharedCache::new(session, layers, shape, vocabulary)?))
        } else {
            Cache::Growing(Box::new(GrowingCache::new(session, layers, shape, vocabulary)?))
        };
        Ok(Self { cache, shape, vocabulary })
    }

    /// Tokens in the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Whether a step may be of several slots.
    pub fn can_batch(&self) -> bool {
        matches!(self.cache, Cache::Shared(_))
    }

    /// Runs a step; gives the logits of the rows that it asks for, `[rows, vocabulary]`.
    ///
    /// # Errors
    /// `INFERENCE_FAILED` where the step does not fit the caches, or the model fails.
    pub fn run(&mut self, step: &Step<'_>) -> Result<&[f32]> {
        self.check(step)?;
        match &mut self.cache {
            Cache::Shared(cache) => cache.run(step),
            Cache::Growing(cache) => cache.run(step),
        }
    }

    fn check(&self, step: &Step<'_>) -> Result<()> {
        let (batch, sequence) = (step.past.len(), step.sequence());
        let whole = batch > 0 && sequence > 0 && step.ids.len() == batch * sequence;
        let slots = step.slot + batch <= self.shape.slots;
        let room = step.past.iter().all(|past| past + sequence <= self.shape.capacity);
        let alone = batch == 1 || (sequence == 1 && self.can_batch());
        let ids = step.ids.iter().all(|&id| (0..self.vocabulary as i64).contains(&id));
        let rows =
            !step.rows.is_empty() && step.rows.iter().all(|&row| (0..step.ids.len() as i64).contains(&row));
        if whole && slots && room && alone && ids && rows {
            return Ok(());
        }
        Err(Error::internal(
            "INFERENCE_FAILED",
            format!(
                "the step does not fit: slot {}, {batch} slots of {sequence} tokens after {:?}, rows {:?}",
                step.slot, step.past, step.rows
            ),
        ))
    }

    /// Copies the first tokens of a slot's cache to another slot.
    pub fn copy(&mut self, from: usize, to: usize, tokens: usize) -> Result<()> {
        self.check_slots(from, to, tokens)?;
        match &mut self.cache {
            Cache::Shared(cache) => {
                cache.copy(from, to, tokens);
                Ok(())
            }
            Cache::Growing(cache) => cache.copy(from, to, tokens),
        }
    }

    /// Exchanges two slots' caches, as far as they hold tokens.
    pub fn swap(&mut self, a: usize, b: usize, tokens: usize) -> Result<()> {
        self.check_slots(a, b, tokens)?;
        match &mut self.cache {
            Cache::Shared(cache) => cache.swap(a, b, tokens),
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

fn open(graph: &Path, options: DecoderOptions) -> Result<Session> {
    let failed = |e: String| {
        Error::precondition(
            "SESSION_FAILED",
            format!("cannot load {} on {}: {e}", graph.display(), DecoderSession::PROVIDER),
        )
    };
    if !graph.is_file() {
        return Err(Error::not_found("MODEL_FILE_MISSING", format!("no graph at {}", graph.display())));
    }
    let environment = Runtime::environment()?;
    let mut builder = Session::builder(&environment)
        .map_err(|e| failed(e.to_string()))?
        .with_intra_threads(options.threads.max(1))
        .map_err(|e| failed(e.to_string()))?
        .with_intra_op_spinning(options.spinning)
        .map_err(|e| failed(e.to_string()))?
        // Threads spin between the operators of a run, not between runs.
        .with_config_entry("session.force_spinning_stop", "1")
        .map_err(|e| failed(e.to_string()))?;
    builder.commit_from_file(graph).map_err(|e| failed(e.to_string()))
}

fn is_key(name: &str) -> bool {
    name.starts_with("past_key_values.") && name.ends_with(".key")
}

/// Axes of an input or output; −1 for those that are free.
fn axes(outlets: &[Outlet], name: &str) -> Result<Vec<i64>> {
    match outlets.iter().find(|outlet| outlet.name() == name).map(Outlet::dtype) {
        Some(ValueType::Tensor { shape, .. }) => Ok(shape.iter().copied().collect()),
        other => Err(unsupported(format!("expected a decoder with a tensor {name}, got {other:?}"))),
    }
}

fn unsupported(message: String) -> Error {
    Error::precondition("UNSUPPORTED_MODEL", message)
}
