//! reStructuredText.

use std::collections::{HashMap, HashSet};

use super::inline::{indent, unmark, until};
use super::properties::{AUTHOR, KEYWORDS, Properties};
use super::{Builder, CELL};
use trove_core::domain::Extracted;
use trove_core::error::Result;

const MARKS: [&str; 3] = ["**", "*", "|"];
const VERBATIM: [&str; 1] = ["``"];
/// Most bytes of what a word stands for.
const MAX_SUBSTITUTE: usize = 200;
/// Most directives within each other.
const MAX_DEPTH: usize = 10;
/// What titles are underlined with.
const UNDERLINES: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
/// Directives whose content is shown as it stands.
const CODE: [&str; 11] = [
    "code",
    "code-block",
    "sourcecode",
    "highlight",
    "parsed-literal",
    "literalinclude",
    "math",
    "doctest",
    "testcode",
    "prompt",
    "productionlist",
];
/// Directives that show nothing of their own.
const SILENT: [&str; 13] = [
    "toctree",
    "contents",
    "include",
    "raw",
    "index",
    "default-role",
    "currentmodule",
    "module",
    "meta",
    "role",
    "sectnum",
    "target-notes",
    "tabularcolumns",
];

pub(super) fn extract(text: &str) -> Result<Extracted> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut reader =
        Reader { substitutions: substitutions(&lines), targets: targets(&lines), ..Reader::default() };
    reader.lines(&lines);
    let title = reader.properties.title.or_else(|| reader.builder.first_heading());
    let found = reader.builder.finish(title)?;
    Ok(Extracted { metadata: reader.properties.metadata, ..found })
}

/// Words that stand for others, as in `.. |name| replace:: text`.
fn substitutions(lines: &[&str]) -> HashMap<String, String> {
    let one = |line: &&str| {
        let (name, rest) = line.trim_start().strip_prefix(".. |")?.split_once("| ")?;
        let value = rest.strip_prefix("replace::")?.trim();
        (value.len() <= MAX_SUBSTITUTE).then(|| (name.to_owned(), value.to_owned()))
    };
    lines.iter().filter_map(one).collect()
}

/// Names that links of one word such as `name_` point to.
fn targets(lines: &[&str]) -> HashSet<String> {
    let one = |line: &&str| {
        let (name, _) = line.trim_start().strip_prefix(".. _")?.split_once(':')?;
        Some(name.trim_matches('`').to_lowercase())
    };
    lines.iter().filter_map(one).collect()
}

#[derive(Default)]
struct Reader {
    builder: Builder,
    properties: Properties,
    substitutions: HashMap<String, String>,
    targets: HashSet<String>,
    /// How titles are marked, outermost first.
    styles: Vec<(char, bool)>,
    paragraph: String,
    /// Whether the next lines that are indented are shown as they stand.
    literal: bool,
    /// Whether the next line begins a block after an empty line.
    after_blank: bool,
    /// Directives that the lines are within.
    depth: usize,
}

impl Reader {
    fn lines(&mut self, lines: &[&str]) {
        let mut at = 0;
        self.after_blank = true;
        while let Some(line) = lines.get(at).copied() {
            at += self.step(line, &lines[at..]).max(1);
            self.after_blank = line.is_empty();
        }
        self.flush();
    }

    /// Reads what begins with a line; gives how many lines it has.
    fn step(&mut self, line: &str, lines: &[&str]) -> usize {
        if line.is_empty() {
            self.flush();
            return 1;
        }
        if std::mem::take(&mut self.literal) && indent(line) > 0 {
            let count = indented(lines, 1);
            self.builder.block(&dedented(&lines[..count]));
            return count;
        }
        if let Some((title, style, count)) = title(lines) {
            self.flush();
            self.title(title, style);
            return count;
        }
        let trimmed = line.trim_start();
        if let Some(count) = self.table(lines) {
            return count;
        }
        if self.after_blank && trimmed.len() >= 4 && underline(trimmed).is_some() {
            return 1;
        }
        if let Some(markup) =
            trimmed.strip_prefix("..").filter(|rest| rest.is_empty() || rest.starts_with(' '))
        {
            self.flush();
            let count = 1 + indented(&lines[1..], indent(line) + 1);
            self.explicit(markup.trim_start(), &lines[1..count]);
            return count;
        }
        if self.after_blank && trimmed.starts_with(">>>") {
            let count = lines.iter().take_while(|line| !line.is_empty()).count();
            self.builder.block(&dedented(&lines[..count]));
            return count;
        }
        if let Some((name, value)) = field(trimmed) {
            self.field(name, value);
            return 1;
        }
        self.text(line);
        1
    }

    fn title(&mut self, text: &str, style: (char, bool)) {
        let level = self.styles.iter().position(|known| *known == style).unwrap_or_else(|| {
            self.styles.push(style);
            self.styles.len() - 1
        });
        let text = self.inline(text);
        self.builder.heading(u8::try_from(level + 1).unwrap_or(u8::MAX), &text);
    }

    fn text(&mut self, line: &str) {
        let trimmed = line.trim_start();
        let item = item(trimmed);
        if item.is_some() {
            self.flush();
        }
        let text = item.unwrap_or_else(|| trimmed.strip_prefix("| ").unwrap_or(trimmed));
        if !self.paragraph.is_empty() {
            self.paragraph.push('\n');
        }
        self.paragraph.push_str(text);
    }

    fn field(&mut self, name: &str, value: &str) {
        let text = value.trim().to_owned();
        match name.to_ascii_lowercase().as_str() {
            "author" | "authors" => self.properties.text(AUTHOR, vec![text]),
            "date" => self.properties.date(&text),
            "keywords" | "tags" => {
                self.properties.list(KEYWORDS, text.split(',').map(str::to_owned).collect())
            }
            // Fields that programs read.
            "orphan" | "tocdepth" | "nocomments" => {}
            _ => {
                self.flush();
                self.paragraph = format!("{name}: {text}");
            }
        }
    }

    /// Reads what two dots begin: a directive, a note, or a remark.
    fn explicit(&mut self, markup: &str, content: &[&str]) {
        if markup.starts_with('_') || markup.starts_with('|') {
            return;
        }
        if let Some((label, text)) = markup.strip_prefix('[').and_then(|note| note.split_once("] ")) {
            let text =
                [text].into_iter().chain(content.iter().map(|line| line.trim_start())).collect::<Vec<_>>();
            self.paragraph = format!("[{label}] {}", text.join("\n"));
            return self.flush();
        }
        let Some((name, argument)) = markup.split_once("::") else { return };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return;
        }
        let options = content.iter().take_while(|line| field(line.trim_start()).is_some()).count();
        let (options, content) = content.split_at(options);
        let argument = argument.trim();
        let name = name.rsplit(':').next().unwrap_or(name);
        match name {
            _ if SILENT.contains(&name) => {}
            _ if CODE.contains(&name) => {
                if name == "math" {
                    self.builder.block(argument);
                }
                self.builder.block(&dedented(content));
            }
            "image" | "figure" => {
                let alt = options.iter().filter_map(|option| field(option.trim_start()));
                let alt: Vec<&str> =
                    alt.filter(|(name, _)| *name == "alt").map(|(_, text)| text.trim()).collect();
                self.builder.block(&alt.join(" "));
                self.inside(content);
            }
            "csv-table" => {
                self.block(argument);
                let header = options.iter().filter_map(|option| field(option.trim_start()));
                let header = header.filter(|(name, _)| *name == "header").map(|(_, text)| text);
                let rows: Vec<&str> = header.chain(content.iter().copied()).collect();
                rows.iter().for_each(|row| self.csv(row));
            }
            "list-table" => {
                self.block(argument);
                self.list_table(content);
            }
            _ => {
                self.block(argument);
                self.inside(content);
            }
        }
    }

    fn block(&mut self, text: &str) {
        let text = self.inline(text);
        self.builder.block(&text);
    }

    /// Reads the content of a directive, without its indentation.
    fn inside(&mut self, content: &[&str]) {
        let least =
            content.iter().filter(|line| !line.is_empty()).map(|line| indent(line)).min().unwrap_or(0);
        let inner: Vec<&str> = content.iter().map(|line| line.get(least..).unwrap_or_default()).collect();
        if self.depth >= MAX_DEPTH {
            return self.builder.block(&inner.join("\n"));
        }
        self.depth += 1;
        self.lines(&inner);
        self.depth -= 1;
    }

    fn csv(&mut self, line: &str) {
        let mut cells = vec![String::new()];
        let mut quoted = false;
        for c in line.trim().chars() {
            match c {
                '"' => quoted = !quoted,
                ',' if !quoted => cells.push(String::new()),
                c => cells.iter_mut().last().into_iter().for_each(|cell| cell.push(c)),
            }
        }
        self.row(&cells);
    }

    fn list_table(&mut self, content: &[&str]) {
        let mut cells: Vec<String> = Vec::new();
        for line in content {
            let trimmed = line.trim_start();
            let (starts_row, cell) = match trimmed.strip_prefix("* -") {
                Some(cell) => (true, Some(cell)),
                None => {
                    (false, trimmed.strip_prefix('-').filter(|cell| cell.is_empty() || cell.starts_with(' ')))
                }
            };
            if starts_row {
                self.row(&std::mem::take(&mut cells));
            }
            match (cell, cells.last_mut()) {
                (Some(cell), _) => cells.push(cell.trim().to_owned()),
                (None, Some(last)) => last.push_str(&format!(" {trimmed}")),
                (None, None) => {}
            }
        }
        self.row(&cells);
    }

    fn row(&mut self, cells: &[String]) {
        let words = |cell: &String| cell.split_whitespace().collect::<Vec<_>>().join(" ");
        let cells: Vec<String> = cells.iter().map(|cell| self.inline(&words(cell))).collect();
        let row = cells.join(CELL.encode_utf8(&mut [0; 4]));
        if !row.trim().is_empty() {
            self.builder.block(&row);
        }
    }

    /// Reads a table that begins here; gives how many lines it has.
    fn table(&mut self, lines: &[&str]) -> Option<usize> {
        let first = lines[0].trim_start();
        if first.starts_with("+-") && first.ends_with('+') {
            let count = lines.iter().take_while(|line| line.trim_start().starts_with(['+', '|'])).count();
            self.flush();
            self.grid_table(&lines[..count]);
            return Some(count);
        }
        let is_border = |line: &str| {
            line.starts_with("==") && line.contains(' ') && line.chars().all(|c| c == '=' || c == ' ')
        };
        if !is_border(first) {
            return None;
        }
        let borders =
            lines.iter().enumerate().filter(|(_, line)| is_border(line.trim_start())).map(|(at, _)| at);
        // The last border is followed by an empty line, or ends the text.
        let end = borders.skip(1).find(|at| lines.get(at + 1).is_none_or(|line| line.is_empty()))?;
        self.flush();
        self.simple_table(&lines[..=end]);
        Some(end + 1)
    }

    fn grid_table(&mut self, lines: &[&str]) {
        let mut cells: Vec<String> = Vec::new();
        for line in lines {
            let line = line.trim_start();
            if line.starts_with('+') {
                self.row(&std::mem::take(&mut cells));
                continue;
            }
            for (at, cell) in line.trim_matches('|').split('|').enumerate() {
                if cells.len() <= at {
                    cells.push(String::new());
                }
                cells[at].push_str(&format!(" {}", cell.trim()));
            }
        }
        self.row(&cells);
    }

    fn simple_table(&mut self, lines: &[&str]) {
        let left = indent(lines[0]);
        let border: Vec<char> = lines[0][left..].chars().collect();
        let mut starts: Vec<usize> = (0..border.len())
            .filter(|at| border[*at] == '=' && (*at == 0 || border[at - 1] == ' '))
            .collect();
        starts.push(usize::MAX);
        let mut cells: Vec<String> = Vec::new();
        for line in &lines[1..] {
            let line: Vec<char> = line.chars().skip(left).collect();
            if line.is_empty() || line.iter().all(|c| matches!(c, '=' | '-' | ' ')) {
                continue;
            }
            let cut = |range: &[usize]| -> String {
                let (from, to) = (range[0].min(line.len()), range[1].min(line.len()));
                line[from..to].iter().collect::<String>().trim().to_owned()
            };
            let row: Vec<String> = starts.windows(2).map(cut).collect();
            // A row whose first cell is empty goes on with the one before.
            if row[0].is_empty() && !cells.is_empty() {
                cells.iter_mut().zip(&row).for_each(|(cell, more)| cell.push_str(&format!(" {more}")));
            } else {
                self.row(&std::mem::replace(&mut cells, row));
            }
        }
        self.row(&cells);
    }

    fn flush(&mut self) {
        let text = std::mem::take(&mut self.paragraph);
        if text.is_empty() {
            return;
        }
        // Two colons say that what follows is shown as it stands; one is left.
        if let Some(before) = text.strip_suffix("::") {
            self.literal = true;
            let shown = if before.trim_end() == before && !before.is_empty() {
                format!("{before}:")
            } else {
                before.to_owned()
            };
            return self.block(&shown);
        }
        self.block(&text);
    }

    fn inline(&self, text: &str) -> String {
        self.unlinked(&unmark(&roles(&self.substituted(text)), &MARKS, &VERBATIM))
    }

    /// Links of one word without their mark.
    fn unlinked(&self, text: &str) -> String {
        let mut plain = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('_') {
            let is_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | '+' | ':');
            plain.push_str(before);
            let word = plain.rsplit(|c: char| !is_word(c)).next().unwrap_or_default();
            let ends = after.chars().next().is_none_or(|c| !c.is_alphanumeric() && c != '_');
            if !(ends && self.targets.contains(&word.to_lowercase())) {
                plain.push('_');
            }
            rest = after;
        }
        plain.push_str(rest);
        // A backslash keeps a sign from being a mark.
        plain.replace("\\_", "_").replace("\\*", "*").replace("\\ ", "")
    }

    /// Words that stand for others by those. What stands for them is not looked through again, so that none grow
    /// without end.
    fn substituted(&self, text: &str) -> String {
        let mut plain = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('|') {
            plain.push_str(before);
            match until(after, "|").and_then(|(name, after)| Some((self.substitutions.get(name)?, after))) {
                Some((value, after)) => {
                    plain.push_str(value);
                    rest = after;
                }
                None => {
                    plain.push('|');
                    rest = after;
                }
            }
        }
        plain.push_str(rest);
        plain
    }
}

/// Roles and links by their texts: `` :ref:`text <target>` ``, `` `text <url>`_ ``, `word_`.
fn roles(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('`') {
        let (before, at) = rest.split_at(start);
        if let Some(literal) = at.strip_prefix("``") {
            let end = literal.find("``").map_or(at.len(), |end| end + 4);
            plain.push_str(before);
            plain.push_str(&at[..end]);
            rest = &at[end..];
            continue;
        }
        let Some(end) = at[1..].find('`') else { break };
        let mut inside = &at[1..=end];
        // The name of a role stands before.
        let role = before
            .strip_suffix(':')
            .map(|role| role.trim_end_matches(|c: char| c.is_alphanumeric() || "-:.+_".contains(c)));
        plain.push_str(match role {
            Some(role) if role.len() + 1 < before.len() => role,
            _ => before,
        });
        if let Some((shown, _)) = inside
            .rsplit_once('<')
            .filter(|(shown, target)| !shown.trim().is_empty() && target.ends_with('>'))
        {
            inside = shown.trim_end();
        }
        // A tilde shows the last part of a name.
        let shown = match inside.strip_prefix('~') {
            Some(name) => name.rsplit('.').next().unwrap_or(name),
            None => inside.strip_prefix('!').unwrap_or(inside),
        };
        plain.push_str(shown);
        rest = at[end + 2..].trim_start_matches('_');
    }
    plain.push_str(rest);
    plain
}

/// A title at the beginning of lines, with its style and how many lines it has.
fn title<'a>(lines: &[&'a str]) -> Option<(&'a str, (char, bool), usize)> {
    let long = |line: &str, title: &str| line.chars().count() >= title.trim().chars().count().clamp(2, 4);
    if let Some(over) = underline(lines[0])
        && let (Some(text), Some(under)) = (lines.get(1), lines.get(2))
        && *under == lines[0]
        && !text.trim().is_empty()
        && lines[0].chars().count() >= text.trim_end().chars().count()
    {
        return Some((text.trim(), (over, true), 3));
    }
    let under = lines.get(1).copied().filter(|under| !under.is_empty())?;
    let with = underline(under)?;
    let is_title = indent(lines[0]) == 0
        && long(under, lines[0])
        && under.chars().count() + 2 >= lines[0].chars().count()
        && lines[0].chars().any(char::is_alphanumeric);
    is_title.then_some((lines[0], (with, false), 2))
}

/// The sign that a line consists of.
fn underline(line: &str) -> Option<char> {
    let with = line.chars().next().filter(|c| UNDERLINES.contains(*c))?;
    (line.len() >= 2 && line.chars().all(|c| c == with)).then_some(with)
}

/// How many lines from the first are empty or indented so far, without empty ones at the end.
fn indented(lines: &[&str], least: usize) -> usize {
    let all = lines.iter().take_while(|line| line.is_empty() || indent(line) >= least).count();
    all - lines[..all].iter().rev().take_while(|line| line.is_empty()).count()
}

fn dedented(lines: &[&str]) -> String {
    let least = lines.iter().filter(|line| !line.is_empty()).map(|line| indent(line)).min().unwrap_or(0);
    lines.iter().map(|line| line.get(least..).unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The text of an item of a list.
fn item(text: &str) -> Option<&str> {
    for mark in ["- ", "* ", "+ ", "• ", "#. "] {
        if let Some(rest) = text.strip_prefix(mark) {
            return Some(rest.trim_start());
        }
    }
    None
}

/// A field such as `:Author: Anna`; roles look alike, but are followed by a backtick.
fn field(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.strip_prefix(':')?.split_once(':')?;
    let is_field = !name.is_empty() && !name.starts_with(' ') && (value.is_empty() || value.starts_with(' '));
    is_field.then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_directives_roles_and_literal_blocks() {
        let found = extract(
            "=====\nPumps\n=====\n\n:Author: Anna\n:Date: 2024-03-05\n\n.. _top:\n.. a remark\n   goes on\n\nUse :ref:`the lift <lift>` or :py:func:`~os.path.join`, **not** `Dock <https://x.org>`_ and ``a_b*``, see top_ and int_, COMP\\_TYPE.\n\n\
             Sub\n---\n\nRun::\n\n    make\n      all\n\n.. note::\n   Keep |it| dry.\n\n   Always.\n\n.. code-block:: python\n   :linenos:\n\n   x = 1\n\n.. toctree::\n   a\n   b\n\n.. |it| replace:: the pump\n\n* one\n  more\n* two\n\n>>> 1 + 1\n2\n",
        )
        .unwrap();
        assert_eq!(
            found.text,
            "Pumps\n\nUse the lift or join, not Dock and a_b*, see top and int_, COMP_TYPE.\n\nSub\n\nRun:\n\nmake\n  all\n\nKeep the pump dry.\n\nAlways.\n\nx = 1\n\none\nmore\n\ntwo\n\n>>> 1 + 1\n2"
        );
        assert_eq!(found.title.as_deref(), Some("Pumps"));
        assert_eq!(found.sections.last().unwrap().headings, ["Pumps", "Sub"]);
        assert!(found.metadata.contains_key("author") && found.metadata.contains_key("date"));
    }

    #[test]
    fn tables_are_rows_of_cells() {
        let simple = "======  =====\nModel   Price\n======  =====\nEM-940  7\nEM-941  8\n        and more\n======  =====\n";
        assert_eq!(extract(simple).unwrap().text, "Model\tPrice\n\nEM-940\t7\n\nEM-941\t8 and more");
        let grid = "+-------+-------+\n| Model | Price |\n+=======+=======+\n| EM-   | 7     |\n| 940   |       |\n+-------+-------+\n";
        assert_eq!(extract(grid).unwrap().text, "Model\tPrice\n\nEM- 940\t7");
        let list = ".. list-table:: Prices\n   :header-rows: 1\n\n   * - Model\n     - Price\n   * - EM-940\n     - 7\n";
        assert_eq!(extract(list).unwrap().text, "Prices\n\nModel\tPrice\n\nEM-940\t7");
        let csv = ".. csv-table:: Prices\n   :header: \"Model\", \"Price\"\n\n   EM-940, \"1,250\"\n";
        assert_eq!(extract(csv).unwrap().text, "Prices\n\nModel\tPrice\n\nEM-940\t1,250");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "([=+|*`:.é_ -]{1,3}|[a-z]{1,4}|\n|\n   |\\.\\. [a-z]{1,4}::){0,60}") {
            let _ = extract(&text);
        }
    }
}
