//! BM25 (k1 1.2, b 0.75; Robertson et al., "Okapi at TREC-3", 1995) over the passages' texts and headings, and their documents' titles.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use roaring::RoaringBitmap;
use tantivy::query::{BooleanQuery, BoostQuery, EnableScoring, Occur, Query, TermQuery, Weight};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::tokenizer::TokenStream;
use tantivy::{DocId, IndexReader, Score, Searcher, SegmentReader, Term};

use crate::narrow::{self, Places};
use crate::{DOC_NO, Fields, POINT, analyzer, from_tantivy};
use trove_core::domain::Language;
use trove_core::error::Result;

/// Weight of a word in the heading path against one in the text. Headings tell what a passage is about, yet
/// are shared by all passages below them.
const HEADINGS_WEIGHT: f32 = 0.5;
/// Weight of a word in the document's title against one in the text. All passages of a document share it.
const TITLE_WEIGHT: f32 = 0.5;
/// Terms of a query that are looked up, counted for each field; of a longer query the rarest.
const MAX_TERMS: usize = 128;
/// BM25's k1 as tantivy has it.
const K1: f32 = 1.2;

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

/// The terms of a text and how often each stands there, in the order of their first places.
fn terms(language: Language, text: &str) -> Vec<(String, u32)> {
    let mut analyzer = analyzer::analyzer(language);
    let mut stream = analyzer.token_stream(text);
    let mut found: Vec<(String, u32)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    stream.process(&mut |token| match places.get(&token.text).and_then(|at| found.get_mut(*at)) {
        Some((_, count)) => *count += 1,
        None => {
            places.insert(token.text.clone(), found.len());
            found.push((token.text.clone(), 1));
        }
    });
    found
}

/// A term of one field, with its weight.
struct Weighted {
    term: Term,
    boost: f32,
    idf: f32,
    /// Passages that hold it.
    holders: u64,
}

impl Weighted {
    fn query(&self) -> Box<dyn Query> {
        let query = Box::new(TermQuery::new(self.term.clone(), IndexRecordOption::WithFreqs));
        Box::new(BoostQuery::new(query, self.boost))
    }
}

impl KeywordReader {
    pub(super) fn new(reader: IndexReader, fields: Fields, language: Language, places: Places) -> Self {
        Self { reader, fields, language, places }
    }

    /// Passages that there are.
    pub fn passages(&self) -> u64 {
        self.reader.searcher().num_docs()
    }

    /// Whether a text has words of a language that can be looked up: more than stop words and signs.
    pub fn has_terms(language: Language, text: &str) -> bool {
        !terms(language, text).is_empty()
    }

    /// The best passages for the words of a text, among the allowed documents.
    ///
    /// # Errors
    /// Whatever the disk gives.
    pub fn search(
        &self,
        text: &str,
        wanted: usize,
        allowed: Option<&RoaringBitmap>,
    ) -> Result<KeywordMatches> {
        let searcher = self.reader.searcher();
        let weighted = self.weighted(&searcher, text)?;
        if weighted.is_empty() || wanted == 0 {
            return Ok(KeywordMatches::default());
        }
        let ceiling = weighted.iter().map(|w| w.boost * w.idf * (1.0 + K1)).sum();
        let mut best = Best { wanted, heap: BinaryHeap::new() };
        let postings = weighted.iter().map(|w| w.holders).sum();
        if let Some(allowed) = allowed
            && narrow::is_narrow(self.entries_of(&searcher, allowed)?, weighted.len(), postings)
        {
            self.search_narrow(&searcher, &weighted, allowed, &mut best)?;
            return Ok(KeywordMatches { matches: best.into_sorted(), ceiling });
        }
        let clauses = weighted.into_iter().map(|w| (Occur::Should, w.query())).collect();
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
        weighted: &[Weighted],
        allowed: &RoaringBitmap,
        best: &mut Best,
    ) -> Result<()> {
        let scoring = EnableScoring::enabled_from_searcher(searcher);
        let weights: Vec<Box<dyn Weight>> = weighted
            .iter()
            .map(|w| w.query().weight(scoring).map_err(from_tantivy))
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

    fn weighted(&self, searcher: &Searcher, text: &str) -> Result<Vec<Weighted>> {
        let entries: u64 = searcher.segment_readers().iter().map(|s| u64::from(s.max_doc())).sum();
        let mut weighted = Vec::new();
        let Fields { text: in_text, headings, title, .. } = self.fields;
        let fields = [(in_text, 1.0), (headings, HEADINGS_WEIGHT), (title, TITLE_WEIGHT)];
        for (term, count) in terms(self.language, text) {
            for (field, weight) in fields {
                weighted.extend(weigh(searcher, field, &term, count as f32 * weight, entries)?);
            }
        }
        if weighted.len() > MAX_TERMS {
            weighted.sort_by(|a, b| b.idf.total_cmp(&a.idf));
            weighted.truncate(MAX_TERMS);
        }
        Ok(weighted)
    }
}

/// A term with its weight; `None` where no passage holds it.
fn weigh(
    searcher: &Searcher,
    field: Field,
    term: &str,
    boost: f32,
    entries: u64,
) -> Result<Option<Weighted>> {
    let term = Term::from_field_text(field, term);
    let holders = searcher.doc_freq(&term).map_err(from_tantivy)?;
    if holders == 0 {
        return Ok(None);
    }
    let others = entries.saturating_sub(holders) as f32;
    let idf = (1.0 + (others + 0.5) / (holders as f32 + 0.5)).ln();
    Ok(Some(Weighted { term, boost, idf, holders }))
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
