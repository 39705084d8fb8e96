//! What the store takes and gives.

use std::ops::Range;

use crate::domain::{Language, Level, Metadata, MetadataValue, Span};
use crate::error::Error;

/// A collection and its settings.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CollectionRecord {
    /// Number, given by the store and never used again.
    #[prost(uint32, tag = "1")]
    pub cid: u32,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Description for people.
    #[prost(string, tag = "3")]
    pub description: String,
    /// Encoder that made its vectors.
    #[prost(string, tag = "4")]
    pub model_id: String,
    /// Revision of that encoder.
    #[prost(string, tag = "5")]
    pub model_revision: String,
    /// Length of its vectors.
    #[prost(uint32, tag = "6")]
    pub dimensions: u32,
    /// Most tokens of a passage.
    #[prost(uint32, tag = "7")]
    pub max_tokens: u32,
    /// Tokens that neighbouring passages share.
    #[prost(uint32, tag = "8")]
    pub overlap_tokens: u32,
    /// Candidates a graph search keeps.
    #[prost(uint32, tag = "9")]
    pub ef_search: u32,
    /// Whether sentences have vectors of their own.
    #[prost(bool, tag = "10")]
    pub index_sentences: bool,
    /// When it was made, in nanoseconds since 1970; set by the store.
    #[prost(int64, tag = "11")]
    pub create_time_ns: i64,
    /// When its record last changed; set by the store.
    #[prost(int64, tag = "12")]
    pub update_time_ns: i64,
    /// Changes with every change of the record; set by the store.
    #[prost(string, tag = "13")]
    pub etag: String,
    /// Name of the language of its texts; empty where a program that knew English alone made it.
    #[prost(string, tag = "14")]
    pub language: String,
}

impl CollectionRecord {
    /// The language of its texts; none where only a newer program knows it.
    pub fn language(&self) -> Language {
        Language::parse(&self.language).unwrap_or(Language::None)
    }
}

/// How a document's passages were made. All zeros where a program that did not write it down made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Processing {
    /// Version of the extraction and splitting.
    pub version: u32,
    /// Most tokens of a passage.
    pub max_tokens: u32,
    /// Tokens that neighbouring passages share.
    pub overlap_tokens: u32,
}

/// A stored document without its text.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentRecord {
    /// Id, unique in the collection.
    pub id: String,
    /// Title.
    pub title: String,
    /// Where it came from.
    pub source_uri: String,
    /// Media type of the source.
    pub media_type: String,
    /// BLAKE3 of what was ingested.
    pub content_hash: [u8; 32],
    /// Filterable values.
    pub metadata: Metadata,
    /// When a document of this id was first stored, in nanoseconds since 1970.
    pub create_time_ns: i64,
    /// When this version was stored.
    pub update_time_ns: i64,
    /// Number in the collection; a replacement gets a new one. Also its point at document level.
    pub doc_no: u32,
    /// Point of its first passage; the others follow.
    pub first_passage: u64,
    /// Number of passages.
    pub passage_count: u32,
    /// Length of its text.
    pub text_bytes: u64,
    /// Length of its text in tokens.
    pub token_count: u64,
    /// The title that its file has by itself, where that was written down.
    pub file_title: Option<String>,
    /// What its file says of itself; the metadata has it too, where the caller says nothing else.
    pub file_metadata: Metadata,
    /// How its passages were made.
    pub processing: Processing,
}

/// Key of the metadata that names a document's language: a name or an ISO 639 code.
pub const LANGUAGE_KEY: &str = "language";

impl DocumentRecord {
    /// Memory of its strings and metadata, as they are kept and in an answer, at most.
    pub fn shown_bytes(&self) -> usize {
        let value = |value: &MetadataValue| match value {
            MetadataValue::String(text) => text.len(),
            MetadataValue::StringList(list) => list.iter().map(|text| 64 + text.len()).sum(),
            MetadataValue::IntList(list) => size_of_val(list.as_slice()),
            MetadataValue::DoubleList(list) => size_of_val(list.as_slice()),
            _ => 0,
        };
        let both = self.metadata.iter().chain(&self.file_metadata);
        let metadata = both.map(|(key, v)| 256 + key.len() + value(v)).sum::<usize>();
        self.id.len() + self.title.len() + self.source_uri.len() + self.media_type.len() + metadata
    }

    /// Its language where its metadata names one, under [`LANGUAGE_KEY`].
    pub fn named_language(&self) -> Option<Language> {
        match self.metadata.get(LANGUAGE_KEY) {
            Some(MetadataValue::String(tag)) => Language::from_tag(tag),
            _ => None,
        }
    }

    /// Whether another record of the same document gives its passages other words to be found by.
    pub fn words_differ(&self, other: &Self) -> bool {
        self.title != other.title || self.named_language() != other.named_language()
    }

    /// Points of its passages.
    pub fn passages(&self) -> Range<u64> {
        self.first_passage..self.first_passage + u64::from(self.passage_count)
    }
}

/// A document that cannot be read.
#[derive(Debug)]
pub struct Damaged {
    /// Its id; empty where even that is lost.
    pub id: String,
    /// What is wrong with it.
    pub error: Error,
}

impl From<Error> for Damaged {
    /// The document that an error is about.
    fn from(error: Error) -> Self {
        let id = error.resource.as_ref().map(|resource| resource.name.clone()).unwrap_or_default();
        Self { id, error }
    }
}

/// A stored passage without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassageRecord {
    /// Number of its document.
    pub doc_no: u32,
    /// Position in the document, from zero.
    pub index: u32,
    /// Where in the document's text.
    pub span: Span,
    /// Heading path, outermost first.
    pub headings: Vec<String>,
    /// Page, from one.
    pub page: Option<u32>,
    /// Its sentences, as spans of the document's text.
    pub sentences: Vec<Span>,
}

/// A document to store.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewDocument {
    /// Id; a document of the same id is replaced.
    pub id: String,
    /// Title.
    pub title: String,
    /// Where it came from.
    pub source_uri: String,
    /// Media type of the source.
    pub media_type: String,
    /// BLAKE3 of what was ingested.
    pub content_hash: [u8; 32],
    /// Filterable values.
    pub metadata: Metadata,
    /// Text that all spans refer to.
    pub text: String,
    /// Passages in order.
    pub passages: Vec<NewPassage>,
    /// Vector of the whole document; empty where it has none.
    pub document_vector: Vec<f32>,
    /// Length of the text in tokens.
    pub token_count: u64,
    /// The title that its file has by itself; empty where it has none.
    pub file_title: String,
    /// What its file says of itself.
    pub file_metadata: Metadata,
    /// How its passages were made.
    pub processing: Processing,
}

/// New values for what describes a stored document; its content stays.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DocumentUpdate {
    /// Id.
    pub id: String,
    /// Number of the version that is meant: nothing happens to another.
    pub doc_no: u32,
    /// Title.
    pub title: String,
    /// Where it came from.
    pub source_uri: String,
    /// Filterable values.
    pub metadata: Metadata,
}

/// A passage to store.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewPassage {
    /// Where in the text.
    pub span: Span,
    /// Heading path, outermost first.
    pub headings: Vec<String>,
    /// Page, from one.
    pub page: Option<u32>,
    /// Its sentences, as spans of the text.
    pub sentences: Vec<Span>,
    /// Vector.
    pub vector: Vec<f32>,
    /// Vectors of the sentences, at most 256; empty where they are not indexed.
    pub sentence_vectors: Vec<Vec<f32>>,
}

/// A change that is on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// Collection.
    pub cid: u32,
    /// What came in.
    pub inserted: Option<Inserted>,
    /// The record of the document that went away or was replaced.
    pub removed: Option<DocumentRecord>,
    /// What became of a document whose title, source or metadata changed; its points stay.
    pub updated: Option<Updated>,
}

/// A document that is described anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Updated {
    /// Its record before.
    pub old: DocumentRecord,
    /// Its record now.
    pub new: DocumentRecord,
}

impl Committed {
    /// Ranges of points that are no longer there.
    pub fn removed_ranges(&self) -> Vec<(Level, Range<u64>)> {
        self.removed.as_ref().map(point_ranges).unwrap_or_default()
    }
}

/// A document that came in, with the points it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Inserted {
    /// Its record.
    pub record: DocumentRecord,
    /// Its content.
    pub document: NewDocument,
}

impl Inserted {
    /// Points and vectors of one level.
    pub fn points(&self, level: Level) -> Vec<(u64, &[f32])> {
        let passages = || self.record.passages().zip(&self.document.passages);
        match level {
            Level::Passage => passages().map(|(point, p)| (point, p.vector.as_slice())).collect(),
            Level::Sentence => passages()
                .flat_map(|(point, p)| {
                    (0u64..).zip(&p.sentence_vectors).map(move |(at, v)| (point << 8 | at, v.as_slice()))
                })
                .collect(),
            Level::Document if self.document.document_vector.is_empty() => Vec::new(),
            Level::Document => {
                vec![(u64::from(self.record.doc_no), self.document.document_vector.as_slice())]
            }
        }
    }
}

/// The points that belong to a document, by level.
pub(super) fn point_ranges(record: &DocumentRecord) -> Vec<(Level, Range<u64>)> {
    let passages = record.passages();
    let doc_no = u64::from(record.doc_no);
    let mut ranges = vec![(Level::Document, doc_no..doc_no + 1)];
    if !passages.is_empty() {
        ranges.push((Level::Sentence, passages.start << 8..passages.end << 8));
        ranges.push((Level::Passage, passages));
    }
    ranges
}

/// Hears of every change, in the order of the commits, before the writer is answered.
pub trait CommitListener: Send + Sync {
    /// Called on the committing thread: should return soon, and must not write to the store. An error is the answer that
    /// the writer gets; what was written is written.
    fn committed(&self, event: &Committed) -> crate::error::Result<()>;
}
