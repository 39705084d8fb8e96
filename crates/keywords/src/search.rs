//! BM25 (k1 1.2, b 0.75; Robertson et al., "Okapi at TREC-3", 1995) over the passages' texts and headings, and their documents' titles.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use roaring::RoaringBitmap;
use tantivy::query::{BooleanQuery, EnableScoring, Occur, Query, Weight};
use tantivy::{DocId, IndexReader, Score, Searcher, SegmentReader};

use crate::analyzer::Analyzer;
use crate::lookup::{Lookup, Node};
use crate::narrow::{self, Places};
use crate::query::{self, KeywordQuery, Role};
use crate::{DOC_NO, Fields, POINT, from_tantivy, language};
use trove_core::domain::Language;
use trove_core::error::Result;

/// Terms of a query that are looked up, counted for each field; of a longer query the rarest.
const MAX_TERMS: usize = 128;
/// What a part of a name weighs where the whole name is found, which weighs the rest.
const PART_OF_NAME: f32 = 0.5;

/// A passage that holds words of a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeywordMatch {
    /// Its point.
    pub point: u64,
    /// Number of its document.
    pub doc_no: u32,
    /// BM25 score, above zero.
    pub score: f32,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeywordMatches {
    /// Best first; equal scores by point.
    pub matches: Vec<KeywordMatch>,
    /// What no score can exceed: that of a passage with each of the query's words without end. Zero where no
    /// word of the query is in the index.
    pub ceiling: f32,
}

/// Searches an index as of its last commit.
#[derive(Clone)]
pub struct KeywordReader {
    reader: IndexReader,
    fields: Fields,
    language: Language,
    places: Places,
}

impl KeywordReader {
    pub(super) fn new(reader: IndexReader, fields: Fields, language: Language, places: Places) -> Self {
        Self { reader, fields, language, places }
    }

    /// Passages that there are.
    pub fn passages(&self) -> u64 {
        self.reader.searcher().num_docs()
    }

    /// Whether a text has words that can be looked up, and not signs alone.
    pub fn has_words(text: &str) -> bool {
        query::has_words(text)
    }

    /// The best passages for the words of a text, among the allowed documents.
    ///
    /// # Errors
    /// Whatever the disk gives.
    pub fn search<'a>(
        &self,
        query: impl Into<KeywordQuery<'a>>,
        wanted: usize,
        allowed: Option<&RoaringBitmap>,
    ) -> Result<KeywordMatches> {
        let searcher = self.reader.searcher();
        let nodes = self.nodes(&searcher, query.into())?;
        if nodes.is_empty() || wanted == 0 {
            return Ok(KeywordMatches::default());
        }
        let ceiling = nodes.iter().map(Node::ceiling).sum();
        let mut best = Best { wanted, heap: BinaryHeap::new() };
        let postings = nodes.iter().map(Node::holders).sum();
        let leaves = nodes.iter().map(Node::leaves).sum();
        if let Some(allowed) = allowed
            && narrow::is_narrow(self.entries_of(&searcher, allowed)?, leaves, postings)
        {
            self.search_narrow(&searcher, &nodes, allowed, &mut best)?;
            return Ok(KeywordMatches { matches: best.into_sorted(), ceiling });
        }
        let clauses = nodes.iter().map(|node| (Occur::Should, node.query())).collect();
        let query = BooleanQuery::new(clauses);
        let weight = query.weight(EnableScoring::enabled_from_searcher(&searcher)).map_err(from_tantivy)?;
        for segment in searcher.segment_readers() {
            let columns = Columns::of(segment)?;
            let threshold = best.threshold();
            let mut each = |entry: DocId, score: Score| {
                if segment.is_deleted(entry) {
                    return best.threshold();
                }
                let doc_no = columns.doc_no(entry);
                if allowed.is_none_or(|allowed| allowed.contains(doc_no)) {
                    best.push(KeywordMatch { point: columns.point.get_val(entry), doc_no, score });
                }
                best.threshold()
            };
            weight.for_each_pruning(threshold, segment, &mut each).map_err(from_tantivy)?;
        }
        Ok(KeywordMatches { matches: best.into_sorted(), ceiling })
    }

    /// Looks up the passages of a few documents.
    fn search_narrow(
        &self,
        searcher: &Searcher,
        nodes: &[Node],
        allowed: &RoaringBitmap,
        best: &mut Best,
    ) -> Result<()> {
        let scoring = EnableScoring::enabled_from_searcher(searcher);
        let weights: Vec<Box<dyn Weight>> = nodes
            .iter()
            .map(|node| node.query().weight(scoring).map_err(from_tantivy))
            .collect::<Result<_>>()?;
        for segment in searcher.segment_readers() {
            let columns = Columns::of(segment)?;
            let mut entries = self.places.of(searcher, segment, &columns).entries(allowed);
            entries.retain(|entry| !segment.is_deleted(*entry));
            let scores = narrow::score(&weights, segment, &entries)?;
            for (entry, score) in entries.into_iter().zip(scores).filter(|(_, score)| *score > 0.0) {
                let (point, doc_no) = (columns.point.get_val(entry), columns.doc_no(entry));
                best.push(KeywordMatch { point, doc_no, score });
            }
        }
        Ok(())
    }

    /// About how many entries some documents have.
    fn entries_of(&self, searcher: &Searcher, documents: &RoaringBitmap) -> Result<u64> {
        let mut entries = 0;
        for segment in searcher.segment_readers() {
            let places = self.places.of(searcher, segment, &Columns::of(segment)?);
            entries += places.estimate(documents);
        }
        Ok(entries)
    }

    /// The languages of the documents; the first is that of the query.
    fn languages(&self, lookup: &Lookup<'_>, text: &str) -> Result<Vec<Language>> {
        let mut languages = lookup.languages()?;
        let first = match self.language {
            Language::Auto => {
                language::detect_among(text, &languages).or(languages.first().copied()).unwrap_or_default()
            }
            language => language,
        };
        languages.retain(|language| *language != first);
        languages.insert(0, first);
        Ok(languages)
    }

    /// What is looked for and there.
    fn nodes(&self, searcher: &Searcher, query: KeywordQuery<'_>) -> Result<Vec<Node>> {
        let lookup = Lookup::new(searcher, self.fields);
        let languages = self.languages(&lookup, query.text)?;
        let mut analyzers: Vec<Analyzer> = languages.into_iter().map(Analyzer::new).collect();
        let clauses = query::clauses(&mut analyzers, query);
        let mut found = Vec::with_capacity(clauses.len());
        for clause in &clauses {
            found.push(lookup.clause(&clause.alternatives)?);
        }
        // Whole names that are there, and how many parts each has.
        let is_there = |name| {
            let wholes = clauses.iter().zip(&found).filter(|(_, nodes)| !nodes.is_empty());
            wholes.filter_map(|(clause, _)| clause.name).any(|known| known == (name, Role::Whole))
        };
        let parts_of = |name| clauses.iter().filter(|clause| clause.name == Some((name, Role::Part))).count();
        let weights: Vec<f32> = clauses
            .iter()
            .map(|clause| match clause.name {
                Some((name, Role::Part)) if is_there(name) => clause.weight * PART_OF_NAME,
                Some((name, Role::Whole)) => clause.weight + (1.0 - PART_OF_NAME) * parts_of(name) as f32,
                _ => clause.weight,
            })
            .collect();
        let weighed = found.into_iter().zip(weights);
        let mut nodes: Vec<Node> = weighed
            .flat_map(|(nodes, weight)| nodes.into_iter().map(move |node| node.times(weight)))
            .collect();
        if nodes.iter().map(Node::leaves).sum::<usize>() > MAX_TERMS {
            nodes.sort_by(|a, b| b.idf().total_cmp(&a.idf()));
            let mut leaves = 0;
            nodes.retain(|node| {
                leaves += node.leaves();
                leaves <= MAX_TERMS
            });
        }
        Ok(nodes)
    }
}

/// The numbers of a segment's entries.
pub(super) struct Columns {
    point: std::sync::Arc<dyn tantivy::columnar::ColumnValues<u64>>,
    doc_no: std::sync::Arc<dyn tantivy::columnar::ColumnValues<u64>>,
}

impl Columns {
    fn of(segment: &SegmentReader) -> Result<Self> {
        let column = |name| segment.fast_fields().column_first_or_default::<u64>(name).map_err(from_tantivy);
        Ok(Self { point: column(POINT)?, doc_no: column(DOC_NO)? })
    }

    /// Document number of an entry.
    pub(super) fn doc_no(&self, entry: DocId) -> u32 {
        self.doc_no.get_val(entry) as u32
    }
}

/// The best matches so far; the worst of them on top.
struct Best {
    wanted: usize,
    heap: BinaryHeap<Worst>,
}

impl Best {
    fn push(&mut self, found: KeywordMatch) {
        self.heap.push(Worst(found));
        if self.heap.len() > self.wanted {
            self.heap.pop();
        }
    }

    /// The score that a further match must exceed.
    fn threshold(&self) -> Score {
        if self.heap.len() < self.wanted {
            return f32::MIN;
        }
        self.heap.peek().map_or(f32::MIN, |worst| worst.0.score)
    }

    fn into_sorted(self) -> Vec<KeywordMatch> {
        self.heap.into_sorted_vec().into_iter().map(|worst| worst.0).collect()
    }
}

/// Orders matches so that the worst is the greatest.
struct Worst(KeywordMatch);

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.score.total_cmp(&self.0.score).then(self.0.point.cmp(&other.0.point))
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Worst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Worst {}
