use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;

use futures::StreamExt;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::allowance::{Allowance, Part, allowance};
use super::status::to_status;
use super::{Reply, Stop, convert, unknown_value};
use crate::domain::{dot, scale_to_unit};
use crate::encoder::{self, CrossEncoders, EmbedOptions, Encoder, Encoders};
use crate::error::{Error, Result};
use crate::proto;
use crate::room::AnswerRoom;

/// Sharpness of the softmax over label similarities.
const CLASSIFY_SCALE: f32 = 20.0;

/// Batches of one stream that are worked on at once: while one is encoded, the next is read and tokenized.
const STREAM_AHEAD: usize = 4;

/// Memory of a short text beside its struct.
const STRING_BYTES: usize = 16;

/// EmbeddingService.
#[derive(Clone)]
pub struct Embedding {
    /// Loaded encoders.
    pub encoders: Encoders,
    /// Loaded cross-encoders.
    pub cross_encoders: CrossEncoders,
    /// Most inputs of one call.
    pub max_batch_size: usize,
    /// Most bytes of one text.
    pub max_text_bytes: usize,
    /// Most bytes of an answer.
    pub max_message_bytes: usize,
    /// Ends the streams when the server stops.
    pub stop: Stop,
}

impl Embedding {
    fn check_texts(&self, field: &str, texts: &[String]) -> Result<()> {
        super::check_batch(field, texts.len(), self.max_batch_size)?;
        self.check_each(field, texts)
    }

    fn check_each(&self, field: &str, texts: &[String]) -> Result<()> {
        let check = |(index, text): (usize, &String)| {
            super::check_text(format!("{field}[{index}]"), text.len(), self.max_text_bytes)
        };
        texts.iter().enumerate().try_for_each(check)
    }

    /// Checks the labels of a call, with the texts that describe them as one batch.
    fn check_labels(&self, labels: &[proto::Label]) -> Result<()> {
        if labels.len() < 2 {
            let message = format!("expected at least two, got {}", labels.len());
            return Err(Error::invalid_field("labels", "TOO_FEW_LABELS", message));
        }
        let texts: usize = labels.iter().map(|label| label.examples.len().max(1)).sum();
        if texts > self.max_batch_size {
            let most = self.max_batch_size;
            let message = format!("expected at most {most} with all their examples, got {texts}");
            return Err(Error::invalid_field("labels", "BATCH_TOO_LARGE", message));
        }
        let mut seen = HashSet::new();
        for (index, label) in labels.iter().enumerate() {
            let name = format!("labels[{index}].name");
            if !seen.insert(label.name.as_str()) {
                let message = format!("expected a name that occurs once, got {:?} twice", label.name);
                return Err(Error::invalid_field(name, "DUPLICATE_LABEL", message));
            }
            super::check_text(name, label.name.len(), self.max_text_bytes)?;
            self.check_each(&format!("labels[{index}].examples"), &label.examples)?;
        }
        Ok(())
    }

    async fn embed_request(
        &self,
        request: proto::EmbedRequest,
        room: &AnswerRoom,
    ) -> Result<proto::EmbedResponse> {
        self.check_texts("inputs", &request.inputs)?;
        let message = request.options.unwrap_or_default();
        let encoder = self.encoders.get(&message.model)?;
        let options = options_in(&message).map_err(|error| error.within("options"))?;
        let output = encoder.embed_within(request.inputs, &options, room).await?;
        let tokens = output.results.iter().map(|r| r.tokens).sum();
        let truncated = output.results.iter().filter(|r| r.truncated).count();
        let results = output.results.into_iter().map(|result| proto::EmbedResult {
            truncated: result.truncated,
            embeddings: result
                .embeddings
                .into_iter()
                .map(|(span, values)| proto::SpanEmbedding {
                    span: Some(convert::span(span)),
                    vector: Some(proto::DenseVector { values }),
                })
                .collect(),
        });
        Ok(proto::EmbedResponse {
            results: results.collect(),
            model: format!("{}@{}", encoder.info().id, encoder.info().revision),
            usage: Some(proto::Usage {
                prompt_tokens: tokens,
                truncated_inputs: truncated as u32,
                queue_duration: prost_types::Duration::try_from(output.queue).ok(),
                inference_duration: prost_types::Duration::try_from(output.inference).ok(),
                ..Default::default()
            }),
        })
    }

    /// Document vectors of unit length; long inputs are read in windows.
    async fn unit_vectors(
        &self,
        encoder: &Arc<Encoder>,
        texts: Vec<String>,
        room: &AnswerRoom,
    ) -> Result<Vec<Vec<f32>>> {
        let options = EmbedOptions { overflow: encoder::Overflow::Window, ..EmbedOptions::document() };
        let output = encoder.embed_within(texts, &options, room).await?;
        let vector = |result: encoder::EmbedResult| {
            let first = result.embeddings.into_iter().next().map(|(_, vector)| vector);
            first.ok_or_else(|| Error::internal("NO_VECTOR", "the encoder gave no vector for a text"))
        };
        output.results.into_iter().map(vector).collect()
    }

    /// The vectors of labels: the means of those of their examples, or of their names.
    async fn label_vectors(
        &self,
        encoder: &Arc<Encoder>,
        labels: Vec<proto::Label>,
        room: &AnswerRoom,
    ) -> Result<Vec<(String, Vec<f32>)>> {
        let (mut texts, mut counts) = (Vec::new(), Vec::with_capacity(labels.len()));
        for label in labels {
            let own = if label.examples.is_empty() { vec![label.name.clone()] } else { label.examples };
            counts.push((label.name, own.len()));
            texts.extend(own);
        }
        let mut vectors = self.unit_vectors(encoder, texts, room).await?.into_iter();
        let mean = |(name, count)| (name, centroid(&vectors.by_ref().take(count).collect::<Vec<_>>()));
        Ok(counts.into_iter().map(mean).collect())
    }
}

/// The next batch of a stream, with its room until it is answered; `None` after the last.
async fn next_batch(
    messages: &mut Streaming<proto::EmbedStreamRequest>,
    allowance: &Allowance,
    stop: &Stop,
) -> std::result::Result<Option<(proto::EmbedRequest, Part)>, Status> {
    let message = tokio::select! {
        message = messages.message() => message?,
        () = stop.begun() => return Err(to_status(Stop::error())),
    };
    let Some(message) = message else { return Ok(None) };
    let request = message.request.unwrap_or_default();
    // A text takes more than its bytes, however short it is.
    let texts: usize = request.inputs.iter().map(|text| text.len() + 2 * size_of::<String>()).sum();
    let place = allowance.keep(size_of::<proto::EmbedRequest>() + texts).map_err(to_status)?;
    Ok(Some((request, place)))
}

pub(super) fn options_in(message: &proto::EmbedOptions) -> Result<EmbedOptions> {
    use proto::{EmbeddingLevel, Overflow, Pooling, Representation};
    let level =
        match EmbeddingLevel::try_from(message.level).map_err(|_| unknown_value("level", message.level))? {
            EmbeddingLevel::Token => encoder::Level::Token,
            EmbeddingLevel::Word => encoder::Level::Word,
            EmbeddingLevel::Sentence => encoder::Level::Sentence,
            EmbeddingLevel::Passage => encoder::Level::Passage,
            EmbeddingLevel::Unspecified | EmbeddingLevel::Document => encoder::Level::Document,
        };
    let pooling =
        match Pooling::try_from(message.pooling).map_err(|_| unknown_value("pooling", message.pooling))? {
            Pooling::Unspecified => None,
            Pooling::Mean => Some(encoder::Pooling::Mean),
            Pooling::Cls => Some(encoder::Pooling::Cls),
            Pooling::LastToken => Some(encoder::Pooling::Last),
            Pooling::Max => Some(encoder::Pooling::Max),
        };
    let overflow = match Overflow::try_from(message.overflow)
        .map_err(|_| unknown_value("overflow", message.overflow))?
    {
        Overflow::Unspecified | Overflow::Error => encoder::Overflow::Error,
        Overflow::TruncateRight => encoder::Overflow::TruncateRight,
        Overflow::TruncateLeft => encoder::Overflow::TruncateLeft,
        Overflow::Window => encoder::Overflow::Window,
    };
    let representation = match Representation::try_from(message.representation) {
        Ok(Representation::Unspecified | Representation::Contextual) => encoder::Representation::Contextual,
        Ok(Representation::Static) => encoder::Representation::Static,
        Err(_) => return Err(unknown_value("representation", message.representation)),
    };
    Ok(EmbedOptions {
        level,
        representation,
        pooling,
        normalize: message.normalize.unwrap_or(true),
        dimensions: message.dimensions,
        prompt_name: message.prompt_name.clone(),
        overflow,
        splitter: |text| crate::text::sentences(text, crate::domain::Span::new(0, text.len() as u32)),
    })
}

fn classify(input: &[f32], labels: &[(String, Vec<f32>)]) -> proto::Classification {
    let similarities: Vec<f32> = labels.iter().map(|(_, vector)| dot(input, vector)).collect();
    let greatest = similarities.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = similarities.iter().map(|s| ((s - greatest) * CLASSIFY_SCALE).exp()).collect();
    let total: f32 = weights.iter().sum();
    let mut scores: Vec<_> = labels
        .iter()
        .zip(similarities.iter().zip(&weights))
        .map(|((name, _), (&similarity, weight))| proto::LabelScore {
            name: name.clone(),
            similarity,
            probability: weight / total,
        })
        .collect();
    scores.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    proto::Classification { scores }
}

/// The mean of unit vectors, of unit length again.
fn centroid(vectors: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0; vectors.first().map_or(0, Vec::len)];
    for vector in vectors {
        sum.iter_mut().zip(vector).for_each(|(s, x)| *s += x);
    }
    scale_to_unit(&mut sum);
    sum
}

#[tonic::async_trait]
impl proto::embedding_service_server::EmbeddingService for Embedding {
    async fn tokenize(&self, request: Request<proto::TokenizeRequest>) -> Reply<proto::TokenizeResponse> {
        let room = super::answer_room(&request, self.max_message_bytes).map_err(to_status)?;
        let request = request.into_inner();
        self.check_texts("inputs", &request.inputs).map_err(to_status)?;
        let encoder = self.encoders.get(&request.model).map_err(to_status)?;
        let add_special = request.add_special_tokens.unwrap_or(true);
        let list = move |encoder: &Encoder, input: &str| {
            let tokens = encoder.tokenize(input, add_special)?;
            let names: usize = tokens.iter().map(|token| token.text.len()).sum();
            room.add(tokens.len() * (size_of::<proto::Token>() + STRING_BYTES) + names)?;
            let tokens = tokens.into_iter().map(|token| proto::Token {
                id: token.id,
                text: token.text,
                special: token.special,
                span: token.span.map(convert::span),
                word_index: token.word_index,
            });
            Ok(proto::TokenList { tokens: tokens.collect() })
        };
        let results = encoder.each_text(request.inputs, list).await.map_err(to_status)?;
        Ok(Response::new(proto::TokenizeResponse { results }))
    }

    async fn detokenize(
        &self,
        request: Request<proto::DetokenizeRequest>,
    ) -> Reply<proto::DetokenizeResponse> {
        let room = super::answer_room(&request, self.max_message_bytes).map_err(to_status)?;
        let request = request.into_inner();
        let (most, count) = (self.max_text_bytes, request.token_ids.len());
        if count > most {
            // A text has no more tokens than bytes.
            let message = format!("expected at most {most} ids, got {count}");
            return Err(to_status(Error::invalid_field("token_ids", "TEXT_TOO_LONG", message)));
        }
        let encoder = self.encoders.get(&request.model).map_err(to_status)?;
        let text = encoder
            .detokenize(request.token_ids, request.skip_special_tokens, room)
            .await
            .map_err(to_status)?;
        Ok(Response::new(proto::DetokenizeResponse { text }))
    }

    async fn embed(&self, request: Request<proto::EmbedRequest>) -> Reply<proto::EmbedResponse> {
        let room = super::answer_room(&request, self.max_message_bytes).map_err(to_status)?;
        Ok(Response::new(self.embed_request(request.into_inner(), &room).await.map_err(to_status)?))
    }

    type EmbedStreamStream =
        Pin<Box<dyn Stream<Item = std::result::Result<proto::EmbedStreamResponse, Status>> + Send + 'static>>;

    async fn embed_stream(
        &self,
        request: Request<Streaming<proto::EmbedStreamRequest>>,
    ) -> Reply<Self::EmbedStreamStream> {
        let service = self.clone();
        let allowance = allowance(&request).map_err(to_status)?;
        let state = (request.into_inner(), allowance.clone(), self.stop.clone());
        let batches = futures::stream::try_unfold(state, |(mut messages, allowance, stop)| async move {
            let batch = next_batch(&mut messages, &allowance, &stop).await?;
            Ok::<_, Status>(batch.map(|batch| (batch, (messages, allowance, stop))))
        });
        let responses = batches.map(move |batch| {
            let service = service.clone();
            // What it takes is free again when its answer has been encoded, which takes room of its own.
            let room = AnswerRoom::new(allowance.of_part(), super::answer_memory(service.max_message_bytes));
            async move {
                let (request, _place) = batch?;
                let response = service.embed_request(request, &room).await;
                let response = response.map_err(|error| error.within("request")).map_err(to_status)?;
                Ok(proto::EmbedStreamResponse { response: Some(response) })
            }
        });
        let responses = responses.buffered(STREAM_AHEAD);
        Ok(Response::new(Box::pin(responses)))
    }

    async fn embed_sparse(
        &self,
        request: Request<proto::EmbedSparseRequest>,
    ) -> Reply<proto::EmbedSparseResponse> {
        let room = super::answer_room(&request, self.max_message_bytes).map_err(to_status)?;
        let request = request.into_inner();
        self.check_texts("inputs", &request.inputs).map_err(to_status)?;
        let encoder = self.encoders.get(&request.model).map_err(to_status)?;
        let vector = move |encoder: &Encoder, input: &str| {
            let words = encoder.bag_of_words(input)?;
            room.add(words.len() * size_of::<(u32, f32)>() + size_of::<proto::SparseVector>())?;
            let (indices, values) = words.into_iter().unzip();
            Ok(proto::SparseVector { indices, values })
        };
        let vectors = encoder.each_text(request.inputs, vector).await.map_err(to_status)?;
        Ok(Response::new(proto::EmbedSparseResponse { vectors }))
    }

    async fn classify(&self, request: Request<proto::ClassifyRequest>) -> Reply<proto::ClassifyResponse> {
        let room = super::answer_room(&request, self.max_message_bytes).map_err(to_status)?;
        let request = request.into_inner();
        self.check_texts("inputs", &request.inputs).map_err(to_status)?;
        self.check_labels(&request.labels).map_err(to_status)?;
        // Every input has a score for each label, by its name.
        let scores = |label: &proto::Label| size_of::<proto::LabelScore>() + STRING_BYTES + label.name.len();
        let scores: usize = request.labels.iter().map(scores).sum();
        room.add(scores.saturating_mul(request.inputs.len())).map_err(to_status)?;
        let encoder = self.encoders.get(&request.model).map_err(to_status)?;
        let labels = self.label_vectors(encoder, request.labels, &room).await.map_err(to_status)?;
        let inputs = self.unit_vectors(encoder, request.inputs, &room).await.map_err(to_status)?;
        let results = inputs.iter().map(|input| classify(input, &labels)).collect();
        Ok(Response::new(proto::ClassifyResponse { results }))
    }

    async fn rerank(&self, request: Request<proto::RerankRequest>) -> Reply<proto::RerankResponse> {
        let proto::RerankRequest { model, query, texts, limit } = request.into_inner();
        super::check_text("query".to_owned(), query.len(), self.max_text_bytes).map_err(to_status)?;
        self.check_texts("texts", &texts).map_err(to_status)?;
        let model = self.cross_encoders.get(&model).map_err(to_status)?;
        let scored = model.score(query, texts).await.map_err(to_status)?;
        let scores = scored.scores.iter().enumerate();
        let mut results: Vec<_> =
            scores.map(|(index, &score)| proto::RankedText { index: index as u32, score }).collect();
        // A stable sort: equal scores stay in the order of the request.
        results.sort_by(|a, b| b.score.total_cmp(&a.score));
        if limit > 0 {
            results.truncate(limit as usize);
        }
        Ok(Response::new(proto::RerankResponse {
            results,
            model: format!("{}@{}", model.info().id, model.info().revision),
            usage: Some(proto::Usage {
                prompt_tokens: scored.tokens,
                truncated_inputs: scored.truncated,
                queue_duration: prost_types::Duration::try_from(scored.queue).ok(),
                inference_duration: prost_types::Duration::try_from(scored.inference).ok(),
                ..Default::default()
            }),
        }))
    }
}
