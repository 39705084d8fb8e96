use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use tonic::{Request, Response};

use super::status::to_status;
use super::{Reply, convert};
use crate::access::Caller;
use crate::domain::{Level, bounds};
use crate::error::{Error, Result};
use crate::proto;
use crate::room::AnswerRoom;
use crate::search::{
    self, DEFAULT_DEPTH, DEFAULT_LIMIT, DEFAULT_SENTENCE_WEIGHT, DEFAULT_WEIGHT, Fusion, FusionMethod, Hit,
    Mode, Options, Place, Query, Rerank, RerankMethod,
};

/// Most candidates that a call may ask for.
const MAX_EF_SEARCH: u32 = 10_000;

/// Searches of one batch that run at once.
const IN_FLIGHT: usize = 16;

/// SearchService.
pub struct Search {
    /// Runs the searches.
    pub search: Arc<search::Search>,
    /// Most searches of one batch.
    pub max_batch_size: usize,
    /// Most bytes of an answer.
    pub max_message_bytes: usize,
}

impl Search {
    async fn one(
        &self,
        caller: &Caller,
        mut request: proto::SearchRequest,
        room: AnswerRoom,
    ) -> Result<proto::SearchResponse> {
        let collection =
            super::collection_name(caller, "collection", std::mem::take(&mut request.collection))?;
        let options = options_in(&mut request, room)?;
        let query = query_in(request.query)?;
        let found = self.search.search(&collection, query, &options).await?;
        Ok(proto::SearchResponse {
            hits: found.hits.into_iter().map(hit_out).collect(),
            usage: Some(proto::Usage {
                prompt_tokens: found.cost.tokens,
                queue_duration: prost_types::Duration::try_from(found.cost.queue).ok(),
                inference_duration: prost_types::Duration::try_from(found.cost.inference).ok(),
                ..Default::default()
            }),
            damaged_hits: found.damaged as u32,
            mode: mode_out(found.mode).into(),
        })
    }
}

/// How to search, without what to look for.
pub(super) fn options_in(request: &mut proto::SearchRequest, room: AnswerRoom) -> Result<Options> {
    let options = Options {
        unit: unit_in(request.unit)?,
        is_last_word_prefix: request.prefix_last_word,
        keeps_repeats: request.keep_repeats,
        mode: mode_in(request.mode)?,
        fusion: fusion_in(request.fusion.as_ref())?,
        limit: if request.limit == 0 { DEFAULT_LIMIT } else { request.limit as usize },
        filter: convert::filter_in(request.filter.take())?,
        score_threshold: request.score_threshold,
        ef_search: request.ef_search.map(|ef| ef as usize),
        exact: request.exact,
        max_per_document: request.max_per_document as usize,
        rerank: rerank_in(request.rerank.as_ref())?,
        include_vectors: request.include_vectors,
        include_highlights: request.include_highlights,
        room,
    };
    if options.score_threshold.is_some_and(f32::is_nan) {
        let message = "expected a number, got NaN";
        return Err(Error::invalid_field("score_threshold", "NOT_FINITE", message));
    }
    if let Some(ef) = request.ef_search {
        check_ef_search("ef_search", ef)?;
    }
    Ok(options)
}

/// Checks how many candidates are looked at.
pub(super) fn check_ef_search(field: &str, ef: u32) -> Result<()> {
    if !(1..=MAX_EF_SEARCH).contains(&ef) {
        let message = format!("expected 1 to {MAX_EF_SEARCH}, got {ef}");
        return Err(Error::invalid_field(field, "BAD_EF_SEARCH", message));
    }
    Ok(())
}

pub(super) fn query_in(query: Option<proto::SearchQuery>) -> Result<Query> {
    use proto::search_query::Query as Message;
    match query.and_then(|q| q.query) {
        Some(Message::Text(text)) if text.trim().is_empty() => {
            Err(Error::invalid_field("query.text", "EMPTY_INPUT", "expected a text, got an empty one"))
        }
        Some(Message::Text(text)) => Ok(Query::Text(text)),
        Some(Message::Vector(vector)) => Ok(Query::Vector(vector.values)),
        Some(Message::DocumentId(id)) => Ok(Query::Document(id)),
        None => {
            let message = "expected a text, vector or document id, got none";
            Err(Error::invalid_field("query", "EMPTY_QUERY", message))
        }
    }
}

fn unit_in(unit: i32) -> Result<Level> {
    use proto::SearchUnit;
    match SearchUnit::try_from(unit) {
        Ok(SearchUnit::Unspecified | SearchUnit::Passage) => Ok(Level::Passage),
        Ok(SearchUnit::Sentence) => Ok(Level::Sentence),
        Ok(SearchUnit::Document) => Ok(Level::Document),
        Err(_) => Err(super::unknown_value("unit", unit)),
    }
}

fn mode_in(mode: i32) -> Result<Option<Mode>> {
    use proto::SearchMode;
    match SearchMode::try_from(mode) {
        Ok(SearchMode::Unspecified) => Ok(None),
        Ok(SearchMode::Vector) => Ok(Some(Mode::Vector)),
        Ok(SearchMode::Keyword) => Ok(Some(Mode::Keyword)),
        Ok(SearchMode::Hybrid) => Ok(Some(Mode::Hybrid)),
        Err(_) => Err(super::unknown_value("mode", mode)),
    }
}

fn mode_out(mode: Mode) -> proto::SearchMode {
    match mode {
        Mode::Vector => proto::SearchMode::Vector,
        Mode::Keyword => proto::SearchMode::Keyword,
        Mode::Hybrid => proto::SearchMode::Hybrid,
    }
}

/// A message without a method takes the default one.
fn fusion_in(fusion: Option<&proto::Fusion>) -> Result<Option<Fusion>> {
    use proto::fusion::Method;
    let Some(message) = fusion else { return Ok(None) };
    let method = match &message.method {
        None => Fusion::default().method,
        Some(Method::RrfK(k)) => FusionMethod::ReciprocalRank { k: *k },
        Some(Method::Alpha(alpha)) => FusionMethod::Weighted { alpha: *alpha },
    };
    if let (FusionMethod::ReciprocalRank { .. }, Some(weight)) = (method, message.sentence_weight) {
        let message = format!("expected none with rrf_k, which goes by ranks, got {weight}");
        return Err(Error::invalid_field("fusion.sentence_weight", "BAD_FUSION", message));
    }
    let fusion =
        Fusion { method, sentence_weight: message.sentence_weight.unwrap_or(DEFAULT_SENTENCE_WEIGHT) };
    fusion.check()?;
    Ok(Some(fusion))
}

/// A message without a method takes late interaction.
fn rerank_in(rerank: Option<&proto::Rerank>) -> Result<Option<Rerank>> {
    use proto::rerank::Method;
    let Some(message) = rerank else { return Ok(None) };
    let method = match &message.method {
        None => RerankMethod::LateInteraction { weight: DEFAULT_WEIGHT },
        Some(Method::LateInteraction(late)) => {
            RerankMethod::LateInteraction { weight: late.weight.unwrap_or(DEFAULT_WEIGHT) }
        }
        Some(Method::CrossEncoder(id)) => RerankMethod::CrossEncoder(id.clone()),
    };
    let depth = if message.depth == 0 { DEFAULT_DEPTH } else { message.depth as usize };
    let rerank = Rerank { method, depth };
    rerank.check()?;
    Ok(Some(rerank))
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
        title: bounds::shown(hit.document.title, bounds::TITLE_BYTES),
        source_uri: bounds::shown(hit.document.source_uri, bounds::SOURCE_URI_BYTES),
        metadata: convert::metadata_out(bounds::shown_metadata(hit.document.metadata)),
        passage: Some(proto::Passage {
            document_id: hit.document.id,
            passage_index: hit.passage_index,
            span: Some(convert::span(hit.span)),
            text: hit.text,
            headings: hit.headings,
            page_number: hit.page,
        }),
        score: hit.score,
        vector_score: hit.vector_score,
        sentence_score: hit.sentence_score,
        keyword_score: hit.keyword_score,
        rerank_score: hit.rerank_score,
        vector: hit.vector.map(|values| proto::DenseVector { values }),
        highlights,
        repeats: hit.repeats.into_iter().map(place_out).collect(),
        repeat_count: hit.repeat_count,
    }
}

fn place_out(place: Place) -> proto::Place {
    proto::Place {
        document_id: place.document_id,
        passage_index: place.passage_index,
        span: Some(convert::span(place.span)),
        page_number: place.page,
        title: bounds::shown(place.title, bounds::TITLE_BYTES),
        source_uri: bounds::shown(place.source_uri, bounds::SOURCE_URI_BYTES),
    }
}

#[tonic::async_trait]
impl proto::search_service_server::SearchService for Search {
    async fn search(&self, request: Request<proto::SearchRequest>) -> Reply<proto::SearchResponse> {
        let caller = super::caller(&request).map_err(to_status)?;
        let room = super::answer_room(&request, self.max_message_bytes).map_err(to_status)?;
        Ok(Response::new(self.one(&caller, request.into_inner(), room).await.map_err(to_status)?))
    }

    async fn batch_search(
        &self,
        request: Request<proto::BatchSearchRequest>,
    ) -> Reply<proto::BatchSearchResponse> {
        let caller = &super::caller(&request).map_err(to_status)?;
        // All of them share the room of the one answer.
        let room = &super::answer_room(&request, self.max_message_bytes).map_err(to_status)?;
        let requests = request.into_inner().requests;
        super::check_batch("requests", requests.len(), self.max_batch_size).map_err(to_status)?;
        let searches = requests.into_iter().enumerate().map(|(index, request)| async move {
            let found = self.one(caller, request, room.clone()).await;
            found.map_err(|error| error.within(&format!("requests[{index}]")))
        });
        // In order and a few at a time, so that a large batch leaves room for others.
        let responses =
            futures::stream::iter(searches).buffered(IN_FLIGHT).try_collect().await.map_err(to_status)?;
        Ok(Response::new(proto::BatchSearchResponse { responses }))
    }

    async fn compare(&self, request: Request<proto::CompareRequest>) -> Reply<proto::CompareResponse> {
        let caller = super::caller(&request).map_err(to_status)?;
        let request = request.into_inner();
        let collection = match request.collection.as_str() {
            "" => None,
            name => Some(super::collection_name(&caller, "collection", name.to_owned()).map_err(to_status)?),
        };
        let side = |name, query| query_in(query).map_err(|error: Error| error.within(name));
        let (left, right) = (
            side("left", request.left).map_err(to_status)?,
            side("right", request.right).map_err(to_status)?,
        );
        let similarity = self.search.compare(collection.as_ref(), &left, &right).await.map_err(to_status)?;
        Ok(Response::new(proto::CompareResponse { similarity }))
    }
}
