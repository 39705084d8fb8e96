//! How much may describe a document or a collection. Each hit of a search carries what describes its document, and each
//! entry of the keyword index its title.
//!
//! What an older program stored may be longer: it can be read and deleted, and hits show the beginning of it.

use super::{Metadata, MetadataValue};
use crate::error::{Error, Result};

/// Most bytes of a document's title.
pub const TITLE_BYTES: usize = 2 << 10;
/// Most bytes of where a document came from.
pub const SOURCE_URI_BYTES: usize = 4 << 10;
/// Most bytes of a media type.
pub const MEDIA_TYPE_BYTES: usize = 256;
/// Most metadata keys of a document.
pub const METADATA_KEYS: usize = 256;
/// Most bytes of a metadata key.
pub const METADATA_KEY_BYTES: usize = 256;
/// Most bytes of a string in metadata.
pub const METADATA_STRING_BYTES: usize = 16 << 10;
/// Most strings or numbers of a list in metadata.
pub const METADATA_LIST: usize = 1024;
/// Most bytes of a document's metadata: all keys and strings, and eight bytes for each value and each member of a list.
pub const METADATA_BYTES: usize = 32 << 10;
/// Most headings of a passage.
pub const HEADINGS: usize = 32;
/// Most bytes of a heading.
pub const HEADING_BYTES: usize = 1 << 10;
/// Most bytes of a collection's description.
pub const DESCRIPTION_BYTES: usize = 4 << 10;

/// What a value counts beside its strings.
const VALUE_BYTES: usize = 8;

/// Checks the bytes of a text.
///
/// # Errors
/// `TEXT_TOO_LONG`.
pub fn check_text(field: impl Into<String>, bytes: usize, most: usize) -> Result<()> {
    if bytes > most {
        let message = format!("expected at most {most} bytes, got {bytes}");
        return Err(Error::invalid_field(field, "TEXT_TOO_LONG", message));
    }
    Ok(())
}

/// Checks the heading path of a passage.
///
/// # Errors
/// `TOO_MANY_HEADINGS`, `TEXT_TOO_LONG`.
pub fn check_headings(headings: &[String]) -> Result<()> {
    if headings.len() > HEADINGS {
        let message = format!("expected at most {HEADINGS}, got {}", headings.len());
        return Err(Error::invalid_field("headings", "TOO_MANY_HEADINGS", message));
    }
    let check = |heading: &String| check_text("headings", heading.len(), HEADING_BYTES);
    headings.iter().try_for_each(check)
}

/// Metadata with what a file says of itself added, in the order of its keys, as far as it fits. What is given stays.
#[must_use]
pub fn merged(given: Metadata, file: &Metadata) -> Metadata {
    let mut count = MetadataCount::default();
    for (key, value) in &given {
        // It was checked where it came in; what an older program stored may be longer, and leaves no room.
        if count.add_value(key, value).is_err() {
            return given;
        }
    }
    let mut merged = given;
    for (key, value) in file {
        if key.is_empty() || merged.contains_key(key) {
            continue;
        }
        let mut with = count.clone();
        if with.add_value(key, value).is_ok() {
            count = with;
            merged.insert(key.clone(), value.clone());
        }
    }
    merged
}

/// Counts the metadata of a document, value by value.
#[derive(Debug, Clone, Default)]
pub struct MetadataCount {
    keys: usize,
    bytes: usize,
}

impl MetadataCount {
    /// A count that begins with values that are still to come.
    pub fn beside(keys: usize, bytes: usize) -> Self {
        Self { keys, bytes }
    }

    /// One more value. One that is refused is not counted.
    ///
    /// # Errors
    /// `METADATA_TOO_LARGE`, `TEXT_TOO_LONG`.
    pub fn add_value(&mut self, key: &str, value: &MetadataValue) -> Result<()> {
        let mut count = Self { ..*self };
        match value {
            MetadataValue::String(text) => count.add(key, std::iter::once(text.as_str()))?,
            MetadataValue::StringList(list) => count.add(key, list.iter().map(String::as_str))?,
            MetadataValue::IntList(list) => count.add_numbers(key, list.len())?,
            MetadataValue::DoubleList(list) => count.add_numbers(key, list.len())?,
            _ => count.add(key, std::iter::empty())?,
        }
        *self = count;
        Ok(())
    }

    /// One more value that is a list of so many numbers.
    ///
    /// # Errors
    /// `METADATA_TOO_LARGE`, `TEXT_TOO_LONG`.
    pub fn add_numbers(&mut self, key: &str, numbers: usize) -> Result<()> {
        self.add(key, std::iter::repeat_n("", numbers))
    }

    /// One more value, with its strings.
    ///
    /// # Errors
    /// `METADATA_TOO_LARGE`, `TEXT_TOO_LONG`.
    pub fn add<'a>(&mut self, key: &str, strings: impl ExactSizeIterator<Item = &'a str>) -> Result<()> {
        let too_large = |what: &str, most: usize, got: usize| {
            let message = format!("expected at most {most} {what}, got {got}");
            Err(Error::invalid_field("metadata", "METADATA_TOO_LARGE", message))
        };
        self.keys += 1;
        if self.keys > METADATA_KEYS {
            return too_large("keys", METADATA_KEYS, self.keys);
        }
        check_text("metadata", key.len(), METADATA_KEY_BYTES)?;
        if strings.len() > METADATA_LIST {
            return too_large("members of a list", METADATA_LIST, strings.len());
        }
        self.bytes += key.len() + VALUE_BYTES;
        for string in strings {
            check_text("metadata", string.len(), METADATA_STRING_BYTES)?;
            self.bytes += string.len() + VALUE_BYTES;
        }
        if self.bytes > METADATA_BYTES {
            return too_large("bytes of keys and values", METADATA_BYTES, self.bytes);
        }
        Ok(())
    }
}

/// The beginning of a text, whole characters.
fn shorten(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.shrink_to_fit();
    }
}

/// Cuts a text that an older program stored to what is shown of it.
#[must_use]
pub fn shown(mut text: String, most: usize) -> String {
    shorten(&mut text, most);
    text
}

/// Cuts metadata that an older program stored to what is shown of it: the first values that fit, in the order of their
/// keys.
#[must_use]
pub fn shown_metadata(metadata: Metadata) -> Metadata {
    let mut count = MetadataCount::default();
    let fits = |(key, mut value): (String, MetadataValue)| {
        match &mut value {
            MetadataValue::String(text) => shorten(text, METADATA_STRING_BYTES),
            MetadataValue::StringList(list) => {
                list.truncate(METADATA_LIST);
                list.iter_mut().for_each(|text| shorten(text, METADATA_STRING_BYTES));
            }
            MetadataValue::IntList(list) => list.truncate(METADATA_LIST),
            MetadataValue::DoubleList(list) => list.truncate(METADATA_LIST),
            _ => {}
        }
        count.add_value(&key, &value).is_ok().then_some((key, value))
    };
    metadata.into_iter().map_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(result: Result<()>) -> &'static str {
        result.err().map_or("", |error| error.reason)
    }

    #[test]
    fn metadata_is_bounded_in_every_direction() {
        let strings = |count: usize, bytes: usize| vec!["x".repeat(bytes); count];
        let one = |key: &str, list: &[String]| {
            reason(MetadataCount::default().add(key, list.iter().map(String::as_str)))
        };
        assert_eq!(one("k", &strings(1, METADATA_STRING_BYTES)), "");
        assert_eq!(one("k", &strings(1, METADATA_STRING_BYTES + 1)), "TEXT_TOO_LONG");
        assert_eq!(one(&"k".repeat(METADATA_KEY_BYTES + 1), &[]), "TEXT_TOO_LONG");
        assert_eq!(one("k", &strings(METADATA_LIST, 1)), "");
        assert_eq!(one("k", &strings(METADATA_LIST + 1, 0)), "METADATA_TOO_LARGE");
        assert_eq!(one("k", &strings(3, METADATA_STRING_BYTES)), "METADATA_TOO_LARGE");
        let mut count = MetadataCount::default();
        let added: Vec<_> =
            (0..=METADATA_KEYS).map(|n| reason(count.add(&n.to_string(), std::iter::empty()))).collect();
        assert_eq!(added.iter().position(|reason| !reason.is_empty()), Some(METADATA_KEYS));
    }

    #[test]
    fn what_a_file_says_is_added_as_far_as_it_fits() {
        let string = |bytes: usize| MetadataValue::String("x".repeat(bytes));
        let given =
            Metadata::from([("a".to_owned(), MetadataValue::Int(1)), ("b".to_owned(), string(16 << 10))]);
        let file = Metadata::from([
            (String::new(), MetadataValue::Int(1)),
            ("a".to_owned(), MetadataValue::Int(2)),
            ("c".to_owned(), string(METADATA_STRING_BYTES + 1)),
            ("d".to_owned(), string(METADATA_STRING_BYTES)),
            ("e".to_owned(), MetadataValue::Bool(true)),
        ]);
        let merged = merged(given.clone(), &file);
        assert_eq!(merged.keys().collect::<Vec<_>>(), ["a", "b", "e"]);
        assert_eq!(merged["a"], given["a"]);
        let keys: Metadata =
            (0..METADATA_KEYS + 9).map(|n| (format!("{n:04}"), MetadataValue::Null)).collect();
        assert_eq!(super::merged(Metadata::new(), &keys).len(), METADATA_KEYS);
    }

    #[test]
    fn what_is_longer_is_shown_in_part() {
        assert_eq!(shown("é".repeat(3), 5), "éé");
        let long = MetadataValue::String("x".repeat(METADATA_BYTES));
        let list = MetadataValue::StringList(vec![String::new(); METADATA_LIST * 2]);
        let metadata =
            Metadata::from([("a".to_owned(), long.clone()), ("b".to_owned(), list), ("c".to_owned(), long)]);
        let shown = shown_metadata(metadata);
        assert_eq!(shown.len(), 2);
        assert!(matches!(&shown["a"], MetadataValue::String(text) if text.len() == METADATA_STRING_BYTES));
        assert!(matches!(&shown["b"], MetadataValue::StringList(list) if list.len() == METADATA_LIST));
        let whole = Metadata::from([("a".to_owned(), MetadataValue::Int(3))]);
        assert_eq!(shown_metadata(whole.clone()), whole);
    }
}
