//! More than the server can serve: every limit says so, and what is accepted is right.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::raw::{bearer, bytes, call, open, with};
use common::{
    NOTES, Server, create, data_dir, documents, ingest, ingest_messages, make_key, models, reason,
    text_document,
};
use futures::StreamExt;
use tokio::sync::mpsc::Sender;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;
use trove::proto;
use trove::proto::ImportDocumentsResponse as ImportAnswer;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::embedding_service_client::EmbeddingServiceClient;
use trove::proto::import_documents_request::Part as ImportPart;
use trove::proto::ingest_documents_request::Part;
use trove::proto::ingest_documents_response::Event;

const TOKENIZE: &str = "/trove.v1.EmbeddingService/Tokenize";
const EMBED_STREAM: &str = "/trove.v1.EmbeddingService/EmbedStream";
type Headers<'a> = &'a [(&'static str, &'a str)];
/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(30);

fn tokenize(text: &str) -> Vec<u8> {
    bytes(&proto::TokenizeRequest { inputs: vec![text.to_owned()], ..Default::default() })
}

/// Checks that a refusal says why, whose quota it is and when to come back.
fn check_refusal(status: &Status, why: &str) {
    assert_eq!((status.code(), reason(status).as_str()), (Code::ResourceExhausted, why), "{status:?}");
    let details = status.get_error_details();
    assert!(details.retry_info().is_some_and(|info| info.retry_delay.is_some()), "{status:?}");
    assert!(details.quota_failure().is_some_and(|quota| !quota.violations.is_empty()), "{status:?}");
}

/// Tries until it is refused for this reason.
async fn until_refused(channel: &Channel, message: &[u8], headers: Headers<'_>, why: &str) {
    let started = Instant::now();
    loop {
        match call(channel, TOKENIZE, message.to_vec(), headers).await {
            Err(status) => return check_refusal(&status, why),
            Ok(_) => assert!(started.elapsed() < PATIENCE, "never refused with {why}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Tries until it is served again.
async fn until_served(channel: &Channel, message: &[u8], headers: Headers<'_>) {
    let started = Instant::now();
    while let Err(status) = call(channel, TOKENIZE, message.to_vec(), headers).await {
        assert!(started.elapsed() < PATIENCE, "never served again: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A call that sends its message and does not say that it was the last one, until it is dropped. It tries until it is
/// let in, for another call of the test may be in its place.
fn unfinished(channel: &Channel, message: Vec<u8>, key: Option<&str>) -> tokio::task::JoinHandle<Status> {
    let channel = channel.clone();
    let key = key.map(bearer);
    tokio::spawn(async move {
        let headers: Vec<_> = key.iter().map(|key| ("authorization", key.as_str())).collect();
        loop {
            let messages = tokio_stream::once(message.clone()).chain(futures::stream::pending());
            let status = match open(&channel, TOKENIZE, with(messages, &headers)).await {
                Ok(mut answers) => answers.message().await.expect_err("no answer to half a call"),
                Err(status) => status,
            };
            if status.code() != Code::ResourceExhausted {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}

async fn is_healthy(channel: &Channel) -> bool {
    let answer = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await;
    answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_limit_refuses_with_a_reason_and_serves_again() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let settings = [
        ("TROVE__LIMITS__MAX_CONCURRENT_REQUESTS", "3"),
        ("TROVE__LIMITS__MAX_STREAMS_PER_CLIENT", "1"),
        ("TROVE__LIMITS__MAX_CONNECTIONS_PER_CLIENT", "4"),
        ("TROVE__LIMITS__MAX_MESSAGE_BYTES", "1048576"),
        ("TROVE__LIMITS__MAX_REQUEST_MEMORY_BYTES", "1048576"),
        ("TROVE__LIMITS__MAX_TEXT_BYTES", "1000000"),
        ("TROVE__LIMITS__RECEIVE_TIMEOUT_SECONDS", "3"),
    ];
    let server = Server::start_with(data.path(), &settings).await;
    let channel = server.channel().await;
    let short = tokenize("a short text");
    // One word, so that the answer is small.
    let large = tokenize(&"x".repeat(750_000));

    // One text.
    let status = call(&channel, TOKENIZE, tokenize(&"x".repeat(1_000_001)), &[]).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "TEXT_TOO_LONG"));
    let field = status.get_error_details().bad_request().unwrap().field_violations[0].field.clone();
    assert_eq!(field, "inputs[0]");

    // Memory for messages, of which one client may have half: it is free again when the call ends.
    let held: Vec<_> = (0..2).map(|_| unfinished(&channel, large.clone(), None)).collect();
    until_refused(&channel, &large, &[], "REQUEST_MEMORY_FULL").await;
    call(&channel, TOKENIZE, short.clone(), &[]).await.unwrap();
    held.iter().for_each(tokio::task::JoinHandle::abort);
    until_served(&channel, &large, &[]).await;

    // Calls at once: health goes on, and a call whose client says nothing more is given up.
    let held: Vec<_> = (0..3).map(|_| unfinished(&channel, short.clone(), None)).collect();
    until_refused(&channel, &short, &[], "TOO_MANY_REQUESTS").await;
    assert!(is_healthy(&channel).await);
    for call in held {
        let status = call.await.unwrap();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "REQUEST_INCOMPLETE"));
    }
    until_served(&channel, &short, &[]).await;

    // Streams of one client.
    let quiet = || with(futures::stream::pending(), &[]);
    let (sender, messages) = tokio::sync::mpsc::channel(1);
    let messages = with(tokio_stream::wrappers::ReceiverStream::new(messages), &[]);
    let mut stream = open(&channel, EMBED_STREAM, messages).await.unwrap();
    check_refusal(&open(&channel, EMBED_STREAM, quiet()).await.unwrap_err(), "TOO_MANY_STREAMS");
    drop(sender);
    assert!(stream.message().await.unwrap().is_none());

    // Time: a call that has none left ends, here a stream that nothing else would end.
    let started = Instant::now();
    let status = loop {
        let mut request = quiet();
        request.set_timeout(Duration::from_millis(300));
        let status = match open(&channel, EMBED_STREAM, request).await {
            Ok(mut answers) => answers.message().await.unwrap_err(),
            Err(status) => status,
        };
        if status.code() != Code::ResourceExhausted {
            break status;
        }
        assert!(started.elapsed() < PATIENCE, "the place of a stream is not free again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // The client's own clock may be first.
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");

    // Connections of one client.
    let mut channels = vec![channel];
    let refused = loop {
        let next = server.channel().await;
        match call(&next, TOKENIZE, short.clone(), &[]).await {
            Ok(_) => channels.push(next),
            Err(status) => {
                check_refusal(&status, "TOO_MANY_CONNECTIONS");
                break next;
            }
        }
        assert!(channels.len() <= 4);
    };
    assert!(is_healthy(&refused).await);
    channels.truncate(1);
    let started = Instant::now();
    loop {
        if call(&server.channel().await, TOKENIZE, short.clone(), &[]).await.is_ok() {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "the place of a connection is not free again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_one_key_leave_room_for_those_of_another() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let settings = [
        ("TROVE__LIMITS__MAX_CONCURRENT_REQUESTS", "8"),
        ("TROVE__LIMITS__MAX_CONCURRENT_REQUESTS_PER_KEY", "2"),
    ];
    let server = Server::start_with(data.path(), &settings).await;
    let channel = server.channel().await;
    let busy = make_key(data.path(), "busy", "read", &[]);
    let other = bearer(&make_key(data.path(), "other", "read", &[]));
    let short = tokenize("a short text");
    let held: Vec<_> = (0..2).map(|_| unfinished(&channel, short.clone(), Some(&busy))).collect();
    let busy = bearer(&busy);
    let (busy, other) = ([("authorization", busy.as_str())], [("authorization", other.as_str())]);
    until_refused(&channel, &short, &busy, "TOO_MANY_REQUESTS_OF_KEY").await;
    call(&channel, TOKENIZE, short.clone(), &other).await.unwrap();
    held.iter().for_each(tokio::task::JoinHandle::abort);
    until_served(&channel, &short, &busy).await;
}

/// Resident bytes of a process.
fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

fn embed_request(text: &str) -> proto::EmbedRequest {
    proto::EmbedRequest { inputs: vec![text.to_owned()], options: None }
}

fn vector(response: proto::EmbedResponse) -> Vec<f32> {
    let embedding = response.results.into_iter().next().unwrap().embeddings.into_iter().next().unwrap();
    embedding.vector.unwrap().values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_the_load_is_refused_in_part_and_served_right_in_part() {
    const LIMIT: usize = 16;
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let limit = LIMIT.to_string();
    let server = Server::start_with(data.path(), &[("TROVE__LIMITS__MAX_CONCURRENT_REQUESTS", &limit)]).await;
    let channel = server.channel().await;
    let texts: Vec<String> = (1..=8)
        .map(|n| format!("Text number {n} tells of the sea, of ships and of harbours. ").repeat(n))
        .collect();
    let mut client = EmbeddingServiceClient::new(channel.clone());
    let mut expected = Vec::new();
    for text in &texts {
        expected.push(vector(client.embed(embed_request(text)).await.unwrap().into_inner()));
    }
    let expected = Arc::new(expected);
    let before = resident_bytes(server.child.id());

    let over = Arc::new(AtomicBool::new(false));
    let (accepted, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut callers = Vec::new();
    for number in 0..10 {
        let channel = server.channel().await;
        for offset in 0..LIMIT {
            let mut client = EmbeddingServiceClient::new(channel.clone());
            let (over, expected, texts) = (over.clone(), expected.clone(), texts.clone());
            let (accepted, refused) = (accepted.clone(), refused.clone());
            callers.push(tokio::spawn(async move {
                let which = (number + offset) % texts.len();
                while !over.load(Ordering::Relaxed) {
                    match client.embed(embed_request(&texts[which])).await {
                        Ok(response) => {
                            let got = vector(response.into_inner());
                            let cosine: f32 = got.iter().zip(&expected[which]).map(|(a, b)| a * b).sum();
                            assert!(cosine > 0.999, "an answer that is not right: {cosine}");
                            accepted.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(status) => {
                            check_refusal(&status, "TOO_MANY_REQUESTS");
                            refused.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                }
            }));
        }
    }
    let mut most = before;
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(is_healthy(&channel).await);
        most = most.max(resident_bytes(server.child.id()));
    }
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let (accepted, refused) = (accepted.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    assert!(accepted >= LIMIT && refused > accepted, "{accepted} accepted, {refused} refused");
    assert!(most < before + (256 << 20), "memory grew from {before} to {most} bytes");
    let response = client.embed(embed_request(&texts[0])).await.expect("served at once afterwards");
    assert_eq!(vector(response.into_inner()).len(), expected[0].len());
}

/// A client that opens a call and does not read its answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_gives_its_place_back() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let settings =
        [("TROVE__LIMITS__MAX_CONCURRENT_REQUESTS", "1"), ("TROVE__LIMITS__SEND_TIMEOUT_SECONDS", "1")];
    let server = Server::start_with(data.path(), &settings).await;
    let other = server.channel().await;
    let endpoint = Channel::from_shared(server.url.clone()).unwrap();
    let slow = endpoint.initial_stream_window_size(65_535).connect().await.unwrap();
    // Megabytes of answers, of which the client takes the first 64 KiB. Equal texts of a call are encoded once.
    let request = proto::EmbedRequest { inputs: vec!["Rain falls.".to_owned(); 64], ..Default::default() };
    let batch = bytes(&proto::EmbedStreamRequest { request: Some(request) });
    let batches = || with(tokio_stream::iter(vec![batch.clone(); 30]), &[]);
    let mut answers = open(&slow, EMBED_STREAM, batches()).await.unwrap();
    until_refused(&other, &tokenize("x"), &[], "TOO_MANY_REQUESTS").await;
    until_served(&other, &tokenize("x"), &[]).await;
    // Reading at last, it gets what had been given to it, and then the reason.
    let mut count = 0;
    let status = loop {
        match answers.message().await {
            Ok(answer) => count += usize::from(answer.is_some()),
            Err(status) => break status,
        }
        assert!(count < 30, "all was sent");
    };
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "RESPONSE_NOT_READ"));
    // One that reads gets all of it.
    let mut answers = open(&slow, EMBED_STREAM, batches()).await.unwrap();
    let mut count = 0;
    while answers.message().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 30);
}

/// The text of the documents that are imported.
const SENTENCE: &str = "Rain falls.";

/// A stored document of one sentence, with so many passages announced.
fn stored(id: &str, passages: u32) -> ImportPart {
    let content_hash = blake3::hash(SENTENCE.as_bytes()).to_hex().to_string();
    ImportPart::Document(proto::StoredDocument {
        document: Some(proto::Document { id: id.to_owned(), content_hash, ..Default::default() }),
        text_bytes: SENTENCE.len() as u64,
        passage_count: passages,
        ..Default::default()
    })
}

/// Its only passage, with vectors of sentences that take so many bytes.
fn passage(bytes: usize) -> ImportPart {
    let span = Some(proto::ByteSpan { start: 0, end: SENTENCE.len() as u32 });
    let mut values = vec![0.0; 384];
    values[0] = 1.0;
    let passage = proto::StoredPassage {
        span,
        sentence_vectors: vec![proto::DenseVector { values: values.clone() }; bytes / (384 * 4)],
        vector: Some(proto::DenseVector { values }),
        ..Default::default()
    };
    ImportPart::Passages(proto::StoredPassages { passages: vec![passage] })
}

/// An import that goes on until the sender is dropped.
async fn import(channel: &Channel) -> (Sender<proto::ImportDocumentsRequest>, Streaming<ImportAnswer>) {
    let (sender, messages) = tokio::sync::mpsc::channel(64);
    let start =
        proto::ImportStart { collection: NOTES.to_owned(), model: model(channel).await, encode: false };
    send(&sender, ImportPart::Start(start)).await;
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    (sender, documents(channel).import_documents(messages).await.unwrap().into_inner())
}

async fn model(channel: &Channel) -> String {
    let request = proto::GetCollectionRequest { name: NOTES.to_owned() };
    let response = CollectionServiceClient::new(channel.clone()).get_collection(request).await.unwrap();
    response.into_inner().collection.unwrap().model
}

async fn send(sender: &Sender<proto::ImportDocumentsRequest>, part: ImportPart) {
    sender.send(proto::ImportDocumentsRequest { part: Some(part) }).await.unwrap();
}

/// Id and reason of the next answer.
async fn next_import(answers: &mut Streaming<ImportAnswer>) -> (String, String) {
    let answer = tokio::time::timeout(PATIENCE, answers.message()).await.expect("no answer");
    let result = answer.unwrap().unwrap().result.unwrap();
    (result.document_id, result.error_reason)
}

fn is(answer: (String, String), id: &str, reason: &str) -> bool {
    (answer.0.as_str(), answer.1.as_str()) == (id, reason)
}

/// Documents that come in parts take no more memory than they were given, and give it back when nothing comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_documents_take_no_more_than_their_room_and_give_it_back() {
    const MOST: usize = 1 << 20;
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let most = MOST.to_string();
    let settings = [
        ("TROVE__LIMITS__MAX_DOCUMENT_BYTES", most.as_str()),
        ("TROVE__LIMITS__RECEIVE_TIMEOUT_SECONDS", "2"),
    ];
    let server = Server::start_with(data.path(), &settings).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;

    // More than its passages may take, and more than there is, whatever was announced.
    let (sender, mut answers) = import(&channel).await;
    let text = || ImportPart::Text(SENTENCE.to_owned());
    for part in [stored("large", 1), text(), passage(600_000), stored("many", u32::MAX), text()] {
        send(&sender, part).await;
    }
    assert!(is(next_import(&mut answers).await, "large", "DOCUMENT_TOO_LARGE"));
    for _ in 0..4 {
        send(&sender, passage(600_000)).await;
    }
    assert!(is(next_import(&mut answers).await, "many", "DOCUMENT_TOO_LARGE"));
    for part in [stored("fine", 1), text(), passage(10)] {
        send(&sender, part).await;
    }
    assert!(is(next_import(&mut answers).await, "fine", ""));

    // All the room is taken by files and documents of which nothing more comes.
    send(&sender, stored("half", 1)).await;
    let announced = proto::Document {
        content: Some(proto::document::Content::DataSize(MOST as u64)),
        ..text_document("half", "")
    };
    let mut quiet = Vec::new();
    for _ in 0..2 {
        let parts = [Part::Document(announced.clone()), Part::DataChunk(vec![b'x'; 1000])];
        let messages = tokio_stream::iter(ingest_messages(parts)).chain(tokio_stream::pending());
        quiet.push(documents(&channel).ingest_documents(messages).await.unwrap().into_inner());
    }
    let whole = ingest(&channel, [Part::Document(text_document("whole", "Snow falls."))]);
    let (results, end) = tokio::time::timeout(PATIENCE, whole).await.expect("there is never room again");
    assert!(end.is_none() && results[0].error_reason.is_empty(), "{results:?} {end:?}");
    for mut stream in quiet {
        let answer = tokio::time::timeout(PATIENCE, stream.message()).await.expect("no answer");
        match answer.unwrap().unwrap().event {
            Some(Event::Result(result)) => assert_eq!(result.error_reason, "REQUEST_INCOMPLETE"),
            other => panic!("expected a result, got {other:?}"),
        }
    }
    assert!(is(next_import(&mut answers).await, "half", "REQUEST_INCOMPLETE"));
    // The stream itself goes on, without what still comes of the document.
    for part in [text(), stored("next", 1), text(), passage(10)] {
        send(&sender, part).await;
    }
    assert!(is(next_import(&mut answers).await, "next", ""));
    drop(sender);
    assert!(answers.message().await.unwrap().is_none());
}
