//! Approximate nearest neighbours by cosine: a head of new points, scanned exactly, and immutable
//! segments that hold a graph each.
//!
//! A full head is sealed into segments in the background, and small segments are merged into greater
//! ones. Both go in three steps, so that what is in use is always on disk:
//!
//! 1. [`VectorIndex::seal`] or [`VectorIndex::merge`] builds a segment; nothing changes yet.
//! 2. The caller stores its bytes, and [`VectorIndex::commit`] takes it into use.
//! 3. The caller stores the [manifest](VectorIndex::manifest); only then may it delete the obsolete
//!    segments' bytes, and forget the [settled removals](VectorIndex::settled_removals).
//!
//! A head may be sealed while segments are merged; of either kind there is one build at a time, and the one that began last
//! counts.
//!
//! After a restart [`VectorIndex::from_segments`] opens what was stored; the caller repeats all
//! removals that it has not forgotten, and inserts again every point above the
//! [watermark](VectorIndex::watermark). For that, points must come with rising ids.
//!
//! Sealing and merging work on the rayon pool from which they are called, and hold no lock while they do: a thread that
//! waits there may be given the work of somebody else.

mod build;
mod code;
mod format;
mod head;
mod kernel;
mod live;
mod manifest;
mod plan;
mod sealing;
mod segment;
mod select;
mod walk;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use prost::Message;
use roaring::RoaringBitmap;

use crate::error::Result;
use crate::lock::{LEAF, Mutex, RwLock, check_free};
use crate::task::{Cancelled, check_cancelled};
use code::quantize;
use head::{Found, Head};
use live::Live;
use manifest::{Manifest, SegmentEntry};
use sealing::Builds;
pub use sealing::SealedSegment;
use walk::{Ask, Best, Scratch};

/// Chunks of the head after which it is asked whether anybody waits still.
const CANCEL_CHUNKS: usize = 16;
/// Memory of searches that is kept for reuse.
const KEPT_SCRATCH: usize = 64;

/// How an index is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexOptions {
    /// Links per point on upper layers; twice as many on the base layer. 2 to 64.
    pub m: usize,
    /// Candidates that hnsw_rs looks at when it inserts a point.
    pub ef_construction: usize,
    /// Candidates looked at when a point's links are chosen again, and when segments are joined.
    pub ef_link: usize,
    /// Points in the head from which on it should be sealed, and about as many in a new segment.
    pub head_limit: usize,
    /// Segments are merged with a greater one when together they have at least one over this share
    /// of its points.
    pub merge_factor: usize,
    /// Threads that seal and merge. Zero means half of the cores, at least one.
    pub build_threads: usize,
    /// How long nothing may be due until what can wait is done.
    pub idle: Duration,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            m: 16,
            ef_construction: 48,
            ef_link: 64,
            head_limit: 16_384,
            merge_factor: 2,
            build_threads: 0,
            idle: Duration::from_secs(10),
        }
    }
}

/// What a search is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Most points.
    pub k: usize,
    /// How many candidates a graph search keeps.
    pub ef: usize,
    /// Whether every code is scanned instead.
    pub exact: bool,
    /// Documents that count; all where there is none.
    pub filter: Option<&'a RoaringBitmap>,
}

/// A point found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Its id.
    pub point: u64,
    /// Number of its document.
    pub doc_no: u32,
    /// Cosine of the int8 codes, which is close to that of the vectors.
    pub similarity: f32,
}

/// What changes with every write.
#[derive(Debug)]
struct State {
    head: Head,
    /// Builds that go on, and those that wait to be committed.
    builds: Builds,
    /// Ranges removed whose tombstones the caller still keeps.
    removed: Vec<Range<u64>>,
    /// How many of those touched no segment.
    settled: usize,
}

/// A vector index that many threads search, fill and prune at once.
#[derive(Debug)]
pub struct VectorIndex {
    dimensions: usize,
    options: IndexOptions,
    /// Its write lock guards every change of `segments` too.
    state: RwLock<State, LEAF>,
    segments: ArcSwap<Vec<Live>>,
    next_id: AtomicU64,
    scratch: Mutex<Vec<Scratch>, LEAF>,
}

/// Numbers of the segments that a manifest names.
///
/// # Errors
/// `INDEX_DAMAGED` where it is garbled.
pub fn segments_of(manifest: &[u8]) -> Result<Vec<u64>> {
    Ok(Manifest::from_bytes(manifest)?.segments.iter().map(|entry| entry.id).collect())
}

impl VectorIndex {
    /// An empty index.
    pub fn new(dimensions: usize, options: IndexOptions) -> Self {
        let options = IndexOptions {
            m: options.m.clamp(2, 64),
            ef_construction: options.ef_construction.max(options.m),
            ef_link: options.ef_link.max(options.m),
            head_limit: options.head_limit.max(1),
            merge_factor: options.merge_factor.max(1),
            ..options
        };
        let head = Head::new(dimensions);
        Self {
            dimensions,
            options,
            state: RwLock::new(State { head, builds: Builds::default(), removed: Vec::new(), settled: 0 }),
            segments: ArcSwap::default(),
            next_id: AtomicU64::new(1),
            scratch: Mutex::default(),
        }
    }

    /// Opens a stored index; `read` gives the bytes of a segment by its number. Segments are read
    /// and checked in parallel.
    ///
    /// # Errors
    /// `INDEX_DAMAGED` where the bytes are not those that the manifest was made for, or what `read` gives.
    pub fn from_segments(
        options: IndexOptions,
        manifest: &[u8],
        read: impl Fn(u64) -> Result<Vec<u8>> + Sync,
    ) -> Result<Self> {
        use rayon::prelude::*;
        check_free("segments to be read");
        let manifest = Manifest::from_bytes(manifest)?;
        let dimensions = manifest.dimensions as usize;
        let open = |entry: &SegmentEntry| Live::open(dimensions, entry, &read(entry.id)?);
        let lives = manifest.segments.par_iter().map(open).collect::<Result<Vec<Live>>>()?;
        let index = Self::new(dimensions, options);
        let last = lives.iter().map(|live| live.id).max().unwrap_or(0);
        index.next_id.store(last.saturating_add(1), Ordering::Relaxed);
        index.segments.store(Arc::new(lives));
        Ok(index)
    }

    /// Adds a point, in place of one with the same id.
    ///
    /// # Errors
    /// `DIMENSION_MISMATCH`, `NOT_FINITE`, or `ZERO_VECTOR`: a vector of zeros has no cosine.
    pub fn insert(&self, point: u64, doc_no: u32, vector: &[f32]) -> Result<()> {
        let code = quantize(self.dimensions, vector)?;
        let mut state = self.state.write();
        if state.head.contains(point) || self.in_segments(point) {
            self.remove_locked(&mut state, point..point.saturating_add(1));
        }
        state.head.push(point, doc_no, &code);
        Ok(())
    }

    /// Removes the points of a range.
    pub fn remove_range(&self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut state = self.state.write();
        let touched = self.remove_locked(&mut state, range.clone());
        state.settled += usize::from(!touched);
        state.removed.push(range);
    }

    /// Whether any segment holds points of the range, dead or alive.
    fn remove_locked(&self, state: &mut State, range: Range<u64>) -> bool {
        state.head.remove_range(&range);
        let segments = self.segments.load();
        let touched = segments.iter().any(|live| !live.segment.slots(&range).is_empty());
        if touched {
            let mut lives = Vec::clone(&segments);
            for live in &mut lives {
                live.remove(&range);
            }
            self.segments.store(Arc::new(lives));
        }
        state.builds.note_removal(&range);
        touched
    }

    fn in_segments(&self, point: u64) -> bool {
        self.segments.load().iter().any(|live| live.slot(point).is_some())
    }

    /// Whether a living point of this id is there.
    pub fn contains(&self, point: u64) -> bool {
        let state = self.state.read();
        state.head.contains(point) || self.in_segments(point)
    }

    /// The `k` nearest points, best first, of documents in the filter. Similarities are those of
    /// the codes: ask for more than are needed and rescore. `ef` is how many candidates a graph
    /// search keeps; `exact` scans every code instead.
    ///
    /// # Errors
    /// `DIMENSION_MISMATCH`, `NOT_FINITE`, `ZERO_VECTOR`.
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        ef: usize,
        exact: bool,
        filter: Option<&RoaringBitmap>,
    ) -> Result<Vec<Candidate>> {
        self.search_until(query, Wanted { k, ef, exact, filter }, &|| false)
    }

    /// The same, unless nobody waits for it any more: a scan ends within some thousand points.
    ///
    /// # Errors
    /// `CANCELLED` too.
    pub fn search_until(
        &self,
        query: &[f32],
        wanted: Wanted<'_>,
        is_cancelled: Cancelled<'_>,
    ) -> Result<Vec<Candidate>> {
        let Wanted { k, ef, exact, filter } = wanted;
        let query = quantize(self.dimensions, query)?;
        if k == 0 {
            return Ok(Vec::new());
        }
        let mut best = Best::new(k);
        let (chunks, segments) = {
            let state = self.state.read();
            (state.head.scan_last(&query, filter, &mut best), self.segments.load_full())
        };
        for some in chunks.chunks(CANCEL_CHUNKS) {
            check_cancelled(is_cancelled)?;
            some.iter().for_each(|chunk| chunk.scan(&query, filter, &mut best));
        }
        let mut scratch = self.scratch.lock().pop().unwrap_or_default();
        for live in segments.iter() {
            check_cancelled(is_cancelled)?;
            let ask = Ask { query: &query, k, ef, exact, filter, deleted: &live.deleted, is_cancelled };
            for near in live.segment.search(&ask, &mut scratch) {
                let at = near.slot as usize;
                best.offer(Found::new(near, live.segment.points[at], live.segment.docs[at]));
            }
        }
        check_cancelled(is_cancelled)?;
        let mut kept = self.scratch.lock();
        if kept.len() < KEPT_SCRATCH {
            kept.push(scratch);
        }
        drop(kept);
        Ok(best.into_sorted().into_iter().map(|found| found.0).collect())
    }

    /// Cosines of the codes of some points, in their order; `None` where no living point has the id.
    ///
    /// # Errors
    /// `DIMENSION_MISMATCH`, `NOT_FINITE`, `ZERO_VECTOR`.
    pub fn similarities(&self, query: &[f32], points: &[u64]) -> Result<Vec<Option<f32>>> {
        let query = quantize(self.dimensions, query)?;
        let (mut found, segments) = {
            let state = self.state.read();
            let head = points.iter().map(|&point| state.head.similarity(&query, point));
            (head.collect::<Vec<_>>(), self.segments.load_full())
        };
        let (mut dots, mut similarities) = (Vec::new(), Vec::new());
        for live in segments.iter() {
            let missing = points.iter().enumerate().filter(|&(at, _)| found[at].is_none());
            let (places, slots): (Vec<usize>, Vec<u32>) =
                missing.filter_map(|(at, &point)| Some((at, live.slot(point)?))).unzip();
            live.segment.codes.similarities(&query, &slots, &mut dots, &mut similarities);
            for (at, &similarity) in places.into_iter().zip(&similarities) {
                found[at] = Some(similarity);
            }
        }
        Ok(found)
    }

    /// Number of living points.
    pub fn len(&self) -> usize {
        let state = self.state.read();
        state.head.len() + self.segments.load().iter().map(Live::alive).sum::<usize>()
    }

    /// Whether it has no living point.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of points that are scanned, because no segment has them yet.
    pub fn unsealed(&self) -> usize {
        self.state.read().head.len()
    }

    /// Number of dead points that a merge would drop.
    pub fn tombstones(&self) -> usize {
        self.segments.load().iter().map(|live| live.deleted.len() as usize).sum()
    }

    /// Dimensions of its vectors.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Bytes that codes, links and ids take in memory.
    pub fn memory(&self) -> usize {
        let head = self.state.read().head.memory();
        let segments = self.segments.load();
        head + segments
            .iter()
            .map(|live| live.segment.memory() + live.deleted.serialized_size())
            .sum::<usize>()
    }

    /// The segments in use, for [`VectorIndex::from_segments`]. What was removed from them is not in it.
    pub fn manifest(&self) -> Vec<u8> {
        let segments = self.segments.load();
        let manifest = Manifest {
            dimensions: self.dimensions as u32,
            segments: segments.iter().map(Live::entry).collect(),
            watermark: watermark(&segments),
        };
        manifest.encode_to_vec()
    }

    /// Ranges removed of which no segment holds any point, neither one in use nor one that is being built: once the
    /// manifest is stored, a restart cannot bring them back, so they need not be repeated.
    pub fn settled_removals(&self) -> Vec<Range<u64>> {
        let state = self.state.read();
        let segments = self.segments.load();
        let building = state.builds.removed();
        let held = |range: &&Range<u64>| {
            building.contains(&range.start)
                || segments.iter().any(|live| !live.segment.slots(range).is_empty())
        };
        state.removed.iter().filter(|range| !held(range)).cloned().collect()
    }

    /// Says that removals were forgotten by the caller, as [`VectorIndex::settled_removals`] gave them.
    pub fn forget_removals(&self, forgotten: &[Range<u64>]) {
        let starts: std::collections::HashSet<u64> = forgotten.iter().map(|range| range.start).collect();
        let mut state = self.state.write();
        state.removed.retain(|range| !starts.contains(&range.start));
        state.settled = 0;
    }

    /// Numbers of the segments in use.
    pub fn segment_ids(&self) -> Vec<u64> {
        self.segments.load().iter().map(|live| live.id).collect()
    }

    /// The bytes of the segments in use, by number: what was stored of them.
    pub fn segment_bytes(&self) -> std::collections::HashMap<u64, Vec<u8>> {
        self.segments.load().iter().map(|live| (live.id, live.segment.to_bytes())).collect()
    }

    /// Greatest point in any segment; what comes after it is in the head or nowhere.
    pub fn watermark(&self) -> Option<u64> {
        watermark(&self.segments.load())
    }
}

fn watermark(segments: &[Live]) -> Option<u64> {
    segments.iter().filter_map(|live| live.segment.points.last().copied()).max()
}
