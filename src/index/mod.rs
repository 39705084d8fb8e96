//! Approximate nearest neighbours by cosine: a head of new points, scanned exactly, and immutable
//! segments that hold a graph each.
//!
//! A full head is sealed into a segment in the background, and segments of like size are merged.
//! Both go in three steps, so that what is in use is always on disk:
//!
//! 1. [`VectorIndex::seal`] or [`VectorIndex::merge`] builds a segment; nothing changes yet.
//! 2. The caller stores its bytes and its manifest in one transaction.
//! 3. [`VectorIndex::commit`] takes it into use; the obsolete segments' bytes may be deleted.
//!
//! After a restart [`VectorIndex::from_segments`] opens what was stored; the caller inserts again
//! every point that the index does not [contain](VectorIndex::contains), and repeats the removals
//! made since the manifest was stored.

mod build;
mod code;
mod format;
mod head;
mod manifest;
mod segment;
mod visited;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use prost::Message;
use roaring::RoaringBitmap;

pub use code::{Code, quantize};
pub use head::Head;
pub use manifest::{Manifest, SegmentEntry};
pub use segment::Segment;

use crate::error::{Error, Result};
use format::damaged;

/// How an index is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexOptions {
    /// Links per point on upper layers; twice as many on the base layer. 2 to 64.
    pub m: usize,
    /// Candidates looked at when a point is linked.
    pub ef_construction: usize,
    /// Points in the head from which it should be sealed.
    pub head_limit: usize,
    /// How many segments of like size are merged into one.
    pub merge_factor: usize,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self { m: 16, ef_construction: 128, head_limit: 16_384, merge_factor: 4 }
    }
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
    /// The manifest once this segment is in use.
    pub manifest: Vec<u8>,
    /// Segments whose bytes may go once this one is in use.
    pub obsolete: Vec<u64>,
}

/// A segment in use.
#[derive(Debug, Clone)]
struct Live {
    id: u64,
    checksum: [u8; 32],
    segment: Arc<Segment>,
    deleted: Arc<RoaringBitmap>,
}

#[derive(Debug)]
struct Pending {
    live: Live,
    obsolete: Vec<u64>,
}

/// A vector index that many threads search, fill and prune at once.
#[derive(Debug)]
pub struct VectorIndex {
    dimensions: usize,
    options: IndexOptions,
    /// Its write lock guards every change of `segments` too.
    head: RwLock<Head>,
    segments: ArcSwap<Vec<Live>>,
    pending: Mutex<Option<Pending>>,
    /// Held while a segment is built: one at a time.
    building: Mutex<()>,
    next_id: AtomicU64,
}

impl Live {
    fn alive(&self) -> usize {
        self.segment.len().saturating_sub(self.deleted.len() as usize)
    }

    fn remove(&mut self, range: &Range<u64>) {
        let points = &self.segment.points;
        let from = points.partition_point(|&point| point < range.start);
        let to = points.partition_point(|&point| point < range.end);
        if from < to {
            Arc::make_mut(&mut self.deleted).insert_range(from as u32..to as u32);
        }
    }

    fn entry(&self) -> SegmentEntry {
        let mut deleted = Vec::new();
        // Writing to a vector cannot fail.
        let _ = self.deleted.serialize_into(&mut deleted);
        SegmentEntry {
            id: self.id,
            points: self.segment.len() as u64,
            checksum: self.checksum.to_vec(),
            deleted,
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
            head_limit: options.head_limit.max(1),
            merge_factor: options.merge_factor.max(2),
        };
        Self {
            dimensions,
            options,
            head: RwLock::new(Head::new(dimensions)),
            segments: ArcSwap::default(),
            pending: Mutex::default(),
            building: Mutex::default(),
            next_id: AtomicU64::new(1),
        }
    }

    /// Opens a stored index; `segments` gives the bytes by id, in any order.
    pub fn from_segments(
        options: IndexOptions,
        manifest: &[u8],
        segments: impl IntoIterator<Item = (u64, Vec<u8>)>,
    ) -> Result<Self> {
        let manifest = Manifest::from_bytes(manifest)?;
        let dimensions = manifest.dimensions as usize;
        let mut lives: Vec<Option<Live>> = manifest.segments.iter().map(|_| None).collect();
        for (id, bytes) in segments {
            let Some(at) = manifest.segments.iter().position(|entry| entry.id == id) else { continue };
            lives[at] = Some(open(dimensions, &manifest.segments[at], &bytes)?);
        }
        let lives: Option<Vec<Live>> = lives.into_iter().collect();
        let lives = lives.ok_or_else(|| damaged("a segment of its manifest is missing"))?;
        let index = Self::new(dimensions, options);
        let last = lives.iter().map(|live| live.id).max().unwrap_or(0);
        index.next_id.store(last.saturating_add(1), Ordering::Relaxed);
        index.segments.store(Arc::new(lives));
        Ok(index)
    }

    /// Adds a point. An id that is in the index already must be removed first.
    pub fn insert(&self, point: u64, doc_no: u32, vector: &[f32]) -> Result<()> {
        let code = quantize(self.dimensions, vector)?;
        self.head.write().push(point, doc_no, &code.values, code.scale);
        Ok(())
    }

    /// Removes the points of a range.
    pub fn remove_range(&self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut head = self.head.write();
        head.remove_range(&range);
        let mut lives = Vec::clone(&self.segments.load());
        for live in &mut lives {
            live.remove(&range);
        }
        self.segments.store(Arc::new(lives));
        head.removed.push(range);
    }

    /// Whether a living point of this id is there.
    pub fn contains(&self, point: u64) -> bool {
        let head = self.head.read();
        let segments = self.segments.load();
        segments.iter().any(|live| {
            let slot = live.segment.points.binary_search(&point);
            slot.is_ok_and(|slot| !live.deleted.contains(slot as u32))
        }) || head.points.contains(&point)
    }

    /// The `k` nearest points, best first, of documents in the filter. Similarities are those of
    /// the codes: ask for more than are needed and rescore.
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        ef: usize,
        exact: bool,
        filter: Option<&RoaringBitmap>,
    ) -> Result<Vec<Candidate>> {
        let query = quantize(self.dimensions, query)?;
        if k == 0 {
            return Ok(Vec::new());
        }
        let (mut found, segments) = {
            let head = self.head.read();
            (head.search(&query, k, filter), self.segments.load_full())
        };
        for live in segments.iter() {
            found.extend(live.segment.search(&query, k, ef, exact, filter, &live.deleted));
        }
        found.sort_unstable_by(|a, b| b.similarity.total_cmp(&a.similarity).then(a.point.cmp(&b.point)));
        found.truncate(k);
        Ok(found)
    }

    /// Number of living points.
    pub fn len(&self) -> usize {
        let head = self.head.read();
        head.len() + self.segments.load().iter().map(Live::alive).sum::<usize>()
    }

    /// Whether it has no living point.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of dead points that a merge would drop.
    pub fn tombstones(&self) -> usize {
        self.segments.load().iter().map(|live| live.deleted.len() as usize).sum()
    }

    /// Dimensions of its vectors.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Whether the head is full.
    pub fn needs_seal(&self) -> bool {
        self.head.read().len() >= self.options.head_limit
    }

    /// Builds a segment of the head's points; `None` where it has none. Blocks its thread and
    /// rayon's, but neither searches nor inserts. A segment not yet committed is given up.
    pub fn seal(&self) -> Result<Option<SealedSegment>> {
        let _building = self.building.lock();
        let points = {
            let mut head = self.begin();
            head.sealing = head.len();
            Head::clone(&head)
        };
        if points.is_empty() {
            return Ok(None);
        }
        self.build(&points, Vec::new()).map(Some)
    }

    /// Which segments to merge next: one that is more than half dead, or enough of like size.
    pub fn plan_merge(&self) -> Option<Vec<u64>> {
        let segments = self.segments.load();
        if let Some(live) = segments.iter().find(|live| live.alive() * 2 < live.segment.len()) {
            return Some(vec![live.id]);
        }
        let mut tiers = std::collections::BTreeMap::<u32, Vec<u64>>::new();
        for live in segments.iter().filter(|live| live.alive() > 0) {
            let ratio = live.alive() / self.options.head_limit;
            let tier = ratio.checked_ilog(self.options.merge_factor).unwrap_or(0);
            tiers.entry(tier).or_default().push(live.id);
        }
        tiers.into_values().find(|ids| ids.len() >= self.options.merge_factor)
    }

    /// Builds one segment of the living points of several; `None` where none of them exists.
    /// Blocks as [`VectorIndex::seal`] does.
    pub fn merge(&self, ids: &[u64]) -> Result<Option<SealedSegment>> {
        let _building = self.building.lock();
        let segments = {
            let mut head = self.begin();
            head.sealing = 0;
            self.segments.load_full()
        };
        let sources: Vec<&Live> = segments.iter().filter(|live| ids.contains(&live.id)).collect();
        if sources.is_empty() {
            return Ok(None);
        }
        let mut points = Head::new(self.dimensions);
        for live in &sources {
            let segment = &live.segment;
            for slot in (0..segment.len() as u32).filter(|&slot| !live.deleted.contains(slot)) {
                let at = slot as usize;
                points.push(segment.points[at], segment.docs[at], segment.code(slot), segment.scales[at]);
            }
        }
        self.build(&points, sources.iter().map(|live| live.id).collect()).map(Some)
    }

    /// Takes the segment built last into use, in place of the points it was built of. Points
    /// removed meanwhile stay removed.
    pub fn commit(&self, id: u64) -> Result<()> {
        let mut slot = self.pending.lock();
        let Some(pending) = slot.take_if(|pending| pending.live.id == id) else {
            return Err(Error::precondition(
                "SEGMENT_NOT_PENDING",
                format!("expected the segment built last, got {id}"),
            ));
        };
        let mut head = self.head.write();
        let lives = self.after(&pending, &head);
        self.segments.store(Arc::new(lives));
        head.drop_sealed();
        head.removed.clear();
        Ok(())
    }

    /// The segments in use, as [`Manifest`].
    pub fn manifest(&self) -> Vec<u8> {
        self.encode(&self.segments.load())
    }

    /// Numbers of the segments in use.
    pub fn segment_ids(&self) -> Vec<u64> {
        self.segments.load().iter().map(|live| live.id).collect()
    }

    /// Greatest point in any segment; what comes after it is in the head or nowhere.
    pub fn watermark(&self) -> Option<u64> {
        self.segments.load().iter().filter_map(|live| live.segment.points.last().copied()).max()
    }

    /// Starts a build: from here on removals are noted.
    fn begin(&self) -> parking_lot::RwLockWriteGuard<'_, Head> {
        *self.pending.lock() = None;
        let mut head = self.head.write();
        head.removed.clear();
        head
    }

    fn build(&self, points: &Head, obsolete: Vec<u64>) -> Result<SealedSegment> {
        let segment = build::build(self.dimensions, &self.options, points);
        let bytes = segment.to_bytes();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let live = Live {
            id,
            checksum: *blake3::hash(&bytes).as_bytes(),
            segment: Arc::new(segment),
            deleted: Arc::default(),
        };
        let pending = Pending { live, obsolete: obsolete.clone() };
        let manifest = {
            let head = self.head.read();
            self.encode(&self.after(&pending, &head))
        };
        *self.pending.lock() = Some(pending);
        Ok(SealedSegment { id, bytes, manifest, obsolete })
    }

    /// The segments once a pending one is in use.
    fn after(&self, pending: &Pending, head: &Head) -> Vec<Live> {
        let mut lives = Vec::clone(&self.segments.load());
        lives.retain(|live| !pending.obsolete.contains(&live.id));
        let mut live = pending.live.clone();
        for range in &head.removed {
            live.remove(range);
        }
        lives.push(live);
        lives
    }

    fn encode(&self, lives: &[Live]) -> Vec<u8> {
        let manifest = Manifest {
            dimensions: self.dimensions as u32,
            segments: lives.iter().map(Live::entry).collect(),
            watermark: lives.iter().filter_map(|live| live.segment.points.last().copied()).max(),
        };
        manifest.encode_to_vec()
    }
}

fn open(dimensions: usize, entry: &SegmentEntry, bytes: &[u8]) -> Result<Live> {
    let checksum = *blake3::hash(bytes).as_bytes();
    if checksum.as_slice() != entry.checksum {
        return Err(damaged("a segment's checksum is not that of the manifest"));
    }
    let segment = Segment::from_bytes(bytes)?;
    if segment.dimensions != dimensions || segment.len() as u64 != entry.points {
        return Err(damaged("a segment is not the one of the manifest"));
    }
    let deleted = RoaringBitmap::deserialize_from(entry.deleted.as_slice())
        .map_err(|e| damaged("a list of removed points is garbled").with_source(e))?;
    if deleted.max().is_some_and(|slot| slot as usize >= segment.len()) {
        return Err(damaged("a list of removed points is out of bounds"));
    }
    Ok(Live { id: entry.id, checksum, segment: Arc::new(segment), deleted: Arc::new(deleted) })
}
