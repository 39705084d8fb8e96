//! Where the words of a query are in an index: terms with their weights.

use std::collections::HashMap;

use tantivy::query::{BooleanQuery, BoostQuery, DisjunctionMaxQuery, Occur, PhraseQuery, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{Searcher, TantivyError, Term};

use crate::analyzer::{Analyzer, seams};
use crate::query::Look;
use crate::{Fields, from_tantivy};
use trove_core::domain::Language;
use trove_core::error::Result;

/// Weight of a word in the heading path against one in the text. Headings tell what a passage is about, yet
/// are shared by all passages below them.
const HEADINGS_WEIGHT: f32 = 0.5;
/// Weight of a word in the document's title against one in the text. All passages of a document share it.
const TITLE_WEIGHT: f32 = 0.5;
/// BM25's k1 as tantivy has it.
const K1: f32 = 1.2;
/// Terms that a beginning of a word stands for, the most frequent ones.
const MOST_EXPANDED: usize = 48;
/// Terms that are looked at for it in each segment.
const MOST_SEEN: usize = 20_000;
/// Letters of an ending at most.
const LONGEST_ENDING: usize = 5;
/// Letters of a stem at least.
const LEAST_STEM: usize = 3;
/// What joins the parts of a compound.
const LINKS: &[&str] = &["", "s", "es", "n", "en", "er", "e"];

/// What a document is scored by: a term, two that stand together, the sum of several, or the best of several.
#[derive(Debug, Clone)]
pub enum Node {
    Leaf(Leaf),
    Pair(Pair),
    Sum(Vec<Node>),
    Best(Vec<Node>),
}

/// A term of one field, with its weight.
#[derive(Debug, Clone)]
pub struct Leaf {
    term: Term,
    boost: f32,
    idf: f32,
    /// Passages that hold it.
    holders: u64,
}

/// Two terms of one field, one after the other.
#[derive(Debug, Clone)]
pub struct Pair {
    terms: [Term; 2],
    boost: f32,
    /// That of both together, as tantivy counts it.
    idf: f32,
    holders: u64,
}

impl Node {
    /// The same with another weight.
    pub fn times(self, weight: f32) -> Self {
        let all = |nodes: Vec<Node>| nodes.into_iter().map(|node| node.times(weight)).collect();
        match self {
            Node::Leaf(leaf) => Node::Leaf(Leaf { boost: leaf.boost * weight, ..leaf }),
            Node::Pair(pair) => Node::Pair(Pair { boost: pair.boost * weight, ..pair }),
            Node::Sum(nodes) => Node::Sum(all(nodes)),
            Node::Best(nodes) => Node::Best(all(nodes)),
        }
    }

    pub fn query(&self) -> Box<dyn Query> {
        match self {
            Node::Leaf(leaf) => {
                let query = Box::new(TermQuery::new(leaf.term.clone(), IndexRecordOption::WithFreqs));
                Box::new(BoostQuery::new(query, leaf.boost))
            }
            Node::Pair(pair) => {
                Box::new(BoostQuery::new(Box::new(PhraseQuery::new(pair.terms.to_vec())), pair.boost))
            }
            Node::Sum(nodes) => {
                Box::new(BooleanQuery::new(nodes.iter().map(|node| (Occur::Should, node.query())).collect()))
            }
            Node::Best(nodes) => Box::new(DisjunctionMaxQuery::new(nodes.iter().map(Node::query).collect())),
        }
    }

    /// What no score of it can exceed.
    pub fn ceiling(&self) -> f32 {
        match self {
            Node::Leaf(leaf) => leaf.boost * leaf.idf * (1.0 + K1),
            Node::Pair(pair) => pair.boost * pair.idf * (1.0 + K1),
            Node::Sum(nodes) => nodes.iter().map(Node::ceiling).sum(),
            Node::Best(nodes) => nodes.iter().map(Node::ceiling).fold(0.0, f32::max),
        }
    }

    /// How rare the rarest of its terms is.
    pub fn idf(&self) -> f32 {
        match self {
            Node::Leaf(leaf) => leaf.idf,
            Node::Pair(pair) => pair.idf,
            Node::Sum(nodes) | Node::Best(nodes) => nodes.iter().map(Node::idf).fold(0.0, f32::max),
        }
    }

    /// Postings of its terms.
    pub fn holders(&self) -> u64 {
        match self {
            Node::Leaf(leaf) => leaf.holders,
            Node::Pair(pair) => pair.holders,
            Node::Sum(nodes) | Node::Best(nodes) => nodes.iter().map(Node::holders).sum(),
        }
    }

    /// Its terms.
    pub fn leaves(&self) -> usize {
        match self {
            Node::Leaf(_) => 1,
            Node::Pair(_) => 2,
            Node::Sum(nodes) | Node::Best(nodes) => nodes.iter().map(Node::leaves).sum(),
        }
    }
}

/// Looks terms up in an index as it is now.
pub struct Lookup<'a> {
    searcher: &'a Searcher,
    fields: Fields,
    entries: u64,
}

impl<'a> Lookup<'a> {
    pub fn new(searcher: &'a Searcher, fields: Fields) -> Self {
        let entries = searcher.segment_readers().iter().map(|s| u64::from(s.max_doc())).sum();
        Self { searcher, fields, entries }
    }

    /// The languages of the passages, those of most passages first.
    pub fn languages(&self) -> Result<Vec<Language>> {
        let found = self.starting(self.fields.language, "")?;
        Ok(found.iter().filter_map(|(name, _)| Language::parse(name).ok()).collect())
    }

    /// What an index has of the alternatives for a word: several nodes where there is one alternative alone, which
    /// tantivy finds the best of quickly.
    pub fn clause(&self, alternatives: &[(Look, f32)]) -> Result<Vec<Node>> {
        let mut found: Vec<Vec<Node>> = Vec::new();
        // What another spelling is worth does not grow with how rare it is.
        let mut most = f32::INFINITY;
        for (look, weight) in alternatives {
            if matches!(look, Look::StemOf(_)) && !found.is_empty() {
                continue;
            }
            let nodes = self.look(look)?;
            if nodes.is_empty() {
                continue;
            }
            let rarest = nodes.iter().map(Node::idf).fold(0.0, f32::max);
            if found.is_empty() {
                most = rarest;
            }
            let weight = weight * (most / rarest).min(1.0);
            found.push(nodes.into_iter().map(|node| node.times(weight)).collect());
        }
        if found.len() < 2 {
            return Ok(found.pop().unwrap_or_default());
        }
        Ok(vec![Node::Best(found.into_iter().filter_map(sum).collect())])
    }

    /// Nodes that add up.
    fn look(&self, look: &Look) -> Result<Vec<Node>> {
        Ok(match look {
            Look::Word(term) => self.word(term)?,
            Look::Form(term) => self.leaf(self.fields.forms, term, 1.0)?.into_iter().collect(),
            Look::Sign(sign) => self.leaf(self.fields.signs, sign, 1.0)?.into_iter().collect(),
            Look::Signs(first, second) => self.pair(first, second)?.into_iter().collect(),
            Look::WordPrefix(start) => {
                let mut found = Vec::new();
                for (field, weight) in self.words() {
                    found.extend(self.expanded(field, start, weight)?);
                }
                found
            }
            Look::FormPrefix(start) => self.expanded(self.fields.forms, start, 1.0)?.into_iter().collect(),
            Look::StemOf(word) => self.stem_of(word)?,
            Look::Parts(parts) => {
                let mut found = Vec::new();
                for part in parts {
                    let word = sum(self.word(part)?);
                    let form = self.leaf(self.fields.forms, part, 1.0)?;
                    found.extend(best(word.into_iter().chain(form).collect()));
                }
                found
            }
            Look::Compound(language, word) => {
                let mut found = Vec::new();
                let parts = self.compound(*language, word)?;
                let weight = 1.0 / parts.len().max(1) as f32;
                for part in parts {
                    found.extend(self.word(&part)?.into_iter().map(|node| node.times(weight)));
                }
                found
            }
        })
    }

    /// The fields of words, with their weights.
    fn words(&self) -> [(Field, f32); 3] {
        let Fields { text, headings, title, .. } = self.fields;
        [(text, 1.0), (headings, HEADINGS_WEIGHT), (title, TITLE_WEIGHT)]
    }

    fn word(&self, term: &str) -> Result<Vec<Node>> {
        let mut found = Vec::new();
        for (field, weight) in self.words() {
            found.extend(self.leaf(field, term, weight)?);
        }
        Ok(found)
    }

    /// A term with its weight; `None` where no passage holds it.
    fn leaf(&self, field: Field, term: &str, boost: f32) -> Result<Option<Node>> {
        let term = Term::from_field_text(field, term);
        let holders = self.searcher.doc_freq(&term).map_err(from_tantivy)?;
        if holders == 0 {
            return Ok(None);
        }
        Ok(Some(Node::Leaf(Leaf { term, boost, idf: self.idf(holders), holders })))
    }

    /// Two signs that stand together; `None` where no passage holds one of them.
    fn pair(&self, first: &str, second: &str) -> Result<Option<Node>> {
        let terms = [first, second].map(|sign| Term::from_field_text(self.fields.signs, sign));
        let (mut idf, mut holders) = (0.0, 0);
        for term in &terms {
            let of_one = self.searcher.doc_freq(term).map_err(from_tantivy)?;
            if of_one == 0 {
                return Ok(None);
            }
            idf += self.idf(of_one);
            holders += of_one;
        }
        Ok(Some(Node::Pair(Pair { terms, boost: 1.0, idf, holders })))
    }

    fn idf(&self, holders: u64) -> f32 {
        let others = self.entries.saturating_sub(holders) as f32;
        (1.0 + (others + 0.5) / (holders as f32 + 0.5)).ln()
    }

    /// The terms that begin with something, as if they were one: each as rare as all of them together.
    fn expanded(&self, field: Field, start: &str, boost: f32) -> Result<Option<Node>> {
        let terms = self.starting(field, start)?;
        let all = terms.iter().map(|(_, holders)| holders).sum::<u64>().min(self.entries);
        let together = self.idf(all);
        let leaf = |(term, holders): (String, u64)| {
            let idf = self.idf(holders);
            let term = Term::from_field_text(field, &term);
            Node::Leaf(Leaf { term, boost: boost * together / idf, idf, holders })
        };
        Ok(best(terms.into_iter().map(leaf).collect()))
    }

    /// The most frequent terms that begin with something, and how many passages hold each.
    fn starting(&self, field: Field, start: &str) -> Result<Vec<(String, u64)>> {
        let mut found: HashMap<String, u64> = HashMap::new();
        let failed = |error: std::io::Error| from_tantivy(TantivyError::from(error));
        for segment in self.searcher.segment_readers() {
            let index = segment.inverted_index(field).map_err(from_tantivy)?;
            let mut stream = index.terms().range().ge(start.as_bytes()).into_stream().map_err(failed)?;
            let mut seen = 0;
            while seen < MOST_SEEN && stream.advance() && stream.key().starts_with(start.as_bytes()) {
                seen += 1;
                let Ok(term) = std::str::from_utf8(stream.key()) else { continue };
                *found.entry(term.to_owned()).or_default() += u64::from(stream.value().doc_freq);
            }
        }
        let mut found: Vec<(String, u64)> = found.into_iter().collect();
        found.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        found.truncate(MOST_EXPANDED);
        Ok(found)
    }

    /// The longest word of the index that another one begins with, if what is left over may be an ending.
    fn stem_of(&self, word: &str) -> Result<Vec<Node>> {
        let ends: Vec<usize> = word.char_indices().map(|(at, _)| at).skip(LEAST_STEM).collect();
        for end in ends.into_iter().rev().take(LONGEST_ENDING) {
            let found = self.word(word.get(..end).unwrap_or_default())?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// The words of the index that a compound is made of, as terms; empty where it is not made of two.
    fn compound(&self, language: Language, word: &str) -> Result<Vec<String>> {
        let mut analyzer = Analyzer::new(language);
        for at in seams(word) {
            let (head, tail) = word.split_at(at);
            let tail = analyzer.known(tail).term.clone();
            if !self.is_word(&tail)? {
                continue;
            }
            for link in LINKS {
                let Some(head) = head.strip_suffix(link) else { continue };
                let head = analyzer.known(head).term.clone();
                if head.chars().count() >= LEAST_STEM && self.is_word(&head)? {
                    return Ok(vec![head, tail]);
                }
            }
        }
        Ok(Vec::new())
    }

    fn is_word(&self, term: &str) -> Result<bool> {
        let term = Term::from_field_text(self.fields.text, term);
        Ok(self.searcher.doc_freq(&term).map_err(from_tantivy)? > 0)
    }
}

fn sum(mut nodes: Vec<Node>) -> Option<Node> {
    if nodes.len() > 1 { Some(Node::Sum(nodes)) } else { nodes.pop() }
}

fn best(mut nodes: Vec<Node>) -> Option<Node> {
    if nodes.len() > 1 { Some(Node::Best(nodes)) } else { nodes.pop() }
}
