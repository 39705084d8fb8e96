//! What to run for an input and which token ranges to pool.

use std::ops::Range;

use super::options::{EmbedOptions, Level, Overflow, PassageInput, Representation};
use super::tokens::{Encoded, Frame, TextTokenizer};
use crate::domain::Span;
use crate::error::{Error, Result};
use crate::model::{ModelDir, Pooling, StaticTable};

/// Tokens of a sequence and the ranges of it that are reduced to one vector each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sequence {
    pub ids: Vec<u32>,
    /// Tokens of type zero at the start; the rest is of type one.
    pub first_type: usize,
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

impl Plan {
    /// Memory that it takes, at most, with a copy of its sequences in the queue.
    pub fn memory(&self) -> usize {
        let sequence = |s: &Sequence| {
            size_of::<Sequence>()
                + s.ids.capacity() * size_of::<u32>()
                + s.parts.capacity() * size_of::<Part>()
        };
        let group = size_of::<Span>() + size_of::<(Pooling, bool)>() + size_of::<bool>();
        2 * self.sequences.iter().map(sequence).sum::<usize>()
            + self.spans.capacity() * group
            + size_of::<Self>()
    }
}

/// A set of tokens that becomes one vector.
struct Group {
    span: Span,
    tokens: Range<usize>,
    /// Whether special tokens beside its own belong to it.
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
        let is_static = options.representation == Representation::Static;
        let prompt = self.prompt(options.prompt_name.as_deref())?;
        let mut encoded = self.encode(&format!("{prompt}{text}"), text)?;
        let offset = prompt.len() as u32;
        let mut own = encoded.spans.partition_point(|span| span.start < offset);
        let room = if is_static { usize::MAX } else { self.room() };
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
        let is_whole = options.level == Level::Document && !is_static;
        let trained = if is_whole { self.model.pooling } else { within_text(self.model.pooling) };
        let pooling = options.pooling.unwrap_or(trained);
        let pooled = self.first_pooled(own, pooling, is_whole);
        let group = |span, tokens| Group { span, tokens, whole: false, pooling, sum: false };
        let spans = &encoded.spans;
        let groups: Vec<Group> = match options.level {
            Level::Document => {
                let all = Span::new(0, text.len() as u32);
                let kept = || cover(spans.get(own..).unwrap_or_default());
                let span = if truncated { kept() } else { all };
                vec![Group { whole: is_whole, ..group(span, pooled..spans.len()) }]
            }
            Level::Token => (own..spans.len()).map(|i| group(spans[i], i..i + 1)).collect(),
            Level::Word => words(&encoded.words, own).map(|r| group(cover(&spans[r.clone()]), r)).collect(),
            Level::Sentence | Level::Passage => {
                let inside = |span: Span| group(span, within(spans, own, span));
                (options.splitter)(text).into_iter().map(inside).filter(|g| !g.tokens.is_empty()).collect()
            }
        };
        let bare = Frame { open: Vec::new(), close: Vec::new() };
        let frame = if is_static { &bare } else { &self.tokenizer.frame };
        Ok(plan(&encoded.ids, groups, truncated, frame, room))
    }

    /// The passage, its sentences and, where documents are sums of token states, the sum of its tokens.
    pub fn passage(&self, passage: &PassageInput) -> Result<Plan> {
        let prompt = self.prompt(self.model.passage_prompt())?;
        let gap = if passage.context.is_empty() { "" } else { " " };
        let before = format!("{prompt}{}{gap}", passage.context);
        let mut encoded = self.encode(&format!("{before}{}", passage.text), &passage.text)?;
        if encoded.ids.len() > self.room() {
            return Err(self.too_long(encoded.ids.len()));
        }
        let starting = |bytes: usize| encoded.spans.partition_point(|span| (span.start as usize) < bytes);
        let (context, own) = (starting(prompt.len()), starting(before.len()));
        let offset = before.len() as u32;
        for span in &mut encoded.spans {
            *span = Span::new(span.start.saturating_sub(offset), span.end.saturating_sub(offset));
        }
        let all = Span::new(0, passage.text.len() as u32);
        let pooling = self.model.pooling;
        let tokens = self.first_pooled(context, pooling, true)..encoded.ids.len();
        let whole = |sum| Group { span: all, tokens: tokens.clone(), whole: true, pooling, sum };
        let sentence = |&span: &Span| {
            let tokens = within(&encoded.spans, own, span);
            Group { span, tokens, whole: false, pooling: within_text(pooling), sum: false }
        };
        let mut groups = vec![whole(false)];
        groups.extend(passage.sentences.iter().map(sentence));
        if self.model.sums_tokens() {
            groups.push(whole(true));
        }
        Ok(plan(&encoded.ids, groups, false, &self.tokenizer.frame, self.room()))
    }

    /// The first token of a whole text that is pooled, where its own begin behind those of the prompt. The token that
    /// stands for the text is before the prompt, and is taken whether or not the prompt is pooled.
    fn first_pooled(&self, own: usize, pooling: Pooling, is_whole: bool) -> usize {
        let takes_first = is_whole && pooling == Pooling::Cls;
        if self.model.include_prompt || takes_first { 0 } else { own }
    }

    /// Most tokens of a text beside the special ones.
    fn room(&self) -> usize {
        self.model.max_tokens.saturating_sub(self.tokenizer.frame.len())
    }

    /// The text of a prompt; that of the model's default prompt where none is named.
    fn prompt(&self, name: Option<&str>) -> Result<&str> {
        let Some(name) = name.or(self.model.default_prompt.as_deref()).filter(|name| !name.is_empty()) else {
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
        Error::invalid(
            "INPUT_TOO_LONG",
            format!("expected at most {limit} tokens, got {}", content + self.tokenizer.frame.len()),
        )
    }
}

/// How a part of a text is pooled by a model that pools a whole text like this: the one token that stands for the text
/// does not stand for its parts, and neither does a part's own first or last token.
fn within_text(pooling: Pooling) -> Pooling {
    match pooling {
        Pooling::Cls | Pooling::Last => Pooling::Mean,
        Pooling::Mean | Pooling::Max => pooling,
    }
}

/// Cuts framed windows of at most `room` tokens beside the frame, and the groups with them.
fn plan(ids: &[u32], groups: Vec<Group>, truncated: bool, frame: &Frame, room: usize) -> Plan {
    let Frame { open, close } = frame;
    let windows = windows(ids.len(), room);
    let framed = |(window, _): &(Range<usize>, Range<usize>)| {
        let ids = [open.as_slice(), &ids[window.clone()], close].concat();
        Sequence { first_type: ids.len(), ids, parts: Vec::new() }
    };
    let mut sequences: Vec<Sequence> = windows.iter().map(framed).collect();
    for (index, group) in groups.iter().enumerate() {
        // Only the windows that answer for tokens of the group: a long text has thousands of both.
        let first = windows.partition_point(|(_, owned)| owned.end <= group.tokens.start);
        for ((window, owned), sequence) in windows.iter().zip(&mut sequences).skip(first) {
            let start = group.tokens.start.max(owned.start);
            let end = group.tokens.end.min(owned.end);
            if start >= end {
                break;
            }
            let before = if group.whole && start == 0 { 0 } else { open.len() };
            let after = if group.whole && end == ids.len() { close.len() } else { 0 };
            let range = start - window.start + before..end - window.start + open.len() + after;
            sequence.parts.push(Part { group: index, range, pooling: group.pooling });
        }
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

/// The parts of a plan's sequences from the input embeddings instead of a run, reduced as a run's are.
pub(super) fn reduce_static(plan: &Plan, table: &StaticTable) -> Result<Vec<Vec<Vec<f32>>>> {
    let mut all = Vec::with_capacity(plan.sequences.len());
    for sequence in &plan.sequences {
        let mut vectors = Vec::with_capacity(sequence.parts.len());
        for part in &sequence.parts {
            let mut into: Vec<f32> = Vec::new();
            for &id in sequence.ids.get(part.range.clone()).unwrap_or_default() {
                let row = table.row(id).ok_or_else(|| {
                    Error::internal(
                        "INFERENCE_FAILED",
                        format!("the embedding table has no row for token {id}"),
                    )
                })?;
                let row: Vec<f32> = row.iter().map(|x| x.to_f32()).collect();
                if into.is_empty() { into = row } else { merge(&mut into, &row, part.pooling) }
            }
            vectors.push(into);
        }
        all.push(vectors);
    }
    Ok(all)
}

/// Puts the reduced parts of all sequences together, one vector per group; zeros for a group without tokens.
pub(super) fn finish(plan: &Plan, reduced: Vec<Vec<Vec<f32>>>, width: usize) -> Vec<Vec<f32>> {
    let mut vectors = vec![Vec::new(); plan.poolings.len()];
    let mut counts = vec![0_usize; plan.poolings.len()];
    for (sequence, rows) in plan.sequences.iter().zip(reduced) {
        for (part, row) in sequence.parts.iter().zip(rows) {
            counts[part.group] += part.range.len();
            let vector = &mut vectors[part.group];
            if vector.is_empty() { *vector = row } else { merge(vector, &row, part.pooling) }
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
