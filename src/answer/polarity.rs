//! Whether a sentence affirms or denies.

/// Words that turn a statement around, in English and German.
const NEGATIONS: &[&str] = &[
    "not",
    "no",
    "never",
    "none",
    "nobody",
    "nothing",
    "neither",
    "nor",
    "cannot",
    "without",
    "nowhere",
    "hardly",
    "forbidden",
    "prohibited",
    "banned",
    "unable",
    "impossible",
    "refuse",
    "refuses",
    "refused",
    "fail",
    "fails",
    "failed",
    "lacks",
    "lack",
    "except",
    "unlike",
    "excluded",
    "unsupported",
    "unavailable",
    "disallowed",
    "nicht",
    "kein",
    "keine",
    "keinen",
    "keiner",
    "keinem",
    "keines",
    "nie",
    "niemals",
    "nichts",
    "niemand",
    "ohne",
    "verboten",
    "untersagt",
    "unmöglich",
    "weder",
];
/// Words that a question to be answered with yes or no begins with.
const ASKING: &[&str] = &[
    "is", "are", "was", "were", "am", "do", "does", "did", "can", "could", "may", "might", "must", "shall",
    "should", "will", "would", "has", "have", "had", "ist", "sind", "war", "waren", "darf", "dürfen", "kann",
    "können", "muss", "müssen", "hat", "haben", "hatte", "wird", "werden", "soll", "gibt", "isn't", "aren't",
    "doesn't", "don't", "can't",
];

/// A yes or a no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The statement of the question holds.
    Yes,
    /// It does not.
    No,
}

fn words(text: &str) -> impl Iterator<Item = String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '\'' || c == '’';
    let parts = text.split(move |c| !is_part(c)).filter(|word| !word.is_empty());
    parts.map(|word| word.to_lowercase().replace('’', "'")).collect::<Vec<_>>().into_iter()
}

/// Whether a text denies: an odd number of its words turn it around.
pub fn denies(text: &str) -> bool {
    let turns = |word: &String| NEGATIONS.contains(&word.as_str()) || word.ends_with("n't");
    words(text).filter(turns).count() % 2 == 1
}

/// Whether a question is to be answered with yes or no.
pub fn asks_whether(question: &str) -> bool {
    let first = words(question).find(|word| !matches!(word.as_str(), "and" | "but" | "so" | "und" | "oder"));
    first.is_some_and(|word| ASKING.contains(&word.as_str())) && !question.to_lowercase().contains(" or ")
}

/// The yes or no that an answer begins with, and the rest of it.
pub fn verdict(answer: &str) -> (Option<Verdict>, &str) {
    let answer = answer.trim_start();
    let end = answer.find(|c: char| !c.is_alphabetic()).unwrap_or(answer.len());
    let (first, rest) = answer.split_at(end);
    let verdict = match first.to_lowercase().as_str() {
        "yes" | "ja" => Verdict::Yes,
        "no" | "nein" if rest.is_empty() || rest.starts_with([',', '.', '!', ';', ':', ' ']) => Verdict::No,
        _ => return (None, answer),
    };
    // "No dogs are allowed" is a statement.
    if verdict == Verdict::No && rest.starts_with(' ') {
        return (None, answer);
    }
    (Some(verdict), rest.trim_start_matches([',', '.', '!', ';', ':', ' ']))
}

/// What a source says to a question that asks whether something is so.
pub fn verdict_of(question: &str, source: &str) -> Verdict {
    if denies(question) == denies(source) { Verdict::Yes } else { Verdict::No }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negations_are_counted() {
        assert!(denies("Swahili is not a Bantu language."));
        assert!(denies("It isn’t one."));
        assert!(denies("Das Grillen auf den Stegen ist verboten."));
        assert!(!denies("It is not forbidden."));
        assert!(!denies("Swahili is a Bantu language, noted in 1900."));
    }

    #[test]
    fn questions_that_ask_whether() {
        for question in
            ["Is Swahili a Bantu language?", "Darf ich grillen?", "And can dogs come?", "Doesn't it work?"]
        {
            assert!(asks_whether(question), "{question}");
        }
        for question in ["What is it?", "Who may come?", "Is it red or blue?", ""] {
            assert!(!asks_whether(question), "{question}");
        }
    }

    #[test]
    fn an_answer_may_begin_with_a_verdict() {
        assert_eq!(verdict("No, Swahili is not."), (Some(Verdict::No), "Swahili is not."));
        assert_eq!(verdict("Yes."), (Some(Verdict::Yes), ""));
        assert_eq!(verdict("Nein"), (Some(Verdict::No), ""));
        assert_eq!(verdict("No dogs are allowed."), (None, "No dogs are allowed."));
        assert_eq!(verdict("Yesterday it was."), (None, "Yesterday it was."));
        assert_eq!(verdict(""), (None, ""));
        assert_eq!(verdict_of("Is Swahili a Bantu language?", "Swahili is a Bantu language."), Verdict::Yes);
        assert_eq!(verdict_of("Darf ich grillen?", "Das Grillen ist verboten."), Verdict::No);
        assert_eq!(verdict_of("Is it not allowed?", "It is not allowed."), Verdict::Yes);
    }

    proptest::proptest! {
        #[test]
        fn the_rest_is_a_part_of_the_answer(text in "\\PC{0,20}|(no|yes|nein)[,. ]{0,2}\\PC{0,8}") {
            let (_, rest) = verdict(&text);
            proptest::prop_assert!(text.contains(rest));
        }
    }
}
