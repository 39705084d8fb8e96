//! `trove tokenize`.

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::{EXIT_OK, output};
use crate::proto::{ByteSpan, Token, TokenizeRequest};

/// Arguments of `tokenize`.
#[derive(Debug, Clone, Args)]
pub struct TokenizeArgs {
    /// Texts; none reads the lines of standard input.
    pub texts: Vec<String>,
    /// Model id; the server's default if left out.
    #[arg(long, default_value = "")]
    pub model: String,
}

/// Prints the tokens of each text.
pub async fn run(client: &Client, json: bool, args: TokenizeArgs) -> Result<i32> {
    let texts = output::texts_or_stdin(args.texts)?;
    let request = TokenizeRequest { model: args.model, inputs: texts.clone(), add_special_tokens: None };
    let response = client.embedding().tokenize(request).await?.into_inner();
    if json {
        let results: Vec<Value> = response
            .results
            .iter()
            .map(|list| list.tokens.iter().map(token_json).collect::<Value>())
            .collect();
        output::print_json(&Value::from(results))?;
        return Ok(EXIT_OK);
    }
    for (index, (text, list)) in texts.iter().zip(&response.results).enumerate() {
        if index > 0 {
            output::line("")?;
        }
        output::line(output::bold(format!("{text}  ({} tokens)", list.tokens.len())))?;
        let rows = list.tokens.iter().map(token_row).collect();
        output::print_table(["token", "id", "word", "bytes"], rows)?;
    }
    Ok(EXIT_OK)
}

fn token_json(token: &Token) -> Value {
    let span = token.span.as_ref().map(|s| json!([s.start, s.end]));
    json!({"id": token.id, "text": token.text, "special": token.special, "span": span, "word_index": token.word_index})
}

fn token_row(token: &Token) -> [String; 4] {
    let span = token.span.as_ref().map(span_text).unwrap_or_default();
    let word = token.word_index.map(|w| w.to_string()).unwrap_or_default();
    [token.text.clone(), token.id.to_string(), word, span]
}

/// A span as `start..end`.
pub fn span_text(span: &ByteSpan) -> String {
    format!("{}..{}", span.start, span.end)
}
