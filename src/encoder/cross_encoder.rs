use std::sync::Arc;
use std::time::Duration;

use super::INLINE_BYTES;
use super::plan::{Part, Sequence};
use super::queue::Class;
use super::tokens::{PairFrame, TextTokenizer};
use super::workers::Workers;
use crate::domain::Span;
use crate::error::{Error, Result};
use crate::model::{Activation, Pooling};
use crate::task;

/// What a cross-encoder is and how it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossEncoderInfo {
    /// Name of the model.
    pub id: String,
    /// Content hash of the model's files.
    pub revision: String,
    /// Most tokens of a query and a text together, special ones included.
    pub max_tokens: u32,
    /// ONNX Runtime's provider.
    pub execution_provider: &'static str,
    /// What it computes in.
    pub precision: &'static str,
    /// What becomes of its logit.
    pub activation: Activation,
}

/// Scores of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Reranked {
    /// One for each text, in order; higher is more relevant.
    pub scores: Vec<f32>,
    /// Tokens that were run, the query's counted with each text.
    pub tokens: u32,
    /// Texts that were cut, or whose query was.
    pub truncated: u32,
    /// Longest wait for a session.
    pub queue: Duration,
    /// Longest run.
    pub inference: Duration,
}

/// A model that reads a query and a text together and scores how well the text answers the query (Nogueira and Cho,
/// "Passage Re-ranking with BERT", 2019), with its sessions, each on a thread of its own.
pub struct CrossEncoder {
    info: CrossEncoderInfo,
    pairs: Arc<Pairs>,
    workers: Workers,
}

impl CrossEncoder {
    pub(super) fn new(info: CrossEncoderInfo, pairs: Pairs, workers: Workers) -> Self {
        Self { info, pairs: Arc::new(pairs), workers }
    }

    /// What it is and how it runs.
    pub fn info(&self) -> &CrossEncoderInfo {
        &self.info
    }

    /// Pairs that wait for a session.
    pub fn waiting(&self) -> usize {
        self.workers.queue.waiting()
    }

    /// Waiting pairs of one class from which on calls of it are refused.
    pub fn queue_capacity(&self) -> usize {
        self.workers.queue.capacity()
    }

    /// Scores texts against a query. What is too long is cut at its end: the text, or both where the query by itself
    /// leaves no room. More than a batch goes after interactive work.
    ///
    /// # Errors
    /// `EMPTY_INPUT` for a query or text without a token; `QUEUE_FULL`.
    pub async fn score(&self, query: String, texts: Vec<String>) -> Result<Reranked> {
        let pairs = Arc::clone(&self.pairs);
        let bytes = query.len() + texts.iter().map(String::len).sum::<usize>();
        let work = move || pairs.sequences(&query, &texts);
        let sequences =
            if bytes <= INLINE_BYTES { work()? } else { task::blocking("TOKENIZER_FAILED", work).await? };
        let truncated = sequences.iter().filter(|(_, cut)| *cut).count();
        let tokens: usize = sequences.iter().map(|(sequence, _)| sequence.ids.len()).sum();
        let fills_batch = tokens > self.workers.queue.max_batch_tokens();
        let class = if fills_batch { Class::Bulk } else { Class::Interactive };
        let rows: Vec<&Sequence> = sequences.iter().map(|(sequence, _)| sequence).collect();
        let ran = self.workers.run(class, &rows).await?;
        let mut scores = Vec::with_capacity(sequences.len());
        for vectors in ran.vectors {
            let logit = vectors.first().and_then(|vector| vector.first()).copied();
            let logit = logit.filter(|logit| logit.is_finite()).ok_or_else(|| {
                Error::internal("INFERENCE_FAILED", "expected a finite logit for each pair, got none")
            })?;
            scores.push(self.info.activation.of(logit));
        }
        let (queue, inference) = (ran.queue, ran.inference);
        Ok(Reranked { scores, tokens: tokens as u32, truncated: truncated as u32, queue, inference })
    }
}

/// Makes sequences of queries and texts.
pub(super) struct Pairs {
    pub tokenizer: TextTokenizer,
    frame: PairFrame,
    /// Most tokens beside the special ones.
    room: usize,
}

impl Pairs {
    /// # Errors
    /// `UNSUPPORTED_MODEL` where the tokenizer has no usable template for pairs, or the limit leaves no room.
    pub fn new(tokenizer: TextTokenizer, max_tokens: usize) -> Result<Self> {
        let frame = tokenizer.pair_frame()?;
        let room = max_tokens.saturating_sub(frame.len());
        if room < 2 {
            return Err(Error::precondition(
                "UNSUPPORTED_MODEL",
                format!("expected a limit of at least {} tokens, got {max_tokens}", frame.len() + 2),
            ));
        }
        Ok(Self { tokenizer, frame, room })
    }

    fn sequences(&self, query: &str, texts: &[String]) -> Result<Vec<(Sequence, bool)>> {
        let query = self.tokens(query).map_err(|error| error.within("query"))?;
        let sequence = |(index, text): (usize, &String)| {
            let text = self.tokens(text).map_err(|error| error.within(&format!("texts[{index}]")))?;
            Ok(self.join(&query, &text))
        };
        texts.iter().enumerate().map(sequence).collect()
    }

    /// A query and a text as one sequence, and whether something was cut.
    pub fn sequence(&self, query: &str, text: &str) -> Result<(Sequence, bool)> {
        Ok(self.join(&self.tokens(query)?, &self.tokens(text)?))
    }

    /// A query and a text as one sequence, of which the first token and each of the text are parts, with the spans of the
    /// text's tokens. The text is cut where it is too long; it may be empty.
    pub fn token_parts(&self, query: &[u32], text: &str) -> Result<(Sequence, Vec<Span>)> {
        let encoded = self.tokenizer.encode(text)?;
        let (kept_query, kept_text) = kept(query.len(), encoded.ids.len().max(1), self.room);
        let query = query.get(..kept_query).unwrap_or(query);
        let text = encoded.ids.get(..kept_text).unwrap_or(&encoded.ids);
        let (ids, first_type) = self.frame.join(query, text);
        let first = self.frame.open.len() + query.len() + self.frame.between.len();
        let part = |token: usize| Part { group: token, range: token..token + 1, pooling: Pooling::Mean };
        let parts = std::iter::once(0).chain(first..first + text.len()).map(part).collect();
        let mut spans = encoded.spans;
        spans.truncate(text.len());
        Ok((Sequence { ids, first_type, parts }, spans))
    }

    /// # Errors
    /// `EMPTY_INPUT` where there is none.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.tokenizer.encode(text)?.ids;
        if ids.is_empty() {
            return Err(Error::invalid("EMPTY_INPUT", "expected a text, got none"));
        }
        Ok(ids)
    }

    fn join(&self, query: &[u32], text: &[u32]) -> (Sequence, bool) {
        let (kept_query, kept_text) = kept(query.len(), text.len(), self.room);
        let cut = kept_query < query.len() || kept_text < text.len();
        let head = |ids: &[u32], kept: usize| ids.get(..kept).unwrap_or_default().to_vec();
        let (ids, first_type) = self.frame.join(&head(query, kept_query), &head(text, kept_text));
        // The output is one value for a whole row: a single part takes it.
        let parts = vec![Part { group: 0, range: 0..1, pooling: Pooling::Cls }];
        (Sequence { ids, first_type, parts }, cut)
    }
}

/// How many tokens of query and text are kept: all of the query where it leaves the text room, else the longer one is
/// cut until both fit.
fn kept(query: usize, text: usize, room: usize) -> (usize, usize) {
    if query < room {
        return (query, text.min(room - query));
    }
    let half = room / 2;
    match text {
        _ if text <= half => (room - text, text),
        _ if query > text => (room - half, half),
        _ => (half, room - half),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_is_cut_before_the_query() {
        assert_eq!(kept(10, 20, 100), (10, 20));
        assert_eq!(kept(10, 200, 100), (10, 90));
        assert_eq!(kept(200, 10, 100), (90, 10));
        assert_eq!(kept(200, 300, 100), (50, 50));
        assert_eq!(kept(200, 200, 61), (30, 31));
        assert_eq!(kept(300, 200, 61), (31, 30));
        assert_eq!(kept(100, 1, 100), (99, 1));
    }

    proptest! {
        #[test]
        fn both_keep_something_and_fit(query in 1_usize..600, text in 1_usize..600, room in 2_usize..512) {
            let (a, b) = kept(query, text, room);
            prop_assert!(a >= 1 && b >= 1 && a <= query && b <= text && a + b <= room);
            prop_assert!(a + b == room || (a == query && b == text));
        }
    }
}
