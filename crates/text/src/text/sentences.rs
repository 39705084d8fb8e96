use icu_segmenter::SentenceSegmenter;
use icu_segmenter::options::SentenceBreakInvariantOptions;

use trove_core::domain::Span;

/// Words that end in a full stop without ending a sentence. Not "etc." or "no.", which often do
/// end one; where a small letter follows, the segmenter goes on by itself.
const ABBREVIATIONS: &[&str] = &[
    "approx.", "cf.", "dr.", "e.g.", "ed.", "eds.", "eq.", "fig.", "i.e.", "jr.", "mr.", "mrs.", "ms.",
    "nos.", "prof.", "resp.", "sec.", "sr.", "st.", "vol.", "vs.",
];

/// Spans of the sentences within a range, white space around them left out.
///
/// A single line break is a wrap; a blank line, one that is only a rule, and the end of a line that ends in a double
/// colon, as AsciiDoc's terms and reStructuredText's announcements do, end a sentence. A range that is out of bounds or
/// cuts a character has no sentences.
pub fn sentences(text: &str, range: Span) -> Vec<Span> {
    let Some(piece) = range.slice(text) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (start, end) in paragraphs(piece) {
        paragraph_sentences(&piece[start..end], range.start as usize + start, &mut found);
    }
    found
}

/// Characters that rules of dashes, underlines and the frames of tables are made of.
const RULES: &str = "-=_*~#+|.:^\"'`";

/// Whether a line only draws a rule, or is the lone plus by which AsciiDoc joins paragraphs.
pub(super) fn is_rule(line: &str) -> bool {
    let line = line.trim();
    let draws = |c: char| c.is_whitespace() || RULES.contains(c) || ('\u{2500}'..='\u{257f}').contains(&c);
    line == "+" || (line.chars().nth(2).is_some() && line.chars().all(draws))
}

/// Lines with what ends them: a line feed, or a carriage return that none follows.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').flat_map(|line| {
        let mut rest = line;
        std::iter::from_fn(move || {
            let body = rest.trim_end_matches(['\r', '\n']).len();
            let end = rest[..body].find('\r').map_or_else(
                // Of several carriage returns before a line feed, the last one belongs to it.
                || {
                    rest[body..]
                        .find('\r')
                        .filter(|_| rest.len() - body > 2)
                        .map_or(rest.len(), |at| body + at + 1)
                },
                |at| at + 1,
            );
            let (line, after) = rest.split_at(end);
            rest = after;
            (!line.is_empty()).then_some(line)
        })
    })
}

/// Byte ranges between blank lines and rules.
fn paragraphs(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = None;
    let mut at = 0;
    for line in lines(text) {
        if line.trim().is_empty() || is_rule(line) {
            if let Some(start) = start.take() {
                found.push((start, at));
            }
        } else {
            let begun = *start.get_or_insert(at);
            if line.trim_end().ends_with("::") {
                found.push((begun, at + line.len()));
                start = None;
            }
        }
        at += line.len();
    }
    if let Some(start) = start {
        found.push((start, at));
    }
    found
}

fn paragraph_sentences(text: &str, offset: usize, found: &mut Vec<Span>) {
    // Same length, so that breaks in the copy are breaks in the text.
    let unwrapped = text.replace(['\n', '\r'], " ");
    let segmenter = SentenceSegmenter::new(SentenceBreakInvariantOptions::default());
    let mut start = 0;
    for end in segmenter.segment_str(&unwrapped) {
        let Some(piece) = unwrapped.get(start..end) else {
            continue;
        };
        if end < unwrapped.len() && (ends_in_abbreviation(piece) || is_number(piece)) {
            continue;
        }
        found.extend(
            trimmed(text, start, end).map(|(s, e)| Span::new((offset + s) as u32, (offset + e) as u32)),
        );
        start = end;
    }
}

/// The range without white space at its ends, or `None` where nothing is left.
pub(super) fn trimmed(text: &str, start: usize, end: usize) -> Option<(usize, usize)> {
    let piece = text.get(start..end)?;
    let left = piece.trim_start();
    let start = end - left.len();
    let length = left.trim_end().len();
    (length > 0).then_some((start, start + length))
}

/// Whether a piece is nothing but the number of an item, such as "4.2." or "iv)", which is part of what follows it.
fn is_number(piece: &str) -> bool {
    let piece = piece.trim().trim_start_matches('(');
    let Some(number) = piece.strip_suffix(['.', ')']).filter(|number| (1..=8).contains(&number.len())) else {
        return false;
    };
    let is_roman = |c: char| "ivxlc".contains(c.to_ascii_lowercase());
    number.chars().all(|c| c.is_ascii_digit() || c == '.') || number.chars().all(is_roman)
}

fn ends_in_abbreviation(sentence: &str) -> bool {
    let Some(word) = sentence.split_whitespace().next_back() else {
        return false;
    };
    let word = word.trim_start_matches(['(', '[', '"', '\'']);
    let mut chars = word.chars();
    let initial = chars.next().is_some_and(|c| c.is_uppercase() && c != 'I') && chars.as_str() == ".";
    initial || ABBREVIATIONS.iter().any(|a| a.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<&str> {
        sentences(text, Span::new(0, text.len() as u32)).iter().map(|s| s.slice(text).unwrap()).collect()
    }

    #[test]
    fn wraps_and_blank_lines() {
        assert_eq!(
            of("One line\nwraps. Two.\n\nA heading\n\nThree"),
            ["One line\nwraps.", "Two.", "A heading", "Three"]
        );
        assert!(of(" \n\n ").is_empty());
        assert!(sentences("é", Span::new(1, 2)).is_empty());
    }

    #[test]
    fn a_double_colon_ends_what_it_announces() {
        assert_eq!(
            of("A mistake. How do I\nchange it?::\n\tYou can amend\nit. Then push.\nUse std::vec."),
            ["A mistake.", "How do I\nchange it?::", "You can amend\nit.", "Then push.", "Use std::vec."]
        );
    }

    #[test]
    fn carriage_returns_alone_end_lines() {
        assert_eq!(of("A title\r\rFirst one\rgoes on.\r\rLast"), ["A title", "First one\rgoes on.", "Last"]);
        assert_eq!(of("One\r\nwraps.\r\n\r\nTwo"), ["One\r\nwraps.", "Two"]);
    }

    #[test]
    fn numbers_of_items_are_part_of_them() {
        assert_eq!(of("1. Wash the hull. 2. Rinse it."), ["1. Wash the hull.", "2. Rinse it."]);
        assert_eq!(
            of("4.2. Scope\n\niv) Costs. It was 1987. Then"),
            ["4.2. Scope", "iv) Costs.", "It was 1987.", "Then"]
        );
    }

    #[test]
    fn rules_are_no_sentences() {
        assert_eq!(
            of("Title\n=====\ntext\n+\nmore\n+---+---+\n| a | b |\n└───┘\n..."),
            ["Title", "text", "more", "| a | b |"]
        );
        assert_eq!(of("C++\n--"), ["C++ --".replace(' ', "\n").as_str()]);
    }

    #[test]
    fn abbreviations_do_not_end_sentences() {
        assert_eq!(
            of("Ask Dr. Smith (e.g. Today). Then J. Doe, etc. and so on."),
            ["Ask Dr. Smith (e.g. Today).", "Then J. Doe, etc. and so on."]
        );
    }
}
