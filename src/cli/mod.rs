//! The command line client: it talks plain gRPC and shares no state with the server.

pub mod args;
pub mod ask;
pub mod chat;
pub mod client;
pub mod collections;
pub mod config;
mod damage;
pub mod doctor;
pub mod documents;
pub mod embed;
pub mod eval;
pub mod failure;
mod failures;
pub mod filter;
pub mod generate;
pub mod health;
pub mod index;
pub mod info;
pub mod keys;
mod lines;
pub mod models;
pub mod output;
pub mod rerank;
pub mod search;
pub mod setup;
mod small_talk;
pub mod snapshots;
mod snippet;
mod state;
pub mod status;
pub mod tokenize;
pub mod transfer;

use anyhow::Result;
use clap::CommandFactory;

use args::ConnectionArgs;
pub use args::{Cli, Command};
pub use config::ServeArgs;
use output::Text;

/// Exit code: everything worked.
pub const EXIT_OK: i32 = 0;
/// Exit code: something failed, or nothing was found where that matters.
pub const EXIT_FAILED: i32 = 1;
/// Exit code: wrong usage.
pub const EXIT_USAGE: i32 = 2;
/// Exit code: the server cannot be reached.
pub const EXIT_UNREACHABLE: i32 = 3;
/// Exit code: interrupted, as shells have it for SIGINT.
pub const EXIT_INTERRUPTED: i32 = 130;

/// What the caller of [`run`] does next.
#[derive(Debug)]
pub enum Outcome {
    /// Run the server with these arguments; whether the ready line is JSON.
    Serve(ServeArgs, bool),
    /// Leave with this exit code.
    Exit(i32),
}

/// Runs a client command; `serve` is handed back to the caller. Errors are printed on stderr.
pub async fn run(cli: Cli) -> Outcome {
    let Cli { server, connection, json, command } = cli;
    let command = match command {
        Command::Serve(args) => return Outcome::Serve(args, json),
        other => other,
    };
    match dispatch(&server, &connection, json, command).await {
        Ok(code) => Outcome::Exit(code),
        // `trove search … | head` is no failure: the reader has what it wanted.
        Err(error) if failure::is_broken_pipe(&error) => Outcome::Exit(EXIT_OK),
        Err(error) => {
            output::note(Text::new().lines(format!("error: {}", failure::describe(&error))));
            let code = failure::exit_code(&error);
            if let Some(hint) = failure::hint(&error, &server) {
                output::note(format!("hint: {hint}"));
            }
            Outcome::Exit(code)
        }
    }
}

async fn dispatch(server: &str, connection: &ConnectionArgs, json: bool, command: Command) -> Result<i32> {
    let command = match command {
        Command::Keys(args) => return keys::run(json, args),
        Command::Setup(args) => return setup::run(json, args).await,
        other => other,
    };
    let client = client::Client::new(server, connection)?;
    match command {
        Command::Serve(_) | Command::Keys(_) | Command::Setup(_) => Ok(EXIT_USAGE),
        Command::Index(args) => index::run(&client, server, json, args).await,
        Command::Status(args) => status::run(&client, server, json, args).await,
        Command::Search(args) => search::run(&client, json, args).await,
        Command::Ask(args) => ask::run(&client, json, args).await,
        Command::Chat(args) => chat::run(&client, json, args).await,
        Command::Generate(args) => generate::run(&client, json, args).await,
        Command::Embed(args) => embed::run(&client, json, args).await,
        Command::Rerank(args) => rerank::run(&client, json, args).await,
        Command::Tokenize(args) => tokenize::run(&client, json, args).await,
        Command::Collections { command } => collections::run(&client, json, command).await,
        Command::Documents { command } => documents::run(&client, json, command).await,
        Command::Export(args) => transfer::export(&client, json, args).await,
        Command::Import(args) => transfer::import(&client, json, args).await,
        Command::Snapshots { command } => snapshots::run(&client, json, command).await,
        Command::Models(args) => models::run(&client, json, args).await,
        Command::Info => info::run(&client, json).await,
        Command::Eval(args) => eval::run(&client, json, args).await,
        Command::Config { command } => config::run(json, &command),
        Command::Doctor(args) => doctor::run(json, &args, connection).await,
        Command::Health => health::run(&client, json).await,
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<i32> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "trove", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script)?;
    Ok(EXIT_OK)
}
