//! What the tests of the service share: the real program, the real model, real gRPC.
#![allow(dead_code, reason = "no single test uses all of it")]

pub mod raw;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tonic::transport::Channel;
use tonic_types::StatusExt;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::document_service_client::DocumentServiceClient;
use trove::proto::ingest_documents_request::Part;
use trove::proto::search_service_client::SearchServiceClient;
use trove::proto::{self, DocumentResult};

/// The collection that the helpers use.
pub const NOTES: &str = "notes";

/// Runtime and models; `make test` fetches them.
pub fn models() -> Option<PathBuf> {
    let dir = std::env::var_os("TROVE_DATA_DIR").map_or_else(|| PathBuf::from(".trove"), PathBuf::from);
    if dir.join("models").is_dir() {
        return Some(std::fs::canonicalize(dir).unwrap());
    }
    assert!(std::env::var_os("CI").is_none(), "no models in {}: run `make test`", dir.display());
    eprintln!("skipped: no models in {}; `make test` fetches them", dir.display());
    None
}

/// Lets a data directory borrow the fetched runtime and models.
pub fn borrow_models(models: &Path, data: &Path) {
    for part in ["runtime", "models"] {
        std::os::unix::fs::symlink(models.join(part), data.join(part)).unwrap();
    }
}

/// A fresh data directory.
pub fn data_dir(models: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    borrow_models(models, dir.path());
    dir
}

/// A server process; dropping it kills it.
pub struct Server {
    pub child: Child,
    pub url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts the program on a data directory and waits until it answers.
    pub async fn start(data: &Path) -> Server {
        Server::start_with(data, &[]).await
    }

    /// Starts it with settings, such as `TROVE__LIMITS__MAX_BATCH_SIZE`.
    pub async fn start_with(data: &Path, settings: &[(&str, &str)]) -> Server {
        Server::start_logging(data, settings, Stdio::inherit()).await
    }

    /// Starts it with its log going elsewhere.
    pub async fn start_logging(data: &Path, settings: &[(&str, &str)], log: Stdio) -> Server {
        Server::launch(Command::new(env!("CARGO_BIN_EXE_trove")), data, settings, log).await
    }

    /// Starts it in a shell that first does something else, such as set a limit.
    pub async fn start_after(before: &str, data: &Path, settings: &[(&str, &str)]) -> Server {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{before} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_trove")]);
        Server::launch(shell, data, settings, Stdio::inherit()).await
    }

    async fn launch(mut program: Command, data: &Path, settings: &[(&str, &str)], log: Stdio) -> Server {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = program
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(data)
            // Loading a generator takes time that only its own tests need to spend.
            .env("TROVE__GENERATOR__MODELS", "none")
            .envs(settings.iter().copied())
            .stderr(log)
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

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(self.url.clone()).unwrap().connect().await.unwrap()
    }

    /// Asks it to stop, as a service manager does.
    pub fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// How it ended; it must within the time.
    pub fn wait(&mut self, most: Duration) -> ExitStatus {
        let deadline = Instant::now() + most;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server did not end within {most:?}");
    }
}

/// Makes a collection with the default settings.
pub async fn create(channel: &Channel, name: &str) {
    create_with(channel, proto::Collection { name: name.to_owned(), ..Default::default() }).await;
}

/// Makes a collection.
pub async fn create_with(channel: &Channel, collection: proto::Collection) {
    let request = proto::CreateCollectionRequest { collection: Some(collection) };
    CollectionServiceClient::new(channel.clone()).create_collection(request).await.unwrap();
}

/// The program, with nothing of the environment that sets what it goes by.
pub fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trove"));
    for name in ["TROVE_SERVER", "TROVE_CONFIG", "TROVE_API_KEY", "TROVE_TLS_CA"] {
        command.env_remove(name);
    }
    command.args(args);
    command
}

/// Makes an API key in a data directory, with the program.
pub fn make_key(data: &Path, name: &str, scope: &str, collections: &[&str]) -> String {
    let mut command = program(&["keys", "create", "--name", name, "--scope", scope, "--data-dir"]);
    command.arg(data);
    collections.iter().for_each(|collection| _ = command.args(["--collection", collection]));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn string(value: &str) -> proto::MetadataValue {
    proto::MetadataValue { kind: Some(proto::metadata_value::Kind::StringValue(value.to_owned())) }
}

/// A document of plain text; its metadata `kind` is the first letter of its id.
pub fn text_document(id: &str, text: &str) -> proto::Document {
    proto::Document {
        id: id.to_owned(),
        content: Some(proto::document::Content::Text(text.to_owned())),
        metadata: [("kind".to_owned(), string(&id[..1]))].into(),
        ..Default::default()
    }
}

/// The abstracts of `tests/data/scifact-sample`.
pub fn abstracts() -> Vec<proto::Document> {
    let abstract_of = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| entry[name].as_str().unwrap().to_owned();
        proto::Document { title: field("title"), ..text_document(&field("id"), &field("text")) }
    };
    include_str!("../data/scifact-sample/corpus.jsonl").lines().map(abstract_of).collect()
}

/// A document that is a file.
pub fn data_document(id: &str, bytes: &[u8], media_type: &str) -> proto::Document {
    proto::Document {
        content: Some(proto::document::Content::Data(bytes.to_vec())),
        mime_type: media_type.to_owned(),
        ..text_document(id, "")
    }
}

pub fn upsert_request(documents: Vec<proto::Document>) -> proto::UpsertDocumentsRequest {
    proto::UpsertDocumentsRequest { collection: NOTES.to_owned(), documents, ..Default::default() }
}

pub fn documents(channel: &Channel) -> DocumentServiceClient<Channel> {
    let most = 256 << 20;
    DocumentServiceClient::new(channel.clone())
        .max_encoding_message_size(most)
        .max_decoding_message_size(most)
}

pub async fn upsert(channel: &Channel, batch: Vec<proto::Document>) -> Vec<DocumentResult> {
    documents(channel).upsert_documents(upsert_request(batch)).await.unwrap().into_inner().results
}

pub async fn delete(channel: &Channel, ids: &[&str]) -> i64 {
    let values = ids.iter().map(|id| (*id).to_owned()).collect();
    let node = proto::filter::Node::DocumentIds(proto::StringList { values });
    let filter = Some(proto::Filter { node: Some(node) });
    let request = proto::DeleteDocumentsRequest { collection: NOTES.to_owned(), filter };
    documents(channel).delete_documents(request).await.unwrap().into_inner().deleted_count
}

/// A stored document with its text and passages.
pub async fn get(channel: &Channel, id: &str) -> Result<proto::Document, tonic::Status> {
    let request = proto::GetDocumentRequest {
        collection: NOTES.to_owned(),
        document_id: id.to_owned(),
        view: proto::DocumentView::Full as i32,
    };
    Ok(documents(channel).get_document(request).await?.into_inner().document.unwrap())
}

pub fn text_of(document: &proto::Document) -> &str {
    match &document.content {
        Some(proto::document::Content::Text(text)) => text,
        other => panic!("expected a text, got {other:?}"),
    }
}

/// All stored documents with their texts and passages.
pub async fn list(channel: &Channel) -> Vec<proto::Document> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = proto::ListDocumentsRequest {
            collection: NOTES.to_owned(),
            page_size: 100,
            page_token,
            view: proto::DocumentView::Full as i32,
            ..Default::default()
        };
        let page = documents(channel).list_documents(request).await.unwrap().into_inner();
        all.extend(page.documents);
        if page.next_page_token.is_empty() {
            return all;
        }
        page_token = page.next_page_token;
    }
}

pub fn query(text: &str) -> proto::SearchRequest {
    let query = proto::SearchQuery { query: Some(proto::search_query::Query::Text(text.to_owned())) };
    proto::SearchRequest {
        collection: NOTES.to_owned(),
        query: Some(query),
        include_highlights: true,
        ..Default::default()
    }
}

pub async fn found(channel: &Channel, request: proto::SearchRequest) -> Vec<proto::SearchHit> {
    SearchServiceClient::new(channel.clone()).search(request).await.unwrap().into_inner().hits
}

pub fn ids(hits: &[proto::SearchHit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.passage.as_ref().unwrap().document_id.as_str()).collect()
}

/// The stable reason of a status.
pub fn reason(status: &tonic::Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// The messages of an ingest stream.
pub fn ingest_messages(parts: impl IntoIterator<Item = Part>) -> Vec<proto::IngestDocumentsRequest> {
    let start = Part::Start(proto::IngestStart { collection: NOTES.to_owned(), force: false });
    let message = |part| proto::IngestDocumentsRequest { part: Some(part) };
    std::iter::once(start).chain(parts).map(message).collect()
}

/// Sends a whole ingest stream and gives its results by index, and how it ended.
pub async fn ingest(
    channel: &Channel,
    parts: impl IntoIterator<Item = Part>,
) -> (Vec<DocumentResult>, Option<tonic::Status>) {
    let messages = tokio_stream::iter(ingest_messages(parts));
    let mut stream = match documents(channel).ingest_documents(messages).await {
        Ok(response) => response.into_inner(),
        Err(status) => return (Vec::new(), Some(status)),
    };
    let mut results = Vec::new();
    let end = loop {
        match stream.message().await {
            Ok(Some(message)) => match message.event {
                Some(proto::ingest_documents_response::Event::Result(result)) => results.push(result),
                other => panic!("expected a result, got {other:?}"),
            },
            Ok(None) => break None,
            Err(status) => break Some(status),
        }
    };
    results.sort_by_key(|result| result.index);
    (results, end)
}
