use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};

/// Key of an adapter's metadata that names its base: the BLAKE3 of the base's weights file, in hexadecimal.
const BASE: &str = "base";

/// What was trained on top of a model's weights: for each adapted matrix a product of two narrow ones that is added to it
/// (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021), other tensors whole, and those that the model
/// does not have.
///
/// A matrix `NAME` of `[to, from]` is changed by `NAME.up` `[to, rank]` times `NAME.down` `[rank, from]`; a tensor of the
/// name itself takes the base's place.
pub(super) struct Adapter<'a> {
    tensors: SafeTensors<'a>,
}

impl<'a> Adapter<'a> {
    /// Reads a file's contents and checks that it belongs to these weights.
    ///
    /// # Errors
    /// `DAMAGED_MODEL`; `WRONG_BASE` where it was trained on other weights.
    pub fn read(bytes: &'a [u8], base: &[u8]) -> Result<Self> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(e.to_string()))?;
        let told = metadata.metadata().as_ref().and_then(|metadata| metadata.get(BASE));
        let expected = told.ok_or_else(|| damaged(format!("expected metadata {BASE:?}, got none")))?;
        let got = blake3::hash(base).to_hex();
        if got.as_str() != expected {
            return Err(Error::precondition(
                "WRONG_BASE",
                format!("expected the weights {expected} that the adapter was trained on, got {got}"),
            ));
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(e.to_string()))?;
        Ok(Self { tensors })
    }

    /// The tensor that takes the place of the base's, or that the base does not have.
    ///
    /// # Errors
    /// `DAMAGED_MODEL` where its shape or type is another.
    pub fn whole(&self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
        if self.tensors.tensor(name).is_err() {
            return Ok(None);
        }
        self.values(name, shape).map(Some)
    }

    /// Adds what was trained to a matrix of `[to, from]`; any other tensor stays as it is.
    ///
    /// # Errors
    /// `DAMAGED_MODEL` where shapes do not fit.
    pub fn add(&self, name: &str, shape: &[usize], values: &mut [f32]) -> Result<()> {
        let (up, down) = (format!("{name}.up"), format!("{name}.down"));
        let (Ok(view), &[to, from]) = (self.tensors.tensor(&up), shape) else {
            return Ok(());
        };
        let &[_, rank] = view.shape() else {
            return Err(damaged(format!("expected tensor {up} of two axes, got {:?}", view.shape())));
        };
        let up = self.values(&up, &[to, rank])?;
        let down = self.values(&down, &[rank, from])?;
        if rank == 0 || from == 0 {
            return Ok(());
        }
        for (row, weights) in values.chunks_exact_mut(from).zip(up.chunks_exact(rank)) {
            for (weight, basis) in weights.iter().zip(down.chunks_exact(from)) {
                row.iter_mut().zip(basis).for_each(|(value, x)| *value += weight * x);
            }
        }
        Ok(())
    }

    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let view = self.tensors.tensor(name).map_err(|e| damaged(format!("tensor {name}: {e}")))?;
        if view.shape() != shape || view.dtype() != Dtype::F16 {
            let got = (view.dtype(), view.shape());
            return Err(damaged(format!("expected tensor {name} of F16 {shape:?}, got {got:?}")));
        }
        let (pairs, _) = view.data().as_chunks::<2>();
        Ok(pairs.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect())
    }
}

fn damaged(message: String) -> Error {
    Error::data_loss("DAMAGED_MODEL", format!("the adapter cannot be read: {message}"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::tensor::TensorView;

    use super::*;

    fn file(base: &[u8], tensors: &[(&str, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
        let bytes: Vec<Vec<u8>> = tensors
            .iter()
            .map(|(_, _, values)| values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect())
            .collect();
        let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
            (*name, TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap())
        });
        let metadata = HashMap::from([(BASE.to_owned(), blake3::hash(base).to_hex().to_string())]);
        safetensors::serialize(views, Some(metadata)).unwrap()
    }

    #[test]
    fn a_product_is_added_and_other_tensors_are_taken_whole() {
        let tensors = [
            ("w.up", vec![2, 1], vec![1.0, 2.0]),
            ("w.down", vec![1, 3], vec![10.0, 0.0, 1.0]),
            ("bias", vec![2], vec![0.5, -0.5]),
            ("thin.up", vec![2, 2], vec![0.0; 4]),
            ("thin.down", vec![1, 3], vec![0.0; 3]),
        ];
        let bytes = file(b"base", &tensors);
        let adapter = Adapter::read(&bytes, b"base").unwrap();
        let mut values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        adapter.add("w", &[2, 3], &mut values).unwrap();
        assert_eq!(values, [10.0, 1.0, 3.0, 23.0, 4.0, 7.0]);
        adapter.add("other", &[2, 3], &mut values).unwrap();
        assert_eq!(values[0], 10.0);
        assert_eq!(adapter.whole("bias", &[2]).unwrap(), Some(vec![0.5, -0.5]));
        assert_eq!(adapter.whole("missing", &[2]).unwrap(), None);
        for wrong in [adapter.whole("bias", &[3]).map(drop), adapter.add("thin", &[2, 3], &mut values)] {
            assert_eq!(wrong.unwrap_err().reason, "DAMAGED_MODEL");
        }
    }

    #[test]
    fn other_weights_and_damage_are_refused() {
        let bytes = file(b"base", &[("bias", vec![1], vec![1.0])]);
        let error = Adapter::read(&bytes, b"another").map(drop).unwrap_err();
        assert_eq!(error.reason, "WRONG_BASE");
        for cut in [0, 7, bytes.len() - 1] {
            let error = Adapter::read(&bytes[..cut], b"base").map(drop).unwrap_err();
            assert_eq!(error.reason, "DAMAGED_MODEL");
        }
    }
}
