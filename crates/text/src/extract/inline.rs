//! Marks within lines of markup, such as `*bold*`, that a reader does not see.

/// Removes pairs of these marks around words. A pair opens before a word and closes behind one, as in AsciiDoc,
/// reStructuredText and Org; text between `verbatim` marks stays as it is.
pub(super) fn unmark(text: &str, marks: &[&str], verbatim: &[&str]) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    // Marks that were looked for in vain are not looked for again: a line may consist of them.
    let mut missing: Vec<&str> = Vec::new();
    while let Some(c) = rest.chars().next() {
        let opened = verbatim.iter().chain(marks).copied().find(|mark| {
            !missing.contains(mark) && rest.starts_with(mark) && opens(&plain, &rest[mark.len()..], mark)
        });
        match opened.map(|mark| (mark, closing(&rest[mark.len()..], mark))) {
            Some((mark, Some(end))) => {
                let inside = &rest[mark.len()..][..end];
                match verbatim.contains(&mark) {
                    true => plain.push_str(inside),
                    false => plain.push_str(&unmark_inside(inside, marks, verbatim, mark)),
                }
                rest = &rest[mark.len() * 2 + end..];
            }
            Some((mark, None)) => {
                missing.push(mark);
                plain.push_str(mark);
                rest = &rest[mark.len()..];
            }
            None => {
                plain.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    plain
}

/// Marks within marks are others, so that this ends after as many steps as there are marks.
fn unmark_inside(text: &str, marks: &[&str], verbatim: &[&str], around: &str) -> String {
    let others: Vec<&str> = marks.iter().copied().filter(|mark| *mark != around).collect();
    unmark(text, &others, verbatim)
}

fn opens(before: &str, after: &str, mark: &str) -> bool {
    let doubled = mark.len() > 1;
    let free = before.chars().next_back().is_none_or(|c| !c.is_alphanumeric());
    (doubled || free) && after.chars().next().is_some_and(|c| !c.is_whitespace())
}

/// Where a mark closes what it opened.
fn closing(text: &str, mark: &str) -> Option<usize> {
    let doubled = mark.len() > 1;
    text.match_indices(mark).map(|(at, _)| at).find(|at| {
        let ends = text[..*at].chars().next_back().is_some_and(|c| !c.is_whitespace());
        let free = text[at + mark.len()..].chars().next().is_none_or(|c| !c.is_alphanumeric());
        ends && (doubled || free)
    })
}

/// Most bytes of what stands between two marks of a link or the like.
const MAX_BETWEEN: usize = 1000;

/// What stands before a mark that is not far, and what follows it. So many marks that nothing closes cost little.
pub(super) fn until<'a>(text: &'a str, close: &str) -> Option<(&'a str, &'a str)> {
    let near = text.split_at(text.floor_char_boundary(MAX_BETWEEN)).0;
    let at = near.find(close)?;
    Some((&text[..at], &text[at + close.len()..]))
}

/// How many spaces a line begins with.
pub(super) fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_marks_go_and_single_ones_stay() {
        let plain = |text| unmark(text, &["**", "*", "_"], &["``", "`"]);
        assert_eq!(plain("a *bold* and _very **odd** one_ word"), "a bold and very odd one word");
        assert_eq!(plain("2 * 3 * 4, snake_case_name, *open"), "2 * 3 * 4, snake_case_name, *open");
        assert_eq!(plain("``a_b_ *c*`` `*x*`"), "a_b_ *c* *x*");
        assert_eq!(plain("*é*, (*x*)"), "é, (x)");
    }

    #[test]
    fn long_lines_of_marks_take_little_time() {
        let line = "*a ".repeat(200_000);
        assert_eq!(unmark(&line, &["*"], &[]), line);
    }

    proptest::proptest! {
        #[test]
        fn nothing_but_marks_is_lost(text in "[*_`aé ]{0,40}") {
            let words = |text: &str| text.replace(['*', '_', '`'], "");
            assert_eq!(words(&unmark(&text, &["**", "*", "_"], &["``", "`"])), words(&text));
        }
    }
}
