use std::pin::Pin;
use std::sync::Arc;

use futures::StreamExt;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::search::{hit_out, options_in, query_in};
use super::status::to_status;
use super::{Reply, convert};
use crate::access::Caller;
use crate::answer::{self, Answering, Mode, Use};
use crate::error::{Error, Result};
use crate::generator::{self, Message, Prompt, Role, Sampling};
use crate::proto;
use crate::room::AnswerRoom;
use crate::search::Hit;

/// Tokens of a generation that names no limit, less where the context window ends before.
const DEFAULT_MAX_TOKENS: u32 = 256;

/// AnswerService.
pub struct Answer {
    /// Answers and their generators.
    pub answering: Arc<Answering>,
    /// Most bytes of all texts of a call.
    pub max_text_bytes: usize,
    /// Most bytes of one event of an answer.
    pub max_message_bytes: usize,
}

type Events<T> = Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl proto::answer_service_server::AnswerService for Answer {
    type AnswerStream = Events<proto::AnswerResponse>;
    type GenerateStream = Events<proto::GenerateResponse>;

    async fn answer(&self, request: Request<proto::AnswerRequest>) -> Reply<Self::AnswerStream> {
        let caller = super::caller(&request).map_err(to_status)?;
        let room = super::answer_room(&request, self.max_message_bytes).map_err(to_status)?;
        let request = request.into_inner();
        super::check_text("question", request.question.len(), self.max_text_bytes).map_err(to_status)?;
        let history: usize = request.history.iter().map(|message| message.content.len()).sum();
        super::check_text("history", history, self.max_text_bytes).map_err(to_status)?;
        let answer = self
            .answering
            .answer(request_in(&caller, request, room).map_err(to_status)?)
            .await
            .map_err(to_status)?;
        let model = answer.model;
        let mut hits = Arc::new(Vec::new());
        let events = answer.events.map(move |event| {
            if let Ok(answer::Event::Retrieval(retrieval)) = &event {
                hits = retrieval.hits.clone();
            }
            Ok(event_out(event.map_err(to_status)?, &hits, &model))
        });
        Ok(Response::new(Box::pin(events)))
    }

    async fn generate(&self, request: Request<proto::GenerateRequest>) -> Reply<Self::GenerateStream> {
        let request = request.into_inner();
        let generator = self.answering.generators().get(&request.model).map_err(to_status)?.clone();
        let bytes = request.messages.iter().map(|message| message.content.len()).sum();
        super::check_text("messages", bytes, self.max_text_bytes).map_err(to_status)?;
        let messages = messages_in(request.messages, "messages").map_err(to_status)?;
        check_messages(&messages).map_err(to_status)?;
        let mut sampling = sampling_in(request.sampling.unwrap_or_default());
        if sampling.max_tokens == 0 {
            let window = generator.info().context_tokens as usize;
            let counter = (generator.clone(), messages.clone());
            let prompt_tokens =
                super::blocking(move || counter.0.prompt_tokens(&counter.1)).await.map_err(to_status)?;
            let room = window.saturating_sub(prompt_tokens);
            // A prompt that fills the window is refused by the generator, which tells its length.
            sampling.max_tokens = u32::try_from(room).unwrap_or(u32::MAX).clamp(1, DEFAULT_MAX_TOKENS);
        }
        let model = generator.info().id.clone();
        sampling.validate().map_err(|error| error.within("sampling")).map_err(to_status)?;
        let events = generator.generate(Prompt::Messages(messages), sampling).await.map_err(to_status)?;
        let events = events.map(move |event| {
            use proto::generate_response::Event;
            let event = match event.map_err(to_status)? {
                generator::Event::Delta(delta) => Event::Delta(delta),
                generator::Event::Done(finish) => Event::Done(proto::GenerateDone {
                    finish_reason: generation_reason(finish.reason) as i32,
                    usage: Some(usage_out(answer::Usage {
                        prompt_tokens: finish.prompt_tokens,
                        completion_tokens: finish.completion_tokens,
                        queue: finish.queue,
                        inference: finish.inference,
                    })),
                    model: model.clone(),
                }),
            };
            Ok(proto::GenerateResponse { event: Some(event) })
        });
        Ok(Response::new(Box::pin(events)))
    }
}

pub(super) fn request_in(
    caller: &Caller,
    request: proto::AnswerRequest,
    room: AnswerRoom,
) -> Result<answer::Request> {
    let mut search = request.search.unwrap_or_default();
    let query = match search.query.as_ref().and_then(|query| query.query.as_ref()) {
        Some(_) => Some(query_in(search.query.take()).map_err(within_search)?),
        None => None,
    };
    Ok(answer::Request {
        collection: super::collection_name(caller, "search.collection", search.collection.clone())?,
        search: options_in(&mut search, room).map_err(within_search)?,
        query,
        question: request.question,
        history: messages_in(request.history, "history")?,
        model: request.model,
        sampling: sampling_in(request.sampling.unwrap_or_default()),
        max_context_tokens: request.max_context_tokens as usize,
        prompt: request.prompt_template,
        mode: mode_in(request.mode)?,
        max_passages: request.max_passages as usize,
        answerability_threshold: request.answerability_threshold,
        support_threshold: request.support_threshold,
        explain: request.explain,
        with_draft: request.include_draft,
    })
}

fn within_search(error: Error) -> Error {
    error.within("search")
}

fn mode_in(mode: i32) -> Result<Mode> {
    use proto::AnswerMode;
    match AnswerMode::try_from(mode) {
        Ok(AnswerMode::Unspecified | AnswerMode::Auto) => Ok(Mode::Auto),
        Ok(AnswerMode::Generative) => Ok(Mode::Generative),
        Ok(AnswerMode::Extractive) => Ok(Mode::Extractive),
        Err(_) => Err(super::unknown_value("mode", mode)),
    }
}

pub(super) fn messages_in(messages: Vec<proto::Message>, field: &str) -> Result<Vec<Message>> {
    let message = |(index, message): (usize, proto::Message)| {
        let role = match proto::Role::try_from(message.role) {
            Ok(proto::Role::System) => Role::System,
            Ok(proto::Role::User) => Role::User,
            Ok(proto::Role::Assistant) => Role::Assistant,
            Ok(proto::Role::Unspecified) | Err(_) => {
                let expected = format!("expected system, user or assistant, got {}", message.role);
                let field = format!("{field}[{index}].role");
                return Err(Error::invalid_field(field, "UNKNOWN_ENUM_VALUE", expected));
            }
        };
        Ok(Message::new(role, message.content))
    };
    messages.into_iter().enumerate().map(message).collect()
}

pub(super) fn check_messages(messages: &[Message]) -> Result<()> {
    let late = messages.iter().skip(1).position(|message| message.role == Role::System);
    if let Some(index) = late {
        let message = "expected a system message only as the first, got another";
        return Err(Error::invalid_field(format!("messages[{}].role", index + 1), "BAD_MESSAGES", message));
    }
    Ok(())
}

/// Sampling of a message; what is unset takes the generator's defaults, `max_tokens` stays zero.
pub(super) fn sampling_in(options: proto::SamplingOptions) -> Sampling {
    let default = Sampling::default();
    Sampling {
        max_tokens: options.max_tokens,
        temperature: options.temperature.unwrap_or(default.temperature),
        top_p: options.top_p.unwrap_or(default.top_p),
        top_k: options.top_k.unwrap_or(default.top_k),
        min_p: options.min_p.unwrap_or(default.min_p),
        repetition_penalty: options.repetition_penalty.unwrap_or(default.repetition_penalty),
        stop: options.stop,
        seed: options.seed,
        speculation: options.speculation.unwrap_or(default.speculation),
    }
}

fn event_out(event: answer::Event, hits: &[Hit], model: &str) -> proto::AnswerResponse {
    use proto::answer_response::Event;
    let event = match event {
        answer::Event::Retrieval(retrieval) => Event::Retrieval(retrieval_out(retrieval)),
        answer::Event::Delta(delta) => Event::Delta(delta),
        answer::Event::Citation(support) => Event::Citation(proto::Citation {
            number: number(&support),
            answer_span: Some(convert::span(support.answer_span)),
            passage: support
                .hit
                .and_then(|index| hits.get(index))
                .and_then(|hit| hit_out(hit.clone()).passage),
            passage_span: Some(convert::span(support.passage_span)),
            score: support.score,
        }),
        answer::Event::Done(done) => Event::Done(proto::AnswerDone {
            text: done.text,
            finish_reason: finish_reason(done.reason) as i32,
            usage: Some(usage_out(done.usage)),
            support: done.support.iter().map(support_out).collect(),
            model: model.to_owned(),
            kind: kind(done.kind) as i32,
            missing_claim: done.missing.map(|missing| missing.to_string()).unwrap_or_default(),
            draft: done.draft.unwrap_or_default(),
        }),
    };
    proto::AnswerResponse { event: Some(event) }
}

fn retrieval_out(retrieval: answer::Retrieval) -> proto::Retrieval {
    let used = |used: &&Use| matches!(used, Use::Whole { .. } | Use::Cut { .. });
    let passages = retrieval.hits.iter().zip(&retrieval.uses).map(|(hit, used)| packed_out(hit, *used));
    let mode = match retrieval.mode {
        Mode::Extractive => proto::AnswerMode::Extractive,
        Mode::Auto | Mode::Generative => proto::AnswerMode::Generative,
    };
    proto::Retrieval {
        damaged_hits: retrieval.damaged as u32,
        used_count: retrieval.uses.iter().filter(used).count() as u32,
        passages: passages.collect(),
        hits: retrieval.hits.iter().cloned().map(hit_out).collect(),
        query: retrieval.query.unwrap_or_default(),
        mode: mode as i32,
        answerability: retrieval.answerability,
        answerability_threshold: retrieval.answerability_threshold,
        dropped_history_count: retrieval.dropped_history as u32,
        prompt_tokens: retrieval.prompt_tokens as u32,
        context_tokens: retrieval.context_tokens as u32,
        candidates: retrieval.candidates.into_iter().map(candidate_out).collect(),
    }
}

fn candidate_out(candidate: answer::CandidateSentence) -> proto::AnswerCandidate {
    proto::AnswerCandidate {
        number: candidate.hit as u32 + 1,
        passage_span: Some(convert::span(candidate.span)),
        score: candidate.score,
        evidence: candidate.evidence.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

fn kind(kind: answer::Kind) -> proto::AnswerKind {
    match kind {
        answer::Kind::Written => proto::AnswerKind::Written,
        answer::Kind::Quoted => proto::AnswerKind::Quoted,
        answer::Kind::Refused => proto::AnswerKind::Refused,
    }
}

fn packed_out(hit: &Hit, used: Use) -> proto::PackedPassage {
    use proto::PassageUse;
    let whole = hit.text.len() as u32;
    let (used, tokens, end) = match used {
        Use::Whole { tokens } => (PassageUse::Whole, tokens, Some(whole)),
        Use::Cut { tokens, end } => (PassageUse::Cut, tokens, Some(end)),
        Use::OverLimit => (PassageUse::OverLimit, 0, None),
        Use::NoRoom => (PassageUse::NoRoom, 0, None),
    };
    let span = end.map(|end| proto::ByteSpan { start: 0, end });
    proto::PackedPassage { r#use: used as i32, tokens: tokens as u32, span }
}

fn support_out(support: &answer::Support) -> proto::Support {
    proto::Support {
        answer_span: Some(convert::span(support.answer_span)),
        number: number(support),
        similarity: support.similarity,
        overlap: support.overlap,
        score: support.score,
        passage_span: support.hit.map(|_| convert::span(support.passage_span)),
    }
}

/// Hits are numbered from one; zero means none.
fn number(support: &answer::Support) -> u32 {
    support.hit.map_or(0, |index| index as u32 + 1)
}

fn finish_reason(reason: answer::FinishReason) -> proto::FinishReason {
    match reason {
        answer::FinishReason::Stop => proto::FinishReason::Stop,
        answer::FinishReason::Length => proto::FinishReason::Length,
        answer::FinishReason::NoContext => proto::FinishReason::NoContext,
        answer::FinishReason::NotAnswerable => proto::FinishReason::NotAnswerable,
        answer::FinishReason::Cancelled => proto::FinishReason::Cancelled,
    }
}

fn generation_reason(reason: generator::FinishReason) -> proto::FinishReason {
    match reason {
        generator::FinishReason::Stop => proto::FinishReason::Stop,
        generator::FinishReason::Length => proto::FinishReason::Length,
        generator::FinishReason::Cancelled => proto::FinishReason::Cancelled,
    }
}

fn usage_out(usage: answer::Usage) -> proto::Usage {
    proto::Usage {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        truncated_inputs: 0,
        queue_duration: prost_types::Duration::try_from(usage.queue).ok(),
        inference_duration: prost_types::Duration::try_from(usage.inference).ok(),
    }
}
