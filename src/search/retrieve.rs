//! Candidates by vectors, by words or by both, until there are as many hits as wanted.

use std::collections::HashSet;
use std::time::Instant;

use ::metrics::{counter, histogram};
use tracing::debug_span;

use super::candidates::{
    Candidates, MAX_CANDIDATES, Probe, Retrieval, Scored, best_first, unless_damaged, within_documents,
};
use super::hits::hit;
use super::{Found, Mode, Options};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::keywords::KeywordReader;
use crate::metrics;
use crate::store::CollectionRecord;

/// Least candidates scored exactly beyond the limit: the index holds 8-bit codes. For ten hits more find nothing more
/// (docs/BENCHMARKS.md).
const RESCORE_EXTRA: usize = 10;
/// Candidates beyond a limit that is greater, as a share of it.
const RESCORE_SHARE: f32 = 0.4;
/// Least candidates of each ranking that fusion is given.
const FUSION_DEPTH: usize = 100;

/// Searches one collection. Blocks.
pub fn retrieve(
    catalog: &Catalog,
    record: &CollectionRecord,
    probe: Probe,
    options: &Options,
) -> Result<Found> {
    let started = Instant::now();
    let indexes = catalog.indexes(record)?;
    let filter = |f| debug_span!("search.filter").in_scope(|| catalog.matching(record.cid, f));
    let mut allowed = options.filter.as_ref().map(filter).transpose()?;
    let mut wanted = options.limit + RESCORE_EXTRA.max((options.limit as f32 * RESCORE_SHARE) as usize);
    if let Some(doc_no) = probe.excluded {
        match &mut allowed {
            Some(bitmap) => {
                bitmap.remove(doc_no);
            }
            None => wanted += catalog.points_of(record.cid, doc_no)?,
        }
    }
    let mut mode = probe.mode;
    if mode == Mode::Hybrid && !KeywordReader::has_terms(record.language(), &probe.text) {
        mode = Mode::Vector;
    }
    let damaged = HashSet::new();
    let mut retrieval =
        Retrieval { catalog, record, probe: &probe, options, indexes: &indexes, allowed, damaged };
    loop {
        probe.check_caller()?;
        let candidates = match mode {
            Mode::Vector => retrieval.nearest(wanted, wanted),
            Mode::Keyword => retrieval.matching(wanted).map(|(candidates, _)| candidates),
            Mode::Hybrid => match retrieval.fused(wanted.max(FUSION_DEPTH), wanted) {
                Err(error) if is_keywords_alone(&error) => {
                    tracing::warn!(collection = record.name, %error, "a hybrid search goes by the vectors alone");
                    mode = Mode::Vector;
                    continue;
                }
                fused => fused,
            },
        };
        let Candidates { list: mut scored, is_exhausted } = candidates?;
        let mut damaged = retrieval.damaged.len();
        scored.sort_by(best_first);
        scored.retain(|s| options.score_threshold.is_none_or(|least| s.score >= least));
        let kept: Vec<&Scored> = within_documents(&scored, options.max_per_document).collect();
        // Below a score threshold the rest scores lower still.
        let is_complete = options.score_threshold.is_some() && options.max_per_document == 0;
        if kept.len() >= options.limit || is_exhausted || is_complete || wanted >= MAX_CANDIDATES {
            let _span = debug_span!("search.read").entered();
            let mut hits = Vec::with_capacity(options.limit.min(kept.len()));
            for scored in kept {
                if hits.len() == options.limit {
                    break;
                }
                probe.check_caller()?;
                let hit = hit(catalog, record, probe.vector.as_deref(), scored, options);
                hits.extend(unless_damaged(hit, &mut damaged)?);
            }
            measure(started, probe.mode, mode, damaged);
            return Ok(Found { hits, damaged, mode });
        }
        wanted *= 4;
    }
}

fn measure(started: Instant, wanted: Mode, used: Mode, damaged: usize) {
    let mode = match used {
        Mode::Vector => "vector",
        Mode::Keyword => "keyword",
        Mode::Hybrid => "hybrid",
    };
    histogram!(metrics::SEARCH_DURATION, "mode" => mode).record(started.elapsed());
    counter!(metrics::SEARCH_FALLBACKS).increment(u64::from(wanted != used));
    counter!(metrics::SEARCH_DAMAGED_HITS).increment(damaged as u64);
}

/// Whether the keyword index is what failed: the vectors can serve without it.
fn is_keywords_alone(error: &Error) -> bool {
    error.reason.starts_with("KEYWORDS_") || error.reason == "DISK_FULL"
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::super::fusion::Fusion;
    use super::super::tests::options;
    use super::super::vectors::unit;
    use super::*;
    use crate::domain::{Level, Span, dot};
    use crate::encoder::Encoders;
    use crate::error::ErrorKind;
    use crate::index::IndexOptions;
    use crate::store::{NewDocument, NewPassage, Store, StoreOptions};

    /// A vector that a number decides.
    fn vector(number: u32) -> Vec<f32> {
        let component = |x: u32| ((number * 16 + x).wrapping_mul(2_654_435_761) >> 16) as f32 - 32_768.0;
        unit((0..16).map(component).collect()).unwrap()
    }

    fn probe(text: &str, vector: Vec<f32>) -> Probe {
        Probe {
            mode: Mode::Hybrid,
            fusion: Fusion::default(),
            vector: Some(vector),
            text: text.to_owned(),
            excluded: None,
            caller: CancellationToken::new(),
        }
    }

    #[tokio::test]
    async fn hits_by_both_have_the_similarity_of_their_vectors_and_damage_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let small = StoreOptions { cache_bytes: 16 << 20, ..StoreOptions::default() };
        let store = Arc::new(Store::open(&dir.path().join("store"), small).unwrap());
        let record = CollectionRecord {
            name: "a".to_owned(),
            dimensions: 16,
            ef_search: 64,
            ..CollectionRecord::default()
        };
        let record = store.create_collection(record).unwrap();
        let catalog =
            Catalog::open(store.clone(), dir.path(), Encoders::none(), IndexOptions::default()).unwrap();
        for number in 0..400 {
            let text = format!("lighthouse {}", "lamp ".repeat(number as usize % 9));
            let span = Span::new(0, text.len() as u32);
            let passage = NewPassage { span, vector: vector(number), ..NewPassage::default() };
            let document = NewDocument {
                id: format!("d{number}"),
                text,
                passages: vec![passage],
                document_vector: vector(number),
                ..NewDocument::default()
            };
            store.upsert(record.cid, document).await.unwrap();
        }
        let query = vector(1000);
        let options = Options { limit: 10, include_vectors: true, ..options(None, Level::Passage, None) };
        let search =
            || retrieve(&catalog, &record, probe("lighthouse lamp", query.clone()), &options).unwrap();
        let found = search();
        assert_eq!((found.hits.len(), found.damaged, found.mode), (10, 0, Mode::Hybrid));
        for hit in &found.hits {
            let stored = hit.vector.as_ref().unwrap();
            assert_eq!(hit.vector_score, Some(dot(&query, stored)));
            assert!(hit.keyword_score.is_some());
        }
        assert!(found.hits.is_sorted_by(|a, b| a.score >= b.score));
        // The best is a candidate by its words and by its vector.
        let best = found.hits[0].document.doc_no;
        store.damage_vector(record.cid, Level::Passage, u64::from(best));
        let without = search();
        assert_eq!((without.hits.len(), without.damaged), (10, 1));
        let left = |found: &Found| found.hits.iter().map(|hit| hit.document.doc_no).collect::<Vec<_>>();
        assert_eq!(left(&without)[..9], left(&found)[1..]);
    }

    #[test]
    fn a_search_ends_when_its_caller_leaves() {
        let caller = CancellationToken::new();
        let probe = Probe { caller: caller.clone(), ..probe("", Vec::new()) };
        assert!(probe.check_caller().is_ok());
        drop(caller.drop_guard());
        assert_eq!(probe.check_caller().unwrap_err().kind, ErrorKind::Cancelled);
    }
}
