//! Content words: what two texts must share for one to speak of the other.

use std::collections::HashSet;

use crate::keywords::STOP_WORDS;

/// Words of grammar of other languages than English that nothing is told by.
const OTHER_STOP_WORDS: &[&str] = &[
    "der", "die", "das", "den", "dem", "des", "ein", "eine", "einen", "einem", "einer", "eines", "und",
    "oder", "aber", "ist", "sind", "wird", "werden", "wurde", "wer", "wen", "wem", "wann", "wo", "wie",
    "warum", "welche", "welcher", "welches", "darf", "dürfen", "kann", "können", "muss", "müssen", "soll",
    "ich", "du", "er", "sie", "es", "wir", "ihr", "auf", "im", "am", "zu", "zum", "zur", "von", "vom", "mit",
    "für", "bei", "nach", "über", "unter", "aus", "hat", "haben", "viel", "viele", "le", "la", "les", "un",
    "une", "des", "du", "et", "est", "sont", "que", "qui", "quand", "où", "comment", "pourquoi", "combien",
    "dans", "sur", "pour", "avec", "el", "los", "las", "una", "y", "es", "son", "qué", "quién", "cuándo",
    "dónde", "cómo", "cuánto", "en", "por", "para", "con", "del", "al",
];

/// A set of content words.
pub type Words = HashSet<String>;

/// The content words of a text, in lower case and without plural endings.
///
/// Scripts that are written without spaces give one word for each character.
pub fn content_words(text: &str) -> Words {
    let mut words = Words::new();
    for run in text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’') {
        let lower = run.to_lowercase().replace('’', "'");
        let word = lower.trim_matches('\'');
        let word = word.strip_suffix("'s").unwrap_or(word);
        if word.is_empty() || STOP_WORDS.contains(&word) || OTHER_STOP_WORDS.contains(&word) {
            continue;
        }
        if word.chars().any(is_written_without_spaces) {
            words.extend(word.chars().map(String::from));
            continue;
        }
        words.insert(singular(word));
    }
    words
}

/// Share of some words that a text holds; one where there are none, since nothing is missing then.
pub fn coverage<'a>(wanted: impl IntoIterator<Item = &'a String>, holds: impl Fn(&str) -> bool) -> f32 {
    let (mut all, mut found) = (0u32, 0u32);
    for word in wanted {
        all += 1;
        found += u32::from(holds(word));
    }
    if all == 0 { 1.0 } else { found as f32 / all as f32 }
}

/// The S stemmer of Harman, "How effective is suffixing?" (1991).
pub(super) fn singular(word: &str) -> String {
    let ends = |ending: &str| word.len() > ending.len() + 1 && word.ends_with(ending);
    let cut = |count: usize| word.get(..word.len() - count).unwrap_or(word);
    if ends("ies") && !ends("eies") && !ends("aies") {
        return format!("{}y", cut(3));
    }
    if ends("es") && !ends("aes") && !ends("ees") && !ends("oes") {
        return cut(1).to_owned();
    }
    if ends("s") && !word.ends_with("us") && !word.ends_with("ss") {
        return cut(1).to_owned();
    }
    word.to_owned()
}

pub(super) fn is_written_without_spaces(c: char) -> bool {
    matches!(c, '\u{0E00}'..='\u{0EFF}' | '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{9FFF}' | '\u{20000}'..='\u{3FFFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(text: &str) -> Vec<String> {
        let mut words: Vec<String> = content_words(text).into_iter().collect();
        words.sort();
        words
    }

    #[test]
    fn words_are_folded_and_empty_ones_left_out() {
        assert_eq!(sorted("What are the Cities' 'houses'? It is Rollo’s."), ["city", "house", "rollo"]);
        assert_eq!(sorted("This is of them"), [""; 0]);
        assert_eq!(sorted("the bus, a class, 1990s"), ["1990", "bus", "class"]);
        assert_eq!(sorted("東京 Straße"), ["straße", "京", "東"]);
    }

    #[test]
    fn coverage_is_a_share() {
        let held = content_words("Rollo ruled Normandy");
        let share = |text: &str| coverage(&content_words(text), |word| held.contains(word));
        assert_eq!(share("Who was Rollo of Denmark?"), 0.5);
        assert_eq!(share("who is it"), 1.0);
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_words(text in "\\PC{0,60}|[a-z'’]{0,6}( [a-z'’]{0,6}){0,5}") {
            for word in content_words(&text) {
                proptest::prop_assert!(!word.is_empty());
            }
        }
    }
}
