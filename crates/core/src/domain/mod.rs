//! Validated types that every layer speaks; no input or output.

pub mod bounds;
mod document;
mod filter;
mod ids;
mod language;
mod matching;
mod value;
mod vector;

pub use document::{CELL, Extracted, Metadata, MetadataValue, Section, Span, Warning};
pub use filter::{Filter, FilterSize, Limits, RangeBounds, Test};
pub use ids::{CollectionName, DocumentId};
pub use language::Language;
pub use value::{Number, Time};
pub use vector::{cosine, dot, is_unit, scale_to_unit};

/// Which vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Passage vectors; a point id is the passage's number in the collection.
    Passage,
    /// Sentence vectors; a point id is `passage number << 8 | position in the passage`.
    Sentence,
    /// Document vectors; a point id is the document's number in the collection.
    Document,
}
