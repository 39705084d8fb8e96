//! Org, as Emacs writes it.

use super::inline::{unmark, until};
use super::properties::{AUTHOR, KEYWORDS, Properties};
use super::{Builder, CELL};
use trove_core::domain::Extracted;
use trove_core::error::Result;

const MARKS: [&str; 4] = ["*", "/", "_", "+"];
const VERBATIM: [&str; 2] = ["=", "~"];
/// States of tasks that stand before a heading.
const STATES: [&str; 8] = ["TODO", "DONE", "NEXT", "WAITING", "CANCELLED", "CANCELED", "STARTED", "HOLD"];

pub(super) fn extract(text: &str) -> Result<Extracted> {
    let mut reader = Reader::default();
    for line in text.lines() {
        reader.line(line);
    }
    reader.flush();
    let title = reader.properties.title.or_else(|| reader.builder.first_heading());
    let found = reader.builder.finish(title)?;
    Ok(Extracted { metadata: reader.properties.metadata, ..found })
}

/// What the lines are within.
#[derive(Default, PartialEq, Eq)]
enum Within {
    #[default]
    Text,
    /// Program code and examples, until the line that ends them.
    Code(String),
    /// Remarks, until the line that ends them.
    Comment(String),
    /// Properties of a heading.
    Drawer,
}

#[derive(Default)]
struct Reader {
    builder: Builder,
    properties: Properties,
    paragraph: String,
    within: Within,
    /// Level of a heading that is a remark with all below it.
    comment: Option<usize>,
}

impl Reader {
    fn line(&mut self, line: &str) {
        let trimmed = line.trim();
        match &self.within {
            Within::Code(end) if trimmed.eq_ignore_ascii_case(end) => self.end(),
            Within::Code(_) => {
                // A comma keeps a line from being a heading.
                let line =
                    line.strip_prefix(',').filter(|rest| rest.starts_with(['*', '#', ','])).unwrap_or(line);
                self.paragraph.push_str(line);
                self.paragraph.push('\n');
            }
            Within::Comment(end) if trimmed.eq_ignore_ascii_case(end) => self.end(),
            Within::Comment(_) => {}
            Within::Drawer if trimmed.eq_ignore_ascii_case(":END:") => self.within = Within::Text,
            Within::Drawer => {}
            Within::Text => self.text(line, trimmed),
        }
    }

    fn end(&mut self) {
        self.within = Within::Text;
        let code = std::mem::take(&mut self.paragraph);
        self.builder.block(&code);
    }

    fn text(&mut self, line: &str, trimmed: &str) {
        let stars = line.len() - line.trim_start_matches('*').len();
        if stars > 0 && line[stars..].starts_with(' ') {
            return self.heading(stars, &line[stars..]);
        }
        if self.comment.is_some() || trimmed == "#" || trimmed.starts_with("# ") {
            return;
        }
        if let Some(keyword) = trimmed.strip_prefix("#+") {
            return self.keyword(keyword);
        }
        let is_drawer = |name: &str| trimmed.eq_ignore_ascii_case(name);
        if is_drawer(":PROPERTIES:") || is_drawer(":LOGBOOK:") {
            self.flush();
            self.within = Within::Drawer;
        } else if trimmed.is_empty() || trimmed.len() >= 5 && trimmed.bytes().all(|b| b == b'-') {
            self.flush();
        } else if trimmed.starts_with('|') {
            self.row(trimmed);
        } else if let Some(fixed) = trimmed.strip_prefix(": ") {
            self.paragraph.push_str(fixed);
            self.paragraph.push('\n');
        } else {
            if let Some(item) = item(line) {
                self.flush();
                self.paragraph.push_str(&inline(item));
            } else {
                self.paragraph.push_str(&inline(trimmed));
            }
            self.paragraph.push('\n');
        }
    }

    fn heading(&mut self, stars: usize, text: &str) {
        self.flush();
        if self.comment.is_some_and(|level| stars > level) {
            return;
        }
        let mut title = text.trim();
        let first = title.split(' ').next().unwrap_or_default();
        if STATES.contains(&first) {
            title = title[first.len()..].trim_start();
        }
        self.comment = (title == "COMMENT" || title.starts_with("COMMENT ")).then_some(stars);
        if self.comment.is_some() {
            return;
        }
        if let Some(rest) = title.strip_prefix("[#").and_then(|rest| rest.split_once(']')) {
            title = rest.1.trim_start();
        }
        // Tags.
        if let Some((rest, tags)) = title.rsplit_once(char::is_whitespace)
            && tags.len() > 2
            && tags.starts_with(':')
            && tags.ends_with(':')
        {
            title = rest.trim_end();
        }
        self.builder.heading(u8::try_from(stars).unwrap_or(u8::MAX), &inline(title));
    }

    fn keyword(&mut self, keyword: &str) {
        let (name, value) = keyword.split_once([':', ' ']).unwrap_or((keyword, ""));
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        match name.as_str() {
            "title" => self.properties.title = Some(inline(value)).filter(|title| !title.is_empty()),
            "author" => self.properties.text(AUTHOR, vec![value.to_owned()]),
            "date" => self
                .properties
                .date(value.trim_matches(['<', '>', '[', ']']).split(' ').next().unwrap_or_default()),
            "keywords" | "filetags" => {
                self.properties.list(KEYWORDS, value.split([',', ':', ' ']).map(str::to_owned).collect());
            }
            "description" => self.properties.text("description", vec![value.to_owned()]),
            "caption" => self.paragraph.push_str(&(inline(value) + "\n")),
            _ => {
                let Some(kind) = name.strip_prefix("begin_") else { return };
                self.flush();
                let end = format!("#+end_{kind}");
                match kind {
                    "src" | "example" | "export" => self.within = Within::Code(end),
                    "comment" => self.within = Within::Comment(end),
                    _ => {}
                }
            }
        }
    }

    fn row(&mut self, line: &str) {
        self.flush();
        if line.starts_with("|-") {
            return;
        }
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| inline(cell.trim())).collect();
        self.builder.block(&cells.join(CELL.encode_utf8(&mut [0; 4])));
    }

    fn flush(&mut self) {
        let paragraph = std::mem::take(&mut self.paragraph);
        self.builder.block(&paragraph);
    }
}

/// The text of an item of a list.
fn item(line: &str) -> Option<&str> {
    let text = line.trim_start();
    let marked = text.strip_prefix("- ").or_else(|| text.strip_prefix("+ "));
    let rest = marked.or_else(|| {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let rest = text[digits..].strip_prefix(". ").or_else(|| text[digits..].strip_prefix(") "));
        rest.filter(|_| (1..5).contains(&digits))
    })?;
    let rest = rest.trim_start();
    Some(["[ ] ", "[X] ", "[-] "].iter().find_map(|mark| rest.strip_prefix(mark)).unwrap_or(rest))
}

fn inline(text: &str) -> String {
    unmark(&links(text), &MARKS, &VERBATIM)
}

/// Links by their texts; marks of notes go.
fn links(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('[') {
        plain.push_str(&rest[..start]);
        let at = &rest[start..];
        if let Some(link) = at.strip_prefix("[[").and_then(|link| until(link, "]]")) {
            let (target, shown) = link.0.split_once("][").unwrap_or((link.0, link.0));
            plain.push_str(if shown.is_empty() { target } else { shown });
            rest = link.1;
        } else if let Some(note) = at.strip_prefix("[fn:").and_then(|note| until(note, "]")) {
            // One that is defined on the spot says what it says.
            if let Some((_, inline)) = note.0.split_once(':') {
                plain.push_str(&format!(" ({inline})"));
            }
            rest = note.1;
        } else {
            plain.push('[');
            rest = &at[1..];
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_lists_tables_and_code() {
        let found = extract(
            "#+TITLE: The *Dock*\n#+AUTHOR: Anna\n#+DATE: <2024-03-05 Tue>\n# remark\n\n* TODO [#A] Lift   :work:home:\n:PROPERTIES:\n:ID: x\n:END:\n\
             A [[https://x.org][long /link/]] and =a_b=.\ngoes on[fn:1]\n- one\n- [X] two\n  more\n** Sub\n| Model | Price |\n|---+---|\n| EM-940 | 7 |\n\
             #+BEGIN_SRC sh\n,* x\n  make\n#+END_SRC\n#+BEGIN_COMMENT\nno\n#+END_COMMENT\n* COMMENT Draft\nno\n** no\nno\n* End\n[fn:1] note",
        )
        .unwrap();
        assert_eq!(found.title.as_deref(), Some("The Dock"));
        assert_eq!(
            found.text,
            "Lift\n\nA long link and a_b.\ngoes on\n\none\n\ntwo\nmore\n\nSub\n\nModel\tPrice\n\nEM-940\t7\n\n* x\n  make\n\nEnd\n\n note"
        );
        assert_eq!(found.sections[1].headings, ["Lift", "Sub"]);
        assert!(found.metadata.contains_key("author") && found.metadata.contains_key("date"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "([*:|#+=~/_\\[\\]é -]|[a-z]{1,4}|\n|#\\+begin_src\n|\\[fn:){0,60}") {
            let _ = extract(&text);
        }
    }
}
