//! `trove generate`: text from a prompt, without retrieval.

use std::io::Read;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use super::ask::SamplingArgs;
use super::ask::{reason, sampling, usage_json};
use super::client::Client;
use super::output::{line, note};
use super::{EXIT_OK, output};
use crate::proto::generate_response::Event;
use crate::proto::{FinishReason, GenerateDone, GenerateRequest, Message, Role};

/// Arguments of `generate`.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// The prompt; none reads standard input.
    #[arg(allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Instructions for the model.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Generator; the server's default if left out.
    #[arg(long, default_value = "")]
    pub model: String,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// Generates and prints the text as it comes.
pub async fn run(client: &Client, json: bool, args: GenerateArgs) -> Result<i32> {
    let prompt = match &args.prompt {
        Some(prompt) => prompt.clone(),
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading the prompt from standard input")?;
            text
        }
    };
    let mut messages = Vec::new();
    if let Some(system) = &args.system {
        messages.push(Message { role: Role::System.into(), content: system.clone() });
    }
    messages.push(Message { role: Role::User.into(), content: prompt });
    let request =
        GenerateRequest { model: args.model.clone(), messages, sampling: Some(sampling(&args.sampling)) };
    let mut events = client.answer().generate(request).await?.into_inner();
    let mut text = String::new();
    while let Some(message) = events.message().await? {
        match message.event {
            Some(Event::Delta(delta)) => {
                if !json {
                    output::part(&delta)?;
                }
                text.push_str(&delta);
            }
            Some(Event::Done(done)) => return end(json, &text, &done),
            None => {}
        }
    }
    bail!("the server ended the generation without a result");
}

fn end(json: bool, text: &str, done: &GenerateDone) -> Result<i32> {
    if json {
        output::print_json(&json!({"text": text, "finish_reason": reason(done.finish_reason()),
            "model": done.model, "usage": done.usage.as_ref().map(usage_json)}))?;
        return Ok(EXIT_OK);
    }
    line("")?;
    if done.finish_reason() == FinishReason::Length {
        note("the text is cut: --max-tokens gives it more room");
    }
    Ok(EXIT_OK)
}
