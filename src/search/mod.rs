//! The way of a query: encode, plan the filter, candidates by vectors and by words, exact scores, fusion,
//! highlights.

mod candidates;
mod distinct;
mod fusion;
mod hits;
mod rerank;
mod retrieve;
#[cfg(test)]
mod tests;
mod vectors;

use std::sync::Arc;
use std::time::Duration;

use tracing::{Instrument, debug_span};

pub use fusion::{DEFAULT_SENTENCE_WEIGHT, Fusion, FusionMethod};
pub use rerank::{DEFAULT_DEPTH, DEFAULT_WEIGHT, Rerank, RerankMethod};
use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, Reading};
use crate::domain::{CollectionName, Filter, Level, Span};
use crate::encoder::{CrossEncoders, EmbedOptions, Encoders, Overflow};
use crate::error::{Error, Result};
use crate::room::AnswerRoom;
use crate::store::{CollectionRecord, DocumentRecord};
use crate::task;
use candidates::{Excluded, Probe};
use rerank::Reranker;
use retrieve::retrieve;
use vectors::{cosine, unit};

/// Most hits of one search.
pub const MAX_LIMIT: usize = 1000;
/// Hits where the caller names no limit.
pub const DEFAULT_LIMIT: usize = 10;
/// Most other places that a hit tells.
pub const MOST_REPEATS: usize = 20;
/// Most bytes of a query text.
const MAX_QUERY_BYTES: usize = 256 << 10;

/// What to look for.
#[derive(Debug, Clone)]
pub enum Query {
    /// A text, embedded with the collection's encoder.
    Text(String),
    /// A vector of the collection's dimension.
    Vector(Vec<f32>),
    /// What is like this stored document, which is left out of the hits.
    Document(String),
}

/// What a search goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The nearest vectors.
    Vector,
    /// The words: BM25.
    Keyword,
    /// Both, fused.
    Hybrid,
}

/// How to search.
#[derive(Debug, Clone)]
pub struct Options {
    /// What a hit is.
    pub unit: Level,
    /// Whether the last word of a text may be the beginning of one, in searches that go by words.
    pub is_last_word_prefix: bool,
    /// Whether the same passage of several documents is a hit for each, not one with its other places.
    pub keeps_repeats: bool,
    /// What the search goes by; unset means [`Mode::Hybrid`] for texts and [`Mode::Vector`] for vectors, documents
    /// and where hits are sentences.
    pub mode: Option<Mode>,
    /// How a hybrid search fuses; unset means the default.
    pub fusion: Option<Fusion>,
    /// Most hits.
    pub limit: usize,
    /// Which documents.
    pub filter: Option<Filter>,
    /// Least score.
    pub score_threshold: Option<f32>,
    /// Candidates while searching; unset means the collection's setting.
    pub ef_search: Option<usize>,
    /// Whether to scan every vector.
    pub exact: bool,
    /// Most hits of one document; zero means no limit.
    pub max_per_document: usize,
    /// Whether and how the best hits are scored again.
    pub rerank: Option<Rerank>,
    /// Whether hits carry their vectors.
    pub include_vectors: bool,
    /// Whether hits carry the sentences closest to the query.
    pub include_highlights: bool,
    /// Room for the hits, and what reading the query takes.
    pub room: AnswerRoom,
}

/// One result.
#[derive(Debug, Clone)]
pub struct Hit {
    /// Its document.
    pub document: DocumentRecord,
    /// Position among the document's passages; zero for a whole document.
    pub passage_index: u32,
    /// Where in the document's text.
    pub span: Span,
    /// The text; a document's hit has that of its first passage.
    pub text: String,
    /// Heading path.
    pub headings: Vec<String>,
    /// Page, from one.
    pub page: Option<u32>,
    /// What it is ranked by unless it was scored again: cosine similarity, BM25, or what the fusion makes of both.
    pub score: f32,
    /// Cosine similarity to the query; unset in searches by words alone.
    pub vector_score: Option<f32>,
    /// Greatest cosine similarity of one of its sentences; unset where it was not weighed in.
    pub sentence_score: Option<f32>,
    /// BM25 score; unset in searches by vectors alone, and where the words did not find it.
    pub keyword_score: Option<f32>,
    /// What it is ranked by where it was scored again.
    pub rerank_score: Option<f32>,
    /// The vector, if asked for.
    pub vector: Option<Vec<f32>>,
    /// The closest sentences, best first, by their spans in the document's text.
    pub highlights: Vec<(Span, f32)>,
    /// Where else the same text stands, best first: at most [`MOST_REPEATS`].
    pub repeats: Vec<Place>,
    /// How many such places there are among the candidates.
    pub repeat_count: u32,
}

/// Where a passage stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its document.
    pub document_id: String,
    /// Title of the document.
    pub title: String,
    /// Where the document came from.
    pub source_uri: String,
    /// Position among the document's passages.
    pub passage_index: u32,
    /// Where in the document's text.
    pub span: Span,
    /// Page, from one.
    pub page: Option<u32>,
}

/// Memory that reading a query takes for each of its bytes, at most: every byte may be a token.
const QUERY_MEMORY: usize = 64;

/// What it took to encode a query; nothing where it was not encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Tokens of its text.
    pub tokens: u32,
    /// Longest wait for a session.
    pub queue: Duration,
    /// Longest run.
    pub inference: Duration,
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Hits, best first.
    pub hits: Vec<Hit>,
    /// How many more there would be, had their records not been damaged.
    pub damaged: usize,
    /// What the search went by: by vectors alone, a hybrid search whose text has no word to look up or whose keyword
    /// index cannot be read at the moment.
    pub mode: Mode,
    /// What the query took; scoring hits again is not counted.
    pub cost: Cost,
}

/// Finds passages, sentences and documents.
pub struct Search {
    catalog: Arc<Catalog>,
    encoders: Encoders,
    cross_encoders: CrossEncoders,
}

impl Search {
    /// A search over its parts.
    pub fn new(catalog: Arc<Catalog>, encoders: Encoders, cross_encoders: CrossEncoders) -> Self {
        Self { catalog, encoders, cross_encoders }
    }

    /// The hits of a query: of the collection as it is when the search begins, even if it is deleted or replaced
    /// meanwhile. Each matches the filter with the record that it shows. A hit with a damaged record is left out, logged
    /// and counted.
    ///
    /// # Errors
    /// Bad input with its reason.
    pub async fn search(
        &self,
        collection: &CollectionName,
        query: Query,
        options: &Options,
    ) -> Result<Found> {
        self.search_in(&self.catalog.read(collection)?, query, options).await
    }

    /// The hits of a query in a collection that is read already, so that what belongs to the hits can be read afterwards.
    ///
    /// # Errors
    /// As [`Search::search`].
    pub async fn search_in(&self, reading: &Reading, query: Query, options: &Options) -> Result<Found> {
        if options.limit == 0 || options.limit > MAX_LIMIT {
            let message = format!("expected 1 to {MAX_LIMIT}, got {}", options.limit);
            return Err(Error::invalid_field("limit", "BAD_LIMIT", message));
        }
        let (record, query) = (reading.record(), &query);
        let mode = mode_of(query, options)?;
        let rerank = self.reranker(record, query, options)?;
        let (vector, cost) = match mode {
            Mode::Keyword if !options.include_highlights => {
                check_query(query)?;
                (None, Cost::default())
            }
            _ => {
                let bytes = if let Query::Text(text) = query { text.len() } else { 0 };
                let _reading = options.room.hold(bytes.min(MAX_QUERY_BYTES) * QUERY_MEMORY)?;
                let (vector, cost) = self.query_vector(record, query).await?;
                (Some(vector), cost)
            }
        };
        let excluded = match query {
            Query::Document(id) => self.catalog.store().document(record.cid, id)?.map(excluded),
            _ => None,
        };
        let text = match query {
            Query::Text(text) if mode != Mode::Vector => text.clone(),
            _ => String::new(),
        };
        let caller = CancellationToken::new();
        let _leaves = caller.clone().drop_guard();
        let fusion = options.fusion.unwrap_or_default();
        let is_last_word_prefix = options.is_last_word_prefix;
        let probe = Probe { mode, fusion, vector, text, is_last_word_prefix, excluded, caller };
        let (catalog, reading) = (self.catalog.clone(), reading.clone());
        let mut options = options.clone();
        let limit = options.limit;
        options.limit = limit.max(rerank.as_ref().map_or(0, |(_, _, depth)| *depth));
        let by_ranks = matches!(fusion.method, FusionMethod::ReciprocalRank { .. });
        let work = task::blocking("SEARCH_FAILED", move || retrieve(&catalog, &reading, probe, &options));
        let mut found = work.instrument(debug_span!("search")).await?;
        found.cost = cost;
        if let Some((reranker, text, depth)) = rerank {
            let is_bounded = rerank::is_bounded(found.mode, by_ranks);
            let work = reranker.run(&text, depth, is_bounded, &mut found.hits);
            work.instrument(debug_span!("search.rerank")).await?;
            found.hits.truncate(limit);
        }
        Ok(found)
    }

    /// The model that scores hits again, the query's text, and how many hits.
    ///
    /// # Errors
    /// `BAD_RERANK` where the query or the unit does not allow it; what is wrong with the model.
    fn reranker(
        &self,
        record: &CollectionRecord,
        query: &Query,
        options: &Options,
    ) -> Result<Option<(Reranker, String, usize)>> {
        let Some(rerank) = &options.rerank else { return Ok(None) };
        rerank.check()?;
        let (Query::Text(text), Level::Passage) = (query, options.unit) else {
            let message = "expected none: only passages that a text is searched by are scored again";
            return Err(Error::invalid_field("rerank", "BAD_RERANK", message));
        };
        let reranker = match &rerank.method {
            RerankMethod::LateInteraction { weight } => {
                let encoder = self.encoders.bound(&record.model_id, &record.model_revision)?.clone();
                Reranker::LateInteraction { encoder, weight: *weight }
            }
            RerankMethod::CrossEncoder(id) => Reranker::CrossEncoder(self.cross_encoders.get(id)?.clone()),
        };
        Ok(Some((reranker, text.clone(), rerank.depth)))
    }

    /// Cosine similarity of two queries.
    ///
    /// # Errors
    /// Bad input with its reason.
    pub async fn compare(
        &self,
        collection: Option<&CollectionName>,
        left: &Query,
        right: &Query,
    ) -> Result<f32> {
        let reading = collection.map(|name| self.catalog.read(name)).transpose()?;
        let record = reading.as_ref().map(Reading::record);
        let (left, _) = self.vector_of(record, left).await?;
        let (right, _) = self.vector_of(record, right).await?;
        if left.len() != right.len() {
            return Err(Error::invalid(
                "DIMENSION_MISMATCH",
                format!("expected vectors of one length, got {} and {}", left.len(), right.len()),
            ));
        }
        cosine(&left, &right)
    }

    async fn query_vector(&self, record: &CollectionRecord, query: &Query) -> Result<(Vec<f32>, Cost)> {
        let (vector, cost) = self.vector_of(Some(record), query).await?;
        if vector.len() != record.dimensions as usize {
            let message =
                format!("expected a vector of {} components, got {}", record.dimensions, vector.len());
            return Err(Error::invalid_field("query.vector", "DIMENSION_MISMATCH", message));
        }
        Ok((unit(vector)?, cost))
    }

    async fn vector_of(&self, record: Option<&CollectionRecord>, query: &Query) -> Result<(Vec<f32>, Cost)> {
        match query {
            Query::Vector(vector) => Ok((vector.clone(), Cost::default())),
            Query::Text(text) => {
                check_query(query)?;
                let encoder = match record {
                    Some(record) => self.encoders.bound(&record.model_id, &record.model_revision)?,
                    None => self.encoders.get("")?,
                };
                let prompt_name = encoder.query_prompt();
                let options =
                    EmbedOptions { overflow: Overflow::Window, prompt_name, ..EmbedOptions::document() };
                let output = encoder.embed_interactive(vec![text.clone()], &options).await?;
                let (queue, inference) = (output.queue, output.inference);
                let first = output.results.into_iter().next().and_then(|result| {
                    let (_, vector) = result.embeddings.into_iter().next()?;
                    Some((vector, Cost { tokens: result.tokens, queue, inference }))
                });
                first.ok_or_else(|| Error::internal("NO_VECTOR", "the encoder gave no vector for the query"))
            }
            Query::Document(id) => {
                let record = record.ok_or_else(|| {
                    Error::invalid_field(
                        "collection",
                        "COLLECTION_REQUIRED",
                        "expected a name for a stored document, got none",
                    )
                })?;
                let vector = self.catalog.store().document_vector(record.cid, id)?;
                vector.map(|vector| (vector, Cost::default())).ok_or_else(|| unknown_document(id))
            }
        }
    }
}

/// A document that is left out.
fn excluded(document: DocumentRecord) -> Excluded {
    let passages = document.passage_count as usize;
    Excluded { id: document.id, doc_no: document.doc_no, passages }
}

/// What a search goes by.
///
/// # Errors
/// `BAD_SEARCH_MODE` where the query or the unit does not allow what was asked for; `BAD_FUSION`.
fn mode_of(query: &Query, options: &Options) -> Result<Mode> {
    let has_words = matches!(query, Query::Text(_)) && options.unit != Level::Sentence;
    let mode = options.mode.unwrap_or(if has_words { Mode::Hybrid } else { Mode::Vector });
    if mode != Mode::Vector && !has_words {
        let message = "expected vector, which sentences are found by, and what is like a vector or document";
        return Err(Error::invalid_field("mode", "BAD_SEARCH_MODE", message));
    }
    if let Some(fusion) = options.fusion {
        if mode != Mode::Hybrid {
            let message = "expected none, since only a hybrid search fuses";
            return Err(Error::invalid_field("fusion", "BAD_FUSION", message));
        }
        fusion.check()?;
    }
    Ok(mode)
}

fn check_query(query: &Query) -> Result<()> {
    match query {
        Query::Text(text) if text.len() > MAX_QUERY_BYTES => {
            let message = format!("expected at most {MAX_QUERY_BYTES} bytes, got {}", text.len());
            Err(Error::invalid_field("query.text", "INPUT_TOO_LONG", message))
        }
        _ => Ok(()),
    }
}

/// The error for a document that is not there.
pub fn unknown_document(id: &str) -> Error {
    Error::not_found("UNKNOWN_DOCUMENT", format!("no document has the id {id:?}")).about("document", id)
}
