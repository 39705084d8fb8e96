//! The command line: what all commands take, and which there are. Their own arguments are in their modules.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::ask::AskArgs;
use super::chat::ChatArgs;
use super::collections::CollectionsCommand;
use super::config::{ConfigCommand, ServeArgs};
use super::documents::DocumentsCommand;
use super::embed::EmbedArgs;
use super::eval::EvalArgs;
use super::generate::GenerateArgs;
use super::index::IndexArgs;
use super::keys::KeysArgs;
use super::models::ModelsArgs;
use super::rerank::TextRerankArgs;
use super::search::SearchArgs;
use super::setup::SetupArgs;
use super::snapshots::SnapshotsCommand;
use super::status::StatusArgs;
use super::tokenize::TokenizeArgs;
use super::transfer::{ExportArgs, ImportArgs};
use crate::access::Secret;

/// What follows the help text of the program.
const AFTER_HELP: &str = "\
First steps:
  trove setup                                 fetch the runtime library and the models
  trove serve                                 run the server (leave it running)
  trove index ~/notes                         index a folder
  trove search \"what did we decide on backups\"
  trove ask \"where are the backups kept?\"
  trove doctor                                check what a server needs

Exit codes: 0 fine, 1 something failed or nothing was found, 2 wrong usage,
3 no server answers, 130 interrupted.";

/// Embedding and semantic search over gRPC.
#[derive(Debug, Parser)]
#[command(name = "trove", version, about, after_help = AFTER_HELP)]
pub struct Cli {
    /// Address of the server.
    #[arg(
        long,
        global = true,
        env = "TROVE_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:7700",
        help_heading = "Global options"
    )]
    pub server: String,
    /// How to reach it.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What a connection to the server takes besides its address.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct ConnectionArgs {
    /// API key; better set in the environment, where other users of this machine do not see it.
    #[arg(long, global = true, env = "TROVE_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<Secret>,
    /// Certificates in PEM that the server's must be signed by, instead of those of this system.
    #[arg(long, global = true, env = "TROVE_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Certificate in PEM to show to the server.
    #[arg(long, global = true, env = "TROVE_TLS_CLIENT_CERTIFICATE", value_name = "FILE")]
    pub tls_client_certificate: Option<PathBuf>,
    /// Private key of that certificate, in PEM.
    #[arg(long, global = true, env = "TROVE_TLS_CLIENT_KEY", value_name = "FILE")]
    pub tls_client_key: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch what a server needs: the runtime library, the default encoder and a generator.
    Setup(SetupArgs),
    /// Run the server.
    Serve(ServeArgs),
    /// Index files and folders.
    Index(IndexArgs),
    /// Show what collections hold, and what could not be read.
    Status(StatusArgs),
    /// Search a collection by meaning and words.
    Search(SearchArgs),
    /// Answer a question from a collection, with its sources.
    Ask(AskArgs),
    /// Ask in turns; questions are the lines of standard input.
    Chat(ChatArgs),
    /// Generate text from a prompt, without retrieval.
    Generate(GenerateArgs),
    /// Embed texts.
    Embed(EmbedArgs),
    /// Score texts against a query with a cross-encoder.
    Rerank(TextRerankArgs),
    /// Split texts into tokens.
    Tokenize(TokenizeArgs),
    /// Manage collections.
    Collections {
        /// What to do.
        #[command(subcommand)]
        command: CollectionsCommand,
    },
    /// Look at, add and delete documents.
    Documents {
        /// What to do.
        #[command(subcommand)]
        command: DocumentsCommand,
    },
    /// Write a collection as JSON Lines, with its vectors.
    Export(ExportArgs),
    /// Read a collection that was exported.
    Import(ImportArgs),
    /// Keep copies of collections on the server, and put them back.
    Snapshots {
        /// What to do.
        #[command(subcommand)]
        command: SnapshotsCommand,
    },
    /// Get models and look at them, on this machine.
    Models(ModelsArgs),
    /// Make, list and revoke API keys, on this machine.
    Keys(KeysArgs),
    /// Show the server's version, limits and models.
    Info,
    /// Measure quality on a dataset.
    Eval(EvalArgs),
    /// Check and print the server's configuration.
    Config {
        /// What to do.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Check this machine, the data directory, the models and the configuration, and say how to mend what is wrong.
    Doctor(ServeArgs),
    /// Ask whether the server is serving; for supervisors.
    Health,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use clap::Parser;

    use super::{Cli, Command};

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_text_may_begin_with_a_dash() {
        let query = |arguments: &[&str]| match Cli::try_parse_from([&["trove", "search"], arguments].concat())
        {
            Ok(Cli { command: Command::Search(args), .. }) => {
                Some((args.query.unwrap_or_default(), args.limit))
            }
            _ => None,
        };
        let is = |text: &str, limit| Some((text.to_owned(), limit));
        assert_eq!(query(&["-15 degrees"]), is("-15 degrees", 10));
        assert_eq!(query(&["-15 degrees", "--limit", "3"]), is("-15 degrees", 3));
        assert_eq!(query(&["--limit", "3", "-- or not"]), is("-- or not", 3));
        assert_eq!(query(&["-40"]), is("-40", 10));
        assert_eq!(query(&["--", "--limit"]), is("--limit", 10));
        // An option that is mistyped is still told.
        for mistyped in
            [&["text", "--limt"][..], &["--limt", "3", "text"], &["--limt", "text"], &["text", "-x"]]
        {
            assert_eq!(query(mistyped), None, "{mistyped:?}");
        }
    }
}
