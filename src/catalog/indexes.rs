use std::time::Instant;

use ::metrics::histogram;
use rayon::prelude::*;

use super::Filters;
use super::maintenance::Pool;
use crate::domain::Level;
use crate::error::{Error, ErrorKind, Result};
use crate::index::{IndexOptions, SealedSegment, VectorIndex};
use crate::lock::{Line, MANIFEST, Mutex, Turn, check_free};
use crate::store::{CollectionRecord, Committed, Store};
use crate::task::{Cancelled, check_cancelled};
use crate::{fault, metrics};

/// The vector indexes of one collection.
///
/// Heads are sealed by one thread alone. Segments are merged by whoever has the turn.
pub struct Indexes {
    /// Passages.
    pub passage: VectorIndex,
    /// Documents.
    pub document: VectorIndex,
    /// Sentences, where the collection gives them a graph.
    pub sentence: Option<VectorIndex>,
    /// Who merges segments.
    merging: Line,
    /// Held while a manifest is read off an index and stored, so that an older one never replaces a newer one.
    manifest: Mutex<(), MANIFEST>,
}

/// Where builds of a collection's indexes are run and stored.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// Whose threads build.
    pub pool: &'a Pool,
    /// Where segments are stored, by the calling thread.
    pub store: &'a Store,
    /// Number of the collection.
    pub cid: u32,
}

impl Indexes {
    fn of_levels(passage: VectorIndex, document: VectorIndex, sentence: Option<VectorIndex>) -> Self {
        Self { passage, document, sentence, merging: Line::default(), manifest: Mutex::default() }
    }

    /// Those of a collection that is being made.
    pub fn new(record: &CollectionRecord, options: IndexOptions) -> Self {
        let empty = || VectorIndex::new(record.dimensions as usize, options);
        let sentence = record.index_sentences.then(empty);
        Self::of_levels(empty(), empty(), sentence)
    }

    /// Reads the stored indexes and catches them up.
    pub fn open(store: &Store, record: &CollectionRecord, options: IndexOptions) -> Result<Self> {
        check_free("indexes to be opened");
        let open = |level| open_level(store, record, level, options);
        let (passage, (document, sentence)) = rayon::join(
            || open(Level::Passage),
            || {
                rayon::join(
                    || open(Level::Document),
                    || match record.index_sentences {
                        true => open(Level::Sentence).map(Some),
                        false => {
                            // A program that kept tombstones of sentences in any case may have left some.
                            let forgotten = store.forget_tombstones(record.cid, Level::Sentence);
                            tell_untidy(record.cid, Level::Sentence, forgotten);
                            Ok(None)
                        }
                    },
                )
            },
        );
        Ok(Self::of_levels(passage?, document?, sentence?))
    }

    /// The index of a level; only sentences may have none.
    pub fn of(&self, level: Level) -> Option<&VectorIndex> {
        match level {
            Level::Passage => Some(&self.passage),
            Level::Document => Some(&self.document),
            Level::Sentence => self.sentence.as_ref(),
        }
    }

    /// The indexes that there are, with their levels.
    pub fn levels(&self) -> impl Iterator<Item = (Level, &VectorIndex)> {
        [Level::Passage, Level::Document, Level::Sentence].into_iter().filter_map(|l| Some((l, self.of(l)?)))
    }

    /// Deleted points that are still in the graphs.
    pub fn tombstones(&self) -> usize {
        self.levels().map(|(_, index)| index.tombstones()).sum()
    }

    /// Points that searches scan, because no graph has them yet.
    pub fn unsealed(&self) -> usize {
        self.levels().map(|(_, index)| index.unsealed()).sum()
    }

    /// Whether something should be sealed or merged, or tombstones can go.
    pub fn has_work(&self) -> bool {
        self.levels().any(|(_, index)| has_work(index))
    }

    /// Takes over a change of the store. A vector that cannot be indexed, such as one of zeros, is
    /// left out with a warning; the rest goes in.
    pub fn apply(&self, event: &Committed) {
        for (level, range) in event.removed_ranges() {
            if let Some(index) = self.of(level) {
                index.remove_range(range);
            }
        }
        let Some(inserted) = &event.inserted else { return };
        for (level, index) in self.levels() {
            for (point, vector) in inserted.points(level) {
                insert(index, level, point, inserted.record.doc_no, vector);
            }
        }
    }

    /// Waits for the turn to merge.
    pub async fn merge_turn(&self) -> Turn {
        self.merging.wait().await
    }

    /// Seals full heads, and merges where a merge is due, unless somebody else merges.
    pub fn maintain(&self, site: Site<'_>) -> Result<()> {
        while self.maintain_once(site)? {}
        Ok(())
    }

    /// One step of it; whether there was anything to do. The longest head goes first, so that no level waits until
    /// another, which goes on growing, has nothing left.
    pub fn maintain_once(&self, site: Site<'_>) -> Result<bool> {
        let turn = self.merging.try_take();
        let plan = |index: &VectorIndex| turn.as_ref().and_then(|_| index.plan_merge());
        let is_due =
            |index: &VectorIndex| index.needs_seal() || index.has_settled_removals() || plan(index).is_some();
        let due = self.levels().filter(|(_, index)| is_due(index));
        let Some((level, index)) = due.max_by_key(|(_, index)| (index.needs_seal(), index.unsealed())) else {
            return Ok(false);
        };
        if index.needs_seal() {
            // Others may merge meanwhile.
            drop(turn);
            self.seal(site, level, index)?;
        } else if let Some(ids) = plan(index) {
            return self.merge(site, level, index, &ids, &|| false);
        } else {
            self.put_manifest(site, level, index)?;
        }
        Ok(true)
    }

    /// What there is time for while nothing is written: seals heads of at least so many points although they are not
    /// full, so that searches need not scan them, and joins segments, so that they have fewer graphs to walk. Joining makes
    /// way for what is due.
    pub fn settle(&self, site: Site<'_>, least: usize, is_due: Cancelled<'_>) -> Result<()> {
        for (level, index) in self.levels() {
            if index.unsealed() >= least {
                self.seal(site, level, index)?;
            }
        }
        self.maintain(site)?;
        self.join(site, &|| is_due() || self.levels().any(|(_, index)| index.needs_seal()))
    }

    /// Joins segments until something is due, such as a full head, since documents come in again then: it must not wait for
    /// a great join, which begins anew when they have stopped. Nothing is joined while somebody else merges.
    pub fn join(&self, site: Site<'_>, is_due: Cancelled<'_>) -> Result<()> {
        let Some(_turn) = self.merging.try_take() else { return Ok(()) };
        for (level, index) in self.levels() {
            while let Some(ids) = index.plan_join() {
                match self.merge(site, level, index, &ids, is_due) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) if error.kind == ErrorKind::Cancelled => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Whether there is something to settle.
    pub fn is_unsettled(&self, least: usize) -> bool {
        self.levels().any(|(_, index)| index.unsealed() >= least || index.plan_join().is_some())
    }

    /// Puts every point of the graphs into one segment without the deleted ones. Heads may be sealed meanwhile.
    pub fn compact(&self, site: Site<'_>, _turn: &Turn, is_cancelled: Cancelled<'_>) -> Result<()> {
        for (level, index) in self.levels() {
            check_cancelled(is_cancelled)?;
            let ids = index.segment_ids();
            if ids.len() > 1 || index.tombstones() > 0 {
                self.merge(site, level, index, &ids, is_cancelled)?;
            }
            self.put_manifest(site, level, index)?;
        }
        Ok(())
    }

    fn seal(&self, site: Site<'_>, level: Level, index: &VectorIndex) -> Result<()> {
        let started = Instant::now();
        let Some(segment) = site.pool.run(|| build(|| index.seal()))? else { return Ok(()) };
        built("seal", started);
        self.switch(site, level, index, segment)
    }

    fn merge(
        &self,
        site: Site<'_>,
        level: Level,
        index: &VectorIndex,
        ids: &[u64],
        is_cancelled: Cancelled<'_>,
    ) -> Result<bool> {
        let started = Instant::now();
        let Some(segment) = site.pool.run(|| build(|| index.merge_until(ids, is_cancelled)))? else {
            return Ok(false);
        };
        built("merge", started);
        self.switch(site, level, index, segment)?;
        Ok(true)
    }

    /// Stores a segment, takes it into use, and only then drops what it replaces.
    fn switch(
        &self,
        site: Site<'_>,
        level: Level,
        index: &VectorIndex,
        segment: SealedSegment,
    ) -> Result<()> {
        let Site { store, cid, .. } = site;
        if !segment.bytes.is_empty() {
            store.write_segment(cid, level, segment.id, &segment.bytes)?;
        }
        index.commit(segment.id)?;
        self.put_manifest(site, level, index)?;
        for id in segment.obsolete {
            store.delete_segment(cid, level, id)?;
        }
        Ok(())
    }

    /// Stores which segments are in use, and drops the tombstones of points that none of them holds.
    fn put_manifest(&self, site: Site<'_>, level: Level, index: &VectorIndex) -> Result<()> {
        let _manifest = self.manifest.lock();
        let settled = index.settled_removals();
        site.store.put_manifest(site.cid, level, &index.manifest(), &settled)?;
        index.forget_removals(&settled);
        Ok(())
    }
}

fn has_work(index: &VectorIndex) -> bool {
    index.needs_seal() || index.plan_merge().is_some() || index.has_settled_removals()
}

fn insert(index: &VectorIndex, level: Level, point: u64, doc_no: u32, vector: &[f32]) {
    if let Err(error) = index.insert(point, doc_no, vector) {
        tracing::warn!(?level, point, doc_no, %error, "a vector can't be indexed: searches will not find it");
    }
}

/// What an open cannot clear away, such as on a full disk, is left for the next one: answers do not depend on it.
fn tell_untidy(cid: u32, level: Level, tidied: Result<()>) {
    if let Err(error) = tidied {
        tracing::warn!(cid, ?level, %error, "what is left of an index stays until the next start");
    }
}

fn open_level(
    store: &Store,
    record: &CollectionRecord,
    level: Level,
    options: IndexOptions,
) -> Result<VectorIndex> {
    match load(store, record, level, options) {
        Ok(index) => Ok(index),
        Err(error) if matches!(error.kind, ErrorKind::DataLoss | ErrorKind::NotFound) => {
            tracing::warn!(collection = record.name, ?level, %error, "rebuilding a damaged index from the store");
            rebuild(store, record, level, options)
        }
        Err(error) => Err(error),
    }
}

fn load(
    store: &Store,
    record: &CollectionRecord,
    level: Level,
    options: IndexOptions,
) -> Result<VectorIndex> {
    let cid = record.cid;
    let index = match store.manifest(cid, level)? {
        None => VectorIndex::new(record.dimensions as usize, options),
        Some(manifest) => {
            VectorIndex::from_segments(options, &manifest, |id| store.read_segment(cid, level, id))?
        }
    };
    if index.dimensions() != record.dimensions as usize {
        return Err(Error::data_loss("INDEX_DAMAGED", "the index has another dimension than its collection"));
    }
    let used = index.segment_ids();
    for orphan in store.segments(cid, level)?.into_iter().filter(|id| !used.contains(id)) {
        tell_untidy(cid, level, store.delete_segment(cid, level, orphan));
    }
    store.tombstones(cid, level)?.into_iter().for_each(|range| index.remove_range(range));
    catch_up(store, cid, level, &index, index.watermark().map_or(0, |w| w + 1));
    Ok(index)
}

/// Starts again from the stored vectors. All of them are in the head first, which answers exactly;
/// the maintenance thread makes segments of it, one after the other.
fn rebuild(
    store: &Store,
    record: &CollectionRecord,
    level: Level,
    options: IndexOptions,
) -> Result<VectorIndex> {
    let cid = record.cid;
    let index = VectorIndex::new(record.dimensions as usize, options);
    tell_untidy(cid, level, clear(store, cid, level, &index));
    catch_up(store, cid, level, &index, 0);
    Ok(index)
}

/// Stores an index without segments. Tombstones go after the manifest that needed them.
fn clear(store: &Store, cid: u32, level: Level, empty: &VectorIndex) -> Result<()> {
    store.put_manifest(cid, level, &empty.manifest(), &[])?;
    store.forget_tombstones(cid, level)?;
    store.segments(cid, level)?.into_iter().try_for_each(|id| store.delete_segment(cid, level, id))
}

/// Inserts the stored vectors from a point on. A damaged record is left out: it must not keep the
/// others from being found.
fn catch_up(store: &Store, cid: u32, level: Level, index: &VectorIndex, first: u64) {
    for item in store.vectors_after(cid, level, first) {
        match item {
            Ok((point, doc_no, vector)) => insert(index, level, point, doc_no, &vector),
            Err(error) => {
                tracing::error!(cid, ?level, %error, "a stored vector is damaged: searches will not find it");
            }
        }
    }
}

fn build<T>(build: impl FnOnce() -> Result<T>) -> Result<T> {
    fault::point!("index-build");
    build()
}

fn built(operation: &'static str, started: Instant) {
    histogram!(metrics::INDEX_BUILD_DURATION, "operation" => operation).record(started.elapsed());
}

/// Opens the vector and metadata indexes of many collections at once.
pub fn open_all(
    store: &Store,
    records: &[CollectionRecord],
    options: IndexOptions,
) -> Result<Vec<(u32, Indexes, Filters)>> {
    check_free("indexes to be opened");
    let open = |record: &CollectionRecord| {
        let (indexes, filters) =
            rayon::join(|| Indexes::open(store, record, options), || Filters::open(store, record.cid));
        Ok((record.cid, indexes?, filters?))
    };
    records.par_iter().map(open).collect()
}
