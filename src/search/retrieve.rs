//! Candidates by vectors, by words or by both, until there are as many hits as wanted.

use std::collections::HashSet;
use std::time::Instant;

use ::metrics::{counter, histogram};
use tracing::debug_span;

use super::candidates::{
    Candidates, MAX_CANDIDATES, Probe, Retrieval, Scored, best_first, unless_damaged, within_documents,
};
use super::hits::hit;
use super::{Cost, Found, Mode, Options};
use crate::catalog::Catalog;
use crate::domain::{Filter, Level};
use crate::error::{Error, Result};
use crate::keywords::KeywordReader;
use crate::metrics;
use crate::store::CollectionRecord;

/// Least candidates scored exactly beyond the limit: the index holds 8-bit codes. For ten hits more find nothing more
/// (docs/BENCHMARKS.md).
const RESCORE_EXTRA: usize = 10;
/// The same where sentences are weighed, which move candidates further than codes do (docs/EVALUATION.md).
const RESCORE_EXTRA_BY_SENTENCES: usize = 20;
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
    let filter = |f| {
        debug_span!("search.filter").in_scope(|| catalog.matching(record, f, &|| probe.caller.is_cancelled()))
    };
    let mut allowed = options.filter.as_ref().map(filter).transpose()?;
    if allowed.is_none() && probe.excluded.is_some() && options.unit == Level::Sentence {
        // A document may have any number of sentences that are like it.
        allowed = Some(filter(&Filter::All(Vec::new()))?);
    }
    let mut mode = probe.mode;
    if mode == Mode::Hybrid && !KeywordReader::has_terms(record.language(), &probe.text) {
        mode = Mode::Vector;
    }
    let weighs_sentences =
        mode == Mode::Hybrid && options.unit == Level::Passage && probe.fusion.sentence_share() > 0.0;
    let extra = if weighs_sentences { RESCORE_EXTRA_BY_SENTENCES } else { RESCORE_EXTRA };
    let exact = options.limit + extra.max((options.limit as f32 * RESCORE_SHARE) as usize);
    let mut wanted = exact;
    if let Some(doc_no) = probe.excluded {
        match &mut allowed {
            Some(allowed) => drop(allowed.remove(doc_no)),
            None => wanted += catalog.passages_of(record.cid, doc_no)?,
        }
    }
    let documents = match &allowed {
        Some(allowed) => allowed.len(),
        None => catalog.store().counts(record.cid)?.0,
    };
    // No more hits than that can be there.
    let most = match options.max_per_document {
        0 => usize::MAX,
        most => usize::try_from(documents).unwrap_or(usize::MAX).saturating_mul(most),
    };
    let damaged = HashSet::new();
    let mut retrieval = Retrieval {
        catalog,
        record,
        probe: &probe,
        options,
        indexes: &indexes,
        allowed,
        weighs_sentences,
        damaged,
    };
    loop {
        probe.check_caller()?;
        let candidates = match mode {
            Mode::Vector => retrieval.by_vectors(wanted, exact),
            Mode::Keyword => retrieval.matching(wanted).map(|(candidates, _)| candidates),
            Mode::Hybrid => match retrieval.fused(wanted.max(FUSION_DEPTH), exact) {
                Err(error) if is_keywords_alone(&error) => {
                    tracing::warn!(collection = record.name, %error, "a hybrid search goes by the vectors alone");
                    mode = Mode::Vector;
                    retrieval.weighs_sentences = false;
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
        let is_all = kept.len() >= options.limit.min(most) || is_exhausted;
        if is_all || is_complete || wanted >= MAX_CANDIDATES {
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
            return Ok(Found { hits, damaged, mode, cost: Cost::default() });
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
