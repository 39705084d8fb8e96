//! Similarity of sentences or words: Spearman correlation of cosine and human scores.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::args::EvalArgs;
use super::embedder::{cosine, document_vectors};
use super::metrics::{pearson, spearman};
use crate::cli::client::Client;
use crate::cli::embed::representation;
use crate::cli::{EXIT_OK, output};
use crate::proto::{EmbedOptions, Overflow};

/// Measures a file of `score`, `a`, `b`.
pub async fn run(client: &Client, json: bool, args: &EvalArgs, text: &str) -> Result<i32> {
    let mut human = Vec::new();
    let mut texts = Vec::new();
    for (number, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty()) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [score, a, b] = columns.as_slice() else {
            anyhow::bail!("line {}: expected 3 columns", number + 1)
        };
        human.push(score.parse::<f64>().with_context(|| format!("line {}: score {score:?}", number + 1))?);
        texts.push((*a).to_owned());
        texts.push((*b).to_owned());
    }
    if let Some(limit) = args.limit_queries {
        human.truncate(limit);
        texts.truncate(limit * 2);
    }
    ensure!(human.len() > 1, "expected at least two pairs");
    let options = EmbedOptions {
        model: args.model.clone(),
        representation: representation(args.representation).into(),
        overflow: Overflow::TruncateRight.into(),
        ..Default::default()
    };
    let started = Instant::now();
    let vectors = document_vectors(client, &texts, &options, "texts").await?;
    let seconds = started.elapsed().as_secs_f64();
    let model: Vec<f64> = vectors.chunks_exact(2).map(|pair| cosine(&pair[0], &pair[1])).collect();
    let (rho, r) = (spearman(&model, &human), pearson(&model, &human));
    if json {
        output::print_json(
            &json!({"task": "sts", "pairs": human.len(), "spearman": rho, "pearson": r, "seconds": seconds}),
        )?;
        return Ok(EXIT_OK);
    }
    output::line(format!("{} pairs in {seconds:.1} s", human.len()))?;
    output::line(format!("Spearman  {rho:.4}"))?;
    output::line(format!("Pearson   {r:.4}"))?;
    Ok(EXIT_OK)
}
