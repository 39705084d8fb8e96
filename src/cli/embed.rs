//! `trove embed`.

use anyhow::Result;
use serde_json::{Value, json};

use super::args::{EmbedArgs, Level, OverflowMode};
use super::client::Client;
use super::tokenize::span_text;
use super::{EXIT_OK, output};
use crate::proto::{EmbedOptions, EmbedRequest, EmbeddingLevel, Overflow, SpanEmbedding};

/// Prints the vectors of each text.
pub async fn run(client: &Client, json: bool, args: EmbedArgs) -> Result<i32> {
    let options = EmbedOptions {
        model: args.model,
        level: level(args.level).into(),
        overflow: overflow(args.overflow).into(),
        ..Default::default()
    };
    let request = EmbedRequest { inputs: args.texts.clone(), options: Some(options) };
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
    println!("model {}", response.model);
    for (text, result) in args.texts.iter().zip(&response.results) {
        println!("{text}{}", if result.truncated { "  (truncated)" } else { "" });
        let rows = result.embeddings.iter().map(|e| span_row(text, e)).collect();
        output::print_table(["bytes", "text", "length", "vector"], rows);
    }
    Ok(EXIT_OK)
}

fn span_json(embedding: &SpanEmbedding) -> Value {
    let span = embedding.span.as_ref().map(|s| json!([s.start, s.end]));
    let vector = embedding.vector.as_ref().map(|v| v.values.as_slice()).unwrap_or_default();
    json!({"span": span, "vector": vector})
}

fn span_row(text: &str, embedding: &SpanEmbedding) -> [String; 4] {
    let span = embedding.span.unwrap_or_default();
    let part = text.get(span.start as usize..span.end as usize).unwrap_or_default();
    let shown: String = part.chars().take(40).collect();
    let values = embedding.vector.as_ref().map(|v| v.values.as_slice()).unwrap_or_default();
    let head: Vec<String> = values.iter().take(6).map(|v| format!("{v:.4}")).collect();
    [span_text(&span), shown, values.len().to_string(), format!("{} …", head.join(" "))]
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

fn overflow(mode: OverflowMode) -> Overflow {
    match mode {
        OverflowMode::Error => Overflow::Error,
        OverflowMode::TruncateRight => Overflow::TruncateRight,
        OverflowMode::TruncateLeft => Overflow::TruncateLeft,
        OverflowMode::Window => Overflow::Window,
    }
}
