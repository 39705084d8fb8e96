//! Compactions, maintenance, joins at rest and writes side by side, with pools of several sizes whatever the machine has.
//! What hangs fails after a while instead of hanging for ever.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::Catalog;
use crate::domain::{CollectionName, Level, Span};
use crate::encoder::Encoders;
use crate::error::Result;
use crate::index::IndexOptions;
use crate::store::{CollectionRecord, NewDocument, NewPassage, Store, StoreOptions};

/// Longer than any of it takes.
const HANGS: Duration = Duration::from_secs(240);
const DIMENSIONS: u32 = 16;
/// Documents of a collection.
const DOCUMENTS: u32 = 200;

/// Runs a test on threads that are left behind if they hang.
fn watched<F: Future<Output = ()> + Send + 'static>(test: F) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(test);
        let _ = done.send(());
    });
    match ended.recv_timeout(HANGS) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}

fn store(dir: &std::path::Path) -> Arc<Store> {
    let options = StoreOptions { cache_bytes: 16 << 20, queue: 64, ..StoreOptions::default() };
    Arc::new(Store::open(dir, options).unwrap())
}

fn collection(store: &Store, name: &str) -> CollectionRecord {
    let record =
        CollectionRecord { name: name.to_owned(), dimensions: DIMENSIONS, ..CollectionRecord::default() };
    store.create_collection(record).unwrap()
}

fn open(dir: &std::path::Path, store: &Arc<Store>, build_threads: usize) -> Arc<Catalog> {
    let options = IndexOptions {
        m: 8,
        ef_construction: 24,
        ef_link: 24,
        head_limit: 60,
        build_threads,
        idle: Duration::from_millis(20),
        ..IndexOptions::default()
    };
    Catalog::open(store.clone(), dir, Encoders::none(), options).unwrap()
}

fn document(id: u32, version: u32) -> NewDocument {
    let vector = |at: u32| -> Vec<f32> {
        let x = |x: u32| (id * 64 + at * 16 + version * 7919 + x).wrapping_mul(2_654_435_761) >> 12;
        (0..DIMENSIONS).map(|at| x(at) as f32 - 524_288.0).collect()
    };
    let passage = |at: u32| NewPassage { span: Span::new(0, 4), vector: vector(at), ..NewPassage::default() };
    NewDocument {
        id: format!("d{id}"),
        text: "text".to_owned(),
        passages: vec![passage(0), passage(1)],
        document_vector: vector(2),
        ..NewDocument::default()
    }
}

/// That every level of a collection finds just the points of the store.
fn check(catalog: &Catalog, record: &CollectionRecord) {
    let indexes = catalog.indexes(record).unwrap();
    for level in [Level::Passage, Level::Document] {
        let query = vec![1.0; DIMENSIONS as usize];
        let found = indexes.of(level).unwrap().search(&query, 100_000, 10, true, None).unwrap();
        let mut found: Vec<u64> = found.iter().map(|candidate| candidate.point).collect();
        found.sort_unstable();
        let stored = catalog.store().vectors_after(record.cid, level, 0);
        assert_eq!(found, stored.map(|item| item.unwrap().0).collect::<Vec<_>>(), "{level:?}");
    }
}

/// Several callers compact each of some collections while these are written to.
async fn compact_from_all_sides(build_threads: usize, collections: usize) {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let records: Vec<_> = (0..collections).map(|n| collection(&store, &format!("c{n}"))).collect();
    let catalog = open(dir.path(), &store, build_threads);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for record in &records {
        for i in 0..DOCUMENTS {
            store.upsert(record.cid, document(i, 0)).await.unwrap();
        }
        let (store, cid, is_over) = (store.clone(), record.cid, is_over.clone());
        writers.push(tokio::spawn(async move {
            let mut version = 0;
            while !is_over.load(Ordering::Relaxed) {
                version += 1;
                for i in (0..20).map(|n| (version * 20 + n) % DOCUMENTS) {
                    store.upsert(cid, document(i, version)).await.unwrap();
                }
                let gone = (0..10).map(|n| format!("d{}", (version * 37 + n) % DOCUMENTS)).collect();
                store.delete_documents(cid, gone).await.unwrap();
                // Time to rest, so that segments are joined too.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }));
    }
    let mut callers = Vec::new();
    for record in &records {
        for _ in 0..6 / collections {
            let (catalog, name) = (catalog.clone(), CollectionName::new(record.name.as_str()).unwrap());
            callers.push(tokio::spawn(async move {
                for _ in 0..2 {
                    compact(&catalog, &name).await.unwrap();
                }
            }));
        }
    }
    for caller in callers {
        caller.await.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    // Maintenance is alive: what is due is done.
    let is_behind = |record: &CollectionRecord| catalog.indexes(record).unwrap().has_work();
    while records.iter().any(is_behind) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    records.iter().for_each(|record| check(&catalog, record));
    drop(catalog);
    let catalog = open(dir.path(), &store, build_threads);
    records.iter().for_each(|record| check(&catalog, record));
}

async fn compact(catalog: &Arc<Catalog>, name: &CollectionName) -> Result<usize> {
    catalog.compact(name).await
}

#[test]
fn compactions_of_one_collection_by_many_callers_all_end() {
    for threads in [1, 2, 4, 8] {
        watched(compact_from_all_sides(threads, 1));
    }
}

#[test]
fn compactions_of_several_collections_by_many_callers_all_end() {
    for threads in [1, 2, 4, 8] {
        watched(compact_from_all_sides(threads, 3));
    }
}

#[test]
fn who_waits_to_compact_needs_no_thread_and_may_leave() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let name = CollectionName::new(collection(&store, "c").name).unwrap();
        let catalog = open(dir.path(), &store, 2);
        let first = catalog.builders.idle_line.wait().await;
        let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(catalog.compact(&name))).collect();
        for compaction in &mut waiting {
            assert!(futures::poll!(compaction.as_mut()).is_pending());
        }
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        drop(waiting.remove(0));
        drop(waiting.remove(2));
        drop(first);
        for compacted in futures::future::join_all(waiting).await {
            compacted.unwrap();
        }
        assert_eq!(
            compact(&catalog, &CollectionName::new("no").unwrap()).await.unwrap_err().reason,
            "UNKNOWN_COLLECTION"
        );
    });
}
