//! Choosing links by the diversity heuristic.

use rayon::prelude::*;

use super::code::Codes;
use super::segment::Near;

/// Chooses the links of points among candidates.
pub(super) struct Chooser<'a> {
    codes: &'a Codes,
    biases: Vec<i32>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(codes: &'a Codes) -> Self {
        Self { codes, biases: (0..codes.len() as u32).into_par_iter().map(|slot| codes.bias(slot)).collect() }
    }

    fn between(&self, a: u32, b: u32) -> f32 {
        self.codes.between(a, b, self.biases.get(b as usize).copied().unwrap_or(0))
    }

    /// The diversity heuristic (algorithm 4 of arXiv:1603.09320): a candidate stays if it is closer
    /// to the point than to any link chosen. Candidates may come twice and in any order.
    pub(super) fn choose(&self, point: u32, mut candidates: Vec<u32>, limit: usize) -> Vec<u32> {
        candidates.sort_unstable();
        candidates.dedup();
        let (mut dots, mut similarities) = (Vec::new(), Vec::new());
        self.codes.similarities(&self.codes.query(point), &candidates, &mut dots, &mut similarities);
        let pairs = candidates.into_iter().zip(similarities).filter(|(slot, _)| *slot != point);
        let mut near: Vec<Near> = pairs.map(|(slot, similarity)| Near { similarity, slot }).collect();
        // Of equal candidates those nearby in order come first: duplicates form a chain, not an island.
        let away = |near: &Near| near.slot.abs_diff(point);
        near.sort_unstable_by(|a, b| b.similarity.total_cmp(&a.similarity).then(away(a).cmp(&away(b))));
        let mut chosen: Vec<u32> = Vec::with_capacity(limit);
        let mut pruned = Vec::new();
        for candidate in near {
            if chosen.len() >= limit {
                break;
            }
            if chosen.iter().all(|&link| candidate.similarity > self.between(link, candidate.slot)) {
                chosen.push(candidate.slot);
            } else {
                pruned.push(candidate.slot);
            }
        }
        // Half of the room is filled up with the closest of the rest, which keeps near-duplicates findable.
        let room = (limit / 2).saturating_sub(chosen.len());
        chosen.extend(pruned.into_iter().take(room));
        chosen
    }

    /// Gives the links of `fresh` rows a way back: each row is chosen again from its links and the
    /// fresh rows that link to it.
    pub(super) fn link_back(
        &self,
        rows: Vec<Vec<u32>>,
        fresh: impl Fn(u32) -> bool + Sync,
        limit: usize,
    ) -> Vec<Vec<u32>> {
        let mut back: Vec<Vec<u32>> = vec![Vec::new(); rows.len()];
        for (from, row) in (0u32..).zip(&rows).filter(|(from, _)| fresh(*from)) {
            for &to in row {
                if let Some(back) = back.get_mut(to as usize) {
                    back.push(from);
                }
            }
        }
        let pairs = (0u32..).zip(rows.into_iter().zip(back)).collect::<Vec<_>>();
        pairs
            .into_par_iter()
            .map(|(slot, (mut row, back))| {
                let known = row.len();
                row.extend(back.into_iter().filter(|from| !row[..known].contains(from)).collect::<Vec<_>>());
                if row.len() == known { row } else { self.choose(slot, row, limit) }
            })
            .collect()
    }
}
