//! The keyword index of a collection: it follows the store's commits, and is brought back to what the store
//! holds whenever something is off.
//!
//! Changes wait in memory until somebody searches or a second has passed; then they are written and committed
//! together. Nothing is lost with them: an index that is opened is compared with the store, document number by
//! document number, since numbers rise and are never used again. Documents that it lacks are added, others
//! removed. So any state that a crash leaves is as good as any other.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Weak, mpsc};
use std::time::{Duration, Instant};

use ::metrics::{counter, histogram};
use roaring::RoaringBitmap;

use super::Catalog;
use crate::domain::{Language, Span};
use crate::error::{Error, ErrorKind, Result};
use crate::keywords::{
    KEYWORDS_FAILED, KeywordDocument, KeywordIndex, KeywordMatches, KeywordPassage, KeywordQuery,
    KeywordReader, Upkeep,
};
use crate::lock::{KEYWORDS, LEAF, Mutex, MutexGuard, RwLock};
use crate::store::{Committed, Retitled, Store};
use crate::task::{Cancelled, check_cancelled};
use crate::{fault, metrics, task};

/// How long changes may wait for others to be written with them, if nobody searches.
const GATHER: Duration = Duration::from_secs(1);
/// Bytes of text that may wait; beyond it they are read from the store again.
const MAX_WAITING_BYTES: usize = 32 << 20;
/// How often a search that waits for a write looks whether it has become a rebuild, for which it does not wait.
const LOOK: Duration = Duration::from_millis(50);
/// When a search that met a rebuild may try again.
const COME_BACK: Duration = Duration::from_secs(2);
/// Reason of the error of searches that meet a rebuild.
const NOT_READY: &str = "KEYWORDS_NOT_READY";
/// Pause before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Most merges of one compaction.
const MOST_MERGES: usize = 3;
/// How often a merge that is waited for is looked at.
const MERGE_POLL: Duration = Duration::from_millis(20);
/// How long a writer stays open after its last use.
const WRITER_IDLE: Duration = Duration::from_secs(5);
/// Writers that stay open at once.
const MAX_WRITERS: usize = 4;
/// Documents of one commit while an index is built from the store: what is committed need not be done again.
const REBUILD_COMMIT: usize = 10_000;
/// With less than this free, what failed without a cause failed for it.
const NO_ROOM: u64 = 1 << 20;
/// Missing passages that a search adds itself, well within a second; adding more is a rebuild.
const FEW: u64 = 5000;

/// The keyword index of one collection.
pub struct Keywords {
    cid: u32,
    dir: PathBuf,
    waiting: Mutex<Waiting, LEAF>,
    state: Mutex<State, KEYWORDS>,
    reader: RwLock<Option<KeywordReader>, LEAF>,
    /// Whether so much is being added, or about to be, that searches do not wait for it.
    is_rebuilding: AtomicBool,
    is_deleted: AtomicBool,
    wakes: mpsc::Sender<Wake>,
}

/// What the thread is woken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Changes, which may wait for others.
    Changes,
    /// A rebuild, without which there is no search by words.
    Rebuild,
}

/// Who brings an index up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// A call, which leaves a rebuild to the thread.
    Call,
    Thread,
}

/// Changes of the store that are not yet in the index.
struct Waiting {
    changes: Vec<Change>,
    bytes: usize,
    /// Whether the changes do not tell all: the index must be compared with the store.
    compare: bool,
    /// Number of the first document that came since the start; those before it should be in the index.
    first: Option<u32>,
    /// Changes so far.
    heard: u64,
    /// Of these, how many searches can see.
    written: u64,
}

enum Change {
    Insert(u32, KeywordDocument),
    Remove(u32),
    /// The document is read from the store again.
    Retitle(Retitled),
}

/// What is held by whoever writes.
struct State {
    language: Language,
    index: Option<KeywordIndex>,
    /// Greatest document number that is in the index.
    greatest: Option<u32>,
    last_use: Instant,
    failure: Option<(Instant, Error)>,
}

impl Keywords {
    /// The index in a directory. Nothing is read until the first search or round of upkeep. `wakes` reaches the thread
    /// that rebuilds; where it has ended, searches rebuild.
    pub fn new(cid: u32, dir: PathBuf, language: Language, wakes: mpsc::Sender<Wake>) -> Self {
        let waiting =
            Waiting { changes: Vec::new(), bytes: 0, compare: true, first: None, heard: 1, written: 0 };
        let state = State { language, index: None, greatest: None, last_use: Instant::now(), failure: None };
        Self {
            cid,
            dir,
            waiting: Mutex::new(waiting),
            state: Mutex::new(state),
            reader: RwLock::new(None),
            is_rebuilding: AtomicBool::new(false),
            is_deleted: AtomicBool::new(false),
            wakes,
        }
    }

    /// Deletes the directory when the last user is gone.
    pub fn delete(&self) {
        self.is_deleted.store(true, Ordering::Relaxed);
    }

    /// Passages that searches find.
    pub fn passages(&self) -> u64 {
        self.reader.read().as_ref().map_or(0, KeywordReader::passages)
    }

    /// Changes that searches do not see yet; the next one will.
    pub fn waiting_changes(&self) -> u64 {
        let waiting = self.waiting.lock();
        waiting.heard.saturating_sub(waiting.written)
    }

    /// Takes note of a change of the store. Returns whether it is the first that waits.
    pub fn apply(&self, event: &Committed) -> bool {
        let retitled = event.updated.as_ref().filter(|updated| updated.old.words_differ(&updated.new));
        if event.inserted.is_none() && event.removed.is_none() && retitled.is_none() {
            return false;
        }
        let mut waiting = self.waiting.lock();
        let was_idle = waiting.heard == waiting.written;
        waiting.heard += 1;
        if let Some(inserted) = &event.inserted {
            waiting.first.get_or_insert(inserted.record.doc_no);
        }
        if waiting.compare {
            return was_idle;
        }
        if let Some(removed) = &event.removed {
            waiting.changes.push(Change::Remove(removed.doc_no));
        }
        if let Some(inserted) = &event.inserted {
            let text = &inserted.document.text;
            let passages = inserted.record.passages().zip(&inserted.document.passages);
            let passages: Vec<KeywordPassage> = passages
                .map(|(point, passage)| KeywordPassage {
                    point,
                    text: passage.span.slice(text).unwrap_or_default().to_owned(),
                    headings: passage.headings.clone(),
                })
                .collect();
            let (record, language) = (&inserted.record, inserted.record.named_language());
            let document = keyword_document(&record.title, &record.id, language, passages);
            waiting.bytes += document.bytes();
            waiting.changes.push(Change::Insert(inserted.record.doc_no, document));
        }
        if let Some(updated) = retitled {
            let (doc_no, update_time_ns) = (updated.new.doc_no, updated.new.update_time_ns);
            waiting.changes.push(Change::Retitle(Retitled { doc_no, update_time_ns }));
        }
        if waiting.bytes > MAX_WAITING_BYTES {
            waiting.forget();
        }
        was_idle
    }

    /// Has all compared with the store before the next search, since what waits may not tell all.
    pub fn doubt(&self) {
        let mut waiting = self.waiting.lock();
        waiting.forget();
        waiting.heard += 1;
    }

    /// The best passages for the words of a query. Every write that was acknowledged before is seen.
    ///
    /// # Errors
    /// `KEYWORDS_NOT_READY`, at once, while the index is rebuilt or must be; `KEYWORDS_FAILED` and `DISK_FULL` where it
    /// cannot be written.
    pub fn search<'a>(
        &self,
        store: &Store,
        query: impl Into<KeywordQuery<'a>>,
        wanted: usize,
        allowed: Option<&RoaringBitmap>,
    ) -> Result<KeywordMatches> {
        self.refresh(store)?;
        let reader = self.reader.read().clone().ok_or_else(not_ready)?;
        reader.search(query, wanted, allowed)
    }

    /// Lets searches see all changes so far, unless that takes a rebuild.
    fn refresh(&self, store: &Store) -> Result<()> {
        let heard = self.waiting.lock().heard;
        if self.waiting.lock().written >= heard {
            return Ok(());
        }
        let mut state = self.lock_for_call()?;
        // Whoever held the lock may have done it.
        if self.waiting.lock().written >= heard {
            return Ok(());
        }
        self.write(&mut state, store, Writer::Call)
    }

    /// Waits for as long as a write of changes takes, and not for a rebuild.
    fn lock_for_call(&self) -> Result<MutexGuard<'_, State>> {
        let is_rebuilding = || self.is_rebuilding.load(Ordering::Relaxed);
        while !is_rebuilding() {
            if let Some(state) = self.state.try_lock_for(LOOK)
                && !is_rebuilding()
            {
                return Ok(state);
            }
        }
        Err(not_ready())
    }

    /// Writes what waits, merges, and closes the writer where it is idle or must not stay. Returns whether there
    /// is more to do soon, and whether a writer is open.
    pub fn maintain(&self, store: &Store, keep_writer: bool) -> (bool, bool) {
        let mut state = self.state.lock();
        let is_behind = |waiting: MutexGuard<'_, Waiting>| waiting.written < waiting.heard;
        if is_behind(self.waiting.lock()) && self.write(&mut state, store, Writer::Thread).is_err() {
            return (true, false);
        }
        let upkeep = match &mut state.index {
            Some(index) if index.is_writing() => task::guarded(KEYWORDS_FAILED, || index.maintain()),
            _ => return (false, false),
        };
        match upkeep {
            Ok(Upkeep::Merging) => (true, true),
            Ok(Upkeep::Done) if keep_writer && state.last_use.elapsed() < WRITER_IDLE => (true, true),
            Ok(Upkeep::Done) => {
                if let Some(index) = &mut state.index {
                    index.close_writer();
                }
                (false, false)
            }
            Err(error) => {
                self.fail(&mut state, &cause(error, store));
                (true, false)
            }
        }
    }

    /// Merges what the index consists of into one without what was removed, after a rebuild if there must be one.
    /// Searches and writes go on. That of a collection that is gone is left as it is: nobody rebuilds it any more.
    ///
    /// # Errors
    /// Whatever the disk gives, `CANCELLED`, and `KEYWORDS_NOT_READY` where the index must be rebuilt again meanwhile.
    pub fn compact(&self, store: &Store, is_cancelled: Cancelled<'_>) -> Result<()> {
        while let Err(error) = self.refresh(store) {
            if error.reason != NOT_READY {
                return Err(error);
            }
            check_cancelled(is_cancelled)?;
            if self.is_deleted.load(Ordering::Relaxed) {
                return Ok(());
            }
            std::thread::sleep(MERGE_POLL);
        }
        let mut merges = 0;
        while !self.is_deleted.load(Ordering::Relaxed) {
            check_cancelled(is_cancelled)?;
            {
                let mut state = self.state.lock();
                let index = state.index.as_mut().ok_or_else(not_ready)?;
                let cause = |error| cause(error, store);
                if index.poll_merge().map_err(cause)? == Upkeep::Done {
                    // Writes that go on leave something to merge each time.
                    if merges == MOST_MERGES || index.merge_all().map_err(cause)? == Upkeep::Done {
                        return index.collect_garbage().map_err(cause);
                    }
                    merges += 1;
                }
            }
            std::thread::sleep(MERGE_POLL);
        }
        Ok(())
    }

    /// Makes the index anew in another language when it is next needed.
    pub fn set_language(&self, language: Language) {
        let mut state = self.state.lock();
        if state.language == language {
            return;
        }
        state.language = language;
        state.index = None;
        self.doubt();
    }

    fn write(&self, state: &mut State, store: &Store, writer: Writer) -> Result<()> {
        if let Some((at, error)) = &state.failure
            && at.elapsed() < RETRY
        {
            return Err(error.copy());
        }
        let (changes, compare, heard) = {
            let mut waiting = self.waiting.lock();
            waiting.bytes = 0;
            (std::mem::take(&mut waiting.changes), std::mem::take(&mut waiting.compare), waiting.heard)
        };
        let started = Instant::now();
        // Whatever a panic leaves half done, the failure below makes the next try compare all with the store.
        let written = task::guarded(KEYWORDS_FAILED, || {
            fault::point!("keywords-write");
            if compare {
                self.compare(state, store, writer)
            } else {
                write_changes(state, store, self.cid, &changes).map(Some)
            }
        });
        histogram!(metrics::KEYWORD_WRITE_DURATION).record(started.elapsed());
        state.last_use = Instant::now();
        let written = written.map_err(|error| cause(error, store));
        let Some(settled) = written.inspect_err(|error| self.fail(state, error))? else {
            return Err(not_ready());
        };
        self.is_rebuilding.store(false, Ordering::Relaxed);
        if let Err(error) = store.settle_retitled(self.cid, &settled) {
            tracing::warn!(cid = self.cid, %error, "new titles will be taken over again");
        }
        state.failure = None;
        *self.reader.write() = state.index.as_ref().map(KeywordIndex::reader);
        self.waiting.lock().written = heard;
        Ok(())
    }

    /// Closes the index after a failure; the next try opens it and compares it with the store.
    fn fail(&self, state: &mut State, error: &Error) {
        counter!(metrics::KEYWORD_WRITE_FAILURES).increment(1);
        tracing::error!(cid = self.cid, %error, "the keyword index can't be written; it is opened anew");
        self.is_rebuilding.store(false, Ordering::Relaxed);
        state.index = None;
        state.failure = Some((Instant::now(), error.copy()));
        self.doubt();
    }

    /// Brings the index to what the store holds. What is committed to the store meanwhile is told by the changes
    /// that wait; a document may come both ways, which does no harm. Returns the new titles that are taken over, or
    /// `None` where it is left to the thread.
    fn compare(&self, state: &mut State, store: &Store, writer: Writer) -> Result<Option<Vec<Retitled>>> {
        let mut index = match state.index.take() {
            Some(index) => index,
            None => self.open(state.language, state.failure.as_ref().map(|(_, error)| error))?,
        };
        let retitled = store.retitled(self.cid)?;
        let stored = store.document_numbers(self.cid)?;
        let indexed = index.documents()? - retitled.iter().map(|note| note.doc_no).collect::<RoaringBitmap>();
        let (gone, missing) = (&indexed - &stored, &stored - &indexed);
        let is_rebuild = passages_of(store, self.cid, missing.len(), stored.len()) > FEW;
        self.is_rebuilding.store(is_rebuild, Ordering::Relaxed);
        if is_rebuild && writer == Writer::Call && self.wakes.send(Wake::Rebuild).is_ok() {
            state.index = Some(index);
            self.waiting.lock().forget();
            return Ok(None);
        }
        let is_lost = |doc_no: u32| self.waiting.lock().first.is_none_or(|first| doc_no < first);
        if is_rebuild || !gone.is_empty() || missing.min().is_some_and(is_lost) {
            tracing::info!(
                cid = self.cid,
                missing = missing.len(),
                gone = gone.len(),
                "the keyword index is brought to what the store holds"
            );
        }
        gone.iter().try_for_each(|doc_no| index.remove(doc_no))?;
        retitled.iter().try_for_each(|note| index.remove(note.doc_no))?;
        let mut added = 0;
        for doc_no in &missing {
            let Some(document) = document_of(store, self.cid, doc_no)? else { continue };
            index.add(doc_no, &document)?;
            added += 1;
            if added % REBUILD_COMMIT == 0 {
                index.commit()?;
            }
        }
        if index.is_writing() {
            index.commit()?;
        }
        state.greatest = stored.max().max(indexed.max());
        state.index = Some(index);
        Ok(Some(retitled))
    }

    /// Opens the index, or makes it anew where it is damaged, or where it could not be written before for a reason
    /// that opening it again may not take away.
    fn open(&self, language: Language, failure: Option<&Error>) -> Result<KeywordIndex> {
        if failure.is_some_and(|error| error.reason == KEYWORDS_FAILED) {
            tracing::warn!(cid = self.cid, "rebuilding a keyword index that could not be written");
            return KeywordIndex::create(&self.dir, language);
        }
        match KeywordIndex::open(&self.dir, language) {
            Err(error) if error.kind == ErrorKind::DataLoss => {
                tracing::warn!(cid = self.cid, %error, "rebuilding a keyword index from the store");
                KeywordIndex::create(&self.dir, language)
            }
            opened => opened,
        }
    }
}

impl Waiting {
    /// Gives up what waits: the store has it all.
    fn forget(&mut self) {
        self.changes = Vec::new();
        self.bytes = 0;
        self.compare = true;
    }
}

impl Drop for Keywords {
    fn drop(&mut self) {
        if !self.is_deleted.load(Ordering::Relaxed) {
            return;
        }
        // The writer's threads must have ended, or they would write into what is being deleted.
        self.state.get_mut().index = None;
        if let Err(error) = std::fs::remove_dir_all(&self.dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.dir.display(), %error, "a keyword index could not be removed");
        }
    }
}

fn not_ready() -> Error {
    let message = "the keyword index of the collection is being rebuilt: search by vectors, or again later";
    let mut error = Error::new(ErrorKind::Unavailable, NOT_READY, message);
    error.retry_after = Some(COME_BACK);
    error
}

/// What an error of an index means. tantivy's threads do not always tell what they ended for; where the disk has no
/// room, it was that.
fn cause(error: Error, store: &Store) -> Error {
    let is_full = || store.free_bytes().is_ok_and(|free| free < NO_ROOM);
    if error.reason == KEYWORDS_FAILED && is_full() { Error::disk_full("").with_source(error) } else { error }
}

/// About how many passages some of the stored documents have, without reading each. Where that cannot be told they are
/// many.
fn passages_of(store: &Store, cid: u32, some: u64, stored: u64) -> u64 {
    let passages = store.counts(cid).map_or(u64::MAX, |(_, passages)| passages);
    passages.saturating_mul(some) / stored.max(1)
}

/// Returns the new titles that are taken over.
fn write_changes(state: &mut State, store: &Store, cid: u32, changes: &[Change]) -> Result<Vec<Retitled>> {
    let index = state.index.as_mut().ok_or_else(not_ready)?;
    let mut settled = Vec::new();
    for change in changes {
        match change {
            Change::Retitle(note) => {
                index.remove(note.doc_no)?;
                if let Some(document) = document_of(store, cid, note.doc_no)? {
                    index.add(note.doc_no, &document)?;
                }
                settled.push(*note);
            }
            Change::Remove(doc_no) => index.remove(*doc_no)?,
            Change::Insert(doc_no, document) => {
                if Some(*doc_no) <= state.greatest {
                    // A comparison with the store has found it already.
                    index.remove(*doc_no)?;
                }
                index.add(*doc_no, document)?;
                state.greatest = state.greatest.max(Some(*doc_no));
            }
        }
    }
    index.commit()?;
    Ok(settled)
}

/// A stored document as it is indexed; `None` where it is gone meanwhile, or damaged, which is logged: one damaged
/// document must not keep the others from being found.
fn document_of(store: &Store, cid: u32, doc_no: u32) -> Result<Option<KeywordDocument>> {
    match read_document(store, cid, doc_no) {
        Err(error) if error.kind == ErrorKind::DataLoss => {
            tracing::error!(cid, doc_no, %error, "a document is damaged: its words are not found");
            Ok(None)
        }
        read => read,
    }
}

fn read_document(store: &Store, cid: u32, doc_no: u32) -> Result<Option<KeywordDocument>> {
    let Some(id) = store.document_id(cid, doc_no)? else { return Ok(None) };
    let Some(document) = store.document(cid, &id)?.filter(|d| d.doc_no == doc_no) else { return Ok(None) };
    let Some(text) = store.text(cid, doc_no, Span::new(0, document.text_bytes as u32))? else {
        return Ok(None);
    };
    let mut passages = Vec::with_capacity(document.passage_count as usize);
    for point in document.passages() {
        let Some(passage) = store.passage(cid, point)? else { return Ok(None) };
        let text = passage.span.slice(&text).unwrap_or_default().to_owned();
        passages.push(KeywordPassage { point, text, headings: passage.headings });
    }
    let language = document.named_language();
    Ok(Some(keyword_document(&document.title, &id, language, passages)))
}

/// A document as the keyword index has it. As for its vector, a title that the text does not hold belongs to the text of the
/// first passage.
fn keyword_document(
    title: &str,
    id: &str,
    language: Option<Language>,
    mut passages: Vec<KeywordPassage>,
) -> KeywordDocument {
    if let Some(first) = passages.first_mut().filter(|first| !first.text.contains(title)) {
        first.text = format!("{title}\n{}", first.text);
    }
    KeywordDocument { title: titled(title, id), language, passages }
}

/// Most bytes of the name of a file among the words of a title.
const MOST_NAME_BYTES: usize = 255;

/// The words of a document's title and of the file that its id names, by which it is found too: `notes/Plan_B.md` is
/// found by `plan`. The ids of records and those that are no path have no such name.
fn titled(title: &str, id: &str) -> String {
    let Some((_, name)) = id.rsplit_once('/').filter(|(_, name)| name.len() <= MOST_NAME_BYTES) else {
        return title.to_owned();
    };
    if name.contains('#') {
        return title.to_owned();
    }
    let stem = name.rsplit_once('.').map_or(name, |(stem, extension)| {
        let is_extension =
            (1..=9).contains(&extension.len()) && extension.bytes().all(|b| b.is_ascii_alphanumeric());
        if is_extension && !stem.is_empty() { stem } else { name }
    });
    let words = stem.replace('_', " ");
    if title.contains(&words) || words.trim().is_empty() {
        return title.to_owned();
    }
    format!("{title} {words}").trim_start().to_owned()
}

/// Starts the thread that writes what waits; it ends with the catalog.
pub fn start(catalog: Weak<Catalog>, wakes: mpsc::Receiver<Wake>) -> Result<()> {
    std::thread::Builder::new()
        .name("keyword-index".to_owned())
        .spawn(move || run(&catalog, &wakes))
        .map(drop)
        .map_err(|e| Error::internal("NO_THREAD", format!("the keyword thread can't be started: {e}")))
}

fn run(catalog: &Weak<Catalog>, wakes: &mpsc::Receiver<Wake>) {
    let mut is_busy = false;
    loop {
        let woken = if is_busy {
            wakes.recv_timeout(GATHER)
        } else {
            wakes.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected)
        };
        match woken {
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Ok(Wake::Changes) => gather(wakes),
            Ok(Wake::Rebuild) | Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let Some(catalog) = catalog.upgrade() else { return };
        wakes.try_iter().for_each(drop);
        is_busy = false;
        let mut writers = 0;
        for keywords in catalog.all_keywords() {
            let upkeep = || Ok(keywords.maintain(&catalog.store, writers < MAX_WRITERS));
            let (is_more, is_writing) = task::guarded(KEYWORDS_FAILED, upkeep).unwrap_or((true, false));
            is_busy |= is_more;
            writers += usize::from(is_writing);
        }
    }
}

/// Waits for what comes within a moment, to be written together; a rebuild waits for nothing.
fn gather(wakes: &mpsc::Receiver<Wake>) {
    let end = Instant::now() + GATHER;
    while let Ok(Wake::Changes) = wakes.recv_timeout(end.saturating_duration_since(Instant::now())) {}
}

#[cfg(test)]
impl Keywords {
    /// Documents that searches find.
    pub fn documents(&self, store: &Store) -> Vec<u32> {
        self.refresh(store).unwrap();
        let state = self.state.lock();
        state.index.as_ref().unwrap().documents().unwrap().iter().collect()
    }

    /// Segments that a search looks into.
    pub fn segments(&self) -> usize {
        self.state.lock().index.as_ref().unwrap().segments()
    }
}

#[cfg(test)]
mod name_tests {
    use super::titled;

    #[test]
    fn files_are_found_by_their_names_beside_their_titles() {
        assert_eq!(titled("", "docs/Protokoll_Vorstand_2023-11.md"), "Protokoll Vorstand 2023-11");
        assert_eq!(titled("Minutes", "a/b/Plan 1.5.txt"), "Minutes Plan 1.5");
        assert_eq!(titled("Plan B", "notes/Plan_B.md"), "Plan B");
        assert_eq!(titled("T", "notes/.env"), "T .env");
        for id in ["plain", "docs/rows.csv#7", "docs/", &format!("docs/{}", "x".repeat(300))] {
            assert_eq!(titled("T", id), "T", "{id}");
        }
    }
}
