//! What the offsets of quantized blocks add to a matrix product.

use ort::operator::{
    ComputeContext, Kernel as OrtKernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;
use parking_lot::Mutex;

use super::kernel::{Kernel, LANES, Panels, Rows};
use super::{floats, missing, shape};

/// Below this many products one thread is faster than several.
const SMALL: usize = 16384;
/// Up to this many rows columns are shared out, beyond it rows.
const FEW_ROWS: usize = 16;
/// Columns, or rows, of a task.
const COLUMNS: usize = 512;
const ROWS: usize = 16;

/// `BlockOffsets(product, input, offsets) → product + s · offsets`, where `s` holds the sums of `input`'s rows over blocks
/// of columns: `product` is `[rows, outputs]`, `input` `[rows, columns]`, `offsets` `[columns / block, outputs]`.
pub(super) struct BlockOffsets;

impl Operator for BlockOffsets {
    type Kernel<'attr> = BlockOffsetsKernel;

    fn name(&self) -> &str {
        super::BLOCK_OFFSETS
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [(); 3].map(|()| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<BlockOffsetsKernel> {
        Ok(BlockOffsetsKernel { kernel: Kernel::get(), sums: Vec::new(), columns: Vec::new() })
    }
}

pub(super) struct BlockOffsetsKernel {
    kernel: Kernel,
    sums: Vec<f32>,
    /// Results of the tasks that have columns to themselves.
    columns: Vec<Mutex<Vec<f32>>>,
}

impl OrtKernel for BlockOffsetsKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let product = context.input(0)?.ok_or_else(|| missing("product"))?;
        let input = context.input(1)?.ok_or_else(|| missing("input"))?;
        let offsets = context.input(2)?.ok_or_else(|| missing("offsets"))?;
        let ((rows, outputs), (input_rows, width)) = (shape(&product)?, shape(&input)?);
        let (depth, offset_outputs) = shape(&offsets)?;
        let whole = input_rows == rows && offset_outputs == outputs && depth > 0 && width % depth == 0;
        if !whole || !outputs.is_multiple_of(LANES) {
            return Err(ort::Error::new(format!(
                "BlockOffsets: [{rows}, {outputs}], [{input_rows}, {width}] and [{depth}, {offset_outputs}] do not fit"
            )));
        }
        let (product, input, offsets) = (floats(&product)?, floats(&input)?, floats(&offsets)?);
        let mut output = context.output(0, [rows, outputs])?.ok_or_else(|| missing("output"))?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        if rows == 0 {
            return Ok(());
        }
        self.sums.clear();
        self.sums.extend(input.chunks_exact(width / depth).map(sum));
        let sums = Rows { data: &self.sums, stride: depth, count: rows };
        let table =
            Panels { data: offsets, row_stride: outputs, panel_stride: LANES, panels: outputs / LANES };
        let kernel = self.kernel;

        if rows * depth * outputs < SMALL {
            output.copy_from_slice(product);
            kernel.accumulate(sums, depth, table, output, outputs);
        } else if rows > FEW_ROWS {
            let parts = output.chunks_mut(ROWS * outputs).zip(product.chunks(ROWS * outputs)).enumerate();
            let parts: Vec<_> = parts.map(|(at, (to, from))| Mutex::new((at * ROWS, to, from))).collect();
            context.par_for(parts.len(), 0, |at| {
                let Some(part) = parts.get(at) else { return };
                let (first, to, from) = &mut *part.lock();
                to.copy_from_slice(from);
                let data = sums.data.get(*first * depth..).unwrap_or(&[]);
                let sums = Rows { data, count: to.len() / outputs, ..sums };
                kernel.accumulate(sums, depth, table, to, outputs);
            })?;
        } else {
            let count = outputs.div_ceil(COLUMNS);
            self.columns.resize_with(count.max(self.columns.len()), Mutex::default);
            let columns = &self.columns;
            context.par_for(count, 0, |at| {
                let (first, Some(part)) = (at * COLUMNS, columns.get(at)) else { return };
                let wide = COLUMNS.min(outputs - first);
                let mut part = part.lock();
                part.clear();
                for row in product.chunks_exact(outputs) {
                    part.extend_from_slice(&row[first..first + wide]);
                }
                let data = offsets.get(first..).unwrap_or(&[]);
                kernel.accumulate(
                    sums,
                    depth,
                    Panels { data, panels: wide / LANES, ..table },
                    &mut part,
                    wide,
                );
            })?;
            for (at, part) in columns.iter().enumerate().take(count) {
                let (first, part) = (at * COLUMNS, part.lock());
                let wide = COLUMNS.min(outputs - first);
                for (row, from) in output.chunks_exact_mut(outputs).zip(part.chunks_exact(wide)) {
                    row[first..first + wide].copy_from_slice(from);
                }
            }
        }
        Ok(())
    }
}

/// In a fixed order that vector code can keep.
fn sum(block: &[f32]) -> f32 {
    let (lanes, rest) = block.as_chunks::<8>();
    let mut sums = [0.0_f32; 8];
    for lanes in lanes {
        sums.iter_mut().zip(lanes).for_each(|(sum, x)| *sum += x);
    }
    sums.iter().chain(rest).sum()
}
