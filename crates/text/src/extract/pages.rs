//! Makes running text of set pages: running heads go, and words that were divided at line ends are joined.

use std::collections::{HashMap, HashSet};

/// Pages from which on running heads can be told from text.
const MIN_PAGES: usize = 4;
/// Lines from which on a page is full enough to tell.
const MIN_LINES: usize = 8;
/// Lines at the top and at the bottom of a page that may be running heads.
const EDGE: usize = 2;

/// Cleans the texts of all pages of a document.
pub(super) fn clean(pages: &mut [(u32, String)]) {
    drop_running_heads(pages);
    let words: HashSet<String> = pages.iter().flat_map(|(_, text)| words(text)).map(str::to_owned).collect();
    for (_, text) in pages {
        *text = join_divided(text, &words);
    }
}

/// A line with its numbers blotted out, so that page numbers do not tell lines apart.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for c in line.split_whitespace().flat_map(|word| word.chars().chain([' '])) {
        match c.is_ascii_digit() {
            true if shape.ends_with('0') => {}
            true => shape.push('0'),
            false => shape.push(c),
        }
    }
    shape
}

fn edge_lines(text: &str) -> impl Iterator<Item = &str> {
    let count = text.lines().filter(|line| !line.trim().is_empty()).count();
    let edge = move |i: usize| count >= MIN_LINES && (i < EDGE || i + EDGE >= count);
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.enumerate().filter(move |(i, _)| edge(*i)).map(|(_, line)| line)
}

/// Drops lines at the edges of pages that more than half of the pages have, but for their numbers.
fn drop_running_heads(pages: &mut [(u32, String)]) {
    if pages.len() < MIN_PAGES {
        return;
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (_, text) in pages.iter() {
        let shapes: HashSet<String> = edge_lines(text).map(shape).collect();
        shapes.into_iter().for_each(|shape| *counts.entry(shape).or_default() += 1);
    }
    counts.retain(|_, count| *count * 2 > pages.len());
    for (_, text) in pages {
        let heads: Vec<usize> = edge_lines(text)
            .filter(|line| counts.contains_key(&shape(line)))
            .map(|line| line.as_ptr() as usize - text.as_ptr() as usize)
            .collect();
        if heads.is_empty() {
            continue;
        }
        let mut at = 0;
        let mut kept = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            if !heads.contains(&at) {
                kept.push_str(line);
            }
            at += line.len();
        }
        *text = kept;
    }
}

/// Words of letters and hyphens that lie within one line.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphabetic() && c != '-').filter(|word| word.len() > 1)
}

/// Joins a word that ends a line in a hyphen with its other half. Where the document has the word with its
/// hyphen elsewhere, and not without it, the hyphen stays.
fn join_divided(text: &str, words: &HashSet<String>) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['-', '\u{ad}', '\u{2010}']) {
        let mark = rest[at..].chars().next().map_or(1, char::len_utf8);
        let (before, after) = (&rest[..at], &rest[at + mark..]);
        joined.push_str(before);
        let first = before.rsplit(|c: char| !c.is_alphabetic() && c != '-').next().unwrap_or_default();
        let next = after.strip_prefix("\r\n").or_else(|| after.strip_prefix('\n'));
        let next = next.map(|next| next.trim_start_matches([' ', '\t']));
        let second =
            next.and_then(|next| next.split(|c: char| !c.is_alphabetic()).next()).unwrap_or_default();
        let divided = first.ends_with(char::is_alphabetic) && second.starts_with(char::is_lowercase);
        match next {
            Some(next) if divided => {
                let whole = words.contains(&format!("{first}{second}"));
                if !whole && words.contains(&format!("{first}-{second}")) {
                    joined.push('-');
                }
                rest = next;
            }
            _ => {
                joined.push_str(&rest[at..at + mark]);
                rest = after;
            }
        }
    }
    joined.push_str(rest);
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divided_words_are_joined() {
        let text = "an exam-\nple of a well-\nknown thing, well-known\nfrom 1990-\n1999 - and\u{ad}\nso on, Jean-\nPaul";
        let mut pages = vec![(1, text.to_owned())];
        clean(&mut pages);
        let expected =
            "an example of a well-known thing, well-known\nfrom 1990-\n1999 - andso on, Jean-\nPaul";
        assert_eq!(pages[0].1, expected);
    }

    #[test]
    fn running_heads_go() {
        let page = |n: u32| {
            let body: String = (0..9)
                .map(|line| format!("{} says line {line}\n", "x".repeat((n + line) as usize)))
                .collect();
            (n, format!("\nChapter {n}   The Manual\n\n{body}{n}\n"))
        };
        let mut pages: Vec<_> = (8..13).map(page).collect();
        clean(&mut pages);
        assert!(pages[0].1.starts_with("\n\nxxxxxxxx says line 0\n"), "{:?}", pages[0].1);
        assert!(pages[0].1.ends_with(" says line 8\n"), "{:?}", pages[0].1);
        let mut few: Vec<_> = (1..3).map(page).collect();
        clean(&mut few);
        assert_eq!(few, (1..3).map(page).collect::<Vec<_>>());
    }

    #[test]
    fn short_pages_keep_their_own_lines() {
        let mut pages: Vec<_> = (0..5).map(|n| (n, format!("Slide {n}\n\nA point\n"))).collect();
        let before = pages.clone();
        clean(&mut pages);
        assert_eq!(pages, before);
        let mut empty: Vec<_> = (0..5).map(|n| (n, String::new())).collect();
        clean(&mut empty);
        assert!(empty.iter().all(|(_, text)| text.is_empty()));
    }
}
