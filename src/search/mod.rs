//! The way of a query: encode, plan the filter, nearest vectors, exact scores, highlights.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::domain::{CollectionName, Filter, Level, Span};
use crate::encoder::{EmbedOptions, Encoders, Overflow};
use crate::error::{Error, Result};
use crate::store::{CollectionRecord, DocumentRecord, PassageRecord};

/// Most hits of one search.
pub const MAX_LIMIT: usize = 1000;
/// Hits where the caller names no limit.
pub const DEFAULT_LIMIT: usize = 10;
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

    /// The hits of a query, best first.
    ///
    /// # Errors
    /// Bad input with its reason; `DATA_LOSS` where a record is damaged.
    pub async fn search(
        &self,
        collection: &CollectionName,
        query: Query,
        options: &Options,
    ) -> Result<Vec<Hit>> {
        if options.limit == 0 || options.limit > MAX_LIMIT {
            return Err(Error::invalid(
                "BAD_LIMIT",
                format!("limit: expected 1 to {MAX_LIMIT}, got {}", options.limit),
            ));
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
            return Err(Error::invalid(
                "DIMENSION_MISMATCH",
                format!("expected a vector of {} components, got {}", record.dimensions, vector.len()),
            ));
        }
        unit(vector)
    }

    async fn vector_of(&self, record: Option<&CollectionRecord>, query: &Query) -> Result<Vec<f32>> {
        match query {
            Query::Vector(vector) => Ok(vector.clone()),
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
                    Error::invalid(
                        "COLLECTION_REQUIRED",
                        "collection: expected a name for a stored document, got none",
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
    Error::not_found("UNKNOWN_DOCUMENT", format!("no document has the id {id:?}"))
}

fn unit(mut vector: Vec<f32>) -> Result<Vec<f32>> {
    if let Some(position) = vector.iter().position(|x| !x.is_finite()) {
        return Err(Error::invalid(
            "NOT_FINITE",
            format!("expected finite components, got {} at position {position}", vector[position]),
        ));
    }
    let greatest = vector.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    if greatest == 0.0 {
        return Err(Error::invalid("ZERO_VECTOR", "expected a vector with a direction, got all zeros"));
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
) -> Result<Vec<Hit>> {
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
        for candidate in found.into_iter().filter(|c| Some(c.doc_no) != excluded) {
            // A point that was removed since the index was read has no vector any more.
            let Some(vector) = catalog.store().vector(record.cid, options.unit, candidate.point)? else {
                continue;
            };
            let score = dot(query, &vector);
            scored.push(Scored { point: candidate.point, doc_no: candidate.doc_no, score, vector });
        }
        scored.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.point.cmp(&b.point)));
        scored.retain(|s| options.score_threshold.is_none_or(|least| s.score >= least));
        let kept = limit_per_document(scored, options.max_per_document);
        if kept.len() >= options.limit || exhausted || wanted >= 64 * MAX_LIMIT {
            return kept
                .into_iter()
                .take(options.limit)
                .filter_map(|s| hit(catalog, record, query, s, options).transpose())
                .collect();
        }
        if options.score_threshold.is_some() && options.max_per_document == 0 {
            // The rest scores lower still.
            return kept
                .into_iter()
                .filter_map(|s| hit(catalog, record, query, s, options).transpose())
                .collect();
        }
        wanted *= 4;
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
    let highlights = match options.include_highlights && options.unit != Level::Sentence {
        true => highlights(catalog, record.cid, query, point, &passage)?,
        false => Vec::new(),
    };
    let text = store.text(record.cid, document.doc_no, span)?;
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
) -> Result<Vec<(Span, f32)>> {
    let mut best = Vec::with_capacity(passage.sentences.len());
    for (position, span) in passage.sentences.iter().enumerate().take(256) {
        if let Some(vector) = catalog.store().vector(cid, Level::Sentence, point << 8 | position as u64)? {
            best.push((*span, dot(query, &vector)));
        }
    }
    best.sort_by(|a, b| b.1.total_cmp(&a.1));
    best.truncate(HIGHLIGHTS);
    Ok(best)
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
    fn a_document_gives_no_more_hits_than_asked() {
        let scored = |doc_no, point| Scored { point, doc_no, score: 1.0, vector: vec![] };
        let kept = limit_per_document(vec![scored(1, 0), scored(1, 1), scored(2, 2), scored(1, 3)], 1);
        assert_eq!(kept.iter().map(|s| s.point).collect::<Vec<_>>(), [0, 2]);
    }
}
