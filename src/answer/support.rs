//! Whether the passages hold what a sentence of an answer claims.

use std::fmt;

use super::asked::names;
use super::evidence::{Candidate, Evidence, Passage, Question};
use super::figures::{Figure, figures, holds};
use super::polarity::{Verdict, asks_whether, denies, verdict, verdict_of};
use super::words::{content_words, coverage};
use crate::domain::Span;

/// Share of similarity in the score; the rest is that of the words.
const SIMILARITY_SHARE: f32 = 0.3;
/// Words around an answer that claim nothing.
const FRAME: &[&str] = &[
    "answer",
    "question",
    "context",
    "text",
    "passage",
    "document",
    "according",
    "provided",
    "based",
    "given",
    "stated",
    "state",
    "mentioned",
    "mention",
    "information",
    "yes",
    "called",
    "known",
    "named",
    "approximately",
    "about",
    "total",
    "following",
    "therefore",
    "thus",
    "there",
    "antwort",
    "laut",
    "ja",
];

/// How well a sentence of an answer is supported.
#[derive(Debug, Clone, PartialEq)]
pub struct Support {
    /// The sentence, in the answer's text.
    pub answer_span: Span,
    /// Index of the hit that supports it best; `None` where none does.
    pub hit: Option<usize>,
    /// Cosine similarity to the closest sentence of that hit.
    pub similarity: f32,
    /// Share of its content words that the sentence and its neighbours hold; words of the question do not count.
    pub overlap: f32,
    /// Both together, 0 to 1; zero where a claim is missing.
    pub score: f32,
    /// That sentence, in the hit's text.
    pub passage_span: Span,
    /// What the sentence claims and the passage does not hold.
    pub missing: Option<Missing>,
}

/// A claim that is not held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// A figure, with its unit.
    Figure(String),
    /// A name.
    Name(String),
    /// It affirms what the source denies, or the other way round.
    Polarity,
    /// It says yes or no against the source.
    Verdict,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Figure(figure) => write!(f, "figure {figure}"),
            Self::Name(name) => write!(f, "name {name}"),
            Self::Polarity => f.write_str("negation"),
            Self::Verdict => f.write_str("yes or no"),
        }
    }
}

impl Support {
    /// That of a sentence which nothing supports.
    pub fn none(answer_span: Span) -> Self {
        Self {
            answer_span,
            hit: None,
            similarity: 0.0,
            overlap: 0.0,
            score: 0.0,
            passage_span: Span::default(),
            missing: None,
        }
    }

    /// Whether it is supported by a threshold.
    pub fn reaches(&self, threshold: f32) -> bool {
        self.hit.is_some() && self.missing.is_none() && self.score >= threshold
    }
}

/// What a sentence of an answer claims.
struct Claims<'a> {
    question: &'a Question,
    figures: Vec<Figure>,
    /// Its names, each with whether the question has it.
    names: Vec<(String, bool)>,
    /// Content words that neither the question nor the frame gave.
    told: Vec<String>,
    denies: bool,
    /// What a yes or no at its start must be, by the source.
    verdict: Option<Verdict>,
    /// Whether it is a yes or no alone.
    bare: bool,
}

impl<'a> Claims<'a> {
    fn of(text: &str, question: &'a Question) -> Self {
        let (verdict, rest) = verdict(text);
        let verdict = verdict.filter(|_| asks_whether(&question.text));
        let figures = figures(rest);
        let is_number = |word: &str| !super::figures::figures(word).is_empty();
        let words = content_words(rest);
        let claimed = words.iter().filter(|word| !FRAME.contains(&word.as_str()) && !is_number(word));
        let (told, repeated): (Vec<&String>, Vec<&String>) =
            claimed.partition(|word| !question.words.contains(*word));
        // An answer in the question's own words tells no more than them.
        let told = if told.is_empty() && figures.is_empty() { repeated } else { told };
        let name = |name: &str| {
            let words = content_words(name);
            let of_question = words.iter().all(|word| question.words.contains(word));
            (!words.is_empty() && !FRAME.contains(&name.to_lowercase().as_str()))
                .then(|| (name.to_owned(), of_question))
        };
        Self {
            question,
            figures,
            names: names(rest).filter_map(name).collect(),
            told: told.into_iter().cloned().collect(),
            denies: denies(rest),
            verdict,
            bare: verdict.is_some() && words.is_empty(),
        }
    }

    /// What of it is missing from a sentence and its neighbours.
    fn missing(&self, passage: &Passage, at: usize, around: &[usize]) -> Option<Missing> {
        let line = |at: usize| passage.units.line(at);
        let told: Vec<Figure> = around.iter().flat_map(|&at| figures(&line(at))).collect();
        let told = [told, passage.figures_above.clone()].concat();
        if let Some(figure) = self.figures.iter().find(|figure| !holds(&told, figure)) {
            return Some(Missing::Figure(figure.to_string()));
        }
        let near = |word: &String| passage.holds_near(around, word);
        let anywhere = |word: &String| near(word) || passage.words.iter().any(|words| words.contains(word));
        let is_missing = |(name, of_question): &&(String, bool)| {
            let words = content_words(name);
            !words.iter().all(|word| if *of_question { anywhere(word) } else { near(word) })
        };
        if let Some((name, _)) = self.names.iter().find(is_missing) {
            return Some(Missing::Name(name.clone()));
        }
        let source = line(at);
        if let Some(verdict) = self.verdict
            && verdict != verdict_of(&self.question.text, &source)
        {
            return Some(Missing::Verdict);
        }
        (!self.bare && self.denies != denies(&source)).then_some(Missing::Polarity)
    }
}

/// The best support of a sentence of an answer, given its vector. A yes or no alone has that of the best candidate.
pub fn support(
    evidence: &Evidence,
    candidates: &[Candidate],
    answer_span: Span,
    text: &str,
    vector: Option<&[f32]>,
    question: &Question,
) -> Support {
    let claims = Claims::of(text, question);
    let mut best: Option<Support> = None;
    let rank = |support: &Support| (support.missing.is_none(), support.score, support.similarity);
    for (index, passage) in evidence.passages.iter().enumerate() {
        for at in (0..passage.units.len()).filter(|&at| passage.may_be_quoted(at)) {
            let is_best = candidates.first().is_some_and(|best| (best.passage, best.at) == (index, at));
            if claims.bare && !is_best {
                continue;
            }
            let around: Vec<usize> = passage.units.quoted(at).collect();
            let overlap = coverage(&claims.told, |word| passage.holds_near(&around, word));
            let similarity = vector.map_or(0.0, |vector| passage.similarity(at, vector));
            let similarity = if claims.bare { 1.0 } else { similarity };
            let missing = claims.missing(passage, at, &around);
            let together = SIMILARITY_SHARE * similarity + (1.0 - SIMILARITY_SHARE) * overlap;
            let found = Support {
                answer_span,
                hit: Some(passage.hit),
                similarity,
                overlap,
                score: if missing.is_some() { 0.0 } else { together },
                passage_span: passage.units.span(at),
                missing,
            };
            if best.as_ref().is_none_or(|best| rank(&found) > rank(best)) {
                best = Some(found);
            }
        }
    }
    best.unwrap_or_else(|| Support::none(answer_span))
}
