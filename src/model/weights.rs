//! Tensors of safetensors files as 32-bit floats.

use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};

/// Parses a file's contents; `name` is for messages.
///
/// # Errors
/// `DAMAGED_MODEL`.
pub(super) fn parse<'a>(name: &str, bytes: &'a [u8]) -> Result<SafeTensors<'a>> {
    SafeTensors::deserialize(bytes)
        .map_err(|e| Error::data_loss("DAMAGED_MODEL", format!("{name} cannot be read: {e}")).with_source(e))
}

/// A tensor of a known shape.
///
/// # Errors
/// `DAMAGED_MODEL` where it is not there, of another shape or no floats.
pub(super) fn floats(weights: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let damaged = |message: String| Error::data_loss("DAMAGED_MODEL", message);
    let view = weights.tensor(name).map_err(|e| damaged(format!("tensor {name} cannot be read: {e}")))?;
    if view.shape() != shape {
        return Err(damaged(format!("expected tensor {name} of shape {shape:?}, got {:?}", view.shape())));
    }
    let data = view.data();
    match view.dtype() {
        Dtype::F32 => Ok(data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
        Dtype::F16 => {
            Ok(data.as_chunks::<2>().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect())
        }
        Dtype::BF16 => {
            Ok(data.as_chunks::<2>().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect())
        }
        other => Err(damaged(format!("expected tensor {name} in F32, F16 or BF16, got {other:?}"))),
    }
}
