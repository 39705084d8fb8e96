//! Searching one segment: a descent through the upper layers, then a best-first walk of the base.

use roaring::RoaringBitmap;

use super::code::{Code, fits};
use super::segment::{Near, Segment};

/// A filter is answered by scanning its points where they are fewer than this many times those that
/// a walk would keep. A walk looks at about so many points for each one that it keeps, and a scan
/// looks at them in order, which costs about half as much.
const SCAN_FACTOR: f64 = 24.0;
/// Slots scored at a time by a scan.
const SCAN_BATCH: usize = 256;

/// What one search of a segment is asked for.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) query: &'a Code,
    /// Most results.
    pub(super) k: usize,
    /// Candidates kept while walking.
    pub(super) ef: usize,
    /// Whether to scan instead of walking.
    pub(super) exact: bool,
    /// Documents that count; all where there is none.
    pub(super) filter: Option<&'a RoaringBitmap>,
    /// Slots that do not count.
    pub(super) deleted: &'a RoaringBitmap,
}

/// Memory of one search, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    visited: Vec<u64>,
    pool: Vec<Entry>,
    slots: Vec<u32>,
    dots: Vec<i32>,
    similarities: Vec<f32>,
}

const EXPANDED: u32 = 1 << 31;
const MATCHES: u32 = 1 << 30;

/// A point met on a walk: its slot with two marks, and its similarity.
#[derive(Debug, Clone, Copy)]
struct Entry {
    similarity: f32,
    marked: u32,
}

impl Entry {
    fn slot(self) -> u32 {
        self.marked & !(EXPANDED | MATCHES)
    }

    fn is(self, mark: u32) -> bool {
        self.marked & mark != 0
    }
}

/// The best points met, best first. Those that do not match take no room: the pool holds all of
/// them that are better than the last match which still has a place.
struct Pool<'a> {
    entries: &'a mut Vec<Entry>,
    matching: usize,
    ef: usize,
}

impl Pool<'_> {
    /// Similarity from which on a point has a place.
    fn bound(&self) -> f32 {
        match self.entries.last() {
            Some(last) if self.matching >= self.ef => last.similarity,
            _ => f32::NEG_INFINITY,
        }
    }

    /// Puts a point in its place and returns it.
    fn insert(&mut self, entry: Entry) -> usize {
        let at = self.entries.partition_point(|other| other.similarity >= entry.similarity);
        self.entries.insert(at, entry);
        self.matching += usize::from(entry.is(MATCHES));
        while let Some(last) = self.entries.last().copied() {
            let full = self.matching > self.ef || (self.matching == self.ef && !last.is(MATCHES));
            if !full {
                break;
            }
            self.matching -= usize::from(last.is(MATCHES));
            self.entries.pop();
        }
        at
    }
}

impl Segment {
    /// The `k` nearest living points whose document is in the filter, best first.
    pub(super) fn search(&self, ask: &Ask<'_>, scratch: &mut Scratch) -> Vec<Near> {
        if self.is_empty() || ask.k == 0 || !fits(ask.query, self.codes.dimensions()) {
            return Vec::new();
        }
        let alive = |slot: u32| !ask.deleted.contains(slot);
        match ask.filter {
            Some(filter) if ask.exact || self.is_narrow(filter, ask.ef.max(ask.k)) => {
                let slots = self.matching(filter).into_iter().filter(|&slot| alive(slot));
                self.scan(ask, slots, scratch)
            }
            None if ask.exact => self.scan(ask, (0..self.len() as u32).filter(|&slot| alive(slot)), scratch),
            Some(filter) => {
                self.walk(ask, scratch, |slot| filter.contains(self.docs[slot as usize]) && alive(slot))
            }
            None if ask.deleted.is_empty() => self.walk(ask, scratch, |_| true),
            None => self.walk(ask, scratch, alive),
        }
    }

    /// Whether a filter leaves so few points that scanning them costs less than walking the graph,
    /// which has to look at the more points the fewer of them match.
    fn is_narrow(&self, filter: &RoaringBitmap, ef: usize) -> bool {
        let (matching, all) = self.documents_in(filter);
        let share = matching as f64 / all.max(1) as f64;
        let points = share * self.len() as f64;
        points * share < SCAN_FACTOR * ef as f64
    }

    fn scan(&self, ask: &Ask<'_>, slots: impl Iterator<Item = u32>, scratch: &mut Scratch) -> Vec<Near> {
        let mut slots = slots.peekable();
        let mut best = Best::new(ask.k);
        while slots.peek().is_some() {
            scratch.slots.clear();
            scratch.slots.extend(slots.by_ref().take(SCAN_BATCH));
            let Scratch { slots, dots, similarities, .. } = &mut *scratch;
            self.codes.similarities(ask.query, slots, dots, similarities);
            for (&slot, &similarity) in slots.iter().zip(similarities.iter()) {
                best.offer(Near { similarity, slot });
            }
        }
        best.into_sorted()
    }

    /// Best-first search of the base layer (algorithm 2), which passes through points that do not
    /// match and collects only those that do.
    fn walk(&self, ask: &Ask<'_>, scratch: &mut Scratch, matches: impl Fn(u32) -> bool) -> Vec<Near> {
        let start = self.descend(ask.query, scratch);
        let Scratch { visited, pool, slots, dots, similarities } = scratch;
        visited.clear();
        visited.resize(self.len().div_ceil(64), 0);
        pool.clear();
        let ef = ask.ef.max(ask.k);
        let mut pool = Pool { entries: pool, matching: 0, ef };
        let entry = |near: Near| Entry {
            similarity: near.similarity,
            marked: near.slot | if matches(near.slot) { MATCHES } else { 0 },
        };
        mark(visited, start.slot);
        pool.insert(entry(start));
        let mut next = 0;
        while let Some(at) = pool.entries.get_mut(next) {
            if at.is(EXPANDED) {
                next += 1;
                continue;
            }
            at.marked |= EXPANDED;
            slots.clear();
            slots.extend(self.base.of(at.slot()).filter(|&slot| mark(visited, slot)));
            self.codes.similarities(ask.query, slots, dots, similarities);
            let mut bound = pool.bound();
            for (&slot, &similarity) in slots.iter().zip(similarities.iter()) {
                if similarity <= bound {
                    continue;
                }
                next = pool.insert(entry(Near { similarity, slot })).min(next);
                bound = pool.bound();
            }
        }
        let found = pool.entries.iter().filter(|entry| entry.is(MATCHES)).take(ask.k);
        found.map(|entry| Near { similarity: entry.similarity, slot: entry.slot() }).collect()
    }

    /// Greedy descent that stays on a layer until nothing there is closer.
    fn descend(&self, query: &Code, scratch: &mut Scratch) -> Near {
        let Scratch { dots, similarities, .. } = scratch;
        let mut score = |slots: &[u32]| {
            self.codes.similarities(query, slots, dots, similarities);
            let pairs = slots.iter().zip(similarities.iter());
            pairs.map(|(&slot, &similarity)| Near { similarity, slot }).max()
        };
        let start = Near { similarity: f32::NEG_INFINITY, slot: self.entry };
        let mut at = score(&[self.entry]).unwrap_or(start);
        for layer in self.uppers.iter().rev() {
            while let Some(best) = score(layer.neighbours(at.slot)).filter(|best| *best > at) {
                at = best;
            }
        }
        at
    }
}

/// Marks a slot; whether it was unmarked.
fn mark(visited: &mut [u64], slot: u32) -> bool {
    let Some(word) = visited.get_mut(slot as usize / 64) else { return false };
    let bit = 1 << (slot % 64);
    let fresh = *word & bit == 0;
    *word |= bit;
    fresh
}

/// The greatest of what is offered.
pub(super) struct Best<T> {
    heap: std::collections::BinaryHeap<std::cmp::Reverse<T>>,
    k: usize,
}

impl<T: Ord> Best<T> {
    /// Keeps `k`.
    pub(super) fn new(k: usize) -> Self {
        Self { heap: std::collections::BinaryHeap::new(), k }
    }

    pub(super) fn offer(&mut self, item: T) {
        if self.heap.len() < self.k {
            self.heap.push(std::cmp::Reverse(item));
            return;
        }
        if self.heap.peek().is_some_and(|worst| item > worst.0) {
            self.heap.pop();
            self.heap.push(std::cmp::Reverse(item));
        }
    }

    /// Best first.
    pub(super) fn into_sorted(self) -> Vec<T> {
        self.heap.into_sorted_vec().into_iter().map(|item| item.0).collect()
    }
}
