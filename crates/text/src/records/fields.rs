//! From the fields of a record to a document.

use std::collections::HashSet;

use super::template::Template;
use trove_core::domain::bounds::{MetadataCount, TITLE_BYTES};
use trove_core::domain::{Metadata, MetadataValue};

/// Fields that are the id, in the order of preference.
const ID: [&str; 5] = ["id", "_id", "key", "uuid", "guid"];
/// Fields that are the title.
const TITLE: [&str; 3] = ["title", "headline", "subject"];
/// Fields that also serve as the title, and stay fields of the text.
const NAME: [&str; 2] = ["name", "label"];
/// Fields that are the text.
const TEXT: [&str; 6] = ["text", "content", "body", "article", "fulltext", "full_text"];
/// Values of more bytes, and those of several lines, are paragraphs of a text that is made of fields.
const SHORT: usize = 160;
/// Metadata that is left for what the caller adds.
const KEPT_KEYS: usize = 4;
const KEPT_BYTES: usize = 2 << 10;

/// How records become documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The field that is the id, whatever else is there.
    pub id_field: Option<String>,
    /// What the text is made of.
    pub text_template: Option<Template>,
}

/// A record as a document.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RecordDocument {
    /// The id of its record, where that has one.
    pub id: Option<String>,
    /// Its title; empty where it has none.
    pub title: String,
    /// Its text.
    pub text: String,
    /// Its other fields.
    pub metadata: Metadata,
}

/// One field of a record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    /// Its name, as it is written.
    pub(super) name: String,
    /// Its value as text.
    pub(super) text: String,
    /// Its value; `None` where it has none.
    pub(super) value: Option<MetadataValue>,
}

/// A name as it is compared: without case and the spaces around it.
pub(super) fn normal(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Whether a field is a text by its name, so that a list in it is a list of paragraphs.
pub(super) fn is_text(name: &str) -> bool {
    TEXT.contains(&normal(name).as_str())
}

/// Whether a field serves for something by its name.
pub(super) fn is_known(name: &str) -> bool {
    let name = normal(name);
    [&ID[..], &TITLE, &NAME, &TEXT].concat().contains(&name.as_str())
}

/// Makes names differ that are the same.
pub(super) fn tell_apart(names: &mut [String]) {
    let mut seen = HashSet::new();
    for name in names {
        if seen.insert(name.clone()) {
            continue;
        }
        let other = (2..).map(|number| format!("{name}_{number}")).find(|other| !seen.contains(other));
        *name = other.unwrap_or_default();
        seen.insert(name.clone());
    }
}

impl Options {
    /// The names of the options that no field of a table has.
    pub(super) fn unknown<'a>(&'a self, names: &[String]) -> Vec<&'a str> {
        let known: HashSet<String> = names.iter().map(|name| normal(name)).collect();
        let template = self.text_template.iter().flat_map(Template::fields);
        let wanted = self.id_field.as_deref().into_iter().chain(template);
        wanted.filter(|name| !known.contains(&normal(name))).collect()
    }

    /// The document of a record.
    pub(super) fn document(&self, fields: Vec<Field>) -> Result<RecordDocument, String> {
        let find = |name: &str| {
            let name = normal(name);
            fields.iter().position(|field| normal(&field.name) == name)
        };
        let filled = |name: &&str| find(name).filter(|at| is_filled(fields.get(*at)));
        let text_of =
            |at: Option<usize>| at.and_then(|at| fields.get(at)).map_or("", |field| field.text.trim());

        let own_id = ["id", "_id"].iter().find_map(filled);
        let id_at = match &self.id_field {
            Some(name) => Some(
                find(name)
                    .filter(|at| is_filled(fields.get(*at)))
                    .ok_or_else(|| format!("expected a field {name:?} with the record's id, got none"))?,
            ),
            None => ID.iter().find_map(filled),
        };
        let title_at = TITLE.iter().find_map(filled);
        let name_at = NAME.iter().find_map(filled);
        let text_at = TEXT.iter().find_map(filled);
        let is_text_there = || TEXT.iter().any(|name| find(name).is_some());
        // A field that only serves as the id is told by other means too.
        let is_taken = |at: usize| Some(at) == title_at || (Some(at) == own_id && Some(at) == id_at);

        let mut text = match (&self.text_template, text_at) {
            (Some(template), _) => {
                let value =
                    |name: &str| find(name).and_then(|at| fields.get(at)).map(|field| field.text.trim());
                template.fill(value).ok_or("expected a value in one of the template's fields, got none")?
            }
            (None, Some(at)) => fields.get(at).map(|field| field.text.clone()).unwrap_or_default(),
            (None, None) if is_text_there() => String::new(),
            (None, None) => {
                let others =
                    fields.iter().enumerate().filter(|(at, _)| !is_taken(*at)).map(|(_, field)| field);
                told(others)
            }
        };
        if text.is_empty() && text_at.is_none() && !is_text_there() {
            text.push_str(text_of(title_at));
        }
        if text.is_empty() && !is_text_there() {
            return Err("expected a field \"text\", or others with text, got neither".to_owned());
        }
        let mut document = RecordDocument {
            id: id_at.map(|at| text_of(Some(at)).to_owned()),
            title: text_of(title_at.or(name_at)).to_owned(),
            ..RecordDocument::default()
        };
        let used = (text_at.filter(|_| self.text_template.is_none()), own_id.filter(|at| Some(*at) == id_at));
        if document.title.len() > TITLE_BYTES {
            if title_at.is_some() {
                text = format!("{}\n\n{text}", document.title);
            }
            document.title.truncate(document.title.floor_char_boundary(TITLE_BYTES));
        }
        let is_told = self.text_template.is_none() && text_at.is_none();
        let mut count = MetadataCount::beside(KEPT_KEYS, KEPT_BYTES);
        for (at, field) in fields.into_iter().enumerate() {
            if Some(at) == used.0 || Some(at) == used.1 || Some(at) == title_at {
                continue;
            }
            let Some(value) = field.value else { continue };
            if count.add_value(&field.name, &value).is_ok() {
                document.metadata.insert(field.name, value);
            } else if !is_told && !text.contains(field.text.trim()) {
                text = format!("{text}\n\n{}: {}", field.name, field.text.trim());
            }
        }
        document.text = text;
        Ok(document)
    }
}

fn is_filled(field: Option<&Field>) -> bool {
    field.is_some_and(|field| !field.text.trim().is_empty())
}

/// A text that tells the fields of a record: short ones in one sentence, long ones in paragraphs of their own.
fn told<'a>(fields: impl Iterator<Item = &'a Field>) -> String {
    let (mut short, mut long) = (Vec::new(), Vec::new());
    for field in fields.filter(|field| is_filled(Some(field))) {
        let value = field.text.trim();
        let is_short = value.len() <= SHORT && !value.contains('\n');
        let told = format!("{}: {value}", field.name);
        if is_short { short.push(told) } else { long.push(told) }
    }
    let mut sentence = short.join("; ");
    if !sentence.is_empty() && !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    let paragraphs = std::iter::once(sentence).chain(long).filter(|paragraph| !paragraph.is_empty());
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(options: &Options, fields: &[(&str, &str)]) -> Result<RecordDocument, String> {
        let field = |(name, text): &(&str, &str)| Field {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
            value: Some(MetadataValue::String((*text).to_owned())),
        };
        options.document(fields.iter().map(field).collect())
    }

    #[test]
    fn the_text_is_a_field_or_told_by_all() {
        let options = Options::default();
        let product = [("SKU", "7"), ("name", "Trail Runner"), ("price", "120"), ("colour", "")];
        let told = document(&options, &product).unwrap();
        assert_eq!(told.text, "SKU: 7; name: Trail Runner; price: 120.");
        assert_eq!((told.id, told.title.as_str(), told.metadata.len()), (None, "Trail Runner", 4));
        let long = "x".repeat(SHORT + 1);
        let text = document(&options, &[("name", "A"), ("description", &long)]).unwrap().text;
        assert_eq!(text, format!("name: A.\n\ndescription: {long}"));
        for name in ["Text", " content ", "body"] {
            let found = document(&options, &[("ID", "a"), (name, "Words."), ("other", "x")]).unwrap();
            assert_eq!((found.text.as_str(), found.id.as_deref()), ("Words.", Some("a")));
            assert_eq!(found.metadata.keys().collect::<Vec<_>>(), ["other"]);
        }
        assert_eq!(document(&options, &[("title", "T")]).unwrap().text, "T");
        assert_eq!(document(&options, &[("id", "1"), ("text", " ")]).unwrap().text, "");
        assert!(document(&options, &[("id", "1")]).is_err() && document(&options, &[]).is_err());
    }

    #[test]
    fn options_name_the_id_and_make_the_text() {
        let options = Options {
            id_field: Some("Url".to_owned()),
            text_template: Some("{name} costs {price}.".parse().unwrap()),
        };
        let fields = [("id", "3"), ("url", "https://a"), ("name", "Rope"), ("Price", "5"), ("text", "t")];
        let found = document(&options, &fields).unwrap();
        assert_eq!((found.id.as_deref(), found.text.as_str()), (Some("https://a"), "Rope costs 5."));
        assert_eq!(found.metadata.keys().collect::<Vec<_>>(), ["Price", "id", "name", "text", "url"]);
        assert!(document(&options, &[("url", " "), ("name", "x")]).unwrap_err().contains("\"Url\""));
        assert!(document(&options, &[("url", "a"), ("b", "x")]).unwrap_err().contains("template"));
        assert_eq!(options.unknown(&["URL".to_owned(), "name".to_owned()]), ["price"]);
    }

    #[test]
    fn what_is_too_large_for_metadata_becomes_text() {
        let long = "word ".repeat(5000);
        let found = document(&Options::default(), &[("text", "Short."), ("notes", &long)]).unwrap();
        assert!(found.metadata.is_empty() && found.text.starts_with("Short.\n\nnotes: word word"));
        let names: Vec<String> = (0..400).map(|n| format!("field{n}")).collect();
        let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "value")).collect();
        let found = document(&Options::default(), &fields).unwrap();
        assert!(found.metadata.len() < 256 && found.text.contains("field399: value"));
        let title = "é".repeat(TITLE_BYTES);
        let found = document(&Options::default(), &[("title", &title), ("text", "t")]).unwrap();
        assert!(found.title.len() <= TITLE_BYTES && found.text.starts_with(&title));
    }

    #[test]
    fn names_are_told_apart() {
        let mut names = ["a", "a", "a_2", "a"].map(str::to_owned);
        tell_apart(&mut names);
        assert_eq!(names, ["a", "a_2", "a_2_2", "a_3"]);
    }
}
