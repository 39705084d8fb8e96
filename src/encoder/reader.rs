use std::path::Path;
use std::sync::Arc;

use super::cross_encoder::Pairs;
use super::load::{Loading, padding, queue, read_adapted};
use super::options::EncoderOptions;
use super::plan::Sequence;
use super::queue::Class;
use super::verify;
use super::workers::Workers;
use crate::domain::Span;
use crate::error::{Error, Result};
use crate::model::EncoderSession;
use crate::task;

/// What was trained (docs/EVALUATION.md, scripts/train_reader.py), on top of all-MiniLM-L6-v2.
const ADAPTER: &[u8] = include_bytes!("reader.safetensors");
/// Values of each token: that an answer begins at it, that it ends there, and, of the first token, that there is one.
const VALUES: usize = 3;
/// Most tokens of a question and a text together: those of the longest passage and of most questions.
const MAX_TOKENS: usize = 384;
/// Most tokens of an answer that is looked for.
const MAX_ANSWER: usize = 30;

/// A model that reads a question and a text together: whether the text answers it, and with which words (Devlin et al.,
/// "BERT", 2019, section 4.3). It is the default encoder's weights with a small adapter that Trove brings along.
pub struct Reader {
    pairs: Arc<Pairs>,
    workers: Workers,
}

/// What a reader makes of a question and a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Log-odds that the text answers the question, as the first token tells.
    pub answers: f32,
    /// Log-probability that no words of the text are the answer.
    pub none: f32,
    /// Spans of the text's tokens.
    tokens: Vec<Span>,
    /// Log-probabilities that an answer begins and ends at each.
    starts: Vec<f32>,
    ends: Vec<f32>,
}

impl Reader {
    /// Loads it from the directory of its base model.
    ///
    /// # Errors
    /// `WRONG_BASE` for other weights than those that it was trained on; those of an encoder's loading.
    pub fn load(base: &Path, options: EncoderOptions) -> Result<Arc<Self>> {
        let (loaded, tokenizer) = read_adapted(base, ADAPTER, VALUES)?;
        let model = &loaded.model;
        let pairs = Pairs::new(tokenizer, MAX_TOKENS)?;
        let check = |reference: &mut EncoderSession, candidate: &mut EncoderSession, precision| {
            verify::check_logits(&pairs, reference, candidate, precision)
        };
        let padding = padding(model, &pairs.tokenizer);
        let (sessions, resolved) =
            Loading { graph: &loaded.graph, padding, check: &check }.sessions(options)?;
        let workers = Workers::start("reader", sessions, queue(model, options), VALUES)?;
        tracing::info!(
            provider = resolved.provider(),
            precision = resolved.precision.as_str(),
            "reader loaded"
        );
        Ok(Arc::new(Self { pairs: Arc::new(pairs), workers }))
    }

    /// Reads texts for a question, ahead of bulk work. What is too long is cut at its end; an empty text answers nothing.
    ///
    /// # Errors
    /// `EMPTY_INPUT` for a question without a token; `QUEUE_FULL`.
    pub async fn read(&self, question: String, texts: Vec<String>) -> Result<Vec<Reading>> {
        let pairs = Arc::clone(&self.pairs);
        let prepare = move || {
            let question = pairs.tokens(&question).map_err(|error| error.within("question"))?;
            texts.iter().map(|text| pairs.token_parts(&question, text)).collect::<Result<Vec<_>>>()
        };
        let prepared = task::blocking("TOKENIZER_FAILED", prepare).await?;
        let sequences: Vec<&Sequence> = prepared.iter().map(|(sequence, _)| sequence).collect();
        let ran = self.workers.run(Class::Interactive, &sequences).await?;
        ran.vectors.iter().zip(prepared.iter()).map(|(values, (_, spans))| reading(values, spans)).collect()
    }
}

/// Log-probabilities of a row's values, of which the first are the first token's.
fn reading(values: &[Vec<f32>], spans: &[Span]) -> Result<Reading> {
    let column = |at: usize| -> Option<Vec<f32>> { values.iter().map(|row| row.get(at).copied()).collect() };
    let bad =
        || Error::internal("INFERENCE_FAILED", "expected three finite values of each token, got others");
    let (mut starts, mut ends) = column(0).zip(column(1)).ok_or_else(bad)?;
    let answers = values.first().and_then(|row| row.get(2)).copied().ok_or_else(bad)?;
    let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    if !answers.is_finite() || !finite(&starts) || !finite(&ends) || starts.len() != spans.len() + 1 {
        return Err(bad());
    }
    log_softmax(&mut starts);
    log_softmax(&mut ends);
    let none = starts.remove(0) + ends.remove(0);
    Ok(Reading { answers, none, tokens: spans.to_vec(), starts, ends })
}

fn log_softmax(values: &mut [f32]) {
    let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = values.iter().map(|value| (value - greatest).exp()).sum();
    let norm = greatest + sum.ln();
    values.iter_mut().for_each(|value| *value -= norm);
}

impl Reading {
    /// Probability that the answer lies within a part of the text.
    pub fn mass(&self, within: Span) -> f32 {
        let first = self.tokens.partition_point(|token| token.start < within.start);
        let end = self.tokens.partition_point(|token| token.end <= within.end);
        let of = |values: &[f32]| values.get(first..end).unwrap_or_default().to_vec();
        let (starts, ends) = (of(&self.starts), of(&self.ends));
        let from = |(at, start): (usize, &f32)| {
            ends.iter().skip(at).take(MAX_ANSWER).map(|end| (start + end).exp()).sum::<f32>()
        };
        starts.iter().enumerate().map(from).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three tokens of two bytes with a space between, of which the second is the answer.
    fn sample() -> Reading {
        let row = |start: f32, end: f32| vec![start, end, 2.5];
        let values = [row(0.0, 0.0), row(-1.0, -3.0), row(4.0, 4.0), row(-2.0, 1.0)];
        reading(&values, &[Span::new(0, 2), Span::new(3, 5), Span::new(6, 8)]).unwrap()
    }

    #[test]
    fn the_answer_is_where_its_tokens_are() {
        let reading = sample();
        assert_eq!(reading.answers, 2.5);
        let all = Span::new(0, 8);
        assert!(reading.mass(Span::new(3, 5)) > 0.8);
        assert!(reading.mass(all) + reading.none.exp() <= 1.0);
        assert_eq!(reading.mass(Span::new(4, 5)), 0.0);
        assert!(reading.mass(all) > reading.mass(Span::new(3, 8)));
    }

    #[test]
    fn values_that_are_no_reading_are_refused() {
        let spans = [Span::new(0, 1)];
        for values in [
            vec![],
            vec![vec![0.0; 3]],
            vec![vec![0.0; 3], vec![0.0; 1]],
            vec![vec![0.0; 3], vec![0.0, f32::NAN, 0.0]],
        ] {
            assert_eq!(reading(&values, &spans).unwrap_err().reason, "INFERENCE_FAILED");
        }
    }
}
