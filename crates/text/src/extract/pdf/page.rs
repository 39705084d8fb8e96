//! The lines of a page, as PDFium finds its letters, and what is typed into its fields and notes.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use pdfium_render::prelude::*;

use super::letters;

/// White space that divides two runs of words, in parts of the size of the letters: more than between words.
const WIDE: f32 = 1.1;
/// Spaces in a row that stand for such white space.
const WIDE_SPACES: usize = 3;
/// Most distance of a letter that is drawn twice to look bold, in parts of its size.
const DOUBLE: f32 = 0.08;
/// The same for a whole run of words.
const SHADOW: f32 = 0.25;
/// Smallest size of letters, for those that say none.
const MIN_EM: f32 = 1.0;
/// Share of a page that a picture covers which may be the page itself.
const MOST_OF_A_PAGE: f32 = 0.5;
/// Paths from which on a page without text may have drawn letters.
const MANY_PATHS: usize = 50;
/// Most options of a list that are read.
const MAX_OPTIONS: usize = 200;
/// Most pictures within pictures.
const MAX_NESTED: usize = 4;
/// Most objects of a page that are looked at for pictures.
const MAX_OBJECTS: usize = 10_000;

/// A run of words on one line, without wide white space in it.
///
/// Places are in points, turned so that the text runs from left to right: `x` along the line, `y` down the page.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub text: String,
    pub x0: f32,
    pub x1: f32,
    /// Its baseline.
    pub y: f32,
    /// Size of its letters.
    pub em: f32,
    /// Its font, or zero where it has several.
    pub style: u64,
    /// Whether its script runs from right to left.
    pub rtl: bool,
    /// Quarters that it is turned by; more than three where it is askew or runs down the page.
    pub turn: u8,
    /// Its place in the file.
    pub order: usize,
}

impl Line {
    pub fn width(&self) -> f32 {
        self.x1 - self.x0
    }

    /// Size of its letters, or more.
    pub fn chars(&self) -> usize {
        self.text.chars().count()
    }
}

/// Lines that are neither upright nor turned by quarters: they are read in the order of the file.
pub(super) const ASKEW: u8 = 4;

/// A page as it is read.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Its number, from one.
    pub number: u32,
    pub lines: Vec<Line>,
    /// What notes on it say.
    pub notes: Vec<String>,
    /// Signs that are no letters.
    pub unreadable: usize,
    /// Letters that are.
    pub readable: usize,
    /// Whether it has pictures, that may be of text.
    pub pictured: bool,
}

/// Reads a page. `unmapped` are the places of signs whose letter PDFium does not know.
pub(super) fn read(page: &PdfPage, number: u32, unmapped: &[usize]) -> Page {
    let mut reader = Reader::default();
    if let Ok(text) = page.text() {
        let chars = text.chars();
        let unknown = unknown(&chars, unmapped);
        for char in chars.iter() {
            reader.read(&char, !unknown.contains(&char.index()));
        }
        reader.end();
    }
    let Reader { mut lines, unreadable, readable, .. } = reader;
    drop_doubles(&mut lines);
    let mut page_read = Page { number, lines, unreadable, readable, ..Page::default() };
    read_annotations(page, &mut page_read);
    page_read.pictured = has_pictures(page, page_read.readable);
    page_read
}

/// The places of signs that are no letters, out of those that PDFium knows no letter of: the codes of some fonts are those of
/// letters nevertheless, and those of others number their shapes, which gives some of them codes that are no letters.
fn unknown(chars: &PdfPageTextChars, unmapped: &[usize]) -> HashSet<usize> {
    let found = |at: &usize| chars.get(*at).ok().map(|char| (*at, style(&char), char.unicode_char()));
    let signs: Vec<(usize, u64, Option<char>)> = unmapped.iter().filter_map(found).collect();
    let is_none =
        |c: &Option<char>| c.is_none_or(|c| letters::is_unreadable(c) && !matches!(c, '\r' | '\n' | '\t'));
    let numbered: HashSet<u64> =
        signs.iter().filter(|(_, _, c)| is_none(c)).map(|(_, font, _)| *font).collect();
    signs.into_iter().filter(|(_, font, _)| numbered.contains(font)).map(|(at, _, _)| at).collect()
}

/// Makes lines of letters.
#[derive(Default)]
struct Reader {
    lines: Vec<Line>,
    unreadable: usize,
    readable: usize,
    open: Option<Open>,
    /// The first half of a sign of two codes.
    half: Option<u32>,
}

/// The line that is being read.
struct Open {
    line: Line,
    /// The sign before, and where it stands.
    last: char,
    last_box: Box,
    /// Spaces since then: those of the file, and whether PDFium saw any.
    spaces: usize,
    spaced: bool,
    /// An accent that waits for its letter.
    accent: Option<(char, Box, char)>,
    /// Whether a word is divided here.
    divided: bool,
    /// Whether its size is that of a letter, not of a bullet.
    sized: bool,
    /// Its letters, and how many of them stand where the same letter stood before.
    letters: usize,
    twice: usize,
}

/// The place of a sign, turned like its line.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Box {
    x0: f32,
    x1: f32,
    y: f32,
    turn: u8,
}

impl Box {
    fn middle(&self) -> f32 {
        f32::midpoint(self.x0, self.x1)
    }

    fn holds(&self, x: f32, slack: f32) -> bool {
        self.x0 - slack <= x && x <= self.x1 + slack
    }
}

impl Reader {
    fn read(&mut self, char: &PdfPageTextChar, known: bool) {
        let code = char.unicode_value();
        let generated = char.is_generated().unwrap_or(false);
        let Some(c) = self.whole(code) else { return };
        match c {
            '\r' | '\n' => self.end(),
            // The mark of a word that is divided at the end of a line.
            '\u{2}' if char.is_hyphen().unwrap_or(false) => {
                if let Some(open) = &mut self.open {
                    open.divided = true;
                }
            }
            ' ' | '\u{a0}' | '\t' => self.space(char, generated),
            c => match letters::symbol(c) {
                Some(symbol) => self.letter(char, symbol),
                None if !known || letters::is_unreadable(c) => {
                    self.unreadable += 1;
                    self.space(char, true);
                }
                None => self.letter(char, c),
            },
        }
    }

    /// The sign of a code, or of two that are its halves.
    fn whole(&mut self, code: u32) -> Option<char> {
        match (self.half.take(), code) {
            (_, 0xd800..=0xdbff) => {
                self.half = Some(code);
                None
            }
            (Some(high), 0xdc00..=0xdfff) => {
                char::from_u32(0x10000 + ((high - 0xd800) << 10) + (code - 0xdc00))
            }
            (_, code) => Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)),
        }
    }

    fn space(&mut self, char: &PdfPageTextChar, generated: bool) {
        let Some(open) = &mut self.open else { return };
        open.spaced = true;
        if generated {
            return;
        }
        open.spaces += 1;
        // A space of the file covers the gap that it makes; those that are stretched over a page do not count.
        if let Some(place) = place(char).filter(|place| place.turn == open.last_box.turn) {
            let most = WIDE * open.line.em;
            let step = place.x1.min(open.last_box.x1 + most);
            open.last_box.x1 = open.last_box.x1.max(step);
            let step = place.x0.max(open.last_box.x0 - most);
            open.last_box.x0 = if open.line.rtl { open.last_box.x0.min(step) } else { open.last_box.x0 };
        }
    }

    fn letter(&mut self, char: &PdfPageTextChar, c: char) {
        let Some(place) = place(char) else { return };
        self.readable += 1;
        if self.open.as_ref().is_some_and(|open| open.ends_before(&place)) {
            self.end();
        }
        let order = self.lines.len();
        let open = self.open.get_or_insert_with(|| Open::at(char, place, order));
        open.push(char, c, place);
    }

    /// Ends the line.
    fn end(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        if let Some((_, _, literal)) = open.accent.take() {
            open.line.text.push(literal);
        }
        let divided = open.divided || open.line.text.ends_with('\u{ad}');
        let mut line = open.line;
        if open.twice * 5 >= open.letters * 2 {
            line.text = each_once(&line.text);
        }
        line.text = letters::plain(line.text.trim());
        if divided && !line.text.is_empty() {
            line.text.push('\u{ad}');
        }
        if !line.text.trim().is_empty() {
            self.lines.push(line);
        }
    }
}

impl Open {
    fn at(char: &PdfPageTextChar, place: Box, order: usize) -> Self {
        let line = Line {
            text: String::new(),
            x0: place.x0,
            x1: place.x1,
            y: place.y,
            em: em(char),
            style: style(char),
            rtl: false,
            turn: place.turn,
            order,
        };
        Self {
            line,
            last: '\0',
            last_box: place,
            spaces: 0,
            spaced: false,
            accent: None,
            divided: false,
            sized: false,
            letters: 0,
            twice: 0,
        }
    }

    /// Whether a sign there belongs to another line, or is beyond wide white space.
    fn ends_before(&self, next: &Box) -> bool {
        let last = &self.last_box;
        if next.turn != last.turn {
            return true;
        }
        let wide = WIDE * self.line.em;
        let gap = (next.x0 - last.x1).max(last.x0 - next.x1);
        let other_line = (next.y - last.y).abs() > 0.7 * self.line.em;
        let runs_down = (next.x0 - last.x0).abs() < self.line.em;
        gap > wide || self.spaces >= WIDE_SPACES || (other_line && (self.divided || !runs_down))
    }

    fn push(&mut self, char: &PdfPageTextChar, c: char, place: Box) {
        self.spaces = 0;
        let spaced = std::mem::take(&mut self.spaced) && !self.line.text.is_empty();
        if !self.sized && c.is_alphanumeric() {
            self.line.em = em(char);
            self.sized = true;
        }
        let em = self.line.em;
        let near = |a: f32, b: f32| (a - b).abs() <= DOUBLE * em;
        self.letters += 1;
        if c == self.last && near(place.x0, self.last_box.x0) && near(place.y, self.last_box.y) {
            // The letters of a ligature stand in one place too.
            if place == self.last_box {
                self.twice += 1;
            } else {
                return;
            }
        }
        if self.divided {
            // The mark was none: the line goes on.
            self.divided = false;
            self.line.text.push('-');
        }
        self.line.rtl |= letters::is_right_to_left(c);
        // An accent that stands over the letter before or behind is part of it.
        if let Some((accent, at, literal)) = self.accent.take() {
            let over = place.holds(at.middle(), 0.1 * em) && c.is_alphabetic();
            if over {
                self.line.text.extend([c, accent]);
            } else {
                self.line.text.extend([literal].into_iter().chain(spaced.then_some(' ')).chain([c]));
            }
        } else if let Some(accent) = letters::combining(c) {
            let over = self.last.is_alphabetic() && self.last_box.holds(place.middle(), 0.1 * em);
            match over && place.x0 < self.last_box.x1 {
                true => self.line.text.push(accent),
                false => {
                    if spaced {
                        self.line.text.push(' ');
                    }
                    self.accent = Some((accent, place, c));
                }
            }
            if over {
                return;
            }
        } else {
            if spaced {
                self.line.text.push(' ');
            }
            self.line.text.push(c);
        }
        self.line.x0 = self.line.x0.min(place.x0);
        self.line.x1 = self.line.x1.max(place.x1);
        if (place.y - self.line.y).abs() > 2.5 * em {
            self.line.turn = ASKEW;
        }
        if self.line.style != 0 && self.last != c && spaced && style(char) != self.line.style {
            self.line.style = 0;
        }
        (self.last, self.last_box) = (c, place);
    }
}

/// A text each letter of which stands twice, as it is meant.
fn each_once(text: &str) -> String {
    let mut once = String::new();
    let mut signs = text.chars().peekable();
    while let Some(c) = signs.next() {
        signs.next_if_eq(&c);
        once.push(c);
    }
    once
}

/// Where a sign stands.
fn place(char: &PdfPageTextChar) -> Option<Box> {
    let angle = -char.angle_radians().unwrap_or(0.0);
    let quarters = angle / std::f32::consts::FRAC_PI_2;
    let nearest = quarters.round();
    let turn = if (quarters - nearest).abs() < 0.05 { nearest.rem_euclid(4.0) as u8 } else { ASKEW };
    let bounds = char.loose_bounds().or_else(|_| char.tight_bounds()).ok()?;
    let (x, y) = char.origin().ok()?;
    let (left, right) = (bounds.left().value, bounds.right().value);
    let (bottom, top) = (bounds.bottom().value, bounds.top().value);
    let (x0, x1, y) = match turn {
        1 => (bottom, top, x.value),
        2 => (-right, -left, y.value),
        3 => (-top, -bottom, -x.value),
        _ => (left, right, -y.value),
    };
    let all = [x0, x1, y];
    all.iter().all(|value| value.is_finite()).then_some(Box { x0, x1, y, turn })
}

/// The size of a sign.
fn em(char: &PdfPageTextChar) -> f32 {
    let scale = char.matrix().map_or(1.0, |matrix| matrix.c().hypot(matrix.d()));
    let em = char.unscaled_font_size().value * scale;
    if em.is_finite() { em.abs().max(MIN_EM) } else { MIN_EM }
}

/// What its font looks like.
fn style(char: &PdfPageTextChar) -> u64 {
    let mut hasher = DefaultHasher::new();
    char.font_name().hash(&mut hasher);
    hasher.finish().max(1)
}

/// Drops runs of words that are drawn again in the same place, to look bold or to throw a shadow.
fn drop_doubles(lines: &mut Vec<Line>) {
    let key = |line: &Line| (line.turn, line.text.clone());
    let mut seen: std::collections::HashMap<(u8, String), Vec<(f32, f32)>> = Default::default();
    lines.retain(|line| {
        let near = |a: f32, b: f32| (a - b).abs() <= SHADOW * line.em;
        let places = seen.entry(key(line)).or_default();
        let again = places.iter().any(|(x, y)| near(*x, line.x0) && near(*y, line.y));
        // Few of the same words stand on a page often.
        if !again && places.len() < 100 {
            places.push((line.x0, line.y));
        }
        !again
    });
}

/// What is typed into fields stands where the field is; what notes say comes after the page.
fn read_annotations(page: &PdfPage, into: &mut Page) {
    for annotation in page.annotations().iter() {
        if annotation.is_hidden() {
            continue;
        }
        if let Some(value) = annotation.as_form_field().and_then(value) {
            field(&annotation, &value, into);
        } else if is_note(annotation.annotation_type())
            && let Some(note) = annotation.contents().filter(|note| !note.trim().is_empty())
        {
            into.notes.push(letters::plain(&note.replace('\r', "\n")));
        }
    }
}

fn is_note(kind: PdfPageAnnotationType) -> bool {
    use PdfPageAnnotationType as Kind;
    !matches!(kind, Kind::Popup | Kind::Link | Kind::Widget | Kind::XfaWidget)
}

fn value(field: &PdfFormField) -> Option<String> {
    let value = match field {
        PdfFormField::Text(text) if text.is_password() => None,
        PdfFormField::Text(text) => text.value(),
        PdfFormField::ComboBox(combo) => combo.value(),
        PdfFormField::ListBox(list) => {
            let all = list.options().iter().take(MAX_OPTIONS).filter_map(|option| option.label().cloned());
            Some(all.collect::<Vec<_>>().join("\n"))
        }
        PdfFormField::Checkbox(check) => check.is_checked().unwrap_or(false).then(|| "☒".to_owned()),
        PdfFormField::RadioButton(radio) => radio.is_checked().unwrap_or(false).then(|| "☒".to_owned()),
        _ => None,
    };
    value.filter(|value| !value.trim().is_empty())
}

/// The lines of a field, as if they were set in its place. Fields are turned like most of their page.
fn field(annotation: &PdfPageAnnotation, value: &str, into: &mut Page) {
    let Ok(bounds) = annotation.bounds() else { return };
    let rows: Vec<String> = value.split(['\r', '\n']).map(letters::plain).collect();
    let rows: Vec<&str> = rows.iter().map(|row| row.trim()).filter(|row| !row.is_empty()).collect();
    let height = (bounds.top().value - bounds.bottom().value).abs();
    // Letters fill a line of the field.
    let em = (height / rows.len().max(1) as f32 * 0.7).clamp(MIN_EM, 12.0);
    let turn = into.lines.first().map_or(0, |line| line.turn).min(3);
    let (left, right) = (bounds.left().value, bounds.right().value);
    let (bottom, top) = (bounds.bottom().value, bounds.top().value);
    let (x0, x1, y0, y1) = match turn {
        1 => (bottom, top, left, right),
        2 => (-right, -left, bottom, top),
        3 => (-top, -bottom, -right, -left),
        _ => (left, right, -top, -bottom),
    };
    for (at, text) in rows.iter().enumerate() {
        // On the baseline of a label beside it, which the field reaches below.
        let y = if rows.len() == 1 { f32::midpoint(y0, y1) + 0.3 * em } else { y0 + (at as f32 + 1.0) * em };
        let x1 = x1.min(x0 + 0.5 * em * text.chars().count() as f32);
        let order = into.lines.len();
        into.readable += text.chars().count();
        let rtl = text.chars().any(letters::is_right_to_left);
        into.lines.push(Line { text: (*text).to_owned(), x0, x1, y, em, style: 0, rtl, turn, order });
    }
}

/// Whether the page has pictures that may hold its text: any where it has no text, one of nearly the whole page else.
fn has_pictures(page: &PdfPage, readable: usize) -> bool {
    let area = page.width().value * page.height().value;
    let mut pictures = Pictures {
        least: if readable == 0 { 0.0 } else { MOST_OF_A_PAGE * area },
        left: MAX_OBJECTS,
        paths: 0,
    };
    let objects = page.objects();
    let found = (0..objects.len()).any(|at| objects.get(at).is_ok_and(|object| pictures.are_in(&object, 0)));
    found || (readable == 0 && pictures.paths >= MANY_PATHS)
}

/// A search for pictures.
struct Pictures {
    /// Least area of one that counts.
    least: f32,
    /// Objects that may still be looked at.
    left: usize,
    /// Paths that were met.
    paths: usize,
}

impl Pictures {
    fn are_in(&mut self, object: &PdfPageObject, depth: usize) -> bool {
        if self.left == 0 || depth > MAX_NESTED {
            return false;
        }
        self.left -= 1;
        match object {
            PdfPageObject::Path(_) => self.paths += 1,
            PdfPageObject::Image(_) | PdfPageObject::Shading(_) => {
                let area = object.bounds().map(|bounds| bounds.width().value * bounds.height().value);
                return area.is_ok_and(|area| area >= self.least);
            }
            PdfPageObject::XObjectForm(form) => {
                return (0..form.len())
                    .any(|at| form.get(at).is_ok_and(|object| self.are_in(&object, depth + 1)));
            }
            _ => {}
        }
        false
    }
}
