//! New points, scanned exactly until they are sealed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::Candidate;
use super::code::{Code, Codes};
use super::segment::Near;
use super::walk::Best;

/// Points of one chunk.
const CHUNK: usize = 512;

/// Some points in order of insertion. Only the last chunk of a head grows.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    points: Vec<u64>,
    docs: Vec<u32>,
    codes: Codes,
    dead: Vec<bool>,
}

impl Chunk {
    fn new(dimensions: usize) -> Self {
        Self {
            points: Vec::with_capacity(CHUNK),
            docs: Vec::with_capacity(CHUNK),
            codes: Codes::with_capacity(dimensions, CHUNK),
            dead: Vec::with_capacity(CHUNK),
        }
    }

    /// Living points: id, document and slot.
    pub(super) fn alive(&self) -> impl Iterator<Item = (u64, u32, u32)> + '_ {
        let points = self.points.iter().zip(&self.docs).zip(&self.dead).zip(0u32..);
        points.filter(|((_, dead), _)| !**dead).map(|(((&point, &doc), _), slot)| (point, doc, slot))
    }

    pub(super) fn codes(&self) -> &Codes {
        &self.codes
    }

    /// Offers the living points whose document is in the filter.
    pub(super) fn scan(&self, query: &Code, filter: Option<&RoaringBitmap>, best: &mut Best<Found>) {
        let (mut slots, mut dots, mut similarities) = (Vec::new(), Vec::new(), Vec::new());
        let matches = |doc: u32| filter.is_none_or(|filter| filter.contains(doc));
        slots.extend(self.alive().filter(|&(_, doc, _)| matches(doc)).map(|(_, _, slot)| slot));
        self.codes.similarities(query, &slots, &mut dots, &mut similarities);
        for (&slot, &similarity) in slots.iter().zip(&similarities) {
            let at = slot as usize;
            best.offer(Found::new(Near { similarity, slot }, self.points[at], self.docs[at]));
        }
    }
}

/// A point found, ordered by similarity, then by id.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found(pub(super) Candidate);

impl Found {
    pub(super) fn new(near: Near, point: u64, doc_no: u32) -> Self {
        Self(Candidate { point, doc_no, similarity: near.similarity })
    }
}

impl Eq for Found {}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.similarity.total_cmp(&other.0.similarity).then(other.0.point.cmp(&self.0.point))
    }
}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The points that are in no segment yet.
#[derive(Debug)]
pub(super) struct Head {
    dimensions: usize,
    chunks: Vec<Arc<Chunk>>,
    /// Number of the first chunk; numbers rise and are not used again.
    first: u64,
    /// Chunk number and slot of every living point.
    places: BTreeMap<u64, (u64, u32)>,
    /// Whether the last chunk takes no more points, because it is being sealed.
    closed: bool,
}

impl Head {
    pub(super) fn new(dimensions: usize) -> Self {
        Self { dimensions, chunks: Vec::new(), first: 0, places: BTreeMap::new(), closed: false }
    }

    /// Number of living points.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Room taken, in points.
    pub(super) fn room(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    pub(super) fn contains(&self, point: u64) -> bool {
        self.places.contains_key(&point)
    }

    /// Cosine of a query and the code of a living point.
    pub(super) fn similarity(&self, query: &Code, point: u64) -> Option<f32> {
        let &(number, slot) = self.places.get(&point)?;
        let chunk = self.chunks.get((number - self.first) as usize)?;
        let (mut dots, mut similarities) = (Vec::with_capacity(1), Vec::with_capacity(1));
        chunk.codes.similarities(query, &[slot], &mut dots, &mut similarities);
        similarities.first().copied()
    }

    /// Adds a point, in place of one with the same id.
    pub(super) fn push(&mut self, point: u64, doc: u32, code: &Code) {
        if self.places.contains_key(&point) {
            self.remove_range(&(point..point.saturating_add(1)));
        }
        let full = self.chunks.last().is_none_or(|chunk| chunk.points.len() >= CHUNK);
        if full || self.closed {
            self.chunks.push(Arc::new(Chunk::new(self.dimensions)));
            self.closed = false;
        }
        let number = self.first + self.chunks.len() as u64 - 1;
        let Some(chunk) = self.chunks.last_mut() else { return };
        let chunk = Arc::make_mut(chunk);
        let slot = chunk.points.len() as u32;
        chunk.points.push(point);
        chunk.docs.push(doc);
        chunk.codes.push(code);
        chunk.dead.push(false);
        self.places.insert(point, (number, slot));
    }

    /// Removes the points of a range.
    pub(super) fn remove_range(&mut self, range: &Range<u64>) {
        while let Some((&point, &(number, slot))) = self.places.range(range.clone()).next() {
            self.places.remove(&point);
            let chunk = self.chunks.get_mut((number - self.first) as usize);
            let dead = chunk.and_then(|chunk| Arc::make_mut(chunk).dead.get_mut(slot as usize));
            if let Some(dead) = dead {
                *dead = true;
            }
        }
    }

    /// The first chunks that hold at least so many living points, or all; from now on they do not grow.
    pub(super) fn seal(&mut self, limit: usize) -> Vec<Arc<Chunk>> {
        let mut alive = 0;
        let mut sealed = Vec::new();
        for chunk in &self.chunks {
            if alive >= limit {
                return sealed;
            }
            alive += chunk.dead.iter().filter(|dead| !**dead).count();
            sealed.push(chunk.clone());
        }
        self.closed = true;
        sealed
    }

    /// Drops the first chunks, whose points are in a segment now.
    pub(super) fn drop_sealed(&mut self, chunks: usize) {
        self.chunks.drain(..chunks.min(self.chunks.len()));
        self.first += chunks as u64;
        let first = self.first;
        self.places.retain(|_, (number, _)| *number >= first);
    }

    /// Scans the last chunk, which may grow, and returns the others, which hardly ever change.
    pub(super) fn scan_last(
        &self,
        query: &Code,
        filter: Option<&RoaringBitmap>,
        best: &mut Best<Found>,
    ) -> Vec<Arc<Chunk>> {
        let Some((last, others)) = self.chunks.split_last() else { return Vec::new() };
        last.scan(query, filter, best);
        others.to_vec()
    }

    /// Bytes in memory.
    pub(super) fn memory(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.codes.memory() + CHUNK * 13).sum();
        chunks + self.places.len() * 32
    }
}
