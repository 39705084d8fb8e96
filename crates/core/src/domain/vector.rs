//! Arithmetic of vectors.

/// Sums that are kept side by side, so that the compiler can use vector instructions.
const LANES: usize = 16;

/// The dot product of vectors of one length; of unit vectors the cosine similarity.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for (sum, (x, y)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += x * y;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

/// How far the square of a unit vector's length may be from one: half precision is some thousandths off.
const UNIT_TOLERANCE: f32 = 0.01;

/// Whether a vector has unit length, as far as it was rounded.
pub fn is_unit(vector: &[f32]) -> bool {
    (dot(vector, vector) - 1.0).abs() <= UNIT_TOLERANCE
}

/// The cosine similarity of a query of unit length to a stored vector, which has unit length too unless an older program
/// took it as it came.
pub fn cosine(query: &[f32], stored: &[f32]) -> f32 {
    let square = dot(stored, stored);
    let product = dot(query, stored);
    if (square - 1.0).abs() <= UNIT_TOLERANCE {
        return product;
    }
    if square.is_normal() {
        return product / square.sqrt();
    }
    // Squares overflow or vanish, though the vector has a direction.
    let greatest = stored.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    if greatest == 0.0 || !greatest.is_finite() {
        return 0.0;
    }
    let scaled: Vec<f32> = stored.iter().map(|x| x / greatest).collect();
    dot(query, &scaled) / dot(&scaled, &scaled).sqrt()
}

/// Scales to length one; leaves zeros.
pub fn scale_to_unit(vector: &mut [f32]) {
    let norm = dot(vector, vector).sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|x| *x /= norm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_is_one_whatever_length_was_stored() {
        let query = [0.6, 0.8];
        for length in [1.0, 1.002, 0.5, 7.0, 1e30, 1e-30, 1.5e38] {
            let similarity = cosine(&query, &[0.6 * length, 0.8 * length]);
            assert!((similarity - 1.0).abs() < 0.005, "{length}: {similarity}");
        }
        assert_eq!(cosine(&query, &[0.0, 0.0]), 0.0);
        assert!(is_unit(&query) && is_unit(&[0.6003, 0.8002]));
        assert!(!is_unit(&[0.0, 0.0]) && !is_unit(&[1.0, 1.0]) && !is_unit(&[1.5e38, 0.0]));
        assert!(!is_unit(&[f32::NAN, 0.0]));
    }

    #[test]
    fn every_component_counts_once() {
        for length in [0, 1, 15, 16, 17, 384, 1000] {
            let a: Vec<f32> = (0..length).map(|i| (i % 7) as f32).collect();
            let b: Vec<f32> = (0..length).map(|i| (i % 5) as f32 - 2.0).collect();
            let expected: i64 = (0..length).map(|i| (i % 7) * (i % 5 - 2)).sum();
            assert_eq!(dot(&a, &b), expected as f32, "{length}");
        }
    }
}
