use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::domain::{Level, Metadata, MetadataValue, Span};
use crate::error::ErrorKind;

pub(super) fn open(dir: &Path) -> Store {
    Store::open(dir, StoreOptions { cache_bytes: 16 << 20, queue: 16, min_free_bytes: 0 }).unwrap()
}

pub(super) fn collection(store: &Store, name: &str) -> u32 {
    let record = CollectionRecord { name: name.to_owned(), dimensions: 3, ..Default::default() };
    store.create_collection(record).unwrap().cid
}

pub(super) fn document(id: &str, text: &str, passages: usize) -> NewDocument {
    let passage = |i: usize| NewPassage {
        span: Span::new(0, text.len() as u32),
        headings: vec!["h".to_owned()],
        page: Some(2),
        sentences: vec![Span::new(0, 1), Span::new(1, 2)],
        vector: vec![i as f32, 1.0, -0.1],
        sentence_vectors: vec![vec![0.5, i as f32, 0.25], vec![0.0, 1.0, 2.0]],
    };
    NewDocument {
        id: id.to_owned(),
        text: text.to_owned(),
        content_hash: [7; 32],
        metadata: Metadata::from([("k".to_owned(), MetadataValue::Int(-4))]),
        passages: (0..passages).map(passage).collect(),
        document_vector: vec![1.0, 0.0, 0.0],
        token_count: 9,
        ..Default::default()
    }
}

pub(super) fn listed(store: &Store, cid: u32, after: Option<&str>) -> Vec<DocumentRecord> {
    store.documents_after(cid, after).map(Result::unwrap).collect()
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Committed>>);

impl CommitListener for Recorder {
    fn committed(&self, event: &Committed) -> Result<()> {
        self.0.lock().push(event.clone());
        Ok(())
    }
}

#[tokio::test]
async fn a_document_survives_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    let written = store.upsert(cid, document("x", "hello", 2)).await.unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.get_collection("a").unwrap().cid, cid);
    assert_eq!(store.document(cid, "x").unwrap().unwrap(), written);
    assert_eq!(store.document_id(cid, written.doc_no).unwrap().unwrap(), "x");
    assert_eq!(store.counts(cid).unwrap(), (1, 2));
    let passage = store.passage(cid, 1).unwrap().unwrap();
    assert_eq!((passage.index, passage.page, passage.sentences.len()), (1, Some(2), 2));
    assert_eq!(store.vector(cid, Level::Passage, 1).unwrap().unwrap(), [1.0, 1.0, -0.1]);
    assert_eq!(store.vector(cid, Level::Sentence, 1 << 8 | 1).unwrap().unwrap(), [0.0, 1.0, 2.0]);
    assert_eq!(store.vector(cid, Level::Sentence, 1 << 8 | 2).unwrap(), None);
    let points =
        |level, first| -> Vec<u64> { store.vectors_after(cid, level, first).map(|p| p.unwrap().0).collect() };
    assert_eq!(points(Level::Passage, 0), [0, 1]);
    assert_eq!(points(Level::Sentence, 1), [1, 256, 257]);
    assert_eq!(points(Level::Document, 0), [0]);
    assert_eq!(store.text(cid, 0, Span::new(1, 3)).unwrap().unwrap(), "el");
}

/// A document whose text, number of passages and vectors tell its version.
fn version(n: usize) -> NewDocument {
    document("x", &format!("{n} ").repeat(1 + n % 3), 1 + n % 3)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_is_replaced_while_it_is_read_is_read_as_one_version() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()));
    let cid = collection(&store, "a");
    store.upsert(cid, version(0)).await.unwrap();
    let is_done = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (store, is_done) = (store.clone(), is_done.clone());
        move || {
            let mut reads = 0;
            while !is_done.load(Ordering::Relaxed) {
                let found = store.readable_document(cid, "x").unwrap().unwrap();
                let n = found.text.split(' ').next().unwrap().parse().unwrap();
                let wanted = version(n);
                assert_eq!((&found.text, found.passages.len()), (&wanted.text, wanted.passages.len()));
                assert_eq!(found.record.passage_count as usize, found.passages.len());
                let whole = store.whole_document(cid, "x").unwrap().unwrap().document;
                let n = whole.text.split(' ').next().unwrap().parse().unwrap();
                assert_eq!(whole.passages.len(), version(n).passages.len());
                assert!(store.document_vector(cid, "x").unwrap().is_some());
                reads += 1;
            }
            reads
        }
    });
    for n in 1..200 {
        store.upsert(cid, version(n)).await.unwrap();
        if n % 50 == 0 {
            store.compact(&|| false).unwrap();
        }
    }
    is_done.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 0);
}

#[tokio::test]
async fn replacing_and_deleting_leave_tombstones() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let recorder = Arc::new(Recorder::default());
    store.set_listener(recorder.clone());
    let record =
        CollectionRecord { name: "a".to_owned(), dimensions: 3, index_sentences: true, ..Default::default() };
    let cid = store.create_collection(record).unwrap().cid;
    let first = store.upsert(cid, document("x", "one", 2)).await.unwrap();
    let second = store.upsert(cid, document("x", "two", 1)).await.unwrap();
    assert_eq!(second.create_time_ns, first.create_time_ns);
    assert_eq!((second.doc_no, second.first_passage), (1, 2));
    assert_eq!(store.tombstones(cid, Level::Passage).unwrap(), std::slice::from_ref(&(0..2)));
    assert_eq!(store.tombstones(cid, Level::Sentence).unwrap(), std::slice::from_ref(&(0..512)));
    assert_eq!(store.tombstones(cid, Level::Document).unwrap(), std::slice::from_ref(&(0..1)));
    assert_eq!(store.passage(cid, 0).unwrap(), None);
    assert_eq!(store.text(cid, 0, Span::new(0, 1)).unwrap(), None);
    assert_eq!(store.delete_documents(cid, vec!["x".to_owned(), "no".to_owned()]).await.unwrap(), 1);
    assert_eq!(store.counts(cid).unwrap(), (0, 0));
    assert_eq!(listed(&store, cid, None), []);
    store.put_manifest(cid, Level::Passage, b"m", std::slice::from_ref(&(0..2))).unwrap();
    assert_eq!(store.manifest(cid, Level::Passage).unwrap().unwrap(), b"m");
    assert_eq!(store.tombstones(cid, Level::Passage).unwrap(), std::slice::from_ref(&(2..3)));
    let third = store.upsert(cid, document("x", "three", 1)).await.unwrap();
    assert_eq!((third.doc_no, third.first_passage), (2, 3), "points are never used again");
    let events = recorder.0.lock();
    assert_eq!(events.len(), 4);
    assert_eq!(events[0].inserted.as_ref().unwrap().points(Level::Sentence).len(), 4);
    assert!(events[1].removed_ranges().contains(&(Level::Passage, 0..2)));
    assert!(events[2].inserted.is_none());
}

#[tokio::test]
async fn sentences_without_an_index_leave_no_tombstones() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    let replace = async |store: &Store| {
        store.upsert(cid, document("x", "text", 2)).await.unwrap();
        store.upsert(cid, document("x", "text", 2)).await.unwrap();
        store.tombstones(cid, Level::Sentence).unwrap().len()
    };
    assert_eq!(replace(&store).await, 0);
    assert_eq!(store.tombstones(cid, Level::Passage).unwrap().len(), 1);
    // An older program's counters do not say so until the next open.
    let key = keys::counters(cid);
    let counters: codec::Counters = codec::unpack(&key, &store.live().get(&key).unwrap().unwrap()).unwrap();
    let older = codec::Counters { no_sentence_index: false, ..counters };
    store.live().put(&key, codec::pack(&key, &older)).unwrap();
    assert_eq!(replace(&store).await, 2);
    drop(store);
    let store = open(dir.path());
    assert_eq!(replace(&store).await, 2);
    damage(&store, &key);
    assert_eq!(replace(&store).await, 2);
}

#[tokio::test]
async fn documents_come_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (cid, other) = (collection(&store, "a"), collection(&store, "b"));
    for id in ["c", "a", "b"] {
        store.upsert(cid, document(id, "t", 0)).await.unwrap();
    }
    store.upsert(other, document("z", "t", 0)).await.unwrap();
    let ids = |after| -> Vec<String> { listed(&store, cid, after).into_iter().map(|d| d.id).collect() };
    assert_eq!(ids(None), ["a", "b", "c"]);
    assert_eq!(ids(Some("b")), ["c"]);
    assert_eq!(ids(Some("aa")), ["b", "c"]);
    store.delete_collection("a", None, true).unwrap();
    assert_eq!(store.upsert(cid, document("c", "t", 0)).await.unwrap_err().reason, "UNKNOWN_COLLECTION");
    assert_eq!(store.list_collections().unwrap().len(), 1);
    assert_eq!(listed(&store, cid, None), []);
    assert_eq!(listed(&store, other, None).len(), 1);
}

#[tokio::test]
async fn texts_are_read_across_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    let text = "aé€😀".repeat(12_000);
    store.upsert(cid, document("x", &text, 1)).await.unwrap();
    let whole = Span::new(0, text.len() as u32);
    assert_eq!(store.text(cid, 0, whole).unwrap().unwrap(), text);
    let cuts: Vec<u32> =
        text.char_indices().map(|(i, _)| i as u32).filter(|i| (49_130..49_170).contains(i)).collect();
    for span in cuts.windows(2).map(|w| Span::new(w[0], w[1])) {
        assert_eq!(store.text(cid, 0, span).unwrap().unwrap(), span.slice(&text).unwrap());
    }
    assert_eq!(store.text(cid, 0, Span::new(0, 2)).unwrap_err().reason, "SPAN_CUTS_CHARACTER");
    let beyond = Span::new(0, whole.end + 1);
    assert_eq!(store.text(cid, 0, beyond).unwrap_err().reason, "SPAN_OUT_OF_BOUNDS");
    let far = Span::new(0, whole.end + 100_000);
    assert_eq!(store.text(cid, 0, far).unwrap_err().reason, "SPAN_OUT_OF_BOUNDS");
}

#[tokio::test]
async fn damage_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    store.upsert(cid, document("x", "text", 1)).await.unwrap();
    for key in [keys::document(cid, "x"), keys::vector(cid, Level::Passage, 0), keys::text(cid, 0, 0)] {
        let mut value = store.live().get(&key).unwrap().unwrap();
        value[0] ^= 1;
        store.live().put(&key, value).unwrap();
    }
    assert_eq!(store.document(cid, "x").unwrap_err().kind, ErrorKind::DataLoss);
    assert_eq!(store.vector(cid, Level::Passage, 0).unwrap_err().kind, ErrorKind::DataLoss);
    assert_eq!(store.text(cid, 0, Span::new(0, 1)).unwrap_err().kind, ErrorKind::DataLoss);
}

pub(super) fn damage(store: &Store, key: &[u8]) {
    let mut value = store.live().get(key).unwrap().unwrap();
    value[0] ^= 1;
    store.live().put(key, value).unwrap();
}

impl Store {
    /// Flips a bit in the first chunk of a segment.
    pub(crate) fn damage_segment(&self, cid: u32, level: Level, id: u64) {
        damage(self, &keys::segment_chunk(cid, level, id, 0));
    }

    /// Flips a bit of a document's record.
    pub(crate) fn damage_document(&self, cid: u32, id: &str) {
        damage(self, &keys::document(cid, id));
    }

    /// Flips a bit of a document's number.
    pub(crate) fn damage_number(&self, cid: u32, doc_no: u32) {
        damage(self, &keys::number(cid, doc_no));
    }

    /// Gives a document other metadata, and tells nobody.
    pub(crate) fn describe_quietly(&self, cid: u32, id: &str, metadata: crate::domain::Metadata) {
        let key = keys::document(cid, id);
        let record = DocumentRecord { metadata, ..self.document(cid, id).unwrap().unwrap() };
        self.live().put(&key, codec::pack_document(&key, &record)).unwrap();
    }

    /// Waits until nothing is left of a collection that is deleted.
    pub(crate) fn wait_for_reaper(&self, cid: u32) {
        wait_until(|| {
            keys::OWNED.iter().all(|kind| self.live().prefix(&keys::owned(*kind, cid)).next().is_none())
        });
    }

    /// Waits until no version is kept for readers.
    pub(crate) fn wait_for_versions(&self, cid: u32) {
        wait_until(|| self.live().prefix(&keys::versions(cid)).next().is_none());
    }

    /// Writes a tombstone.
    pub(crate) fn put_tombstone(&self, cid: u32, level: Level, range: std::ops::Range<u64>) {
        let key = keys::tombstone(cid, level, range.start);
        let value = codec::pack(&key, &codec::Number { value: range.end - range.start });
        self.live().put(&key, value).unwrap();
    }

    /// Flips a bit of each tombstone of a level.
    pub(crate) fn damage_tombstones(&self, cid: u32, level: Level) {
        for item in self.live().prefix(&keys::tombstones(cid, level)) {
            damage(self, &item.unwrap().0);
        }
    }

    /// Flips a bit of a vector.
    pub(crate) fn damage_vector(&self, cid: u32, level: Level, point: u64) {
        damage(self, &keys::vector(cid, level, point));
    }
}

#[tokio::test]
async fn what_no_longer_matches_is_not_deleted_and_a_collection_with_documents_only_by_force() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    for id in ["x", "y"] {
        let metadata = [("id".to_owned(), MetadataValue::String(id.to_owned()))].into();
        store.upsert(cid, NewDocument { metadata, ..document(id, "text", 1) }).await.unwrap();
    }
    let mut seen = Seen::default();
    for id in ["x", "y"] {
        seen.add(&store.document(cid, id).unwrap().unwrap());
    }
    let x = store.document(cid, "x").unwrap().unwrap();
    let update = DocumentUpdate { id: x.id, doc_no: x.doc_no, ..DocumentUpdate::default() };
    store.update_document(cid, update).await.unwrap().unwrap();
    assert_eq!(store.delete_seen(cid, seen).await.unwrap(), 1);
    assert!(store.document(cid, "x").unwrap().is_some() && store.document(cid, "y").unwrap().is_none());
    let refused = store.delete_collection("a", None, false).unwrap_err();
    assert_eq!(refused.reason, "COLLECTION_NOT_EMPTY");
    store.delete_collection("a", None, true).unwrap();
    collection(&store, "b");
    store.delete_collection("b", None, false).unwrap();
}

#[tokio::test]
async fn a_deletion_of_many_documents_leaves_room_for_other_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    let put = async |ids: std::ops::Range<u32>| {
        let ids = ids.map(|i| format!("d{i}"));
        futures::future::join_all(ids.map(|id| store.upsert(cid, document(&id, "text", 1)))).await;
    };
    put(0..1000).await;
    let recorder = Arc::new(Recorder::default());
    store.set_listener(recorder.clone());
    let ids = || (0..1000).map(|i| format!("d{i}")).collect::<Vec<_>>();
    // Another writer comes when the first batch is on its way.
    let mut deletion = Box::pin(store.delete_documents(cid, ids()));
    assert!(futures::poll!(deletion.as_mut()).is_pending());
    let mut other = Box::pin(store.upsert(cid, document("other", "text", 1)));
    assert!(futures::poll!(other.as_mut()).is_pending());
    let (deleted, written) = futures::join!(deletion, other);
    assert_eq!((deleted.unwrap(), written.unwrap().id.as_str()), (1000, "other"));
    let events = std::mem::take(&mut *recorder.0.lock());
    let at = events.iter().position(|event| event.inserted.is_some()).unwrap();
    assert!((1..700).contains(&at), "the other write comes after {at} of 1000 deletions");
    assert_eq!((events.len(), store.counts(cid).unwrap()), (1001, (1, 1)));

    // One that is written anew before its turn comes stays, though it was as it had been seen when the first batch began.
    put(0..1000).await;
    let mut seen = Seen::default();
    ids().iter().for_each(|id| seen.add(&store.document(cid, id).unwrap().unwrap()));
    let mut deletion = Box::pin(store.delete_seen(cid, seen));
    assert!(futures::poll!(deletion.as_mut()).is_pending());
    let changed = NewDocument { metadata: Metadata::new(), ..document("d999", "text", 1) };
    let mut other = Box::pin(store.upsert(cid, changed));
    assert!(futures::poll!(other.as_mut()).is_pending());
    let (deleted, written) = futures::join!(deletion, other);
    assert_eq!((deleted.unwrap(), written.unwrap().id.as_str()), (999, "d999"));

    // A caller that leaves leaves the rest.
    put(0..1000).await;
    let mut deletion = Box::pin(store.delete_documents(cid, ids()));
    assert!(futures::poll!(deletion.as_mut()).is_pending());
    drop(deletion);
    put(1000..1001).await;
    let (documents, passages) = store.counts(cid).unwrap();
    assert!((700..1002).contains(&documents) && passages == documents, "{documents} are left");
    assert_eq!(listed(&store, cid, None).len() as u64, documents);

    // Documents of many passages share a group's rows, and all have their turn.
    for i in 0..8 {
        store.upsert(cid, document(&format!("long{i}"), "text", 700)).await.unwrap();
    }
    let long = |range: std::ops::Range<u32>| range.map(|i| format!("long{i}")).collect::<Vec<_>>();
    let both =
        futures::join!(store.delete_documents(cid, long(0..4)), store.delete_documents(cid, long(4..8)));
    assert_eq!((both.0.unwrap(), both.1.unwrap()), (4, 4));
    assert_eq!(store.delete_documents(cid, Vec::new()).await.unwrap(), 0);
    let unknown = store.delete_documents(cid + 1, Vec::new()).await.unwrap_err();
    assert_eq!(unknown.reason, "UNKNOWN_COLLECTION");
}

/// Panics for one document.
struct Faulty;

impl CommitListener for Faulty {
    fn committed(&self, event: &Committed) -> Result<()> {
        let id = event.inserted.as_ref().map(|inserted| inserted.record.id.as_str());
        assert_ne!(id, Some("bad"), "on purpose");
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_is_told_to_its_writer_and_writing_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    store.set_listener(Arc::new(Faulty));
    let all = ["x", "bad", "y"].map(|id| store.upsert(cid, document(id, "text", 1)));
    let [x, bad, y] = <[_; 3]>::try_from(futures::future::join_all(all).await).unwrap();
    assert_eq!(bad.unwrap_err().reason, "INDEX_FAILED");
    assert!(x.is_ok() && y.is_ok());
    assert_eq!(listed(&store, cid, None).len(), 3, "it is on the disk all the same");
    store.upsert(cid, document("z", "text", 1)).await.unwrap();
    assert_eq!(store.delete_documents(cid, vec!["bad".to_owned()]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_snapshot_gives_a_collection_without_document_numbers_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    store.upsert(cid, document("x", "text", 1)).await.unwrap();
    let mut counters = commit::counters(&store.live(), cid).unwrap();
    counters.next_doc_no = u32::MAX - 1;
    let key = keys::counters(cid);
    store.live().put(&key, codec::pack(&key, &counters)).unwrap();
    assert!(store.numbers_used(cid).unwrap() > 0.999);
    assert_eq!(store.upsert(cid, document("y", "text", 1)).await.unwrap().doc_no, u32::MAX - 1);
    let full = store.upsert(cid, document("z", "text", 1)).await.unwrap_err();
    assert_eq!(full.reason, "COLLECTION_FULL");
    assert!(full.message.contains("snapshot"), "{full}");
    assert_eq!(store.delete_documents(cid, vec!["y".to_owned()]).await.unwrap(), 1);
    drop(store);
    let store = open(dir.path());
    let name = SnapshotName::new("s").unwrap();
    store.create_snapshot(&name, &["a".to_owned()], false, &|| false).unwrap();
    store.prepare_restore(&name, &[], &|| false).unwrap().commit().unwrap();
    let cid = store.get_collection("a").unwrap().cid;
    assert!(store.numbers_used(cid).unwrap() < 0.001);
    assert_eq!(store.upsert(cid, document("z", "text", 1)).await.unwrap().doc_no, 1);
}

#[tokio::test]
async fn a_damaged_document_can_be_replaced_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    let recorder = Arc::new(Recorder::default());
    store.set_listener(recorder.clone());
    store.upsert(cid, document("other", "text", 2)).await.unwrap();
    for id in ["x", "y"] {
        store.upsert(cid, document(id, &"long text ".repeat(10_000), 3)).await.unwrap();
        damage(&store, &keys::document(cid, id));
        let error = store.document(cid, id).unwrap_err();
        assert!(error.message.contains(&format!("{id:?}")), "the error names the document: {error}");
    }
    // The first passage's record is damaged too; its vector still tells whose it is.
    damage(&store, &keys::passage(cid, 2));
    let update = DocumentUpdate { id: "x".to_owned(), doc_no: 1, ..Default::default() };
    assert_eq!(store.update_document(cid, update).await.unwrap(), None);
    store.upsert(cid, document("x", "new", 1)).await.unwrap();
    assert_eq!(store.document(cid, "x").unwrap().unwrap().doc_no, 3);
    assert_eq!(store.delete_documents(cid, vec!["y".to_owned()]).await.unwrap(), 1);
    assert_eq!(store.counts(cid).unwrap(), (2, 3));
    assert!(store.tombstones(cid, Level::Passage).unwrap().contains(&(2..5)));
    let points: Vec<u64> = store.vectors_after(cid, Level::Passage, 0).map(|p| p.unwrap().0).collect();
    assert_eq!(points, [0, 1, 8]);
    for doc_no in [1, 2] {
        assert_eq!(store.document_id(cid, doc_no).unwrap(), None);
        assert_eq!(store.live().prefix(&keys::texts(cid, doc_no)).count(), 0);
    }
    assert!(recorder.0.lock()[3].removed_ranges().contains(&(Level::Passage, 2..5)));
}

#[tokio::test]
async fn damage_in_one_place_leaves_the_rest_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (cid, other) = (collection(&store, "a"), collection(&store, "b"));
    store.upsert(cid, document("x", "text", 3)).await.unwrap();
    store.upsert(other, document("x", "text", 1)).await.unwrap();
    damage(&store, &keys::vector(cid, Level::Passage, 1));
    let points: Vec<u64> = store.vectors_after(cid, Level::Passage, 0).map(|p| p.unwrap().0).collect();
    assert_eq!(points, [0, 2], "a damaged vector does not keep an index from opening");
    damage(&store, &keys::collection("a"));
    drop(store);
    let store = open(dir.path());
    let names: Vec<_> = store.list_collections().unwrap().into_iter().map(|c| c.name).collect();
    assert_eq!(names, ["b"]);
    assert_eq!(store.get_collection("a").unwrap_err().kind, ErrorKind::DataLoss);
    assert!(store.document(cid, "x").unwrap().is_some(), "what a damaged collection holds is not purged");
}

#[tokio::test]
async fn damaged_counters_are_counted_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (cid, other) = (collection(&store, "a"), collection(&store, "b"));
    for id in ["x", "y", "z"] {
        store.upsert(cid, document(id, "text", 2)).await.unwrap();
    }
    store.delete_documents(cid, vec!["z".to_owned()]).await.unwrap();
    damage(&store, &keys::counters(cid));
    assert_eq!(store.counts(cid).unwrap(), (2, 4));
    let new = store.upsert(cid, document("z", "text", 1)).await.unwrap();
    assert!(new.doc_no > 3 && new.first_passage > 6, "numbers are never used again: {new:?}");
    assert_eq!(store.counts(cid).unwrap(), (3, 5));
    damage(&store, &keys::counters(cid));
    damage(&store, keys::NEXT_CID);
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.counts(cid).unwrap(), (3, 5));
    assert_eq!(collection(&store, "c"), other + 1);
    let next = store.upsert(cid, document("w", "text", 1)).await.unwrap();
    assert!(next.doc_no > new.doc_no);
    store.delete_collection("a", None, true).unwrap();
    assert_eq!(store.counts(cid).unwrap_err().reason, "UNKNOWN_COLLECTION");
}

/// sled takes a damaged place in its log for the end of the log.
#[tokio::test]
async fn a_damaged_database_is_never_taken_for_a_shorter_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    let text = |n: u32| -> String {
        let letter = |i: u32| char::from(b'a' + ((i + n * 31).wrapping_mul(2_654_435_761) >> 24) as u8 % 26);
        (0..20_000u32).map(letter).collect()
    };
    for n in 0..40 {
        store.upsert(cid, document(&format!("d{n}"), &text(n), 3)).await.unwrap();
    }
    drop(store);
    let database = |dir: &Path| dir.join("store/store-000001/db");
    let good = std::fs::read(database(dir.path())).unwrap();
    let undamaged = tempfile::tempdir().unwrap();
    copy(dir.path(), undamaged.path());
    assert_eq!(open(undamaged.path()).counts(cid).unwrap().0, 40);
    let mut refused = 0;
    for at in (0..good.len()).step_by(good.len() / 40) {
        let damaged = tempfile::tempdir().unwrap();
        copy(dir.path(), damaged.path());
        let mut bytes = good.clone();
        bytes.iter_mut().skip(at).take(16).for_each(|byte| *byte ^= 0x55);
        std::fs::write(database(damaged.path()), bytes).unwrap();
        let options = StoreOptions { cache_bytes: 16 << 20, queue: 16, min_free_bytes: 0 };
        match Store::open(damaged.path(), options) {
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::DataLoss, "at {at}: {error}");
                refused += 1;
            }
            Ok(store) => {
                // The place was of no use any more, or what it held says that it is damaged. How many
                // such places there are depends on when sled wrote its pages again.
                for n in 0..40 {
                    match store.whole_document(cid, &format!("d{n}")) {
                        Ok(found) => assert_eq!(found.unwrap().document.text, text(n), "at {at}"),
                        Err(error) => assert_eq!(error.kind, ErrorKind::DataLoss, "at {at}: {error}"),
                    }
                }
            }
        }
    }
    assert!(refused > 0, "no damage was found when opening");

    // Who knows what is lost can go on with what is left.
    let mut bytes = good.clone();
    let half = bytes.len() / 2;
    bytes.truncate(half);
    std::fs::write(database(dir.path()), bytes).unwrap();
    let error = Store::open(dir.path(), StoreOptions::default()).err().unwrap();
    assert_eq!(error.reason, "ACKNOWLEDGED_WRITES_LOST", "{error}");
    std::fs::remove_file(dir.path().join("store/store-000001/mark")).unwrap();
    let store = open(dir.path());
    let left = listed(&store, cid, None).len();
    assert!((1..40).contains(&left), "{left} are left");
    assert_eq!(store.counts(cid).unwrap().0, left as u64);
}

#[tokio::test]
async fn descriptions_change_without_new_points() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    let recorder = Arc::new(Recorder::default());
    store.set_listener(recorder.clone());
    let old = store.upsert(cid, document("x", "text", 2)).await.unwrap();
    let update = DocumentUpdate {
        id: "x".to_owned(),
        doc_no: old.doc_no,
        title: "new".to_owned(),
        ..Default::default()
    };
    let new = store.update_document(cid, update.clone()).await.unwrap().unwrap();
    assert_eq!((new.title.as_str(), new.metadata.len(), new.doc_no), ("new", 0, old.doc_no));
    assert_eq!(store.document(cid, "x").unwrap().unwrap(), new);
    assert_eq!(store.counts(cid).unwrap(), (1, 2));
    assert_eq!(store.vector(cid, Level::Passage, 1).unwrap().unwrap(), [1.0, 1.0, -0.1]);
    assert_eq!(recorder.0.lock()[1].updated.as_ref().map(|updated| &updated.new), Some(&new));
    let stale = DocumentUpdate { doc_no: 9, ..update.clone() };
    assert_eq!(store.update_document(cid, stale).await.unwrap(), None);
    assert_eq!(
        store.update_document(cid, DocumentUpdate { id: "no".to_owned(), ..update }).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn too_little_room_refuses_writes_before_the_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let cid = collection(&open(dir.path()), "a");
    let options = StoreOptions { cache_bytes: 16 << 20, queue: 16, min_free_bytes: u64::MAX };
    let store = Store::open(dir.path(), options).unwrap();
    for error in [
        store.upsert(cid, document("x", "text", 1)).await.unwrap_err(),
        store.delete_documents(cid, vec!["x".to_owned()]).await.unwrap_err(),
        store.write_segment(cid, Level::Passage, 1, b"x").unwrap_err(),
        store.compact(&|| false).unwrap_err(),
    ] {
        assert_eq!((error.kind, error.reason), (ErrorKind::ResourceExhausted, "DISK_FULL"));
    }
    assert_eq!(store.counts(cid).unwrap(), (0, 0));
}

/// A small file system of its own; unmounted when dropped.
pub(super) struct SmallDisk(pub tempfile::TempDir);

impl SmallDisk {
    /// `None`, with the reason on standard error, where this user may not mount.
    pub fn mount(megabytes: u32) -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(disk.0.path())
            .output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(disk);
        }
        eprintln!("skipped: this user may not mount a small disk");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Copies a directory and what is below it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_write_that_fails_ends_writing_until_the_store_is_opened_again() {
    let Some(disk) = SmallDisk::mount(6) else { return };
    let store = open(disk.0.path());
    let cid = collection(&store, "a");
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 2 << 20]).unwrap();
    let text: String =
        (0..40_000u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 26)).collect();
    let mut acknowledged = Vec::new();
    let first = loop {
        let id = format!("d{:03}", acknowledged.len());
        match store.upsert(cid, document(&id, &text, 1)).await {
            Ok(_) => acknowledged.push(id),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 1000, "the disk does not fill up");
    };
    assert!(acknowledged.len() > 3, "{first}");
    assert_eq!((first.kind, first.reason), (ErrorKind::ResourceExhausted, "DISK_FULL"), "{first}");
    // Room alone does not help: nobody knows what of the failed write is on the disk.
    std::fs::remove_file(&ballast).unwrap();
    let error = store.upsert(cid, document("later", &text, 1)).await.unwrap_err();
    assert_eq!((error.kind, error.reason), (ErrorKind::FailedPrecondition, "STORE_READ_ONLY"), "{error}");
    assert_eq!(
        store.delete_documents(cid, vec!["d000".to_owned()]).await.unwrap_err().reason,
        "STORE_READ_ONLY"
    );
    // Reads go on, or tell of the failure where sled has not kept what they need; they are never wrong.
    let read = |id: &str| {
        let Some(record) = store.document(cid, id)? else { return Ok(None) };
        store.text(cid, record.doc_no, Span::new(0, text.len() as u32))
    };
    for id in &acknowledged {
        match read(id) {
            Ok(found) => assert_eq!(found.as_deref(), Some(text.as_str())),
            Err(error) => assert_eq!(error.reason, "DISK_FULL"),
        }
    }
    // What a restart finds. This process cannot close the database that failed.
    let restarted = tempfile::tempdir().unwrap();
    copy(&disk.0.path().join("store"), &restarted.path().join("store"));
    let store = open(restarted.path());
    for id in &acknowledged {
        let record = store.document(cid, id).unwrap().unwrap();
        assert_eq!(store.text(cid, record.doc_no, Span::new(0, text.len() as u32)).unwrap().unwrap(), text);
    }
    store.upsert(cid, document("later", &text, 1)).await.unwrap();
}

#[tokio::test]
async fn bad_vectors_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    let mut bad = document("x", "text", 1);
    bad.passages[0].vector = vec![1.0];
    assert_eq!(store.upsert(cid, bad.clone()).await.unwrap_err().reason, "WRONG_DIMENSIONS");
    bad.passages[0].vector = vec![f32::NAN; 3];
    assert_eq!(store.upsert(cid, bad).await.unwrap_err().reason, "VECTOR_NOT_FINITE");
}

#[tokio::test]
async fn segments_and_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    store.upsert(cid, document("x", "text", 1)).await.unwrap();
    for id in 0..3 {
        store.write_segment(cid, Level::Passage, id, &bytes).unwrap();
    }
    assert_eq!(store.segments(cid, Level::Passage).unwrap(), [0, 1, 2]);
    store.delete_segment(cid, Level::Passage, 0).unwrap();
    store.delete_segment(cid, Level::Passage, 1).unwrap();
    let before = store.size_on_disk().unwrap();
    let open_scan = store.vectors_after(cid, Level::Passage, 0);
    store.compact(&|| false).unwrap();
    assert_eq!(open_scan.count(), 1, "an open scan goes on");
    let after = store.size_on_disk().unwrap();
    assert!(after < before / 2, "{after} of {before}");
    assert_eq!(store.read_segment(cid, Level::Passage, 2).unwrap(), bytes);
    assert_eq!(store.read_segment(cid, Level::Passage, 1).unwrap_err().reason, "UNKNOWN_SEGMENT");
    store.upsert(cid, document("y", "text", 1)).await.unwrap();
    drop(store);
    assert!(!dir.path().join("store/store-000001").exists());
    assert_eq!(open(dir.path()).counts(cid).unwrap(), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_is_written_between_other_writes_and_compactions() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()));
    let cid = collection(&store, "a");
    let bytes: Vec<u8> = (0..20_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let writer = std::thread::spawn({
        let (store, bytes) = (store.clone(), bytes.clone());
        move || store.write_segment(cid, Level::Passage, 1, &bytes).unwrap()
    });
    let mut writes = 0;
    let has_begun = || !store.segments(cid, Level::Passage).unwrap().is_empty();
    while !writer.is_finished() {
        if has_begun() && !writer.is_finished() {
            store.upsert(cid, document(&writes.to_string(), "text", 1)).await.unwrap();
            store.compact(&|| false).unwrap();
            writes += 1;
        }
    }
    writer.join().unwrap();
    assert!(writes > 1, "{writes} writes while the segment was written");
    assert_eq!(store.read_segment(cid, Level::Passage, 1).unwrap(), bytes);
    assert_eq!(store.counts(cid).unwrap(), (writes, writes));
    store.delete_segment(cid, Level::Passage, 1).unwrap();
    assert!(store.segments(cid, Level::Passage).unwrap().is_empty());
}

#[tokio::test]
async fn a_segment_of_a_collection_that_goes_away_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    store.delete_collection("a", None, true).unwrap();
    let error = store.write_segment(cid, Level::Passage, 1, b"x").unwrap_err();
    assert_eq!(error.reason, "UNKNOWN_COLLECTION");
    assert!(store.segments(cid, Level::Passage).unwrap().is_empty());
}

#[tokio::test]
async fn a_name_without_its_database_is_refused_and_other_databases_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    store.upsert(cid, document("x", "text", 1)).await.unwrap();
    drop(store);
    let path = |name: &str| dir.path().join("store").join(name);
    let refused = || Store::open(dir.path(), StoreOptions::default()).err().unwrap();
    // A backup that lacks the database in use; one that lacks the file that names it.
    fs::write(path(CURRENT), "store-000002").unwrap();
    let error = refused();
    assert_eq!((error.kind, error.reason), (ErrorKind::DataLoss, "CORRUPT_STORE"), "{error}");
    fs::rename(path(FIRST), path("store-000002")).unwrap();
    fs::remove_file(path(CURRENT)).unwrap();
    assert_eq!(refused().reason, "CORRUPT_STORE");
    assert!(path("store-000002").join("db").is_file() && !path(FIRST).exists());
    // Only what a compaction makes is taken for its leftovers.
    fs::write(path(CURRENT), "store-000002").unwrap();
    fs::create_dir(path("store-000003")).unwrap();
    fs::create_dir(path("store-old")).unwrap();
    fs::write(path("store-000004"), "a file").unwrap();
    assert_eq!(open(dir.path()).counts(cid).unwrap(), (1, 1));
    assert!(path("store-old").exists() && path("store-000004").exists() && !path("store-000003").exists());
    // What a first start has left that did not come to its end.
    fs::remove_file(path(CURRENT)).unwrap();
    fs::rename(path("store-000002"), path(FIRST)).unwrap();
    assert_eq!(open(dir.path()).counts(cid).unwrap(), (1, 1));
    assert_eq!(fs::read_to_string(path(CURRENT)).unwrap(), FIRST);
}

#[test]
fn collections_change_by_etag() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    collection(&store, "a");
    let again = CollectionRecord { name: "a".to_owned(), ..Default::default() };
    assert_eq!(store.create_collection(again).unwrap_err().reason, "COLLECTION_EXISTS");
    let old = store.get_collection("a").unwrap();
    let new = store.update_collection("a", Some(&old.etag), |c| {
        c.description = "d".to_owned();
        Ok(())
    });
    let new = new.unwrap();
    assert_ne!(new.etag, old.etag);
    assert_eq!(
        store.update_collection("a", Some(&old.etag), |_| Ok(())).unwrap_err().reason,
        "ETAG_MISMATCH"
    );
}

#[tokio::test]
async fn orphans_are_purged_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (cid, other) = (collection(&store, "a"), collection(&store, "b"));
    store.upsert(cid, document("x", "text", 1)).await.unwrap();
    store.upsert(other, document("x", "text", 1)).await.unwrap();
    let mut batch = sled::Batch::default();
    batch.remove(keys::collection("a"));
    store.live().apply(batch).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.document(cid, "x").unwrap(), None);
    assert_eq!(store.counts(other).unwrap(), (1, 1));
}

#[test]
fn a_second_opener_and_a_newer_schema_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let refused = |dir: &Path| Store::open(dir, StoreOptions::default()).err().unwrap().reason;
    assert_eq!(refused(dir.path()), "DATA_DIR_LOCKED");
    store.live().put(keys::SCHEMA, codec::pack(keys::SCHEMA, &codec::Number { value: 99 })).unwrap();
    drop(store);
    assert_eq!(refused(dir.path()), "SCHEMA_TOO_NEW");
}

fn metadata_value() -> impl Strategy<Value = MetadataValue> {
    prop_oneof![
        Just(MetadataValue::Null),
        any::<String>().prop_map(MetadataValue::String),
        any::<i64>().prop_map(MetadataValue::Int),
        (-1e300..1e300f64).prop_map(MetadataValue::Double),
        any::<bool>().prop_map(MetadataValue::Bool),
        any::<(i64, i32)>().prop_map(|(s, n)| MetadataValue::Timestamp(s, n)),
        prop::collection::vec(any::<String>(), 0..4).prop_map(MetadataValue::StringList),
        prop::collection::vec(any::<i64>(), 0..4).prop_map(MetadataValue::IntList),
        prop::collection::vec(-1e9f64..1e9, 0..4).prop_map(MetadataValue::DoubleList),
    ]
}

proptest! {
    #[test]
    fn records_come_back(
        metadata in prop::collection::btree_map(any::<String>(), metadata_value(), 0..6),
        text in any::<String>(), numbers in any::<(u32, u64, u32)>(), hash in any::<[u8; 32]>(),
        title in any::<Option<String>>(),
        vector in prop::collection::vec(-1e3f32..1e3, 0..20), flip in any::<prop::sample::Index>(),
    ) {
        let record = DocumentRecord {
            id: text.clone(), title: text.clone(), source_uri: String::new(), media_type: text,
            content_hash: hash, file_metadata: metadata.clone(), metadata, create_time_ns: -1, update_time_ns: i64::MAX, doc_no: numbers.0,
            first_passage: numbers.1, passage_count: numbers.2, text_bytes: 1, token_count: 2,
            file_title: title, processing: Processing { version: numbers.0, max_tokens: 5, overlap_tokens: 6 },
        };
        let mut bytes = codec::pack_document(b"d", &record);
        prop_assert_eq!(codec::unpack_document(b"d", &bytes).unwrap(), record);
        let at = flip.index(bytes.len());
        bytes[at] ^= 0x10;
        prop_assert!(codec::unpack_document(b"d", &bytes).is_err());
        let packed = codec::pack_vector(b"v", 3, &vector);
        prop_assert_eq!(codec::unpack_vector(b"v", &packed).unwrap(), (3, vector));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let sealed = codec::seal(b"v", bytes.clone());
        for value in [&bytes, &sealed] {
            let _ = codec::unpack_document(b"v", value);
            let _ = codec::unpack_passage(b"v", value);
            let _ = codec::unpack_vector(b"v", value);
            let _ = codec::unpack_sentences(b"v", value);
        }
    }
}

#[tokio::test]
async fn a_compaction_that_is_cancelled_leaves_the_old_store_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    let upserts = (0..600).map(|id| store.upsert(cid, document(&id.to_string(), "text", 3)));
    futures::future::join_all(upserts).await.into_iter().for_each(|done| drop(done.unwrap()));
    // At its first question, in the middle of the copy, and right before the switch.
    let asked = |cancel_at: usize| {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let done =
            store.compact(&|| count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 >= cancel_at);
        (done, count.into_inner())
    };
    let (done, all) = asked(usize::MAX);
    done.unwrap();
    assert!(all > 2, "{all}");
    for cancel_at in [1, 2, all] {
        let before = fs::read_to_string(dir.path().join("store").join(CURRENT)).unwrap();
        let (done, count) = asked(cancel_at);
        assert_eq!((done.unwrap_err().reason, count), ("CANCELLED", cancel_at), "it goes on");
        assert_eq!(fs::read_to_string(dir.path().join("store").join(CURRENT)).unwrap(), before);
        let id = format!("after {cancel_at}");
        store.upsert(cid, document(&id, "text", 1)).await.unwrap();
        assert!(store.document(cid, &id).unwrap().is_some());
    }
    assert_eq!(store.counts(cid).unwrap(), (603, 1803));
    drop(store);
    let folders = fs::read_dir(dir.path().join("store")).unwrap().flatten();
    let stores = folders.filter(|entry| entry.file_name().to_string_lossy().starts_with("store-")).count();
    assert_eq!(stores, 1, "what was copied is deleted");
    assert_eq!(open(dir.path()).counts(cid).unwrap(), (603, 1803));
}

/// Waits for what another thread does.
fn wait_until(is_done: impl Fn() -> bool) {
    for _ in 0..3000 {
        if is_done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it was not done within half a minute");
}

/// All documents of a view with their contents, page by page.
fn seen_by(store: &Store, cid: u32, view: &View, page: usize) -> Vec<(DocumentRecord, NewDocument)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let ViewPage { documents, next } = store.view_page(view, after.as_deref(), page).unwrap();
        for record in documents {
            let record = record.unwrap();
            let document = content::read(&store.live(), cid, &record).unwrap();
            all.push((record, document));
        }
        after = next;
        if after.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn a_view_stays_at_its_moment_whatever_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cid = collection(&store, "a");
    for n in 0..30 {
        store.upsert(cid, document(&format!("d{n:02}"), &format!("text {n}"), n % 3)).await.unwrap();
    }
    let mut views = vec![(store.view(cid, &|| false).unwrap(), Vec::new())];
    views[0].1 = seen_by(&store, cid, &views[0].0, 7);
    assert_eq!((views[0].1.len(), views[0].0.counts()), (30, (30, 30)));
    // Rounds of changes, each seen by a view of its own: described, described and replaced, deleted and made anew.
    for round in 0..6u32 {
        for n in (0..30usize).filter(|n| (n + round as usize).is_multiple_of(2)) {
            let id = format!("d{n:02}");
            let describe = async |title: String| {
                let Some(record) = store.document(cid, &id).unwrap() else { return };
                let update =
                    DocumentUpdate { id: id.clone(), doc_no: record.doc_no, title, ..Default::default() };
                store.update_document(cid, update).await.unwrap().unwrap();
            };
            let text = format!("round {round} text {n}");
            match n % 5 {
                0 => describe(format!("title {round}")).await,
                1 => {
                    describe(format!("first {round}")).await;
                    describe(format!("then {round}")).await;
                    store.upsert(cid, document(&id, &text, 1)).await.unwrap();
                    store.upsert(cid, document(&id, "again", 2)).await.unwrap();
                }
                2 => drop(store.delete_documents(cid, vec![id]).await.unwrap()),
                3 => {
                    store.delete_documents(cid, vec![id.clone()]).await.unwrap();
                    store.upsert(cid, document(&id, &text, 2)).await.unwrap();
                }
                _ => drop(store.upsert(cid, document(&format!("n{n}-{round}"), &text, 1)).await.unwrap()),
            }
        }
        if round == 3 {
            store.compact(&|| false).unwrap();
        }
        let view = store.view(cid, &|| false).unwrap();
        let now = seen_by(&store, cid, &view, 64);
        assert_eq!(now.len() as u64, store.counts(cid).unwrap().0);
        views.push((view, now));
        for (view, then) in &views {
            assert!(seen_by(&store, cid, view, 3) == *then, "round {round}");
        }
        // One ends in between, as readers do in any order.
        if round == 2 || round == 4 {
            views.remove(1);
        }
    }
    let last = views.pop().unwrap();
    drop(views);
    assert!(seen_by(&store, cid, &last.0, 5) == last.1);
    drop(last);
    store.wait_for_versions(cid);
    let rows = |kind: u8| store.live().prefix(&keys::owned(kind, cid)).count() as u64;
    let (documents, passages) = store.counts(cid).unwrap();
    assert_eq!(
        (rows(b'd'), rows(b'n'), rows(b'p')),
        (documents, documents, passages),
        "nothing is left behind"
    );
    assert_eq!(rows(b't'), documents);
}

#[tokio::test]
async fn what_was_kept_for_readers_goes_with_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (a, b) = (collection(&store, "a"), collection(&store, "b"));
    for cid in [a, b] {
        for n in 0..6 {
            store.upsert(cid, document(&format!("d{n}"), "text", 2)).await.unwrap();
        }
    }
    let view = store.view(a, &|| false).unwrap();
    let (_, lease) = store.read_collection("b").unwrap();
    store.upsert(a, document("d1", "other", 1)).await.unwrap();
    store.delete_documents(a, vec!["d2".to_owned()]).await.unwrap();
    store.delete_collection("b", None, true).unwrap();
    assert_eq!(store.document(b, "d3").unwrap().unwrap().id, "d3", "it is read still");
    assert_eq!(store.view(b, &|| false).err().unwrap().reason, "UNKNOWN_COLLECTION");
    assert_eq!(store.live().prefix(&keys::versions(a)).count(), 2);
    // The readers never end: as a crash leaves it.
    std::mem::forget((view, lease));
    drop(store);
    let store = open(dir.path());
    let rows = |kind: u8, cid: u32| store.live().prefix(&keys::owned(kind, cid)).count();
    assert_eq!((rows(b'd', a), rows(b'p', a), rows(b't', a), rows(b'r', a)), (5, 9, 5, 0));
    assert!(keys::OWNED.iter().all(|kind| rows(*kind, b) == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_is_replaced_all_the_time_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()));
    let cid = collection(&store, "a");
    store.upsert(cid, document("x", "text", 40)).await.unwrap();
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = tokio::spawn({
        let (store, is_over) = (store.clone(), is_over.clone());
        async move {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                store.upsert(cid, document("x", "text", 40)).await.unwrap();
            }
        }
    });
    for _ in 0..300 {
        assert_eq!(store.whole_document(cid, "x").unwrap().unwrap().document.passages.len(), 40);
    }
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.await.unwrap();
}
