//! Wires the parts into one server of gRPC and HTTP and stops it in order.

mod answered;
mod clients;
mod deadline;
mod descriptors;
mod gateway;
mod guard;
mod key_calls;
mod listen;
mod models;
mod parties;
mod receive;
mod resident;
mod schedule;
mod tls;
mod x509;

use std::future::Future;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use http_body_util::{BodyStream, StreamBody};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::http::Request;
use tonic::server::NamedService;
use tonic::service::{LayerExt, Routes};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::ServiceBuilder;
use tower::util::MapRequestLayer;

use crate::access::Keyring;
use crate::answer::{AnswerOptions, Answering, Generators, Prompts};
use crate::catalog::Catalog;
use crate::config::{Config, IndexConfig, StoreConfig};
use crate::encoder::{CrossEncoders, Encoders, Reader};
use crate::error::{Error, Result};
use crate::extract::{Extractor, MAX_TEXT_BYTES};
use crate::grpc;
use crate::index::IndexOptions;
use crate::ingest::{Ingest, IngestLimits};
use crate::private;
use crate::proto;
use crate::proto::admin_service_server::AdminServiceServer;
use crate::proto::answer_service_server::AnswerServiceServer;
use crate::proto::collection_service_server::CollectionServiceServer;
use crate::proto::document_service_server::DocumentServiceServer;
use crate::proto::embedding_service_server::EmbeddingServiceServer;
use crate::proto::search_service_server::SearchServiceServer;
use crate::search::Search;
use crate::store::{SCHEMA_VERSION, Store, StoreOptions};
use crate::telemetry::Gauges;
use clients::Clients;
pub(crate) use descriptors::check as check_open_files;
pub use descriptors::take as take_descriptors;
use guard::{Guard, GuardLayer};
use listen::Listening;
use models::Models;
pub(crate) use models::{DEFAULT_GENERATOR, encoder_options, generator_options, model_dir, named};
use parties::PartiesLayer;
pub(crate) use resident::{Resident, of_the_machine as memory_of_the_machine};
use tls::Tls;
use trove_gateway::GatewayLayer;

/// Services whose health is told; the empty name stands for the whole server.
const SERVICES: [&str; 7] = [
    "",
    AdminServiceServer::<grpc::Admin>::NAME,
    AnswerServiceServer::<grpc::Answer>::NAME,
    CollectionServiceServer::<grpc::Collections>::NAME,
    DocumentServiceServer::<grpc::Documents>::NAME,
    EmbeddingServiceServer::<grpc::Embedding>::NAME,
    SearchServiceServer::<grpc::Search>::NAME,
];
/// Most bytes of a question about the services, which is the name of one.
const REFLECTION_MESSAGE: usize = 64 << 10;
/// Passages of all ingests that may wait for the encoder at once: enough to fill its batches well.
const MAX_PASSAGES: usize = 2048;

/// The parts of a server, loaded and ready.
pub struct Parts {
    config: Config,
    encoders: Encoders,
    cross_encoders: CrossEncoders,
    reader: Option<Arc<Reader>>,
    generators: Generators,
    prompts: Prompts,
    catalog: Arc<Catalog>,
    extractor: Extractor,
    keyring: Arc<Keyring>,
    tls: Option<Arc<Tls>>,
    /// From this number on descriptors are not for connections.
    reserve: RawFd,
}

impl Parts {
    /// Loads the models and opens the store. Blocks: call it off the async threads.
    ///
    /// # Errors
    /// What is missing or does not fit, by name.
    pub fn load(config: Config) -> Result<Self> {
        let reserve = take_descriptors(&config)?;
        private::create_dir_all(&config.data_dir).map_err(|e| {
            let message =
                format!("data_dir: expected a directory that can be written, got {:?}: {e}", config.data_dir);
            Error::precondition("DATA_DIR_UNUSABLE", message)
        })?;
        close_to_others(&config.data_dir);
        let keyring = Arc::new(Keyring::open(&config.data_dir)?);
        let tls = Tls::load(&config.tls)?;
        check_exposure(&config, tls.is_some(), !keyring.is_open())?;
        // Before the models, which take longer: a data directory that is in use or damaged is told at once.
        let store = Arc::new(Store::open(&config.data_dir, store_options(&config))?);
        let Models { encoders, cross_encoders, reader, generators } = models::load(&config)?;
        let prompts = Prompts::load(&config.data_dir.join("prompts"))?;
        let IndexConfig { head_limit, build_threads } = config.index;
        let index = IndexOptions { head_limit, build_threads, ..IndexOptions::default() };
        let catalog = Catalog::open(store, &config.data_dir, encoders.clone(), index)?;
        let worker = match &config.extract.worker {
            Some(worker) => worker.clone(),
            None => std::env::current_exe().map_err(|e| {
                Error::internal("NO_PROGRAM", "the path of this program is unknown").with_source(e)
            })?,
        };
        let timeout = Duration::from_secs(config.extract.timeout_seconds);
        let extractor = Extractor::new(worker, timeout, config.extract.memory_bytes, config.extract.workers)
            .with_pdfium(config.pdfium())
            .with_max_text_bytes(config.limits.max_document_bytes.min(MAX_TEXT_BYTES));
        Ok(Self {
            config,
            encoders,
            cross_encoders,
            reader,
            generators,
            prompts,
            catalog,
            extractor,
            keyring,
            tls,
            reserve,
        })
    }

    /// Logs how much memory may be resident with these settings, and warns where the machine has less.
    pub fn tell_memory(&self) {
        let caches = self.generators.iter().map(|generator| generator.info().cache_bytes).sum();
        let bound = Resident::new(&self.config, resident::now().unwrap_or_default(), caches);
        let most_mib = bound.total() >> 20;
        tracing::info!(most_mib, parts = %bound, "memory that may be resident");
        if let Some(machine) = resident::of_the_machine().filter(|machine| *machine < bound.total()) {
            tracing::warn!(
                most_mib,
                machine_mib = machine >> 20,
                "the settings allow more memory than the machine has: `trove doctor` says what to lower"
            );
        }
    }

    /// What the metrics tell of their state.
    pub fn gauges(&self) -> Gauges {
        let tls = self.tls.clone();
        Gauges {
            catalog: self.catalog.clone(),
            encoders: self.encoders.clone(),
            cross_encoders: self.cross_encoders.clone(),
            generators: self.generators.clone(),
            keyring: self.keyring.clone(),
            snapshot_interval: Duration::from_secs(self.config.snapshots.interval_hours.saturating_mul(3600)),
            certificate_expire_time: Box::new(move || tls.as_ref().map(|tls| tls.expire_time())),
        }
    }
}

/// Takes what an older program or a copy has left open to others of the machine from them.
fn close_to_others(data: &Path) {
    for path in private::OWN.map(|name| data.join(name)) {
        if let Err(error) = private::close(&path) {
            tracing::warn!(path = %path.display(), %error, "others of this machine may read what is stored");
        }
    }
}

/// Warns of a server that others on the network can reach and use, or refuses it where the settings are strict.
///
/// # Errors
/// `UNPROTECTED`.
pub(crate) fn check_exposure(config: &Config, has_tls: bool, has_keys: bool) -> Result<()> {
    if config.listen.ip().to_canonical().is_loopback() || (has_tls && has_keys) {
        return Ok(());
    }
    let listen = config.listen;
    let missing = match (has_tls, has_keys) {
        (false, false) => "TLS (tls.certificate, tls.key) and API keys (`trove keys create`)",
        (false, true) => "TLS (tls.certificate, tls.key)",
        _ => "API keys (`trove keys create`)",
    };
    if config.access.strict {
        let message =
            format!("access.strict: expected {missing} to listen beyond this machine, got none: {listen}");
        return Err(Error::precondition("UNPROTECTED", message));
    }
    if !has_keys {
        tracing::warn!(%listen, "UNPROTECTED: everyone who reaches this address can read, change and delete everything");
    }
    if !has_tls {
        tracing::warn!(%listen, "UNPROTECTED: texts and API keys cross the network in the clear");
    }
    tracing::warn!("set up {missing}, or listen on 127.0.0.1; access.strict = true refuses such a start");
    Ok(())
}

/// Whether the service is encrypted.
///
/// # Errors
/// What is wrong with the certificates.
pub(crate) fn has_tls(config: &Config) -> Result<bool> {
    Ok(Tls::load(&config.tls)?.is_some())
}

fn store_options(config: &Config) -> StoreOptions {
    let StoreConfig { cache_bytes, min_free_bytes, queue } = config.store;
    StoreOptions { cache_bytes, queue, min_free_bytes }
}

fn answer_options(config: &Config) -> AnswerOptions {
    let settings = &config.answer;
    AnswerOptions {
        passages: settings.passages,
        extractive_passages: settings.extractive_passages,
        extractive_sentences: settings.extractive_sentences,
        max_tokens: settings.max_tokens,
        answerability_threshold: settings.answerability_threshold as f32,
        support_threshold: settings.support_threshold as f32,
        prompt: settings.prompt.clone(),
    }
}

/// Serves until `shutdown` resolves. Then health turns to NOT_SERVING, streams are told to end, and the calls
/// that run are finished; what is not done within `limits.shutdown_seconds` is dropped unacknowledged.
///
/// # Errors
/// `SERVE_FAILED` where the transport fails.
pub async fn run(parts: Parts, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<()> {
    let Parts {
        config,
        encoders,
        cross_encoders,
        reader,
        generators,
        prompts,
        catalog,
        extractor,
        keyring,
        tls,
        reserve,
    } = parts;
    let limits = config.limits.clone();
    let stop = grpc::Stop::new(Duration::from_secs(limits.shutdown_seconds));
    let ingest_limits = IngestLimits {
        max_document_bytes: limits.max_document_bytes,
        max_text_bytes: limits.max_document_bytes.min(MAX_TEXT_BYTES),
        max_passages: MAX_PASSAGES.min(config.encoder.queue_capacity),
    };
    let ingest = Ingest::new(catalog.clone(), encoders.clone(), extractor, ingest_limits);
    let search = Arc::new(Search::new(catalog.clone(), encoders.clone(), cross_encoders.clone()));
    let max = limits.max_message_bytes;
    let max_batch_size = limits.max_batch_size;
    let answer = {
        let (search, catalog) = (search.clone(), catalog.clone());
        let (encoders, generators) = (encoders.clone(), generators.clone());
        let options = answer_options(&config);
        grpc::Answer {
            answering: Arc::new(Answering::new(
                search, catalog, encoders, reader, generators, prompts, options,
            )?),
            max_text_bytes: limits.max_text_bytes,
            max_message_bytes: max,
        }
    };
    let admin = grpc::Admin {
        catalog: catalog.clone(),
        encoders: encoders.clone(),
        cross_encoders: cross_encoders.clone(),
        generators,
        limits: limits.clone(),
        schema_version: SCHEMA_VERSION,
    };
    let max_text_bytes = limits.max_text_bytes;
    let embedding = grpc::Embedding {
        encoders,
        cross_encoders,
        max_batch_size,
        max_text_bytes,
        max_message_bytes: max,
        stop: stop.clone(),
    };
    let collections = grpc::Collections { catalog: catalog.clone() };
    let documents = grpc::Documents {
        ingest: Arc::new(ingest),
        catalog,
        max_batch_size,
        max_message_bytes: max,
        max_document_bytes: limits.max_document_bytes,
        stop: stop.clone(),
    };
    let search = grpc::Search { search, max_batch_size, max_message_bytes: max };

    tokio::spawn(schedule::run(admin.catalog.clone(), config.snapshots.clone(), stop.clone()));

    let (health, health_service) = tonic_health::server::health_reporter();
    for name in SERVICES {
        health.set_service_status(name, ServingStatus::Serving).await;
    }
    let health_service = health_service.max_decoding_message_size(guard::HEALTH_MESSAGE);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|e| failed(&e))?
        .max_decoding_message_size(REFLECTION_MESSAGE);
    let reflection = MapRequestLayer::new(ending_with(stop.clone())).named_layer(reflection);
    let begin = stop.clone();
    let stopping = async move {
        shutdown.await;
        for name in SERVICES {
            health.set_service_status(name, ServingStatus::NotServing).await;
        }
        begin.begin();
        tokio::spawn(end_watches(health));
    };
    let routes = Routes::new(health_service)
        .add_service(reflection)
        .add_service(AdminServiceServer::new(admin).max_decoding_message_size(max))
        .add_service(
            AnswerServiceServer::new(answer).max_decoding_message_size(max).max_encoding_message_size(max),
        )
        .add_service(CollectionServiceServer::new(collections).max_decoding_message_size(max))
        .add_service(
            DocumentServiceServer::new(documents)
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
        )
        .add_service(
            EmbeddingServiceServer::new(embedding)
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
        )
        .add_service(
            SearchServiceServer::new(search).max_decoding_message_size(max).max_encoding_message_size(max),
        );
    let service = ServiceBuilder::new()
        .layer(GatewayLayer(gateway::new(&config)?))
        .layer(crate::telemetry::CallsLayer::default())
        .layer(GuardLayer(Guard::new(keyring, &limits)))
        .layer(PartiesLayer)
        .service(routes.prepare());
    let server =
        Listening::new(Clients::new(&limits), tls, &limits, reserve).serve(listener, service, stopping);
    let too_late = async {
        stop.begun().await;
        tokio::time::sleep(stop.grace()).await;
    };
    tokio::select! {
        () = server => Ok(()),
        () = too_late => {
            let seconds = limits.shutdown_seconds;
            tracing::warn!(seconds, "calls that did not end in time are dropped");
            Ok(())
        }
    }
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::internal("SERVE_FAILED", format!("serving failed: {error}"))
}

/// Ends the messages of a request when the server stops, for a service that would wait for more of them.
fn ending_with(stop: grpc::Stop) -> impl Fn(Request<Body>) -> Request<Body> + Clone {
    move |request| {
        let stop = stop.clone();
        let begun = async move { stop.begun().await };
        request.map(|body| Body::new(StreamBody::new(BodyStream::new(body).take_until(begun))))
    }
}

/// Ends the streams that watch the health of services, or they would keep the server from stopping.
async fn end_watches(mut health: HealthReporter) {
    tokio::time::sleep(Duration::from_millis(200)).await;
    for name in SERVICES {
        health.clear_service_status(name).await;
    }
}
