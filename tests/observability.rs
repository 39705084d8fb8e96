//! What operators see: metrics and health over HTTP, traces at a collector, logs with request ids.

mod common;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;
use trove::access::{KeyFile, NewKey, Scope};
use trove::metrics::{self, METRICS};
use trove::proto::admin_service_client::AdminServiceClient;
use trove::proto::answer_service_client::AnswerServiceClient;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::embedding_service_client::EmbeddingServiceClient;
use trove::proto::generate_response::Event;
use trove::proto::search_service_client::SearchServiceClient;
use trove::proto::{self, DocumentStatus};

const GENERATOR: &str = "SmolLM2-135M-Instruct";
/// A word that must not be found where only numbers belong.
const SECRET: &str = "quetzalcoatlus";

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

async fn get(address: &str, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

/// The samples and the types of a scrape.
struct Scrape {
    samples: HashMap<String, f64>,
    types: HashMap<String, String>,
}

impl Scrape {
    async fn of(address: &str) -> Scrape {
        let response = get(address, "/metrics").await;
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        assert!(!response.contains(SECRET), "a document's text is in the metrics");
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        let mut scrape = Scrape { samples: HashMap::new(), types: HashMap::new() };
        for line in body.lines().filter(|line| !line.is_empty()) {
            if let Some(of) = line.strip_prefix("# TYPE ") {
                let (name, kind) = of.split_once(' ').unwrap();
                assert_eq!(
                    scrape.types.insert(name.to_owned(), kind.to_owned()),
                    None,
                    "{name} is there twice"
                );
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let known = scrape.samples.insert(series.to_owned(), value.parse().unwrap());
                assert_eq!(known, None, "{series} is there twice");
            }
        }
        scrape
    }

    /// The sum of the series of a name that have all of these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |series: &str| labels.iter().all(|(k, v)| series.contains(&format!("{k}=\"{v}\"")));
        let of_name = |series: &str| series.split('{').next() == Some(name);
        let found: Vec<f64> =
            self.samples.iter().filter(|(s, _)| of_name(s) && has(s)).map(|(_, v)| *v).collect();
        assert!(!found.is_empty(), "no {name} with {labels:?}");
        found.iter().sum()
    }
}

fn embed_request(inputs: &[&str]) -> proto::EmbedRequest {
    proto::EmbedRequest { inputs: inputs.iter().map(|text| (*text).to_owned()).collect(), options: None }
}

/// Generates a few tokens and gives what they cost.
async fn generate(channel: &Channel, request: Request<proto::GenerateRequest>) -> proto::Usage {
    let mut events = AnswerServiceClient::new(channel.clone()).generate(request).await.unwrap().into_inner();
    let mut usage = None;
    while let Some(message) = events.message().await.unwrap() {
        if let Some(Event::Done(done)) = message.event {
            usage = done.usage;
        }
    }
    usage.unwrap()
}

fn generate_request(max_tokens: u32) -> proto::GenerateRequest {
    proto::GenerateRequest {
        messages: vec![proto::Message {
            role: proto::Role::User.into(),
            content: format!("Count to ten. {SECRET}"),
        }],
        sampling: Some(proto::SamplingOptions { max_tokens, ..Default::default() }),
        ..Default::default()
    }
}

fn has_generator(models: &Path) -> bool {
    let there = models.join("models").join(GENERATOR).is_dir();
    assert!(there || std::env::var_os("CI").is_none(), "no {GENERATOR}: run `make test`");
    there
}

#[tokio::test]
async fn metrics_tell_what_was_done() {
    let Some(models) = models() else { return };
    if !has_generator(&models) {
        return;
    }
    let data = data_dir(&models);
    let http = free_address();
    let settings = [
        ("TROVE__METRICS__LISTEN", http.as_str()),
        ("TROVE__GENERATOR__MODELS", GENERATOR),
        ("TROVE__GENERATOR__CONTEXT_TOKENS", "512"),
        ("TROVE__ENCODER__DEVICE", "cpu"),
    ];
    let server = Server::start_with(data.path(), &settings).await;
    assert!(get(&http, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(&http, "/readyz").await.starts_with("HTTP/1.1 200"));
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let before = Scrape::of(&http).await;

    let texts = ["Cats sleep for most of the day.", "An index makes a query fast."];
    let documents: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| text_document(&format!("d{i}"), &format!("{text} {SECRET}")))
        .collect();
    upsert(&channel, documents.clone()).await;
    let mut more = documents;
    more.push(data_document("page", b"<p>A page of markup.</p>", "text/html"));
    more.push(data_document("broken", b"%PDF-1.4 nonsense", "application/pdf"));
    let results = upsert(&channel, more).await;
    assert_eq!(results.iter().filter(|r| r.status() == DocumentStatus::Failed).count(), 1, "{results:?}");
    assert!(!found(&channel, query("pets")).await.is_empty());
    assert_eq!(delete(&channel, &["d1"]).await, 1);
    let ingested = Scrape::of(&http).await;

    let mut embedding = EmbeddingServiceClient::new(channel.clone());
    // The equal one is run once.
    let inputs = ["Rain falls.", "A much longer sentence about the weather of today.", "Rain falls."];
    embedding.embed(embed_request(&inputs)).await.unwrap();
    let unknown = SearchServiceClient::new(channel.clone())
        .search(proto::SearchRequest { collection: "none".to_owned(), ..query("x") })
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let usage = generate(&channel, Request::new(generate_request(8))).await;
    let mut odd = tonic::client::Grpc::new(channel.clone());
    odd.ready().await.unwrap();
    let codec =
        tonic_prost::ProstCodec::<proto::ListCollectionsRequest, proto::ListCollectionsResponse>::new();
    let path = "/made.up.Service/Method".parse().unwrap();
    let refused = odd.unary(Request::new(Default::default()), path, codec).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    let mut admin = AdminServiceClient::new(channel.clone());
    let name = "by-hand".to_owned();
    let create = proto::CreateSnapshotRequest { name: name.clone(), ..Default::default() };
    let made = admin.create_snapshot(create.clone()).await.unwrap().into_inner().snapshot.unwrap();
    assert_eq!(admin.create_snapshot(create).await.unwrap_err().code(), Code::AlreadyExists);
    admin.verify_snapshot(proto::VerifySnapshotRequest { name }).await.unwrap();
    let after = Scrape::of(&http).await;

    let rise = |from: &Scrape, to: &Scrape, name, labels: &[(&str, &str)]| {
        to.sum(name, labels) - if from.types.contains_key(name) { from.sum(name, &[]) } else { 0.0 }
    };
    let of =
        |method: &str, code: &str| after.sum(metrics::GRPC_REQUESTS, &[("method", method), ("code", code)]);
    assert_eq!(of("trove.v1.DocumentService/UpsertDocuments", "OK"), 2.0);
    assert_eq!(of("trove.v1.SearchService/Search", "OK"), 1.0);
    assert_eq!(of("trove.v1.SearchService/Search", "NOT_FOUND"), 1.0);
    assert_eq!(of("trove.v1.AnswerService/Generate", "OK"), 1.0);
    assert_eq!(of("unknown", "UNIMPLEMENTED"), 1.0);
    assert_eq!(after.sum(metrics::GRPC_REQUESTS_IN_FLIGHT, &[]), 0.0);
    let count = "trove_grpc_request_duration_seconds_count";
    assert_eq!(after.sum(count, &[("method", "trove.v1.SearchService/Search")]), 2.0);

    let documents = |result| after.sum(metrics::INGEST_DOCUMENTS, &[("result", result)]);
    assert_eq!((documents("indexed"), documents("unchanged"), documents("failed")), (3.0, 2.0, 1.0));
    assert_eq!(after.sum(metrics::EXTRACTION_FAILURES, &[("reason", "BROKEN_DOCUMENT")]), 1.0);
    let extractions = after.sum("trove_extraction_duration_seconds_count", &[("media_type", "text/html")]);
    assert_eq!(extractions, 1.0);
    assert_eq!(after.sum(metrics::EXTRACTIONS_IN_FLIGHT, &[]), 0.0);
    assert_eq!(after.sum(metrics::STORE_WRITES, &[("operation", "upsert")]), 3.0);
    assert_eq!(after.sum(metrics::STORE_WRITES, &[("operation", "delete")]), 1.0);
    assert_eq!(after.sum("trove_store_commit_writes_sum", &[]), 4.0);
    assert!(after.sum("trove_store_fsync_duration_seconds_count", &[]) >= 2.0);
    assert!(after.sum(metrics::STORE_DISK, &[]) > 0.0 && after.sum(metrics::STORE_WRITABLE, &[]) == 1.0);
    let notes = [("collection", NOTES)];
    assert_eq!(after.sum(metrics::COLLECTION_DOCUMENTS, &notes), 2.0);
    // As of the last search, or of the deletion since, which a thread writes a second later.
    let passages = after.sum(metrics::KEYWORD_PASSAGES, &notes);
    assert!([2.0, 3.0].contains(&passages), "{passages}");
    assert_eq!(after.sum(metrics::INDEX_POINTS, &[("collection", NOTES), ("level", "passage")]), 2.0);
    assert_eq!(after.sum(metrics::INDEX_HEAD_POINTS, &[("collection", NOTES), ("level", "document")]), 2.0);
    assert_eq!(after.sum("trove_search_duration_seconds_count", &[("mode", "hybrid")]), 1.0);

    assert_eq!(rise(&ingested, &after, metrics::ENCODER_SEQUENCES, &[]), 2.0);
    assert_eq!(rise(&ingested, &after, metrics::ENCODER_DEDUPLICATED_SEQUENCES, &[]), 1.0);
    // [CLS] rain falls . [SEP], and the longer one.
    let tokens = rise(&ingested, &after, metrics::ENCODER_TOKENS, &[]);
    assert_eq!(tokens, 5.0 + 12.0);
    assert_eq!(
        after.sum(metrics::ENCODER_INFO, &[("provider", "CPUExecutionProvider"), ("precision", "fp32")]),
        1.0
    );
    let generator = |name| after.sum(name, &[("model", GENERATOR)]);
    assert_eq!(generator(metrics::GENERATOR_DECODE_TOKENS), f64::from(usage.completion_tokens));
    assert_eq!(generator(metrics::GENERATOR_PREFILL_TOKENS), f64::from(usage.prompt_tokens));
    assert_eq!(generator("trove_generator_time_to_first_token_seconds_count"), 1.0);
    assert_eq!(after.sum(metrics::GENERATOR_GENERATIONS, &[("outcome", "length")]), 1.0);
    assert_eq!(generator(metrics::GENERATOR_SLOTS), 4.0);
    assert!(before.sum(metrics::PROCESS_RESIDENT_MEMORY, &[]) > 1e6);

    let known: HashMap<&str, &str> = METRICS.iter().map(|m| (m.name, m.kind.as_str())).collect();
    for (name, kind) in &after.types {
        assert_eq!(known.get(name.as_str()), Some(&kind.as_str()), "{name} is not in the table so");
    }
    let snapshots = |operation, outcome| {
        after.sum(metrics::SNAPSHOT_OPERATIONS, &[("operation", operation), ("outcome", outcome)])
    };
    assert_eq!(
        (snapshots("create", "ok"), snapshots("create", "failed"), snapshots("verify", "ok")),
        (1.0, 1.0, 1.0)
    );
    assert_eq!(after.sum(metrics::SNAPSHOTS, &[("state", "ok")]), 1.0);
    assert_eq!(after.sum(metrics::SNAPSHOT_DISK, &[]), made.size_bytes as f64);
    let made_at = made.create_time.unwrap().seconds as f64;
    assert!((0.0..1.0).contains(&(after.sum(metrics::SNAPSHOT_LAST_TIME, &[]) - made_at)));

    // Nothing is sealed or merged in a collection of this size, or reranked; there is no TLS, and nobody was refused.
    let absent = [
        metrics::SEARCH_RERANK_DURATION,
        metrics::INDEX_BUILD_DURATION,
        metrics::ACCESS_REFUSALS,
        metrics::TLS_HANDSHAKE_FAILURES,
        metrics::TLS_RELOADS,
        metrics::TLS_CERTIFICATE_EXPIRE_TIME,
    ];
    let missing: Vec<&str> =
        known.into_keys().filter(|name| !after.types.contains_key(*name) && !absent.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new());

    let force = proto::DeleteCollectionRequest { name: NOTES.to_owned(), force: true, ..Default::default() };
    CollectionServiceClient::new(channel.clone()).delete_collection(force).await.unwrap();
    let gone = Scrape::of(&http).await;
    assert!(!gone.types.contains_key(metrics::INDEX_POINTS), "a deleted collection has metrics");

    // The program stays until the server has ended its stream: a folder indexed is no call that its caller left.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "A note about rain.").unwrap();
    let index = Command::new(env!("CARGO_BIN_EXE_trove"))
        .args(["--server", &server.url, "index", "--collection", "folder"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(index.status.success(), "{index:?}");
    let indexed = Scrape::of(&http).await;
    let of = |labels: &[(&str, &str)]| indexed.sum(metrics::GRPC_REQUESTS, labels);
    let method = ("method", "trove.v1.DocumentService/IngestDocuments");
    assert_eq!((of(&[method, ("code", "OK")]), of(&[method])), (1.0, 1.0));

    let key = NewKey { name: "a".to_owned(), scope: Scope::Read, collections: Vec::new(), lifetime: None };
    KeyFile::in_dir(data.path()).create(key, 1).unwrap();
    let refused = SearchServiceClient::new(channel).search(query("x")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let closed = Scrape::of(&http).await;
    assert_eq!(closed.sum(metrics::ACCESS_REFUSALS, &[("reason", "API_KEY_MISSING")]), 1.0);
    assert_eq!(closed.sum(metrics::ACCESS_KEYS, &[("state", "valid")]), 1.0);
}

/// A collector that keeps the spans.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            assert!(attributes.iter().any(|a| a.key == "service.name"), "{attributes:?}");
            self.0.lock().unwrap().extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Collector, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let collector = Collector::default();
        let service = TraceServiceServer::new(collector.clone());
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
        tokio::spawn(server);
        (collector, address)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// The collector has to go on while the test waits for the server to end.
#[tokio::test(flavor = "multi_thread")]
async fn traces_reach_a_collector_and_continue_the_callers() {
    let Some(models) = models() else { return };
    if !has_generator(&models) {
        return;
    }
    let (collector, endpoint) = Collector::start().await;
    let data = data_dir(&models);
    let settings = [
        ("TROVE__TRACING__ENDPOINT", endpoint.as_str()),
        ("TROVE__GENERATOR__MODELS", GENERATOR),
        ("TROVE__GENERATOR__CONTEXT_TOKENS", "512"),
        ("TROVE__ENCODER__DEVICE", "cpu"),
    ];
    let mut server = Server::start_with(data.path(), &settings).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;

    let traced = |number: u8| {
        let trace = format!("{:032x}", 0xabc0_u32 + u32::from(number));
        let parent = format!("{:016x}", 0xdef0_u32 + u32::from(number));
        (trace.clone(), parent.clone(), format!("00-{trace}-{parent}-01").parse().unwrap())
    };
    let (upsert_trace, upsert_parent, header) = traced(1);
    let page = data_document("page", b"<p>Cats sleep for most of the day.</p>", "text/html");
    let mut request = Request::new(upsert_request(vec![page]));
    request.metadata_mut().insert("traceparent", header);
    documents(&channel).upsert_documents(request).await.unwrap();
    let (search_trace, search_parent, header) = traced(2);
    let mut request = Request::new(query("sleeping cats"));
    request.metadata_mut().insert("traceparent", header);
    SearchServiceClient::new(channel.clone()).search(request).await.unwrap();
    let (generate_trace, generate_parent, header) = traced(3);
    let mut request = Request::new(generate_request(4));
    request.metadata_mut().insert("traceparent", header);
    let usage = generate(&channel, request).await;
    // What is left is sent when the server stops.
    server.terminate();
    assert!(server.wait(Duration::from_secs(30)).success());

    let spans = collector.0.lock().unwrap().clone();
    let of = |trace: &str, parent: &str, wanted: &[&str]| {
        let own: Vec<&Span> = spans.iter().filter(|span| hex(&span.trace_id) == trace).collect();
        let names: Vec<&str> = own.iter().map(|span| span.name.as_str()).collect();
        let root = own.iter().find(|span| hex(&span.parent_span_id) == parent);
        let root =
            *root.unwrap_or_else(|| panic!("no span of {} continues the caller's: {names:?}", spans.len()));
        for name in wanted {
            assert!(names.contains(name), "{name} is not in {names:?}");
        }
        let ids: HashSet<&[u8]> = own.iter().map(|span| span.span_id.as_slice()).collect();
        for span in own.iter().filter(|span| span.span_id != root.span_id) {
            assert!(ids.contains(span.parent_span_id.as_slice()), "{} has no parent here", span.name);
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        }
        (root.clone(), own.into_iter().cloned().collect::<Vec<Span>>())
    };
    let (root, _) =
        of(&upsert_trace, &upsert_parent, &["extract", "encoder.queue", "encoder.batch", "store.commit"]);
    assert_eq!(root.name, "trove.v1.DocumentService/UpsertDocuments");
    assert_eq!(root.kind, opentelemetry_proto::tonic::trace::v1::span::SpanKind::Server as i32);
    let attributes: HashSet<&str> = root.attributes.iter().map(|a| a.key.as_str()).collect();
    assert!(attributes.contains("rpc.grpc.status_code") && attributes.contains("trove.request_id"));
    let (root, own) = of(
        &search_trace,
        &search_parent,
        &["encoder.queue", "encoder.batch", "search", "index.search", "keywords.search"],
    );
    let search = own.iter().find(|span| span.name == "search").unwrap();
    let index = own.iter().find(|span| span.name == "index.search").unwrap();
    assert_eq!((&search.parent_span_id, &index.parent_span_id), (&root.span_id, &search.span_id));
    let (root, own) =
        of(&generate_trace, &generate_parent, &["generator.queue", "generator.prefill", "generator.decode"]);
    let decode = own.iter().find(|span| span.name == "generator.decode").unwrap();
    assert_eq!(decode.parent_span_id, root.span_id);
    let tokens = decode.attributes.iter().find(|a| a.key == "tokens").unwrap();
    let expected =
        opentelemetry_proto::tonic::common::v1::any_value::Value::IntValue(usage.completion_tokens.into());
    assert_eq!(tokens.value.as_ref().unwrap().value, Some(expected));
    assert!(!format!("{spans:?}").contains(SECRET), "a text is in the traces");
}

/// A caller who leaves while hits are scored again must not keep the encoder busy with the rest of them.
#[tokio::test]
async fn scoring_again_ends_with_its_call() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let http = free_address();
    let server = Server::start_with(data.path(), &[("TROVE__METRICS__LISTEN", http.as_str())]).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let tokens = async || Scrape::of(&http).await.sum(metrics::ENCODER_TOKENS, &[]);
    for some in common::abstracts().chunks(32) {
        upsert(&channel, some.to_vec()).await;
    }
    let all = tokens().await;

    let late = proto::LateInteraction::default();
    let rerank = proto::Rerank { method: Some(proto::rerank::Method::LateInteraction(late)), depth: 200 };
    let asked =
        proto::SearchRequest { limit: 200, rerank: Some(rerank), ..query("cells of mice with a fever") };
    let call = tokio::spawn(async move { found(&channel, asked).await });
    while tokens().await <= all {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled(), "it was answered before it could be left");
    let mut last = tokens().await;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = tokens().await;
        if now == last {
            break;
        }
        last = now;
    }
    assert!(last - all < all / 2.0, "{} tokens were run for nobody, of {all}", last - all);
}

#[tokio::test]
async fn every_line_of_a_call_has_its_request_id_and_errors_carry_it() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let path = data.path().join("log");
    let log = File::create(&path).unwrap();
    let settings = [
        ("TROVE__LOG__FORMAT", "json"),
        ("TROVE__LOG__FILTER", "info,trove=debug"),
        ("TROVE__EXTRACT__WORKER", "/nonexistent/worker"),
    ];
    let server = Server::start_logging(data.path(), &settings, log.into()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;

    let mut request = Request::new(query("x"));
    request.get_mut().collection = "none".to_owned();
    request.metadata_mut().insert("x-request-id", "my-own-1".parse().unwrap());
    let error = SearchServiceClient::new(channel.clone()).search(request).await.unwrap_err();
    assert_eq!(error.get_error_details().request_info().unwrap().request_id, "my-own-1");
    assert_eq!(reason(&error), "UNKNOWN_COLLECTION");
    assert_eq!(error.metadata().get("x-request-id").unwrap(), "my-own-1");

    // A stream tells it in its trailers.
    let answer = proto::AnswerRequest::default();
    let error = AnswerServiceClient::new(channel.clone()).answer(answer).await.unwrap_err();
    let made = error.get_error_details().request_info().unwrap().request_id.clone();
    assert_eq!(made.len(), 16, "{made}");
    let messages = tokio_stream::iter(vec![proto::IngestDocumentsRequest { part: None }]);
    let mut request = Request::new(messages);
    request.metadata_mut().insert("x-request-id", "my-own-2".parse().unwrap());
    let status = match documents(&channel).ingest_documents(request).await {
        Ok(response) => response.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    };
    assert_eq!(status.get_error_details().request_info().unwrap().request_id, "my-own-2");

    let response = documents(&channel)
        .upsert_documents(upsert_request(vec![text_document("a", "Cats sleep.")]))
        .await
        .unwrap();
    assert!(response.metadata().get("x-request-id").is_some());
    // A fault that only one document of a call meets.
    let mut request = Request::new(upsert_request(vec![data_document("b", b"%PDF", "application/pdf")]));
    request.metadata_mut().insert("x-request-id", "my-own-3".parse().unwrap());
    let results = documents(&channel).upsert_documents(request).await.unwrap().into_inner().results;
    assert_eq!(results[0].error_reason, "EXTRACTION_CRASHED");
    drop(server);

    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |id: &str| {
        let has = |line: &&Value| {
            let spans = line["spans"].as_array().into_iter().flatten();
            spans.into_iter().any(|span| span["request_id"] == id)
        };
        lines.iter().filter(has).collect::<Vec<_>>()
    };
    for id in ["my-own-1", "my-own-2", &made] {
        let lines = of(id);
        assert!(lines.iter().any(|line| line["fields"]["message"] == "call refused"), "{id}: {lines:?}");
    }
    let faults = of("my-own-3");
    let fault = faults.iter().find(|line| line["level"] == "ERROR").expect("the fault is logged");
    assert_eq!(fault["fields"]["reason"], "EXTRACTION_CRASHED");
    assert!(fault["fields"]["source"].as_str().unwrap().contains("NotFound"), "with its cause: {fault}");
    let finished = lines.iter().filter(|line| line["fields"]["message"] == "call finished");
    for line in finished {
        assert!(line["spans"][0]["request_id"].is_string(), "{line}");
    }
}
