//! `config.json`: what a transformer looks like.

use serde::Deserialize;

use super::dir::unsupported;
use crate::error::Result;

/// Families that count positions from the padding id on, so that a table of 514 positions takes 512 tokens.
const OFFSET_POSITIONS: [&str; 8] = [
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "mpnet",
    "longformer",
    "data2vec-text",
    "xlm-roberta-flash",
];
/// The padding id of those families where the file does not tell.
const OFFSET_PADDING: usize = 1;

/// The fields that are used, under the names that the families give them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub model_type: Option<String>,
    architectures: Option<Vec<String>>,
    hidden_size: Option<usize>,
    dim: Option<usize>,
    d_model: Option<usize>,
    n_embd: Option<usize>,
    max_position_embeddings: Option<usize>,
    n_positions: Option<usize>,
    pub vocab_size: Option<usize>,
    pub type_vocab_size: Option<usize>,
    intermediate_size: Option<usize>,
    hidden_dim: Option<usize>,
    num_attention_heads: Option<usize>,
    n_heads: Option<usize>,
    num_hidden_layers: Option<usize>,
    n_layers: Option<usize>,
    pub layer_norm_eps: Option<f32>,
    hidden_act: Option<String>,
    activation: Option<String>,
    pub position_embedding_type: Option<String>,
    pub pad_token_id: Option<usize>,
}

impl Config {
    /// The family's name; empty where the file does not tell.
    pub fn family(&self) -> &str {
        self.model_type.as_deref().unwrap_or_default()
    }

    /// Whether the model writes text.
    pub fn is_generator(&self) -> bool {
        let writes = |name: &String| name.ends_with("ForCausalLM");
        self.architectures.iter().flatten().any(writes) || self.family() == "llama"
    }

    /// Width of the hidden states.
    pub fn width(&self) -> Result<usize> {
        let width = self.hidden_size.or(self.dim).or(self.d_model).or(self.n_embd);
        width.filter(|&w| w > 0).ok_or_else(|| unsupported("config.json: expected hidden_size, got none"))
    }

    /// Rows of the position table.
    pub fn position_rows(&self) -> Option<usize> {
        self.max_position_embeddings.or(self.n_positions)
    }

    /// Rows of the position table that no token uses.
    pub fn position_offset(&self) -> usize {
        if OFFSET_POSITIONS.contains(&self.family()) {
            self.pad_token_id.unwrap_or(OFFSET_PADDING).saturating_add(1)
        } else {
            0
        }
    }

    /// Most tokens that have a position; `None` where the model has no table of positions.
    pub fn positions(&self) -> Option<usize> {
        self.position_rows().map(|rows| rows.saturating_sub(self.position_offset()))
    }

    pub fn inner(&self) -> Option<usize> {
        self.intermediate_size.or(self.hidden_dim)
    }

    pub fn heads(&self) -> Option<usize> {
        self.num_attention_heads.or(self.n_heads)
    }

    pub fn layers(&self) -> Option<usize> {
        self.num_hidden_layers.or(self.n_layers)
    }

    pub fn activation(&self) -> Option<&str> {
        self.hidden_act.as_deref().or(self.activation.as_deref())
    }
}
