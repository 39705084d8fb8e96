//! Arithmetic of vectors that come from callers.

use crate::domain::dot;
use crate::error::{Error, Result};

/// A vector of unit length.
///
/// # Errors
/// `NOT_FINITE` and `ZERO_VECTOR`.
pub fn unit(mut vector: Vec<f32>) -> Result<Vec<f32>> {
    if let Some(position) = vector.iter().position(|x| !x.is_finite()) {
        let message = format!("expected finite components, got {} at position {position}", vector[position]);
        return Err(Error::invalid_field("query.vector", "NOT_FINITE", message));
    }
    let greatest = vector.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    if greatest == 0.0 {
        let message = "expected a vector with a direction, got all zeros";
        return Err(Error::invalid_field("query.vector", "ZERO_VECTOR", message));
    }
    // Scaling first keeps very large and very small components from overflowing the norm.
    vector.iter_mut().for_each(|x| *x /= greatest);
    let norm = dot(&vector, &vector).sqrt();
    vector.iter_mut().for_each(|x| *x /= norm);
    Ok(vector)
}

/// Cosine similarity.
///
/// # Errors
/// Those of [`unit`].
pub fn cosine(a: &[f32], b: &[f32]) -> Result<f32> {
    Ok(dot(&unit(a.to_vec())?, &unit(b.to_vec())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_query_vectors_are_refused() {
        assert_eq!(unit(vec![0.0; 4]).unwrap_err().reason, "ZERO_VECTOR");
        assert_eq!(unit(vec![1.0, f32::NAN]).unwrap_err().reason, "NOT_FINITE");
        let huge = unit(vec![f32::MAX, f32::MAX]).unwrap();
        assert!((dot(&huge, &huge) - 1.0).abs() < 1e-6);
    }
}
