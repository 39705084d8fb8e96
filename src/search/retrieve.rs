//! Candidates by vectors, by words or by both, until there are as many hits as wanted.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::time::Instant;

use ::metrics::{counter, histogram};
use roaring::RoaringBitmap;
use tokio_util::sync::CancellationToken;
use tracing::debug_span;

use super::fusion::Fusion;
use super::hits::hit;
use super::vectors::dot;
use super::{Found, MAX_LIMIT, Mode, Options};
use crate::catalog::{Catalog, Indexes};
use crate::domain::Level;
use crate::error::{Error, ErrorKind, Result};
use crate::index::Wanted;
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
/// The ranking by words is read so many times deeper: what lies beyond is no candidate by itself, but gives those by
/// vectors their keyword scores.
const WORDS_DEPTH: usize = 4;
/// Passages looked up for each document wanted, at first.
const PASSAGES_OF_A_DOCUMENT: usize = 4;
/// With so many candidates the search ends, whatever is missing.
const MAX_CANDIDATES: usize = 64 * MAX_LIMIT;

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
    fn check_caller(&self) -> Result<()> {
        match self.caller.is_cancelled() {
            true => Err(Error::new(ErrorKind::Cancelled, "CALLER_LEFT", "the caller has left")),
            false => Ok(()),
        }
    }
}

/// A candidate.
#[derive(Debug, Clone, Default)]
pub struct Scored {
    /// Its point; that of a document is its number.
    pub point: u64,
    /// Its document.
    pub doc_no: u32,
    /// What it is ranked by.
    pub score: f32,
    /// Cosine similarity to the query.
    pub vector_score: Option<f32>,
    /// BM25.
    pub keyword_score: Option<f32>,
    /// Its vector; empty where it was not needed.
    pub vector: Vec<f32>,
}

/// Candidates, best first, and whether there are no more.
struct Candidates {
    list: Vec<Scored>,
    is_exhausted: bool,
}

struct Retrieval<'a> {
    catalog: &'a Catalog,
    record: &'a CollectionRecord,
    probe: &'a Probe,
    options: &'a Options,
    indexes: &'a Indexes,
    allowed: Option<RoaringBitmap>,
    /// Candidates whose vectors are damaged.
    damaged: usize,
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
            Mode::Vector => retrieval.nearest(wanted),
            Mode::Keyword => retrieval.matching(wanted).map(|(candidates, _)| candidates),
            Mode::Hybrid => match retrieval.fused(wanted.max(FUSION_DEPTH)) {
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
        let kept = limit_per_document(scored, options.max_per_document);
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

fn best_first(a: &Scored, b: &Scored) -> Ordering {
    b.score.total_cmp(&a.score).then(a.point.cmp(&b.point))
}

/// Whether the keyword index is what failed: the vectors can serve without it.
fn is_keywords_alone(error: &Error) -> bool {
    error.reason.starts_with("KEYWORDS_") || error.reason == "DISK_FULL"
}

impl<'a> Retrieval<'a> {
    fn vector(&self) -> Result<&'a [f32]> {
        let missing = || Error::internal("NO_VECTOR", "the query has no vector");
        self.probe.vector.as_deref().ok_or_else(missing)
    }

    fn nearest(&mut self, wanted: usize) -> Result<Candidates> {
        let _span = debug_span!("index.search", wanted = wanted as i64).entered();
        let query = self.vector()?;
        let (unit, exact) = (self.options.unit, self.options.exact);
        let ef = self.options.ef_search.unwrap_or(self.record.ef_search as usize);
        let allowed = self.allowed.as_ref();
        let is_cancelled = || self.probe.caller.is_cancelled();
        let found = match self.indexes.of(unit) {
            Some(index) => {
                let wanted = Wanted { k: wanted, ef: ef.max(wanted), exact, filter: allowed };
                index.search_until(query, wanted, &is_cancelled)?
            }
            None => {
                let wanted = Wanted { k: wanted, ef, exact, filter: allowed };
                self.catalog.sentences_nearby(self.record, self.indexes, query, wanted, &is_cancelled)?
            }
        };
        let is_exhausted = found.len() < wanted;
        let mut list = Vec::with_capacity(found.len());
        for candidate in found.into_iter().filter(|c| Some(c.doc_no) != self.probe.excluded) {
            let scored = Scored { point: candidate.point, doc_no: candidate.doc_no, ..Scored::default() };
            list.extend(self.with_similarity(scored, query)?);
        }
        list.sort_by(best_first);
        Ok(Candidates { list, is_exhausted })
    }

    /// Adds the exact similarity. `None` where the point was removed since the index was read.
    fn with_similarity(&mut self, scored: Scored, query: &[f32]) -> Result<Option<Scored>> {
        let vector = self.catalog.store().vector(self.record.cid, self.options.unit, scored.point);
        let Some(vector) = unless_damaged(vector, &mut self.damaged)? else { return Ok(None) };
        let score = dot(query, &vector);
        Ok(Some(Scored { score, vector_score: Some(score), vector, ..scored }))
    }

    /// Candidates by words, and the greatest possible score. A document ranks by its best passage.
    fn matching(&mut self, wanted: usize) -> Result<(Candidates, f32)> {
        let _span = debug_span!("keywords.search", wanted = wanted as i64).entered();
        let keywords = self.catalog.keywords(self.record)?;
        let by_document = self.options.unit == Level::Document;
        let mut depth = if by_document { wanted * PASSAGES_OF_A_DOCUMENT } else { wanted };
        loop {
            let found =
                keywords.search(self.catalog.store(), &self.probe.text, depth, self.allowed.as_ref())?;
            let is_exhausted = found.matches.len() < depth;
            let mut seen = HashSet::new();
            let list: Vec<Scored> = found
                .matches
                .into_iter()
                .filter(|m| !by_document || seen.insert(m.doc_no))
                .take(wanted)
                .map(|m| Scored {
                    point: if by_document { u64::from(m.doc_no) } else { m.point },
                    doc_no: m.doc_no,
                    score: m.score,
                    keyword_score: Some(m.score),
                    ..Scored::default()
                })
                .collect();
            if list.len() >= wanted || is_exhausted || depth >= MAX_CANDIDATES {
                return Ok((Candidates { list, is_exhausted }, found.ceiling));
            }
            depth *= 4;
        }
    }

    fn fused(&mut self, depth: usize) -> Result<Candidates> {
        // Words first: they are quick to fail.
        let (matching, ceiling) = self.matching(depth * WORDS_DEPTH)?;
        let nearest = self.nearest(depth)?;
        let query = self.vector()?;
        let known: HashSet<u64> = nearest.list.iter().map(|scored| scored.point).collect();
        let is_exhausted = nearest.is_exhausted && matching.is_exhausted && matching.list.len() <= depth;
        let mut list = Vec::with_capacity(depth);
        for (rank, scored) in matching.list.into_iter().enumerate() {
            if known.contains(&scored.point) {
                // The similarity is that of the other ranking.
                list.push(scored);
            } else if rank < depth {
                list.extend(self.with_similarity(scored, query)?);
            }
        }
        Ok(Candidates { list: self.probe.fusion.fuse(nearest.list, list, ceiling), is_exhausted })
    }
}

/// What was read, or nothing where it is damaged, which is logged and counted: one damaged record must not
/// hide all the others, nor be hidden itself.
fn unless_damaged<T>(read: Result<Option<T>>, damaged: &mut usize) -> Result<Option<T>> {
    match read {
        Err(error) if error.kind == ErrorKind::DataLoss => {
            tracing::error!(%error, "a hit is left out");
            *damaged += 1;
            Ok(None)
        }
        other => other,
    }
}

fn limit_per_document(scored: Vec<Scored>, most: usize) -> Vec<Scored> {
    if most == 0 {
        return scored;
    }
    let mut counts: HashMap<u32, usize> = HashMap::new();
    scored
        .into_iter()
        .filter(|s| {
            let count = counts.entry(s.doc_no).or_default();
            *count += 1;
            *count <= most
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_counted_and_other_errors_stop() {
        let mut damaged = 0;
        assert_eq!(unless_damaged(Ok(Some(1)), &mut damaged).unwrap(), Some(1));
        assert_eq!(unless_damaged::<()>(Err(Error::data_loss("X", "x")), &mut damaged).unwrap(), None);
        assert!(unless_damaged::<()>(Err(Error::internal("X", "x")), &mut damaged).is_err());
        assert_eq!(damaged, 1);
    }

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

    #[test]
    fn a_document_gives_no_more_hits_than_asked() {
        let scored = |doc_no, point| Scored { point, doc_no, score: 1.0, ..Scored::default() };
        let kept = limit_per_document(vec![scored(1, 0), scored(1, 1), scored(2, 2), scored(1, 3)], 1);
        assert_eq!(kept.iter().map(|s| s.point).collect::<Vec<_>>(), [0, 2]);
    }
}
