//! Filters of a collection: its metadata index, made from the store on open and kept up with its commits.

use parking_lot::RwLock;
use roaring::RoaringBitmap;

use super::Catalog;
use crate::domain::Filter;
use crate::error::{ErrorKind, Result};
use crate::metadata::{DocumentIds, MetadataIndex, ResolvedFilter};
use crate::store::{Committed, DocumentRecord, Store};

/// Documents read at once while they are listed.
const PAGE: usize = 512;
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
    /// What the look-up of the ids that the filter names gives.
    pub fn matching(&self, store: &Store, cid: u32, filter: &Filter) -> Result<(RoaringBitmap, u64)> {
        // Ids are looked up before the index is locked: commits wait for the lock.
        let resolved = ResolvedFilter::new(filter, &Ids { store, cid })?;
        let index = self.0.read();
        Ok((index.matching(&resolved), index.len()))
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
    /// `DATA_LOSS` where the record of a document that the filter names by its id is damaged.
    pub fn matching(&self, cid: u32, filter: &Filter) -> Result<RoaringBitmap> {
        let Some(open) = self.open_of(cid) else { return Ok(RoaringBitmap::new()) };
        Ok(open.filters.matching(&self.store, cid, filter)?.0)
    }

    /// Ids of the documents that a filter matches.
    ///
    /// # Errors
    /// `DATA_LOSS` where a record is damaged.
    pub fn matching_ids(&self, cid: u32, filter: &Filter) -> Result<Vec<String>> {
        let numbers = self.matching(cid, filter)?;
        numbers.iter().filter_map(|number| self.store.document_id(cid, number).transpose()).collect()
    }

    /// A page of matching documents by id, and whether there are more.
    ///
    /// # Errors
    /// `DATA_LOSS` where a record is damaged.
    pub fn page(
        &self,
        cid: u32,
        after: Option<&str>,
        size: usize,
        filter: Option<&Filter>,
    ) -> Result<(Vec<DocumentRecord>, bool)> {
        if let (Some(filter), Some(open)) = (filter, self.open_of(cid)) {
            let (matching, all) = open.filters.matching(&self.store, cid, filter)?;
            if matching.len() < all / NARROW {
                return self.narrow_page(cid, after, size, filter, &matching);
            }
        }
        let mut after = after.map(str::to_owned);
        let mut kept = Vec::new();
        loop {
            let page = self.store.documents(cid, after.as_deref(), PAGE)?;
            let Some(last) = page.last() else { return Ok((kept, false)) };
            after = Some(last.id.clone());
            for document in page {
                if filter.is_some_and(|f| !f.matches(&document.id, &document.metadata)) {
                    continue;
                }
                if kept.len() == size {
                    return Ok((kept, true));
                }
                kept.push(document);
            }
        }
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
            let id = self.store.document_id(cid, number)?;
            ids.extend(id.filter(|id| after.is_none_or(|after| id.as_str() > after)));
        }
        ids.sort_unstable();
        let mut kept = Vec::new();
        for id in ids {
            // It may have changed since the index was asked.
            let document = self.store.document(cid, &id)?;
            let Some(document) = document.filter(|d| filter.matches(&d.id, &d.metadata)) else { continue };
            if kept.len() == size {
                return Ok((kept, true));
            }
            kept.push(document);
        }
        Ok((kept, false))
    }
}
