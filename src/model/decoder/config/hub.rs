//! A decoder's configuration from a Hugging Face `config.json`.

use serde::{Deserialize, Deserializer};

use super::family::{Activation, Family};
use super::rope::Llama3Scaling;
use super::{
    Block, DEFAULT_ROPE_BASE, DecoderConfig, GEMMA2_PATTERN, GEMMA3_LOCAL_ROPE_BASE, GEMMA3_PATTERN, MOST,
    Rope, SMOLLM3_PATTERN, alternating, inverse_root, layers, unsupported,
};
use crate::error::{Error, Result};

/// Width whose root divides the scores, and soft caps, of Gemma where a file does not tell.
const GEMMA_SCORE_WIDTH: f64 = 256.0;
const GEMMA2_SCORE_CAP: f64 = 50.0;
const GEMMA2_LOGIT_CAP: f64 = 30.0;
/// Norms' epsilon where a file does not tell.
const DEFAULT_EPSILON: f32 = 1e-6;

#[derive(Deserialize)]
struct HubConfig {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    original_max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f32>,
    rope_theta: Option<f64>,
    rope_local_base_freq: Option<f64>,
    rope_scaling: Option<RopeScaling>,
    rope_parameters: Option<RopeParameters>,
    partial_rotary_factor: Option<f64>,
    tie_word_embeddings: Option<bool>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    sliding_window_pattern: Option<usize>,
    layer_types: Option<Vec<String>>,
    no_rope_layers: Option<Vec<u8>>,
    no_rope_layer_interval: Option<usize>,
    query_pre_attn_scalar: Option<f64>,
    #[serde(default, deserialize_with = "told")]
    attn_logit_softcapping: Option<Option<f64>>,
    #[serde(default, deserialize_with = "told")]
    final_logit_softcapping: Option<Option<f64>>,
    use_bidirectional_attention: Option<serde_json::Value>,
    quantization_config: Option<Quantization>,
}

/// What is told of all kinds of models.
#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    model_type: String,
}

#[derive(Deserialize)]
struct Quantization {
    #[serde(default)]
    quant_method: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RopeParameters {
    ByKind { full_attention: RopeScaling, sliding_attention: RopeScaling },
    One(RopeScaling),
}

#[derive(Default, Deserialize)]
struct RopeScaling {
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    rope_type: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    short_factor: Option<Vec<f64>>,
    attention_factor: Option<f64>,
}

/// Tells null from nothing.
fn told<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Option<f64>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl DecoderConfig {
    /// Reads it from a Hugging Face `config.json`.
    ///
    /// # Errors
    /// `UNSUPPORTED_MODEL` for another `model_type` or something of it that is not computed here, `DAMAGED_MODEL`.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let unreadable = |e: serde_json::Error| {
            Error::data_loss("DAMAGED_MODEL", format!("cannot parse config.json: {e}")).with_source(e)
        };
        let kind: Kind = serde_json::from_slice(json).map_err(unreadable)?;
        let family = Family::of_model_type(&kind.model_type)?;
        let file: HubConfig = serde_json::from_slice(json).map_err(unreadable)?;
        file.into_config(family)
    }
}

impl HubConfig {
    fn into_config(self, family: Family) -> Result<DecoderConfig> {
        self.refuse_unknown(family)?;
        let layers = layers(self.num_hidden_layers)?;
        let head = self.head_dim.unwrap_or(match family {
            Family::Gemma2 | Family::Gemma3 => 256,
            Family::Qwen3 => 128,
            _ => self.hidden_size / self.num_attention_heads.max(1),
        });
        if head as u64 > MOST || self.hidden_size as u64 > MOST {
            return Err(unsupported(format!("expected heads of at most {MOST} numbers, got {head}")));
        }
        let (ropes, holds) = self.ropes(family, head)?;
        let blocks = self.blocks(family, layers, ropes.len())?;
        let cap = |told: Option<Option<f64>>, default: f64| match told {
            Some(told) => told.map(|cap| cap as f32),
            None => Some(default as f32).filter(|_| family == Family::Gemma2),
        };
        let score_width = match (self.query_pre_attn_scalar, family.is_gemma()) {
            (Some(width), true) => width,
            (None, true) => GEMMA_SCORE_WIDTH,
            _ => head as f64,
        };
        let mut config = DecoderConfig {
            family,
            blocks,
            ropes,
            hidden: self.hidden_size,
            inner: self.intermediate_size,
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head,
            vocabulary: self.vocab_size,
            context: holds
                .map_or(self.max_position_embeddings, |holds| holds.min(self.max_position_embeddings)),
            interleaved: false,
            tied: self.tie_word_embeddings.unwrap_or(family.is_tied_by_default()),
            norm_epsilon: self.rms_norm_eps.unwrap_or(DEFAULT_EPSILON),
            norm_shift: if family.is_gemma() { 1.0 } else { 0.0 },
            embedding_scale: family.is_gemma().then(|| (self.hidden_size as f32).sqrt()),
            score_scale: inverse_root(score_width),
            score_cap: cap(self.attn_logit_softcapping, GEMMA2_SCORE_CAP),
            logit_cap: cap(self.final_logit_softcapping, GEMMA2_LOGIT_CAP),
            activation: self.activation(family)?,
        };
        config.check()?;
        Ok(config)
    }

    /// What would make another model of it, were it left out.
    fn refuse_unknown(&self, family: Family) -> Result<()> {
        if let Some(quantization) = &self.quantization_config {
            return Err(unsupported(format!(
                "expected weights in F32, F16 or BF16, got ones quantized by {:?}; quantized models are taken as GGUF",
                quantization.quant_method
            )));
        }
        if self.mlp_bias || (self.attention_bias && family != Family::Qwen2) {
            return Err(unsupported(format!(
                "expected a {} without attention_bias and mlp_bias, got one with them",
                family.model_type()
            )));
        }
        let is_on = |value: &serde_json::Value| !(value.is_null() || *value == false);
        if self.use_bidirectional_attention.as_ref().is_some_and(is_on) {
            return Err(unsupported(
                "expected a model that writes text, got one whose tokens see those behind them".to_owned(),
            ));
        }
        Ok(())
    }

    fn activation(&self, family: Family) -> Result<Activation> {
        let default = if family.is_gemma() { "gelu_pytorch_tanh" } else { "silu" };
        let told = if family.is_gemma() { &self.hidden_activation } else { &None };
        match told.as_ref().or(self.hidden_act.as_ref()).map_or(default, String::as_str) {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
            other => {
                Err(unsupported(format!("expected hidden_act silu or gelu_pytorch_tanh, got {other:?}")))
            }
        }
    }

    /// The rotary embeddings, that of the blocks that see everything first, and up to where they hold. `transformers`
    /// writes all into `rope_parameters` since its version 5, and into `rope_theta`, `rope_local_base_freq` and
    /// `rope_scaling` before.
    fn ropes(&self, family: Family, head: usize) -> Result<(Vec<Rope>, Option<usize>)> {
        let nothing = RopeScaling::default();
        let (full, local) = match (&self.rope_parameters, &self.rope_scaling) {
            (Some(RopeParameters::ByKind { full_attention, sliding_attention }), _) => {
                (full_attention, Some(sliding_attention))
            }
            (Some(RopeParameters::One(one)), _) | (None, Some(one)) => (one, None),
            (None, None) => (&nothing, None),
        };
        let base = full.rope_theta.or(self.rope_theta).unwrap_or(DEFAULT_ROPE_BASE);
        let (rope, holds) = self.rope(full, base, head)?;
        if family != Family::Gemma3 {
            return match local {
                None => Ok((vec![rope], holds)),
                Some(_) => {
                    Err(unsupported("expected one rotary embedding for all blocks, got two".to_owned()))
                }
            };
        }
        let local = local.unwrap_or(&nothing);
        let base = local.rope_theta.or(self.rope_local_base_freq).unwrap_or(GEMMA3_LOCAL_ROPE_BASE);
        let (local, _) = self.rope(local, base, head)?;
        Ok((vec![rope, local], holds))
    }

    fn rope(&self, scaling: &RopeScaling, base: f64, head: usize) -> Result<(Rope, Option<usize>)> {
        let part = scaling.partial_rotary_factor.or(self.partial_rotary_factor).unwrap_or(1.0);
        if !(part > 0.0 && part <= 1.0) {
            return Err(unsupported(format!("expected a rotary embedding of a part of a head, got {part}")));
        }
        let pairs = (head as f64 * part) as usize / 2;
        let kind = scaling.rope_type.as_deref().or(scaling.kind.as_deref()).unwrap_or("default");
        let factor = || {
            scaling
                .factor
                .ok_or_else(|| unsupported(format!("expected a factor of rope scaling {kind}, got none")))
        };
        match kind {
            "default" => Ok((Rope::scaled(base, pairs, 1.0), None)),
            "linear" => Ok((Rope::scaled(base, pairs, factor()?), None)),
            "llama3" => {
                let scaling = Llama3Scaling {
                    factor: factor()?,
                    low_freq_factor: scaling.low_freq_factor.unwrap_or(1.0),
                    high_freq_factor: scaling.high_freq_factor.unwrap_or(4.0),
                    original_context: scaling.original_max_position_embeddings.unwrap_or(8192.0),
                };
                Ok((Rope::llama3(base, pairs, scaling), None))
            }
            "longrope" | "su" => self.long_rope(scaling, base, pairs),
            other => Err(unsupported(format!(
                "expected rope scaling default, linear, llama3 or longrope, got {other:?}"
            ))),
        }
    }

    /// Phi's, whose factors are others for texts beyond the original context: the model is used within it.
    fn long_rope(&self, scaling: &RopeScaling, base: f64, pairs: usize) -> Result<(Rope, Option<usize>)> {
        let told = scaling.original_max_position_embeddings.map(|length| length as usize);
        let original = told.or(self.original_max_position_embeddings).filter(|&length| length > 1);
        let original = original.ok_or_else(|| {
            unsupported(
                "expected original_max_position_embeddings of rope scaling longrope, got none".to_owned(),
            )
        })?;
        let factors = scaling.short_factor.clone().filter(|factors| factors.len() == pairs);
        let factors = factors.ok_or_else(|| {
            unsupported(format!("expected {pairs} short factors of rope scaling longrope, got others"))
        })?;
        let stretched = self.max_position_embeddings as f64 / original as f64;
        let magnitude = scaling.attention_factor.unwrap_or(if stretched <= 1.0 {
            1.0
        } else {
            (1.0 + stretched.ln() / (original as f64).ln()).sqrt()
        });
        Ok((Rope { base, factors, magnitude }, Some(original)))
    }

    fn blocks(&self, family: Family, layers: usize, ropes: usize) -> Result<Vec<Block>> {
        let window = self.sliding_window.filter(|_| match family {
            Family::Llama => false,
            Family::Qwen2 | Family::Qwen3 | Family::Smollm3 => self.use_sliding_window.unwrap_or(false),
            Family::Mistral | Family::Phi3 | Family::Gemma2 | Family::Gemma3 => true,
        });
        let mut blocks = match family {
            Family::Gemma2 => alternating(layers, GEMMA2_PATTERN, window, ropes),
            Family::Gemma3 => {
                alternating(layers, self.sliding_window_pattern.unwrap_or(GEMMA3_PATTERN), window, ropes)
            }
            Family::Qwen2 | Family::Qwen3 => {
                let first = self.max_window_layers.unwrap_or(28);
                let of = |layer: usize| Block { window: window.filter(|_| layer >= first), rope: Some(0) };
                (0..layers).map(of).collect()
            }
            _ => vec![Block { window, rope: Some(0) }; layers],
        };
        if let Some(types) =
            self.layer_types.as_ref().filter(|_| family != Family::Mistral && family != Family::Phi3)
        {
            blocks = self.typed(types, layers, window, ropes)?;
        }
        if family == Family::Smollm3 {
            self.drop_ropes(&mut blocks)?;
        }
        Ok(blocks)
    }

    fn typed(
        &self,
        types: &[String],
        layers: usize,
        window: Option<usize>,
        ropes: usize,
    ) -> Result<Vec<Block>> {
        if types.len() != layers {
            return Err(unsupported(format!("expected {layers} layer_types, got {}", types.len())));
        }
        let block = |kind: &String| match (kind.as_str(), window) {
            ("full_attention", _) => Ok(Block { window: None, rope: Some(0) }),
            ("sliding_attention", Some(_)) => Ok(Block { window, rope: Some(ropes - 1) }),
            ("sliding_attention", None) => Err(unsupported(
                "expected sliding_window beside layers of sliding_attention, got none".to_owned(),
            )),
            (other, _) => Err(unsupported(format!(
                "expected layer_types of full_attention and sliding_attention, got {other:?}"
            ))),
        };
        types.iter().map(block).collect()
    }

    /// SmolLM3's blocks without positions.
    fn drop_ropes(&self, blocks: &mut [Block]) -> Result<()> {
        let interval = self.no_rope_layer_interval.unwrap_or(SMOLLM3_PATTERN).max(1);
        let by_interval = |layer: usize| !(layer + 1).is_multiple_of(interval);
        if self.no_rope_layers.as_ref().is_some_and(|list| list.len() != blocks.len()) {
            return Err(unsupported(format!("expected {} no_rope_layers, got another number", blocks.len())));
        }
        for (layer, block) in blocks.iter_mut().enumerate() {
            let told = self.no_rope_layers.as_ref().and_then(|list| list.get(layer)).map(|&has| has != 0);
            block.rope = block.rope.filter(|_| told.unwrap_or_else(|| by_interval(layer)));
        }
        Ok(())
    }
}
