//! Block formats of ggml (`ggml-common.h`, `ggml-quants.c`), each as signed integers with a scale and an offset a block.

use half::{bf16, f16};

use super::{Weights, damaged};
use crate::error::Result;

/// Elements of a K-quant's super-block.
const SUPER: usize = 256;

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

    /// Whether two of them can be one matrix.
    pub fn same_format(&self, other: &Self) -> bool {
        (self.bits, self.block, self.blocks_per_row) == (other.bits, other.block, other.blocks_per_row)
            && self.offsets.is_some() == other.offsets.is_some()
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

    /// Decodes whole rows of a number of elements.
    ///
    /// # Errors
    /// `DAMAGED_MODEL` where the bytes are not whole rows.
    pub fn decode(self, bytes: &[u8], columns: usize) -> Result<Weights> {
        let (elements, size) = self.block();
        if columns == 0
            || !columns.is_multiple_of(elements)
            || !bytes.len().is_multiple_of(columns / elements * size)
        {
            return Err(damaged(format!("expected rows of {columns} elements, got {} bytes", bytes.len())));
        }
        let dense = |values: Vec<f32>| Ok(Weights::Dense(values));
        let (bits, block, offset) = match self {
            Self::F32 => {
                return dense(bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect());
            }
            Self::F16 => {
                return dense(
                    bytes.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
                );
            }
            Self::Bf16 => {
                return dense(
                    bytes.as_chunks::<2>().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
                );
            }
            Self::Q4_0 => (4, 32, false),
            Self::Q4_1 | Self::Q4K => (4, 32, true),
            Self::Q5_0 | Self::Q8_0 => (8, 32, false),
            Self::Q5_1 | Self::Q5K => (8, 32, true),
            Self::Q6K => (8, 16, false),
        };
        let count = bytes.len() / size * elements;
        let mut out = Output {
            values: Vec::with_capacity(count),
            scales: Vec::with_capacity(count / block),
            offsets: Vec::with_capacity(if offset { count / block } else { 0 }),
        };
        bytes.chunks_exact(size).for_each(|chunk| self.decode_block(chunk, &mut out));
        let blocks_per_row = columns / block;
        let offsets = offset.then_some(out.offsets);
        Ok(Weights::Blocks(BlockRows {
            bits,
            block,
            blocks_per_row,
            values: out.values,
            scales: out.scales,
            offsets,
        }))
    }

    /// `chunk` is one block of [`TensorType::block`] bytes.
    fn decode_block(self, chunk: &[u8], out: &mut Output) {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => {}
            Self::Q4_0 => {
                out.scales.push(half_at(chunk, 0));
                out.values.extend(nibbles(&chunk[2..]).map(|q| q as i8 - 8));
            }
            Self::Q4_1 => {
                let (d, m) = (half_at(chunk, 0), half_at(chunk, 2));
                out.block(d, m + 8.0 * d, nibbles(&chunk[4..]).map(|q| q as i8 - 8));
            }
            Self::Q5_0 => {
                out.scales.push(half_at(chunk, 0));
                out.values.extend(fifth_bits(&chunk[2..6], nibbles(&chunk[6..])).map(|q| q as i8 - 16));
            }
            Self::Q5_1 => {
                let (d, m) = (half_at(chunk, 0), half_at(chunk, 2));
                out.block(d, m, fifth_bits(&chunk[4..8], nibbles(&chunk[8..])).map(|q| q as i8));
            }
            Self::Q8_0 => {
                out.scales.push(half_at(chunk, 0));
                out.values.extend(chunk[2..].iter().map(|&q| q as i8));
            }
            Self::Q4K => {
                let (d, dmin) = (half_at(chunk, 0), half_at(chunk, 2));
                for (pair, quants) in chunk[16..].chunks_exact(32).enumerate() {
                    for high in 0..2 {
                        let (scale, min) = scale_and_min(&chunk[4..16], 2 * pair + high);
                        let scale = d * scale;
                        let quants = quants.iter().map(|&q| ((q >> (4 * high)) & 15) as i8 - 8);
                        out.block(scale, 8.0 * scale - dmin * min, quants);
                    }
                }
            }
            Self::Q5K => {
                let (d, dmin) = (half_at(chunk, 0), half_at(chunk, 2));
                let fifths = &chunk[16..48];
                for (pair, quants) in chunk[48..].chunks_exact(32).enumerate() {
                    for high in 0..2 {
                        let number = 2 * pair + high;
                        let (scale, min) = scale_and_min(&chunk[4..16], number);
                        let quants = quants
                            .iter()
                            .zip(fifths)
                            .map(|(&q, &h)| (((q >> (4 * high)) & 15) | (((h >> number) & 1) << 4)) as i8);
                        out.block(d * scale, -dmin * min, quants);
                    }
                }
            }
            Self::Q6K => {
                let d = half_at(chunk, 208);
                out.scales.extend(chunk[192..208].iter().map(|&scale| d * f32::from(scale as i8)));
                for (low, high) in chunk[..128].chunks_exact(64).zip(chunk[128..192].chunks_exact(32)) {
                    for quarter in 0..4 {
                        let from = 32 * (quarter % 2);
                        let shift = 4 * (quarter / 2);
                        let quants = low[from..from + 32].iter().zip(high);
                        out.values.extend(quants.map(|(&l, &h)| {
                            (((l >> shift) & 15) | (((h >> (2 * quarter)) & 3) << 4)) as i8 - 32
                        }));
                    }
                }
            }
        }
    }
}

struct Output {
    values: Vec<i8>,
    scales: Vec<f32>,
    offsets: Vec<f32>,
}

impl Output {
    fn block(&mut self, scale: f32, offset: f32, values: impl Iterator<Item = i8>) {
        self.scales.push(scale);
        self.offsets.push(offset);
        self.values.extend(values);
    }
}

fn half_at(chunk: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([chunk[at], chunk[at + 1]]).to_f32()
}

/// All low halves, then all high halves.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|&b| b & 15).chain(bytes.iter().map(|&b| b >> 4))
}

/// Adds bit `i` of a 32-bit number as the fifth of element `i`.
fn fifth_bits(bits: &[u8], low: impl Iterator<Item = u8>) -> impl Iterator<Item = u8> {
    low.enumerate().map(move |(i, q)| q | (((bits[i / 8] >> (i % 8)) & 1) << 4))
}

/// The six-bit scale and minimum of one of a super-block's eight parts.
fn scale_and_min(packed: &[u8], part: usize) -> (f32, f32) {
    let (scale, min) = if part < 4 {
        (packed[part] & 63, packed[part + 4] & 63)
    } else {
        let both = packed[part + 4];
        ((both & 15) | ((packed[part - 4] >> 6) << 4), (both >> 4) | ((packed[part] >> 6) << 4))
    };
    (f32::from(scale), f32::from(min))
}
