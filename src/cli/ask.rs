//! `trove ask`: an answer from the documents, with its sources. Also what `chat` and `eval` share with it.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::documents::passage_json;
use super::output::{Text, bold, indented, line, note};
use super::search::ModeArgs;
use super::search::{self, place_of};
use super::snippet::{Layout, snippet};
use super::{EXIT_FAILED, EXIT_OK, filter, output};
use crate::proto::answer_response::Event;
use crate::proto::{
    AnswerDone, AnswerKind, AnswerMode, AnswerRequest, ByteSpan, Citation, FinishReason, Message, PassageUse,
    Retrieval, SamplingOptions, SearchRequest, Support,
};

/// Arguments of `ask`.
#[derive(Debug, Clone, Args)]
pub struct AskArgs {
    /// The question.
    #[arg(allow_hyphen_values = true)]
    pub question: String,
    /// How it is answered.
    #[command(flatten)]
    pub answer: AnswerArgs,
}

/// How a question is answered.
#[derive(Debug, Clone, Args)]
pub struct AnswerArgs {
    /// Collection.
    #[arg(long, default_value = "default")]
    pub collection: String,
    /// Answer with the best sentences of the documents, word for word.
    #[arg(long, conflicts_with = "generative")]
    pub extractive: bool,
    /// Let a generator write; fail where the server has none.
    #[arg(long)]
    pub generative: bool,
    /// What the passages are found by.
    #[command(flatten)]
    pub search: ModeArgs,
    /// Passages to retrieve.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Most passages that the answer is made from; zero takes the server's default.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub passages: u32,
    /// Most tokens of passages in the prompt; zero takes what fits.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub max_context_tokens: u32,
    /// Generator; the server's default if left out.
    #[arg(long, default_value = "")]
    pub model: String,
    /// Prompt template of the server.
    #[arg(long, default_value = "", value_name = "NAME", hide_default_value = true)]
    pub prompt: String,
    /// Least answerability, 0 to 1, from which on an answer is written.
    #[arg(long, value_name = "SCORE")]
    pub answerability_threshold: Option<f32>,
    /// Least support, 0 to 1, from which on a sentence that the generator wrote is shown.
    #[arg(long, value_name = "SCORE")]
    pub support_threshold: Option<f32>,
    /// Show all that the generator wrote, also what the passages do not support.
    #[arg(long)]
    pub draft: bool,
    /// With --json: what the sentences that were considered score by.
    #[arg(long)]
    pub explain: bool,
    /// Only documents whose metadata fits (see search); several must all match.
    #[arg(long = "filter", value_name = filter::VALUE_NAME)]
    pub filters: Vec<String>,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// How tokens are chosen.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Most tokens to write; zero takes the server's default.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub max_tokens: u32,
    /// Zero, the default, always takes the most probable token.
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Keep the most probable tokens that together have this probability.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Keep this many of the most probable tokens.
    #[arg(long, value_name = "N")]
    pub top_k: Option<u32>,
    /// Keep tokens at least this probable relative to the best.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Above one discourages repeats.
    #[arg(long, value_name = "PENALTY", allow_negative_numbers = true)]
    pub repetition_penalty: Option<f32>,
    /// Text that ends the answer; can be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Makes sampling repeatable.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Do not draft tokens from the prompt; slower, with the same text.
    #[arg(long)]
    pub no_speculation: bool,
}

/// Columns before a source's text.
const INDENT: usize = 5;
/// Lines of a source's text.
const SNIPPET_LINES: usize = 2;

/// A whole answer.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    /// What was found.
    pub retrieval: Retrieval,
    /// Citations in order.
    pub citations: Vec<Citation>,
    /// The end.
    pub done: AnswerDone,
}

impl Collected {
    /// Whether there is an answer to rely on.
    pub fn is_answered(&self) -> bool {
        matches!(self.done.finish_reason(), FinishReason::Stop | FinishReason::Length)
    }
}

/// Asks once and prints the answer; exit code 1 where the documents do not answer the question.
pub async fn run(client: &Client, json: bool, args: AskArgs) -> Result<i32> {
    let request = request(&args.answer, &args.question, Vec::new())?;
    let answer =
        if json { collect(client, request, |_| Ok(())).await? } else { print(client, request).await? };
    if json {
        output::print_json(&answer_json(&answer))?;
    } else {
        line("")?;
        print_sources(&answer)?;
    }
    Ok(if answer.is_answered() { EXIT_OK } else { EXIT_FAILED })
}

/// The request for a question.
pub fn request(args: &AnswerArgs, question: &str, history: Vec<Message>) -> Result<AnswerRequest> {
    let mode = match (args.extractive, args.generative) {
        (true, _) => AnswerMode::Extractive,
        (_, true) => AnswerMode::Generative,
        _ => AnswerMode::Auto,
    };
    Ok(AnswerRequest {
        search: Some(SearchRequest {
            collection: args.collection.clone(),
            limit: args.limit,
            filter: filter::parse(&args.filters)?,
            mode: search::mode(&args.search).into(),
            fusion: search::fusion(&args.search),
            include_highlights: true,
            ..Default::default()
        }),
        question: question.to_owned(),
        history,
        model: args.model.clone(),
        sampling: Some(sampling(&args.sampling)),
        max_context_tokens: args.max_context_tokens,
        prompt_template: args.prompt.clone(),
        mode: mode.into(),
        max_passages: args.passages,
        answerability_threshold: args.answerability_threshold,
        support_threshold: args.support_threshold,
        explain: args.explain,
        include_draft: args.draft,
    })
}

/// The sampling options of the command line.
pub fn sampling(args: &SamplingArgs) -> SamplingOptions {
    SamplingOptions {
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: args.top_k,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        stop: args.stop.clone(),
        seed: args.seed,
        speculation: args.no_speculation.then_some(false),
    }
}

/// Reads an answer to its end; each delta is given away as it comes.
pub async fn collect(
    client: &Client,
    request: AnswerRequest,
    mut delta: impl FnMut(&str) -> Result<()>,
) -> Result<Collected> {
    let mut events = client.answer().answer(request).await?.into_inner();
    let mut answer = Collected::default();
    while let Some(message) = events.message().await? {
        match message.event {
            Some(Event::Retrieval(retrieval)) => answer.retrieval = retrieval,
            Some(Event::Delta(text)) => delta(&text)?,
            Some(Event::Citation(citation)) => answer.citations.push(citation),
            Some(Event::Done(done)) => {
                answer.done = done;
                return Ok(answer);
            }
            None => {}
        }
    }
    bail!("the server ended the answer without a result");
}

/// Prints an answer as it is written, and what is to be said about it.
pub async fn print(client: &Client, request: AnswerRequest) -> Result<Collected> {
    let mut written = false;
    let mut wrap = output::Wrap::to_terminal();
    let answer = collect(client, request, |delta| {
        written = true;
        output::part(&wrap.part(delta))
    })
    .await?;
    if written {
        line("")?;
    }
    let (found, needed) = (answer.retrieval.answerability, answer.retrieval.answerability_threshold);
    let done = &answer.done;
    match done.finish_reason() {
        FinishReason::NotAnswerable => {
            line(bold("not answerable from these documents"))?;
            note(format!(
                "the closest sentence answers the question with a probability of {found:.2}, {needed:.2} is needed"
            ));
        }
        FinishReason::NoContext => line(bold("nothing found to answer from"))?,
        FinishReason::Length => note("the answer is cut: --max-tokens gives it more room"),
        FinishReason::Cancelled => note("the server stopped the answer"),
        FinishReason::Stop | FinishReason::Unspecified => {}
    }
    let claim = Some(&done.missing_claim).filter(|claim| !claim.is_empty());
    let why = claim.map(|claim| format!(" ({claim})")).unwrap_or_default();
    match done.kind() {
        AnswerKind::Quoted if !done.model.is_empty() => {
            note(format!("quoted: the documents do not support what {} wrote{why}", done.model));
        }
        AnswerKind::Written if claim.is_some() => {
            note(format!(
                "the rest of what {} wrote is left out: the documents do not support it{why}",
                done.model
            ));
        }
        _ => {}
    }
    if !done.draft.is_empty() && done.draft.trim() != done.text.trim() {
        note(format!("draft of {}: {}", done.model, done.draft.trim()));
    }
    let dropped = answer.retrieval.dropped_history_count;
    if dropped > 0 {
        note(format!("{dropped} earlier messages did not fit into the context window"));
    }
    Ok(answer)
}

/// Prints the passages that the answer was made from, those cited first by their number.
pub fn print_sources(answer: &Collected) -> Result<()> {
    let layout =
        Layout { width: output::width() - INDENT, lines: SNIPPET_LINES, bold: console::colors_enabled() };
    let packed = &answer.retrieval.passages;
    for (index, (hit, packed)) in answer.retrieval.hits.iter().zip(packed).enumerate() {
        let number = index as u32 + 1;
        let cited: Vec<&Citation> = answer.citations.iter().filter(|c| c.number == number).collect();
        let used = matches!(packed.r#use(), PassageUse::Whole | PassageUse::Cut);
        // A passage that was only read from is no source; without an answer it shows what came closest.
        if cited.is_empty() && (answer.is_answered() || !used) {
            continue;
        }
        let passage = hit.passage.clone().unwrap_or_default();
        let mut place = place_of(&passage);
        if packed.r#use() == PassageUse::Cut {
            place.push("cut to fit".to_owned());
        }
        let head = Text::from(format!("{number:>3}. ")).bold(&passage.document_id);
        line(head.plain("  ").bold(format!("{:.4}", hit.score)).plain("  ").dim(place.join(", ")))?;
        if !passage.headings.is_empty() {
            let headings = output::shorten(&passage.headings.join(" > "), layout.width);
            line(indented(INDENT).dim(headings))?;
        }
        let best = cited.first().and_then(|c| c.passage_span).or(hit.highlights.first().and_then(|h| h.span));
        let best = best.map(|span| span.start as usize..span.end as usize);
        for row in snippet(&passage.text, best, layout) {
            line(indented(INDENT).and(&row))?;
        }
    }
    Ok(())
}

/// An answer for programs.
pub fn answer_json(answer: &Collected) -> Value {
    let Collected { retrieval, citations, done } = answer;
    let passages: Vec<Value> = retrieval
        .hits
        .iter()
        .zip(&retrieval.passages)
        .map(|(hit, packed)| {
            json!({"score": hit.score, "passage": hit.passage.as_ref().map(passage_json),
                "use": packed.r#use().as_str_name().trim_start_matches("PASSAGE_USE_").to_lowercase(),
                "tokens": packed.tokens, "used_span": packed.span.as_ref().map(span_json)})
        })
        .collect();
    let citations: Vec<Value> = citations
        .iter()
        .map(|c| {
            json!({"number": c.number, "answer_span": c.answer_span.as_ref().map(span_json),
                "passage_span": c.passage_span.as_ref().map(span_json), "score": c.score})
        })
        .collect();
    let candidates: Vec<Value> = retrieval
        .candidates
        .iter()
        .map(|c| {
            let evidence: serde_json::Map<_, _> =
                c.evidence.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            json!({"number": c.number, "passage_span": c.passage_span.as_ref().map(span_json), "score": c.score,
                "evidence": evidence})
        })
        .collect();
    let kind = done.kind().as_str_name().trim_start_matches("ANSWER_KIND_").to_lowercase();
    json!({"text": done.text, "kind": kind, "missing_claim": done.missing_claim, "draft": done.draft,
        "candidates": candidates, "finish_reason": reason(done.finish_reason()), "model": done.model,
        "mode": retrieval.mode().as_str_name().trim_start_matches("ANSWER_MODE_").to_lowercase(),
        "query": retrieval.query, "answerability": retrieval.answerability,
        "answerability_threshold": retrieval.answerability_threshold,
        "citations": citations, "support": done.support.iter().map(support_json).collect::<Value>(),
        "passages": passages, "used_count": retrieval.used_count,
        "dropped_history_count": retrieval.dropped_history_count,
        "context_tokens": retrieval.context_tokens, "usage": done.usage.as_ref().map(usage_json)})
}

/// A finish reason as JSON has it.
pub fn reason(reason: FinishReason) -> String {
    reason.as_str_name().trim_start_matches("FINISH_REASON_").to_lowercase()
}

/// What a call cost, as JSON.
pub fn usage_json(usage: &crate::proto::Usage) -> Value {
    let seconds = |duration: &Option<prost_types::Duration>| {
        duration.as_ref().map(|d| d.seconds as f64 + f64::from(d.nanos) * 1e-9)
    };
    json!({"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
        "queue_seconds": seconds(&usage.queue_duration), "inference_seconds": seconds(&usage.inference_duration)})
}

fn support_json(support: &Support) -> Value {
    json!({"answer_span": support.answer_span.as_ref().map(span_json), "number": support.number,
        "similarity": support.similarity, "overlap": support.overlap, "score": support.score,
        "passage_span": support.passage_span.as_ref().map(span_json)})
}

fn span_json(span: &ByteSpan) -> Value {
    json!([span.start, span.end])
}
