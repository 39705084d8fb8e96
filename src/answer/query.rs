//! What is searched for when a question follows others.

use super::MAX_QUESTION_BYTES;
use super::words::content_words;

/// A question of fewer content words leans on what was said before.
const FEW_WORDS: usize = 3;

/// Words that stand for something that was said before.
const REFERENCES: &[&str] = &[
    "he", "her", "hers", "him", "his", "it", "its", "she", "that", "their", "theirs", "them", "these",
    "they", "this", "those", "former", "latter", "one", "ones", "there",
];

/// The text to search for. A question that has a pronoun, or fewer than three content words, or begins as a
/// continuation ("and", "what about"), is put behind the question before it; others are searched as they are.
///
/// That question is taken as it was searched itself, so that "who?" after "when?" still knows of what; no model runs.
/// Questions that would make the text longer than [`MAX_QUESTION_BYTES`] are left out, and so are those before them.
pub fn retrieval_query(earlier: &[&str], question: &str) -> String {
    let mut latest = question.trim();
    let mut parts = vec![latest];
    let mut bytes = latest.len();
    for before in earlier.iter().rev().map(|question| question.trim()) {
        bytes += 1 + before.len();
        if bytes > MAX_QUESTION_BYTES || !leans_on_context(latest) {
            break;
        }
        parts.push(before);
        latest = before;
    }
    parts.reverse();
    parts.join(" ")
}

/// Whether a question makes sense by itself, although it may go on from the one before: it refers to nothing, and has two
/// content words or more.
pub fn stands_alone(question: &str) -> bool {
    !refers(question) && content_words(question).len() > 1
}

fn refers(question: &str) -> bool {
    let lower = question.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).any(|word| REFERENCES.contains(&word))
}

fn leans_on_context(question: &str) -> bool {
    if refers(question) {
        return true;
    }
    let lower = question.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let continues = match words.next() {
        Some("and" | "but" | "so" | "or" | "then") => true,
        Some("what" | "how") => words.next() == Some("about"),
        _ => false,
    };
    continues || content_words(question).len() < FEW_WORDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follow_ups_carry_the_question_before() {
        let first = "Who led the Norse raiders to Normandy?";
        assert_eq!(retrieval_query(&[], "When was it?"), "When was it?");
        assert_eq!(retrieval_query(&[first], "When was he born?"), format!("{first} When was he born?"));
        assert_eq!(retrieval_query(&[first], " Why? "), format!("{first} Why?"));
        assert_eq!(
            retrieval_query(&[first, "When?"], "And what about southern England?"),
            format!("{first} When? And what about southern England?")
        );
        let other = "Which compression method does Git use?";
        assert_eq!(retrieval_query(&[first, "When?"], other), other);
        assert_eq!(retrieval_query(&[first, other, "When?"], "Who?"), format!("{other} When? Who?"));
    }

    #[test]
    fn some_that_go_on_make_sense_by_themselves() {
        for question in
            ["What about winter prices?", "And what about southern England?", "Who led the raiders?"]
        {
            assert!(stands_alone(question), "{question}");
        }
        for question in ["Why?", "When was he born?", "And when?", "What does it cost?"] {
            assert!(!stands_alone(question), "{question}");
        }
    }

    #[test]
    fn a_query_has_a_bound() {
        let long = format!("{} it?", "x".repeat(MAX_QUESTION_BYTES / 4));
        let query = retrieval_query(&["What is Git?", &long, &long, &long, &long], "Why?");
        assert_eq!(query, format!("{long} {long} {long} Why?"));
        let many = vec!["Why?"; 100_000];
        assert!(
            (MAX_QUESTION_BYTES - 5..=MAX_QUESTION_BYTES).contains(&retrieval_query(&many, "Who?").len())
        );
    }
}
