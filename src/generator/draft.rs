//! Drafts from the context: prompt-lookup decoding (Saxena 2023, <https://github.com/apoorvumang/prompt-lookup-decoding>).

/// Matches are not compared further back.
const MOST_MATCH: usize = 16;
/// Most tokens of a draft: of more than these, too few are right to pay for their share of a step.
const MOST_DRAFT: usize = 7;

/// Tokens that may follow `context`, at most `room`: what followed the longest and last match of its end. The longer
/// the match, the longer the draft (docs/BENCHMARKS.md).
pub fn draft(context: &[u32], room: usize) -> &[u32] {
    let Some((start, matched)) = find(context) else { return &[] };
    let length = (2 * matched - 1).min(MOST_DRAFT).min(room);
    &context[start..context.len().min(start + length)]
}

/// Where the continuation of the longest earlier occurrence of the end of `context` starts, and how many tokens match;
/// the last of several.
fn find(context: &[u32]) -> Option<(usize, usize)> {
    let (&last, before) = context.split_last()?;
    let mut best: Option<(usize, usize)> = None;
    for (at, _) in before.iter().enumerate().rev().filter(|&(_, &id)| id == last) {
        let ends = context[..=at].iter().rev().zip(context.iter().rev());
        let matched = ends.take(MOST_MATCH).take_while(|(a, b)| a == b).count();
        if best.is_none_or(|(_, longest)| matched > longest) {
            best = Some((at + 1, matched));
            if matched == MOST_MATCH {
                break;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_and_last_match_is_continued() {
        assert_eq!(find(&[1, 2, 3, 9, 2, 3, 4, 2, 3]), Some((6, 2)));
        assert_eq!(find(&[1, 2, 3, 9, 2, 3, 4, 1, 2, 3]), Some((3, 3)));
        assert_eq!(find(&[3, 1, 3]), Some((1, 1)));
        assert_eq!(find(&[1, 2, 3]), None);
        assert_eq!(find(&[]), None);
    }

    #[test]
    fn drafts_grow_with_the_match() {
        let context = |matched: u32| (0..40).chain(0..matched).collect::<Vec<u32>>();
        assert_eq!(draft(&context(1), 100), [1]);
        assert_eq!(draft(&context(2), 100), [2, 3, 4]);
        assert_eq!(draft(&context(20), 100), [20, 21, 22, 23, 24, 25, 26]);
        assert_eq!(draft(&context(20), 2), [20, 21]);
        assert!(draft(&context(0), 100).is_empty());
        // It may run into the match itself.
        assert_eq!(draft(&[5, 5, 5], 9), [5]);
    }
}
