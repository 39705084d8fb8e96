//! Arguments of `trove eval`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::embed::Vectors;
use crate::cli::search::{ModeArgs, RerankArgs, Unit};

/// Arguments of `eval`.
#[derive(Debug, Clone, Args)]
pub struct EvalArgs {
    /// A folder with corpus.jsonl, queries.jsonl and qrels.tsv; a .tsv file of sentence pairs, of word pairs or of words in
    /// context; or, with --collection, a .jsonl file of questions, each with a pattern of its right answer or none.
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
    /// How many documents each query ranks; below 100 there is no recall@100.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=200))]
    pub depth: u32,
    /// With --protocol service or joined: scan every vector instead of using the index.
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
    /// With --answers: chooses the questions, and the halves. The reader was trained on the calibration halves of the
    /// default, so that with another one its answers look better than they are.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// With --answers: leave out the first N questions of the half.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub skip_queries: usize,
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

/// How a retrieval dataset is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Embed title and text cut to the model's limit, rank every document exactly in the client.
    Beir,
    /// Index into a temporary collection, with the title in its field, and rank documents by their best hit.
    Service,
    /// The same, with the title before the text as well.
    Joined,
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
