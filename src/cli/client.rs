//! One lazy channel, its certificates and API key, and the service clients on it.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};
use tonic_health::pb::health_client::HealthClient;

use super::failure::Usage;
use super::output;
use crate::access::Secret;
use crate::cli::args::ConnectionArgs;
use crate::proto::admin_service_client::AdminServiceClient;
use crate::proto::answer_service_client::AnswerServiceClient;
use crate::proto::collection_service_client::CollectionServiceClient;
use crate::proto::document_service_client::DocumentServiceClient;
use crate::proto::embedding_service_client::EmbeddingServiceClient;
use crate::proto::search_service_client::SearchServiceClient;
use crate::proto::{Collection, CreateCollectionRequest, GetCollectionRequest};

/// Largest message that the client takes.
const MAX_MESSAGE_BYTES: usize = 256 << 20;
/// How often a quiet connection is tried, and how long an answer may take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A channel that shows an API key with every call.
pub type Connection = InterceptedService<Channel, Credentials>;

/// Puts an API key into calls.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Marked as sensitive, so that no log shows it.
    authorization: Option<AsciiMetadataValue>,
}

impl Credentials {
    fn new(key: Option<&Secret>) -> Result<Self> {
        let Some(key) = key else { return Ok(Self { authorization: None }) };
        let mut value = AsciiMetadataValue::try_from(format!("Bearer {}", key.reveal()))
            .map_err(|_| Usage("--api-key: expected a key of visible characters".to_owned()))?;
        value.set_sensitive(true);
        Ok(Self { authorization: Some(value) })
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A connection to the server, made on first use.
#[derive(Debug, Clone)]
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Makes a client for an address such as `http://127.0.0.1:7700`. An address without a scheme means https where
    /// the options name certificates.
    pub fn new(server: &str, options: &ConnectionArgs) -> Result<Self> {
        let tls = tls(options)?;
        let address = match server.contains("://") {
            true => server.to_owned(),
            false => format!("{}://{server}", if tls.is_some() { "https" } else { "http" }),
        };
        let wrong =
            |error: &dyn std::fmt::Display| anyhow!(Usage(format!("server address {server:?}: {error}")));
        let is_secure = address.starts_with("https://");
        let mut endpoint = Endpoint::from_shared(address)
            .map_err(|error| wrong(&error))?
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        if !is_secure && tls.is_some() {
            return Err(wrong(&"expected https for a connection with certificates"));
        }
        if !is_secure && options.api_key.is_some() && !is_local(&endpoint) {
            output::note(format!("warning: the API key goes to {server} in the clear; https hides it"));
        }
        if is_secure {
            let tls = tls.unwrap_or_default();
            let tls = if options.tls_ca.is_some() { tls } else { tls.with_native_roots() };
            endpoint = endpoint.tls_config(tls).map_err(|error| {
                anyhow!(Usage(format!(
                    "expected certificates and a key that can be used: {}",
                    causes(&error)
                )))
            })?;
        }
        let credentials = Credentials::new(options.api_key.as_ref())?;
        Ok(Self { connection: InterceptedService::new(endpoint.connect_lazy(), credentials) })
    }

    /// AdminService.
    pub fn admin(&self) -> AdminServiceClient<Connection> {
        AdminServiceClient::new(self.connection.clone())
    }

    /// The standard health service.
    pub fn health(&self) -> HealthClient<Connection> {
        HealthClient::new(self.connection.clone())
    }

    /// CollectionService.
    pub fn collections(&self) -> CollectionServiceClient<Connection> {
        CollectionServiceClient::new(self.connection.clone())
    }

    /// DocumentService.
    pub fn documents(&self) -> DocumentServiceClient<Connection> {
        DocumentServiceClient::new(self.connection.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// SearchService.
    pub fn search(&self) -> SearchServiceClient<Connection> {
        SearchServiceClient::new(self.connection.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// AnswerService.
    pub fn answer(&self) -> AnswerServiceClient<Connection> {
        AnswerServiceClient::new(self.connection.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// EmbeddingService.
    pub fn embedding(&self) -> EmbeddingServiceClient<Connection> {
        EmbeddingServiceClient::new(self.connection.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
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

/// The certificates that the options name; none where they name none.
fn tls(options: &ConnectionArgs) -> Result<Option<ClientTlsConfig>> {
    let identity = match (&options.tls_client_certificate, &options.tls_client_key) {
        (Some(certificate), Some(key)) => {
            let certificate = read("--tls-client-certificate", certificate)?;
            Some(Identity::from_pem(certificate, read("--tls-client-key", key)?))
        }
        (None, None) => None,
        _ => {
            let message = "expected both --tls-client-certificate and --tls-client-key, got one of them";
            return Err(Usage(message.to_owned()).into());
        }
    };
    if options.tls_ca.is_none() && identity.is_none() {
        return Ok(None);
    }
    let mut config = ClientTlsConfig::new();
    if let Some(ca) = &options.tls_ca {
        config = config.ca_certificate(Certificate::from_pem(read("--tls-ca", ca)?));
    }
    if let Some(identity) = identity {
        config = config.identity(identity);
    }
    Ok(Some(config))
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>> {
    let unreadable =
        |error| Usage(format!("{option}: expected a file that can be read, got {}: {error}", path.display()));
    Ok(std::fs::read(path).map_err(unreadable)?)
}

fn is_local(endpoint: &Endpoint) -> bool {
    let host = endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
