//! The part of a passage that is shown: whole words around its best sentence, wrapped, with that sentence marked.

use std::borrow::Cow;
use std::ops::Range;

use console::measure_text_width;

use super::output::Text;
use crate::visible::visible_line;

/// A word of a passage and whether it belongs to the best sentence.
struct Word<'a> {
    text: Cow<'a, str>,
    marked: bool,
}

/// How a snippet is laid out.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Columns of a line.
    pub width: usize,
    /// Most lines; zero shows the whole passage.
    pub lines: usize,
    /// Whether the best sentence is set in bold; else it stands between `>>` and `<<`.
    pub bold: bool,
}

/// Lines of a passage. White space is folded: line breaks of the source mean nothing here.
///
/// A range outside the text, or not on character boundaries, marks nothing.
pub fn snippet(text: &str, best: Option<Range<usize>>, layout: Layout) -> Vec<Text> {
    let best = best.filter(|range| text.get(range.clone()).is_some()).unwrap_or(0..0);
    let words: Vec<Word> = words(text)
        .into_iter()
        .map(|(start, text)| Word {
            // Before its columns are counted.
            text: visible_line(text),
            marked: start >= best.start && start < best.end,
        })
        .collect();
    let (first, last) = match layout.lines {
        0 => (0, words.len()),
        lines => window(&words, lines * layout.width),
    };
    let mut pieces: Vec<(String, bool)> = Vec::with_capacity(last - first + 2);
    if first > 0 {
        pieces.push(("…".to_owned(), false));
    }
    for index in first..last {
        let word = &words[index];
        let mut piece = word.text.clone().into_owned();
        if !layout.bold && word.marked {
            if index == first || !words[index - 1].marked {
                piece.insert_str(0, ">>");
            }
            if index + 1 == last || !words[index + 1].marked {
                piece.push_str("<<");
            }
        }
        pieces.push((piece, word.marked));
    }
    if last < words.len() {
        pieces.push(("…".to_owned(), false));
    }
    wrap(&pieces, layout)
}

/// The words of a text with their first bytes. A rule of a table or the dots of a table of contents are one `…`.
fn words(text: &str) -> Vec<(usize, &str)> {
    let place = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    let words: Vec<_> = text.split_whitespace().map(|word| (place(word), word)).collect();
    let is_rule = |word: &str| word.chars().all(|c| ".·_=-–—|+~".contains(c));
    let runs = words.chunk_by(|(_, a), (_, b)| is_rule(a) && is_rule(b));
    let length = |run: &[(usize, &str)]| run.iter().map(|(_, word)| word.chars().count()).sum::<usize>();
    let shown = runs.map(|run| match run {
        [(start, first), ..] if is_rule(first) && length(run) > 2 => (*start, "…"),
        [word, ..] => *word,
        [] => (0, ""),
    });
    shown.collect()
}

/// The range of words around the marked ones that fits a number of columns, a third of what is
/// left over before them.
fn window(words: &[Word], columns: usize) -> (usize, usize) {
    let cost = |word: &Word| measure_text_width(&word.text) + 1;
    // Room for the marks, the dots and what wrapping leaves empty at the ends of lines.
    let mut left = columns.saturating_sub(columns / 12 + 8);
    let start = words.iter().position(|word| word.marked).unwrap_or(0);
    let (mut first, mut last) = (start, start);
    while let Some(word) = words.get(last).filter(|word| word.marked && cost(word) <= left) {
        left -= cost(word);
        last += 1;
    }
    if words.get(last).is_some_and(|word| word.marked) {
        return (first, last.max(first + 1));
    }
    let mut before = left / 3;
    while first > 0 && cost(&words[first - 1]) <= before {
        before -= cost(&words[first - 1]);
        left -= cost(&words[first - 1]);
        first -= 1;
    }
    while let Some(word) = words.get(last).filter(|word| cost(word) <= left) {
        left -= cost(word);
        last += 1;
    }
    // The end of the passage may have left room.
    while first > 0 && cost(&words[first - 1]) <= left {
        left -= cost(&words[first - 1]);
        first -= 1;
    }
    (first, last)
}

fn wrap(pieces: &[(String, bool)], layout: Layout) -> Vec<Text> {
    let mut lines = Vec::new();
    let mut line = Text::new();
    let mut used = 0;
    for (piece, marked) in pieces {
        let columns = measure_text_width(piece);
        if !line.is_empty() && used + 1 + columns > layout.width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if !line.is_empty() {
            line = line.plain(" ");
            used += 1;
        }
        line = if *marked && layout.bold { line.bold(piece) } else { line.plain(piece) };
        used += columns;
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snippet(text: &str, best: Option<Range<usize>>, layout: Layout) -> Vec<String> {
        super::snippet(text, best, layout).iter().map(|line| line.as_str().to_owned()).collect()
    }

    const PLAIN: Layout = Layout { width: 20, lines: 2, bold: false };

    #[test]
    fn short_passages_are_whole_and_marked() {
        assert_eq!(snippet("One.\n Two  three.", Some(6..16), PLAIN), ["One. >>Two three.<<"]);
        assert_eq!(snippet("", None, PLAIN), Vec::<String>::new());
        assert_eq!(snippet("é x", Some(1..2), PLAIN), ["é x"]);
    }

    #[test]
    fn long_passages_show_the_best_sentence_with_what_stands_around_it() {
        let text = format!("{}Here it is. {}", "before ".repeat(50), "after ".repeat(50));
        let start = text.find("Here").unwrap_or_default();
        let lines = snippet(&text, Some(start..start + 11), Layout { width: 30, lines: 2, bold: false });
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("… before"));
        assert!(lines.join(" ").contains(">>Here it is.<< after"));
        assert!(lines[1].ends_with('…'));
        let all = snippet(&text, None, Layout { width: 30, lines: 0, bold: false });
        assert_eq!(all.join(" "), text.trim_end());
    }

    #[test]
    fn rules_and_leaders_are_folded() {
        let lines = snippet(
            "Name | Use\n-----+--- ---\na | Flow . . . . 12 — 3",
            None,
            Layout { width: 60, ..PLAIN },
        );
        assert_eq!(lines, ["Name | Use … a | Flow … 12 — 3"]);
    }

    #[test]
    fn a_best_sentence_that_is_too_long_is_cut() {
        let text = "word ".repeat(60);
        let lines = snippet(&text, Some(0..text.len()), Layout { width: 30, lines: 2, bold: false });
        assert!(lines.len() <= 2 && lines.join(" ").ends_with("word<< …"), "{lines:?}");
    }

    #[test]
    fn escapes_are_shown_and_take_their_columns() {
        let lines = snippet("see \u{1b}[2Jthis\u{9b} now", Some(4..12), PLAIN);
        assert_eq!(lines, [r"see", r">>\u{1b}[2Jthis\u{9b}<<", "now"]);
    }

    #[test]
    fn words_that_take_no_columns_stand_apart() {
        assert_eq!(snippet("\u{113e1} \u{1bc90}", None, PLAIN), ["\u{113e1} \u{1bc90}"]);
    }

    proptest! {
        #[test]
        fn any_text_and_range_give_words_of_the_text(text in "\\PC{0,80}", start in 0usize..90, len in 0usize..90) {
            let lines = snippet(&text, Some(start..start + len), PLAIN);
            let shown: Vec<String> = lines
                .iter()
                .flat_map(|line| line.split_whitespace().map(|w| w.replace(">>", "").replace("<<", "")))
                .filter(|word| word != "…")
                .collect();
            let all = text.replace(">>", "").replace("<<", "");
            for word in shown {
                prop_assert!(all.contains(&word));
            }
        }
    }
}
