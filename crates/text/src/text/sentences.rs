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

/// Byte ranges between blank lines and rules.
fn paragraphs(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
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
        if end < unwrapped.len() && ends_in_abbreviation(piece) {
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
