use std::ops::Range;

use crate::domain::Level;
use crate::error::{Error, Result};
use crate::index::{IndexOptions, VectorIndex};
use crate::store::{CollectionRecord, Committed, Store};

/// The vector indexes of one collection.
pub struct Indexes {
    /// Passages.
    pub passage: VectorIndex,
    /// Documents.
    pub document: VectorIndex,
    /// Sentences, where the collection gives them a graph.
    pub sentence: Option<VectorIndex>,
}

impl Indexes {
    /// Reads the stored indexes and catches them up.
    pub fn open(store: &Store, record: &CollectionRecord, options: IndexOptions) -> Result<Self> {
        let sentence = match record.index_sentences {
            true => Some(open_level(store, record, Level::Sentence, options)?),
            false => None,
        };
        Ok(Self {
            passage: open_level(store, record, Level::Passage, options)?,
            document: open_level(store, record, Level::Document, options)?,
            sentence,
        })
    }

    /// The index of a level; only sentences may have none.
    pub fn of(&self, level: Level) -> Option<&VectorIndex> {
        match level {
            Level::Passage => Some(&self.passage),
            Level::Document => Some(&self.document),
            Level::Sentence => self.sentence.as_ref(),
        }
    }

    fn levels(&self) -> impl Iterator<Item = (Level, &VectorIndex)> {
        [Level::Passage, Level::Document, Level::Sentence].into_iter().filter_map(|l| Some((l, self.of(l)?)))
    }

    /// Deleted points that are still in the graphs.
    pub fn tombstones(&self) -> usize {
        self.levels().map(|(_, index)| index.tombstones()).sum()
    }

    /// Whether something should be sealed or merged.
    pub fn has_work(&self) -> bool {
        self.levels().any(|(_, index)| index.needs_seal() || index.plan_merge().is_some())
    }

    /// Takes over a change of the store.
    pub fn apply(&self, event: &Committed) -> Result<()> {
        for (level, range) in event.removed_ranges() {
            if let Some(index) = self.of(level) {
                index.remove_range(range);
            }
        }
        let Some(inserted) = &event.inserted else { return Ok(()) };
        for (level, index) in self.levels() {
            for (point, vector) in inserted.points(level) {
                index.insert(point, inserted.record.doc_no, vector)?;
            }
        }
        Ok(())
    }

    /// Seals full heads and merges where a merge is due.
    pub fn maintain(&self, store: &Store, cid: u32) -> Result<()> {
        for (level, index) in self.levels() {
            if index.needs_seal() {
                seal(store, cid, level, index)?;
            }
            while let Some(ids) = index.plan_merge() {
                if !merge(store, cid, level, index, &ids)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Puts every point into one segment without the deleted ones.
    pub fn compact(&self, store: &Store, cid: u32) -> Result<()> {
        for (level, index) in self.levels() {
            let ids = index.segment_ids();
            if ids.len() > 1 || index.tombstones() > 0 {
                merge(store, cid, level, index, &ids)?;
            }
        }
        Ok(())
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
        Err(error) => {
            tracing::warn!(collection = record.name, ?level, %error, "rebuilding a damaged index from the store");
            rebuild(store, record, level, options)
        }
    }
}

fn load(
    store: &Store,
    record: &CollectionRecord,
    level: Level,
    options: IndexOptions,
) -> Result<VectorIndex> {
    let cid = record.cid;
    let stored = store.segments(cid, level)?;
    let index = match store.manifest(cid, level)? {
        None => VectorIndex::new(record.dimensions as usize, options),
        Some(manifest) => {
            let mut segments = Vec::with_capacity(stored.len());
            for id in crate::index::segments_of(&manifest)? {
                segments.push((id, store.read_segment(cid, level, id)?));
            }
            VectorIndex::from_segments(options, &manifest, segments)?
        }
    };
    if index.dimensions() != record.dimensions as usize {
        return Err(Error::data_loss("INDEX_DAMAGED", "the index has another dimension than its collection"));
    }
    let used = index.segment_ids();
    for orphan in stored.into_iter().filter(|id| !used.contains(id)) {
        store.delete_segment(cid, level, orphan)?;
    }
    store.tombstones(cid, level)?.into_iter().for_each(|range| index.remove_range(range));
    catch_up(store, cid, level, &index, index.watermark().map_or(0, |w| w + 1))?;
    Ok(index)
}

fn rebuild(
    store: &Store,
    record: &CollectionRecord,
    level: Level,
    options: IndexOptions,
) -> Result<VectorIndex> {
    let cid = record.cid;
    let index = VectorIndex::new(record.dimensions as usize, options);
    store.put_manifest(cid, level, &index.manifest(), &[])?;
    for id in store.segments(cid, level)? {
        store.delete_segment(cid, level, id)?;
    }
    catch_up(store, cid, level, &index, 0)?;
    Ok(index)
}

fn catch_up(store: &Store, cid: u32, level: Level, index: &VectorIndex, first: u64) -> Result<()> {
    for item in store.vectors_after(cid, level, first) {
        let (point, doc_no, vector) = item?;
        index.insert(point, doc_no, &vector)?;
    }
    Ok(())
}

fn seal(store: &Store, cid: u32, level: Level, index: &VectorIndex) -> Result<()> {
    let done = finished_removals(store, cid, level, index)?;
    let Some(segment) = index.seal()? else { return Ok(()) };
    switch(store, cid, level, index, segment, &done)
}

fn merge(store: &Store, cid: u32, level: Level, index: &VectorIndex, ids: &[u64]) -> Result<bool> {
    let done = finished_removals(store, cid, level, index)?;
    let Some(segment) = index.merge(ids)? else { return Ok(false) };
    switch(store, cid, level, index, segment, &done)?;
    Ok(true)
}

/// Tombstones whose points the index in memory has let go of: from now on its manifest says so.
fn finished_removals(store: &Store, cid: u32, level: Level, index: &VectorIndex) -> Result<Vec<Range<u64>>> {
    let mut ranges = store.tombstones(cid, level)?;
    ranges.retain(|range| !range.clone().any(|point| index.contains(point)));
    Ok(ranges)
}

/// Stores a segment, takes it into use, and only then drops what it replaces.
fn switch(
    store: &Store,
    cid: u32,
    level: Level,
    index: &VectorIndex,
    segment: crate::index::SealedSegment,
    done: &[Range<u64>],
) -> Result<()> {
    store.write_segment(cid, level, segment.id, &segment.bytes)?;
    index.commit(segment.id)?;
    store.put_manifest(cid, level, &index.manifest(), done)?;
    for id in segment.obsolete {
        store.delete_segment(cid, level, id)?;
    }
    Ok(())
}
