//! Drafts from the context: prompt-lookup decoding (Saxena 2023, <https://github.com/apoorvumang/prompt-lookup-decoding>).

/// Matches are not compared further back.
const MOST_MATCH: usize = 16;
/// Most tokens of a draft: of more than these, too few are right to pay for their share of a step.
const MOST_DRAFT: usize = 7;
/// Where others share the step, whose second token is not free then: least match of a draft, and most tokens.
const LEAST_SHARED_MATCH: usize = 3;
const MOST_SHARED_DRAFT: usize = 4;

/// Tokens that may follow `context`, at most `room`: what followed the longest and last match of its end. The longer
/// the match, the longer the draft (docs/BENCHMARKS.md); shorter where others share the step.
pub fn draft(context: &[u32], room: usize, alone: bool) -> &[u32] {
    let Some((start, matched)) = find(context) else { return &[] };
    let length = match alone {
        true => (2 * matched - 1).min(MOST_DRAFT),
        false if matched < LEAST_SHARED_MATCH => 0,
        false => matched.min(MOST_SHARED_DRAFT),
    };
    let length = length.min(room);
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
        assert_eq!(draft(&context(1), 100, true), [1]);
        assert_eq!(draft(&context(2), 100, true), [2, 3, 4]);
        assert_eq!(draft(&context(20), 100, true), [20, 21, 22, 23, 24, 25, 26]);
        assert_eq!(draft(&context(20), 2, true), [20, 21]);
        assert!(draft(&context(0), 100, true).is_empty());
        assert!(draft(&context(2), 100, false).is_empty());
        assert_eq!(draft(&context(3), 100, false), [3, 4, 5]);
        assert_eq!(draft(&context(20), 100, false), [20, 21, 22, 23]);
        // It may run into the match itself.
        assert_eq!(draft(&[5, 5, 5], 9, true), [5]);
    }
}
