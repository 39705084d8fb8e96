//! Reader of GGUF files (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>), versions 2 and 3.
//!
//! Every length is checked against what is left of the file before memory is taken, so that memory is bounded by the
//! size of the file whatever it says.

pub(crate) mod block;
mod blocks;
#[cfg(test)]
pub(crate) mod builder;
mod header;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

pub use blocks::{BlockRows, Blocks, TensorType};
pub use header::{Array, TensorInfo, Value};

use crate::error::{Error, Result};

/// A GGUF file whose header has been read and checked; weights are read on demand.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    file: File,
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, TensorInfo>,
    data_start: u64,
}

/// Weights of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub enum Weights {
    /// Row by row.
    Dense(Vec<f32>),
    /// Quantized in blocks along the rows.
    Blocks(Blocks),
}

impl Gguf {
    /// Reads and checks a file's header.
    ///
    /// # Errors
    /// `MODEL_FILE_MISSING`, `DAMAGED_MODEL` for a file that is cut or lies about its lengths, `UNSUPPORTED_MODEL` for
    /// another version.
    pub fn open(path: &Path) -> Result<Self> {
        let unreadable = |e: std::io::Error| {
            Error::not_found("MODEL_FILE_MISSING", format!("cannot read {}: {e}", path.display()))
                .with_source(e)
        };
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let header = header::read(BufReader::new(&file), length)?;
        Ok(Self {
            path: path.to_owned(),
            metadata: header.metadata,
            tensors: header.tensors,
            data_start: header.data_start,
            file,
        })
    }

    /// A metadata value.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A string, where the key is there.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", Value::as_str)
    }

    /// A number that is not negative, where the key is there.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a number that is not negative", Value::as_unsigned)
    }

    /// A float, where the key is there.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a float", Value::as_float)
    }

    /// A truth value, where the key is there.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// An array of strings, where the key is there.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "an array of strings", Value::as_strings)
    }

    /// An array of integers, where the key is there.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.typed(key, "an array of integers", Value::as_integers)
    }

    /// An array of 32-bit floats, where the key is there.
    pub fn floats(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.typed(key, "an array of floats", Value::as_floats)
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        get: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        get(value)
            .map(Some)
            .ok_or_else(|| damaged(format!("{key}: expected {expected}, got {}", value.kind())))
    }

    /// Shape and type of a tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// Names of all tensors, in no order.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The weights of a tensor of the shape that is expected, outermost dimension first.
    ///
    /// # Errors
    /// `DAMAGED_MODEL` where it is missing, of another shape or cut; `UNSUPPORTED_MODEL` for a type that cannot be read.
    pub fn weights(&self, name: &str, shape: &[usize]) -> Result<Weights> {
        let info = self.tensors.get(name).ok_or_else(|| damaged(format!("tensor {name} is missing")))?;
        let got = info.shape();
        if got != shape {
            return Err(damaged(format!("expected tensor {name} of shape {shape:?}, got {got:?}")));
        }
        let kind = info.tensor_type(name)?;
        let columns = shape.last().copied().unwrap_or(1);
        // The header's check has compared this length with that of the file.
        let mut bytes = vec![0; info.bytes as usize];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.data_start + info.offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| {
            Error::data_loss(
                "DAMAGED_MODEL",
                format!("cannot read tensor {name} of {}: {e}", self.path.display()),
            )
            .with_source(e)
        })?;
        kind.decode(bytes, columns)
    }

    /// A vector of floats.
    ///
    /// # Errors
    /// As of [`Gguf::weights`].
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>> {
        match self.weights(name, &[length])? {
            Weights::Dense(values) => Ok(values),
            Weights::Blocks(_) => Err(Error::precondition(
                "UNSUPPORTED_MODEL",
                format!("expected tensor {name} in floats, got a quantized one"),
            )),
        }
    }
}

fn damaged(message: String) -> Error {
    Error::data_loss("DAMAGED_MODEL", format!("damaged GGUF file: {message}"))
}
