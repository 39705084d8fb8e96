//! Hits scored again by a measure that sees more of the texts.

use std::sync::Arc;
use std::time::Instant;

use ::metrics::histogram;
use tokio_util::sync::CancellationToken;

use super::{Hit, Mode};
use crate::domain::{Span, dot};
use crate::encoder::{CrossEncoder, EmbedOptions, Encoder, Level, Overflow};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics;
use crate::task;

/// Hits that are scored again where the caller names no depth.
pub const DEFAULT_DEPTH: usize = 30;
/// Most hits that are scored again.
pub const MAX_DEPTH: usize = 200;
/// Weight of the late interaction against the hit's score; docs/EVALUATION.md has the measurement.
pub const DEFAULT_WEIGHT: f32 = 0.4;
/// Passages whose token vectors are held at once.
const CHUNK: usize = 32;

/// How hits are scored again.
#[derive(Debug, Clone, PartialEq)]
pub struct Rerank {
    /// By what.
    pub method: RerankMethod,
    /// How many of the best; the others keep their order behind them.
    pub depth: usize,
}

/// What hits are scored by.
#[derive(Debug, Clone, PartialEq)]
pub enum RerankMethod {
    /// `weight` times the mean of the query tokens' greatest similarities to tokens of the passage, plus
    /// `1 - weight` times the hit's score. (MaxSim: Khattab and Zaharia, "ColBERT", 2020; here with the token vectors
    /// of an encoder that was not trained for it.)
    LateInteraction {
        /// 0 to 1.
        weight: f32,
    },
    /// A cross-encoder of this id; empty means the default one.
    CrossEncoder(String),
}

impl Rerank {
    /// Checks the ranges.
    ///
    /// # Errors
    /// `BAD_RERANK`, with the field.
    pub fn check(&self) -> Result<()> {
        if !(1..=MAX_DEPTH).contains(&self.depth) {
            let message = format!("expected 1 to {MAX_DEPTH}, got {}", self.depth);
            return Err(Error::invalid_field("rerank.depth", "BAD_RERANK", message));
        }
        match self.method {
            RerankMethod::LateInteraction { weight } if !(0.0..=1.0).contains(&weight) => {
                let message = format!("expected 0 to 1, got {weight}");
                Err(Error::invalid_field("rerank.late_interaction.weight", "BAD_RERANK", message))
            }
            _ => Ok(()),
        }
    }
}

/// The model of a rerank.
pub(super) enum Reranker {
    LateInteraction { encoder: Arc<Encoder>, weight: f32 },
    CrossEncoder(Arc<CrossEncoder>),
}

impl Reranker {
    /// Scores the first hits again and puts them in order; the others keep theirs behind them. `is_bounded` tells
    /// whether the hits' scores lie between zero and one; where they do not, their shares of the best are taken.
    pub async fn run(&self, query: &str, depth: usize, is_bounded: bool, hits: &mut [Hit]) -> Result<()> {
        let depth = depth.min(hits.len());
        let Some(first) = hits.get_mut(..depth).filter(|first| !first.is_empty()) else { return Ok(()) };
        let started = Instant::now();
        let (method, scores) = match self {
            Reranker::LateInteraction { encoder, weight } => {
                let scale = if is_bounded { 1.0 } else { greatest(first).recip() };
                let similarities = late_interaction(encoder, query, first).await?;
                let fuse =
                    |(similarity, hit): (f32, &Hit)| weight * similarity + (1.0 - weight) * hit.score * scale;
                ("late_interaction", similarities.into_iter().zip(&*first).map(fuse).collect::<Vec<_>>())
            }
            Reranker::CrossEncoder(model) => {
                let texts = first.iter().map(|hit| hit.text.clone()).collect();
                ("cross_encoder", model.score(query.to_owned(), texts).await?.scores)
            }
        };
        for (hit, score) in first.iter_mut().zip(scores) {
            hit.rerank_score = Some(score);
        }
        // A stable sort: equal scores keep their order.
        first.sort_by(|a, b| {
            b.rerank_score.unwrap_or_default().total_cmp(&a.rerank_score.unwrap_or_default())
        });
        histogram!(metrics::SEARCH_RERANK_DURATION, "method" => method).record(started.elapsed());
        Ok(())
    }
}

/// Whether the scores of a search lie between zero and one.
pub(super) fn is_bounded(mode: Mode, by_ranks: bool) -> bool {
    match mode {
        Mode::Vector => true,
        Mode::Keyword => false,
        Mode::Hybrid => !by_ranks,
    }
}

fn greatest(hits: &[Hit]) -> f32 {
    hits.iter().map(|hit| hit.score).fold(f32::MIN_POSITIVE, f32::max)
}

/// For each hit the mean, over the query's tokens, of the greatest cosine to a token of the hit.
async fn late_interaction(encoder: &Arc<Encoder>, query: &str, hits: &[Hit]) -> Result<Vec<f32>> {
    let query = tokens(encoder, vec![query.to_owned()], encoder.query_prompt()).await?;
    let query = Arc::new(query.into_iter().next().unwrap_or_default());
    let caller = CancellationToken::new();
    let _leaves = caller.clone().drop_guard();
    let mut scores = Vec::with_capacity(hits.len());
    for chunk in hits.chunks(CHUNK) {
        let texts = chunk.iter().map(|hit| hit.text.clone()).collect();
        let passages = tokens(encoder, texts, encoder.passage_prompt()).await?;
        let (query, caller) = (Arc::clone(&query), caller.clone());
        let score = move || {
            passages.iter().map(|passage| max_sim(&query, passage, &caller)).collect::<Result<Vec<_>>>()
        };
        scores.extend(task::blocking("RERANK_FAILED", score).await?);
    }
    Ok(scores)
}

/// The unit vectors of each text's tokens, those of punctuation left out unless there are no others.
async fn tokens(
    encoder: &Arc<Encoder>,
    texts: Vec<String>,
    prompt_name: Option<String>,
) -> Result<Vec<Vec<Vec<f32>>>> {
    let options = EmbedOptions {
        level: Level::Token,
        overflow: Overflow::TruncateRight,
        prompt_name,
        ..EmbedOptions::document()
    };
    let output = encoder.embed_interactive(texts.clone(), &options).await?;
    let words = |(text, result): (&String, crate::encoder::EmbedResult)| {
        let is_word = |span: &Span| span.slice(text).is_some_and(|t| t.chars().any(char::is_alphanumeric));
        let has_words = result.embeddings.iter().any(|(span, _)| is_word(span));
        let kept = result.embeddings.into_iter().filter(|(span, _)| !has_words || is_word(span));
        kept.map(|(_, vector)| vector).collect()
    };
    Ok(texts.iter().zip(output.results).map(words).collect())
}

fn max_sim(query: &[Vec<f32>], passage: &[Vec<f32>], caller: &CancellationToken) -> Result<f32> {
    if caller.is_cancelled() {
        return Err(Error::new(ErrorKind::Cancelled, "CALLER_LEFT", "the caller has left"));
    }
    if query.is_empty() || passage.is_empty() {
        return Ok(0.0);
    }
    let best =
        |token: &Vec<f32>| passage.iter().map(|other| dot(token, other)).fold(f32::NEG_INFINITY, f32::max);
    Ok(query.iter().map(best).sum::<f32>() / query.len() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_query_token_counts_by_its_nearest() {
        let caller = CancellationToken::new();
        let query = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
        let passage = vec![vec![0.6, 0.8], vec![1.0, 0.0]];
        assert!((max_sim(&query, &passage, &caller).unwrap() - 0.9).abs() < 1e-6);
        assert_eq!(max_sim(&query, &[], &caller).unwrap(), 0.0);
        caller.cancel();
        assert_eq!(max_sim(&query, &passage, &caller).unwrap_err().reason, "CALLER_LEFT");
    }

    #[test]
    fn ranges_are_checked() {
        let late = |weight| RerankMethod::LateInteraction { weight };
        for (method, depth, field) in [
            (late(0.5), 0, "rerank.depth"),
            (late(0.5), MAX_DEPTH + 1, "rerank.depth"),
            (late(-0.1), 1, "rerank.late_interaction.weight"),
            (late(f32::NAN), 1, "rerank.late_interaction.weight"),
        ] {
            let error = Rerank { method, depth }.check().unwrap_err();
            assert_eq!((error.reason, error.field.as_deref()), ("BAD_RERANK", Some(field)));
        }
        assert!(
            Rerank { method: RerankMethod::CrossEncoder(String::new()), depth: MAX_DEPTH }.check().is_ok()
        );
    }
}
