//! Embeds many texts in batches, several in flight.

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::client::Client;
use crate::domain::dot;
use crate::proto::{EmbedOptions, EmbedRequest, EmbedResult};

/// Inputs of one request.
const BATCH: usize = 32;
/// Requests in flight.
const IN_FLIGHT: usize = 4;

/// Embeds every text, results in order.
pub async fn embed_all(
    client: &Client,
    texts: &[String],
    options: &EmbedOptions,
    what: &str,
) -> Result<Vec<EmbedResult>> {
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}  {per_sec}  ETA {eta}")?;
    let bar = ProgressBar::new(texts.len() as u64).with_style(style).with_message(what.to_owned());
    let requests: Vec<EmbedRequest> = texts
        .chunks(BATCH)
        .map(|chunk| EmbedRequest { inputs: chunk.to_vec(), options: Some(options.clone()) })
        .collect();
    let answers: Vec<Vec<EmbedResult>> = futures::stream::iter(requests)
        .map(|request| {
            let mut service = client.embedding();
            let bar = bar.clone();
            async move {
                let asked = request.inputs.len();
                let results = service.embed(request).await?.into_inner().results;
                ensure!(results.len() == asked, "asked for {asked} results, got {}", results.len());
                bar.inc(asked as u64);
                anyhow::Ok(results)
            }
        })
        .buffered(IN_FLIGHT)
        .try_collect()
        .await?;
    bar.finish_and_clear();
    Ok(answers.into_iter().flatten().collect())
}

/// One vector a text, at document level.
pub async fn document_vectors(
    client: &Client,
    texts: &[String],
    options: &EmbedOptions,
    what: &str,
) -> Result<Vec<Vec<f32>>> {
    let results = embed_all(client, texts, options, what).await?;
    results
        .into_iter()
        .enumerate()
        .map(|(index, result)| {
            let vector = result.embeddings.into_iter().next().and_then(|e| e.vector);
            vector.map(|v| v.values).ok_or_else(|| anyhow::anyhow!("text {index} got no vector"))
        })
        .collect()
}

/// Cosine similarity; zero if one is zero.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let norm = f64::from(dot(a, a)).sqrt() * f64::from(dot(b, b)).sqrt();
    if norm == 0.0 { 0.0 } else { f64::from(dot(a, b)) / norm }
}
