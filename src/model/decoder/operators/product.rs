//! Matrix products with weights that keep a file's quantization.

use ort::operator::{
    ComputeContext, Kernel as OrtKernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;
use parking_lot::Mutex;

use super::dot::{Activations, Dot, Groups};
use super::missing;
use crate::model::decoder::packed::{GROUP, Layout};
use crate::model::gguf::TensorType;

/// Below this many products one thread is faster than several.
const SMALL: usize = 1 << 17;
/// Outputs and rows of a task: their weights stay in the caches of a core.
const OUTPUTS: usize = 16 * GROUP;
const ROWS: usize = 32;

/// `BlockProduct(x, weights) → x · weightsᵀ`: `x` is `[…, columns]`, `weights` are those of
/// [`packed`](crate::model::decoder::packed), the result is `[…, outputs]`. Attributes: `columns`, `outputs`, and `kind`,
/// GGUF's number of the weights' type.
pub(super) struct BlockProduct;

impl Operator for BlockProduct {
    type Kernel<'attr> = BlockProductKernel;

    fn name(&self) -> &str {
        super::BLOCK_PRODUCT
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [TensorElementType::Float32, TensorElementType::Uint8].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<BlockProductKernel> {
        let attribute = |name: &str| {
            let value = context.get::<i64>(name).and_then(|value| usize::try_from(value).ok());
            let value = value.filter(|&value| value > 0);
            value.ok_or_else(|| ort::Error::new(format!("BlockProduct: expected an attribute {name}")))
        };
        let kind = TensorType::from_number(attribute("kind")? as u32);
        let layout = kind.and_then(|kind| Layout::of(kind).ok());
        Ok(BlockProductKernel {
            layout: layout.ok_or_else(|| ort::Error::new("BlockProduct: expected a quantized kind"))?,
            columns: attribute("columns")?,
            outputs: attribute("outputs")?,
            dot: Dot::get(),
            activations: Activations::default(),
        })
    }
}

pub(super) struct BlockProductKernel {
    layout: Layout,
    columns: usize,
    outputs: usize,
    dot: Dot,
    activations: Activations,
}

/// Some rows' places of some outputs.
struct Task<'a> {
    row: usize,
    group: usize,
    places: Vec<&'a mut [f32]>,
}

impl OrtKernel for BlockProductKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let x = context.input(0)?.ok_or_else(|| missing("x"))?;
        let weights = context.input(1)?.ok_or_else(|| missing("weights"))?;
        let (_, packed) = weights.try_extract_tensor::<u8>()?;
        let (columns, outputs, layout) = (self.columns, self.outputs, self.layout);
        let group_bytes = layout.group_bytes(columns);
        let (shape, x) = x.try_extract_tensor::<f32>()?;
        let mut shape = shape.to_vec();
        let whole = shape.last() == Some(&(columns as i64))
            && columns.is_multiple_of(layout.columns)
            && packed.len() == outputs.div_ceil(GROUP) * group_bytes;
        if !whole {
            return Err(ort::Error::new(format!(
                "BlockProduct: {shape:?} and {} bytes do not fit {columns} columns and {outputs} outputs",
                packed.len()
            )));
        }
        if let Some(last) = shape.last_mut() {
            *last = outputs as i64;
        }
        let mut output = context.output(0, shape)?.ok_or_else(|| missing("output"))?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        let rows = x.len() / columns;
        if rows == 0 {
            return Ok(());
        }
        let dot = self.dot;
        self.activations.resize(rows, columns);
        let parts = x.chunks(ROWS * columns).zip(self.activations.chunks_mut(ROWS));
        let parts: Vec<_> = parts.map(Mutex::new).collect();
        let quantize = |at: usize| {
            if let Some(part) = parts.get(at) {
                let (from, to) = &mut *part.lock();
                dot.quantize(from, to);
            }
        };
        if parts.len() < 2 {
            quantize(0);
        } else {
            context.par_for(parts.len(), 0, quantize)?;
        }
        drop(parts);

        let activations = &self.activations;
        let tasks: Vec<Mutex<Task<'_>>> = tasks(output, outputs, rows).into_iter().map(Mutex::new).collect();
        let run = |at: usize| {
            let Some(task) = tasks.get(at) else { return };
            let Task { row, group, places } = &mut *task.lock();
            let count = places.first().map_or(0, |place| place.len().div_ceil(GROUP));
            let packed = packed.get(*group * group_bytes..(*group + count) * group_bytes).unwrap_or(&[]);
            dot.product(Groups { layout, columns, packed }, activations, *row..*row + places.len(), places);
        };
        if rows * columns * outputs < SMALL || tasks.len() < 2 {
            (0..tasks.len()).for_each(run);
            return Ok(());
        }
        context.par_for(tasks.len(), 0, run)
    }
}

/// Shares an output out. Tasks of the same outputs follow each other, for their weights are the greater part of what is read.
fn tasks(output: &mut [f32], outputs: usize, rows: usize) -> Vec<Task<'_>> {
    let (wide, high) = (outputs.div_ceil(OUTPUTS), rows.div_ceil(ROWS));
    let task =
        |at: usize| Task { row: at % high * ROWS, group: at / high * (OUTPUTS / GROUP), places: Vec::new() };
    let mut tasks: Vec<Task<'_>> = (0..wide * high).map(task).collect();
    for (row, places) in output.chunks_mut(outputs).enumerate() {
        for (at, places) in places.chunks_mut(OUTPUTS).enumerate() {
            if let Some(task) = tasks.get_mut(at * high + row / ROWS) {
                task.places.push(places);
            }
        }
    }
    tasks
}
