//! Writes that fail and programs that end in the middle of one, at named points: nothing that was acknowledged is
//! lost, and nothing is half. The points are in the program because tests build it with the feature `failpoints`.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::*;
use tonic::Code;
use tonic::transport::Channel;
use trove::proto;
use trove::proto::admin_service_client::AdminServiceClient;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::search_service_client::SearchServiceClient;

async fn start(data: &Path, points: &str) -> (Server, Channel) {
    let server = Server::start_with(data, &[("FAILPOINTS", points)]).await;
    let channel = server.channel().await;
    (server, channel)
}

async fn stored(channel: &Channel) -> Vec<String> {
    list(channel).await.into_iter().map(|document| document.id).collect()
}

fn note(id: &str) -> proto::Document {
    text_document(id, &format!("The note {id} says what it says."))
}

fn admin(channel: &Channel) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(channel.clone())
}

fn restore_request() -> proto::RestoreSnapshotRequest {
    proto::RestoreSnapshotRequest { name: "one".to_owned(), collections: Vec::new() }
}

fn snapshot_request(name: &str) -> proto::CreateSnapshotRequest {
    proto::CreateSnapshotRequest { name: name.to_owned(), collections: Vec::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_is_refused_and_ends_writing_until_a_restart() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let (server, channel) = start(data.path(), "").await;
    create(&channel, NOTES).await;
    drop(server);
    let cases = [
        ("store-flush=3*off->return(io)", "STORE_IO"),
        ("store-fsync=3*off->return(io)", "STORE_IO"),
        ("store-apply=3*off->return(full)", "DISK_FULL"),
        ("", ""),
    ];
    let mut acknowledged: Vec<String> = Vec::new();
    for (round, (points, expected)) in cases.into_iter().enumerate() {
        let (_server, channel) = start(data.path(), points).await;
        let found = stored(&channel).await;
        assert!(
            acknowledged.iter().all(|id| found.contains(id)),
            "before {points}: {found:?} of {acknowledged:?}"
        );
        assert!(!found.iter().any(|id| id.starts_with("later")), "{found:?}");
        if points.is_empty() {
            break;
        }
        let failed = loop {
            let id = format!("n{round}-{}", acknowledged.len());
            let result = upsert(&channel, vec![note(&id)]).await.remove(0);
            match result.status() {
                proto::DocumentStatus::Indexed => acknowledged.push(id),
                _ => break result,
            }
            assert!(acknowledged.len() < 30, "{points}: nothing fails");
        };
        assert_eq!(failed.error_reason, expected, "{points}: {failed:?}");
        let later = upsert(&channel, vec![note(&format!("later{round}"))]).await.remove(0);
        assert_eq!(later.error_reason, "STORE_READ_ONLY", "{points}");
        // Reads go on.
        assert!(stored(&channel).await.len() >= acknowledged.len());
    }
    assert!(acknowledged.len() > 3);
}

/// A sync that fails once without ending writing, such as for want of a file descriptor.
const ONE_SYNC_FAILS: &str = "store-blobs=1*return(files)->off";
/// The same, of the second: calls on collections make a sync before they read, if what is there may not be on the disk.
const SECOND_SYNC_FAILS: &str = "store-blobs=1*off->1*return(files)->off";
/// What a write gets whose sync failed so.
const NO_FILES: &str = "TOO_MANY_OPEN_FILES";

/// What a server says of a document that it is sent once.
async fn put(channel: &Channel, document: proto::Document) -> (proto::DocumentStatus, String) {
    let result = upsert(channel, vec![document]).await.remove(0);
    (result.status(), result.error_reason)
}

async fn delete_where(channel: &Channel, filter: proto::filter::Node) -> Result<i64, tonic::Status> {
    let filter = Some(proto::Filter { node: Some(filter) });
    let request = proto::DeleteDocumentsRequest { collection: NOTES.to_owned(), filter };
    Ok(documents(channel).delete_documents(request).await?.into_inner().deleted_count)
}

fn ids_node(ids: &[&str]) -> proto::filter::Node {
    let values = ids.iter().map(|id| (*id).to_owned()).collect();
    proto::filter::Node::DocumentIds(proto::StringList { values })
}

fn prefix_node(prefix: &str) -> proto::filter::Node {
    proto::filter::Node::DocumentIdPrefix(prefix.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_was_refused_is_not_acknowledged_because_it_can_be_read() {
    use proto::DocumentStatus::{Failed, Indexed, Unchanged};
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let (server, channel) = start(data.path(), "").await;
    create(&channel, NOTES).await;
    drop(server);

    // The same write again, after one that failed.
    let (server, channel) = start(data.path(), ONE_SYNC_FAILS).await;
    assert_eq!(put(&channel, note("a")).await, (Failed, NO_FILES.to_owned()));
    assert_eq!(stored(&channel).await, ["a"], "it can be read");
    assert_eq!(put(&channel, note("a")).await, (Unchanged, String::new()));
    drop(server);

    // A title alone.
    let titled = || proto::Document { title: "Another".to_owned(), ..note("a") };
    let (server, channel) = start(data.path(), ONE_SYNC_FAILS).await;
    assert_eq!(get(&channel, "a").await.unwrap().id, "a", "what was acknowledged is there");
    assert_eq!(put(&channel, titled()).await, (Failed, NO_FILES.to_owned()));
    assert_eq!(put(&channel, titled()).await, (Unchanged, String::new()));
    drop(server);

    // Another document's write makes it durable too, and a snapshot holds nothing that is not.
    let (server, channel) = start(data.path(), ONE_SYNC_FAILS).await;
    assert_eq!(get(&channel, "a").await.unwrap().title, "Another");
    assert_eq!(put(&channel, note("b")).await.0, Failed);
    assert_eq!(put(&channel, note("c")).await.0, Indexed);
    drop(server);
    let (server, channel) = start(data.path(), ONE_SYNC_FAILS).await;
    assert_eq!(stored(&channel).await, ["a", "b", "c"]);
    assert_eq!(put(&channel, note("d")).await.0, Failed);
    let made = admin(&channel).create_snapshot(snapshot_request("one")).await.unwrap().into_inner();
    assert_eq!(made.snapshot.unwrap().document_count, 4);
    drop(server);

    // Deletions by id and by filter.
    let (server, channel) = start(data.path(), ONE_SYNC_FAILS).await;
    assert_eq!(stored(&channel).await, ["a", "b", "c", "d"]);
    assert_eq!(reason(&delete_where(&channel, ids_node(&["d"])).await.unwrap_err()), NO_FILES);
    assert_eq!(delete_where(&channel, ids_node(&["d"])).await.unwrap(), 0);
    drop(server);
    let (server, channel) = start(data.path(), ONE_SYNC_FAILS).await;
    assert_eq!(stored(&channel).await, ["a", "b", "c"]);
    assert_eq!(reason(&delete_where(&channel, prefix_node("c")).await.unwrap_err()), NO_FILES);
    assert_eq!(delete_where(&channel, prefix_node("c")).await.unwrap(), 0);
    drop(server);
    let (_server, channel) = start(data.path(), "").await;
    assert_eq!(stored(&channel).await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_acknowledge_nothing_because_it_can_be_read() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let run = |server: &Server, args: &[&str]| {
        let output = program(args).args(["--server", &server.url]).output().unwrap();
        (output.status.code(), output.stderr)
    };
    let (server, channel) = start(data.path(), "").await;
    create(&channel, NOTES).await;
    put(&channel, note("a")).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    assert_eq!(run(&server, &["export", NOTES, &path("notes.jsonl")]).0, Some(0));
    delete(&channel, &["a"]).await;
    drop(server);

    // Commands try again by themselves what may pass.
    let one_fails = "store-blobs=1*return(io)->off";
    let import = ["import", NOTES, &path("notes.jsonl")];
    let (server, _) = start(data.path(), one_fails).await;
    assert_eq!(run(&server, &import).0, Some(1));
    assert_eq!(run(&server, &import).0, Some(0));
    drop(server);

    std::fs::create_dir(path("files")).unwrap();
    std::fs::write(path("files/x.txt"), "The file says what it says.").unwrap();
    let index = ["index", &path("files"), "--collection", NOTES];
    let (server, channel) = start(data.path(), one_fails).await;
    assert_eq!(stored(&channel).await, ["a"]);
    assert_eq!(run(&server, &index).0, Some(1));
    assert_eq!(run(&server, &index).0, Some(0));
    drop(server);
    let (_server, channel) = start(data.path(), "").await;
    assert_eq!(stored(&channel).await, ["a", "files/x.txt"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_that_was_refused_is_not_acknowledged_because_it_can_be_read() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let collections = |channel: &Channel| CollectionServiceClient::new(channel.clone());
    let named = || proto::Collection { name: NOTES.to_owned(), ..Default::default() };
    let create = |channel: Channel| async move {
        let request = proto::CreateCollectionRequest { collection: Some(named()) };
        collections(&channel).create_collection(request).await.map(drop)
    };
    let update = |channel: Channel, description: &'static str, etag: String| async move {
        let collection = proto::Collection { description: description.to_owned(), etag, ..named() };
        let request = proto::UpdateCollectionRequest {
            collection: Some(collection),
            update_mask: Some(prost_types::FieldMask { paths: vec!["description".to_owned()] }),
        };
        collections(&channel).update_collection(request).await.map(drop)
    };
    let remove = |channel: Channel| async move {
        let request =
            proto::DeleteCollectionRequest { name: NOTES.to_owned(), force: true, ..Default::default() };
        collections(&channel).delete_collection(request).await.map(drop)
    };
    let read = |channel: Channel| async move {
        let request = proto::GetCollectionRequest { name: NOTES.to_owned() };
        collections(&channel).get_collection(request).await.map(|got| got.into_inner().collection.unwrap())
    };

    // The first start makes the store, with syncs of its own.
    drop(start(data.path(), "").await);
    let (server, channel) = start(data.path(), SECOND_SYNC_FAILS).await;
    assert_eq!(reason(&create(channel.clone()).await.unwrap_err()), NO_FILES);
    assert_eq!(reason(&create(channel.clone()).await.unwrap_err()), "COLLECTION_EXISTS");
    // It is there with all that belongs to it.
    assert_eq!(put(&channel, note("a")).await.0, proto::DocumentStatus::Indexed);
    assert_eq!(found(&channel, query("note")).await.len(), 1);
    drop(server);

    let (server, channel) = start(data.path(), SECOND_SYNC_FAILS).await;
    let etag = read(channel.clone()).await.unwrap().etag;
    assert_eq!(reason(&update(channel.clone(), "new", etag.clone()).await.unwrap_err()), NO_FILES);
    assert_eq!(reason(&update(channel.clone(), "new", etag).await.unwrap_err()), "ETAG_MISMATCH");
    drop(server);

    let (server, channel) = start(data.path(), SECOND_SYNC_FAILS).await;
    assert_eq!(read(channel.clone()).await.unwrap().description, "new");
    assert_eq!(stored(&channel).await, ["a"]);
    assert_eq!(reason(&remove(channel.clone()).await.unwrap_err()), NO_FILES);
    assert_eq!(reason(&remove(channel.clone()).await.unwrap_err()), "UNKNOWN_COLLECTION");
    drop(server);

    let (_server, channel) = start(data.path(), "").await;
    assert_eq!(read(channel.clone()).await.unwrap_err().code(), Code::NotFound);
    create(channel.clone()).await.unwrap();
    assert!(stored(&channel).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_failed_acknowledges_nothing_and_reads_go_on() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let (server, channel) = start(data.path(), "").await;
    create(&channel, NOTES).await;
    drop(server);
    for points in ["store-flush=return(io)", "store-fsync=return(io)"] {
        let (_server, channel) = start(data.path(), points).await;
        assert_eq!(put(&channel, note("a")).await.1, "STORE_IO");
        assert_eq!(put(&channel, note("a")).await.1, "STORE_READ_ONLY");
        let refused = |status: tonic::Status| assert_eq!(reason(&status), "STORE_READ_ONLY", "{points}");
        refused(delete_where(&channel, ids_node(&["none"])).await.unwrap_err());
        refused(delete_where(&channel, prefix_node("none")).await.unwrap_err());
        refused(admin(&channel).create_snapshot(snapshot_request("one")).await.unwrap_err());
        refused(compact(&channel).await.unwrap_err());
        let collection = Some(proto::Collection { name: NOTES.to_owned(), ..Default::default() });
        let request = proto::CreateCollectionRequest { collection };
        refused(CollectionServiceClient::new(channel.clone()).create_collection(request).await.unwrap_err());
        assert_eq!(stored(&channel).await, ["a"]);
        assert_eq!(found(&channel, query("note")).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_while_its_sync_goes_on() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let (server, channel) = start(data.path(), "").await;
    create(&channel, NOTES).await;
    drop(server);
    // What is not flushed is lost with the process.
    for (id, seconds) in [("killed", 60), ("waited", 2)] {
        let (server, channel) = start(data.path(), &format!("store-flush=1*sleep({seconds}000)->off")).await;
        let first = tokio::spawn({
            let channel = channel.clone();
            async move { upsert(&channel, vec![note(id)]).await }
        });
        while get(&channel, id).await.is_err() {
            assert!(!first.is_finished());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Its caller leaves, so that the next write of the document need not wait for its turn.
        first.abort();
        let again = tokio::time::timeout(Duration::from_secs(15), put(&channel, note(id))).await;
        drop(server);
        let (_server, channel) = start(data.path(), "").await;
        let is_there = stored(&channel).await.iter().any(|stored| stored == id);
        match again {
            Ok(answer) => {
                assert_eq!(answer, (proto::DocumentStatus::Unchanged, String::new()));
                assert!(is_there, "{id} was acknowledged and is lost");
            }
            Err(_) => assert_eq!(id, "killed"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_in_the_middle_leaves_the_old_state_or_the_new_one() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let (server, channel) = start(data.path(), "").await;
    create(&channel, NOTES).await;
    upsert(&channel, vec![note("a"), note("b")]).await;
    admin(&channel).create_snapshot(snapshot_request("one")).await.unwrap();
    upsert(&channel, vec![note("c")]).await;
    delete(&channel, &["a"]).await;
    drop(server);
    let (old, new) = (["b", "c"].as_slice(), ["a", "b"].as_slice());
    let cases = [
        ("snapshot-write", old),
        ("snapshot-rename", old),
        ("compact-switch", old),
        ("restore-write", old),
        ("restore-swap", old),
        ("restore-purge", new),
    ];
    let mut expected = old;
    for (point, after) in cases {
        let (mut server, channel) = start(data.path(), &format!("{point}=return(abort)")).await;
        check_state(&channel, data.path(), expected, point).await;
        let status = if point.starts_with("snapshot") {
            admin(&channel).create_snapshot(snapshot_request("two")).await.err()
        } else if point.starts_with("compact") {
            let request = proto::CompactCollectionRequest { name: NOTES.to_owned() };
            CollectionServiceClient::new(channel).compact_collection(request).await.err()
        } else {
            admin(&channel).restore_snapshot(restore_request()).await.err()
        };
        assert!(status.is_some(), "{point}");
        assert!(!server.wait(Duration::from_secs(10)).success(), "{point}");
        expected = after;
    }
    let (_server, channel) = start(data.path(), "").await;
    check_state(&channel, data.path(), expected, "the end").await;
}

/// That just these documents are stored and found, and that nothing unfinished lies about.
async fn check_state(channel: &Channel, data: &Path, expected: &[&str], before: &str) {
    assert_eq!(stored(channel).await, expected, "before {before}");
    let request = proto::SearchRequest { mode: proto::SearchMode::Keyword.into(), ..query("note") };
    let hits = found(channel, request).await;
    let mut hits = ids(&hits);
    hits.sort_unstable();
    assert_eq!(hits, expected, "before {before}");
    let snapshots: Vec<_> = std::fs::read_dir(data.join("snapshots"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(snapshots, ["one.snapshot"], "before {before}");
    assert_eq!(stores(data), 1, "before {before}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_under_a_snapshot_or_a_restore_changes_nothing() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let (server, channel) = start(data.path(), "").await;
    create(&channel, NOTES).await;
    upsert(&channel, vec![note("a"), note("b")]).await;
    admin(&channel).create_snapshot(snapshot_request("one")).await.unwrap();
    upsert(&channel, vec![note("c")]).await;
    drop(server);
    let points = "snapshot-write=1*off->return(full);restore-write=return(full)";
    let (_server, channel) = start(data.path(), points).await;
    let created = admin(&channel).create_snapshot(snapshot_request("two")).await.unwrap_err();
    let restored = admin(&channel).restore_snapshot(restore_request()).await.unwrap_err();
    for status in [created, restored] {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "DISK_FULL"));
    }
    assert_eq!(std::fs::read_dir(data.path().join("snapshots")).unwrap().count(), 1);
    assert_eq!(stored(&channel).await, ["a", "b", "c"]);
    // Writing goes on: it was not the database that failed.
    assert_eq!(upsert(&channel, vec![note("d")]).await[0].status(), proto::DocumentStatus::Indexed);
}

/// Directories of databases: two while one is copied.
fn stores(data: &Path) -> usize {
    let entries = std::fs::read_dir(data.join("store")).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_whose_caller_leaves_ends_before_the_new_database_is_used() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    // A compaction that goes on after the copy would end the server.
    let points = "compact-copy=sleep(2000);compact-switch=return(abort)";
    let (mut server, channel) = start(data.path(), points).await;
    create(&channel, NOTES).await;
    upsert(&channel, vec![note("a"), note("b")]).await;
    let compact = || {
        let mut client = CollectionServiceClient::new(channel.clone());
        let request = proto::CompactCollectionRequest { name: NOTES.to_owned() };
        tokio::spawn(async move { client.compact_collection(request).await })
    };
    let call = compact();
    while stores(data.path()) < 2 {
        assert!(!call.is_finished(), "{:?}", call.await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    call.abort();
    // A write waits for the end of a compaction.
    assert_eq!(upsert(&channel, vec![note("c")]).await[0].status(), proto::DocumentStatus::Indexed);
    assert_eq!(stored(&channel).await, ["a", "b", "c"]);
    assert_eq!(stores(data.path()), 1);
    // One whose caller stays does go on.
    assert!(compact().await.unwrap().is_err());
    assert!(!server.wait(Duration::from_secs(10)).success());
}

async fn compact(channel: &Channel) -> Result<(), tonic::Status> {
    let request = proto::CompactCollectionRequest { name: NOTES.to_owned() };
    CollectionServiceClient::new(channel.clone()).compact_collection(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_that_fails_at_its_switch_loses_no_later_write() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let (server, channel) = start(data.path(), "").await;
    create(&channel, NOTES).await;
    upsert(&channel, vec![note("a")]).await;
    drop(server);

    // Before the new database has its name, the old one goes on.
    let (server, channel) = start(data.path(), "compact-switch=return(io)").await;
    assert_eq!(reason(&compact(&channel).await.unwrap_err()), "STORE_IO");
    assert_eq!(upsert(&channel, vec![note("b")]).await[0].status(), proto::DocumentStatus::Indexed);
    assert_eq!(stores(data.path()), 1);
    drop(server);

    // After that nobody knows which one a power cut leaves, so nothing is acknowledged any more.
    let (server, channel) = start(data.path(), "replace-sync=return(io)").await;
    assert_eq!(reason(&compact(&channel).await.unwrap_err()), "STORE_IO");
    assert_eq!(upsert(&channel, vec![note("c")]).await[0].error_reason, "STORE_READ_ONLY");
    assert_eq!(stored(&channel).await, ["a", "b"]);
    drop(server);

    let (_server, channel) = start(data.path(), "").await;
    assert_eq!(stored(&channel).await, ["a", "b"]);
    assert_eq!(stores(data.path()), 1);
    assert_eq!(upsert(&channel, vec![note("c")]).await[0].status(), proto::DocumentStatus::Indexed);
}

/// A panic of the committing thread, of an index that hears of a commit, of a build and of a write of the keyword index: each
/// is an error of what asked for it, and its thread goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_a_piece_of_work_and_not_its_thread() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let points =
        "commit-write=1*off->1*panic;commit-index=1*off->1*panic;index-build=1*panic;keywords-write=1*panic";
    let settings = [("FAILPOINTS", points), ("TROVE__INDEX__HEAD_LIMIT", "1")];
    let server = Server::start_with(data.path(), &settings).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let put = async |id: &str| {
        let result = upsert(&channel, vec![note(id)]).await.remove(0);
        assert_eq!(result.error_reason.is_empty(), result.status() == proto::DocumentStatus::Indexed);
        result.error_reason
    };
    assert_eq!(put("a").await, "");
    assert_eq!(put("b").await, "COMMIT_FAILED");
    assert_eq!(put("c").await, "INDEX_FAILED");
    assert_eq!(put("b").await, "");
    assert_eq!(stored(&channel).await, ["a", "b", "c"]);
    // The keyword index is opened anew and holds all.
    let began = Instant::now();
    loop {
        let request = proto::SearchRequest { mode: proto::SearchMode::Keyword.into(), ..query("note") };
        let response = SearchServiceClient::new(channel.clone()).search(request).await;
        let hits = response.map(|response| response.into_inner().hits).unwrap_or_default();
        let mut hits = ids(&hits);
        hits.sort_unstable();
        if hits == ["a", "b", "c"] {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "found {hits:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Heads are sealed again: what is deleted then is a dead point of a graph.
    for n in 0.. {
        assert_eq!(put(&format!("t{n}")).await, "");
        tokio::time::sleep(Duration::from_millis(500)).await;
        delete(&channel, &[&format!("t{n}")]).await;
        let request = proto::GetCollectionRequest { name: NOTES.to_owned() };
        let collection = CollectionServiceClient::new(channel.clone()).get_collection(request).await.unwrap();
        if collection.into_inner().collection.unwrap().tombstone_count > 0 {
            break;
        }
        assert!(n < 60, "no head is sealed");
    }
    compact(&channel).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_while_a_segment_is_written() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let settings = [("FAILPOINTS", "segment-write=sleep(60000)"), ("TROVE__INDEX__HEAD_LIMIT", "4")];
    let server = Server::start_with(data.path(), &settings).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    upsert(&channel, (0..8).map(|n| note(&format!("n{n}"))).collect()).await;
    // The thread that builds has this second to come to the segment.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let write = upsert(&channel, vec![note("later")]);
    let results = tokio::time::timeout(Duration::from_secs(20), write).await.expect("the write waits");
    assert_eq!(results[0].status(), proto::DocumentStatus::Indexed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_cannot_be_written_leaves_searches_right() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let settings = [("FAILPOINTS", "segment-write=return(io)"), ("TROVE__INDEX__HEAD_LIMIT", "16")];
    let server = Server::start_with(data.path(), &settings).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let all: Vec<String> = (10..60).map(|n| format!("n{n}")).collect();
    upsert(&channel, all.iter().map(|id| note(id)).collect()).await;
    let check = |channel: Channel, all: Vec<String>| async move {
        let mode = proto::SearchMode::Vector.into();
        let hits =
            found(&channel, proto::SearchRequest { limit: 100, mode, ..query("what a note says") }).await;
        let mut hits: Vec<_> = ids(&hits).into_iter().map(str::to_owned).collect();
        hits.sort_unstable();
        assert_eq!(hits, all);
    };
    check(channel.clone(), all.clone()).await;
    drop(server);
    let server = Server::start_with(data.path(), &settings[1..]).await;
    check(server.channel().await, all).await;
}

#[tokio::test]
async fn a_second_server_on_a_data_directory_says_why_it_does_not_start() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let _server = Server::start(data.path()).await;
    let output = Command::new(env!("CARGO_BIN_EXE_trove"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data.path())
        // Told before any model is looked for.
        .env("TROVE__ENCODER__MODELS", "absent")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("DATA_DIR_LOCKED: the data directory {} is in use", data.path().display());
    assert!(text.contains(&expected), "{text}");
}
