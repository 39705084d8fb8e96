use serde::Deserialize;

use super::tensors::Tensor;
use crate::error::{Error, Result};
use crate::model::gguf::Gguf;

/// No known model of this architecture comes near; larger numbers are damage.
const MOST: u64 = 1 << 22;
/// Angles that are kept: for each position, half the width of a head. Enough for 131,072 positions of heads of 128; each
/// takes eight bytes, whatever the size of the file that asks for them.
const MOST_ANGLES: usize = 1 << 23;

/// Base of the rotary embedding where a file does not tell.
const DEFAULT_ROPE_BASE: f64 = 10000.0;

/// Sizes and constants of a llama-architecture model.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// Blocks.
    pub layers: usize,
    /// Width of the hidden states.
    pub hidden: usize,
    /// Width between the feed-forward matrices.
    pub inner: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Positions it was trained for.
    pub context: usize,
    /// Base of the rotary embedding's wavelengths.
    pub rope_base: f64,
    /// What each pair of dimensions' frequency is divided by.
    pub rope_factors: Vec<f64>,
    /// Added to the mean square in a norm.
    pub norm_epsilon: f32,
    /// Whether a head's rotated pairs are neighbours (GGUF) or halves apart (Hugging Face).
    pub interleaved: bool,
    /// Whether the embedding is the output matrix too.
    pub tied: bool,
}

impl LlamaConfig {
    /// Reads it from a GGUF file's metadata.
    pub fn from_gguf(file: &Gguf) -> Result<Self> {
        let architecture = file.string("general.architecture")?.unwrap_or_default();
        if architecture != "llama" {
            return Err(unsupported(format!(
                "expected a GGUF file of architecture llama, got {architecture:?}"
            )));
        }
        let size = |key: &str| -> Result<Option<usize>> {
            match file.unsigned(&format!("llama.{key}"))? {
                Some(value) if (1..=MOST).contains(&value) => Ok(Some(value as usize)),
                Some(value) => Err(unsupported(format!("llama.{key}: expected 1 to {MOST}, got {value}"))),
                None => Ok(None),
            }
        };
        let required =
            |key: &str| size(key)?.ok_or_else(|| unsupported(format!("metadata llama.{key} is missing")));
        let hidden = required("embedding_length")?;
        let heads = required("attention.head_count")?;
        let head = size("attention.key_length")?.unwrap_or(hidden / heads);
        let embedding = file.tensor(&Tensor::Embedding.gguf_name()).map(|t| t.shape()).unwrap_or_default();
        let &[vocabulary, _] = embedding.as_slice() else {
            return Err(unsupported(format!(
                "expected a token embedding of rank 2, got shape {embedding:?}"
            )));
        };
        if size("rope.dimension_count")?.is_some_and(|dimensions| dimensions != head) {
            return Err(unsupported(format!("expected rotary embedding of all {head} dimensions of a head")));
        }
        if file.unsigned("llama.expert_count")?.is_some_and(|count| count > 0) {
            return Err(unsupported("expected a dense model, got a mixture of experts".to_owned()));
        }
        let factor = match file.string("llama.rope.scaling.type")? {
            None | Some("none") => 1.0,
            Some("linear") => file.float("llama.rope.scaling.factor")?.unwrap_or(1.0),
            Some(other) => {
                return Err(unsupported(format!("expected rope scaling none or linear, got {other:?}")));
            }
        };
        let rope_factors = if file.tensor("rope_freqs.weight").is_some() {
            file.vector("rope_freqs.weight", head / 2)?.into_iter().map(f64::from).collect()
        } else {
            vec![factor; head / 2]
        };
        let mut config = Self {
            layers: required("block_count")?,
            hidden,
            inner: required("feed_forward_length")?,
            heads,
            kv_heads: size("attention.head_count_kv")?.unwrap_or(heads),
            head,
            vocabulary,
            context: required("context_length")?,
            rope_base: file.float("llama.rope.freq_base")?.unwrap_or(DEFAULT_ROPE_BASE),
            rope_factors,
            norm_epsilon: file.float("llama.attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5) as f32,
            interleaved: true,
            tied: file.tensor(&Tensor::Output.gguf_name()).is_none(),
        };
        config.check()?;
        Ok(config)
    }

    /// Reads it from a Hugging Face `config.json`.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let file: HubConfig = serde_json::from_slice(json).map_err(|e| {
            Error::data_loss("DAMAGED_MODEL", format!("cannot parse config.json: {e}")).with_source(e)
        })?;
        if file.model_type != "llama" {
            return Err(unsupported(format!("expected model_type llama, got {:?}", file.model_type)));
        }
        if file.hidden_act != "silu" || file.attention_bias || file.mlp_bias {
            return Err(unsupported("expected hidden_act silu and no biases".to_owned()));
        }
        let head = file.head_dim.unwrap_or(file.hidden_size / file.num_attention_heads.max(1));
        if head as u64 > MOST {
            return Err(unsupported(format!("expected heads of at most {MOST} numbers, got {head}")));
        }
        let (rope_base, rope_factors) = rope(&file, head)?;
        let mut config = Self {
            layers: file.num_hidden_layers,
            hidden: file.hidden_size,
            inner: file.intermediate_size,
            heads: file.num_attention_heads,
            kv_heads: file.num_key_value_heads.unwrap_or(file.num_attention_heads),
            head,
            vocabulary: file.vocab_size,
            context: file.max_position_embeddings,
            rope_base,
            rope_factors,
            norm_epsilon: file.rms_norm_eps,
            interleaved: false,
            tied: file.tie_word_embeddings,
        };
        config.check()?;
        Ok(config)
    }

    /// Checks that the sizes fit together, and leaves out positions that there is no room for.
    fn check(&mut self) -> Result<()> {
        let Self { layers, hidden, inner, heads, kv_heads, head, vocabulary, context, .. } = *self;
        let sizes = [layers, hidden, inner, heads, kv_heads, head, vocabulary, context];
        if sizes.iter().any(|&size| size == 0 || size as u64 > MOST) {
            return Err(unsupported(format!("expected sizes of 1 to {MOST}, got {sizes:?}")));
        }
        if !heads.is_multiple_of(kv_heads) || head % 2 != 0 || layers > 1024 {
            return Err(unsupported(format!("sizes do not fit together: {self:?}")));
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if !positive(self.rope_base)
            || !positive(self.norm_epsilon.into())
            || !self.rope_factors.iter().all(|&f| positive(f))
        {
            return Err(unsupported(format!("expected positive constants, got {self:?}")));
        }
        // At least two, since a head has at most MOST numbers.
        let most = MOST_ANGLES / (head / 2).max(1);
        if context > most {
            tracing::warn!(context, most, "the model was trained for more positions than are kept");
            self.context = most;
        }
        Ok(())
    }

    /// Cosines and sines of every position, each flat `[context, head / 2]`.
    pub fn rope_tables(&self) -> (Vec<f32>, Vec<f32>) {
        let half = self.head / 2;
        let frequency = |pair: usize| {
            let power = self.rope_base.powf(-2.0 * pair as f64 / self.head as f64);
            power / self.rope_factors.get(pair).copied().unwrap_or(1.0)
        };
        let frequencies: Vec<f64> = (0..half).map(frequency).collect();
        let angles = (0..self.context).flat_map(|at| frequencies.iter().map(move |f| at as f64 * f));
        angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip()
    }
}

/// Base and factors of the rotary embedding. `transformers` writes both into `rope_parameters` since its version 5, and
/// into `rope_theta` and `rope_scaling` before.
fn rope(file: &HubConfig, head: usize) -> Result<(f64, Vec<f64>)> {
    let told = file.rope_parameters.as_ref().and_then(|parameters| parameters.rope_theta);
    let base = told.or(file.rope_theta).unwrap_or(DEFAULT_ROPE_BASE);
    let scaling = file.rope_parameters.as_ref().or(file.rope_scaling.as_ref());
    if let Some(part) = scaling.and_then(|scaling| scaling.partial_rotary_factor).filter(|&part| part != 1.0)
    {
        return Err(unsupported(format!(
            "expected a rotary embedding of whole heads, got one of {part} of them"
        )));
    }
    Ok((base, rope_factors(scaling, base, head)?))
}

/// As in `transformers`' `modeling_rope_utils.py`, for the kinds whose frequencies do not depend on the length.
fn rope_factors(scaling: Option<&RopeScaling>, base: f64, head: usize) -> Result<Vec<f64>> {
    let Some(scaling) = scaling else { return Ok(vec![1.0; head / 2]) };
    let kind = scaling.rope_type.as_deref().or(scaling.kind.as_deref()).unwrap_or("default");
    match kind {
        "default" => Ok(vec![1.0; head / 2]),
        "linear" => Ok(vec![scaling.factor; head / 2]),
        "llama3" => {
            let (low, high) = (scaling.low_freq_factor, scaling.high_freq_factor);
            let factor = |pair: usize| {
                let wavelength = std::f64::consts::TAU * base.powf(2.0 * pair as f64 / head as f64);
                let turns = scaling.original_max_position_embeddings / wavelength;
                if turns < low {
                    scaling.factor
                } else if turns > high {
                    1.0
                } else {
                    let smooth = (turns - low) / (high - low);
                    1.0 / ((1.0 - smooth) / scaling.factor + smooth)
                }
            };
            Ok((0..head / 2).map(factor).collect())
        }
        other => Err(unsupported(format!("expected rope scaling default, linear or llama3, got {other:?}"))),
    }
}

pub(super) fn unsupported(message: String) -> Error {
    Error::precondition("UNSUPPORTED_MODEL", message)
}

#[derive(Deserialize)]
struct HubConfig {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: f32,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeScaling>,
    rope_parameters: Option<RopeScaling>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default = "silu")]
    hidden_act: String,
}

#[derive(Deserialize)]
struct RopeScaling {
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    rope_type: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default = "one")]
    factor: f64,
    #[serde(default = "one")]
    low_freq_factor: f64,
    #[serde(default = "four")]
    high_freq_factor: f64,
    #[serde(default = "original_context")]
    original_max_position_embeddings: f64,
}

fn silu() -> String {
    "silu".to_owned()
}

fn one() -> f64 {
    1.0
}

fn four() -> f64 {
    4.0
}

fn original_context() -> f64 {
    8192.0
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(rope: &[(&str, Value)]) -> Result<LlamaConfig> {
        let mut file = json!({
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
            "num_attention_heads": 4, "vocab_size": 32, "max_position_embeddings": 16384, "rms_norm_eps": 1e-5,
        });
        for (key, value) in rope {
            file[key] = value.clone();
        }
        LlamaConfig::from_json(file.to_string().as_bytes())
    }

    #[test]
    fn both_spellings_of_the_rotary_embedding_give_the_same_table() {
        for (theta, scaling) in [
            (
                500_000.0,
                json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192 }),
            ),
            (20_000.0, json!({ "rope_type": "linear", "factor": 2.0 })),
            (30_000.0, json!({ "rope_type": "default" })),
        ] {
            let old = read(&[("rope_theta", json!(theta)), ("rope_scaling", scaling.clone())]).unwrap();
            let mut parameters = scaling;
            parameters["rope_theta"] = json!(theta);
            let new = read(&[("rope_parameters", parameters)]).unwrap();
            assert_eq!(new, old);
            assert_eq!(new.rope_base, theta);
            let table = new.rope_tables();
            assert!(table == old.rope_tables() && table != read(&[]).unwrap().rope_tables());
        }
        assert_eq!(read(&[]).unwrap().rope_base, DEFAULT_ROPE_BASE);
        assert_eq!(read(&[("rope_parameters", Value::Null)]).unwrap(), read(&[]).unwrap());
        let part = json!({ "rope_theta": 10000.0, "partial_rotary_factor": 0.5 });
        assert_eq!(read(&[("rope_parameters", part)]).unwrap_err().reason, "UNSUPPORTED_MODEL");
    }
}
