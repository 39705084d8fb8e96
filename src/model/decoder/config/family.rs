//! The families of decoders, and what each one adds to the common block.

use super::unsupported;
use crate::error::Result;

/// Models that share an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama 1 to 3, and what is built like them: SmolLM2, TinyLlama.
    Llama,
    /// Llama with sliding windows.
    Mistral,
    /// Llama in which each fourth block has no positions.
    Smollm3,
    /// Biases on queries, keys and values.
    Qwen2,
    /// Norms on each head's queries and keys.
    Qwen3,
    /// Queries, keys and values in one matrix, the feed-forward's first two in another.
    Phi3,
    /// Norms before and behind each part, soft caps, each second block with a window.
    Gemma2,
    /// As [`Family::Gemma2`] without caps, with norms on heads and two rotary embeddings.
    Gemma3,
}

/// The function between the feed-forward matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415) by its tanh form.
    GeluTanh,
}

impl Family {
    const ALL: [Self; 8] = [
        Self::Llama,
        Self::Mistral,
        Self::Smollm3,
        Self::Qwen2,
        Self::Qwen3,
        Self::Phi3,
        Self::Gemma2,
        Self::Gemma3,
    ];

    /// `model_type` of a Hugging Face `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Smollm3 => "smollm3",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Phi3 => "phi3",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3_text",
        }
    }

    /// `general.architecture` of a GGUF file; Mistral's are files of the architecture llama.
    pub fn gguf_name(self) -> &'static str {
        match self {
            Self::Mistral => Self::Llama.gguf_name(),
            Self::Gemma3 => "gemma3",
            other => other.model_type(),
        }
    }

    /// Name of the class in `transformers`.
    pub fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Smollm3 => "SmolLM3ForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Phi3 => "Phi3ForCausalLM",
            Self::Gemma2 => "Gemma2ForCausalLM",
            Self::Gemma3 => "Gemma3ForCausalLM",
        }
    }

    /// The family of a `model_type`.
    ///
    /// # Errors
    /// `UNSUPPORTED_MODEL`, which names what is supported.
    pub fn of_model_type(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|family| family.model_type() == name);
        found.ok_or_else(|| unknown("model_type", name, Self::ALL.map(Self::model_type).join(", ")))
    }

    /// The family of a GGUF file's `general.architecture`.
    ///
    /// # Errors
    /// `UNSUPPORTED_MODEL`, which names what is supported.
    pub fn of_gguf(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|family| family.gguf_name() == name);
        let names = || Self::ALL.into_iter().filter(|&f| f != Self::Mistral).map(Self::gguf_name);
        found.ok_or_else(|| unknown("general.architecture", name, names().collect::<Vec<_>>().join(", ")))
    }

    /// Whether queries, keys and values have biases.
    pub fn has_biases(self) -> bool {
        self == Self::Qwen2
    }

    /// Whether each head's queries and keys are normed.
    pub fn has_head_norms(self) -> bool {
        matches!(self, Self::Qwen3 | Self::Gemma3)
    }

    /// Whether attention and feed-forward have norms behind them too.
    pub fn has_post_norms(self) -> bool {
        self.is_gemma()
    }

    /// Whether matrices of one input are one tensor.
    pub fn is_fused(self) -> bool {
        self == Self::Phi3
    }

    /// Embeddings times the root of their width, norms about one, GELU, an output tied to the embedding.
    pub fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }

    /// Whether the rotated pairs of a head are neighbours in a GGUF file; elsewhere they are halves apart.
    pub fn is_interleaved_in_gguf(self) -> bool {
        matches!(self, Self::Llama | Self::Mistral | Self::Smollm3)
    }

    /// Whether the output is the embedding where a file does not tell.
    pub fn is_tied_by_default(self) -> bool {
        self.is_gemma() || self == Self::Smollm3
    }
}

fn unknown(key: &str, got: &str, known: String) -> crate::error::Error {
    unsupported(format!(
        "expected a generator with {key} of {known}, got {got:?}; others run from a ready-made onnx/model.onnx"
    ))
}
