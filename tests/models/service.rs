//! Several encoders in one server, over gRPC.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use trove::model::Import;
use trove::proto::admin_service_client::AdminServiceClient;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::document_service_client::DocumentServiceClient;
use trove::proto::embedding_service_client::EmbeddingServiceClient;
use trove::proto::search_service_client::SearchServiceClient;
use trove::proto::{self, Pooling, Representation, search_query};

use super::{copy, data, minilm, stdout_json, tiny, trove, write};

pub(super) struct Server {
    child: Child,
    url: String,
    pub(super) channel: Channel,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    async fn start(data: &Path, models: &str) -> Server {
        Self::start_with(data, models, "none").await
    }

    pub(super) async fn start_with(data: &Path, models: &str, cross_encoders: &str) -> Server {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        let mut child = Command::new(env!("CARGO_BIN_EXE_trove"))
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(data)
            .envs([("TROVE__ENCODER__MODELS", models), ("TROVE__ENCODER__DEVICE", "cpu")])
            .envs([("TROVE__ENCODER__SESSIONS", "1"), ("TROVE__RERANKER__MODELS", cross_encoders)])
            .spawn()
            .unwrap();
        for _ in 0..1200 {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server stopped at its start: {status}");
            }
            if let Ok(channel) = Channel::from_shared(url.clone()).unwrap().connect().await {
                let request = proto::GetServerInfoRequest {};
                if AdminServiceClient::new(channel.clone()).get_server_info(request).await.is_ok() {
                    return Server { child, url, channel };
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server did not answer within a minute");
    }

    pub(super) async fn models(&self) -> Vec<proto::Model> {
        let request = proto::GetServerInfoRequest {};
        let mut client = AdminServiceClient::new(self.channel.clone());
        client.get_server_info(request).await.unwrap().into_inner().models
    }

    pub(super) async fn create(&self, name: &str, model: &str) -> Result<(), Status> {
        let (name, model) = (name.to_owned(), model.to_owned());
        let collection = Some(proto::Collection { name, model, ..Default::default() });
        let request = proto::CreateCollectionRequest { collection };
        CollectionServiceClient::new(self.channel.clone()).create_collection(request).await.map(drop)
    }

    async fn upsert(&self, collection: &str) -> Result<(), Status> {
        let text = "Cats sleep for most of the day. They hunt mice at dusk.".to_owned();
        let content = Some(proto::document::Content::Text(text));
        let document = proto::Document { id: "cats".to_owned(), content, ..Default::default() };
        let request = proto::UpsertDocumentsRequest {
            collection: collection.to_owned(),
            documents: vec![document],
            validate_only: false,
            ..Default::default()
        };
        DocumentServiceClient::new(self.channel.clone()).upsert_documents(request).await.map(drop)
    }

    async fn search(&self, collection: &str, query: search_query::Query) -> Result<usize, Status> {
        let query = Some(proto::SearchQuery { query: Some(query) });
        let request = proto::SearchRequest { collection: collection.to_owned(), query, ..Default::default() };
        let response = SearchServiceClient::new(self.channel.clone()).search(request).await?;
        Ok(response.into_inner().hits.len())
    }

    async fn embed(&self, options: proto::EmbedOptions) -> Result<Vec<f32>, Status> {
        let request =
            proto::EmbedRequest { inputs: vec!["the lake is cold".to_owned()], options: Some(options) };
        let response = EmbeddingServiceClient::new(self.channel.clone()).embed(request).await?.into_inner();
        Ok(response.results[0].embeddings[0].vector.clone().unwrap().values)
    }
}

pub(super) fn text(query: &str) -> search_query::Query {
    search_query::Query::Text(query.to_owned())
}

pub(super) fn reason(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    (status.code(), details.error_info().map(|info| info.reason.clone()).unwrap_or_default())
}

pub(super) fn fine(_: &Path) -> trove::error::Result<()> {
    Ok(())
}

/// Imports a model into a data directory.
fn import(source: &Path, data: &Path, name: &str, replace: bool) {
    let models = data.join("models");
    Import { source, label: "a test", models: &models, name, replace, without_head: false }
        .run(fine)
        .unwrap();
}

#[tokio::test]
async fn several_encoders_answer_and_collections_keep_to_theirs() {
    let Some(fetched) = data() else { return };
    let data = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(fetched.join("runtime"), data.path().join("runtime")).unwrap();
    import(&minilm(&fetched), data.path(), "mean", false);
    let pooled = copy(&minilm(&fetched));
    write(pooled.path(), "1_Pooling/config.json", r#"{"pooling_mode_cls_token": true}"#);
    import(pooled.path(), data.path(), "cls", false);
    let prompted = copy(&tiny());
    let prompts = r#"{"prompts": {"query": "the lake ", "passage": "is "}}"#;
    write(prompted.path(), "config_sentence_transformers.json", prompts);
    import(prompted.path(), data.path(), "tiny", false);

    let server = Server::start(data.path(), "mean,cls,tiny").await;
    let models = server.models().await;
    let [mean, cls, small] = models.as_slice() else { panic!("three models") };
    assert_eq!((mean.pooling(), cls.pooling()), (Pooling::Mean, Pooling::Cls));
    assert!(mean.normalize && !small.normalize && mean.supports_static && small.supports_static);
    assert_eq!((mean.precision.as_str(), mean.execution_provider.as_str()), ("fp32", "CPUExecutionProvider"));
    assert_eq!(small.prompt_names, ["passage", "query"]);
    assert_ne!(mean.revision, cls.revision);

    let of = |model: &str| proto::EmbedOptions { model: model.to_owned(), ..Default::default() };
    let (a, b) = (server.embed(of("mean")).await.unwrap(), server.embed(of("cls")).await.unwrap());
    assert!(a.len() == 384 && b.len() == 384 && a != b);
    assert_eq!(server.embed(of("")).await.unwrap(), a, "the first is the default");
    let fixed = |model| proto::EmbedOptions { representation: Representation::Static as i32, ..of(model) };
    assert_ne!(server.embed(fixed("mean")).await.unwrap(), a);
    assert_eq!(server.embed(fixed("mean")).await.unwrap(), server.embed(fixed("cls")).await.unwrap());
    for model in ["none", "../mean", "mean/../cls"] {
        let error = server.embed(of(model)).await.unwrap_err();
        assert_eq!(reason(&error), (Code::NotFound, "UNKNOWN_MODEL".to_owned()), "{model}");
    }

    for model in ["mean", "cls", "tiny"] {
        server.create(model, model).await.unwrap();
        server.upsert(model).await.unwrap();
        assert_eq!(server.search(model, text("pets")).await.unwrap(), 1, "{model}");
    }
    let error = server.create("other", "none").await.unwrap_err();
    assert_eq!(reason(&error), (Code::NotFound, "UNKNOWN_MODEL".to_owned()));
    let error = server.search("mean", search_query::Query::Vector(vector(16))).await.unwrap_err();
    assert_eq!(reason(&error), (Code::InvalidArgument, "DIMENSION_MISMATCH".to_owned()));
    assert_eq!(server.search("tiny", search_query::Query::Vector(vector(16))).await.unwrap(), 1);

    let home = data.path().to_str().unwrap();
    let told = trove(&["--server", &server.url, "models", "--data-dir", home, "show", "cls", "--json"], &[]);
    assert_eq!(stdout_json(&told)["loaded"]["precision"].as_str(), Some("fp32"));
    drop(server);

    // The same name, another model: its collection answers no more, the others do.
    import(&minilm(&fetched), data.path(), "cls", true);
    let server = Server::start(data.path(), "mean,cls").await;
    assert_eq!(server.search("mean", text("pets")).await.unwrap(), 1);
    for error in [
        server.search("cls", text("pets")).await.unwrap_err(),
        server.search("tiny", text("pets")).await.unwrap_err(),
    ] {
        let (code, reason) = reason(&error);
        let expected = matches!(
            (code, reason.as_str()),
            (Code::FailedPrecondition, "MODEL_CHANGED") | (Code::NotFound, "UNKNOWN_MODEL")
        );
        assert!(expected, "{code:?} {reason}");
    }
}

fn vector(width: usize) -> proto::DenseVector {
    proto::DenseVector { values: vec![0.5; width] }
}
