use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::cross_encoder::Pairs;
use super::meter::Meter;
use super::options::{EncoderInfo, EncoderOptions};
use super::queue::Queue;
use super::tokens::TextTokenizer;
use super::workers::Workers;
use super::{BULK_SHARE, CrossEncoder, CrossEncoderInfo, Encoder, verify};
use crate::error::{Error, Result};
use crate::fair::{Fair, Shares};
use crate::model::{
    CudaOptions, Device, EncoderGraph, EncoderSession, LoadedModel, ModelDir, ModelKind, Precision,
    SessionOptions,
};

/// Most sessions where the number is not given.
const MAX_AUTO_SESSIONS: usize = 4;
/// Shows whether a tokenizer tells cases apart.
const CASES: &str = "The ABC of Łódź";
/// Tokens by which a prompt and a passage may come to more than each by itself.
const PROMPT_SLACK: usize = 2;

impl Encoder {
    /// Loads a model directory; [`crate::model::Runtime::init`] must have been called.
    ///
    /// # Errors
    /// What is wrong with the model ([`ModelDir::load`]), the tokenizer or the device; `WRONG_MODEL_KIND` for a
    /// cross-encoder; `INEXACT_SESSION` where its vectors are off.
    pub fn load(model_dir: &Path, options: EncoderOptions) -> Result<Arc<Self>> {
        let (LoadedModel { model, mut graph, projection, .. }, tokenizer) = read(model_dir)?;
        if model.kind != ModelKind::Encoder {
            return Err(wrong_kind(&model, "an encoder"));
        }
        let passage_tokens = passage_tokens(&model, &tokenizer)? as u32;
        let check = |reference: &mut EncoderSession, candidate: &mut EncoderSession, precision| {
            verify::Check { tokenizer: &tokenizer, model: &model }.run(reference, candidate, precision)
        };
        let padding = padding(&model, &tokenizer);
        let (sessions, resolved) = Loading { graph: &graph, padding, check: &check }.sessions(options)?;

        // Input embeddings are of another space than what dense layers give.
        let table = graph.take_table().filter(|_| !projection.is_dense());
        let info = EncoderInfo {
            id: model.id.clone(),
            revision: model.revision.clone(),
            dimensions: model.dimensions() as u32,
            max_tokens: model.max_tokens as u32,
            passage_tokens,
            execution_provider: resolved.provider(),
            precision: resolved.precision.as_str(),
            pooling: model.pooling,
            normalize: model.normalize,
            has_static: table.is_some(),
            prompts: model.prompts.keys().cloned().collect(),
            default_prompt: model.default_prompt.clone(),
        };
        let bulk_room = (options.queue_capacity / 2).max(1);
        let (bulk, bulk_share) = (Fair::new(bulk_room), bulk_room.div_ceil(BULK_SHARE));
        let workers = Workers::start("encoder", sessions, queue(&model, options), model.state_width())?;
        let large = Shares::new(options.queue_capacity.max(1));
        let read = Arc::new(Semaphore::new(super::READ_AT_ONCE));
        let projection = Arc::new(projection);
        Ok(Arc::new(Self {
            info,
            model,
            tokenizer,
            table,
            projection,
            workers,
            read,
            bulk,
            bulk_share,
            large,
        }))
    }
}

impl CrossEncoder {
    /// Loads a model directory; [`crate::model::Runtime::init`] must have been called.
    ///
    /// # Errors
    /// What is wrong with the model ([`ModelDir::load`]), the tokenizer or the device; `WRONG_MODEL_KIND` for an
    /// encoder; `INEXACT_SESSION` where its logits are off.
    pub fn load(model_dir: &Path, options: EncoderOptions) -> Result<Arc<Self>> {
        let (LoadedModel { model, graph, .. }, tokenizer) = read(model_dir)?;
        let ModelKind::CrossEncoder(activation) = model.kind else {
            return Err(wrong_kind(&model, "a cross-encoder (a sequence classifier with one label)"));
        };
        let pairs = Pairs::new(tokenizer, model.max_tokens)?;
        let check = |reference: &mut EncoderSession, candidate: &mut EncoderSession, precision| {
            verify::check_logits(&pairs, reference, candidate, precision)
        };
        let padding = padding(&model, &pairs.tokenizer);
        let (sessions, resolved) = Loading { graph: &graph, padding, check: &check }.sessions(options)?;
        let info = CrossEncoderInfo {
            id: model.id.clone(),
            revision: model.revision.clone(),
            max_tokens: model.max_tokens as u32,
            execution_provider: resolved.provider(),
            precision: resolved.precision.as_str(),
            activation,
        };
        let workers = Workers::start("cross-encoder", sessions, queue(&model, options), 1)?;
        Ok(Arc::new(Self::new(info, pairs, workers)))
    }
}

fn wrong_kind(model: &ModelDir, expected: &str) -> Error {
    let got = match model.kind {
        ModelKind::Encoder => "an encoder",
        ModelKind::CrossEncoder(_) => "a cross-encoder",
    };
    Error::precondition(
        "WRONG_MODEL_KIND",
        format!("model {:?}: expected {expected}, got {got} of family {:?}", model.id, model.family),
    )
}

pub(super) fn padding(model: &ModelDir, tokenizer: &TextTokenizer) -> u32 {
    model.padding.or(tokenizer.padding).unwrap_or(0)
}

pub(super) fn queue(model: &ModelDir, options: EncoderOptions) -> Arc<Queue> {
    Arc::new(Queue::new(options.queue_capacity, options.max_batch_tokens, Meter::new(&model.id)))
}

/// Checks that a model directory makes an encoder or a cross-encoder: its files, tokenizer and, where the runtime is
/// loaded, a session on the CPU.
///
/// # Errors
/// Those of [`Encoder::load`] and [`CrossEncoder::load`].
pub fn check_model(model_dir: &Path, with_session: bool) -> Result<()> {
    let (LoadedModel { model, graph, .. }, tokenizer) = read(model_dir)?;
    if with_session {
        EncoderSession::load(&graph, padding(&model, &tokenizer), plain(1))?;
    }
    match model.kind {
        ModelKind::Encoder => passage_tokens(&model, &tokenizer).map(drop),
        ModelKind::CrossEncoder(_) => Pairs::new(tokenizer, model.max_tokens).map(drop),
    }
}

/// Reads a model and its tokenizer, which must fit each other.
fn read(model_dir: &Path) -> Result<(LoadedModel, TextTokenizer)> {
    with_tokenizer(ModelDir::load(model_dir)?)
}

/// The same of a model with an adapter that gives so many values of each token.
pub(super) fn read_adapted(
    model_dir: &Path,
    adapter: &[u8],
    width: usize,
) -> Result<(LoadedModel, TextTokenizer)> {
    with_tokenizer(ModelDir::load_adapted(model_dir, adapter, width)?)
}

fn with_tokenizer(loaded: LoadedModel) -> Result<(LoadedModel, TextTokenizer)> {
    let tokenizer = TextTokenizer::read(&loaded.tokenizer)?;
    let rows = loaded.graph.vocabulary().or(loaded.model.vocabulary());
    let greatest = tokenizer.greatest_id();
    if let Some(rows) = rows.filter(|&rows| rows <= greatest as usize) {
        return Err(Error::precondition(
            "VOCABULARY_MISMATCH",
            format!("expected token ids below {rows}, which the model has, got {greatest} in tokenizer.json"),
        ));
    }
    if loaded.model.lower_case && tokenizer.encode(CASES)?.ids != tokenizer.encode(&CASES.to_lowercase())?.ids
    {
        return Err(Error::precondition(
            "UNSUPPORTED_MODEL",
            "sentence_bert_config.json: do_lower_case wants texts in lower case, and tokenizer.json tells cases apart: \
             add the normalizer Lowercase to it",
        ));
    }
    Ok((loaded, tokenizer))
}

/// What special tokens and the passages' prompt leave of the limit.
fn passage_tokens(model: &ModelDir, tokenizer: &TextTokenizer) -> Result<usize> {
    let prompt = model.passage_prompt().and_then(|name| model.prompts.get(name));
    let prompt = match prompt {
        Some(prompt) if !prompt.is_empty() => tokenizer.encode(prompt)?.ids.len() + PROMPT_SLACK,
        _ => 0,
    };
    let taken = tokenizer.frame.len() + prompt;
    model.max_tokens.checked_sub(taken).filter(|&left| left > 0).ok_or_else(|| {
        Error::precondition(
            "UNSUPPORTED_MODEL",
            format!(
                "expected a limit of more than {taken} tokens, which special tokens and prompt take, got {}",
                model.max_tokens
            ),
        )
    })
}

/// Exact fp32 on the CPU, which all else is measured by.
fn plain(threads: usize) -> SessionOptions {
    SessionOptions {
        device: Device::Cpu,
        precision: Precision::Fp32,
        threads: threads.max(1),
        cuda: CudaOptions::default(),
    }
}

/// Compares a session with exact fp32.
pub(super) type Compare<'a> = dyn Fn(&mut EncoderSession, &mut EncoderSession, Precision) -> Result<()> + 'a;

pub(super) struct Loading<'a> {
    pub graph: &'a EncoderGraph,
    pub padding: u32,
    pub check: &'a Compare<'a>,
}

/// Sessions of each model where so many are wanted; zero leaves it to the program.
pub fn sessions(wanted: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if wanted == 0 { cores.min(MAX_AUTO_SESSIONS) } else { wanted }
}

impl Loading<'_> {
    /// Sessions that agree with fp32, of the first candidate that does.
    pub fn sessions(&self, options: EncoderOptions) -> Result<(Vec<EncoderSession>, SessionOptions)> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = sessions(options.sessions);
        let threads = if options.threads == 0 { (cores / count).max(1) } else { options.threads };
        let EncoderOptions { device, precision, cuda, .. } = options;
        let wanted = SessionOptions { device, precision, threads, cuda };
        let mut failed = None;
        for candidate in wanted.candidates()? {
            if let Some(error) = failed.take() {
                let error: Error = error;
                tracing::warn!(
                    %error,
                    provider = candidate.provider(),
                    precision = candidate.precision.as_str(),
                    "falling back"
                );
            }
            match self.checked(candidate, count) {
                Ok(sessions) => return Ok((sessions, candidate)),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| Error::internal("SESSION_FAILED", "no device to try")))
    }

    fn checked(&self, options: SessionOptions, count: usize) -> Result<Vec<EncoderSession>> {
        let prepared = self.graph.prepare(&options)?;
        let graph = prepared.as_ref().unwrap_or(self.graph);
        let load = || EncoderSession::load(graph, self.padding, options);
        let mut first = load()?;
        if !(options.device == Device::Cpu && options.precision == Precision::Fp32) {
            let mut reference = EncoderSession::load(self.graph, self.padding, plain(options.threads))?;
            (self.check)(&mut reference, &mut first, options.precision)?;
        }
        let mut sessions = vec![first];
        for _ in 1..count {
            sessions.push(load()?);
        }
        Ok(sessions)
    }
}
