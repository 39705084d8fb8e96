//! The lines of a page, as PDFium finds its letters, and what is typed into its fields and notes.

use std::collections::{HashMap, HashSet};

use pdfium_render::prelude::*;

use super::letters;
use super::library::Sign;

/// White space that divides two runs of words, in parts of the size of the letters: more than between words.
const WIDE: f32 = 1.1;
/// Spaces in a row that stand for such white space.
const WIDE_SPACES: usize = 3;
/// Most distance of a letter that is drawn twice to look bold, in parts of its size.
const DOUBLE: f32 = 0.08;
/// The same for a whole run of words.
const SHADOW: f32 = 0.25;
/// Share of codes that are those of no letter up to which the others are.
const FEW_CONTROLS: f32 = 0.05;
/// Share of a page that a picture covers which may be the page itself.
const MOST_OF_A_PAGE: f32 = 0.5;
/// Paths from which on a page without text may have drawn letters.
const MANY_PATHS: usize = 50;
/// Most options of a list that are read.
const MAX_OPTIONS: usize = 200;
/// Most fields and notes of a page that are read.
const MAX_ANNOTATIONS: usize = 5000;
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

/// Makes lines of the signs of a page.
pub(super) fn lines(signs: &[Sign], number: u32) -> Page {
    let unknown = numbered_fonts(signs);
    let mut reader = Reader::default();
    for sign in signs {
        reader.read(sign, !(sign.unmapped && unknown.contains(&sign.font)));
    }
    reader.end();
    let Reader { mut lines, unreadable, readable, .. } = reader;
    drop_doubles(&mut lines);
    Page { number, lines, unreadable, readable, ..Page::default() }
}

/// Fonts whose codes number their shapes, so that many of them are those of no letter, such as that of the space. The codes
/// of other fonts are those of letters, although they do not say so.
fn numbered_fonts(signs: &[Sign]) -> HashSet<u64> {
    let is_none =
        |code| char::from_u32(code).is_none_or(letters::is_unreadable) && !matches!(code, 9 | 10 | 13);
    let mut counts: HashMap<u64, (usize, usize)> = HashMap::new();
    for sign in signs.iter().filter(|sign| sign.unmapped) {
        let (none, all) = counts.entry(sign.font).or_default();
        *none += usize::from(is_none(sign.code));
        *all += 1;
    }
    let numbers = |(none, all): (usize, usize)| none as f32 > FEW_CONTROLS * all as f32;
    counts.into_iter().filter(|(_, counts)| numbers(*counts)).map(|(font, _)| font).collect()
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
    /// Where each byte of its text stands along the line.
    places: Vec<f32>,
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
    fn read(&mut self, sign: &Sign, known: bool) {
        let Some(c) = self.whole(sign.code) else { return };
        match c {
            '\r' | '\n' => self.end(),
            // The mark of a word that is divided at the end of a line.
            '\u{2}' if sign.divides => {
                if let Some(open) = &mut self.open {
                    open.divided = true;
                }
            }
            ' ' | '\u{a0}' | '\t' => self.space(sign, sign.generated),
            c => match letters::symbol(c) {
                Some(symbol) => self.letter(sign, symbol),
                None if !known || letters::is_unreadable(c) => {
                    self.unreadable += 1;
                    self.space(sign, true);
                }
                None => self.letter(sign, c),
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

    fn space(&mut self, sign: &Sign, generated: bool) {
        let Some(open) = &mut self.open else { return };
        open.spaced = true;
        if generated {
            return;
        }
        open.spaces += 1;
        // A space of the file covers the gap that it makes; those that are stretched over a page do not count.
        if let Some(place) = place(sign).filter(|place| place.turn == open.last_box.turn) {
            let most = WIDE * open.line.em;
            let step = place.x1.min(open.last_box.x1 + most);
            open.last_box.x1 = open.last_box.x1.max(step);
            let step = place.x0.max(open.last_box.x0 - most);
            open.last_box.x0 = if open.line.rtl { open.last_box.x0.min(step) } else { open.last_box.x0 };
        }
    }

    fn letter(&mut self, sign: &Sign, c: char) {
        let Some(place) = place(sign) else { return };
        self.readable += 1;
        if self.open.as_ref().is_some_and(|open| open.ends_before(&place)) {
            self.end();
        }
        let order = self.lines.len();
        let open = self.open.get_or_insert_with(|| Open::at(sign, place, order));
        open.push(sign, c, place);
    }

    /// Ends the line.
    fn end(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        if let Some((_, _, literal)) = open.accent.take() {
            open.line.text.push(literal);
        }
        let divided = open.divided || open.line.text.ends_with('\u{ad}');
        let mut line = open.line;
        if line.rtl {
            line.text = from_right_to_left(&line.text, &open.places);
        }
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
    fn at(sign: &Sign, place: Box, order: usize) -> Self {
        let line = Line {
            text: String::new(),
            x0: place.x0,
            x1: place.x1,
            y: place.y,
            em: sign.em,
            style: sign.font,
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
            places: Vec::new(),
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

    fn push(&mut self, sign: &Sign, c: char, place: Box) {
        self.spaces = 0;
        let spaced = std::mem::take(&mut self.spaced) && !self.line.text.is_empty();
        if !self.sized && c.is_alphanumeric() {
            self.line.em = sign.em;
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
                self.places.resize(self.line.text.len(), place.x0);
                return;
            }
        } else {
            if spaced {
                self.line.text.push(' ');
            }
            self.line.text.push(c);
        }
        self.places.resize(self.line.text.len(), place.x0);
        self.line.x0 = self.line.x0.min(place.x0);
        self.line.x1 = self.line.x1.max(place.x1);
        if (place.y - self.line.y).abs() > 2.5 * em {
            self.line.turn = ASKEW;
        }
        if self.line.style != 0 && self.last != c && spaced && sign.font != self.line.style {
            self.line.style = 0;
        }
        (self.last, self.last_box) = (c, place);
    }
}

/// A text whose words from right to left are in the order in which they are read. Where PDFium is unsure of a line, it leaves
/// the letters of a word as they stand on the page.
fn from_right_to_left(text: &str, places: &[f32]) -> String {
    let mut ordered = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let start = rest.find(letters::is_right_to_left).unwrap_or(rest.len());
        ordered.push_str(&rest[..start]);
        let word = &rest[start..];
        let length = word.find(|c| !letters::is_right_to_left(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(length);
        let at = text.len() - rest.len() + start;
        let last = word.char_indices().next_back().map_or(0, |(last, _)| at + last);
        if places.get(at).zip(places.get(last)).is_some_and(|(first, last)| first < last) {
            ordered.push_str(&reversed(word));
        } else {
            ordered.push_str(word);
        }
        rest = after;
    }
    ordered
}

/// A word backwards, in which vowel signs stay behind their letters.
fn reversed(word: &str) -> String {
    let mut back = String::with_capacity(word.len());
    let mut end = word.len();
    for (start, c) in word.char_indices().rev() {
        if !letters::is_vowel_sign(c) {
            back.push_str(&word[start..end]);
            end = start;
        }
    }
    back.push_str(&word[..end]);
    back
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
fn place(sign: &Sign) -> Option<Box> {
    let quarters = -sign.angle / std::f32::consts::FRAC_PI_2;
    let nearest = quarters.round();
    let turn = if (quarters - nearest).abs() < 0.05 { nearest.rem_euclid(4.0) as u8 } else { ASKEW };
    let ([x0, x1], [_, _], y) = turned(turn, sign.bounds, sign.origin);
    [x0, x1, y].iter().all(|value| value.is_finite()).then_some(Box { x0, x1, y, turn })
}

/// A place turned by quarters, so that the text runs from left to right: its reach along the line, its reach down the page,
/// and how far down a point of it is.
fn turned(turn: u8, [left, bottom, right, top]: [f32; 4], [x, y]: [f32; 2]) -> ([f32; 2], [f32; 2], f32) {
    match turn {
        1 => ([bottom, top], [left, right], x),
        2 => ([-right, -left], [bottom, top], y),
        3 => ([-top, -bottom], [-right, -left], -x),
        _ => ([left, right], [-top, -bottom], -y),
    }
}

/// Drops runs of words that are drawn again in the same place, to look bold or to throw a shadow.
fn drop_doubles(lines: &mut Vec<Line>) {
    let key = |line: &Line| (line.turn, line.text.clone());
    let mut seen: HashMap<(u8, String), Vec<(f32, f32)>> = HashMap::new();
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

/// Adds what fields and notes hold and no drawing of them shows: what is typed into a field stands where the field is, and
/// what a note says comes after the page.
pub(super) fn read_annotations(page: &PdfPage, into: &mut Page) {
    let shown: String = into.lines.iter().flat_map(|line| letters_of(&line.text)).collect();
    let is_shown = |text: &str| shown.contains(&letters_of(text).collect::<String>());
    for annotation in page.annotations().iter().take(MAX_ANNOTATIONS) {
        if annotation.is_hidden() {
            continue;
        }
        if let Some(value) = annotation.as_form_field().and_then(value) {
            if !is_shown(&value) {
                field(&annotation, &value, into);
            }
        } else if is_note(annotation.annotation_type())
            && let Some(note) =
                annotation.contents().filter(|note| !note.trim().is_empty() && !is_shown(note))
        {
            into.notes.push(letters::plain(&note.replace('\r', "\n")));
        }
    }
}

fn letters_of(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| c.is_alphanumeric())
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
        _ => None,
    };
    value.filter(|value| !value.trim().is_empty())
}

/// The lines of a field, as if they were set in its place. Fields are turned like most of their page.
fn field(annotation: &PdfPageAnnotation, value: &str, into: &mut Page) {
    let Ok(bounds) = annotation.bounds() else { return };
    let rows: Vec<String> = value.split(['\r', '\n']).map(letters::plain).collect();
    let rows: Vec<&str> = rows.iter().map(|row| row.trim()).filter(|row| !row.is_empty()).collect();
    let turn = into.lines.first().map_or(0, |line| line.turn).min(3);
    let bounds = [bounds.left(), bounds.bottom(), bounds.right(), bounds.top()].map(|point| point.value);
    let ([x0, x1], [y0, y1], _) = turned(turn, bounds, [0.0; 2]);
    // Letters fill a line of the field.
    let em = ((y1 - y0).abs() / rows.len().max(1) as f32 * 0.7).clamp(1.0, 12.0);
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
pub(super) fn has_pictures(page: &PdfPage, readable: usize) -> bool {
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A line of letters of ten points, each half as wide.
    pub fn line(text: &str, x0: f32, y: f32, order: usize) -> Line {
        let (x1, rtl) = (x0 + 5.0 * text.chars().count() as f32, text.chars().any(letters::is_right_to_left));
        Line { text: text.to_owned(), x0, x1, y, em: 10.0, style: 1, rtl, turn: 0, order }
    }

    /// The signs of a text at a place, as PDFium finds them.
    fn signs(text: &str, x: f32, y: f32) -> Vec<Sign> {
        let sign = |(at, c): (usize, char)| {
            let left = x + 5.0 * at as f32;
            Sign {
                code: c as u32,
                generated: matches!(c, '\r' | '\n'),
                divides: c == '\u{2}',
                unmapped: false,
                bounds: [left, y - 2.0, left + 5.0, y + 8.0],
                origin: [left, y],
                angle: 0.0,
                em: 10.0,
                font: 1,
            }
        };
        text.chars().enumerate().map(sign).collect()
    }

    fn texts(signs: &[Sign]) -> Vec<String> {
        lines(signs, 1).lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn wide_white_space_and_divided_words_end_lines() {
        let mut all = signs("Left half", 0.0, 700.0);
        all.extend(signs("right break\u{2}", 80.0, 700.0));
        all.extend(signs("water", 80.0, 688.0));
        assert_eq!(texts(&all), ["Left half", "right break\u{ad}", "water"]);
    }

    #[test]
    fn letters_that_are_drawn_twice_are_read_once() {
        let doubled: Vec<Sign> = signs("pull", 0.0, 0.0).into_iter().flat_map(|sign| [sign, sign]).collect();
        assert_eq!(texts(&doubled), ["pull"]);
        let beside = |sign: Sign| {
            let mut again = sign;
            again.bounds[0] += 0.3;
            again.origin[0] += 0.3;
            [sign, again]
        };
        assert_eq!(
            texts(&signs("pull", 0.0, 0.0).into_iter().flat_map(beside).collect::<Vec<_>>()),
            ["pull"]
        );
        let mut shadow = signs("Towing gear", 0.0, 0.0);
        shadow.extend(signs("\r\n", 55.0, 0.0));
        shadow.extend(signs("Towing gear", 0.9, -0.9));
        assert_eq!(texts(&shadow), ["Towing gear"]);
        // The letters of a ligature are in one place too.
        let mut office = signs("ofice", 0.0, 0.0);
        office.insert(2, office[1]);
        assert_eq!(texts(&office), ["office"]);
    }

    #[test]
    fn accents_join_the_letter_that_they_stand_over() {
        let mut before = signs("M", 0.0, 0.0);
        before.extend(signs("¨", 5.0, 0.0));
        before.extend(signs("uller", 5.0, 0.0));
        assert_eq!(texts(&before), ["Müller"]);
        let mut behind = signs("cafe", 0.0, 0.0);
        behind.extend(signs("´", 15.0, 0.0));
        assert_eq!(texts(&behind), ["café"]);
        assert_eq!(texts(&signs("a ~ b", 0.0, 0.0)), ["a ~ b"]);
    }

    #[test]
    fn codes_without_letters_are_counted_and_left_out() {
        let mut numbered = signs("*UXSD\u{3}R]\u{3}", 0.0, 0.0);
        numbered.iter_mut().for_each(|sign| (sign.unmapped, sign.font) = (true, 2));
        numbered.extend(signs("\r\nfooter", 0.0, -20.0));
        let page = lines(&numbered, 1);
        assert_eq!((page.lines.len(), page.unreadable, page.readable), (1, 9, 6));
        let mut ascii = signs("page 12.qxd", 0.0, 0.0);
        ascii.iter_mut().for_each(|sign| sign.unmapped = true);
        assert_eq!(texts(&ascii), ["page 12.qxd"]);
    }

    #[test]
    fn words_from_right_to_left_are_in_reading_order() {
        // As they stand on the page, from left to right; two words, the second one at the left.
        let mut visual = signs("אפי", 40.0, 0.0);
        visual.extend(signs(" ", 35.0, 0.0));
        visual.extend(signs("למנ", 20.0, 0.0));
        // The row that they are in puts them beside each other.
        assert_eq!(texts(&visual), ["יפא", "נמל"]);
        let mut logical = signs("נמל", 0.0, 0.0);
        for (at, sign) in logical.iter_mut().enumerate() {
            let left = 50.0 - 5.0 * at as f32;
            (sign.bounds[0], sign.bounds[2], sign.origin[0]) = (left, left + 5.0, left);
        }
        assert_eq!(texts(&logical), ["נמל"]);
        assert_eq!(reversed("\u{644}\u{64e}\u{628}"), "\u{628}\u{644}\u{64e}");
    }

    #[test]
    fn turned_lines_run_from_left_to_right() {
        let mut up = signs("up", 0.0, 0.0);
        for (at, sign) in up.iter_mut().enumerate() {
            let y = 100.0 + 5.0 * at as f32;
            (sign.angle, sign.bounds, sign.origin) = (4.712_389, [50.0, y, 60.0, y + 5.0], [58.0, y]);
        }
        let found = lines(&up, 1).lines.remove(0);
        assert_eq!((found.text.as_str(), found.turn, found.x0, found.x1), ("up", 1, 100.0, 110.0));
    }
}
