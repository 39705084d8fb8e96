//! `trove embed`.

use anyhow::Result;
use serde_json::{Value, json};

use super::args::{EmbedArgs, Level, OverflowMode, Vectors};
use super::client::Client;
use super::tokenize::span_text;
use super::{EXIT_OK, output};
use crate::proto::{EmbedOptions, EmbedRequest, EmbeddingLevel, Overflow, Representation, SpanEmbedding};

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
