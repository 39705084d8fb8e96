//! Immutable segments: a flat copy of a navigable small-world graph over int8 codes.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use roaring::RoaringBitmap;

use super::Candidate;
use super::code::{Code, dot};
use super::visited::Pool;

/// Below this share of a segment's points a filter is answered by scanning them.
const SCAN_SHARE: f64 = 0.05;
/// Below this number of matching points a filter is answered by scanning them.
const SCAN_POINTS: f64 = 2000.0;

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
    fn neighbours(&self, slot: u32) -> &[u32] {
        let Ok(at) = self.slots.binary_search(&slot) else { return &[] };
        let (Some(&from), Some(&to)) = (self.starts.get(at), self.starts.get(at + 1)) else { return &[] };
        self.links.get(from as usize..to as usize).unwrap_or(&[])
    }
}

/// An immutable part of an index, searched without locks.
///
/// The graph is that of Malkov and Yashunin, "Efficient and robust approximate nearest neighbor
/// search using Hierarchical Navigable Small World graphs" (arXiv:1603.09320).
#[derive(Debug, Default)]
pub struct Segment {
    pub(super) dimensions: usize,
    pub(super) points: Vec<u64>,
    pub(super) docs: Vec<u32>,
    pub(super) codes: Vec<i8>,
    pub(super) scales: Vec<f32>,
    /// Numbers per point in `base`: a count, then that many links.
    pub(super) stride: usize,
    pub(super) base: Vec<u32>,
    /// Upper layers, the lowest first.
    pub(super) uppers: Vec<Upper>,
    pub(super) entry: u32,
    /// Slots in order of document number.
    pub(super) by_doc: Vec<u32>,
    pub(super) doc_set: RoaringBitmap,
    pub(super) pool: Pool,
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
    /// Makes what is derived from the stored arrays.
    pub(super) fn derive(mut self) -> Self {
        self.by_doc = (0..self.points.len() as u32).collect();
        self.by_doc.sort_by_key(|&slot| self.docs[slot as usize]);
        self.doc_set = self.docs.iter().copied().collect();
        self
    }

    /// Number of points, dead ones too.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether it has no point.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    pub(super) fn code(&self, slot: u32) -> &[i8] {
        let start = slot as usize * self.dimensions;
        &self.codes[start..start + self.dimensions]
    }

    fn similarity(&self, query: &Code, slot: u32) -> f32 {
        dot(&query.values, self.code(slot)) * query.scale * self.scales[slot as usize]
    }

    pub(super) fn between(&self, a: u32, b: u32) -> f32 {
        dot(self.code(a), self.code(b)) * self.scales[a as usize] * self.scales[b as usize]
    }

    fn neighbours(&self, slot: u32) -> &[u32] {
        let start = slot as usize * self.stride;
        let count = self.base[start] as usize;
        &self.base[start + 1..start + 1 + count]
    }

    /// The `k` nearest living points whose document is in the filter, best first.
    pub fn search(
        &self,
        query: &Code,
        k: usize,
        ef: usize,
        exact: bool,
        filter: Option<&RoaringBitmap>,
        deleted: &RoaringBitmap,
    ) -> Vec<Candidate> {
        if self.is_empty() || k == 0 || query.values.len() != self.dimensions {
            return Vec::new();
        }
        let alive = |slot: u32| !deleted.contains(slot);
        let found = match filter {
            Some(filter) if exact || self.is_narrow(filter) => {
                self.scan(query, k, self.matching(filter).filter(|&slot| alive(slot)))
            }
            None if exact => self.scan(query, k, (0..self.len() as u32).filter(|&slot| alive(slot))),
            Some(filter) => {
                self.walk(query, k, ef, |slot| alive(slot) && filter.contains(self.docs[slot as usize]))
            }
            None => self.walk(query, k, ef, alive),
        };
        found
            .into_iter()
            .map(|near| Candidate {
                point: self.points[near.slot as usize],
                doc_no: self.docs[near.slot as usize],
                similarity: near.similarity,
            })
            .collect()
    }

    /// Whether a filter leaves so few points that scanning them costs less than walking the graph.
    fn is_narrow(&self, filter: &RoaringBitmap) -> bool {
        let share = filter.intersection_len(&self.doc_set) as f64 / self.doc_set.len().max(1) as f64;
        share < SCAN_SHARE || share * (self.len() as f64) < SCAN_POINTS
    }

    fn matching(&self, filter: &RoaringBitmap) -> impl Iterator<Item = u32> {
        let docs = filter & &self.doc_set;
        docs.into_iter().flat_map(move |doc| {
            let from = self.by_doc.partition_point(|&slot| self.docs[slot as usize] < doc);
            self.by_doc[from..].iter().copied().take_while(move |&slot| self.docs[slot as usize] == doc)
        })
    }

    fn scan(&self, query: &Code, k: usize, slots: impl Iterator<Item = u32>) -> Vec<Near> {
        let mut best = BinaryHeap::new();
        for slot in slots {
            keep_best(&mut best, k, Near { similarity: self.similarity(query, slot), slot });
        }
        best.into_sorted_vec().into_iter().map(|Reverse(near)| near).collect()
    }

    /// Best-first search of the base layer (algorithm 2), which passes through points that do
    /// not match and collects only those that do.
    fn walk(&self, query: &Code, k: usize, ef: usize, matches: impl Fn(u32) -> bool) -> Vec<Near> {
        let ef = ef.max(k);
        let mut visited = self.pool.take(self.len());
        let start = self.descend(query);
        visited.mark(start.slot);
        let mut open = BinaryHeap::from([start]);
        let mut best = BinaryHeap::new();
        if matches(start.slot) {
            best.push(Reverse(start));
        }
        while let Some(near) = open.pop() {
            if best.len() >= ef && best.peek().is_some_and(|Reverse(worst)| near < *worst) {
                break;
            }
            for &slot in self.neighbours(near.slot) {
                if !visited.mark(slot) {
                    continue;
                }
                let next = Near { similarity: self.similarity(query, slot), slot };
                if best.len() >= ef && best.peek().is_some_and(|Reverse(worst)| next < *worst) {
                    continue;
                }
                open.push(next);
                if matches(slot) {
                    keep_best(&mut best, ef, next);
                }
            }
        }
        self.pool.give(visited);
        let mut found: Vec<Near> = best.into_sorted_vec().into_iter().map(|Reverse(near)| near).collect();
        found.truncate(k);
        found
    }

    /// Greedy descent that stays on a layer until nothing there is closer.
    fn descend(&self, query: &Code) -> Near {
        let mut at = Near { similarity: self.similarity(query, self.entry), slot: self.entry };
        for layer in self.uppers.iter().rev() {
            loop {
                let from = at.slot;
                for &slot in layer.neighbours(from) {
                    at = at.max(Near { similarity: self.similarity(query, slot), slot });
                }
                if at.slot == from {
                    break;
                }
            }
        }
        at
    }
}

/// Keeps the `k` greatest in a heap whose top is the least of them.
pub(super) fn keep_best<T: Ord>(best: &mut BinaryHeap<Reverse<T>>, k: usize, item: T) {
    if best.len() < k {
        best.push(Reverse(item));
        return;
    }
    if best.peek().is_some_and(|Reverse(worst)| item > *worst) {
        best.pop();
        best.push(Reverse(item));
    }
}
