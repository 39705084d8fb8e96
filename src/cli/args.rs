//! Command line arguments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::access::Secret;
use crate::config::Flag;

/// What follows the help text of the program.
const AFTER_HELP: &str = "\
First steps:
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
    /// Run the server.
    Serve(ServeArgs),
    /// Index files and folders.
    Index(IndexArgs),
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
    /// Look at and delete documents.
    Documents {
        /// What to do.
        #[command(subcommand)]
        command: DocumentsCommand,
    },
    /// Write a collection as JSON Lines, with its vectors.
    Export(super::transfer::ExportArgs),
    /// Read a collection that was exported.
    Import(super::transfer::ImportArgs),
    /// Keep copies of collections on the server, and put them back.
    Snapshots {
        /// What to do.
        #[command(subcommand)]
        command: super::snapshots::SnapshotsCommand,
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

/// The server's settings on the command line; they win over the environment and the file.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Configuration file; `trove config default` prints one to start from.
    #[arg(long, env = "TROVE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on, such as 127.0.0.1:7700; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Directory of the store, the models and the runtime library.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where the encoders run: auto, cpu, openvino or cuda.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// What the encoders compute in: auto, or a precision that the device has.
    #[arg(long, value_name = "PRECISION")]
    pub precision: Option<String>,
    /// What is logged, such as info or trove=debug.
    #[arg(long, value_name = "FILTER")]
    pub log_filter: Option<String>,
    /// Log lines: text or json.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Set any key of the configuration; can be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

impl ServeArgs {
    /// The settings that were given as flags.
    ///
    /// # Errors
    /// The text of a `--set` that is not KEY=VALUE.
    pub fn flags(&self) -> Result<Vec<Flag>, String> {
        let named = [
            ("--listen", "listen", &self.listen),
            ("--data-dir", "data_dir", &self.data_dir),
            ("--device", "encoder.device", &self.device),
            ("--precision", "encoder.precision", &self.precision),
            ("--log-filter", "log.filter", &self.log_filter),
            ("--log-format", "log.format", &self.log_format),
        ];
        let mut flags = Vec::new();
        for (flag, key, value) in named {
            if let Some(value) = value {
                flags.push(Flag { flag: flag.to_owned(), key: key.to_owned(), value: value.clone() });
            }
        }
        for setting in &self.settings {
            let Some((key, value)) = setting.split_once('=') else {
                return Err(format!("--set: expected KEY=VALUE, got {setting:?}"));
            };
            let (key, value) = (key.trim().to_owned(), value.to_owned());
            flags.push(Flag { flag: "--set".to_owned(), key, value });
        }
        Ok(flags)
    }
}

/// Commands on the configuration.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration that `serve` would take; print every setting with where it comes from.
    Check(ServeArgs),
    /// Print the configuration that `serve` would take, as TOML.
    Show(ServeArgs),
    /// Print a configuration file with every key, its meaning and its default.
    Default,
    /// Print the reference of all keys, as Markdown.
    Reference,
}

/// Arguments of `models`.
#[derive(Debug, Clone, Args)]
pub struct ModelsArgs {
    /// Configuration file.
    #[arg(long, global = true, env = "TROVE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory whose models/ is meant.
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
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
    /// Take in a model directory in the Hugging Face layout, or a GGUF file as a generator.
    Import {
        /// Directory with config.json, tokenizer.json and model.safetensors, onnx/model.onnx or model.onnx; or a .gguf file.
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

/// Arguments of `keys`.
#[derive(Debug, Clone, Args)]
pub struct KeysArgs {
    /// Configuration file.
    #[arg(long, global = true, env = "TROVE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory that holds the keys.
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScopeArg {
    /// Search, read and embed.
    Read,
    /// Also put documents in and take them out.
    Write,
    /// Also manage collections and the server.
    Admin,
}

/// Commands on API keys. A server that runs heeds every change at the next call.
#[derive(Debug, Clone, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, this once. From the first key on the server is closed to all who have none.
    Create {
        /// Name, for people.
        #[arg(long)]
        name: String,
        /// What it allows.
        #[arg(long, value_enum)]
        scope: ScopeArg,
        /// Only this collection; can be given several times.
        #[arg(long = "collection", value_name = "NAME")]
        collections: Vec<String>,
        /// How long it holds, such as 90d, 12h or 30m; left out, until it is revoked.
        #[arg(long, value_name = "TIME")]
        expires_in: Option<String>,
    },
    /// List the keys; the keys themselves are not stored.
    List,
    /// Revoke a key.
    Revoke {
        /// Id or name.
        key: String,
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
    /// Delete documents of the given paths whose files or records are gone.
    #[arg(long)]
    pub delete_missing: bool,
    /// Only files with these extensions, separated by commas; ones that are not known are read as plain text.
    #[arg(long, value_delimiter = ',', value_name = "EXTENSION")]
    pub extensions: Vec<String>,
    /// Also every other file that is text: program code, settings, logs.
    #[arg(long, conflicts_with = "extensions")]
    pub all_text: bool,
    /// Also hidden files and folders.
    #[arg(long)]
    pub hidden: bool,
    /// Also what .gitignore and the like leave out.
    #[arg(long)]
    pub no_ignore: bool,
    /// Follow symbolic links.
    #[arg(long)]
    pub follow_links: bool,
    /// What the documents' ids start with, instead of the name of the folder or file; for one path.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Extract and encode again even what is unchanged.
    #[arg(long)]
    pub force: bool,
    /// Only list the files that would be indexed.
    #[arg(long)]
    pub dry_run: bool,
    /// Most documents sent and not yet acknowledged.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub window: u32,
    /// Seconds to go on trying when the server is away, from the last acknowledgement.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub patience: u64,
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

/// What a search goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// The nearest vectors: meaning.
    Vector,
    /// The words.
    Keyword,
    /// Both.
    Hybrid,
}

/// What a search goes by, and how two rankings become one.
#[derive(Debug, Clone, Args)]
pub struct ModeArgs {
    /// What to search by; left out, texts are searched by both meaning and words, sentences and --like by meaning.
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Of a hybrid search: the weight of meaning, 0 to 1; the rest is that of the words.
    #[arg(long, value_name = "WEIGHT", conflicts_with = "rrf_k", allow_negative_numbers = true)]
    pub alpha: Option<f32>,
    /// Of a hybrid search: fuse by ranks with this constant (60 is usual), not by scores.
    #[arg(long, value_name = "K")]
    pub rrf_k: Option<u32>,
}

/// What the best hits are scored by again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RerankMethod {
    /// Similarity token by token, with the collection's own encoder.
    LateInteraction,
    /// A model that reads query and text together; the server must have one loaded (reranker.models).
    CrossEncoder,
}

/// Whether and how the best hits are scored again.
#[derive(Debug, Clone, Args)]
pub struct RerankArgs {
    /// Score the best hits again by a measure that sees more of the texts and takes longer.
    #[arg(long, value_enum, value_name = "METHOD")]
    pub rerank: Option<RerankMethod>,
    /// With --rerank: how many hits, 200 at most; the server's default if left out.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, requires = "rerank")]
    pub rerank_depth: u32,
    /// With --rerank late-interaction: its weight, 0 to 1; the rest is that of the first score.
    #[arg(long, value_name = "WEIGHT", requires = "rerank", allow_negative_numbers = true)]
    pub rerank_weight: Option<f32>,
    /// With --rerank cross-encoder: which one; the server's default if left out.
    #[arg(long, value_name = "MODEL", requires = "rerank")]
    pub rerank_model: Option<String>,
}

/// Arguments of `rerank`.
#[derive(Debug, Clone, Args)]
pub struct TextRerankArgs {
    /// The query.
    pub query: String,
    /// Texts to score; standard input, one a line, if left out.
    pub texts: Vec<String>,
    /// Cross-encoder; the server's default if left out.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub model: String,
    /// Best texts to print; zero prints all.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub limit: u32,
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
    /// What it goes by.
    #[command(flatten)]
    pub mode: ModeArgs,
    /// Whether the best are scored again.
    #[command(flatten)]
    pub rerank: RerankArgs,
    /// Print whole passages, not only what stands around the best sentence.
    #[arg(long)]
    pub full: bool,
    /// Least score of a result.
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    pub min_score: Option<f32>,
    /// Most results of one document; zero sets no limit.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub max_per_document: u32,
    /// Scan every vector instead of using the index.
    #[arg(long)]
    pub exact: bool,
    /// Candidates while the index is searched; more find more and take longer.
    #[arg(long, value_name = "N")]
    pub ef_search: Option<u32>,
    /// Find what is like this stored document.
    #[arg(long, value_name = "DOC_ID")]
    pub like: Option<String>,
    /// Only documents whose metadata has this value; several must all match.
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
}

/// How tokens are chosen.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Most tokens to write; zero takes the server's default.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub max_tokens: u32,
    /// Zero, the default, always takes the most probable token.
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Keep the most probable tokens that together have this probability.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Keep this many of the most probable tokens.
    #[arg(long, value_name = "N")]
    pub top_k: Option<u32>,
    /// Keep tokens at least this probable relative to the best.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Above one discourages repeats.
    #[arg(long, value_name = "PENALTY", allow_negative_numbers = true)]
    pub repetition_penalty: Option<f32>,
    /// Text that ends the answer; can be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Makes sampling repeatable.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Do not draft tokens from the prompt; slower, with the same text.
    #[arg(long)]
    pub no_speculation: bool,
}

/// How a question is answered.
#[derive(Debug, Clone, Args)]
pub struct AnswerArgs {
    /// Collection.
    #[arg(long, default_value = "default")]
    pub collection: String,
    /// Answer with the best sentences of the documents, word for word.
    #[arg(long, conflicts_with = "generative")]
    pub extractive: bool,
    /// Let a generator write; fail where the server has none.
    #[arg(long)]
    pub generative: bool,
    /// What the passages are found by.
    #[command(flatten)]
    pub search: ModeArgs,
    /// Passages to retrieve.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Most passages that the answer is made from; zero takes the server's default.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub passages: u32,
    /// Most tokens of passages in the prompt; zero takes what fits.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub max_context_tokens: u32,
    /// Generator; the server's default if left out.
    #[arg(long, default_value = "")]
    pub model: String,
    /// Prompt template of the server.
    #[arg(long, default_value = "", value_name = "NAME", hide_default_value = true)]
    pub prompt: String,
    /// Least answerability, 0 to 1, from which on an answer is written.
    #[arg(long, value_name = "SCORE")]
    pub answerability_threshold: Option<f32>,
    /// Least support, 0 to 1, from which on a passage is cited for a sentence.
    #[arg(long, value_name = "SCORE")]
    pub support_threshold: Option<f32>,
    /// Only documents whose metadata has this value; several must all match.
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// Arguments of `ask`.
#[derive(Debug, Clone, Args)]
pub struct AskArgs {
    /// The question.
    pub question: String,
    /// How it is answered.
    #[command(flatten)]
    pub answer: AnswerArgs,
}

/// Arguments of `chat`.
#[derive(Debug, Clone, Args)]
pub struct ChatArgs {
    /// How questions are answered.
    #[command(flatten)]
    pub answer: AnswerArgs,
}

/// Arguments of `generate`.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// The prompt; none reads standard input.
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

/// Which token vectors are pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Vectors {
    /// The encoder's last hidden state: a word's vector depends on its sentence.
    Contextual,
    /// The input embedding table: a word has the same vector everywhere.
    Static,
}

/// Arguments of `embed`.
#[derive(Debug, Clone, Args)]
pub struct EmbedArgs {
    /// Texts; none reads the lines of standard input.
    pub texts: Vec<String>,
    /// Model id; the server's default if left out.
    #[arg(long, default_value = "")]
    pub model: String,
    /// Which spans get a vector.
    #[arg(long, value_enum, default_value_t = Level::Document)]
    pub level: Level,
    /// Which token vectors are pooled.
    #[arg(long, value_enum, default_value_t = Vectors::Contextual)]
    pub representation: Vectors,
    /// What happens to long texts.
    #[arg(long, value_enum, default_value_t = OverflowMode::Error)]
    pub overflow: OverflowMode,
    /// Named prompt of the model, such as query.
    #[arg(long, value_name = "NAME")]
    pub prompt: Option<String>,
    /// Leading components to keep.
    #[arg(long, value_name = "N")]
    pub dimensions: Option<u32>,
    /// Leave vectors at the length that the model gives them.
    #[arg(long)]
    pub no_normalize: bool,
}

/// Arguments of `tokenize`.
#[derive(Debug, Clone, Args)]
pub struct TokenizeArgs {
    /// Texts; none reads the lines of standard input.
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
        /// Give sentences an index of their own; about five times the points.
        #[arg(long)]
        index_sentences: bool,
        /// Language of the documents: which endings and common words a search by words leaves out. `none` for none.
        #[arg(long, default_value = "english")]
        language: String,
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
    /// Index into a temporary collection and rank documents by their best hit.
    Service,
}

/// How the questions of an evaluation are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Answers {
    /// With sentences of the documents.
    Extractive,
    /// By the generator.
    Generated,
}

/// Which questions of a set are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// One half, always answered; the thresholds that suit it best are printed.
    Calibration,
    /// The other half, answered as the server does.
    Evaluation,
    /// Both, answered as the server does.
    All,
}

/// Arguments of `eval`.
#[derive(Debug, Clone, Args)]
pub struct EvalArgs {
    /// A folder with corpus.jsonl, queries.jsonl and qrels.tsv, or a .tsv file of sentence pairs,
    /// of word pairs or of words in context.
    pub path: PathBuf,
    /// How a retrieval dataset is measured.
    #[arg(long, value_enum, default_value_t = Protocol::Beir)]
    pub protocol: Protocol,
    /// With --protocol service: what a hit is.
    #[arg(long, value_enum, default_value_t = Unit::Passage)]
    pub unit: Unit,
    /// With --protocol service or --answers: what it goes by.
    #[command(flatten)]
    pub mode: ModeArgs,
    /// With --protocol service: whether the best are scored again.
    #[command(flatten)]
    pub rerank: RerankArgs,
    /// With --protocol service: scan every vector instead of using the index.
    #[arg(long)]
    pub exact: bool,
    /// Leave the titles of the documents out.
    #[arg(long)]
    pub no_title: bool,
    /// Keep the documents that exclude.tsv leaves out of rankings.
    #[arg(long)]
    pub no_exclude: bool,
    /// Judgements to use instead of qrels.tsv.
    #[arg(long, value_name = "FILE")]
    pub qrels: Option<PathBuf>,
    /// Answer the questions of a folder with answers instead of ranking its documents.
    #[arg(long, value_enum, value_name = "HOW")]
    pub answers: Option<Answers>,
    /// With --answers: which half of the questions. Thresholds are chosen on the one and reported on the other.
    #[arg(long, value_enum, default_value_t = Part::Evaluation)]
    pub part: Part,
    /// With --answers: chooses the questions, and the halves.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// With --answers: most passages that an answer is made from; zero takes the server's default.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub passages: u32,
    /// With --answers: prompt template of the server.
    #[arg(long, default_value = "", value_name = "NAME", hide_default_value = true)]
    pub prompt: String,
    /// With --answers: no document answers any question, as where the collection holds other documents.
    #[arg(long, requires = "collection")]
    pub unanswerable: bool,
    /// With --answers or --protocol service: a collection to use, made of the folder's documents if missing and kept.
    #[arg(long, value_name = "NAME")]
    pub collection: Option<String>,
    /// With --answers: a file with a JSON line for each question; those that it holds are not asked again.
    #[arg(long, value_name = "FILE")]
    pub records: Option<PathBuf>,
    /// For sentence and word pairs: which token vectors are pooled.
    #[arg(long, value_enum, default_value_t = Vectors::Contextual)]
    pub representation: Vectors,
    /// Use only the first N queries or pairs; with --answers at most N answerable and N unanswerable questions.
    #[arg(long, value_name = "N")]
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
