//! Printing: lines, tables, JSON, metadata values and filters.

use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, IsTerminal, Read, Write};

use anyhow::Result;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};
use console::{Style, Term};
use serde_json::{Value, json};

use super::failure::Usage;
use crate::proto::metadata_value::Kind;
use crate::proto::{FieldCondition, Filter, FilterList, MetadataValue, StringList, field_condition, filter};
use crate::visible::{visible, visible_json, visible_line};

/// Widest text for people, in columns: longer lines are hard to read.
const MAX_WIDTH: usize = 100;

/// Text that can be printed. Whatever it is made from, a terminal only shows it: see [`visible`]. What a terminal is to
/// obey comes from the styles of this type alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With more text, in one line whatever it holds.
    #[must_use]
    pub fn plain(mut self, text: impl Display) -> Self {
        self.0.push_str(&visible_line(&text.to_string()));
        self
    }

    /// With more text, whose line breaks and tabs stay.
    #[must_use]
    pub fn lines(mut self, text: impl Display) -> Self {
        self.0.push_str(&visible(&text.to_string()));
        self
    }

    /// With more text in one line, in bold on a terminal.
    #[must_use]
    pub fn bold(self, text: impl Display) -> Self {
        self.styled(&Style::new().bold(), text)
    }

    /// With more text in one line, which stands back on a terminal.
    #[must_use]
    pub fn dim(self, text: impl Display) -> Self {
        self.styled(&Style::new().dim(), text)
    }

    /// With more text in one line and of a style, on a terminal.
    #[must_use]
    pub fn styled(mut self, style: &Style, text: impl Display) -> Self {
        self.0.push_str(&style.apply_to(visible_line(&text.to_string())).to_string());
        self
    }

    /// With what another one holds.
    #[must_use]
    pub fn and(mut self, other: &Text) -> Self {
        self.0.push_str(&other.0);
        self
    }

    /// What is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to see.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One line.
impl<D: Display> From<D> for Text {
    fn from(text: D) -> Self {
        Self::new().plain(text)
    }
}

/// Text in bold, on a terminal.
pub fn bold(text: impl Display) -> Text {
    Text::new().bold(text)
}

/// Text that stands back, on a terminal.
pub fn dim(text: impl Display) -> Text {
    Text::new().dim(text)
}

/// So many blanks, for what follows.
pub fn indented(columns: usize) -> Text {
    Text(" ".repeat(columns))
}

/// Writes one line to standard output. A reader that has left is an error, never a panic.
pub fn line(text: impl Into<Text>) -> Result<()> {
    writeln!(io::stdout(), "{}", text.into().0)?;
    Ok(())
}

/// Writes one line to standard error, where failing to write has nowhere to be told.
pub fn note(text: impl Into<Text>) {
    let _ = writeln!(io::stderr(), "{}", text.into().0);
}

/// Writes a part of a text to standard output, to be seen at once.
pub fn part(text: &str) -> Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(visible(text).as_bytes())?;
    Ok(stdout.flush()?)
}

/// Breaks the lines of a text that comes in parts, between words.
pub struct Wrap {
    /// Columns of a line; `None` leaves the lines as they are.
    width: Option<usize>,
    column: usize,
}

impl Wrap {
    /// At the width of the terminal; what is read by a program is left as it is.
    pub fn to_terminal() -> Self {
        Self { width: Term::stdout().is_term().then(width), column: 0 }
    }

    /// The next part.
    pub fn part(&mut self, text: &str) -> String {
        let Some(width) = self.width else { return text.to_owned() };
        let mut wrapped = String::with_capacity(text.len() + text.len() / width);
        for piece in text.split_inclusive([' ', '\n']) {
            let word = piece.trim_end_matches([' ', '\n']);
            let columns = console::measure_text_width(word);
            if self.column > 0 && self.column + columns > width {
                wrapped.truncate(wrapped.trim_end_matches(' ').len());
                wrapped.push('\n');
                self.column = 0;
            }
            wrapped.push_str(piece);
            self.column =
                if piece.ends_with('\n') { 0 } else { self.column + columns + piece.len() - word.len() };
        }
        wrapped
    }
}

/// Writes JSON and a line break.
fn json_line(json: &str) -> Result<()> {
    writeln!(io::stdout(), "{}", visible_json(json))?;
    Ok(())
}

/// Columns that text for people may take.
pub fn width() -> usize {
    Term::stdout().size_checked().map_or(MAX_WIDTH, |(_, columns)| usize::from(columns)).clamp(40, MAX_WIDTH)
}

/// Prints one JSON value with a line break.
pub fn print_json(value: &Value) -> Result<()> {
    json_line(&serde_json::to_string_pretty(value)?)
}

/// Prints one JSON value in one line.
pub fn print_json_line(value: &Value) -> Result<()> {
    json_line(&serde_json::to_string(value)?)
}

/// Prints a table with a header; columns of numbers are aligned at the right, and on a terminal
/// long cells are wrapped to its width.
pub fn print_table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> Result<()> {
    let numeric: Vec<bool> =
        (0..N).map(|i| !rows.is_empty() && rows.iter().all(|row| is_number(&row[i]))).collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    for row in rows {
        // Before the columns are measured.
        table.add_row(row.map(|cell| visible_line(&cell).into_owned()));
    }
    if let (true, Some((_, columns))) = (io::stdout().is_terminal(), Term::stdout().size_checked()) {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if numeric.get(index).copied().unwrap_or_default() {
            column.set_cell_alignment(CellAlignment::Right);
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(3)));
        }
    }
    for (index, row) in table.lines().enumerate() {
        let row = row.trim_end();
        if index == 0 { line(dim(row))? } else { line(row)? }
    }
    Ok(())
}

fn is_number(cell: &str) -> bool {
    !cell.is_empty() && cell.chars().all(|c| c.is_ascii_digit() || ".,-".contains(c))
}

/// Prints names and values, aligned.
pub fn print_fields(fields: &[(&str, String)]) -> Result<()> {
    let widest = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in fields {
        match value.as_str() {
            "" => line(dim(name))?,
            value => line(dim(format!("{name:<widest$}")).plain("  ").plain(value))?,
        }
    }
    Ok(())
}

/// A text in one line, cut to a number of characters.
pub fn shorten(text: &str, most: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = visible_line(&text);
    console::truncate_str(&text, most, "…").into_owned()
}

/// The texts of the command line; with none, the lines of standard input.
pub fn texts_or_stdin(texts: Vec<String>) -> Result<Vec<String>> {
    if !texts.is_empty() {
        return Ok(texts);
    }
    if io::stdin().is_terminal() {
        return Err(Usage("expected texts, as arguments or as lines of standard input".to_owned()).into());
    }
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Usage(format!("standard input: expected UTF-8 text: {error}")))?;
    let lines: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if lines.is_empty() {
        return Err(Usage("expected texts, got no line on standard input".to_owned()).into());
    }
    Ok(lines)
}

/// A timestamp as RFC 3339 in UTC.
pub fn timestamp(value: &prost_types::Timestamp) -> String {
    value.to_string()
}

/// A timestamp for people: UTC, to the second.
pub fn short_timestamp(value: Option<&prost_types::Timestamp>) -> String {
    let Some(value) = value else { return String::new() };
    let whole = prost_types::Timestamp { nanos: 0, ..*value };
    whole.to_string().replace('T', " ").trim_end_matches('Z').to_owned()
}

/// A metadata value as JSON.
pub fn metadata_json(value: &MetadataValue) -> Value {
    match &value.kind {
        None => Value::Null,
        Some(Kind::StringValue(v)) => json!(v),
        Some(Kind::IntValue(v)) => json!(v),
        Some(Kind::DoubleValue(v)) => json!(v),
        Some(Kind::BoolValue(v)) => json!(v),
        Some(Kind::TimestampValue(v)) => json!(timestamp(v)),
        Some(Kind::StringList(v)) => json!(v.values),
        Some(Kind::IntList(v)) => json!(v.values),
        Some(Kind::DoubleList(v)) => json!(v.values),
    }
}

/// A metadata map as JSON, keys in order.
pub fn metadata_map_json(map: &HashMap<String, MetadataValue>) -> Value {
    map.iter()
        .map(|(key, value)| (key.clone(), metadata_json(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A string metadata value.
pub fn string_value(value: impl Into<String>) -> MetadataValue {
    MetadataValue { kind: Some(Kind::StringValue(value.into())) }
}

/// A filter that matches documents with one of these ids.
pub fn ids_filter(ids: Vec<String>) -> Filter {
    Filter { node: Some(filter::Node::DocumentIds(StringList { values: ids })) }
}

/// A filter that matches documents whose ids start so.
pub fn id_prefix(prefix: String) -> Filter {
    Filter { node: Some(filter::Node::DocumentIdPrefix(prefix)) }
}

/// A filter where at least one of these holds.
pub fn any(filters: Vec<Filter>) -> Filter {
    Filter { node: Some(filter::Node::Any(FilterList { filters })) }
}

/// A filter on one key.
pub fn condition(key: &str, test: field_condition::Test) -> Filter {
    Filter { node: Some(filter::Node::Field(FieldCondition { key: key.to_owned(), test: Some(test) })) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_of_parts() {
        let mut wrap = Wrap { width: Some(10), column: 0 };
        let wrapped = wrap.part("One two three four\nfive")
            + &wrap.part(" six seven")
            + &wrap.part(" eighteen-letters x");
        assert_eq!(wrapped, "One two\nthree four\nfive six\nseven\neighteen-letters\nx");
        assert_eq!(Wrap { width: None, column: 0 }.part("as it  is"), "as it  is");
    }

    #[test]
    fn whatever_text_is_made_from_stays_in_its_line_and_holds_no_control() {
        let hostile = "a\u{1b}]0;t\u{7}\n\u{9b}2J\u{202e}";
        let own = [Text::from(hostile), bold(hostile), indented(2).plain(hostile).dim(hostile)];
        for text in own {
            assert_eq!(console::strip_ansi_codes(text.as_str()).find(char::is_control), None, "{text:?}");
            assert!(text.as_str().contains(r"a\u{1b}]0;t\u{7}\n\u{9b}2J\u{202e}"), "{text:?}");
        }
        assert_eq!(Text::new().lines("a\n\u{1b}[1m\tb").as_str(), "a\n\\u{1b}[1m\tb");
        assert_eq!(shorten("a\u{1b}[31mb\rc", 80), r"a\u{1b}[31mb c");
    }

    #[test]
    fn texts_for_people_are_short() {
        assert_eq!(shorten("a  b\nc", 10), "a b c");
        assert_eq!(shorten("abcdef", 4), "abc…");
        let time = prost_types::Timestamp { seconds: 0, nanos: 5 };
        assert_eq!(short_timestamp(Some(&time)), "1970-01-01 00:00:00");
    }
}
