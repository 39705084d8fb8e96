//! The bytes of a segment: little-endian, with a version and a blake3 checksum at the end.

use super::segment::{Segment, Upper};
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"TRVSEGMT";
const VERSION: u32 = 1;
const CHECKSUM: usize = 32;
const MAX_LAYERS: u32 = 64;

impl Segment {
    /// The bytes that [`Segment::from_bytes`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.codes.len() + self.base.len() * 4 + self.len() * 20);
        out.extend_from_slice(&MAGIC);
        let header = [
            VERSION,
            self.dimensions as u32,
            self.stride as u32,
            self.len() as u32,
            self.entry,
            self.uppers.len() as u32,
        ];
        words(&mut out, &header);
        for point in &self.points {
            out.extend_from_slice(&point.to_le_bytes());
        }
        words(&mut out, &self.docs);
        for scale in &self.scales {
            out.extend_from_slice(&scale.to_le_bytes());
        }
        out.extend_from_slice(bytemuck::cast_slice(&self.codes));
        words(&mut out, &self.base);
        for upper in &self.uppers {
            words(&mut out, &[upper.slots.len() as u32, upper.links.len() as u32]);
            words(&mut out, &upper.slots);
            words(&mut out, &upper.starts);
            words(&mut out, &upper.links);
        }
        let checksum = blake3::hash(&out);
        out.extend_from_slice(checksum.as_bytes());
        out
    }

    /// Reads a segment; anything but what [`Segment::to_bytes`] wrote is `INDEX_DAMAGED`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let split = bytes.len().checked_sub(CHECKSUM).ok_or_else(|| damaged("it is too short"))?;
        let (body, checksum) = bytes.split_at(split);
        if blake3::hash(body).as_bytes() != checksum {
            return Err(damaged("its checksum is wrong"));
        }
        Self::from_body(body)
    }

    pub(super) fn from_body(body: &[u8]) -> Result<Self> {
        let mut reader = Reader(body);
        if reader.take(MAGIC.len())? != MAGIC || reader.word()? != VERSION {
            return Err(damaged("it is no segment of a known version"));
        }
        let dimensions = reader.word()? as usize;
        let stride = reader.word()? as usize;
        let count = reader.word()? as usize;
        let entry = reader.word()?;
        let layers = reader.word()?;
        if layers > MAX_LAYERS || dimensions == 0 || stride == 0 {
            return Err(damaged("its header is out of bounds"));
        }
        let points = reader.array(count, u64::from_le_bytes)?;
        let docs = reader.words(count)?;
        let scales = reader.array(count, f32::from_le_bytes)?;
        let codes = reader.array(size(count, dimensions)?, i8::from_le_bytes)?;
        let base = reader.words(size(count, stride)?)?;
        let mut uppers = Vec::new();
        for _ in 0..layers {
            let members = reader.word()? as usize;
            let links = reader.word()? as usize;
            let slots = reader.words(members)?;
            let starts = reader.words(members.saturating_add(1))?;
            uppers.push(Upper { slots, starts, links: reader.words(links)? });
        }
        if !reader.0.is_empty() {
            return Err(damaged("bytes are left over"));
        }
        let segment = Segment {
            dimensions,
            points,
            docs,
            codes,
            scales,
            stride,
            base,
            uppers,
            entry,
            ..Segment::default()
        };
        segment.check()?;
        Ok(segment.derive())
    }

    /// Checks everything that a search takes for granted.
    fn check(&self) -> Result<()> {
        let count = self.len();
        let known = |slot: &u32| (*slot as usize) < count;
        let ascending = self.points.windows(2).all(|pair| pair[0] < pair[1]);
        let entry = if count == 0 { self.entry == 0 } else { known(&self.entry) };
        let rows = self.base.chunks_exact(self.stride).all(|row| {
            let links = row[0] as usize;
            links < row.len() && row[1..=links].iter().all(known)
        });
        let layers = self.uppers.iter().all(|upper| {
            upper.slots.iter().chain(&upper.links).all(known)
                && upper.slots.windows(2).all(|pair| pair[0] < pair[1])
                && upper.starts.windows(2).all(|pair| pair[0] <= pair[1])
                && upper.starts.last().is_some_and(|&end| end as usize == upper.links.len())
        });
        let scales = self.scales.iter().all(|scale| scale.is_finite());
        if ascending && entry && rows && layers && scales {
            return Ok(());
        }
        Err(damaged("its arrays contradict each other"))
    }
}

fn words(out: &mut Vec<u8>, values: &[u32]) {
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn size(count: usize, each: usize) -> Result<usize> {
    count.checked_mul(each).ok_or_else(|| damaged("its lengths overflow"))
}

pub(super) fn damaged(why: &str) -> Error {
    Error::data_loss("INDEX_DAMAGED", format!("expected an intact part of the index: {why}"))
}

/// Reads from the front; lengths are checked before anything is allocated.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(len).ok_or_else(|| damaged("it ends too early"))?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize, T>(&mut self, count: usize, read: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
        let bytes = self.take(size(count, N)?)?;
        let (chunks, _) = bytes.as_chunks::<N>();
        Ok(chunks.iter().map(|chunk| read(*chunk)).collect())
    }

    fn words(&mut self, count: usize) -> Result<Vec<u32>> {
        self.array(count, u32::from_le_bytes)
    }

    fn word(&mut self) -> Result<u32> {
        self.words(1)?.first().copied().ok_or_else(|| damaged("it ends too early"))
    }
}
