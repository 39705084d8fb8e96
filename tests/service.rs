//! The service as its users meet it: the real program, the real model, real gRPC.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::document_service_client::DocumentServiceClient;
use trove::proto::embedding_service_client::EmbeddingServiceClient;
use trove::proto::search_service_client::SearchServiceClient;
use trove::proto::{self, DocumentStatus, SearchUnit};

/// Runtime and models; `make test` fetches them.
fn models() -> Option<PathBuf> {
    let dir = std::env::var_os("TROVE_DATA_DIR").map_or_else(|| PathBuf::from(".trove"), PathBuf::from);
    if dir.join("models").is_dir() {
        return Some(std::fs::canonicalize(dir).unwrap());
    }
    assert!(std::env::var_os("CI").is_none(), "no models in {}: run `make test`", dir.display());
    eprintln!("skipped: no models in {}; `make test` fetches them", dir.display());
    None
}

struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts the program on a data directory and waits until it answers.
    async fn start(data: &Path) -> Server {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_trove"))
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(data)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut server = Server { child, url: format!("http://127.0.0.1:{port}") };
        for _ in 0..1200 {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server stopped at its start: {status}");
            }
            if let Ok(channel) = Channel::from_shared(server.url.clone()).unwrap().connect().await {
                let request = proto::ListCollectionsRequest::default();
                if CollectionServiceClient::new(channel).list_collections(request).await.is_ok() {
                    return server;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server did not answer within a minute");
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(self.url.clone()).unwrap().connect().await.unwrap()
    }
}

/// A fresh data directory that borrows the fetched runtime and models.
fn data_dir(models: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for part in ["runtime", "models"] {
        std::os::unix::fs::symlink(models.join(part), dir.path().join(part)).unwrap();
    }
    dir
}

async fn create(channel: &Channel, name: &str) {
    let collection = proto::Collection { name: name.to_owned(), ..Default::default() };
    let request = proto::CreateCollectionRequest { collection: Some(collection) };
    CollectionServiceClient::new(channel.clone()).create_collection(request).await.unwrap();
}

fn text_document(id: &str, text: &str) -> proto::Document {
    proto::Document {
        id: id.to_owned(),
        content: Some(proto::document::Content::Text(text.to_owned())),
        metadata: [("kind".to_owned(), string(&id[..1]))].into(),
        ..Default::default()
    }
}

fn string(value: &str) -> proto::MetadataValue {
    proto::MetadataValue { kind: Some(proto::metadata_value::Kind::StringValue(value.to_owned())) }
}

async fn upsert(channel: &Channel, documents: Vec<proto::Document>) -> Vec<proto::DocumentResult> {
    let request =
        proto::UpsertDocumentsRequest { collection: "notes".to_owned(), documents, validate_only: false };
    DocumentServiceClient::new(channel.clone())
        .max_encoding_message_size(64 << 20)
        .upsert_documents(request)
        .await
        .unwrap()
        .into_inner()
        .results
}

fn query(text: &str) -> proto::SearchRequest {
    let query = proto::SearchQuery { query: Some(proto::search_query::Query::Text(text.to_owned())) };
    proto::SearchRequest {
        collection: "notes".to_owned(),
        query: Some(query),
        include_highlights: true,
        ..Default::default()
    }
}

async fn found(channel: &Channel, request: proto::SearchRequest) -> Vec<proto::SearchHit> {
    SearchServiceClient::new(channel.clone()).search(request).await.unwrap().into_inner().hits
}

fn ids(hits: &[proto::SearchHit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.passage.as_ref().unwrap().document_id.as_str()).collect()
}

fn reason(status: &tonic::Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

const NOTES: [(&str, &str); 4] = [
    ("a-cats", "Cats sleep for most of the day. They hunt mice at dusk."),
    ("b-rust", "The borrow checker refuses two mutable references. Lifetimes name how long a borrow lives."),
    ("b-sql", "An index makes a query fast. Joins combine rows of two tables."),
    ("c-bread", "Knead the dough for ten minutes. Bake the loaf until the crust is brown."),
];

#[tokio::test]
async fn documents_are_indexed_searched_replaced_and_deleted() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, "notes").await;
    let documents: Vec<_> = NOTES.iter().map(|(id, text)| text_document(id, text)).collect();
    let results = upsert(&channel, documents.clone()).await;
    assert!(results.iter().all(|r| r.status() == DocumentStatus::Indexed), "{results:?}");
    let again = upsert(&channel, documents).await;
    assert!(again.iter().all(|r| r.status() == DocumentStatus::Unchanged), "{again:?}");

    let hits = found(&channel, query("feline pets that catch rodents")).await;
    assert_eq!(ids(&hits)[0], "a-cats");
    assert_eq!(hits.len(), NOTES.len());
    let passage = hits[0].passage.clone().unwrap();
    let best = hits[0].highlights[0].span.unwrap();
    assert_eq!(&passage.text[best.start as usize..best.end as usize], "They hunt mice at dusk.");

    let sentence =
        proto::SearchRequest { unit: SearchUnit::Sentence as i32, ..query("how to make bread brown") };
    let hits = found(&channel, sentence).await;
    assert_eq!(hits[0].passage.as_ref().unwrap().text, "Bake the loaf until the crust is brown.");
    let document = proto::SearchRequest { unit: SearchUnit::Document as i32, ..query("databases") };
    assert_eq!(ids(&found(&channel, document).await)[0], "b-sql");

    let condition = proto::FieldCondition {
        key: "kind".to_owned(),
        test: Some(proto::field_condition::Test::Equals(string("b"))),
    };
    let filter = proto::Filter { node: Some(proto::filter::Node::Field(condition)) };
    let filtered = proto::SearchRequest { filter: Some(filter.clone()), ..query("cats") };
    let hits = found(&channel, filtered).await;
    let mut kept = ids(&hits);
    kept.sort_unstable();
    assert_eq!(kept, ["b-rust", "b-sql"]);

    upsert(&channel, vec![text_document("a-cats", "Submarines dive below the sea.")]).await;
    let hits = found(&channel, query("underwater vessels")).await;
    assert_eq!(ids(&hits)[0], "a-cats");
    assert_eq!(hits.len(), NOTES.len());

    let delete = proto::DeleteDocumentsRequest { collection: "notes".to_owned(), filter: Some(filter) };
    let mut client = DocumentServiceClient::new(channel.clone());
    assert_eq!(client.delete_documents(delete).await.unwrap().into_inner().deleted_count, 2);
    assert_eq!(found(&channel, query("cats")).await.len(), 2);
    let compact = proto::CompactCollectionRequest { name: "notes".to_owned() };
    CollectionServiceClient::new(channel.clone()).compact_collection(compact).await.unwrap();
    assert_eq!(ids(&found(&channel, query("underwater vessels")).await)[0], "a-cats");
}

#[tokio::test]
async fn bad_input_gets_a_stable_reason_and_stops_nothing_else() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    let mut search = SearchServiceClient::new(channel.clone());
    let status = search.search(query("x")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "UNKNOWN_COLLECTION"));
    create(&channel, "notes").await;

    let data_document = |id: &str, bytes: &[u8], media_type: &str| proto::Document {
        content: Some(proto::document::Content::Data(bytes.to_vec())),
        mime_type: media_type.to_owned(),
        ..text_document(id, "")
    };
    let pdf = std::fs::read("tests/data/project-history.en.pdf").unwrap();
    let results = upsert(
        &channel,
        vec![
            text_document("empty", "  "),
            data_document("broken", b"%PDF-1.4 nonsense", "application/pdf"),
            data_document("unknown", b"abc", "application/x-unknown"),
            data_document("binary", &[0, 1, 2, 0], "text/plain"),
            data_document("good", &pdf, "application/pdf"),
            text_document("fine", "A plain note."),
        ],
    )
    .await;
    let reasons: Vec<_> = results.iter().map(|r| r.error_reason.as_str()).collect();
    assert_eq!(reasons, ["EMPTY_DOCUMENT", "BROKEN_DOCUMENT", "UNSUPPORTED_FORMAT", "NOT_TEXT", "", ""]);
    let hits = found(&channel, query("who founded the Debian project")).await;
    assert_eq!(ids(&hits)[0], "good");
    assert!(hits[0].passage.as_ref().unwrap().page_number.is_some());

    let vector = |values: Vec<f32>| {
        let vector = proto::search_query::Query::Vector(proto::DenseVector { values });
        proto::SearchRequest { query: Some(proto::SearchQuery { query: Some(vector) }), ..query("") }
    };
    let many = proto::SearchRequest { limit: 5000, ..query("x") };
    let unknown_unit = proto::SearchRequest { unit: 77, ..query("x") };
    for (request, wanted) in [
        (query(" "), "EMPTY_INPUT"),
        (vector(vec![1.0; 3]), "DIMENSION_MISMATCH"),
        (vector(vec![0.0; 384]), "ZERO_VECTOR"),
        (vector(vec![f32::NAN; 384]), "NOT_FINITE"),
        (many, "BAD_LIMIT"),
        (unknown_unit, "UNKNOWN_ENUM_VALUE"),
    ] {
        let status = search.search(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, wanted));
    }
    let mut embedding = EmbeddingServiceClient::new(channel);
    let long = proto::EmbedRequest { inputs: vec!["word ".repeat(2000)], options: None };
    let status = embedding.embed(long).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INPUT_TOO_LONG"));
    let options = Some(proto::EmbedOptions { model: "none".to_owned(), ..Default::default() });
    let status =
        embedding.embed(proto::EmbedRequest { inputs: vec!["x".to_owned()], options }).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "UNKNOWN_MODEL"));
}

#[tokio::test]
async fn acknowledged_documents_survive_kill_9_in_mid_ingest() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let mut server = Server::start(data.path()).await;
        let channel = server.channel().await;
        if round == 0 {
            create(&channel, "notes").await;
        }
        let start = proto::IngestStart { collection: "notes".to_owned() };
        let start = proto::ingest_documents_request::Part::Start(start);
        let documents = (0..10_000).map(move |n| {
            let text =
                format!("Note {n} of round {round} tells of the number {n}. It has a second sentence.");
            proto::ingest_documents_request::Part::Document(text_document(&format!("r{round}-{n}"), &text))
        });
        let parts = std::iter::once(start).chain(documents);
        let messages =
            tokio_stream::iter(parts.map(|part| proto::IngestDocumentsRequest { part: Some(part) }));
        let mut results =
            DocumentServiceClient::new(channel).ingest_documents(messages).await.unwrap().into_inner();
        let before = acknowledged.len();
        while let Ok(Some(message)) = results.message().await {
            let Some(proto::ingest_documents_response::Event::Result(result)) = message.event else {
                continue;
            };
            assert_eq!(result.status(), DocumentStatus::Indexed);
            acknowledged.push(result.document_id);
            if acknowledged.len() == before + 40 + 30 * round {
                server.child.kill().unwrap();
            }
        }
        server.child.wait().unwrap();
        assert!(acknowledged.len() >= before + 40, "the stream ended before the kill");
    }
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    let mut client = DocumentServiceClient::new(channel.clone());
    for id in &acknowledged {
        let request = proto::GetDocumentRequest {
            collection: "notes".to_owned(),
            document_id: id.clone(),
            view: proto::DocumentView::Full as i32,
        };
        let document = client.get_document(request).await.unwrap().into_inner().document.unwrap();
        assert_eq!(document.passages.len(), 1, "{id} is not whole");
    }
    let like = proto::search_query::Query::DocumentId(acknowledged[0].clone());
    let request = proto::SearchRequest {
        query: Some(proto::SearchQuery { query: Some(like) }),
        limit: 1000,
        exact: true,
        ..query("")
    };
    let hits = found(&channel, request).await;
    let found: std::collections::HashSet<&str> = ids(&hits).into_iter().collect();
    let missing = acknowledged.iter().skip(1).filter(|id| !found.contains(id.as_str())).count();
    assert_eq!(missing, 0, "acknowledged documents that a search does not find");
}
