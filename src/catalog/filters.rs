//! Filters of a collection: its metadata index, made from the store on open and kept up with its commits.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use roaring::RoaringBitmap;

use crate::domain::Filter;
use crate::error::{ErrorKind, Result};
use crate::lock::{EVALUATIONS, FILTERS, LEAF, Mutex, RwLock};
use crate::metadata::{DocumentIds, MetadataIndex, ResolvedFilter, matching};
use crate::store::{Committed, Store};
use crate::task::{Cancelled, check_cancelled};

/// The metadata index of one collection.
#[derive(Debug, Default)]
pub struct Filters {
    state: RwLock<State, FILTERS>,
    /// Evaluations that are going on, each with the numbers of documents that came or changed since it began.
    evaluations: Mutex<Vec<Weak<Mutex<RoaringBitmap, LEAF>>>, EVALUATIONS>,
}

#[derive(Debug, Default)]
struct State {
    index: MetadataIndex,
    /// Ids of documents whose records could not be read: nobody knows what they match.
    unreadable: BTreeSet<String>,
}

/// Which documents a filter matches.
#[derive(Debug)]
pub struct Matching {
    /// Numbers of the documents; among them may be some that came or changed meanwhile and do not match.
    pub documents: RoaringBitmap,
    /// How many documents there are.
    pub all: u64,
    /// The greatest number of a document; greater ones came later.
    pub greatest: Option<u32>,
    /// Ids of documents that cannot be read, and may match.
    pub unreadable: BTreeSet<String>,
    /// How many of them the filter names by their ids.
    pub damaged: usize,
}

impl Filters {
    /// Reads the metadata of all documents. A damaged record is left out: it must not keep the others from being
    /// found.
    ///
    /// # Errors
    /// Whatever reading the store gives otherwise.
    pub fn open(store: &Store, cid: u32) -> Result<Self> {
        let mut state = State::default();
        for document in store.documents_of(cid, "") {
            match document {
                Ok(document) => state.index.insert(document.doc_no, &document.metadata),
                Err(error) if error.kind == ErrorKind::DataLoss => {
                    tracing::error!(cid, %error, "a document is damaged: filters do not find it");
                    state.unreadable.extend(error.resource.map(|document| document.name));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self { state: RwLock::new(state), evaluations: Mutex::default() })
    }

    /// How many documents it knows.
    pub fn documents(&self) -> u64 {
        self.state.read().index.len()
    }

    /// Takes over a change of the store.
    pub fn apply(&self, event: &Committed) {
        let mut state = self.state.write();
        let mut changed = None;
        if let Some(removed) = &event.removed {
            state.index.remove(removed.doc_no, &removed.metadata);
            state.unreadable.remove(&removed.id);
        }
        if let Some(updated) = &event.updated {
            state.index.remove(updated.old.doc_no, &updated.old.metadata);
            state.index.insert(updated.new.doc_no, &updated.new.metadata);
            changed = Some(updated.new.doc_no);
        }
        if let Some(inserted) = &event.inserted {
            state.index.insert(inserted.record.doc_no, &inserted.record.metadata);
            changed = Some(inserted.record.doc_no);
        }
        if let Some(changed) = changed {
            // While the index is locked, so that none of its steps sees a change that is not noted.
            self.evaluations.lock().retain(|evaluation| match evaluation.upgrade() {
                Some(numbers) => {
                    numbers.lock().insert(changed);
                    true
                }
                None => false,
            });
        }
    }

    /// The documents that a filter matches. The index is locked for one step of the filter at a time, since commits wait
    /// for it; what is written between two steps is taken to match. So whoever asks looks at each document's record.
    ///
    /// # Errors
    /// `CANCELLED`; what the look-up of the ids that the filter names gives.
    pub fn matching(
        &self,
        store: &Store,
        cid: u32,
        filter: &Filter,
        is_cancelled: Cancelled<'_>,
    ) -> Result<Matching> {
        let changed = Arc::new(Mutex::new(RoaringBitmap::new()));
        {
            let mut evaluations = self.evaluations.lock();
            // Without writes nobody else clears those away that are over.
            evaluations.retain(|evaluation| evaluation.strong_count() > 0);
            evaluations.push(Arc::downgrade(&changed));
        }
        let ids = Ids { store, cid, damaged: RefCell::default() };
        let resolved = ResolvedFilter::new(filter, &ids, is_cancelled)?;
        let found = matching(&resolved, &|step| self.state.read().index.step(step), is_cancelled)?;
        let state = self.state.read();
        let named = ids.damaged.into_inner();
        let (damaged, unreadable) = (named.len(), &named | &state.unreadable);
        let documents = found | &*changed.lock();
        Ok(Matching {
            documents,
            all: state.index.len(),
            greatest: state.index.greatest(),
            unreadable,
            damaged,
        })
    }
}

/// Document ids as the store has them.
struct Ids<'a> {
    store: &'a Store,
    cid: u32,
    /// Those whose records cannot be read: they must not keep the others from being found.
    damaged: RefCell<BTreeSet<String>>,
}

impl Ids<'_> {
    /// The number of a document; none where it is damaged, which is logged and noted.
    fn readable<T>(&self, read: Result<Option<T>>) -> Result<Option<T>> {
        match read {
            Err(error) if error.kind == ErrorKind::DataLoss => {
                let Self { cid, damaged, .. } = self;
                tracing::error!(cid, %error, "a document is damaged: a filter that names it does not find it");
                damaged.borrow_mut().extend(error.resource.map(|document| document.name));
                Ok(None)
            }
            read => read,
        }
    }
}

impl DocumentIds for Ids<'_> {
    fn number(&self, id: &str) -> Result<Option<u32>> {
        let document = self.readable(self.store.document(self.cid, id))?;
        Ok(document.map(|document| document.doc_no))
    }

    fn numbers(&self, prefix: &str, is_cancelled: Cancelled<'_>) -> Result<RoaringBitmap> {
        let mut numbers = RoaringBitmap::new();
        for document in self.store.documents_of(self.cid, prefix) {
            check_cancelled(is_cancelled)?;
            numbers.extend(self.readable(document.map(Some))?.map(|document| document.doc_no));
        }
        Ok(numbers)
    }
}
