//! A decoder's configuration from a GGUF file's metadata.

use super::family::{Activation, Family};
use super::{
    Block, DEFAULT_ROPE_BASE, DecoderConfig, GEMMA2_PATTERN, GEMMA3_LOCAL_ROPE_BASE, GEMMA3_PATTERN, MOST,
    Rope, SMOLLM3_PATTERN, alternating, inverse_root, layers, unsupported,
};
use crate::error::Result;
use crate::model::decoder::tensors::Tensor;
use crate::model::gguf::Gguf;

/// Factors of the rotary embedding, one a pair: Llama 3's, and Phi's for short and for long texts.
pub const ROPE_FACTORS: &str = "rope_freqs.weight";
pub const SHORT_FACTORS: &str = "rope_factors_short.weight";
pub const LONG_FACTORS: &str = "rope_factors_long.weight";

/// Blocks of the models whose scores are scaled by another width than the heads'; their files do not tell.
const GEMMA2_27B_LAYERS: usize = 46;
const GEMMA3_27B_LAYERS: usize = 62;
/// Soft caps of Gemma 2 where a file does not tell.
const GEMMA2_SCORE_CAP: f64 = 50.0;
const GEMMA2_LOGIT_CAP: f64 = 30.0;

/// Metadata under the architecture's name.
struct Metadata<'a> {
    file: &'a Gguf,
    architecture: &'static str,
}

impl Metadata<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn size(&self, key: &str) -> Result<Option<usize>> {
        let key = self.key(key);
        match self.file.unsigned(&key)? {
            Some(value) if (1..=MOST).contains(&value) => Ok(Some(value as usize)),
            Some(value) => Err(unsupported(format!("{key}: expected 1 to {MOST}, got {value}"))),
            None => Ok(None),
        }
    }

    fn required(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| unsupported(format!("metadata {} is missing", self.key(key))))
    }

    fn float(&self, key: &str) -> Result<Option<f64>> {
        self.file.float(&self.key(key))
    }

    fn rope_base(&self) -> Result<f64> {
        Ok(self.float("rope.freq_base")?.unwrap_or(DEFAULT_ROPE_BASE))
    }

    /// The rotary embedding of the blocks that see everything, and up to where it holds.
    fn rope(&self, pairs: usize) -> Result<(Rope, Option<usize>)> {
        let base = self.rope_base()?;
        if self.file.tensor(SHORT_FACTORS).is_some() {
            return self.long_rope(base, pairs);
        }
        let kind = self.file.string(&self.key("rope.scaling.type"))?;
        let factor = match kind {
            None | Some("none") => 1.0,
            Some("linear") => self.float("rope.scaling.factor")?.unwrap_or(1.0),
            Some(other) => {
                return Err(unsupported(format!(
                    "expected rope scaling none, linear or longrope, got {other:?}"
                )));
            }
        };
        let mut rope = Rope::scaled(base, pairs, factor);
        if self.file.tensor(ROPE_FACTORS).is_some() {
            rope.factors = self.file.vector(ROPE_FACTORS, pairs)?.into_iter().map(f64::from).collect();
        }
        Ok((rope, None))
    }

    /// Phi's, whose factors are others for texts beyond the original context: the model is used within it.
    fn long_rope(&self, base: f64, pairs: usize) -> Result<(Rope, Option<usize>)> {
        let factors = self.file.vector(SHORT_FACTORS, pairs)?.into_iter().map(f64::from).collect();
        let magnitude = self.float("rope.scaling.attn_factor")?.unwrap_or(1.0);
        let original = self.required("rope.scaling.original_context_length")?;
        Ok((Rope { base, factors, magnitude }, Some(original)))
    }
}

impl DecoderConfig {
    /// Reads it from a GGUF file's metadata.
    ///
    /// # Errors
    /// `UNSUPPORTED_MODEL` for another architecture or something of it that is not computed here, `DAMAGED_MODEL`.
    pub fn from_gguf(file: &Gguf) -> Result<Self> {
        if let Some(parts) = file.unsigned("split.count")?.filter(|&parts| parts > 1) {
            return Err(unsupported(format!(
                "expected a GGUF file in one piece, got one of {parts} parts; `llama-gguf-split --merge` joins them"
            )));
        }
        let family = Family::of_gguf(file.string("general.architecture")?.unwrap_or_default())?;
        let data = Metadata { file, architecture: family.gguf_name() };
        let layers = layers(data.required("block_count")?)?;
        let hidden = data.required("embedding_length")?;
        let heads = data.required("attention.head_count")?;
        let head = data.size("attention.key_length")?.unwrap_or(hidden / heads);
        if data.size("attention.value_length")?.is_some_and(|width| width != head) {
            return Err(unsupported("expected values as wide as keys".to_owned()));
        }
        let embedding = file.tensor(&Tensor::Embedding.gguf_name()).map(|t| t.shape()).unwrap_or_default();
        let &[vocabulary, _] = embedding.as_slice() else {
            return Err(unsupported(format!(
                "expected a token embedding of rank 2, got shape {embedding:?}"
            )));
        };
        if file.unsigned(&data.key("expert_count"))?.is_some_and(|count| count > 0) {
            return Err(unsupported("expected a dense model, got a mixture of experts".to_owned()));
        }
        let pairs = data.size("rope.dimension_count")?.unwrap_or(head) / 2;
        let (rope, holds) = data.rope(pairs)?;
        let (blocks, ropes) = blocks(family, &data, layers, rope)?;
        let context = data.required("context_length")?;
        let cap = |key: &str, default: Option<f64>| -> Result<Option<f32>> {
            Ok(data.float(key)?.or(default).map(|cap| cap as f32))
        };
        let of_gemma2 = |cap: f64| Some(cap).filter(|_| family == Family::Gemma2);
        let mut config = Self {
            family,
            blocks,
            ropes,
            hidden,
            inner: data.required("feed_forward_length")?,
            heads,
            kv_heads: data.size("attention.head_count_kv")?.unwrap_or(heads),
            head,
            vocabulary,
            context: holds.map_or(context, |holds| holds.min(context)),
            interleaved: family.is_interleaved_in_gguf(),
            tied: file.tensor(&Tensor::Output.gguf_name()).is_none(),
            norm_epsilon: data.float("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5) as f32,
            // The files' norms are about one already.
            norm_shift: 0.0,
            embedding_scale: family.is_gemma().then(|| (hidden as f32).sqrt()),
            score_scale: inverse_root(score_width(family, layers, hidden, heads, head)),
            score_cap: cap("attn_logit_softcapping", of_gemma2(GEMMA2_SCORE_CAP))?,
            logit_cap: cap("final_logit_softcapping", of_gemma2(GEMMA2_LOGIT_CAP))?,
            activation: if family.is_gemma() { Activation::GeluTanh } else { Activation::Silu },
        };
        config.check()?;
        Ok(config)
    }
}

/// As llama.cpp has them, whose files tell the window's width and not which blocks have one.
fn blocks(family: Family, data: &Metadata<'_>, layers: usize, rope: Rope) -> Result<(Vec<Block>, Vec<Rope>)> {
    let window = data.size("attention.sliding_window")?;
    let pattern = |default: usize| -> Result<usize> {
        Ok(data.size("attention.sliding_window_pattern")?.unwrap_or(default))
    };
    Ok(match family {
        Family::Gemma2 => (alternating(layers, pattern(GEMMA2_PATTERN)?, window, 1), vec![rope]),
        Family::Gemma3 => {
            let base = data.float("rope.freq_base_swa")?.unwrap_or(GEMMA3_LOCAL_ROPE_BASE);
            let local = Rope::scaled(base, rope.pairs(), 1.0);
            (alternating(layers, pattern(GEMMA3_PATTERN)?, window, 2), vec![rope, local])
        }
        Family::Smollm3 => {
            let has_rope = |layer: usize| !(layer + 1).is_multiple_of(SMOLLM3_PATTERN);
            let block = |layer| Block { window, rope: has_rope(layer).then_some(0) };
            ((0..layers).map(block).collect(), vec![rope])
        }
        _ => (vec![Block { window, rope: Some(0) }; layers], vec![rope]),
    })
}

/// The width whose root divides the scores.
fn score_width(family: Family, layers: usize, hidden: usize, heads: usize, head: usize) -> f64 {
    match (family, layers) {
        (Family::Gemma2, GEMMA2_27B_LAYERS) | (Family::Gemma3, GEMMA3_27B_LAYERS) => {
            hidden as f64 / heads as f64
        }
        _ => head as f64,
    }
}
