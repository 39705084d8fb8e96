//! Plain questions on a collection, each with a pattern of what is right: what was answered right, wrong or not at all, and
//! which figures no source holds.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use regex::Regex;
use serde::Deserialize;
use serde_json::json;

use super::args::{Answers, EvalArgs};
use super::dataset::read_jsonl;
use super::qa::search_of;
use crate::answer::unheld_figures;
use crate::cli::ask::{self, Collected};
use crate::cli::client::Client;
use crate::cli::failure::Usage;
use crate::cli::output::line;
use crate::cli::{EXIT_OK, output};
use crate::proto::{AnswerKind, AnswerMode, AnswerRequest, Message, Role};

/// Questions asked at once.
const IN_FLIGHT: usize = 2;

/// A line of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    question: String,
    /// Pattern of the right answer; null where the documents have none.
    right: Option<String>,
    /// The questions of the same conversation before it; their answers are asked for first.
    #[serde(default)]
    after: Vec<String>,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Answered right, or rightly not answered.
    Right,
    /// Not answered although there is an answer.
    Missed,
    /// Answered wrong, be it that there is no answer.
    Wrong,
}

struct Asked {
    question: String,
    outcome: Outcome,
    kind: AnswerKind,
    text: String,
    answerability: f32,
    /// Figures of the answer that no cited passage holds.
    unheld: Vec<String>,
    seconds: f64,
}

/// Asks the questions of a file.
pub async fn run(client: &Client, json: bool, args: &EvalArgs) -> Result<i32> {
    let Some(collection) = &args.collection else {
        let message = "questions need --collection, whose documents they are asked of";
        return Err(anyhow::Error::new(Usage(message.to_owned())));
    };
    let entries: Vec<Entry> = read_jsonl(&args.path)?;
    let entries = entries.into_iter().take(args.limit_queries.unwrap_or(usize::MAX));
    let entries: Vec<(Entry, Option<Regex>)> = entries
        .map(|entry| {
            let pattern = entry.right.as_deref().map(Regex::new).transpose();
            let pattern = pattern.with_context(|| format!("the pattern of {:?}", entry.question))?;
            Ok((entry, pattern))
        })
        .collect::<Result<_>>()?;
    ensure!(!entries.is_empty(), "{} has no question", args.path.display());
    let asked: Vec<Asked> = futures::stream::iter(&entries)
        .map(|(entry, pattern)| ask_one(client, args, collection, entry, pattern.as_ref()))
        .buffered(IN_FLIGHT)
        .try_collect()
        .await?;
    report(json, &entries, &asked)
}

async fn ask_one(
    client: &Client,
    args: &EvalArgs,
    collection: &str,
    entry: &Entry,
    right: Option<&Regex>,
) -> Result<Asked> {
    let mut history = Vec::new();
    for before in &entry.after {
        let answer = answer(client, args, collection, before, &history).await?;
        let message = |role: Role, content: String| Message { role: role.into(), content };
        // As in a conversation: what was refused is no turn.
        if answer.is_answered() {
            history.push(message(Role::User, before.clone()));
            history.push(message(Role::Assistant, answer.done.text));
        }
    }
    let started = Instant::now();
    let answer = answer(client, args, collection, &entry.question, &history).await?;
    let seconds = started.elapsed().as_secs_f64();
    let text = answer.done.text.trim().to_owned();
    let outcome = match (right, answer.is_answered()) {
        (Some(right), true) if right.is_match(&text) => Outcome::Right,
        (Some(_), false) => Outcome::Missed,
        (None, false) => Outcome::Right,
        (_, true) => Outcome::Wrong,
    };
    let sources: Vec<&str> = answer
        .citations
        .iter()
        .filter_map(|citation| citation.passage.as_ref())
        .flat_map(|passage| passage.headings.iter().chain([&passage.text]).map(String::as_str))
        .collect();
    Ok(Asked {
        question: entry.question.clone(),
        outcome,
        kind: answer.done.kind(),
        answerability: answer.retrieval.answerability,
        unheld: unheld_figures(&text, &sources.join("\n")),
        text,
        seconds,
    })
}

async fn answer(
    client: &Client,
    args: &EvalArgs,
    collection: &str,
    question: &str,
    history: &[Message],
) -> Result<Collected> {
    let mode = match args.answers {
        Some(Answers::Extractive) => AnswerMode::Extractive,
        Some(Answers::Generated) => AnswerMode::Generative,
        None => AnswerMode::Auto,
    };
    let request = AnswerRequest {
        search: Some(search_of(args, collection)),
        question: question.to_owned(),
        history: history.to_vec(),
        mode: mode.into(),
        max_passages: args.passages,
        prompt_template: args.prompt.clone(),
        ..Default::default()
    };
    ask::collect(client, request, |_| Ok(())).await.with_context(|| format!("question {question:?}"))
}

fn report(json: bool, entries: &[(Entry, Option<Regex>)], asked: &[Asked]) -> Result<i32> {
    let with = |outcome: Outcome, has_answer: bool| {
        let of = |(asked, (entry, _)): &(&Asked, &(Entry, _))| {
            asked.outcome == outcome && entry.right.is_some() == has_answer
        };
        asked.iter().zip(entries).filter(of).count()
    };
    let answerable = entries.iter().filter(|(entry, _)| entry.right.is_some()).count();
    let unheld: usize = asked.iter().map(|asked| asked.unheld.len()).sum();
    let kinds = |kind: AnswerKind| asked.iter().filter(|asked| asked.kind == kind).count();
    let mut seconds: Vec<f64> = asked.iter().map(|asked| asked.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds.get(seconds.len() / 2).copied().unwrap_or_default();
    if json {
        let each: Vec<_> = asked
            .iter()
            .map(|a| {
                json!({"question": a.question, "outcome": format!("{:?}", a.outcome).to_lowercase(), "kind": name(a.kind),
                    "text": a.text, "answerability": a.answerability, "unheld_figures": a.unheld, "seconds": a.seconds})
            })
            .collect();
        output::print_json(&json!({"task": "questions", "answerable": answerable,
            "unanswerable": entries.len() - answerable, "right": with(Outcome::Right, true),
            "missed": with(Outcome::Missed, true), "wrong": with(Outcome::Wrong, true),
            "refused_rightly": with(Outcome::Right, false), "invented": with(Outcome::Wrong, false),
            "unheld_figures": unheld, "written": kinds(AnswerKind::Written), "quoted": kinds(AnswerKind::Quoted),
            "median_seconds": median, "questions": each}))?;
        return Ok(EXIT_OK);
    }
    for a in asked.iter().filter(|a| a.outcome != Outcome::Right || !a.unheld.is_empty()) {
        let text = a.text.replace('\n', " / ");
        let outcome = format!("{:?}", a.outcome).to_lowercase();
        line(format!("{outcome:<7} {:.2} {}", a.answerability, a.question))?;
        if !text.is_empty() {
            line(format!("        {}: {}", name(a.kind), output::shorten(&text, 160)))?;
        }
        a.unheld.iter().try_for_each(|figure| line(format!("        no source holds {figure}")))?;
    }
    line(format!("{answerable} questions with an answer, {} without", entries.len() - answerable))?;
    for (what, count) in [
        ("right", with(Outcome::Right, true)),
        ("not answered", with(Outcome::Missed, true)),
        ("wrong", with(Outcome::Wrong, true)),
        ("rightly not answered", with(Outcome::Right, false)),
        ("answered without an answer", with(Outcome::Wrong, false)),
        ("figures that no source holds", unheld),
        ("written", kinds(AnswerKind::Written)),
        ("quoted", kinds(AnswerKind::Quoted)),
    ] {
        line(format!("{what:<30} {count}"))?;
    }
    line(format!("{median:.2} s a question (median)"))?;
    Ok(EXIT_OK)
}

fn name(kind: AnswerKind) -> String {
    kind.as_str_name().trim_start_matches("ANSWER_KIND_").to_lowercase()
}
