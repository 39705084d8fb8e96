//! Names of more than one run: identifiers, addresses, versions and numbers, as they are written and as one would type
//! them with other signs between their parts.

use crate::normalize::{folded, lower_into};
use crate::scan::{self, Kind, Run};

/// A name of several runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The first of its runs within the group, and how many.
    pub first: usize,
    pub runs: usize,
    /// As it is written, where its digits or underscores show that it is one.
    pub written: Option<String>,
    /// Without what stands between its parts, if that is something else.
    pub joined: Option<String>,
}

/// A number in groups of digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    /// How many runs.
    pub runs: usize,
    /// Its digits alone; of a telephone number those without the country too.
    pub joined: Vec<String>,
}

/// Parts of a name that are looked at; a longer row of runs is no name.
const MOST_RUNS: usize = 16;

/// Where the runs end that stand together without a space from one on.
pub fn group_end(text: &str, runs: &[Run], first: usize) -> usize {
    let mut end = first + 1;
    while let (Some(last), Some(next)) = (runs.get(end - 1), runs.get(end)) {
        let between = text.get(last.end..next.start).unwrap_or_default();
        if next.kind != Kind::Word || between.is_empty() || !scan::is_loose_joint(between) {
            break;
        }
        end += 1;
    }
    end
}

/// Whether signs make another word of one or two letters: C++ has nothing to do with C.
pub fn is_short_with_signs(word: &str) -> bool {
    !word.starts_with('.') && word.trim_end_matches(['+', '#']).len() <= 2
}

/// The names in runs that stand together: the whole, and the parts of an address or path that are names themselves.
pub fn names(text: &str, group: &[Run]) -> Vec<Name> {
    let between = |at: usize| match (group.get(at.wrapping_sub(1)), group.get(at)) {
        (Some(last), Some(next)) => text.get(last.end..next.start).unwrap_or_default(),
        _ => "",
    };
    let mut found = Vec::new();
    if group.len() < 2 {
        return found;
    }
    // Identifiers as they are written: what looser signs join is none.
    let mut first = 0;
    for at in 1..=group.len() {
        if at < group.len() && scan::is_joint(between(at)) {
            continue;
        }
        found.extend(name(text, group, first, at));
        first = at;
    }
    let is_whole = |name: &Name| name.runs == group.len();
    if !found.iter().any(is_whole) && group.len() <= MOST_RUNS && !is_contraction(text, group) {
        found.extend(name(text, group, 0, group.len()).map(|name| Name { written: None, ..name }));
    }
    let mut first = 0;
    for at in 1..=group.len() {
        if at < group.len() && !scan::is_major_joint(between(at)) {
            continue;
        }
        if at - first < group.len() && !is_contraction(text, group.get(first..at).unwrap_or_default()) {
            found.extend(name(text, group, first, at).map(|name| Name { written: None, ..name }));
        }
        first = at;
    }
    found.retain(|name| name.written.is_some() || name.joined.is_some());
    found
}

/// Whether a name is an identifier, not words that a hyphen or an apostrophe joins.
pub fn is_identifier(name: &str) -> bool {
    name.contains(|c: char| c.is_ascii_digit() || matches!(c, '_' | '.' | '/' | ':' | '@' | '&'))
}

/// Whether runs end as words do that an apostrophe shortens: don't, lighthouse's.
fn is_contraction(text: &str, group: &[Run]) -> bool {
    let [.., before, last] = group else { return false };
    text.get(before.end..last.start) == Some("'") && last.end - last.start <= 2
}

fn name(text: &str, group: &[Run], first: usize, end: usize) -> Option<Name> {
    let runs = group.get(first..end).filter(|runs| (2..=MOST_RUNS).contains(&runs.len()))?;
    let (from, to) = (runs.first()?.start, runs.last()?.end);
    let whole = lower(text.get(from..to)?);
    let is_identifier = whole.contains(|c: char| c.is_ascii_digit() || c == '_');
    let digits = |run: &Run| run.of(text).bytes().all(|b| b.is_ascii_digit());
    // A version with or without the v before it. Its dots matter: 1.25 is not 12.5.
    let unprefixed = whole.strip_prefix('v').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let is_version = whole.contains('.')
        && runs.iter().skip(1).all(digits)
        && (unprefixed.is_some() || runs.first().is_some_and(digits));
    let joined = match is_version {
        true => unprefixed.unwrap_or(&whole).to_owned(),
        false => whole.chars().filter(|c| c.is_alphanumeric() || *c == '&' || !c.is_ascii()).collect(),
    };
    let written = is_identifier.then_some(whole);
    let joined = Some(joined).filter(|joined| written.as_ref() != Some(joined));
    Some(Name { first, runs: runs.len(), written, joined })
}

fn lower(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    lower_into(&mut out, text);
    folded(&out).into_owned()
}

/// The number that begins at a run, where signs or spaces stand between its digits.
pub fn number(text: &str, runs: &[Run], first: usize) -> Option<Number> {
    /// Digits that a telephone number has at least and a number at most.
    const LEAST: usize = 7;
    const LEAST_WITHOUT_COUNTRY: usize = 6;
    const MOST: usize = 15;
    if !runs.get(first)?.of(text).starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let count = scan::number(text, runs, first)?;
    let group = runs.get(first..first + count)?;
    let of = |group: &[Run]| -> String { group.iter().map(|run| run.of(text)).collect() };
    let mut joined = Vec::new();
    let separator = |at: usize| match (group.get(at), group.get(at + 1)) {
        (Some(last), Some(next)) => text.get(last.end..next.start),
        _ => None,
    };
    // 1,250,000: groups of three after the first, all with the same sign between.
    let thousands = group.iter().skip(1).take_while(|run| run.end - run.start == 3).count();
    let is_even = (0..thousands).all(|at| separator(at) == separator(0))
        && matches!(separator(0), Some("," | "." | " " | "'"));
    if thousands > 0 && is_even && group.first().is_some_and(|run| run.end - run.start <= 3) {
        joined.extend(group.get(..=thousands).map(of));
    }
    let digits: usize = group.iter().map(|run| run.end - run.start).sum();
    let before = text.get(..group.first()?.start).unwrap_or_default();
    let is_long = count >= 3 || before.ends_with(['+', '(']);
    if joined.is_empty() && is_long && (LEAST..=MOST).contains(&digits) {
        joined.push(of(group));
        let without_country = group.get(1..).map(of).filter(|rest| rest.len() >= LEAST_WITHOUT_COUNTRY);
        joined.extend(without_country);
    }
    joined.dedup();
    Some(Number { runs: count, joined })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let runs = scan::runs(text);
        let group = &runs[..group_end(text, &runs, 0)];
        let found = names(text, group);
        found.into_iter().flat_map(|name| [name.written, name.joined]).flatten().collect()
    }

    #[test]
    fn names_are_told_as_written_and_joined() {
        assert_eq!(of("CVE-2021-44228"), ["cve-2021-44228", "cve202144228"]);
        assert_eq!(of("EM940-SK22"), ["em940-sk22", "em940sk22"]);
        assert_eq!(of("well-known"), ["wellknown"]);
        assert_eq!(of("v4.11.2"), ["v4.11.2", "4.11.2"]);
        assert_eq!(of("10.20.30.40"), ["10.20.30.40"]);
        assert_eq!(of("R&D"), ["r&d"]);
        assert_eq!(of("O'Brien"), ["obrien"]);
        assert_eq!(of("anna.berg@harbour.example"), ["annabergharbourexample", "annaberg", "harbourexample"]);
        assert!(of("don't").is_empty());
        assert!(of("word").is_empty());
    }

    #[test]
    fn numbers_lose_what_stands_between_their_digits() {
        let number = |text: &str| {
            let runs = scan::runs(text);
            number(text, &runs, 0).map(|number| number.joined).unwrap_or_default()
        };
        assert_eq!(number("1,250,000 euros"), ["1250000"]);
        assert_eq!(number("1 450,50"), ["1450"]);
        assert_eq!(number("+47 22 33 44 55."), ["4722334455", "22334455"]);
        assert!(number("4, 11").is_empty() && number("12").is_empty() && number("x 1,250").is_empty());
    }
}
