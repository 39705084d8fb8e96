#![allow(unsafe_code, reason = "its buffers are bound through pointers")]

#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::MmapMut;
use ort::session::Session;

use super::binding::Binding;
use super::graph::{INPUT_IDS, LOGIT_ROWS, LOGITS, SEQUENCE_LENGTHS, TOTAL_LENGTH};
use super::session::{CacheShape, Step};
use crate::error::{Error, Result};

/// A decoder whose KV caches are allocated once: the same memory is past and present.
///
/// Each layer has a buffer for keys and one for values, `[slots, heads, capacity, width]`, so that neighbouring slots
/// are a batch.
pub(super) struct SharedCache {
    // Dropped first, for it points into the buffers.
    binding: Binding,
    session: Session,
    shape: CacheShape,
    vocabulary: usize,
    caches: Vec<Layer>,
    ids: Vec<i64>,
    lengths: Vec<i32>,
    total: Box<[i32; 1]>,
    rows: Vec<i64>,
    logits: Vec<f32>,
    bound: Option<Bound>,
}

struct Layer {
    inputs: [String; 2],
    outputs: [String; 2],
    buffers: [Buffer; 2],
}

/// Memory that the system provides page by page as tokens reach it.
///
/// Huge pages would provide nearly all of a slot at its first token, for each head is about as large as one: the first
/// prompt of a slot waited half a second for that.
struct Buffer(MmapMut);

impl Buffer {
    fn new(elements: usize) -> Result<Self> {
        let bytes = elements * size_of::<f32>();
        let map = MmapMut::map_anon(bytes).map_err(|e| {
            let message = format!("cannot reserve {bytes} bytes for a KV cache: {e}");
            Error::precondition("SESSION_FAILED", message).with_source(e)
        })?;
        #[cfg(target_os = "linux")]
        if let Err(error) = map.advise(Advice::NoHugePage) {
            // A kernel without huge pages knows no such advice.
            tracing::debug!(%error, "the KV cache takes pages as they come");
        }
        Ok(Self(map))
    }

    fn floats(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// What the shapes and addresses that are bound depend on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Bound {
    slot: usize,
    batch: usize,
    sequence: usize,
    rows: usize,
}

impl SharedCache {
    pub fn new(session: Session, layers: usize, shape: CacheShape, vocabulary: usize) -> Result<Self> {
        let layer = |layer: usize| -> Result<Layer> {
            let names = |way: &str| ["key", "value"].map(|part| format!("{way}.{layer}.{part}"));
            let buffer = || Buffer::new(shape.slots * shape.of_slot());
            Ok(Layer {
                inputs: names("past_key_values"),
                outputs: names("present"),
                buffers: [buffer()?, buffer()?],
            })
        };
        Ok(Self {
            binding: Binding::new(&session)?,
            session,
            shape,
            vocabulary,
            caches: (0..layers).map(layer).collect::<Result<_>>()?,
            ids: Vec::new(),
            lengths: vec![0; shape.slots],
            total: Box::new([0]),
            rows: Vec::new(),
            logits: Vec::new(),
            bound: None,
        })
    }

    /// The step has been checked.
    pub fn run(&mut self, step: &Step<'_>) -> Result<&[f32]> {
        let batch = step.past.len();
        let bound = Bound { slot: step.slot, batch, sequence: step.sequence(), rows: step.rows.len() };
        let rebind = self.bound != Some(bound);
        if rebind {
            // Growing a buffer may move it.
            self.bound = None;
            grow(&mut self.ids, step.ids.len());
            grow(&mut self.rows, step.rows.len());
            grow(&mut self.logits, step.rows.len() * self.vocabulary);
        }
        self.ids[..step.ids.len()].copy_from_slice(step.ids);
        self.rows[..step.rows.len()].copy_from_slice(step.rows);
        let mut total = 0;
        for (length, &past) in self.lengths.iter_mut().zip(step.past) {
            let all = past + bound.sequence;
            *length = all as i32 - 1;
            total = total.max(all as i32);
        }
        self.total[0] = total;
        if rebind {
            self.bind(bound)?;
            self.bound = Some(bound);
        }
        self.binding.run(&mut self.session)?;
        Ok(&self.logits[..step.rows.len() * self.vocabulary])
    }

    fn bind(&mut self, Bound { slot, batch, sequence, rows }: Bound) -> Result<()> {
        let [batch_axis, sequence_axis, rows_axis] = [batch, sequence, rows].map(|n| n as i64);
        let CacheShape { heads, capacity, width, .. } = self.shape;
        let cache_shape = [batch_axis, heads as i64, capacity as i64, width as i64];
        let logits_shape = [rows_axis, self.vocabulary as i64];
        // SAFETY: the buffers belong to `self`, are as long as the shapes say (`run` has grown them; the step's slots
        // are within the caches), and move only where `run` binds again before the next run. Past and present may be
        // the same memory: GroupQueryAttention only appends then.
        unsafe {
            self.binding.input(INPUT_IDS, self.ids.as_mut_ptr(), &[batch_axis, sequence_axis])?;
            self.binding.input(SEQUENCE_LENGTHS, self.lengths.as_mut_ptr(), &[batch_axis])?;
            self.binding.input(TOTAL_LENGTH, self.total.as_mut_ptr(), &[])?;
            self.binding.input(LOGIT_ROWS, self.rows.as_mut_ptr(), &[rows_axis])?;
            self.binding.output(LOGITS, self.logits.as_mut_ptr(), &logits_shape)?;
            for layer in &mut self.caches {
                let parts = layer.inputs.iter().zip(&layer.outputs).zip(&mut layer.buffers);
                for ((input, output), buffer) in parts {
                    let data = buffer.floats()[slot * self.shape.of_slot()..].as_mut_ptr();
                    self.binding.input(input, data, &cache_shape)?;
                    self.binding.output(output, data, &cache_shape)?;
                }
            }
        }
        Ok(())
    }

    /// Copies the first tokens of a slot's cache to another slot.
    pub fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        let CacheShape { heads, capacity, width, .. } = self.shape;
        let size = self.shape.of_slot();
        for buffer in self.caches.iter_mut().flat_map(|layer| &mut layer.buffers) {
            for head in 0..heads {
                let at = |slot: usize| slot * size + head * capacity * width;
                buffer.floats().copy_within(at(from)..at(from) + tokens * width, at(to));
            }
        }
    }

    /// Exchanges the first tokens of two slots' caches.
    pub fn swap(&mut self, a: usize, b: usize, tokens: usize) {
        let CacheShape { heads, capacity, width, .. } = self.shape;
        let size = self.shape.of_slot();
        let (low, high) = (a.min(b), a.max(b));
        if low == high {
            return;
        }
        for buffer in self.caches.iter_mut().flat_map(|layer| &mut layer.buffers) {
            let (first, second) = buffer.floats().split_at_mut(high * size);
            for head in 0..heads {
                let at = head * capacity * width;
                let start = low * size + at;
                first[start..start + tokens * width].swap_with_slice(&mut second[at..at + tokens * width]);
            }
        }
    }
}

fn grow<T: Clone + Default>(buffer: &mut Vec<T>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
}
