//! One lazy channel and the service clients on it.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_client::HealthClient;

use super::failure::Usage;
use crate::proto::admin_service_client::AdminServiceClient;
use crate::proto::answer_service_client::AnswerServiceClient;
use crate::proto::collection_service_client::CollectionServiceClient;
use crate::proto::document_service_client::DocumentServiceClient;
use crate::proto::embedding_service_client::EmbeddingServiceClient;
use crate::proto::search_service_client::SearchServiceClient;
use crate::proto::{Collection, CreateCollectionRequest, GetCollectionRequest};

/// Largest message that the client takes.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// A connection to the server, made on first use.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Makes a client for an address such as `http://127.0.0.1:7700`.
    pub fn new(server: &str) -> Result<Self> {
        let address = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let endpoint = Endpoint::from_shared(address)
            .map_err(|error| anyhow!(Usage(format!("server address {server:?}: {error}"))))?
            .connect_timeout(Duration::from_secs(5));
        Ok(Self { channel: endpoint.connect_lazy() })
    }

    /// AdminService.
    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    /// The standard health service.
    pub fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    /// CollectionService.
    pub fn collections(&self) -> CollectionServiceClient<Channel> {
        CollectionServiceClient::new(self.channel.clone())
    }

    /// DocumentService.
    pub fn documents(&self) -> DocumentServiceClient<Channel> {
        DocumentServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// SearchService.
    pub fn search(&self) -> SearchServiceClient<Channel> {
        SearchServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// AnswerService.
    pub fn answer(&self) -> AnswerServiceClient<Channel> {
        AnswerServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// EmbeddingService.
    pub fn embedding(&self) -> EmbeddingServiceClient<Channel> {
        EmbeddingServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Creates the collection unless it exists.
    pub async fn ensure_collection(&self, name: &str, model: &str) -> Result<()> {
        let found = self.collections().get_collection(GetCollectionRequest { name: name.to_owned() }).await;
        match found {
            Ok(_) => return Ok(()),
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => return Err(status.into()),
        }
        let collection = Collection { name: name.to_owned(), model: model.to_owned(), ..Default::default() };
        let request = CreateCollectionRequest { collection: Some(collection) };
        match self.collections().create_collection(request).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == tonic::Code::AlreadyExists => Ok(()),
            Err(status) => Err(status.into()),
        }
    }
}
