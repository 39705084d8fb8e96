//! Headings of plain text: underlined lines, as in setext, reStructuredText and AsciiDoc, and numbered lines
//! that stand alone.

use std::borrow::Cow;

use super::builder::short_heading;
use trove_core::domain::{Extracted, Section, Span};
use trove_core::error::{Error, Result};

/// Most characters of a heading.
const MAX_HEADING: usize = 120;
/// Most headings of a path; sections that are nested deeper have the path of the one around them.
const MAX_DEPTH: usize = 8;
/// What headings are underlined with.
const UNDERLINES: &[char] = &['=', '-', '~', '^', '"', '\'', '#', '*', '+', '`'];
/// How far an underline's length may be off; AsciiDoc allows two.
const SLACK: usize = 2;

/// How a heading is marked. Styles nest in the order in which they first occur, as in reStructuredText.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Underlined {
        with: char,
        overlined: bool,
    },
    /// By its count of numbers.
    Numbered(usize),
}

struct Heading<'a> {
    start: usize,
    style: Style,
    title: &'a str,
}

/// The text of a file as it is shown: line ends of all kinds are line feeds, what is struck over is the letter that
/// stays, and the codes of terminals are gone.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    let is_special = |c: char| {
        matches!(c, '\r' | '\u{8}' | '\u{1b}' | '\u{c}' | '\u{85}' | '\u{9b}' | '\u{2028}' | '\u{2029}')
    };
    if !text.contains(is_special) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_special) {
        let (before, special) = rest.split_at(at);
        shown.push_str(before);
        let mut chars = special.chars();
        let c = chars.next().unwrap_or_default();
        rest = chars.as_str();
        match c {
            '\r' => {
                // Some programs write a line end as two carriage returns and a line feed.
                let line_feed = ["\n", "\r\n"].into_iter().find(|end| rest.starts_with(end));
                rest = &rest[line_feed.map_or(0, str::len)..];
                shown.push('\n');
            }
            '\u{c}' | '\u{2029}' => shown.push_str("\n\n"),
            '\u{8}' => overstrike(&mut shown, &mut rest),
            '\u{1b}' => rest = after_escape(rest),
            '\u{9b}' => rest = after_sequence(rest),
            _ => shown.push('\n'),
        }
    }
    shown.push_str(rest);
    shown.into()
}

/// Of two signs at one place, an underline shows less than the other.
fn overstrike(shown: &mut String, rest: &mut &str) {
    let next = rest.chars().next();
    match shown.chars().next_back() {
        None | Some('\n') => {}
        Some(_) if next == Some('_') => *rest = &rest[1..],
        Some(_) if next.is_some_and(|next| !next.is_whitespace()) => {
            shown.pop();
        }
        Some(_) => {}
    }
}

/// What follows an escape sequence of ECMA-48, such as one of colour, or a title or link of a terminal.
fn after_escape(text: &str) -> &str {
    match text.chars().next() {
        Some('[') => after_sequence(&text[1..]),
        Some(']' | 'P' | '^' | '_') => {
            let ends = ["\u{7}", "\u{1b}\\"].map(|end| text.find(end).map(|at| at + end.len()));
            let line = text.find('\n').unwrap_or(text.len());
            let end = ends.into_iter().flatten().min().filter(|end| *end <= line);
            &text[end.unwrap_or(1)..]
        }
        Some('(' | ')' | '*' | '+' | '#' | '%') => {
            let length = text.chars().take(2).map(char::len_utf8).sum();
            &text[length..]
        }
        Some('0'..='~') => &text[1..],
        _ => text,
    }
}

/// What follows the parameters and the last sign of a control sequence.
fn after_sequence(text: &str) -> &str {
    let end = text.find(|c: char| !(' '..='?').contains(&c)).unwrap_or(text.len());
    match text[end..].chars().next() {
        Some('@'..='~') => &text[end + 1..],
        _ => &text[end..],
    }
}

/// Reads a text as it is: every span fits it.
pub fn read(text: impl Into<String>) -> Result<Extracted> {
    let text = text.into();
    let Ok(end) = u32::try_from(text.len()) else {
        return Err(Error::invalid("DOCUMENT_TOO_LARGE", "expected a document of less than 4 GiB of text"));
    };
    if text.trim().is_empty() {
        return Err(Error::invalid("EMPTY_DOCUMENT", "expected a document with text, got one without"));
    }
    let headings = headings(&text);
    let title = headings.iter().find(|h| matches!(h.style, Style::Underlined { .. }));
    let title = title.map(|h| short_heading(h.title).to_owned());
    let mut sections = Vec::with_capacity(headings.len() + 1);
    let mut push = |start: u32, end: u32, path: &[(usize, &str)]| {
        let span = Span::new(start, end);
        if span.slice(&text).is_some_and(|piece| !piece.trim().is_empty()) {
            let headings = path.iter().map(|(_, title)| (*title).to_owned()).collect();
            sections.push(Section { span, headings, page: None });
        }
    };
    let (mut start, mut path, mut styles) = (0, Vec::new(), Vec::new());
    for heading in &headings {
        push(start, heading.start as u32, &path);
        start = heading.start as u32;
        let level = styles.iter().position(|style| *style == heading.style).unwrap_or_else(|| {
            styles.push(heading.style);
            styles.len() - 1
        });
        path.retain(|(of, _)| *of < level);
        if path.len() < MAX_DEPTH {
            path.push((level, short_heading(heading.title)));
        }
    }
    push(start, end, &path);
    Ok(Extracted { title, text, sections, ..Extracted::default() })
}

fn headings(text: &str) -> Vec<Heading<'_>> {
    let mut at = 0;
    let lines = text.split_inclusive('\n').map(|line| {
        let start = at;
        at += line.len();
        (start, line.trim_end())
    });
    let mut lines = lines.peekable();
    let (mut above, mut farther_above) = ((0, ""), "");
    let mut found = Vec::new();
    while let Some((start, line)) = lines.next() {
        let below = lines.peek().map_or("", |(_, line)| line);
        if is_title(line) {
            found.extend(heading(farther_above, above, (start, line), below));
        }
        farther_above = above.1;
        above = (start, line);
    }
    // A line such as "1. Do this" is a heading only where "1.1" or the like is one too.
    if !found.iter().any(|h| matches!(h.style, Style::Numbered(2..))) {
        found.retain(|h| !matches!(h.style, Style::Numbered(_)));
    }
    found
}

/// A heading, if a line is one among its neighbours; lines come with their offsets.
fn heading<'a>(
    farther_above: &str,
    above: (usize, &str),
    (start, line): (usize, &'a str),
    below: &str,
) -> Option<Heading<'a>> {
    if let Some(with) = underline(line, below) {
        // A title between two lines that are shorter than it is text between the marks of a block.
        let overlined = above.1 == below;
        if overlined && below.len() < line.chars().count() {
            return None;
        }
        let before = if overlined { farther_above } else { above.1 };
        let start = if overlined { above.0 } else { start };
        let style = Style::Underlined { with, overlined };
        return before.is_empty().then_some(Heading { start, style, title: line.trim() });
    }
    let alone = above.1.is_empty() && below.is_empty();
    let numbers = numbers(line).filter(|_| alone)?;
    Some(Heading { start, style: Style::Numbered(numbers), title: line })
}

fn is_title(line: &str) -> bool {
    // Deeper indentation marks quoted text and code.
    let indent = line.len() - line.trim_start().len();
    indent < 4
        && !line.starts_with('\t')
        && line.chars().any(char::is_alphanumeric)
        && line.chars().take(MAX_HEADING + 1).count() <= MAX_HEADING
}

/// What a title is underlined with, where the line below is an underline of its length.
fn underline(title: &str, below: &str) -> Option<char> {
    let with = below.chars().next().filter(|c| UNDERLINES.contains(c))?;
    let length = below.chars().count();
    let matches =
        length >= 3 && below.chars().all(|c| c == with) && length.abs_diff(title.chars().count()) <= SLACK;
    matches.then_some(with)
}

/// How many numbers a title such as "2.1. Title" begins with.
fn numbers(line: &str) -> Option<usize> {
    let (number, title) = line.split_once(char::is_whitespace)?;
    let parts = number.strip_suffix('.').unwrap_or(number).split('.');
    let mut count = 0;
    for part in parts {
        if part.is_empty() || part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        count += 1;
    }
    let title = title.trim_start();
    let fits = title.starts_with(char::is_uppercase) && !title.ends_with(['.', ',', ';', ':', '?', '!']);
    fits.then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let found = read(text.to_owned()).unwrap();
        found.sections.iter().map(|s| s.headings.join(" / ")).collect()
    }

    #[test]
    fn files_are_read_as_they_are_shown() {
        assert_eq!(clean("N\u{8}NA\u{8}AM\u{8}ME\u{8}E _\u{8}ax_\u{8}b c\u{8}_"), "NAME axb c");
        assert_eq!(
            clean("\u{1b}[31merror\u{1b}[0m: \u{1b}[1;38;5;9mpump\u{1b}[m\u{1b}(B \u{9b}2Kx"),
            "error: pump x"
        );
        assert_eq!(
            clean("\u{1b}]8;;http://e.org\u{1b}\\link\u{1b}]8;;\u{7} \u{1b}]open\nnext"),
            "link open\nnext"
        );
        assert_eq!(clean("a\r\rb\r\nc\r\r\nd\u{c}e\u{2028}f"), "a\n\nb\nc\nd\n\ne\nf");
        assert_eq!(clean("\u{8}\u{1b}"), "");
        assert!(matches!(clean("plain\ntext"), Cow::Borrowed(_)));
    }

    #[test]
    fn underlined_titles_make_sections() {
        let text = "git(1)\n======\n\nintro\n\nNAME\n----\nx\n\n~~~~\n$ code\n~~~~\n\nPart\n====\n\ny\n";
        assert_eq!(paths(text), ["git(1)", "git(1) / NAME", "Part"]);
        let found = read(text.to_owned()).unwrap();
        assert_eq!(found.title.as_deref(), Some("git(1)"));
        assert!(found.sections[1].span.slice(text).unwrap().starts_with("NAME\n----\nx"));
    }

    #[test]
    fn paths_are_short_however_deep_and_long_headings_are() {
        let title = "漢".repeat(MAX_HEADING);
        let underlined = |with: &char| format!("{title}\n{}\n\n", with.to_string().repeat(MAX_HEADING));
        let mut text: String = UNDERLINES.iter().map(underlined).collect();
        text.push_str(&"a\n===\n\n".repeat(2));
        let found = read(text.clone()).unwrap();
        let deepest = found.sections.iter().map(|s| s.headings.len()).max();
        assert_eq!((found.sections.len(), deepest), (UNDERLINES.len() + 2, Some(MAX_DEPTH)));
        assert!(found.sections.iter().flat_map(|s| &s.headings).all(|h| h.len() <= 200));
        assert_eq!(found.sections.last().unwrap().headings, ["a"]);
        assert!(found.sections[9].span.slice(&text).unwrap().starts_with(&title));
    }

    #[test]
    fn overlines_belong_to_their_title() {
        let text = "before\n\n====\n Top\n====\n\nSub\n===\n\ntext";
        assert_eq!(paths(text), ["", "Top", "Top / Sub"]);
        let found = read(text.to_owned()).unwrap();
        assert!(found.sections[1].span.slice(text).unwrap().starts_with("====\n Top"));
    }

    #[test]
    fn numbered_lines_are_headings_where_some_are_nested() {
        let nested = "1. Scope\n\na\n\n1.1. Terms\n\nb\n\n2. Rules\n\nc\n";
        assert_eq!(paths(nested), ["1. Scope", "1. Scope / 1.1. Terms", "2. Rules"]);
        assert_eq!(paths("1. Wash\n\n2. Rinse\n"), [""]);
        assert_eq!(paths("1. Scope\n\n1.1 ends like a sentence.\n\n10.5 mb were sent\n"), [""]);
    }

    #[test]
    fn tables_and_rules_are_no_headings() {
        assert_eq!(paths("name   age\n----   ---\nbob    7\n\n-----\n\ntext\n---- and more\n"), [""]);
    }
}
