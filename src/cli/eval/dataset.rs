//! Reads BEIR-style folders.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::metrics::Relevance;

/// A line of corpus.jsonl or queries.jsonl.
#[derive(Debug, Clone, Deserialize)]
pub struct Entry {
    /// Id.
    #[serde(alias = "_id")]
    pub id: String,
    /// Title.
    #[serde(default)]
    pub title: String,
    /// Text.
    #[serde(default)]
    pub text: String,
}

/// A retrieval dataset.
#[derive(Debug)]
pub struct Dataset {
    /// Documents.
    pub corpus: Vec<Entry>,
    /// Queries that have judgements.
    pub queries: Vec<Entry>,
    /// Judgements by query id.
    pub relevance: HashMap<String, Relevance>,
    /// Pairs of query and document that are left out of rankings.
    pub excluded: HashMap<String, HashSet<String>>,
}

/// Reads a folder; only queries with a relevant document are kept.
pub fn read(folder: &Path, limit_queries: Option<usize>) -> Result<Dataset> {
    let corpus = read_entries(&folder.join("corpus.jsonl"))?;
    let mut relevance: HashMap<String, Relevance> = HashMap::new();
    for row in read_tsv(&folder.join("qrels.tsv"))? {
        let [query, document, grade] = row.as_slice() else {
            bail!("qrels.tsv: expected 3 columns, got {row:?}")
        };
        let grade: i64 = grade.trim().parse().with_context(|| format!("qrels.tsv: grade {grade:?}"))?;
        relevance.entry(query.clone()).or_default().insert(document.clone(), grade);
    }
    let mut excluded: HashMap<String, HashSet<String>> = HashMap::new();
    let exclude_path = folder.join("exclude.tsv");
    if exclude_path.is_file() {
        for row in read_tsv(&exclude_path)? {
            let [query, document] = row.as_slice() else {
                bail!("exclude.tsv: expected 2 columns, got {row:?}")
            };
            excluded.entry(query.clone()).or_default().insert(document.clone());
        }
    }
    let mut queries = read_entries(&folder.join("queries.jsonl"))?;
    queries.retain(|q| relevance.get(&q.id).is_some_and(|r| r.values().any(|grade| *grade > 0)));
    if let Some(limit) = limit_queries {
        queries.truncate(limit);
    }
    Ok(Dataset { corpus, queries, relevance, excluded })
}

fn read_entries(path: &Path) -> Result<Vec<Entry>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut entries = Vec::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("reading {}", path.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        let entry =
            serde_json::from_str(&line).with_context(|| format!("{} line {}", path.display(), number + 1))?;
        entries.push(entry);
    }
    Ok(entries)
}

/// Rows of a tab-separated file without its header.
fn read_tsv(path: &Path) -> Result<Vec<Vec<String>>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let rows = text.lines().skip(1).filter(|line| !line.trim().is_empty());
    Ok(rows.map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}
