//! What the benches share: the server as a child process, real text, processor time, tables.
#![allow(dead_code, reason = "every bench uses a part of it")]

pub mod client;
pub mod corpus;
pub mod process;
pub mod report;
pub mod server;

use std::path::PathBuf;

/// What every bench takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Print JSON instead of tables.
    #[arg(long)]
    pub json: bool,
    /// Passages, one JSON object {id, title, text} a line; without it the documents of `demo/` are used.
    #[arg(long, env = "TROVE_BENCH_CORPUS")]
    pub corpus: Option<PathBuf>,
    /// Take only so many words of each passage of the corpus.
    #[arg(long)]
    pub words: Option<usize>,
    /// Directory of the runtime library and the models.
    #[arg(long = "models-dir", env = "TROVE_DATA_DIR", default_value = ".trove")]
    pub models: PathBuf,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// An error of a bench ends it with a message.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;

impl Common {
    /// The directory of the models, or `None` with a message where it is missing.
    pub fn models(&self) -> Option<PathBuf> {
        let found = self.models.join("models").is_dir() && self.models.join("runtime").is_dir();
        if !found {
            eprintln!(
                "skipped: no runtime library and models in {}; run `make models`",
                self.models.display()
            );
            return None;
        }
        std::fs::canonicalize(&self.models).ok()
    }
}
