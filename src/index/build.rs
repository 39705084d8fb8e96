//! Building segments. A new one: hnsw_rs makes a graph with little effort, which is then searched for
//! better links. A merged one: the graphs of its parts are joined.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hnsw_rs::prelude::{Distance, Hnsw};
use rayon::prelude::*;
use roaring::RoaringBitmap;

use super::IndexOptions;
use super::code::Codes;
use super::head::Chunk;
use super::kernel::Kernel;
use super::segment::{MAX_POINTS, NONE, Rows, Segment, Upper};
use super::select::Chooser;
use super::walk::{Ask, Scratch};
use crate::error::{Error, Result};
use crate::task::{Cancelled, check_cancelled};

/// Layers that the graph may have.
const LAYERS: usize = 16;
/// Points after which a join is asked whether anybody waits still.
const CANCEL_POINTS: u32 = 256;
/// What hnsw_rs gets beside each code: its scale and its bias, four bytes each.
const TAIL: usize = 8;

/// One minus the cosine of two codes, never negative.
struct CodeDistance(Kernel);

impl Distance<u8> for CodeDistance {
    fn eval(&self, a: &[u8], b: &[u8]) -> f32 {
        let (Some((a, tail_a)), Some((b, tail_b))) =
            (a.split_last_chunk::<TAIL>(), b.split_last_chunk::<TAIL>())
        else {
            return 1.0;
        };
        let [(scale_a, _), (scale_b, bias)] = [tail_a, tail_b].map(read_tail);
        (1.0 - (self.0.pair(a, b) - bias) as f32 * scale_a * scale_b).max(0.0)
    }
}

fn write_tail(out: &mut Vec<u8>, scale: f32, bias: i32) {
    out.extend_from_slice(&scale.to_le_bytes());
    out.extend_from_slice(&bias.to_le_bytes());
}

fn read_tail(&[a, b, c, d, e, f, g, h]: &[u8; TAIL]) -> (f32, i32) {
    (f32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h]))
}

/// Builds a segment of the living points of a head's chunks.
pub(super) fn build(dimensions: usize, options: &IndexOptions, chunks: &[Arc<Chunk>]) -> Result<Segment> {
    let mut order: Vec<(u64, u32, usize, u32)> = Vec::new();
    for (at, chunk) in chunks.iter().enumerate() {
        order.extend(chunk.alive().map(|(point, doc, slot)| (point, doc, at, slot)));
    }
    order.sort_unstable_by_key(|&(point, _, _, _)| point);
    check_size(order.len())?;
    let mut codes = Codes::with_capacity(dimensions, order.len());
    order.iter().for_each(|&(_, _, at, slot)| codes.push_from(chunks[at].codes(), slot));
    let points = order.iter().map(|entry| entry.0).collect();
    let docs = order.iter().map(|entry| entry.1).collect();
    let mut segment = Segment::new(points, docs, codes);
    let chooser = Chooser::new(&segment.codes);
    let members: Vec<u32> = (0..segment.len() as u32).collect();
    let mut layers = graph(&segment.codes, &members, options).into_iter();
    let links = layers.next().unwrap_or_default();
    let limit = 2 * options.m;
    let choose =
        |(slot, links): (u32, Option<Vec<u32>>)| chooser.choose(slot, links.unwrap_or_default(), limit);
    let rows = members.clone().into_par_iter().zip(links).map(choose).collect();
    let uppers = layers.map(|layer| upper(&chooser, &members, layer, options.m)).collect();
    drop(chooser);
    set_links(&mut segment, rows, uppers, limit);
    let refined = refine(&segment, options);
    set_base(&mut segment, refined, limit);
    Ok(segment)
}

/// Searches the graph for each of its points and chooses its links again, with what was found.
fn refine(segment: &Segment, options: &IndexOptions) -> Vec<Vec<u32>> {
    let chooser = Chooser::new(&segment.codes);
    let limit = 2 * options.m;
    let none = RoaringBitmap::new();
    let rows = (0..segment.len() as u32)
        .into_par_iter()
        .map_init(Scratch::default, |scratch, slot| {
            let mut candidates = found(segment, &none, &segment.codes, slot, options, scratch);
            candidates.extend(segment.base.of(slot));
            chooser.choose(slot, candidates, limit)
        })
        .collect();
    chooser.link_back(rows, |_| true, limit)
}

/// What a segment has near a code of this or another segment.
fn found(
    segment: &Segment,
    deleted: &RoaringBitmap,
    codes: &Codes,
    slot: u32,
    options: &IndexOptions,
    scratch: &mut Scratch,
) -> Vec<u32> {
    let ask = Ask {
        query: &codes.query(slot),
        k: options.ef_link,
        ef: options.ef_link,
        exact: false,
        filter: None,
        deleted,
        is_cancelled: &|| false,
    };
    segment.search(&ask, scratch).into_iter().map(|near| near.slot).collect()
}

/// A segment to merge, and its dead slots.
pub(super) struct Part<'a> {
    pub(super) segment: &'a Segment,
    pub(super) deleted: &'a RoaringBitmap,
}

/// Joins segments. The points of the greatest keep their links; those of each other one are searched
/// for in all that are greater, and are linked there and back. Links of dead points are handed to
/// those that linked to them. Only the upper layers are built anew.
pub(super) fn join(
    dimensions: usize,
    options: &IndexOptions,
    mut parts: Vec<Part<'_>>,
    is_cancelled: Cancelled<'_>,
) -> Result<Segment> {
    parts.sort_by_key(|part| part.deleted.len() as i64 - part.segment.len() as i64);
    let mut order: Vec<(u64, usize, u32)> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let alive = (0u32..).zip(&part.segment.points).filter(|(slot, _)| !part.deleted.contains(*slot));
        order.extend(alive.map(|(slot, &point)| (point, at, slot)));
    }
    order.sort_unstable();
    order.dedup_by_key(|entry| entry.0);
    check_size(order.len())?;
    let mut codes = Codes::with_capacity(dimensions, order.len());
    let (mut points, mut docs) = (Vec::with_capacity(order.len()), Vec::with_capacity(order.len()));
    let mut places: Vec<Vec<u32>> = parts.iter().map(|part| vec![NONE; part.segment.len()]).collect();
    for (&(point, at, slot), new) in order.iter().zip(0u32..) {
        codes.push_from(&parts[at].segment.codes, slot);
        points.push(point);
        docs.push(parts[at].segment.docs[slot as usize]);
        places[at][slot as usize] = new;
    }
    let mut segment = Segment::new(points, docs, codes);
    let chooser = Chooser::new(&segment.codes);
    let limit = 2 * options.m;
    let stopped = AtomicBool::new(false);
    let rows: Vec<Vec<u32>> = order
        .par_iter()
        .zip(0u32..segment.len() as u32)
        .map_init(Scratch::default, |scratch, (&(_, at, slot), new)| {
            if new.is_multiple_of(CANCEL_POINTS) && is_cancelled() {
                stopped.store(true, Ordering::Relaxed);
            }
            if stopped.load(Ordering::Relaxed) {
                return Vec::new();
            }
            let (mut links, mut again) = old_links(&parts[at], &places[at], slot);
            for (other, places) in parts.iter().zip(&places).take(at) {
                let near = found(other.segment, other.deleted, &segment.codes, new, options, scratch);
                links.extend(near.into_iter().map(|slot| places[slot as usize]).filter(|&new| new != NONE));
                again = true;
            }
            if again { chooser.choose(new, links, limit) } else { links }
        })
        .collect();
    check_cancelled(is_cancelled)?;
    let rows = chooser.link_back(rows, |new| order[new as usize].1 > 0, limit);
    let members = router(&parts, &places, segment.len(), options);
    let layers = graph(&segment.codes, &members, options);
    let uppers = layers.into_iter().map(|layer| upper(&chooser, &members, layer, options.m)).collect();
    drop(chooser);
    set_links(&mut segment, rows, uppers, limit);
    Ok(segment)
}

/// A point's links by their new slots, with those of dead links in their place, and whether any was dead.
fn old_links(part: &Part<'_>, places: &[u32], slot: u32) -> (Vec<u32>, bool) {
    let place = |slot: u32| places.get(slot as usize).copied().filter(|&new| new != NONE);
    let mut links = Vec::new();
    let mut repaired = false;
    for link in part.segment.base.of(slot) {
        match place(link) {
            Some(new) => links.push(new),
            None => {
                links.extend(part.segment.base.of(link).filter(|&next| next != slot).filter_map(place));
                repaired = true;
            }
        }
    }
    (links, repaired)
}

/// The points of the upper layers of a merged segment: those that were in upper layers before, which
/// are about one in `m`. Where too few of them live, others are drawn.
fn router(parts: &[Part<'_>], places: &[Vec<u32>], count: usize, options: &IndexOptions) -> Vec<u32> {
    let mut members: Vec<u32> = Vec::new();
    for (part, places) in parts.iter().zip(places) {
        let slots = part.segment.uppers.first().map(|upper| upper.slots.as_slice()).unwrap_or_default();
        members.extend(slots.iter().map(|&slot| places[slot as usize]).filter(|&new| new != NONE));
    }
    members.sort_unstable();
    let wanted = count / options.m;
    if members.len() * 2 < wanted {
        members = shuffled(count).into_iter().take(wanted).collect();
        members.sort_unstable();
    }
    members
}

/// For each member of the base layer, its links on one layer; `None` where it is not on that layer.
type Layer = Vec<Option<Vec<u32>>>;

/// Builds a graph of some slots, in shuffled order (points inserted in order of similarity leave some
/// that no search finds), and reads out its links, joined with the links that point the other way.
fn graph(codes: &Codes, members: &[u32], options: &IndexOptions) -> Vec<Layer> {
    let count = members.len();
    if count == 0 {
        return Vec::new();
    }
    let hnsw: Hnsw<'_, u8, CodeDistance> =
        Hnsw::new(options.m, count, LAYERS, options.ef_construction, CodeDistance(Kernel::get()));
    let mut data = Vec::with_capacity(count * (codes.get(0).len() + TAIL));
    for &slot in members {
        data.extend_from_slice(codes.get(slot));
        write_tail(&mut data, codes.scale(slot), codes.bias(slot));
    }
    let vectors: Vec<&[u8]> = data.chunks_exact(codes.get(0).len() + TAIL).collect();
    let order: Vec<(&[u8], usize)> =
        shuffled(count).into_iter().map(|at| (vectors[at as usize], at as usize)).collect();
    hnsw.parallel_insert_slice(&order);
    let indexation = hnsw.get_point_indexation();
    let top = (hnsw.get_max_level_observed() as usize).min(LAYERS - 1);
    let mut layers: Vec<Layer> = vec![vec![None; count]; top + 1];
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
                        links.push(members[to]);
                    }
                    if let Some(links) = &mut layer[to] {
                        links.push(members[from]);
                    }
                }
            }
        }
    }
    layers
}

fn upper(chooser: &Chooser<'_>, members: &[u32], layer: Layer, limit: usize) -> Upper {
    let chosen: Vec<Option<Vec<u32>>> = members
        .par_iter()
        .zip(layer)
        .map(|(&slot, links)| links.map(|links| chooser.choose(slot, links, limit)))
        .collect();
    let mut upper = Upper { starts: vec![0], ..Upper::default() };
    for (&slot, links) in members.iter().zip(chosen) {
        let Some(links) = links else { continue };
        upper.slots.push(slot);
        upper.links.extend(links);
        upper.starts.push(upper.links.len() as u32);
    }
    upper
}

fn set_links(segment: &mut Segment, rows: Vec<Vec<u32>>, uppers: Vec<Upper>, degree: usize) {
    set_base(segment, rows, degree);
    segment.entry = uppers.last().and_then(|upper| upper.slots.first()).copied().unwrap_or(0);
    segment.uppers = uppers;
}

fn set_base(segment: &mut Segment, rows: Vec<Vec<u32>>, degree: usize) {
    segment.base = Rows::with_capacity(degree, rows.len());
    rows.into_iter().for_each(|row| segment.base.push(row));
}

fn check_size(points: usize) -> Result<()> {
    if points < MAX_POINTS {
        return Ok(());
    }
    Err(Error::precondition(
        "SEGMENT_TOO_LARGE",
        format!("expected fewer than {MAX_POINTS} points in a segment, got {points}"),
    ))
}

/// The numbers below `count` in an order fixed by `count` alone (Fisher–Yates over SplitMix64).
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
