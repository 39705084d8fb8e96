//! Collections that are open: their records in the store, their vector, keyword and metadata indexes. These
//! follow the store's commits, are caught up from it on open, and are rebuilt where they are damaged.

#[cfg(test)]
mod filter_tests;
mod filters;
mod indexes;
#[cfg(test)]
mod keyword_tests;
mod keywords;
mod listing;
mod maintenance;
mod reading;
mod restore;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upkeep_tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

pub use filters::{Filters, Matching};
pub use indexes::Indexes;
use indexes::Site;
pub use keywords::Keywords;
use keywords::Wake;
pub use listing::{Deletion, Listed, Page};
pub use reading::Reading;

use crate::domain::{CollectionName, Language};
use crate::encoder::{EncoderInfo, Encoders};
use crate::error::{Error, ErrorKind, Result};
use crate::index::IndexOptions;
use crate::keywords::remove_others;
use crate::lock::{OPEN, RwLock};
use crate::store::{CollectionRecord, CommitListener, Committed, Store};
use crate::{fault, task};

/// Reason of the error where an index panicked.
const INDEX_FAILED: &str = "INDEX_FAILED";
/// Candidates while searching, unless the collection or the call says otherwise.
const DEFAULT_EF_SEARCH: u32 = 96;

/// A collection to make; zeros take the defaults.
#[derive(Debug, Clone)]
pub struct NewCollection {
    /// Name.
    pub name: CollectionName,
    /// Text for people.
    pub description: String,
    /// Encoder id, which its revision may follow after an `@`; empty means the default encoder.
    pub model: String,
    /// Vector length; zero means the encoder's.
    pub dimensions: u32,
    /// Most tokens of a passage; zero means what the encoder takes.
    pub max_tokens: u32,
    /// Tokens shared by neighbouring passages.
    pub overlap_tokens: u32,
    /// Candidates while searching.
    pub ef_search: u32,
    /// Whether sentences get a graph of their own.
    pub index_sentences: bool,
    /// Language of its texts.
    pub language: Language,
}

/// Changes to a collection; what is unset stays.
#[derive(Debug, Clone, Default)]
pub struct CollectionUpdate {
    /// Text for people.
    pub description: Option<String>,
    /// Candidates while searching.
    pub ef_search: Option<u32>,
    /// Most tokens of a passage and tokens shared; documents stored before keep their passages.
    pub chunking: Option<(u32, u32)>,
    /// Language of the texts; the keyword index is made anew.
    pub language: Option<Language>,
}

/// The collections of a store.
pub struct Catalog {
    store: Arc<Store>,
    encoders: Encoders,
    options: IndexOptions,
    /// Folder of the keyword indexes.
    folder: PathBuf,
    open: RwLock<HashMap<u32, Open>, OPEN>,
    work: maintenance::Work,
    wakes: mpsc::Sender<Wake>,
    /// Threads that build graphs.
    builders: maintenance::Builders,
}

/// A collection with its indexes.
pub struct OpenCollection {
    /// Its record in the store.
    pub record: CollectionRecord,
    /// Its vector indexes.
    pub indexes: Arc<Indexes>,
    /// Its keyword index.
    pub keywords: Arc<Keywords>,
}

/// What is open of a collection.
#[derive(Clone)]
struct Open {
    indexes: Arc<Indexes>,
    keywords: Arc<Keywords>,
    filters: Arc<Filters>,
}

impl Catalog {
    /// Opens every collection's indexes and starts to follow the store. The keyword indexes are kept in a folder
    /// of their own below `data`; they are read when they are needed, or soon after.
    ///
    /// # Errors
    /// Whatever reading the store gives; a damaged index is no error, it is rebuilt.
    pub fn open(
        store: Arc<Store>,
        data: &Path,
        encoders: Encoders,
        options: IndexOptions,
    ) -> Result<Arc<Self>> {
        let (work, jobs) = maintenance::Work::new();
        let (wakes, woken) = mpsc::channel();
        let folder = data.join("keywords");
        let records = store.list_collections()?;
        let languages: HashMap<u32, Language> =
            records.iter().map(|record| (record.cid, record.language())).collect();
        let opened = indexes::open_all(&store, &records, options)?;
        let cids: Vec<u32> = opened.iter().map(|(cid, ..)| *cid).collect();
        let is_open = |name: &str| name.parse().is_ok_and(|cid| cids.contains(&cid));
        if let Err(error) = remove_others(&folder, is_open) {
            tracing::warn!(%error, "indexes of deleted collections are left on the disk");
        }
        let open = opened
            .into_iter()
            .map(|(cid, indexes, filters)| {
                let language = languages.get(&cid).copied().unwrap_or_default();
                let dir = folder.join(cid.to_string());
                let keywords = Arc::new(Keywords::new(cid, dir, language, wakes.clone()));
                (cid, Open { indexes: Arc::new(indexes), keywords, filters: Arc::new(filters) })
            })
            .collect();
        let catalog = Arc::new(Self {
            store: store.clone(),
            encoders,
            options,
            folder,
            open: RwLock::new(open),
            work,
            wakes,
            builders: maintenance::Builders::new(build_threads(options))?,
        });
        maintenance::start(Arc::downgrade(&catalog), jobs, options.idle)?;
        keywords::start(Arc::downgrade(&catalog), woken)?;
        store.set_listener(Arc::new(Follower(Arc::downgrade(&catalog))));
        cids.into_iter().for_each(|cid| catalog.wake(cid));
        catalog.wake_keywords(Wake::Changes);
        Ok(catalog)
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How graphs are built.
    pub fn index_options(&self) -> IndexOptions {
        self.options
    }

    /// A collection by name.
    ///
    /// # Errors
    /// `UNKNOWN_COLLECTION`.
    pub fn collection(&self, name: &CollectionName) -> Result<CollectionRecord> {
        self.store.get_collection(name.as_str())
    }

    /// What an error about the number of a collection means to who has named it: where another collection has the name by
    /// now, as after a restore, the call can be made again.
    pub fn explain(&self, record: &CollectionRecord, error: Error) -> Error {
        if error.reason != "UNKNOWN_COLLECTION" {
            return error;
        }
        match self.store.get_collection(&record.name) {
            Ok(now) if now.cid != record.cid => replaced(&record.name),
            _ => error,
        }
    }

    /// The open vector indexes of a collection.
    ///
    /// # Errors
    /// `UNKNOWN_COLLECTION` where it was deleted meanwhile.
    pub fn indexes(&self, record: &CollectionRecord) -> Result<Arc<Indexes>> {
        self.open_of(record.cid).map(|open| open.indexes).ok_or_else(|| gone(record))
    }

    /// The keyword index of a collection.
    ///
    /// # Errors
    /// `UNKNOWN_COLLECTION` where it was deleted meanwhile.
    pub fn keywords(&self, record: &CollectionRecord) -> Result<Arc<Keywords>> {
        self.open_of(record.cid).map(|open| open.keywords).ok_or_else(|| gone(record))
    }

    fn open_of(&self, cid: u32) -> Option<Open> {
        self.open.read().get(&cid).cloned()
    }

    /// What is open of each collection, with its record, by name.
    ///
    /// # Errors
    /// `DATA_LOSS` where a record is damaged.
    pub fn open_collections(&self) -> Result<Vec<OpenCollection>> {
        let open = |record: CollectionRecord| {
            let Open { indexes, keywords, .. } = self.open_of(record.cid)?;
            Some(OpenCollection { record, indexes, keywords })
        };
        Ok(self.store.list_collections()?.into_iter().filter_map(open).collect())
    }

    fn all_indexes(&self) -> Vec<(u32, Arc<Indexes>)> {
        self.open.read().iter().map(|(cid, open)| (*cid, open.indexes.clone())).collect()
    }

    fn all_keywords(&self) -> Vec<Arc<Keywords>> {
        self.open.read().values().map(|open| open.keywords.clone()).collect()
    }

    fn wake(&self, cid: u32) {
        self.work.wake(cid);
    }

    fn wake_keywords(&self, wake: Wake) {
        let _ = self.wakes.send(wake);
    }

    fn new_keywords(&self, cid: u32, language: Language) -> Arc<Keywords> {
        Arc::new(Keywords::new(cid, self.folder.join(cid.to_string()), language, self.wakes.clone()))
    }

    /// Makes a collection, bound to the content hash of its encoder.
    ///
    /// # Errors
    /// `UNKNOWN_MODEL`; `MODEL_CHANGED` where another revision of it is loaded; `DIMENSION_MISMATCH`, `BAD_CHUNKING`,
    /// or that the name is taken.
    pub fn create(&self, new: NewCollection) -> Result<CollectionRecord> {
        let (id, revision) = match new.model.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (new.model.as_str(), None),
        };
        let info = self.encoders.get(id)?.info();
        check_model(info, revision, new.dimensions)?;
        let most = info.passage_tokens;
        let max_tokens = if new.max_tokens == 0 { most } else { new.max_tokens };
        check_chunking(max_tokens, new.overlap_tokens, most)?;
        let mut cid = None;
        let prepare = |record: &CollectionRecord| {
            cid = Some(record.cid);
            let indexes = Arc::new(Indexes::new(record, self.options));
            let keywords = self.new_keywords(record.cid, new.language);
            self.open.write().insert(record.cid, Open { indexes, keywords, filters: Arc::default() });
        };
        let record = CollectionRecord {
            name: new.name.as_str().to_owned(),
            description: new.description,
            model_id: info.id.clone(),
            model_revision: info.revision.clone(),
            dimensions: info.dimensions,
            max_tokens,
            overlap_tokens: new.overlap_tokens,
            ef_search: if new.ef_search == 0 { DEFAULT_EF_SEARCH } else { new.ef_search },
            index_sentences: new.index_sentences,
            language: new.language.name().to_owned(),
            ..CollectionRecord::default()
        };
        // The indexes are there before the first document can be, or they would miss it.
        let created = self.store.create_collection_with(record, prepare);
        // One that could not be made durable can be read, and may become durable with a later write.
        let is_stored = || self.collection(&new.name).is_ok_and(|stored| Some(stored.cid) == cid);
        if created.is_err() && !is_stored() {
            cid.and_then(|cid| self.open.write().remove(&cid));
        }
        self.wake_keywords(Wake::Changes);
        created
    }

    /// Changes a collection; without an etag, whatever others have changed meanwhile.
    ///
    /// # Errors
    /// `BAD_CHUNKING`, or that the etag is no longer the collection's.
    pub fn update(
        &self,
        name: &CollectionName,
        etag: &str,
        update: CollectionUpdate,
    ) -> Result<CollectionRecord> {
        let etag = Some(etag).filter(|etag| !etag.is_empty());
        let is_other_language = update.language.is_some();
        let updated = self.store.update_collection(name.as_str(), etag, |record| {
            if let Some((max_tokens, overlap_tokens)) = update.chunking {
                let encoder = self.encoders.bound(&record.model_id, &record.model_revision)?;
                check_chunking(max_tokens, overlap_tokens, encoder.info().passage_tokens)?;
                record.max_tokens = max_tokens;
                record.overlap_tokens = overlap_tokens;
            }
            if let Some(description) = update.description {
                record.description = description;
            }
            if let Some(ef) = update.ef_search {
                record.ef_search = if ef == 0 { DEFAULT_EF_SEARCH } else { ef };
            }
            if let Some(language) = update.language {
                record.language = language.name().to_owned();
            }
            Ok(())
        })?;
        if is_other_language && let Some(open) = self.open_of(updated.cid) {
            self.follow_language(&updated, &open.keywords);
        }
        Ok(updated)
    }

    /// Gives a keyword index the language of its collection's record. Somebody else may be about to give it the one
    /// before or the next, so what is stored is looked at again after each change.
    fn follow_language(&self, updated: &CollectionRecord, keywords: &Keywords) {
        let mut language = updated.language();
        loop {
            keywords.set_language(language);
            match self.store.get_collection(&updated.name) {
                Ok(now) if now.cid == updated.cid && now.language() != language => language = now.language(),
                _ => break,
            }
        }
        self.wake_keywords(Wake::Rebuild);
    }

    /// Deletes a collection and what is in it.
    ///
    /// # Errors
    /// `COLLECTION_NOT_EMPTY` without `force`, or that the etag is no longer the collection's.
    pub fn delete(&self, name: &CollectionName, etag: &str, force: bool) -> Result<()> {
        let etag = Some(etag).filter(|e| !e.is_empty());
        let record = self.store.delete_collection(name.as_str(), etag, force)?;
        let removed = self.open.write().remove(&record.cid);
        // The last user of the keyword index deletes it.
        removed.iter().for_each(|open| open.keywords.delete());
        Ok(())
    }

    /// Rebuilds a collection's graphs without their deleted points, merges its keyword index and gives the store's
    /// freed space back. Returns how many points were dropped. One compaction at a time; others wait in line, without a
    /// thread. Once the caller has left, it stops soon.
    ///
    /// # Errors
    /// `CANCELLED`; `COLLECTION_REPLACED`; whatever the store or the index gives. What was done stays done; the rest is as
    /// it was.
    pub async fn compact(self: &Arc<Self>, name: &CollectionName) -> Result<usize> {
        self.collection(name)?;
        let idle = self.builders.idle_line.wait().await;
        // It may be another one by now; from here on what it holds stays, also if it is replaced.
        let reading = self.read(name)?;
        let merging = reading.indexes().merge_turn().await;
        let (catalog, record) = (self.clone(), reading.record().clone());
        let compact = move |is_cancelled: task::Cancelled<'_>| {
            let (indexes, cid) = (reading.indexes(), reading.cid());
            let dropped = indexes.tombstones();
            let site = Site { pool: &catalog.builders.idle, store: &catalog.store, cid };
            let compacted = indexes.compact(site, &merging, is_cancelled);
            drop(merging);
            // Merges that were due meanwhile have been passed over.
            catalog.wake(cid);
            compacted?;
            catalog.store.compact(is_cancelled)?;
            reading.keywords().compact(&catalog.store, is_cancelled)?;
            drop(idle);
            Ok(dropped)
        };
        let compacted = task::cancellable("TASK_FAILED", compact).await;
        compacted.map_err(|error| self.explain(&record, error))
    }
}

fn build_threads(options: IndexOptions) -> usize {
    if options.build_threads > 0 {
        return options.build_threads;
    }
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

/// Checks that an encoder is what a new collection asks for.
fn check_model(info: &EncoderInfo, revision: Option<&str>, dimensions: u32) -> Result<()> {
    if let Some(revision) = revision.filter(|revision| *revision != info.revision) {
        let message = format!("expected revision {} of {}, got {revision:?}", info.revision, info.id);
        return Err(Error::precondition("MODEL_CHANGED", message));
    }
    if dimensions > 0 && dimensions != info.dimensions {
        let message = format!("expected {}, which {} has, got {dimensions}", info.dimensions, info.id);
        return Err(Error::invalid_field("dimensions", "DIMENSION_MISMATCH", message));
    }
    Ok(())
}

fn check_chunking(max_tokens: u32, overlap_tokens: u32, most: u32) -> Result<()> {
    if max_tokens == 0 || max_tokens > most {
        return Err(Error::invalid(
            "BAD_CHUNKING",
            format!("chunking.max_tokens: expected 1 to {most}, which the encoder takes, got {max_tokens}"),
        ));
    }
    if overlap_tokens > max_tokens / 2 {
        return Err(Error::invalid(
            "BAD_CHUNKING",
            format!("chunking.overlap_tokens: expected at most half of {max_tokens}, got {overlap_tokens}"),
        ));
    }
    Ok(())
}

/// The error for a collection of whose name there is another one by now.
fn replaced(name: &str) -> Error {
    let message = format!("the collection {name:?} was replaced or made anew meanwhile: try again");
    Error::new(ErrorKind::Aborted, "COLLECTION_REPLACED", message)
}

/// The error for a collection that was deleted meanwhile.
fn gone(record: &CollectionRecord) -> Error {
    Error::not_found("UNKNOWN_COLLECTION", format!("no collection has the name {:?}", record.name))
}

/// Keeps the indexes in step with the store.
struct Follower(std::sync::Weak<Catalog>);

impl CommitListener for Follower {
    /// A fault of one index keeps the others from nothing.
    fn committed(&self, event: &Committed) -> Result<()> {
        let Some(catalog) = self.0.upgrade() else { return Ok(()) };
        let Some(Open { indexes, keywords, filters }) = catalog.open_of(event.cid) else { return Ok(()) };
        let filtered = task::guarded(INDEX_FAILED, || {
            filters.apply(event);
            Ok(())
        });
        let indexed = task::guarded(INDEX_FAILED, || {
            fault::point!("commit-index");
            indexes.apply(event);
            Ok(())
        });
        if indexes.has_work() {
            catalog.wake(event.cid);
        }
        let noted = task::guarded(INDEX_FAILED, || Ok(keywords.apply(event)));
        if noted.is_err() {
            keywords.doubt();
        }
        if !matches!(noted, Ok(false)) {
            catalog.wake_keywords(Wake::Changes);
        }
        filtered.and(indexed).and(noted.map(drop))
    }
}
