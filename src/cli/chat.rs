//! `trove chat`: questions and answers in turn, from standard input.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::Result;
use clap::Args;

use super::ask::AnswerArgs;
use super::ask::{self, Collected};
use super::client::Client;
use super::output::{line, note};
use super::{EXIT_OK, EXIT_UNREACHABLE, failure, output};
use crate::proto::{Message, Role};

/// Arguments of `chat`.
#[derive(Debug, Clone, Args)]
pub struct ChatArgs {
    /// How questions are answered.
    #[command(flatten)]
    pub answer: AnswerArgs,
}

/// What stands in the history for an answer that has no text.
const NO_ANSWER: &str = "The documents do not answer this.";
/// Most messages that are sent along with a question, the latest: a context window has room for fewer.
const KEPT: usize = 200;

/// Reads questions line by line until the end of the input or `/quit`.
pub async fn run(client: &Client, json: bool, args: ChatArgs) -> Result<i32> {
    let interactive = io::stdin().is_terminal();
    if interactive {
        note("ask a question; /sources shows where the last answer comes from, /new starts over, /quit ends");
    }
    let mut history: Vec<Message> = Vec::new();
    let mut last: Option<Collected> = None;
    loop {
        if interactive {
            let mut stderr = io::stderr();
            // Where a prompt cannot be shown nobody waits for it.
            let _ = stderr.write_all(b"> ").and_then(|()| stderr.flush());
        }
        let Some(input) = next_line().await? else { return Ok(EXIT_OK) };
        match input.trim() {
            "" => {}
            "/quit" | "/exit" => return Ok(EXIT_OK),
            "/new" => history.clear(),
            "/sources" => match &last {
                Some(answer) => ask::print_sources(answer)?,
                None => note("there is no answer yet"),
            },
            "/help" => note("/sources, /new, /quit; everything else is a question"),
            command if command.starts_with('/') => {
                note(format!("unknown command {command}; /help lists them"))
            }
            question => match turn(client, json, &args, question, &history).await {
                Ok(answer) => {
                    let text = answer.done.text.trim();
                    let text = if text.is_empty() { NO_ANSWER } else { text };
                    history.push(message(Role::User, question));
                    history.push(message(Role::Assistant, text));
                    history.drain(..history.len().saturating_sub(KEPT));
                    last = Some(answer);
                }
                // One question that fails does not end the conversation; a server that is gone does.
                Err(error) if failure::exit_code(&error) == EXIT_UNREACHABLE => return Err(error),
                Err(error) if failure::is_broken_pipe(&error) => return Err(error),
                Err(error) => note(format!("error: {}", failure::describe(&error))),
            },
        }
    }
}

async fn turn(
    client: &Client,
    json: bool,
    args: &ChatArgs,
    question: &str,
    history: &[Message],
) -> Result<Collected> {
    let request = ask::request(&args.answer, question, history.to_vec())?;
    if !json {
        let answer = ask::print(client, request).await?;
        line("")?;
        return Ok(answer);
    }
    let answer = ask::collect(client, request, |_| Ok(())).await?;
    // One answer a line, for programs that read along.
    output::print_json_line(&ask::answer_json(&answer))?;
    Ok(answer)
}

fn message(role: Role, content: &str) -> Message {
    Message { role: role.into(), content: content.to_owned() }
}

/// The next line of standard input, read off the async threads; none at its end.
async fn next_line() -> Result<Option<String>> {
    let read = tokio::task::spawn_blocking(|| {
        let mut input = String::new();
        io::stdin().lock().read_line(&mut input).map(|bytes| (bytes > 0).then_some(input))
    });
    Ok(read.await??)
}
