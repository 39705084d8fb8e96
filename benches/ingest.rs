//! Passages a second from a stream of documents to the acknowledgement, against the encoder alone on the same
//! passages; and where the processor time goes.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use common::corpus::Record;
use common::report::{Report, median};
use common::{Common, Outcome, client, corpus, process, server};
use futures::{StreamExt, TryStreamExt};
use trove::domain::{Extracted, Span};
use trove::encoder::{Encoder, EncoderOptions, PassageInput};
use trove::extract::plain_text;
use trove::model::Runtime;
use trove::text::{SplitOptions, split_passages};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Passages that the encoder alone is given at once.
const BATCH: usize = 64;
/// How many such batches it is given ahead.
const AHEAD: usize = 8;
const COLLECTION: &str = "bench";

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Documents to ingest.
    #[arg(long, default_value_t = 3000)]
    documents: usize,
    /// Parts that they are cut into; the encoder alone and the ingest take turns.
    #[arg(long, default_value_t = 5)]
    slices: usize,
    /// Model directory under models/.
    #[arg(long, default_value = "all-MiniLM-L6-v2")]
    model: String,
}

/// A slice, measured.
#[derive(Default)]
struct Sample {
    passages: f64,
    seconds: f64,
    cpu_seconds: f64,
}

/// Seconds of processor time of one thread for each passage.
#[derive(Default)]
struct Alone {
    split: f64,
    tokenize: f64,
}

fn main() -> Outcome {
    let args = Args::parse();
    let Some(models) = args.common.models() else { return Ok(()) };
    Runtime::init(&models.join("runtime"))?;
    let encoder = Encoder::load(&models.join("models").join(&args.model), EncoderOptions::default())?;
    let corpus = corpus::read(&args.common, &encoder, args.documents)?;
    let data = tempfile::tempdir()?;
    server::borrow_models(&models, data.path())?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run(&args, &encoder, corpus, data.path())).map_err(|e| e.to_string().into())
}

async fn run(
    args: &Args,
    encoder: &Arc<Encoder>,
    corpus: corpus::Corpus,
    data: &std::path::Path,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let server = server::Server::start(data).await.map_err(|e| e.to_string())?;
    let channel = server.channel().await?;
    client::collection(&channel, COLLECTION).await?;
    let pid = server.pid();
    let (mut alone, mut ingested) = (Vec::new(), Vec::new());
    let mut parts = Alone::default();
    let own = std::process::id();
    let size = corpus.records.len().div_ceil(args.slices.max(1)).max(1);
    // The first passes over new shapes are slower.
    encode(encoder, passages(encoder, corpus.records.get(..BATCH).unwrap_or_default(), &mut parts)?).await?;
    client::ingest(&channel, "bench", corpus.records.get(..BATCH).unwrap_or_default().to_vec()).await?;
    parts = Alone::default();
    let before = process::Usage::of(pid);
    for (number, slice) in corpus.records.chunks(size).enumerate() {
        let inputs = passages(encoder, slice, &mut parts)?;
        let count = inputs.len() as f64;
        let (cpu, started) = (process::cpu_seconds(own), Instant::now());
        encode(encoder, inputs).await?;
        alone.push(Sample {
            passages: count,
            seconds: started.elapsed().as_secs_f64(),
            cpu_seconds: process::cpu_seconds(own) - cpu,
        });
        // Those that were ingested above come back unchanged, so they get another name.
        let records =
            slice.iter().map(|r| Record { id: format!("{}-{number}", r.id), ..r.clone() }).collect();
        let both = || process::cpu_seconds(own) + process::cpu_seconds(pid);
        let (cpu, started) = (both(), Instant::now());
        let made = client::ingest(&channel, COLLECTION, records).await?;
        ingested.push(Sample {
            passages: made as f64,
            seconds: started.elapsed().as_secs_f64(),
            cpu_seconds: both() - cpu,
        });
        eprintln!("slice {} of {}", number + 1, args.slices);
    }
    client::settle(pid).await;
    let (stages, total) = process::Usage::of(pid).since(&before);
    speed(&corpus.name, &alone, &ingested).print(args.common.json);
    let made: f64 = ingested.iter().map(|sample| sample.passages).sum();
    shares(&stages, total, made, &parts).print(args.common.json);
    Ok(())
}

/// What ingest makes of records; splitting and tokenizing are timed.
fn passages(
    encoder: &Encoder,
    records: &[Record],
    alone: &mut Alone,
) -> Result<Vec<PassageInput>, trove::error::Error> {
    let max_tokens = encoder.info().passage_tokens as usize;
    let options = SplitOptions { max_tokens, first_max_tokens: max_tokens, overlap_tokens: 0 };
    let mut inputs = Vec::new();
    for record in records {
        let started = process::thread_cpu_seconds();
        encoder.token_spans(&record.text)?;
        let tokenized = process::thread_cpu_seconds();
        let Extracted { text, sections, .. } = plain_text(record.text.clone())?;
        let drafts = split_passages(&text, &sections, &options, &|piece: &str| encoder.token_spans(piece))?;
        alone.tokenize += tokenized - started;
        alone.split += process::thread_cpu_seconds() - tokenized - (tokenized - started);
        inputs.extend(drafts.into_iter().map(|draft| {
            let start = draft.span.start;
            let sentence = |s: Span| Span::new(s.start - start, s.end - start);
            let text = draft.span.slice(&text).unwrap_or_default().to_owned();
            PassageInput {
                text,
                sentences: draft.sentences.into_iter().map(sentence).collect(),
                ..Default::default()
            }
        }));
    }
    Ok(inputs)
}

async fn encode(encoder: &Arc<Encoder>, inputs: Vec<PassageInput>) -> Result<(), trove::error::Error> {
    let batches: Vec<_> = inputs.chunks(BATCH).map(<[_]>::to_vec).collect();
    futures::stream::iter(batches)
        .map(|batch| encoder.encode_passages(batch))
        .buffer_unordered(AHEAD)
        .try_for_each(async |_| Ok(()))
        .await
}

fn speed(corpus: &str, alone: &[Sample], ingested: &[Sample]) -> Report {
    let mut report = Report::new(
        format!("Ingest of {corpus}, {} slices in turns", alone.len()),
        &["", "passages/s", "of the encoder alone", "passages/CPU-s", "of the encoder alone, by CPU"],
    );
    let rate = |sample: &Sample| sample.passages / sample.seconds.max(1e-9);
    let cpu_rate = |sample: &Sample| sample.passages / sample.cpu_seconds.max(1e-2);
    for (name, samples) in [("encoder alone", alone), ("IngestDocuments", ingested)] {
        let middle = |of: &dyn Fn(&Sample) -> f64| median(&samples.iter().map(of).collect::<Vec<_>>());
        let ratio = |of: &dyn Fn(&Sample) -> f64| {
            let ratios: Vec<f64> =
                samples.iter().zip(alone).map(|(own, alone)| of(own) / of(alone)).collect();
            format!("{:.3}", median(&ratios))
        };
        report.row(vec![
            name.to_owned(),
            format!("{:.1}", middle(&rate)),
            ratio(&rate),
            format!("{:.1}", middle(&cpu_rate)),
            ratio(&cpu_rate),
        ]);
    }
    report
}

fn shares(stages: &BTreeMap<&'static str, f64>, total: f64, passages: f64, alone: &Alone) -> Report {
    let mut report =
        Report::new("Processor time of the server by stage", &["stage", "CPU-ms a passage", "share"]);
    let mut row = |name: &str, seconds: f64| {
        let each = format!("{:.3}", seconds * 1e3 / passages);
        report.row(vec![name.to_owned(), each, format!("{:.3}", seconds / total)]);
    };
    stages.iter().for_each(|(name, seconds)| row(name, *seconds));
    row("all", total);
    row("splitting alone", alone.split);
    row("tokenizing alone, once", alone.tokenize);
    report
}
