use super::sentences::{sentences, trimmed};
use trove_core::domain::{Section, Span};
use trove_core::error::{Error, Result};

/// Most sentences of a passage; a sentence's position must fit eight bits of a point id.
const MAX_SENTENCES: usize = 200;

/// Text from which on the tokenizer is called.
const TOKENIZE_BYTES: u32 = 32 << 10;

/// How text is split into passages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitOptions {
    /// Most tokens of a passage, special tokens not counted; zero counts as one.
    pub max_tokens: usize,
    /// The same for the first passage of a document, before which its title is encoded; at most `max_tokens`.
    pub first_max_tokens: usize,
    /// Most tokens that a passage repeats from the end of the one before.
    pub overlap_tokens: usize,
}

/// A passage before it has a number and a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassageDraft {
    /// Where in the text.
    pub span: Span,
    /// Its sentences, in order.
    pub sentences: Vec<Span>,
    /// Heading path of its section, outermost first.
    pub headings: Vec<String>,
    /// Page of its section.
    pub page: Option<u32>,
}

/// A sentence, or a piece of one that is too long, with its number of tokens.
#[derive(Clone, Copy)]
struct Unit {
    span: Span,
    tokens: usize,
    /// Tokens between the unit before and this one, such as those of a rule.
    gap: usize,
}

/// Splits text into passages of whole sentences; no passage crosses a section.
///
/// `tokenize` gives the byte spans of the tokens of a piece of text, without special tokens.
/// Without sections the whole text is one.
pub fn split_passages(
    text: &str,
    sections: &[Section],
    options: &SplitOptions,
    tokenize: &dyn Fn(&str) -> Result<Vec<Span>>,
) -> Result<Vec<PassageDraft>> {
    let end = u32::try_from(text.len())
        .map_err(|_| Error::invalid("DOCUMENT_TOO_LARGE", "expected a text of less than 4 GiB"))?;
    let whole = [Section { span: Span::new(0, end), headings: Vec::new(), page: None }];
    let sections = if sections.is_empty() { &whole } else { sections };
    let mut passages = Vec::new();
    for section in sections {
        let is_first = passages.is_empty();
        let most = if is_first { options.first_max_tokens } else { options.max_tokens };
        let units = section_units(text, section.span, most.max(1), tokenize)?;
        for group in group_units(&units, options, is_first) {
            passages.extend(draft(group, section));
        }
    }
    Ok(passages)
}

fn draft(units: &[Unit], section: &Section) -> Option<PassageDraft> {
    let (first, last) = (units.first()?, units.last()?);
    Some(PassageDraft {
        span: Span::new(first.span.start, last.span.end),
        sentences: units.iter().map(|u| u.span).collect(),
        headings: section.headings.clone(),
        page: section.page,
    })
}

fn section_units(
    text: &str,
    range: Span,
    max_tokens: usize,
    tokenize: &dyn Fn(&str) -> Result<Vec<Span>>,
) -> Result<Vec<Unit>> {
    let Some(piece) = range.slice(text) else {
        return Err(Error::internal("INVALID_SECTION", "a section is out of the bounds of its text"));
    };
    if piece.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut units = Vec::new();
    let (mut start, mut waiting, mut apart) = (range.start, Vec::new(), false);
    let mut flush = |start: u32, waiting: &mut Vec<Span>, apart: bool| -> Result<()> {
        let first = units.len();
        batch_units(text, start, waiting, max_tokens, tokenize, &mut units)?;
        waiting.clear();
        if apart && let Some(unit) = units.get_mut(first) {
            unit.gap = max_tokens + 1;
        }
        Ok(())
    };
    for span in sentences(text, range).into_iter().flat_map(|span| shorter(text, span)) {
        let end = waiting.last().map_or(start, |last: &Span| last.end);
        if span.start - end > TOKENIZE_BYTES {
            // What lies between, a rule or blank space, is longer than any passage.
            flush(start, &mut waiting, apart)?;
            (start, apart) = (span.start, true);
        }
        waiting.push(span);
        if span.end - start >= TOKENIZE_BYTES {
            flush(start, &mut waiting, apart)?;
            (start, apart) = (span.end, false);
        }
    }
    flush(start, &mut waiting, apart)?;
    Ok(units)
}

/// The units of sentences that follow each other, tokenized at once with what lies between them: calling the
/// tokenizer for every sentence costs more than the tokens, and for a whole book too much memory.
fn batch_units(
    text: &str,
    start: u32,
    sentences: &[Span],
    max_tokens: usize,
    tokenize: &dyn Fn(&str) -> Result<Vec<Span>>,
    units: &mut Vec<Unit>,
) -> Result<()> {
    let Some(last) = sentences.last() else { return Ok(()) };
    let piece = Span::new(start, last.end).slice(text).unwrap_or_default();
    let mut tokens = tokenize(piece)?;
    for token in &mut tokens {
        *token = Span::new(token.start.saturating_add(start), token.end.saturating_add(start));
    }
    tokens.sort_unstable_by_key(|t| t.start);
    let (mut next, mut counted) = (0, 0);
    for span in sentences {
        while tokens.get(next).is_some_and(|t| t.end <= span.start) {
            next += 1;
        }
        let within = tokens[next..].iter().take_while(|t| t.start < span.end).count();
        let own = &tokens[next..next + within];
        let first = units.len();
        if within <= max_tokens {
            units.push(Unit { span: *span, tokens: within, gap: 0 });
        } else {
            cut(text, *span, own, max_tokens, units);
        }
        if let Some(unit) = units.get_mut(first) {
            unit.gap = next.saturating_sub(counted);
        }
        counted = next + within;
    }
    Ok(())
}

/// A sentence in pieces of at most [`TOKENIZE_BYTES`], cut after white space where there is some.
fn shorter(text: &str, span: Span) -> Vec<Span> {
    let mut pieces = Vec::new();
    let mut start = span.start;
    while span.end - start > TOKENIZE_BYTES {
        let mut most = (start + TOKENIZE_BYTES) as usize;
        while !text.is_char_boundary(most) {
            most -= 1;
        }
        let window = text.get(start as usize..most).unwrap_or_default();
        let end = window.rfind(char::is_whitespace).map_or(most, |at| start as usize + at);
        let end = if end <= start as usize { most } else { end };
        pieces.extend(trimmed(text, start as usize, end).map(|(s, e)| Span::new(s as u32, e as u32)));
        start = end as u32;
    }
    pieces
        .extend(trimmed(text, start as usize, span.end as usize).map(|(s, e)| Span::new(s as u32, e as u32)));
    pieces
}

/// Cuts a sentence before tokens so that no piece has more than `max_tokens`.
fn cut(text: &str, span: Span, tokens: &[Span], max_tokens: usize, units: &mut Vec<Unit>) {
    let mut push = |start: u32, end: u32, tokens: usize| {
        if let Some((s, e)) = trimmed(text, start as usize, end as usize) {
            units.push(Unit { span: Span::new(s as u32, e as u32), tokens, gap: 0 });
        }
    };
    let mut start = span.start;
    let mut first = 0;
    while tokens.len() - first > max_tokens {
        let Some(at) = cut_point(text, start, tokens, first, max_tokens) else {
            break;
        };
        push(start, tokens[at].start, at - first);
        start = tokens[at].start;
        first = at;
    }
    push(start, span.end, tokens.len() - first);
}

/// The token before which to cut: the last after white space in the second half, else the last.
fn cut_point(text: &str, start: u32, tokens: &[Span], first: usize, max_tokens: usize) -> Option<usize> {
    let possible = |i: &usize| tokens[*i].start > start && text.is_char_boundary(tokens[*i].start as usize);
    let after_space = |i: &usize| text[..tokens[*i].start as usize].ends_with(char::is_whitespace);
    let last = first + max_tokens;
    (first + max_tokens.div_ceil(2)..=last)
        .rev()
        .find(|i| possible(i) && after_space(i))
        .or_else(|| (first + 1..=last).rev().find(possible))
        // Several tokens may share a character, which cannot be cut.
        .or_else(|| (last + 1..tokens.len()).find(possible))
}

fn group_units<'a>(units: &'a [Unit], options: &SplitOptions, is_first: bool) -> Vec<&'a [Unit]> {
    let mut groups = Vec::new();
    let (mut start, mut tokens) = (0, 0);
    for (i, unit) in units.iter().enumerate() {
        let is_first = is_first && groups.is_empty();
        let max_tokens = if is_first { options.first_max_tokens } else { options.max_tokens }.max(1);
        let cost = unit.gap + unit.tokens;
        if i > start && (tokens + cost > max_tokens || i - start >= MAX_SENTENCES) {
            groups.push(&units[start..i]);
            let room = options.overlap_tokens.min(max_tokens.saturating_sub(cost));
            (start, tokens) = overlap(units, start + 1, i, room);
        }
        tokens += if i > start { cost } else { unit.tokens };
    }
    if start < units.len() {
        groups.push(&units[start..]);
    }
    groups
}

/// Where a passage starts that repeats the last units before `end`, and how many tokens it repeats.
fn overlap(units: &[Unit], least: usize, end: usize, room: usize) -> (usize, usize) {
    let (mut start, mut tokens) = (end, 0);
    while room > 0 && start > least {
        let gap = if start < end { units[start].gap } else { 0 };
        let more = units[start - 1].tokens + gap;
        if tokens + more > room {
            break;
        }
        start -= 1;
        tokens += more;
    }
    (start, tokens)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sentences::is_rule;
    use super::*;

    /// Words in tokens of up to four characters, as a word-piece tokenizer makes them.
    fn tokenize(text: &str) -> Result<Vec<Span>> {
        let mut tokens: Vec<Span> = Vec::new();
        let mut length = 0;
        for (i, c) in text.char_indices() {
            let end = (i + c.len_utf8()) as u32;
            if c.is_whitespace() {
                length = 0;
                continue;
            }
            match tokens.last_mut() {
                Some(token) if length % 4 != 0 => token.end = end,
                _ => tokens.push(Span::new(i as u32, end)),
            }
            length += 1;
        }
        Ok(tokens)
    }

    fn split(text: &str, max_tokens: usize, overlap_tokens: usize) -> Vec<PassageDraft> {
        let options = SplitOptions { max_tokens, first_max_tokens: max_tokens, overlap_tokens };
        split_passages(text, &[], &options, &tokenize).unwrap()
    }

    #[test]
    fn the_first_passage_alone_leaves_room() {
        let text = "Aa bb. Cc dd. Ee ff. Gg hh.";
        let section = |start, end| Section { span: Span::new(start, end), headings: Vec::new(), page: None };
        let options = SplitOptions { max_tokens: 6, first_max_tokens: 3, overlap_tokens: 0 };
        for sections in [vec![], vec![section(0, 13), section(14, 27)]] {
            let found = split_passages(text, &sections, &options, &tokenize).unwrap();
            let found: Vec<_> = found.iter().map(|p| p.span.slice(text).unwrap()).collect();
            let rest: &[&str] =
                if sections.is_empty() { &["Cc dd. Ee ff. Gg hh."] } else { &["Cc dd.", "Ee ff. Gg hh."] };
            assert_eq!((found[0], &found[1..]), ("Aa bb.", rest));
        }
        let long = SplitOptions { max_tokens: 6, first_max_tokens: 2, overlap_tokens: 0 };
        let found = split_passages("Aa bb cc dd ee. Ff.", &[], &long, &tokenize).unwrap();
        assert_eq!(found[0].span, Span::new(0, 5), "a sentence that is too long for it is cut");
    }

    #[test]
    fn overlap_repeats_whole_sentences() {
        let text = "Aa bb. Cc dd. Ee ff. Gg hh.";
        let found: Vec<_> = split(text, 6, 2).iter().map(|p| p.span.slice(text).unwrap()).collect();
        assert_eq!(found, ["Aa bb. Cc dd. Ee ff.", "Ee ff. Gg hh."]);
    }

    #[test]
    fn passages_stay_in_their_section() {
        let text = "One.\n\n\n\nTwo.";
        let section = |start, end, h: &str| Section {
            span: Span::new(start, end),
            headings: vec![h.to_owned()],
            page: Some(2),
        };
        let sections = [section(0, 4, "a"), section(5, 7, "b"), section(8, 12, "c")];
        let options = SplitOptions { max_tokens: 100, first_max_tokens: 100, overlap_tokens: 0 };
        let found = split_passages(text, &sections, &options, &tokenize).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].headings, ["c"]);
        assert_eq!(found[1].page, Some(2));
    }

    #[test]
    fn rules_count_towards_a_passage_but_are_no_sentences() {
        let text = "One two.\n--------\nThree four.\n\n====";
        let found = split(text, 8, 0);
        assert_eq!(found.len(), 1, "two tokens, a rule of two, and four");
        assert_eq!(found[0].sentences.len(), 2);
        assert_eq!(found[0].span.slice(text), Some("One two.\n--------\nThree four."));
        assert_eq!(split(text, 7, 0).len(), 2);
        assert!(split("-----", 6, 0).is_empty());
    }

    #[test]
    fn long_texts_are_tokenized_in_pieces() {
        let longest = std::cell::Cell::new(0);
        let counting = |piece: &str| {
            longest.set(longest.get().max(piece.len()));
            tokenize(piece)
        };
        let options = SplitOptions { max_tokens: 50, first_max_tokens: 20, overlap_tokens: 5 };
        for text in ["Some words here. ".repeat(20_000), "é".repeat(200_000), "a ".repeat(100_000)] {
            longest.set(0);
            let found = split_passages(&text, &[], &options, &counting).unwrap();
            assert!(longest.get() <= 2 * TOKENIZE_BYTES as usize, "{}", longest.get());
            assert_eq!(found.last().unwrap().span.end as usize, text.trim_end().len());
            assert!(found.windows(2).all(|w| w[1].span.start <= w[0].span.end + 2));
        }
    }

    #[test]
    fn passages_have_few_enough_sentences() {
        let text = "A b. ".repeat(500);
        assert!(split(&text, 100_000, 50).iter().all(|p| p.sentences.len() <= MAX_SENTENCES));
    }

    proptest! {
        #[test]
        fn splits_are_sound(
            text in "([a-zA-Zé漢😀]{1,12}[.!?,]?[ \n\r\t]{0,3}|\n[-=]{3,9}\n){0,60}",
            max_tokens in 0usize..20,
            overlap_tokens in 0usize..10,
        ) {
            let found = split(&text, max_tokens, overlap_tokens);
            let mut last = None;
            for passage in &found {
                let piece = passage.span.slice(&text);
                prop_assert!(piece.is_some());
                prop_assert!(tokenize(piece.unwrap()).unwrap().len() <= max_tokens.max(1));
                prop_assert!(last < Some(passage.span.end));
                last = Some(passage.span.end);
                prop_assert!(passage.sentences.iter().all(|s| s.slice(&text).is_some_and(|s| s.trim() == s)));
                prop_assert!(passage.sentences.windows(2).all(|w| w[0].end <= w[1].start));
            }
        }

        #[test]
        fn everything_is_covered(text in "\\PC{0,200}|([a-z]{1,30}[.]?[ \n]{0,2}){0,40}", max_tokens in 1usize..20) {
            let mut covered = vec![false; text.len()];
            for passage in split(&text, max_tokens, 0) {
                for s in passage.sentences {
                    covered[s.start as usize..s.end as usize].fill(true);
                }
            }
            let mut at = 0;
            for line in text.split_inclusive('\n') {
                for (i, c) in line.char_indices() {
                    prop_assert!(c.is_whitespace() || covered[at + i] || is_rule(line));
                }
                at += line.len();
            }
        }
    }
}
