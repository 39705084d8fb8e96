//! Answers that are quoted: the sentences that answer best, word for word, with what they need.

use super::evidence::{Candidate, Evidence};
use super::{Done, Event, FinishReason, Kind, Support, Usage};
use crate::domain::Span;

/// Share of the best sentence's probability from which on another one is quoted beside it.
const BESIDE: f32 = 0.35;

/// A part of a passage that is quoted.
#[derive(Debug, Clone, PartialEq)]
struct Quotation {
    passage: usize,
    first: usize,
    last: usize,
    score: f32,
}

/// The quotations that answer best, at most so many sentences that were chosen, best passage first and in the order of the
/// text within one. What one takes along is not quoted twice.
fn quotations(evidence: &Evidence, candidates: &[Candidate], most: usize) -> Vec<Quotation> {
    let mut found: Vec<Quotation> = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    let least = candidates.first().map_or(0.0, |best| best.score * BESIDE);
    for candidate in candidates.iter().take_while(|candidate| candidate.score >= least) {
        let Some(passage) = evidence.passage(candidate).filter(|_| texts.len() < most) else { break };
        let range = passage.units.quoted(candidate.at);
        let is_in = |q: &Quotation| {
            q.passage == candidate.passage && q.first <= candidate.at && candidate.at <= q.last
        };
        let text = passage.units.line(candidate.at);
        // Passages overlap, and documents repeat each other.
        if found.iter().any(is_in) || texts.contains(&text) {
            continue;
        }
        texts.push(text);
        let (first, last) = range.into_inner();
        let score = candidate.score;
        found.push(Quotation { passage: candidate.passage, first, last, score });
    }
    join(found)
}

/// Quotations of a passage that touch or overlap become one; each passage keeps the place of its best.
fn join(found: Vec<Quotation>) -> Vec<Quotation> {
    let mut joined: Vec<Quotation> = Vec::with_capacity(found.len());
    for mut next in found {
        while let Some(at) = joined.iter().position(|other| {
            other.passage == next.passage && next.first <= other.last + 1 && other.first <= next.last + 1
        }) {
            let other = joined.remove(at);
            next.first = next.first.min(other.first);
            next.last = next.last.max(other.last);
            next.score = next.score.max(other.score);
        }
        let place = joined.iter().position(|other| other.score < next.score).unwrap_or(joined.len());
        joined.insert(place, next);
    }
    let best: Vec<usize> = joined.iter().map(|quotation| quotation.passage).collect();
    let place = |passage: usize| best.iter().position(|&other| other == passage);
    joined.sort_by_key(|quotation| (place(quotation.passage), quotation.first));
    joined
}

/// The events of an answer that is quoted, after its retrieval.
pub fn quote(evidence: &Evidence, candidates: &[Candidate], most: usize) -> Vec<Event> {
    let mut events = Vec::new();
    let mut text = String::new();
    let mut support = Vec::new();
    for quotation in quotations(evidence, candidates, most) {
        let Some(passage) = evidence.passages.get(quotation.passage) else { continue };
        let quoted = passage.units.quotation(quotation.first..=quotation.last);
        let separator = if text.is_empty() { "" } else { "\n" };
        let start = (text.len() + separator.len()) as u32;
        let delta = format!("{separator}{quoted}");
        text.push_str(&delta);
        events.push(Event::Delta(delta));
        let span = |at: usize| passage.units.span(at);
        let found = Support {
            answer_span: Span::new(start, text.len() as u32),
            hit: Some(passage.hit),
            similarity: 1.0,
            overlap: 1.0,
            score: 1.0,
            passage_span: Span::new(span(quotation.first).start, span(quotation.last).end),
            missing: None,
        };
        events.push(Event::Citation(found.clone()));
        support.push(found);
    }
    events.push(Event::Done(Done {
        text,
        kind: Kind::Quoted,
        reason: FinishReason::Stop,
        usage: Usage::default(),
        support,
        missing: None,
        draft: None,
    }));
    events
}
