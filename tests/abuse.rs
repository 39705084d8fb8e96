//! What strangers and greedy callers do to a server: its memory stays below the bound that it prints at its start, its
//! log stays short, and honest callers are served beside them.

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::raw::{bytes, call, end_of, header, open_bytes};
use common::{
    NOTES, Server, create, data_dir, documents, ingest, ingest_messages, models, reason, text_document,
};
use futures::{Stream, StreamExt};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use trove::proto;
use trove::proto::ingest_documents_request::Part;
use trove::proto::ingest_documents_response::Event;

const CHECK: &str = "/grpc.health.v1.Health/Check";
const TOKENIZE: &str = "/trove.v1.EmbeddingService/Tokenize";
const INGEST: &str = "/trove.v1.DocumentService/IngestDocuments";
/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;

/// Little memory, so that the bound is close to what is there anyway.
const LITTLE: [(&str, &str); 8] = [
    ("TROVE__LOG__FORMAT", "json"),
    ("TROVE__LIMITS__MAX_MESSAGE_BYTES", "8388608"),
    ("TROVE__LIMITS__MAX_DOCUMENT_BYTES", "8388608"),
    ("TROVE__LIMITS__MAX_REQUEST_MEMORY_BYTES", "33554432"),
    ("TROVE__LIMITS__RECEIVE_TIMEOUT_SECONDS", "3"),
    ("TROVE__EXTRACT__WORKERS", "1"),
    ("TROVE__EXTRACT__MEMORY_BYTES", "1"),
    ("TROVE__STORE__CACHE_BYTES", "16777216"),
];

/// A server whose log is kept.
struct Logged {
    server: Server,
    log: PathBuf,
}

impl Logged {
    async fn start(data: &Path, settings: &[(&str, &str)]) -> Self {
        let log = data.join("log");
        let file = Stdio::from(File::create(&log).unwrap());
        Self { server: Server::start_logging(data, settings, file).await, log }
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The bound that it printed.
    fn bound(&self) -> usize {
        let most = |line: &serde_json::Value| line["fields"]["most_mib"].as_u64();
        self.lines().iter().find_map(most).expect("it prints a bound") as usize * MIB
    }

    /// Forgets what was resident at most so far, as while models were loaded, and returns the bytes that are now.
    fn forget_peak(&self) -> usize {
        std::fs::write(format!("/proc/{}/clear_refs", self.server.child.id()), "5").unwrap();
        self.resident()[0]
    }

    /// Bytes that are resident, now and at most so far.
    fn resident(&self) -> [usize; 2] {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.child.id())).unwrap();
        ["VmRSS:", "VmHWM:"].map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
        })
    }

    /// A connection from an address of this machine: the server takes each for another client.
    async fn channel_from(&self, address: [u8; 4]) -> Channel {
        let endpoint = Channel::from_shared(self.server.url.clone()).unwrap();
        endpoint.local_address(Some(address.into())).connect().await.unwrap()
    }
}

fn tokenize(text: &str) -> Vec<u8> {
    bytes(&proto::TokenizeRequest { inputs: vec![text.to_owned()], ..Default::default() })
}

/// So many calls, each with its own body, and how they end.
fn calls<S>(
    channel: &Channel,
    path: &'static str,
    count: usize,
    body: impl Fn() -> S,
) -> Vec<JoinHandle<Option<Status>>>
where
    S: Stream<Item = Vec<u8>> + Send + 'static,
{
    let open = |body| {
        let channel = channel.clone();
        tokio::spawn(async move {
            let response = open_bytes(&channel, path, body, &[]).await.ok()?;
            Some(end_of(response).await)
        })
    };
    (0..count).map(|_| open(body())).collect()
}

/// How calls ended, by their reasons; those whose connection broke have none.
async fn reasons(calls: Vec<JoinHandle<Option<Status>>>) -> Vec<String> {
    let mut all = Vec::new();
    for call in calls {
        let status = tokio::time::timeout(PATIENCE, call).await.expect("a call goes on for ever").unwrap();
        all.extend(status.map(|status| reason(&status)));
    }
    all
}

/// An endless message of this length, of which all but the last byte comes, after so much time each part.
fn endless(length: usize, part: usize, pause: Duration) -> impl Stream<Item = Vec<u8>> + Send + use<> {
    let parts = futures::stream::repeat(part).take((length - 1) / part).then(move |part| async move {
        tokio::time::sleep(pause).await;
        vec![b'x'; part]
    });
    tokio_stream::once(header(length)).chain(parts).chain(futures::stream::pending())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_has_no_memory_through_health() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    common::make_key(data.path(), "operator", "admin", &[]);
    // The server is asked for its health, since the helper has no key.
    let log = data.path().join("log");
    let server = start_with_keys(data.path(), &log).await;
    let logged = Logged { server, log };
    let stranger = logged.channel_from([127, 0, 0, 2]).await;
    let before = logged.forget_peak();
    // Messages of nearly 4 MiB that never end, and small ones after which another one comes.
    let attack = calls(&stranger, CHECK, 200, || endless(4 * MIB - 100, 16 << 10, Duration::ZERO));
    let small = bytes(&HealthCheckRequest::default());
    let frame = [header(small.len()), small].concat();
    let again = calls(&stranger, CHECK, 20, || {
        futures::stream::repeat(frame.clone()).take(1000).chain(futures::stream::pending())
    });
    // Half a small message, and nothing more.
    let half = calls(&stranger, CHECK, 30, || endless(100, 50, Duration::ZERO));
    let mut answered = 0;
    for _ in 0..20 {
        let honest = logged.channel_from([127, 0, 0, 1]).await;
        answered += usize::from(HealthClient::new(honest).check(HealthCheckRequest::default()).await.is_ok());
    }
    assert_eq!(answered, 20, "an honest caller is told the server's health");
    let known = [
        "MESSAGE_TOO_LARGE",
        "TOO_MANY_CHECKS",
        "TOO_MANY_MESSAGES",
        "REQUEST_INCOMPLETE",
        "DEADLINE_EXCEEDED",
    ];
    for reason in reasons(attack.into_iter().chain(again).chain(half).collect()).await {
        assert!(known.contains(&reason.as_str()), "{reason:?}");
    }
    let [after, most] = logged.resident();
    assert!(most < before + 200 * MIB, "from {before} to {most}, now {after}");
    assert!(most < logged.bound());
}

/// A server with keys, which is there when its health says so.
async fn start_with_keys(data: &Path, log: &Path) -> Server {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_trove"))
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
        .arg(data)
        .env("TROVE__GENERATOR__MODELS", "none")
        .envs(LITTLE)
        .stderr(File::create(log).unwrap())
        .spawn()
        .unwrap();
    let server = Server { child, url: format!("http://127.0.0.1:{port}") };
    let started = std::time::Instant::now();
    loop {
        if let Ok(channel) = Channel::from_shared(server.url.clone()).unwrap().connect().await
            && HealthClient::new(channel).check(HealthCheckRequest::default()).await.is_ok()
        {
            return server;
        }
        assert!(started.elapsed() < PATIENCE, "the server does not answer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn greedy_callers_leave_memory_for_others() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let logged = Logged::start(data.path(), &LITTLE).await;
    let greedy = logged.channel_from([127, 0, 0, 2]).await;
    let honest = logged.channel_from([127, 0, 0, 1]).await;
    create(&honest, NOTES).await;
    let before = logged.forget_peak();
    let served = async |times: usize, message: &[u8]| {
        let mut served = 0;
        for _ in 0..times {
            served += usize::from(call(&honest, TOKENIZE, message.to_vec(), &[]).await.is_ok());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        served
    };
    let honest_call = tokenize(&"Rain falls. ".repeat(100));

    // Five bytes that announce the largest message.
    let announced = calls(&greedy, TOKENIZE, 100, || {
        tokio_stream::once(header(8 * MIB)).chain(futures::stream::pending())
    });
    assert_eq!(served(20, &honest_call).await, 20);
    let [resident, _] = logged.resident();
    assert!(resident < before + 60 * MIB, "what is announced is not there: from {before} to {resident}");
    assert!(reasons(announced).await.iter().all(|reason| reason == "REQUEST_INCOMPLETE"));

    // A byte now and then.
    let trickle = calls(&greedy, TOKENIZE, 100, || endless(8 * MIB, 1, Duration::from_millis(100)));
    assert_eq!(served(20, &honest_call).await, 20);
    assert!(reasons(trickle).await.iter().all(|reason| reason == "REQUEST_INCOMPLETE"));

    // All but the last byte: as many as there is memory for wait for it, the others are refused.
    let nearly = calls(&greedy, TOKENIZE, 40, || endless(MIB, 64 << 10, Duration::ZERO));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(served(20, &honest_call).await, 20);
    let ended = reasons(nearly).await;
    assert!(ended.iter().any(|reason| reason == "REQUEST_INCOMPLETE"), "{ended:?}");
    assert!(ended.iter().any(|reason| reason == "REQUEST_MEMORY_FULL"), "{ended:?}");

    // Documents that are announced, as many as one client may, and of which nothing comes.
    let quiet: Vec<_> = (0..32)
        .map(|_| {
            let content = proto::document::Content::DataSize(8 * MIB as u64);
            let announced = proto::Document { content: Some(content), ..text_document("half", "") };
            let frames = ingest_messages([Part::Document(announced)]).into_iter().map(|message| {
                let message = bytes(&message);
                [header(message.len()), message].concat()
            });
            tokio_stream::iter(frames.collect::<Vec<_>>()).chain(futures::stream::pending())
        })
        .flat_map(|body| {
            let body = std::sync::Mutex::new(Some(body));
            calls(&greedy, INGEST, 1, || body.lock().unwrap().take().unwrap())
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    for number in 0..3 {
        let parts = pieces(&format!("honest-{number}"), MIB / 4);
        let (results, end) =
            tokio::time::timeout(Duration::from_secs(20), ingest(&honest, parts)).await.unwrap();
        assert!(end.is_none() && results[0].error_reason.is_empty(), "{results:?} {end:?}");
    }
    quiet.iter().for_each(JoinHandle::abort);

    let [after, most] = logged.resident();
    eprintln!("resident: {} MiB before, {} after, {} at most", before / MIB, after / MIB, most / MIB);
    assert!(most < logged.bound(), "{before} before, {after} after, {most} at most");
}

/// A document that comes in pieces: a sentence, and blanks up to its size.
fn pieces(id: &str, size: usize) -> Vec<Part> {
    let content = proto::document::Content::DataSize(size as u64);
    let announced = proto::Document {
        content: Some(content),
        mime_type: "text/plain".to_owned(),
        ..text_document(id, "")
    };
    let mut data = format!("The document {id} tells of rain. ").into_bytes();
    data.resize(size, b' ');
    let chunks = data.chunks(MIB / 32).map(|chunk| Part::DataChunk(chunk.to_vec()));
    std::iter::once(Part::Document(announced)).chain(chunks).collect()
}

/// Streams and large messages, all honest, of which more come than there is memory for: they get through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_streams_and_large_messages_all_get_through() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let settings = [
        ("TROVE__LOG__FORMAT", "json"),
        ("TROVE__LIMITS__MAX_MESSAGE_BYTES", "65536"),
        ("TROVE__LIMITS__MAX_DOCUMENT_BYTES", "262144"),
        ("TROVE__LIMITS__MAX_REQUEST_MEMORY_BYTES", "262144"),
        ("TROVE__LIMITS__MAX_STREAM_MEMORY_BYTES", "131072"),
        ("TROVE__LIMITS__RECEIVE_TIMEOUT_SECONDS", "10"),
    ];
    let logged = Logged::start(data.path(), &settings).await;
    create(&logged.channel_from([127, 0, 0, 1]).await, NOTES).await;
    let mut streams = Vec::new();
    for number in 0..6_u8 {
        let channel = logged.channel_from([127, 0, 0, 1 + number % 3]).await;
        streams.push(tokio::spawn(async move {
            let (sender, messages) = tokio::sync::mpsc::channel(1);
            let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
            let sending = tokio::spawn(async move {
                // All announce their first document before any sends a piece of it.
                let all: Vec<_> =
                    (0..2).flat_map(|n| pieces(&format!("pieces-{number}-{n}"), MIB / 4)).collect();
                for (index, message) in ingest_messages(all).into_iter().enumerate() {
                    sender.send(message).await.unwrap();
                    if index == 1 {
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                }
            });
            let mut answers = documents(&channel).ingest_documents(messages).await.unwrap().into_inner();
            let mut reasons = Vec::new();
            while let Some(answer) = answers.message().await.unwrap() {
                let Some(Event::Result(result)) = answer.event else { panic!("expected a result") };
                reasons.push(result.error_reason);
            }
            sending.await.unwrap();
            reasons
        }));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Documents that are messages of nearly the largest size, in streams of their own.
    for number in 0..6_u8 {
        let channel = logged.channel_from([127, 0, 0, 1 + number % 3]).await;
        streams.push(tokio::spawn(async move {
            let text = |n| format!("The document {number}-{n} tells of snow. {}", " ".repeat(MIB / 16 - 300));
            let parts =
                (0..2).map(|n| Part::Document(text_document(&format!("large-{number}-{n}"), &text(n))));
            let (results, end) = ingest(&channel, parts.collect::<Vec<_>>()).await;
            assert!(end.is_none(), "{end:?}");
            results.into_iter().map(|result| result.error_reason).collect()
        }));
    }
    for stream in streams {
        let reasons =
            tokio::time::timeout(PATIENCE, stream).await.expect("honest streams stand still").unwrap();
        assert_eq!(reasons, ["", ""]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_does_not_fill_the_log() {
    const CALLS: usize = 1000;
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let mut logged = Logged::start(data.path(), &LITTLE).await;
    let stranger = logged.channel_from([127, 0, 0, 2]).await;
    let before = std::fs::metadata(&logged.log).unwrap().len();
    let path = format!("/{}/x", "a".repeat(15_000));
    for _ in 0..CALLS {
        let response = open_bytes(&stranger, &path, tokio_stream::empty(), &[]).await.unwrap();
        assert_eq!(end_of(response).await.code(), Code::Unimplemented);
    }
    drop(stranger);
    logged.server.terminate();
    assert!(logged.server.wait(PATIENCE).success());
    let grown = std::fs::metadata(&logged.log).unwrap().len() - before;
    assert!(grown < 150_000, "{CALLS} refused calls wrote {grown} bytes");
    let lines = logged.lines();
    let message =
        |line: &serde_json::Value| line["fields"]["message"].as_str().unwrap_or_default().to_owned();
    let written = lines.iter().filter(|line| message(line) == "call refused").count();
    let left_out: u64 = lines
        .iter()
        .filter(|line| message(line).contains("left out"))
        .filter_map(|line| line["fields"]["lines"].as_u64())
        .sum();
    assert_eq!(written + left_out as usize, CALLS, "what is left out is counted");
}
