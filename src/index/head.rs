//! New points, scanned exactly until they are sealed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use roaring::RoaringBitmap;

use super::Candidate;
use super::code::{Code, dot};
use super::segment::{Near, keep_best};

/// Points in order of insertion.
#[derive(Debug, Clone, Default)]
pub struct Head {
    pub(super) dimensions: usize,
    pub(super) points: Vec<u64>,
    pub(super) docs: Vec<u32>,
    pub(super) scales: Vec<f32>,
    pub(super) codes: Vec<i8>,
    /// How many of the first points are in a segment that is not yet in use.
    pub(super) sealing: usize,
    /// Ranges removed since the last build began.
    pub(super) removed: Vec<Range<u64>>,
}

impl Head {
    /// An empty head.
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions, ..Self::default() }
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether it has no point.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    pub(super) fn code(&self, i: usize) -> &[i8] {
        &self.codes[i * self.dimensions..(i + 1) * self.dimensions]
    }

    pub(super) fn push(&mut self, point: u64, doc: u32, code: &[i8], scale: f32) {
        self.points.push(point);
        self.docs.push(doc);
        self.scales.push(scale);
        self.codes.extend_from_slice(code);
    }

    /// Removes the points of a range.
    pub fn remove_range(&mut self, range: &Range<u64>) {
        if self.points.iter().any(|point| range.contains(point)) {
            self.retain(|_, point| !range.contains(&point));
        }
    }

    /// Drops the points that are now in a segment.
    pub(super) fn drop_sealed(&mut self) {
        let sealing = self.sealing;
        self.retain(|i, _| i >= sealing);
        self.sealing = 0;
    }

    fn retain(&mut self, keep: impl Fn(usize, u64) -> bool) {
        let mut rest = Head::new(self.dimensions);
        for i in 0..self.len() {
            if !keep(i, self.points[i]) {
                continue;
            }
            rest.push(self.points[i], self.docs[i], self.code(i), self.scales[i]);
            rest.sealing += usize::from(i < self.sealing);
        }
        rest.removed = std::mem::take(&mut self.removed);
        *self = rest;
    }

    /// The `k` nearest points whose document is in the filter, best first.
    pub fn search(&self, query: &Code, k: usize, filter: Option<&RoaringBitmap>) -> Vec<Candidate> {
        let mut best = BinaryHeap::new();
        for i in 0..self.len() {
            if filter.is_some_and(|filter| !filter.contains(self.docs[i])) {
                continue;
            }
            let similarity = dot(&query.values, self.code(i)) * query.scale * self.scales[i];
            keep_best(&mut best, k, Near { similarity, slot: i as u32 });
        }
        best.into_sorted_vec()
            .into_iter()
            .map(|Reverse(near)| Candidate {
                point: self.points[near.slot as usize],
                doc_no: self.docs[near.slot as usize],
                similarity: near.similarity,
            })
            .collect()
    }
}
