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
//! After a restart [`VectorIndex::from_segments`] opens what was stored; the caller repeats all
//! removals that it has not forgotten, and inserts again every point above the
//! [watermark](VectorIndex::watermark). For that, points must come with rising ids.
//!
//! Sealing and merging work on the rayon pool from which they are called.

mod build;
mod code;
mod format;
mod head;
mod kernel;
mod manifest;
mod plan;
mod segment;
mod select;
mod walk;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use prost::Message;
use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::task::{Cancelled, check_cancelled};
use code::quantize;
use format::damaged;
use head::{Found, Head};
use manifest::{Manifest, SegmentEntry};
use segment::Segment;
use walk::{Ask, Best, Scratch};

/// Chunks of the head after which it is asked whether anybody waits still.
const CANCEL_CHUNKS: usize = 16;
/// Memory of searches that is kept for reuse.
const KEPT_SCRATCH: usize = 64;
/// Removals that need no tombstone any more, from which on storing a manifest is worth it.
const MANY_SETTLED: usize = 1024;

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

/// A segment that was built and is to be stored before it is taken into use.
#[derive(Debug, Clone)]
pub struct SealedSegment {
    /// Under which number to keep its bytes.
    pub id: u64,
    /// What to keep.
    pub bytes: Vec<u8>,
    /// Segments whose bytes may go once the manifest that no longer names them is stored.
    pub obsolete: Vec<u64>,
}

/// A segment in use.
#[derive(Debug, Clone)]
struct Live {
    id: u64,
    checksum: [u8; 32],
    segment: Arc<Segment>,
    deleted: Arc<RoaringBitmap>,
    /// What a manifest of the first version says was removed.
    inherited: Arc<Vec<u8>>,
}

/// What a build is made of, and what it gave.
#[derive(Debug)]
struct Pending {
    live: Live,
    obsolete: Vec<u64>,
    chunks: usize,
}

/// What changes with every write.
#[derive(Debug)]
struct State {
    head: Head,
    /// Ranges removed since the last build began.
    since_build: Vec<Range<u64>>,
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
    state: RwLock<State>,
    segments: ArcSwap<Vec<Live>>,
    pending: Mutex<Option<Pending>>,
    /// Held while a segment is built: one at a time.
    building: Mutex<()>,
    next_id: AtomicU64,
    scratch: Mutex<Vec<Scratch>>,
}

impl Live {
    fn alive(&self) -> usize {
        self.segment.len().saturating_sub(self.deleted.len() as usize)
    }

    /// Removes the points of a range; whether any of it is there, dead or alive.
    fn remove(&mut self, range: &Range<u64>) -> bool {
        let slots = self.segment.slots(range);
        if slots.is_empty() {
            return false;
        }
        Arc::make_mut(&mut self.deleted).insert_range(slots);
        true
    }

    fn entry(&self) -> SegmentEntry {
        SegmentEntry {
            id: self.id,
            points: self.segment.len() as u64,
            checksum: self.checksum.to_vec(),
            deleted: Vec::clone(&self.inherited),
        }
    }
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
            build_threads: options.build_threads,
        };
        let head = Head::new(dimensions);
        Self {
            dimensions,
            options,
            state: RwLock::new(State { head, since_build: Vec::new(), removed: Vec::new(), settled: 0 }),
            segments: ArcSwap::default(),
            pending: Mutex::default(),
            building: Mutex::default(),
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
        let manifest = Manifest::from_bytes(manifest)?;
        let dimensions = manifest.dimensions as usize;
        let open = |entry: &SegmentEntry| open(dimensions, entry, &read(entry.id)?);
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
        state.since_build.push(range);
        touched
    }

    fn in_segments(&self, point: u64) -> bool {
        self.segments
            .load()
            .iter()
            .any(|live| live.segment.slot(point).is_some_and(|slot| !live.deleted.contains(slot)))
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

    /// Whether the head is full, by its living points or by the room that dead ones take.
    pub fn needs_seal(&self) -> bool {
        let state = self.state.read();
        state.head.len() >= self.options.head_limit || state.head.room() >= 2 * self.options.head_limit + 512
    }

    /// Whether storing a manifest would let the caller forget many removals.
    pub fn has_settled_removals(&self) -> bool {
        self.state.read().settled >= MANY_SETTLED
    }

    /// Builds a segment of the oldest points of the head, about as many as its limit; `None` where
    /// it is empty. Blocks its thread and rayon's, but neither searches nor inserts. A segment not
    /// yet committed is given up.
    ///
    /// # Errors
    /// `SEGMENT_TOO_LARGE`.
    pub fn seal(&self) -> Result<Option<SealedSegment>> {
        let _building = self.building.lock();
        let chunks = self.begin().head.seal(self.options.head_limit);
        if chunks.is_empty() {
            return Ok(None);
        }
        let segment = build::build(self.dimensions, &self.options, &chunks)?;
        Ok(Some(self.finish(segment, Vec::new(), chunks.len())))
    }

    /// Which segments to merge next, if any.
    pub fn plan_merge(&self) -> Option<Vec<u64>> {
        plan::merge(self.sizes(), self.options.merge_factor)
    }

    /// Which segments to merge next where there is time for it, if any: nothing is written, and one graph answers faster
    /// than several.
    pub fn plan_join(&self) -> Option<Vec<u64>> {
        plan::join(self.sizes())
    }

    fn sizes(&self) -> Vec<plan::Size> {
        let size = |live: &Live| plan::Size { id: live.id, points: live.segment.len(), alive: live.alive() };
        self.segments.load().iter().map(size).collect()
    }

    /// Builds one segment of the living points of several; `None` where none of them exists.
    /// Blocks as [`VectorIndex::seal`] does.
    ///
    /// # Errors
    /// `SEGMENT_TOO_LARGE`.
    pub fn merge(&self, ids: &[u64]) -> Result<Option<SealedSegment>> {
        self.merge_until(ids, &|| false)
    }

    /// The same, unless nobody waits for it any more.
    ///
    /// # Errors
    /// `CANCELLED` too; nothing has changed then.
    pub fn merge_until(&self, ids: &[u64], is_cancelled: Cancelled<'_>) -> Result<Option<SealedSegment>> {
        let _building = self.building.lock();
        let segments = {
            let _state = self.begin();
            self.segments.load_full()
        };
        let sources: Vec<&Live> = segments.iter().filter(|live| ids.contains(&live.id)).collect();
        if sources.is_empty() {
            return Ok(None);
        }
        let parts = sources
            .iter()
            .map(|live| build::Part { segment: &live.segment, deleted: &live.deleted })
            .collect();
        let segment = build::join(self.dimensions, &self.options, parts, is_cancelled)?;
        Ok(Some(self.finish(segment, sources.iter().map(|live| live.id).collect(), 0)))
    }

    /// Takes the segment built last into use, in place of what it was built of. Points removed
    /// meanwhile stay removed.
    ///
    /// # Errors
    /// `SEGMENT_NOT_PENDING` where another build began since.
    pub fn commit(&self, id: u64) -> Result<()> {
        let mut slot = self.pending.lock();
        let Some(pending) = slot.take_if(|pending| pending.live.id == id) else {
            return Err(Error::precondition(
                "SEGMENT_NOT_PENDING",
                format!("expected the segment built last, got {id}"),
            ));
        };
        let mut state = self.state.write();
        let mut lives = Vec::clone(&self.segments.load());
        lives.retain(|live| !pending.obsolete.contains(&live.id));
        let mut live = pending.live;
        for range in &state.since_build {
            live.remove(range);
        }
        lives.push(live);
        self.segments.store(Arc::new(lives));
        state.head.drop_sealed(pending.chunks);
        state.since_build.clear();
        Ok(())
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

    /// Ranges removed of which no segment in use holds any point: once the manifest is stored, a
    /// restart cannot bring them back, so they need not be repeated.
    pub fn settled_removals(&self) -> Vec<Range<u64>> {
        let state = self.state.read();
        let segments = self.segments.load();
        let held = |range: &&Range<u64>| segments.iter().any(|live| !live.segment.slots(range).is_empty());
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

    /// Starts a build: from here on removals are noted.
    fn begin(&self) -> RwLockWriteGuard<'_, State> {
        *self.pending.lock() = None;
        let mut state = self.state.write();
        state.since_build.clear();
        state
    }

    fn finish(&self, segment: Segment, obsolete: Vec<u64>, chunks: usize) -> SealedSegment {
        let bytes = segment.to_bytes();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let live = Live {
            id,
            checksum: *blake3::hash(&bytes).as_bytes(),
            segment: Arc::new(segment),
            deleted: Arc::default(),
            inherited: Arc::default(),
        };
        *self.pending.lock() = Some(Pending { live, obsolete: obsolete.clone(), chunks });
        SealedSegment { id, bytes, obsolete }
    }
}

fn watermark(segments: &[Live]) -> Option<u64> {
    segments.iter().filter_map(|live| live.segment.points.last().copied()).max()
}

fn open(dimensions: usize, entry: &SegmentEntry, bytes: &[u8]) -> Result<Live> {
    let checksum = *blake3::hash(bytes).as_bytes();
    if checksum.as_slice() != entry.checksum {
        return Err(damaged("a segment's checksum is not that of the manifest"));
    }
    let segment = Segment::from_bytes(bytes)?;
    if segment.codes.dimensions() != dimensions || segment.len() as u64 != entry.points {
        return Err(damaged("a segment is not the one of the manifest"));
    }
    let deleted = match entry.deleted.as_slice() {
        [] => RoaringBitmap::new(),
        bytes => RoaringBitmap::deserialize_from(bytes)
            .map_err(|e| damaged("a list of removed points is garbled").with_source(e))?,
    };
    if deleted.max().is_some_and(|slot| slot as usize >= segment.len()) {
        return Err(damaged("a list of removed points is out of bounds"));
    }
    let inherited = Arc::new(entry.deleted.clone());
    Ok(Live { id: entry.id, checksum, segment: Arc::new(segment), deleted: Arc::new(deleted), inherited })
}
