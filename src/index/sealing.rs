//! Makes segments of the head, and one of several, in steps that leave what is in use on disk.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::live::Live;
use super::segment::Segment;
use super::{State, VectorIndex, build, plan};
use crate::error::{Error, Result};
use crate::lock::check_free;
use crate::task::Cancelled;

/// Removals that need no tombstone any more, from which on storing a manifest is worth it.
const MANY_SETTLED: usize = 1024;

/// A segment that was built and is to be stored before it is taken into use.
#[derive(Debug, Clone)]
pub struct SealedSegment {
    /// Under which number to keep its bytes.
    pub id: u64,
    /// What to keep; nothing where no point of what it was built of is left.
    pub bytes: Vec<u8>,
    /// Segments whose bytes may go once the manifest that no longer names them is stored.
    pub obsolete: Vec<u64>,
}

/// Builds that have begun, by the numbers of their segments, which rise.
#[derive(Debug, Default)]
pub(super) struct Builds(BTreeMap<u64, Build>);

#[derive(Debug)]
struct Build {
    kind: Kind,
    /// Ranges removed since it began: what it read may hold their points.
    removed: Vec<Range<u64>>,
    /// What it gave, until that is committed.
    pending: Option<Pending>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Seal,
    Merge,
}

/// What a build is made of, and what it gave.
#[derive(Debug)]
struct Pending {
    live: Live,
    obsolete: Vec<u64>,
    chunks: usize,
}

impl Builds {
    /// Those of its kind that are not committed are given up: their sources are this one's too.
    fn begin(&mut self, id: u64, kind: Kind) {
        self.0.retain(|_, build| build.kind != kind);
        self.0.insert(id, Build { kind, removed: Vec::new(), pending: None });
    }

    /// From the beginning of a build on, removals are noted for it.
    pub(super) fn note_removal(&mut self, range: &Range<u64>) {
        self.0.values_mut().for_each(|build| build.removed.push(range.clone()));
    }

    /// Where the ranges begin that were removed since the builds began.
    pub(super) fn removed(&self) -> HashSet<u64> {
        self.0.values().flat_map(|build| &build.removed).map(|range| range.start).collect()
    }
}

/// A build that goes on. It is forgotten where it gives nothing, be it for an error, a caller that left or a panic.
struct Begun<'a> {
    index: &'a VectorIndex,
    id: u64,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.index.state.write().builds.0.retain(|id, build| *id != self.id || build.pending.is_some());
    }
}

impl Begun<'_> {
    fn finish(self, segment: Segment, obsolete: Vec<u64>, chunks: usize) -> SealedSegment {
        let id = self.id;
        let bytes = if segment.is_empty() { Vec::new() } else { segment.to_bytes() };
        let live = Live {
            id,
            checksum: *blake3::hash(&bytes).as_bytes(),
            segment: Arc::new(segment),
            deleted: Arc::default(),
            inherited: Arc::default(),
        };
        // Where another has begun since, there is nothing to commit.
        if let Some(build) = self.index.state.write().builds.0.get_mut(&id) {
            build.pending = Some(Pending { live, obsolete: obsolete.clone(), chunks });
        }
        SealedSegment { id, bytes, obsolete }
    }
}

impl VectorIndex {
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
    /// it is empty. Blocks its thread and rayon's, but neither searches nor inserts nor merges. A segment that was sealed
    /// before and is not yet committed is given up.
    ///
    /// # Errors
    /// `SEGMENT_TOO_LARGE`.
    pub fn seal(&self) -> Result<Option<SealedSegment>> {
        let (begun, chunks) = self.begin(Kind::Seal, |state| state.head.seal(self.options.head_limit));
        if chunks.is_empty() {
            return Ok(None);
        }
        let segment = build::build(self.dimensions, &self.options, &chunks)?;
        Ok(Some(begun.finish(segment, Vec::new(), chunks.len())))
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

    /// Builds one segment of the living points of several; `None` where none of them exists. Blocks as
    /// [`VectorIndex::seal`] does, which may go on meanwhile. A segment that was merged before and is not yet committed
    /// is given up.
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
        let (begun, segments) = self.begin(Kind::Merge, |_| self.segments.load_full());
        let sources: Vec<&Live> = segments.iter().filter(|live| ids.contains(&live.id)).collect();
        if sources.is_empty() {
            return Ok(None);
        }
        let parts = sources
            .iter()
            .map(|live| build::Part { segment: &live.segment, deleted: &live.deleted })
            .collect();
        let segment = build::join(self.dimensions, &self.options, parts, is_cancelled)?;
        Ok(Some(begun.finish(segment, sources.iter().map(|live| live.id).collect(), 0)))
    }

    /// Takes a segment that was built into use, in place of what it was built of. Points removed meanwhile stay removed.
    ///
    /// # Errors
    /// `SEGMENT_NOT_PENDING` where another build of its kind began since.
    pub fn commit(&self, id: u64) -> Result<()> {
        let mut state = self.state.write();
        let build = state.builds.0.remove(&id);
        let Some((removed, pending)) = build.and_then(|build| Some((build.removed, build.pending?))) else {
            return Err(Error::precondition(
                "SEGMENT_NOT_PENDING",
                format!("expected the segment built last, got {id}"),
            ));
        };
        let mut lives = Vec::clone(&self.segments.load());
        lives.retain(|live| !pending.obsolete.contains(&live.id));
        let mut live = pending.live;
        for range in &removed {
            live.remove(range);
        }
        if !live.segment.is_empty() {
            lives.push(live);
        }
        self.segments.store(Arc::new(lives));
        state.head.drop_sealed(pending.chunks);
        Ok(())
    }

    /// Starts a build of what `read` takes: from here on removals are noted.
    fn begin<T>(&self, kind: Kind, read: impl FnOnce(&mut State) -> T) -> (Begun<'_>, T) {
        check_free("a build");
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.write();
        state.builds.begin(id, kind);
        let sources = read(&mut state);
        (Begun { index: self, id }, sources)
    }
}
