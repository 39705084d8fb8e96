//! Eight-bit codes of unit vectors.

use simsimd::SpatialSimilarity;

use crate::error::{Error, Result};

/// An int8 code and the factor that makes it a unit vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Code {
    /// Components, scaled so that the greatest is 127.
    pub values: Vec<i8>,
    /// One over the code's norm: `dot(a, b) * a.scale * b.scale` is a cosine.
    pub scale: f32,
}

/// Makes the code of a vector of any length other than zero.
pub fn quantize(dimensions: usize, vector: &[f32]) -> Result<Code> {
    if vector.len() != dimensions {
        return Err(Error::invalid(
            "DIMENSION_MISMATCH",
            format!("expected a vector of {dimensions} dimensions, got {}", vector.len()),
        ));
    }
    if !vector.iter().all(|x| x.is_finite()) {
        return Err(Error::invalid(
            "NOT_FINITE",
            "expected finite numbers, got a vector with NaN or infinity",
        ));
    }
    let greatest = vector.iter().fold(0f32, |m, x| m.max(x.abs()));
    if greatest == 0.0 {
        return Err(Error::invalid("ZERO_VECTOR", "expected a vector with a direction, got only zeros"));
    }
    let values: Vec<i8> =
        vector.iter().map(|x| (f64::from(*x) / f64::from(greatest) * 127.0).round() as i8).collect();
    let norm = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    Ok(Code { values, scale: (1.0 / norm) as f32 })
}

/// Dot product of two codes of one length.
pub(super) fn dot(a: &[i8], b: &[i8]) -> f32 {
    <i8 as SpatialSimilarity>::dot(a, b).unwrap_or(0.0) as f32
}
