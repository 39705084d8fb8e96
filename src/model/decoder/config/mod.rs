//! What a decoder is: its sizes, and which parts its blocks have.

mod family;
pub(in crate::model::decoder) mod gguf;
mod hub;
mod rope;
#[cfg(test)]
mod tests;

pub use family::{Activation, Family};
pub use rope::Rope;

use crate::error::{Error, Result};

/// No known model of these families comes near; larger numbers are damage.
const MOST: u64 = 1 << 22;
/// Blocks; the largest known model has 126.
const MOST_LAYERS: usize = 1024;
/// Angles that are kept: for each position, half the width of a head. Enough for 131,072 positions of heads of 128; each
/// takes eight bytes, whatever the size of the file that asks for them.
const MOST_ANGLES: usize = 1 << 23;

/// Base of the rotary embedding where a file does not tell.
const DEFAULT_ROPE_BASE: f64 = 10000.0;
/// Base of the blocks with a window in Gemma 3, where a file does not tell.
const GEMMA3_LOCAL_ROPE_BASE: f64 = 10000.0;
/// Each how manieth block of a family has no window, or no positions, where a file does not tell.
const GEMMA2_PATTERN: usize = 2;
const GEMMA3_PATTERN: usize = 6;
const SMOLLM3_PATTERN: usize = 4;

/// A decoder-only model: the block of Llama, and what its family adds to it or changes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Where its tensors' names and the other particulars come from.
    pub family: Family,
    /// Attention of each block.
    pub blocks: Vec<Block>,
    /// Rotary embeddings that blocks use.
    pub ropes: Vec<Rope>,
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
    /// Positions it can be used with.
    pub context: usize,
    /// Whether a head's rotated pairs are neighbours (GGUF of some families) or halves apart (Hugging Face).
    pub interleaved: bool,
    /// Whether the embedding is the output matrix too.
    pub tied: bool,
    /// Added to the mean square in a norm.
    pub norm_epsilon: f32,
    /// Added to the weights of norms as a file has them.
    pub norm_shift: f32,
    /// What embeddings are multiplied by.
    pub embedding_scale: Option<f32>,
    /// What the products of queries and keys are multiplied by.
    pub score_scale: f32,
    /// Scores `s` become `cap · tanh(s / cap)`.
    pub score_cap: Option<f32>,
    /// As `score_cap`, of the logits.
    pub logit_cap: Option<f32>,
    /// Between the feed-forward matrices.
    pub activation: Activation,
}

/// How a block attends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// A token sees so many, itself included; all before it where there is none.
    pub window: Option<usize>,
    /// Which of the rotary embeddings it has, if any.
    pub rope: Option<usize>,
}

impl DecoderConfig {
    /// Number of blocks.
    pub fn layers(&self) -> usize {
        self.blocks.len()
    }

    /// Width of all queries.
    pub fn wide(&self) -> usize {
        self.heads * self.head
    }

    /// Width of all keys.
    pub fn narrow(&self) -> usize {
        self.kv_heads * self.head
    }

    /// Checks that the sizes fit together, and leaves out positions that there is no room for.
    fn check(&mut self) -> Result<()> {
        let Self { hidden, inner, heads, kv_heads, head, vocabulary, context, .. } = *self;
        let sizes = [self.layers(), hidden, inner, heads, kv_heads, head, vocabulary, context];
        if sizes.iter().any(|&size| size == 0 || size as u64 > MOST) || self.layers() > MOST_LAYERS {
            return Err(unsupported(format!(
                "expected sizes of 1 to {MOST} and at most {MOST_LAYERS} layers, got {sizes:?}"
            )));
        }
        let widths = [self.wide() as u64, self.narrow() as u64];
        let fits = |rope: &Rope| (1..=head / 2).contains(&rope.pairs());
        if !heads.is_multiple_of(kv_heads)
            || head % 2 != 0
            || widths.iter().any(|&width| width > MOST)
            || !self.ropes.iter().all(fits)
        {
            return Err(unsupported(format!(
                "sizes do not fit together: {heads} heads, {kv_heads} of keys, {head} wide, of which the rotary \
                 embedding takes {:?}",
                self.ropes.iter().map(|rope| 2 * rope.pairs()).collect::<Vec<_>>()
            )));
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let of_ropes =
            self.ropes.iter().flat_map(|rope| rope.factors.iter().chain([&rope.base, &rope.magnitude]));
        let others = [Some(self.norm_epsilon), Some(self.score_scale), self.embedding_scale, self.score_cap];
        let others = others.into_iter().chain([self.logit_cap]).flatten().map(f64::from);
        if let Some(bad) = of_ropes.copied().chain(others).find(|&x| !positive(x)) {
            return Err(unsupported(format!("expected positive constants, got {bad}")));
        }
        if self.blocks.iter().any(|block| block.window == Some(0)) {
            return Err(unsupported("expected windows of at least one token, got 0".to_owned()));
        }
        // At least two, since a head has at most MOST numbers.
        let pairs: usize = self.ropes.iter().map(Rope::pairs).sum();
        let most = MOST_ANGLES / pairs.max(1);
        if context > most {
            tracing::warn!(context, most, "the model was trained for more positions than are kept");
            self.context = most;
        }
        Ok(())
    }
}

/// Blocks of which each so-manieth sees everything by the first rotary embedding, and the others see a window by the
/// last one.
fn alternating(layers: usize, pattern: usize, window: Option<usize>, ropes: usize) -> Vec<Block> {
    let block = |layer: usize| {
        let is_local = window.is_some() && !(layer + 1).is_multiple_of(pattern.max(1));
        Block { window: window.filter(|_| is_local), rope: Some(if is_local { ropes - 1 } else { 0 }) }
    };
    (0..layers).map(block).collect()
}

/// The scale of scores that comes from a width.
fn inverse_root(width: f64) -> f32 {
    (1.0 / width.sqrt()) as f32
}

/// Refuses a count of layers before memory is taken for them.
fn layers(count: usize) -> Result<usize> {
    match count {
        1..=MOST_LAYERS => Ok(count),
        _ => Err(unsupported(format!("expected 1 to {MOST_LAYERS} layers, got {count}"))),
    }
}

pub(super) fn unsupported(message: String) -> Error {
    Error::precondition("UNSUPPORTED_MODEL", message)
}
