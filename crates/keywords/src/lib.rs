//! The keyword index: passages by their words, an inverted index with BM25 scores for each collection. It is derived from
//! the store and can be thrown away at any time. The only user of tantivy.
//!
//! It uses `trove-core` alone; the catalog of collections uses it.
//!
//! A text is normalized (`normalize`), cut into runs and names (`scan`, `names`), and analyzed in its language (`analyzer`,
//! `language`). A query becomes clauses (`query`), which are looked up (`lookup`) and scored (`search`, `narrow`).
//!
//! ```
//! let words = trove_keywords::STOP_WORDS.len();
//! assert!(words > 20);
//! ```
#![warn(missing_docs)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented
    )
)]

mod analyzer;
mod index;
mod language;
mod lines;
mod lookup;
mod names;
mod narrow;
mod normalize;
mod query;
mod scan;
mod search;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod word_tests;

pub use analyzer::STOP_WORDS;
pub use index::{KeywordIndex, Upkeep, remove_others};
pub use language::detect as detect_language;
pub use normalize::spellings;
pub use query::KeywordQuery;
pub use search::{KeywordMatch, KeywordMatches, KeywordReader};

use std::io;

use tantivy::TantivyError;
use tantivy::directory::error::{LockError, OpenDirectoryError, OpenReadError, OpenWriteError};
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};

use trove_core::domain::Language;
use trove_core::error::Error;

/// Reason of the error of an index that cannot be written, other than for want of room.
pub const KEYWORDS_FAILED: &str = "KEYWORDS_FAILED";

/// A document as it is indexed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeywordDocument {
    /// Its title; empty where it has none.
    pub title: String,
    /// Its language, where it is known to be another than the collection's.
    pub language: Option<Language>,
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
    /// Other forms of the words of all three.
    forms: Field,
    /// Signs of scripts without spaces, of all three.
    signs: Field,
    language: Field,
    point: Field,
    doc_no: Field,
}

const POINT: &str = "point";
const DOC_NO: &str = "doc_no";

fn schema() -> (Schema, Fields) {
    let text = |option| {
        let indexing = TextFieldIndexing::default().set_tokenizer(lines::LINES).set_index_option(option);
        TextOptions::default().set_indexing_options(indexing)
    };
    // Terms with their frequencies. Positions are for signs, of which those count that stand together.
    let words = text(IndexRecordOption::WithFreqs);
    let mut builder = Schema::builder();
    let fields = Fields {
        text: builder.add_text_field("text", words.clone()),
        headings: builder.add_text_field("headings", words.clone()),
        title: builder.add_text_field("title", words.clone()),
        forms: builder.add_text_field("forms", words),
        signs: builder.add_text_field("signs", text(IndexRecordOption::WithFreqsAndPositions)),
        language: builder.add_text_field("language", text(IndexRecordOption::Basic)),
        point: builder.add_u64_field(POINT, FAST),
        doc_no: builder.add_u64_field(DOC_NO, FAST | INDEXED),
    };
    (builder.build(), fields)
}

fn from_tantivy(error: TantivyError) -> Error {
    if let Some(known) = io_of(&error).and_then(Error::of_want) {
        return known.with_source(error);
    }
    match &error {
        TantivyError::DataCorruption(_)
        | TantivyError::IncompatibleIndex(_)
        | TantivyError::OpenReadError(_)
        | TantivyError::SchemaError(_) => damaged(&error.to_string()).with_source(error),
        _ => {
            Error::internal(KEYWORDS_FAILED, format!("the keyword index failed: {error}")).with_source(error)
        }
    }
}

/// An error of an index that is opened. Whatever it is, the index is of no use, unless the machine lacks something.
fn unusable(error: TantivyError) -> Error {
    match io_of(&error).and_then(Error::of_want) {
        Some(known) => known.with_source(error),
        None => damaged(&error.to_string()).with_source(error),
    }
}

/// The error of the system behind one of tantivy.
fn io_of(error: &TantivyError) -> Option<&io::Error> {
    match error {
        TantivyError::IoError(cause)
        | TantivyError::LockFailure(LockError::IoError(cause), _)
        | TantivyError::OpenReadError(OpenReadError::IoError { io_error: cause, .. })
        | TantivyError::OpenWriteError(OpenWriteError::IoError { io_error: cause, .. })
        | TantivyError::OpenDirectoryError(
            OpenDirectoryError::IoError { io_error: cause, .. }
            | OpenDirectoryError::FailedToCreateTempDir(cause),
        ) => Some(cause),
        _ => None,
    }
}

fn damaged(what: &str) -> Error {
    Error::data_loss("KEYWORDS_DAMAGED", format!("the keyword index can't be used: {what}"))
}

#[cfg(test)]
mod error_tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_full_disk_is_told_wherever_tantivy_meets_it() {
        let cause = |errno| Arc::new(io::Error::from_raw_os_error(errno));
        let each = |errno| {
            let (io_error, filepath) = (cause(errno), PathBuf::from("x"));
            [
                TantivyError::IoError(io_error.clone()),
                LockError::IoError(io_error.clone()).into(),
                OpenReadError::IoError { io_error: io_error.clone(), filepath: filepath.clone() }.into(),
                OpenWriteError::IoError { io_error: io_error.clone(), filepath: filepath.clone() }.into(),
                OpenDirectoryError::IoError { io_error: io_error.clone(), directory_path: filepath }.into(),
                OpenDirectoryError::FailedToCreateTempDir(io_error).into(),
            ]
        };
        for (errno, reason) in [(libc::ENOSPC, "DISK_FULL"), (libc::EMFILE, "TOO_MANY_OPEN_FILES")] {
            for error in each(errno) {
                assert_eq!(from_tantivy(error.clone()).reason, reason, "{error:?}");
                assert_eq!(unusable(error).reason, reason);
            }
        }
        for error in each(libc::EIO) {
            assert!(["KEYWORDS_FAILED", "KEYWORDS_DAMAGED"].contains(&from_tantivy(error.clone()).reason));
            assert_eq!(unusable(error).reason, "KEYWORDS_DAMAGED");
        }
    }
}
