//! One spelling of text: what looks and means the same becomes the same characters.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{decompose_canonical, is_combining_mark};

/// Text in NFKC, with plain hyphens, apostrophes and spaces, without invisible signs and the vowel marks of Arabic and
/// Hebrew. The case stays.
pub fn normalized(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        // What is in no need of composition goes straight through: most of each script.
        if is_plain(c) && !rest.peek().is_some_and(|next| composes(*next)) {
            out.push(c);
            continue;
        }
        if let Some(simple) = simple(c) {
            out.extend(simple);
            continue;
        }
        // A base and what follows it are composed together.
        let mut piece = String::from(c);
        while let Some(next) = rest.next_if(|next| composes(*next)) {
            piece.push(next);
        }
        out.extend(piece.nfkc().filter_map(kept));
    }
    Cow::Owned(out)
}

/// A text as it is, composed and decomposed, each once: how values are found that were typed on another system.
pub fn spellings(text: &str) -> Vec<String> {
    let mut found = vec![text.to_owned()];
    if !text.is_ascii() {
        found.extend([text.nfc().collect(), text.nfd().collect()]);
        found.sort_unstable();
        found.dedup();
    }
    found
}

/// Characters that NFKC leaves alone, unless a mark follows.
fn is_plain(c: char) -> bool {
    c.is_ascii()
        || matches!(c, '\u{c0}'..='\u{131}' | '\u{1cd}'..='\u{1ef}' | '\u{391}'..='\u{3a9}' | '\u{3ac}'..='\u{3ce}'
            | '\u{400}'..='\u{481}' | '\u{5d0}'..='\u{5ea}' | '\u{620}'..='\u{63f}' | '\u{641}'..='\u{64a}'
            | '\u{3001}'..='\u{3002}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fe}'
            | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
}

/// What may become one character with the one before it: marks, and the vowels and finals of Hangul.
fn composes(c: char) -> bool {
    c >= '\u{300}'
        && (is_combining_mark(c)
            || matches!(c, '\u{1160}'..='\u{11ff}' | '\u{ff9e}' | '\u{ff9f}')
            || is_invisible(c))
}

/// What a character becomes by itself; `None` where NFKC must tell.
fn simple(c: char) -> Option<Option<char>> {
    Some(match c {
        _ if is_invisible(c) => None,
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => Some(' '),
        // Letters that would stick to the word before.
        '\u{2122}' | '\u{2120}' => Some(' '),
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).and_then(kept),
        _ => return kept_if_changed(c),
    })
}

fn kept_if_changed(c: char) -> Option<Option<char>> {
    match kept(c) {
        Some(same) if same == c => None,
        changed => Some(changed),
    }
}

/// A character of normalized text; `None` for what is dropped.
fn kept(c: char) -> Option<char> {
    Some(match c {
        _ if c.is_ascii() => c,
        _ if is_invisible(c) || is_vowel_mark(c) => return None,
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{2043}' => '-',
        '\u{2018}' | '\u{2019}' | '\u{2bc}' | '\u{201b}' => '\'',
        // Kinds of alef, kaf and yeh that keyboards mix up.
        '\u{6a9}' => '\u{643}',
        '\u{6cc}' => '\u{64a}',
        _ => c,
    })
}

/// Soft hyphens, joiners, marks of direction and variants: nothing that is read.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{e0001}'..='\u{e01ef}')
}

/// Niqqud, harakat and tatweel, which are written or left out at will.
fn is_vowel_mark(c: char) -> bool {
    matches!(c, '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}' | '\u{5c2}' | '\u{5c4}' | '\u{5c5}' | '\u{5c7}'
        | '\u{610}'..='\u{61a}' | '\u{640}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{6d6}'..='\u{6dc}'
        | '\u{6df}'..='\u{6e8}' | '\u{6ea}'..='\u{6ed}')
}

/// Appends a word in lower case, by the full case folding of Unicode apart from the sharp s, which folding takes.
pub fn lower_into(out: &mut String, word: &str) {
    if word.is_ascii() {
        let start = out.len();
        out.push_str(word);
        if let Some(added) = out.get_mut(start..) {
            added.make_ascii_lowercase();
        }
        return;
    }
    for c in word.chars().flat_map(char::to_lowercase) {
        match c {
            'ς' => out.push('σ'),
            // What is left of a dotted capital i.
            '\u{307}' => {}
            _ => out.push(c),
        }
    }
}

/// A word in lower case without accents and other signs that people leave out: é as e, ß as ss, ё as е, أ as ا. What
/// makes another letter stays, as in й and が.
pub fn folded(word: &str) -> Cow<'_, str> {
    if word.is_ascii() {
        return Cow::Borrowed(word);
    }
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        match c {
            _ if c.is_ascii() => out.push(c),
            'ß' => out.push_str("ss"),
            'æ' => out.push_str("ae"),
            'œ' => out.push_str("oe"),
            'þ' => out.push_str("th"),
            'ø' => out.push('o'),
            'đ' | 'ð' => out.push('d'),
            'ł' => out.push('l'),
            'ħ' => out.push('h'),
            'ı' => out.push('i'),
            'ŋ' => out.push('n'),
            'ŧ' => out.push('t'),
            'ĸ' => out.push('k'),
            'ё' => out.push('е'),
            '\u{622}' | '\u{623}' | '\u{625}' | '\u{671}' => out.push('\u{627}'),
            '\u{649}' => out.push('\u{64a}'),
            '\u{629}' => out.push('\u{647}'),
            '\u{300}'..='\u{36f}' => {}
            // Latin and Greek letters lose their marks.
            '\u{c0}'..='\u{24f}' | '\u{370}'..='\u{3ff}' | '\u{1e00}'..='\u{1fff}' => {
                decompose_canonical(c, |part| {
                    if !is_combining_mark(part) {
                        out.push(part)
                    }
                });
            }
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// How a word is spelled where there are no letters with dots and rings: ä as ae, å as aa. `None` where it has none.
pub fn transcribed(word: &str) -> Option<String> {
    if !word.contains(['ä', 'ö', 'ü', 'å', 'ø']) {
        return None;
    }
    let mut out = String::with_capacity(word.len() + 4);
    for c in word.chars() {
        match c {
            'ä' => out.push_str("ae"),
            'ö' | 'ø' => out.push_str("oe"),
            'ü' => out.push_str("ue"),
            'å' => out.push_str("aa"),
            _ => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_becomes_the_same() {
        for (text, expected) in [
            ("Mu\u{308}ller", "Müller"),
            ("Kon\u{ad}troll\u{200b}raum", "Kontrollraum"),
            ("ＥＭ９４０，ok", "EM940,ok"),
            ("eﬃcient ﬁne", "efficient fine"),
            ("EM\u{2011}940 2019\u{2013}2021", "EM-940 2019-2021"),
            ("it’s", "it's"),
            ("ｶﾞｲﾄﾞ", "ガイド"),
            ("が", "が"),
            ("\u{1112}\u{1161}\u{11ab}", "한"),
            ("السَّفِينَةُ", "السفينة"),
            ("שָׁלוֹם", "שלום"),
            ("Trove™ m²", "Trove  m2"),
            ("a\u{a0}b", "a b"),
            ("ệ e\u{323}\u{302}", "ệ ệ"),
            ("н\u{301}й", "н\u{301}й"),
        ] {
            assert_eq!(normalized(text), expected, "{text:?}");
        }
    }

    #[test]
    fn accents_fold_and_other_letters_stay() {
        for (word, expected) in [
            ("résumé", "resume"),
            ("straße", "strasse"),
            ("пётр", "петр"),
            ("район", "район"),
            ("がぎ", "がぎ"),
            ("ηλεκτρικό", "ηλεκτρικο"),
            ("đường", "duong"),
            ("मुंबई", "मुंबई"),
            ("أحمد", "احمد"),
        ] {
            assert_eq!(folded(word), expected);
        }
        assert_eq!(transcribed("müller").as_deref(), Some("mueller"));
        assert_eq!(transcribed("muller"), None);
    }

    proptest::proptest! {
        #[test]
        fn normalizing_twice_changes_nothing(text in "\\PC{0,40}") {
            let once = normalized(&text).into_owned();
            proptest::prop_assert_eq!(normalized(&once).into_owned(), once);
        }

        #[test]
        fn composed_and_decomposed_text_become_the_same(text in "[a-zA-ZÀ-žα-ωά-ώА-яё가-힣が-ヾ ]{0,40}") {
            let nfd: String = text.nfd().collect();
            proptest::prop_assert_eq!(normalized(&nfd).into_owned(), normalized(&text).into_owned());
        }
    }
}
