//! Packs the context window: what of the history and of the passages goes into the prompt.
//!
//! The policy, in this order:
//! 1. System text, question, template and the room for the answer always have their place; where they alone are too
//!    long the request is refused.
//! 2. History gives way, oldest turn first, until the best passage fits whole.
//! 3. Passages are taken in the order given, best first, and whole, up to the most that are wanted. The first that does not fit whole is
//!    cut at the end of a sentence, and is the last.
//!
//! Nothing is estimated: every step counts the tokens of the whole rendered prompt, since tokens of parts do not add
//! up to those of the whole.

use crate::domain::Span;
use crate::error::{Error, Result};

/// How much there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Tokens of prompt and answer together.
    pub context_tokens: usize,
    /// Tokens kept for the answer.
    pub answer_tokens: usize,
    /// Most tokens that passages take together; zero for what fits.
    pub max_context_tokens: usize,
    /// Most passages.
    pub max_passages: usize,
}

/// A passage that may go into the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its text.
    pub text: String,
    /// Its sentences, as spans of that text.
    pub sentences: Vec<Span>,
}

/// What became of a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// All of it is in the prompt.
    Whole {
        /// Tokens that it takes there.
        tokens: usize,
    },
    /// Its first sentences are.
    Cut {
        /// Tokens that they take.
        tokens: usize,
        /// First byte of the text that is left out.
        end: u32,
    },
    /// Left out: enough better ones are in.
    OverLimit,
    /// Left out: there is no room.
    NoRoom,
}

/// A packed prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// What became of each passage, in order.
    pub uses: Vec<Use>,
    /// Messages of the history that are left out, oldest first.
    pub dropped_history: usize,
    /// Tokens of the whole prompt.
    pub prompt_tokens: usize,
}

/// Tokens of a whole prompt, by how many of the oldest messages it leaves out and its passages, by index and text.
type Counter<'a> = dyn Fn(usize, &[(usize, &str)]) -> Result<usize> + 'a;

/// Packs a prompt.
///
/// `count` gives the exact number of tokens of the prompt without that many of the oldest messages of the history and
/// with these passages, by index and text.
///
/// # Errors
/// `PROMPT_TOO_LONG` where question and template alone leave no room for the answer; those of `count`.
pub fn pack(history: usize, passages: &[Candidate], room: Room, count: &Counter<'_>) -> Result<Packed> {
    let limit = room.context_tokens.saturating_sub(room.answer_tokens);
    let bare = count(history, &[])?;
    if bare > limit {
        return Err(Error::invalid(
            "PROMPT_TOO_LONG",
            format!(
                "expected a question that leaves {} of {} tokens for the answer, got a prompt of {bare} tokens \
                 without history and passages",
                room.answer_tokens, room.context_tokens
            ),
        ));
    }
    let best: Vec<(usize, &str)> = passages.first().map(|best| (0, best.text.as_str())).into_iter().collect();
    let dropped = dropped_history(history, &|dropped| Ok(count(dropped, &best)? <= limit))?;
    let base = count(dropped, &[])?;
    let fits = |tokens: usize| {
        tokens <= limit
            && (room.max_context_tokens == 0 || tokens.saturating_sub(base) <= room.max_context_tokens)
    };
    let mut packed =
        Packed { uses: Vec::with_capacity(passages.len()), dropped_history: dropped, prompt_tokens: base };
    let mut chosen: Vec<(usize, &str)> = Vec::new();
    let mut full = false;
    for (index, passage) in passages.iter().enumerate() {
        if chosen.len() >= room.max_passages {
            packed.uses.push(Use::OverLimit);
            continue;
        }
        if full {
            packed.uses.push(Use::NoRoom);
            continue;
        }
        let whole = with(&chosen, index, &passage.text);
        let tokens = count(dropped, &whole)?;
        if fits(tokens) {
            packed.uses.push(Use::Whole { tokens: tokens.saturating_sub(packed.prompt_tokens) });
            (chosen, packed.prompt_tokens) = (whole, tokens);
            continue;
        }
        full = true;
        let cut = longest_cut(passage, &|text| {
            count(dropped, &with(&chosen, index, text)).map(|tokens| (tokens, fits(tokens)))
        })?;
        let Some((end, tokens)) = cut else {
            packed.uses.push(Use::NoRoom);
            continue;
        };
        packed.uses.push(Use::Cut { tokens: tokens.saturating_sub(packed.prompt_tokens), end });
        packed.prompt_tokens = tokens;
        chosen.push((index, ""));
    }
    Ok(packed)
}

/// The fewest of the oldest messages without which it fits, in whole turns, by bisection: each look counts all that is
/// left. All of them where it never fits.
fn dropped_history(history: usize, fits: &dyn Fn(usize) -> Result<bool>) -> Result<usize> {
    if history == 0 || fits(0)? {
        return Ok(0);
    }
    // A turn is a question and its answer.
    let messages = |turns: usize| (2 * turns).min(history);
    let (mut low, mut high) = (1, history.div_ceil(2));
    while low < high {
        let middle = low + (high - low) / 2;
        if fits(messages(middle))? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(messages(low))
}

/// The chosen passages and one more.
fn with<'a>(chosen: &[(usize, &'a str)], index: usize, text: &'a str) -> Vec<(usize, &'a str)> {
    let mut with = chosen.to_vec();
    with.push((index, text));
    with
}

/// The end of the most sentences of a passage that fit, with the tokens of the prompt, by bisection.
fn longest_cut(
    passage: &Candidate,
    count: &dyn Fn(&str) -> Result<(usize, bool)>,
) -> Result<Option<(u32, usize)>> {
    let ends: Vec<u32> = passage.sentences.iter().map(|sentence| sentence.end).collect();
    let (mut low, mut high) = (0, ends.len());
    let mut best = None;
    while low < high {
        let middle = low + (high - low) / 2;
        let Some(text) = ends.get(middle).and_then(|end| passage.text.get(..*end as usize)) else {
            high = middle;
            continue;
        };
        match count(text)? {
            (tokens, true) => {
                best = Some((ends[middle], tokens));
                low = middle + 1;
            }
            (_, false) => high = middle,
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Words for tokens: 5 for system text, question and template, 3 for each message of the history.
    fn counter(history: usize) -> impl Fn(usize, &[(usize, &str)]) -> Result<usize> {
        move |dropped, passages| {
            let words: usize = passages.iter().map(|(_, text)| text.split_whitespace().count()).sum();
            Ok(5 + 3 * (history - dropped) + words)
        }
    }

    fn candidate(sentences: &[usize]) -> Candidate {
        let mut text = String::new();
        let mut spans = Vec::new();
        for words in sentences {
            let start = text.len() as u32;
            text.push_str(&"w ".repeat(*words));
            spans.push(Span::new(start, text.len() as u32 - 1));
        }
        text.truncate(text.len().saturating_sub(1));
        Candidate { text, sentences: spans }
    }

    fn room(context_tokens: usize, max_passages: usize) -> Room {
        Room { context_tokens, answer_tokens: 10, max_context_tokens: 0, max_passages }
    }

    #[test]
    fn history_gives_way_and_the_last_passage_is_cut_at_a_sentence() {
        let passages = [candidate(&[4, 4]), candidate(&[3, 3, 3]), candidate(&[1]), candidate(&[1])];
        // 38 - 10 = 28 = 5 + 2 * 3 + 8 + 9.
        let packed = pack(4, &passages, room(38, 9), &counter(4)).unwrap();
        assert_eq!(packed.dropped_history, 0);
        assert_eq!(
            packed.uses,
            [Use::Whole { tokens: 8 }, Use::Cut { tokens: 3, end: 5 }, Use::NoRoom, Use::NoRoom]
        );
        let packed = pack(4, &passages, room(34, 2), &counter(4)).unwrap();
        assert_eq!((packed.dropped_history, packed.prompt_tokens), (2, 22));
        assert_eq!(packed.uses[1..], [Use::Cut { tokens: 3, end: 5 }, Use::OverLimit, Use::OverLimit]);
        let packed = pack(4, &passages, room(20, 2), &counter(4)).unwrap();
        assert_eq!((packed.dropped_history, packed.uses[0]), (4, Use::Cut { tokens: 4, end: 7 }));
        let limited = Room { max_context_tokens: 9, ..room(500, 9) };
        let packed = pack(0, &passages, limited, &counter(0)).unwrap();
        assert_eq!(packed.uses[..2], [Use::Whole { tokens: 8 }, Use::NoRoom]);
        assert_eq!(pack(0, &[], room(14, 1), &counter(0)).unwrap_err().reason, "PROMPT_TOO_LONG");
        assert_eq!(pack(2, &[], room(15, 1), &counter(2)).unwrap().dropped_history, 2);
    }

    #[test]
    fn few_looks_find_how_much_of_a_long_history_has_room() {
        for (history, room, expected) in
            [(0, 0, 0), (1000, 0, 1000), (1000, 1000, 0), (1000, 7, 994), (5, 3, 2)]
        {
            let looks = std::cell::Cell::new(0);
            let fits = |dropped: usize| {
                looks.set(looks.get() + 1);
                Ok(history - dropped <= room)
            };
            assert_eq!(dropped_history(history, &fits).unwrap(), expected, "{history} {room}");
            assert!(looks.get() <= 11, "{} looks", looks.get());
        }
    }

    proptest! {
        #[test]
        fn never_overruns_and_reports_everything(
            passages in prop::collection::vec(prop::collection::vec(1usize..30, 1..6), 0..8),
            turns in 0usize..6,
            context_tokens in 0usize..200,
            max_context_tokens in 0usize..80,
            max_passages in 1usize..6,
        ) {
            let passages: Vec<Candidate> = passages.iter().map(|sentences| candidate(sentences)).collect();
            let room = Room { context_tokens, answer_tokens: 10, max_context_tokens, max_passages };
            let count = counter(turns * 2);
            match pack(turns * 2, &passages, room, &count) {
                Err(error) => {
                    prop_assert_eq!(error.reason, "PROMPT_TOO_LONG");
                    prop_assert!(context_tokens < 15);
                }
                Ok(packed) => {
                    prop_assert_eq!(packed.uses.len(), passages.len());
                    prop_assert!(packed.prompt_tokens + 10 <= context_tokens);
                    prop_assert!(packed.dropped_history % 2 == 0);
                    let mut used = Vec::new();
                    let mut sum = 0;
                    let mut open = true;
                    for (index, (outcome, passage)) in packed.uses.iter().zip(&passages).enumerate() {
                        match *outcome {
                            Use::Whole { tokens } => {
                                prop_assert!(open);
                                used.push((index, passage.text.as_str()));
                                sum += tokens;
                            }
                            Use::Cut { tokens, end } => {
                                prop_assert!(open);
                                open = false;
                                prop_assert!(passage.sentences.iter().any(|s| s.end == end));
                                prop_assert!((end as usize) < passage.text.len());
                                used.push((index, &passage.text[..end as usize]));
                                sum += tokens;
                            }
                            Use::OverLimit => prop_assert!(used.len() == max_passages),
                            Use::NoRoom => open = false,
                        }
                    }
                    prop_assert!(used.len() <= max_passages);
                    prop_assert!(max_context_tokens == 0 || sum <= max_context_tokens);
                    prop_assert_eq!(count(packed.dropped_history, &used).unwrap(), packed.prompt_tokens);
                    prop_assert_eq!(count(packed.dropped_history, &[]).unwrap() + sum, packed.prompt_tokens);
                }
            }
        }
    }
}
