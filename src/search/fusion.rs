//! One ranking of two: by the nearest vectors and by the words.

use std::collections::HashMap;

use super::candidates::Scored;
use crate::error::{Error, Result};

/// How two rankings become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fusion {
    /// What of the rankings counts, and how much.
    pub method: FusionMethod,
    /// Weight of the best sentence in the similarity of a passage, 0 to 1; the rest is that of the whole passage. A
    /// passage that answers in one sentence and goes on about other things is nearer by that sentence than by its mean.
    /// Not used where ranks are fused.
    pub sentence_weight: f32,
}

/// By what rankings are fused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FusionMethod {
    /// Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009): the sum of `1 / (k + rank)` over the rankings
    /// that hold a hit, ranks from one.
    ReciprocalRank {
        /// Greater values make the first ranks count less; at least one.
        k: u32,
    },
    /// `alpha` times the similarity plus `1 - alpha` times the share that the keyword score has of the greatest
    /// possible one. Both are between zero and one whatever the query is, so that scores of different queries can
    /// be compared. (Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", 2023, of which
    /// this takes the convex combination and the theoretical bounds.)
    Weighted {
        /// Weight of the similarity, 0 to 1.
        alpha: f32,
    },
    /// The same with an alpha for each query, by how well the best candidate of each ranking does: words that are all in
    /// one passage tell more than words of which half are nowhere, and so does a vector that is near.
    Adaptive,
}

/// What a share of the greatest possible keyword score counts against a similarity where [`FusionMethod::Adaptive`]
/// weighs the rankings.
const WORDS_AGAINST_SIMILARITY: f32 = 1.2;
/// The default of [`Fusion::sentence_weight`].
pub const DEFAULT_SENTENCE_WEIGHT: f32 = 0.5;

impl Default for Fusion {
    /// What docs/EVALUATION.md measures as best over its sets.
    fn default() -> Self {
        Fusion { method: FusionMethod::Adaptive, sentence_weight: DEFAULT_SENTENCE_WEIGHT }
    }
}

impl Fusion {
    /// Checks the ranges.
    ///
    /// # Errors
    /// `BAD_FUSION`, with the field.
    pub fn check(&self) -> Result<()> {
        if let FusionMethod::ReciprocalRank { k: 0 } = self.method {
            return Err(Error::invalid_field("fusion.rrf_k", "BAD_FUSION", "expected 1 or more, got 0"));
        }
        if let FusionMethod::Weighted { alpha } = self.method {
            check_weight("fusion.alpha", alpha)?;
        }
        check_weight("fusion.sentence_weight", self.sentence_weight)
    }

    /// The weight of the best sentence in a passage's similarity, where it counts.
    pub(super) fn sentence_share(&self) -> f32 {
        match self.method {
            FusionMethod::ReciprocalRank { .. } => 0.0,
            FusionMethod::Weighted { .. } | FusionMethod::Adaptive => self.sentence_weight,
        }
    }

    /// Fuses candidates by vectors with candidates by words: all of them with their scores, and what these were made by.
    /// All have a rank and a vector score; `ceiling` is the greatest possible keyword score.
    pub(super) fn fuse(
        self,
        nearest: Vec<Scored>,
        matching: Vec<Scored>,
        ceiling: f32,
    ) -> (Vec<Scored>, Scoring) {
        let ranks = match self.method {
            FusionMethod::ReciprocalRank { k } => reciprocal_ranks(k, [&nearest, &matching]),
            FusionMethod::Weighted { .. } | FusionMethod::Adaptive => HashMap::new(),
        };
        let mut fused = merge(nearest, matching);
        let sentence_weight = self.sentence_share();
        let scoring = match self.method {
            FusionMethod::ReciprocalRank { .. } => Scoring::Ranks(ranks),
            FusionMethod::Weighted { alpha } => Scoring::Weights { alpha, ceiling, sentence_weight },
            FusionMethod::Adaptive => {
                let alpha = adapted(fused.iter().map(|s| shares(s, ceiling, sentence_weight)));
                Scoring::Weights { alpha, ceiling, sentence_weight }
            }
        };
        for scored in &mut fused {
            scored.score = scoring.score(scored);
        }
        (fused, scoring)
    }
}

/// What candidates are scored by.
pub(super) enum Scoring {
    /// Their similarity alone.
    Similarity,
    /// The sum for each point.
    Ranks(HashMap<u64, f32>),
    /// A weight of similarities, the greatest possible keyword score, and the best sentence's weight in a similarity.
    Weights { alpha: f32, ceiling: f32, sentence_weight: f32 },
}

impl Scoring {
    /// The score of a candidate by what is known of it now.
    pub(super) fn score(&self, scored: &Scored) -> f32 {
        match self {
            Scoring::Similarity => scored.vector_score.unwrap_or_default(),
            Scoring::Ranks(ranks) => ranks.get(&scored.point).copied().unwrap_or_default(),
            Scoring::Weights { alpha, ceiling, sentence_weight } => {
                let (similarity, words) = shares(scored, *ceiling, *sentence_weight);
                alpha * similarity + (1.0 - alpha) * words
            }
        }
    }
}

fn reciprocal_ranks(k: u32, rankings: [&[Scored]; 2]) -> HashMap<u64, f32> {
    let mut ranks: HashMap<u64, f32> = HashMap::new();
    for scored in rankings.into_iter().flatten() {
        *ranks.entry(scored.point).or_default() += 1.0 / (k as f32 + scored.rank as f32);
    }
    ranks
}

/// The candidates of both rankings; those of the first get their keyword scores.
fn merge(nearest: Vec<Scored>, matching: Vec<Scored>) -> Vec<Scored> {
    let mut keyword_scores: HashMap<u64, f32> =
        matching.iter().filter_map(|m| Some((m.point, m.keyword_score?))).collect();
    let mut merged = nearest;
    for scored in &mut merged {
        scored.keyword_score = keyword_scores.remove(&scored.point);
    }
    merged.extend(matching.into_iter().filter(|m| keyword_scores.contains_key(&m.point)));
    merged
}

fn check_weight(field: &str, weight: f32) -> Result<()> {
    if (0.0..=1.0).contains(&weight) {
        return Ok(());
    }
    Err(Error::invalid_field(field, "BAD_FUSION", format!("expected 0 to 1, got {weight}")))
}

/// The similarity and the share of the greatest possible keyword score, each between zero and one. Until its sentences
/// are read, and where it has none, a candidate goes by its own similarity.
fn shares(scored: &Scored, ceiling: f32, sentence_weight: f32) -> (f32, f32) {
    let whole = scored.vector_score.unwrap_or_default();
    let sentence = scored.sentence_score().unwrap_or(whole);
    let similarity = ((1.0 - sentence_weight) * whole + sentence_weight * sentence).clamp(0.0, 1.0);
    let words = scored.keyword_score.map_or(0.0, |score| (score / ceiling).clamp(0.0, 1.0));
    (similarity, words)
}

/// The weight of similarities, by the greatest similarity and the greatest share of the words.
fn adapted(shares: impl Iterator<Item = (f32, f32)>) -> f32 {
    let (similarity, words) = shares
        .fold((0.0_f32, 0.0_f32), |best, (similarity, words)| (best.0.max(similarity), best.1.max(words)));
    let words = WORDS_AGAINST_SIMILARITY * words;
    match similarity + words {
        0.0 => 0.5,
        both => similarity / both,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(method: FusionMethod) -> Fusion {
        Fusion { method, ..Fusion::default() }
    }

    fn by_vector(point: u64, score: f32) -> Scored {
        Scored { point, vector_score: Some(score), ..Scored::default() }
    }

    fn by_words(point: u64, score: f32, similarity: f32) -> Scored {
        Scored { keyword_score: Some(score), ..by_vector(point, similarity) }
    }

    /// Gives ranks in the order of the list.
    fn ranked(list: Vec<Scored>) -> Vec<Scored> {
        (1..).zip(list).map(|(rank, scored)| Scored { rank, ..scored }).collect()
    }

    fn order(mut fused: Vec<Scored>) -> Vec<u64> {
        fused.sort_by(|a, b| b.score.total_cmp(&a.score));
        fused.iter().map(|scored| scored.point).collect()
    }

    #[test]
    fn reciprocal_ranks_add_up() {
        let nearest = ranked(vec![by_vector(1, 0.9), by_vector(2, 0.8), by_vector(3, 0.1)]);
        let mut matching = ranked(vec![by_words(2, 7.0, 0.8), by_words(4, 5.0, 0.0)]);
        // Of the later ones by words only those are given that the vectors found.
        matching.push(Scored { rank: 300, ..by_words(3, 1.0, 0.1) });
        let (fused, _) = by(FusionMethod::ReciprocalRank { k: 60 }).fuse(nearest, matching, 10.0);
        let of = |point| fused.iter().find(|s| s.point == point).unwrap();
        assert!((of(2).score - (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-6);
        assert!((of(3).score - (1.0 / 63.0 + 1.0 / 360.0)).abs() < 1e-6);
        assert_eq!(of(2).keyword_score, Some(7.0));
        assert_eq!(of(1).keyword_score, None);
        assert_eq!(order(fused), [2, 3, 1, 4]);
    }

    #[test]
    fn weights_go_from_words_alone_to_vectors_alone() {
        let lists = || {
            let nearest = vec![by_vector(1, 0.9), by_vector(2, 0.4)];
            (nearest, vec![by_words(2, 8.0, 0.4), by_words(3, 2.0, 0.1)])
        };
        let fuse = |alpha| {
            let (nearest, matching) = lists();
            by(FusionMethod::Weighted { alpha }).fuse(nearest, matching, 10.0).0
        };
        assert_eq!(order(fuse(1.0)), [1, 2, 3]);
        assert_eq!(order(fuse(0.0)), [2, 3, 1]);
        let middle = fuse(0.5);
        let two = middle.iter().find(|s| s.point == 2).unwrap();
        assert!((two.score - 0.6).abs() < 1e-6);
    }

    #[test]
    fn each_ranking_weighs_by_its_best() {
        // All words are in one passage, and no vector is near.
        let nearest = vec![by_vector(1, 0.3), by_vector(2, 0.25)];
        let (fused, _) = by(FusionMethod::Adaptive).fuse(
            nearest,
            vec![by_words(2, 10.0, 0.25), by_words(3, 9.0, 0.1)],
            10.0,
        );
        let alpha = 0.3 / (0.3 + WORDS_AGAINST_SIMILARITY);
        let two = fused.iter().find(|s| s.point == 2).unwrap();
        assert!((two.score - (alpha * 0.25 + (1.0 - alpha))).abs() < 1e-6);
        assert_eq!(order(fused), [2, 3, 1]);
        // A vector is near, and few of the words are anywhere.
        let nearest = vec![by_vector(1, 0.9), by_vector(2, 0.5)];
        let (fused, scoring) = by(FusionMethod::Adaptive).fuse(nearest, vec![by_words(2, 2.0, 0.5)], 10.0);
        assert_eq!(order(fused.clone()), [1, 2]);
        // The weights stay where a similarity turns out to be another.
        let nearer = Scored { vector_score: Some(1.0), ..fused[1].clone() };
        assert!((scoring.score(&nearer) - fused[1].score - 0.5 * 0.9 / (0.9 + 0.24)).abs() < 1e-6);
    }

    #[test]
    fn a_sentence_that_is_near_lifts_its_passage() {
        let with_sentence =
            |point, score, best| Scored { sentences: vec![-1.0, best], ..by_vector(point, score) };
        let nearest = || vec![by_vector(1, 0.6), with_sentence(2, 0.5, 0.9), with_sentence(3, 0.55, 0.4)];
        let fuse = |sentence_weight| {
            let method = FusionMethod::Weighted { alpha: 1.0 };
            Fusion { method, sentence_weight }.fuse(nearest(), vec![], 0.0).0
        };
        assert_eq!(order(fuse(0.0)), [1, 3, 2]);
        let half = fuse(0.5);
        assert!((half[1].score - 0.7).abs() < 1e-6);
        assert_eq!(half[1].vector_score, Some(0.5), "the passage's own stays what it is");
        assert_eq!(order(half), [2, 1, 3]);
        // The weight of the vectors goes by what they are weighed by.
        let words = || vec![by_words(4, 5.0, 0.1)];
        let (fused, _) = by(FusionMethod::Adaptive).fuse(nearest(), words(), 10.0);
        let alpha = 0.7 / (0.7 + WORDS_AGAINST_SIMILARITY * 0.5);
        assert!((fused[1].score - alpha * 0.7).abs() < 1e-6);
        // Ranks know nothing of sentences.
        let (by_ranks, _) = by(FusionMethod::ReciprocalRank { k: 60 }).fuse(ranked(nearest()), vec![], 0.0);
        assert_eq!(order(by_ranks), [1, 2, 3]);
    }

    #[test]
    fn no_words_leave_the_vectors() {
        let (fused, _) = Fusion::default().fuse(vec![by_vector(1, 0.5)], vec![], 0.0);
        assert_eq!(fused[0].score, 0.5);
        let (nothing, _) = Fusion::default().fuse(vec![by_vector(1, 0.0)], vec![], 0.0);
        assert_eq!(nothing[0].score, 0.0);
    }

    #[test]
    fn ranges_are_checked() {
        for (fusion, field) in [
            (by(FusionMethod::ReciprocalRank { k: 0 }), "fusion.rrf_k"),
            (by(FusionMethod::Weighted { alpha: 1.1 }), "fusion.alpha"),
            (by(FusionMethod::Weighted { alpha: f32::NAN }), "fusion.alpha"),
            (Fusion { sentence_weight: -0.1, ..Fusion::default() }, "fusion.sentence_weight"),
            (Fusion { sentence_weight: f32::NAN, ..Fusion::default() }, "fusion.sentence_weight"),
        ] {
            let error = fusion.check().unwrap_err();
            assert_eq!((error.reason, error.field.as_deref()), ("BAD_FUSION", Some(field)));
        }
        assert!(by(FusionMethod::Weighted { alpha: 0.0 }).check().is_ok());
    }
}
