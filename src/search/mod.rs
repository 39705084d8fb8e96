//! The way of a query: encode, plan the filter, nearest vectors, exact scores, highlights.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::domain::{CollectionName, Filter, Level, Span};
use crate::encoder::{EmbedOptions, Encoders, Overflow};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{CollectionRecord, DocumentRecord, PassageRecord};

/// Most hits of one search.
pub const MAX_LIMIT: usize = 1000;
/// Hits where the caller names no limit.
pub const DEFAULT_LIMIT: usize = 10;
/// Most bytes of a query text.
const MAX_QUERY_BYTES: usize = 256 << 10;
/// Sentences marked in a hit.
const HIGHLIGHTS: usize = 2;
/// Candidates scored exactly beyond the limit: the index holds 8-bit codes.
const RESCORE_EXTRA: usize = 40;

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

/// How to search.
#[derive(Debug, Clone)]
pub struct Options {
    /// What a hit is.
    pub unit: Level,
    /// Most hits.
    pub limit: usize,
    /// Which documents.
    pub filter: Option<Filter>,
    /// Least similarity.
    pub score_threshold: Option<f32>,
    /// Candidates while searching; unset means the collection's setting.
    pub ef_search: Option<usize>,
    /// Whether to scan every vector.
    pub exact: bool,
    /// Most hits of one document; zero means no limit.
    pub max_per_document: usize,
    /// Whether hits carry their vectors.
    pub include_vectors: bool,
    /// Whether hits carry the sentences closest to the query.
    pub include_highlights: bool,
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
    /// Cosine similarity to the query.
    pub score: f32,
    /// The vector, if asked for.
    pub vector: Option<Vec<f32>>,
    /// The closest sentences, best first, by their spans in the document's text.
    pub highlights: Vec<(Span, f32)>,
}

/// What a search found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Hits, best first.
    pub hits: Vec<Hit>,
    /// How many more there would be, had their records not been damaged.
    pub damaged: usize,
}

/// Finds passages, sentences and documents.
pub struct Search {
    catalog: Arc<Catalog>,
    encoders: Encoders,
}

struct Scored {
    point: u64,
    doc_no: u32,
    score: f32,
    vector: Vec<f32>,
}

impl Search {
    /// A search over its parts.
    pub fn new(catalog: Arc<Catalog>, encoders: Encoders) -> Self {
        Self { catalog, encoders }
    }

    /// The hits of a query. A hit with a damaged record is left out, logged and counted.
    ///
    /// # Errors
    /// Bad input with its reason; `DATA_LOSS` where the filter needs a record that is damaged.
    pub async fn search(
        &self,
        collection: &CollectionName,
        query: Query,
        options: &Options,
    ) -> Result<Found> {
        if options.limit == 0 || options.limit > MAX_LIMIT {
            let message = format!("expected 1 to {MAX_LIMIT}, got {}", options.limit);
            return Err(Error::invalid_field("limit", "BAD_LIMIT", message));
        }
        let record = self.catalog.collection(collection)?;
        let vector = self.query_vector(&record, &query).await?;
        let excluded = match &query {
            Query::Document(id) => self.catalog.store().document(record.cid, id)?.map(|d| d.doc_no),
            _ => None,
        };
        let catalog = self.catalog.clone();
        let options = options.clone();
        tokio::task::spawn_blocking(move || retrieve(&catalog, &record, &vector, excluded, &options))
            .await
            .map_err(|e| Error::internal("SEARCH_FAILED", "the search failed").with_source(e))?
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
        let record = match collection {
            Some(name) => Some(self.catalog.collection(name)?),
            None => None,
        };
        let left = self.vector_of(record.as_ref(), left).await?;
        let right = self.vector_of(record.as_ref(), right).await?;
        if left.len() != right.len() {
            return Err(Error::invalid(
                "DIMENSION_MISMATCH",
                format!("expected vectors of one length, got {} and {}", left.len(), right.len()),
            ));
        }
        cosine(&left, &right)
    }

    async fn query_vector(&self, record: &CollectionRecord, query: &Query) -> Result<Vec<f32>> {
        let vector = self.vector_of(Some(record), query).await?;
        if vector.len() != record.dimensions as usize {
            let message =
                format!("expected a vector of {} components, got {}", record.dimensions, vector.len());
            return Err(Error::invalid_field("query.vector", "DIMENSION_MISMATCH", message));
        }
        unit(vector)
    }

    async fn vector_of(&self, record: Option<&CollectionRecord>, query: &Query) -> Result<Vec<f32>> {
        match query {
            Query::Vector(vector) => Ok(vector.clone()),
            Query::Text(text) if text.len() > MAX_QUERY_BYTES => {
                let message = format!("expected at most {MAX_QUERY_BYTES} bytes, got {}", text.len());
                Err(Error::invalid_field("query.text", "INPUT_TOO_LONG", message))
            }
            Query::Text(text) => {
                let encoder = match record {
                    Some(record) => self.encoders.bound(&record.model_id, &record.model_revision)?,
                    None => self.encoders.get("")?,
                };
                let prompt_name = encoder.query_prompt();
                let options =
                    EmbedOptions { overflow: Overflow::Window, prompt_name, ..EmbedOptions::document() };
                let output = encoder.embed(vec![text.clone()], &options).await?;
                let first = output.results.into_iter().next().and_then(|r| r.embeddings.into_iter().next());
                first
                    .map(|(_, vector)| vector)
                    .ok_or_else(|| Error::internal("NO_VECTOR", "the encoder gave no vector for the query"))
            }
            Query::Document(id) => {
                let record = record.ok_or_else(|| {
                    Error::invalid_field(
                        "collection",
                        "COLLECTION_REQUIRED",
                        "expected a name for a stored document, got none",
                    )
                })?;
                let store = self.catalog.store();
                let document = store.document(record.cid, id)?.ok_or_else(|| unknown_document(id))?;
                store.vector(record.cid, Level::Document, u64::from(document.doc_no))?.ok_or_else(|| {
                    Error::data_loss("MISSING_VECTOR", format!("the vector of document {id:?} is missing"))
                })
            }
        }
    }
}

/// The error for a document that is not there.
pub fn unknown_document(id: &str) -> Error {
    Error::not_found("UNKNOWN_DOCUMENT", format!("no document has the id {id:?}")).about("document", id)
}

fn unit(mut vector: Vec<f32>) -> Result<Vec<f32>> {
    if let Some(position) = vector.iter().position(|x| !x.is_finite()) {
        let message = format!("expected finite components, got {} at position {position}", vector[position]);
        return Err(Error::invalid_field("query.vector", "NOT_FINITE", message));
    }
    let greatest = vector.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    if greatest == 0.0 {
        let message = "expected a vector with a direction, got all zeros";
        return Err(Error::invalid_field("query.vector", "ZERO_VECTOR", message));
    }
    // Scaling first keeps very large and very small components from overflowing the norm.
    vector.iter_mut().for_each(|x| *x /= greatest);
    let norm = dot(&vector, &vector).sqrt();
    vector.iter_mut().for_each(|x| *x /= norm);
    Ok(vector)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn cosine(a: &[f32], b: &[f32]) -> Result<f32> {
    Ok(dot(&unit(a.to_vec())?, &unit(b.to_vec())?))
}

fn retrieve(
    catalog: &Catalog,
    record: &CollectionRecord,
    query: &[f32],
    excluded: Option<u32>,
    options: &Options,
) -> Result<Found> {
    let indexes = catalog.indexes(record)?;
    let mut allowed = options.filter.as_ref().map(|f| catalog.matching(record.cid, f)).transpose()?;
    let index = indexes.of(options.unit);
    let ef = options.ef_search.unwrap_or(record.ef_search as usize);
    let mut wanted = options.limit + RESCORE_EXTRA;
    if let Some(doc_no) = excluded {
        match &mut allowed {
            Some(bitmap) => {
                bitmap.remove(doc_no);
            }
            None => wanted += catalog.points_of(record.cid, doc_no)?,
        }
    }
    loop {
        let found = match index {
            Some(index) => index.search(query, wanted, ef.max(wanted), options.exact, allowed.as_ref())?,
            None => catalog.sentences_nearby(
                record,
                &indexes,
                query,
                (wanted, ef),
                options.exact,
                allowed.as_ref(),
            )?,
        };
        let exhausted = found.len() < wanted;
        let mut scored = Vec::with_capacity(found.len());
        let mut damaged = 0;
        for candidate in found.into_iter().filter(|c| Some(c.doc_no) != excluded) {
            let vector = catalog.store().vector(record.cid, options.unit, candidate.point);
            // A point that was removed since the index was read has no vector any more.
            let Some(vector) = unless_damaged(vector, &mut damaged)? else { continue };
            let score = dot(query, &vector);
            scored.push(Scored { point: candidate.point, doc_no: candidate.doc_no, score, vector });
        }
        scored.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.point.cmp(&b.point)));
        scored.retain(|s| options.score_threshold.is_none_or(|least| s.score >= least));
        let kept = limit_per_document(scored, options.max_per_document);
        // Below a score threshold the rest scores lower still.
        let complete = options.score_threshold.is_some() && options.max_per_document == 0;
        if kept.len() >= options.limit || exhausted || complete || wanted >= 64 * MAX_LIMIT {
            let mut hits = Vec::with_capacity(options.limit.min(kept.len()));
            for scored in kept {
                if hits.len() == options.limit {
                    break;
                }
                hits.extend(unless_damaged(hit(catalog, record, query, scored, options), &mut damaged)?);
            }
            return Ok(Found { hits, damaged });
        }
        wanted *= 4;
    }
}

/// What was read, or nothing where it is damaged, which is logged and counted: one damaged record must not
/// hide all the others, nor be hidden itself.
fn unless_damaged<T>(read: Result<Option<T>>, damaged: &mut usize) -> Result<Option<T>> {
    match read {
        Err(error) if error.kind == ErrorKind::DataLoss => {
            tracing::error!(%error, "a hit is left out");
            *damaged += 1;
            Ok(None)
        }
        other => other,
    }
}

fn limit_per_document(scored: Vec<Scored>, most: usize) -> Vec<Scored> {
    if most == 0 {
        return scored;
    }
    let mut counts: HashMap<u32, usize> = HashMap::new();
    scored
        .into_iter()
        .filter(|s| {
            let count = counts.entry(s.doc_no).or_default();
            *count += 1;
            *count <= most
        })
        .collect()
}

/// Reads what a hit shows; `None` where it was removed meanwhile.
fn hit(
    catalog: &Catalog,
    record: &CollectionRecord,
    query: &[f32],
    scored: Scored,
    options: &Options,
) -> Result<Option<Hit>> {
    let store = catalog.store();
    let Some(id) = store.document_id(record.cid, scored.doc_no)? else { return Ok(None) };
    let Some(document) = store.document(record.cid, &id)?.filter(|d| d.doc_no == scored.doc_no) else {
        return Ok(None);
    };
    let point = match options.unit {
        Level::Passage => scored.point,
        Level::Sentence => scored.point >> 8,
        Level::Document => document.first_passage,
    };
    let Some(passage) = store.passage(record.cid, point)? else { return Ok(None) };
    let span = match options.unit {
        Level::Sentence => {
            passage.sentences.get((scored.point & 0xff) as usize).copied().unwrap_or(passage.span)
        }
        Level::Passage | Level::Document => passage.span,
    };
    let text = store.text(record.cid, document.doc_no, span)?;
    let highlights = match options.include_highlights && options.unit != Level::Sentence {
        true => highlights(catalog, record.cid, query, point, &passage, &text)?,
        false => Vec::new(),
    };
    Ok(Some(Hit {
        text,
        document,
        passage_index: passage.index,
        span,
        headings: passage.headings,
        page: passage.page,
        score: scored.score,
        vector: options.include_vectors.then_some(scored.vector),
        highlights,
    }))
}

fn highlights(
    catalog: &Catalog,
    cid: u32,
    query: &[f32],
    point: u64,
    passage: &PassageRecord,
    text: &str,
) -> Result<Vec<(Span, f32)>> {
    let mut best = Vec::with_capacity(passage.sentences.len());
    for (position, span) in passage.sentences.iter().enumerate().take(256) {
        if !has_letters(text, passage.span, *span) {
            continue;
        }
        if let Some(vector) = catalog.store().vector(cid, Level::Sentence, point << 8 | position as u64)? {
            best.push((*span, dot(query, &vector)));
        }
    }
    best.sort_by(|a, b| b.1.total_cmp(&a.1));
    best.truncate(HIGHLIGHTS);
    Ok(best)
}

/// Whether a sentence of a passage says something: rows of numbers and dashes do not.
fn has_letters(text: &str, passage: Span, sentence: Span) -> bool {
    let start = sentence.start.saturating_sub(passage.start);
    let within = Span::new(start, start.saturating_add(sentence.len()));
    within.slice(text).is_some_and(|sentence| sentence.chars().any(char::is_alphabetic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_query_vectors_are_refused() {
        assert_eq!(unit(vec![0.0; 4]).unwrap_err().reason, "ZERO_VECTOR");
        assert_eq!(unit(vec![1.0, f32::NAN]).unwrap_err().reason, "NOT_FINITE");
        let huge = unit(vec![f32::MAX, f32::MAX]).unwrap();
        assert!((dot(&huge, &huge) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn highlights_have_letters() {
        let passage = Span::new(10, 25);
        assert!(has_letters("Übers. --- 12.", passage, Span::new(10, 17)));
        assert!(!has_letters("Übers. --- 12.", passage, Span::new(18, 21)));
        assert!(!has_letters("Übers. --- 12.", passage, Span::new(22, 25)));
        assert!(!has_letters("short", passage, Span::new(90, 99)));
    }

    #[test]
    fn damage_is_counted_and_other_errors_stop() {
        let mut damaged = 0;
        assert_eq!(unless_damaged(Ok(Some(1)), &mut damaged).unwrap(), Some(1));
        assert_eq!(unless_damaged::<()>(Err(Error::data_loss("X", "x")), &mut damaged).unwrap(), None);
        assert!(unless_damaged::<()>(Err(Error::internal("X", "x")), &mut damaged).is_err());
        assert_eq!(damaged, 1);
    }

    #[test]
    fn a_document_gives_no_more_hits_than_asked() {
        let scored = |doc_no, point| Scored { point, doc_no, score: 1.0, vector: vec![] };
        let kept = limit_per_document(vec![scored(1, 0), scored(1, 1), scored(2, 2), scored(1, 3)], 1);
        assert_eq!(kept.iter().map(|s| s.point).collect::<Vec<_>>(), [0, 2]);
    }
}
