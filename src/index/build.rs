//! Building a segment: hnsw_rs makes the graph, its links are chosen again and laid out flat.

use hnsw_rs::prelude::{Distance, Hnsw};
use rayon::prelude::*;
use simsimd::SpatialSimilarity;

use super::segment::{Near, Segment, Upper};
use super::{IndexOptions, head::Head};

/// Layers that the graph may have.
const LAYERS: usize = 16;

/// One minus the cosine of two codes, never negative.
struct CodeDistance;

impl Distance<i8> for CodeDistance {
    fn eval(&self, a: &[i8], b: &[i8]) -> f32 {
        (<i8 as SpatialSimilarity>::cosine(a, b).unwrap_or(1.0) as f32).max(0.0)
    }
}

/// Builds a segment of the points of a head, in any order; of points with one id the last stays.
pub(super) fn build(dimensions: usize, options: &IndexOptions, head: &Head) -> Segment {
    let mut order: Vec<usize> = (0..head.len()).rev().collect();
    order.sort_by_key(|&i| head.points[i]);
    order.dedup_by_key(|&mut i| head.points[i]);
    let mut segment = Segment { dimensions, stride: 2 * options.m + 1, ..Segment::default() };
    for &i in &order {
        segment.points.push(head.points[i]);
        segment.docs.push(head.docs[i]);
        segment.scales.push(head.scales[i]);
        segment.codes.extend_from_slice(head.code(i));
    }
    if !segment.is_empty() {
        link(&mut segment, options);
    }
    segment.derive()
}

fn link(segment: &mut Segment, options: &IndexOptions) {
    let layers = graph(segment, options);
    let base = layers.first().map(|links| select(segment, links, 2 * options.m)).unwrap_or_default();
    segment.base = vec![0; segment.len() * segment.stride];
    for (row, links) in segment.base.chunks_exact_mut(segment.stride).zip(&base) {
        row[0] = links.len() as u32;
        row[1..=links.len()].copy_from_slice(links);
    }
    for links in layers.iter().skip(1) {
        let chosen = select(segment, links, options.m);
        let mut upper = Upper { starts: vec![0], ..Upper::default() };
        for (slot, member) in links.iter().enumerate() {
            if member.is_none() {
                continue;
            }
            upper.slots.push(slot as u32);
            upper.links.extend_from_slice(&chosen[slot]);
            upper.starts.push(upper.links.len() as u32);
        }
        segment.entry = upper.slots.first().copied().unwrap_or(segment.entry);
        segment.uppers.push(upper);
    }
}

/// For each layer, each member's links.
type Links = Vec<Option<Vec<u32>>>;

/// Builds the graph in shuffled order (points inserted in order of similarity leave some that no
/// search finds) and reads out its links, joined with the links that point the other way.
fn graph(segment: &Segment, options: &IndexOptions) -> Vec<Links> {
    let count = segment.len();
    let hnsw: Hnsw<'_, i8, CodeDistance> =
        Hnsw::new(options.m, count, LAYERS, options.ef_construction, CodeDistance);
    let order = shuffled(count);
    let data: Vec<(&[i8], usize)> = order.iter().map(|&slot| (segment.code(slot), slot as usize)).collect();
    hnsw.parallel_insert_slice(&data);
    let indexation = hnsw.get_point_indexation();
    let top = (hnsw.get_max_level_observed() as usize).min(LAYERS - 1);
    let mut layers: Vec<Links> = vec![vec![None; count]; top + 1];
    for level in 0..=top {
        for point in indexation.get_layer_iterator(level) {
            for layer in layers.iter_mut().take(level + 1) {
                layer[point.get_origin_id()] = Some(Vec::new());
            }
        }
    }
    for level in 0..=top {
        for point in indexation.get_layer_iterator(level) {
            let from = point.get_origin_id();
            for (layer, found) in layers.iter_mut().zip(point.get_neighborhood_id()).take(level + 1) {
                for to in found.iter().map(|neighbour| neighbour.d_id) {
                    if to == from || layer[to].is_none() {
                        continue;
                    }
                    if let Some(links) = &mut layer[from] {
                        links.push(to as u32);
                    }
                    if let Some(links) = &mut layer[to] {
                        links.push(from as u32);
                    }
                }
            }
        }
    }
    layers
}

/// Chooses each member's links from its candidates by the diversity heuristic (algorithm 4 of
/// arXiv:1603.09320): a candidate stays if it is closer to the point than to any link chosen.
fn select(segment: &Segment, links: &Links, limit: usize) -> Vec<Vec<u32>> {
    links
        .par_iter()
        .enumerate()
        .map(|(slot, candidates)| choose(segment, slot as u32, candidates.as_deref().unwrap_or(&[]), limit))
        .collect()
}

fn choose(segment: &Segment, point: u32, candidates: &[u32], limit: usize) -> Vec<u32> {
    let mut slots = candidates.to_vec();
    slots.sort_unstable();
    slots.dedup();
    let mut near: Vec<Near> =
        slots.into_iter().map(|slot| Near { similarity: segment.between(point, slot), slot }).collect();
    near.sort_unstable_by(|a, b| b.cmp(a));
    let mut chosen: Vec<u32> = Vec::with_capacity(limit);
    let mut pruned = Vec::new();
    for candidate in near {
        if chosen.len() >= limit {
            break;
        }
        if chosen.iter().all(|&link| candidate.similarity > segment.between(candidate.slot, link)) {
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

/// The slots in an order fixed by their number alone (Fisher–Yates over SplitMix64).
fn shuffled(count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for i in (1..count).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        order.swap(i, ((z ^ (z >> 31)) % (i as u64 + 1)) as usize);
    }
    order
}
