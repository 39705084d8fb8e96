//! An answer while it is written: deltas as they come, and a citation as soon as a sentence is complete.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};

use super::evidence::{Evidence, Question, Support};
use super::{Done, Event, FinishReason, Usage};
use crate::domain::Span;
use crate::encoder::{EmbedOptions, Encoder, Overflow};
use crate::error::{Error, Result};
use crate::generator::{self, GenerationStream};
use crate::text::sentences;

/// How often a sentence's vector is asked for where too much waits for the encoder.
const ATTEMPTS: usize = 5;
/// Pause between two attempts where the encoder names none.
const PAUSE: Duration = Duration::from_millis(200);

/// A generation and what its sentences are measured against.
pub struct Writing {
    generation: GenerationStream,
    encoder: Arc<Encoder>,
    evidence: Evidence,
    question: Question,
    support_threshold: f32,
    text: String,
    /// End of the sentences that have been measured.
    measured: usize,
    support: Vec<Support>,
    pending: VecDeque<Event>,
    finish: Option<generator::Finish>,
    ended: bool,
}

impl Writing {
    /// An answer that is yet to be written.
    pub fn new(
        generation: GenerationStream,
        encoder: Arc<Encoder>,
        evidence: Evidence,
        question: Question,
        support_threshold: f32,
    ) -> Self {
        Self {
            generation,
            encoder,
            evidence,
            question,
            support_threshold,
            text: String::new(),
            measured: 0,
            support: Vec::new(),
            pending: VecDeque::new(),
            finish: None,
            ended: false,
        }
    }

    /// Its events. Dropping the stream stops the generation at its next token.
    pub fn events(self) -> impl Stream<Item = Result<Event>> + Send {
        stream::try_unfold(self, |mut writing| async move {
            loop {
                if let Some(event) = writing.pending.pop_front() {
                    return Ok(Some((event, writing)));
                }
                if writing.ended {
                    return Ok(None);
                }
                writing.step().await?;
            }
        })
    }

    /// Measures the next complete sentence; where there is none, waits for more text.
    async fn step(&mut self) -> Result<()> {
        if let Some(span) = self.next_sentence() {
            return self.measure(span).await;
        }
        if let Some(finish) = self.finish.take() {
            self.end(finish);
            return Ok(());
        }
        match self.generation.next().await {
            Some(Ok(generator::Event::Delta(delta))) => {
                self.text.push_str(&delta);
                self.pending.push_back(Event::Delta(delta));
            }
            Some(Ok(generator::Event::Done(finish))) => self.finish = Some(finish),
            Some(Err(error)) => return Err(error),
            None => return Err(Error::internal("GENERATION_ENDED", "the generation ended without a result")),
        }
        Ok(())
    }

    /// The first sentence that is not measured yet, once another one has begun behind it or the text is whole.
    fn next_sentence(&self) -> Option<Span> {
        let found = sentences(&self.text, Span::new(self.measured as u32, self.text.len() as u32));
        let complete = found.len() > 1 || self.finish.is_some();
        found.first().copied().filter(|_| complete)
    }

    /// Measures the support of a sentence. One without words has none, and neither has one for which the encoder has no
    /// room however often it is asked: what is written already is not lost for that.
    async fn measure(&mut self, span: Span) -> Result<()> {
        self.measured = span.end as usize;
        let text = span.slice(&self.text).unwrap_or_default().to_owned();
        let prompt = self.encoder.passage_prompt();
        let ask = || vector_of(&self.encoder, &text, prompt.clone(), Overflow::TruncateRight);
        let support = match patiently(ask).await? {
            Some(vector) => self.evidence.support(span, &text, &vector, &self.question),
            None => Support::none(span),
        };
        self.support.push(support);
        if support.score >= self.support_threshold && support.hit.is_some() {
            self.pending.push_back(Event::Citation(support));
        }
        Ok(())
    }

    fn end(&mut self, finish: generator::Finish) {
        self.ended = true;
        let supported = |s: &Support| s.hit.is_some() && s.score >= self.support_threshold;
        let reason = match finish.reason {
            generator::FinishReason::Cancelled => FinishReason::Cancelled,
            _ if !self.support.iter().any(supported) => FinishReason::NotAnswerable,
            generator::FinishReason::Stop => FinishReason::Stop,
            generator::FinishReason::Length => FinishReason::Length,
        };
        self.pending.push_back(Event::Done(Done {
            text: std::mem::take(&mut self.text),
            reason,
            usage: Usage {
                prompt_tokens: finish.prompt_tokens,
                completion_tokens: finish.completion_tokens,
                queue: finish.queue,
                inference: finish.inference,
            },
            support: std::mem::take(&mut self.support),
        }));
    }
}

/// Asks for a vector, and again after a pause where too much waits for the encoder, [`ATTEMPTS`] times in all. There is
/// none for a text without words, nor where the encoder never has room.
async fn patiently<F>(ask: impl Fn() -> F) -> Result<Option<Vec<f32>>>
where
    F: Future<Output = Result<Vec<f32>>>,
{
    for attempt in 1..=ATTEMPTS {
        match ask().await {
            Ok(vector) => return Ok(Some(vector)),
            Err(error) if error.reason == "EMPTY_INPUT" => return Ok(None),
            Err(error) if error.reason != "QUEUE_FULL" => return Err(error),
            Err(error) if attempt == ATTEMPTS => {
                tracing::warn!(%error, "a sentence counts as unsupported, since it could not be measured");
            }
            Err(error) => tokio::time::sleep(error.retry_after.unwrap_or(PAUSE)).await,
        }
    }
    Ok(None)
}

/// The vector of a text with a prompt of the encoder, ahead of bulk work however long the text is.
pub async fn vector_of(
    encoder: &Arc<Encoder>,
    text: &str,
    prompt_name: Option<String>,
    overflow: Overflow,
) -> Result<Vec<f32>> {
    let options = EmbedOptions { overflow, prompt_name, ..EmbedOptions::document() };
    let output = encoder.embed_interactive(vec![text.to_owned()], &options).await?;
    let first = output.results.into_iter().next().and_then(|result| result.embeddings.into_iter().next());
    let (_, vector) =
        first.ok_or_else(|| Error::internal("NO_VECTOR", "the encoder gave no vector for the text"))?;
    Ok(vector)
}

/// The events of an answer made of sentences of the passages, word for word.
pub fn extract(evidence: &Evidence, question: &Question, most: usize) -> Vec<Event> {
    let mut events = Vec::new();
    let mut text = String::new();
    let mut support = Vec::new();
    for sentence in evidence.best(question, most) {
        let separator = if text.is_empty() { "" } else { " " };
        let delta = format!("{separator}{}", sentence.line());
        let answer_span = Span::new((text.len() + separator.len()) as u32, (text.len() + delta.len()) as u32);
        text.push_str(&delta);
        events.push(Event::Delta(delta));
        let found = Support {
            answer_span,
            hit: Some(sentence.hit),
            similarity: 1.0,
            overlap: 1.0,
            score: 1.0,
            passage_span: sentence.span,
        };
        events.push(Event::Citation(found));
        support.push(found);
    }
    let usage =
        Usage { prompt_tokens: 0, completion_tokens: 0, queue: Duration::ZERO, inference: Duration::ZERO };
    events.push(Event::Done(Done { text, reason: FinishReason::Stop, usage, support }));
    events
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_sentence_that_cannot_be_measured_does_not_end_the_answer() {
        let tried = Cell::new(0);
        let full = || Error::exhausted("QUEUE_FULL", "full", Duration::from_millis(1));
        let full_until = |turn: usize| {
            tried.set(0);
            let tried = &tried;
            move || {
                tried.set(tried.get() + 1);
                let answer = if tried.get() < turn { Err(full()) } else { Ok(vec![1.0]) };
                std::future::ready(answer)
            }
        };
        assert_eq!((patiently(full_until(3)).await.unwrap(), tried.get()), (Some(vec![1.0]), 3));
        assert_eq!((patiently(full_until(usize::MAX)).await.unwrap(), tried.get()), (None, ATTEMPTS));
        let failing = |reason| move || std::future::ready(Err(Error::internal(reason, "failed")));
        assert_eq!(patiently(failing("EMPTY_INPUT")).await.unwrap(), None);
        assert_eq!(patiently(failing("INFERENCE_FAILED")).await.unwrap_err().reason, "INFERENCE_FAILED");
    }
}
