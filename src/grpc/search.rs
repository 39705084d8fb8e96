use std::sync::Arc;

use tonic::{Request, Response};

use super::{Reply, convert};
use crate::domain::{CollectionName, Level};
use crate::error::{Error, Result};
use crate::proto;
use crate::search::{self, DEFAULT_LIMIT, Hit, Options, Query};

/// Most searches of one batch.
const MAX_BATCH: usize = 256;

/// SearchService.
pub struct Search {
    /// Runs the searches.
    pub search: Arc<search::Search>,
}

impl Search {
    async fn one(&self, request: proto::SearchRequest) -> Result<proto::SearchResponse> {
        let collection = CollectionName::new(request.collection.clone())?;
        let options = options_in(&request)?;
        let query = query_in(request.query)?;
        let hits = self.search.search(&collection, query, &options).await?;
        Ok(proto::SearchResponse { hits: hits.into_iter().map(hit_out).collect(), usage: None })
    }
}

/// How to search, without what to look for.
pub(super) fn options_in(request: &proto::SearchRequest) -> Result<Options> {
    let options = Options {
        unit: unit_in(request.unit)?,
        limit: if request.limit == 0 { DEFAULT_LIMIT } else { request.limit as usize },
        filter: convert::filter_in(request.filter.clone())?,
        score_threshold: request.score_threshold,
        ef_search: request.ef_search.map(|ef| ef as usize),
        exact: request.exact,
        max_per_document: request.max_per_document as usize,
        include_vectors: request.include_vectors,
        include_highlights: request.include_highlights,
    };
    if options.score_threshold.is_some_and(f32::is_nan) {
        return Err(Error::invalid("NOT_FINITE", "score_threshold: expected a number, got NaN"));
    }
    if options.ef_search.is_some_and(|ef| ef == 0 || ef > 10_000) {
        return Err(Error::invalid("BAD_EF_SEARCH", "ef_search: expected 1 to 10000"));
    }
    Ok(options)
}

pub(super) fn query_in(query: Option<proto::SearchQuery>) -> Result<Query> {
    use proto::search_query::Query as Message;
    match query.and_then(|q| q.query) {
        Some(Message::Text(text)) if text.trim().is_empty() => {
            Err(Error::invalid("EMPTY_INPUT", "query.text: expected a text, got an empty one"))
        }
        Some(Message::Text(text)) => Ok(Query::Text(text)),
        Some(Message::Vector(vector)) => Ok(Query::Vector(vector.values)),
        Some(Message::DocumentId(id)) => Ok(Query::Document(id)),
        None => Err(Error::invalid("EMPTY_QUERY", "query: expected a text, vector or document id, got none")),
    }
}

fn unit_in(unit: i32) -> Result<Level> {
    use proto::SearchUnit;
    match SearchUnit::try_from(unit) {
        Ok(SearchUnit::Unspecified | SearchUnit::Passage) => Ok(Level::Passage),
        Ok(SearchUnit::Sentence) => Ok(Level::Sentence),
        Ok(SearchUnit::Document) => Ok(Level::Document),
        Err(_) => {
            Err(Error::invalid("UNKNOWN_ENUM_VALUE", format!("unit: expected a known value, got {unit}")))
        }
    }
}

pub(super) fn hit_out(hit: Hit) -> proto::SearchHit {
    let highlights = hit.highlights.iter().map(|(span, similarity)| proto::Highlight {
        span: Some(proto::ByteSpan {
            start: span.start.saturating_sub(hit.span.start),
            end: span.end.saturating_sub(hit.span.start),
        }),
        similarity: *similarity,
    });
    let highlights = highlights.collect();
    proto::SearchHit {
        metadata: convert::metadata_out(&hit.document.metadata),
        passage: Some(proto::Passage {
            document_id: hit.document.id,
            passage_index: hit.passage_index,
            span: Some(convert::span(hit.span)),
            text: hit.text,
            headings: hit.headings,
            page_number: hit.page,
        }),
        score: hit.score,
        vector: hit.vector.map(|values| proto::DenseVector { values }),
        highlights,
    }
}

#[tonic::async_trait]
impl proto::search_service_server::SearchService for Search {
    async fn search(&self, request: Request<proto::SearchRequest>) -> Reply<proto::SearchResponse> {
        Ok(Response::new(self.one(request.into_inner()).await?))
    }

    async fn batch_search(
        &self,
        request: Request<proto::BatchSearchRequest>,
    ) -> Reply<proto::BatchSearchResponse> {
        let requests = request.into_inner().requests;
        if requests.is_empty() || requests.len() > MAX_BATCH {
            let message = format!("requests: expected 1 to {MAX_BATCH}, got {}", requests.len());
            return Err(Error::invalid("BATCH_TOO_LARGE", message).into());
        }
        let searches = requests.into_iter().map(|request| self.one(request));
        let responses = futures::future::try_join_all(searches).await?;
        Ok(Response::new(proto::BatchSearchResponse { responses }))
    }

    async fn compare(&self, request: Request<proto::CompareRequest>) -> Reply<proto::CompareResponse> {
        let request = request.into_inner();
        let collection = match request.collection.as_str() {
            "" => None,
            name => Some(CollectionName::new(name)?),
        };
        let (left, right) = (query_in(request.left)?, query_in(request.right)?);
        let similarity = self.search.compare(collection.as_ref(), &left, &right).await?;
        Ok(Response::new(proto::CompareResponse { similarity }))
    }
}
