//! Operators of decoders on the CPU that ONNX Runtime lacks, or does slower: attention over caches that stay where they
//! are, for any mixture of callers, and products with weights that keep a GGUF file's quantization (docs/BENCHMARKS.md).

mod attention;
mod cache;
mod dot;
mod kernel;
mod offsets;
mod product;

use std::ops::Deref;
use std::sync::Arc;

use ort::operator::OperatorDomain;
use ort::value::DynValue;

pub(super) use cache::KvCache;

/// Domain of the operators.
pub(super) const DOMAIN: &str = "trove";
pub(super) const ATTENTION: &str = "Attention";
pub(super) const BLOCK_PRODUCT: &str = "BlockProduct";
/// Of graphs that were written before there was [`BLOCK_PRODUCT`].
pub(super) const BLOCK_OFFSETS: &str = "BlockOffsets";
/// Outputs of [`BLOCK_OFFSETS`] come in multiples of this.
pub(super) const OUTPUT_MULTIPLE: usize = kernel::LANES;

/// The operators for a session with the caches.
pub(super) fn domain(cache: Arc<KvCache>) -> ort::Result<OperatorDomain> {
    OperatorDomain::new(DOMAIN)?
        .add(attention::Attention(cache))?
        .add(product::BlockProduct)?
        .add(offsets::BlockOffsets)
}

/// Whether products with quantized weights have vector instructions here.
pub(super) fn has_fast_products() -> bool {
    dot::Dot::get().is_vectorized
}

fn floats(value: &impl Deref<Target = DynValue>) -> ort::Result<&[f32]> {
    value.try_extract_tensor::<f32>().map(|(_, data)| data)
}

fn integers(value: &impl Deref<Target = DynValue>) -> ort::Result<&[i32]> {
    value.try_extract_tensor::<i32>().map(|(_, data)| data)
}

/// Rows and columns; leading axes are rows.
fn shape(value: &impl Deref<Target = DynValue>) -> ort::Result<(usize, usize)> {
    let (shape, data) = value.try_extract_tensor::<f32>()?;
    let columns = shape.last().copied().unwrap_or(1).max(1) as usize;
    Ok((data.len() / columns, columns))
}

fn missing(name: &str) -> ort::Error {
    ort::Error::new(format!("expected {name}, got nothing"))
}
