//! The committing thread: one atomic batch for each document, one flush and fsync for all that waits.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::metrics::{counter, histogram};
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument, debug_span};

use super::codec::{self, Counters};
use super::live::Live;
use super::readers::Readers;
use super::records::{
    CollectionRecord, Committed, DocumentRecord, DocumentUpdate, Inserted, NewDocument, PassageRecord,
    Updated, point_ranges,
};
use super::versions::{self, Change};
use super::{Inner, Store, keys, now_ns, salvage, unknown_collection};
use crate::domain::Level;
use crate::error::{Error, ErrorKind, Result};
use crate::{fault, metrics, task};

/// Texts are cut into chunks of this many bytes.
pub const TEXT_CHUNK: usize = 48 << 10;
/// Most writes that share one fsync.
const GROUP: usize = 64;
/// Documents that one write may name to be deleted.
const DELETE_BATCH: usize = 256;
/// Rows of deleted documents from which on the deletions of a group leave the rest for later ones, so that other writers
/// need not wait for them.
const DELETE_ROWS: usize = 2048;
/// Time from which on they do, which counts where the filter is costly.
const DELETE_TIME: Duration = Duration::from_millis(50);
/// Reason of the error of a write that panicked.
const COMMIT_FAILED: &str = "COMMIT_FAILED";
/// Most sentence vectors of a passage.
const MAX_SENTENCES: usize = 256;

/// A write that waits.
pub enum Op {
    Upsert {
        cid: u32,
        document: Box<NewDocument>,
        answer: oneshot::Sender<Result<DocumentRecord>>,
    },
    Update {
        cid: u32,
        update: DocumentUpdate,
        answer: oneshot::Sender<Result<Option<DocumentRecord>>>,
    },
    Delete {
        cid: u32,
        ids: Vec<String>,
        seen: Option<Arc<Seen>>,
        answer: oneshot::Sender<Result<Deleted>>,
    },
    /// Writes nothing: waits for what can be read.
    Settle(oneshot::Sender<Result<()>>),
}

/// What became of documents to be deleted.
pub struct Deleted {
    /// How many there were.
    count: u64,
    /// Those that have not had their turn.
    rest: Vec<String>,
}

/// Documents by id in the versions that somebody has looked at.
#[derive(Debug, Clone, Default)]
pub struct Seen(HashMap<String, (u32, i64)>);

impl Seen {
    /// Adds a document.
    pub fn add(&mut self, record: &DocumentRecord) {
        self.0.insert(record.id.clone(), (record.doc_no, record.update_time_ns));
    }

    /// How many documents there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ids of the documents.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn is_still(&self, record: &DocumentRecord) -> bool {
        self.0.get(&record.id) == Some(&(record.doc_no, record.update_time_ns))
    }
}

/// An answer that waits for the fsync.
enum Answer {
    Upsert(oneshot::Sender<Result<DocumentRecord>>, Result<DocumentRecord>),
    Update(oneshot::Sender<Result<Option<DocumentRecord>>>, Result<Option<DocumentRecord>>),
    Delete(oneshot::Sender<Result<Deleted>>, Result<Deleted>),
    Settle(oneshot::Sender<Result<()>>),
}

impl Store {
    /// Stores a document, in place of one of the same id. Answers when it is on disk.
    pub async fn upsert(&self, cid: u32, document: NewDocument) -> Result<DocumentRecord> {
        let (answer, receiver) = oneshot::channel();
        let op = Op::Upsert { cid, document: Box::new(document), answer };
        self.send("upsert", op, receiver).await
    }

    /// Changes what describes a document; its text, passages and vectors stay. `None` where the document
    /// is gone, damaged, or of another version. Answers when it is on disk.
    pub async fn update_document(&self, cid: u32, update: DocumentUpdate) -> Result<Option<DocumentRecord>> {
        let (answer, receiver) = oneshot::channel();
        self.send("update", Op::Update { cid, update, answer }, receiver).await
    }

    /// Deletes documents; unknown ids are passed over. Answers with how many there were when that is on disk. Many go one
    /// batch after the other, with the writes of others in between; if the future is dropped, the rest stay.
    pub async fn delete_documents(&self, cid: u32, ids: Vec<String>) -> Result<u64> {
        self.delete_in_batches(cid, ids, None).await
    }

    /// Deletes documents that are still of the versions that were seen; others stay. Answers as
    /// [`Store::delete_documents`] does.
    pub async fn delete_seen(&self, cid: u32, seen: Seen) -> Result<u64> {
        let mut ids: Vec<String> = seen.0.keys().cloned().collect();
        ids.sort_unstable();
        self.delete_in_batches(cid, ids, Some(Arc::new(seen))).await
    }

    async fn delete_in_batches(&self, cid: u32, ids: Vec<String>, seen: Option<Arc<Seen>>) -> Result<u64> {
        let mut waiting = ids.into_iter();
        let (mut batch, mut deleted) = (Vec::new(), 0);
        loop {
            batch.extend(waiting.by_ref().take(DELETE_BATCH - batch.len()));
            let (answer, receiver) = oneshot::channel();
            let op = Op::Delete { cid, ids: batch, seen: seen.clone(), answer };
            let done = self.send("delete", op, receiver).await?;
            deleted += done.count;
            batch = done.rest;
            if batch.is_empty() && waiting.len() == 0 {
                return Ok(deleted);
            }
        }
    }

    /// Waits until all that can be read now is on the disk. What can be read may still wait for its fsync, or have
    /// been refused for a sync that failed; so whoever acknowledges a write because of what it has read, such as that
    /// the document is stored already, calls this after the read.
    ///
    /// # Errors
    /// Why it cannot be made durable: then nothing may be acknowledged.
    pub async fn settled(&self) -> Result<()> {
        if self.live().is_settled() {
            return Ok(());
        }
        let (answer, receiver) = oneshot::channel();
        self.hand_over("settle", Op::Settle(answer), receiver).await
    }

    /// Hands a write to the committing thread and waits for its answer.
    async fn send<T>(
        &self,
        operation: &'static str,
        op: Op,
        answer: oneshot::Receiver<Result<T>>,
    ) -> Result<T> {
        counter!(metrics::STORE_WRITES, "operation" => operation).increment(1);
        self.hand_over(operation, op, answer).await
    }

    async fn hand_over<T>(
        &self,
        operation: &'static str,
        op: Op,
        answer: oneshot::Receiver<Result<T>>,
    ) -> Result<T> {
        let sender = self.sender.as_ref().ok_or_else(stopped)?;
        let committed = async {
            sender.send(op).await.map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())?
        };
        committed.instrument(debug_span!("store.commit", operation)).await
    }
}

/// The error of a collection that has used all its document numbers.
pub(super) fn full() -> Error {
    let message =
        format!("every one of the {NUMBERS} document numbers of the collection has been used: {RENUMBER}");
    Error::precondition("COLLECTION_FULL", message)
}

/// How documents get new numbers, from zero.
pub(super) const RENUMBER: &str =
    "make a snapshot of the collection and restore it, which gives its documents new numbers";
/// How many document numbers a collection has. Each document that is written or replaced uses one.
pub(super) const NUMBERS: u32 = u32::MAX;
/// Numbers from which on it is logged that they run out, each time that so many more are used.
const FEW_LEFT: u32 = NUMBERS / 4 * 3;
const LOG_EVERY: u32 = 1 << 26;

fn warn_of_few_numbers(cid: u32, used: u32) {
    if used >= FEW_LEFT && used.is_multiple_of(LOG_EVERY) {
        tracing::warn!(
            cid,
            used,
            left = NUMBERS - used,
            "the document numbers of a collection run out: {RENUMBER}"
        );
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Unavailable, "STORE_STOPPED", "the store is closed")
}

/// Serves writes until the store is dropped. A panic is the answer of the write that it came from, and no more than that.
pub(super) fn run(inner: &Inner, mut receiver: mpsc::Receiver<Op>) {
    while let Some(first) = receiver.blocking_recv() {
        let mut ops = vec![first];
        while ops.len() < GROUP
            && let Ok(op) = receiver.try_recv()
        {
            ops.push(op);
        }
        // Where it panics outside of a write, its writers are told that the store is closed.
        let _ = task::guarded(COMMIT_FAILED, || {
            commit(inner, ops);
            Ok(())
        });
    }
}

fn commit(inner: &Inner, ops: Vec<Op>) {
    let writer = inner.writer.lock();
    let started = Instant::now();
    histogram!(metrics::STORE_COMMIT_WRITES).record(ops.len() as f64);
    let live = inner.live.load_full();
    let target = &Target { live: &live, readers: &inner.readers };
    let (room, little_room) = (inner.check_room(), inner.check_little_room());
    let room = || room.as_ref().map_err(Error::copy);
    let mut events = Vec::new();
    let mut share = DeleteShare { rows: DELETE_ROWS, since: None };
    let mut answers: Vec<(Answer, Range<usize>)> = Vec::with_capacity(ops.len());
    for op in ops {
        let first = events.len();
        let answer = match op {
            Op::Upsert { cid, document, answer } => {
                let write = || upsert(target, cid, *document, &mut events);
                Answer::Upsert(answer, room().and_then(|()| task::guarded(COMMIT_FAILED, write)))
            }
            Op::Update { cid, update, answer } => {
                let write = || self::update(target, cid, update, &mut events);
                Answer::Update(answer, room().and_then(|()| task::guarded(COMMIT_FAILED, write)))
            }
            Op::Delete { cid, ids, seen, answer } => {
                let room = little_room.as_ref().map_err(Error::copy);
                let write = || delete(target, cid, ids, seen.as_deref(), &mut share, &mut events);
                Answer::Delete(answer, room.and_then(|()| task::guarded(COMMIT_FAILED, write)))
            }
            Op::Settle(answer) => Answer::Settle(answer),
        };
        answers.push((answer, first..events.len()));
    }
    // Also where nothing was written: the answers may come from what others have written.
    let synced = if events.is_empty() { inner.settled().map(drop) } else { live.sync() };
    histogram!(metrics::STORE_COMMIT_DURATION).record(started.elapsed());
    // What was applied can be read even if the sync failed, so the listener hears of it in any case.
    let heard = tell(inner, &events);
    drop(writer);
    let failure = synced.err();
    if let Some(error) = failure.as_ref().filter(|_| !events.is_empty()) {
        counter!(metrics::STORE_COMMIT_FAILURES).increment(1);
        tracing::error!(%error, "a commit could not be made durable");
    }
    for (answer, events) in answers {
        let unheard = || heard[events].iter().find_map(|heard| heard.as_ref().err());
        answer.send(failure.as_ref().map(Error::copy).or_else(|| unheard().map(not_indexed)));
    }
}

/// Tells the listener of changes, and what came of each. It is let go before anybody is answered: who has an answer may
/// open what the listener had open.
fn tell(inner: &Inner, events: &[Committed]) -> Vec<Result<()>> {
    let listener = inner.listener.read().clone();
    let heard = |event| match &listener {
        Some(listener) => task::guarded("INDEX_FAILED", || listener.committed(event)),
        None => Ok(()),
    };
    events.iter().map(heard).collect()
}

/// The error of a write that is on the disk, and that an index has not taken over.
fn not_indexed(error: &Error) -> Error {
    let message = "it is on the disk, but a fault of the program kept an index from taking it over: searches may be wrong \
                   about it until it is written again with force";
    Error::new(error.kind, error.reason, message)
}

/// What all deletions of a group may take.
struct DeleteShare {
    rows: usize,
    /// When the first document had its turn.
    since: Option<Instant>,
}

impl DeleteShare {
    /// Whether another document may have its turn; one of each group always may.
    fn is_left(&mut self) -> bool {
        let Some(since) = self.since else {
            self.since = Some(Instant::now());
            return true;
        };
        self.rows > 0 && since.elapsed() < DELETE_TIME
    }

    fn take(&mut self, document: &DocumentRecord) {
        let rows = 4 + 3 * document.passage_count as usize;
        self.rows = self.rows.saturating_sub(rows);
    }
}

/// Where a write goes.
struct Target<'a> {
    live: &'a Live,
    readers: &'a Readers,
}

/// A document that goes.
struct Old {
    record: DocumentRecord,
    /// Whether its record could not be read, and was found again by its rows.
    is_damaged: bool,
}

impl Target<'_> {
    /// Adds to a batch what takes a document away, but for what readers need still.
    fn remove(&self, batch: &mut sled::Batch, cid: u32, old: &Old, counters: &mut Counters) -> Result<()> {
        let change = if old.is_damaged { Change::Lost } else { Change::Removed };
        if !versions::keep(self.live, self.readers, batch, cid, &old.record, change)? {
            remove_rows(batch, cid, &old.record);
        }
        remove(batch, cid, &old.record, counters);
        Ok(())
    }
}

impl Answer {
    /// A writer that left does not mind.
    fn send(self, failure: Option<Error>) {
        match self {
            Answer::Upsert(to, result) => drop(to.send(durable(result, failure))),
            Answer::Update(to, result) => drop(to.send(durable(result, failure))),
            Answer::Delete(to, result) => drop(to.send(durable(result, failure))),
            Answer::Settle(to) => drop(to.send(durable(Ok(()), failure))),
        }
    }
}

/// What a write gave, if it is on the disk. Why it gave nothing says more than that the rest is not.
fn durable<T>(result: Result<T>, failure: Option<Error>) -> Result<T> {
    result.and_then(|given| failure.map_or(Ok(given), Err))
}

pub(super) fn counters(live: &Live, cid: u32) -> Result<Counters> {
    let key = keys::counters(cid);
    let stored = live.get(&key)?.map(|value| codec::unpack(&key, &value)).transpose();
    match stored {
        Ok(Some(counters)) => return Ok(counters),
        Ok(None) => {}
        Err(error) if error.kind == ErrorKind::DataLoss => {}
        Err(error) => return Err(error),
    }
    salvage::counters(live, cid)?.ok_or_else(|| unknown_collection(format!("number {cid}")))
}

/// Counts again where a collection's counters are damaged, so that nobody has to do it later; adds to those of an older
/// program what they lack.
pub(super) fn repair_counters(live: &Live, record: &CollectionRecord) -> Result<()> {
    let cid = record.cid;
    let key = keys::counters(cid);
    let stored = live.get(&key)?.and_then(|value| codec::unpack::<Counters>(&key, &value).ok());
    if let Some(stored) = stored {
        let whole = Counters { no_sentence_index: !record.index_sentences, ..stored.clone() };
        // If it is lost with the power, the next open does it again.
        return if whole == stored { Ok(()) } else { live.put(&key, codec::pack(&key, &whole)) };
    }
    let counters = counters(live, cid)?;
    live.put(&key, codec::pack(&key, &counters))?;
    live.sync()?;
    tracing::warn!(
        cid,
        documents = counters.documents,
        passages = counters.passages,
        "the counters of a collection were damaged; its rows were counted again"
    );
    Ok(())
}

/// What is stored under an id. Of a document whose record is damaged, what can be found, so that it can
/// be replaced and deleted all the same.
fn old_record(live: &Live, cid: u32, id: &str) -> Result<Option<Old>> {
    let key = keys::document(cid, id);
    let Some(value) = live.get(&key)? else { return Ok(None) };
    match codec::unpack_document(&key, &value) {
        Ok(record) => Ok(Some(Old { record, is_damaged: false })),
        Err(error) if error.kind == ErrorKind::DataLoss => {
            let record = salvage::find(live, cid, id)?;
            tracing::error!(%error, passages = record.passage_count, "removing what is left of a damaged document");
            Ok(Some(Old { record, is_damaged: true }))
        }
        Err(error) => Err(error),
    }
}

fn upsert(
    target: &Target<'_>,
    cid: u32,
    document: NewDocument,
    events: &mut Vec<Committed>,
) -> Result<DocumentRecord> {
    let live = target.live;
    live.check_writable()?;
    fault::point!("commit-write");
    let mut counters = counters(live, cid)?;
    check(&document, counters.dimensions as usize)?;
    let old = old_record(live, cid, &document.id)?;
    let now = now_ns();
    let record = DocumentRecord {
        id: document.id.clone(),
        title: document.title.clone(),
        source_uri: document.source_uri.clone(),
        media_type: document.media_type.clone(),
        content_hash: document.content_hash,
        metadata: document.metadata.clone(),
        create_time_ns: old.as_ref().map_or(now, |old| old.record.create_time_ns),
        update_time_ns: now,
        doc_no: counters.next_doc_no,
        first_passage: counters.next_point,
        passage_count: document.passages.len() as u32,
        text_bytes: document.text.len() as u64,
        token_count: document.token_count,
        file_title: Some(document.file_title.clone()),
        file_metadata: document.file_metadata.clone(),
        processing: document.processing,
    };
    counters.next_doc_no = counters.next_doc_no.checked_add(1).ok_or_else(full)?;
    warn_of_few_numbers(cid, counters.next_doc_no);
    counters.next_point += u64::from(record.passage_count);
    counters.documents += 1;
    counters.passages += u64::from(record.passage_count);
    let mut batch = sled::Batch::default();
    if let Some(old) = &old {
        target.remove(&mut batch, cid, old, &mut counters)?;
    }
    insert(&mut batch, cid, &record, &document);
    put_counters(&mut batch, cid, &counters);
    live.apply(batch)?;
    let inserted = Some(Inserted { record: record.clone(), document });
    events.push(Committed { cid, inserted, removed: old.map(|old| old.record), updated: None });
    Ok(record)
}

fn update(
    target: &Target<'_>,
    cid: u32,
    update: DocumentUpdate,
    events: &mut Vec<Committed>,
) -> Result<Option<DocumentRecord>> {
    let live = target.live;
    let key = keys::document(cid, &update.id);
    let Some(value) = live.get(&key)? else { return Ok(None) };
    let Ok(old) = codec::unpack_document(&key, &value) else { return Ok(None) };
    if old.doc_no != update.doc_no {
        return Ok(None);
    }
    let mut record = old.clone();
    record.title = update.title;
    record.source_uri = update.source_uri;
    record.metadata = update.metadata;
    // With its number it tells one version from another, even if the clock was set back.
    record.update_time_ns = now_ns().max(old.update_time_ns.saturating_add(1));
    let mut batch = sled::Batch::default();
    versions::keep(live, target.readers, &mut batch, cid, &old, Change::Described)?;
    batch.insert(key.as_slice(), codec::pack_document(&key, &record));
    if old.words_differ(&record) {
        let key = keys::retitled(cid, record.doc_no);
        let time = codec::Number { value: record.update_time_ns as u64 };
        batch.insert(key.as_slice(), codec::pack(&key, &time));
    }
    live.apply(batch)?;
    let updated = Some(Updated { old, new: record.clone() });
    events.push(Committed { cid, inserted: None, removed: None, updated });
    Ok(Some(record))
}

fn delete(
    target: &Target<'_>,
    cid: u32,
    ids: Vec<String>,
    seen: Option<&Seen>,
    share: &mut DeleteShare,
    events: &mut Vec<Committed>,
) -> Result<Deleted> {
    let live = target.live;
    let mut count = 0;
    live.check_writable()?;
    let mut counters = counters(live, cid)?;
    let mut ids = ids.into_iter();
    while share.is_left()
        && let Some(id) = ids.next()
    {
        let Some(old) = old_record(live, cid, &id)? else { continue };
        if seen.is_some_and(|seen| !seen.is_still(&old.record)) {
            continue;
        }
        share.take(&old.record);
        let mut batch = sled::Batch::default();
        target.remove(&mut batch, cid, &old, &mut counters)?;
        put_counters(&mut batch, cid, &counters);
        live.apply(batch)?;
        events.push(Committed { cid, inserted: None, removed: Some(old.record), updated: None });
        count += 1;
    }
    Ok(Deleted { count, rest: ids.collect() })
}

/// Checks what must hold of every document that is written.
pub(super) fn check(document: &NewDocument, dimensions: usize) -> Result<()> {
    if document.id.is_empty() {
        return Err(Error::invalid("INVALID_DOCUMENT_ID", "expected a document id, got an empty one"));
    }
    if u32::try_from(document.text.len()).is_err() {
        return Err(Error::invalid("TEXT_TOO_LONG", "expected a text of less than 4 GiB"));
    }
    for passage in &document.passages {
        check_vector(&passage.vector, dimensions)?;
        passage.sentence_vectors.iter().try_for_each(|v| check_vector(v, dimensions))?;
        if passage.sentence_vectors.len() > MAX_SENTENCES {
            let message = format!(
                "expected at most {MAX_SENTENCES} sentences in a passage, got {}",
                passage.sentence_vectors.len()
            );
            return Err(Error::invalid("TOO_MANY_SENTENCES", message));
        }
    }
    if document.document_vector.is_empty() {
        Ok(())
    } else {
        check_vector(&document.document_vector, dimensions)
    }
}

fn check_vector(vector: &[f32], dimensions: usize) -> Result<()> {
    if vector.len() != dimensions {
        let message = format!("expected a vector of {dimensions} dimensions, got {}", vector.len());
        return Err(Error::invalid("WRONG_DIMENSIONS", message));
    }
    if vector.iter().any(|x| !x.is_finite()) {
        return Err(Error::invalid("VECTOR_NOT_FINITE", "expected a vector of finite numbers"));
    }
    Ok(())
}

pub(super) fn put_counters(batch: &mut sled::Batch, cid: u32, counters: &Counters) {
    let key = keys::counters(cid);
    let value = codec::pack(&key, counters);
    batch.insert(key, value);
}

/// Adds a document's rows to a batch.
pub(super) fn insert(batch: &mut sled::Batch, cid: u32, record: &DocumentRecord, document: &NewDocument) {
    let doc_no = record.doc_no;
    let mut put = |key: Vec<u8>, value: Vec<u8>| batch.insert(key, value);
    let key = keys::document(cid, &record.id);
    let value = codec::pack_document(&key, record);
    put(key, value);
    let key = keys::number(cid, doc_no);
    let value = codec::seal(&key, record.id.clone().into_bytes());
    put(key, value);
    for (chunk, bytes) in (0u32..).zip(document.text.as_bytes().chunks(TEXT_CHUNK)) {
        let key = keys::text(cid, doc_no, chunk);
        let value = codec::seal(&key, bytes.to_vec());
        put(key, value);
    }
    for ((index, point), passage) in (0u32..).zip(record.passages()).zip(&document.passages) {
        let key = keys::passage(cid, point);
        let stored = PassageRecord {
            doc_no,
            index,
            span: passage.span,
            headings: passage.headings.clone(),
            page: passage.page,
            sentences: passage.sentences.clone(),
        };
        let value = codec::pack_passage(&key, &stored);
        put(key, value);
        let key = keys::vector(cid, Level::Passage, point);
        let value = codec::pack_vector(&key, doc_no, &passage.vector);
        put(key, value);
        if passage.sentence_vectors.is_empty() {
            continue;
        }
        let key = keys::vector(cid, Level::Sentence, point);
        let value = codec::pack_sentences(&key, doc_no, &passage.sentence_vectors);
        put(key, value);
    }
    if !document.document_vector.is_empty() {
        let key = keys::vector(cid, Level::Document, u64::from(doc_no));
        let value = codec::pack_vector(&key, doc_no, &document.document_vector);
        put(key, value);
    }
}

/// Takes away what describes a document, and notes its points as removed.
fn remove(batch: &mut sled::Batch, cid: u32, old: &DocumentRecord, counters: &mut Counters) {
    batch.remove(keys::document(cid, &old.id));
    batch.remove(keys::number(cid, old.doc_no));
    batch.remove(keys::retitled(cid, old.doc_no));
    for (level, points) in point_ranges(old) {
        if level == Level::Sentence && counters.no_sentence_index {
            continue;
        }
        let key = keys::tombstone(cid, level, points.start);
        let value = codec::pack(&key, &codec::Number { value: points.end - points.start });
        batch.insert(key, value);
    }
    counters.documents = counters.documents.saturating_sub(1);
    counters.passages = counters.passages.saturating_sub(u64::from(old.passage_count));
}

/// Takes away what a document consists of: text, passages and vectors.
pub(super) fn remove_rows(batch: &mut sled::Batch, cid: u32, old: &DocumentRecord) {
    let chunks = old.text_bytes.div_ceil(TEXT_CHUNK as u64) as u32;
    (0..chunks).for_each(|chunk| batch.remove(keys::text(cid, old.doc_no, chunk)));
    for point in old.passages() {
        batch.remove(keys::passage(cid, point));
        batch.remove(keys::vector(cid, Level::Passage, point));
        batch.remove(keys::vector(cid, Level::Sentence, point));
    }
    batch.remove(keys::vector(cid, Level::Document, u64::from(old.doc_no)));
}

/// Share of its document numbers that a collection has used.
pub(super) fn numbers_used(live: &Live, cid: u32) -> Result<f64> {
    counters(live, cid).map(|c| f64::from(c.next_doc_no) / f64::from(NUMBERS))
}

/// Documents and passages of a collection.
pub(super) fn counts(live: &Live, cid: u32) -> Result<(u64, u64)> {
    counters(live, cid).map(|c| (c.documents, c.passages))
}
