//! The runtime library, the models, the prompts, and the worker that extracts files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;

use super::Report;
use crate::answer::Prompts;
use crate::config::Config;
use crate::encoder::{CrossEncoder, EmbedOptions, Encoder, EncoderOptions};
use crate::error::{Error, Result};
use crate::extract::{Extractor, find_pdfium};
use crate::generator::{Event, Generator, GeneratorInfo, GeneratorOptions, Prompt, Sampling};
use crate::model::decoder::DecoderDir;
use crate::model::{ModelDir, Runtime};
use crate::server::{DEFAULT_GENERATOR, encoder_options, generator_options, model_dir, named};

/// How to get the library and the default models.
const FETCH: &str = "`trove setup` fetches it";
/// A PDF of one page without text.
const EMPTY_PDF: &[u8] = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n\
    2 0 obj<</Type/Pages/Count 1/Kids[3 0 R]>>endobj\n\
    3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n";
/// Context of the generator that is tried: its KV cache is small.
const TRIAL_CONTEXT: usize = 256;
/// Most tokens of a context whose size is left to the program.
const MOST_CONTEXT: usize = 8192;

/// Loads everything and tries it out. Blocks. Gives the bytes that the caches of the generators may take in a server.
pub fn check(report: &mut Report, config: &Config) -> usize {
    let has_runtime = runtime(report, config);
    for name in &config.encoder.models {
        encoder(report, config, name, has_runtime);
    }
    for name in named(&config.reranker.models) {
        cross_encoder(report, config, name, has_runtime);
    }
    let mut caches = 0_usize;
    for name in named(&config.generator.models) {
        caches = caches.saturating_add(generator(report, config, name, has_runtime).unwrap_or_default());
    }
    prompts(report, config);
    caches
}

fn told(error: &Error) -> String {
    format!("{}: {}", error.reason, error.message)
}

/// Whether the library is loaded.
fn runtime(report: &mut Report, config: &Config) -> bool {
    let name = "runtime library";
    let place = config.encoder.library.clone().unwrap_or_else(|| config.data_dir.join("runtime"));
    if let Err(error) = Runtime::init(&place) {
        let remedy =
            format!("{FETCH}; or set encoder.library to an ONNX Runtime library of version 1.24 or later");
        report.problem(name, told(&error), remedy);
        return false;
    }
    let path = Runtime::find(&place).unwrap_or(place);
    let build = Runtime::build_info().unwrap_or_default();
    let build: Vec<&str> = build.split(", ").take(2).collect();
    report.ok(name, format!("{} loads ({})", path.display(), build.join(", ")));
    true
}

fn encoder(report: &mut Report, config: &Config, name: &str, has_runtime: bool) {
    let label = format!("encoder {name}");
    let path = model_dir(config, name);
    let model = match ModelDir::open(&path) {
        Ok(model) => model,
        Err(error) => return report.problem(&label, told(&error), mend(&error)),
    };
    let hashes =
        if model.imported { "files as imported" } else { "files readable, without hashes of an import" };
    if !has_runtime {
        return report.warning(&label, format!("{hashes}; not tried out"), "mend the runtime library first");
    }
    match try_encoder(config, &path) {
        Ok((provider, precision)) => {
            report.ok(&label, format!("{hashes}; embeds a text with {provider} in {precision}"));
            if config.encoder.device == "auto" && cfg!(target_arch = "x86_64") && precision == "fp32" {
                report.ok(&label, "no faster precision on this processor: bf16 needs AVX512-BF16");
            }
        }
        Err(error) => report.problem(&label, told(&error), mend(&error)),
    }
}

fn cross_encoder(report: &mut Report, config: &Config, name: &str, has_runtime: bool) {
    let label = format!("cross-encoder {name}");
    let path = model_dir(config, name);
    if let Err(error) = ModelDir::open(&path) {
        return report.problem(&label, told(&error), mend(&error));
    }
    if !has_runtime {
        return report.warning(&label, "not tried out", "mend the runtime library first");
    }
    let scored = encoder_options(config).and_then(|options| {
        let model = CrossEncoder::load(&path, EncoderOptions { sessions: 1, ..options })?;
        let texts = vec!["A text to try.".to_owned()];
        futures::executor::block_on(model.score("Is this a text?".to_owned(), texts))?;
        Ok((model.info().execution_provider, model.info().precision))
    });
    match scored {
        Ok((provider, precision)) => {
            report.ok(&label, format!("scores a text with {provider} in {precision}"))
        }
        Err(error) => report.problem(&label, told(&error), mend(&error)),
    }
}

/// Loads one session as the server would, which compares it with fp32, and embeds a text.
fn try_encoder(config: &Config, path: &Path) -> Result<(&'static str, &'static str)> {
    let options = EncoderOptions { sessions: 1, ..encoder_options(config)? };
    let encoder = Encoder::load(path, options)?;
    let how = EmbedOptions::document();
    let output = futures::executor::block_on(encoder.embed(vec!["A text to try.".to_owned()], &how))?;
    let vector = output.results.first().and_then(|result| result.embeddings.first());
    let is_sound = |vector: &[f32]| !vector.is_empty() && vector.iter().all(|x| x.is_finite());
    if !vector.is_some_and(|(_, vector)| is_sound(vector)) {
        return Err(Error::internal("NO_VECTOR", "the encoder gave no vector of numbers"));
    }
    Ok((encoder.info().execution_provider, encoder.info().precision))
}

/// Tries a generator; the bytes of its caches in a server, where that is known.
fn generator(report: &mut Report, config: &Config, name: &str, has_runtime: bool) -> Option<usize> {
    let is_auto = name == "auto";
    let name = if is_auto { DEFAULT_GENERATOR } else { name };
    let label = format!("generator {name}");
    let path = model_dir(config, name);
    if is_auto && !path.is_dir() {
        let remedy = format!("{FETCH}, or set generator.models to none");
        report.warning(&label, "not there: answers are extractive", remedy);
        return None;
    }
    if !has_runtime {
        report.warning(&label, "not tried out", "mend the runtime library first");
        return None;
    }
    if path.is_dir() && !DecoderDir::has_graph(&path) {
        let remedy = "none needed: the first start writes it";
        report.warning(&label, "its graph is not written yet", remedy);
        return None;
    }
    match try_generator(config, &path) {
        Ok(info) => {
            let (provider, precision) = (info.execution_provider, &info.precision);
            report.ok(&label, format!("writes a token with {provider} in {precision}"));
            let tokens = (info.context_tokens as usize).max(1);
            let context = match config.generator.context_tokens {
                0 => MOST_CONTEXT,
                tokens => tokens,
            };
            Some((info.cache_bytes / tokens).saturating_mul(context).saturating_mul(config.generator.slots))
        }
        Err(error) => {
            report.problem(&label, told(&error), mend(&error));
            None
        }
    }
}

fn try_generator(config: &Config, path: &Path) -> Result<GeneratorInfo> {
    let options = GeneratorOptions { slots: 1, context_tokens: TRIAL_CONTEXT, ..generator_options(config)? };
    let generator = Generator::load(path, options)?;
    let sampling = Sampling { max_tokens: 1, ..Sampling::default() };
    // Within the runtime, since the tokenizer runs on one of its blocking threads.
    let handle = tokio::runtime::Handle::current();
    let written = handle.block_on(async {
        let mut events = generator.generate(Prompt::Text("A text to".to_owned()), sampling).await?;
        while let Some(event) = events.next().await {
            if let Event::Done(finish) = event? {
                return Ok(finish.completion_tokens);
            }
        }
        Ok::<u32, Error>(0)
    })?;
    if written == 0 {
        return Err(Error::internal("NO_TOKEN", "the generator wrote no token"));
    }
    Ok(generator.info().clone())
}

/// How to mend a model.
fn mend(error: &Error) -> String {
    match error.reason {
        "MODEL_NOT_FOUND" => {
            format!("{FETCH} if it is a default one; else `trove models import` or `pull`, or correct the setting")
        }
        "DAMAGED_MODEL" | "MODEL_FILE_MISSING" => {
            "import it again: `trove models import DIR --name NAME --replace`; or fetch it again".to_owned()
        }
        "DEVICE_UNAVAILABLE" => {
            "install what the device needs (driver, CUDA 13 and cuDNN 9, an ONNX Runtime library that has it), or set \
             the device to auto or cpu"
                .to_owned()
        }
        "UNSUPPORTED_PRECISION" | "INEXACT_SESSION" => "set encoder.precision to auto".to_owned(),
        _ => "docs/MODELS.md says what a model must be".to_owned(),
    }
}

fn prompts(report: &mut Report, config: &Config) {
    let checked =
        Prompts::load(&config.data_dir.join("prompts")).and_then(|p| p.check(&config.answer.prompt));
    match checked {
        Ok(()) => report.ok("prompts", format!("{:?} is there", config.answer.prompt)),
        Err(error) => {
            report.problem("prompts", told(&error), "correct the file in data_dir/prompts, or answer.prompt")
        }
    }
}

/// Looks whether PDF files can be read.
async fn pdfium(report: &mut Report, config: &Config, extractor: &Extractor) {
    let name = "PDFium library";
    let place = config.pdfium();
    match extractor.extract(EMPTY_PDF.to_vec(), "application/pdf").await {
        // That is what there is to read.
        Err(error) if error.reason == "EMPTY_DOCUMENT" => {
            let path = find_pdfium(&place).unwrap_or(place);
            report.ok(name, format!("{} reads a page in a worker", path.display()));
        }
        Err(error) => {
            let remedy = format!(
                "{FETCH}; or set extract.pdfium to a PDFium library; other formats are read without it"
            );
            report.problem(name, told(&error), remedy);
        }
        Ok(_) => report.problem(name, "it reads text on a page without any", FETCH),
    }
}

/// Extracts a small page in a worker, as the server would.
pub async fn check_extraction(report: &mut Report, config: &Config) {
    let name = "extraction";
    let settings = &config.extract;
    let worker: Option<PathBuf> = settings.worker.clone().or_else(|| std::env::current_exe().ok());
    let Some(worker) = worker else {
        return report.problem(name, "the path of this program is unknown", "set extract.worker");
    };
    let timeout = Duration::from_secs(settings.timeout_seconds);
    let extractor =
        Extractor::new(worker.clone(), timeout, settings.memory_bytes, 1).with_pdfium(config.pdfium());
    match extractor.extract(b"<p>A page to try.</p>".to_vec(), "text/html").await {
        Ok(_) => {
            report.ok(name, "a worker reads a page");
            pdfium(report, config, &extractor).await;
        }
        Err(error) => report.problem(
            name,
            format!("{} with {}", told(&error), worker.display()),
            "set extract.worker to this program and extract.memory_bytes to at least 256 MiB",
        ),
    }
}
