//! Candidates by vectors, by words or by both, until there are as many hits as wanted.

use std::time::Instant;

use ::metrics::{counter, histogram};
use tokio_util::sync::CancellationToken;
use tracing::debug_span;

use super::candidates::{Candidates, Retrieval, Scored, best_first, unless_damaged, within_documents};
use super::fusion::Fusion;
use super::hits::hit;
use super::{Found, MAX_LIMIT, Mode, Options};
use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result};
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
/// With so many candidates the search ends, whatever is missing.
pub(super) const MAX_CANDIDATES: usize = 64 * MAX_LIMIT;

/// What is looked for, ready to be compared.
pub struct Probe {
    /// How candidates are found.
    pub mode: Mode,
    /// How two rankings become one.
    pub fusion: Fusion,
    /// A unit vector; there unless words alone count and nothing is highlighted.
    pub vector: Option<Vec<f32>>,
    /// The words; empty for a search by vectors.
    pub text: String,
    /// A document that is left out.
    pub excluded: Option<u32>,
    /// Cancelled when the caller leaves.
    pub caller: CancellationToken,
}

impl Probe {
    /// Fails where nobody waits for the hits any more.
    pub fn check_caller(&self) -> Result<()> {
        match self.caller.is_cancelled() {
            true => Err(Error::new(ErrorKind::Cancelled, "CALLER_LEFT", "the caller has left")),
            false => Ok(()),
        }
    }
}

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
    let mut retrieval =
        Retrieval { catalog, record, probe: &probe, options, indexes: &indexes, allowed, damaged: 0 };
    loop {
        probe.check_caller()?;
        retrieval.damaged = 0;
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
        let mut damaged = retrieval.damaged;
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
                let hit = hit(catalog, record, probe.vector.as_deref(), scored.clone(), options);
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
    use super::*;

    #[test]
    fn a_search_ends_when_its_caller_leaves() {
        let caller = CancellationToken::new();
        let probe = Probe {
            mode: Mode::Vector,
            fusion: Fusion::default(),
            vector: None,
            text: String::new(),
            excluded: None,
            caller: caller.clone(),
        };
        assert!(probe.check_caller().is_ok());
        drop(caller.drop_guard());
        assert_eq!(probe.check_caller().unwrap_err().kind, ErrorKind::Cancelled);
    }
}
