//! Joins words that were divided at the ends of lines, columns and pages.

use std::collections::HashSet;

use super::blocks::Block;

/// The mark of a word that is divided for certain; a hyphen may be one of its own.
const DIVIDED: char = '\u{ad}';
const HYPHENS: [char; 3] = ['-', DIVIDED, '\u{2010}'];

/// Joins the words of all pages of a document.
pub(super) fn join(pages: &mut [Vec<Block>]) {
    let known: HashSet<String> =
        pages.iter().flatten().flat_map(|block| words(&block.text)).map(str::to_owned).collect();
    join_pages(pages);
    for block in pages.iter_mut().flatten() {
        block.text = join_divided(&block.text, &known);
        if block.is_row {
            block.text = block.text.replace('\n', " ");
        }
    }
}

/// Moves the second half of a word that is divided at the end of a page to where its first half is.
fn join_pages(pages: &mut [Vec<Block>]) {
    for at in 1..pages.len() {
        let (before, after) = pages.split_at_mut(at);
        let ends = before.last_mut().and_then(|page| page.iter_mut().rev().find(|block| !block.is_row));
        let starts = after.first_mut().and_then(|page| page.iter_mut().find(|block| !block.is_row));
        let (Some(ends), Some(starts)) = (ends, starts) else { continue };
        let first = ends.text.trim_end_matches(HYPHENS);
        if first.len() == ends.text.len() || !first.ends_with(char::is_alphabetic) {
            continue;
        }
        let rest = starts.text.split_once(char::is_whitespace);
        let (second, rest) = rest.unwrap_or((&starts.text, ""));
        if second.starts_with(char::is_lowercase) {
            ends.text = format!("{}\n{second}", ends.text);
            starts.text = rest.to_owned();
        }
    }
}

/// Words of letters and hyphens that lie within one line.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphabetic() && c != '-').filter(|word| word.len() > 1)
}

/// Joins a word that ends a line in a hyphen with its other half. Where the document has the word with its
/// hyphen elsewhere, and not without it, the hyphen stays.
fn join_divided(text: &str, known: &HashSet<String>) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(HYPHENS) {
        let mark = rest[at..].chars().next().unwrap_or('-');
        let (before, after) = (&rest[..at], &rest[at + mark.len_utf8()..]);
        joined.push_str(before);
        let first = before.rsplit(|c: char| !c.is_alphabetic() && c != '-').next().unwrap_or_default();
        let next = after.trim_start_matches([' ', '\t', '\r']).strip_prefix('\n');
        let next = next.map(|next| next.trim_start_matches([' ', '\t']));
        let second =
            next.and_then(|next| next.split(|c: char| !c.is_alphabetic()).next()).unwrap_or_default();
        let divided = first.ends_with(char::is_alphabetic) && second.starts_with(char::is_lowercase);
        match next {
            Some(next) if divided => {
                let whole = known.contains(&format!("{first}{second}"));
                if !whole && known.contains(&format!("{first}-{second}")) {
                    joined.push('-');
                }
                rest = next;
            }
            _ => {
                joined.push(if mark == DIVIDED { '-' } else { mark });
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

    fn block(text: &str) -> Block {
        Block { text: text.to_owned(), y: 0.0, em: 10.0, is_row: false, full: true }
    }

    #[test]
    fn divided_words_are_joined() {
        let text = "an exam-\nple of a well-\nknown thing, well-known\nfrom 1990-\n1999 - and\u{ad}\nso on, Jean-\nPaul\na naviga- \ntion light and Mar\u{ad}\nYork";
        let mut pages = vec![vec![block(text)]];
        join(&mut pages);
        let expected = "an example of a well-known thing, well-known\nfrom 1990-\n1999 - andso on, Jean-\nPaul\na navigation light and Mar-\nYork";
        assert_eq!(pages[0][0].text, expected);
    }

    #[test]
    fn words_are_joined_across_pages() {
        let row = Block { is_row: true, ..block("a\tb-\nc") };
        let mut pages = vec![vec![block("of the break\u{ad}")], vec![row, block("water and more")]];
        join(&mut pages);
        assert_eq!(pages[0][0].text, "of the breakwater");
        assert_eq!(pages[1][0].text, "a\tbc");
        assert_eq!(pages[1][1].text, "and more");
    }
}
