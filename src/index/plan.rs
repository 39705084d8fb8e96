//! Which segments to merge.

use std::cmp::Reverse;

/// A segment is rewritten where more than one in so many of its points is dead.
const DEAD_SHARE: usize = 3;
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
/// it comes from the smaller side. Of many, the smallest come first. Else a segment that is dead for the greater part.
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
