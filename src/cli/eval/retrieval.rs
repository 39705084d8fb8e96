//! Retrieval: nDCG, MRR and recall on a BEIR-style folder.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use futures::{StreamExt, TryStreamExt};
use rayon::prelude::*;
use serde_json::json;

use super::args::{EvalArgs, Protocol};
use super::dataset::{self, Dataset, Entry, Selection};
use super::embedder::document_vectors;
use super::metrics::{ndcg, recall, reciprocal_rank};
use crate::cli::client::Client;
use crate::cli::search::{ModeArgs, fusion, mode, rerank, unit};
use crate::cli::{EXIT_OK, output};
use crate::domain::dot;
use crate::proto::document::Content;
use crate::proto::{
    DeleteCollectionRequest, Document, DocumentStatus, EmbedOptions, EmbeddingLevel, Overflow, SearchQuery,
    SearchRequest, UpsertDocumentsRequest, search_query,
};

/// Documents of one upsert.
const BATCH: usize = 32;

/// Rankings by query, in the order of the queries, and what they cost.
struct Ranked {
    rankings: Vec<Vec<String>>,
    corpus_time: Duration,
    query_time: Duration,
}

/// Measures a folder.
pub async fn run(client: &Client, json: bool, args: &EvalArgs) -> Result<i32> {
    let selection = Selection {
        qrels: args.qrels.clone(),
        no_title: args.no_title,
        no_exclude: args.no_exclude,
        limit_queries: args.limit_queries,
    };
    let data = dataset::read(&args.path, &selection)?;
    ensure!(!data.queries.is_empty(), "no query has a relevant document");
    let ranked = match args.protocol {
        Protocol::Beir => rank_in_client(client, args, &data).await?,
        Protocol::Service | Protocol::Joined => rank_in_service(client, args, &data).await?,
    };
    report(json, args, &data, &ranked)
}

async fn rank_in_client(client: &Client, args: &EvalArgs, data: &Dataset) -> Result<Ranked> {
    let options = EmbedOptions {
        model: args.model.clone(),
        level: EmbeddingLevel::Document.into(),
        overflow: Overflow::TruncateRight.into(),
        ..Default::default()
    };
    // An empty document has no vector; no ranking holds it.
    let (ids, texts): (Vec<&str>, Vec<String>) = data
        .corpus
        .iter()
        .map(|entry| (entry.id.as_str(), full_text(entry)))
        .filter(|(_, text)| !text.is_empty())
        .unzip();
    let started = Instant::now();
    let vectors = document_vectors(client, &texts, &options, "corpus").await?;
    let documents: Vec<(&str, Vec<f32>)> = ids.into_iter().zip(vectors).collect();
    let corpus_time = started.elapsed();
    let texts: Vec<String> = data.queries.iter().map(|q| q.text.clone()).collect();
    let started = Instant::now();
    let queries = document_vectors(client, &texts, &options, "queries").await?;
    let rankings = data
        .queries
        .par_iter()
        .zip(&queries)
        .map(|(q, vector)| rank(data, q, vector, &documents, args.depth))
        .collect();
    Ok(Ranked { rankings, corpus_time, query_time: started.elapsed() })
}

fn full_text(entry: &Entry) -> String {
    format!("{} {}", entry.title, entry.text).trim().to_owned()
}

fn rank(
    data: &Dataset,
    query: &Entry,
    vector: &[f32],
    documents: &[(&str, Vec<f32>)],
    depth: u32,
) -> Vec<String> {
    let mut scored: Vec<(f32, &str)> = documents.iter().map(|(id, d)| (dot(vector, d), *id)).collect();
    // A stable sort: ties stay in the order of the corpus.
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let excluded = data.excluded.get(&query.id);
    scored
        .into_iter()
        .map(|(_, id)| id)
        .filter(|id| !excluded.is_some_and(|set| set.contains(*id)))
        .take(depth as usize)
        .map(str::to_owned)
        .collect()
}

async fn rank_in_service(client: &Client, args: &EvalArgs, data: &Dataset) -> Result<Ranked> {
    if let Some(collection) = &args.collection {
        client.ensure_collection(collection, &args.model).await?;
        return index_and_search(client, args, collection, data).await;
    }
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_millis()).unwrap_or_default();
    let collection = format!("eval-{}-{stamp}", std::process::id());
    client.ensure_collection(&collection, &args.model).await?;
    let ranked = index_and_search(client, args, &collection, data).await;
    let request = DeleteCollectionRequest { name: collection, etag: String::new(), force: true };
    let deleted = client.collections().delete_collection(request).await;
    let ranked = ranked?;
    deleted?;
    Ok(ranked)
}

async fn index_and_search(
    client: &Client,
    args: &EvalArgs,
    collection: &str,
    data: &Dataset,
) -> Result<Ranked> {
    let started = Instant::now();
    let requests: Vec<UpsertDocumentsRequest> = data
        .corpus
        .chunks(BATCH)
        .map(|chunk| UpsertDocumentsRequest {
            collection: collection.to_owned(),
            documents: chunk.iter().map(|entry| document(entry, args.protocol)).collect(),
            validate_only: false,
            force: false,
        })
        .collect();
    futures::stream::iter(requests.into_iter().map(anyhow::Ok))
        .try_for_each_concurrent(4, |request| upsert(client, request))
        .await?;
    let corpus_time = started.elapsed();
    let started = Instant::now();
    let rankings = futures::stream::iter(&data.queries)
        .map(|query| search(client, args, collection, data, query))
        .buffered(4)
        .try_collect()
        .await?;
    Ok(Ranked { rankings, corpus_time, query_time: started.elapsed() })
}

fn document(entry: &Entry, protocol: Protocol) -> Document {
    let text = if protocol == Protocol::Joined { full_text(entry) } else { entry.text.clone() };
    Document {
        id: entry.id.clone(),
        title: entry.title.clone(),
        content: Some(Content::Text(text)),
        mime_type: "text/plain".to_owned(),
        ..Default::default()
    }
}

pub(super) async fn upsert(client: &Client, request: UpsertDocumentsRequest) -> Result<()> {
    let response = client.documents().upsert_documents(request).await?.into_inner();
    for result in &response.results {
        // An empty document cannot be found by any protocol; it stays in the judgements.
        if result.status() == DocumentStatus::Failed && !result.error_reason.contains("EMPTY") {
            bail!("document {}: {}: {}", result.document_id, result.error_reason, result.error_message);
        }
    }
    Ok(())
}

async fn search(
    client: &Client,
    args: &EvalArgs,
    collection: &str,
    data: &Dataset,
    query: &Entry,
) -> Result<Vec<String>> {
    let request = SearchRequest {
        collection: collection.to_owned(),
        query: Some(SearchQuery { query: Some(search_query::Query::Text(query.text.clone())) }),
        limit: args.depth + data.excluded.get(&query.id).map_or(0, |set| set.len().min(800) as u32),
        max_per_document: 1,
        keep_repeats: true,
        unit: unit(args.unit).into(),
        mode: mode(&args.mode).into(),
        fusion: fusion(&args.mode),
        rerank: rerank(&args.rerank),
        exact: args.exact,
        ..Default::default()
    };
    let hits = client.search().search(request).await?.into_inner().hits;
    let mut seen = data.excluded.get(&query.id).cloned().unwrap_or_else(HashSet::new);
    let ids = hits.into_iter().filter_map(|hit| hit.passage).map(|p| p.document_id);
    Ok(ids.filter(|id| seen.insert(id.clone())).take(args.depth as usize).collect())
}

fn report(json: bool, args: &EvalArgs, data: &Dataset, ranked: &Ranked) -> Result<i32> {
    let empty = super::metrics::Relevance::new();
    let count = data.queries.len() as f64;
    let mean = |measure: &dyn Fn(&[String], &super::metrics::Relevance) -> f64| {
        let pairs = data.queries.iter().zip(&ranked.rankings);
        pairs.map(|(q, list)| measure(list, data.relevance.get(&q.id).unwrap_or(&empty))).sum::<f64>() / count
    };
    let ndcg10 = mean(&|list, r| ndcg(list, r, 10));
    let mrr10 = mean(&|list, r| reciprocal_rank(list, r, 10));
    let recall10 = mean(&|list, r| recall(list, r, 10));
    let recall100 = (args.depth >= 100).then(|| mean(&|list, r| recall(list, r, 100)));
    let (corpus_seconds, query_seconds) = (ranked.corpus_time.as_secs_f64(), ranked.query_time.as_secs_f64());
    let protocol = match args.protocol {
        Protocol::Beir => "beir".to_owned(),
        Protocol::Service | Protocol::Joined => {
            let name = if args.protocol == Protocol::Joined { "joined" } else { "service" };
            let unit = unit(args.unit).as_str_name().trim_start_matches("SEARCH_UNIT_").to_lowercase();
            let mode = match args.mode.mode {
                None => "default".to_owned(),
                Some(_) => mode(&args.mode).as_str_name().trim_start_matches("SEARCH_MODE_").to_lowercase(),
            };
            let ModeArgs { rrf_k, alpha, sentence_weight, .. } = args.mode;
            let rrf_k = rrf_k.map(|k| format!(", rrf_k {k}"));
            let alpha = alpha.map(|weight| format!(", alpha {weight}"));
            let sentences = sentence_weight.map(|weight| format!(", sentence weight {weight}"));
            let fusion: String = [rrf_k, alpha, sentences].into_iter().flatten().collect();
            let reranked = match args.rerank.rerank.and_then(|method| method.to_possible_value()) {
                None => String::new(),
                Some(method) => format!(", rerank {}", method.get_name()),
            };
            let exact = if args.exact { ", exact" } else { "" };
            format!("{name}, unit {unit}, mode {mode}{fusion}{reranked}{exact}")
        }
    };
    if json {
        output::print_json(
            &json!({"task": "retrieval", "protocol": protocol, "documents": data.corpus.len(),
            "queries": data.queries.len(), "depth": args.depth, "ndcg_at_10": ndcg10, "mrr_at_10": mrr10, "recall_at_10": recall10,
            "recall_at_100": recall100, "corpus_seconds": corpus_seconds, "query_seconds": query_seconds}),
        )?;
        return Ok(EXIT_OK);
    }
    output::line(format!(
        "{} documents, {} queries, protocol {protocol}",
        data.corpus.len(),
        data.queries.len()
    ))?;
    let measures = [("nDCG@10", ndcg10), ("MRR@10", mrr10), ("Recall@10", recall10)];
    for (name, value) in measures.into_iter().chain(recall100.map(|value| ("Recall@100", value))) {
        output::line(format!("{name:<11} {value:.4}"))?;
    }
    output::line(format!(
        "corpus {corpus_seconds:.1} s ({:.1} documents/s), queries {query_seconds:.1} s ({:.2} ms each)",
        data.corpus.len() as f64 / corpus_seconds.max(1e-9),
        query_seconds * 1000.0 / count
    ))?;
    Ok(EXIT_OK)
}
