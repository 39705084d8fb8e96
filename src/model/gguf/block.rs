//! One block of each of ggml's formats (`ggml-common.h`, `ggml-quants.c`): its numbers apart from how they are packed.

use half::f16;

use super::TensorType;

/// Elements of a K-quant's super-block.
pub(crate) const SUPER: usize = 256;
/// Elements that share a scale in most formats.
pub(crate) const PART: usize = 32;

/// The numbers of a block. What a format does not have is zero.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Block {
    /// Scale, and minimum or scale of minima, as 16-bit floats.
    pub halves: [u16; 2],
    /// Integer scales of a K-quant's parts; signed in Q6_K.
    pub scales: [u8; 16],
    /// Integer minima of a K-quant's parts.
    pub minima: [u8; 8],
    /// Without the format's zero, except for Q8_0, whose values are signed bytes.
    pub values: [u8; SUPER],
}

impl Block {
    /// Takes a block's bytes apart; `chunk` has [`TensorType::block`] bytes.
    pub fn read(kind: TensorType, chunk: &[u8]) -> Self {
        let mut block = Self { halves: [0; 2], scales: [0; 16], minima: [0; 8], values: [0; SUPER] };
        let half = |at: usize| u16::from_le_bytes([chunk[at], chunk[at + 1]]);
        let values = &mut block.values;
        match kind {
            TensorType::F32 | TensorType::F16 | TensorType::Bf16 => {}
            TensorType::Q4_0 => {
                block.halves[0] = half(0);
                nibbles(&chunk[2..], values);
            }
            TensorType::Q4_1 => {
                block.halves = [half(0), half(2)];
                nibbles(&chunk[4..], values);
            }
            TensorType::Q5_0 => {
                block.halves[0] = half(0);
                nibbles(&chunk[6..], values);
                fifth_bits(&chunk[2..6], values);
            }
            TensorType::Q5_1 => {
                block.halves = [half(0), half(2)];
                nibbles(&chunk[8..], values);
                fifth_bits(&chunk[4..8], values);
            }
            TensorType::Q8_0 => {
                block.halves[0] = half(0);
                values[..PART].copy_from_slice(&chunk[2..]);
            }
            TensorType::Q4K | TensorType::Q5K => {
                block.halves = [half(0), half(2)];
                read_scales(&chunk[4..16], &mut block.scales, &mut block.minima);
                let quants = if kind == TensorType::Q4K { 16 } else { 16 + PART };
                for (pair, from) in chunk[quants..].chunks_exact(PART).enumerate() {
                    nibbles(from, &mut values[2 * PART * pair..2 * PART * (pair + 1)]);
                }
                if kind == TensorType::Q5K {
                    for (part, values) in values.chunks_exact_mut(PART).enumerate() {
                        let bits = values.iter_mut().zip(&chunk[16..quants]);
                        bits.for_each(|(value, &bits)| *value |= ((bits >> part) & 1) << 4);
                    }
                }
            }
            TensorType::Q6K => {
                block.halves[0] = half(208);
                block.scales.copy_from_slice(&chunk[192..208]);
                for_each_of_q6(|at, low, shift, high, pair| {
                    values[at] = ((chunk[low] >> shift) & 15) | (((chunk[128 + high] >> pair) & 3) << 4);
                });
            }
        }
        block
    }

    /// The inverse of [`Block::read`]; `chunk` is all zeros.
    pub fn write(&self, kind: TensorType, chunk: &mut [u8]) {
        let values = &self.values;
        let [first, second] = self.halves.map(u16::to_le_bytes);
        match kind {
            TensorType::F32 | TensorType::F16 | TensorType::Bf16 => {}
            TensorType::Q4_0 => {
                chunk[..2].copy_from_slice(&first);
                pack_nibbles(values, &mut chunk[2..]);
            }
            TensorType::Q4_1 => {
                chunk[..4].copy_from_slice(&[first, second].concat());
                pack_nibbles(values, &mut chunk[4..]);
            }
            TensorType::Q5_0 => {
                chunk[..2].copy_from_slice(&first);
                pack_fifth_bits(values, &mut chunk[2..6]);
                pack_nibbles(values, &mut chunk[6..]);
            }
            TensorType::Q5_1 => {
                chunk[..4].copy_from_slice(&[first, second].concat());
                pack_fifth_bits(values, &mut chunk[4..8]);
                pack_nibbles(values, &mut chunk[8..]);
            }
            TensorType::Q8_0 => {
                chunk[..2].copy_from_slice(&first);
                chunk[2..].copy_from_slice(&values[..PART]);
            }
            TensorType::Q4K | TensorType::Q5K => {
                chunk[..4].copy_from_slice(&[first, second].concat());
                write_scales(&self.scales, &self.minima, &mut chunk[4..16]);
                let quants = if kind == TensorType::Q4K { 16 } else { 16 + PART };
                for (pair, to) in chunk[quants..].chunks_exact_mut(PART).enumerate() {
                    pack_nibbles(&values[2 * PART * pair..2 * PART * (pair + 1)], to);
                }
                if kind == TensorType::Q5K {
                    for (part, values) in values.chunks_exact(PART).enumerate() {
                        let bits = chunk[16..quants].iter_mut().zip(values);
                        bits.for_each(|(bits, &value)| *bits |= ((value >> 4) & 1) << part);
                    }
                }
            }
            TensorType::Q6K => {
                chunk[192..208].copy_from_slice(&self.scales);
                chunk[208..].copy_from_slice(&first);
                for_each_of_q6(|at, low, shift, high, pair| {
                    chunk[low] |= (values[at] & 15) << shift;
                    chunk[128 + high] |= (values[at] >> 4) << pair;
                });
            }
        }
    }

    /// The scale, and the minimum or the scale of minima.
    pub fn floats(&self) -> [f32; 2] {
        self.halves.map(|half| f16::from_bits(half).to_f32())
    }
}

/// All low halves, then all high halves.
fn nibbles(bytes: &[u8], values: &mut [u8]) {
    let count = bytes.len();
    for (at, &byte) in bytes.iter().enumerate() {
        values[at] = byte & 15;
        values[count + at] = byte >> 4;
    }
}

fn pack_nibbles(values: &[u8], bytes: &mut [u8]) {
    let count = bytes.len();
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = (values[at] & 15) | (values[count + at] & 15) << 4;
    }
}

/// Adds bit `i` of a 32-bit number as the fifth of element `i`.
fn fifth_bits(bits: &[u8], values: &mut [u8]) {
    for (at, value) in values.iter_mut().take(PART).enumerate() {
        *value |= ((bits[at / 8] >> (at % 8)) & 1) << 4;
    }
}

fn pack_fifth_bits(values: &[u8], bits: &mut [u8]) {
    for (at, &value) in values.iter().take(PART).enumerate() {
        bits[at / 8] |= ((value >> 4) & 1) << (at % 8);
    }
}

/// Q6_K: element, its low byte and shift there, its high byte and shift there.
fn for_each_of_q6(mut each: impl FnMut(usize, usize, usize, usize, usize)) {
    for half in 0..2 {
        for quarter in 0..4 {
            for at in 0..PART {
                let element = 128 * half + PART * quarter + at;
                let low = 64 * half + PART * (quarter % 2) + at;
                each(element, low, 4 * (quarter / 2), PART * half + at, 2 * quarter);
            }
        }
    }
}

/// The six-bit scales and minima of a super-block's eight parts.
fn read_scales(packed: &[u8], scales: &mut [u8; 16], minima: &mut [u8; 8]) {
    for part in 0..4 {
        scales[part] = packed[part] & 63;
        minima[part] = packed[part + 4] & 63;
        scales[part + 4] = (packed[part + 8] & 15) | (packed[part] >> 6) << 4;
        minima[part + 4] = (packed[part + 8] >> 4) | (packed[part + 4] >> 6) << 4;
    }
}

fn write_scales(scales: &[u8; 16], minima: &[u8; 8], packed: &mut [u8]) {
    for part in 0..4 {
        packed[part] = scales[part] | (scales[part + 4] >> 4) << 6;
        packed[part + 4] = minima[part] | (minima[part + 4] >> 4) << 6;
        packed[part + 8] = (scales[part + 4] & 15) | (minima[part + 4] & 15) << 4;
    }
}
