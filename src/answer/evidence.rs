//! The passages that an answer is made from: their sentences, and how well each answers a question.

use std::collections::HashSet;

use super::asked::{Asked, names};
use super::figures::{Figure, asked_unit, counted, figures, holds, lack_unit};
use super::orders::gives_orders;
use super::polarity::denies;
use super::score::{self, Features};
use super::units::{Kind, Units};
use super::words::{Words, content_words, coverage};
use crate::domain::Span;
use crate::encoder::{Reader, Reading};
use crate::error::{ErrorKind, Result};
use crate::search::Hit;
use crate::store::Store;

/// How much it weighs that what is counted is not named, against another unit of measure: it may go by another name.
const COUNTED_MISSING: f32 = 0.4;
/// Most bytes of title and headings that are read with a passage.
const CONTEXT_BYTES: usize = 120;

/// The question, as evidence is measured against it.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its words, with those of earlier ones that it leans on.
    pub text: String,
    /// Its vector, of the collection's encoder.
    pub vector: Vec<f32>,
    /// Its content words.
    pub words: Words,
    asked: Asked,
    /// The unit of measure that it asks for.
    unit: Option<&'static str>,
    /// What it asks the number of.
    counted: Option<String>,
    figures: Vec<Figure>,
    names: Vec<Words>,
    denies: bool,
}

impl Question {
    /// A question, of which `own` are the words of the latest turn, which an answer must meet, and `text` those that make
    /// sense by themselves.
    pub fn new(own: &str, text: String, vector: Vec<f32>) -> Self {
        let mut words = content_words(own);
        if words.is_empty() {
            words = content_words(&text);
        }
        let names = names(own).map(content_words).filter(|words| !words.is_empty()).collect();
        Self {
            text,
            vector,
            words,
            asked: Asked::of(own),
            unit: asked_unit(own),
            counted: counted(own),
            figures: figures(own),
            names,
            denies: denies(own),
        }
    }
}

/// A passage that is used, with its sentences.
#[derive(Debug, Clone)]
pub struct Passage {
    /// Index of its hit.
    pub hit: usize,
    /// Its sentences.
    pub units: Units,
    /// Words of title and headings.
    pub above: Words,
    /// Figures of title and headings.
    pub figures_above: Vec<Figure>,
    /// Title and headings that the text does not repeat.
    context: String,
    /// Words of each sentence.
    pub words: Vec<Words>,
    vectors: Vec<Vec<f32>>,
    /// Whether each sentence gives orders to a model.
    orders: Vec<bool>,
    /// Score of the hit.
    score: f32,
    reading: Option<Read>,
}

/// What a reader made of a passage, and where in the text that it read each sentence is.
#[derive(Debug, Clone)]
struct Read {
    reading: Reading,
    places: Vec<Span>,
}

/// A sentence that may answer the question.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Index of its passage.
    pub passage: usize,
    /// Index of the sentence in it.
    pub at: usize,
    /// What is known of it.
    pub features: Features,
    /// Probability that it holds the answer.
    pub score: f32,
}

/// The passages that an answer is made from.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Those used, in the order of the hits.
    pub passages: Vec<Passage>,
}

impl Evidence {
    /// Reads the sentences of the used parts, as spans of the hits' texts, with the vectors they were stored with. A
    /// passage that was replaced since the search has none, nor has one that is damaged, which is logged.
    ///
    /// # Errors
    /// Whatever reading the store gives otherwise.
    pub fn load(store: &Store, cid: u32, hits: &[Hit], used: &[(usize, Span)]) -> Result<Self> {
        let mut evidence = Self::default();
        for &(index, part) in used {
            let Some(hit) = hits.get(index) else { continue };
            let point = hit.document.first_passage + u64::from(hit.passage_index);
            let Some(passage) = readable(store.passage(cid, point))?.filter(|p| p.span == hit.span) else {
                continue;
            };
            let vectors = readable(store.sentence_vectors(cid, point))?.unwrap_or_default();
            let sentences = passage.sentences.iter().zip(vectors);
            let sentences = sentences.map(|(span, vector)| (within(*span, hit.span), vector));
            let (spans, vectors) = sentences.filter(|(span, _)| span.end <= part.end).unzip();
            evidence.passages.push(Passage::new(index, hit, spans, vectors));
        }
        Ok(evidence)
    }

    /// Whether there is no sentence.
    pub fn is_empty(&self) -> bool {
        self.passages.iter().all(|passage| passage.units.len() == 0)
    }

    /// Lets a reader read all passages for a question.
    ///
    /// # Errors
    /// Those of [`Reader::read`].
    pub async fn read(&mut self, reader: &Reader, question: &Question) -> Result<()> {
        let (texts, places): (Vec<String>, Vec<_>) = self.passages.iter().map(Passage::to_read).unzip();
        let readings = reader.read(question.text.clone(), texts).await?;
        for ((passage, reading), places) in self.passages.iter_mut().zip(readings).zip(places) {
            passage.reading = Some(Read { reading, places });
        }
        Ok(())
    }

    /// The sentences that may be quoted, those that answer best first.
    pub fn candidates(&self, question: &Question) -> Vec<Candidate> {
        let best_hit = self.passages.iter().map(|passage| passage.score).fold(0.0, f32::max);
        let mut candidates: Vec<Candidate> = Vec::new();
        for (index, passage) in self.passages.iter().enumerate() {
            let about = passage.about(question, index, best_hit);
            for at in (0..passage.units.len()).filter(|&at| passage.may_be_quoted(at)) {
                let features = passage.features(question, &about, at);
                let score = score::probability(&features, passage.reading.is_some());
                candidates.push(Candidate { passage: index, at, features, score });
            }
        }
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        candidates
    }

    /// Probability that the best of some candidates answers the question; zero where there is none.
    pub fn answerability(&self, candidates: &[Candidate]) -> f32 {
        let best = candidates.first().and_then(|best| Some((best, self.passage(best)?)));
        best.map_or(0.0, |(best, passage)| score::answerability(&best.features, passage.reading.is_some()))
    }

    /// The passages of some hits and their candidates, without the others.
    pub fn only(self, candidates: Vec<Candidate>, kept: impl Fn(usize) -> bool) -> (Self, Vec<Candidate>) {
        let mut places = vec![None; self.passages.len()];
        let mut passages = Vec::with_capacity(self.passages.len());
        for (index, passage) in self.passages.into_iter().enumerate().filter(|(_, passage)| kept(passage.hit))
        {
            places[index] = Some(passages.len());
            passages.push(passage);
        }
        let moved = |candidate: Candidate| {
            let passage = places.get(candidate.passage).copied().flatten()?;
            Some(Candidate { passage, ..candidate })
        };
        (Self { passages }, candidates.into_iter().filter_map(moved).collect())
    }

    /// The passage of a candidate.
    pub fn passage(&self, candidate: &Candidate) -> Option<&Passage> {
        self.passages.get(candidate.passage)
    }

    /// Of so many hits, the order in which they seem to answer the question, by the best of their candidates; those without
    /// one follow as they are.
    pub fn order(&self, candidates: &[Candidate], hits: usize) -> Vec<usize> {
        let mut order: Vec<usize> = Vec::with_capacity(hits);
        let mut seen = HashSet::new();
        let ranked = candidates.iter().filter_map(|candidate| Some(self.passage(candidate)?.hit));
        order.extend(ranked.chain(0..hits).filter(|hit| seen.insert(*hit)));
        order
    }
}

/// What holds for all sentences of a passage.
struct About {
    coverage: f32,
    figures_missing: f32,
    names_missing: f32,
    /// Whether what the question asks the number of is not there.
    is_counted_missing: bool,
    rank: f32,
    lead: f32,
}

impl Passage {
    /// A passage with its sentences, as spans of its text, and their vectors.
    pub fn new(index: usize, hit: &Hit, spans: Vec<Span>, vectors: Vec<Vec<f32>>) -> Self {
        let units = Units::of(&hit.text, spans, &hit.headings, &hit.document.title);
        let texts: Vec<String> = (0..units.len()).map(|at| units.line(at)).collect();
        let headings = || hit.headings.iter().map(String::as_str).chain([hit.document.title.as_str()]);
        let mut context = String::new();
        for heading in headings() {
            let repeated = texts.iter().any(|text| text == heading) || context.contains(heading);
            let room = context.len() + heading.len() < CONTEXT_BYTES;
            if !repeated && room && !heading.is_empty() {
                context.push_str(if context.is_empty() { "" } else { " > " });
                context.push_str(heading);
            }
        }
        Self {
            hit: index,
            above: headings().flat_map(content_words).collect(),
            figures_above: headings().flat_map(figures).collect(),
            context,
            words: texts.iter().map(|text| content_words(text)).collect(),
            orders: texts.iter().map(|text| gives_orders(text)).collect(),
            units,
            vectors,
            score: hit.score,
            reading: None,
        }
    }

    /// Whether a word is in one of some sentences, or above them.
    pub fn holds_near(&self, sentences: &[usize], word: &str) -> bool {
        let has = |at: &usize| self.words.get(*at).is_some_and(|words| words.contains(word));
        self.above.contains(word) || sentences.iter().any(has)
    }

    /// Whether a sentence may stand as an answer, or for one.
    pub fn may_be_quoted(&self, at: usize) -> bool {
        self.units.kind(at).tells() && !self.gives_orders(at)
    }

    /// Whether a sentence gives orders to a model.
    pub fn gives_orders(&self, at: usize) -> bool {
        self.orders.get(at).copied().unwrap_or_default()
    }

    /// The text that a reader reads, and where in it each sentence is.
    fn to_read(&self) -> (String, Vec<Span>) {
        let mut text = self.context.clone();
        if !text.is_empty() {
            text.push(':');
        }
        let mut places = Vec::with_capacity(self.units.len());
        for at in 0..self.units.len() {
            if !text.is_empty() {
                text.push('\n');
            }
            let start = text.len() as u32;
            if !self.gives_orders(at) && self.units.kind(at) != Kind::Header {
                text.push_str(&self.units.line(at));
            }
            places.push(Span::new(start, text.len() as u32));
        }
        (text, places)
    }

    fn about(&self, question: &Question, index: usize, best_hit: f32) -> About {
        let held =
            |word: &str| self.above.contains(word) || self.words.iter().any(|words| words.contains(word));
        let share = |missing: usize, all: usize| if all == 0 { 0.0 } else { missing as f32 / all as f32 };
        let told = (0..self.units.len()).flat_map(|at| figures(&self.units.line(at)));
        let told: Vec<Figure> = told.chain(self.figures_above.iter().cloned()).collect();
        let figures = question.figures.iter().filter(|figure| !holds(&told, figure)).count();
        let names = question.names.iter().filter(|name| !name.iter().all(|word| held(word))).count();
        About {
            coverage: coverage(&question.words, held),
            figures_missing: share(figures, question.figures.len()),
            names_missing: share(names, question.names.len()),
            is_counted_missing: question.counted.as_deref().is_some_and(|noun| !held(noun)),
            rank: 1.0 / (1.0 + index as f32),
            lead: self.score - best_hit,
        }
    }

    fn features(&self, question: &Question, about: &About, at: usize) -> Features {
        let line = self.units.line(at);
        let of = |at: usize| self.similarity(at, &question.vector);
        let own = of(at);
        let words = |word: &str| self.words.get(at).is_some_and(|words| words.contains(word));
        let (mass, answers, none) = match &self.reading {
            Some(Read { reading, places }) => {
                let place = places.get(at).copied().unwrap_or_default();
                (reading.mass(place).max(1e-6).ln(), reading.answers, reading.none)
            }
            None => (0.0, 0.0, 0.0),
        };
        Features {
            similarity: own,
            similarity_above: self.units.above(at).map(of).fold(own, f32::max),
            coverage_passage: about.coverage,
            coverage_sentence: coverage(&question.words, words),
            answer_mass: mass,
            answers,
            no_answer: none,
            meets: question.asked.met(&question.text, &line),
            opposed: f32::from(u8::from(denies(&line) != question.denies)),
            unit_missing: match question.unit {
                Some(unit) if lack_unit(&figures(&line), unit) => 1.0,
                _ if about.is_counted_missing => COUNTED_MISSING,
                _ => 0.0,
            },
            figures_missing: about.figures_missing,
            names_missing: about.names_missing,
            rank: about.rank,
            lead: about.lead,
        }
    }

    /// Cosine similarity of a sentence to a vector, zero where it is negative.
    pub fn similarity(&self, at: usize, vector: &[f32]) -> f32 {
        self.vectors.get(at).map_or(0.0, |own| similarity(own, vector))
    }
}

/// What was read; nothing where it is damaged, which is logged: one passage must not keep the others from answering.
fn readable<T>(read: Result<Option<T>>) -> Result<Option<T>> {
    match read {
        Err(error) if error.kind == ErrorKind::DataLoss => {
            tracing::error!(%error, "a passage is left out of an answer");
            Ok(None)
        }
        read => read,
    }
}

/// A span of a document's text as one of a passage's.
fn within(span: Span, passage: Span) -> Span {
    Span::new(span.start.saturating_sub(passage.start), span.end.saturating_sub(passage.start))
}

/// Cosine similarity, zero where it is negative or there is no direction.
fn similarity(a: &[f32], b: &[f32]) -> f32 {
    let (mut dot, mut of_a, mut of_b) = (0.0f32, 0.0f32, 0.0f32);
    for (x, y) in a.iter().zip(b) {
        dot += x * y;
        of_a += x * x;
        of_b += y * y;
    }
    let norms = (of_a * of_b).sqrt();
    if norms > 0.0 { (dot / norms).clamp(0.0, 1.0) } else { 0.0 }
}
