//! A collection as it was at one moment, read while others write. Documents come in the order of their ids, each in its
//! version of that moment.

use std::collections::BTreeMap;
use std::time::Duration;

use super::readers::{Lease, Moment};
use super::records::{CollectionRecord, Damaged, DocumentRecord};
use super::versions::{self, Change, Version};
use super::{Inner, Store, codec, commit, keys};
use crate::error::{ErrorKind, Result};
use crate::task::Cancelled;

/// Bytes of records that are read at once; one is always read.
const PAGE_BYTES: usize = 1 << 20;

/// A collection at one moment. While it is there, nothing of that moment goes away.
pub struct View {
    cid: u32,
    moment: Moment,
    /// Documents of this number and above came later.
    next_doc_no: u32,
    counts: (u64, u64),
    _lease: Lease,
}

impl View {
    /// How many documents and passages there were.
    pub fn counts(&self) -> (u64, u64) {
        self.counts
    }
}

/// Some documents of a view, in the order of their ids.
pub struct ViewPage {
    /// Each is a record, or says why there is none.
    pub documents: Vec<std::result::Result<DocumentRecord, Damaged>>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
}

impl Store {
    /// A collection's record, and a lease with which all that it holds now stays readable by its number, whatever becomes
    /// of the collection.
    ///
    /// # Errors
    /// `UNKNOWN_COLLECTION`.
    pub fn read_collection(&self, name: &str) -> Result<(CollectionRecord, Lease)> {
        loop {
            let record = self.get_collection(name)?;
            let lease = self.inner.readers.lease(record.cid);
            if self.get_collection(name)?.cid == record.cid {
                return Ok((record, lease));
            }
        }
    }

    /// The collection of a number as it is now. Waits for the writer of the moment: for a compaction that may be long.
    ///
    /// # Errors
    /// `UNKNOWN_COLLECTION` where it was deleted or replaced, and `CANCELLED`.
    pub fn view(&self, cid: u32, is_cancelled: Cancelled<'_>) -> Result<View> {
        let _writer = self.inner.writer.lock_until(is_cancelled)?;
        self.inner.view(cid)
    }

    /// Waits until whoever writes at the moment is done and the indexes have heard of it, for a time at most.
    pub fn wait_for_commit(&self, most: Duration) {
        drop(self.inner.writer.try_lock_for(most));
    }

    /// Documents of a view after an id, at most so many.
    pub fn view_page(&self, view: &View, after: Option<&str>, most: usize) -> Result<ViewPage> {
        let (cid, moment) = (view.cid, view.moment.number());
        let prefix = keys::document(cid, "");
        let mut start = keys::document(cid, after.unwrap_or_default());
        if after.is_some() {
            start.push(0);
        }
        // What is there now comes first: what is changed after that has a note by then.
        let live = self.live();
        let mut found: BTreeMap<String, Result<DocumentRecord>> = BTreeMap::new();
        let (mut bytes, mut last) = (0, None);
        for item in live.from(&start) {
            let (key, value) = item?;
            if !key.starts_with(&prefix) {
                break;
            }
            bytes += value.len();
            found.insert(keys::id_of(&key), codec::unpack_document(&key, &value));
            if found.len() >= most || bytes >= PAGE_BYTES {
                last = found.last_key_value().map(|(id, _)| id.clone());
                break;
            }
        }
        let mut noted: BTreeMap<String, Result<Version>> = BTreeMap::new();
        let live = self.live();
        let prefix = keys::versions(cid);
        for item in live.from(&keys::versions_after(cid, after)) {
            let (key, value) = item?;
            if !key.starts_with(&prefix) {
                break;
            }
            let id = keys::versioned_id_of(&key);
            if last.as_ref().is_some_and(|last| id > *last) {
                break;
            }
            if keys::moment_of(&key) < moment || noted.contains_key(&id) {
                continue;
            }
            if noted.len() >= most || (bytes >= 2 * PAGE_BYTES && !noted.is_empty()) {
                last = noted.last_key_value().map(|(id, _)| id.clone());
                break;
            }
            bytes += value.len();
            noted.insert(id, versions::unpack(&key, &value));
        }
        for (id, version) in noted {
            let record = version.and_then(|version| match version.change {
                Change::Lost => {
                    Err(codec::damaged(&keys::document(cid, &id), "it was removed, and could not be read"))
                }
                Change::Described | Change::Removed => Ok(version.record),
            });
            found.insert(id, record);
        }
        let mut documents = Vec::with_capacity(found.len());
        for (id, record) in found {
            if last.as_ref().is_some_and(|last| id > *last) {
                break;
            }
            match record {
                Ok(record) if record.doc_no >= view.next_doc_no => {}
                Ok(record) => documents.push(Ok(record)),
                // Whether it was there at the moment cannot be told: better named once too often.
                Err(error) if error.kind == ErrorKind::DataLoss => documents.push(Err(Damaged { id, error })),
                Err(error) => return Err(error),
            }
        }
        Ok(ViewPage { documents, next: last })
    }
}

impl Inner {
    /// The same while the writer's lock is held.
    pub(super) fn view(&self, cid: u32) -> Result<View> {
        let counters = commit::counters(&self.live.load_full(), cid)?;
        let (counts, next_doc_no) = ((counters.documents, counters.passages), counters.next_doc_no);
        let lease = self.readers.lease(cid);
        Ok(View { cid, moment: self.readers.moment(cid), next_doc_no, counts, _lease: lease })
    }
}
