//! Makes files for tests.

use half::f16;

use super::TensorType;

/// Puts a file together.
pub(crate) struct Builder {
    values: Vec<u8>,
    value_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
}

impl Builder {
    pub fn new() -> Self {
        Self { values: Vec::new(), value_count: 0, tensors: Vec::new(), tensor_count: 0, data: Vec::new() }
    }

    pub fn value(mut self, key: &str, kind: u32, bytes: &[u8]) -> Self {
        put_string(&mut self.values, key);
        self.values.extend(kind.to_le_bytes());
        self.values.extend(bytes);
        self.value_count += 1;
        self
    }

    /// Dimensions are innermost first.
    pub fn tensor(mut self, name: &str, dimensions: &[u64], kind: u32, data: &[u8]) -> Self {
        put_string(&mut self.tensors, name);
        self.tensors.extend((dimensions.len() as u32).to_le_bytes());
        dimensions.iter().for_each(|d| self.tensors.extend(d.to_le_bytes()));
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(data);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.tensor_count += 1;
        self
    }

    pub fn build(self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3_u32.to_le_bytes());
        file.extend(self.tensor_count.to_le_bytes());
        file.extend(self.value_count.to_le_bytes());
        file.extend(self.values);
        file.extend(self.tensors);
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(self.data);
        file
    }
}

pub(crate) fn put_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// A block's bytes with halves at the places where the format has them.
pub(crate) fn block(kind: TensorType, halves: &[(usize, f32)], rest: impl Fn(usize) -> u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..kind.block().1).map(rest).collect();
    for &(at, value) in halves {
        bytes[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
    }
    bytes
}
