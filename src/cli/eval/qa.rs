//! Answers: exact match and F1 as SQuAD has them, abstention, retrieval and citations on a set of questions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::args::{Answers, EvalArgs, Part};
use super::dataset::{Entry, read_jsonl, read_tsv};
use super::retrieval::upsert;
use super::thresholds::{self, Scored};
use crate::cli::ask::{self, Collected};
use crate::cli::client::Client;
use crate::cli::output::line;
use crate::cli::{EXIT_OK, output, search};
use crate::proto::document::Content;
use crate::proto::{
    AnswerMode, AnswerRequest, DeleteCollectionRequest, Document, Passage, PassageUse, SearchRequest,
    UpsertDocumentsRequest,
};

/// Documents of one upsert.
const BATCH: usize = 32;
/// Questions asked at once.
const IN_FLIGHT: usize = 2;

/// A line of queries.jsonl of a QA set.
#[derive(Debug, Clone, Deserialize)]
struct QaEntry {
    #[serde(alias = "_id")]
    id: String,
    text: String,
    #[serde(default)]
    answers: Vec<String>,
    #[serde(default = "yes")]
    answerable: bool,
    /// Document, first character and one past the last, where the set tells where the answer stands.
    #[serde(default)]
    spans: Vec<(String, i64, i64)>,
}

fn yes() -> bool {
    true
}

/// A question and where its answer stands.
struct Question {
    id: String,
    text: String,
    answers: Vec<String>,
    answerable: bool,
    /// Documents that hold the answer; with bytes of the text where they are known.
    gold: Vec<(String, Option<(u32, u32)>)>,
}

/// What came of one question.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    id: String,
    question: String,
    answerable: bool,
    answered: bool,
    finish_reason: String,
    text: String,
    /// Against the gold answers; for an unanswerable question whether it was left unanswered.
    exact: f64,
    f1: f64,
    /// Whether the answer holds a gold answer word for word.
    contains: bool,
    answerability: f32,
    /// Greatest support of a sentence of the answer.
    support: f32,
    /// Whether a relevant passage is among the hits, and among those used.
    retrieved: bool,
    used: bool,
    citations: usize,
    /// Citations of a relevant passage.
    right_citations: usize,
    /// Citations whose sentence holds a gold answer.
    telling_citations: usize,
    prompt_tokens: u32,
    completion_tokens: u32,
    seconds: f64,
    /// The sentences that were considered, where a half is calibrated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<Considered>,
}

/// A sentence that was considered, as scripts/fit_answers.py reads it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Considered {
    /// Whether it holds a gold answer.
    holds: bool,
    score: f32,
    evidence: BTreeMap<String, f32>,
}

/// Asks the questions of a folder and reports.
pub async fn run(client: &Client, json: bool, args: &EvalArgs, answers: Answers) -> Result<i32> {
    let corpus: Vec<Entry> = read_jsonl(&args.path.join("corpus.jsonl"))?;
    let questions = questions(args, &corpus)?;
    ensure!(!questions.is_empty(), "no question is left to ask");
    let temporary = args.collection.is_none();
    let collection = match &args.collection {
        Some(name) => name.clone(),
        None => format!("eval-qa-{}", std::process::id()),
    };
    let asked = async {
        if !args.unanswerable {
            index(client, &collection, &args.model, &corpus).await?;
        }
        ask_all(client, args, answers, &collection, &questions).await
    };
    let asked = asked.await;
    if temporary {
        let request = DeleteCollectionRequest { name: collection, etag: String::new(), force: true };
        client.collections().delete_collection(request).await?;
    }
    report(json, args, answers, &asked?)
}

/// The questions of the part, in the order that the seed gives, at most so many answerable and unanswerable ones.
fn questions(args: &EvalArgs, corpus: &[Entry]) -> Result<Vec<Question>> {
    let mut entries: Vec<QaEntry> = read_jsonl(&args.path.join("queries.jsonl"))?;
    entries.sort_by_cached_key(|entry| {
        *blake3::hash(format!("{} {}", args.seed, entry.id).as_bytes()).as_bytes()
    });
    let half = entries.len() / 2;
    let part = match args.part {
        Part::Calibration => entries.drain(..half).collect::<Vec<_>>(),
        Part::Evaluation => entries.split_off(half),
        Part::All => entries,
    };
    let most = args.limit_queries.unwrap_or(usize::MAX);
    let (mut answerable, mut unanswerable) = (0, 0);
    let mut kept: Vec<QaEntry> = part.into_iter().skip(args.skip_queries).collect();
    kept.retain(|entry| {
        let count = if entry.answerable { &mut answerable } else { &mut unanswerable };
        *count += 1;
        *count <= most && (entry.answerable || !args.unanswerable)
    });
    let mut relevant: HashMap<String, Vec<String>> = HashMap::new();
    for row in read_tsv(&args.path.join("qrels.tsv"))? {
        if let [query, document, ..] = row.as_slice() {
            relevant.entry(query.clone()).or_default().push(document.clone());
        }
    }
    let texts: HashMap<&str, &str> = corpus.iter().map(|d| (d.id.as_str(), d.text.as_str())).collect();
    let question = |entry: QaEntry| {
        let mut gold: Vec<(String, Option<(u32, u32)>)> = Vec::new();
        for (document, start, end) in &entry.spans {
            let bytes = texts.get(document.as_str()).and_then(|text| byte_range(text, *start, *end));
            gold.extend(bytes.map(|bytes| (document.clone(), Some(bytes))));
        }
        if gold.is_empty() {
            let documents = relevant.get(&entry.id).cloned().unwrap_or_default();
            gold.extend(documents.into_iter().map(|document| (document, None)));
        }
        if args.unanswerable {
            gold.clear();
        }
        let answerable = entry.answerable && !args.unanswerable;
        Question { id: entry.id, text: entry.text, answers: entry.answers, answerable, gold }
    };
    Ok(kept.into_iter().map(question).collect())
}

/// Bytes of a range of characters.
fn byte_range(text: &str, start: i64, end: i64) -> Option<(u32, u32)> {
    let byte = |position: i64| {
        let position = usize::try_from(position).ok()?;
        let mut starts = text.char_indices().map(|(byte, _)| byte).chain([text.len()]);
        u32::try_from(starts.nth(position)?).ok()
    };
    Some((byte(start)?, byte(end)?))
}

/// Brings the documents in; those that are there already cost next to nothing.
async fn index(client: &Client, collection: &str, model: &str, corpus: &[Entry]) -> Result<()> {
    client.ensure_collection(collection, model).await?;
    let bar = progress(corpus.len(), "indexing")?;
    let requests: Vec<UpsertDocumentsRequest> = corpus
        .chunks(BATCH)
        .map(|chunk| UpsertDocumentsRequest {
            collection: collection.to_owned(),
            documents: chunk.iter().map(document).collect(),
            validate_only: false,
            force: false,
        })
        .collect();
    futures::stream::iter(requests.into_iter().map(anyhow::Ok))
        .try_for_each_concurrent(4, |request| {
            let bar = bar.clone();
            async move {
                let count = request.documents.len() as u64;
                upsert(client, request).await?;
                bar.inc(count);
                Ok(())
            }
        })
        .await?;
    bar.finish_and_clear();
    Ok(())
}

fn document(entry: &Entry) -> Document {
    Document {
        id: entry.id.clone(),
        title: entry.title.clone(),
        content: Some(Content::Text(entry.text.clone())),
        mime_type: "text/plain".to_owned(),
        ..Default::default()
    }
}

/// Asks what the records do not hold yet; each answer is written down as it comes.
async fn ask_all(
    client: &Client,
    args: &EvalArgs,
    answers: Answers,
    collection: &str,
    questions: &[Question],
) -> Result<Vec<Record>> {
    let mut known: Vec<Record> = match &args.records {
        Some(path) if path.is_file() => read_jsonl(path)?,
        _ => Vec::new(),
    };
    let wanted: HashSet<&str> = questions.iter().map(|q| q.id.as_str()).collect();
    known.retain(|record| wanted.contains(record.id.as_str()));
    let done: HashSet<String> = known.iter().map(|record| record.id.clone()).collect();
    let open: Vec<&Question> = questions.iter().filter(|q| !done.contains(&q.id)).collect();
    let mut file = match &args.records {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            Some(file.with_context(|| format!("opening {}", path.display()))?)
        }
        None => None,
    };
    let bar = progress(open.len(), "asking")?;
    let mut asked = futures::stream::iter(open)
        .map(|question| ask_one(client, args, answers, collection, question))
        .buffered(IN_FLIGHT);
    while let Some(record) = asked.try_next().await? {
        if let Some(file) = &mut file {
            writeln!(file, "{}", serde_json::to_string(&record)?)?;
        }
        known.push(record);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(known)
}

/// What a question searches, as the options say.
pub(super) fn search_of(args: &EvalArgs, collection: &str) -> SearchRequest {
    SearchRequest {
        collection: collection.to_owned(),
        mode: search::mode(&args.mode).into(),
        fusion: search::fusion(&args.mode),
        ..Default::default()
    }
}

async fn ask_one(
    client: &Client,
    args: &EvalArgs,
    answers: Answers,
    collection: &str,
    question: &Question,
) -> Result<Record> {
    let mode = match answers {
        Answers::Extractive => AnswerMode::Extractive,
        Answers::Generated => AnswerMode::Generative,
    };
    // Thresholds are chosen from what would be answered without them.
    let threshold = (args.part == Part::Calibration).then_some(0.0);
    let request = AnswerRequest {
        search: Some(search_of(args, collection)),
        question: question.text.clone(),
        mode: mode.into(),
        max_passages: args.passages,
        prompt_template: args.prompt.clone(),
        answerability_threshold: threshold,
        support_threshold: threshold,
        explain: args.records.is_some() && args.part == Part::Calibration,
        ..Default::default()
    };
    let started = Instant::now();
    let answer = ask::collect(client, request, |_| Ok(())).await;
    let answer = answer.with_context(|| format!("question {}", question.id))?;
    Ok(judge(question, &answer, started.elapsed().as_secs_f64()))
}

fn judge(question: &Question, answer: &Collected, seconds: f64) -> Record {
    let answered = answer.is_answered();
    let text = answer.done.text.trim().to_owned();
    let best = |measure: &dyn Fn(&str, &str) -> f64| {
        question.answers.iter().map(|gold| measure(&text, gold)).fold(0.0, f64::max)
    };
    let (exact, f1) = match (question.answerable, answered) {
        (true, true) => (best(&exact), best(&f1)),
        (true, false) => (0.0, 0.0),
        (false, answered) => (f64::from(u8::from(!answered)), f64::from(u8::from(!answered))),
    };
    let retrieval = &answer.retrieval;
    let relevant: Vec<bool> = retrieval
        .hits
        .iter()
        .map(|hit| hit.passage.as_ref().is_some_and(|passage| is_relevant(question, passage)))
        .collect();
    let is_used = |used: PassageUse| matches!(used, PassageUse::Whole | PassageUse::Cut);
    let used = retrieval.passages.iter().zip(&relevant).any(|(p, relevant)| *relevant && is_used(p.r#use()));
    let right = |number: u32| relevant.get((number as usize).wrapping_sub(1)).copied().unwrap_or_default();
    let telling = answer.citations.iter().filter(|citation| {
        let passage = citation.passage.as_ref().map(|p| p.text.as_str()).unwrap_or_default();
        let span = citation.passage_span.unwrap_or_default();
        let sentence = passage.get(span.start as usize..span.end as usize).unwrap_or_default();
        question.answers.iter().any(|gold| contains(sentence, gold))
    });
    let considered = retrieval.candidates.iter().map(|candidate| {
        let hit = (candidate.number as usize).wrapping_sub(1);
        let passage = retrieval.hits.get(hit).and_then(|hit| hit.passage.as_ref());
        let text = passage.map(|passage| passage.text.as_str()).unwrap_or_default();
        let span = candidate.passage_span.unwrap_or_default();
        let sentence = text.get(span.start as usize..span.end as usize).unwrap_or_default();
        let tells =
            |gold: &String| contains(sentence, gold) || (is_long(sentence) && contains(gold, sentence));
        // A set without answers tells only which documents have them.
        let told = question.answers.is_empty() || question.answers.iter().any(tells);
        let holds = right(candidate.number) && told;
        Considered {
            holds: holds && question.answerable,
            score: candidate.score,
            evidence: candidate.evidence.clone().into_iter().collect(),
        }
    });
    let usage = answer.done.usage.unwrap_or_default();
    Record {
        candidates: considered.collect(),
        id: question.id.clone(),
        question: question.text.clone(),
        answerable: question.answerable,
        answered,
        finish_reason: ask::reason(answer.done.finish_reason()),
        exact,
        f1,
        contains: question.answerable
            && answered
            && question.answers.iter().any(|gold| contains(&text, gold)),
        text,
        answerability: retrieval.answerability,
        support: answer.done.support.iter().map(|support| support.score).fold(0.0, f32::max),
        retrieved: relevant.contains(&true),
        used,
        citations: answer.citations.len(),
        right_citations: answer.citations.iter().filter(|citation| right(citation.number)).count(),
        telling_citations: telling.count(),
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        seconds,
    }
}

fn is_relevant(question: &Question, passage: &Passage) -> bool {
    let span = passage.span.unwrap_or_default();
    question.gold.iter().any(|(document, bytes)| {
        *document == passage.document_id
            && bytes.is_none_or(|(start, end)| span.start < end && start < span.end)
    })
}

/// Lower case, without punctuation and articles, as SQuAD's own script does it.
fn normal_words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let plain: String = lower.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    plain.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the")).map(str::to_owned).collect()
}

fn exact(answer: &str, gold: &str) -> f64 {
    f64::from(u8::from(normal_words(answer) == normal_words(gold)))
}

fn f1(answer: &str, gold: &str) -> f64 {
    let (answer, gold) = (normal_words(answer), normal_words(gold));
    if answer.is_empty() || gold.is_empty() {
        return f64::from(u8::from(answer == gold));
    }
    let mut counts: HashMap<&str, i64> = HashMap::new();
    for word in &gold {
        *counts.entry(word).or_default() += 1;
    }
    let mut common = 0;
    for word in &answer {
        if let Some(count) = counts.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    2.0 * f64::from(common) / (answer.len() + gold.len()) as f64
}

/// Whether a sentence says enough to be a part of a long answer.
fn is_long(sentence: &str) -> bool {
    normal_words(sentence).len() >= 5
}

fn contains(text: &str, gold: &str) -> bool {
    let (text, gold) = (normal_words(text), normal_words(gold));
    !gold.is_empty() && text.windows(gold.len()).any(|window| window == gold)
}

fn progress(count: usize, what: &'static str) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}  {per_sec}  ETA {eta}")?;
    Ok(ProgressBar::new(count as u64).with_style(style).with_message(what))
}

fn report(json: bool, args: &EvalArgs, answers: Answers, records: &[Record]) -> Result<i32> {
    let (answerable, unanswerable): (Vec<&Record>, Vec<&Record>) = records.iter().partition(|r| r.answerable);
    let all: Vec<&Record> = records.iter().collect();
    let answered: Vec<&Record> = answerable.iter().filter(|r| r.answered).copied().collect();
    let abstained = all.iter().filter(|r| !r.answered).count();
    let rightly = unanswerable.iter().filter(|r| !r.answered).count();
    let sum = |of: &[&Record], count: fn(&Record) -> usize| of.iter().map(|r| count(r)).sum::<usize>();
    let citations = sum(&answered, |r| r.citations);
    let seconds: Vec<f64> = {
        let mut seconds: Vec<f64> = all.iter().map(|r| r.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        seconds
    };
    let median = seconds.get(seconds.len() / 2).copied().unwrap_or_default();
    let values = [
        ("exact match, all", mean(&all, |r| r.exact)),
        ("F1, all", mean(&all, |r| r.f1)),
        ("exact match, answerable", mean(&answerable, |r| r.exact)),
        ("F1, answerable", mean(&answerable, |r| r.f1)),
        ("holds a gold answer, answerable", mean(&answerable, |r| flag(r.contains))),
        ("F1, answerable and answered", mean(&answered, |r| r.f1)),
        ("holds a gold answer, answered", mean(&answered, |r| flag(r.contains))),
        ("answered, answerable", mean(&answerable, |r| flag(r.answered))),
        ("answered, unanswerable", mean(&unanswerable, |r| flag(r.answered))),
        ("abstention precision", share(rightly, abstained)),
        ("abstention recall", share(rightly, unanswerable.len())),
        ("retrieval recall, all hits", mean(&answerable, |r| flag(r.retrieved))),
        ("retrieval recall, passages used", mean(&answerable, |r| flag(r.used))),
        ("citation precision: passage", share(sum(&answered, |r| r.right_citations), citations)),
        ("citation precision: sentence", share(sum(&answered, |r| r.telling_citations), citations)),
    ];
    let scored: Vec<Scored> = records
        .iter()
        .map(|r| Scored {
            right: r.contains,
            answerable: r.answerable,
            answerability: r.answerability,
            // A sentence of a passage always supports itself.
            support: if answers == Answers::Extractive { 1.0 } else { r.support },
        })
        .collect();
    let choices = if args.part == Part::Calibration { thresholds::choices(&scored) } else { Vec::new() };
    let tokens: u32 = all.iter().map(|r| r.completion_tokens).sum();
    if json {
        let values: serde_json::Map<_, _> =
            values.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        output::print_json(&json!({"task": "answers", "answers": format!("{answers:?}").to_lowercase(),
            "part": format!("{:?}", args.part).to_lowercase(), "seed": args.seed, "answerable": answerable.len(),
            "unanswerable": unanswerable.len(), "values": values, "thresholds": choices,
            "median_seconds": median, "completion_tokens": tokens}))?;
        return Ok(EXIT_OK);
    }
    line(format!(
        "{} answerable and {} unanswerable questions, {answers:?} answers, {:?} half, seed {}",
        answerable.len(),
        unanswerable.len(),
        args.part,
        args.seed
    ))?;
    for (name, value) in values {
        match value {
            Some(value) => line(format!("{name:<34} {value:.4}"))?,
            None => line(format!("{name:<34} -"))?,
        }
    }
    line(format!("{median:.2} s a question (median), {tokens} tokens written"))?;
    if !choices.is_empty() {
        line("")?;
        line("thresholds by the right answers that they keep:")?;
        let rows = choices.iter().map(|choice| {
            [
                format!("{:.3}", choice.kept),
                format!("{:.3}", choice.answerability_threshold),
                format!("{:.3}", choice.support_threshold),
                format!("{:.3}", choice.refused_unanswerable),
                format!("{:.3}", choice.refused_wrong),
            ]
        });
        output::print_table(
            ["kept", "answerability", "support", "refused of unanswerable", "refused of wrong"],
            rows.collect(),
        )?;
    }
    Ok(EXIT_OK)
}

fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// `None` where there is nothing to take the mean of.
fn mean(records: &[&Record], value: impl Fn(&Record) -> f64) -> Option<f64> {
    let sum: f64 = records.iter().map(|record| value(record)).sum();
    (!records.is_empty()).then(|| sum / records.len() as f64)
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_as_squad_does() {
        assert_eq!(exact("The Normans.", "normans"), 1.0);
        assert_eq!(exact("in the 10th century", "10th century"), 0.0);
        assert!((f1("in the 10th century", "10th century") - 0.8).abs() < 1e-12);
        assert_eq!(f1("Rollo", "France"), 0.0);
        assert_eq!(f1("the", "a"), 1.0);
        assert!((f1("a b b", "b b b") - 2.0 * 2.0 / 5.0).abs() < 1e-12);
        assert!(contains("It is in France, today.", "France"));
        assert!(!contains("It is in Francesca.", "France"));
        assert!(!contains("x", "the"));
    }

    #[test]
    fn character_ranges_become_bytes() {
        assert_eq!(byte_range("äöü", 1, 3), Some((2, 6)));
        assert_eq!(byte_range("äöü", 1, 4), None);
        assert_eq!(byte_range("a", -1, 1), None);
    }
}
