//! Eight-bit codes of vectors.

use super::kernel::{BLOCK, Kernel, ZERO, bias};
use crate::error::{Error, Result};

/// The code of one vector, as a query: signed components and what turns dot products into cosines.
#[derive(Debug, Clone, PartialEq)]
pub struct Code {
    /// Components as signed bytes, the greatest 127, padded with zeros to whole blocks.
    values: Vec<u8>,
    /// One over the code's norm: `dot(a, b) * a.scale * b.scale` is a cosine.
    scale: f32,
    /// What the query adds to every dot product with a stored code.
    bias: i32,
    dimensions: usize,
}

/// Makes the code of a vector of any length other than zero.
///
/// # Errors
/// `DIMENSION_MISMATCH`, `NOT_FINITE`, `ZERO_VECTOR`.
pub fn quantize(dimensions: usize, vector: &[f32]) -> Result<Code> {
    if vector.len() != dimensions {
        return Err(Error::invalid(
            "DIMENSION_MISMATCH",
            format!("expected a vector of {dimensions} dimensions, got {}", vector.len()),
        ));
    }
    if !vector.iter().all(|x| x.is_finite()) {
        return Err(Error::invalid(
            "NOT_FINITE",
            "expected finite numbers, got a vector with NaN or infinity",
        ));
    }
    let greatest = vector.iter().fold(0f32, |m, x| m.max(x.abs()));
    if greatest == 0.0 {
        return Err(Error::invalid("ZERO_VECTOR", "expected a vector with a direction, got only zeros"));
    }
    let mut values = vec![0; width_of(dimensions)];
    let (mut sum, mut squares) = (0i32, 0i64);
    for (value, x) in values.iter_mut().zip(vector) {
        let level = (f64::from(*x) / f64::from(greatest) * 127.0).round() as i8;
        *value = level as u8;
        sum += i32::from(level);
        squares += i64::from(level) * i64::from(level);
    }
    Ok(Code { values, scale: (1.0 / (squares as f64).sqrt()) as f32, bias: 128 * sum, dimensions })
}

/// Bytes that a stored code of so many dimensions takes.
fn width_of(dimensions: usize) -> usize {
    dimensions.next_multiple_of(BLOCK)
}

/// Stored codes, one after the other, each on cache lines of its own.
#[derive(Debug)]
pub(super) struct Codes {
    dimensions: usize,
    width: usize,
    /// The first code begins at `start`, which is where a cache line does.
    bytes: Vec<u8>,
    start: usize,
    scales: Vec<f32>,
    kernel: Kernel,
}

impl Codes {
    /// An empty list with room for so many codes, which it never outgrows.
    pub(super) fn with_capacity(dimensions: usize, capacity: usize) -> Self {
        let width = width_of(dimensions);
        let mut bytes: Vec<u8> = Vec::with_capacity(width * capacity + BLOCK);
        let start = bytes.as_ptr().align_offset(BLOCK).min(BLOCK);
        bytes.resize(start, ZERO);
        Self { dimensions, width, bytes, start, scales: Vec::with_capacity(capacity), kernel: Kernel::get() }
    }

    pub(super) fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub(super) fn len(&self) -> usize {
        self.scales.len()
    }

    pub(super) fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Bytes in memory.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.scales.capacity() * 4
    }

    fn all(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or(&[])
    }

    /// A stored code with its padding.
    pub(super) fn get(&self, slot: u32) -> &[u8] {
        let from = slot as usize * self.width;
        self.all().get(from..from + self.width).unwrap_or(&[])
    }

    pub(super) fn scale(&self, slot: u32) -> f32 {
        self.scales.get(slot as usize).copied().unwrap_or(0.0)
    }

    /// Adds a code made by [`quantize`].
    pub(super) fn push(&mut self, code: &Code) {
        self.bytes.extend(code.values.iter().map(|x| x ^ ZERO));
        self.scales.push(code.scale);
    }

    /// Adds a code of another list of the same dimensions.
    pub(super) fn push_from(&mut self, other: &Codes, slot: u32) {
        self.bytes.extend_from_slice(other.get(slot));
        self.scales.push(other.scale(slot));
    }

    /// Adds a code without padding: unsigned components, and one over the norm.
    pub(super) fn push_raw(&mut self, components: &[u8], scale: f32) {
        self.bytes.extend_from_slice(components);
        self.scales.push(scale);
        self.bytes.resize(self.start + self.scales.len() * self.width, ZERO);
    }

    /// A stored code as a query.
    pub(super) fn query(&self, slot: u32) -> Code {
        let stored = self.get(slot);
        Code {
            values: stored.iter().map(|x| x ^ ZERO).collect(),
            scale: self.scale(slot),
            bias: bias(stored),
            dimensions: self.dimensions,
        }
    }

    /// What a stored code adds as the second operand of [`Codes::between`].
    pub(super) fn bias(&self, slot: u32) -> i32 {
        bias(self.get(slot))
    }

    /// Cosines of a query and stored codes, in the order of the slots; `dots` is room to work in.
    pub(super) fn similarities(&self, query: &Code, slots: &[u32], dots: &mut Vec<i32>, out: &mut Vec<f32>) {
        dots.clear();
        dots.resize(slots.len(), 0);
        self.kernel.many(&query.values, self.all(), slots, dots);
        out.clear();
        let cosine = |(dot, &slot): (&i32, &u32)| (dot - query.bias) as f32 * query.scale * self.scale(slot);
        out.extend(dots.iter().zip(slots).map(cosine));
    }

    /// Cosine of two stored codes, given the bias of the second.
    pub(super) fn between(&self, a: u32, b: u32, bias_b: i32) -> f32 {
        let dot = self.kernel.pair(self.get(a), self.get(b)) - bias_b;
        dot as f32 * self.scale(a) * self.scale(b)
    }
}

impl Clone for Codes {
    /// Copies to memory that begins at a cache line too.
    fn clone(&self) -> Self {
        let mut copy = Self::with_capacity(self.dimensions, self.scales.capacity());
        copy.bytes.extend_from_slice(self.all());
        copy.scales.extend_from_slice(&self.scales);
        copy
    }
}

/// Whether a query fits the codes of so many dimensions.
pub(super) fn fits(query: &Code, dimensions: usize) -> bool {
    query.dimensions == dimensions
}
