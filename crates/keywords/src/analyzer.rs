//! From text to terms: words in lower case without stop words and endings, and identifiers as a whole.

use parking_lot::Mutex;
use tantivy::tokenizer::{
    self, AsciiFoldingFilter, LowerCaser, RemoveLongFilter, Stemmer, StopWordFilter, TextAnalyzer, Token,
    TokenStream, Tokenizer,
};

use trove_core::domain::Language;

/// Longer terms are noise: encoded data, rows of signs. A SHA-256 digest in hex is just as long.
const MAX_TERM_BYTES: usize = 64;

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

/// The analysis of text in a language. Words of another one are found as they stand, less well by other forms of
/// them.
pub fn analyzer(language: Language) -> TextAnalyzer {
    static ANALYZERS: Mutex<Vec<(Language, TextAnalyzer)>> = Mutex::new(Vec::new());
    let mut made = ANALYZERS.lock();
    if let Some((_, analyzer)) = made.iter().find(|(other, _)| *other == language) {
        return analyzer.clone();
    }
    let analyzer = build(language);
    made.push((language, analyzer.clone()));
    analyzer
}

fn build(language: Language) -> TextAnalyzer {
    let mut builder = TextAnalyzer::builder(Words::default())
        // It leaves out what has as many bytes as its limit.
        .filter(RemoveLongFilter::limit(MAX_TERM_BYTES + 1))
        .filter(LowerCaser)
        .dynamic();
    if let Some(filter) = stop_words(language) {
        builder = builder.filter_dynamic(filter);
    }
    if let Some(language) = stemmed(language) {
        builder = builder.filter_dynamic(Stemmer::new(language));
    }
    builder.filter_dynamic(AsciiFoldingFilter).build()
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
        Language::None => return None,
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

/// Splits text into runs of letters and digits. Runs that single signs join, such as `CVE-2021-44228`,
/// `ERR_TIMED_OUT` or `v1.2.3`, are a term as a whole too if they hold a digit or `_`. Scripts that are
/// written without spaces give a term for each pair of neighbouring characters.
#[derive(Clone, Default)]
struct Words {
    token: Token,
}

/// The tokens of one text.
struct WordStream<'a> {
    pieces: std::vec::IntoIter<(usize, usize)>,
    text: &'a str,
    token: &'a mut Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.token.reset();
        WordStream { pieces: pieces(text).into_iter(), text, token: &mut self.token }
    }
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        let Some((start, end)) = self.pieces.next() else { return false };
        self.token.text.clear();
        self.token.text.push_str(self.text.get(start..end).unwrap_or_default());
        self.token.offset_from = start;
        self.token.offset_to = end;
        self.token.position = self.token.position.wrapping_add(1);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

/// Byte ranges of the terms of a text.
fn pieces(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::with_capacity(text.len() / 5);
    // The identifier that may be going on: its start, and how many runs it has.
    let mut compound: Option<(usize, u32)> = None;
    let mut end_of_last = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        if !c.is_alphanumeric() {
            continue;
        }
        let mut end = start + c.len_utf8();
        while let Some((at, c)) = chars.next_if(|(_, c)| c.is_alphanumeric()) {
            end = at + c.len_utf8();
        }
        let joined = text.get(end_of_last..start).is_some_and(is_joint);
        compound = match compound {
            Some((first, runs)) if joined => Some((first, runs + 1)),
            other => {
                push_compound(text, other, end_of_last, &mut found);
                Some((start, 1))
            }
        };
        push_run(text, start, end, &mut found);
        end_of_last = end;
    }
    push_compound(text, compound, end_of_last, &mut found);
    found
}

/// Whether what stands between two runs makes one identifier of them.
fn is_joint(between: &str) -> bool {
    matches!(between, "_" | "-" | "." | ":" | "/" | "@" | "__" | "::")
}

fn push_compound(text: &str, compound: Option<(usize, u32)>, end: usize, found: &mut Vec<(usize, usize)>) {
    let Some((start, 2..)) = compound else { return };
    let is_identifier = |piece: &str| piece.contains(|c: char| c.is_ascii_digit() || c == '_');
    if text.get(start..end).is_some_and(is_identifier) {
        found.push((start, end));
    }
}

fn push_run(text: &str, start: usize, end: usize, found: &mut Vec<(usize, usize)>) {
    let run = text.get(start..end).unwrap_or_default();
    if run.is_ascii() || !run.contains(is_written_without_spaces) {
        found.push((start, end));
        return;
    }
    let ends: Vec<usize> = run.char_indices().map(|(at, c)| start + at + c.len_utf8()).collect();
    let starts: Vec<usize> = run.char_indices().map(|(at, _)| start + at).collect();
    match ends.len() {
        1 => found.push((start, end)),
        _ => found.extend(starts.iter().zip(ends.iter().skip(1)).map(|(start, end)| (*start, *end))),
    }
}

/// Han, Kana, Hangul syllables aside, and the scripts of South-East Asia.
fn is_written_without_spaces(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<String> {
        terms_of(Language::English, text)
    }

    fn terms_of(language: Language, text: &str) -> Vec<String> {
        let mut analyzer = analyzer(language);
        let mut stream = analyzer.token_stream(text);
        let mut found = Vec::new();
        stream.process(&mut |token| found.push(token.text.clone()));
        found
    }

    #[test]
    fn words_lose_case_endings_and_stop_words() {
        assert_eq!(terms("The Lighthouses were WARNING ships."), ["lighthous", "warn", "ship"]);
        assert_eq!(terms("Zürich café"), ["zurich", "cafe"]);
        assert!(terms("the of and — … !").is_empty());
        assert_eq!(terms(&"x".repeat(64)).len(), 1);
        assert!(terms(&"x".repeat(65)).is_empty());
    }

    #[test]
    fn each_language_has_an_analysis_of_its_own() {
        assert_eq!(terms_of(Language::German, "Die Häuser und das Haus"), ["haus", "haus"]);
        assert_eq!(terms_of(Language::None, "The Häuser ships"), ["the", "hauser", "ships"]);
        for language in Language::ALL {
            assert_eq!(terms_of(language, "CVE-2021-44228").last().unwrap(), "cve-2021-44228", "{language}");
        }
    }

    #[test]
    fn identifiers_are_terms_as_a_whole_and_in_parts() {
        assert_eq!(terms("see CVE-2021-44228."), ["see", "cve", "2021", "44228", "cve-2021-44228"]);
        assert_eq!(terms("ERR_TIMED_OUT"), ["err", "time", "err_timed_out"]);
        assert_eq!(terms("well-known"), ["well", "known"]);
        assert_eq!(terms("end.Start 2"), ["end", "start", "2"]);
        assert!(terms("v1.2.3").contains(&"v1.2.3".to_owned()));
    }

    #[test]
    fn scripts_without_spaces_give_pairs() {
        assert_eq!(terms("東京都 猫"), ["東京", "京都", "猫"]);
    }

    proptest::proptest! {
        #[test]
        fn pieces_are_slices_of_the_text(text in "\\PC*") {
            for (start, end) in pieces(&text) {
                proptest::prop_assert!(text.get(start..end).is_some_and(|piece| !piece.is_empty()));
            }
        }
    }
}
