//! The command line client: it talks plain gRPC and shares no state with the server.

pub mod args;
pub mod client;
pub mod collections;
pub mod documents;
pub mod embed;
pub mod eval;
pub mod failure;
pub mod index;
pub mod info;
pub mod models;
pub mod output;
pub mod search;
pub mod tokenize;

use anyhow::Result;

pub use args::{Cli, Command, ServeArgs};

/// Exit code: everything worked.
pub const EXIT_OK: i32 = 0;
/// Exit code: something failed, or nothing was found where that matters.
pub const EXIT_FAILED: i32 = 1;
/// Exit code: wrong usage.
pub const EXIT_USAGE: i32 = 2;
/// Exit code: the server cannot be reached.
pub const EXIT_UNREACHABLE: i32 = 3;

/// What the caller of [`run`] does next.
#[derive(Debug)]
pub enum Outcome {
    /// Run the server with these arguments.
    Serve(ServeArgs),
    /// Leave with this exit code.
    Exit(i32),
}

/// Runs a client command; `serve` is handed back to the caller. Errors are printed on stderr.
pub async fn run(cli: Cli) -> Outcome {
    let Cli { server, json, command } = cli;
    let command = match command {
        Command::Serve(args) => return Outcome::Serve(args),
        other => other,
    };
    match dispatch(&server, json, command).await {
        Ok(code) => Outcome::Exit(code),
        Err(error) => {
            eprintln!("error: {}", failure::describe(&error));
            let code = failure::exit_code(&error);
            if code == EXIT_UNREACHABLE {
                eprintln!(
                    "is a server running at {server}? start one with `trove serve`, or name another with --server"
                );
            }
            Outcome::Exit(code)
        }
    }
}

async fn dispatch(server: &str, json: bool, command: Command) -> Result<i32> {
    let client = client::Client::new(server)?;
    match command {
        Command::Serve(_) => Ok(EXIT_USAGE),
        Command::Index(args) => index::run(&client, json, args).await,
        Command::Search(args) => search::run(&client, json, args).await,
        Command::Embed(args) => embed::run(&client, json, args).await,
        Command::Tokenize(args) => tokenize::run(&client, json, args).await,
        Command::Collections { command } => collections::run(&client, json, command).await,
        Command::Documents { command } => documents::run(&client, json, command).await,
        Command::Models(args) => models::run(&client, json, args).await,
        Command::Info => info::run(&client, json).await,
        Command::Eval(args) => eval::run(&client, json, args).await,
    }
}
