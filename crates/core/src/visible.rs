//! Text from elsewhere, made safe to look at. On a terminal and in a log, characters that would act on the terminal, or
//! change how what stands around them is read, are shown as escapes such as `\u{1b}`.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Whether a character works through a terminal, or on the text around it, instead of showing itself: all controls
/// (C0, DEL, C1), marks that change the direction of text, ends of lines that only some programs know, and characters
/// without a shape in which text can be hidden. Joiners stay, which scripts and emoji need, and so do variation selectors.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{2028}' | '\u{2029}'
            | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with every unseen character but line breaks and tabs as an escape.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_unseen(c) && !matches!(c, '\n' | '\t'), |c, out| out.extend(c.escape_default()))
}

/// The same for what has one line: line breaks and tabs are escapes too.
pub fn visible_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_unseen, |c, out| out.extend(c.escape_default()))
}

/// JSON of the same value without an unseen character in its strings. Line breaks between its values stay.
pub fn visible_json(json: &str) -> Cow<'_, str> {
    let escape = |c: char, out: &mut String| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    };
    escaped(json, |c| is_unseen(c) && !c.is_ascii_whitespace(), escape)
}

fn escaped(text: &str, is_unsafe: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let Some(first) = text.find(&is_unsafe) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        if is_unsafe(c) { escape(c, &mut out) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Writes what it is given in one line, by [`visible_line`].
pub struct VisibleLine<W>(pub W);

impl<W: Write> Write for VisibleLine<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&visible_line(text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_of_a_terminal_are_text() {
        assert_eq!(visible("a\u{1b}]52;c;eA==\u{7}b"), r"a\u{1b}]52;c;eA==\u{7}b");
        assert_eq!(visible("\u{9b}2J\u{7f}\r"), r"\u{9b}2J\u{7f}\r");
        assert_eq!(visible("abc\u{202e}txt.exe\u{e0041}\u{200b}"), r"abc\u{202e}txt.exe\u{e0041}\u{200b}");
        assert_eq!(visible("a\tb\nc"), "a\tb\nc");
        assert_eq!(visible_line("a\tb\nc"), r"a\tb\nc");
    }

    #[test]
    fn text_that_only_shows_itself_stays_as_it_is() {
        for text in [
            "",
            "plain",
            "Zoë naïve 日本語 עברית العربية",
            "👩\u{200d}👩\u{200d}👧 ❤\u{fe0f}",
            "می\u{200c}خواهم",
            r"\u{1b}",
        ] {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text), "{text:?}");
        }
    }

    fn any_text() -> impl Strategy<Value = String> {
        let hostile = prop::sample::select(vec![
            '\u{0}',
            '\u{7}',
            '\u{8}',
            '\n',
            '\r',
            '\t',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{9d}',
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200f}',
            '\u{2028}',
            '\u{202e}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0041}',
            '"',
            '\\',
        ]);
        let one = prop_oneof![any::<char>(), hostile, prop::char::range('[', 'z')];
        prop::collection::vec(one, 0..60).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn nothing_unseen_is_left(text in any_text(), cut in 0_usize..60) {
            prop_assert!(!visible(&text).chars().any(|c| is_unseen(c) && c != '\n' && c != '\t'));
            prop_assert!(!visible_line(&text).chars().any(is_unseen));
            // A stream may be cut anywhere.
            let cut = text.floor_char_boundary(cut);
            prop_assert_eq!(visible(&text[..cut]).into_owned() + &visible(&text[cut..]), visible(&text));
            // What is shown is shown the same again.
            let once = visible(&text).into_owned();
            prop_assert_eq!(visible(&once), once.as_str());
        }

        #[test]
        fn json_keeps_its_value(text in any_text(), key in any_text()) {
            let value = serde_json::json!({ key: [text, 1.5, null] });
            for json in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                let shown = visible_json(&json);
                prop_assert!(!shown.chars().any(|c| is_unseen(c) && c != '\n'));
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value.clone());
            }
        }
    }
}
