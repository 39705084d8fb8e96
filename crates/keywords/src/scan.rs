//! Where the words of a text are: runs of letters and digits, and the identifiers that several of them make.

use unicode_normalization::char::is_combining_mark;

/// A run of one kind of characters, by its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub start: usize,
    pub end: usize,
    pub kind: Kind,
}

/// What a run is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Letters and digits of a script that puts spaces between words.
    Word,
    /// Signs of a script without spaces, or with particles at its words.
    Signs,
}

impl Run {
    pub fn of(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// The runs of a normalized text, in order.
pub fn runs(text: &str) -> Vec<Run> {
    let mut found: Vec<Run> = Vec::with_capacity(text.len() / 5);
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        if !is_word_sign(c) {
            continue;
        }
        let kind = kind(c);
        let mut end = start + c.len_utf8();
        while let Some((at, c)) = chars.next_if(|(_, c)| goes_on(*c, kind)) {
            end = at + c.len_utf8();
        }
        found.push(Run { start, end, kind });
    }
    found
}

fn is_word_sign(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphanumeric() } else { c.is_alphanumeric() }
}

/// Whether a character belongs to the run before it: of the same kind, or a mark on its last letter.
fn goes_on(c: char, kind_before: Kind) -> bool {
    if c.is_ascii() {
        return kind_before == Kind::Word && c.is_ascii_alphanumeric();
    }
    (c >= '\u{300}' && is_combining_mark(c)) || (c.is_alphanumeric() && kind(c) == kind_before)
}

fn kind(c: char) -> Kind {
    let is_signs = c >= '\u{e00}'
        && matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
            | '\u{1100}'..='\u{11ff}' | '\u{3005}'..='\u{3007}' | '\u{3031}'..='\u{3035}'
            | '\u{3040}'..='\u{30ff}' | '\u{3100}'..='\u{318f}' | '\u{31f0}'..='\u{31ff}'
            | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{a960}'..='\u{a97f}'
            | '\u{ac00}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}');
    if is_signs { Kind::Signs } else { Kind::Word }
}

/// The ends of the signs of a run, each with the marks on it.
pub fn sign_ends(run: &str, out: &mut Vec<usize>) {
    out.clear();
    for (at, c) in run.char_indices() {
        let end = at + c.len_utf8();
        match out.last_mut() {
            Some(last) if is_combining_mark(c) => *last = end,
            _ => out.push(end),
        }
    }
}

/// Whether what stands between two runs makes one identifier of them, parts of which are words.
pub fn is_joint(between: &str) -> bool {
    matches!(between, "_" | "-" | "." | ":" | "/" | "@" | "__" | "::")
}

/// Whether it makes one name of them, as in `R&D` and `O'Brien`.
pub fn is_loose_joint(between: &str) -> bool {
    is_joint(between) || matches!(between, "&" | "'")
}

/// Whether an identifier falls into greater parts there: addresses and paths.
pub fn is_major_joint(between: &str) -> bool {
    matches!(between, "/" | ":" | "@" | "::")
}

/// What a word is with the signs that belong to it, such as `C++`, `C#` and `.NET`: its range in the text.
pub fn with_signs(text: &str, run: Run) -> Option<(usize, usize)> {
    let word = run.of(text);
    if run.kind == Kind::Signs || !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let after = text.get(run.end..).unwrap_or_default();
    let before = text.get(..run.start).unwrap_or_default();
    if !after.starts_with(['+', '#']) && !before.ends_with('.') {
        return None;
    }
    let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '+' || c == '#');
    if after.strip_prefix("++").is_some_and(is_end) {
        return Some((run.start, run.end + 2));
    }
    if word.len() <= 2 && after.strip_prefix('#').is_some_and(is_end) {
        return Some((run.start, run.end + 1));
    }
    let is_dotted = before.strip_suffix('.').is_some_and(|rest| {
        rest.chars().next_back().is_none_or(|c| c.is_whitespace() || matches!(c, '(' | '"' | '\'' | ','))
    });
    is_dotted.then(|| (run.start - 1, run.end))
}

/// The parts of a word that is written as one: `getUserName`, `parseHTTPResponse`, `EM940`. Empty where it has one part.
pub fn parts(word: &str) -> Vec<&str> {
    const MOST_BYTES: usize = 64;
    /// More changes between letters and digits are those of a code, whose parts say nothing.
    const MOST_CHANGES: usize = 3;
    /// Shorter words are not taken apart.
    const LEAST: usize = 2;
    if word.len() > MOST_BYTES || word.len() < LEAST {
        return Vec::new();
    }
    if word.bytes().skip(1).all(|b| b.is_ascii_lowercase()) && !word.starts_with(|c: char| c.is_ascii_digit())
    {
        return Vec::new();
    }
    let is_mixed = word.chars().skip(1).any(|c| c.is_uppercase() || c.is_ascii_digit())
        || (word.starts_with(|c: char| c.is_ascii_digit()) && word.contains(char::is_alphabetic));
    if !is_mixed {
        return Vec::new();
    }
    let chars: Vec<(usize, char)> = word.char_indices().collect();
    let is_digit = |c: char| c.is_ascii_digit();
    let changes =
        chars.windows(2).filter(|pair| matches!(pair, [(_, a), (_, b)] if is_digit(*a) != is_digit(*b)));
    if changes.count() > MOST_CHANGES {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut start = 0;
    for (place, pair) in chars.windows(2).enumerate() {
        let [(_, a), (at, b)] = *pair else { continue };
        let next = chars.get(place + 2).map(|(_, c)| *c);
        let is_boundary = is_digit(a) != is_digit(b)
            || (a.is_lowercase() && b.is_uppercase())
            || (a.is_uppercase() && b.is_uppercase() && next.is_some_and(char::is_lowercase));
        if is_boundary {
            found.extend(word.get(start..at));
            start = at;
        }
    }
    if found.is_empty() {
        return Vec::new();
    }
    found.extend(word.get(start..));
    found
}

/// The parts of a word, and those between digits and letters where they fall into parts themselves: `iPhone15` has
/// `iPhone` too.
pub fn all_parts(word: &str) -> Vec<&str> {
    let mut found = parts(word);
    if found.is_empty() {
        return found;
    }
    let is_digit = |c: char| c.is_ascii_digit();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_digit(c) != is_digit(first)).unwrap_or(rest.len());
        let (run, others) = rest.split_at(end);
        if run.len() < word.len() && !found.contains(&run) {
            found.push(run);
        }
        rest = others;
    }
    found
}

/// Digits that are one number or telephone number though signs stand between their groups: runs from `first` on, and
/// how many of them. `None` where they are no such thing.
pub fn number(text: &str, runs: &[Run], first: usize) -> Option<usize> {
    /// Groups that are joined at most.
    const MOST_GROUPS: usize = 8;
    let is_digits = |run: &Run| run.kind == Kind::Word && run.of(text).bytes().all(|b| b.is_ascii_digit());
    let rest = runs.get(first..)?;
    let mut count = 0;
    let mut end = None;
    for run in rest {
        let between = match end {
            None => "",
            Some(end) => text.get(end..run.start).unwrap_or_default(),
        };
        let is_next = end.is_none() || matches!(between, "," | " " | "'" | ") " | "-" | "." | "/");
        if !is_next || !is_digits(run) {
            break;
        }
        count += 1;
        end = Some(run.end);
        if count > MOST_GROUPS {
            return Some(count);
        }
    }
    (count >= 2).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        runs(text).into_iter().map(|run| run.of(text)).collect()
    }

    #[test]
    fn runs_end_where_the_script_changes_and_keep_their_marks() {
        assert_eq!(words("2024年4月にiPhone15を"), ["2024", "年", "4", "月に", "iPhone15", "を"]);
        assert_eq!(words("मुंबई बंदरगाह"), ["मुंबई", "बंदरगाह"]);
        assert_eq!(words("the quay, 1971."), ["the", "quay", "1971"]);
    }

    #[test]
    fn names_fall_into_parts() {
        assert_eq!(parts("getUserName"), ["get", "User", "Name"]);
        assert_eq!(parts("parseHTTPResponse"), ["parse", "HTTP", "Response"]);
        assert_eq!(parts("EM940"), ["EM", "940"]);
        assert_eq!(parts("500MB"), ["500", "MB"]);
        assert!(parts("lighthouse").is_empty() && parts("USA").is_empty() && parts("Haus").is_empty());
        assert!(parts("3f2504e04f89a0c0").is_empty());
    }

    #[test]
    fn signs_belong_to_names() {
        let with = |text: &str| -> Vec<String> {
            let found = runs(text).into_iter().filter_map(|run| with_signs(text, run));
            found.map(|(start, end)| text[start..end].to_owned()).collect()
        };
        assert_eq!(with("C++ and C#, F# (g++) on .NET"), ["C++", "C#", "F#", "g++", ".NET"]);
        assert!(with("end.Start a+b issue #4 word#x").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn runs_and_parts_are_slices_of_the_text(text in "\\PC{0,60}") {
            for run in runs(&text) {
                proptest::prop_assert!(!run.of(&text).is_empty());
                let mut ends = Vec::new();
                sign_ends(run.of(&text), &mut ends);
                proptest::prop_assert!(ends.iter().all(|end| run.of(&text).get(..*end).is_some()));
                let parts = parts(run.of(&text));
                proptest::prop_assert!(parts.is_empty() || parts.concat() == run.of(&text));
                proptest::prop_assert!(all_parts(run.of(&text)).len() >= parts.len());
                with_signs(&text, run);
            }
        }
    }
}
