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
