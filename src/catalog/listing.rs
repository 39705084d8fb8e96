//! Documents of a collection in pages, and deletions by a filter: whatever is written meanwhile, each document is looked
//! at itself, and one that is damaged keeps no other from being listed or deleted.

use std::collections::BTreeSet;
use std::sync::Arc;

use ::metrics::counter;
use roaring::RoaringBitmap;

use super::{Catalog, Matching, Reading};
use crate::domain::{CollectionName, Filter};
use crate::error::{ErrorKind, Result};
use crate::metrics;
use crate::store::{Damaged, DocumentRecord, Seen};
use crate::task::{self, Cancelled, check_cancelled};

/// Memory of the records from which on a page is full.
const PAGE_BYTES: usize = 4 << 20;
/// Of a filter that leaves less than one in so many documents the matching ones are read, one by one; of others
/// all documents in order.
const NARROW: u64 = 16;
/// Documents of a deletion that are looked at and then deleted together.
const BATCH: usize = 256;
/// How often a document is looked at again that was changed before it could be deleted. One that changes more often has
/// been written anew after the deletion.
const ROUNDS: usize = 8;
/// How often a deletion begins again because its collection was replaced meanwhile.
const MOST_REPLACEMENTS: usize = 3;

/// A document of a listing, or why it cannot be read.
pub type Listed = std::result::Result<DocumentRecord, Damaged>;

/// A page of a listing.
#[derive(Debug)]
pub struct Page {
    /// Documents by id. Of those that are damaged it is not known whether the filter matches them.
    pub documents: Vec<Listed>,
    /// Whether there are more.
    pub is_more: bool,
}

/// A page that is being filled.
struct Filling {
    page: Page,
    size: usize,
    bytes: usize,
}

impl Filling {
    fn new(size: usize) -> Self {
        Self { page: Page { documents: Vec::new(), is_more: false }, size, bytes: 0 }
    }

    /// Adds a document, unless the page is full: it has as many as were asked for, or what describes them takes much room.
    /// At least one fits.
    fn add(&mut self, listed: Listed) -> bool {
        self.bytes += listed.as_ref().map_or(0, DocumentRecord::shown_bytes);
        let documents = &mut self.page.documents;
        self.page.is_more =
            documents.len() == self.size || (self.bytes > PAGE_BYTES && !documents.is_empty());
        if !self.page.is_more {
            documents.push(listed);
        }
        !self.page.is_more
    }
}

/// What became of a deletion by a filter.
#[derive(Debug, Default)]
pub struct Deletion {
    /// Documents that were deleted.
    pub deleted: u64,
    /// Documents that cannot be read, so that nobody knows whether the filter matches them. They stay.
    pub damaged: Vec<Damaged>,
}

impl Catalog {
    /// The documents that a filter matches, as [`super::Filters::matching`] tells them.
    ///
    /// # Errors
    /// `CANCELLED`, and whatever reading the store gives.
    pub fn matching(
        &self,
        reading: &Reading,
        filter: &Filter,
        is_cancelled: Cancelled<'_>,
    ) -> Result<Matching> {
        reading.filters().matching(&self.store, reading.cid(), filter, is_cancelled)
    }

    /// A page of matching documents after an id, fewer than asked for where what describes them takes much room: each as
    /// it is when it is read. A document that is there all the time is
    /// listed whatever is written to it meanwhile, as long as it matches.
    ///
    /// # Errors
    /// `CANCELLED`, and whatever reading the store gives.
    pub fn page(
        &self,
        reading: &Reading,
        after: Option<&str>,
        size: usize,
        filter: Option<&Filter>,
        is_cancelled: Cancelled<'_>,
    ) -> Result<Page> {
        let Some(filter) = filter else {
            return self.wide_page(reading.cid(), after, size, &|_| true, is_cancelled);
        };
        let matching = self.matching(reading, filter, is_cancelled)?;
        if matching.documents.len() < matching.all / NARROW
            && let Some(ids) = self.ids(reading.cid(), &matching, after, is_cancelled)?
        {
            return self.narrow_page(reading.cid(), &ids, size, filter, is_cancelled);
        }
        // The filter is asked for those alone that may match: it may be large.
        let may_match = |document: &DocumentRecord| {
            let number = document.doc_no;
            matching.documents.contains(number) || matching.greatest.is_none_or(|greatest| number > greatest)
        };
        let matches = |document: &DocumentRecord| {
            may_match(document) && filter.matches(&document.id, &document.metadata)
        };
        self.wide_page(reading.cid(), after, size, &matches, is_cancelled)
    }

    /// A page out of all documents.
    fn wide_page(
        &self,
        cid: u32,
        after: Option<&str>,
        size: usize,
        matches: &dyn Fn(&DocumentRecord) -> bool,
        is_cancelled: Cancelled<'_>,
    ) -> Result<Page> {
        let mut filling = Filling::new(size);
        for document in self.store.documents_after(cid, after) {
            check_cancelled(is_cancelled)?;
            let listed = listed(cid, document)?;
            if listed.as_ref().is_ok_and(|document| !matches(document)) {
                continue;
            }
            if !filling.add(listed) {
                break;
            }
        }
        Ok(filling.page)
    }

    /// Ids after one of the documents that may match, and of those that cannot be read. `None` where the id of one cannot
    /// be told: it was replaced or deleted meanwhile, or its number is damaged.
    fn ids(
        &self,
        cid: u32,
        matching: &Matching,
        after: Option<&str>,
        is_cancelled: Cancelled<'_>,
    ) -> Result<Option<BTreeSet<String>>> {
        let mut ids = BTreeSet::new();
        let is_later = |id: &String| after.is_none_or(|after| id.as_str() > after);
        for number in &matching.documents {
            check_cancelled(is_cancelled)?;
            match self.store.document_id(cid, number) {
                Ok(Some(id)) => ids.extend(Some(id).filter(is_later)),
                Ok(None) => return Ok(None),
                Err(error) if error.kind == ErrorKind::DataLoss => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        ids.extend(matching.unreadable.iter().filter(|id| is_later(id)).cloned());
        Ok(Some(ids))
    }

    /// A page out of a few documents.
    fn narrow_page(
        &self,
        cid: u32,
        ids: &BTreeSet<String>,
        size: usize,
        filter: &Filter,
        is_cancelled: Cancelled<'_>,
    ) -> Result<Page> {
        let mut filling = Filling::new(size);
        for id in ids {
            check_cancelled(is_cancelled)?;
            let Some(document) = self.store.document(cid, id).transpose() else { continue };
            let listed = listed(cid, document)?;
            if listed.as_ref().is_ok_and(|document| !filter.matches(&document.id, &document.metadata)) {
                continue;
            }
            if !filling.add(listed) {
                break;
            }
        }
        Ok(filling.page)
    }

    /// Deletes the documents that a filter matches, some at a time: if the caller leaves, those that were deleted stay so.
    /// One that is written anew meanwhile is deleted if it still matches.
    ///
    /// # Errors
    /// `UNKNOWN_COLLECTION`; `COLLECTION_REPLACED` where that happens again and again; `CANCELLED`; those of the store's commit.
    pub async fn delete_matching(
        self: &Arc<Self>,
        collection: &CollectionName,
        filter: Filter,
    ) -> Result<Deletion> {
        let filter = Arc::new(filter);
        let mut replacements = 0;
        loop {
            let reading = self.read(collection)?;
            match self
                .delete_in(&reading, &filter)
                .await
                .map_err(|error| self.explain(reading.record(), error))
            {
                // A snapshot was restored in its place.
                Err(error) if error.kind == ErrorKind::Aborted && replacements < MOST_REPLACEMENTS => {
                    replacements += 1;
                }
                deletion => return deletion,
            }
        }
    }

    async fn delete_in(self: &Arc<Self>, reading: &Reading, filter: &Arc<Filter>) -> Result<Deletion> {
        let cid = reading.cid();
        if let Filter::DocumentIds(ids) = &**filter {
            let deleted = self.store.delete_documents(cid, ids.iter().cloned().collect()).await?;
            return Ok(Deletion { deleted, damaged: Vec::new() });
        }
        let find = {
            let (catalog, reading, filter) = (self.clone(), reading.clone(), filter.clone());
            move |is_cancelled: Cancelled<'_>| catalog.matching(&reading, &filter, is_cancelled)
        };
        let Matching { documents: mut numbers, unreadable, .. } =
            task::cancellable("TASK_FAILED", find).await?;
        let mut deletion = Deletion::default();
        let mut lost = RoaringBitmap::new();
        while !numbers.is_empty() {
            let some: Vec<u32> = numbers.iter().take(BATCH).collect();
            numbers.remove_smallest(BATCH as u64);
            let catalog = self.clone();
            let (ids, more) = task::cancellable("TASK_FAILED", move |_| catalog.ids_of(cid, &some)).await?;
            lost |= more;
            self.delete_if_matching(cid, ids, filter, &mut deletion).await?;
        }
        let mut rest: Vec<String> = unreadable.into_iter().collect();
        if !lost.is_empty() {
            let catalog = self.clone();
            let find = move |is_cancelled: Cancelled<'_>| catalog.find_ids(cid, &lost, is_cancelled);
            rest.extend(task::cancellable("TASK_FAILED", find).await?);
        }
        for ids in rest.chunks(BATCH) {
            self.delete_if_matching(cid, ids.to_vec(), filter, &mut deletion).await?;
        }
        // What was found to be gone may still wait for its fsync.
        self.store.settled().await?;
        Ok(deletion)
    }

    /// Ids of documents by their numbers, without those that are gone, and the numbers of those that are damaged.
    fn ids_of(&self, cid: u32, numbers: &[u32]) -> Result<(Vec<String>, RoaringBitmap)> {
        let (mut ids, mut lost) = (Vec::new(), RoaringBitmap::new());
        for &number in numbers {
            match self.store.document_id(cid, number) {
                Ok(id) => ids.extend(id),
                Err(error) if error.kind == ErrorKind::DataLoss => {
                    tracing::error!(cid, number, %error, "all documents are read to find the one of a number");
                    lost.insert(number);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((ids, lost))
    }

    /// Ids of the documents of some numbers, out of all documents.
    fn find_ids(
        &self,
        cid: u32,
        numbers: &RoaringBitmap,
        is_cancelled: Cancelled<'_>,
    ) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for document in self.store.documents_after(cid, None) {
            check_cancelled(is_cancelled)?;
            match listed(cid, document)? {
                Ok(document) if !numbers.contains(document.doc_no) => {}
                Ok(document) => ids.push(document.id),
                // It may be the one.
                Err(damaged) => ids.push(damaged.id),
            }
        }
        Ok(ids)
    }

    /// Deletes those of some documents that match. The committing thread compares versions alone: a filter may take long.
    async fn delete_if_matching(
        self: &Arc<Self>,
        cid: u32,
        mut ids: Vec<String>,
        filter: &Arc<Filter>,
        deletion: &mut Deletion,
    ) -> Result<()> {
        for _ in 0..ROUNDS {
            let (catalog, filter) = (self.clone(), filter.clone());
            let look = move |is_cancelled: Cancelled<'_>| catalog.look(cid, &ids, &filter, is_cancelled);
            let (seen, damaged) = task::cancellable("TASK_FAILED", look).await?;
            for damaged in damaged {
                if deletion.damaged.iter().all(|other| other.id != damaged.id) {
                    deletion.damaged.push(damaged);
                }
            }
            if seen.is_empty() {
                return Ok(());
            }
            ids = seen.ids().map(str::to_owned).collect();
            let deleted = self.store.delete_seen(cid, seen).await?;
            deletion.deleted += deleted;
            if deleted == ids.len() as u64 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Those of some documents that match, in the versions that do, and those that are damaged.
    fn look(
        &self,
        cid: u32,
        ids: &[String],
        filter: &Filter,
        is_cancelled: Cancelled<'_>,
    ) -> Result<(Seen, Vec<Damaged>)> {
        let (mut seen, mut damaged) = (Seen::default(), Vec::new());
        for id in ids {
            check_cancelled(is_cancelled)?;
            let Some(document) = self.store.document(cid, id).transpose() else { continue };
            match listed(cid, document)? {
                Ok(document) if filter.matches(&document.id, &document.metadata) => seen.add(&document),
                Ok(_) => {}
                Err(document) => damaged.push(document),
            }
        }
        Ok((seen, damaged))
    }
}

/// What was read, or what is damaged, which is logged and counted.
fn listed(cid: u32, read: Result<DocumentRecord>) -> Result<Listed> {
    match read {
        Err(error) if error.kind == ErrorKind::DataLoss => {
            counter!(metrics::LISTING_DAMAGED_DOCUMENTS).increment(1);
            tracing::error!(cid, %error, "a document is damaged");
            Ok(Err(Damaged::from(error)))
        }
        read => read.map(Ok),
    }
}
