//! What files say of themselves: authors, dates and the like, under one name for each whatever the format.

use trove_core::domain::bounds::{METADATA_LIST, METADATA_STRING_BYTES};
use trove_core::domain::{Metadata, MetadataValue};

use super::xml::{self, Node};
use trove_core::error::Result;

pub(super) const AUTHOR: &str = "author";
pub(super) const DATE: &str = "date";
pub(super) const KEYWORDS: &str = "keywords";
pub(super) const SUBJECT: &str = "subject";

/// Most properties of a file that are looked at.
const MAX_PROPERTIES: usize = 10_000;

/// What a file says of itself.
#[derive(Default)]
pub(super) struct Properties {
    /// Title, where there is one.
    pub(super) title: Option<String>,
    /// All else.
    pub(super) metadata: Metadata,
}

impl Properties {
    /// Reads Dublin Core and what is beside it in Office's `core.xml`, OpenDocument's `meta.xml` and an EPUB's package.
    pub(super) fn of_xml(bytes: &[u8]) -> Result<Self> {
        let mut properties = Self::default();
        let mut found: Vec<(&'static str, String)> = Vec::new();
        let (mut text, mut modified) = (String::new(), None);
        xml::walk(bytes, |node| {
            match node {
                Node::Open(_) => text.clear(),
                Node::Text(piece) => text.push_str(piece),
                Node::Close(name) => {
                    let value = std::mem::take(&mut text);
                    if found.len() > MAX_PROPERTIES || value.trim().is_empty() {
                        return Ok(());
                    }
                    match name {
                        "title" if properties.title.is_none() => properties.title = Some(value),
                        "creator" | "initial-creator" => found.push((AUTHOR, value)),
                        "subject" => found.push((SUBJECT, value)),
                        "keywords" | "keyword" => found.push((KEYWORDS, value)),
                        "description" => found.push(("description", value)),
                        "language" => found.push(("language", value)),
                        "publisher" => found.push(("publisher", value)),
                        "created" | "creation-date" | "date" => found.push((DATE, value)),
                        "modified" => modified = Some(value),
                        _ => {}
                    }
                }
            }
            Ok(())
        })?;
        if let Some(modified) = modified.filter(|_| !found.iter().any(|(key, _)| *key == DATE)) {
            found.push((DATE, modified));
        }
        for key in [AUTHOR, SUBJECT, KEYWORDS, "description", "language", "publisher", DATE] {
            let values: Vec<String> =
                found.iter().filter(|(k, _)| *k == key).map(|(_, value)| value.clone()).collect();
            match key {
                DATE => properties.date(values.first().map_or("", String::as_str)),
                KEYWORDS => {
                    let words = values.iter().flat_map(|list| list.split([',', ';']));
                    properties.list(key, words.map(str::to_owned).collect());
                }
                _ => properties.text(key, values),
            }
        }
        Ok(properties)
    }

    /// Sets a text, or where there are several a list of them; empty ones are left out.
    pub(super) fn text(&mut self, key: &str, values: Vec<String>) {
        let mut values = clean(values);
        let value = match values.len() {
            0 => return,
            1 => MetadataValue::String(values.remove(0)),
            _ => MetadataValue::StringList(values),
        };
        self.metadata.insert(key.to_owned(), value);
    }

    /// Sets a list; empty strings are left out.
    pub(super) fn list(&mut self, key: &str, values: Vec<String>) {
        let values = clean(values);
        if !values.is_empty() {
            self.metadata.insert(key.to_owned(), MetadataValue::StringList(values));
        }
    }

    /// Sets the date: a time where it is written as ISO 8601 has it, else the text.
    pub(super) fn date(&mut self, date: &str) {
        match iso_seconds(date.trim()) {
            Some(seconds) => {
                self.metadata.insert(DATE.to_owned(), MetadataValue::Timestamp(seconds, 0));
            }
            None => self.text(DATE, vec![date.to_owned()]),
        }
    }
}

/// Texts on one line each, within what metadata may hold, without empty ones and repetitions.
fn clean(values: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for value in values.into_iter().take(METADATA_LIST) {
        let value = value.replace('\0', "").split_whitespace().collect::<Vec<_>>().join(" ");
        // Several such texts would not fit, and none is that long.
        let value = value.split_at(value.floor_char_boundary(METADATA_STRING_BYTES / 16)).0.to_owned();
        let bytes: usize = kept.iter().map(String::len).sum();
        if !value.is_empty() && !kept.contains(&value) && bytes + value.len() <= METADATA_STRING_BYTES / 8 {
            kept.push(value);
        }
    }
    kept
}

/// Seconds since 1970 of a date, or a date and a time, as ISO 8601 writes them; without an offset they are UTC.
pub(super) fn iso_seconds(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, time.trim()),
        None => (text, ""),
    };
    let mut parts = date.splitn(3, '-');
    let year: i64 = parts.next().filter(|year| year.len() == 4)?.parse().ok()?;
    let month: i64 = parts.next().map_or(Some(1), |part| part.parse().ok())?;
    let day: i64 = parts.next().map_or(Some(1), |part| part.parse().ok())?;
    let (time, offset) = match time.find(['Z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, ""),
    };
    let minutes = match offset.split_at_checked(1) {
        Some((sign, rest)) if sign != "Z" => {
            let (hours, minutes) =
                rest.split_once(':').or_else(|| rest.split_at_checked(2)).unwrap_or((rest, "0"));
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().unwrap_or(0);
            if sign == "-" { -minutes } else { minutes }
        }
        _ => 0,
    };
    let mut clock = time.split(':').map(|part| part.split('.').next().unwrap_or_default());
    let mut next =
        || clock.next().filter(|part| !part.is_empty()).map_or(Some(0), |part| part.parse::<i64>().ok());
    let (hour, minute, second) = (next()?, next()?, next()?);
    seconds(year, month, day, hour, minute - minutes, second)
}

/// Seconds since 1970 of a time in UTC; the minute may be off by an offset.
pub(super) fn seconds(year: i64, month: i64, day: i64, hour: i64, minute: i64, second: i64) -> Option<i64> {
    let sound = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..=9999).contains(&year)
        && (0..=24).contains(&hour)
        && minute.abs() < 10_000
        && (0..=60).contains(&second);
    if !sound {
        return None;
    }
    // Days since 1970 in the Gregorian calendar, with years that begin in March.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(iso_seconds("1970-01-01"), Some(0));
        assert_eq!(iso_seconds("2024-03-05T14:22:01Z"), Some(1_709_648_521));
        assert_eq!(iso_seconds("2024-03-05T15:22:01.500+01:00"), Some(1_709_648_521));
        assert_eq!(iso_seconds("2024-02-29 00:00"), Some(1_709_164_800));
        assert_eq!(iso_seconds("2024"), Some(1_704_067_200));
        assert_eq!((iso_seconds("March 5"), iso_seconds("2024-13-01"), iso_seconds("")), (None, None, None));
    }

    #[test]
    fn dublin_core() {
        let xml = "<cp:x><dc:title>Boats</dc:title><dc:creator>Anna</dc:creator><dc:creator>Ben</dc:creator>\
            <cp:keywords>dock; lift, dock</cp:keywords><dcterms:created>2024-03-05T14:22:01Z</dcterms:created></cp:x>";
        let found = Properties::of_xml(xml.as_bytes()).unwrap();
        let list =
            |items: &[&str]| MetadataValue::StringList(items.iter().map(|s| (*s).to_owned()).collect());
        assert_eq!(found.title.as_deref(), Some("Boats"));
        assert_eq!(found.metadata["author"], list(&["Anna", "Ben"]));
        assert_eq!(found.metadata["keywords"], list(&["dock", "lift"]));
        assert_eq!(found.metadata["date"], MetadataValue::Timestamp(1_709_648_521, 0));
    }
}
