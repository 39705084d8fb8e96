//! What the keyword index alone finds on evaluation sets, and how fast it takes text in.
//!
//! ```sh
//! cargo run --release -p trove-keywords --example keywords_ndcg -- ../shared/data [LANGUAGE [SET …]]
//! ```
//!
//! Each set is a folder with `corpus.jsonl`, `queries.jsonl` and `qrels.tsv`; its documents are indexed whole. It prints
//! nDCG at 10, recall at 100, and the time that indexing and a search took. Then it prints how much
//! processor time English text and made-up Chinese of as many bytes take. `speed` as the name of a set does that alone.

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
    let chosen: Vec<String> = args.collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|one| one == name);
    let mut english = String::new();
    for set in ["scifact", "cranfield", "squad2", "covidqa", "stackfaq"] {
        let path = Path::new(&folder).join(set);
        if path.is_dir() {
            rows(&path.join("corpus.jsonl"))?
                .iter()
                .for_each(|row| english.extend([row.text.as_str(), "\n"]));
            if is_chosen(set) {
                measure(set, &path, language)?;
            }
        }
    }
    if is_chosen("speed") {
        speed(&english, language)?;
    }
    Ok(())
}

/// Prints the line of a set.
fn measure(set: &str, path: &Path, language: Language) -> Result<(), Failure> {
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
    for (doc_no, row) in (0..).zip(&corpus) {
        let passage =
            KeywordPassage { point: u64::from(doc_no), text: row.text.clone(), headings: Vec::new() };
        let document = KeywordDocument {
            title: row.title.clone(),
            passages: vec![passage],
            ..KeywordDocument::default()
        };
        index.add(doc_no, &document).map_err(|e| e.to_string())?;
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
    Ok(())
}

/// Prints how fast English and Chinese of as many bytes are taken in.
fn speed(english: &str, language: Language) -> Result<(), Failure> {
    let pieces: Vec<&str> = english.lines().filter(|line| line.len() > 200).collect();
    let chinese = chinese(&pieces);
    let chinese: Vec<&str> = chinese.iter().map(String::as_str).collect();
    for _ in 0..3 {
        for (name, texts) in [("english", &pieces), ("chinese", &chinese)] {
            let dir = tempfile::tempdir()?;
            let mut index =
                KeywordIndex::open(&dir.path().join("index"), language).map_err(|e| e.to_string())?;
            let started = processor_seconds();
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
            let seconds = processor_seconds() - started;
            println!(
                "{name}: {:.1} MB in {seconds:.2} s, {:.1} MB/s",
                bytes as f64 / 1e6,
                bytes as f64 / 1e6 / seconds
            );
        }
    }
    Ok(())
}

/// Words of one to three signs by a fixed generator, as often as words are by Zipf's law.
fn chinese(pieces: &[&str]) -> Vec<String> {
    const WORDS: f64 = 20_000.0;
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 24)
    };
    let vocabulary: Vec<String> = (0..WORDS as usize)
        .map(|_| {
            let length = 1 + (random() * 2.2) as usize;
            let sign = |share: f64| char::from_u32(0x4e00 + (share * share * 4000.0) as u32).unwrap_or('一');
            (0..length).map(|_| sign(random())).collect()
        })
        .collect();
    let mut text = |bytes: usize| {
        let mut text = String::new();
        while text.len() < bytes {
            let rank = WORDS.powf(random()) as usize - 1;
            text.extend(vocabulary.get(rank).map(String::as_str));
            if random() < 0.08 {
                text.push('。');
            }
        }
        text
    };
    pieces.iter().map(|piece| text(piece.len())).collect()
}

/// Processor time that the program has used so far: others on the machine do not count.
fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let times = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
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
