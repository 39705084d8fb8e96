use std::time::Duration;

use crate::domain::Span;
use crate::model::{CudaOptions, Device, Pooling, Precision};

/// How to load an encoder.
#[derive(Debug, Clone, Copy)]
pub struct EncoderOptions {
    /// Where it runs.
    pub device: Device,
    /// In which precision.
    pub precision: Precision,
    /// Settings of the CUDA provider.
    pub cuda: CudaOptions,
    /// Sessions; zero for one per core, four at most.
    pub sessions: usize,
    /// Threads of each session; zero to share the cores out.
    pub threads: usize,
    /// Most tokens of a batch, padding included.
    pub max_batch_tokens: usize,
    /// Waiting inputs from which on new ones are turned away, of interactive and of bulk work each.
    pub queue_capacity: usize,
}

impl Default for EncoderOptions {
    fn default() -> Self {
        Self {
            device: Device::Auto,
            precision: Precision::Auto,
            cuda: CudaOptions::default(),
            sessions: 0,
            threads: 0,
            max_batch_tokens: 1024,
            queue_capacity: 4096,
        }
    }
}

/// What an encoder is and how it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderInfo {
    /// Name of the model.
    pub id: String,
    /// Content hash of the model's files.
    pub revision: String,
    /// Width of the vectors.
    pub dimensions: u32,
    /// Most tokens of an input, special ones included.
    pub max_tokens: u32,
    /// Most tokens of a passage: what special tokens and the passages' prompt leave of `max_tokens`.
    pub passage_tokens: u32,
    /// ONNX Runtime's provider.
    pub execution_provider: &'static str,
    /// What it computes in.
    pub precision: &'static str,
    /// How the model was trained to pool.
    pub pooling: Pooling,
    /// Whether the model's vectors have unit length.
    pub normalize: bool,
    /// Whether it gives static vectors.
    pub has_static: bool,
    /// Names of its prompts, in order.
    pub prompts: Vec<String>,
    /// The prompt that is used where none is asked for.
    pub default_prompt: Option<String>,
}

/// Which token vectors are pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// The last hidden state, which depends on the whole input.
    Contextual,
    /// The input embedding table: the same vector for a token everywhere. Special tokens are left out, there is no
    /// token limit, and nothing waits for a session.
    Static,
}

/// Which spans of an input get a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// One per token.
    Token,
    /// One per word.
    Word,
    /// One per span that the splitter gives.
    Sentence,
    /// One per span that the splitter gives.
    Passage,
    /// One for the whole input.
    Document,
}

/// What happens to an input over the model's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// `INPUT_TOO_LONG`.
    Error,
    /// The end is cut.
    TruncateRight,
    /// The start is cut.
    TruncateLeft,
    /// Overlapping windows are run and pooled together.
    Window,
}

/// How to embed.
#[derive(Debug, Clone)]
pub struct EmbedOptions {
    /// Which spans get a vector.
    pub level: Level,
    /// Which token vectors are pooled.
    pub representation: Representation,
    /// How tokens are pooled, if not as the model was trained. For a model that was trained to pool one token of a whole
    /// text, static vectors, and words, sentences and passages within an input, are averaged.
    pub pooling: Option<Pooling>,
    /// Whether vectors are scaled to unit length.
    pub normalize: bool,
    /// Leading components to keep.
    pub dimensions: Option<u32>,
    /// Name of a prompt of the model that is put before each input; the model's default one where it is not told,
    /// and none where it is empty.
    pub prompt_name: Option<String>,
    /// What happens to long inputs.
    pub overflow: Overflow,
    /// Cuts an input for the levels sentence and passage.
    pub splitter: fn(&str) -> Vec<Span>,
}

impl EmbedOptions {
    /// One unit vector per input; an error for long ones.
    pub fn document() -> Self {
        Self {
            level: Level::Document,
            representation: Representation::Contextual,
            pooling: None,
            normalize: true,
            dimensions: None,
            prompt_name: None,
            overflow: Overflow::Error,
            splitter: |text| vec![Span::new(0, text.len() as u32)],
        }
    }
}

/// Vectors of one input.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedResult {
    /// One per span, in order; spans refer to the input.
    pub embeddings: Vec<(Span, Vec<f32>)>,
    /// Whether the input was cut.
    pub truncated: bool,
    /// Tokens that were run, special ones included.
    pub tokens: u32,
}

/// Vectors of all inputs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EmbedOutput {
    /// In the order of the inputs.
    pub results: Vec<EmbedResult>,
    /// Longest wait for a session.
    pub queue: Duration,
    /// Longest run.
    pub inference: Duration,
}

/// A passage to encode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PassageInput {
    /// What is encoded before the text, such as the title of its document; empty for none. It is part of the passage's
    /// vector and of no sentence's.
    pub context: String,
    /// Its text.
    pub text: String,
    /// Its sentences, relative to its text.
    pub sentences: Vec<Span>,
}

/// Vectors of a passage.
#[derive(Debug, Clone, PartialEq)]
pub struct PassageVectors {
    /// The passage's.
    pub passage: Vec<f32>,
    /// One per sentence.
    pub sentences: Vec<Vec<f32>>,
    /// What it adds to its document's vector: the sum of all token states, special ones included; where the model does
    /// not pool by the mean or has dense layers behind its pooling, the passage's vector.
    pub sum: Vec<f32>,
    /// Tokens, special ones included.
    pub tokens: u32,
}
