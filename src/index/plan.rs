//! Which segments to merge.

use std::cmp::Reverse;

/// A segment is rewritten where more than one in so many of its points is dead.
const DEAD_SHARE: usize = 3;
/// The greatest segment is copied for segments that hold one in so many of its points.
const JOIN_SHARE: usize = 8;
/// Most segments merged at once: each point is searched for in all parts greater than its own.
const MOST: usize = 4;

/// A segment as the plan sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) id: u64,
    /// Points, dead ones too.
    pub(super) points: usize,
    /// Living points.
    pub(super) alive: usize,
}

/// The greatest segment, with all that are smaller, whose smaller ones together hold at least one
/// over `factor` of its living points. So sizes fall geometrically, their number grows with the
/// logarithm of the points, and each point is rewritten that many times, but only searched for when
/// it comes from the smaller side. Of many, the smallest come first. Else a segment of which more
/// than one point in [`DEAD_SHARE`] is dead.
pub(super) fn merge(mut sizes: Vec<Size>, factor: usize) -> Option<Vec<u64>> {
    sizes.sort_by_key(|size| Reverse((size.alive, size.points)));
    for (at, size) in sizes.iter().enumerate() {
        let rest = &sizes[at + 1..];
        let smaller: usize = rest.iter().map(|size| size.alive).sum();
        if smaller > 0 && smaller * factor >= size.alive {
            let first = at.max(sizes.len().saturating_sub(MOST));
            return Some(sizes[first..].iter().map(|size| size.id).collect());
        }
    }
    let dying = sizes.iter().find(|size| (size.points - size.alive) * DEAD_SHARE > size.points)?;
    Some(vec![dying.id])
}

/// All segments, or of many the smallest, where nothing is written for a while: one graph answers about twice as many
/// queries as three, at a cost of searching the smaller ones' points and of copying the greatest. The copy is made only
/// where the smaller ones hold at least one over [`JOIN_SHARE`] of its points, so that a large collection that gets a few
/// documents now and then is not rewritten each time.
pub(super) fn join(mut sizes: Vec<Size>) -> Option<Vec<u64>> {
    sizes.sort_by_key(|size| Reverse((size.alive, size.points)));
    let (greatest, rest) = sizes.split_first()?;
    let smaller: usize = rest.iter().map(|size| size.alive).sum();
    if rest.is_empty() || smaller * JOIN_SHARE < greatest.alive {
        return None;
    }
    let first = sizes.len().saturating_sub(MOST);
    Some(sizes[first..].iter().map(|size| size.id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(points: &[usize]) -> Vec<Size> {
        let size = |(id, &points): (usize, &usize)| Size { id: id as u64, points, alive: points };
        points.iter().enumerate().map(size).collect()
    }

    /// Joins until nothing is left to join; the points of each segment, and those that were written.
    fn settle(points: &[usize]) -> (Vec<usize>, usize) {
        let (mut now, mut written) = (points.to_vec(), 0);
        while let Some(ids) = join(sizes(&now)) {
            let joined: usize = ids.iter().map(|&id| now[id as usize]).sum();
            let mut at = 0;
            now.retain(|_| {
                at += 1;
                !ids.contains(&(at - 1))
            });
            now.push(joined);
            written += joined;
        }
        (now, written)
    }

    #[test]
    fn an_idle_index_comes_down_to_one_segment_or_a_great_one() {
        assert_eq!(settle(&[65, 32, 2]), (vec![99], 99));
        assert_eq!(settle(&[80, 40, 20, 10, 5, 2]).0, [157]);
        assert_eq!(settle(&[100]), (vec![100], 0));
        assert_eq!(settle(&[]), (vec![], 0));
        // One in fifty more is no reason to copy all of it.
        assert_eq!(settle(&[1000, 20]), (vec![1000, 20], 0));
        assert_eq!(join(sizes(&[1000, 20])), None);
    }
}
