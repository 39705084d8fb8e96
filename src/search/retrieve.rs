//! Candidates by vectors, by words or by both, until there are as many hits as wanted.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use ::metrics::{counter, histogram};
use tracing::debug_span;

use super::candidates::{
    Candidates, MAX_CANDIDATES, Probe, Retrieval, Scored, best_first, unless_damaged, within_documents,
};
use super::distinct::Distinct;
use super::hits::hit;
use super::{Cost, Found, Mode, Options};
use crate::catalog::{Catalog, Reading};
use crate::domain::{Filter, Level};
use crate::error::{Error, Result};
use crate::keywords::KeywordReader;
use crate::metrics;

/// Least candidates scored exactly beyond the limit: the index holds 8-bit codes. For ten hits more find nothing more
/// (docs/BENCHMARKS.md).
const RESCORE_EXTRA: usize = 10;
/// The same where sentences are weighed, which move candidates further than codes do (docs/EVALUATION.md).
const RESCORE_EXTRA_BY_SENTENCES: usize = 20;
/// Candidates beyond a limit that is greater, as a share of it.
const RESCORE_SHARE: f32 = 0.4;
/// Least candidates of each ranking that fusion is given.
const FUSION_DEPTH: usize = 100;

/// How often a search begins again because hits were written anew while it read them.
const MOST_ROUNDS: usize = 3;

/// How long it then waits for the commit at most.
const MOST_WAIT: Duration = Duration::from_millis(100);

/// Searches one collection. Blocks.
pub fn retrieve(catalog: &Catalog, reading: &Reading, probe: Probe, options: &Options) -> Result<Found> {
    let started = Instant::now();
    let record = reading.record();
    let mut mode = probe.mode;
    if mode == Mode::Hybrid && !KeywordReader::has_words(&probe.text) {
        mode = Mode::Vector;
    }
    let weighs_sentences =
        mode == Mode::Hybrid && options.unit == Level::Passage && probe.fusion.sentence_share() > 0.0;
    let extra = if weighs_sentences { RESCORE_EXTRA_BY_SENTENCES } else { RESCORE_EXTRA };
    let exact = options.limit + extra.max((options.limit as f32 * RESCORE_SHARE) as usize);
    let mut retrieval = Retrieval {
        store: catalog.store(),
        reading,
        probe: &probe,
        options,
        allowed: None,
        weighs_sentences,
        damaged: HashSet::new(),
        gone: 0,
    };
    let mut selection = Selection::new(catalog, &mut retrieval, exact)?;
    let mut rounds = 0;
    let mut distinct = Distinct::default();
    loop {
        probe.check_caller()?;
        let candidates = match mode {
            Mode::Vector => retrieval.by_vectors(selection.wanted, exact),
            Mode::Keyword => retrieval.matching(selection.wanted).map(|(candidates, _)| candidates),
            Mode::Hybrid => match retrieval.fused(selection.wanted.max(FUSION_DEPTH), exact) {
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
        let mut damaged = retrieval.damaged.len() + selection.damaged;
        scored.sort_by(best_first);
        scored.retain(|s| options.score_threshold.is_none_or(|least| s.score >= least));
        let kept: Vec<&Scored> = within_documents(&scored, options.max_per_document).collect();
        // Below a score threshold the rest scores lower still.
        let is_complete = options.score_threshold.is_some() && options.max_per_document == 0;
        let chosen = distinct.choose(catalog.store(), reading.cid(), &probe, options, &kept)?;
        let is_all = chosen.len() >= options.limit.min(selection.most) || is_exhausted;
        if is_all || is_complete || selection.wanted >= MAX_CANDIDATES {
            let _span = debug_span!("search.read").entered();
            let mut hits = Vec::with_capacity(chosen.len());
            let mut gone = retrieval.gone;
            for chosen in chosen {
                if hits.len() == options.limit {
                    break;
                }
                probe.check_caller()?;
                let before = damaged;
                let (store, cid) = (catalog.store(), reading.cid());
                let hit = hit(store, cid, &probe, chosen.scored, options);
                let mut hit = unless_damaged(hit, &mut damaged)?;
                if let Some(hit) = &mut hit {
                    hit.repeats = chosen.places(store, cid, &probe, options)?;
                    hit.repeat_count = chosen.repeats.len() as u32;
                }
                gone += usize::from(hit.is_none() && damaged == before);
                hits.extend(hit);
            }
            if gone > 0 && hits.len() < options.limit && rounds < MOST_ROUNDS {
                // What was written meanwhile has taken hits away, and may be one itself: the indexes hear of it with the
                // commit.
                rounds += 1;
                catalog.store().wait_for_commit(MOST_WAIT);
                // As many as before may be gone of those that come next.
                let deeper = selection.wanted * 4;
                selection = Selection::new(catalog, &mut retrieval, exact)?;
                selection.wanted = selection.wanted.max(deeper).min(MAX_CANDIDATES);
                continue;
            }
            measure(started, probe.mode, mode, damaged);
            return Ok(Found { hits, damaged, mode, cost: Cost::default() });
        }
        selection.wanted *= 4;
    }
}

/// How much is looked for among which documents.
struct Selection {
    /// Candidates.
    wanted: usize,
    /// No more hits than that can be there.
    most: usize,
    /// Documents that the filter names and that cannot be read.
    damaged: usize,
}

impl Selection {
    /// That of a search that begins: asks the filter, and sets the documents that count.
    fn new(catalog: &Catalog, retrieval: &mut Retrieval<'_>, exact: usize) -> Result<Self> {
        let Retrieval { reading, probe, options, .. } = *retrieval;
        let matching = |filter| {
            let is_cancelled = || probe.caller.is_cancelled();
            debug_span!("search.filter").in_scope(|| catalog.matching(reading, filter, &is_cancelled))
        };
        // A document may have any number of sentences that are like it.
        let is_among_sentences = probe.excluded.is_some() && options.unit == Level::Sentence;
        let found = match &options.filter {
            Some(filter) => Some(matching(filter)?),
            None if is_among_sentences => Some(matching(&Filter::All(Vec::new()))?),
            None => None,
        };
        let damaged = found.as_ref().map_or(0, |found| found.damaged);
        let mut selection = Self { wanted: exact, most: usize::MAX, damaged };
        let mut allowed = found.map(|found| found.documents);
        if let Some(excluded) = &probe.excluded {
            match &mut allowed {
                Some(allowed) => drop(allowed.remove(excluded.doc_no)),
                None => selection.wanted += excluded.passages,
            }
        }
        let documents = match &allowed {
            Some(allowed) => allowed.len(),
            None => reading.filters().documents(),
        };
        if options.max_per_document > 0 {
            let documents = usize::try_from(documents).unwrap_or(usize::MAX);
            selection.most = documents.saturating_mul(options.max_per_document);
        }
        retrieval.allowed = allowed;
        retrieval.gone = 0;
        Ok(selection)
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
