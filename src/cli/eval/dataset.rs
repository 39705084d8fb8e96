//! Reads BEIR-style folders.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

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

/// What of a folder is read.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Judgements to use instead of qrels.tsv.
    pub qrels: Option<PathBuf>,
    /// Whether titles are left out.
    pub no_title: bool,
    /// Whether exclude.tsv is not heeded.
    pub no_exclude: bool,
    /// Most queries.
    pub limit_queries: Option<usize>,
}

/// Reads a folder; only queries with a relevant document are kept.
pub fn read(folder: &Path, selection: &Selection) -> Result<Dataset> {
    let mut corpus: Vec<Entry> = read_jsonl(&folder.join("corpus.jsonl"))?;
    if selection.no_title {
        corpus.iter_mut().for_each(|entry| entry.title.clear());
    }
    let mut relevance: HashMap<String, Relevance> = HashMap::new();
    let qrels = selection.qrels.clone().unwrap_or_else(|| folder.join("qrels.tsv"));
    for row in read_tsv(&qrels)? {
        let name = qrels.display();
        let [query, document, grade] = row.as_slice() else {
            bail!("{name}: expected 3 columns, got {row:?}")
        };
        let grade: i64 = grade.trim().parse().with_context(|| format!("{name}: grade {grade:?}"))?;
        relevance.entry(query.clone()).or_default().insert(document.clone(), grade);
    }
    let mut excluded: HashMap<String, HashSet<String>> = HashMap::new();
    let exclude_path = folder.join("exclude.tsv");
    if exclude_path.is_file() && !selection.no_exclude {
        for row in read_tsv(&exclude_path)? {
            let [query, document] = row.as_slice() else {
                bail!("exclude.tsv: expected 2 columns, got {row:?}")
            };
            excluded.entry(query.clone()).or_default().insert(document.clone());
        }
    }
    let mut queries: Vec<Entry> = read_jsonl(&folder.join("queries.jsonl"))?;
    queries.retain(|q| relevance.get(&q.id).is_some_and(|r| r.values().any(|grade| *grade > 0)));
    if let Some(limit) = selection.limit_queries {
        queries.truncate(limit);
    }
    Ok(Dataset { corpus, queries, relevance, excluded })
}

/// The records of a JSON Lines file.
pub fn read_jsonl<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
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
pub fn read_tsv(path: &Path) -> Result<Vec<Vec<String>>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let rows = text.lines().skip(1).filter(|line| !line.trim().is_empty());
    Ok(rows.map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_folder_and_what_is_asked_of_it() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text);
        write(
            "corpus.jsonl",
            "{\"_id\":\"d1\",\"title\":\"T\",\"text\":\"x\"}\n\n{\"id\":\"d2\",\"text\":\"y\"}\n",
        )?;
        write(
            "queries.jsonl",
            "{\"id\":\"q1\",\"text\":\"a\"}\n{\"id\":\"q2\",\"text\":\"b\"}\n{\"id\":\"q3\",\"text\":\"c\"}\n",
        )?;
        write("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t0\nq3\td2\t2\n")?;
        write("exclude.tsv", "query-id\tcorpus-id\nq1\td2\n")?;
        let data = read(dir.path(), &Selection::default())?;
        let ids: Vec<_> = data.queries.iter().map(|q| q.id.as_str()).collect();
        assert_eq!((ids, data.corpus.len()), (vec!["q1", "q3"], 2));
        assert!(data.excluded["q1"].contains("d2") && data.corpus[0].title == "T");
        let other = Selection { no_title: true, no_exclude: true, limit_queries: Some(1), qrels: None };
        let data = read(dir.path(), &other)?;
        assert_eq!((data.queries.len(), data.excluded.len()), (1, 0));
        assert!(data.corpus[0].title.is_empty());
        write("bad.tsv", "query-id\tcorpus-id\tscore\nq1\td1\n")?;
        let bad = Selection { qrels: Some(dir.path().join("bad.tsv")), ..Default::default() };
        assert!(read(dir.path(), &bad).is_err_and(|e| e.to_string().contains("expected 3 columns")));
        Ok(())
    }
}
