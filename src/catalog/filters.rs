//! Filters of a collection: its metadata index, made from the store on open and kept up with its commits.

use std::sync::Arc;

use ::metrics::counter;
use parking_lot::RwLock;
use roaring::RoaringBitmap;

use super::{Catalog, gone};
use crate::domain::Filter;
use crate::error::{ErrorKind, Result};
use crate::metadata::{DocumentIds, MetadataIndex, ResolvedFilter};
use crate::metrics;
use crate::store::{CollectionRecord, Committed, DocumentRecord, Store};
use crate::task::{self, Cancelled};

/// Memory of the records from which on a page is full.
const PAGE_BYTES: usize = 4 << 20;
/// Of a filter that leaves less than one in so many documents the matching ones are read, one by one; of others
/// all documents in order.
const NARROW: u64 = 16;

/// The metadata index of one collection.
#[derive(Debug, Default)]
pub struct Filters(RwLock<MetadataIndex>);

impl Filters {
    /// Reads the metadata of all documents. A damaged record is left out: it must not keep the others from being
    /// found.
    ///
    /// # Errors
    /// Whatever reading the store gives otherwise.
    pub fn open(store: &Store, cid: u32) -> Result<Self> {
        let mut index = MetadataIndex::default();
        for document in store.documents_of(cid, "") {
            match document {
                Ok(document) => index.insert(document.doc_no, &document.metadata),
                Err(error) if error.kind == ErrorKind::DataLoss => {
                    tracing::error!(cid, %error, "a document is damaged: filters do not find it");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self(RwLock::new(index)))
    }

    /// Takes over a change of the store.
    pub fn apply(&self, event: &Committed) {
        let mut index = self.0.write();
        if let Some(removed) = &event.removed {
            index.remove(removed.doc_no, &removed.metadata);
        }
        if let Some(updated) = &event.updated {
            index.remove(updated.old.doc_no, &updated.old.metadata);
            index.insert(updated.new.doc_no, &updated.new.metadata);
        }
        if let Some(inserted) = &event.inserted {
            index.insert(inserted.record.doc_no, &inserted.record.metadata);
        }
    }

    /// Numbers of the documents that a filter matches, and how many documents there are.
    ///
    /// # Errors
    /// `CANCELLED`; what the look-up of the ids that the filter names gives.
    pub fn matching(
        &self,
        store: &Store,
        cid: u32,
        filter: &Filter,
        is_cancelled: Cancelled<'_>,
    ) -> Result<(RoaringBitmap, u64)> {
        // Ids are looked up before the index is locked: commits wait for the lock.
        let resolved = ResolvedFilter::new(filter, &Ids { store, cid }, is_cancelled)?;
        let index = self.0.read();
        Ok((index.matching(&resolved, is_cancelled)?, index.len()))
    }
}

/// Document ids as the store has them.
struct Ids<'a> {
    store: &'a Store,
    cid: u32,
}

impl DocumentIds for Ids<'_> {
    fn number(&self, id: &str) -> Result<Option<u32>> {
        Ok(self.store.document(self.cid, id)?.map(|document| document.doc_no))
    }

    fn numbers(&self, prefix: &str) -> Result<RoaringBitmap> {
        self.store.documents_of(self.cid, prefix).map(|document| Ok(document?.doc_no)).collect()
    }
}

impl Catalog {
    /// Numbers of the documents that a filter matches.
    ///
    /// # Errors
    /// `UNKNOWN_COLLECTION` where it is gone, `CANCELLED`; `DATA_LOSS` where the record of a document that the filter
    /// names by its id is damaged.
    pub fn matching(
        &self,
        record: &CollectionRecord,
        filter: &Filter,
        is_cancelled: Cancelled<'_>,
    ) -> Result<RoaringBitmap> {
        let open = self.open_of(record.cid).ok_or_else(|| gone(record))?;
        Ok(open.filters.matching(&self.store, record.cid, filter, is_cancelled)?.0)
    }

    /// Deletes the documents that a filter matches, and tells how many there were.
    ///
    /// # Errors
    /// `DATA_LOSS` where a record is damaged; those of the store's commit.
    pub async fn delete_matching(self: &Arc<Self>, record: &CollectionRecord, filter: Filter) -> Result<u64> {
        let cid = record.cid;
        if let Filter::DocumentIds(ids) = filter {
            return self.store.delete_documents(cid, ids).await;
        }
        let (catalog, record, sought) = (self.clone(), record.clone(), filter.clone());
        let find = move |is_cancelled: Cancelled<'_>| {
            let numbers = catalog.matching(&record, &sought, is_cancelled)?;
            numbers.iter().filter_map(|number| catalog.store.document_id(cid, number).transpose()).collect()
        };
        let ids = task::cancellable("TASK_FAILED", find).await?;
        self.store.delete_matching(cid, ids, filter).await
    }

    /// A page of matching documents by id, and whether there are more: fewer than asked for where what describes them
    /// takes much room, but at least one. Those whose records are damaged are left out
    /// and logged: they must not keep the others from being listed.
    ///
    /// # Errors
    /// Whatever reading the store gives otherwise.
    pub fn page(
        &self,
        cid: u32,
        after: Option<&str>,
        size: usize,
        filter: Option<&Filter>,
    ) -> Result<(Vec<DocumentRecord>, bool)> {
        if let (Some(filter), Some(open)) = (filter, self.open_of(cid)) {
            let matching = readable(cid, open.filters.matching(&self.store, cid, filter, &|| false))?;
            if let Some((matching, all)) = matching
                && matching.len() < all / NARROW
            {
                return self.narrow_page(cid, after, size, filter, &matching);
            }
        }
        let (mut kept, mut bytes) = (Vec::new(), 0);
        for document in self.store.documents_after(cid, after) {
            let Some(document) = readable(cid, document)? else { continue };
            if filter.is_some_and(|f| !f.matches(&document.id, &document.metadata)) {
                continue;
            }
            bytes += document.shown_bytes();
            if kept.len() == size || (bytes > PAGE_BYTES && !kept.is_empty()) {
                return Ok((kept, true));
            }
            kept.push(document);
        }
        Ok((kept, false))
    }

    /// A page out of a few documents.
    fn narrow_page(
        &self,
        cid: u32,
        after: Option<&str>,
        size: usize,
        filter: &Filter,
        matching: &RoaringBitmap,
    ) -> Result<(Vec<DocumentRecord>, bool)> {
        let mut ids = Vec::new();
        for number in matching {
            let id = readable(cid, self.store.document_id(cid, number))?.flatten();
            ids.extend(id.filter(|id| after.is_none_or(|after| id.as_str() > after)));
        }
        ids.sort_unstable();
        let (mut kept, mut bytes) = (Vec::new(), 0);
        for id in ids {
            // It may have changed since the index was asked.
            let document = readable(cid, self.store.document(cid, &id))?.flatten();
            let Some(document) = document.filter(|d| filter.matches(&d.id, &d.metadata)) else { continue };
            bytes += document.shown_bytes();
            if kept.len() == size || (bytes > PAGE_BYTES && !kept.is_empty()) {
                return Ok((kept, true));
            }
            kept.push(document);
        }
        Ok((kept, false))
    }
}

/// What was read; nothing where it is damaged, which is logged and counted.
fn readable<T>(cid: u32, read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(error) if error.kind == ErrorKind::DataLoss => {
            counter!(metrics::LISTING_DAMAGED_DOCUMENTS).increment(1);
            tracing::error!(cid, %error, "a document is damaged: it is left out of a listing");
            Ok(None)
        }
        read => read.map(Some),
    }
}
