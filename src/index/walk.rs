//! Searching one segment: a descent through the upper layers, then a best-first walk of the base.

use std::borrow::Cow;

use roaring::RoaringBitmap;

use super::code::{Code, fits};
use super::segment::{Near, Segment};
use crate::task::Cancelled;

/// Cost of looking at a point on a walk, in points of a scan, which go through memory in order.
const WALK_COST: f64 = 2.0;
/// Cost of reading a row of links on the way through a point that does not match, in points of a scan.
const ROW_COST: f64 = 3.0;
/// Points that a walk scores for each one that it keeps.
const SCORED_PER_KEPT: f64 = 6.0;
/// What keeping these in order costs for each pair of the ones kept, in points of a scan: each of some three times as
/// many that are put in their place moves half of the others, eight bytes each.
const KEEPING_COST: f64 = 0.015;
/// Rows that it reads on the way, for each one that it keeps, if all points match; the more the fewer do.
const ROWS_PER_KEPT: f64 = 0.4;
/// A scan is exact: what it costs less than so many times a walk is scanned.
const SCAN_WORTH: f64 = 1.5;
/// Matching points that are looked for around each one: about as many links as lead on without a filter.
const WANTED: usize = 16;
/// What is reached through others is not the nearest of what matches, so more candidates are kept: so much more for each
/// time that the share of the matching points halves.
const HALVING_GAIN: f64 = 0.25;
/// Candidates of the walk that looks whether there are matches near the query.
const PROBE: usize = 48;
/// Where matches are rarer near the query than in the whole segment, they are not near each other either, and each
/// leads to fewer of the others: so many times more candidates are kept as they are rarer.
const RARE_GAIN: f64 = 1.25;
/// Most times.
const MOST_GAIN: f64 = 8.0;
/// Times from which on a walk starts from points all over the segment too.
const SEED_GAIN: f64 = 2.0;
/// So few matches met on the first walk are too few to go on from alone.
const FEW_MET: usize = 8;
/// How many points of the whole segment are taken.
const SEEDS: u64 = 64;
/// A bitmap of up to so many documents is unpacked for a walk, which asks it for each link that it sees.
const UNPACKED: u64 = 1 << 17;
/// More candidates are kept as more points are dead, up to one over this.
const LEAST_ALIVE: f64 = 0.25;
/// Slots scored at a time by a scan.
const SCAN_BATCH: usize = 256;
/// Batches after which it is asked whether anybody waits still.
const SCAN_BATCHES: usize = 32;

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
    /// Ends a scan early; what it gives is then of no use.
    pub(super) is_cancelled: Cancelled<'a>,
}

/// Memory of one search, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    visited: Vec<u64>,
    pool: Vec<Entry>,
    bridges: Vec<u32>,
    slots: Vec<u32>,
    dots: Vec<i32>,
    similarities: Vec<f32>,
    /// What the last search of a segment looked at.
    effort: Effort,
}

/// What a search looked at.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effort {
    /// Points scored in order of memory.
    scanned: usize,
    /// Points scored on walks.
    scored: usize,
    /// Rows of links read on the way through points that do not match.
    rows: usize,
}

impl Effort {
    /// What it costs, in points of a scan.
    #[cfg(test)]
    pub(super) fn cost(self) -> f64 {
        self.scanned as f64 + self.scored as f64 * WALK_COST + self.rows as f64 * ROW_COST
    }
}

const EXPANDED: u32 = 1 << 31;

/// A point met on a walk: its slot with a mark, and its similarity.
#[derive(Debug, Clone, Copy)]
struct Entry {
    similarity: f32,
    marked: u32,
}

impl Entry {
    fn slot(self) -> u32 {
        self.marked & !EXPANDED
    }

    fn is_expanded(self) -> bool {
        self.marked & EXPANDED != 0
    }
}

impl Scratch {
    /// Starts a walk over so many slots from some points.
    fn begin(&mut self, slots: usize, from: &[Near]) {
        self.visited.clear();
        self.visited.resize(slots.div_ceil(64), 0);
        self.pool.clear();
        for near in from {
            if mark(&mut self.visited, near.slot) {
                self.pool.push(Entry { similarity: near.similarity, marked: near.slot });
            }
        }
        self.pool.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    }

    /// What the last search of a segment looked at.
    #[cfg(test)]
    pub(super) fn effort(&self) -> Effort {
        self.effort
    }

    /// The best of the pool that match.
    fn found(&self, k: usize, matches: impl Fn(u32) -> bool) -> Vec<Near> {
        let matching = self.pool.iter().filter(|entry| matches(entry.slot()));
        matching.take(k).map(|entry| Near { similarity: entry.similarity, slot: entry.slot() }).collect()
    }
}

/// The best points met, best first.
struct Pool<'a> {
    entries: &'a mut Vec<Entry>,
    ef: usize,
}

impl Pool<'_> {
    /// Similarity from which on a point has a place.
    fn bound(&self) -> f32 {
        match self.entries.last() {
            Some(last) if self.entries.len() >= self.ef => last.similarity,
            _ => f32::NEG_INFINITY,
        }
    }

    /// Puts a point in its place and returns it.
    fn insert(&mut self, near: Near) -> usize {
        let at = self.entries.partition_point(|other| other.similarity >= near.similarity);
        self.entries.insert(at, Entry { similarity: near.similarity, marked: near.slot });
        self.entries.truncate(self.ef);
        at
    }
}

impl Segment {
    /// The `k` nearest living points whose document is in the filter, best first.
    pub(super) fn search(&self, ask: &Ask<'_>, scratch: &mut Scratch) -> Vec<Near> {
        scratch.effort = Effort::default();
        if self.is_empty() || ask.k == 0 || !fits(ask.query, self.codes.dimensions()) {
            return Vec::new();
        }
        let alive = |slot: u32| !ask.deleted.contains(slot);
        let ef = ask.ef.max(ask.k);
        let pays = walk_cost(1.0, ef) * SCAN_WORTH < self.len() as f64;
        if ask.filter.is_none() && !ask.exact && pays {
            if ask.deleted.is_empty() {
                return self.walk(ask, scratch, ef);
            }
            let share = 1.0 - ask.deleted.len() as f64 / self.len() as f64;
            let found = self.walk(ask, scratch, (ef as f64 / share.max(LEAST_ALIVE)) as usize);
            if found.len() == ask.k {
                return found;
            }
            // What is near the query is dead.
        }
        let documents = match ask.filter {
            Some(filter) => Cow::Owned(self.documents_in(filter)),
            None => Cow::Borrowed(self.documents()),
        };
        if !ask.exact
            && let Some(found) = self.filtered_walk(ask, scratch, &documents)
        {
            return found;
        }
        let slots = self.matching(&documents).into_iter().filter(|&slot| alive(slot));
        self.scan(ask, slots, scratch)
    }

    fn scan(&self, ask: &Ask<'_>, slots: impl Iterator<Item = u32>, scratch: &mut Scratch) -> Vec<Near> {
        let mut slots = slots.peekable();
        let mut best = Best::new(ask.k);
        let mut batches = 0usize;
        while slots.peek().is_some() {
            batches += 1;
            if batches.is_multiple_of(SCAN_BATCHES) && (ask.is_cancelled)() {
                break;
            }
            scratch.slots.clear();
            scratch.slots.extend(slots.by_ref().take(SCAN_BATCH));
            let Scratch { slots, dots, similarities, effort, .. } = &mut *scratch;
            effort.scanned += slots.len();
            self.codes.similarities(ask.query, slots, dots, similarities);
            for (&slot, &similarity) in slots.iter().zip(similarities.iter()) {
                best.offer(Near { similarity, slot });
            }
        }
        best.into_sorted()
    }

    /// Walks to the nearest points, dead and alive, and gives those that are alive.
    fn walk(&self, ask: &Ask<'_>, scratch: &mut Scratch, ef: usize) -> Vec<Near> {
        let start = self.descend(ask.query, scratch);
        scratch.begin(self.len(), &[start]);
        self.best_first(ask.query, scratch, ef, |_| true, |_| ());
        scratch.found(ask.k, |slot| !ask.deleted.contains(slot))
    }

    /// Walks to the nearest matching points where that costs less than to scan all of these; else `None`.
    ///
    /// A first walk that knows no filter looks at what is near the query, and how many matches there are. From
    /// these goes a second one, which is the wider the fewer they are.
    fn filtered_walk(
        &self,
        ask: &Ask<'_>,
        scratch: &mut Scratch,
        documents: &RoaringBitmap,
    ) -> Option<Vec<Near>> {
        let share = documents.len() as f64 / self.documents().len().max(1) as f64;
        // A document's points are spread evenly enough for an estimate.
        let points = self.len() as f64 * share;
        let halvings = -share.max(f64::MIN_POSITIVE).log2();
        let ef = (ask.ef.max(ask.k) as f64 * (1.0 + HALVING_GAIN * halvings)) as usize;
        if walk_cost(share, ef) * SCAN_WORTH > points {
            return None;
        }
        let allowed = Allowed::new(documents);
        let alive = |slot: u32| ask.deleted.is_empty() || !ask.deleted.contains(slot);
        let matches =
            |slot: u32| self.docs.get(slot as usize).is_some_and(|&doc| allowed.contains(doc)) && alive(slot);
        let start = self.descend(ask.query, scratch);
        scratch.begin(self.len(), &[start]);
        let mut met: Vec<Near> = Some(start).filter(|start| matches(start.slot)).into_iter().collect();
        self.best_first(
            ask.query,
            scratch,
            PROBE,
            |_| true,
            |near| {
                met.extend(Some(near).filter(|near| matches(near.slot)));
            },
        );
        let near = scratch.pool.iter().filter(|entry| matches(entry.slot())).count().max(1);
        let rarer = share * scratch.pool.len() as f64 / near as f64;
        let gain = (rarer * RARE_GAIN).clamp(1.0, MOST_GAIN);
        let ef = (ef as f64 * gain) as usize;
        if gain > SEED_GAIN || met.len() < FEW_MET {
            if walk_cost(share, ef) * SCAN_WORTH > points {
                return None;
            }
            let seeds = self.seeds(documents);
            let Scratch { dots, similarities, effort, .. } = &mut *scratch;
            effort.scored += seeds.len();
            self.codes.similarities(ask.query, &seeds, dots, similarities);
            let scored = seeds.iter().zip(similarities.iter());
            let scored = scored.map(|(&slot, &similarity)| Near { similarity, slot });
            met.extend(scored.filter(|near| matches(near.slot)));
        }
        scratch.begin(self.len(), &met);
        self.best_first(ask.query, scratch, ef, matches, |_| ());
        let found = scratch.found(ask.k, matches);
        (found.len() == ask.k).then_some(found)
    }

    /// Best-first search of the base layer (algorithm 2) from what is in the pool over the points that match, and
    /// tells of each that it scores. Around each of them, points that do not match are stepped through without
    /// being scored, until enough that do are seen: the way of ACORN-1 (Patel et al., "ACORN: Performant and
    /// Predicate-Agnostic Search Over Vector Embeddings and Structured Data", arXiv:2403.04871).
    fn best_first(
        &self,
        query: &Code,
        scratch: &mut Scratch,
        ef: usize,
        matches: impl Fn(u32) -> bool,
        mut met: impl FnMut(Near),
    ) {
        let Scratch { visited, pool, bridges, slots, dots, similarities, effort, .. } = scratch;
        pool.truncate(ef);
        let mut pool = Pool { entries: pool, ef };
        let mut next = 0;
        while let Some(entry) = pool.entries.get_mut(next) {
            if entry.is_expanded() {
                next += 1;
                continue;
            }
            entry.marked |= EXPANDED;
            let slot = entry.slot();
            effort.rows += self.collect(slot, &matches, visited, bridges, slots);
            effort.scored += slots.len();
            self.codes.similarities(query, slots, dots, similarities);
            let mut bound = pool.bound();
            for (&slot, &similarity) in slots.iter().zip(similarities.iter()) {
                let near = Near { similarity, slot };
                met(near);
                if similarity <= bound {
                    continue;
                }
                next = pool.insert(near).min(next);
                bound = pool.bound();
            }
        }
    }

    /// The matching points around one that were not met before. Returns how many rows of others were read.
    fn collect(
        &self,
        slot: u32,
        matches: &impl Fn(u32) -> bool,
        visited: &mut [u64],
        bridges: &mut Vec<u32>,
        slots: &mut Vec<u32>,
    ) -> usize {
        bridges.clear();
        slots.clear();
        let mut seen = 0;
        for near in self.base.of(slot) {
            if !matches(near) {
                bridges.push(near);
                continue;
            }
            seen += 1;
            if mark(visited, near) {
                slots.push(near);
            }
        }
        let mut rows = 0;
        for &bridge in bridges.iter() {
            if seen >= WANTED {
                break;
            }
            if !mark(visited, bridge) {
                continue;
            }
            rows += 1;
            for near in self.base.of(bridge).filter(|&near| matches(near)) {
                seen += 1;
                if mark(visited, near) {
                    slots.push(near);
                }
            }
        }
        rows
    }

    /// A point each of some documents, from all over them.
    fn seeds(&self, documents: &RoaringBitmap) -> Vec<u32> {
        let every = documents.len().div_ceil(SEEDS).max(1);
        let ranks = (0..documents.len()).step_by(every as usize);
        let chosen: RoaringBitmap = ranks.filter_map(|rank| documents.select(rank as u32)).collect();
        let mut slots = self.matching(&chosen);
        slots.dedup_by_key(|slot| self.docs[*slot as usize]);
        slots
    }

    /// Greedy descent that stays on a layer until nothing there is closer.
    fn descend(&self, query: &Code, scratch: &mut Scratch) -> Near {
        let Scratch { dots, similarities, effort, .. } = scratch;
        let mut score = |slots: &[u32]| {
            effort.scored += slots.len();
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

/// What a walk costs where so many of the points match, in points of a scan.
fn walk_cost(share: f64, ef: usize) -> f64 {
    let (rows, ef) = (ROWS_PER_KEPT / share.max(f64::MIN_POSITIVE), ef as f64);
    ef * (SCORED_PER_KEPT * WALK_COST + rows * ROW_COST) + ef * ef * KEEPING_COST
}

/// The documents of a filter, to be asked for often.
enum Allowed<'a> {
    /// A bit for each number.
    Bits(Vec<u64>),
    /// Too many to be unpacked for one search.
    Bitmap(&'a RoaringBitmap),
}

impl<'a> Allowed<'a> {
    fn new(documents: &'a RoaringBitmap) -> Self {
        if documents.len() > UNPACKED {
            return Self::Bitmap(documents);
        }
        let mut bits = vec![0; documents.max().map_or(0, |last| last as usize / 64 + 1)];
        for document in documents {
            if let Some(word) = bits.get_mut(document as usize / 64) {
                *word |= 1 << (document % 64);
            }
        }
        Self::Bits(bits)
    }

    fn contains(&self, document: u32) -> bool {
        match self {
            Self::Bits(bits) => {
                bits.get(document as usize / 64).is_some_and(|word| word & 1 << (document % 64) != 0)
            }
            Self::Bitmap(documents) => documents.contains(document),
        }
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
