use std::sync::{Arc, Mutex, mpsc};

use super::Indexes;
use super::indexes::Site;
use super::maintenance::Pool;
use crate::domain::{Level, Span};
use crate::error::Result;
use crate::index::{IndexOptions, VectorIndex};
use crate::store::{
    CollectionRecord, CommitListener, Committed, NewDocument, NewPassage, Store, StoreOptions,
};

const LEVELS: [Level; 3] = [Level::Passage, Level::Document, Level::Sentence];

fn options() -> IndexOptions {
    IndexOptions { m: 4, ef_construction: 16, ef_link: 16, head_limit: 40, ..IndexOptions::default() }
}

struct Follower(Arc<Indexes>);

impl CommitListener for Follower {
    fn committed(&self, event: &Committed) -> Result<()> {
        self.0.apply(event);
        Ok(())
    }
}

struct Fixture {
    _dir: tempfile::TempDir,
    store: Store,
    record: CollectionRecord,
    pool: Pool,
}

impl Fixture {
    fn new(index_sentences: bool) -> Self {
        Self::with_threads(index_sentences, 2)
    }

    fn with_threads(index_sentences: bool, threads: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(
            dir.path(),
            StoreOptions { cache_bytes: 16 << 20, queue: 64, ..StoreOptions::default() },
        )
        .unwrap();
        let record = CollectionRecord {
            name: "a".to_owned(),
            dimensions: 8,
            index_sentences,
            ..CollectionRecord::default()
        };
        let record = store.create_collection(record).unwrap();
        Self { _dir: dir, store, record, pool: Pool::new(threads, || ()).unwrap() }
    }

    fn site(&self) -> Site<'_> {
        Site { pool: &self.pool, store: &self.store, cid: self.record.cid }
    }

    /// Opens the indexes anew and lets them follow the store.
    fn open(&self) -> Arc<Indexes> {
        let indexes = Arc::new(Indexes::open(&self.store, &self.record, options()).unwrap());
        self.store.set_listener(Arc::new(Follower(indexes.clone())));
        indexes
    }

    async fn put(&self, documents: std::ops::Range<u32>, version: u32) {
        for i in documents {
            let vector = |at: u32| -> Vec<f32> {
                (0..8)
                    .map(|x| {
                        ((i * 8 + at + version * 31 + x).wrapping_mul(2_654_435_761) >> 16) as f32 - 32_768.0
                    })
                    .collect()
            };
            let passage = |at: u32| NewPassage {
                span: Span::new(0, 1),
                sentences: vec![Span::new(0, 1)],
                vector: vector(at),
                sentence_vectors: vec![vector(at + 2), vector(at + 4)],
                ..NewPassage::default()
            };
            let document = NewDocument {
                id: format!("d{i}"),
                text: "x".to_owned(),
                passages: vec![passage(0), passage(1)],
                document_vector: vector(7),
                ..NewDocument::default()
            };
            self.store.upsert(self.record.cid, document).await.unwrap();
        }
    }

    async fn delete(&self, documents: std::ops::Range<u32>) {
        let ids = documents.map(|i| format!("d{i}")).collect();
        self.store.delete_documents(self.record.cid, ids).await.unwrap();
    }

    fn stored(&self, level: Level) -> Vec<u64> {
        self.store.vectors_after(self.record.cid, level, 0).map(|item| item.unwrap().0).collect()
    }

    /// That every level finds exactly the points of the store.
    fn check(&self, indexes: &Indexes) {
        for level in LEVELS {
            let Some(index) = indexes.of(level) else { continue };
            assert_eq!(found(index), self.stored(level), "{level:?}");
        }
    }
}

fn found(index: &VectorIndex) -> Vec<u64> {
    let all = index.search(&[1.0; 8], 10_000, 10, true, None).unwrap();
    let mut points: Vec<u64> = all.iter().map(|candidate| candidate.point).collect();
    points.sort_unstable();
    points
}

#[tokio::test]
async fn the_indexes_agree_with_the_store_after_whatever_happened() {
    let fixture = Fixture::new(true);
    let (store, cid) = (&fixture.store, fixture.record.cid);
    let indexes = fixture.open();
    fixture.put(0..60, 0).await;
    assert!(indexes.has_work());
    indexes.maintain(fixture.site()).unwrap();
    assert!(!indexes.has_work());
    fixture.delete(0..10).await;
    fixture.put(20..30, 1).await;
    fixture.check(&indexes);
    fixture.check(&fixture.open());

    // A segment that no manifest names is what a crash leaves behind.
    store.write_segment(cid, Level::Passage, 999, b"an orphan").unwrap();
    let indexes = fixture.open();
    fixture.check(&indexes);
    assert!(!store.segments(cid, Level::Passage).unwrap().contains(&999));

    indexes.settle(fixture.site(), 1, &|| false).unwrap();
    fixture.check(&indexes);
    assert!(!indexes.is_unsettled(1));
    assert!(indexes.levels().all(|(_, index)| index.segment_ids().len() == 1));
    indexes.compact(fixture.site(), &indexes.merge_turn().await, &|| false).unwrap();
    fixture.check(&indexes);
    for level in LEVELS {
        assert!(store.tombstones(cid, level).unwrap().is_empty(), "{level:?}");
    }
    fixture.check(&fixture.open());
}

#[tokio::test]
async fn no_level_waits_for_all_of_another() {
    let fixture = Fixture::new(true);
    let indexes = fixture.open();
    fixture.put(0..200, 0).await;
    let heads = || indexes.levels().map(|(_, index)| index.unsealed()).collect::<Vec<_>>();
    let mut sealed = 0;
    loop {
        let before = heads();
        if !indexes.maintain_once(fixture.site()).unwrap() {
            break;
        }
        for (before_it, _) in before.iter().zip(heads()).filter(|(before, after)| *before > after) {
            assert_eq!(Some(before_it), before.iter().max());
            sealed += 1;
        }
    }
    assert!(sealed > LEVELS.len() && !indexes.has_work());
    fixture.check(&indexes);
}

#[tokio::test]
async fn a_join_makes_way_for_a_full_head_and_begins_anew() {
    let fixture = Fixture::new(false);
    let indexes = fixture.open();
    fixture.put(0..100, 0).await;
    indexes.maintain(fixture.site()).unwrap();
    fixture.put(100..125, 0).await;
    indexes.maintain(fixture.site()).unwrap();
    let segments = || indexes.passage.segment_ids();
    let before = segments();
    assert!(before.len() > 1);
    indexes.join(fixture.site(), &|| true).unwrap();
    assert_eq!(segments(), before);
    fixture.check(&indexes);
    indexes.join(fixture.site(), &|| false).unwrap();
    assert_eq!(segments().len(), 1);
    fixture.check(&indexes);
    fixture.check(&fixture.open());
}

/// Whatever is sealed, removed and stored while a compaction merges is right afterwards, and after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_are_sealed_while_a_compaction_merges() {
    for threads in [1, 2, 4] {
        let fixture = Arc::new(Fixture::with_threads(false, threads));
        let indexes = fixture.open();
        fixture.put(0..100, 0).await;
        indexes.maintain(fixture.site()).unwrap();
        fixture.delete(0..3).await;
        let (begin, begun) = mpsc::channel();
        let (go_on, released) = mpsc::channel();
        let compaction = std::thread::spawn({
            let (fixture, indexes) = (fixture.clone(), indexes.clone());
            let released = Mutex::new(Some(released));
            move || {
                let turn = futures::executor::block_on(indexes.merge_turn());
                let is_cancelled = || {
                    // In the middle of the first merge.
                    let waits = rayon::current_thread_index().and_then(|_| released.lock().unwrap().take());
                    if let Some(released) = waits {
                        begin.send(()).unwrap();
                        released.recv().unwrap();
                    }
                    false
                };
                indexes.compact(fixture.site(), &turn, &is_cancelled).unwrap();
            }
        });
        begun.recv().unwrap();
        fixture.put(100..160, 0).await;
        fixture.delete(20..30).await;
        let due = Pool::new(threads, || ()).unwrap();
        let site = Site { pool: &due, ..fixture.site() };
        indexes.maintain(site).unwrap();
        assert!(indexes.levels().all(|(_, index)| !index.needs_seal()), "the heads are sealed meanwhile");
        fixture.delete(110..120).await;
        fixture.put(130..135, 1).await;
        indexes.join(site, &|| false).unwrap();
        go_on.send(()).unwrap();
        compaction.join().unwrap();
        fixture.check(&indexes);
        fixture.check(&fixture.open());
        let indexes = fixture.open();
        indexes.compact(fixture.site(), &indexes.merge_turn().await, &|| false).unwrap();
        fixture.check(&indexes);
        for level in LEVELS {
            assert_eq!(fixture.store.tombstones(fixture.record.cid, level).unwrap(), [], "{level:?}");
        }
        fixture.check(&fixture.open());
    }
}

#[tokio::test]
async fn a_damaged_index_is_rebuilt_in_pieces_from_the_store() {
    let fixture = Fixture::new(true);
    let (store, cid) = (&fixture.store, fixture.record.cid);
    let indexes = fixture.open();
    fixture.put(0..60, 0).await;
    indexes.maintain(fixture.site()).unwrap();
    fixture.delete(0..5).await;
    store.put_manifest(cid, Level::Passage, b"garbage", &[]).unwrap();
    for id in store.segments(cid, Level::Sentence).unwrap() {
        store.delete_segment(cid, Level::Sentence, id).unwrap();
    }
    let indexes = fixture.open();
    assert_eq!((indexes.passage.unsealed(), indexes.passage.segment_ids().len()), (110, 0));
    fixture.check(&indexes);
    indexes.maintain(fixture.site()).unwrap();
    assert!(!indexes.has_work() && !indexes.passage.segment_ids().is_empty());
    fixture.check(&indexes);
    fixture.check(&fixture.open());
}

#[tokio::test]
async fn a_corrupt_chunk_of_a_graph_is_noticed_and_the_graph_made_again() {
    let fixture = Fixture::new(true);
    let (store, cid) = (&fixture.store, fixture.record.cid);
    let indexes = fixture.open();
    fixture.put(0..60, 0).await;
    indexes.maintain(fixture.site()).unwrap();
    for level in LEVELS {
        let id = store.segments(cid, level).unwrap()[0];
        store.damage_segment(cid, level, id);
    }
    let indexes = fixture.open();
    assert!(indexes.passage.segment_ids().is_empty(), "all is scanned until graphs are built");
    fixture.check(&indexes);
    indexes.maintain(fixture.site()).unwrap();
    assert!(!indexes.passage.segment_ids().is_empty());
    fixture.check(&fixture.open());
}

#[tokio::test]
async fn a_vector_of_zeros_keeps_nothing_from_opening() {
    let fixture = Fixture::new(false);
    let passage = |x: f32| NewPassage { vector: vec![x; 8], ..NewPassage::default() };
    let document = NewDocument {
        id: "zero".to_owned(),
        passages: vec![passage(0.0), passage(1.0)],
        ..NewDocument::default()
    };
    let indexes = fixture.open();
    fixture.store.upsert(fixture.record.cid, document).await.unwrap();
    assert_eq!(found(&indexes.passage), [1]);
    assert_eq!(found(&fixture.open().passage), [1]);
}

#[tokio::test]
async fn a_damaged_tombstone_still_tells_what_was_deleted() {
    let fixture = Fixture::new(true);
    let (store, cid) = (&fixture.store, fixture.record.cid);
    let indexes = fixture.open();
    fixture.put(0..60, 0).await;
    indexes.maintain(fixture.site()).unwrap();
    indexes.settle(fixture.site(), 1, &|| false).unwrap();
    // In the middle, some beside each other, and the last of all.
    fixture.delete(5..9).await;
    fixture.delete(30..31).await;
    fixture.delete(58..60).await;
    LEVELS.iter().for_each(|level| store.damage_tombstones(cid, *level));
    let indexes = fixture.open();
    assert!(indexes.levels().all(|(_, index)| index.unsealed() == 0), "no index is made again for it");
    fixture.check(&indexes);
    fixture.put(60..70, 0).await;
    fixture.check(&indexes);
    fixture.check(&fixture.open());
    // Nor does it keep a damaged index from being made again.
    store.put_manifest(cid, Level::Passage, b"garbage", &[]).unwrap();
    let indexes = fixture.open();
    fixture.check(&indexes);
    assert_eq!(store.tombstones(cid, Level::Passage).unwrap(), []);
    indexes.compact(fixture.site(), &indexes.merge_turn().await, &|| false).unwrap();
    for level in LEVELS {
        assert_eq!(store.tombstones(cid, level).unwrap(), [], "{level:?}");
    }
    fixture.check(&fixture.open());
}

#[tokio::test]
async fn tombstones_of_a_level_without_an_index_go() {
    let fixture = Fixture::new(false);
    let (store, cid) = (&fixture.store, fixture.record.cid);
    fixture.put(0..3, 0).await;
    fixture.delete(0..3).await;
    assert_eq!(store.tombstones(cid, Level::Sentence).unwrap(), []);
    // As older programs wrote them.
    (0..3).for_each(|n| store.put_tombstone(cid, Level::Sentence, n << 9..(n + 1) << 9));
    store.damage_tombstones(cid, Level::Sentence);
    assert_eq!(store.tombstones(cid, Level::Sentence).unwrap().len(), 3);
    fixture.open();
    assert_eq!(store.tombstones(cid, Level::Sentence).unwrap(), []);
}

#[tokio::test]
async fn what_cannot_be_cleared_away_keeps_nothing_from_opening() {
    let fixture = Fixture::new(false);
    let (store, cid) = (&fixture.store, fixture.record.cid);
    let indexes = fixture.open();
    fixture.put(0..60, 0).await;
    indexes.maintain(fixture.site()).unwrap();
    fixture.delete(0..10).await;
    store.put_tombstone(cid, Level::Sentence, 0..512);
    store.write_segment(cid, Level::Passage, 999, b"an orphan").unwrap();
    store.put_manifest(cid, Level::Document, b"garbage", &[]).unwrap();
    let Fixture { _dir: dir, store, record, pool } = fixture;
    drop(indexes);
    drop(store);
    // A disk that is nearly full.
    let options = StoreOptions { cache_bytes: 16 << 20, queue: 64, min_free_bytes: u64::MAX };
    let store = Store::open(dir.path(), options).unwrap();
    let fixture = Fixture { _dir: dir, store, record, pool };
    fixture.check(&fixture.open());
    assert!(fixture.store.segments(cid, Level::Passage).unwrap().contains(&999));

    let Fixture { _dir: dir, store, record, pool } = fixture;
    drop(store);
    let options = StoreOptions { cache_bytes: 16 << 20, queue: 64, min_free_bytes: 0 };
    let store = Store::open(dir.path(), options).unwrap();
    let fixture = Fixture { _dir: dir, store, record, pool };
    fixture.check(&fixture.open());
    assert!(!fixture.store.segments(cid, Level::Passage).unwrap().contains(&999));
    assert_eq!(fixture.store.tombstones(cid, Level::Sentence).unwrap(), []);
}
