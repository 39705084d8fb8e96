//! The numbers that Word gives to paragraphs of lists and to headings.

use std::collections::HashMap;

use quick_xml::events::Event;

use super::xml::{self, attribute, is_on, value};

/// Levels of a list.
const LEVELS: usize = 9;

/// How the lists of a document number their paragraphs, and how far they have counted.
#[derive(Default)]
pub(super) struct Numbering {
    /// Levels by the ids of abstract lists.
    kinds: HashMap<String, Vec<Level>>,
    lists: HashMap<String, List>,
    /// Counts by the ids of abstract lists.
    counts: HashMap<String, [Option<u32>; LEVELS]>,
}

#[derive(Clone)]
struct Level {
    start: u32,
    format: String,
    text: String,
    style: String,
    /// Whether the numbers of the levels above are written as digits here.
    is_legal: bool,
}

impl Default for Level {
    fn default() -> Self {
        Self {
            start: 1,
            format: "decimal".to_owned(),
            text: String::new(),
            style: String::new(),
            is_legal: false,
        }
    }
}

#[derive(Default)]
struct List {
    kind: String,
    /// Where the levels of this list begin anew, until they have.
    restarts: HashMap<usize, u32>,
}

impl Numbering {
    /// The lists of a part; fewer where it is broken.
    pub(super) fn parse(part: &[u8]) -> Self {
        let mut numbering = Self::default();
        let (mut kind, mut list, mut level, mut override_level) = (String::new(), None::<String>, 0, 0);
        let _ = xml::each(part, |event| {
            let (Event::Start(e) | Event::Empty(e)) = event else {
                if let Event::End(e) = event
                    && e.local_name().as_ref() == "num"
                {
                    list = None;
                }
                return;
            };
            let index = |text: String| text.parse().unwrap_or(0_usize).min(LEVELS - 1);
            match (e.local_name().as_ref(), &list) {
                ("abstractNum", _) => {
                    kind = attribute(e, "abstractNumId");
                    numbering.kinds.insert(kind.clone(), vec![Level::default(); LEVELS]);
                }
                ("num", _) => {
                    let id = attribute(e, "numId");
                    numbering.lists.insert(id.clone(), List::default());
                    list = Some(id);
                }
                ("abstractNumId", Some(id)) => {
                    let kind = value(e);
                    numbering.lists.entry(id.clone()).or_default().kind = kind;
                }
                ("lvlOverride", Some(_)) => override_level = index(attribute(e, "ilvl")),
                ("startOverride", Some(id)) => {
                    let start = value(e).parse().unwrap_or(1);
                    numbering.lists.entry(id.clone()).or_default().restarts.insert(override_level, start);
                }
                ("lvl", None) => level = index(attribute(e, "ilvl")),
                (name, None) => {
                    let Some(level) = numbering.kinds.get_mut(&kind).and_then(|levels| levels.get_mut(level))
                    else {
                        return;
                    };
                    match name {
                        "start" => level.start = value(e).parse().unwrap_or(1),
                        "numFmt" => level.format = value(e),
                        "lvlText" => level.text = value(e),
                        "pStyle" => level.style = value(e).to_lowercase(),
                        "isLgl" => level.is_legal = is_on(e),
                        _ => {}
                    }
                }
                _ => {}
            }
        });
        numbering
    }

    /// The level of a list that belongs to a style.
    pub(super) fn level_of_style(&self, list: &str, style: &str) -> Option<usize> {
        let levels = self.kinds.get(&self.lists.get(list)?.kind)?;
        levels.iter().position(|level| !style.is_empty() && level.style == style)
    }

    /// The number of the next paragraph of a list; `None` where it has a bullet or nothing.
    pub(super) fn next(&mut self, list: &str, level: usize) -> Option<String> {
        let level = level.min(LEVELS - 1);
        let list = self.lists.get_mut(list)?;
        let levels = self.kinds.get(&list.kind)?;
        let counts = self.counts.entry(list.kind.clone()).or_default();
        let restart = list.restarts.remove(&level);
        counts[level] = Some(match (restart, counts[level]) {
            (Some(start), _) => start,
            (None, Some(count)) => count.saturating_add(1),
            (None, None) => levels[level].start,
        });
        counts[level + 1..].fill(None);
        let this = &levels[level];
        if this.format == "bullet" {
            return None;
        }
        let mut number = String::new();
        let mut chars = this.text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                number.push(c);
                continue;
            }
            let Some(of) = chars.next().and_then(|c| c.to_digit(10)).and_then(|n| n.checked_sub(1)) else {
                continue;
            };
            let (of, levels) = (of as usize, &levels[..=level]);
            let Some(other) = levels.get(of) else { continue };
            let count = counts[of].unwrap_or(other.start);
            let format = if this.is_legal { "decimal" } else { other.format.as_str() };
            number.push_str(&written(count, format));
        }
        let number = number.trim();
        (!number.is_empty()).then(|| number.to_owned())
    }
}

/// A number in one of Word's formats; in decimal digits where it is none of the common ones.
fn written(number: u32, format: &str) -> String {
    match format {
        "none" => String::new(),
        "lowerLetter" => letters(number).to_lowercase(),
        "upperLetter" => letters(number),
        "lowerRoman" => roman(number).to_lowercase(),
        "upperRoman" => roman(number),
        "decimalZero" => format!("{number:02}"),
        _ => number.to_string(),
    }
}

/// A to Z, then AA to ZZ, as Word counts. Beyond some hundreds it is digits.
fn letters(number: u32) -> String {
    let (round, letter) = (number.saturating_sub(1) / 26, number.saturating_sub(1) % 26);
    match char::from_u32(u32::from(b'A') + letter) {
        Some(letter) if number > 0 && round < 26 => letter.to_string().repeat(round as usize + 1),
        _ => number.to_string(),
    }
}

fn roman(number: u32) -> String {
    const SIGNS: [(u32, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    if !(1..4000).contains(&number) {
        return number.to_string();
    }
    let mut left = number;
    let mut text = String::new();
    for (worth, sign) in SIGNS {
        while left >= worth {
            left -= worth;
            text.push_str(sign);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_word_does() {
        assert_eq!(["A", "Z", "AA", "CCC"].map(str::to_owned), [1, 26, 27, 55].map(letters));
        assert_eq!(["IV", "MCMXCIX", "0", "4000"].map(str::to_owned), [4, 1999, 0, 4000].map(roman));
        assert_eq!(letters(u32::MAX), u32::MAX.to_string());
    }

    #[test]
    fn levels_count_and_begin_anew() {
        let level = |n: u32, format: &str, text: &str| {
            format!(
                r#"<w:lvl w:ilvl="{n}"><w:start w:val="1"/><w:numFmt w:val="{format}"/><w:lvlText w:val="{text}"/></w:lvl>"#
            )
        };
        let part = format!(
            r#"<w:numbering><w:abstractNum w:abstractNumId="0">{}{}{}</w:abstractNum>
            <w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>
            <w:num w:numId="2"><w:abstractNumId w:val="0"/><w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride></w:num>
            </w:numbering>"#,
            level(0, "upperRoman", "Article %1"),
            level(1, "decimal", "%1.%2."),
            level(2, "bullet", "•"),
        );
        let mut numbering = Numbering::parse(part.as_bytes());
        let mut next = |list: &str, level| numbering.next(list, level).unwrap_or_default();
        assert_eq!(
            (next("1", 0), next("1", 1), next("1", 1)),
            ("Article I".into(), "I.1.".into(), "I.2.".into())
        );
        assert_eq!(
            (next("1", 0), next("1", 1), next("1", 2)),
            ("Article II".into(), "II.1.".into(), String::new())
        );
        assert_eq!(
            (next("2", 0), next("2", 0), next("9", 0)),
            ("Article V".into(), "Article VI".into(), String::new())
        );
    }
}
