//! AsciiDoc.

use std::collections::HashMap;

use super::inline::{unmark, until};
use super::properties::{AUTHOR, KEYWORDS, Properties};
use super::{Builder, CELL};
use trove_core::domain::Extracted;
use trove_core::error::Result;

const MARKS: [&str; 7] = ["**", "__", "##", "*", "_", "#", "^"];
const VERBATIM: [&str; 3] = ["``", "`", "+"];
/// Most bytes of an attribute that stands for its value.
const MAX_VALUE: usize = 200;
/// Macros whose text is all in the brackets.
const INLINE: [&str; 7] = ["footnote:", "kbd:", "btn:", "pass:", "stem:", "latexmath:", "asciimath:"];
/// What underlines titles, outermost first.
const UNDERLINES: [char; 5] = ['=', '-', '~', '^', '+'];

pub(super) fn extract(text: &str) -> Result<Extracted> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut reader = Reader::default();
    reader.lines(&lines);
    let title = reader.properties.title.or_else(|| reader.builder.first_heading());
    let found = reader.builder.finish(title)?;
    Ok(Extracted { metadata: reader.properties.metadata, ..found })
}

/// What the lines are within.
#[derive(Default)]
enum Within {
    #[default]
    Text,
    /// A block that is shown as it stands, until the line that ends it.
    Code(String),
    /// A remark, until the line that ends it.
    Comment(String),
    Table(Table),
}

/// A table that is being read.
struct Table {
    end: String,
    /// What divides cells.
    divider: char,
    columns: usize,
    cells: Vec<String>,
}

#[derive(Default)]
struct Reader {
    builder: Builder,
    properties: Properties,
    attributes: HashMap<String, String>,
    paragraph: String,
    within: Within,
    /// Whether the lines are those below the title.
    in_header: bool,
    /// Columns and the format of the table that follows.
    columns: usize,
    comma: bool,
    verbatim: bool,
}

impl Reader {
    fn lines(&mut self, lines: &[&str]) {
        let mut at = 0;
        while let Some(line) = lines.get(at).copied() {
            let next = lines.get(at + 1).copied().unwrap_or_default();
            at += self.step(line, next);
        }
        self.end();
    }

    /// Reads a line; gives how many were read.
    fn step(&mut self, line: &str, next: &str) -> usize {
        let ended = match &self.within {
            Within::Code(end) | Within::Comment(end) => line == end,
            Within::Table(table) => line == table.end,
            Within::Text => return self.text(line, next),
        };
        if ended {
            self.end();
            return 1;
        }
        match &mut self.within {
            Within::Code(_) => {
                self.paragraph.push_str(line);
                self.paragraph.push('\n');
            }
            Within::Table(table) => table.line(line),
            Within::Comment(_) | Within::Text => {}
        }
        1
    }

    fn end(&mut self) {
        match std::mem::take(&mut self.within) {
            Within::Code(_) => {
                let code = std::mem::take(&mut self.paragraph);
                self.builder.block(&code);
            }
            Within::Table(mut table) => {
                for row in table.rows() {
                    let cells: Vec<String> = row.iter().map(|cell| self.inline(cell)).collect();
                    self.builder.block(&cells.join(CELL.encode_utf8(&mut [0; 4])));
                }
            }
            Within::Comment(_) | Within::Text => self.flush(),
        }
    }

    fn text(&mut self, line: &str, next: &str) -> usize {
        if line.is_empty() {
            self.in_header = false;
            self.flush();
            return 1;
        }
        if let Some((level, title)) = heading(line) {
            self.heading(level, title);
            return 1;
        }
        if let Some(level) = underlined(line, next).filter(|_| self.paragraph.is_empty()) {
            self.heading(level, line);
            return 2;
        }
        if line.starts_with("//") && !line.starts_with("///") {
            return 1;
        }
        if let Some((name, value)) = attribute(line) {
            self.attribute(name, value);
            return 1;
        }
        if self.in_header {
            self.header(line);
            return 1;
        }
        self.block(line);
        1
    }

    fn heading(&mut self, level: usize, title: &str) {
        self.flush();
        let text = self.inline(title);
        self.in_header = level == 1 && self.builder.bytes() == 0;
        if self.in_header {
            self.properties.title = Some(text.clone());
        }
        self.builder.heading(u8::try_from(level).unwrap_or(u8::MAX), &text);
    }

    /// Who wrote it, and which revision it is of when: `v1.2, 2024-03-05: remark`.
    fn header(&mut self, line: &str) {
        if !self.properties.metadata.contains_key(AUTHOR)
            && !line.starts_with(|c: char| c.is_ascii_digit())
            && !line.starts_with('v')
        {
            let names =
                line.split(';').map(|name| name.split('<').next().unwrap_or_default().trim().to_owned());
            return self.properties.text(AUTHOR, names.collect());
        }
        let date = line.split(',').next_back().unwrap_or_default().split(':').next().unwrap_or_default();
        self.properties.date(date.trim());
    }

    fn attribute(&mut self, name: &str, value: &str) {
        match name {
            "author" => self.properties.text(AUTHOR, vec![value.to_owned()]),
            "revdate" | "date" => self.properties.date(value),
            "keywords" => self.properties.list(KEYWORDS, value.split(',').map(str::to_owned).collect()),
            "description" => self.properties.text("description", vec![value.to_owned()]),
            _ => {}
        }
        if value.len() <= MAX_VALUE {
            self.attributes.insert(name.to_owned(), value.to_owned());
        }
    }

    fn block(&mut self, line: &str) {
        let trimmed = line.trim_start();
        if let Some(within) = self.delimiter(line) {
            self.flush();
            (self.columns, self.comma, self.verbatim) = (0, false, false);
            self.within = within;
            return;
        }
        // Marks of blocks that hold text as any other.
        let is_frame = line == "--"
            || line.len() >= 4 && ["=", "*", "_"].iter().any(|mark| line.split(mark).all(str::is_empty));
        if is_frame || line == "+" || line == "'''" || line == "<<<" {
            return self.flush();
        }
        if let Some(about) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            self.flush();
            return self.about(about);
        }
        if let Some(title) = line.strip_prefix('.').filter(|title| !title.starts_with(['.', ' '])) {
            self.flush();
            let title = self.inline(title);
            return self.builder.block(&title);
        }
        if let Some((name, rest)) = line.split_once("::").filter(|(name, _)| is_macro(name)) {
            return self.block_macro(name, rest);
        }
        if trimmed.len() < line.len() && self.paragraph.is_empty() && item(trimmed).is_none() {
            // An indented paragraph is shown as it stands.
            self.verbatim = true;
        }
        if let Some(item) = item(trimmed).filter(|_| !self.verbatim) {
            self.flush();
            self.paragraph.push_str(item);
        } else {
            self.paragraph.push_str(if self.verbatim { line } else { trimmed });
        }
        self.paragraph.push('\n');
    }

    /// What a line of signs begins.
    fn delimiter(&self, line: &str) -> Option<Within> {
        let first = line.chars().next()?;
        let run = line.len() >= 4 && line.chars().all(|c| c == first);
        Some(match first {
            '-' | '.' | '+' if run => Within::Code(line.to_owned()),
            '/' if run => Within::Comment(line.to_owned()),
            '`' if line.starts_with("```") => Within::Code("```".to_owned()),
            '|' | ',' | ':' if line.len() >= 4 && line[1..].bytes().all(|b| b == b'=') => {
                let divider = if self.comma { ',' } else { first };
                Within::Table(Table {
                    end: line.to_owned(),
                    divider,
                    columns: self.columns,
                    cells: Vec::new(),
                })
            }
            _ => return None,
        })
    }

    /// What stands in brackets above a block.
    fn about(&mut self, about: &str) {
        self.verbatim = ["listing", "source", "literal"].iter().any(|style| about.starts_with(style));
        self.comma = about.contains("format=csv") || about.contains("format=\"csv\"");
        if let Some((_, columns)) = about.split_once("cols=") {
            let columns = match columns.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next().unwrap_or_default(),
                None => columns.split(',').next().unwrap_or_default(),
            };
            let times =
                |column: &str| column.split_once('*').and_then(|(times, _)| times.trim().parse().ok());
            self.columns =
                columns.split([',', ';']).map(|column| times(column).unwrap_or(1usize).min(1000)).sum();
        }
    }

    fn block_macro(&mut self, name: &str, rest: &str) {
        self.flush();
        if name == "image" || name == "video" || name == "audio" {
            let alt = rest.split_once('[').map_or("", |(_, alt)| alt.trim_end_matches(']'));
            let alt = alt.split(',').next().unwrap_or_default().trim_matches('"');
            self.builder.block(alt);
        }
    }

    fn flush(&mut self) {
        let text = std::mem::take(&mut self.paragraph);
        if text.is_empty() {
            return;
        }
        match std::mem::take(&mut self.verbatim) {
            true => self.builder.block(&text),
            false => {
                let text = self.inline(text.trim_end());
                self.builder.block(&text);
            }
        }
    }

    fn inline(&self, text: &str) -> String {
        // Both marks together say that nothing between them is marked up.
        let text = text.replace("`+", "`").replace("+`", "`");
        unmark(&links(&self.substituted(&text)), &MARKS, &VERBATIM)
    }

    /// Attributes in braces by their values, which are not looked through again.
    fn substituted(&self, text: &str) -> String {
        let mut plain = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            plain.push_str(before);
            match until(after, "}").and_then(|(name, after)| Some((self.attributes.get(name)?, after))) {
                Some((value, after)) => {
                    plain.push_str(value);
                    rest = after;
                }
                None => {
                    plain.push('{');
                    rest = after;
                }
            }
        }
        plain.push_str(rest);
        plain
    }
}

impl Table {
    fn line(&mut self, line: &str) {
        if line.is_empty() {
            return;
        }
        let before = self.cells.len();
        if self.divider == '|' {
            self.cells_of(line);
        } else {
            self.cells.extend(line.split(self.divider).map(|cell| cell.trim().trim_matches('"').to_owned()));
        }
        // The first line tells how many columns there are, where nothing else does.
        if self.columns == 0 {
            self.columns = self.cells.len() - before;
        }
    }

    fn cells_of(&mut self, line: &str) {
        let mut pieces = line.split('|').peekable();
        let first = pieces.next().unwrap_or_default();
        if !is_spec(first.trim())
            && let Some(last) = self.cells.last_mut()
        {
            last.push_str(&format!(" {}", first.trim()));
        }
        while let Some(piece) = pieces.next() {
            // What a cell spans stands before the next mark.
            let cell = match (pieces.peek(), piece.rsplit_once(' ')) {
                (Some(_), Some((cell, spec))) if is_spec(spec) => cell,
                _ => piece,
            };
            self.cells.push(cell.trim().to_owned());
        }
    }

    fn rows(&mut self) -> Vec<Vec<String>> {
        self.cells.chunks(self.columns.max(1)).map(<[String]>::to_vec).collect()
    }
}

/// Whether a text is what stands before a cell to say how wide and of what style it is; it may be empty.
fn is_spec(text: &str) -> bool {
    text.len() <= 8 && text.bytes().all(|b| b.is_ascii_digit() || b".+*<>^aehlmsdv".contains(&b))
}

fn heading(line: &str) -> Option<(usize, &str)> {
    let mark = line.chars().next().filter(|c| matches!(c, '=' | '#'))?;
    let level = line.len() - line.trim_start_matches(mark).len();
    let title = line[level..].strip_prefix(' ')?.trim();
    ((1..=6).contains(&level) && !title.is_empty()).then_some((level, title))
}

fn underlined(line: &str, next: &str) -> Option<usize> {
    let with = next.chars().next()?;
    let level = UNDERLINES.iter().position(|c| *c == with)? + 1;
    let length = next.chars().count();
    let is_title = length >= 3
        && next.chars().all(|c| c == with)
        && length.abs_diff(line.chars().count()) <= 2
        && line.starts_with(char::is_alphanumeric);
    is_title.then_some(level)
}

/// An attribute such as `:name: value`.
fn attribute(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix(':')?.split_once(':')?;
    let is_name = name.trim_matches('!').chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
    (is_name && !name.is_empty() && (value.is_empty() || value.starts_with(' ')))
        .then_some((name, value.trim()))
}

/// Macros that stand on a line of their own and show nothing, or a picture.
fn is_macro(name: &str) -> bool {
    matches!(name, "image" | "video" | "audio" | "include" | "toc" | "ifdef" | "ifndef" | "ifeval" | "endif")
}

/// The text of an item of a list.
fn item(text: &str) -> Option<&str> {
    let (mark, rest) = text.split_once(' ')?;
    let run = |of: char| !mark.is_empty() && mark.len() <= 5 && mark.chars().all(|c| c == of);
    let number = mark
        .strip_suffix('.')
        .is_some_and(|n| !n.is_empty() && n.len() < 4 && n.bytes().all(|b| b.is_ascii_digit()));
    let callout = mark.starts_with('<') && mark.ends_with('>') && mark.len() <= 4;
    let is_item = run('*') || run('.') || mark == "-" || number || callout;
    let rest = rest.trim_start();
    is_item.then(|| ["[ ] ", "[x] ", "[*] "].iter().find_map(|mark| rest.strip_prefix(mark)).unwrap_or(rest))
}

/// Links and macros by their texts: `https://x.org[text]`, `xref:id[text]`, `<<id,text>>`.
fn links(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['[', '<']) {
        let (before, found) = rest.split_at(at);
        if let Some((target, after)) = found.strip_prefix("<<").and_then(|link| until(link, ">>")) {
            plain.push_str(before);
            plain.push_str(target.split_once(',').map_or(target, |(_, shown)| shown.trim()));
            rest = after;
            continue;
        }
        if let Some((_, after)) = found.strip_prefix("[[").and_then(|anchor| until(anchor, "]]")) {
            plain.push_str(before);
            rest = after;
            continue;
        }
        let shown = found.strip_prefix('[').and_then(|link| until(link, "]"));
        let word = before.rsplit(char::is_whitespace).next().unwrap_or(before);
        let word = word.trim_start_matches(['(', '"', '\'']);
        // Some stand behind a word without a space between.
        let inline = INLINE.into_iter().find(|name| word.ends_with(name));
        let target = inline.unwrap_or(word);
        match shown.filter(|_| inline.is_some() || target.contains(':') && !target.ends_with(':')) {
            Some((shown, after)) => {
                plain.push_str(&before[..before.len() - target.len()]);
                let shown = shown.trim_end_matches('^').trim();
                match (target, shown) {
                    ("footnote:", shown) => plain.push_str(&format!(" ({shown})")),
                    (target, "") => plain.push_str(target.strip_prefix("link:").unwrap_or(target)),
                    (_, shown) => plain.push_str(shown),
                }
                rest = after;
            }
            None => {
                plain.push_str(before);
                plain.push_str(&found[..1]);
                rest = &found[1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_attributes_lists_and_code() {
        let found = extract(
            "= The *Dock*\nAnna Berg <a@example.org>\nv1.2, 2024-03-05: first\n:product: EM-940\n:toc:\n\n// remark\n== Lift\n\n[[lift]]\nThe {product} has _two_ https://x.org[chains^], see <<dock,the dock>> and `a_b*c` or `+*.x+`.\nIt is loud.footnote:[Very.]\n\n\
             * one\n** two\n+\nmore\n. three\n\nNOTE: Keep dry.\n\n.Start it\n[source,sh]\n----\n$ run *x*\n  now\n----\n\n////\nno\n////\n\n====\nAn example.\n====\n\ninclude::x.adoc[]\nimage::a.png[The lift, 300]\n\nSub\n~~~\n\nrain:: wet\n",
        )
        .unwrap();
        assert_eq!(
            found.text,
            "The Dock\n\nLift\n\nThe EM-940 has two chains, see the dock and a_b*c or *.x.\nIt is loud. (Very.)\n\none\n\ntwo\n\nmore\n\nthree\n\nNOTE: Keep dry.\n\nStart it\n\n$ run *x*\n  now\n\nAn example.\n\nThe lift\n\nSub\n\nrain:: wet"
        );
        assert_eq!(found.title.as_deref(), Some("The Dock"));
        assert_eq!(found.sections.last().unwrap().headings, ["The Dock", "Lift", "Sub"]);
        assert!(found.metadata.contains_key("author") && found.metadata.contains_key("date"));
    }

    #[test]
    fn tables_are_rows_of_cells() {
        let by_line = "|===\n|Model |Price\n\n|EM-940 |7\n|EM-941 |8 and\nmore\n|===\n";
        assert_eq!(extract(by_line).unwrap().text, "Model\tPrice\n\nEM-940\t7\n\nEM-941\t8 and more");
        let by_cell = "[cols=\"1,2*a\"]\n|===\n|a\n|b\n2+|c\n|d |e |f\n|===\n";
        assert_eq!(extract(by_cell).unwrap().text, "a\tb\tc\n\nd\te\tf");
        let csv = ",===\nModel,Price\nEM-940,\"7\"\n,===\n";
        assert_eq!(extract(csv).unwrap().text, "Model\tPrice\n\nEM-940\t7");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "([=+|*`:.,/<>{}\\[\\]é_ -]{1,4}|[a-z]{1,4}|\n|\\|===\n|\n----\n|\\[cols=){0,60}") {
            let _ = extract(&text);
        }
    }
}
