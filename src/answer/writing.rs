//! An answer while a generator writes it: each sentence is shown once it is complete and the passages hold what it claims.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};

use super::evidence::{Candidate, Evidence, Question};
use super::quote::quote;
use super::support::{Support, support};
use super::{Done, Event, FinishReason, Kind, Missing, Usage};
use crate::domain::Span;
use crate::encoder::{EmbedOptions, Encoder, Overflow};
use crate::error::{Error, Result};
use crate::generator::{self, GenerationStream};
use crate::text::sentences;

/// How often a sentence's vector is asked for where too much waits for the encoder.
const ATTEMPTS: usize = 5;
/// Pause between two attempts where the encoder names none.
const PAUSE: Duration = Duration::from_millis(200);
/// How often the same run of text in a row is a loop, and how long it is in all at least.
const LOOP_TURNS: usize = 3;
const LOOP_BYTES: usize = 30;
/// Longest run that is looked for.
const LONGEST_RUN: usize = 200;

/// What an answer that is written is measured against, and quoted from where it fails.
pub struct Source {
    /// Of the sentences.
    pub encoder: Arc<Encoder>,
    /// The used passages.
    pub evidence: Evidence,
    /// Their sentences by how well they answer.
    pub candidates: Vec<Candidate>,
    /// The question.
    pub question: Question,
    /// Least support of a sentence that is shown.
    pub threshold: f32,
    /// Most sentences of a quotation.
    pub most_quoted: usize,
    /// Whether the end has all that the generator wrote.
    pub with_draft: bool,
}

/// A generation and what its sentences are measured against.
pub struct Writing {
    /// Nothing once it has ended, or was stopped.
    generation: Option<GenerationStream>,
    source: Source,
    /// All that the generator wrote.
    draft: String,
    /// End of the sentences that have been measured.
    measured: usize,
    /// Sentences that were measured, to notice when one comes again.
    seen: HashSet<String>,
    /// What is shown.
    text: String,
    support: Vec<Support>,
    missing: Option<Missing>,
    pending: VecDeque<Event>,
    finish: Option<generator::Finish>,
    ended: bool,
}

impl Writing {
    /// An answer that is yet to be written.
    pub fn new(generation: GenerationStream, source: Source) -> Self {
        Self {
            generation: Some(generation),
            source,
            draft: String::new(),
            measured: 0,
            seen: HashSet::new(),
            text: String::new(),
            support: Vec::new(),
            missing: None,
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
        let Some(generation) = &mut self.generation else {
            self.end();
            return Ok(());
        };
        match generation.next().await {
            Some(Ok(generator::Event::Delta(delta))) => {
                self.draft.push_str(&delta);
                if is_loop(&self.draft) {
                    self.stop();
                }
            }
            Some(Ok(generator::Event::Done(finish))) => {
                self.finish = Some(finish);
                self.generation = None;
            }
            Some(Err(error)) => return Err(error),
            None => return Err(Error::internal("GENERATION_ENDED", "the generation ended without a result")),
        }
        Ok(())
    }

    /// Ends the generation; what is not measured by now is not shown.
    fn stop(&mut self) {
        self.generation = None;
        self.measured = self.draft.len();
    }

    /// The first sentence that is not measured yet, once another one has begun behind it or the draft is whole.
    fn next_sentence(&self) -> Option<Span> {
        let found = sentences(&self.draft, Span::new(self.measured as u32, self.draft.len() as u32));
        let complete = found.len() > 1 || self.generation.is_none();
        found.first().copied().filter(|_| complete)
    }

    /// Measures the support of a sentence, and shows it where it has enough. What the generator writes behind one that has
    /// not, or that it wrote before, leans on it: the generation ends there. A sentence for which the encoder has no room
    /// however often it is asked is measured by its words alone.
    async fn measure(&mut self, span: Span) -> Result<()> {
        let sentence = span.slice(&self.draft).unwrap_or_default().to_owned();
        let separator = if self.text.is_empty() {
            String::new()
        } else {
            self.draft.get(self.measured..span.start as usize).unwrap_or(" ").to_owned()
        };
        self.measured = span.end as usize;
        if !self.seen.insert(sentence.to_lowercase()) {
            self.stop();
            return Ok(());
        }
        let prompt = self.source.encoder.passage_prompt();
        let ask = || vector_of(&self.source.encoder, &sentence, prompt.clone(), Overflow::TruncateRight);
        let vector = patiently(ask).await?;
        let start = (self.text.len() + separator.len()) as u32;
        let place = Span::new(start, start + sentence.len() as u32);
        let Source { evidence, candidates, question, threshold, .. } = &self.source;
        let found = support(evidence, candidates, place, &sentence, vector.as_deref(), question);
        if !found.reaches(*threshold) {
            self.missing = found.missing;
            self.stop();
            return Ok(());
        }
        let delta = format!("{separator}{sentence}");
        self.text.push_str(&delta);
        self.pending.extend([Event::Delta(delta), Event::Citation(found.clone())]);
        self.support.push(found);
        Ok(())
    }

    /// The end: of what was shown, or with quotations where nothing could be.
    fn end(&mut self) {
        self.ended = true;
        let draft = self.source.with_draft.then(|| std::mem::take(&mut self.draft));
        let usage = self.finish.as_ref().map_or(Usage::default(), |finish| Usage {
            prompt_tokens: finish.prompt_tokens,
            completion_tokens: finish.completion_tokens,
            queue: finish.queue,
            inference: finish.inference,
        });
        let told = self.finish.as_ref().map(|finish| finish.reason);
        if self.text.is_empty() && told != Some(generator::FinishReason::Cancelled) {
            let Source { evidence, candidates, most_quoted, .. } = &self.source;
            let missing = self.missing.take();
            self.pending.extend(quote(evidence, candidates, *most_quoted).into_iter().map(
                |event| match event {
                    Event::Done(done) => {
                        Event::Done(Done { usage, draft: draft.clone(), missing: missing.clone(), ..done })
                    }
                    event => event,
                },
            ));
            return;
        }
        let reason = match told {
            Some(generator::FinishReason::Cancelled) => FinishReason::Cancelled,
            Some(generator::FinishReason::Length) => FinishReason::Length,
            Some(generator::FinishReason::Stop) | None => FinishReason::Stop,
        };
        self.pending.push_back(Event::Done(Done {
            text: std::mem::take(&mut self.text),
            kind: Kind::Written,
            reason,
            usage,
            support: std::mem::take(&mut self.support),
            missing: self.missing.take(),
            draft,
        }));
    }
}

/// Whether a text ends in the same run several times in a row.
fn is_loop(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=LONGEST_RUN).any(|run| {
        let turns = LOOP_TURNS.max(LOOP_BYTES.div_ceil(run));
        let Some(tail) = bytes.len().checked_sub(run * turns).and_then(|from| bytes.get(from..)) else {
            return false;
        };
        let (first, rest) = tail.split_at(run);
        first.iter().any(u8::is_ascii_alphanumeric) && rest.chunks(run).all(|next| next == first)
    })
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_run_that_comes_again_and_again_is_a_loop() {
        for text in [
            "It is red. It is red. It is red. ",
            &"a ".repeat(20),
            "x, the dog and the cat, the dog and the cat, the dog and the cat",
        ] {
            assert!(is_loop(text), "{text}");
        }
        for text in [
            "",
            "It is red. It is blue.",
            "1, 2, 3, 4, 5, 6, 7, 8, 9",
            "----------------------------------------",
            "no no no",
        ] {
            assert!(!is_loop(text), "{text}");
        }
    }

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
