//! Drafts from the context: prompt-lookup decoding (Saxena 2023, <https://github.com/apoorvumang/prompt-lookup-decoding>).

/// Fewest tokens that must match for a draft.
const LEAST_MATCH: usize = 2;
/// Matches are not compared further back.
const MOST_MATCH: usize = 16;
/// Most tokens of a draft.
pub(super) const MOST_DRAFT: usize = 12;
const FIRST_DRAFT: usize = 4;

/// Decides how far to draft by how drafts have fared.
#[derive(Debug)]
pub(super) struct Drafter {
    length: usize,
    /// Steps for which nothing is drafted after a failure.
    pause: usize,
    failures: usize,
}

impl Drafter {
    pub fn new() -> Self {
        Self { length: FIRST_DRAFT, pause: 0, failures: 0 }
    }

    /// Tokens that may follow `context`, at most `room`; what followed the longest and last match of its end.
    pub fn draft<'a>(&mut self, context: &'a [u32], room: usize) -> &'a [u32] {
        if self.pause > 0 {
            self.pause -= 1;
            return &[];
        }
        let Some((start, matched)) = find(context) else { return &[] };
        // A short match is a weak sign.
        let length = if matched == LEAST_MATCH { self.length.min(FIRST_DRAFT) } else { self.length };
        let end = context.len().min(start + length.min(room));
        &context[start..end]
    }

    /// Tells how many of the drafted tokens were right.
    pub fn learn(&mut self, drafted: usize, accepted: usize) {
        if drafted == 0 {
            return;
        }
        if accepted == drafted {
            self.failures = 0;
            self.length = (self.length * 2).min(MOST_DRAFT);
        } else if accepted == 0 {
            self.failures += 1;
            self.length = (self.length / 2).max(2);
            // Each useless draft costs more than a token; the longer they fail, the rarer they are tried.
            self.pause = self.failures.min(8);
        } else {
            self.failures = 0;
            self.length = (accepted + 1).clamp(2, MOST_DRAFT);
        }
    }
}

/// Where the continuation of the longest earlier occurrence of the end of `context` starts, and how many tokens match;
/// the last of several.
fn find(context: &[u32]) -> Option<(usize, usize)> {
    let (&last, before) = context.split_last()?;
    let mut best: Option<(usize, usize)> = None;
    for (at, _) in before.iter().enumerate().rev().filter(|&(_, &id)| id == last) {
        let ends = context[..=at].iter().rev().zip(context.iter().rev());
        let matched = ends.take(MOST_MATCH).take_while(|(a, b)| a == b).count();
        if matched >= LEAST_MATCH && best.is_none_or(|(_, longest)| matched > longest) {
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
        assert_eq!(find(&[1, 2, 3]), None);
        assert_eq!(find(&[3, 1, 3]), None);
        assert_eq!(find(&[]), None);
        let mut drafter = Drafter::new();
        assert_eq!(drafter.draft(&[1, 2, 3, 9, 8, 7, 6, 5, 1, 2, 3], 100), [9, 8, 7, 6]);
        assert_eq!(drafter.draft(&[1, 2, 3, 9, 8, 7, 6, 5, 1, 2, 3], 2), [9, 8]);
        // It may run into the match itself.
        assert_eq!(drafter.draft(&[5, 5, 5], 9), [5]);
    }

    #[test]
    fn drafts_grow_with_success_and_pause_after_failure() {
        let context: Vec<u32> = (0..40).chain(0..5).collect();
        let mut drafter = Drafter::new();
        drafter.learn(4, 4);
        assert_eq!(drafter.draft(&context, 100).len(), 8);
        drafter.learn(8, 8);
        assert_eq!(drafter.draft(&context, 100).len(), MOST_DRAFT);
        drafter.learn(12, 0);
        assert!(drafter.draft(&context, 100).is_empty());
        assert_eq!(drafter.draft(&context, 100).len(), 6);
    }
}
