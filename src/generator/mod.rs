//! Text from a decoder-only model: chat template, tokens, sampling, many callers.

mod draft;
mod engine;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod meter;
mod options;
mod queue;
mod sample;
mod stream;
mod template;
mod text;
mod tokens;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::unbounded_channel;
use tracing::{Span, debug_span};

pub use options::{
    Event, Finish, FinishReason, GeneratorInfo, GeneratorOptions, MAX_STOP_BYTES, MAX_STOP_STRINGS, Message,
    Prompt, Role, Sampling,
};
pub use stream::GenerationStream;

use crate::error::{Error, Result};
use crate::model::decoder::{DecoderDir, DecoderOptions, DecoderSession};
use crate::party::Party;
use crate::task;
use engine::{Engine, EngineOptions};
use meter::Meter;
use queue::{Job, Queue, Served};
use template::ChatTemplate;
use tokens::ChatTokenizer;

/// A loaded generator with its engine thread.
pub struct Generator {
    info: GeneratorInfo,
    tokenizer: Arc<ChatTokenizer>,
    queue: Arc<Queue>,
    slots: usize,
    engine: Option<std::thread::JoinHandle<()>>,
}

impl Generator {
    /// Loads a model directory; [`crate::model::Runtime::init`] must have been called. A directory that holds a GGUF file
    /// or safetensors and no graph gets its graph written first.
    ///
    /// # Errors
    /// Those of [`DecoderDir::open`] and [`DecoderSession::load`]; `VOCABULARY_MISMATCH`, `BAD_CHAT_TEMPLATE`,
    /// `CONTEXT_TOO_LONG` for a context beyond the model's.
    pub fn load(model_dir: &Path, options: GeneratorOptions) -> Result<Arc<Self>> {
        let model = DecoderDir::open(model_dir)?;
        let context_tokens = context_tokens(options.context_tokens, model.context_tokens)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = options.slots.max(1);
        let decoder = DecoderOptions {
            device: options.device,
            threads: if options.threads == 0 { cores } else { options.threads },
            spinning: options.spinning,
            context_tokens,
            slots,
            cuda: options.cuda,
        };
        let session = DecoderSession::load(&model.graph, decoder)?;
        let template = match model.chat_template {
            Some(source) => Some(ChatTemplate::new(source, model.start_token, model.end_token)?),
            None => None,
        };
        let vocabulary = session.vocabulary();
        let tokenizer = ChatTokenizer::load(&model.path.join("tokenizer.json"), vocabulary, template)?;
        let tokenizer = Arc::new(tokenizer);
        let queue = Arc::new(Queue::new(options.queue_capacity, Meter::new(&model.id)));
        let info = GeneratorInfo {
            id: model.id,
            revision: model.revision,
            execution_provider: session.provider(),
            precision: model.precision,
            context_tokens: context_tokens as u32,
            vocabulary: vocabulary as u32,
            cache_bytes: session.cache_bytes(),
        };
        let engine_options = EngineOptions {
            slots,
            context_tokens,
            prefill_tokens: options.prefill_tokens.max(2),
            end_ids: model.end_ids,
        };
        let engine = Engine::new(session, Arc::clone(&tokenizer), Arc::clone(&queue), engine_options);
        let served = Served(Arc::clone(&queue));
        let run = move || {
            let _served = served;
            engine.run();
        };
        let engine = std::thread::Builder::new().name("generator".to_owned()).spawn(run).map_err(|e| {
            Error::internal("THREAD_FAILED", "cannot start the generator's thread").with_source(e)
        })?;
        Ok(Arc::new(Self { info, tokenizer, queue, slots, engine: Some(engine) }))
    }

    /// What it is and how it runs.
    pub fn info(&self) -> &GeneratorInfo {
        &self.info
    }

    /// Generations that wait for a slot.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Waiting generations from which on more are refused.
    pub fn queue_capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// Generations that can run at once.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Generations that run.
    pub fn running(&self) -> usize {
        self.queue.meter.slots_in_use()
    }

    /// Number of tokens of a text, without a chat template.
    pub fn count_tokens(&self, text: &str) -> Result<usize> {
        self.tokenizer.plain_ids(text).map(|ids| ids.len())
    }

    /// Tokens of a text, without those that start a text. Special tokens in it are recognised.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.plain_ids(text)
    }

    /// Text of tokens, without special ones.
    ///
    /// # Errors
    /// `UNKNOWN_TOKEN_ID`.
    pub fn detokenize(&self, ids: &[u32]) -> Result<String> {
        if let Some(unknown) = ids.iter().find(|&&id| id >= self.info.vocabulary) {
            return Err(Error::invalid(
                "UNKNOWN_TOKEN_ID",
                format!("expected ids below {}, got {unknown}", self.info.vocabulary),
            ));
        }
        self.tokenizer.decode(ids)
    }

    /// The text that the chat template makes of messages, up to where the model's answer starts.
    ///
    /// # Errors
    /// `NO_CHAT_TEMPLATE` where the model has none, `EMPTY_PROMPT`, `BAD_MESSAGES` where the template refuses them.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        self.tokenizer.render(messages)
    }

    /// Number of tokens of a conversation, the template's included.
    ///
    /// # Errors
    /// As of [`Generator::render`].
    pub fn prompt_tokens(&self, messages: &[Message]) -> Result<usize> {
        self.tokenizer.encode_messages(messages).map(|ids| ids.len())
    }

    /// Queues a generation. Dropping the stream cancels it at the next token.
    ///
    /// # Errors
    /// `BAD_SAMPLING`, `EMPTY_PROMPT`, `BAD_MESSAGES`, `PROMPT_TOO_LONG`, `NO_CHAT_TEMPLATE`, `QUEUE_FULL`, `STOPPING`:
    /// nothing has started then.
    pub async fn generate(&self, prompt: Prompt, sampling: Sampling) -> Result<GenerationStream> {
        sampling.validate()?;
        let since = Instant::now();
        let tokenizer = Arc::clone(&self.tokenizer);
        let encode = move || match prompt {
            Prompt::Messages(messages) => tokenizer.encode_messages(&messages),
            Prompt::Text(text) if text.is_empty() => {
                Err(Error::invalid("EMPTY_PROMPT", "expected a prompt with text"))
            }
            Prompt::Text(text) => tokenizer.encode(&text),
        };
        // A long prompt takes milliseconds, in which no other call would be served here.
        let prompt = task::blocking("TOKENIZER_FAILED", encode).await?;
        self.check_length(prompt.len(), sampling.max_tokens)?;
        let (events, receiver) = unbounded_channel();
        let (parent, party) = (Span::current(), Party::current());
        let waiting = debug_span!(parent: &parent, "generator.queue");
        self.queue.push(Job { prompt, sampling, events, party, since, parent, waiting })?;
        Ok(GenerationStream::new(receiver))
    }

    fn check_length(&self, prompt: usize, max_tokens: u32) -> Result<()> {
        let context = self.info.context_tokens as usize;
        if prompt == 0 {
            return Err(Error::invalid("EMPTY_PROMPT", "expected a prompt of at least one token"));
        }
        if prompt.saturating_add(max_tokens as usize) > context {
            return Err(Error::invalid(
                "PROMPT_TOO_LONG",
                format!(
                    "expected prompt and answer within {context} tokens, got {prompt} and max_tokens {max_tokens}"
                ),
            ));
        }
        Ok(())
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(engine) = self.engine.take() {
            // An engine that panicked has nothing left to clean up.
            let _ = engine.join();
        }
    }
}

/// What was asked for, within what the model was trained for.
fn context_tokens(wanted: usize, model: usize) -> Result<usize> {
    match (wanted, model) {
        (0, 0) => Err(Error::precondition(
            "UNSUPPORTED_MODEL",
            "the model does not say its context; expected max_position_embeddings in its config.json",
        )),
        (0, model) => Ok(model.min(GeneratorOptions::AUTO_CONTEXT)),
        (wanted, model) if model > 0 && wanted > model => Err(Error::invalid(
            "CONTEXT_TOO_LONG",
            format!("expected a context of at most {model} tokens as the model has, got {wanted}"),
        )),
        (wanted, _) => Ok(wanted),
    }
}
