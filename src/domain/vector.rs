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
    fn every_component_counts_once() {
        for length in [0, 1, 15, 16, 17, 384, 1000] {
            let a: Vec<f32> = (0..length).map(|i| (i % 7) as f32).collect();
            let b: Vec<f32> = (0..length).map(|i| (i % 5) as f32 - 2.0).collect();
            let expected: i64 = (0..length).map(|i| (i % 7) * (i % 5 - 2)).sum();
            assert_eq!(dot(&a, &b), expected as f32, "{length}");
        }
    }
}
