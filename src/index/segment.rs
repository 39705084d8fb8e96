//! Immutable segments: codes of points and a navigable small-world graph over them, as flat arrays.

use std::cmp::Ordering;

use roaring::RoaringBitmap;

use super::code::Codes;

/// Fills the rows of points that have fewer links than there is room for.
pub(super) const NONE: u32 = u32::MAX;
/// Slots must stay below this: searches keep two marks beside each.
pub(super) const MAX_POINTS: usize = 1 << 30;

/// A cache line in links.
const LINE: usize = 16;

/// Links of the points of one upper layer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Upper {
    /// Slots in this layer, ascending.
    pub(super) slots: Vec<u32>,
    /// Where each slot's links start; one more than there are slots.
    pub(super) starts: Vec<u32>,
    /// Links, as slots.
    pub(super) links: Vec<u32>,
}

impl Upper {
    pub(super) fn neighbours(&self, slot: u32) -> &[u32] {
        let Ok(at) = self.slots.binary_search(&slot) else { return &[] };
        let (Some(&from), Some(&to)) = (self.starts.get(at), self.starts.get(at + 1)) else { return &[] };
        self.links.get(from as usize..to as usize).unwrap_or(&[])
    }
}

/// Links of the base layer: a row of fixed length for each point, begun at a cache line.
#[derive(Debug, Default)]
pub(super) struct Rows {
    degree: usize,
    links: Vec<u32>,
    start: usize,
}

impl Rows {
    /// No rows yet, of so many links, with room for so many.
    pub(super) fn with_capacity(degree: usize, rows: usize) -> Self {
        let mut links: Vec<u32> = Vec::with_capacity(degree * rows + LINE);
        let start = links.as_ptr().align_offset(64).min(LINE);
        links.resize(start, NONE);
        Self { degree, links, start }
    }

    pub(super) fn degree(&self) -> usize {
        self.degree
    }

    pub(super) fn push(&mut self, row: impl IntoIterator<Item = u32>) {
        let end = self.links.len() + self.degree;
        self.links.extend(row.into_iter().take(self.degree));
        self.links.resize(end, NONE);
    }

    /// All rows, one after the other.
    pub(super) fn all(&self) -> &[u32] {
        self.links.get(self.start..).unwrap_or(&[])
    }

    /// The links of a point.
    pub(super) fn of(&self, slot: u32) -> impl Iterator<Item = u32> + '_ {
        let from = slot as usize * self.degree;
        let row = self.all().get(from..from + self.degree).unwrap_or(&[]);
        row.iter().copied().take_while(|&link| link != NONE)
    }

    pub(super) fn memory(&self) -> usize {
        self.links.capacity() * 4
    }
}

/// An immutable part of an index, searched without locks.
///
/// The graph is that of Malkov and Yashunin, "Efficient and robust approximate nearest neighbor
/// search using Hierarchical Navigable Small World graphs" (arXiv:1603.09320).
#[derive(Debug)]
pub(super) struct Segment {
    /// Ids, ascending; the position of a point is its slot.
    pub(super) points: Vec<u64>,
    /// Document numbers.
    pub(super) docs: Vec<u32>,
    pub(super) codes: Codes,
    pub(super) base: Rows,
    /// Upper layers, the lowest first.
    pub(super) uppers: Vec<Upper>,
    /// Where searches start.
    pub(super) entry: u32,
    /// Slots in order of document number; empty where the slots are in that order themselves.
    by_doc: Vec<u32>,
    doc_set: RoaringBitmap,
}

/// A slot ordered by similarity, then by slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Near {
    pub(super) similarity: f32,
    pub(super) slot: u32,
}

impl Eq for Near {}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        self.similarity.total_cmp(&other.similarity).then(other.slot.cmp(&self.slot))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Segment {
    /// A segment of points without links yet.
    pub(super) fn new(points: Vec<u64>, docs: Vec<u32>, codes: Codes) -> Self {
        let ascending = docs.windows(2).all(|pair| pair[0] <= pair[1]);
        let mut by_doc: Vec<u32> = if ascending { Vec::new() } else { (0..docs.len() as u32).collect() };
        by_doc.sort_by_key(|&slot| docs[slot as usize]);
        let doc_set = docs.iter().copied().collect();
        Self { points, docs, codes, base: Rows::default(), uppers: Vec::new(), entry: 0, by_doc, doc_set }
    }

    /// Number of points, dead ones too.
    pub(super) fn len(&self) -> usize {
        self.points.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The slots of a range of points.
    pub(super) fn slots(&self, range: &std::ops::Range<u64>) -> std::ops::Range<u32> {
        let from = self.points.partition_point(|&point| point < range.start);
        let to = self.points.partition_point(|&point| point < range.end);
        from as u32..to as u32
    }

    /// Whether a point is there, dead or alive, and its slot.
    pub(super) fn slot(&self, point: u64) -> Option<u32> {
        self.points.binary_search(&point).ok().map(|slot| slot as u32)
    }

    /// Its documents.
    pub(super) fn documents(&self) -> &RoaringBitmap {
        &self.doc_set
    }

    /// The segment's documents that are in a filter.
    pub(super) fn documents_in(&self, filter: &RoaringBitmap) -> RoaringBitmap {
        filter & &self.doc_set
    }

    /// The slots of some documents, in the order of these.
    pub(super) fn matching(&self, documents: &RoaringBitmap) -> Vec<u32> {
        let mut found = Vec::new();
        let mut at = 0;
        for doc in documents {
            at = self.first_of(doc, at);
            while let Some(slot) = self.nth_by_doc(at).filter(|&slot| self.docs[slot as usize] == doc) {
                found.push(slot);
                at += 1;
            }
        }
        found
    }

    fn nth_by_doc(&self, at: usize) -> Option<u32> {
        if self.by_doc.is_empty() {
            return (at < self.len()).then_some(at as u32);
        }
        self.by_doc.get(at).copied()
    }

    /// The first position from `at` on, in order of documents, whose document is not before `doc`.
    /// Galloping: the cost grows with the logarithm of the distance.
    fn first_of(&self, doc: u32, at: usize) -> usize {
        let before = |at: usize| self.nth_by_doc(at).is_some_and(|slot| self.docs[slot as usize] < doc);
        let (mut from, mut step) = (at, 1);
        while before(from + step - 1) {
            from += step;
            step *= 2;
        }
        let mut to = from + step - 1;
        while from < to {
            let middle = from.midpoint(to);
            if before(middle) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// Bytes in memory.
    pub(super) fn memory(&self) -> usize {
        let uppers: usize =
            self.uppers.iter().map(|u| (u.slots.len() + u.starts.len() + u.links.len()) * 4).sum();
        self.codes.memory()
            + self.base.memory()
            + self.points.capacity() * 8
            + (self.docs.capacity() + self.by_doc.capacity()) * 4
            + self.doc_set.serialized_size()
            + uppers
    }
}
