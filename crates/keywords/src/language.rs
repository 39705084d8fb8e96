//! Which language a text is in.

use whatlang::{Detector, Lang, Script};

use trove_core::domain::Language;

/// Bytes of a text that are looked at.
pub const SAMPLE: usize = 1024;
/// Letters below which a guess is worth nothing.
const LEAST_LETTERS: usize = 20;

/// The language of a text by its letters. Where it cannot be told it is English, by whose rules words of other languages
/// are found as they stand; so it is for scripts that need no stemmer. A language that is known and has no stemmer
/// is none.
pub fn detect(text: &str) -> Language {
    let mut end = text.len().min(SAMPLE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let sample = text.get(..end).unwrap_or_default();
    if sample.chars().filter(|c| c.is_alphabetic()).take(LEAST_LETTERS).count() < LEAST_LETTERS {
        return by_script(sample);
    }
    if is_plainly_english(sample) {
        return Language::English;
    }
    let Some(found) = whatlang::detect(sample) else { return Language::English };
    match (known(found.lang()), found.script()) {
        (Some(language), script) if found.is_reliable() || script != Script::Latin => language,
        (None, Script::Latin | Script::Cyrillic | Script::Arabic) if found.is_reliable() => Language::None,
        _ => by_script(sample),
    }
}

/// Whether so many words are those that only English has that no more must be looked at, which takes far longer.
fn is_plainly_english(text: &str) -> bool {
    const ENGLISH: &[&str] = &[
        "the", "and", "that", "with", "are", "from", "this", "which", "have", "been", "were", "not", "they",
        "their",
    ];
    const LEAST: usize = 3;
    const ONE_OF: usize = 14;
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let (mut all, mut english) = (0, 0);
    for word in words {
        all += 1;
        english += usize::from(ENGLISH.iter().any(|known| word.eq_ignore_ascii_case(known)));
    }
    english >= LEAST && english * ONE_OF >= all
}

/// What a few words are in, where their letters alone tell.
fn by_script(text: &str) -> Language {
    match whatlang::detect_script(text) {
        Some(Script::Greek) => Language::Greek,
        Some(Script::Tamil) => Language::Tamil,
        Some(Script::Arabic) => Language::Arabic,
        Some(Script::Cyrillic) => Language::Russian,
        _ => Language::English,
    }
}

/// Which of some languages a query is in, if that can be told.
pub fn detect_among(text: &str, languages: &[Language]) -> Option<Language> {
    let allowed: Vec<Lang> = languages.iter().filter_map(|language| of(*language)).collect();
    if allowed.len() < 2 {
        return None;
    }
    let found = Detector::with_allowlist(allowed).detect(text)?;
    if found.is_reliable() { known(found.lang()) } else { None }
}

const KNOWN: [(Lang, Language); 18] = [
    (Lang::Ara, Language::Arabic),
    (Lang::Dan, Language::Danish),
    (Lang::Nld, Language::Dutch),
    (Lang::Eng, Language::English),
    (Lang::Fin, Language::Finnish),
    (Lang::Fra, Language::French),
    (Lang::Deu, Language::German),
    (Lang::Ell, Language::Greek),
    (Lang::Hun, Language::Hungarian),
    (Lang::Ita, Language::Italian),
    (Lang::Nob, Language::Norwegian),
    (Lang::Por, Language::Portuguese),
    (Lang::Ron, Language::Romanian),
    (Lang::Rus, Language::Russian),
    (Lang::Spa, Language::Spanish),
    (Lang::Swe, Language::Swedish),
    (Lang::Tam, Language::Tamil),
    (Lang::Tur, Language::Turkish),
];

fn known(lang: Lang) -> Option<Language> {
    KNOWN.iter().find(|(known, _)| *known == lang).map(|(_, language)| *language)
}

fn of(language: Language) -> Option<Lang> {
    KNOWN.iter().find(|(_, known)| *known == language).map(|(lang, _)| *lang)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_by_a_sentence() {
        for (text, expected) in [
            ("The keeper of the lighthouse counts the ships that pass in the night.", Language::English),
            ("Die Versicherungspflicht gilt für Hafenlotsen und für die Schiffe im Hafen.", Language::German),
            ("Le gardien du phare compte les navires qui passent pendant la nuit.", Language::French),
            ("Смотритель маяка считает корабли, которые проходят ночью.", Language::Russian),
            ("灯台守は夜に通る船を数える。灯台守は夜に通る船を数える。", Language::English),
            ("short", Language::English),
            ("EM940-SK22", Language::English),
            ("", Language::English),
        ] {
            assert_eq!(detect(text), expected, "{text}");
        }
        assert_eq!(detect_among("the ship is in the harbour", &[Language::English]), None);
    }
}
