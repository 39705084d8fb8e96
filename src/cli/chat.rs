//! `trove chat`: questions and answers in turn, typed or from standard input.

use anyhow::Result;
use clap::Args;

use super::ask::AnswerArgs;
use super::ask::{self, Collected};
use super::client::Client;
use super::lines::{Line, Lines};
use super::output::{line, note};
use super::{EXIT_OK, EXIT_UNREACHABLE, failure, output, small_talk};
use crate::proto::{Message, Role};

/// Arguments of `chat`.
#[derive(Debug, Clone, Args)]
pub struct ChatArgs {
    /// How questions are answered.
    #[command(flatten)]
    pub answer: AnswerArgs,
    /// Do not keep what is typed for the next chat.
    #[arg(long)]
    pub no_history: bool,
}

/// What stands in the history for an answer that has no text.
const NO_ANSWER: &str = "The documents do not answer this.";
/// Most messages that are sent along with a question, the latest: a context window has room for fewer.
const KEPT: usize = 200;

/// Reads questions line by line until the end of the input or `/quit`.
pub async fn run(client: &Client, json: bool, args: ChatArgs) -> Result<i32> {
    let mut lines = Lines::open(!args.no_history);
    if lines.is_edited() {
        note("ask a question; /new starts over, /quit or Ctrl-D ends, /help tells more");
    }
    let mut history: Vec<Message> = Vec::new();
    let mut last: Option<Collected> = None;
    loop {
        let input = match lines.next().await? {
            Line::Text(input) => input,
            Line::Interrupted => {
                note("/quit or Ctrl-D ends");
                continue;
            }
            Line::End => return Ok(EXIT_OK),
        };
        match input.trim() {
            "" => {}
            "/quit" | "/exit" => return Ok(EXIT_OK),
            "/new" => history.clear(),
            "/sources" => match &last {
                Some(answer) => ask::print_sources(answer)?,
                None => note("there is no answer yet"),
            },
            "/help" => note(
                "/sources shows those of the last answer again, /new starts over, /quit ends; all else is a question",
            ),
            command if command.starts_with('/') => {
                note(format!("unknown command {command}; /help lists them"))
            }
            // A program means what it sends.
            thanks if !json && small_talk::reply(thanks).is_some() => {
                line(small_talk::reply(thanks).unwrap_or_default())?;
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
        ask::print_sources(&answer)?;
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
