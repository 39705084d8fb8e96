//! What the keyword index alone finds on evaluation sets, and how fast it takes text in.
//!
//! ```sh
//! cargo run --release -p trove-keywords --example keywords_ndcg -- ../shared/data [LANGUAGE]
//! ```
//!
//! Each set is a folder with `corpus.jsonl`, `queries.jsonl` and `qrels.tsv`; its documents are indexed whole. It prints
//! nDCG at 10, recall at 100, and the time that indexing and a search took. Then it prints how fast English text and
//! Chinese signs of as many bytes are indexed.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use trove_core::domain::Language;
use trove_keywords::{KeywordDocument, KeywordIndex, KeywordPassage};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("expected the folder of the sets")?;
    let language = Language::parse(&args.next().unwrap_or_default()).map_err(|e| e.to_string())?;
    let mut english = String::new();
    for set in ["scifact", "cranfield", "squad2", "covidqa", "stackfaq"] {
        let path = Path::new(&folder).join(set);
        if path.is_dir() {
            english.push_str(&measure(set, &path, language)?);
        }
    }
    speed(&english, language)
}

/// Prints the line of a set; returns its texts.
fn measure(set: &str, path: &Path, language: Language) -> Result<String, Failure> {
    let corpus = rows(&path.join("corpus.jsonl"))?;
    let queries = rows(&path.join("queries.jsonl"))?;
    let mut judged: HashMap<String, HashMap<String, u32>> = HashMap::new();
    for line in fs::read_to_string(path.join("qrels.tsv"))?.lines().skip(1) {
        let mut columns = line.split('\t');
        let (Some(query), Some(document), Some(grade)) = (columns.next(), columns.next(), columns.next())
        else {
            continue;
        };
        judged.entry(query.to_owned()).or_default().insert(document.to_owned(), grade.trim().parse()?);
    }
    let dir = tempfile::tempdir()?;
    let mut index = KeywordIndex::open(&dir.path().join("index"), language).map_err(|e| e.to_string())?;
    let started = Instant::now();
    let mut texts = String::new();
    for (doc_no, row) in (0..).zip(&corpus) {
        let passage =
            KeywordPassage { point: u64::from(doc_no), text: row.text.clone(), headings: Vec::new() };
        let document = KeywordDocument {
            title: row.title.clone(),
            passages: vec![passage],
            ..KeywordDocument::default()
        };
        index.add(doc_no, &document).map_err(|e| e.to_string())?;
        texts.push_str(&row.text);
        texts.push('\n');
    }
    index.commit().map_err(|e| e.to_string())?;
    let indexing = started.elapsed();
    let reader = index.reader();
    let (mut ndcg, mut recall, mut count) = (0.0, 0.0, 0);
    let started = Instant::now();
    for query in &queries {
        let Some(wanted) = judged.get(&query.id).filter(|wanted| wanted.values().any(|grade| *grade > 0))
        else {
            continue;
        };
        let found = reader.search(query.text.as_str(), 100, None).map_err(|e| e.to_string())?;
        let ids: Vec<&str> =
            found.matches.iter().filter_map(|m| Some(corpus.get(m.point as usize)?.id.as_str())).collect();
        let gain = |grade: u32, rank: usize| f64::from(grade) / ((rank + 2) as f64).log2();
        let got: f64 = (0..)
            .zip(ids.iter().take(10))
            .map(|(rank, id)| gain(wanted.get(*id).copied().unwrap_or(0), rank))
            .sum();
        let mut grades: Vec<u32> = wanted.values().copied().collect();
        grades.sort_unstable_by(|a, b| b.cmp(a));
        let best: f64 = (0..).zip(grades.iter().take(10)).map(|(rank, grade)| gain(*grade, rank)).sum();
        ndcg += got / best;
        let there = wanted.iter().filter(|(id, grade)| **grade > 0 && ids.contains(&id.as_str())).count();
        recall += there as f64 / wanted.values().filter(|grade| **grade > 0).count() as f64;
        count += 1;
    }
    let searching = started.elapsed() / count.max(1);
    let of = |sum: f64| sum / f64::from(count.max(1));
    println!(
        "{set:10} {} documents, {count} queries: nDCG@10 {:.4}, R@100 {:.4}, indexed in {} ms, {} us a search",
        corpus.len(),
        of(ndcg),
        of(recall),
        indexing.as_millis(),
        searching.as_micros()
    );
    Ok(texts)
}

/// Prints how fast English and Chinese of as many bytes are taken in.
fn speed(english: &str, language: Language) -> Result<(), Failure> {
    let pieces: Vec<&str> = english.lines().filter(|line| line.len() > 200).collect();
    // Signs by a fixed generator, about as unequal in how often they come as those of real texts.
    let mut state = 1u32;
    let mut sign = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let random = f64::from(state >> 8) / f64::from(1 << 24);
        char::from_u32(0x4e00 + (random.powi(4) * 4000.0) as u32).unwrap_or('一')
    };
    let chinese: Vec<String> = pieces
        .iter()
        .map(|piece| {
            let text = |at: usize| if at % 12 == 11 { '。' } else { sign() };
            (0..piece.len() / 3).map(text).collect()
        })
        .collect();
    let chinese: Vec<&str> = chinese.iter().map(String::as_str).collect();
    for _ in 0..3 {
        for (name, texts) in [("english", &pieces), ("chinese", &chinese)] {
            let dir = tempfile::tempdir()?;
            let mut index =
                KeywordIndex::open(&dir.path().join("index"), language).map_err(|e| e.to_string())?;
            let started = Instant::now();
            for (doc_no, text) in (0..).zip(texts) {
                let passage = KeywordPassage {
                    point: u64::from(doc_no),
                    text: (*text).to_owned(),
                    headings: Vec::new(),
                };
                let document = KeywordDocument { passages: vec![passage], ..KeywordDocument::default() };
                index.add(doc_no, &document).map_err(|e| e.to_string())?;
            }
            index.commit().map_err(|e| e.to_string())?;
            let bytes: usize = texts.iter().map(|text| text.len()).sum();
            let seconds = started.elapsed().as_secs_f64();
            println!(
                "{name}: {:.1} MB in {seconds:.2} s, {:.1} MB/s",
                bytes as f64 / 1e6,
                bytes as f64 / 1e6 / seconds
            );
        }
    }
    Ok(())
}

struct Row {
    id: String,
    title: String,
    text: String,
}

fn rows(path: &Path) -> Result<Vec<Row>, Failure> {
    let mut found = Vec::new();
    for line in fs::read_to_string(path)?.lines() {
        let value: serde_json::Value = serde_json::from_str(line)?;
        let of = |key: &str| value.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        found.push(Row { id: of("id"), title: of("title"), text: of("text") });
    }
    Ok(found)
}
