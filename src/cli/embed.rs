//! `trove embed`.

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::client::Client;
use super::tokenize::span_text;
use super::{EXIT_OK, output};
use crate::proto::{EmbedOptions, EmbedRequest, EmbeddingLevel, Overflow, Representation, SpanEmbedding};

/// Arguments of `embed`.
#[derive(Debug, Clone, Args)]
pub struct EmbedArgs {
    /// Texts; none reads the lines of standard input.
    pub texts: Vec<String>,
    /// Model id; the server's default if left out.
    #[arg(long, default_value = "")]
    pub model: String,
    /// Which spans get a vector.
    #[arg(long, value_enum, default_value_t = Level::Document)]
    pub level: Level,
    /// Which token vectors are pooled.
    #[arg(long, value_enum, default_value_t = Vectors::Contextual)]
    pub representation: Vectors,
    /// What happens to long texts.
    #[arg(long, value_enum, default_value_t = OverflowMode::Error)]
    pub overflow: OverflowMode,
    /// Named prompt of the model, such as query.
    #[arg(long, value_name = "NAME")]
    pub prompt: Option<String>,
    /// Leading components to keep.
    #[arg(long, value_name = "N")]
    pub dimensions: Option<u32>,
    /// Leave vectors at the length that the model gives them.
    #[arg(long)]
    pub no_normalize: bool,
}

/// Which spans get a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Model tokens.
    Token,
    /// Words.
    Word,
    /// Sentences.
    Sentence,
    /// Passages.
    Passage,
    /// The whole text.
    Document,
}

/// What happens to a text longer than the model's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OverflowMode {
    /// Fail.
    Error,
    /// Cut the end.
    TruncateRight,
    /// Cut the start.
    TruncateLeft,
    /// Pool overlapping windows.
    Window,
}

/// Which token vectors are pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Vectors {
    /// The encoder's last hidden state: a word's vector depends on its sentence.
    Contextual,
    /// The input embedding table: a word has the same vector everywhere.
    Static,
}

/// Prints the vectors of each text.
pub async fn run(client: &Client, json: bool, args: EmbedArgs) -> Result<i32> {
    let texts = output::texts_or_stdin(args.texts)?;
    let options = EmbedOptions {
        model: args.model,
        level: level(args.level).into(),
        representation: representation(args.representation).into(),
        normalize: args.no_normalize.then_some(false),
        dimensions: args.dimensions,
        prompt_name: args.prompt,
        overflow: overflow(args.overflow).into(),
        ..Default::default()
    };
    let request = EmbedRequest { inputs: texts.clone(), options: Some(options) };
    let response = client.embedding().embed(request).await?.into_inner();
    if json {
        let results: Vec<Value> = response
            .results
            .iter()
            .map(|r| json!({"truncated": r.truncated, "embeddings": r.embeddings.iter().map(span_json).collect::<Vec<_>>()}))
            .collect();
        output::print_json(&json!({"model": response.model, "results": results}))?;
        return Ok(EXIT_OK);
    }
    let rows = texts
        .iter()
        .zip(&response.results)
        .flat_map(|(text, result)| result.embeddings.iter().map(move |e| span_row(text, result.truncated, e)))
        .collect();
    output::print_table(["text", "bytes", "dimensions", "vector"], rows)?;
    output::line(output::dim(format!("model {}", response.model)))?;
    Ok(EXIT_OK)
}

fn span_json(embedding: &SpanEmbedding) -> Value {
    let span = embedding.span.as_ref().map(|s| json!([s.start, s.end]));
    let vector = embedding.vector.as_ref().map(|v| v.values.as_slice()).unwrap_or_default();
    json!({"span": span, "vector": vector})
}

fn span_row(text: &str, truncated: bool, embedding: &SpanEmbedding) -> [String; 4] {
    let span = embedding.span.unwrap_or_default();
    let part = text.get(span.start as usize..span.end as usize).unwrap_or_default();
    let mut shown = output::shorten(part, 40);
    if truncated {
        shown.push_str(" (cut)");
    }
    let values = embedding.vector.as_ref().map(|v| v.values.as_slice()).unwrap_or_default();
    let head: Vec<String> = values.iter().take(5).map(|v| format!("{v:>7.4}")).collect();
    [shown, span_text(&span), values.len().to_string(), format!("{} …", head.join(" "))]
}

fn level(level: Level) -> EmbeddingLevel {
    match level {
        Level::Token => EmbeddingLevel::Token,
        Level::Word => EmbeddingLevel::Word,
        Level::Sentence => EmbeddingLevel::Sentence,
        Level::Passage => EmbeddingLevel::Passage,
        Level::Document => EmbeddingLevel::Document,
    }
}

/// The representation of the API.
pub fn representation(chosen: Vectors) -> Representation {
    match chosen {
        Vectors::Contextual => Representation::Contextual,
        Vectors::Static => Representation::Static,
    }
}

fn overflow(mode: OverflowMode) -> Overflow {
    match mode {
        OverflowMode::Error => Overflow::Error,
        OverflowMode::TruncateRight => Overflow::TruncateRight,
        OverflowMode::TruncateLeft => Overflow::TruncateLeft,
        OverflowMode::Window => Overflow::Window,
    }
}
