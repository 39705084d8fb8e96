//! What a message may hold and what it may become: bytes that are no message, texts and lists over their bounds, small
//! requests that would take much memory or have large answers.

mod common;

use std::io::Write;

use bytes::Bytes;
use common::raw::{bytes, call};
use common::{
    NOTES, Server, create, data_dir, documents, found, get, ingest, models, query, reason, string,
    text_document, upsert,
};
use futures::StreamExt;
use http_body_util::BodyExt;
use prost::Message;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderMap, Request};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use trove::access::METHODS;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::import_documents_request::Part as ImportPart;
use trove::proto::ingest_documents_request::Part;
use trove::proto::search_service_client::SearchServiceClient;
use trove::proto::{self, DocumentStatus};

const BATCH_SEARCH: &str = "/trove.v1.SearchService/BatchSearch";
const SEARCH: &str = "/trove.v1.SearchService/Search";
const EMBED: &str = "/trove.v1.EmbeddingService/Embed";
const TOKENIZE: &str = "/trove.v1.EmbeddingService/Tokenize";
const DETOKENIZE: &str = "/trove.v1.EmbeddingService/Detokenize";
const CLASSIFY: &str = "/trove.v1.EmbeddingService/Classify";
const UPSERT: &str = "/trove.v1.DocumentService/UpsertDocuments";
const INGEST: &str = "/trove.v1.DocumentService/IngestDocuments";
/// Memory that no call may take, beside `limits.max_request_memory_bytes`: reading texts and what allocators keep.
const BESIDE: u64 = 512 << 20;
/// The default of `limits.max_request_memory_bytes`.
const CALLS: u64 = 256 << 20;

/// Most bytes that a process has had in memory.
fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Many times a field of a message, with this content.
fn fields(number: u32, content: &[u8], count: usize) -> Vec<u8> {
    let mut one = Vec::new();
    prost::encoding::encode_varint(u64::from(number << 3 | 2), &mut one);
    prost::encoding::encode_varint(content.len() as u64, &mut one);
    one.extend_from_slice(content);
    one.repeat(count)
}

fn within(number: u32, content: &[u8]) -> Vec<u8> {
    fields(number, content, 1)
}

/// Sends a request of which nothing must come but a refusal, several times at once.
async fn refused(server: &Server, path: &'static str, message: Vec<u8>, expected: &[&str]) {
    let channel = server.channel().await;
    let calls = (0..6).map(|_| call(&channel, path, message.clone(), &[]));
    for answer in futures::future::join_all(calls).await {
        let status = answer.expect_err(path);
        let reason = reason(&status);
        assert!(expected.contains(&reason.as_str()), "{path}: {status:?}");
        assert!(!status.message().is_empty());
    }
}

/// Each of these took gigabytes once, up to two thousand times the bytes of the request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_requests_take_no_more_memory_than_there_is_for_calls() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    upsert(&channel, vec![text_document("a", "Rain falls on the harbour.")]).await;
    let pid = server.child.id();
    let before = peak_bytes(pid);
    let full = ["REQUEST_MEMORY_FULL", "CALL_TOO_LARGE"];
    let or_full = |reason: &'static str| [reason, full[0], full[1]];

    // Empty messages, which take their structs.
    refused(&server, BATCH_SEARCH, fields(1, &[], 10_000_000), &or_full("TOO_MANY_ITEMS")).await;
    refused(&server, BATCH_SEARCH, fields(1, &[], 200_000), &or_full("BATCH_TOO_LARGE")).await;
    let nodes = |count| within(4, &within(1, &fields(1, &[], count)));
    refused(&server, SEARCH, nodes(5_000_000), &or_full("TOO_MANY_ITEMS")).await;
    refused(&server, SEARCH, nodes(200_000), &["INVALID_COLLECTION_NAME", full[0], full[1]]).await;
    let upserts = |count| [within(1, NOTES.as_bytes()), fields(2, &[], count)].concat();
    refused(&server, UPSERT, upserts(5_000_000), &or_full("TOO_MANY_ITEMS")).await;
    refused(&server, UPSERT, upserts(200_000), &or_full("BATCH_TOO_LARGE")).await;
    let entries = within(2, &fields(7, &[], 5_000_000));
    refused(&server, INGEST, entries, &or_full("TOO_MANY_ITEMS")).await;
    let ids = within(2, &vec![1; 60 << 20]);
    refused(&server, DETOKENIZE, ids, &full).await;
    let ids = within(2, &vec![1; 2 << 20]);
    refused(&server, DETOKENIZE, ids, &or_full("TEXT_TOO_LONG")).await;

    // Answers that are larger than their requests.
    let words = "a ".repeat(1 << 19);
    let embed = proto::EmbedRequest {
        inputs: vec![words.clone(), words.clone()],
        options: Some(proto::EmbedOptions {
            level: proto::EmbeddingLevel::Token.into(),
            representation: proto::Representation::Static.into(),
            ..Default::default()
        }),
    };
    refused(&server, EMBED, bytes(&embed), &or_full("RESPONSE_TOO_LARGE")).await;
    let windows = proto::EmbedRequest {
        options: Some(proto::EmbedOptions {
            level: proto::EmbeddingLevel::Word.into(),
            overflow: proto::Overflow::Window.into(),
            ..Default::default()
        }),
        ..embed
    };
    refused(&server, EMBED, bytes(&windows), &or_full("RESPONSE_TOO_LARGE")).await;
    let tokenize = proto::TokenizeRequest { inputs: vec!["!".repeat(1 << 20); 8], ..Default::default() };
    refused(&server, TOKENIZE, bytes(&tokenize), &or_full("RESPONSE_TOO_LARGE")).await;
    let labels =
        (0..100).map(|n| proto::Label { name: format!("{n:0>60000}"), ..Default::default() }).collect();
    let classify =
        proto::ClassifyRequest { inputs: vec!["rain".to_owned(); 900], labels, ..Default::default() };
    refused(&server, CLASSIFY, bytes(&classify), &or_full("RESPONSE_TOO_LARGE")).await;

    let after = peak_bytes(pid);
    eprintln!("at most {} MiB more than the {} MiB before", (after - before) >> 20, before >> 20);
    assert!(after < before + CALLS + BESIDE, "memory grew from {before} to {after} bytes");
    // Others are served as before.
    assert_eq!(found(&channel, query("rain")).await.len(), 1);
}

/// A batch shares the room of its one answer, and what is within it comes.
#[tokio::test]
async fn a_batch_whose_results_are_too_large_is_refused_before_they_are_made() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start_with(data.path(), &[("TROVE__LIMITS__MAX_MESSAGE_BYTES", "1000000")]).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let metadata: std::collections::HashMap<_, _> = [("long".to_owned(), string(&"x".repeat(16_000)))].into();
    let document = |n: usize| proto::Document {
        metadata: metadata.clone(),
        ..text_document(&format!("d{n}"), &format!("Note {n} tells of rain."))
    };
    upsert(&channel, (0..40).map(document).collect()).await;
    upsert(&channel, (40..80).map(document).collect()).await;
    let search = proto::SearchRequest { limit: 40, ..query("rain") };
    let mut client = SearchServiceClient::new(channel.clone());
    assert_eq!(client.search(search.clone()).await.unwrap().into_inner().hits.len(), 40);
    let batch = |count| proto::BatchSearchRequest { requests: vec![search.clone(); count] };
    let status = client.batch_search(batch(3)).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::OutOfRange, "RESPONSE_TOO_LARGE"),
        "{status:?}"
    );
    assert_eq!(client.batch_search(batch(1)).await.unwrap().into_inner().responses[0].hits.len(), 40);

    // A listing has shorter pages instead.
    for view in [proto::DocumentView::Basic, proto::DocumentView::Full] {
        let (seen, pages) = listed(&channel, view).await;
        let mut all: Vec<_> = (0..80).map(|n| format!("d{n}")).collect();
        all.sort();
        assert_eq!(seen, all);
        assert!((2..10).contains(&pages), "{pages} pages");
    }
}

/// The ids of all documents, asked for in pages that are as large as may be, and how many pages there were.
async fn listed(channel: &Channel, view: proto::DocumentView) -> (Vec<String>, usize) {
    let (mut seen, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let request = proto::ListDocumentsRequest {
            collection: NOTES.to_owned(),
            page_size: 1000,
            page_token,
            view: view.into(),
            ..Default::default()
        };
        let page = documents(channel).list_documents(request).await.unwrap().into_inner();
        seen.extend(page.documents.into_iter().map(|document| document.id));
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return (seen, pages);
        }
    }
}

/// Sends these bytes as the body of a call.
async fn send(channel: &mut Channel, path: &str, body: Vec<u8>) -> Status {
    let mut request = Request::post(format!("http://127.0.0.1{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(http_body_util::Full::new(Bytes::from(body)).map_err(|never| match never {})))
        .unwrap();
    *request.version_mut() = tonic::codegen::http::Version::HTTP_2;
    futures::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let response = channel.call(request).await.unwrap();
    let status = |headers: &HeaderMap| Status::from_header_map(headers);
    if let Some(status) = status(response.headers()) {
        return status;
    }
    let trailers = response.into_body().collect().await.unwrap().trailers().cloned().unwrap_or_default();
    status(&trailers).expect("no status")
}

fn framed(flag: u8, length: u32, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![flag];
    frame.write_all(&length.to_be_bytes()).unwrap();
    frame.extend_from_slice(content);
    frame
}

#[tokio::test]
async fn bytes_that_are_no_message_get_a_reason_in_every_method() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let mut channel = server.channel().await;
    let mut deep = Vec::new();
    for _ in 0..150 {
        deep = within(3, &deep);
    }
    let health = ["/grpc.health.v1.Health/Check"];
    let paths: Vec<&str> = METHODS.iter().map(|method| method.path).chain(health).collect();
    // Reflection is not Trove's own: it ends its stream there.
    let paths: Vec<&str> = paths.into_iter().filter(|path| !path.contains("reflection")).collect();
    assert!(paths.len() > 25);
    for path in paths {
        let cases: [(&str, &[u8]); 6] = [
            ("a length beyond the end", &[0x0a, 0x7f, b'a']),
            ("a wire type that is none", &[0x0f]),
            ("field zero", &[0x02, 0x00]),
            ("a number without an end", &[0x10, 0xff]),
            ("a group that is not closed", &[0xfb, 0x3e]),
            ("a group that was not opened", &[0x0c]),
        ];
        for (what, content) in cases {
            let frame = framed(0, content.len() as u32, content);
            let status = send(&mut channel, path, frame).await;
            let got = (status.code(), reason(&status));
            assert_eq!(
                got,
                (Code::InvalidArgument, "MALFORMED_MESSAGE".to_owned()),
                "{path}: {what}: {status:?}"
            );
        }
        let frames = [
            ("a compression flag that is none", framed(7, 0, &[])),
            ("compressed, but not told how", framed(1, 2, &[1, 2])),
            ("cut off", framed(0, 9, &[1, 2])),
            ("half a header", vec![0, 0]),
        ];
        for (what, frame) in frames {
            let status = send(&mut channel, path, frame).await;
            let got = (status.code(), reason(&status));
            assert_eq!(
                got,
                (Code::InvalidArgument, "MALFORMED_MESSAGE".to_owned()),
                "{path}: {what}: {status:?}"
            );
        }
    }
    let search = |content: &[u8]| framed(0, content.len() as u32, content);
    let long = fields(1, &[b'x'; 3000], 1);
    for (what, content, code, wanted) in [
        ("not UTF-8", within(1, &[0xff, 0xfe]), Code::InvalidArgument, "MALFORMED_MESSAGE"),
        ("a number as a text", vec![0x08, 0x01], Code::InvalidArgument, "MALFORMED_MESSAGE"),
        ("too deep", within(4, &deep), Code::InvalidArgument, "MALFORMED_MESSAGE"),
        ("a long id", within(2, &within(3, &[b'x'; 3000])), Code::InvalidArgument, "TEXT_TOO_LONG"),
        ("a long name", long, Code::InvalidArgument, "INVALID_COLLECTION_NAME"),
    ] {
        let status = send(&mut channel, SEARCH, search(&content)).await;
        assert_eq!((status.code(), reason(&status).as_str()), (code, wanted), "{what}: {status:?}");
        assert!(status.get_error_details().bad_request().is_some(), "{what}: {status:?}");
    }
    let status = send(&mut channel, SEARCH, Vec::new()).await;
    assert_eq!(reason(&status), "MALFORMED_MESSAGE", "no message at all: {status:?}");
    // In the middle of a stream too.
    let start = proto::IngestStart { collection: NOTES.to_owned(), force: false };
    create(&channel, NOTES).await;
    let start = bytes(&proto::IngestDocumentsRequest { part: Some(Part::Start(start)) });
    let stream = [framed(0, start.len() as u32, &start), framed(0, 2, &[0x12, 0x7f])].concat();
    let status = send(&mut channel, INGEST, stream).await;
    let got = (status.code(), reason(&status));
    assert_eq!(got, (Code::InvalidArgument, "MALFORMED_MESSAGE".to_owned()), "{status:?}");
}

fn metadata(pairs: impl IntoIterator<Item = (String, proto::MetadataValue)>) -> proto::Document {
    proto::Document { metadata: pairs.into_iter().collect(), ..text_document("a", "A note.") }
}

fn list_of(count: usize, text: &str) -> proto::MetadataValue {
    let values = vec![text.to_owned(); count];
    let kind = proto::metadata_value::Kind::StringList(proto::StringList { values });
    proto::MetadataValue { kind: Some(kind) }
}

#[tokio::test]
async fn what_describes_documents_and_collections_has_bounds() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let fine = |id: &str| text_document(id, "A note.");
    let long = |bytes: usize| "x".repeat(bytes);
    let table = [
        (proto::Document { title: long(2049), ..fine("a") }, "TEXT_TOO_LONG"),
        (proto::Document { title: long(6 << 20), ..fine("a") }, "TEXT_TOO_LONG"),
        (proto::Document { source_uri: long(4097), ..fine("a") }, "TEXT_TOO_LONG"),
        (proto::Document { mime_type: long(257), ..fine("a") }, "TEXT_TOO_LONG"),
        (metadata([(long(257), string("x"))]), "TEXT_TOO_LONG"),
        (metadata([("k".to_owned(), string(&long(16_385)))]), "TEXT_TOO_LONG"),
        (metadata((0..257).map(|n| (n.to_string(), string("x")))), "METADATA_TOO_LARGE"),
        (metadata([("k".to_owned(), list_of(1025, ""))]), "METADATA_TOO_LARGE"),
        (metadata((0..3).map(|n| (n.to_string(), string(&long(16_000))))), "METADATA_TOO_LARGE"),
        (text_document(&long(513), "A note."), "INVALID_DOCUMENT_ID"),
    ];
    let largest = proto::Document {
        title: long(2048),
        source_uri: long(4096),
        ..metadata((0..16).map(|n| (n.to_string(), string(&long(2000)))))
    };
    let batch: Vec<_> = table.iter().map(|(document, _)| document.clone()).chain([largest.clone()]).collect();
    let by_call = upsert(&channel, batch.clone()).await;
    let (by_stream, end) = ingest(&channel, batch.into_iter().map(Part::Document)).await;
    assert!(end.is_none(), "{end:?}");
    for results in [&by_call, &by_stream] {
        for ((document, expected), result) in table.iter().zip(results) {
            assert_eq!(result.error_reason, *expected, "{}", result.error_message);
            let told = &result.error_message;
            assert!(told.contains("expected") && told.contains("got") && told.len() < 1100, "{told}");
            assert!(result.encoded_len() < 2000, "an id of {} bytes comes back", document.id.len());
        }
        assert_ne!(results[table.len()].status(), DocumentStatus::Failed, "{:?}", results[table.len()]);
    }
    let hits = found(&channel, query("note")).await;
    assert_eq!((hits[0].title.len(), hits[0].source_uri.len(), hits[0].metadata.len()), (2048, 4096, 16));
    assert_eq!(get(&channel, "a").await.unwrap().metadata, largest.metadata);

    let mut collections = CollectionServiceClient::new(channel.clone());
    let collection = |description: usize, model: usize| proto::CreateCollectionRequest {
        collection: Some(proto::Collection {
            name: "other".to_owned(),
            description: long(description),
            model: long(model),
            ..Default::default()
        }),
    };
    for (request, field) in
        [(collection(4097, 0), "collection.description"), (collection(0, 513), "collection.model")]
    {
        let status = collections.create_collection(request).await.unwrap_err();
        let details = status.get_error_details();
        assert_eq!(reason(&status), "TEXT_TOO_LONG", "{status:?}");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
    collections.create_collection(collection(4096, 0)).await.unwrap();
}

const SENTENCE: &str = "Rain falls.";

/// The messages of an import of one document, whose vectors have these lengths.
fn import(model: &str, id: &str, [document, passage, sentence]: [f32; 3], copies: u32) -> Vec<ImportPart> {
    let vector = |length: f32| {
        let mut values = vec![0.0; 384];
        (values[0], values[1]) = (0.6 * length, 0.8 * length);
        proto::DenseVector { values }
    };
    let span = proto::ByteSpan { start: 0, end: SENTENCE.len() as u32 };
    let passage = proto::StoredPassage {
        span: Some(span),
        sentences: vec![span],
        vector: Some(vector(passage)),
        sentence_vectors: vec![vector(sentence)],
        ..Default::default()
    };
    let content_hash = blake3::hash(SENTENCE.as_bytes()).to_hex().to_string();
    vec![
        ImportPart::Start(proto::ImportStart {
            collection: NOTES.to_owned(),
            model: model.to_owned(),
            encode: false,
        }),
        ImportPart::Document(proto::StoredDocument {
            document: Some(proto::Document { id: id.to_owned(), content_hash, ..Default::default() }),
            text_bytes: SENTENCE.len() as u64,
            passage_count: copies,
            vector: Some(vector(document)),
            ..Default::default()
        }),
        ImportPart::Text(SENTENCE.to_owned()),
        ImportPart::Passages(proto::StoredPassages { passages: vec![passage; copies as usize] }),
    ]
}

#[tokio::test]
async fn imported_vectors_have_unit_length_and_passages_do_not_multiply_the_text() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let request = proto::GetCollectionRequest { name: NOTES.to_owned() };
    let got = CollectionServiceClient::new(channel.clone()).get_collection(request).await.unwrap();
    let model = got.into_inner().collection.unwrap().model;
    let many = 7_000;
    for (lengths, copies, expected, told) in [
        ([1.0, 1.5e38, 1.0], 1, "VECTOR_NOT_UNIT", "passages[0].vector"),
        ([1.0, 1.0, 2.0], 1, "VECTOR_NOT_UNIT", "passages[0].sentence_vectors[0]"),
        ([0.5, 1.0, 1.0], 1, "VECTOR_NOT_UNIT", "vector"),
        ([1.0, 0.0, 1.0], 1, "VECTOR_NOT_UNIT", "passages[0].vector"),
        ([1.0, 1.0, 1.0], many, "PASSAGES_TOO_LONG", "passages"),
        ([1.0, 1.001, 0.999], 1, "", ""),
    ] {
        let parts = import(&model, "a", lengths, copies);
        let messages = parts.into_iter().map(|part| proto::ImportDocumentsRequest { part: Some(part) });
        let answers = documents(&channel).import_documents(futures::stream::iter(messages)).await.unwrap();
        let answers: Vec<_> = answers.into_inner().collect().await;
        let result = answers[0].as_ref().unwrap().result.as_ref().unwrap();
        assert_eq!(result.error_reason, expected, "{result:?}");
        assert!(result.error_message.contains(told), "{result:?}");
    }
    let hits =
        found(&channel, proto::SearchRequest { mode: proto::SearchMode::Vector.into(), ..query("rain") })
            .await;
    assert_eq!(hits.len(), 1);
    assert!(hits[0].score.abs() < 1.01);
}
