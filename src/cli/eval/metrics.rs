//! Measures of ranking, correlation and classification.

use std::collections::HashMap;

/// Relevance of documents for one query; what is not in it is not relevant.
pub type Relevance = HashMap<String, i64>;

fn gain(relevance: &Relevance, id: &str) -> f64 {
    relevance.get(id).copied().filter(|grade| *grade > 0).unwrap_or(0) as f64
}

fn discount(rank: usize) -> f64 {
    1.0 / ((rank + 2) as f64).log2()
}

/// nDCG at a depth, with linear gains as trec_eval has them.
pub fn ndcg(ranked: &[String], relevance: &Relevance, depth: usize) -> f64 {
    let dcg: f64 =
        ranked.iter().take(depth).enumerate().map(|(rank, id)| gain(relevance, id) * discount(rank)).sum();
    let mut ideal: Vec<i64> = relevance.values().copied().filter(|grade| *grade > 0).collect();
    ideal.sort_unstable_by(|a, b| b.cmp(a));
    let best: f64 =
        ideal.iter().take(depth).enumerate().map(|(rank, grade)| *grade as f64 * discount(rank)).sum();
    if best == 0.0 { 0.0 } else { dcg / best }
}

/// Reciprocal rank of the first relevant document within a depth.
pub fn reciprocal_rank(ranked: &[String], relevance: &Relevance, depth: usize) -> f64 {
    let first = ranked.iter().take(depth).position(|id| gain(relevance, id) > 0.0);
    first.map_or(0.0, |rank| 1.0 / (rank + 1) as f64)
}

/// Share of the relevant documents found within a depth.
pub fn recall(ranked: &[String], relevance: &Relevance, depth: usize) -> f64 {
    let all = relevance.values().filter(|grade| **grade > 0).count();
    if all == 0 {
        return 0.0;
    }
    let found = ranked.iter().take(depth).filter(|id| gain(relevance, id) > 0.0).count();
    found as f64 / all as f64
}

/// Ranks from one, ties get the average of their ranks.
pub fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let mut end = start + 1;
        while end < order.len() && values[order[end]] == values[order[start]] {
            end += 1;
        }
        let rank = (start + 1 + end) as f64 / 2.0;
        for index in &order[start..end] {
            ranks[*index] = rank;
        }
        start = end;
    }
    ranks
}

/// Pearson correlation; zero when one side does not vary.
pub fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let count = a.len().min(b.len()) as f64;
    if count == 0.0 {
        return 0.0;
    }
    let mean_a = a.iter().sum::<f64>() / count;
    let mean_b = b.iter().sum::<f64>() / count;
    let (mut cross, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        cross += (x - mean_a) * (y - mean_b);
        square_a += (x - mean_a).powi(2);
        square_b += (y - mean_b).powi(2);
    }
    let scale = (square_a * square_b).sqrt();
    if scale == 0.0 { 0.0 } else { cross / scale }
}

/// Spearman correlation with average ranks for ties.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    pearson(&average_ranks(a), &average_ranks(b))
}

/// Accuracy of calling a score at or above the threshold true.
pub fn accuracy(items: &[(f64, bool)], threshold: f64) -> f64 {
    if items.is_empty() {
        return 0.0;
    }
    let right = items.iter().filter(|(score, label)| (*score >= threshold) == *label).count();
    right as f64 / items.len() as f64
}

/// The threshold of best accuracy among midpoints between neighbouring scores and both ends.
pub fn best_threshold(items: &[(f64, bool)]) -> f64 {
    let mut sorted = items.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Everything true to begin with; each step turns one more low score false.
    let mut right = sorted.iter().filter(|(_, label)| *label).count() as i64;
    let (mut best, mut threshold) = (right, f64::NEG_INFINITY);
    for (index, (score, label)) in sorted.iter().enumerate() {
        right += if *label { -1 } else { 1 };
        let next = sorted.get(index + 1).map_or(f64::INFINITY, |(next, _)| *next);
        if next > *score && right > best {
            best = right;
            threshold = if next.is_finite() { (score + next) / 2.0 } else { f64::INFINITY };
        }
    }
    threshold
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn ranking_measures() {
        let relevance: Relevance = [("a".to_owned(), 1), ("b".to_owned(), 1), ("z".to_owned(), 0)].into();
        let list = ranked(&["z", "a", "x", "b"]);
        let expected = (1.0 / 3f64.log2() + 1.0 / 5f64.log2()) / (1.0 + 1.0 / 3f64.log2());
        assert!((ndcg(&list, &relevance, 10) - expected).abs() < 1e-12);
        assert_eq!(ndcg(&ranked(&["a", "b"]), &relevance, 10), 1.0);
        assert_eq!(ndcg(&list, &Relevance::new(), 10), 0.0);
        assert_eq!(reciprocal_rank(&list, &relevance, 10), 0.5);
        assert_eq!(reciprocal_rank(&list, &relevance, 1), 0.0);
        assert_eq!(recall(&list, &relevance, 2), 0.5);
        assert_eq!(recall(&list, &relevance, 10), 1.0);
    }

    /// The expected values are those of pytrec_eval 0.5 (trec_eval) and SciPy's spearmanr and pearsonr.
    #[test]
    fn equal_to_the_reference_implementations() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
        let graded: Relevance =
            [("a", 3), ("b", 1), ("c", 2), ("d", 0), ("z", 1)].map(|(id, g)| (id.to_owned(), g)).into();
        let list = ranked(&["d", "a", "e", "b", "f", "c"]);
        close(ndcg(&list, &graded, 3), 0.397_489_522_291_688_44);
        close(ndcg(&list, &graded, 10), 0.584_662_322_008_801);
        close(recall(&list, &graded, 3), 0.25);
        close(recall(&list, &graded, 10), 0.75);
        close(reciprocal_rank(&list, &graded, 10), 0.5);
        let binary: Relevance = [("x".to_owned(), 1), ("y".to_owned(), 1)].into();
        let list = ranked(&["p", "q", "y"]);
        close(ndcg(&list, &binary, 10), 0.306_573_596_382_729_2);
        close(reciprocal_rank(&list, &binary, 10), 1.0 / 3.0);
        let (a, b) = ([0.1, 0.4, 0.4, 0.9, 0.35, 0.7, -0.2], [1.0, 2.0, 3.0, 5.0, 3.0, 4.0, 3.0]);
        close(spearman(&a, &b), 0.673_161_832_806_089_2);
        close(pearson(&a, &b), 0.676_295_472_120_625_5);
    }

    #[test]
    fn spearman_averages_ties() {
        assert_eq!(average_ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert!((spearman(&[1.0, 2.0, 3.0], &[10.0, 100.0, 1000.0]) - 1.0).abs() < 1e-12);
        assert!(
            (spearman(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]) - 0.948_683_298_050_513_8).abs() < 1e-12
        );
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), 0.0);
    }

    #[test]
    fn threshold_separates() {
        let items = [(0.1, false), (0.2, false), (0.6, true), (0.9, true)];
        let threshold = best_threshold(&items);
        assert!(threshold > 0.2 && threshold <= 0.6);
        assert_eq!(accuracy(&items, threshold), 1.0);
    }
}
