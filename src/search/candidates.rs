//! Candidates of one collection: by vectors, by words, and by both.
//!
//! The index tells similarities by its 8-bit codes, without a look into the store; the best candidates are scored
//! again by their stored vectors.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use roaring::RoaringBitmap;
use tokio_util::sync::CancellationToken;
use tracing::debug_span;

use super::fusion::{Fusion, Scoring};
use super::{MAX_LIMIT, Mode, Options};
use crate::catalog::Reading;
use crate::domain::{Level, cosine};
use crate::error::{Error, ErrorKind, Result};
use crate::index::{Candidate, Wanted};
use crate::keywords::KeywordQuery;
use crate::store::Store;

/// The ranking by words is read so many times deeper: what lies beyond is no candidate by itself, but gives those by
/// vectors their keyword scores.
const WORDS_DEPTH: usize = 4;
/// Passages looked up for each document wanted, at first.
const PASSAGES_OF_A_DOCUMENT: usize = 4;
/// Passages whose sentences are ranked where sentences have no index of their own.
const SENTENCE_PASSAGES: usize = 200;
/// Candidates read from the store after which it is asked whether the caller waits still.
const CHECKED: usize = 256;
/// With so many candidates the search ends, whatever is missing.
pub const MAX_CANDIDATES: usize = 64 * MAX_LIMIT;

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
    /// Whether the last of them may be the beginning of one.
    pub is_last_word_prefix: bool,
    /// A document that is left out.
    pub excluded: Option<Excluded>,
    /// Cancelled when the caller leaves.
    pub caller: CancellationToken,
}

/// The document that a search is for the like of.
pub struct Excluded {
    pub id: String,
    pub doc_no: u32,
    /// How many passages it has.
    pub passages: usize,
}

impl Probe {
    /// Whether a candidate is of the document that is left out.
    fn excludes(&self, doc_no: u32) -> bool {
        self.excluded.as_ref().is_some_and(|excluded| excluded.doc_no == doc_no)
    }

    /// Fails where nobody waits for the hits any more.
    pub fn check_caller(&self) -> Result<()> {
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
    /// Its place in the ranking that found it, from one.
    pub rank: u32,
    /// Cosine similarity to the query, that of the codes until the vector is there.
    pub vector_score: Option<f32>,
    /// Cosine similarities of a passage's sentences, in their order; empty until they are read.
    pub sentences: Vec<f32>,
    /// BM25.
    pub keyword_score: Option<f32>,
    /// Its vector; empty where it was not needed.
    pub vector: Vec<f32>,
}

impl Scored {
    fn is_exact(&self) -> bool {
        !self.vector.is_empty()
    }

    /// Greatest similarity of one of its sentences, once they are read.
    pub fn sentence_score(&self) -> Option<f32> {
        self.sentences.iter().copied().max_by(f32::total_cmp)
    }
}

/// Candidates, best first, and whether there are no more.
pub struct Candidates {
    pub list: Vec<Scored>,
    pub is_exhausted: bool,
}

/// The reading of candidates for one search.
pub struct Retrieval<'a> {
    pub store: &'a Store,
    pub reading: &'a Reading,
    pub probe: &'a Probe,
    pub options: &'a Options,
    /// The documents that count, if not all.
    pub allowed: Option<RoaringBitmap>,
    /// Whether what is scored exactly is scored by its sentences too.
    pub weighs_sentences: bool,
    /// Points whose vectors are damaged: both rankings may hold one. Of a passage's sentences the first.
    pub damaged: HashSet<u64>,
    /// Candidates that were removed since the index was read.
    pub gone: usize,
}

impl<'a> Retrieval<'a> {
    fn vector(&self) -> Result<&'a [f32]> {
        let missing = || Error::internal("NO_VECTOR", "the query has no vector");
        self.probe.vector.as_deref().ok_or_else(missing)
    }

    /// Candidates by vectors, of which the first `exact` are scored by their stored vectors.
    pub fn nearest(&mut self, wanted: usize, exact: usize) -> Result<Candidates> {
        let span = debug_span!("index.search", wanted = wanted as i64).entered();
        let query = self.vector()?;
        let Options { unit, exact: is_scan, ef_search, .. } = *self.options;
        let ef = ef_search.unwrap_or(self.reading.record().ef_search as usize);
        let found = match self.reading.indexes().of(unit) {
            Some(index) => {
                let filter = self.allowed.as_ref();
                let wanted = Wanted { k: wanted, ef: ef.max(wanted), exact: is_scan, filter };
                index.search_until(query, wanted, &|| self.probe.caller.is_cancelled())?
            }
            None => self.sentences_nearby(query, ef, wanted)?,
        };
        drop(span);
        let _span = debug_span!("search.rescore").entered();
        let is_exhausted = found.len() < wanted;
        let mut list = Vec::with_capacity(found.len());
        for candidate in found.into_iter().filter(|c| !self.probe.excludes(c.doc_no)) {
            if list.len().is_multiple_of(CHECKED) {
                self.probe.check_caller()?;
            }
            let scored = Scored {
                point: candidate.point,
                doc_no: candidate.doc_no,
                score: candidate.similarity,
                vector_score: Some(candidate.similarity),
                ..Scored::default()
            };
            match list.len() < exact {
                true => list.extend(self.with_similarity(scored, query)?),
                false => list.push(scored),
            }
        }
        list.sort_by(best_first);
        (1..).zip(&mut list).for_each(|(rank, scored)| scored.rank = rank);
        Ok(Candidates { list, is_exhausted })
    }

    /// The sentences closest to a query among those of the nearest passages.
    fn sentences_nearby(&mut self, query: &[f32], ef: usize, wanted: usize) -> Result<Vec<Candidate>> {
        let (k, filter) = (SENTENCE_PASSAGES, self.allowed.as_ref());
        let nearby = Wanted { k, ef: ef.max(k), exact: self.options.exact, filter };
        let is_cancelled = || self.probe.caller.is_cancelled();
        let passages = self.reading.indexes().passage.search_until(query, nearby, &is_cancelled)?;
        let mut sentences = Vec::new();
        for passage in passages {
            self.probe.check_caller()?;
            let first = passage.point << 8;
            let vectors = self.store.sentence_vectors(self.reading.cid(), passage.point);
            let vectors = self.noting_damage(first, vectors)?.unwrap_or_default();
            let scored = (first..).zip(&vectors).map(|(point, vector)| Candidate {
                point,
                doc_no: passage.doc_no,
                similarity: cosine(query, vector),
            });
            sentences.extend(scored);
        }
        sentences.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        sentences.truncate(wanted);
        Ok(sentences)
    }

    /// Candidates by vectors, of which the first `exact` that may become hits are scored by their stored vectors.
    pub fn by_vectors(&mut self, wanted: usize, exact: usize) -> Result<Candidates> {
        let Candidates { list, is_exhausted } = self.nearest(wanted, exact)?;
        Ok(Candidates { list: self.rescored(list, &Scoring::Similarity, exact)?, is_exhausted })
    }

    /// What was read of a point, as [`unless_damaged`] gives it.
    fn noting_damage<T>(&mut self, point: u64, read: Result<Option<T>>) -> Result<Option<T>> {
        let mut damaged = 0;
        let read = unless_damaged(read, &mut damaged);
        if damaged > 0 {
            self.damaged.insert(point);
        }
        read
    }

    /// Adds the exact similarity, and those of the sentences where they are weighed. `None` where the point was removed
    /// since the index was read.
    fn with_similarity(&mut self, scored: Scored, query: &[f32]) -> Result<Option<Scored>> {
        if self.damaged.contains(&scored.point) {
            return Ok(None);
        }
        let vector = self.store.vector(self.reading.cid(), self.options.unit, scored.point);
        let Some(vector) = self.noting_damage(scored.point, vector)? else {
            self.gone += usize::from(!self.damaged.contains(&scored.point));
            return Ok(None);
        };
        let score = cosine(query, &vector);
        let scored = Scored { score, vector_score: Some(score), vector, ..scored };
        if !self.weighs_sentences {
            return Ok(Some(scored));
        }
        let sentences = self.store.sentence_vectors(self.reading.cid(), scored.point);
        let sentences = sentences.map(|vectors| Some(vectors.unwrap_or_default()));
        let Some(vectors) = self.noting_damage(scored.point, sentences)? else { return Ok(None) };
        let sentences = vectors.iter().map(|sentence| cosine(query, sentence)).collect();
        Ok(Some(Scored { sentences, ..scored }))
    }

    /// Candidates by words, and the greatest possible score. A document ranks by its best passage.
    pub fn matching(&mut self, wanted: usize) -> Result<(Candidates, f32)> {
        let _span = debug_span!("keywords.search", wanted = wanted as i64).entered();
        let keywords = self.reading.keywords();
        let by_document = self.options.unit == Level::Document;
        let query =
            KeywordQuery { text: &self.probe.text, is_last_word_prefix: self.probe.is_last_word_prefix };
        let mut depth = if by_document { wanted * PASSAGES_OF_A_DOCUMENT } else { wanted };
        loop {
            let found = keywords.search(self.store, query, depth, self.allowed.as_ref())?;
            let is_exhausted = found.matches.len() < depth;
            let mut seen = HashSet::new();
            let list: Vec<Scored> = found
                .matches
                .into_iter()
                .filter(|m| !by_document || seen.insert(m.doc_no))
                .take(wanted)
                .zip(1..)
                .map(|(m, rank)| Scored {
                    point: if by_document { u64::from(m.doc_no) } else { m.point },
                    doc_no: m.doc_no,
                    score: m.score,
                    rank,
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

    /// Candidates by both, of which the first `exact` are scored by their stored vectors: each ranking is read so deep
    /// that reading every vector would take longer than all else.
    pub fn fused(&mut self, depth: usize, exact: usize) -> Result<Candidates> {
        // Words first: they are quick to fail.
        let (matching, ceiling) = self.matching(depth * WORDS_DEPTH)?;
        let nearest = self.nearest(depth, exact)?;
        let query = self.vector()?;
        let is_exhausted = nearest.is_exhausted && matching.is_exhausted && matching.list.len() <= depth;
        let known: HashSet<u64> = nearest.list.iter().map(|scored| scored.point).collect();
        // Beyond the depth words count for what the vectors found.
        let counts = |scored: &Scored| scored.rank as usize <= depth || known.contains(&scored.point);
        let counted = matching.list.into_iter().filter(counts).collect();
        let matching = self.with_code_similarity(counted, query)?;
        let (list, scoring) = self.probe.fusion.fuse(nearest.list, matching, ceiling);
        Ok(Candidates { list: self.rescored(list, &scoring, exact)?, is_exhausted })
    }

    /// Adds the similarity of the codes, and where the index has none yet the exact one.
    fn with_code_similarity(&mut self, list: Vec<Scored>, query: &[f32]) -> Result<Vec<Scored>> {
        let points: Vec<u64> = list.iter().map(|scored| scored.point).collect();
        let similarities = match self.reading.indexes().of(self.options.unit) {
            Some(index) => index.similarities(query, &points)?,
            None => vec![None; points.len()],
        };
        let mut found = Vec::with_capacity(list.len());
        for (scored, similarity) in list.into_iter().zip(similarities) {
            match similarity {
                Some(_) => found.push(Scored { vector_score: similarity, ..scored }),
                None => found.extend(self.with_similarity(scored, query)?),
            }
        }
        Ok(found)
    }

    /// Puts fused candidates in order, and scores again until the first `exact` that may become hits are all exact.
    fn rescored(&mut self, mut list: Vec<Scored>, scoring: &Scoring, exact: usize) -> Result<Vec<Scored>> {
        let _span = debug_span!("search.rescore").entered();
        let query = self.vector()?;
        loop {
            self.probe.check_caller()?;
            list.sort_by(best_first);
            let first = within_documents(&list, self.options.max_per_document).take(exact);
            let coded: HashSet<u64> = first.filter(|s| !s.is_exact()).map(|s| s.point).collect();
            if coded.is_empty() {
                return Ok(list);
            }
            let mut next = Vec::with_capacity(list.len());
            for scored in list {
                if !coded.contains(&scored.point) {
                    next.push(scored);
                } else if let Some(scored) = self.with_similarity(scored, query)? {
                    next.push(Scored { score: scoring.score(&scored), ..scored });
                }
            }
            list = next;
        }
    }
}

pub fn best_first(a: &Scored, b: &Scored) -> Ordering {
    b.score.total_cmp(&a.score).then(a.point.cmp(&b.point))
}

/// The candidates that are left where a document gives no more than so many; zero means no limit.
pub fn within_documents(list: &[Scored], most: usize) -> impl Iterator<Item = &Scored> {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    list.iter().filter(move |scored| {
        if most == 0 {
            return true;
        }
        let count = counts.entry(scored.doc_no).or_default();
        *count += 1;
        *count <= most
    })
}

/// What was read, or nothing where it is damaged, which is logged and counted: one damaged record must not
/// hide all the others, nor be hidden itself.
pub fn unless_damaged<T>(read: Result<Option<T>>, damaged: &mut usize) -> Result<Option<T>> {
    match read {
        Err(error) if error.kind == ErrorKind::DataLoss => {
            tracing::error!(%error, "a hit is left out");
            *damaged += 1;
            Ok(None)
        }
        other => other,
    }
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
    fn a_document_gives_no_more_hits_than_asked() {
        let scored = |doc_no, point| Scored { point, doc_no, score: 1.0, ..Scored::default() };
        let list = [scored(1, 0), scored(1, 1), scored(2, 2), scored(1, 3)];
        let points = |most| within_documents(&list, most).map(|s| s.point).collect::<Vec<_>>();
        assert_eq!(points(1), [0, 2]);
        assert_eq!(points(0), [0, 1, 2, 3]);
    }
}
