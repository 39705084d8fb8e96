use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::{CudaOptions, Device};

/// Most stop strings of a request.
pub const MAX_STOP_STRINGS: usize = 16;
/// Longest stop string in bytes.
pub const MAX_STOP_BYTES: usize = 256;

/// How to load a generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GeneratorOptions {
    /// Where it runs; `Auto` is the CPU.
    pub device: Device,
    /// Threads of the session; zero for one per core.
    pub threads: usize,
    /// Whether waiting threads of the session spin during a run: faster on a machine of its own, slower on a busy one.
    pub spinning: bool,
    /// Tokens of prompt and answer together; zero for the model's own limit, [`GeneratorOptions::AUTO_CONTEXT`] at most.
    pub context_tokens: usize,
    /// Generations that run at once, each with a KV cache of the whole context.
    pub slots: usize,
    /// Requests that may wait for a slot; beyond it `RESOURCE_EXHAUSTED`.
    pub queue_capacity: usize,
    /// Prompt tokens that are computed at once; others get their turn in between.
    pub prefill_tokens: usize,
    /// Settings of the CUDA provider.
    pub cuda: CudaOptions,
}

impl GeneratorOptions {
    /// Largest context where the number is not given: the KV cache of a longer one takes much memory.
    pub const AUTO_CONTEXT: usize = 8192;
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        Self {
            device: Device::Auto,
            threads: 0,
            spinning: true,
            context_tokens: 0,
            slots: 4,
            queue_capacity: 64,
            prefill_tokens: 256,
            cuda: CudaOptions::default(),
        }
    }
}

/// What a generator is and how it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratorInfo {
    /// Name of the model.
    pub id: String,
    /// Content hash of the model's files.
    pub revision: String,
    /// ONNX Runtime's provider.
    pub execution_provider: &'static str,
    /// Type of the weights, such as `int4`.
    pub precision: String,
    /// Most tokens of prompt and answer together.
    pub context_tokens: u32,
    /// Size of the vocabulary.
    pub vocabulary: u32,
    /// Most bytes that its KV caches take once all of their tokens are used.
    pub cache_bytes: usize,
}

/// Who said a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// As chat templates spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who.
    pub role: Role,
    /// What.
    pub content: String,
}

impl Message {
    /// A message of a role.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// What to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// A conversation, oldest first; the model's chat template makes text of it.
    Messages(Vec<Message>),
    /// Text as it is; special tokens in it are recognised.
    Text(String),
}

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Most tokens to write, at least one.
    pub max_tokens: u32,
    /// Divides the logits; zero always takes the most probable token.
    pub temperature: f32,
    /// Keeps the most probable tokens that together have this probability; one keeps all.
    pub top_p: f32,
    /// Keeps this many of the most probable tokens; zero keeps all.
    pub top_k: u32,
    /// Keeps tokens at least this probable relative to the best; zero keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens that prompt or answer hold already (CTRL, Keskar et
    /// al. 2019); one changes nothing.
    pub repetition_penalty: f32,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Makes sampling repeatable; a random one where there is none.
    pub seed: Option<u64>,
    /// Whether tokens are drafted from the context and verified in one pass. A greedy answer is the same without; a
    /// sampled one follows the same probabilities, but rounding can make one seed give another answer.
    pub speculation: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            stop: Vec::new(),
            seed: None,
            speculation: true,
        }
    }
}

impl Sampling {
    /// Checks every value.
    ///
    /// # Errors
    /// `BAD_SAMPLING` names the field, what was expected and what came.
    pub fn validate(&self) -> Result<()> {
        let bad = |field: &str, expected: &str, got: String| {
            Err(Error::invalid_field(field, "BAD_SAMPLING", format!("expected {expected}, got {got}")))
        };
        if self.max_tokens == 0 {
            return bad("max_tokens", "at least 1", "0".to_owned());
        }
        // Written so that NaN fails too.
        if !(0.0..=100.0).contains(&self.temperature) {
            return bad("temperature", "0 to 100", self.temperature.to_string());
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad("top_p", "more than 0 and at most 1", self.top_p.to_string());
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return bad("min_p", "0 to 1", self.min_p.to_string());
        }
        if !(0.1..=10.0).contains(&self.repetition_penalty) {
            return bad("repetition_penalty", "0.1 to 10", self.repetition_penalty.to_string());
        }
        if self.stop.len() > MAX_STOP_STRINGS {
            return bad("stop", &format!("at most {MAX_STOP_STRINGS} strings"), self.stop.len().to_string());
        }
        match self.stop.iter().map(String::len).find(|&len| len == 0 || len > MAX_STOP_BYTES) {
            Some(len) => {
                bad("stop", &format!("strings of 1 to {MAX_STOP_BYTES} bytes"), format!("{len} bytes"))
            }
            None => Ok(()),
        }
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended, or a stop string came.
    Stop,
    /// `max_tokens` was reached.
    Length,
    /// The generator was stopped.
    Cancelled,
}

/// The end of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// Why.
    pub reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens that were generated, the one that ended it included.
    pub completion_tokens: u32,
    /// Those of them that were drafted from the context and verified.
    pub accepted_draft_tokens: u32,
    /// Leading tokens of the prompt that were in a KV cache already.
    pub cached_prompt_tokens: u32,
    /// Wait for a slot.
    pub queue: Duration,
    /// From the slot to the end.
    pub inference: Duration,
}

/// What happens in a generation, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// More text, in whole characters.
    Delta(String),
    /// The end.
    Done(Finish),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_out_of_range_is_refused_by_name() {
        Sampling::default().validate().unwrap();
        type Spoil = fn(&mut Sampling);
        let bad: [(&str, Spoil); 10] = [
            ("max_tokens", |s| s.max_tokens = 0),
            ("temperature", |s| s.temperature = -0.1),
            ("temperature", |s| s.temperature = f32::NAN),
            ("top_p", |s| s.top_p = 0.0),
            ("top_p", |s| s.top_p = f32::INFINITY),
            ("min_p", |s| s.min_p = 1.5),
            ("repetition_penalty", |s| s.repetition_penalty = 0.0),
            ("stop", |s| s.stop = vec![String::new()]),
            ("stop", |s| s.stop = vec!["a".to_owned(); MAX_STOP_STRINGS + 1]),
            ("stop", |s| s.stop = vec!["a".repeat(MAX_STOP_BYTES + 1)]),
        ];
        for (field, spoil) in bad {
            let mut sampling = Sampling::default();
            spoil(&mut sampling);
            let error = sampling.validate().unwrap_err();
            assert_eq!(error.reason, "BAD_SAMPLING");
            assert!(error.message.starts_with(field), "{}", error.message);
        }
    }
}
