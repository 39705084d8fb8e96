//! Real text: a file of passages, or the documents of `demo/`.

use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;
use trove::domain::Span;
use trove::encoder::Encoder;
use trove::text::{SplitOptions, sentences, split_passages};

use super::Common;

/// A document of the corpus.
#[derive(Debug, Clone, Deserialize)]
pub struct Record {
    /// Unique.
    pub id: String,
    /// Title.
    #[serde(default)]
    pub title: String,
    /// Text.
    pub text: String,
}

impl Record {
    /// A line of a corpus file, its text cut to so many words.
    fn parse(line: &str, words: Option<usize>) -> Result<Self, Box<dyn std::error::Error>> {
        let mut record: Self = serde_json::from_str(line)?;
        if let Some(words) = words {
            record.text = record.text.split_whitespace().take(words).collect::<Vec<_>>().join(" ");
        }
        Ok(record)
    }

    fn sentences(&self) -> Vec<Span> {
        sentences(&self.text, Span::new(0, self.text.len() as u32))
    }
}

/// A corpus and what it is.
pub struct Corpus {
    /// In the order of the file.
    pub records: Vec<Record>,
    /// For the report.
    pub name: String,
}

/// The first records of the corpus file that have sentences or, without one, the passages of `demo/`.
pub fn read(common: &Common, encoder: &Encoder, most: usize) -> Result<Corpus, Box<dyn std::error::Error>> {
    let Some(path) = &common.corpus else {
        let mut records = demo(encoder)?;
        records.truncate(most);
        return Ok(Corpus { name: format!("{} passages of the documents in demo/", records.len()), records });
    };
    let lines = BufReader::new(std::fs::File::open(path)?).lines();
    let records = lines.map(|line| Record::parse(&line?, common.words));
    // Tables drawn with dashes and bars may have none; the server refuses a document of nothing else.
    let with_sentences = records.filter(|record| record.as_ref().map_or(true, |r| !r.sentences().is_empty()));
    let records = with_sentences.take(most).collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let cut = common.words.map_or_else(String::new, |words| format!(", {words} words of each at most"));
    Ok(Corpus { name: format!("{} passages of {file}{cut}", records.len()), records })
}

/// Pieces of so many words of the texts in `demo/`.
pub fn pieces(words: usize) -> std::io::Result<Vec<String>> {
    let mut pieces = Vec::new();
    for entry in std::fs::read_dir("demo/text")? {
        let text = std::fs::read_to_string(entry?.path())?;
        let all: Vec<&str> = text.split_whitespace().collect();
        pieces.extend(all.chunks(words).map(|piece| piece.join(" ")));
    }
    Ok(pieces)
}

/// Passages of the Markdown and text files, in the order of their names.
fn demo(encoder: &Encoder) -> Result<Vec<Record>, Box<dyn std::error::Error>> {
    let mut paths = Vec::new();
    for folder in ["markdown", "text"] {
        let entries = std::fs::read_dir(Path::new("demo").join(folder))?;
        paths.extend(entries.collect::<Result<Vec<_>, _>>()?.into_iter().map(|entry| entry.path()));
    }
    paths.sort();
    let max_tokens = encoder.info().passage_tokens as usize;
    let options = SplitOptions { max_tokens, first_max_tokens: max_tokens, overlap_tokens: 0 };
    let mut records = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path)?;
        let drafts = split_passages(&text, &[], &options, &|piece: &str| encoder.token_spans(piece))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        for (number, draft) in drafts.iter().enumerate() {
            let text = draft.span.slice(&text).unwrap_or_default().to_owned();
            records.push(Record { id: format!("{name}:{number}"), title: name.clone().into_owned(), text });
        }
    }
    Ok(records)
}

/// Short texts: sentences of 4 to 16 words, one of every record that has one.
pub fn short(records: &[Record]) -> Vec<String> {
    let pick = |(number, record): (usize, &Record)| {
        let spans = record.sentences();
        let fit: Vec<_> =
            spans.iter().filter_map(|span| span.slice(&record.text)).filter(|s| wordy(s)).collect();
        fit.get(number % fit.len().max(1)).map(|sentence| (*sentence).to_owned())
    };
    records.iter().enumerate().filter_map(pick).collect()
}

fn wordy(sentence: &str) -> bool {
    let words = sentence.split_whitespace().count();
    let letters = sentence.chars().filter(|c| c.is_alphabetic()).count();
    (4..=16).contains(&words) && letters * 2 > sentence.len()
}

/// Texts of mixed lengths: of every record in turn the first words, from a few to all.
pub fn mixed(records: &[Record]) -> Vec<String> {
    let parts = [1.0, 0.1, 0.5, 0.05, 0.75, 0.25];
    let cut = |(record, part): (&Record, f64)| {
        let end = record.text.floor_char_boundary((record.text.len() as f64 * part) as usize);
        record.text[..end].trim().to_owned()
    };
    records.iter().zip(parts.into_iter().cycle()).map(cut).filter(|text| text.len() > 8).collect()
}
