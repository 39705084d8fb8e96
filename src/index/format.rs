//! The bytes of a segment, little-endian. Their BLAKE3 stands in the manifest; version 1 has one at
//! its end too.

use super::code::Codes;
use super::segment::{MAX_POINTS, NONE, Rows, Segment, Upper};
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"TRVSEGMT";
/// Signed codes, and base rows that begin with their number of links.
const VERSION_1: u32 = 1;
/// Unsigned codes, and base rows that end early at [`NONE`].
const VERSION_2: u32 = 2;
/// Bytes at the end of version 1.
const CHECKSUM: usize = 32;
const MAX_LAYERS: u32 = 64;
const MAX_DEGREE: usize = 1024;

impl Segment {
    /// The bytes that [`Segment::from_bytes`] reads.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let dimensions = self.codes.dimensions();
        let base = self.base.all();
        let mut out = Vec::with_capacity(64 + self.len() * (dimensions + 24) + base.len() * 4);
        out.extend_from_slice(&MAGIC);
        let header = [
            VERSION_2,
            dimensions as u32,
            self.base.degree() as u32,
            self.len() as u32,
            self.entry,
            self.uppers.len() as u32,
        ];
        words(&mut out, &header);
        for point in &self.points {
            out.extend_from_slice(&point.to_le_bytes());
        }
        words(&mut out, &self.docs);
        for scale in self.codes.scales() {
            out.extend_from_slice(&scale.to_le_bytes());
        }
        for slot in 0..self.len() as u32 {
            out.extend_from_slice(self.codes.get(slot).get(..dimensions).unwrap_or_default());
        }
        words(&mut out, base);
        for upper in &self.uppers {
            words(&mut out, &[upper.slots.len() as u32, upper.links.len() as u32]);
            words(&mut out, &upper.slots);
            words(&mut out, &upper.starts);
            words(&mut out, &upper.links);
        }
        out
    }

    /// Reads a segment of any version. What no version wrote is `INDEX_DAMAGED`.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(damaged("it is no segment"));
        }
        let version = reader.word()?;
        if !(VERSION_1..=VERSION_2).contains(&version) {
            return Err(damaged("it is no segment of a known version"));
        }
        let dimensions = reader.word()? as usize;
        let stride = reader.word()? as usize;
        let count = reader.word()? as usize;
        let entry = reader.word()?;
        let layers = reader.word()?;
        if layers > MAX_LAYERS || dimensions == 0 || stride == 0 || stride > MAX_DEGREE || count >= MAX_POINTS
        {
            return Err(damaged("its header is out of bounds"));
        }
        let points = reader.array(count, u64::from_le_bytes)?;
        let docs = reader.words(count)?;
        let scales = reader.array(count, f32::from_le_bytes)?;
        let components = reader.take(size(count, dimensions)?)?;
        let links = reader.take(size(count, size(stride, 4)?)?)?;
        // Everything is known to be there before room for it is made.
        let mut codes = Codes::with_capacity(dimensions, count);
        for (code, &scale) in components.chunks_exact(dimensions).zip(&scales) {
            if version == VERSION_1 {
                let unsigned: Vec<u8> = code.iter().map(|x| x ^ super::kernel::ZERO).collect();
                codes.push_raw(&unsigned, scale);
            } else {
                codes.push_raw(code, scale);
            }
        }
        let base = match version {
            VERSION_1 => counted_rows(links, stride, count)?,
            _ => rows(links, stride, count),
        };
        let mut uppers = Vec::new();
        for _ in 0..layers {
            let members = reader.word()? as usize;
            let links = reader.word()? as usize;
            let slots = reader.words(members)?;
            let starts = reader.words(members.saturating_add(1))?;
            uppers.push(Upper { slots, starts, links: reader.words(links)? });
        }
        let end = if version == VERSION_1 { CHECKSUM } else { 0 };
        if reader.0.len() != end {
            return Err(damaged("it has another length than its header says"));
        }
        let mut segment = Segment::new(points, docs, codes);
        segment.base = base;
        segment.uppers = uppers;
        segment.entry = entry;
        segment.check()?;
        Ok(segment)
    }

    /// Checks everything that a search takes for granted.
    fn check(&self) -> Result<()> {
        let count = self.len();
        let known = |slot: &u32| (*slot as usize) < count;
        let ascending = self.points.windows(2).all(|pair| pair[0] < pair[1]);
        let entry = if count == 0 { self.entry == 0 } else { known(&self.entry) };
        let rows = self.base.all().iter().all(|slot| *slot == NONE || known(slot));
        let layers = self.uppers.iter().all(|upper| {
            upper.slots.iter().chain(&upper.links).all(known)
                && upper.slots.windows(2).all(|pair| pair[0] < pair[1])
                && upper.starts.windows(2).all(|pair| pair[0] <= pair[1])
                && upper.starts.last().is_some_and(|&end| end as usize == upper.links.len())
        });
        let scales = self.codes.scales().iter().all(|scale| scale.is_finite());
        if ascending && entry && rows && layers && scales {
            return Ok(());
        }
        Err(damaged("its arrays contradict each other"))
    }
}

/// Rows as version 2 keeps them.
fn rows(bytes: &[u8], degree: usize, count: usize) -> Rows {
    let mut rows = Rows::with_capacity(degree, count);
    for row in bytes.chunks_exact(degree * 4) {
        rows.push(row.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)));
    }
    rows
}

/// Rows as version 1 keeps them: a number, then that many links.
fn counted_rows(bytes: &[u8], stride: usize, count: usize) -> Result<Rows> {
    let mut rows = Rows::with_capacity(stride - 1, count);
    for row in bytes.chunks_exact(stride * 4) {
        let mut words = row.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word));
        let links = words.next().unwrap_or(0) as usize;
        if links >= stride {
            return Err(damaged("a row has more links than room"));
        }
        rows.push(words.take(links));
    }
    Ok(rows)
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
