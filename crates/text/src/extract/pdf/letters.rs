//! Letters as they are typed: ligatures and accents that a typesetter took apart or put together.

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};

/// The text with ligatures and contextual forms spelt out, letters and their accents as one sign, and without signs
/// that only guide a typesetter.
pub(super) fn plain(text: &str) -> String {
    let compatible = DecomposingNormalizerBorrowed::new_nfkd();
    let mut spelt = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Latin and Armenian ligatures; Hebrew, Arabic forms as they stand within a word.
            '\u{fb00}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' => {
                spelt.push_str(&compatible.normalize(c.encode_utf8(&mut [0; 4])));
            }
            '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}' => {}
            '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\t' => {
                spelt.push(' ')
            }
            _ => spelt.push(c),
        }
    }
    ComposingNormalizerBorrowed::new_nfc().normalize(&spelt).into_owned()
}

/// The combining sign of an accent that is drawn by itself.
pub(super) fn combining(accent: char) -> Option<char> {
    Some(match accent {
        '\u{300}'..='\u{36f}' => accent,
        '`' | '\u{2cb}' => '\u{300}',
        '´' | '\u{2ca}' => '\u{301}',
        'ˆ' | '^' => '\u{302}',
        '˜' | '~' => '\u{303}',
        '¯' | 'ˉ' => '\u{304}',
        '˘' => '\u{306}',
        '˙' => '\u{307}',
        '¨' => '\u{308}',
        '˚' => '\u{30a}',
        '˝' => '\u{30b}',
        'ˇ' => '\u{30c}',
        '¸' => '\u{327}',
        '˛' => '\u{328}',
        _ => return None,
    })
}

/// Whether a letter is of a script that runs from right to left.
pub(super) fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}')
}

/// Whether it is a sign above or below a letter of such a script.
pub(super) fn is_vowel_sign(c: char) -> bool {
    matches!(c, '\u{591}'..='\u{5c7}' | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{6d6}'..='\u{6ed}')
}

/// A bullet of a font of symbols, which has no letters, as one that all know.
pub(super) fn symbol(c: char) -> Option<char> {
    match c {
        '\u{f06c}' | '\u{f06e}' | '\u{f076}' | '\u{f0a7}' | '\u{f0a8}' | '\u{f0b7}' | '\u{f0d8}' => Some('•'),
        '\u{f02d}' => Some('–'),
        '\u{f0e0}' => Some('→'),
        '\u{f0fc}' => Some('✓'),
        _ => None,
    }
}

/// Whether it is no letter of any text: a code of a font, or a mark for what is not known.
pub(super) fn is_unreadable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}' | '\u{f0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_as_they_are_typed() {
        assert_eq!(plain("o\u{fb03}ce \u{fb01}led"), "office filed");
        assert_eq!(plain("Mu\u{308}ller pru\u{308}ft"), "Müller prüft");
        assert_eq!(plain("hy\u{ad}phens\u{a0}are\u{200b}"), "hyphens are");
        assert_eq!(plain("\u{fe91}\u{fe8e}\u{fe8f}"), "باب");
        assert_eq!(combining('¨'), Some('\u{308}'));
    }
}
