//! How probable it is that a sentence answers a question: two logistic regressions on what is known of both, the first to choose
//! the sentence, the second to tell whether it is an answer.
//!
//! The weights were fitted by scripts/fit_answers.py to parts of the calibration halves of the evaluation sets
//! (docs/EVALUATION.md), so that what comes out is the share of such sentences which are right.

/// What is known of a sentence and a question.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Features {
    /// Cosine similarity of the sentence to the question.
    pub similarity: f32,
    /// The greatest of it and of the headings and questions directly above.
    pub similarity_above: f32,
    /// Share of the question's content words in its passage, title and headings.
    pub coverage_passage: f32,
    /// Share in the sentence.
    pub coverage_sentence: f32,
    /// Logarithm of the probability by the reader that the answer lies in it.
    pub answer_mass: f32,
    /// Log-odds by the reader that its passage answers the question.
    pub answers: f32,
    /// Log-probability by the reader that no words of its passage do.
    pub no_answer: f32,
    /// Whether it has what is asked for: 1, -1 where it has not, 0 where that cannot be told.
    pub meets: f32,
    /// 1 where one of question and sentence denies and the other does not.
    pub opposed: f32,
    /// 1 where the sentence measures, and not in the unit that the question asks for; less where its passage does not name what
    /// the question asks the number of.
    pub unit_missing: f32,
    /// Share of the question's figures that are not in its passage.
    pub figures_missing: f32,
    /// Share of the question's names that are not.
    pub names_missing: f32,
    /// One by the place of its passage among the hits.
    pub rank: f32,
    /// Score of its hit less that of the best.
    pub lead: f32,
}

/// Number of features.
const COUNT: usize = 14;

impl Features {
    /// Names and values, in the order of the weights.
    pub fn named(&self) -> [(&'static str, f32); COUNT] {
        [
            ("similarity", self.similarity),
            ("similarity_above", self.similarity_above),
            ("coverage_passage", self.coverage_passage),
            ("coverage_sentence", self.coverage_sentence),
            ("answer_mass", self.answer_mass),
            ("answers", self.answers),
            ("no_answer", self.no_answer),
            ("meets", self.meets),
            ("opposed", self.opposed),
            ("unit_missing", self.unit_missing),
            ("figures_missing", self.figures_missing),
            ("names_missing", self.names_missing),
            ("rank", self.rank),
            ("lead", self.lead),
        ]
    }
}

/// A bias, and a weight for each feature and for the log-odds of the other step.
struct Weights {
    bias: f32,
    of: [f32; COUNT],
    score: f32,
}

/// Whether a sentence holds the answer, with a reader.
const SENTENCE_READ: Weights = Weights {
    bias: -5.560,
    of: [1.008, 1.023, 0.451, 1.461, 0.222, 0.334, 0.101, 0.299, 0.043, -4.000, -0.510, -0.544, 2.771, 2.043],
    score: 0.000,
};
/// The same without one.
const SENTENCE: Weights = Weights {
    bias: -8.533,
    of: [
        1.902, 1.926, 0.404, 3.016, 0.000, 0.000, 0.000, 0.470, -0.416, -4.000, -0.900, -0.684, 2.720, 2.828,
    ],
    score: 0.000,
};
/// Whether the best sentence answers, with a reader.
const ANSWER_READ: Weights = Weights {
    bias: -1.549,
    of: [
        1.743, 1.863, -0.461, -0.383, -0.127, 0.494, 0.157, -0.261, 0.399, -4.000, -0.078, -0.402, 0.000,
        0.000,
    ],
    score: 0.454,
};
/// The same without one.
const ANSWER: Weights = Weights {
    bias: -2.008,
    of: [
        1.701, 2.082, 0.089, -0.336, 0.000, 0.000, 0.000, -0.285, 0.126, -4.000, -0.215, -0.406, 0.000, 0.000,
    ],
    score: 0.313,
};

impl Weights {
    fn log_odds(&self, features: &Features, score: f32) -> f32 {
        let weighed = self.of.iter().zip(features.named()).map(|(weight, (_, value))| weight * value);
        self.bias + weighed.sum::<f32>() + self.score * score
    }
}

/// Log-odds that a sentence holds the answer, where its passage has one: what sentences are chosen by.
fn sentence_log_odds(features: &Features, is_read: bool) -> f32 {
    if is_read { &SENTENCE_READ } else { &SENTENCE }.log_odds(features, 0.0)
}

/// Probability that a sentence holds the answer, by which candidates are ranked.
pub fn probability(features: &Features, is_read: bool) -> f32 {
    logistic(sentence_log_odds(features, is_read))
}

/// Probability that the best sentence answers the question. The second step compares questions, where the first compares
/// sentences of the same hits, which the place and the score of a hit tell much about; one of them that is sure is enough.
pub fn answerability(best: &Features, is_read: bool) -> f32 {
    let weights = if is_read { &ANSWER_READ } else { &ANSWER };
    let sentence = sentence_log_odds(best, is_read);
    logistic(weights.log_odds(best, sentence).max(sentence))
}

fn logistic(log_odds: f32) -> f32 {
    1.0 / (1.0 + (-log_odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Features {
        Features {
            similarity: 0.7,
            similarity_above: 0.7,
            coverage_passage: 1.0,
            coverage_sentence: 1.0,
            answer_mass: -0.2,
            answers: 3.0,
            no_answer: -3.0,
            meets: 1.0,
            rank: 1.0,
            ..Features::default()
        }
    }

    #[test]
    fn what_speaks_for_an_answer_raises_its_probability() {
        let bad =
            Features { similarity: 0.2, similarity_above: 0.2, answers: -4.0, answer_mass: -9.0, ..good() };
        let other_unit = Features { unit_missing: 1.0, ..good() };
        for is_read in [true, false] {
            for worse in [bad, other_unit] {
                assert!(probability(&good(), is_read) > probability(&worse, is_read));
                assert!(answerability(&good(), is_read) > answerability(&worse, is_read));
            }
        }
        assert!(answerability(&good(), true) > 0.6 && answerability(&other_unit, true) < 0.28);
    }
}
