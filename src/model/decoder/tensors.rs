use std::collections::HashSet;

use super::config::gguf::{LONG_FACTORS, ROPE_FACTORS, SHORT_FACTORS};
use super::config::{DecoderConfig, unsupported};
use crate::error::Result;
use crate::model::gguf::{Gguf, Weights};

/// A tensor of a decoder; numbers are layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Tensor {
    Embedding,
    OutputNorm,
    Output,
    AttentionNorm(usize),
    Query(usize),
    QueryBias(usize),
    QueryNorm(usize),
    Key(usize),
    KeyBias(usize),
    KeyNorm(usize),
    Value(usize),
    ValueBias(usize),
    /// Queries, keys and values, one above another.
    QueryKeyValue(usize),
    AttentionOutput(usize),
    /// Behind attention, before it is added to the residual.
    AttentionPostNorm(usize),
    InnerNorm(usize),
    Gate(usize),
    Up(usize),
    /// Gate and up, one above the other.
    GateUp(usize),
    Down(usize),
    /// Behind the feed-forward, before it is added to the residual.
    InnerPostNorm(usize),
}

impl Tensor {
    /// As GGUF names it.
    pub fn gguf_name(self) -> String {
        let (layer, part) = match self {
            Tensor::Embedding => return "token_embd.weight".to_owned(),
            Tensor::OutputNorm => return "output_norm.weight".to_owned(),
            Tensor::Output => return "output.weight".to_owned(),
            Tensor::AttentionNorm(layer) => (layer, "attn_norm.weight"),
            Tensor::Query(layer) => (layer, "attn_q.weight"),
            Tensor::QueryBias(layer) => (layer, "attn_q.bias"),
            Tensor::QueryNorm(layer) => (layer, "attn_q_norm.weight"),
            Tensor::Key(layer) => (layer, "attn_k.weight"),
            Tensor::KeyBias(layer) => (layer, "attn_k.bias"),
            Tensor::KeyNorm(layer) => (layer, "attn_k_norm.weight"),
            Tensor::Value(layer) => (layer, "attn_v.weight"),
            Tensor::ValueBias(layer) => (layer, "attn_v.bias"),
            Tensor::QueryKeyValue(layer) => (layer, "attn_qkv.weight"),
            Tensor::AttentionOutput(layer) => (layer, "attn_output.weight"),
            Tensor::AttentionPostNorm(layer) => (layer, "post_attention_norm.weight"),
            Tensor::InnerNorm(layer) => (layer, "ffn_norm.weight"),
            Tensor::Gate(layer) => (layer, "ffn_gate.weight"),
            Tensor::Up(layer) | Tensor::GateUp(layer) => (layer, "ffn_up.weight"),
            Tensor::Down(layer) => (layer, "ffn_down.weight"),
            Tensor::InnerPostNorm(layer) => (layer, "post_ffw_norm.weight"),
        };
        format!("blk.{layer}.{part}")
    }

    /// As `transformers` names it; models with norms behind attention call another one the norm behind attention.
    pub fn hub_name(self, has_post_norms: bool) -> String {
        let (layer, part) = match self {
            Tensor::Embedding => return "model.embed_tokens.weight".to_owned(),
            Tensor::OutputNorm => return "model.norm.weight".to_owned(),
            Tensor::Output => return "lm_head.weight".to_owned(),
            Tensor::AttentionNorm(layer) => (layer, "input_layernorm.weight"),
            Tensor::Query(layer) => (layer, "self_attn.q_proj.weight"),
            Tensor::QueryBias(layer) => (layer, "self_attn.q_proj.bias"),
            Tensor::QueryNorm(layer) => (layer, "self_attn.q_norm.weight"),
            Tensor::Key(layer) => (layer, "self_attn.k_proj.weight"),
            Tensor::KeyBias(layer) => (layer, "self_attn.k_proj.bias"),
            Tensor::KeyNorm(layer) => (layer, "self_attn.k_norm.weight"),
            Tensor::Value(layer) => (layer, "self_attn.v_proj.weight"),
            Tensor::ValueBias(layer) => (layer, "self_attn.v_proj.bias"),
            Tensor::QueryKeyValue(layer) => (layer, "self_attn.qkv_proj.weight"),
            Tensor::AttentionOutput(layer) => (layer, "self_attn.o_proj.weight"),
            Tensor::AttentionPostNorm(layer) => (layer, "post_attention_layernorm.weight"),
            Tensor::InnerNorm(layer) if has_post_norms => (layer, "pre_feedforward_layernorm.weight"),
            Tensor::InnerNorm(layer) => (layer, "post_attention_layernorm.weight"),
            Tensor::Gate(layer) => (layer, "mlp.gate_proj.weight"),
            Tensor::Up(layer) => (layer, "mlp.up_proj.weight"),
            Tensor::GateUp(layer) => (layer, "mlp.gate_up_proj.weight"),
            Tensor::Down(layer) => (layer, "mlp.down_proj.weight"),
            Tensor::InnerPostNorm(layer) => (layer, "post_feedforward_layernorm.weight"),
        };
        format!("model.layers.{layer}.{part}")
    }

    /// All that a model may have; the output matrix, though the embedding stands for it.
    pub fn all(config: &DecoderConfig) -> Vec<Self> {
        let mut all = vec![Tensor::Embedding, Tensor::OutputNorm, Tensor::Output];
        for layer in 0..config.layers() {
            all.extend([Tensor::AttentionNorm(layer), Tensor::AttentionOutput(layer)]);
            all.extend([Tensor::InnerNorm(layer), Tensor::Down(layer)]);
            if config.family.is_fused() {
                all.extend([Tensor::QueryKeyValue(layer), Tensor::GateUp(layer)]);
            } else {
                all.extend([Tensor::Query(layer), Tensor::Key(layer), Tensor::Value(layer)]);
                all.extend([Tensor::Gate(layer), Tensor::Up(layer)]);
            }
            if config.family.has_biases() {
                all.extend([Tensor::QueryBias(layer), Tensor::KeyBias(layer), Tensor::ValueBias(layer)]);
            }
            if config.family.has_head_norms() {
                all.extend([Tensor::QueryNorm(layer), Tensor::KeyNorm(layer)]);
            }
            if config.family.has_post_norms() {
                all.extend([Tensor::AttentionPostNorm(layer), Tensor::InnerPostNorm(layer)]);
            }
        }
        all
    }
}

/// Where the weights come from.
pub(super) trait Source {
    /// A matrix of `[rows, columns]`.
    fn matrix(&self, tensor: Tensor, rows: usize, columns: usize) -> Result<Weights>;
    /// A vector of floats.
    fn vector(&self, tensor: Tensor, length: usize) -> Result<Vec<f32>>;
    /// Fails where there are tensors that the graph would leave out, for the model would be another one then.
    fn check_names(&self, config: &DecoderConfig) -> Result<()>;
}

impl Source for Gguf {
    fn matrix(&self, tensor: Tensor, rows: usize, columns: usize) -> Result<Weights> {
        self.weights(&tensor.gguf_name(), &[rows, columns])
    }

    fn vector(&self, tensor: Tensor, length: usize) -> Result<Vec<f32>> {
        Gguf::vector(self, &tensor.gguf_name(), length)
    }

    fn check_names(&self, config: &DecoderConfig) -> Result<()> {
        let mut known: HashSet<String> = Tensor::all(config).into_iter().map(Tensor::gguf_name).collect();
        known.extend([ROPE_FACTORS, SHORT_FACTORS, LONG_FACTORS].map(str::to_owned));
        refuse_unknown(config, self.tensor_names(), |name| known.contains(name))
    }
}

/// Fails for the first name that is not known.
pub(super) fn refuse_unknown<'a>(
    config: &DecoderConfig,
    mut names: impl Iterator<Item = &'a str>,
    is_known: impl Fn(&str) -> bool,
) -> Result<()> {
    match names.find(|name| !is_known(name)) {
        Some(name) => Err(unsupported(format!(
            "expected the tensors of a {} model, got {name:?} too",
            config.family.model_type()
        ))),
        None => Ok(()),
    }
}
