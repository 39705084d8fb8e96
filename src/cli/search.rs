//! `trove search`.

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::client::Client;
use super::documents::passage_json;
use super::output::{Text, indented, line};
use super::snippet::{Layout, snippet};
use super::tokenize::span_text;
use super::{EXIT_FAILED, EXIT_OK, filter, output};
use crate::proto::{
    Fusion, LateInteraction, Passage, Place, Rerank, SearchHit, SearchMode, SearchQuery, SearchRequest,
    SearchUnit, fusion, rerank, search_query,
};

/// Arguments of `search`.
#[derive(Debug, Clone, Args)]
pub struct SearchArgs {
    /// The query; leave out with --like. It has no operators: quotes, minus signs and the like are read as text.
    #[arg(required_unless_present = "like", conflicts_with = "like", allow_hyphen_values = true)]
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
    /// Let the last word be the beginning of one.
    #[arg(long)]
    pub prefix: bool,
    /// Show the same passage once for each document that holds it.
    #[arg(long)]
    pub keep_repeats: bool,
    /// Scan every vector instead of using the index.
    #[arg(long)]
    pub exact: bool,
    /// Candidates while the index is searched; more find more and take longer.
    #[arg(long, value_name = "N")]
    pub ef_search: Option<u32>,
    /// Find what is like this stored document.
    #[arg(long, value_name = "DOC_ID")]
    pub like: Option<String>,
    /// Only documents whose metadata fits: KEY=VALUE, or !=, <, <=, > or >= with a number, a date or a text; several must
    /// all match.
    #[arg(long = "filter", value_name = filter::VALUE_NAME)]
    pub filters: Vec<String>,
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
    /// Of a hybrid search: the weight of a passage's best sentence in its similarity, 0 to 1; the rest is that of the
    /// whole passage.
    #[arg(long, value_name = "WEIGHT", conflicts_with = "rrf_k", allow_negative_numbers = true)]
    pub sentence_weight: Option<f32>,
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

/// Columns before a hit's text.
const INDENT: usize = 5;
/// Lines of a hit's text unless all of it is asked for.
const SNIPPET_LINES: usize = 3;

/// Searches and prints the hits; finding nothing is exit code 1.
pub async fn run(client: &Client, json: bool, args: SearchArgs) -> Result<i32> {
    let by_both = args.like.is_none()
        && args.unit != Unit::Sentence
        && args.mode.mode.is_none_or(|m| m == Mode::Hybrid);
    let query = match args.like {
        Some(id) => search_query::Query::DocumentId(id),
        None => search_query::Query::Text(args.query.unwrap_or_default()),
    };
    let request = SearchRequest {
        collection: args.collection,
        query: Some(SearchQuery { query: Some(query) }),
        limit: args.limit,
        filter: filter::parse(&args.filters)?,
        score_threshold: args.min_score,
        ef_search: args.ef_search,
        exact: args.exact,
        prefix_last_word: args.prefix,
        keep_repeats: args.keep_repeats,
        max_per_document: args.max_per_document,
        unit: unit(args.unit).into(),
        mode: mode(&args.mode).into(),
        fusion: fusion(&args.mode),
        rerank: rerank(&args.rerank),
        include_highlights: args.unit != Unit::Sentence,
        ..Default::default()
    };
    let response = client.search().search(request).await?.into_inner();
    if json {
        output::print_json(&response.hits.iter().map(hit_json).collect::<Value>())?;
    } else {
        print_hits(&response.hits, args.full)?;
    }
    if by_both && response.mode() == SearchMode::Vector {
        output::note(
            "searched by meaning alone: the query has no word to look up, or the keyword index is not ready",
        );
    }
    if response.damaged_hits > 0 {
        output::note(format!(
            "left out {} hits whose records are damaged; the server's log names them",
            response.damaged_hits
        ));
    }
    Ok(if response.hits.is_empty() { EXIT_FAILED } else { EXIT_OK })
}

/// The unit of the API.
pub fn unit(unit: Unit) -> SearchUnit {
    match unit {
        Unit::Passage => SearchUnit::Passage,
        Unit::Sentence => SearchUnit::Sentence,
        Unit::Document => SearchUnit::Document,
    }
}

/// The mode of the API.
pub fn mode(args: &ModeArgs) -> SearchMode {
    match args.mode {
        None => SearchMode::Unspecified,
        Some(Mode::Vector) => SearchMode::Vector,
        Some(Mode::Keyword) => SearchMode::Keyword,
        Some(Mode::Hybrid) => SearchMode::Hybrid,
    }
}

/// The fusion of the API; unset for the server's default.
pub fn fusion(args: &ModeArgs) -> Option<Fusion> {
    let by_rank = args.rrf_k.map(fusion::Method::RrfK);
    let method = by_rank.or(args.alpha.map(fusion::Method::Alpha));
    let sentence_weight = args.sentence_weight;
    (method.is_some() || sentence_weight.is_some()).then_some(Fusion { method, sentence_weight })
}

/// The rerank of the API; unset where none is asked for.
pub fn rerank(args: &RerankArgs) -> Option<Rerank> {
    let method = match args.rerank? {
        RerankMethod::LateInteraction => {
            rerank::Method::LateInteraction(LateInteraction { weight: args.rerank_weight })
        }
        RerankMethod::CrossEncoder => {
            rerank::Method::CrossEncoder(args.rerank_model.clone().unwrap_or_default())
        }
    };
    Some(Rerank { method: Some(method), depth: args.rerank_depth })
}

fn hit_json(hit: &SearchHit) -> Value {
    let highlights: Vec<Value> = hit
        .highlights
        .iter()
        .map(
            |h| json!({"span": h.span.as_ref().map(|s| json!([s.start, s.end])), "similarity": h.similarity}),
        )
        .collect();
    json!({"score": hit.score, "vector_score": hit.vector_score, "sentence_score": hit.sentence_score, "keyword_score": hit.keyword_score, "rerank_score": hit.rerank_score, "title": hit.title, "source_uri": hit.source_uri, "passage": hit.passage.as_ref().map(passage_json),
        "metadata": output::metadata_map_json(&hit.metadata), "highlights": highlights, "repeat_count": hit.repeat_count, "repeats": hit.repeats.iter().map(repeat_json).collect::<Value>()})
}

fn repeat_json(place: &Place) -> Value {
    json!({"document_id": place.document_id, "passage_index": place.passage_index, "title": place.title, "source_uri": place.source_uri,
        "span": place.span.as_ref().map(|s| json!([s.start, s.end])), "page_number": place.page_number})
}

fn print_hits(hits: &[SearchHit], full: bool) -> Result<()> {
    if hits.is_empty() {
        return line("nothing found");
    }
    let layout = Layout {
        width: output::width() - INDENT,
        lines: if full { 0 } else { SNIPPET_LINES },
        bold: console::colors_enabled(),
    };
    for (rank, hit) in hits.iter().enumerate() {
        if rank > 0 {
            line("")?;
        }
        print_hit(rank + 1, hit, layout)?;
    }
    Ok(())
}

/// Where in its document a passage is: page and bytes.
pub(super) fn place_of(passage: &Passage) -> Vec<String> {
    let page = passage.page_number.map(|page| format!("page {page}"));
    let bytes = passage.span.as_ref().map(|span| format!("bytes {}", span_text(span)));
    page.into_iter().chain(bytes).collect()
}

fn print_hit(rank: usize, hit: &SearchHit, layout: Layout) -> Result<()> {
    let passage = hit.passage.clone().unwrap_or_default();
    let place = place_of(&passage);
    let score = format!("{:.4}", hit.rerank_score.unwrap_or(hit.score));
    let head = Text::from(format!("{rank:>3}. ")).bold(score).plain("  ").bold(&passage.document_id);
    line(head.plain("  ").dim(place.join(", ")))?;
    let place = heading_line(hit, &passage);
    if !place.is_empty() {
        line(indented(INDENT).dim(output::shorten(&place, layout.width)))?;
    }
    let best = hit.highlights.first().and_then(|h| h.span).map(|s| s.start as usize..s.end as usize);
    for row in snippet(&passage.text, best, layout) {
        line(indented(INDENT).and(&row))?;
    }
    if let Some(others) = others_line(hit) {
        line(indented(INDENT).dim(output::shorten(&others, layout.width)))?;
    }
    Ok(())
}

/// The other documents that hold the text of a hit.
fn others_line(hit: &SearchHit) -> Option<String> {
    const NAMED: usize = 3;
    let named: Vec<&str> = hit.repeats.iter().take(NAMED).map(|place| place.document_id.as_str()).collect();
    let more = (hit.repeat_count as usize).saturating_sub(named.len());
    match more {
        _ if named.is_empty() => None,
        0 => Some(format!("also in {}", named.join(", "))),
        more => Some(format!("also in {} and {more} more", named.join(", "))),
    }
}

/// The title and the heading path, without saying one thing twice.
fn heading_line(hit: &SearchHit, passage: &Passage) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in std::iter::once(hit.title.as_str()).chain(passage.headings.iter().map(String::as_str)) {
        if !part.trim().is_empty() && parts.last() != Some(&part) {
            parts.push(part);
        }
    }
    parts.join(" > ")
}
