//! Answers from retrieved passages: retrieve, pack the context window, write or extract, cite.

mod asked;
mod context;
mod evidence;
mod figures;
mod generators;
mod orders;
mod polarity;
mod prompt;
mod query;
mod quote;
mod score;
mod support;
#[cfg(test)]
mod tests;
mod units;
mod words;
mod writing;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};

use context::pack;
pub use context::{Packed, Room, Use};

pub use figures::unheld_figures;
pub use generators::Generators;
pub use prompt::{DEFAULT_PROMPT, PromptPassage, Prompts};
pub use query::retrieval_query;
pub use support::{Missing, Support};

use crate::catalog::{Catalog, Reading};
use crate::domain::{CollectionName, Level, Span};
use crate::encoder::{Encoders, Overflow, Reader};
use crate::error::{Error, Result};
use crate::generator::{Generator, Message, Prompt, Role, Sampling};
use crate::search::{Hit, Options, Query, Search};
use crate::task::{self, Cancelled, check_cancelled};
use crate::text::sentences;
use evidence::{Evidence, Question};
use quote::quote;
use writing::{Source, Writing, vector_of};

/// Most passages that an answer is made from.
pub const MAX_PASSAGES: usize = 100;
/// Hits that are read for an answer, whatever of them is used.
const READ: usize = 8;
/// Most bytes of a question.
pub const MAX_QUESTION_BYTES: usize = 64 << 10;
/// Most candidates that an answer tells of.
const MAX_CANDIDATES: usize = 50;
/// Most messages of a history.
pub const MAX_HISTORY: usize = 1000;

/// What holds unless a request says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerOptions {
    /// Passages in the prompt of a generated answer.
    pub passages: usize,
    /// Passages whose sentences an extractive answer is chosen from.
    pub extractive_passages: usize,
    /// Most sentences that an extractive answer is made of, beside those that they need to be understood.
    pub extractive_sentences: usize,
    /// Room for a generated answer in tokens.
    pub max_tokens: u32,
    /// Least answerability from which on an answer is written.
    pub answerability_threshold: f32,
    /// Least support from which on a sentence counts as supported.
    pub support_threshold: f32,
    /// Name of the prompt template.
    pub prompt: String,
}

/// How an answer is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Generative where a generator is named, or the default one is not known to answer worse than quotations; else extractive.
    Auto,
    /// A generator writes it.
    Generative,
    /// Sentences of the passages, word for word.
    Extractive,
}

/// A question with all that a request can say about its answer.
#[derive(Debug, Clone)]
pub struct Request {
    /// Collection to search.
    pub collection: CollectionName,
    /// How to search; hits are passages.
    pub search: Options,
    /// What to search for; unset for question and history.
    pub query: Option<Query>,
    /// The question.
    pub question: String,
    /// Earlier turns, oldest first: user and assistant in turn, [`MAX_HISTORY`] messages at most.
    pub history: Vec<Message>,
    /// Generator; empty for the default.
    pub model: String,
    /// How to sample; `max_tokens` zero for the default.
    pub sampling: Sampling,
    /// Most tokens of passages in the prompt; zero for what fits.
    pub max_context_tokens: usize,
    /// Prompt template; empty for the default.
    pub prompt: String,
    /// How the answer is made.
    pub mode: Mode,
    /// Most passages; zero for the default of the mode.
    pub max_passages: usize,
    /// Instead of [`AnswerOptions::answerability_threshold`].
    pub answerability_threshold: Option<f32>,
    /// Instead of [`AnswerOptions::support_threshold`].
    pub support_threshold: Option<f32>,
    /// Whether to tell of the sentences that may answer the question.
    pub explain: bool,
    /// Whether to tell all that a generator wrote, with what is not supported.
    pub with_draft: bool,
}

/// A sentence that may answer the question.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateSentence {
    /// Index of its hit.
    pub hit: usize,
    /// Where in the hit's text.
    pub span: Span,
    /// Probability that it answers the question.
    pub score: f32,
    /// What that follows from, by name.
    pub evidence: Vec<(&'static str, f32)>,
}

/// How an answer came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A generator wrote it, and the passages hold what it says.
    Written,
    /// It is made of sentences of the passages, word for word.
    Quoted,
    /// There is none.
    Refused,
}

/// What was found and what of it is used.
#[derive(Debug, Clone)]
pub struct Retrieval {
    /// Hits, best first.
    pub hits: Arc<Vec<Hit>>,
    /// How many more there would be, had their records not been damaged.
    pub damaged: usize,
    /// What became of each.
    pub uses: Vec<Use>,
    /// What was searched for, where it is a text.
    pub query: Option<String>,
    /// Generative or extractive.
    pub mode: Mode,
    /// Probability that the best sentence answers the question.
    pub answerability: f32,
    /// Least answerability from which on an answer is written.
    pub answerability_threshold: f32,
    /// The sentences that may answer the question, best first, where they are asked for.
    pub candidates: Vec<CandidateSentence>,
    /// Messages of the history that found no room.
    pub dropped_history: usize,
    /// Tokens of the prompt; zero in extractive answers.
    pub prompt_tokens: usize,
    /// Tokens of the context window; zero in extractive answers.
    pub context_tokens: usize,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// It is whole.
    Stop,
    /// The room for it is used up.
    Length,
    /// Nothing was found.
    NoContext,
    /// The passages do not answer the question.
    NotAnswerable,
    /// The generator was stopped.
    Cancelled,
}

/// What an answer cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens read.
    pub prompt_tokens: u32,
    /// Tokens written.
    pub completion_tokens: u32,
    /// Time in the queue.
    pub queue: Duration,
    /// Time in the model.
    pub inference: Duration,
}

/// The end of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The whole text.
    pub text: String,
    /// How it came to be.
    pub kind: Kind,
    /// Why it ended.
    pub reason: FinishReason,
    /// What it cost.
    pub usage: Usage,
    /// Support of each sentence, or of each quotation, in order.
    pub support: Vec<Support>,
    /// What a generator claimed that the passages do not hold, because of which its text, or the rest of it, is left out.
    pub missing: Option<Missing>,
    /// All that a generator wrote, where it is asked for.
    pub draft: Option<String>,
}

/// What happens in an answer: the retrieval first, the end last.
#[derive(Debug, Clone)]
pub enum Event {
    /// What was found.
    Retrieval(Retrieval),
    /// More text, in whole characters.
    Delta(String),
    /// The source of a sentence that is complete.
    Citation(Support),
    /// The end.
    Done(Done),
}

/// An answer that has begun.
pub struct Answer {
    /// Id of the generator; empty for an extractive answer.
    pub model: String,
    /// Its events. Dropping them stops the generation at its next token.
    pub events: BoxStream<'static, Result<Event>>,
}

/// Answers questions from collections.
pub struct Answering {
    search: Arc<Search>,
    catalog: Arc<Catalog>,
    encoders: Encoders,
    reader: Option<Arc<Reader>>,
    generators: Generators,
    prompts: Arc<Prompts>,
    options: AnswerOptions,
}

impl Answering {
    /// Answers over its parts.
    ///
    /// # Errors
    /// `UNKNOWN_PROMPT` where the default prompt is not there.
    pub fn new(
        search: Arc<Search>,
        catalog: Arc<Catalog>,
        encoders: Encoders,
        reader: Option<Arc<Reader>>,
        generators: Generators,
        prompts: Prompts,
        options: AnswerOptions,
    ) -> Result<Self> {
        prompts.check(&options.prompt)?;
        Ok(Self { search, catalog, encoders, reader, generators, prompts: Arc::new(prompts), options })
    }

    /// The generators that may write.
    pub fn generators(&self) -> &Generators {
        &self.generators
    }

    /// Answers a question. What is returned as an error happened before any event.
    ///
    /// # Errors
    /// Bad input with its reason: `EMPTY_QUESTION`, `QUESTION_TOO_LONG`, `BAD_HISTORY`, `BAD_LIMIT`, `BAD_THRESHOLD`,
    /// `BAD_SAMPLING`, `UNKNOWN_PROMPT`, `PROMPT_TOO_LONG`; `NO_GENERATOR`, `UNKNOWN_MODEL`, `NO_CHAT_TEMPLATE`;
    /// `QUEUE_FULL` where too many wait; those of the search.
    pub async fn answer(&self, request: Request) -> Result<Answer> {
        check(&request)?;
        let generator = self.generators.writer(request.mode, &request.model)?.cloned();
        let mut sampling = request.sampling.clone();
        if sampling.max_tokens == 0 {
            sampling.max_tokens = self.options.max_tokens;
        }
        sampling.validate().map_err(|error| error.within("sampling"))?;
        let prompt = if request.prompt.is_empty() { &self.options.prompt } else { &request.prompt };
        self.prompts.check(prompt)?;

        let earlier: Vec<&str> =
            request.history.iter().filter(|m| m.role == Role::User).map(|m| m.content.as_str()).collect();
        let asked = retrieval_query(&earlier, &request.question);
        let query = request.query.clone().unwrap_or_else(|| Query::Text(asked.clone()));
        let searched = match &query {
            Query::Text(text) => Some(text.clone()),
            Query::Vector(_) | Query::Document(_) => None,
        };
        let reading = self.catalog.read(&request.collection).map_err(|error| error.within("search"))?;
        let found = self.search.search_in(&reading, query, &request.search).await;
        let found = found.map_err(|error| error.within("search"))?;
        let hits = Arc::new(found.hits);

        let max_passages = match (request.max_passages, &generator) {
            (0, Some(_)) => self.options.passages,
            (0, None) => self.options.extractive_passages,
            (most, _) => most,
        };
        let mut retrieval = Retrieval {
            hits: hits.clone(),
            damaged: found.damaged,
            uses: (0..hits.len()).map(|index| extractive_use(index, max_passages)).collect(),
            query: searched,
            mode: if generator.is_some() { Mode::Generative } else { Mode::Extractive },
            answerability: 0.0,
            answerability_threshold: request
                .answerability_threshold
                .unwrap_or(self.options.answerability_threshold),
            candidates: Vec::new(),
            dropped_history: 0,
            prompt_tokens: 0,
            context_tokens: 0,
        };
        let model = generator.as_ref().map(|g| g.info().id.clone()).unwrap_or_default();
        if hits.is_empty() {
            return Ok(Answer { model, events: without_text(retrieval, FinishReason::NoContext) });
        }
        let record = reading.record();
        let encoder = self.encoders.bound(&record.model_id, &record.model_revision)?.clone();
        // A change of subject is found by the question before it too, but it is what was asked last that is answered.
        let asked = if query::stands_alone(&request.question) { request.question.clone() } else { asked };
        let vector = vector_of(&encoder, &asked, encoder.query_prompt(), Overflow::Window).await?;
        let question = Question::new(&request.question, asked, vector);
        let read = if generator.is_some() { READ.max(max_passages) } else { max_passages };
        let mut evidence = self.evidence(&reading, &hits, read).await?;
        if evidence.is_empty() {
            return Ok(Answer { model, events: without_text(retrieval, FinishReason::NoContext) });
        }
        if let Some(reader) = &self.reader {
            evidence.read(reader, &question).await?;
        }
        let candidates = evidence.candidates(&question);
        let mut messages = Vec::new();
        if let Some(generator) = &generator {
            let room = Room {
                context_tokens: generator.info().context_tokens as usize,
                answer_tokens: sampling.max_tokens as usize,
                max_context_tokens: request.max_context_tokens,
                max_passages,
            };
            let mut texts = shown(&hits, &evidence);
            let taken = |index: usize| Some((index, std::mem::take(texts.get_mut(index)?)));
            let ordered = evidence.order(&candidates, hits.len()).into_iter().filter_map(taken).collect();
            let prompt = prompt.clone();
            let packed =
                self.packed(generator.clone(), prompt, &request, hits.clone(), ordered, room).await?;
            retrieval.uses = packed.0.uses;
            retrieval.dropped_history = packed.0.dropped_history;
            retrieval.prompt_tokens = packed.0.prompt_tokens;
            retrieval.context_tokens = room.context_tokens;
            messages = packed.1;
        }
        let is_used =
            |hit: usize| matches!(retrieval.uses.get(hit), Some(Use::Whole { .. } | Use::Cut { .. }));
        if !(0..hits.len()).any(is_used) {
            return Ok(Answer { model, events: without_text(retrieval, FinishReason::NoContext) });
        }
        // An answer rests on what is used alone.
        let (evidence, candidates) = evidence.only(candidates, is_used);
        retrieval.answerability = evidence.answerability(&candidates);
        if request.explain {
            retrieval.candidates = explained(&evidence, &candidates);
        }
        if candidates.is_empty() || retrieval.answerability < retrieval.answerability_threshold {
            return Ok(Answer { model, events: without_text(retrieval, FinishReason::NotAnswerable) });
        }
        let first = stream::iter([Ok(Event::Retrieval(retrieval))]);
        let most_quoted = self.options.extractive_sentences;
        let Some(generator) = generator else {
            let rest = quote(&evidence, &candidates, most_quoted);
            return Ok(Answer { model, events: first.chain(stream::iter(rest.into_iter().map(Ok))).boxed() });
        };
        let generation = generator.generate(Prompt::Messages(messages), sampling).await?;
        let threshold = request.support_threshold.unwrap_or(self.options.support_threshold);
        let with_draft = request.with_draft;
        let source = Source { encoder, evidence, candidates, question, threshold, most_quoted, with_draft };
        Ok(Answer { model, events: first.chain(Writing::new(generation, source).events()).boxed() })
    }

    /// The sentences of the best hits, so many of them.
    async fn evidence(&self, reading: &Reading, hits: &Arc<Vec<Hit>>, most: usize) -> Result<Evidence> {
        let (catalog, reading, hits) = (self.catalog.clone(), reading.clone(), hits.clone());
        let load = move || {
            let parts: Vec<_> =
                hits.iter().take(most).enumerate().map(|(at, hit)| (at, whole(hit))).collect();
            Evidence::load(catalog.store(), reading.cid(), &hits, &parts)
        };
        task::blocking("ANSWER_FAILED", load).await
    }

    /// The packed prompt, its uses in the order of the hits, and its messages. `shown` has the index of each hit with the text
    /// that is shown of it, in the order in which passages are packed. Counting tokens takes milliseconds, so it does not run on the async threads; it ends between two counts
    /// when the caller has left.
    async fn packed(
        &self,
        generator: Arc<Generator>,
        prompt: String,
        request: &Request,
        hits: Arc<Vec<Hit>>,
        shown: Vec<(usize, String)>,
        room: Room,
    ) -> Result<(Packed, Vec<Message>)> {
        let prompts = self.prompts.clone();
        let (history, question) = (request.history.clone(), request.question.clone());
        let work = move |is_cancelled: Cancelled<'_>| {
            let hit = |(index, _): &(usize, String)| Some((*index, hits.get(*index)?));
            let ordered: Vec<(usize, &Hit)> = shown.iter().filter_map(hit).collect();
            let candidates: Vec<context::Candidate> =
                shown.iter().map(|(_, text)| candidate(text.clone())).collect();
            let messages = |dropped: usize, passages: &[(usize, &str)]| {
                let kept = history.get(dropped..).unwrap_or_default();
                prompts.messages(&prompt, kept, &question, &prompt_passages(&ordered, passages))
            };
            let count = |dropped: usize, passages: &[(usize, &str)]| {
                check_cancelled(is_cancelled)?;
                generator.prompt_tokens(&messages(dropped, passages)?)
            };
            let mut packed = pack(history.len(), &candidates, room, &count)?;
            let used: Vec<(usize, &str)> = candidates
                .iter()
                .zip(&packed.uses)
                .enumerate()
                .filter_map(|(at, (candidate, used))| Some((at, used_text(&candidate.text, used)?)))
                .collect();
            let messages = messages(packed.dropped_history, &used)?;
            let mut by_hit: Vec<(usize, Use)> =
                shown.iter().map(|(index, _)| *index).zip(packed.uses).collect();
            by_hit.sort_by_key(|(index, _)| *index);
            packed.uses = by_hit.into_iter().map(|(_, used)| used).collect();
            Ok((packed, messages))
        };
        task::cancellable("ANSWER_FAILED", work).await
    }
}

/// Checks what needs no search.
fn check(request: &Request) -> Result<()> {
    if request.question.trim().is_empty() {
        return Err(Error::invalid_field("question", "EMPTY_QUESTION", "expected a text, got an empty one"));
    }
    if request.question.len() > MAX_QUESTION_BYTES {
        let got = request.question.len();
        let message = format!("expected at most {MAX_QUESTION_BYTES} bytes, got {got}");
        return Err(Error::invalid_field("question", "QUESTION_TOO_LONG", message));
    }
    if request.search.unit != Level::Passage {
        let message = "expected passages, which answers are made from";
        return Err(Error::invalid_field("search.unit", "BAD_UNIT", message));
    }
    if request.max_passages > MAX_PASSAGES {
        let got = request.max_passages;
        let message = format!("expected at most {MAX_PASSAGES}, got {got}");
        return Err(Error::invalid_field("max_passages", "BAD_LIMIT", message));
    }
    for (field, threshold) in [
        ("answerability_threshold", request.answerability_threshold),
        ("support_threshold", request.support_threshold),
    ] {
        // Written so that NaN fails too.
        if let Some(got) = threshold.filter(|threshold| !(0.0..=1.0).contains(threshold)) {
            return Err(Error::invalid_field(field, "BAD_THRESHOLD", format!("expected 0 to 1, got {got}")));
        }
    }
    check_history(&request.history)
}

/// Earlier turns are a question and an answer each.
fn check_history(history: &[Message]) -> Result<()> {
    if history.len() > MAX_HISTORY {
        let message = format!("expected at most {MAX_HISTORY} messages, got {}", history.len());
        return Err(Error::invalid_field("history", "BAD_HISTORY", message));
    }
    for (index, message) in history.iter().enumerate() {
        let expected = if index % 2 == 0 { Role::User } else { Role::Assistant };
        if message.role != expected {
            let (expected, got) = (expected.as_str(), message.role.as_str());
            let message = format!("expected {expected}, since user and assistant take turns, got {got}");
            return Err(Error::invalid_field(format!("history[{index}].role"), "BAD_HISTORY", message));
        }
        if message.content.trim().is_empty() {
            let message = "expected a text, got an empty one";
            return Err(Error::invalid_field(format!("history[{index}].content"), "BAD_HISTORY", message));
        }
    }
    if history.len() % 2 == 1 {
        let message = "expected the assistant's message last, since the question follows, got the user's";
        return Err(Error::invalid_field("history", "BAD_HISTORY", message));
    }
    Ok(())
}

fn extractive_use(index: usize, most: usize) -> Use {
    if index < most { Use::Whole { tokens: 0 } } else { Use::OverLimit }
}

/// The texts of the hits as a generator sees them: without the sentences that give it orders, which become blank.
fn shown(hits: &[Hit], evidence: &Evidence) -> Vec<String> {
    let mut texts: Vec<String> = hits.iter().map(|hit| hit.text.clone()).collect();
    for passage in &evidence.passages {
        let Some(text) = texts.get_mut(passage.hit) else { continue };
        for at in (0..passage.units.len()).filter(|&at| passage.gives_orders(at)) {
            let Span { start, end } = passage.units.span(at);
            text.replace_range(start as usize..end as usize, &" ".repeat((end - start) as usize));
        }
    }
    texts
}

/// The candidates as they are told to who asks for them.
fn explained(evidence: &Evidence, candidates: &[evidence::Candidate]) -> Vec<CandidateSentence> {
    let told = |candidate: &evidence::Candidate| {
        let passage = evidence.passage(candidate)?;
        Some(CandidateSentence {
            hit: passage.hit,
            span: passage.units.span(candidate.at),
            score: candidate.score,
            evidence: candidate.features.named().to_vec(),
        })
    };
    candidates.iter().filter_map(told).take(MAX_CANDIDATES).collect()
}

/// What of a passage's text is used.
fn used_text<'a>(text: &'a str, used: &Use) -> Option<&'a str> {
    match used {
        Use::Whole { .. } => Some(text),
        Use::Cut { end, .. } => text.get(..*end as usize),
        Use::OverLimit | Use::NoRoom => None,
    }
}

fn whole(hit: &Hit) -> Span {
    Span::new(0, hit.text.len() as u32)
}

fn candidate(text: String) -> context::Candidate {
    let sentences = sentences(&text, Span::new(0, text.len() as u32));
    context::Candidate { text, sentences }
}

/// Packed passages as templates see them. They come by their positions in the order in which they were packed, which
/// holds hits with their indices.
fn prompt_passages(ordered: &[(usize, &Hit)], packed: &[(usize, &str)]) -> Vec<PromptPassage> {
    let passage = |&(at, text): &(usize, &str)| {
        let &(index, hit) = ordered.get(at)?;
        Some(prompt_passage(index, hit, text))
    };
    packed.iter().filter_map(passage).collect()
}

fn prompt_passage(index: usize, hit: &Hit, text: &str) -> PromptPassage {
    PromptPassage {
        number: index as u32 + 1,
        text: text.to_owned(),
        title: hit.document.title.clone(),
        headings: hit.headings.clone(),
        page: hit.page,
    }
}

/// An answer that ends before it has text.
fn without_text(retrieval: Retrieval, reason: FinishReason) -> BoxStream<'static, Result<Event>> {
    let done = Done {
        text: String::new(),
        kind: Kind::Refused,
        reason,
        usage: Usage::default(),
        support: Vec::new(),
        missing: None,
        draft: None,
    };
    stream::iter([Ok(Event::Retrieval(retrieval)), Ok(Event::Done(done))]).boxed()
}

#[cfg(test)]
mod request_tests {
    use super::*;

    #[test]
    fn turns_must_alternate() {
        let user = || Message::new(Role::User, "Who?");
        let assistant = || Message::new(Role::Assistant, "Rollo.");
        check_history(&[]).unwrap();
        check_history(&[user(), assistant(), user(), assistant()]).unwrap();
        for (history, part) in [
            (vec![assistant()], "history[0].role"),
            (vec![user(), user()], "history[1].role"),
            (vec![Message::new(Role::System, "x"), user()], "history[0].role"),
            (vec![user()], "history: expected"),
            (vec![user(), Message::new(Role::Assistant, " ")], "history[1].content"),
            (vec![user(); MAX_HISTORY + 1], "history: expected at most 1000 messages, got 1001"),
        ] {
            let error = check_history(&history).unwrap_err();
            assert_eq!(error.reason, "BAD_HISTORY");
            assert!(error.message.starts_with(part), "{}", error.message);
        }
    }

    fn hit(title: &str, page: u32) -> Hit {
        let headings = vec![format!("heading of {title}")];
        Hit { headings, page: Some(page), ..tests::hit(title, "") }
    }

    #[test]
    fn packed_passages_keep_what_belongs_to_them() {
        let hits = [hit("a", 10), hit("b", 20), hit("c", 30)];
        let ordered: Vec<(usize, &Hit)> = [2, 0, 1].into_iter().map(|index| (index, &hits[index])).collect();
        let passages = prompt_passages(&ordered, &[(0, "of c"), (1, "of a")]);
        let told = passages.iter().map(|p| (p.number, &*p.text, &*p.title, &*p.headings[0], p.page));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [(3, "of c", "c", "heading of c", Some(30)), (1, "of a", "a", "heading of a", Some(10))]
        );
    }
}
