use std::borrow::Cow;

use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorElementType, ValueType};

use super::binding::failed;
use super::graph::{INPUT_IDS, LOGITS};
use super::session::{CacheShape, Run, Step};
use crate::error::{Error, Result};

const ATTENTION_MASK: &str = "attention_mask";
const POSITION_IDS: &str = "position_ids";
const USE_CACHE: &str = "use_cache_branch";

/// A ready-made decoder in the Hugging Face layout: every run takes the past and gives a longer one.
pub(super) struct GrowingCache {
    session: Session,
    shape: CacheShape,
    vocabulary: usize,
    layers: usize,
    half: bool,
    has_positions: bool,
    has_branch: bool,
    slots: Vec<Slot>,
    logits: Vec<f32>,
}

#[derive(Default)]
struct Slot {
    tokens: usize,
    /// Key and value of each layer, in turn; none before the first run.
    values: Vec<DynValue>,
}

impl GrowingCache {
    pub fn new(session: Session, layers: usize, shape: CacheShape, vocabulary: usize) -> Result<Self> {
        let input = |name: &str| session.inputs().iter().find(|input| input.name() == name);
        for name in [INPUT_IDS, ATTENTION_MASK] {
            if input(name).is_none() {
                return Err(unsupported(format!("expected a decoder with an input {name}")));
            }
        }
        let known = |name: &str| {
            [INPUT_IDS, ATTENTION_MASK, POSITION_IDS, USE_CACHE].contains(&name)
                || name.starts_with("past_key_values.")
        };
        if let Some(other) = session.inputs().iter().find(|input| !known(input.name())) {
            return Err(unsupported(format!(
                "expected a decoder in the Hugging Face layout, got input {}",
                other.name()
            )));
        }
        let half = match input("past_key_values.0.key").map(|input| input.dtype()) {
            Some(ValueType::Tensor { ty: TensorElementType::Float32, .. }) => false,
            Some(ValueType::Tensor { ty: TensorElementType::Float16, .. }) => true,
            other => return Err(unsupported(format!("expected a KV cache of floats, got {other:?}"))),
        };
        let (has_positions, has_branch) = (input(POSITION_IDS).is_some(), input(USE_CACHE).is_some());
        let slots = (0..shape.slots).map(|_| Slot::default()).collect();
        Ok(Self {
            session,
            shape,
            vocabulary,
            layers,
            half,
            has_positions,
            has_branch,
            slots,
            logits: Vec::new(),
        })
    }

    /// The step has been checked and is of one row.
    pub fn run(&mut self, step: &Step<'_>) -> Result<&[f32]> {
        let Some(&Run { slot, past, .. }) = step.runs.first() else {
            return Err(Error::internal("INFERENCE_FAILED", "expected a step of one slot"));
        };
        self.shorten(slot, past)?;
        let sequence = step.ids.len();
        let ids = Tensor::from_array(([1, sequence], step.ids.to_vec())).map_err(failed)?;
        let mask =
            Tensor::from_array(([1, past + sequence], vec![1_i64; past + sequence])).map_err(failed)?;
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> =
            vec![(INPUT_IDS.into(), ids.into()), (ATTENTION_MASK.into(), mask.into())];
        if self.has_positions {
            let positions: Vec<i64> = (past as i64..(past + sequence) as i64).collect();
            let positions = Tensor::from_array(([1, sequence], positions)).map_err(failed)?;
            inputs.push((POSITION_IDS.into(), positions.into()));
        }
        if self.has_branch {
            let branch = Tensor::from_array(([1], vec![past > 0])).map_err(failed)?;
            inputs.push((USE_CACHE.into(), branch.into()));
        }
        let values = std::mem::take(&mut self.slots[slot]).values;
        for (index, value) in values.into_iter().enumerate() {
            inputs.push((cache_name("past_key_values", index).into(), value.into()));
        }
        let mut outputs = self.session.run(inputs).map_err(failed)?;

        let missing =
            |name: &str| Error::internal("INFERENCE_FAILED", format!("the model has no output {name}"));
        let logits = outputs.get(LOGITS).ok_or_else(|| missing(LOGITS))?;
        self.logits.clear();
        let expected = sequence * self.vocabulary;
        let rows = step.rows.iter().map(|&row| row as usize * self.vocabulary);
        let wrong = |length: usize| {
            Error::internal("INFERENCE_FAILED", format!("expected {expected} logits, got {length}"))
        };
        if let Ok((_, all)) = logits.try_extract_tensor::<f32>() {
            if all.len() != expected {
                return Err(wrong(all.len()));
            }
            rows.for_each(|at| self.logits.extend_from_slice(&all[at..at + self.vocabulary]));
        } else {
            let (_, all) = logits.try_extract_tensor::<half::f16>().map_err(failed)?;
            if all.len() != expected {
                return Err(wrong(all.len()));
            }
            rows.for_each(|at| self.logits.extend(all[at..at + self.vocabulary].iter().map(|x| x.to_f32())));
        }
        let mut values = Vec::with_capacity(2 * self.layers);
        for index in 0..2 * self.layers {
            let name = cache_name("present", index);
            values.push(outputs.remove(&name).ok_or_else(|| missing(&name))?);
        }
        drop(outputs);
        self.slots[slot] = Slot { tokens: past + sequence, values };
        Ok(&self.logits)
    }

    /// Makes a slot's cache hold its first tokens only.
    fn shorten(&mut self, slot: usize, tokens: usize) -> Result<()> {
        let held = &self.slots[slot];
        if held.tokens == tokens && tokens > 0 {
            return Ok(());
        }
        if held.tokens < tokens {
            return Err(Error::internal(
                "INFERENCE_FAILED",
                format!("expected {tokens} tokens in the cache, got {}", held.tokens),
            ));
        }
        let values = if tokens == 0 {
            (0..2 * self.layers).map(|_| self.empty()).collect::<Result<Vec<_>>>()?
        } else {
            held.values
                .iter()
                .map(|value| self.first(value, held.tokens, tokens))
                .collect::<Result<Vec<_>>>()?
        };
        self.slots[slot] = Slot { tokens, values };
        Ok(())
    }

    fn empty(&self) -> Result<DynValue> {
        let shape = [1, self.shape.heads, 0, self.shape.width];
        let allocator = self.session.allocator();
        if self.half {
            return Ok(Tensor::<half::f16>::new(allocator, shape).map_err(failed)?.into_dyn());
        }
        Ok(Tensor::<f32>::new(allocator, shape).map_err(failed)?.into_dyn())
    }

    /// Copies the first of the tokens of a cache, `[1, heads, held, width]`.
    fn first(&self, value: &DynValue, held: usize, tokens: usize) -> Result<DynValue> {
        fn cut<T: Copy>(data: &[T], held: usize, tokens: usize, width: usize) -> Vec<T> {
            data.chunks_exact(held * width).flat_map(|head| &head[..tokens * width]).copied().collect()
        }
        let CacheShape { heads, width, .. } = self.shape;
        let shape = [1, heads, tokens, width];
        if self.half {
            let (_, data) = value.try_extract_tensor::<half::f16>().map_err(failed)?;
            let data = cut(data, held, tokens, width);
            return Ok(Tensor::from_array((shape, data)).map_err(failed)?.into_dyn());
        }
        let (_, data) = value.try_extract_tensor::<f32>().map_err(failed)?;
        Ok(Tensor::from_array((shape, cut(data, held, tokens, width))).map_err(failed)?.into_dyn())
    }

    /// Copies the first tokens of a slot's cache to another slot.
    pub fn copy(&mut self, from: usize, to: usize, tokens: usize) -> Result<()> {
        if tokens == 0 {
            self.slots[to] = Slot::default();
            return Ok(());
        }
        let held = &self.slots[from];
        let values = held
            .values
            .iter()
            .map(|value| self.first(value, held.tokens, tokens))
            .collect::<Result<Vec<_>>>()?;
        self.slots[to] = Slot { tokens, values };
        Ok(())
    }

    /// Exchanges two slots' caches.
    pub fn swap(&mut self, a: usize, b: usize) {
        self.slots.swap(a, b);
    }
}

fn cache_name(way: &str, index: usize) -> String {
    format!("{way}.{}.{}", index / 2, if index.is_multiple_of(2) { "key" } else { "value" })
}

fn unsupported(message: String) -> Error {
    Error::precondition("UNSUPPORTED_MODEL", message)
}
