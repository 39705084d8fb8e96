//! `trove rerank`.

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::{EXIT_OK, output};
use crate::proto::RerankRequest;

/// Arguments of `rerank`.
#[derive(Debug, Clone, Args)]
pub struct TextRerankArgs {
    /// The query.
    #[arg(allow_hyphen_values = true)]
    pub query: String,
    /// Texts to score; standard input, one a line, if left out.
    pub texts: Vec<String>,
    /// Cross-encoder; the server's default if left out.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub model: String,
    /// Best texts to print; zero prints all.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub limit: u32,
}

/// Prints the texts by their scores, best first.
pub async fn run(client: &Client, json: bool, args: TextRerankArgs) -> Result<i32> {
    let texts = output::texts_or_stdin(args.texts)?;
    let TextRerankArgs { model, query, limit, .. } = args;
    let request = RerankRequest { model, query, texts: texts.clone(), limit };
    let response = client.embedding().rerank(request).await?.into_inner();
    let text_of = |index: u32| texts.get(index as usize).map(String::as_str).unwrap_or_default();
    if json {
        let result = |r: &crate::proto::RankedText| json!({"index": r.index, "score": r.score, "text": text_of(r.index)});
        let results: Vec<Value> = response.results.iter().map(result).collect();
        output::print_json(&json!({"model": response.model, "results": results}))?;
        return Ok(EXIT_OK);
    }
    let rows = response
        .results
        .iter()
        .map(|r| [format!("{:.4}", r.score), r.index.to_string(), output::shorten(text_of(r.index), 80)])
        .collect();
    output::print_table(["score", "text number", "text"], rows)?;
    output::line(output::dim(format!("model {}", response.model)))?;
    Ok(EXIT_OK)
}
