//! Passages by their words: an inverted index with BM25 scores for each collection. It is derived from the
//! store and can be thrown away at any time. The only user of tantivy.

mod analyzer;
mod index;
mod narrow;
mod search;
#[cfg(test)]
mod tests;

pub use analyzer::STOP_WORDS;
pub use index::{KeywordIndex, Upkeep, remove_others};
pub use search::{KeywordMatch, KeywordMatches, KeywordReader};

use tantivy::TantivyError;
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};

use crate::domain::Language;
use crate::error::Error;

/// A document as it is indexed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeywordDocument {
    /// Its title; empty where it has none.
    pub title: String,
    /// Its passages.
    pub passages: Vec<KeywordPassage>,
}

impl KeywordDocument {
    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        self.title.len() + self.passages.iter().map(KeywordPassage::bytes).sum::<usize>()
    }
}

/// A passage as it is indexed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeywordPassage {
    /// Its point.
    pub point: u64,
    /// Its text.
    pub text: String,
    /// Its heading path, outermost first.
    pub headings: Vec<String>,
}

impl KeywordPassage {
    /// Bytes of its texts.
    fn bytes(&self) -> usize {
        self.text.len() + self.headings.iter().map(String::len).sum::<usize>()
    }
}

/// The fields of an entry, which is a passage.
#[derive(Debug, Clone, Copy)]
struct Fields {
    text: Field,
    headings: Field,
    /// The title of the document, with each of its passages.
    title: Field,
    point: Field,
    doc_no: Field,
}

const POINT: &str = "point";
const DOC_NO: &str = "doc_no";

/// The schema names the language as the analysis, so that an index of another one is told apart.
fn schema(language: Language) -> (Schema, Fields) {
    // Terms with their frequencies; positions would be of use to phrases only.
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(language.name())
        .set_index_option(IndexRecordOption::WithFreqs);
    let words = TextOptions::default().set_indexing_options(indexing);
    let mut builder = Schema::builder();
    let fields = Fields {
        text: builder.add_text_field("text", words.clone()),
        headings: builder.add_text_field("headings", words.clone()),
        title: builder.add_text_field("title", words),
        point: builder.add_u64_field(POINT, FAST),
        doc_no: builder.add_u64_field(DOC_NO, FAST | INDEXED),
    };
    (builder.build(), fields)
}

fn from_tantivy(error: TantivyError) -> Error {
    let is_full = |e: &std::io::Error| e.kind() == std::io::ErrorKind::StorageFull;
    match &error {
        TantivyError::IoError(e) if is_full(e) => {
            let message = "the disk of the data directory is full";
            Error::exhausted("DISK_FULL", message, std::time::Duration::from_secs(60)).with_source(error)
        }
        TantivyError::DataCorruption(_)
        | TantivyError::IncompatibleIndex(_)
        | TantivyError::OpenReadError(_)
        | TantivyError::SchemaError(_) => damaged(&error.to_string()).with_source(error),
        _ => Error::internal("KEYWORDS_FAILED", format!("the keyword index failed: {error}"))
            .with_source(error),
    }
}

fn damaged(what: &str) -> Error {
    Error::data_loss("KEYWORDS_DAMAGED", format!("the keyword index can't be used: {what}"))
}
