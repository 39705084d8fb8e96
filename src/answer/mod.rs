//! Answers from retrieved passages: retrieve, pack the context window, write or extract, cite.

mod context;
mod evidence;
mod generators;
mod prompt;
mod query;
mod words;
mod writing;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};

pub use context::{Candidate, Packed, Room, Use, pack};
pub use evidence::Support;
pub use generators::Generators;
pub use prompt::{DEFAULT_PROMPT, PromptPassage, Prompts};
pub use query::retrieval_query;
pub use words::{Words, content_words, coverage};

use crate::catalog::{Catalog, Reading};
use crate::domain::{CollectionName, Level, Span};
use crate::encoder::{Encoders, Overflow};
use crate::error::{Error, Result};
use crate::generator::{Generator, Message, Prompt, Role, Sampling};
use crate::search::{Hit, Options, Query, Search};
use crate::task::{self, Cancelled, check_cancelled};
use crate::text::sentences;
use evidence::{Evidence, Question};
use writing::{Writing, extract, vector_of};

/// Most passages that an answer is made from.
pub const MAX_PASSAGES: usize = 100;
/// Hits that are put in order by how well they seem to answer the question before the prompt is packed.
const RERANKED: usize = 5;
/// Most bytes of a question.
pub const MAX_QUESTION_BYTES: usize = 64 << 10;
/// Most messages of a history.
pub const MAX_HISTORY: usize = 1000;

/// What holds unless a request says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerOptions {
    /// Passages in the prompt of a generated answer.
    pub passages: usize,
    /// Passages whose sentences an extractive answer is chosen from.
    pub extractive_passages: usize,
    /// Sentences of an extractive answer.
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
    /// Generative where a generator is loaded, else extractive.
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
    /// How well the used passages seem to answer the question.
    pub answerability: f32,
    /// Least answerability from which on an answer is written.
    pub answerability_threshold: f32,
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
    /// Why it ended.
    pub reason: FinishReason,
    /// What it cost.
    pub usage: Usage,
    /// Support of each sentence, in order.
    pub support: Vec<Support>,
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
        generators: Generators,
        prompts: Prompts,
        options: AnswerOptions,
    ) -> Result<Self> {
        prompts.check(&options.prompt)?;
        Ok(Self { search, catalog, encoders, generators, prompts: Arc::new(prompts), options })
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
        let generator = match request.mode {
            Mode::Extractive => None,
            Mode::Auto if self.generators.is_empty() => None,
            Mode::Auto | Mode::Generative => Some(self.generators.get(&request.model)?.clone()),
        };
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
            uses: Vec::new(),
            query: searched,
            mode: if generator.is_some() { Mode::Generative } else { Mode::Extractive },
            answerability: 0.0,
            answerability_threshold: request
                .answerability_threshold
                .unwrap_or(self.options.answerability_threshold),
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
        let vector = vector_of(&encoder, &asked, encoder.query_prompt(), Overflow::Window).await?;
        // A follow-up is found by the question before it too, but it is its own words that an answer must meet.
        let mut words = content_words(&request.question);
        if words.is_empty() {
            words = content_words(&asked);
        }
        let question = Question { vector, words };
        let mut messages = Vec::new();
        match &generator {
            None => {
                retrieval.uses = (0..hits.len()).map(|index| extractive_use(index, max_passages)).collect()
            }
            Some(generator) => {
                let room = Room {
                    context_tokens: generator.info().context_tokens as usize,
                    answer_tokens: sampling.max_tokens as usize,
                    max_context_tokens: request.max_context_tokens,
                    max_passages,
                };
                let prompt = prompt.clone();
                let considered = hits.iter().take(RERANKED.max(max_passages)).enumerate();
                let whole = considered.map(|(index, hit)| (index, whole(hit))).collect();
                let order = self.evidence(&reading, &hits, whole).await?.order(&question, hits.len());
                let packed =
                    self.packed(generator.clone(), prompt, &request, hits.clone(), order, room).await?;
                retrieval.uses = packed.0.uses;
                retrieval.dropped_history = packed.0.dropped_history;
                retrieval.prompt_tokens = packed.0.prompt_tokens;
                retrieval.context_tokens = room.context_tokens;
                messages = packed.1;
            }
        }
        let used = used_parts(&hits, &retrieval.uses);
        if used.is_empty() {
            return Ok(Answer { model, events: without_text(retrieval, FinishReason::NoContext) });
        }

        let evidence = self.evidence(&reading, &hits, used).await?;
        if evidence.is_empty() {
            return Ok(Answer { model, events: without_text(retrieval, FinishReason::NoContext) });
        }
        retrieval.answerability = evidence.answerability(&question);
        if retrieval.answerability < retrieval.answerability_threshold {
            return Ok(Answer { model, events: without_text(retrieval, FinishReason::NotAnswerable) });
        }
        let first = stream::iter([Ok(Event::Retrieval(retrieval))]);
        let Some(generator) = generator else {
            let rest = extract(&evidence, &question, self.options.extractive_sentences);
            return Ok(Answer { model, events: first.chain(stream::iter(rest.into_iter().map(Ok))).boxed() });
        };
        let generation = generator.generate(Prompt::Messages(messages), sampling).await?;
        let support_threshold = request.support_threshold.unwrap_or(self.options.support_threshold);
        let writing = Writing::new(generation, encoder, evidence, question, support_threshold);
        Ok(Answer { model, events: first.chain(writing.events()).boxed() })
    }

    /// The sentences of these parts of the hits.
    async fn evidence(
        &self,
        reading: &Reading,
        hits: &Arc<Vec<Hit>>,
        parts: Vec<(usize, Span)>,
    ) -> Result<Evidence> {
        let (catalog, reading, hits) = (self.catalog.clone(), reading.clone(), hits.clone());
        let load = move || Evidence::load(catalog.store(), reading.cid(), &hits, &parts);
        task::blocking("ANSWER_FAILED", load).await
    }

    /// The packed prompt, its uses in the order of the hits, and its messages; passages are packed in the order of
    /// `order`. Counting tokens takes milliseconds, so it does not run on the async threads; it ends between two counts
    /// when the caller has left.
    async fn packed(
        &self,
        generator: Arc<Generator>,
        prompt: String,
        request: &Request,
        hits: Arc<Vec<Hit>>,
        order: Vec<usize>,
        room: Room,
    ) -> Result<(Packed, Vec<Message>)> {
        let prompts = self.prompts.clone();
        let (history, question) = (request.history.clone(), request.question.clone());
        let work = move |is_cancelled: Cancelled<'_>| {
            let ordered: Vec<(usize, &Hit)> = order.iter().filter_map(|&i| Some((i, hits.get(i)?))).collect();
            let candidates: Vec<Candidate> = ordered.iter().map(|(_, hit)| candidate(hit)).collect();
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
            let mut by_hit: Vec<(usize, Use)> = order.into_iter().zip(packed.uses).collect();
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

/// The parts of the hits that are used, by index.
fn used_parts(hits: &[Hit], uses: &[Use]) -> Vec<(usize, Span)> {
    let part = |(index, (hit, used)): (usize, (&Hit, &Use))| {
        let text = used_text(&hit.text, used)?;
        Some((index, Span::new(0, text.len() as u32)))
    };
    hits.iter().zip(uses).enumerate().filter_map(part).collect()
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

fn candidate(hit: &Hit) -> Candidate {
    let sentences = sentences(&hit.text, Span::new(0, hit.text.len() as u32));
    Candidate { text: hit.text.clone(), sentences }
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
    let done = Done { text: String::new(), reason, usage: Usage::default(), support: Vec::new() };
    stream::iter([Ok(Event::Retrieval(retrieval)), Ok(Event::Done(done))]).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Metadata;
    use crate::store::{DocumentRecord, Processing};

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
        let document = DocumentRecord {
            id: String::new(),
            title: title.to_owned(),
            source_uri: String::new(),
            media_type: String::new(),
            content_hash: [0; 32],
            metadata: Metadata::default(),
            create_time_ns: 0,
            update_time_ns: 0,
            doc_no: 0,
            first_passage: 0,
            passage_count: 1,
            text_bytes: 0,
            token_count: 0,
            file_title: None,
            processing: Processing::default(),
        };
        Hit {
            document,
            passage_index: 0,
            span: Span::default(),
            text: String::new(),
            headings: vec![format!("heading of {title}")],
            page: Some(page),
            score: 0.0,
            vector_score: None,
            sentence_score: None,
            keyword_score: None,
            rerank_score: None,
            vector: None,
            highlights: Vec::new(),
        }
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
