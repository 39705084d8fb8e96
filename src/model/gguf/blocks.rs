//! Quantized matrices: as a file has them, and as signed integers with a scale and an offset a block.

use half::{bf16, f16};

use super::block::{Block, PART, SUPER};
use super::{Weights, damaged};
use crate::error::Result;

/// Types of tensors that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the format's own")]
pub enum TensorType {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// Rows of quantized weights as a file has them.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocks {
    /// Their format.
    pub kind: TensorType,
    /// Elements of a row: whole blocks.
    pub columns: usize,
    /// Row by row.
    pub bytes: Vec<u8>,
}

impl Blocks {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        let (elements, bytes) = self.kind.block();
        self.bytes.len() / (self.columns / elements * bytes).max(1)
    }

    /// As integers with scales and offsets.
    pub fn to_rows(&self) -> BlockRows {
        let kind = self.kind;
        let (elements, size) = kind.block();
        let count = self.bytes.len() / size * elements;
        let (bits, block) = match kind {
            TensorType::Q4_0 | TensorType::Q4_1 | TensorType::Q4K => (4, PART),
            TensorType::Q6K => (8, PART / 2),
            _ => (8, PART),
        };
        let mut rows = BlockRows {
            bits,
            block,
            blocks_per_row: self.columns / block,
            values: Vec::with_capacity(count),
            scales: Vec::with_capacity(count / block),
            offsets: kind.has_minimum().then(|| Vec::with_capacity(count / block)),
        };
        self.bytes.chunks_exact(size).for_each(|chunk| rows.push(kind, &Block::read(kind, chunk)));
        rows
    }

    /// The weights as floats, row by row.
    pub fn to_floats(&self) -> Vec<f32> {
        self.to_rows().to_floats()
    }
}

/// Rows of quantized weights: each is `scale * value + offset` of its block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockRows {
    /// Bits that hold every value: 4 for −8 to 7, 8 for −128 to 127.
    pub bits: usize,
    /// Values of a block.
    pub block: usize,
    /// Blocks of a row.
    pub blocks_per_row: usize,
    /// Row by row.
    pub values: Vec<i8>,
    /// One a block, row by row.
    pub scales: Vec<f32>,
    /// One a block, row by row; none where all are zero by the type.
    pub offsets: Option<Vec<f32>>,
}

impl BlockRows {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.scales.len() / self.blocks_per_row.max(1)
    }

    /// The weights as floats, row by row.
    pub fn to_floats(&self) -> Vec<f32> {
        let blocks = self.values.chunks_exact(self.block.max(1)).zip(&self.scales).enumerate();
        let value = |(index, (values, &scale)): (usize, (&[i8], &f32))| {
            let offset = self.offsets.as_ref().and_then(|o| o.get(index)).copied().unwrap_or(0.0);
            values.iter().map(|&q| scale * f32::from(q) + offset).collect::<Vec<_>>()
        };
        blocks.flat_map(value).collect()
    }

    fn push(&mut self, kind: TensorType, block: &Block) {
        let [scale, second] = block.floats();
        // Four bits hold -8 to 7; of more bits there is room for each format's own zero.
        let zero = match kind {
            TensorType::Q4_0 | TensorType::Q4_1 | TensorType::Q4K => 8,
            TensorType::Q5_0 => 16,
            TensorType::Q6K => 32,
            _ => 0,
        };
        let elements = kind.block().0;
        for (part, values) in block.values[..elements].chunks_exact(self.block).enumerate() {
            let (scale, offset) = match kind {
                TensorType::Q4K | TensorType::Q5K => {
                    (scale * f32::from(block.scales[part]), -second * f32::from(block.minima[part]))
                }
                TensorType::Q6K => (scale * f32::from(block.scales[part] as i8), 0.0),
                _ => (scale, second),
            };
            self.scales.push(scale);
            if let Some(offsets) = &mut self.offsets {
                offsets.push(zero as f32 * scale + offset);
            }
            self.values.extend(values.iter().map(|&value| value as i8 - zero));
        }
    }
}

impl TensorType {
    const ALL: [(u32, Self, &'static str); 11] = [
        (0, Self::F32, "F32"),
        (1, Self::F16, "F16"),
        (30, Self::Bf16, "BF16"),
        (2, Self::Q4_0, "Q4_0"),
        (3, Self::Q4_1, "Q4_1"),
        (6, Self::Q5_0, "Q5_0"),
        (7, Self::Q5_1, "Q5_1"),
        (8, Self::Q8_0, "Q8_0"),
        (12, Self::Q4K, "Q4_K"),
        (13, Self::Q5K, "Q5_K"),
        (14, Self::Q6K, "Q6_K"),
    ];

    /// The type of a number, where it can be read.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.iter().find(|entry| entry.0 == number).map(|entry| entry.1)
    }

    /// GGUF's number of it.
    pub fn number(self) -> u32 {
        Self::ALL.iter().find(|entry| entry.1 == self).map_or(0, |entry| entry.0)
    }

    /// Names of all, for messages.
    pub fn names() -> String {
        Self::ALL.map(|entry| entry.2).join(", ")
    }

    /// Elements and bytes of a block.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (SUPER, 144),
            Self::Q5K => (SUPER, 176),
            Self::Q6K => (SUPER, 210),
        }
    }

    /// Bits of a value; those of a float.
    pub fn bits(self) -> usize {
        match self {
            Self::F32 => 32,
            Self::F16 | Self::Bf16 => 16,
            Self::Q4_0 | Self::Q4_1 | Self::Q4K => 4,
            Self::Q5_0 | Self::Q5_1 | Self::Q5K => 5,
            Self::Q6K => 6,
            Self::Q8_0 => 8,
        }
    }

    /// Whether something is added to or taken from each value times its scale.
    pub fn has_minimum(self) -> bool {
        matches!(self, Self::Q4_1 | Self::Q5_1 | Self::Q4K | Self::Q5K)
    }

    /// Decodes whole rows of a number of elements.
    ///
    /// # Errors
    /// `DAMAGED_MODEL` where the bytes are not whole rows.
    pub fn decode(self, bytes: Vec<u8>, columns: usize) -> Result<Weights> {
        let (elements, size) = self.block();
        if columns == 0
            || !columns.is_multiple_of(elements)
            || !bytes.len().is_multiple_of(columns / elements * size)
        {
            return Err(damaged(format!("expected rows of {columns} elements, got {} bytes", bytes.len())));
        }
        let narrow = bytes.as_chunks::<2>().0.iter();
        Ok(match self {
            Self::F32 => {
                let wide = bytes.as_chunks::<4>().0.iter();
                Weights::Dense(wide.map(|&b| f32::from_le_bytes(b)).collect())
            }
            Self::F16 => Weights::Dense(narrow.map(|&b| f16::from_le_bytes(b).to_f32()).collect()),
            Self::Bf16 => Weights::Dense(narrow.map(|&b| bf16::from_le_bytes(b).to_f32()).collect()),
            kind => Weights::Blocks(Blocks { kind, columns, bytes }),
        })
    }
}
