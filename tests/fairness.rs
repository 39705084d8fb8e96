//! What one caller sends does not keep others waiting: large documents, files that are slow to read, floods of work.

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use common::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use trove::proto::embedding_service_client::EmbeddingServiceClient;
use trove::proto::{self, DocumentResult, DocumentStatus};

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(120);

/// A file that its reader works on for longer than the test: the time grows with the square of the depth.
fn slow_file() -> Vec<u8> {
    format!("{}deep down", "<div>".repeat(400_000)).into_bytes()
}

/// Work on behalf of a key, in the background.
fn upsert_as(channel: &Channel, key: &str, batch: Vec<proto::Document>) -> JoinHandle<Vec<DocumentResult>> {
    let (mut service, mut request) = (documents(channel), Request::new(upsert_request(batch)));
    let bearer = MetadataValue::try_from(format!("Bearer {key}")).unwrap();
    request.metadata_mut().insert("authorization", bearer);
    tokio::spawn(async move { service.upsert_documents(request).await.unwrap().into_inner().results })
}

fn all_indexed(results: &[DocumentResult]) -> bool {
    !results.is_empty() && results.iter().all(|result| result.status() == DocumentStatus::Indexed)
}

/// Two keys that may write, and a collection.
async fn two_writers(server: &Server, data: &Path) -> [String; 2] {
    create(&server.channel().await, NOTES).await;
    ["one", "other"].map(|name| make_key(data, name, "write", &[NOTES]))
}

/// Processes that read a file for a server.
fn workers_of(server: u32) -> Vec<u32> {
    let listed =
        std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap_or_default();
    let threads = std::fs::read_dir(format!("/proc/{server}/task")).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let all: String = children.collect::<Vec<_>>().join(" ") + " " + &listed;
    let mut pids: Vec<u32> = all.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    pids.sort_unstable();
    pids.dedup();
    pids.retain(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.windows(14).any(|part| part == b"extract-worker"))
    });
    pids
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_files_of_one_keep_no_other_waiting_for_more_than_one_of_them() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let settings = [("TROVE__EXTRACT__TIMEOUT_SECONDS", "4"), ("TROVE__EXTRACT__WORKERS", "2")];
    let server = Server::start_with(data.path(), &settings).await;
    let channel = server.channel().await;
    let [one, other] = two_writers(&server, data.path()).await;
    let slow = (0..12).map(|n| data_document(&format!("slow{n}"), &slow_file(), "text/html")).collect();
    let slow = upsert_as(&channel, &one, slow);
    until("both slots are taken", || workers_of(server.child.id()).len() == 2).await;

    // Text and small Markdown need none, for whomever.
    for key in [&one, &other] {
        let batch = vec![
            text_document("text", "A plain note."),
            data_document("text.txt", b"Another plain note.", "text/plain"),
            data_document("text.md", b"# One\n\nA note with a heading.", "text/markdown"),
        ];
        assert!(all_indexed(&upsert_as(&channel, key, batch).await.unwrap()));
        assert_eq!(workers_of(server.child.id()).len(), 2, "the first two files are still read");
        delete_as(&channel, key, &["text", "text.txt", "text.md"]).await;
    }
    // Another's file goes in between, not behind the ten that wait.
    let page = data_document("page", b"<h1>Page</h1><p>A page of another.</p>", "text/html");
    assert!(all_indexed(&upsert_as(&channel, &other, vec![page]).await.unwrap()));
    assert!(!slow.is_finished(), "ten files of the first still wait or are read");
    let waiting = upsert_as(
        &channel,
        &other,
        vec![
            data_document("left", &slow_file(), "text/html"),
            data_document("left2", &slow_file(), "text/html"),
        ],
    );
    // Who leaves the line, or in the middle of a file, holds nothing any more.
    slow.abort();
    waiting.abort();
    until("nobody reads any more", || workers_of(server.child.id()).is_empty()).await;
    let last = data_document("last", b"<p>The last page.</p>", "text/html");
    assert!(all_indexed(&upsert_as(&channel, &one, vec![last]).await.unwrap()));
}

async fn delete_as(channel: &Channel, key: &str, ids: &[&str]) {
    let values = ids.iter().map(|id| (*id).to_owned()).collect();
    let node = proto::filter::Node::DocumentIds(proto::StringList { values });
    let filter = Some(proto::Filter { node: Some(node) });
    let mut request = Request::new(proto::DeleteDocumentsRequest { collection: NOTES.to_owned(), filter });
    let bearer = MetadataValue::try_from(format!("Bearer {key}")).unwrap();
    request.metadata_mut().insert("authorization", bearer);
    documents(channel).delete_documents(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_ends_with_a_server_that_is_killed() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let mut server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let mut service = documents(&channel);
    let request = upsert_request(vec![data_document("slow", &slow_file(), "text/html")]);
    let call = tokio::spawn(async move { service.upsert_documents(request).await.map(drop) });
    until("the file is read", || workers_of(server.child.id()).len() == 1).await;
    let worker = workers_of(server.child.id())[0];
    let processor_time = || {
        let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(11)?.parse::<u64>().ok())
    };
    until("it is in the middle of it", || processor_time().is_some_and(|ticks| ticks > 20)).await;
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    // A process that has ended and is not waited for yet has no memory.
    let is_gone = || {
        let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap_or_default();
        !status.contains("VmSize")
    };
    until("the worker ends", is_gone).await;
    assert!(call.await.unwrap().is_err());
}

/// A number that the server tells of itself.
async fn metric(address: &str, name: &str) -> f64 {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let of = |line: &&str| line.starts_with(name) && !line.starts_with('#');
    let line = response.lines().find(of).unwrap_or_else(|| panic!("no {name} in {response}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_documents_pass_between_the_passages_of_a_large_one() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let metrics = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let server = Server::start_with(data.path(), &[("TROVE__METRICS__LISTEN", &metrics)]).await;
    let channel = server.channel().await;
    let short = proto::ChunkingConfig { max_tokens: 32, overlap_tokens: 0 };
    let notes = proto::Collection { name: NOTES.to_owned(), chunking: Some(short), ..Default::default() };
    create_with(&channel, notes).await;
    let [one, other] = ["one", "other"].map(|name| make_key(data.path(), name, "write", &[NOTES]));
    // More passages than may wait for the encoder at once, no two of them alike.
    let sentence = |n: usize| {
        format!(
            "Ship number {n} carried {} tons of grain and {} barrels of oil to the harbour of the island in year {}. ",
            n * 7,
            n % 89,
            1500 + n % 400
        )
    };
    let large = text_document("large", &(0..2300).map(sentence).collect::<String>());
    let large = upsert_as(&channel, &one, vec![large]);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while metric(&metrics, "trove_encoder_queue_length").await < 50.0 {
        assert!(tokio::time::Instant::now() < deadline, "the large document does not come to the encoder");
    }
    for (n, key) in [&other, &one, &other].into_iter().enumerate() {
        let small = text_document(&format!("small{n}"), &format!("A small note, number {n}."));
        assert!(all_indexed(&upsert_as(&channel, key, vec![small]).await.unwrap()));
        assert!(!large.is_finished(), "small document {n} passes");
    }
    let texts = (0..3).map(|n| format!("A query of number {n}.")).collect();
    let mut request = Request::new(proto::EmbedRequest { inputs: texts, options: None });
    let bearer = MetadataValue::try_from(format!("Bearer {other}")).unwrap();
    request.metadata_mut().insert("authorization", bearer);
    EmbeddingServiceClient::new(channel.clone()).embed(request).await.unwrap();
    assert!(!large.is_finished());
    let results = large.await.unwrap();
    assert!(all_indexed(&results) && results[0].passage_count > 2048, "{results:?}");
}
