//! Raised and lowered text, which plain text has no place for.

/// Text that is raised, as it stands behind what is before it: "10⁶" is no "106", a mark at a name is no part of the
/// name, and "1st" is a word.
pub(super) fn raised(before: &str, text: &str) -> String {
    let text = text.trim();
    let is_word = |text: &str| text.chars().all(char::is_alphabetic);
    let joins = match before.chars().next_back() {
        Some(last) if last.is_numeric() => is_word(text),
        Some(last) if last.is_alphabetic() => {
            is_word(text) && text.chars().nth(1).is_some() && text.chars().all(char::is_lowercase)
        }
        _ => true,
    };
    apart(joins, '^', text)
}

/// Text that is lowered: "H₂O" is one word, as people write it.
pub(super) fn lowered(before: &str, text: &str) -> String {
    let text = text.trim();
    let joins = match before.chars().next_back() {
        Some(last) if last.is_numeric() => false,
        Some(last) if last.is_alphabetic() => text.chars().all(char::is_numeric),
        _ => true,
    };
    apart(joins, '_', text)
}

fn apart(joins: bool, mark: char, text: &str) -> String {
    let unsigned = text.trim_start_matches(['+', '-', '−']);
    if joins || !unsigned.starts_with(char::is_alphanumeric) {
        text.to_owned()
    } else {
        format!("{mark}{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_powers_stay_apart_and_words_whole() {
        assert_eq!(raised("Lindqvist", "1,2"), "^1,2");
        assert_eq!(raised("Boer", "a"), "^a");
        assert_eq!(raised("10", "6"), "^6");
        assert_eq!(raised("10", "−3"), "^−3");
        assert_eq!(raised("word", "[1]"), "[1]");
        assert_eq!(
            (raised("1", "st"), raised("M", "me"), raised("Trove", "TM")),
            ("st".into(), "me".into(), "^TM".into())
        );
        assert_eq!(
            (lowered("H", "2"), lowered("x", "i"), lowered("10", "2")),
            ("2".into(), "_i".into(), "_2".into())
        );
    }
}
