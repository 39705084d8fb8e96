use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::format::{self, Header, Reader, Writer};
use super::*;
use crate::domain::Span;
use crate::store::records::{Inserted, NewDocument};
use crate::store::tests::{SmallDisk, collection, damage, listed, open};
use crate::store::{Store, StoreOptions, keys};

const NEVER: Cancelled<'static> = &|| false;

fn name(name: &str) -> SnapshotName {
    SnapshotName::new(name).unwrap()
}

fn document(id: &str, text: &str, passages: usize) -> NewDocument {
    let mut document = crate::store::tests::document(id, text, passages);
    document.passages.iter_mut().for_each(|p| p.sentences = vec![Span::new(0, 1); 2]);
    document
}

/// All that a collection holds: documents by id, with their contents, without their numbers.
fn holds(store: &Store, collection: &str) -> Vec<(NewDocument, i64, i64)> {
    let cid = store.get_collection(collection).unwrap().cid;
    let records = listed(store, cid, None);
    let whole = |id: &str| store.whole_document(cid, id).unwrap().unwrap();
    let all: Vec<_> =
        records.iter().map(|r| (whole(&r.id).document, r.create_time_ns, r.update_time_ns)).collect();
    let passages = all.iter().map(|(document, ..)| document.passages.len() as u64).sum();
    assert_eq!(store.counts(cid).unwrap(), (all.len() as u64, passages));
    assert_eq!(store.document_numbers(cid).unwrap().len(), all.len() as u64);
    all
}

fn restore(store: &Store, snapshot: &str) -> Result<()> {
    store.prepare_restore(&name(snapshot), &[], NEVER)?.commit().map(drop)
}

async fn filled(dir: &Path) -> Store {
    let store = open(dir);
    let (a, b) = (collection(&store, "a"), collection(&store, "b"));
    for n in 0..20 {
        store.upsert(a, document(&format!("d{n:02}"), &format!("text {n}"), n % 4)).await.unwrap();
    }
    store.upsert(b, document("long", &"aé€😀".repeat(30_000), 2)).await.unwrap();
    store
}

#[tokio::test]
async fn a_snapshot_gives_everything_back_here_and_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let before = (holds(&store, "a"), holds(&store, "b"));
    let info = store.create_snapshot(&name("one"), &[], false, NEVER).unwrap();
    assert_eq!((info.documents, info.passages, info.left_out), (21, 32, 0));
    assert_eq!(store.snapshots().unwrap(), std::slice::from_ref(&info));
    assert_eq!(store.verify_snapshot(&name("one"), NEVER).unwrap(), info);
    let again = store.create_snapshot(&name("one"), &[], false, NEVER).unwrap_err();
    assert_eq!(again.reason, "SNAPSHOT_EXISTS");

    let a = store.get_collection("a").unwrap();
    store.delete_documents(a.cid, vec!["d01".to_owned(), "d02".to_owned()]).await.unwrap();
    store.upsert(a.cid, document("d03", "changed", 1)).await.unwrap();
    store.delete_collection("b", None, true).unwrap();
    let other = collection(&store, "other");
    store.upsert(other, document("x", "stays", 1)).await.unwrap();
    restore(&store, "one").unwrap();
    assert_eq!((holds(&store, "a"), holds(&store, "b")), before);
    assert_eq!(holds(&store, "other").len(), 1);
    let restored = store.get_collection("a").unwrap();
    assert!(restored.cid != a.cid && restored.etag != a.etag);
    assert_eq!(store.upsert(a.cid, document("x", "t", 0)).await.unwrap_err().reason, "UNKNOWN_COLLECTION");
    for kind in keys::OWNED {
        assert_eq!(store.live().prefix(&keys::owned(kind, a.cid)).count(), 0, "nothing of the old one stays");
    }
    drop(store);
    assert_eq!(holds(&open(dir.path()), "b"), before.1);

    let elsewhere = tempfile::tempdir().unwrap();
    let store = open(elsewhere.path());
    std::fs::copy(
        dir.path().join("snapshots/one.snapshot"),
        elsewhere.path().join("snapshots/copy.snapshot"),
    )
    .unwrap();
    store.prepare_restore(&name("copy"), &["b".to_owned()], NEVER).unwrap().commit().unwrap();
    assert_eq!(store.get_collection("a").unwrap_err().reason, "UNKNOWN_COLLECTION");
    assert_eq!(holds(&store, "b"), before.1);
    let unknown = store.prepare_restore(&name("copy"), &["c".to_owned()], NEVER).err().unwrap();
    assert_eq!(unknown.reason, "UNKNOWN_COLLECTION");
    store.delete_snapshot(&name("copy")).unwrap();
    assert_eq!(store.delete_snapshot(&name("copy")).unwrap_err().reason, "UNKNOWN_SNAPSHOT");
}

/// A snapshot that is stopped after so many documents, for what `meanwhile` does.
async fn with_writes_meanwhile<F: Future<Output = ()>>(
    store: &Arc<Store>,
    snapshot: &str,
    after: usize,
    meanwhile: impl FnOnce() -> F,
) {
    let (reached, go_on) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let task = tokio::task::spawn_blocking({
        let (store, reached, go_on) = (store.clone(), reached.clone(), go_on.clone());
        let (snapshot, runtime) = (name(snapshot), tokio::runtime::Handle::current());
        move || {
            let calls = AtomicUsize::new(0);
            let pause = || {
                if calls.fetch_add(1, Ordering::Relaxed) == after {
                    reached.notify_one();
                    runtime.block_on(go_on.notified());
                }
                false
            };
            store.create_snapshot(&snapshot, &["a".to_owned()], false, &pause).map(drop)
        }
    });
    reached.notified().await;
    meanwhile().await;
    go_on.notify_one();
    task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_of_one_moment_while_writes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(filled(dir.path()).await);
    let cid = store.get_collection("a").unwrap().cid;
    let before = holds(&store, "a");
    with_writes_meanwhile(&store, "one", 3, || async {
        for n in (0..20).rev() {
            let id = format!("d{n:02}");
            match n % 4 {
                0 => drop(store.delete_documents(cid, vec![id]).await.unwrap()),
                1 => drop(store.upsert(cid, document(&id, "another text", 2)).await.unwrap()),
                2 => {
                    let doc_no = store.document(cid, &id).unwrap().unwrap().doc_no;
                    let update = crate::store::DocumentUpdate { id, doc_no, ..Default::default() };
                    assert!(store.update_document(cid, update).await.unwrap().is_some());
                }
                _ => drop(store.upsert(cid, document(&format!("new{n}"), "new", 1)).await.unwrap()),
            }
        }
        store.compact(&|| false).unwrap();
    })
    .await;
    assert_ne!(holds(&store, "a"), before);
    store.wait_for_versions(cid);
    restore(&store, "one").unwrap();
    assert_eq!(holds(&store, "a"), before);

    // A collection that is deleted meanwhile is in the snapshot, and gone afterwards.
    let cid = store.get_collection("a").unwrap().cid;
    with_writes_meanwhile(&store, "two", 3, || async {
        store.delete_collection("a", None, true).unwrap();
        assert_ne!(store.live().prefix(&keys::texts(cid, 19)).count(), 0);
    })
    .await;
    assert_eq!(store.get_collection("a").unwrap_err().reason, "UNKNOWN_COLLECTION");
    store.wait_for_reaper(cid);
    restore(&store, "two").unwrap();
    assert_eq!(holds(&store, "a"), before);
}

#[tokio::test]
async fn a_damaged_document_is_left_out_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let cid = store.get_collection("a").unwrap().cid;
    damage(&store, &keys::text(cid, 4, 0));
    damage(&store, &keys::document(cid, "d05"));
    damage(&store, &keys::number(cid, 6));
    let info = store.create_snapshot(&name("one"), &["a".to_owned()], false, NEVER).unwrap();
    // The number is not needed.
    assert_eq!((info.documents, info.left_out), (18, 2));
    restore(&store, "one").unwrap();
    assert_eq!(holds(&store, "a").len(), 18);
    // One collection that is damaged does not keep the others from being in it.
    damage(&store, &keys::collection("b"));
    for (snapshot, named) in [("two", vec![]), ("three", vec!["b".to_owned(), "a".to_owned()])] {
        let info = store.create_snapshot(&name(snapshot), &named, false, NEVER).unwrap();
        let (there, damaged) = (vec!["a".to_owned()], vec!["b".to_owned()]);
        assert_eq!((&info.collections, &info.damaged_collections), (&there, &damaged));
        assert_eq!(store.verify_snapshot(&name(snapshot), NEVER).unwrap(), info);
    }
    let error = store.create_snapshot(&name("four"), &["b".to_owned()], false, NEVER).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DataLoss);
}

#[tokio::test]
async fn a_restore_that_fails_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let cid = store.get_collection("a").unwrap().cid;
    store.create_snapshot(&name("one"), &["a".to_owned()], false, NEVER).unwrap();
    store.upsert(cid, document("new", "text", 1)).await.unwrap();
    let rows = |store: &Store| store.live().prefix(b"").map(|row| row.unwrap()).collect::<Vec<_>>();
    let before = rows(&store);
    let file = dir.path().join("snapshots/one.snapshot");
    let good = std::fs::read(&file).unwrap();
    let step = good.len() / 150 + 1;
    for at in (0..good.len()).step_by(step).chain([8, 11, good.len() - 40, good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        std::fs::write(&file, &bad).unwrap();
        let error = restore(&store, "one").unwrap_err();
        assert!(["SNAPSHOT_DAMAGED", "SNAPSHOT_TOO_NEW"].contains(&error.reason), "at {at}: {error}");
        std::fs::write(&file, &good[..at]).unwrap();
        assert_eq!(restore(&store, "one").unwrap_err().reason, "SNAPSHOT_DAMAGED", "cut at {at}");
    }
    std::fs::write(&file, [good.as_slice(), b"x"].concat()).unwrap();
    assert_eq!(restore(&store, "one").unwrap_err().reason, "SNAPSHOT_DAMAGED");
    assert_eq!(rows(&store), before);

    // The caller leaves after some documents have been written.
    std::fs::write(&file, &good).unwrap();
    let calls = AtomicUsize::new(0);
    let leaves = || calls.fetch_add(1, Ordering::Relaxed) > 30;
    let error = store.prepare_restore(&name("one"), &[], &leaves).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Cancelled);
    // All is written, but nothing is named: as a crash leaves it.
    std::mem::forget(store.prepare_restore(&name("one"), &[], NEVER).unwrap());
    assert!(rows(&store).len() > before.len());
    let documents = holds(&store, "a");
    drop(store);
    let store = open(dir.path());
    assert_eq!(holds(&store, "a"), documents);
    let all_but_next = |rows: Vec<(Vec<u8>, Vec<u8>)>| -> Vec<_> {
        rows.into_iter().filter(|(key, _)| key != keys::NEXT_CID && key != keys::SYNCS).collect()
    };
    assert_eq!(all_but_next(rows(&store)), all_but_next(before), "the next open deletes what nobody knows");
}

#[tokio::test]
async fn a_full_disk_leaves_no_part_of_a_snapshot() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let store = open(disk.0.path());
    let cid = collection(&store, "a");
    for n in 0..8u32 {
        let text: String = (0..400_000u32)
            .map(|i| char::from(b'a' + ((i + n).wrapping_mul(2_654_435_761) >> 24) as u8 % 26))
            .collect();
        store.upsert(cid, document(&format!("d{n}"), &text, 1)).await.unwrap();
    }
    let free = rustix::fs::statvfs(disk.0.path()).unwrap();
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; (free.f_bavail * free.f_frsize) as usize - (256 << 10)]).unwrap();
    let error = store.create_snapshot(&name("one"), &[], false, NEVER).unwrap_err();
    assert_eq!((error.kind, error.reason), (ErrorKind::ResourceExhausted, "DISK_FULL"), "{error}");
    assert_eq!(std::fs::read_dir(disk.0.path().join("snapshots")).unwrap().count(), 0);
    std::fs::remove_file(ballast).unwrap();
    store.delete_documents(cid, vec!["d0".to_owned()]).await.unwrap();
    assert_eq!(holds(&store, "a").len(), 7);
}

#[tokio::test]
async fn too_little_room_refuses_snapshots_and_restores() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    store.create_snapshot(&name("one"), &[], false, NEVER).unwrap();
    drop(store);
    let options = StoreOptions { cache_bytes: 16 << 20, queue: 16, min_free_bytes: u64::MAX };
    let store = Store::open(dir.path(), options).unwrap();
    let error = store.create_snapshot(&name("two"), &[], false, NEVER).unwrap_err();
    assert_eq!(error.reason, "DISK_FULL");
    assert_eq!(restore(&store, "one").unwrap_err().reason, "DISK_FULL");
    assert_eq!(holds(&store, "a").len(), 20);
}

#[tokio::test]
async fn snapshots_are_numbered_in_the_order_of_their_making() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    for (snapshot, is_scheduled) in
        [("z1", true), ("by-hand", false), ("y2", true), ("x3", true), ("w4", true)]
    {
        store.create_snapshot(&name(snapshot), &["a".to_owned()], is_scheduled, NEVER).unwrap();
    }
    std::fs::write(dir.path().join("snapshots/broken.snapshot"), b"TROVESNP").unwrap();
    std::fs::write(dir.path().join("snapshots/half.snapshot.tmp"), b"TROVESNP").unwrap();
    std::fs::write(dir.path().join("snapshots/note.txt"), b"of somebody").unwrap();
    drop(store);
    let store = open(dir.path());
    store.delete_snapshot(&name("z1")).unwrap();
    assert_eq!(store.delete_snapshot(&name("z1")).unwrap_err().reason, "UNKNOWN_SNAPSHOT");
    store.create_snapshot(&name("v5"), &["a".to_owned()], true, NEVER).unwrap();
    let left: Vec<_> =
        store.snapshots().unwrap().into_iter().map(|s| (s.name, s.number, s.is_scheduled)).collect();
    let expected =
        [("v5", 6, true), ("w4", 5, true), ("x3", 4, true), ("y2", 3, true), ("by-hand", 2, false)];
    let expected: Vec<_> = expected.map(|(of, number, scheduled)| (name(of), number, scheduled)).into();
    assert_eq!((&left[..5], &left[5].0), (&expected[..], &name("broken")));
    assert!(!dir.path().join("snapshots/half.snapshot.tmp").exists());
    assert!(dir.path().join("snapshots/note.txt").exists());
}

fn sample() -> Vec<u8> {
    let record = crate::store::CollectionRecord { name: "a".to_owned(), dimensions: 3, ..Default::default() };
    let header = Header { collections: vec![record], ..Header::default() };
    let mut writer = Writer::new(Vec::new(), &header).unwrap();
    for n in 0..3u64 {
        let document = document(&format!("d{n}"), "text", n as usize);
        let record = crate::store::DocumentRecord {
            id: document.id.clone(),
            title: String::new(),
            source_uri: String::new(),
            media_type: String::new(),
            content_hash: [3; 32],
            metadata: document.metadata.clone(),
            create_time_ns: 1,
            update_time_ns: 2,
            doc_no: 0,
            first_passage: 0,
            passage_count: n as u32,
            text_bytes: 4,
            token_count: 2,
            file_title: Some(String::new()),
            file_metadata: document.file_metadata.clone(),
            processing: document.processing,
        };
        writer.document(0, &Inserted { record, document }).unwrap();
    }
    writer.finish().unwrap().1
}

fn read(bytes: &[u8]) -> Result<u64> {
    let mut reader = Reader::new(bytes)?;
    let mut documents = 0;
    while reader.document()?.is_some() {
        documents += 1;
    }
    assert_eq!(reader.end().unwrap().documents, documents);
    Ok(documents)
}

proptest! {
    #[test]
    fn no_flipped_bit_and_no_cut_goes_unseen(
        at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>(),
    ) {
        let good = sample();
        prop_assert_eq!(read(&good).unwrap(), 3);
        let mut bad = good.clone();
        bad[at.index(good.len())] ^= 1 << bit;
        prop_assert!(read(&bad).is_err());
        prop_assert!(read(&good[..cut.index(good.len())]).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400), payload in prop::collection::vec(any::<u8>(), 1..300),
    ) {
        let begin = [b"TROVESNP".as_slice(), &1u32.to_le_bytes()].concat();
        prop_assert!(read(&bytes).is_err());
        prop_assert!(read(&[begin.clone(), bytes].concat()).is_err());
        // With checksums that match, so that what is inside is looked at.
        let mut sum = crc32fast::Hasher::new();
        sum.update(&0u64.to_le_bytes());
        sum.update(&payload);
        let chunk = [
            begin.as_slice(), &(payload.len() as u32).to_le_bytes(), &sum.finalize().to_le_bytes(), &payload,
        ].concat();
        let _ = read(&chunk);
    }
}

#[test]
fn what_the_header_claims_is_checked() {
    // A newer version, and a document that belongs to no collection.
    let mut newer = sample();
    newer[8] = format::VERSION as u8 + 1;
    assert_eq!(read(&newer).unwrap_err().reason, "SNAPSHOT_TOO_NEW");
    let mut writer = Writer::new(Vec::new(), &Header::default()).unwrap();
    let good = sample();
    let mut reader = Reader::new(good.as_slice()).unwrap();
    writer.document(0, &reader.document().unwrap().unwrap().1).unwrap();
    assert!(read(&writer.finish().unwrap().1).unwrap_err().message.contains("no collection"));
}
