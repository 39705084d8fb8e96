//! Bad input gets a status with a stable reason, and stops nothing else.

mod common;

use std::io::{Cursor, Write};

use common::*;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::document_service_client::DocumentServiceClient;
use trove::proto::embedding_service_client::EmbeddingServiceClient;
use trove::proto::search_query::Query;
use trove::proto::search_service_client::SearchServiceClient;
use trove::proto::{self, DocumentStatus, SearchRequest};

const PDF: &str = "application/pdf";
const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
const INVALID: Code = Code::InvalidArgument;

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A PDF of one page with these objects, the content stream being object 4.
fn pdf(resources: &str, content: &[u8], filter: &str, more: &str) -> Vec<u8> {
    let head = format!(
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n\
         2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n\
         3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Resources<<{resources}>>/Contents 4 0 R>>endobj\n\
         {more}4 0 obj<<{filter}/Length {}>>stream\n",
        content.len()
    );
    let mut file = head.into_bytes();
    file.extend_from_slice(content);
    file.extend_from_slice(b"\nendstream endobj\n");
    let table = file.len();
    file.extend_from_slice(b"xref\n0 6\n0000000000 65535 f \n");
    for n in 1..6 {
        let mark = format!("{n} 0 obj");
        let at = file.windows(mark.len()).position(|w| w == mark.as_bytes()).unwrap_or(0);
        file.extend_from_slice(format!("{at:010} 00000 n \n").as_bytes());
    }
    file.extend_from_slice(format!("trailer<</Size 6/Root 1 0 R>>\nstartxref\n{table}\n%%EOF").as_bytes());
    file
}

/// A small file whose page inflates to a gigabyte.
fn pdf_bomb() -> Vec<u8> {
    let mut spaces = ZlibEncoder::new(Vec::new(), Compression::best());
    let block = vec![b' '; 1 << 20];
    (0..1024).for_each(|_| spaces.write_all(&block).unwrap());
    // What comes out is itself very regular.
    pdf("", &deflated(&spaces.finish().unwrap()), "/Filter[/FlateDecode/FlateDecode]", "")
}

/// A form that draws itself.
fn pdf_loop() -> Vec<u8> {
    let form = "5 0 obj<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</F 5 0 R>>>>/Length 5>>\
                stream\n/F Do\nendstream endobj\n";
    pdf("/XObject<</F 5 0 R>>", b"/F Do", "", form)
}

fn case(file: &str) -> Vec<u8> {
    std::fs::read(format!("tests/data/cases/{file}")).unwrap()
}

fn docx(part: &str, xml: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file(part, zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(xml).unwrap();
    writer.finish().unwrap().into_inner()
}

#[tokio::test]
async fn bad_documents_stop_no_others() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let settings = [
        ("TROVE__EXTRACT__MEMORY_BYTES", "2147483648"),
        ("TROVE__EXTRACT__TIMEOUT_SECONDS", "15"),
        ("TROVE__LIMITS__MAX_DOCUMENT_BYTES", "4000000"),
    ];
    let server = Server::start_with(data.path(), &settings).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let whole = std::fs::read("tests/data/project-history.en.pdf").unwrap();
    let encrypted = std::fs::read("tests/data/encrypted.pdf").unwrap();
    let nested = format!("{}deep down{}", "<div>".repeat(2_000), "</div>".repeat(2_000));
    // The parser's time grows with the square of the depth.
    let deep = format!("{}deep down", "<div>".repeat(400_000));
    let zeros = vec![b' '; 130 << 20];
    let nan = proto::MetadataValue { kind: Some(proto::metadata_value::Kind::DoubleValue(f64::NAN)) };
    let with_nan =
        proto::Document { metadata: [("x".to_owned(), nan)].into(), ..text_document("metadata", "text") };
    let nameless = proto::Document { id: "a\nb".to_owned(), ..text_document("x", "text") };
    let table: Vec<(proto::Document, &[&str])> = vec![
        (text_document("empty", ""), &["EMPTY_DOCUMENT"]),
        (text_document("blank", " \n\t "), &["EMPTY_DOCUMENT"]),
        (text_document("rules", "-----\n\n====="), &["EMPTY_DOCUMENT"]),
        (proto::Document { content: None, ..text_document("nothing", "") }, &["EMPTY_DOCUMENT"]),
        (text_document("large", &"x ".repeat(2_000_001)), &["DOCUMENT_TOO_LARGE"]),
        (with_nan, &["NOT_FINITE"]),
        (nameless, &["INVALID_DOCUMENT_ID"]),
        (text_document(&"n".repeat(513), "text"), &["INVALID_DOCUMENT_ID"]),
        (data_document("binary", &[0, 159, 146, 150, 0], "text/plain"), &["NOT_TEXT"]),
        (data_document("unknown", b"abc", "application/x-unknown"), &["UNSUPPORTED_FORMAT"]),
        (data_document("untold", b"abc", ""), &["UNSUPPORTED_FORMAT"]),
        (data_document("nonsense.pdf", b"%PDF-1.4 nonsense", PDF), &["BROKEN_DOCUMENT"]),
        (data_document("cut.pdf", &whole[..whole.len() / 2], PDF), &["BROKEN_DOCUMENT"]),
        (data_document("locked.pdf", &encrypted, PDF), &["ENCRYPTED_DOCUMENT"]),
        (data_document("scan.pdf", &case("P09/scan.pdf"), PDF), &["SCANNED_DOCUMENT"]),
        (data_document("partly.pdf", &case("P19/no-tounicode.pdf"), PDF), &[""]),
        // Which one it is depends on where the parser notices.
        (
            data_document("bomb.pdf", &pdf_bomb(), PDF),
            &["EXTRACTION_CRASHED", "EXTRACTION_TIMEOUT", "BROKEN_DOCUMENT", "EMPTY_DOCUMENT"],
        ),
        (
            data_document("loop.pdf", &pdf_loop(), PDF),
            &["EXTRACTION_CRASHED", "EXTRACTION_TIMEOUT", "BROKEN_DOCUMENT", "EMPTY_DOCUMENT"],
        ),
        (data_document("bomb.docx", &docx("word/document.xml", &zeros), DOCX), &["DOCUMENT_TOO_LARGE"]),
        (data_document("other.docx", &docx("readme.txt", b"hi"), DOCX), &["BROKEN_DOCUMENT"]),
        (data_document("bad.docx", b"PK\x03\x04 and no more", DOCX), &["BROKEN_DOCUMENT"]),
        (data_document("good.pdf", &whole, PDF), &[""]),
        (data_document("owner.pdf", &std::fs::read("tests/data/owner-password.pdf").unwrap(), PDF), &[""]),
        (data_document("latin.txt", b"un caf\xe9 tr\xe8s serr\xe9", "text/plain"), &[""]),
        (data_document("nested.html", nested.as_bytes(), "text/html"), &[""]),
        (
            data_document("deep.html", deep.as_bytes(), "text/html"),
            &["EXTRACTION_TIMEOUT", "EXTRACTION_CRASHED"],
        ),
        (text_document("fine", "A plain note."), &[""]),
    ];
    let batch: Vec<_> = table.iter().map(|(document, _)| document.clone()).collect();
    let results = upsert(&channel, batch.clone()).await;
    for ((document, expected), result) in table.iter().zip(&results) {
        let got = result.error_reason.as_str();
        assert!(expected.contains(&got), "{}: {got} {}", document.id, result.error_message);
        assert_eq!(result.status() == DocumentStatus::Failed, !got.is_empty());
        assert_eq!(result.error_message.is_empty(), got.is_empty());
    }
    let warned: Vec<_> = results.iter().filter(|result| !result.warnings.is_empty()).collect();
    assert_eq!(warned.len(), 1, "{warned:?}");
    let warning = &warned[0].warnings[0];
    assert_eq!((warned[0].document_id.as_str(), warning.page_number), ("partly.pdf", 1));
    assert_eq!(warning.reason, "UNMAPPED_TEXT");
    let good = ["fine", "good.pdf", "latin.txt", "nested.html", "owner.pdf", "partly.pdf"];
    let stored: Vec<_> = list(&channel).await.into_iter().map(|d| d.id).collect();
    assert_eq!(stored, good);
    assert_eq!(text_of(&get(&channel, "nested.html").await.unwrap()), "deep down");
    let by_meaning = SearchRequest { mode: proto::SearchMode::Vector.into(), ..query("when the port shuts") };
    assert_eq!(ids(&found(&channel, by_meaning).await)[0], "owner.pdf");

    // In a stream it is the same.
    let parts = batch.into_iter().map(proto::ingest_documents_request::Part::Document);
    let (in_stream, end) = ingest(&channel, parts).await;
    assert!(end.is_none(), "{end:?}");
    for ((_, expected), result) in table.iter().zip(&in_stream) {
        assert!(expected.contains(&result.error_reason.as_str()), "{result:?}");
        assert!(
            result.status() != DocumentStatus::Indexed,
            "what is stored is not encoded again: {result:?}"
        );
    }
}

#[tokio::test]
async fn bad_requests_get_a_reason_and_name_the_field() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let settings = [("TROVE__LIMITS__MAX_BATCH_SIZE", "3"), ("TROVE__LIMITS__MAX_MESSAGE_BYTES", "300000")];
    let server = Server::start_with(data.path(), &settings).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    upsert(&channel, vec![text_document("a", "A note.")]).await;
    let expect = |status: Status, code: Code, wanted: &str, field: &str| {
        assert_eq!((status.code(), reason(&status).as_str()), (code, wanted), "{status:?}");
        assert!(!status.message().is_empty());
        let details = status.get_error_details();
        let violations = details.bad_request().map(|b| b.field_violations.clone()).unwrap_or_default();
        assert_eq!(violations.first().map_or("", |v| v.field.as_str()), field, "{status:?}");
    };

    let mut search = SearchServiceClient::new(channel.clone());
    let with = |query: Query| SearchRequest {
        query: Some(proto::SearchQuery { query: Some(query) }),
        ..self::query("")
    };
    let vector = |values| with(Query::Vector(proto::DenseVector { values }));
    const KEYWORD: i32 = proto::SearchMode::Keyword as i32;
    use proto::fusion::Method;
    let fused = |method| {
        let fusion = Some(proto::Fusion { method: Some(method), sentence_weight: None });
        SearchRequest { fusion, ..self::query("x") }
    };
    let sentences = |method, weight| {
        let fusion = Some(proto::Fusion { method, sentence_weight: Some(weight) });
        SearchRequest { fusion, ..self::query("x") }
    };
    let mut filter = proto::Filter { node: None };
    for _ in 0..20 {
        filter = proto::Filter { node: Some(proto::filter::Node::Not(Box::new(filter))) };
    }
    let condition = proto::FieldCondition { key: "k".to_owned(), test: None };
    let testless = proto::Filter { node: Some(proto::filter::Node::Field(condition)) };
    for (request, code, wanted, field) in [
        (query(" "), INVALID, "EMPTY_INPUT", "query.text"),
        (query(&"word ".repeat(55_000)), INVALID, "INPUT_TOO_LONG", "query.text"),
        (SearchRequest { query: None, ..query("x") }, INVALID, "EMPTY_QUERY", "query"),
        (vector(vec![1.0; 3]), INVALID, "DIMENSION_MISMATCH", "query.vector"),
        (vector(vec![0.0; 384]), INVALID, "ZERO_VECTOR", "query.vector"),
        (vector(vec![f32::NAN; 384]), INVALID, "NOT_FINITE", "query.vector"),
        (vector(vec![f32::INFINITY; 384]), INVALID, "NOT_FINITE", "query.vector"),
        (SearchRequest { limit: 5000, ..query("x") }, INVALID, "BAD_LIMIT", "limit"),
        (SearchRequest { unit: 77, ..query("x") }, INVALID, "UNKNOWN_ENUM_VALUE", "unit"),
        (SearchRequest { mode: 77, ..query("x") }, INVALID, "UNKNOWN_ENUM_VALUE", "mode"),
        (SearchRequest { mode: KEYWORD, ..vector(vec![1.0; 384]) }, INVALID, "BAD_SEARCH_MODE", "mode"),
        (
            SearchRequest { mode: KEYWORD, unit: proto::SearchUnit::Sentence as i32, ..query("x") },
            INVALID,
            "BAD_SEARCH_MODE",
            "mode",
        ),
        (fused(Method::Alpha(1.5)), INVALID, "BAD_FUSION", "fusion.alpha"),
        (sentences(None, 1.5), INVALID, "BAD_FUSION", "fusion.sentence_weight"),
        (sentences(Some(Method::RrfK(60)), 0.5), INVALID, "BAD_FUSION", "fusion.sentence_weight"),
        (fused(Method::Alpha(f32::NAN)), INVALID, "BAD_FUSION", "fusion.alpha"),
        (fused(Method::RrfK(0)), INVALID, "BAD_FUSION", "fusion.rrf_k"),
        (SearchRequest { mode: KEYWORD, ..fused(Method::RrfK(60)) }, INVALID, "BAD_FUSION", "fusion"),
        (SearchRequest { ef_search: Some(0), ..query("x") }, INVALID, "BAD_EF_SEARCH", "ef_search"),
        (
            SearchRequest { score_threshold: Some(f32::NAN), ..query("x") },
            INVALID,
            "NOT_FINITE",
            "score_threshold",
        ),
        (SearchRequest { filter: Some(filter), ..query("x") }, INVALID, "FILTER_TOO_DEEP", "filter"),
        (
            SearchRequest { filter: Some(testless), ..query("x") },
            INVALID,
            "FILTER_WITHOUT_TEST",
            "filter.field.test",
        ),
        (
            SearchRequest { collection: "No Name".to_owned(), ..query("x") },
            INVALID,
            "INVALID_COLLECTION_NAME",
            "collection",
        ),
        (
            SearchRequest { collection: "none".to_owned(), ..query("x") },
            Code::NotFound,
            "UNKNOWN_COLLECTION",
            "",
        ),
        (with(Query::DocumentId("none".to_owned())), Code::NotFound, "UNKNOWN_DOCUMENT", ""),
    ] {
        expect(search.search(request).await.unwrap_err(), code, wanted, field);
    }
    let missing =
        search.search(SearchRequest { collection: "none".to_owned(), ..query("x") }).await.unwrap_err();
    let resource = missing.get_error_details().resource_info().cloned().unwrap();
    assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), ("collection", "none"));
    let requests = vec![query("x"), SearchRequest { limit: 5000, ..query("x") }];
    let status = search.batch_search(proto::BatchSearchRequest { requests }).await.unwrap_err();
    expect(status, INVALID, "BAD_LIMIT", "requests[1].limit");
    let batch = proto::BatchSearchRequest { requests: vec![query("x"); 4] };
    expect(search.batch_search(batch).await.unwrap_err(), INVALID, "BATCH_TOO_LARGE", "requests");
    let right = self::query("x").query;
    let left = Some(proto::SearchQuery { query: Some(Query::Text(" ".to_owned())) });
    let status =
        search.compare(proto::CompareRequest { left, right, ..Default::default() }).await.unwrap_err();
    expect(status, INVALID, "EMPTY_INPUT", "left.query.text");

    let mut client = documents(&channel);
    let none = proto::UpsertDocumentsRequest { collection: "none".to_owned(), ..upsert_request(vec![]) };
    expect(client.upsert_documents(none).await.unwrap_err(), Code::NotFound, "UNKNOWN_COLLECTION", "");
    let status = client.upsert_documents(upsert_request(vec![])).await.unwrap_err();
    expect(status, INVALID, "EMPTY_REQUEST", "documents");
    let status = client.upsert_documents(upsert_request(vec![text_document("a", "b"); 4])).await.unwrap_err();
    expect(status, INVALID, "BATCH_TOO_LARGE", "documents");
    let status =
        client.upsert_documents(upsert_request(vec![text_document("a", &"x".repeat(400_000))])).await;
    let status = status.unwrap_err();
    assert!(status.message().contains("300000"), "the limit is named: {status:?}");
    expect(status, Code::OutOfRange, "MESSAGE_TOO_LARGE", "");
    let large = proto::ingest_documents_request::Part::Document(text_document("a", &"x".repeat(400_000)));
    let (_, end) = ingest(&channel, [large]).await;
    expect(end.unwrap(), Code::OutOfRange, "MESSAGE_TOO_LARGE", "");
    let delete = proto::DeleteDocumentsRequest { collection: NOTES.to_owned(), filter: None };
    expect(client.delete_documents(delete).await.unwrap_err(), INVALID, "EMPTY_FILTER", "filter");
    let listing = proto::ListDocumentsRequest { collection: NOTES.to_owned(), ..Default::default() };
    let request = proto::ListDocumentsRequest { page_size: -1, ..listing.clone() };
    expect(client.list_documents(request).await.unwrap_err(), INVALID, "BAD_PAGE_SIZE", "page_size");
    let request = proto::ListDocumentsRequest { page_token: "x".to_owned(), ..listing };
    expect(client.list_documents(request).await.unwrap_err(), INVALID, "BAD_PAGE_TOKEN", "page_token");
    expect(get(&channel, "none").await.unwrap_err(), Code::NotFound, "UNKNOWN_DOCUMENT", "");
    let mut ingest = DocumentServiceClient::new(channel.clone());
    let request = proto::IngestDocumentsRequest {
        part: Some(proto::ingest_documents_request::Part::Document(text_document("a", "b"))),
    };
    let status = ingest.ingest_documents(tokio_stream::iter([request])).await.unwrap_err();
    expect(status, INVALID, "NO_START", "part");

    let mut collections = CollectionServiceClient::new(channel.clone());
    let mut create = async |collection| {
        collections.create_collection(proto::CreateCollectionRequest { collection }).await.unwrap_err()
    };
    let named = |name: &str| proto::Collection { name: name.to_owned(), ..Default::default() };
    expect(create(None).await, INVALID, "EMPTY_REQUEST", "collection");
    expect(create(Some(named("A"))).await, INVALID, "INVALID_COLLECTION_NAME", "collection.name");
    expect(create(Some(named(NOTES))).await, Code::AlreadyExists, "COLLECTION_EXISTS", "");
    let other = proto::Collection { model: "none".to_owned(), ..named("other") };
    expect(create(Some(other)).await, Code::NotFound, "UNKNOWN_MODEL", "");
    let other = proto::Collection { model: "all-MiniLM-L6-v2@wrong".to_owned(), ..named("other") };
    expect(create(Some(other)).await, Code::FailedPrecondition, "MODEL_CHANGED", "");
    let other = proto::Collection { dimensions: 3, ..named("other") };
    expect(create(Some(other)).await, INVALID, "DIMENSION_MISMATCH", "collection.dimensions");
    let hnsw = Some(proto::HnswConfig { ef_search: 10_001, ..Default::default() });
    let greedy = proto::Collection { hnsw, ..named(NOTES) };
    expect(create(Some(greedy.clone())).await, INVALID, "BAD_EF_SEARCH", "collection.hnsw.ef_search");
    let mask = Some(prost_types::FieldMask { paths: vec!["hnsw.ef_search".to_owned()] });
    let update = proto::UpdateCollectionRequest { collection: Some(greedy), update_mask: mask };
    let status = collections.update_collection(update).await.unwrap_err();
    expect(status, INVALID, "BAD_EF_SEARCH", "collection.hnsw.ef_search");
    let mask = Some(prost_types::FieldMask { paths: vec!["name".to_owned()] });
    let update = proto::UpdateCollectionRequest { collection: Some(named(NOTES)), update_mask: mask };
    let status = collections.update_collection(update).await.unwrap_err();
    expect(status, INVALID, "BAD_UPDATE_MASK", "update_mask");
    let delete = proto::DeleteCollectionRequest { name: NOTES.to_owned(), ..Default::default() };
    let status = collections.delete_collection(delete).await.unwrap_err();
    expect(status, Code::FailedPrecondition, "COLLECTION_NOT_EMPTY", "");

    let mut embedding = EmbeddingServiceClient::new(channel.clone());
    let long = proto::EmbedRequest { inputs: vec!["word ".repeat(2000)], options: None };
    let status = embedding.embed(long).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (INVALID, "INPUT_TOO_LONG"));
    let none = proto::EmbedRequest::default();
    expect(embedding.embed(none).await.unwrap_err(), INVALID, "EMPTY_REQUEST", "inputs");
    let many = proto::EmbedRequest { inputs: vec!["x".to_owned(); 4], options: None };
    expect(embedding.embed(many).await.unwrap_err(), INVALID, "BATCH_TOO_LARGE", "inputs");
    let options = Some(proto::EmbedOptions { level: 77, ..Default::default() });
    let unknown = proto::EmbedRequest { inputs: vec!["x".to_owned()], options };
    expect(embedding.embed(unknown).await.unwrap_err(), INVALID, "UNKNOWN_ENUM_VALUE", "options.level");
    let large = proto::EmbedRequest { inputs: vec!["x".repeat(400_000)], options: None };
    let batch = proto::EmbedStreamRequest { request: Some(large) };
    let mut stream = embedding.embed_stream(tokio_stream::once(batch)).await.unwrap().into_inner();
    expect(stream.message().await.unwrap_err(), Code::OutOfRange, "MESSAGE_TOO_LARGE", "");
    let label = |name: &str, examples: usize| proto::Label {
        name: name.to_owned(),
        examples: vec!["An example.".to_owned(); examples],
    };
    for (labels, wanted, field) in [
        (vec![label("a", 1)], "TOO_FEW_LABELS", "labels"),
        (vec![label("a", 0), label("b", 0), label("c", 0), label("d", 0)], "BATCH_TOO_LARGE", "labels"),
        (vec![label("a", 3), label("b", 0)], "BATCH_TOO_LARGE", "labels"),
        (vec![label("a", 1), label("a", 0)], "DUPLICATE_LABEL", "labels[1].name"),
    ] {
        let request = proto::ClassifyRequest { inputs: vec!["x".to_owned()], labels, ..Default::default() };
        expect(embedding.classify(request).await.unwrap_err(), INVALID, wanted, field);
    }
    let options = Some(proto::EmbedOptions { model: "none".to_owned(), ..Default::default() });
    let unknown = proto::EmbedRequest { inputs: vec!["x".to_owned()], options };
    let status = embedding.embed(unknown).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "UNKNOWN_MODEL"));

    assert_eq!(ids(&found(&channel, query("note")).await), ["a"], "the server goes on");
}

#[test]
fn the_extraction_worker_keeps_no_inherited_file() {
    let mut child = std::process::Command::new("sh")
        .args([
            "-c",
            "exec 7</dev/null; exec \"$0\" extract-worker text/html 10",
            env!("CARGO_BIN_EXE_trove"),
        ])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let fds = format!("/proc/{}/fd", child.id());
    let limits = format!("/proc/{}/limits", child.id());
    // It waits for its standard input; before that it shuts itself in.
    let mut open = Vec::new();
    for _ in 0..500 {
        std::thread::sleep(std::time::Duration::from_millis(10));
        open =
            std::fs::read_dir(&fds).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        if open.len() == 3 {
            break;
        }
    }
    open.sort_unstable();
    assert_eq!(open, ["0", "1", "2"]);
    let limited = |name: &str| {
        let limits = std::fs::read_to_string(&limits).unwrap();
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        !line.contains("unlimited")
    };
    for name in ["Max address space", "Max cpu time", "Max file size", "Max open files", "Max core file size"]
    {
        assert!(
            (0..100).any(|_| limited(name) || {
                std::thread::sleep(std::time::Duration::from_millis(10));
                false
            }),
            "{name}"
        );
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
