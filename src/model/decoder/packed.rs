//! Quantized matrices as the operator [`product`](super::operators) reads them: a file's own numbers in another order, so
//! that 16 outputs are computed at once. A matrix takes as many bytes as in a GGUF file, and a few in a hundred more.
//!
//! Rows come in groups of 16, the last one filled up with zeros, and a group in blocks of as many columns as the format's.
//! A block holds, for all 16 rows beside each other: scales as 16-bit floats, minima likewise, integer scales and minima of
//! its parts, and the values of each part of 32 columns in planes of 64 bytes: the low four bits (two values a byte), the
//! fifth bits or fifth and sixth, or eight bits. Four neighbouring columns of a row stand side by side.

use super::config::unsupported;
use crate::error::Result;
use crate::model::gguf::block::{Block, PART, SUPER};
use crate::model::gguf::{Blocks, TensorType};

/// Rows of a group.
pub(super) const GROUP: usize = 16;
/// Bytes of a plane, and columns whose values stand side by side.
pub(super) const PLANE: usize = 64;
pub(super) const QUAD: usize = 4;

/// How a format's numbers lie in a block of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub kind: TensorType,
    /// Bits of a value.
    pub bits: usize,
    /// Whether minima belong to the scales.
    pub has_minimum: bool,
    /// Columns of a block.
    pub columns: usize,
    /// Integer scales of a row's block.
    pub scales: usize,
}

impl Layout {
    /// Of a quantized format.
    ///
    /// # Errors
    /// `UNSUPPORTED_MODEL` for floats.
    pub fn of(kind: TensorType) -> Result<Self> {
        let (columns, scales) = match kind {
            TensorType::Q4_0 | TensorType::Q4_1 | TensorType::Q5_0 | TensorType::Q5_1 | TensorType::Q8_0 => {
                (PART, 0)
            }
            TensorType::Q4K | TensorType::Q5K => (SUPER, SUPER / PART),
            TensorType::Q6K => (SUPER, 2 * SUPER / PART),
            TensorType::F32 | TensorType::F16 | TensorType::Bf16 => {
                return Err(unsupported(format!("expected a quantized matrix, got {kind:?}")));
            }
        };
        Ok(Self { kind, bits: kind.bits(), has_minimum: kind.has_minimum(), columns, scales })
    }

    /// Bytes of a part's planes.
    pub fn part_bytes(self) -> usize {
        self.bits * PART * GROUP / 8
    }

    /// Bytes before a block's planes: scales and minima as floats, then as integers.
    pub fn head_bytes(self) -> usize {
        let both = if self.has_minimum { 2 } else { 1 };
        both * (2 * GROUP + self.scales * GROUP)
    }

    /// Bytes of a group's block.
    pub fn block_bytes(self) -> usize {
        self.head_bytes() + self.columns / PART * self.part_bytes()
    }

    /// Bytes of a group of rows so long.
    pub fn group_bytes(self, columns: usize) -> usize {
        columns / self.columns * self.block_bytes()
    }

    fn put(self, block: &Block, lane: usize, to: &mut [u8]) {
        for (at, half) in block.halves.iter().take(if self.has_minimum { 2 } else { 1 }).enumerate() {
            to[2 * (GROUP * at + lane)..][..2].copy_from_slice(&half.to_le_bytes());
        }
        let integers = if self.has_minimum { 4 * GROUP } else { 2 * GROUP };
        for part in 0..self.scales {
            to[integers + GROUP * part + lane] = block.scales[part];
            if self.has_minimum {
                to[integers + GROUP * (self.scales + part) + lane] = block.minima[part];
            }
        }
        let parts = to[self.head_bytes()..].chunks_exact_mut(self.part_bytes());
        for (planes, values) in parts.zip(block.values.chunks_exact(PART)) {
            for (at, &value) in values.iter().enumerate() {
                let (quad, byte) = (at / QUAD, lane * QUAD + at % QUAD);
                if self.bits == 8 {
                    planes[PLANE * quad + byte] = value;
                    continue;
                }
                planes[PLANE * (quad % 4) + byte] |= (value & 15) << (4 * (quad / 4));
                match self.bits {
                    5 => planes[PLANE * 4 + byte] |= (value >> 4) << quad,
                    6 => planes[PLANE * (4 + quad / 4) + byte] |= (value >> 4) << (2 * (quad % 4)),
                    _ => {}
                }
            }
        }
    }

    fn take(self, lane: usize, from: &[u8]) -> Block {
        let mut block = Block { halves: [0; 2], scales: [0; 16], minima: [0; 8], values: [0; SUPER] };
        for (at, half) in block.halves.iter_mut().take(if self.has_minimum { 2 } else { 1 }).enumerate() {
            let place = 2 * (GROUP * at + lane);
            *half = u16::from_le_bytes([from[place], from[place + 1]]);
        }
        let integers = if self.has_minimum { 4 * GROUP } else { 2 * GROUP };
        for part in 0..self.scales {
            block.scales[part] = from[integers + GROUP * part + lane];
            if self.has_minimum {
                block.minima[part] = from[integers + GROUP * (self.scales + part) + lane];
            }
        }
        let parts = from[self.head_bytes()..].chunks_exact(self.part_bytes());
        for (planes, values) in parts.zip(block.values.chunks_exact_mut(PART)) {
            for (at, value) in values.iter_mut().enumerate() {
                let (quad, byte) = (at / QUAD, lane * QUAD + at % QUAD);
                if self.bits == 8 {
                    *value = planes[PLANE * quad + byte];
                    continue;
                }
                *value = (planes[PLANE * (quad % 4) + byte] >> (4 * (quad / 4))) & 15;
                *value |= match self.bits {
                    5 => ((planes[PLANE * 4 + byte] >> quad) & 1) << 4,
                    6 => ((planes[PLANE * (4 + quad / 4) + byte] >> (2 * (quad % 4))) & 3) << 4,
                    _ => 0,
                };
            }
        }
        block
    }
}

/// Puts a matrix into groups.
pub(super) fn pack(blocks: &Blocks) -> Result<Vec<u8>> {
    let layout = Layout::of(blocks.kind)?;
    let size = blocks.kind.block().1;
    let (rows, per_row) = (blocks.rows(), blocks.columns / layout.columns);
    let group_bytes = layout.group_bytes(blocks.columns);
    let mut packed = vec![0; rows.div_ceil(GROUP) * group_bytes];
    for (row, bytes) in blocks.bytes.chunks_exact(per_row * size).enumerate() {
        let group = &mut packed[row / GROUP * group_bytes..][..group_bytes];
        for (chunk, to) in bytes.chunks_exact(size).zip(group.chunks_exact_mut(layout.block_bytes())) {
            layout.put(&Block::read(blocks.kind, chunk), row % GROUP, to);
        }
    }
    Ok(packed)
}

/// The inverse of [`pack`].
///
/// # Errors
/// `UNSUPPORTED_MODEL` where the bytes are not as many as the rows need.
pub(super) fn unpack(kind: TensorType, rows: usize, columns: usize, packed: &[u8]) -> Result<Blocks> {
    let layout = Layout::of(kind)?;
    let (size, group_bytes) = (kind.block().1, layout.group_bytes(columns));
    if packed.len() != rows.div_ceil(GROUP) * group_bytes || !columns.is_multiple_of(layout.columns) {
        return Err(unsupported(format!(
            "expected {rows} rows of {columns} in groups, got {} bytes",
            packed.len()
        )));
    }
    let per_row = columns / layout.columns;
    let mut bytes = vec![0; rows * per_row * size];
    for (row, bytes) in bytes.chunks_exact_mut(per_row * size).enumerate() {
        let group = &packed[row / GROUP * group_bytes..][..group_bytes];
        for (chunk, from) in bytes.chunks_exact_mut(size).zip(group.chunks_exact(layout.block_bytes())) {
            layout.take(row % GROUP, from).write(kind, chunk);
        }
    }
    Ok(Blocks { kind, columns, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_comes_out_of_its_groups_as_it_went_in() {
        let mut state = 5_u64;
        let mut byte = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        };
        for number in [2, 3, 6, 7, 8, 12, 13, 14] {
            let kind = TensorType::from_number(number).unwrap();
            for rows in [1, 16, 21] {
                let bytes = (0..rows * 512 / kind.block().0 * kind.block().1).map(|_| byte()).collect();
                let blocks = Blocks { kind, columns: 512, bytes };
                let packed = pack(&blocks).unwrap();
                assert_eq!(unpack(kind, rows, 512, &packed).unwrap(), blocks, "{kind:?}");
                let most = rows.div_ceil(GROUP) * GROUP * 512 * kind.block().1 / kind.block().0;
                assert!(packed.len() * 100 <= most * 103, "{kind:?}: {} of {most} bytes", packed.len());
                assert!(unpack(kind, rows + 16, 512, &packed).is_err());
            }
        }
        assert!(Layout::of(TensorType::F16).is_err());
    }
}
