//! Search among few documents: their passages are looked up in the postings of each word, instead of the postings
//! being gone through.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use tantivy::index::SegmentId;
use tantivy::query::Weight;
use tantivy::{DocId, Score, Searcher, SegmentReader};

use crate::from_tantivy;
use crate::search::Columns;
use trove_core::error::Result;

/// Cost of looking a passage up in the postings of a word, in postings gone through.
const SEEK_COST: u64 = 16;

/// Whether looking up so many entries for so many words costs less than going through so many postings.
pub(super) fn is_narrow(entries: u64, words: usize, postings: u64) -> bool {
    entries.saturating_mul(words as u64).saturating_mul(SEEK_COST) < postings
}

/// Where the documents of each segment stand; read when a filter first needs it, and kept for as long as the
/// segment is in use.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<SegmentId, Arc<DocumentPlaces>>>>);

impl Places {
    pub(super) fn of(
        &self,
        searcher: &Searcher,
        segment: &SegmentReader,
        columns: &Columns,
    ) -> Arc<DocumentPlaces> {
        let id = segment.segment_id();
        if let Some(known) = self.0.lock().get(&id) {
            return known.clone();
        }
        let new = Arc::new(DocumentPlaces::read(segment.max_doc(), columns));
        let mut kept = self.0.lock();
        let used: Vec<SegmentId> = searcher.segment_readers().iter().map(SegmentReader::segment_id).collect();
        kept.retain(|id, _| used.contains(id));
        kept.insert(id, new.clone());
        new
    }
}

/// The entries of each document in one segment: runs, in order of the document numbers.
pub(super) struct DocumentPlaces {
    runs: Vec<Run>,
    entries: u64,
}

/// Neighbouring entries of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    doc_no: u32,
    first: DocId,
    count: u32,
}

impl DocumentPlaces {
    fn read(entries: DocId, columns: &Columns) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for entry in 0..entries {
            let doc_no = columns.doc_no(entry);
            match runs.last_mut() {
                Some(run) if run.doc_no == doc_no => run.count += 1,
                _ => runs.push(Run { doc_no, first: entry, count: 1 }),
            }
        }
        runs.sort_unstable();
        runs.shrink_to_fit();
        Self { runs, entries: u64::from(entries) }
    }

    /// About how many entries some documents have, as if these were spread evenly.
    pub(super) fn estimate(&self, documents: &RoaringBitmap) -> u64 {
        let Some((first, last)) = self.runs.first().zip(self.runs.last()) else { return 0 };
        let within = documents.range_cardinality(first.doc_no..=last.doc_no);
        within.saturating_mul(self.entries) / self.runs.len() as u64
    }

    /// The entries of some documents, in order.
    pub(super) fn entries(&self, documents: &RoaringBitmap) -> Vec<DocId> {
        let mut found = Vec::new();
        let mut rest = self.runs.as_slice();
        for doc_no in documents {
            if rest.is_empty() {
                break;
            }
            rest = rest.get(first_of(rest, doc_no)..).unwrap_or_default();
            while let Some((run, others)) = rest.split_first().filter(|(run, _)| run.doc_no == doc_no) {
                found.extend(run.first..run.first + run.count);
                rest = others;
            }
        }
        found.sort_unstable();
        found
    }
}

/// Place of the first run whose document is not before `doc_no`. Galloping: the cost grows with the logarithm of
/// the distance.
fn first_of(runs: &[Run], doc_no: u32) -> usize {
    let mut step = 1;
    while runs.get(step).is_some_and(|run| run.doc_no < doc_no) {
        step *= 2;
    }
    let from = step / 2;
    let to = (step + 1).min(runs.len());
    from + runs.get(from..to).unwrap_or_default().partition_point(|run| run.doc_no < doc_no)
}

/// Scores of some entries of a segment, in order: the sums of what each word gives. Those of entries without any
/// of the words are zero.
pub(super) fn score(
    weights: &[Box<dyn Weight>],
    segment: &SegmentReader,
    entries: &[DocId],
) -> Result<Vec<Score>> {
    let mut scores = vec![0.0; entries.len()];
    for weight in weights {
        let mut scorer = weight.scorer(segment, 1.0).map_err(from_tantivy)?;
        for (&entry, score) in entries.iter().zip(&mut scores) {
            if scorer.doc() < entry {
                scorer.seek(entry);
            }
            if scorer.doc() == entry {
                *score += scorer.score();
            }
        }
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    proptest::proptest! {
        #[test]
        fn documents_are_found_where_they_stand(
            numbers in proptest::collection::vec(0u32..40, 0..60),
            wanted in proptest::collection::btree_set(0u32..50, 0..20),
        ) {
            let mut runs: Vec<Run> =
                numbers.iter().zip(0..).map(|(&doc_no, first)| Run { doc_no, first, count: 1 }).collect();
            runs.sort_unstable();
            let places = DocumentPlaces { entries: runs.len() as u64, runs };
            let found = places.entries(&wanted.iter().copied().collect());
            let expected: BTreeSet<u32> =
                numbers.iter().zip(0..).filter(|(number, _)| wanted.contains(number)).map(|(_, at)| at).collect();
            proptest::prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
