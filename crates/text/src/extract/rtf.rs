//! Rich Text Format: control words, groups and text in code pages.

use std::collections::HashMap;

use encoding_rs::Encoding;

use super::properties::{AUTHOR, KEYWORDS, Properties, SUBJECT};
use super::slides::push_words;
use super::{Builder, CELL, broken};
use trove_core::domain::{Extracted, MetadataValue};
use trove_core::error::Result;

/// Most groups within each other.
const MAX_DEPTH: usize = 4096;
/// Most bytes of the name of a control word.
const MAX_WORD: usize = 32;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted> {
    if !bytes.starts_with(b"{\\rt") {
        return Err(broken("expected RTF, got a file that does not begin with \"{\\\\rtf\""));
    }
    let mut reader = Reader::default();
    reader.read(bytes)?;
    reader.end_paragraph();
    reader.end_row();
    let info = std::mem::take(&mut reader.info);
    let title = info.title.or_else(|| reader.builder.first_heading());
    let found = reader.builder.finish(title)?;
    Ok(Extracted { metadata: info.metadata, ..found })
}

/// What the text of a group is for.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Destination {
    #[default]
    Body,
    /// A note at the foot of the page, which stands within a paragraph.
    Note,
    /// Nothing that a reader sees.
    Skipped,
    /// Fonts with their character sets.
    Fonts,
    /// Styles with their names.
    Styles,
    /// A property of the document.
    Info(&'static str),
    /// When it was made.
    Created,
}

#[derive(Clone, Copy, Default)]
struct State {
    destination: Destination,
    hidden: bool,
    /// Code page of the font, where it has one of its own.
    page: Option<u32>,
    /// How many characters a program that knows no Unicode reads in place of one.
    fallback: usize,
    /// Whether the next word names a destination that may be unknown.
    starred: bool,
    /// Whether nothing of the group was read yet.
    fresh: bool,
}

#[derive(Default)]
struct Reader {
    builder: Builder,
    info: Properties,
    state: State,
    stack: Vec<State>,
    /// Code page of the document.
    page: Option<u32>,
    fonts: HashMap<i32, u32>,
    font: i32,
    /// Heading levels of styles.
    styles: HashMap<i32, u8>,
    style: i32,
    /// Text of what is no body: names of styles, properties.
    aside: String,
    created: [i64; 5],
    paragraph: String,
    /// Paragraph around a note.
    around: Option<String>,
    notes: Vec<String>,
    level: Option<u8>,
    row: String,
    in_table: bool,
    /// Bytes of the code page that are no character yet.
    pending: Vec<u8>,
    /// Characters to pass over after one in Unicode.
    skip: usize,
    high: Option<u16>,
}

impl Reader {
    fn read(&mut self, bytes: &[u8]) -> Result<()> {
        self.state.fallback = 1;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            at += 1;
            match byte {
                b'{' => {
                    self.flush();
                    if self.stack.len() >= MAX_DEPTH {
                        return Err(broken(format!("expected RTF of at most {MAX_DEPTH} levels, got more")));
                    }
                    self.stack.push(self.state);
                    (self.state.fresh, self.state.starred, self.skip) = (true, false, 0);
                }
                b'}' => {
                    self.flush();
                    self.skip = 0;
                    let Some(outer) = self.stack.pop() else { return Ok(()) };
                    self.end_group(outer);
                    if self.stack.is_empty() {
                        return Ok(());
                    }
                }
                b'\\' => at = self.control(bytes, at),
                b'\r' | b'\n' => {}
                byte => self.byte(byte),
            }
        }
        self.flush();
        Ok(())
    }

    /// Reads a control word or symbol that begins after the backslash; gives where it ends.
    fn control(&mut self, bytes: &[u8], start: usize) -> usize {
        let Some(&first) = bytes.get(start) else { return start };
        if !first.is_ascii_alphabetic() {
            return self.symbol(first, bytes, start + 1);
        }
        let rest = &bytes[start..];
        let length = rest.iter().take(MAX_WORD).take_while(|b| b.is_ascii_alphabetic()).count();
        let word = std::str::from_utf8(&rest[..length]).unwrap_or_default();
        let mut at = start + length;
        let negative = bytes.get(at) == Some(&b'-');
        at += usize::from(negative);
        let digits = bytes[at..].iter().take(10).take_while(|b| b.is_ascii_digit()).count();
        let number = std::str::from_utf8(&bytes[at..at + digits]).unwrap_or_default().parse::<i64>().ok();
        at += digits;
        at += usize::from(bytes.get(at) == Some(&b' '));
        let number = number.map(|n| i32::try_from(if negative { -n } else { n }).unwrap_or(0));
        if word == "bin" {
            return at.saturating_add(usize::try_from(number.unwrap_or(0)).unwrap_or(0)).min(bytes.len());
        }
        self.word(word, number);
        self.state.fresh = false;
        at
    }

    fn symbol(&mut self, symbol: u8, bytes: &[u8], at: usize) -> usize {
        match symbol {
            b'\'' => {
                let code = bytes.get(at..at + 2).and_then(|code| std::str::from_utf8(code).ok());
                if let Some(code) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
                    self.byte(code);
                    return at + 2;
                }
            }
            b'*' => self.state.starred = true,
            b'~' => self.char('\u{a0}'),
            b'_' => self.char('-'),
            b'\\' | b'{' | b'}' => self.byte(symbol),
            b'\r' | b'\n' => self.word("par", None),
            _ => {}
        }
        at
    }

    fn word(&mut self, word: &str, number: Option<i32>) {
        if word == "u" {
            return self.unicode(number.unwrap_or(0));
        }
        self.flush();
        let on = number != Some(0);
        if let Some(destination) = self.destination(word) {
            self.begin(destination);
            return;
        }
        match word {
            "ansicpg" => self.page = number.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0),
            "mac" => self.page = Some(10_000),
            "pc" => self.page = Some(437),
            "pca" => self.page = Some(850),
            "uc" => self.state.fallback = usize::try_from(number.unwrap_or(1)).unwrap_or(1).min(64),
            "f" if self.state.destination == Destination::Fonts => self.font = number.unwrap_or(0),
            "f" => self.state.page = number.and_then(|n| self.fonts.get(&n)).copied(),
            "fcharset" | "cpg" if self.state.destination == Destination::Fonts => {
                let page = match word {
                    "cpg" => number.and_then(|n| u32::try_from(n).ok()),
                    _ => page_of_charset(number.unwrap_or(0)),
                };
                self.fonts.extend(page.map(|page| (self.font, page)));
            }
            "v" | "deleted" => self.state.hidden = on,
            "plain" => (self.state.hidden, self.state.page) = (false, None),
            "pard" => (self.level, self.in_table) = (None, false),
            "intbl" => self.in_table = true,
            "s" if self.state.destination == Destination::Styles => self.style = number.unwrap_or(0),
            "s" => self.level = number.and_then(|n| self.styles.get(&n)).copied(),
            "outlinelevel" => {
                let level = number.and_then(|n| u8::try_from(n).ok()).filter(|n| *n < 9).map(|n| n + 1);
                if self.state.destination == Destination::Styles {
                    self.styles.extend(level.map(|level| (self.style, level)));
                } else {
                    self.level = level;
                }
            }
            "yr" | "mo" | "dy" | "hr" | "min" if self.state.destination == Destination::Created => {
                let at = ["yr", "mo", "dy", "hr", "min"].iter().position(|part| *part == word);
                at.into_iter().for_each(|at| self.created[at] = number.unwrap_or(0).into());
            }
            _ => self.mark(word),
        }
    }

    /// Words that stand for characters, or end paragraphs and cells.
    fn mark(&mut self, word: &str) {
        match word {
            "par" | "sect" | "page" => self.end_of("par"),
            "cell" | "nestcell" | "row" | "nestrow" => self.end_of(word),
            "line" => self.char('\n'),
            "tab" => self.char('\t'),
            "emdash" => self.char('—'),
            "endash" => self.char('–'),
            "lquote" => self.char('‘'),
            "rquote" => self.char('’'),
            "ldblquote" => self.char('“'),
            "rdblquote" => self.char('”'),
            "bullet" => self.char('•'),
            "emspace" | "enspace" | "qmspace" => self.char(' '),
            _ => {}
        }
    }

    /// What the group is for that a word begins.
    fn destination(&self, word: &str) -> Option<Destination> {
        let known = match word {
            "fonttbl" => Destination::Fonts,
            "stylesheet" => Destination::Styles,
            "footnote" => Destination::Note,
            "title" => Destination::Info("title"),
            "author" => Destination::Info(AUTHOR),
            "subject" => Destination::Info(SUBJECT),
            "keywords" => Destination::Info(KEYWORDS),
            "creatim" => Destination::Created,
            // Boxes with text, and what a field or an object shows.
            "shpinst" | "shptxt" | "fldrslt" | "result" | "bkmkstart" | "bkmkend" if !self.state.starred => {
                return None;
            }
            "shpinst" | "shptxt" => return None,
            "colortbl" | "info" | "pict" | "fldinst" | "header" | "headerl" | "headerr" | "headerf"
            | "footer" | "footerl" | "footerr" | "footerf" | "sp" | "shprslt" | "nonesttables"
            | "listtext" | "pntext" | "filetbl" | "revtbl" | "listtable" | "tc" | "tcn" | "xe" | "rxe"
            | "txe" | "atnid" | "atnauthor" | "nonshppict" | "objdata" | "operator" | "doccomm"
            | "revtim" | "printim" | "buptim" | "bkmkstart" | "bkmkend" => Destination::Skipped,
            _ if self.state.starred => Destination::Skipped,
            _ => return None,
        };
        // Words such as "title" are destinations only where a group begins.
        self.state.fresh.then_some(known)
    }

    fn begin(&mut self, destination: Destination) {
        let skipped = self.state.destination == Destination::Skipped;
        // Properties stand within a group that has no text of its own.
        let is_info = matches!(destination, Destination::Info(_) | Destination::Created);
        self.state.starred = false;
        if skipped && !is_info {
            return;
        }
        if destination == Destination::Note {
            self.around.get_or_insert(std::mem::take(&mut self.paragraph));
        }
        self.aside.clear();
        self.state.destination = destination;
    }

    fn end_group(&mut self, outer: State) {
        let ended = std::mem::replace(&mut self.state, outer);
        match ended.destination {
            // Each style is a group of the group of styles.
            Destination::Styles => {
                let name = std::mem::take(&mut self.aside).to_ascii_lowercase();
                let name = name.trim().trim_end_matches(';').split(',').next().unwrap_or_default();
                let level = name.strip_prefix("heading ").and_then(|level| level.trim().parse::<u8>().ok());
                self.styles.extend(level.map(|level| (self.style, level.clamp(1, 9))));
                self.style = 0;
            }
            destination if destination == outer.destination => {}
            Destination::Info(key) => {
                let text = std::mem::take(&mut self.aside);
                match key {
                    "title" => self.info.title = Some(text).filter(|text| !text.trim().is_empty()),
                    KEYWORDS => self.info.list(key, text.split([',', ';']).map(str::to_owned).collect()),
                    key => self.info.text(key, vec![text]),
                }
            }
            Destination::Created => {
                let [year, month, day, hour, minute] = self.created;
                if let Some(seconds) = super::properties::seconds(year, month, day, hour, minute, 0) {
                    self.info.metadata.insert("date".to_owned(), MetadataValue::Timestamp(seconds, 0));
                }
            }
            Destination::Note => {
                let note = match self.around.take() {
                    Some(around) => std::mem::replace(&mut self.paragraph, around),
                    None => String::new(),
                };
                self.notes.push(note);
            }
            _ => {}
        }
    }

    fn unicode(&mut self, number: i32) {
        // Values above 32767 are written as negative ones.
        let unit = number as u16;
        if !self.pending.is_empty() {
            self.flush();
        }
        match (self.high.take(), unit) {
            (_, 0xd800..=0xdbff) => self.high = Some(unit),
            (Some(high), low) => {
                let decoded = char::decode_utf16([high, low]).next();
                self.char(decoded.and_then(|c| c.ok()).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            // Symbol fonts have their signs in an area for private use.
            (None, 0xf020..=0xf0ff) => self.char('•'),
            (None, unit) => self.char(char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER)),
        }
        self.skip = self.state.fallback;
    }

    fn byte(&mut self, byte: u8) {
        self.state.fresh = false;
        if self.skip > 0 {
            self.skip -= 1;
        } else if self.state.destination != Destination::Skipped {
            self.pending.push(byte);
        }
    }

    /// Decodes what is pending in the code page of the font or the document.
    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.pending);
        let encoding = encoding(self.state.page.or(self.page).unwrap_or(1252));
        let (text, _) = encoding.decode_without_bom_handling(&bytes);
        self.text(&text);
    }

    fn char(&mut self, c: char) {
        self.flush();
        self.text(c.encode_utf8(&mut [0; 4]));
    }

    fn text(&mut self, text: &str) {
        match self.state.destination {
            Destination::Body | Destination::Note if !self.state.hidden => self.paragraph.push_str(text),
            Destination::Styles | Destination::Info(_) => self.aside.push_str(text),
            _ => {}
        }
    }

    fn end_of(&mut self, word: &str) {
        match (self.state.destination, word) {
            (Destination::Note, "par") => self.paragraph.push('\n'),
            (Destination::Body, "par") if self.in_table => self.paragraph.push('\n'),
            (Destination::Body, "par") => {
                self.end_row();
                self.end_paragraph();
            }
            (Destination::Body, "cell") => {
                self.push_cell();
                self.row.push(CELL);
            }
            // A table in a cell is part of the cell.
            (Destination::Body, "nestcell") => self.paragraph.push(' '),
            (Destination::Body, "row") => self.end_row(),
            (Destination::Body, "nestrow") => self.paragraph.push('\n'),
            _ => {}
        }
    }

    fn push_cell(&mut self) {
        let cell = std::mem::take(&mut self.paragraph);
        push_words(&mut self.row, &cell);
        for note in std::mem::take(&mut self.notes) {
            push_words(&mut self.row, &note);
        }
    }

    fn end_row(&mut self) {
        if self.row.is_empty() {
            return;
        }
        let row = std::mem::take(&mut self.row);
        self.builder.block(row.strip_suffix(CELL).unwrap_or(&row));
    }

    fn end_paragraph(&mut self) {
        let text = std::mem::take(&mut self.paragraph);
        match self.level {
            Some(level) => self.builder.heading(level, &text),
            None => self.builder.block(&text),
        }
        for note in std::mem::take(&mut self.notes) {
            self.builder.block(note.trim());
        }
    }
}

/// The code page of a font's character set.
fn page_of_charset(charset: i32) -> Option<u32> {
    Some(match charset {
        0 => 1252,
        77 => 10_000,
        128 => 932,
        129 => 949,
        134 => 936,
        136 => 950,
        161 => 1253,
        162 => 1254,
        163 => 1258,
        177 => 1255,
        178 => 1256,
        186 => 1257,
        204 => 1251,
        222 => 874,
        238 => 1250,
        _ => return None,
    })
}

fn encoding(page: u32) -> &'static Encoding {
    let name = match page {
        932 => "shift_jis",
        936 | 54_936 => "gb18030",
        949 => "euc-kr",
        950 => "big5",
        874 => "windows-874",
        866 => "ibm866",
        10_000 => "macintosh",
        10_007 => "x-mac-cyrillic",
        20_866 => "koi8-r",
        65_001 => "utf-8",
        1250..=1258 => {
            return encoding_rs::Encoding::for_label(format!("windows-{page}").as_bytes())
                .unwrap_or(encoding_rs::WINDOWS_1252);
        }
        _ => "windows-1252",
    };
    Encoding::for_label(name.as_bytes()).unwrap_or(encoding_rs::WINDOWS_1252)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Extracted {
        let file = format!(
            r"{{\rtf1\ansi\ansicpg1252\deff0{{\fonttbl{{\f0\fnil\fcharset0 Arial;}}{{\f1\fnil\fcharset204 Arial Cyr;}}}}{{\colortbl;\red0\green0\blue0;}}{{\stylesheet{{\s0 Normal;}}{{\s1\outlinelevel0 heading 1;}}{{\s2 heading 2;}}}}{{\*\generator Word;}}{{\info{{\title The Dock}}{{\author Anna \'c9mile}}{{\creatim\yr2024\mo3\dy5\hr14\min22}}}}{body}}}"
        );
        extract(file.as_bytes()).unwrap()
    }

    #[test]
    fn paragraphs_headings_and_properties() {
        let found = read(
            r"\pard\s1 Top\par\pard caf\'e9 \u8364?5 and \u-10179?\u-8704? \{x\}\line next\par{\v hidden}{\b bold}ly\~done\emdash{\i x}\par\pard\s2 Sub\par\pard end",
        );
        assert_eq!(found.text, "Top\n\ncafé €5 and 😀 {x}\nnext\n\nboldly\u{a0}done—x\n\nSub\n\nend");
        assert_eq!(found.title.as_deref(), Some("The Dock"));
        assert_eq!(found.sections.last().unwrap().headings, ["Top", "Sub"]);
        assert_eq!(found.metadata["author"], MetadataValue::String("Anna Émile".to_owned()));
        assert_eq!(found.metadata["date"], MetadataValue::Timestamp(1_709_648_520, 0));
    }

    #[test]
    fn code_pages_of_fonts_and_what_a_reader_does_not_see() {
        let found = read(
            r"{\header no}{\f1 \'cf\'f0\'e8\'e2\'e5\'f2}, {\field{\*\fldinst HYPERLINK no}{\fldrslt link}}{\pict\bin4 ab}c1122}{\*\bkmkstart no}{\*\unknown no}{\deleted gone}\par A{\footnote  a note\par} b\par",
        );
        assert_eq!(found.text, "Привет, link\n\nA b\n\na note");
    }

    #[test]
    fn tables_are_rows_of_cells() {
        let found = read(
            r"\trowd\pard\intbl Model\cell Price\cell\row\trowd\pard\intbl EM-940\par new\cell 7 \'80\cell\row\pard after\par",
        );
        assert_eq!(found.text, "Model\tPrice\n\nEM-940 new\t7 €\n\nafter");
    }

    #[test]
    fn groups_without_end() {
        let deep = format!("{{\\rtf1 {}", "{".repeat(1 << 20));
        assert_eq!(extract(deep.as_bytes()).unwrap_err().reason, "BROKEN_DOCUMENT");
        assert_eq!(extract(b"{\\rtf1 text").unwrap().text, "text");
        assert_eq!(extract(b"{\\rtf1 text}}}} no").unwrap().text, "text");
        assert_eq!(extract(b"no").unwrap_err().reason, "BROKEN_DOCUMENT");
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics(body in r"(\\[a-z']{1,6}-?[0-9]{0,11} ?|[{}\\é]|[a-z ]){0,60}") {
            let _ = extract(format!("{{\\rtf1 {body}").as_bytes());
        }
    }
}
