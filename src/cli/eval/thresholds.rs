//! Which thresholds of answerability and support to take: from what was answered without them.

use serde::Serialize;

/// Shares of the right answers that may be kept.
const KEPT: [f64; 6] = [0.99, 0.95, 0.9, 0.85, 0.8, 0.7];

/// One answer without thresholds.
#[derive(Debug, Clone, Copy)]
pub struct Scored {
    /// Whether it is right.
    pub right: bool,
    /// Whether the question has an answer.
    pub answerable: bool,
    /// Answerability of the question.
    pub answerability: f32,
    /// Greatest support of a sentence.
    pub support: f32,
}

/// Thresholds and what they do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Choice {
    /// Share of the right answers that are kept.
    pub kept: f64,
    /// Threshold of answerability.
    pub answerability_threshold: f32,
    /// Threshold of support.
    pub support_threshold: f32,
    /// Share of the unanswerable questions that are refused.
    pub refused_unanswerable: f64,
    /// Share of the wrong answers to answerable questions that are refused.
    pub refused_wrong: f64,
}

/// For each share of right answers to keep, the pair of thresholds that refuses most unanswerable questions.
pub fn choices(answers: &[Scored]) -> Vec<Choice> {
    let right: Vec<&Scored> = answers.iter().filter(|a| a.right).collect();
    if right.is_empty() {
        return Vec::new();
    }
    let candidates = |value: fn(&Scored) -> f32| {
        let mut values: Vec<f32> = answers.iter().map(value).chain([0.0]).collect();
        values.sort_by(f32::total_cmp);
        values.dedup();
        // A hundred quantiles: the exact optimum of a sample is chance.
        let step = values.len().div_ceil(100).max(1);
        values.into_iter().step_by(step).collect::<Vec<f32>>()
    };
    let (by_answerability, by_support) = (candidates(|a| a.answerability), candidates(|a| a.support));
    let mut tried = Vec::with_capacity(by_answerability.len() * by_support.len());
    for &answerability in &by_answerability {
        for &support in &by_support {
            tried.push(measure(answers, right.len(), answerability, support));
        }
    }
    let best = |least: f64| {
        let kept = tried.iter().filter(|choice| choice.kept >= least);
        kept.max_by(|a, b| {
            a.refused_unanswerable.total_cmp(&b.refused_unanswerable).then(a.kept.total_cmp(&b.kept))
        })
    };
    KEPT.iter().filter_map(|least| best(*least).copied()).collect()
}

fn measure(answers: &[Scored], right: usize, answerability: f32, support: f32) -> Choice {
    let refused = |a: &Scored| a.answerability < answerability || a.support < support;
    let share = |of: &dyn Fn(&Scored) -> bool| {
        let all = answers.iter().filter(|a| of(a)).count();
        let refused = answers.iter().filter(|a| of(a) && refused(a)).count();
        if all == 0 { 0.0 } else { refused as f64 / all as f64 }
    };
    let kept = answers.iter().filter(|a| a.right && !refused(a)).count();
    Choice {
        kept: kept as f64 / right as f64,
        answerability_threshold: answerability,
        support_threshold: support,
        refused_unanswerable: share(&|a| !a.answerable),
        refused_wrong: share(&|a| a.answerable && !a.right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_keep_the_right_and_refuse_the_rest() {
        let scored =
            |right, answerable, answerability, support| Scored { right, answerable, answerability, support };
        let mut answers = Vec::new();
        for step in 0..10 {
            answers.push(scored(true, true, 0.6 + 0.01 * step as f32, 0.9));
            answers.push(scored(false, false, 0.4, 0.9));
            answers.push(scored(false, false, 0.9, 0.2));
        }
        let best = choices(&answers)[0];
        assert_eq!((best.kept, best.refused_unanswerable), (1.0, 1.0));
        assert!(best.answerability_threshold > 0.4 && best.support_threshold > 0.2);
        assert!(choices(&[scored(false, false, 0.1, 0.1)]).is_empty());
    }
}
