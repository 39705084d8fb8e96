//! Loads the models that a configuration names.

use std::path::PathBuf;
use std::sync::Arc;

use crate::answer::Generators;
use crate::config::Config;
use crate::encoder::{
    CrossEncoder, CrossEncoders, CudaOptions, Device, Encoder, EncoderOptions, Encoders, Precision, Reader,
};
use crate::error::{Error, Result};
use crate::generator::{Generator, GeneratorOptions};
use crate::model::Runtime;

/// The generator that is loaded without being named, where it is there.
pub(crate) const DEFAULT_GENERATOR: &str = "SmolLM2-135M-Instruct";

/// The model whose weights the reader changes.
pub(crate) const READER_BASE: &str = "all-MiniLM-L6-v2";

/// The models of a server.
pub(super) struct Models {
    pub encoders: Encoders,
    pub cross_encoders: CrossEncoders,
    pub reader: Option<Arc<Reader>>,
    pub generators: Generators,
}

/// Opens the runtime library and loads the models.
///
/// # Errors
/// What is missing or does not fit, by name.
pub(super) fn load(config: &Config) -> Result<Models> {
    let library = config.encoder.library.clone().unwrap_or_else(|| config.data_dir.join("runtime"));
    Runtime::init(&library)?;
    let options = encoder_options(config)?;
    Ok(Models {
        encoders: encoders(config, options)?,
        cross_encoders: cross_encoders(config, options)?,
        reader: reader(config, options)?,
        generators: generators(config)?,
    })
}

/// Where a model is.
pub(crate) fn model_dir(config: &Config, name: &str) -> PathBuf {
    config.data_dir.join("models").join(name)
}

/// The names in a list, in which `none` stands for no model.
pub(crate) fn named(models: &[String]) -> impl Iterator<Item = &str> {
    models.iter().map(String::as_str).filter(|name| *name != "none")
}

fn encoders(config: &Config, options: EncoderOptions) -> Result<Encoders> {
    let mut loaded = Vec::with_capacity(config.encoder.models.len());
    for name in &config.encoder.models {
        let encoder = Encoder::load(&model_dir(config, name), options)?;
        let info = encoder.info();
        tracing::info!(
            model = info.id,
            provider = info.execution_provider,
            precision = info.precision,
            dimensions = info.dimensions,
            max_tokens = info.max_tokens,
            "encoder loaded"
        );
        loaded.push(encoder);
    }
    Encoders::new(loaded)
}

fn cross_encoders(config: &Config, options: EncoderOptions) -> Result<CrossEncoders> {
    let mut loaded = Vec::new();
    for name in named(&config.reranker.models) {
        let model = CrossEncoder::load(&model_dir(config, name), options)?;
        let info = model.info();
        tracing::info!(
            model = info.id,
            provider = info.execution_provider,
            precision = info.precision,
            max_tokens = info.max_tokens,
            "cross-encoder loaded"
        );
        loaded.push(model);
    }
    Ok(CrossEncoders::new(loaded))
}

/// The reader, where its base model is there and the settings want it.
fn reader(config: &Config, options: EncoderOptions) -> Result<Option<Arc<Reader>>> {
    let path = model_dir(config, READER_BASE);
    if config.answer.reader == "none" {
        return Ok(None);
    }
    if !path.is_dir() {
        tracing::info!(expected = %path.display(), "no reader: answers are found by similarity and words alone");
        return Ok(None);
    }
    match Reader::load(&path, options) {
        Ok(reader) => Ok(Some(reader)),
        Err(error) if error.reason == "WRONG_BASE" => {
            tracing::warn!(%error, "no reader: answers are found by similarity and words alone");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn generators(config: &Config) -> Result<Generators> {
    let settings = &config.generator;
    let options = generator_options(config)?;
    let mut generators = Vec::new();
    for name in named(&settings.models) {
        let is_auto = name == "auto";
        let path = model_dir(config, if is_auto { DEFAULT_GENERATOR } else { name });
        if is_auto && !path.is_dir() {
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

/// How the encoders of a configuration are loaded.
pub(crate) fn encoder_options(config: &Config) -> Result<EncoderOptions> {
    let settings = &config.encoder;
    let bad = |key: &str, value: &str| Error::invalid("BAD_CONFIG", format!("{key}: {value:?} is not known"));
    let device = Device::parse(&settings.device).ok_or_else(|| bad("encoder.device", &settings.device))?;
    let precision =
        Precision::parse(&settings.precision).ok_or_else(|| bad("encoder.precision", &settings.precision))?;
    Ok(EncoderOptions {
        device,
        precision,
        cuda: cuda_options(config),
        sessions: settings.sessions,
        threads: settings.threads,
        max_batch_tokens: settings.max_batch_tokens,
        queue_capacity: settings.queue_capacity,
    })
}

/// How the generators of a configuration are loaded.
pub(crate) fn generator_options(config: &Config) -> Result<GeneratorOptions> {
    let settings = &config.generator;
    let device = Device::parse(&settings.device).ok_or_else(|| {
        Error::invalid("BAD_CONFIG", format!("generator.device: {:?} is not known", settings.device))
    })?;
    Ok(GeneratorOptions {
        device,
        threads: settings.threads,
        spinning: settings.spinning,
        context_tokens: settings.context_tokens,
        slots: settings.slots,
        queue_capacity: settings.queue_capacity,
        prefill_tokens: settings.prefill_tokens,
        cuda: cuda_options(config),
    })
}

fn cuda_options(config: &Config) -> CudaOptions {
    CudaOptions {
        device_id: config.cuda.device_id,
        memory_limit_bytes: config.cuda.memory_limit_bytes,
        exact_growth: config.cuda.arena_extend_strategy == "same_as_requested",
        tf32: config.cuda.tf32,
    }
}
