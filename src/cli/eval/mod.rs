//! `trove eval`: measures quality on datasets.

mod args;
pub mod dataset;
mod embedder;
pub mod metrics;
mod qa;
mod questions;
mod retrieval;
mod sts;
mod thresholds;
mod wic;

use anyhow::{Context, Result, anyhow};

pub use self::args::EvalArgs;
use super::client::Client;
use super::failure::Usage;

/// Measures a BEIR-style folder, a .jsonl file of questions, or a .tsv file whose header tells what it is.
pub async fn run(client: &Client, json: bool, args: EvalArgs) -> Result<i32> {
    if args.path.extension().is_some_and(|extension| extension == "jsonl") {
        return questions::run(client, json, &args).await;
    }
    if let Some(answers) = args.answers {
        return qa::run(client, json, &args, answers).await;
    }
    if args.path.is_dir() {
        return retrieval::run(client, json, &args).await;
    }
    let text =
        std::fs::read_to_string(&args.path).with_context(|| format!("reading {}", args.path.display()))?;
    let header = text.lines().next().unwrap_or_default();
    let columns: Vec<&str> = header.split('\t').collect();
    match columns.as_slice() {
        ["score", "a", "b", ..] => sts::run(client, json, &args, &text).await,
        ["label", "word", "pos", "index1", "index2", "sentence1", "sentence2"] => {
            wic::run(client, json, &args, &text).await
        }
        _ => Err(anyhow!(Usage(format!("{}: unknown header {header:?}", args.path.display())))),
    }
}
