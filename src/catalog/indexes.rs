use std::time::Instant;

use ::metrics::histogram;
use parking_lot::Mutex;
use rayon::prelude::*;

use super::Filters;
use crate::domain::Level;
use crate::error::{Error, ErrorKind, Result};
use crate::index::{IndexOptions, SealedSegment, VectorIndex};
use crate::metrics;
use crate::store::{CollectionRecord, Committed, Store};
use crate::task::{Cancelled, check_cancelled};

/// The vector indexes of one collection.
pub struct Indexes {
    /// Passages.
    pub passage: VectorIndex,
    /// Documents.
    pub document: VectorIndex,
    /// Sentences, where the collection gives them a graph.
    pub sentence: Option<VectorIndex>,
    /// Held by whoever seals or merges.
    upkeep: Mutex<()>,
}

impl Indexes {
    /// Those of a collection that is being made.
    pub fn new(record: &CollectionRecord, options: IndexOptions) -> Self {
        let empty = || VectorIndex::new(record.dimensions as usize, options);
        let sentence = record.index_sentences.then(empty);
        Self { passage: empty(), document: empty(), sentence, upkeep: Mutex::new(()) }
    }

    /// Reads the stored indexes and catches them up.
    pub fn open(store: &Store, record: &CollectionRecord, options: IndexOptions) -> Result<Self> {
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
        Ok(Self { passage: passage?, document: document?, sentence: sentence?, upkeep: Mutex::new(()) })
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

    /// Seals full heads and merges where a merge is due.
    pub fn maintain(&self, store: &Store, cid: u32) -> Result<()> {
        while self.maintain_once(store, cid)? {}
        Ok(())
    }

    /// One step of it; whether there was anything to do. The longest head goes first, so that no level waits until
    /// another, which goes on growing, has nothing left.
    pub fn maintain_once(&self, store: &Store, cid: u32) -> Result<bool> {
        let _upkeep = self.upkeep.lock();
        let busy = self.levels().filter(|(_, index)| has_work(index));
        let Some((level, index)) = busy.max_by_key(|(_, index)| (index.needs_seal(), index.unsealed()))
        else {
            return Ok(false);
        };
        if index.needs_seal() {
            seal(store, cid, level, index)?;
        } else if let Some(ids) = index.plan_merge() {
            return merge(store, cid, level, index, &ids, &|| false);
        } else {
            put_manifest(store, cid, level, index)?;
        }
        Ok(true)
    }

    /// What there is time for while nothing is written: seals heads of at least so many points although they are not
    /// full, so that searches need not scan them, and joins segments, so that they have fewer graphs to walk.
    pub fn settle(&self, store: &Store, cid: u32, least: usize) -> Result<()> {
        {
            let _upkeep = self.upkeep.lock();
            for (level, index) in self.levels() {
                if index.unsealed() >= least {
                    seal(store, cid, level, index)?;
                }
            }
        }
        self.maintain(store, cid)?;
        self.join(store, cid, &|| self.levels().any(|(_, index)| index.needs_seal()))
    }

    /// Joins segments until a head is full, since documents come in again then: it must not wait for a great join, which
    /// begins anew when they have stopped.
    pub fn join(&self, store: &Store, cid: u32, is_head_full: Cancelled<'_>) -> Result<()> {
        let _upkeep = self.upkeep.lock();
        for (level, index) in self.levels() {
            while let Some(ids) = index.plan_join() {
                match merge(store, cid, level, index, &ids, is_head_full) {
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

    /// Puts every point of the graphs into one segment without the deleted ones.
    pub fn compact(&self, store: &Store, cid: u32, is_cancelled: Cancelled<'_>) -> Result<()> {
        let _upkeep = self.upkeep.lock();
        for (level, index) in self.levels() {
            check_cancelled(is_cancelled)?;
            let ids = index.segment_ids();
            if ids.len() > 1 || index.tombstones() > 0 {
                merge(store, cid, level, index, &ids, is_cancelled)?;
            }
            put_manifest(store, cid, level, index)?;
        }
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

fn seal(store: &Store, cid: u32, level: Level, index: &VectorIndex) -> Result<()> {
    let started = Instant::now();
    let Some(segment) = index.seal()? else { return Ok(()) };
    built("seal", started);
    switch(store, cid, level, index, segment)
}

fn merge(
    store: &Store,
    cid: u32,
    level: Level,
    index: &VectorIndex,
    ids: &[u64],
    is_cancelled: Cancelled<'_>,
) -> Result<bool> {
    let started = Instant::now();
    let Some(segment) = index.merge_until(ids, is_cancelled)? else { return Ok(false) };
    built("merge", started);
    switch(store, cid, level, index, segment)?;
    Ok(true)
}

fn built(operation: &'static str, started: Instant) {
    histogram!(metrics::INDEX_BUILD_DURATION, "operation" => operation).record(started.elapsed());
}

/// Stores a segment, takes it into use, and only then drops what it replaces.
fn switch(store: &Store, cid: u32, level: Level, index: &VectorIndex, segment: SealedSegment) -> Result<()> {
    if !segment.bytes.is_empty() {
        store.write_segment(cid, level, segment.id, &segment.bytes)?;
    }
    index.commit(segment.id)?;
    put_manifest(store, cid, level, index)?;
    for id in segment.obsolete {
        store.delete_segment(cid, level, id)?;
    }
    Ok(())
}

/// Stores which segments are in use, and drops the tombstones of points that none of them holds.
fn put_manifest(store: &Store, cid: u32, level: Level, index: &VectorIndex) -> Result<()> {
    let settled = index.settled_removals();
    store.put_manifest(cid, level, &index.manifest(), &settled)?;
    index.forget_removals(&settled);
    Ok(())
}

/// Opens the vector and metadata indexes of many collections at once.
pub fn open_all(
    store: &Store,
    records: &[CollectionRecord],
    options: IndexOptions,
) -> Result<Vec<(u32, Indexes, Filters)>> {
    let open = |record: &CollectionRecord| {
        let (indexes, filters) =
            rayon::join(|| Indexes::open(store, record, options), || Filters::open(store, record.cid));
        Ok((record.cid, indexes?, filters?))
    };
    records.par_iter().map(open).collect()
}
