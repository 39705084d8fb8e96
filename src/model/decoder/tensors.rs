use std::collections::HashSet;

use safetensors::{Dtype, SafeTensors};

use super::config::unsupported;
use crate::error::{Error, Result};
use crate::model::gguf::{Gguf, Weights};

/// A tensor of a llama-architecture model; numbers are layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tensor {
    Embedding,
    OutputNorm,
    Output,
    AttentionNorm(usize),
    Query(usize),
    Key(usize),
    Value(usize),
    AttentionOutput(usize),
    InnerNorm(usize),
    Gate(usize),
    Up(usize),
    Down(usize),
}

impl Tensor {
    /// As GGUF names it.
    pub fn gguf_name(self) -> String {
        let (layer, part) = match self {
            Tensor::Embedding => return "token_embd.weight".to_owned(),
            Tensor::OutputNorm => return "output_norm.weight".to_owned(),
            Tensor::Output => return "output.weight".to_owned(),
            Tensor::AttentionNorm(layer) => (layer, "attn_norm"),
            Tensor::Query(layer) => (layer, "attn_q"),
            Tensor::Key(layer) => (layer, "attn_k"),
            Tensor::Value(layer) => (layer, "attn_v"),
            Tensor::AttentionOutput(layer) => (layer, "attn_output"),
            Tensor::InnerNorm(layer) => (layer, "ffn_norm"),
            Tensor::Gate(layer) => (layer, "ffn_gate"),
            Tensor::Up(layer) => (layer, "ffn_up"),
            Tensor::Down(layer) => (layer, "ffn_down"),
        };
        format!("blk.{layer}.{part}.weight")
    }

    /// As Hugging Face's `LlamaForCausalLM` names it.
    pub fn hub_name(self) -> String {
        let (layer, part) = match self {
            Tensor::Embedding => return "model.embed_tokens.weight".to_owned(),
            Tensor::OutputNorm => return "model.norm.weight".to_owned(),
            Tensor::Output => return "lm_head.weight".to_owned(),
            Tensor::AttentionNorm(layer) => (layer, "input_layernorm"),
            Tensor::Query(layer) => (layer, "self_attn.q_proj"),
            Tensor::Key(layer) => (layer, "self_attn.k_proj"),
            Tensor::Value(layer) => (layer, "self_attn.v_proj"),
            Tensor::AttentionOutput(layer) => (layer, "self_attn.o_proj"),
            Tensor::InnerNorm(layer) => (layer, "post_attention_layernorm"),
            Tensor::Gate(layer) => (layer, "mlp.gate_proj"),
            Tensor::Up(layer) => (layer, "mlp.up_proj"),
            Tensor::Down(layer) => (layer, "mlp.down_proj"),
        };
        format!("model.layers.{layer}.{part}.weight")
    }

    /// All of a model.
    fn all(layers: usize) -> impl Iterator<Item = Self> {
        let of_layer = |layer| {
            [
                Tensor::AttentionNorm(layer),
                Tensor::Query(layer),
                Tensor::Key(layer),
                Tensor::Value(layer),
                Tensor::AttentionOutput(layer),
                Tensor::InnerNorm(layer),
                Tensor::Gate(layer),
                Tensor::Up(layer),
                Tensor::Down(layer),
            ]
        };
        [Tensor::Embedding, Tensor::OutputNorm, Tensor::Output]
            .into_iter()
            .chain((0..layers).flat_map(of_layer))
    }
}

/// Where the weights come from.
pub(super) trait Source {
    /// A matrix of `[rows, columns]`.
    fn matrix(&self, tensor: Tensor, rows: usize, columns: usize) -> Result<Weights>;
    /// A vector of floats.
    fn vector(&self, tensor: Tensor, length: usize) -> Result<Vec<f32>>;
    /// Fails where there are tensors that the graph would leave out, for the model would be another one then.
    fn check_names(&self, layers: usize) -> Result<()>;
}

impl Source for Gguf {
    fn matrix(&self, tensor: Tensor, rows: usize, columns: usize) -> Result<Weights> {
        self.weights(&tensor.gguf_name(), &[rows, columns])
    }

    fn vector(&self, tensor: Tensor, length: usize) -> Result<Vec<f32>> {
        Gguf::vector(self, &tensor.gguf_name(), length)
    }

    fn check_names(&self, layers: usize) -> Result<()> {
        let known: HashSet<String> = Tensor::all(layers).map(Tensor::gguf_name).collect();
        refuse_unknown(self.tensor_names(), |name| known.contains(name) || name == "rope_freqs.weight")
    }
}

impl Source for SafeTensors<'_> {
    fn matrix(&self, tensor: Tensor, rows: usize, columns: usize) -> Result<Weights> {
        floats(self, &tensor.hub_name(), &[rows, columns]).map(Weights::Dense)
    }

    fn vector(&self, tensor: Tensor, length: usize) -> Result<Vec<f32>> {
        floats(self, &tensor.hub_name(), &[length])
    }

    fn check_names(&self, layers: usize) -> Result<()> {
        let known: HashSet<String> = Tensor::all(layers).map(Tensor::hub_name).collect();
        refuse_unknown(self.names().into_iter(), |name| {
            known.contains(name) || name.ends_with(".rotary_emb.inv_freq")
        })
    }
}

fn refuse_unknown<'a>(
    mut names: impl Iterator<Item = &'a str>,
    is_known: impl Fn(&str) -> bool,
) -> Result<()> {
    match names.find(|name| !is_known(name)) {
        Some(name) => Err(unsupported(format!("expected the tensors of a llama model, got {name:?} too"))),
        None => Ok(()),
    }
}

fn floats(file: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let damaged = |message: String| Error::data_loss("DAMAGED_MODEL", message);
    let view = file.tensor(name).map_err(|e| damaged(format!("tensor {name} cannot be read: {e}")))?;
    if view.shape() != shape {
        return Err(damaged(format!("expected tensor {name} of shape {shape:?}, got {:?}", view.shape())));
    }
    let (wide, narrow) = (view.data().as_chunks::<4>().0, view.data().as_chunks::<2>().0);
    match view.dtype() {
        Dtype::F32 => Ok(wide.iter().map(|&b| f32::from_le_bytes(b)).collect()),
        Dtype::F16 => Ok(narrow.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect()),
        Dtype::BF16 => Ok(narrow.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect()),
        other => Err(unsupported(format!("expected tensor {name} in F32, F16 or BF16, got {other:?}"))),
    }
}
