//! From text to terms: words in lower case without stop words and endings, identifiers as a whole, and the other forms
//! that a word can be asked for in.
//!
//! A text gives three lists. Its *words* are what BM25 counts. Its *forms* are found too, and weigh less or nothing where
//! the word itself is there: they have a field of their own, so that they make no text longer. Its *signs* are those of
//! scripts without spaces, where any two neighbours may be a word.

use std::collections::HashMap;

use parking_lot::Mutex;
use tantivy::tokenizer::{self, RawTokenizer, Stemmer, StopWordFilter, TextAnalyzer, TokenStream};

use crate::names;
use crate::normalize::{folded, lower_into, normalized, transcribed};
use crate::scan::{self, Kind, Run};
use trove_core::domain::Language;

/// Longer terms are noise: encoded data, rows of signs. A SHA-512 digest in hex is just as long.
pub const MAX_TERM_BYTES: usize = 128;
/// What the tails of compounds begin with, which no word does.
pub const TAIL: char = '~';
/// Letters that a compound has at least.
const LEAST_COMPOUND: usize = 9;
/// Letters of its last part.
pub const LEAST_TAIL: usize = 4;
/// Letters of what comes before.
const LEAST_HEAD: usize = 3;
/// Longer words are no compounds that anybody asks for the parts of.
const MOST_COMPOUND: usize = 48;
/// Words whose analysis is remembered while texts are indexed.
const MOST_KNOWN: usize = 20_000;

/// English words without content of their own. Question words are among them: they ask, they do not tell.
pub const STOP_WORDS: &[&str] = &[
    "a", "about", "after", "again", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be",
    "because", "been", "before", "being", "between", "both", "but", "by", "can", "could", "did", "do",
    "does", "doing", "down", "during", "each", "few", "for", "from", "further", "had", "has", "have",
    "having", "he", "her", "here", "hers", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its",
    "itself", "just", "may", "me", "might", "more", "most", "much", "must", "my", "no", "nor", "not", "now",
    "of", "off", "on", "once", "only", "or", "other", "our", "out", "over", "own", "same", "shall", "she",
    "should", "so", "some", "such", "than", "that", "the", "their", "them", "then", "there", "these", "they",
    "this", "those", "through", "to", "too", "under", "until", "up", "upon", "very", "was", "we", "were",
    "what", "when", "where", "which", "while", "who", "whom", "whose", "why", "will", "with", "would", "you",
    "your",
];

/// The terms of a text, one a line.
#[derive(Debug, Default)]
pub struct Terms {
    /// Its words.
    pub words: String,
    /// Other forms of them.
    pub forms: String,
    /// Its signs in scripts without spaces, an empty line after each run.
    pub signs: String,
}

impl Terms {
    /// Forgets the terms and keeps the room.
    pub fn clear(&mut self) {
        self.words.clear();
        self.forms.clear();
        self.signs.clear();
    }
}

fn add(list: &mut String, term: &str) {
    if !term.is_empty() && term.len() <= MAX_TERM_BYTES {
        list.push_str(term);
        list.push('\n');
    }
}

/// What there is to know of a word in lower case.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Whether it has no content of its own.
    pub is_stop: bool,
    /// What it is indexed by.
    pub term: String,
    /// As it is written, where it has signs that the term has not.
    pub exact: Option<String>,
    /// What it would be indexed by if it were written otherwise.
    pub others: Vec<String>,
    /// The tails of a compound, from the whole word on, each with [`TAIL`] before it.
    tails: Vec<String>,
}

static UNKNOWN: Known =
    Known { is_stop: false, term: String::new(), exact: None, others: Vec::new(), tails: Vec::new() };

/// The analysis of text in a language. Words of another one are found as they stand, less well by other forms of
/// them.
pub struct Analyzer {
    language: Language,
    stop: Option<TextAnalyzer>,
    stem: Option<TextAnalyzer>,
    /// Places in `known`.
    places: HashMap<String, usize>,
    known: Vec<Known>,
    word: String,
    ends: Vec<usize>,
}

impl Analyzer {
    /// That of a language.
    pub fn new(language: Language) -> Self {
        static FILTERS: Mutex<Vec<(Language, [Option<TextAnalyzer>; 2])>> = Mutex::new(Vec::new());
        let mut made = FILTERS.lock();
        let [stop, stem] = match made.iter().find(|(other, _)| *other == language) {
            Some((_, filters)) => filters.clone(),
            None => {
                let stop = stop_words(language)
                    .map(|filter| TextAnalyzer::builder(RawTokenizer::default()).filter(filter).build());
                let stem = stemmed(language).map(|language| {
                    TextAnalyzer::builder(RawTokenizer::default()).filter(Stemmer::new(language)).build()
                });
                made.push((language, [stop.clone(), stem.clone()]));
                [stop, stem]
            }
        };
        Self {
            language,
            stop,
            stem,
            places: HashMap::new(),
            known: Vec::new(),
            word: String::new(),
            ends: Vec::new(),
        }
    }

    /// Appends the terms of a text.
    pub fn index(&mut self, text: &str, out: &mut Terms) {
        let text = normalized(text);
        let runs = scan::runs(&text);
        let (mut group, mut number_end) = (0..0, 0);
        // The stop word that the run before is.
        let mut before: Option<Run> = None;
        for (place, &run) in runs.iter().enumerate() {
            if run.kind == Kind::Signs {
                self.index_signs(run.of(&text), &mut out.signs);
                before = None;
                continue;
            }
            let is_stop = self.index_word(&text, run, out);
            if let Some(before) = before.filter(|_| is_stop) {
                lower_into(&mut out.forms, before.of(&text));
                out.forms.push(' ');
                lower_into(&mut out.forms, run.of(&text));
                out.forms.push('\n');
            }
            before = is_stop.then_some(run);
            if place >= group.end {
                group = place..names::group_end(&text, &runs, place);
            }
            if place + 1 == group.end {
                for name in names::names(&text, runs.get(group.clone()).unwrap_or_default()) {
                    name.written.iter().for_each(|written| add(&mut out.words, written));
                    if let Some(joined) = &name.joined {
                        add(&mut out.forms, &self.known(joined).term);
                    }
                }
            }
            if place >= number_end
                && let Some(number) = names::number(&text, &runs, place)
            {
                number_end = place + number.runs;
                number.joined.iter().for_each(|joined| add(&mut out.forms, joined));
            }
        }
    }

    /// Adds a word. Returns whether it is a stop word.
    fn index_word(&mut self, text: &str, run: Run, out: &mut Terms) -> bool {
        let mut word = std::mem::take(&mut self.word);
        word.clear();
        let written = run.of(text);
        let signs = scan::with_signs(text, run).and_then(|(start, end)| text.get(start..end));
        if let Some(signs) = signs {
            lower_into(&mut word, signs);
            if names::is_short_with_signs(signs) {
                add(&mut out.words, &word);
                self.word = word;
                return false;
            }
            add(&mut out.forms, &word);
            word.clear();
        }
        lower_into(&mut word, written);
        let known = self.known(&word);
        let is_stop = known.is_stop;
        if is_stop {
            add(&mut out.forms, &word);
            if is_capitals(written) {
                add(&mut out.forms, written);
            }
        } else {
            add(&mut out.words, &known.term);
            let others = known.exact.iter().chain(&known.others).chain(&known.tails);
            others.for_each(|other| add(&mut out.forms, other));
        }
        for part in scan::all_parts(written) {
            word.clear();
            lower_into(&mut word, part);
            add(&mut out.forms, &self.known(&word).term);
        }
        self.word = word;
        is_stop
    }

    /// Adds each sign.
    fn index_signs(&mut self, run: &str, signs: &mut String) {
        scan::sign_ends(run, &mut self.ends);
        let mut start = 0;
        for &end in &self.ends {
            add(signs, run.get(start..end).unwrap_or_default());
            start = end;
        }
        signs.push('\n');
    }

    /// What there is to know of a word in lower case.
    pub fn known(&mut self, word: &str) -> &Known {
        let place = match self.places.get(word) {
            Some(place) => *place,
            None => {
                if self.known.len() >= MOST_KNOWN {
                    self.known.clear();
                    self.places.clear();
                }
                let new = self.analyze(word);
                self.places.insert(word.to_owned(), self.known.len());
                self.known.push(new);
                self.known.len() - 1
            }
        };
        self.known.get(place).unwrap_or(&UNKNOWN)
    }

    fn analyze(&mut self, word: &str) -> Known {
        let plain = folded(word);
        let is_stop = self.is_stop(word);
        let term = match self.language {
            // Their stemmers know no accents.
            Language::None | Language::English => self.stem(&plain),
            _ => folded(&self.stem(word)).into_owned(),
        };
        let mut others = Vec::new();
        if plain != word {
            others.push(self.stem(&plain));
            others.extend(transcribed(word).map(|word| self.stem(&folded(&word))));
            others.sort_unstable();
            others.dedup();
            others.retain(|other| *other != term);
        }
        let exact = (plain != word).then(|| word.to_owned());
        let tails = if self.makes_compounds() && !is_stop { tails(&plain) } else { Vec::new() };
        Known { is_stop, term, exact, others, tails }
    }

    /// The language.
    pub fn language(&self) -> Language {
        self.language
    }

    /// Whether the language writes compounds as one word.
    pub fn makes_compounds(&self) -> bool {
        matches!(
            self.language,
            Language::German | Language::Dutch | Language::Danish | Language::Norwegian | Language::Swedish
        )
    }

    fn is_stop(&mut self, word: &str) -> bool {
        self.stop.as_mut().is_some_and(|stop| !stop.token_stream(word).advance())
    }

    fn stem(&mut self, word: &str) -> String {
        let Some(stem) = &mut self.stem else { return word.to_owned() };
        let mut stream = stem.token_stream(word);
        if stream.advance() { std::mem::take(&mut stream.token_mut().text) } else { word.to_owned() }
    }
}

/// Whether a word stands in capitals, as names do that are spelled like a stop word: IT, WHO.
pub fn is_capitals(word: &str) -> bool {
    word.len() >= 2 && word.chars().all(char::is_uppercase)
}

/// Where a compound may fall into two parts: byte places.
pub fn seams(word: &str) -> impl Iterator<Item = usize> + '_ {
    let length = word.chars().count();
    let places = word.char_indices().enumerate().filter(move |(count, _)| {
        *count >= LEAST_HEAD && length >= LEAST_COMPOUND && *count + LEAST_TAIL <= length
    });
    places.map(|(_, (at, _))| at).filter(|at| is_seam(word, *at))
}

/// Whether a word of a Germanic language can begin there: with a vowel after a consonant, with a consonant before a
/// vowel, or with consonants that words begin with. What comes before must be able to be a word, which has a vowel.
fn is_seam(word: &str, at: usize) -> bool {
    const ONSETS: &[&str] = &[
        "bl", "br", "bj", "ch", "dr", "dw", "fj", "fl", "fr", "gl", "gn", "gr", "hj", "hv", "kl", "kn", "kr",
        "kv", "kw", "pf", "ph", "pl", "pr", "qu", "sc", "sch", "sj", "sk", "sl", "sm", "sn", "sp", "st",
        "sv", "sw", "th", "tj", "tr", "ts", "tv", "tw", "vl", "vr", "wr", "zw",
    ];
    let is_vowel = |c: char| matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y');
    let (Some(head), Some(tail)) = (word.get(..at), word.get(at..)) else { return false };
    if !head.contains(is_vowel) || !tail.contains(is_vowel) {
        return false;
    }
    let mut letters = tail.chars();
    let (Some(first), Some(second)) = (letters.next(), letters.next()) else { return false };
    match is_vowel(first) {
        true => head.chars().next_back().is_some_and(|c| !is_vowel(c)),
        false => is_vowel(second) || ONSETS.iter().any(|onset| tail.starts_with(onset)),
    }
}

/// A long word, and what it may end with as a compound.
fn tails(word: &str) -> Vec<String> {
    let length = word.chars().count();
    if !(LEAST_COMPOUND..=MOST_COMPOUND).contains(&length) || word.contains(char::is_numeric) {
        return Vec::new();
    }
    let places = std::iter::once(0).chain(seams(word));
    places.filter_map(|at| Some(format!("{TAIL}{}", word.get(at..)?))).collect()
}

/// The words of a language that are left out, where there is a list of them.
fn stop_words(language: Language) -> Option<StopWordFilter> {
    match language {
        Language::English => Some(StopWordFilter::remove(STOP_WORDS.iter().map(|word| (*word).to_owned()))),
        other => StopWordFilter::new(stemmed(other)?),
    }
}

/// A language as the stemmer knows it.
fn stemmed(language: Language) -> Option<tokenizer::Language> {
    Some(match language {
        Language::None | Language::Auto => return None,
        Language::Arabic => tokenizer::Language::Arabic,
        Language::Danish => tokenizer::Language::Danish,
        Language::Dutch => tokenizer::Language::Dutch,
        Language::English => tokenizer::Language::English,
        Language::Finnish => tokenizer::Language::Finnish,
        Language::French => tokenizer::Language::French,
        Language::German => tokenizer::Language::German,
        Language::Greek => tokenizer::Language::Greek,
        Language::Hungarian => tokenizer::Language::Hungarian,
        Language::Italian => tokenizer::Language::Italian,
        Language::Norwegian => tokenizer::Language::Norwegian,
        Language::Portuguese => tokenizer::Language::Portuguese,
        Language::Romanian => tokenizer::Language::Romanian,
        Language::Russian => tokenizer::Language::Russian,
        Language::Spanish => tokenizer::Language::Spanish,
        Language::Swedish => tokenizer::Language::Swedish,
        Language::Tamil => tokenizer::Language::Tamil,
        Language::Turkish => tokenizer::Language::Turkish,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms_of(language: Language, text: &str) -> (Vec<String>, Vec<String>) {
        let mut terms = Terms::default();
        Analyzer::new(language).index(text, &mut terms);
        let lines = |list: &str| list.lines().map(str::to_owned).collect();
        (lines(&terms.words), lines(&terms.forms))
    }

    fn words(text: &str) -> Vec<String> {
        terms_of(Language::English, text).0
    }

    fn forms(text: &str) -> Vec<String> {
        terms_of(Language::English, text).1
    }

    #[test]
    fn words_lose_case_endings_and_stop_words() {
        assert_eq!(words("The Lighthouses were WARNING ships."), ["lighthous", "warn", "ship"]);
        assert_eq!(words("Zürich café"), ["zurich", "cafe"]);
        assert!(words("the of and — … !").is_empty());
        assert_eq!(words(&"x".repeat(128)).len(), 1);
        assert!(words(&"x".repeat(129)).is_empty());
    }

    #[test]
    fn each_language_has_an_analysis_of_its_own() {
        assert_eq!(terms_of(Language::German, "Die Häuser und das Haus").0, ["haus", "haus"]);
        assert_eq!(terms_of(Language::None, "The Häuser ships").0, ["the", "hauser", "ships"]);
        for language in Language::ALL {
            assert_eq!(
                terms_of(language, "CVE-2021-44228").0.last().unwrap(),
                "cve-2021-44228",
                "{language}"
            );
        }
    }

    #[test]
    fn identifiers_are_terms_as_a_whole_and_in_parts() {
        assert_eq!(words("see CVE-2021-44228."), ["see", "cve", "2021", "44228", "cve-2021-44228"]);
        assert_eq!(words("ERR_TIMED_OUT"), ["err", "time", "err_timed_out"]);
        assert_eq!(words("well-known"), ["well", "known"]);
        assert_eq!(words("end.Start 2"), ["end", "start", "2"]);
        assert_eq!(words("C, C++ and C#"), ["c", "c++", "c#"]);
        assert_eq!(words("em\u{2011}940"), ["em", "940", "em-940"]);
    }

    #[test]
    fn scripts_without_spaces_give_signs_with_their_marks() {
        let mut terms = Terms::default();
        Analyzer::new(Language::English).index("東京都 iPhone15を 서울 เรือ", &mut terms);
        assert_eq!(terms.words, "iphone15\n");
        assert_eq!(terms.signs, "東\n京\n都\n\nを\n\n서\n울\n\nเ\nรื\nอ\n\n");
    }

    #[test]
    fn forms_are_what_a_word_is_asked_by_otherwise() {
        assert!(forms("Lighthouses warn ships.").is_empty());
        assert_eq!(forms("résumé"), ["résumé"]);
        assert_eq!(forms("getUserNames"), ["get", "user", "name"]);
        assert_eq!(forms("EM940-SK22"), ["em", "940", "sk", "22", "em940sk22"]);
        assert_eq!(forms("The Who"), ["the", "who", "the who"]);
        assert_eq!(forms("IT"), ["it", "IT"]);
        assert_eq!(forms("on .NET"), ["on", ".net"]);
        assert!(terms_of(Language::None, "Müller").1.contains(&"mueller".to_owned()));
        let tails = terms_of(Language::German, "Hafenlotsen").1;
        assert!(
            tails.contains(&"~lotsen".to_owned()) && tails.contains(&"~hafenlotsen".to_owned()),
            "{tails:?}"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_terms_of_bounded_length(text in "\\PC{0,80}") {
            for language in [Language::English, Language::German, Language::None, Language::Arabic] {
                let (words, forms) = terms_of(language, &text);
                let is_good = |term: &String| !term.is_empty() && term.len() <= MAX_TERM_BYTES;
                proptest::prop_assert!(words.iter().chain(&forms).all(is_good));
            }
        }
    }
}
