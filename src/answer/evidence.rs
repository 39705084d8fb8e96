//! The sentences of the used passages: how well they answer a question, and how well they support an answer.
//!
//! Both measures join the cosine similarity of sentence vectors, which sees meaning, and shared content words, which
//! see names and numbers. docs/EVALUATION.md tells how to measure the thresholds below which there is no answer or
//! no support.

use std::collections::HashMap;

use super::words::{Words, content_words, coverage};
use crate::domain::Span;
use crate::error::{ErrorKind, Result};
use crate::search::Hit;
use crate::store::Store;

/// Fewest words of a sentence that is an answer: less is a heading or a label.
const FEWEST_WORDS: usize = 3;

/// A sentence of a used passage.
#[derive(Debug, Clone)]
pub struct EvidenceSentence {
    /// Index of its hit.
    pub hit: usize,
    /// Where in the hit's text.
    pub span: Span,
    text: String,
    words: Words,
    vector: Vec<f32>,
}

/// How well a sentence of an answer is supported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Support {
    /// The sentence, in the answer's text.
    pub answer_span: Span,
    /// Index of the hit that supports it best; `None` where none does.
    pub hit: Option<usize>,
    /// Cosine similarity to the closest sentence of that hit.
    pub similarity: f32,
    /// Share of its content words that the passage holds; words of the question do not count.
    pub overlap: f32,
    /// Both together, 0 to 1.
    pub score: f32,
    /// That sentence, in the hit's text.
    pub passage_span: Span,
}

impl Support {
    /// That of a sentence which nothing supports.
    pub fn none(answer_span: Span) -> Self {
        Self {
            answer_span,
            hit: None,
            similarity: 0.0,
            overlap: 0.0,
            score: 0.0,
            passage_span: Span::default(),
        }
    }
}

/// The question, as evidence is measured against it.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its vector, of the collection's encoder.
    pub vector: Vec<f32>,
    /// Its content words.
    pub words: Words,
}

/// The sentences of the passages that an answer is made from.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    sentences: Vec<EvidenceSentence>,
    /// Words of a used passage with those of its title and headings, by hit.
    passages: HashMap<usize, Words>,
}

impl Evidence {
    /// Reads the sentences of the used parts, as spans of the hits' texts, with the vectors they were stored with. A
    /// passage that was replaced since the search has none, nor has one that is damaged, which is logged.
    ///
    /// # Errors
    /// Whatever reading the store gives otherwise.
    pub fn load(store: &Store, cid: u32, hits: &[Hit], used: &[(usize, Span)]) -> Result<Self> {
        let mut evidence = Self::default();
        for &(index, part) in used {
            let Some(hit) = hits.get(index) else { continue };
            let point = hit.document.first_passage + u64::from(hit.passage_index);
            let Some(passage) = readable(store.passage(cid, point))?.filter(|p| p.span == hit.span) else {
                continue;
            };
            let mut words = content_words(part.slice(&hit.text).unwrap_or_default());
            words.extend(content_words(&hit.document.title));
            words.extend(hit.headings.iter().flat_map(|heading| content_words(heading)));
            evidence.passages.insert(index, words);
            let vectors = readable(store.sentence_vectors(cid, point))?.unwrap_or_default();
            for (span, vector) in passage.sentences.iter().zip(vectors) {
                let span = within(*span, hit.span);
                let Some(text) = span.slice(&hit.text).filter(|_| span.end <= part.end) else { continue };
                let words = content_words(text);
                evidence.sentences.push(EvidenceSentence {
                    hit: index,
                    span,
                    text: text.to_owned(),
                    words,
                    vector,
                });
            }
        }
        Ok(evidence)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.sentences.is_empty()
    }

    /// The hits in the order in which they seem to answer the question, each by the measure of
    /// [`Evidence::answerability`]; those without sentences here follow as they are.
    pub fn order(&self, question: &Question, hits: usize) -> Vec<usize> {
        let mut scores = vec![f32::NEG_INFINITY; hits];
        for sentence in &self.sentences {
            if let Some(score) = scores.get_mut(sentence.hit) {
                *score = score.max(self.answers(question, sentence));
            }
        }
        let mut order: Vec<usize> = (0..hits).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        order
    }

    /// How well the passages seem to answer the question, 0 to 1: the mean of the similarity of the closest sentence
    /// and the share of the question's content words in one passage, for the passage where that is greatest.
    pub fn answerability(&self, question: &Question) -> f32 {
        self.sentences.iter().map(|sentence| self.answers(question, sentence)).fold(0.0, f32::max)
    }

    /// Similarity of a sentence to the question, and the share of the question's words in its passage.
    fn answers(&self, question: &Question, sentence: &EvidenceSentence) -> f32 {
        let held = self.passages.get(&sentence.hit);
        let coverage = coverage(&question.words, |word| held.is_some_and(|held| held.contains(word)));
        (similarity(&question.vector, &sentence.vector) + coverage) / 2.0
    }

    /// The sentences that answer the question best, at most this many, in the order of hits and texts.
    ///
    /// A sentence scores by its similarity to the question and the share of the question's words in it. Questions
    /// and fragments are no answers, unless there is nothing else.
    pub fn best(&self, question: &Question, most: usize) -> Vec<&EvidenceSentence> {
        let score = |sentence: &EvidenceSentence| {
            let coverage = coverage(&question.words, |word| sentence.words.contains(word));
            (similarity(&question.vector, &sentence.vector) + coverage) / 2.0
        };
        let mut ranked: Vec<(f32, &EvidenceSentence)> =
            self.sentences.iter().filter(|s| tells(&s.text)).map(|s| (score(s), s)).collect();
        if ranked.is_empty() {
            ranked = self.sentences.iter().map(|s| (score(s), s)).collect();
        }
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut best: Vec<&EvidenceSentence> = Vec::with_capacity(most);
        for (_, sentence) in ranked {
            // Passages overlap, and documents repeat each other.
            if best.len() < most && best.iter().all(|other| other.text != sentence.text) {
                best.push(sentence);
            }
        }
        best.sort_by_key(|sentence| (sentence.hit, sentence.span.start));
        best
    }

    /// The best support of a sentence of an answer, given its vector.
    pub fn support(&self, answer_span: Span, text: &str, vector: &[f32], question: &Question) -> Support {
        let words = content_words(text);
        let told: Vec<&String> = words.iter().filter(|word| !question.words.contains(*word)).collect();
        // An answer in the question's own words tells no more than them.
        let told = if told.is_empty() { words.iter().collect() } else { told };
        let mut best = Support::none(answer_span);
        let mut best_rank = f32::NEG_INFINITY;
        for sentence in &self.sentences {
            let held = self.passages.get(&sentence.hit);
            let overlap = coverage(told.iter().copied(), |word| held.is_some_and(|held| held.contains(word)));
            let similarity = similarity(vector, &sentence.vector);
            let score = (similarity + overlap) / 2.0;
            // Of two passages with the same words, the sentence that holds them itself is the source.
            let own = coverage(told.iter().copied(), |word| sentence.words.contains(word));
            if score + own > best_rank {
                best_rank = score + own;
                let (hit, passage_span) = (Some(sentence.hit), sentence.span);
                best = Support { answer_span, hit, similarity, overlap, score, passage_span };
            }
        }
        best
    }
}

impl EvidenceSentence {
    /// The sentence on one line.
    pub fn line(&self) -> String {
        self.text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// What was read; nothing where it is damaged, which is logged: one passage must not keep the others from answering.
fn readable<T>(read: Result<Option<T>>) -> Result<Option<T>> {
    match read {
        Err(error) if error.kind == ErrorKind::DataLoss => {
            tracing::error!(%error, "a passage is left out of an answer");
            Ok(None)
        }
        read => read,
    }
}

/// Whether a sentence can be an answer.
fn tells(text: &str) -> bool {
    let asks = text.trim_end_matches(['"', '\'', ')', '”', '*', '_']).ends_with('?');
    !asks && text.split_whitespace().count() >= FEWEST_WORDS && text.chars().any(char::is_alphabetic)
}

/// A span of a document's text as one of a passage's.
fn within(span: Span, passage: Span) -> Span {
    Span::new(span.start.saturating_sub(passage.start), span.end.saturating_sub(passage.start))
}

/// Cosine similarity, zero where it is negative or there is no direction.
fn similarity(a: &[f32], b: &[f32]) -> f32 {
    let (mut dot, mut of_a, mut of_b) = (0.0f32, 0.0f32, 0.0f32);
    for (x, y) in a.iter().zip(b) {
        dot += x * y;
        of_a += x * x;
        of_b += y * y;
    }
    let norms = (of_a * of_b).sqrt();
    if norms > 0.0 { (dot / norms).clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(hit: usize, start: u32, text: &str, vector: [f32; 2]) -> EvidenceSentence {
        let span = Span::new(start, start + text.len() as u32);
        EvidenceSentence {
            hit,
            span,
            text: text.to_owned(),
            words: content_words(text),
            vector: vector.to_vec(),
        }
    }

    fn evidence() -> Evidence {
        let sentences = vec![
            sentence(0, 0, "Who led the raiders?", [1.0, 0.0]),
            sentence(0, 21, "Rollo led\nthe Norse raiders.", [0.9, 0.1]),
            sentence(1, 0, "Knead the dough for ten minutes.", [0.0, 1.0]),
        ];
        let passages = [
            (0, "Who led the raiders? Rollo led the Norse raiders."),
            (1, "Knead the dough for ten minutes."),
        ]
        .map(|(hit, text)| (hit, content_words(text)));
        Evidence { sentences, passages: passages.into() }
    }

    fn question(text: &str, vector: [f32; 2]) -> Question {
        Question { vector: vector.to_vec(), words: content_words(text) }
    }

    #[test]
    fn the_best_sentence_is_no_question() {
        let raiders = question("Who led the raiders?", [1.0, 0.0]);
        let evidence = evidence();
        let best = evidence.best(&raiders, 1);
        assert_eq!((best[0].hit, best[0].line().as_str()), (0, "Rollo led the Norse raiders."));
        let both: Vec<usize> = evidence.best(&raiders, 2).iter().map(|s| s.hit).collect();
        assert_eq!(both, [0, 1]);
        assert!(evidence.answerability(&raiders) > 0.99);
        assert!(evidence.answerability(&question("Whose moon is Titan?", [-1.0, 0.0])) < 0.1);
        assert_eq!(Evidence::default().answerability(&raiders), 0.0);
        assert_eq!(evidence.order(&question("How long is dough kneaded?", [0.0, 1.0]), 4), [1, 0, 2, 3]);
    }

    #[test]
    fn support_needs_the_words_that_the_question_did_not_give() {
        let raiders = question("Who led the raiders?", [1.0, 0.0]);
        let evidence = evidence();
        let span = Span::new(0, 5);
        let good = evidence.support(span, "Rollo led the raiders.", &[0.9, 0.1], &raiders);
        assert_eq!((good.hit, good.passage_span.start, good.overlap), (Some(0), 21, 1.0));
        let invented = evidence.support(span, "Ragnar led the raiders.", &[0.9, 0.1], &raiders);
        assert_eq!(invented.overlap, 0.0);
        assert!(invented.score < good.score);
        assert_eq!(Evidence::default().support(span, "Rollo", &[1.0, 0.0], &raiders).hit, None);
    }
}
