//! Attention over a KV cache, for tokens of any slots in one step.
//!
//! Softmax over chunks of keys and their merging are those of online softmax (Milakov and Gimelshein 2018,
//! arXiv:1805.02867) and flash decoding (Dao et al. 2023). Chunks start at fixed positions and are merged in order, so a
//! token's result does not depend on the tokens beside it, on threads, or on what was cached before.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ort::operator::{
    ComputeContext, Kernel as OrtKernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;
use parking_lot::Mutex;

use super::cache::{KvCache, LayerCache};
use super::kernel::{Kernel, LANES, Panels, Rows, exp};
use super::{floats, integers, missing, shape as shape_of};
use crate::model::decoder::graph::{SCORE_CAP, WINDOW};

/// Keys that are scored before their values are summed.
const CHUNK: usize = 256;
/// Tokens of a slot that share a task.
const TILE: usize = 16;
/// Below this many scores of a step one thread is faster than several.
const SMALL: usize = 4096;

/// `Attention(query, key?, value?, slots, positions, cos?, sin?) → attended`.
///
/// Rows are tokens, in any order of slots; those of one slot that follow each other have positions that do. Without `key`
/// and `value`, `query` holds all three side by side. The rotated keys and the values are written into the cache at the
/// row's slot and position before any row looks at them. The tables are `[positions, pairs]`: so many pairs of a head are
/// rotated, none without tables. With `local_window_size` a row sees so many positions, its own included; with `softcap`
/// scores `s` become `softcap · tanh(s / softcap)`.
pub(super) struct Attention(pub Arc<KvCache>);

impl Operator for Attention {
    type Kernel<'attr> = AttentionKernel;

    fn name(&self) -> &str {
        super::ATTENTION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        use TensorElementType::{Float32, Int32};
        [
            OperatorInput::required(Float32),
            OperatorInput::optional(Float32),
            OperatorInput::optional(Float32),
            OperatorInput::required(Int32),
            OperatorInput::required(Int32),
            OperatorInput::optional(Float32),
            OperatorInput::optional(Float32),
        ]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<AttentionKernel> {
        let attribute = |name: &str| {
            let value = context.get::<i64>(name).and_then(|value| usize::try_from(value).ok());
            value.ok_or_else(|| ort::Error::new(format!("Attention: expected an attribute {name}")))
        };
        Ok(AttentionKernel {
            layer: attribute("layer")?,
            heads: attribute("num_heads")?,
            interleaved: attribute("rotary_interleaved")? == 1,
            scale: context.get::<f32>("scale"),
            window: attribute(WINDOW).ok().filter(|&window| window > 0).unwrap_or(usize::MAX),
            cap: context.get::<f32>(SCORE_CAP).filter(|&cap| cap > 0.0),
            cache: Arc::clone(&self.0),
            kernel: Kernel::get(),
        })
    }
}

pub(super) struct AttentionKernel {
    layer: usize,
    heads: usize,
    interleaved: bool,
    /// Of the products of queries and keys; one over the root of the width where it is not told.
    scale: Option<f32>,
    window: usize,
    cap: Option<f32>,
    cache: Arc<KvCache>,
    kernel: Kernel,
}

/// Buffers of the tasks, which all layers use in turn.
#[derive(Default)]
pub(in crate::model::decoder) struct Scratch {
    tasks: Vec<Mutex<Task>>,
}

/// Some tokens of one slot and the query heads that share one key head, over a range of keys.
#[derive(Default)]
struct Task {
    /// The tokens' rows in the step.
    rows: Range<usize>,
    slot: usize,
    /// Position of the first.
    position: usize,
    kv_head: usize,
    /// Chunks of keys.
    chunks: Range<usize>,
    /// `[rows, query heads of the key head, width]`, and so on for each such vector.
    queries: Vec<f32>,
    scores: Vec<f32>,
    partial: Vec<f32>,
    /// Greatest and sum of a chunk.
    sums: Vec<(f32, f32)>,
    state: Softmax,
}

/// What is known of a softmax-weighted sum so far, for each vector.
#[derive(Default)]
struct Softmax {
    greatest: Vec<f32>,
    sums: Vec<f32>,
    /// `[vectors, width]`, width in whole lanes.
    values: Vec<f32>,
}

/// Inputs of a step.
struct Inputs<'a> {
    query: &'a [f32],
    /// Floats of a row of `query`.
    stride: usize,
    cos: &'a [f32],
    sin: &'a [f32],
    /// Columns of the tables.
    pairs: usize,
    width: usize,
    group: usize,
    interleaved: bool,
    scale: f32,
    window: usize,
    cap: Option<f32>,
}

impl OrtKernel for AttentionKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let query = context.input(0)?.ok_or_else(|| missing("query"))?;
        let (key, value) = (context.input(1)?, context.input(2)?);
        let slots = context.input(3)?.ok_or_else(|| missing("slots"))?;
        let positions = context.input(4)?.ok_or_else(|| missing("positions"))?;
        let (cos, sin) = (context.input(5)?, context.input(6)?);

        let (slots, positions) = (integers(&slots)?, integers(&positions)?);
        let shape = self.cache.shape;
        let (rows, width) = (slots.len(), shape.width);
        let (wide, narrow) = (self.heads * width, shape.heads * width);
        let query = floats(&query)?;
        let (key, value) =
            (key.as_ref().map(|v| floats(v)).transpose()?, value.as_ref().map(|v| floats(v)).transpose()?);
        let (stride, keys, values) = match (key, value) {
            (Some(key), Some(value)) => (wide, (key, narrow, 0), (value, narrow, 0)),
            _ => {
                let stride = wide + 2 * narrow;
                (stride, (query, stride, wide), (query, stride, wide + narrow))
            }
        };
        let pairs = cos.as_ref().map(shape_of).transpose()?.map_or(0, |(_, pairs)| pairs);
        let inputs = Inputs {
            query,
            stride,
            cos: cos.as_ref().map(|table| floats(table)).transpose()?.unwrap_or_default(),
            sin: sin.as_ref().map(|table| floats(table)).transpose()?.unwrap_or_default(),
            pairs,
            width,
            group: self.heads / shape.heads.max(1),
            interleaved: self.interleaved,
            scale: self.scale.unwrap_or(1.0 / (width as f32).sqrt()),
            window: self.window,
            cap: self.cap,
        };
        let within =
            |list: &[i32], bound: usize| list.iter().all(|&x| usize::try_from(x).is_ok_and(|x| x < bound));
        let known = inputs.cos.len().min(inputs.sin.len()).checked_div(pairs).unwrap_or(usize::MAX);
        let whole = rows > 0
            && positions.len() == rows
            && query.len() == rows * stride
            && keys.0.len() == rows * keys.1
            && values.0.len() == rows * values.1
            && inputs.group * shape.heads == self.heads
            && 2 * pairs <= width
            && within(slots, shape.slots)
            && within(positions, shape.capacity.min(known));
        let layer = self.cache.layers.get(self.layer).filter(|_| whole).ok_or_else(|| {
            ort::Error::new(format!(
                "Attention: layer {}, slots {slots:?} and positions {positions:?} do not fit {shape:?}",
                self.layer
            ))
        })?;

        let mut layer = layer.lock();
        let mut rotated = vec![0.0; width];
        for (row, (&slot, &position)) in slots.iter().zip(positions).enumerate() {
            for head in 0..shape.heads {
                let at = |(data, stride, offset): (&'_ [f32], usize, usize)| {
                    let start = row * stride + offset + head * width;
                    start..(start + width).min(data.len())
                };
                rotated.copy_from_slice(&keys.0[at(keys)]);
                inputs.rotate(&mut rotated, position as usize);
                layer.write(slot as usize, head, position as usize, &rotated, &values.0[at(values)]);
            }
        }
        let layer = &*layer;

        let mut scratch = self.cache.scratch.lock();
        let count = scratch.plan(slots, positions, shape.heads, self.window);
        let tasks = scratch.tasks.get(..count).unwrap_or(&[]);
        let scores: usize =
            positions.iter().map(|&p| (p as usize + 1).min(self.window)).sum::<usize>() * self.heads;
        if scores < SMALL || count < 2 {
            tasks.iter().for_each(|task| task.lock().run(&inputs, layer, self.kernel));
        } else {
            // The later tokens of a prompt meet more keys: a thread that is done takes the next task.
            let next = AtomicUsize::new(0);
            context.par_for(count, 0, |_| {
                if let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    task.lock().run(&inputs, layer, self.kernel);
                }
            })?;
        }

        let mut output = context.output(0, [rows, wide])?.ok_or_else(|| missing("attended"))?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        collect(tasks, &inputs, layer.value_width(), output);
        Ok(())
    }
}

impl Inputs<'_> {
    /// Rotary position embedding (Su et al. 2021, arXiv:2104.09864) of one head.
    fn rotate(&self, head: &mut [f32], position: usize) {
        let table = position * self.pairs..(position + 1) * self.pairs;
        let (Some(cos), Some(sin)) = (self.cos.get(table.clone()), self.sin.get(table)) else { return };
        let (head, _) = head.split_at_mut((2 * self.pairs).min(head.len()));
        let turn = |a: &mut f32, b: &mut f32, cos: f32, sin: f32| {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        };
        if self.interleaved {
            let pairs = head.as_chunks_mut::<2>().0;
            for (([a, b], &cos), &sin) in pairs.iter_mut().zip(cos).zip(sin) {
                turn(a, b, cos, sin);
            }
            return;
        }
        let (low, high) = head.split_at_mut(head.len() / 2);
        for (((a, b), &cos), &sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
            turn(a, b, cos, sin);
        }
    }
}

impl Scratch {
    /// Makes the tasks of a step; gives their number. Tasks of the same tokens and heads over further chunks follow each
    /// other.
    fn plan(&mut self, slots: &[i32], positions: &[i32], heads: usize, window: usize) -> usize {
        let mut count = 0;
        let mut start = 0;
        while start < slots.len() {
            let follows = |row: usize| slots[row] == slots[start] && positions[row] == positions[row - 1] + 1;
            let end = (start + 1..slots.len()).take(TILE - 1).find(|&row| !follows(row));
            let end = end.unwrap_or(slots.len().min(start + TILE));
            let chunks = (positions[end - 1] as usize + 1).div_ceil(CHUNK);
            // The first token sees the earliest keys.
            let seen = (positions[start] as usize + 1).saturating_sub(window) / CHUNK;
            // Few tokens have too few heads for all threads.
            let step = if end - start < TILE { 1 } else { chunks };
            for kv_head in 0..heads {
                for first in (seen..chunks).step_by(step) {
                    if count == self.tasks.len() {
                        self.tasks.push(Mutex::default());
                    }
                    let task = self.tasks[count].get_mut();
                    task.rows = start..end;
                    task.slot = slots[start] as usize;
                    task.position = positions[start] as usize;
                    task.kv_head = kv_head;
                    task.chunks = first..chunks.min(first + step);
                    count += 1;
                }
            }
            start = end;
        }
        count
    }
}

impl Task {
    fn run(&mut self, inputs: &Inputs<'_>, layer: &LayerCache, kernel: Kernel) {
        let (width, group) = (inputs.width, inputs.group);
        let value_width = layer.value_width();
        let (count, position) = (self.rows.len() * group, self.position);
        self.queries.clear();
        for (at, row) in self.rows.clone().enumerate() {
            for head in 0..group {
                let from = row * inputs.stride + (self.kv_head * group + head) * width;
                let start = self.queries.len();
                self.queries.extend_from_slice(&inputs.query[from..from + width]);
                let query = &mut self.queries[start..];
                inputs.rotate(query, self.position + at);
                query.iter_mut().for_each(|x| *x *= inputs.scale);
            }
        }
        self.state.reset(count, value_width);
        for chunk in self.chunks.clone() {
            let first = chunk * CHUNK;
            let visible = |vector: usize| {
                let end = position + vector / group + 1;
                let of_chunk = |key: usize| key.saturating_sub(first).min(CHUNK);
                of_chunk(end.saturating_sub(inputs.window))..of_chunk(end)
            };
            let most = visible(count - 1).end;
            if visible(0).start >= most {
                continue;
            }
            let panels = most.div_ceil(LANES);
            self.scores.clear();
            self.scores.resize(count * CHUNK, 0.0);
            let queries = Rows { data: &self.queries, stride: width, count };
            let keys = Panels {
                data: layer.keys(self.slot, self.kv_head, first),
                row_stride: LANES,
                panel_stride: LANES * width,
                panels,
            };
            kernel.accumulate(queries, width, keys, &mut self.scores, CHUNK);

            self.partial.clear();
            self.partial.resize(count * value_width, 0.0);
            self.sums.clear();
            for (vector, scores) in self.scores.chunks_exact_mut(CHUNK).enumerate() {
                let visible = visible(vector);
                self.sums.push(if visible.is_empty() {
                    scores[..panels * LANES].fill(0.0);
                    (f32::NEG_INFINITY, 0.0)
                } else {
                    if let Some(cap) = inputs.cap {
                        kernel.bend(&mut scores[visible.clone()], cap);
                    }
                    scores[..visible.start].fill(f32::NEG_INFINITY);
                    scores[visible.end..panels * LANES].fill(f32::NEG_INFINITY);
                    kernel.softmax(&mut scores[..panels * LANES])
                });
            }
            let scores = Rows { data: &self.scores, stride: CHUNK, count };
            let values = Panels {
                data: layer.values(self.slot, self.kv_head, first),
                row_stride: value_width,
                panel_stride: LANES,
                panels: value_width / LANES,
            };
            // Rows behind the last visible one may hold what an earlier text has left there.
            kernel.accumulate(scores, most, values, &mut self.partial, value_width);
            let partials = self.partial.chunks_exact(value_width).zip(&self.sums).enumerate();
            for (vector, (partial, &(greatest, sum))) in partials {
                self.state.merge(vector, greatest, sum, partial);
            }
        }
    }
}

impl Softmax {
    fn reset(&mut self, count: usize, width: usize) {
        self.greatest.clear();
        self.greatest.resize(count, f32::NEG_INFINITY);
        self.sums.clear();
        self.sums.resize(count, 0.0);
        self.values.clear();
        self.values.resize(count * width, 0.0);
    }

    /// Adds what is known of further keys, whose sum is zero where there are none.
    fn merge(&mut self, vector: usize, greatest: f32, sum: f32, values: &[f32]) {
        if sum == 0.0 {
            return;
        }
        let width = values.len();
        let most = self.greatest[vector].max(greatest);
        let (mine, its) = (exp(self.greatest[vector] - most), exp(greatest - most));
        self.greatest[vector] = most;
        self.sums[vector] = self.sums[vector] * mine + sum * its;
        for (mine_value, its_value) in self.values[vector * width..][..width].iter_mut().zip(values) {
            *mine_value = *mine_value * mine + its_value * its;
        }
    }
}

/// Merges tasks over further chunks into those before them, and writes `[rows, heads * width]`.
fn collect(tasks: &[Mutex<Task>], inputs: &Inputs<'_>, value_width: usize, output: &mut [f32]) {
    let (width, group) = (inputs.width, inputs.group);
    let wide = output.len() / tasks.last().map_or(1, |task| task.lock().rows.end).max(1);
    let mut tasks = tasks.iter().map(Mutex::lock).peekable();
    while let Some(mut task) = tasks.next() {
        while let Some(next) = tasks.next_if(|next| next.rows == task.rows && next.kv_head == task.kv_head) {
            for (vector, values) in next.state.values.chunks_exact(value_width).enumerate() {
                task.state.merge(vector, next.state.greatest[vector], next.state.sums[vector], values);
            }
        }
        for (vector, values) in task.state.values.chunks_exact(value_width).enumerate() {
            let row = task.rows.start + vector / group;
            let start = row * wide + (task.kv_head * group + vector % group) * width;
            let factor = 1.0 / task.state.sums[vector];
            let places = output.get_mut(start..start + width).unwrap_or(&mut []);
            places.iter_mut().zip(values).for_each(|(place, &x)| *place = x * factor);
        }
    }
}
