//! Puts the collections of a snapshot into use.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Catalog, Filters, Indexes, Open, Wake};
use crate::error::Result;
use crate::store::{CollectionRecord, SnapshotName, counted};
use crate::task::Cancelled;

impl Catalog {
    /// Replaces collections by those of a snapshot, or adds them: the named ones, or all where none is named.
    /// Searches go on in the old ones until the new ones are whole and indexed. Blocks for as long as it takes.
    ///
    /// # Errors
    /// `UNKNOWN_SNAPSHOT`, `SNAPSHOT_DAMAGED`, `UNKNOWN_COLLECTION`, `DISK_FULL`, or that the caller left. Nothing
    /// has changed then.
    pub fn restore(
        &self,
        name: &SnapshotName,
        collections: &[String],
        is_cancelled: Cancelled<'_>,
    ) -> Result<Vec<CollectionRecord>> {
        counted("restore", || self.put_back(name, collections, is_cancelled))
    }

    fn put_back(
        &self,
        name: &SnapshotName,
        collections: &[String],
        is_cancelled: Cancelled<'_>,
    ) -> Result<Vec<CollectionRecord>> {
        let prepared = self.store.prepare_restore(name, collections, is_cancelled)?;
        let records = prepared.records().to_vec();
        let mut opened = Vec::with_capacity(records.len());
        for record in &records {
            let indexes = Arc::new(Indexes::open(&self.store, record, self.options)?);
            let keywords = self.new_keywords(record.cid, record.language());
            let filters = Arc::new(Filters::open(&self.store, record.cid)?);
            opened.push((record.cid, Open { indexes, keywords, filters }));
        }
        self.open.write().extend(opened);
        let committed = prepared.commit();
        // Where the disk failed at the last moment, the store tells which state it is in.
        let in_use = |record: &CollectionRecord| {
            self.store.get_collection(&record.name).is_ok_and(|now| now.cid == record.cid)
        };
        let unused = records.iter().filter(|record| !in_use(record)).map(|record| record.cid);
        let replaced = committed.as_ref().map_or(&[] as &[u32], Vec::as_slice);
        for cid in unused.chain(replaced.iter().copied()) {
            let removed = self.open.write().remove(&cid);
            removed.iter().for_each(|open| open.keywords.delete());
        }
        committed?;
        records.iter().for_each(|record| self.wake(record.cid));
        self.wake_keywords(Wake::Changes);
        Ok(records)
    }

    /// The encoders of collections that are not loaded, as `id@revision`, each once.
    pub fn missing_models(&self, records: &[CollectionRecord]) -> Vec<String> {
        let is_missing = |record: &&CollectionRecord| {
            self.encoders.bound(&record.model_id, &record.model_revision).is_err()
        };
        let missing: BTreeSet<String> = records
            .iter()
            .filter(is_missing)
            .map(|record| format!("{}@{}", record.model_id, record.model_revision))
            .collect();
        missing.into_iter().collect()
    }
}
