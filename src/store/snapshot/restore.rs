//! Puts collections back. All of a snapshot is read and checked before anything is written; then its documents
//! are written under collection numbers that nobody knows; then one atomic batch gives these numbers to the
//! names. A crash before it leaves rows that belong to no collection, which the next open deletes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;

use super::folder::{self, SnapshotName};
use super::format::{End, Header, Reader, damaged};
use super::{Cancelled, check_cancelled};
use crate::domain::{CollectionName, DocumentId};
use crate::error::{Error, Result};
use crate::fault;
use crate::store::codec::{self, Counters};
use crate::store::collections::{next_cid, purge, touch};
use crate::store::live::check_free;
use crate::store::records::{CollectionRecord, DocumentRecord, Inserted};
use crate::store::{Store, commit, content, keys, readers, unknown_collection};

/// Bytes of documents that are written in one batch.
const BATCH_BYTES: u64 = 4 << 20;

/// Reads a whole snapshot, and gives each document to `each` with the position of its collection.
pub(super) fn read_all(
    file: File,
    is_cancelled: Cancelled<'_>,
    each: impl FnMut(usize, Inserted) -> Result<()>,
) -> Result<(Header, End)> {
    read_from(folder::reader(file)?, is_cancelled, each)
}

/// The same from wherever the bytes come.
pub(super) fn read_from(
    mut reader: Reader<impl Read>,
    is_cancelled: Cancelled<'_>,
    mut each: impl FnMut(usize, Inserted) -> Result<()>,
) -> Result<(Header, End)> {
    let collections = reader.header().collections.clone();
    let mut names = BTreeSet::new();
    for record in &collections {
        CollectionName::new(record.name.clone()).map_err(|error| damaged(&error.message))?;
        if !names.insert(&record.name) {
            return Err(damaged(&format!("it holds the collection {:?} twice", record.name)));
        }
    }
    let mut number = 0u64;
    while let Some((position, document)) = reader.document()? {
        check_cancelled(is_cancelled)?;
        let dimensions = collections.get(position).map_or(0, |record| record.dimensions);
        check(&document, dimensions)
            .map_err(|error| damaged(&format!("document {number}: {}", error.message)))?;
        number += 1;
        each(position, document)?;
    }
    let end = reader.end().ok_or_else(|| damaged("it has no end"))?;
    Ok((reader.header().clone(), end))
}

fn check(document: &Inserted, dimensions: u32) -> Result<()> {
    DocumentId::new(document.record.id.clone())?;
    commit::check(&document.document, dimensions as usize)?;
    content::check_foreign(&document.document)
}

/// Collections that are written and wait for their names. Dropped, they are deleted again.
pub struct PreparedRestore<'a> {
    store: &'a Store,
    records: Vec<CollectionRecord>,
    is_done: bool,
}

impl Store {
    /// Reads and checks a snapshot, and writes the named collections of it, or all where none is named, beside
    /// those that are in use. [`PreparedRestore::commit`] puts them in their place. Blocks for as long as it takes.
    ///
    /// # Errors
    /// `UNKNOWN_SNAPSHOT`, `SNAPSHOT_DAMAGED` with what is wrong, `UNKNOWN_COLLECTION`, `DISK_FULL`, or that the
    /// caller left. Nothing has changed then.
    pub fn prepare_restore(
        &self,
        name: &SnapshotName,
        collections: &[String],
        is_cancelled: Cancelled<'_>,
    ) -> Result<PreparedRestore<'_>> {
        let _one = self.inner.snapshotting.lock_until(is_cancelled)?;
        let (file, size) = self.inner.snapshots.open_file(name)?;
        let (header, end) = read_all(file, is_cancelled, |_, _| Ok(()))?;
        if let Some(missing) = collections.iter().find(|n| header.collections.iter().all(|c| c.name != **n)) {
            let error = unknown_collection(format!("{missing:?}"));
            let message = format!("{} in the snapshot {:?}", error.message, name.as_str());
            return Err(Error { message, ..error });
        }
        check_free(&self.inner.dir, size.saturating_add(self.inner.options.min_free_bytes))?;
        let wanted = |record: &CollectionRecord| collections.is_empty() || collections.contains(&record.name);
        let mut prepared = PreparedRestore { store: self, records: Vec::new(), is_done: false };
        let mut targets = BTreeMap::new();
        for (position, record) in header.collections.iter().enumerate().filter(|(_, record)| wanted(record)) {
            targets.insert(position, Target::new(&prepared.add(record)?));
        }
        let (file, _) = self.inner.snapshots.open_file(name)?;
        let (_, again) = read_all(file, is_cancelled, |position, document| {
            let Some(target) = targets.get_mut(&position) else { return Ok(()) };
            target.take(document);
            if target.bytes < BATCH_BYTES { Ok(()) } else { target.write(self) }
        })?;
        if again != end {
            return Err(damaged("its file was changed while it was read"));
        }
        for target in targets.values_mut() {
            target.write(self)?;
        }
        let _writer = self.inner.writer.lock();
        self.live().sync()?;
        Ok(prepared)
    }
}

impl PreparedRestore<'_> {
    /// The collections as they will be.
    pub fn records(&self) -> &[CollectionRecord] {
        &self.records
    }

    /// Makes a collection without a name.
    fn add(&mut self, record: &CollectionRecord) -> Result<CollectionRecord> {
        let _writer = self.store.inner.writer.lock();
        self.store.inner.check_room()?;
        let live = self.store.live();
        let (cid, next) = next_cid(&live)?;
        let mut record = CollectionRecord { cid, ..record.clone() };
        touch(&mut record);
        let counters = Counters::of(&record);
        let key = keys::counters(cid);
        let mut batch = sled::Batch::default();
        batch.insert(keys::NEXT_CID, codec::pack(keys::NEXT_CID, &next));
        batch.insert(key.as_slice(), codec::pack(&key, &counters));
        live.apply(batch)?;
        self.records.push(record.clone());
        Ok(record)
    }

    /// Gives the collections their names, in place of those that had them: all or none. Gives the numbers of
    /// those that were replaced.
    ///
    /// # Errors
    /// Where the disk fails. Which state a restart finds is then open, but it is one of the two.
    pub fn commit(mut self) -> Result<Vec<u32>> {
        let inner = &self.store.inner;
        let writer = inner.writer.lock();
        inner.check_little_room()?;
        let live = self.store.live();
        let mut batch = sled::Batch::default();
        let mut replaced = Vec::new();
        for record in &self.records {
            let key = keys::collection(&record.name);
            // One that is damaged is replaced too; what it held is deleted at the next open.
            let old = live.get(&key)?.and_then(|old| codec::unpack::<CollectionRecord>(&key, &old).ok());
            replaced.extend(old.as_ref().map(|old| old.cid));
            batch.insert(key.as_slice(), codec::pack(&key, record));
        }
        replaced.iter().for_each(|cid| batch.remove(keys::counters(*cid)));
        fault::point!("restore-swap");
        live.apply(batch)?;
        self.is_done = true;
        live.sync()?;
        fault::point!("restore-purge");
        drop(writer);
        // Where one is read, its rows go with the last reader.
        replaced
            .iter()
            .filter(|cid| inner.readers.retire(**cid))
            .for_each(|cid| readers::delete(inner, *cid));
        Ok(replaced)
    }
}

impl Drop for PreparedRestore<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let _writer = self.store.inner.writer.lock();
        for record in &self.records {
            if let Err(error) = purge(&self.store.live(), record.cid) {
                tracing::warn!(cid = record.cid, %error, "what a restore began stays until the next start");
            }
        }
    }
}

/// A collection that is being written. Documents are numbered anew.
struct Target {
    cid: u32,
    counters: Counters,
    documents: Vec<Inserted>,
    bytes: u64,
}

impl Target {
    fn new(record: &CollectionRecord) -> Self {
        let counters = Counters::of(record);
        Self { cid: record.cid, counters, documents: Vec::new(), bytes: 0 }
    }

    fn take(&mut self, document: Inserted) {
        self.bytes += document.record.text_bytes + 8192 * u64::from(document.record.passage_count);
        self.documents.push(document);
    }

    fn write(&mut self, store: &Store) -> Result<()> {
        self.bytes = 0;
        let _writer = store.inner.writer.lock();
        store.inner.check_room()?;
        let live = store.live();
        let mut batch = sled::Batch::default();
        for Inserted { record, document } in self.documents.drain(..) {
            let key = keys::document(self.cid, &record.id);
            if live.get(&key)?.is_some() {
                return Err(damaged(&format!("it holds the document {:?} twice", record.id)));
            }
            let counters = &mut self.counters;
            let record =
                DocumentRecord { doc_no: counters.next_doc_no, first_passage: counters.next_point, ..record };
            counters.next_doc_no = counters.next_doc_no.checked_add(1).ok_or_else(commit::full)?;
            counters.next_point += u64::from(record.passage_count);
            counters.documents += 1;
            counters.passages += u64::from(record.passage_count);
            commit::insert(&mut batch, self.cid, &record, &document);
        }
        commit::put_counters(&mut batch, self.cid, &self.counters);
        fault::point!("restore-write");
        live.apply(batch)
    }
}
