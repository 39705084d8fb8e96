//! Command line arguments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Embedding and semantic search over gRPC.
#[derive(Debug, Parser)]
#[command(name = "trove", version, about)]
pub struct Cli {
    /// Address of the server.
    #[arg(long, global = true, env = "TROVE_SERVER", default_value = "http://127.0.0.1:7700")]
    pub server: String,
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server.
    Serve(ServeArgs),
    /// Index files and folders.
    Index(IndexArgs),
    /// Search a collection by meaning.
    Search(SearchArgs),
    /// Embed texts.
    Embed(EmbedArgs),
    /// Split texts into tokens.
    Tokenize(TokenizeArgs),
    /// Manage collections.
    Collections {
        /// What to do.
        #[command(subcommand)]
        command: CollectionsCommand,
    },
    /// Look at and delete documents.
    Documents {
        /// What to do.
        #[command(subcommand)]
        command: DocumentsCommand,
    },
    /// Get models and look at them, on this machine.
    Models(ModelsArgs),
    /// Show the server's version, limits and models.
    Info,
    /// Measure quality on a dataset.
    Eval(EvalArgs),
}

/// Arguments of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Configuration file.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Directory of the store.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Address to listen on, such as 127.0.0.1:7700.
    #[arg(long)]
    pub listen: Option<String>,
}

/// Arguments of `models`.
#[derive(Debug, Clone, Args)]
pub struct ModelsArgs {
    /// Configuration file.
    #[arg(long, global = true)]
    pub config: Option<PathBuf>,
    /// Directory whose models/ is meant.
    #[arg(long, global = true)]
    pub data_dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: ModelsCommand,
}

/// Commands on models.
#[derive(Debug, Clone, Subcommand)]
pub enum ModelsCommand {
    /// List the models that are there.
    List,
    /// Show one model: what it is, its files, and how a server runs it.
    Show {
        /// Name.
        name: String,
    },
    /// Take in a model directory in the Hugging Face layout.
    Import {
        /// Directory with config.json, tokenizer.json and model.safetensors, onnx/model.onnx or model.onnx.
        source: PathBuf,
        /// Name to give it; the directory's if left out.
        #[arg(long)]
        name: Option<String>,
        /// Replace another model of that name.
        #[arg(long)]
        replace: bool,
    },
    /// Fetch a model from the Hugging Face hub and take it in.
    Pull {
        /// Repository on the hub.
        #[arg(value_name = "OWNER/NAME")]
        repository: String,
        /// Branch, tag or commit; the main branch if left out.
        #[arg(long)]
        revision: Option<String>,
        /// Name to give it; the repository's if left out.
        #[arg(long)]
        name: Option<String>,
        /// Use only what is in the hub's cache.
        #[arg(long)]
        offline: bool,
        /// Replace another model of that name.
        #[arg(long)]
        replace: bool,
    },
}

/// Arguments of `index`.
#[derive(Debug, Clone, Args)]
pub struct IndexArgs {
    /// Files and folders.
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Collection, created if missing.
    #[arg(long, default_value = "default")]
    pub collection: String,
    /// Delete documents of the given roots whose files or records are gone.
    #[arg(long)]
    pub delete_missing: bool,
    /// Only these file extensions, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub extensions: Vec<String>,
    /// Most documents sent and not yet acknowledged.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub window: u32,
}

/// What a search result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    /// Passages.
    Passage,
    /// Single sentences.
    Sentence,
    /// Whole documents.
    Document,
}

/// Arguments of `search`.
#[derive(Debug, Clone, Args)]
pub struct SearchArgs {
    /// The query; leave out with --like.
    #[arg(required_unless_present = "like", conflicts_with = "like")]
    pub query: Option<String>,
    /// Collection.
    #[arg(long, default_value = "default")]
    pub collection: String,
    /// Most results.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// What a result is.
    #[arg(long, value_enum, default_value_t = Unit::Passage)]
    pub unit: Unit,
    /// Scan every vector instead of using the index.
    #[arg(long)]
    pub exact: bool,
    /// Find what is like this stored document.
    #[arg(long, value_name = "DOC_ID")]
    pub like: Option<String>,
    /// Only documents whose metadata has this value; several must all match.
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
}

/// Which spans get a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Model tokens.
    Token,
    /// Words.
    Word,
    /// Sentences.
    Sentence,
    /// Passages.
    Passage,
    /// The whole text.
    Document,
}

/// What happens to a text longer than the model's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OverflowMode {
    /// Fail.
    Error,
    /// Cut the end.
    TruncateRight,
    /// Cut the start.
    TruncateLeft,
    /// Pool overlapping windows.
    Window,
}

/// Arguments of `embed`.
#[derive(Debug, Clone, Args)]
pub struct EmbedArgs {
    /// Texts.
    #[arg(required = true)]
    pub texts: Vec<String>,
    /// Model id; the server's default if left out.
    #[arg(long, default_value = "")]
    pub model: String,
    /// Which spans get a vector.
    #[arg(long, value_enum, default_value_t = Level::Document)]
    pub level: Level,
    /// What happens to long texts.
    #[arg(long, value_enum, default_value_t = OverflowMode::Error)]
    pub overflow: OverflowMode,
}

/// Arguments of `tokenize`.
#[derive(Debug, Clone, Args)]
pub struct TokenizeArgs {
    /// Texts.
    #[arg(required = true)]
    pub texts: Vec<String>,
    /// Model id; the server's default if left out.
    #[arg(long, default_value = "")]
    pub model: String,
}

/// Commands on collections.
#[derive(Debug, Clone, Subcommand)]
pub enum CollectionsCommand {
    /// List all collections.
    List,
    /// Show one collection.
    Show {
        /// Name.
        name: String,
    },
    /// Create a collection.
    Create {
        /// Name.
        name: String,
        /// Text for people.
        #[arg(long, default_value = "")]
        description: String,
        /// Encoder; the server's default if left out.
        #[arg(long, default_value = "")]
        model: String,
    },
    /// Delete a collection.
    Delete {
        /// Name.
        name: String,
        /// Delete even if it has documents.
        #[arg(long)]
        force: bool,
    },
    /// Drop deleted points and give their space back.
    Compact {
        /// Name.
        name: String,
    },
}

/// Commands on documents.
#[derive(Debug, Clone, Subcommand)]
pub enum DocumentsCommand {
    /// List documents.
    List {
        /// Collection.
        #[arg(long, default_value = "default")]
        collection: String,
        /// Most documents to list; zero lists all.
        #[arg(long, default_value_t = 0)]
        limit: usize,
        /// Only documents whose metadata has this value.
        #[arg(long = "filter", value_name = "KEY=VALUE")]
        filters: Vec<String>,
    },
    /// Show one document with its passages.
    Show {
        /// Document id.
        id: String,
        /// Collection.
        #[arg(long, default_value = "default")]
        collection: String,
    },
    /// Delete documents.
    Delete {
        /// Document ids.
        #[arg(required_unless_present = "filters")]
        ids: Vec<String>,
        /// Collection.
        #[arg(long, default_value = "default")]
        collection: String,
        /// Delete documents whose metadata has this value.
        #[arg(long = "filter", value_name = "KEY=VALUE", conflicts_with = "ids")]
        filters: Vec<String>,
    },
}

/// How a retrieval dataset is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Embed title and text cut to the model's limit, rank every document exactly in the client.
    Beir,
    /// Index into a temporary collection and rank documents by their best passage.
    Service,
}

/// Arguments of `eval`.
#[derive(Debug, Clone, Args)]
pub struct EvalArgs {
    /// A BEIR-style folder, or a .tsv file of sentence pairs or of words in context.
    pub path: PathBuf,
    /// How a retrieval dataset is measured.
    #[arg(long, value_enum, default_value_t = Protocol::Beir)]
    pub protocol: Protocol,
    /// Use only the first N queries.
    #[arg(long)]
    pub limit_queries: Option<usize>,
    /// Model id; the server's default if left out.
    #[arg(long, default_value = "")]
    pub model: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
