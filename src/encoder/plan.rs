//! What to run for an input and which token ranges to pool.

use std::ops::Range;

use super::options::{EmbedOptions, Level, Overflow, PassageInput};
use super::tokens::{Encoded, TextTokenizer};
use crate::domain::Span;
use crate::error::{Error, Result};
use crate::model::{ModelDir, Pooling};

/// Tokens of a sequence and the ranges of it that are reduced to one vector each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sequence {
    pub ids: Vec<u32>,
    pub parts: Vec<Part>,
}

/// A part of a group that lies in one sequence.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub group: usize,
    pub range: Range<usize>,
    pub pooling: Pooling,
}

/// One input.
pub(super) struct Plan {
    pub sequences: Vec<Sequence>,
    pub spans: Vec<Span>,
    /// By group: how it is pooled, and whether a mean is left as a sum.
    poolings: Vec<(Pooling, bool)>,
    /// By group: whether it has tokens.
    pub found: Vec<bool>,
    pub truncated: bool,
    pub tokens: u32,
}

/// A set of tokens that becomes one vector.
struct Group {
    span: Span,
    tokens: Range<usize>,
    /// Whether special tokens at its ends belong to it.
    whole: bool,
    pooling: Pooling,
    /// Whether a mean is left as a sum.
    sum: bool,
}

pub(super) struct Context<'a> {
    pub tokenizer: &'a TextTokenizer,
    pub model: &'a ModelDir,
}

impl Context<'_> {
    pub fn embed(&self, text: &str, options: &EmbedOptions) -> Result<Plan> {
        let width = self.model.dimensions();
        if options.dimensions.is_some_and(|d| d == 0 || d as usize > width) {
            return Err(Error::invalid("INVALID_DIMENSIONS", format!("expected 1 to {width} dimensions")));
        }
        let prompt = self.prompt(options)?;
        let mut encoded = self.encode(&format!("{prompt}{text}"), text)?;
        let offset = prompt.len() as u32;
        let mut own = encoded.spans.partition_point(|span| span.start < offset);
        let room = self.model.max_tokens - 2;
        let excess = encoded.ids.len().saturating_sub(room);
        let truncated = match options.overflow {
            _ if excess == 0 => false,
            Overflow::Window => false,
            Overflow::Error => return Err(self.too_long(encoded.ids.len())),
            Overflow::TruncateRight => encoded.cut(room..room + excess),
            Overflow::TruncateLeft => {
                let from = own.min(room);
                encoded.cut(from..from + excess)
            }
        };
        own = own.min(encoded.ids.len());
        for span in &mut encoded.spans {
            *span = Span::new(span.start.saturating_sub(offset), span.end.saturating_sub(offset));
        }
        let pooling = options.pooling.unwrap_or(self.model.pooling);
        let group = |span, tokens| Group { span, tokens, whole: false, pooling, sum: false };
        let spans = &encoded.spans;
        let groups: Vec<Group> = match options.level {
            Level::Document => {
                let all = Span::new(0, text.len() as u32);
                let kept = || cover(spans.get(own..).unwrap_or_default());
                let span = if truncated { kept() } else { all };
                vec![Group { whole: true, ..group(span, 0..spans.len()) }]
            }
            Level::Token => (own..spans.len()).map(|i| group(spans[i], i..i + 1)).collect(),
            Level::Word => words(&encoded.words, own).map(|r| group(cover(&spans[r.clone()]), r)).collect(),
            Level::Sentence | Level::Passage => {
                let inside = |span: Span| group(span, within(spans, own, span));
                (options.splitter)(text).into_iter().map(inside).filter(|g| !g.tokens.is_empty()).collect()
            }
        };
        Ok(self.plan(&encoded.ids, groups, truncated))
    }

    /// The passage, its sentences, and the sum of its tokens.
    pub fn passage(&self, passage: &PassageInput) -> Result<Plan> {
        let encoded = self.encode(&passage.text, &passage.text)?;
        if encoded.ids.len() > self.model.max_tokens - 2 {
            return Err(self.too_long(encoded.ids.len()));
        }
        let all = Span::new(0, passage.text.len() as u32);
        let pooling = self.model.pooling;
        let whole =
            |pooling, sum| Group { span: all, tokens: 0..encoded.ids.len(), whole: true, pooling, sum };
        let sentence = |&span: &Span| {
            let tokens = within(&encoded.spans, 0, span);
            Group { span, tokens, whole: false, pooling, sum: false }
        };
        let mut groups = vec![whole(pooling, false)];
        groups.extend(passage.sentences.iter().map(sentence));
        groups.push(whole(Pooling::Mean, true));
        Ok(self.plan(&encoded.ids, groups, false))
    }

    fn prompt(&self, options: &EmbedOptions) -> Result<&str> {
        let Some(name) = options.prompt_name.as_deref() else {
            return Ok("");
        };
        let known = || self.model.prompts.keys().cloned().collect::<Vec<_>>().join(", ");
        let unknown =
            || Error::invalid("UNKNOWN_PROMPT", format!("expected one of [{}], got {name:?}", known()));
        self.model.prompts.get(name).map(String::as_str).ok_or_else(unknown)
    }

    fn encode(&self, text: &str, input: &str) -> Result<Encoded> {
        let encoded = self.tokenizer.encode(text)?;
        if input.trim().is_empty() || encoded.ids.is_empty() {
            return Err(Error::invalid("EMPTY_INPUT", "expected a text, got none"));
        }
        Ok(encoded)
    }

    fn too_long(&self, content: usize) -> Error {
        let limit = self.model.max_tokens;
        Error::invalid("INPUT_TOO_LONG", format!("expected at most {limit} tokens, got {}", content + 2))
    }

    fn plan(&self, ids: &[u32], groups: Vec<Group>, truncated: bool) -> Plan {
        let [open, close] = self.tokenizer.frame;
        let mut sequences = Vec::new();
        for (window, owned) in windows(ids.len(), self.model.max_tokens - 2) {
            let mut framed = vec![open];
            framed.extend_from_slice(&ids[window.clone()]);
            framed.push(close);
            let mut parts = Vec::new();
            for (index, group) in groups.iter().enumerate() {
                let start = group.tokens.start.max(owned.start);
                let end = group.tokens.end.min(owned.end);
                if start >= end {
                    continue;
                }
                let first = group.whole && start == 0;
                let last = group.whole && end == ids.len();
                let range =
                    start - window.start + usize::from(!first)..end - window.start + 1 + usize::from(last);
                parts.push(Part { group: index, range, pooling: group.pooling });
            }
            sequences.push(Sequence { ids: framed, parts });
        }
        Plan {
            tokens: sequences.iter().map(|s| s.ids.len() as u32).sum(),
            sequences,
            spans: groups.iter().map(|g| g.span).collect(),
            poolings: groups.iter().map(|g| (g.pooling, g.sum)).collect(),
            found: groups.iter().map(|g| !g.tokens.is_empty()).collect(),
            truncated,
        }
    }
}

impl Encoded {
    /// Takes a range of tokens out; always true.
    fn cut(&mut self, range: Range<usize>) -> bool {
        self.ids.drain(range.clone());
        self.spans.drain(range.clone());
        self.words.drain(range);
        true
    }
}

/// Windows of at most `room` tokens that overlap by a quarter, with the tokens that each answers for: every token
/// belongs to the window in which it has most context.
fn windows(count: usize, room: usize) -> Vec<(Range<usize>, Range<usize>)> {
    if count <= room {
        return vec![(0..count, 0..count)];
    }
    let overlap = room / 4;
    let mut all = Vec::new();
    let (mut start, mut owned) = (0, 0);
    loop {
        let end = (start + room).min(count);
        let until = if end == count { count } else { end - overlap / 2 };
        all.push((start..end, owned..until));
        if end == count {
            return all;
        }
        (start, owned) = (end - overlap, until);
    }
}

fn cover(spans: &[Span]) -> Span {
    Span::new(spans.first().map_or(0, |s| s.start), spans.last().map_or(0, |s| s.end))
}

/// Runs of tokens of the same word, from token `from` on.
fn words(words: &[Option<u32>], from: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = from;
    words.get(from..).unwrap_or_default().chunk_by(|a, b| a.is_some() && a == b).map(move |run| {
        let start = at;
        at += run.len();
        start..at
    })
}

/// Tokens from `from` on that start in a span.
fn within(spans: &[Span], from: usize, span: Span) -> Range<usize> {
    let start = spans.partition_point(|s| s.start < span.start).max(from);
    let end = spans.partition_point(|s| s.start < span.end).max(start);
    start..end
}

/// Reduces rows to one; a mean is left as a sum.
pub(super) fn reduce(rows: &[f32], width: usize, pooling: Pooling) -> Vec<f32> {
    let mut rows = rows.chunks_exact(width);
    match pooling {
        Pooling::Cls => rows.next().unwrap_or_default().to_vec(),
        Pooling::Last => rows.next_back().unwrap_or_default().to_vec(),
        Pooling::Mean | Pooling::Max => {
            let mut into = rows.next().unwrap_or_default().to_vec();
            rows.for_each(|row| merge(&mut into, row, pooling));
            into
        }
    }
}

fn merge(into: &mut [f32], row: &[f32], pooling: Pooling) {
    match pooling {
        Pooling::Mean => into.iter_mut().zip(row).for_each(|(a, b)| *a += b),
        Pooling::Max => into.iter_mut().zip(row).for_each(|(a, b)| *a = a.max(*b)),
        Pooling::Cls => {}
        Pooling::Last => into.copy_from_slice(row),
    }
}

/// Puts the reduced parts of all sequences together, one vector per group; zeros for a group without tokens.
pub(super) fn finish(plan: &Plan, reduced: &[Vec<Vec<f32>>], width: usize) -> Vec<Vec<f32>> {
    let mut vectors = vec![Vec::new(); plan.poolings.len()];
    let mut counts = vec![0_usize; plan.poolings.len()];
    for (sequence, rows) in plan.sequences.iter().zip(reduced) {
        for (part, row) in sequence.parts.iter().zip(rows) {
            counts[part.group] += part.range.len();
            let vector = &mut vectors[part.group];
            if vector.is_empty() { *vector = row.clone() } else { merge(vector, row, part.pooling) }
        }
    }
    for ((vector, count), (pooling, sum)) in vectors.iter_mut().zip(counts).zip(&plan.poolings) {
        if count == 0 {
            *vector = vec![0.0; width];
        } else if *pooling == Pooling::Mean && !sum {
            vector.iter_mut().for_each(|x| *x /= count as f32);
        }
    }
    vectors
}

/// Scales to length one; leaves zeros.
pub(super) fn scale_to_unit(vector: &mut [f32]) {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|x| *x /= norm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_answer_for_every_token_once() {
        for count in [1, 8, 9, 15, 16, 100] {
            let all = windows(count, 8);
            assert_eq!((all[0].1.start, all[all.len() - 1].1.end), (0, count));
            assert!(all.windows(2).all(|pair| pair[0].1.end == pair[1].1.start));
            assert!(
                all.iter()
                    .all(|(w, o)| w.len() <= 8 && w.start <= o.start && o.end <= w.end && !o.is_empty())
            );
        }
    }
}
