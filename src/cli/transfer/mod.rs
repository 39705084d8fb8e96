//! `trove export` and `trove import`: a collection as JSON Lines with its vectors.

mod format;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod load;
mod save;

use std::path::PathBuf;

use clap::Args;

use super::filter;
pub use load::run as import;
pub use save::run as export;

/// Arguments of `export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Collection.
    pub collection: String,
    /// File to write; left out or `-`, standard output.
    pub file: Option<PathBuf>,
    /// Only documents whose metadata fits (see search); several must all match.
    #[arg(long = "filter", value_name = filter::VALUE_NAME)]
    pub filters: Vec<String>,
}

/// Arguments of `import`.
#[derive(Debug, Clone, Args)]
#[command(allow_missing_positional = true)]
pub struct ImportArgs {
    /// Collection, created if missing; left out, the one that was exported.
    pub collection: Option<String>,
    /// File to read; `-` is standard input.
    #[arg(required = true)]
    pub file: PathBuf,
    /// Let the collection's model make new vectors, if the file has those of another.
    #[arg(long)]
    pub encode: bool,
}
