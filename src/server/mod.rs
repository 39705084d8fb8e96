//! Wires the parts into one gRPC server and stops it in order.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::answer::{AnswerOptions, Answering, Generators, Prompts};
use crate::catalog::Catalog;
use crate::config::Config;
use crate::encoder::{Device, Encoder, EncoderOptions, Encoders, Precision};
use crate::error::{Error, Result};
use crate::extract::Extractor;
use crate::generator::{Generator, GeneratorOptions};
use crate::grpc;
use crate::index::IndexOptions;
use crate::ingest::Ingest;
use crate::model::Runtime;
use crate::proto;
use crate::search::Search;
use crate::store::{SCHEMA_VERSION, Store, StoreOptions};

/// The parts of a server, loaded and ready.
pub struct Parts {
    config: Config,
    encoders: Encoders,
    generators: Generators,
    prompts: Prompts,
    catalog: Arc<Catalog>,
    extractor: Extractor,
}

impl Parts {
    /// Loads the models and opens the store. Blocks: call it off the async threads.
    ///
    /// # Errors
    /// What is missing or does not fit, by name.
    pub fn load(config: Config) -> Result<Self> {
        std::fs::create_dir_all(&config.data_dir).map_err(|e| {
            let message =
                format!("data_dir: expected a directory that can be written, got {:?}: {e}", config.data_dir);
            Error::precondition("DATA_DIR_UNUSABLE", message)
        })?;
        let library = config.encoder.library.clone().unwrap_or_else(|| config.data_dir.join("runtime"));
        Runtime::init(&library)?;
        let options = encoder_options(&config)?;
        let mut encoders = Vec::with_capacity(config.encoder.models.len());
        for name in &config.encoder.models {
            let encoder = Encoder::load(&config.data_dir.join("models").join(name), options)?;
            let info = encoder.info();
            tracing::info!(
                model = info.id,
                provider = info.execution_provider,
                precision = info.precision,
                dimensions = info.dimensions,
                max_tokens = info.max_tokens,
                "encoder loaded"
            );
            encoders.push(encoder);
        }
        let encoders = Encoders::new(encoders)?;
        let generators = generators(&config)?;
        let prompts = Prompts::load(&config.data_dir.join("prompts"))?;
        let store = Arc::new(Store::open(&config.data_dir, StoreOptions::default())?);
        let catalog = Catalog::open(store, encoders.clone(), IndexOptions::default())?;
        let worker = match &config.extract.worker {
            Some(worker) => worker.clone(),
            None => std::env::current_exe().map_err(|e| {
                Error::internal("NO_PROGRAM", "the path of this program is unknown").with_source(e)
            })?,
        };
        let timeout = Duration::from_secs(config.extract.timeout_seconds);
        let extractor = Extractor::new(worker, timeout, config.extract.memory_bytes, config.extract.workers);
        Ok(Self { config, encoders, generators, prompts, catalog, extractor })
    }
}

fn encoder_options(config: &Config) -> Result<EncoderOptions> {
    let settings = &config.encoder;
    let bad = |key: &str, value: &str| Error::invalid("BAD_CONFIG", format!("{key}: {value:?} is not known"));
    Ok(EncoderOptions {
        device: match settings.device.as_str() {
            "auto" => Device::Auto,
            "cpu" => Device::Cpu,
            "openvino" => Device::Openvino,
            "cuda" => Device::Cuda,
            other => return Err(bad("encoder.device", other)),
        },
        precision: match settings.precision.as_str() {
            "auto" => Precision::Auto,
            "fp32" => Precision::Fp32,
            "bf16" => Precision::Bf16,
            other => return Err(bad("encoder.precision", other)),
        },
        sessions: settings.sessions,
        threads: settings.threads,
        max_batch_tokens: settings.max_batch_tokens,
        queue_capacity: settings.queue_capacity,
    })
}

/// The generator that is loaded without being named, where it is there.
const DEFAULT_GENERATOR: &str = "SmolLM2-135M-Instruct";

/// Loads the generators that the configuration names.
fn generators(config: &Config) -> Result<Generators> {
    let settings = &config.generator;
    let options = GeneratorOptions {
        device: match settings.device.as_str() {
            "cpu" => Device::Cpu,
            "cuda" => Device::Cuda,
            _ => Device::Auto,
        },
        threads: settings.threads,
        spinning: settings.spinning,
        context_tokens: settings.context_tokens,
        slots: settings.slots,
        queue_capacity: settings.queue_capacity,
        prefill_tokens: settings.prefill_tokens,
    };
    let mut generators = Vec::new();
    for name in settings.models.iter().filter(|name| name.as_str() != "none") {
        let models = config.data_dir.join("models");
        let path = if name == "auto" { models.join(DEFAULT_GENERATOR) } else { models.join(name) };
        if name == "auto" && !path.is_dir() {
            tracing::info!(expected = %path.display(), "no generator: answers are extractive");
            continue;
        }
        let generator = Generator::load(&path, options)?;
        let info = generator.info();
        tracing::info!(
            model = info.id,
            provider = info.execution_provider,
            precision = info.precision,
            context_tokens = info.context_tokens,
            slots = settings.slots,
            "generator loaded"
        );
        generators.push(generator);
    }
    Ok(Generators::new(generators))
}

fn answer_options(config: &Config) -> AnswerOptions {
    let settings = &config.answer;
    AnswerOptions {
        passages: settings.passages,
        extractive_passages: settings.extractive_passages,
        extractive_sentences: settings.extractive_sentences,
        max_tokens: settings.max_tokens,
        answerability_threshold: settings.answerability_threshold,
        support_threshold: settings.support_threshold,
        prompt: settings.prompt.clone(),
    }
}

/// Serves until `shutdown` resolves, then finishes the calls that run.
///
/// # Errors
/// `SERVE_FAILED` where the transport fails.
pub async fn run(parts: Parts, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<()> {
    let Parts { config, encoders, generators, prompts, catalog, extractor } = parts;
    let failed = |e: &dyn std::fmt::Display| Error::internal("SERVE_FAILED", format!("serving failed: {e}"));
    let ingest = Arc::new(Ingest::new(catalog.clone(), encoders.clone(), extractor));
    let search = Arc::new(Search::new(catalog.clone(), encoders.clone()));
    let max = config.limits.max_message_bytes;
    let batch = config.limits.max_batch_size;
    let answering = Answering::new(
        search.clone(),
        catalog.clone(),
        encoders.clone(),
        generators.clone(),
        prompts,
        answer_options(&config),
    )?;
    let answer = grpc::Answer { answering: Arc::new(answering) };
    let admin = grpc::Admin {
        encoders: encoders.clone(),
        generators: generators.clone(),
        limits: config.limits.clone(),
        schema_version: SCHEMA_VERSION,
    };
    let embedding = grpc::Embedding { encoders, max_batch_size: batch };
    let collections = grpc::Collections { catalog: catalog.clone() };
    let documents = grpc::Documents { ingest, catalog, max_batch_size: batch };

    use proto::admin_service_server::AdminServiceServer;
    use proto::answer_service_server::AnswerServiceServer;
    use proto::collection_service_server::CollectionServiceServer;
    use proto::document_service_server::DocumentServiceServer;
    use proto::embedding_service_server::EmbeddingServiceServer;
    use proto::search_service_server::SearchServiceServer;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<SearchServiceServer<grpc::Search>>().await;
    health.set_serving::<AnswerServiceServer<grpc::Answer>>().await;
    health.set_serving::<DocumentServiceServer<grpc::Documents>>().await;
    health.set_serving::<EmbeddingServiceServer<grpc::Embedding>>().await;
    health.set_serving::<CollectionServiceServer<grpc::Collections>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|e| failed(&e))?;
    Server::builder()
        .layer(crate::telemetry::calls())
        .concurrency_limit_per_connection(config.limits.max_concurrent_requests)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(AdminServiceServer::new(admin))
        .add_service(
            AnswerServiceServer::new(answer).max_decoding_message_size(max).max_encoding_message_size(max),
        )
        .add_service(CollectionServiceServer::new(collections))
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
            SearchServiceServer::new(grpc::Search { search })
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
        )
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown)
        .await
        .map_err(|e| failed(&e))
}
