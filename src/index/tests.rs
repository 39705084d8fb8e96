use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use super::format::damaged;
use super::segment::Segment;
use super::*;

const DIMENSIONS: usize = 64;

/// Numbers of a normal-like distribution, fixed by a seed.
struct Source(u64);

impl Source {
    fn next(&mut self) -> f32 {
        (0..4).map(|_| self.uniform()).sum::<f32>() - 2.0
    }

    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32) / (1u64 << 24) as f32
    }

    fn vector(&mut self, dimensions: usize) -> Vec<f32> {
        (0..dimensions).map(|_| self.next()).collect()
    }
}

/// Unit vectors in clusters, cluster after cluster.
fn clustered(clusters: usize, each: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut source = Source(seed);
    let mut vectors = Vec::new();
    for _ in 0..clusters {
        let centre = source.vector(DIMENSIONS);
        for _ in 0..each {
            vectors.push(unit(centre.iter().map(|c| c + 0.5 * source.next()).collect()));
        }
    }
    vectors
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x /= norm);
    vector
}

/// Queries close to some of the vectors.
fn queries(vectors: &[Vec<f32>], count: usize) -> Vec<Vec<f32>> {
    let mut source = Source(99);
    let step = vectors.len() / count;
    (0..count).map(|i| unit(vectors[i * step].iter().map(|x| x + 0.05 * source.next()).collect())).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn nearest(vectors: &[Vec<f32>], query: &[f32], among: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut all: Vec<(f32, u64)> = among.map(|i| (dot(&vectors[i as usize], query), i)).collect();
    all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    all.iter().take(10).map(|(_, i)| *i).collect()
}

/// Recall at ten of the best fifty, rescored.
fn recall(
    index: &VectorIndex,
    vectors: &[Vec<f32>],
    queries: &[Vec<f32>],
    filter: Option<&RoaringBitmap>,
    dead: impl Fn(u64) -> bool,
) -> f64 {
    let (mut hits, mut wanted) = (0, 0);
    for query in queries {
        let alive = |i: &u64| !dead(*i) && filter.is_none_or(|f| f.contains(*i as u32));
        let truth = nearest(vectors, query, (0..vectors.len() as u64).filter(alive));
        let found = index.search(query, 50, 64, false, filter).unwrap();
        assert!(found.iter().all(|c| alive(&c.point)));
        let best: HashSet<u64> = nearest(vectors, query, found.iter().map(|c| c.point)).into_iter().collect();
        wanted += truth.len();
        hits += truth.iter().filter(|i| best.contains(i)).count();
    }
    hits as f64 / wanted as f64
}

/// An index of vectors in their order, sealed and merged as a caller would, with its stored bytes.
fn filled(vectors: &[Vec<f32>], options: IndexOptions) -> (VectorIndex, HashMap<u64, Vec<u8>>) {
    let index = VectorIndex::new(DIMENSIONS, options);
    let mut stored = HashMap::new();
    let mut take = |index: &VectorIndex, built: SealedSegment| {
        index.commit(built.id).unwrap();
        stored.insert(built.id, built.bytes);
    };
    for (i, vector) in vectors.iter().enumerate() {
        index.insert(i as u64, i as u32, vector).unwrap();
        if !index.needs_seal() {
            continue;
        }
        take(&index, index.seal().unwrap().unwrap());
        while let Some(ids) = index.plan_merge() {
            take(&index, index.merge(&ids).unwrap().unwrap());
        }
    }
    (index, stored)
}

fn options(head_limit: usize) -> IndexOptions {
    IndexOptions { head_limit, ..IndexOptions::default() }
}

#[test]
fn clusters_are_found_with_filters_and_removals() {
    let vectors = clustered(300, 15, 1);
    let queries = queries(&vectors, 60);
    let (index, _) = filled(&vectors, options(1024));
    assert!(index.segment_ids().len() > 1 && index.unsealed() > 0);
    let plain = recall(&index, &vectors, &queries, None, |_| false);
    assert!(plain >= 0.98, "{plain}");
    for every in [2, 10, 100, 1000] {
        let filter: RoaringBitmap = (0..vectors.len() as u32).filter(|i| i % every == 0).collect();
        let filtered = recall(&index, &vectors, &queries, Some(&filter), |_| false);
        assert!(filtered >= 0.98, "{filtered} of one in {every}");
    }
    let dead = |i: u64| (1_000..2_000).contains(&i) || i.is_multiple_of(5);
    index.remove_range(1_000..2_000);
    (0..vectors.len() as u64).step_by(5).for_each(|i| index.remove_range(i..i + 1));
    let pruned = recall(&index, &vectors, &queries, None, dead);
    assert!(pruned >= 0.98, "{pruned} after removals");
    let merged = index.merge(&index.segment_ids()).unwrap().unwrap();
    index.commit(merged.id).unwrap();
    assert_eq!((index.tombstones(), index.segment_ids()), (0, vec![merged.id]));
    let merged = recall(&index, &vectors, &queries, None, dead);
    assert!(merged >= 0.98, "{merged} after merging");
}

/// One segment of vectors, each a document of its own.
fn one_segment(vectors: &[Vec<f32>]) -> VectorIndex {
    let index = VectorIndex::new(DIMENSIONS, IndexOptions::default());
    for (i, vector) in vectors.iter().enumerate() {
        index.insert(i as u64, i as u32, vector).unwrap();
    }
    let built = index.seal().unwrap().unwrap();
    index.commit(built.id).unwrap();
    index
}

/// What the searches of some queries cost on average, in points of a scan.
fn cost(index: &VectorIndex, queries: &[Vec<f32>], filter: Option<&RoaringBitmap>) -> f64 {
    let mut sum = 0.0;
    for query in queries {
        index.search(query, 50, 64, false, filter).unwrap();
        sum += index.scratch.lock().last().unwrap().effort().cost();
    }
    sum / queries.len() as f64
}

#[test]
fn filters_that_know_nothing_of_the_query_cost_little_more_than_none() {
    let vectors = clustered(600, 20, 6);
    let queries = queries(&vectors, 60);
    let index = one_segment(&vectors);
    let plain = cost(&index, &queries, None);
    let mut before = f64::INFINITY;
    for every in [2u32, 10, 100, 1000, 10_000] {
        let chosen = |i: &u32| i.wrapping_mul(0x9e37_79b9).rotate_right(16).is_multiple_of(every);
        let filter: RoaringBitmap = (0..vectors.len() as u32).filter(chosen).collect();
        let found = recall(&index, &vectors, &queries, Some(&filter), |_| false);
        assert!(found >= 0.98, "{found} of one in {every}");
        let filtered = cost(&index, &queries, Some(&filter));
        assert!(filtered < 3.0 * plain, "{filtered} of one in {every}, {plain} without a filter");
        assert!(every < 100 || filtered < before, "{filtered} of one in {every}, {before} of more");
        before = filtered;
    }
}

#[test]
fn matches_that_are_far_from_the_query_are_found() {
    let vectors = clustered(600, 20, 7);
    let queries = queries(&vectors, 60);
    let index = one_segment(&vectors);
    let count = vectors.len() as u32;
    let pivot = &vectors[0];
    let mut by_nearness: Vec<u32> = (0..count).collect();
    by_nearness
        .sort_by(|a, b| dot(pivot, &vectors[*b as usize]).total_cmp(&dot(pivot, &vectors[*a as usize])));
    for share in [2, 3, 5, 10] {
        let part = (count / share) as usize;
        let near: RoaringBitmap = by_nearness.iter().take(part).copied().collect();
        let far: RoaringBitmap = by_nearness.iter().rev().take(part).copied().collect();
        let first: RoaringBitmap = (0..part as u32).collect();
        for (name, filter) in [("near", near), ("far", far), ("first", first)] {
            let found = recall(&index, &vectors, &queries, Some(&filter), |_| false);
            assert!(found >= 0.97, "{found} of the {name} one in {share}");
        }
    }
}

#[test]
fn what_is_alive_is_found_where_all_around_the_query_is_dead() {
    let vectors = clustered(300, 15, 8);
    let queries = queries(&vectors, 60);
    let index = one_segment(&vectors);
    index.remove_range(0..3_000);
    let found = recall(&index, &vectors, &queries, None, |i| i < 3_000);
    assert!(found >= 0.98, "{found}");
    let filter: RoaringBitmap = (0..vectors.len() as u32).filter(|i| i % 2 == 0).collect();
    let found = recall(&index, &vectors, &queries, Some(&filter), |i| i < 3_000);
    assert!(found >= 0.98, "{found} with a filter");
}

#[test]
fn every_point_finds_itself() {
    let vectors = clustered(100, 20, 2);
    let (index, _) = filled(&vectors, options(500));
    let finds = |(i, vector): (usize, &Vec<f32>)| {
        index.search(vector, 5, 64, false, None).unwrap().iter().any(|c| c.point == i as u64)
    };
    assert!(vectors.iter().enumerate().all(finds));
}

#[test]
fn equal_vectors_are_all_found() {
    let vector = Source(3).vector(DIMENSIONS);
    let (index, _) = filled(&vec![vector.clone(); 300], options(100));
    let found = index.search(&vector, 300, 300, true, None).unwrap();
    assert_eq!(found.len(), 300);
    assert_eq!(index.search(&vector, 100, 100, false, None).unwrap().len(), 100);
}

#[test]
fn bad_vectors_are_refused() {
    let index = VectorIndex::new(3, IndexOptions::default());
    let reason = |vector: &[f32]| index.insert(1, 1, vector).unwrap_err().reason;
    assert_eq!(reason(&[1.0]), "DIMENSION_MISMATCH");
    assert_eq!(reason(&[1.0, f32::NAN, 0.0]), "NOT_FINITE");
    assert_eq!(reason(&[0.0; 3]), "ZERO_VECTOR");
    assert_eq!(index.search(&[0.0; 3], 1, 1, false, None).unwrap_err().reason, "ZERO_VECTOR");
    assert!(index.search(&[1e-30, 0.0, 0.0], 1, 1, false, None).unwrap().is_empty());
    assert!(index.seal().unwrap().is_none());
}

#[test]
fn a_point_inserted_again_is_replaced() {
    let index = VectorIndex::new(2, IndexOptions::default());
    index.insert(7, 1, &[1.0, 0.0]).unwrap();
    index.insert(7, 2, &[0.0, 1.0]).unwrap();
    let built = index.seal().unwrap().unwrap();
    index.insert(7, 3, &[1.0, 1.0]).unwrap();
    index.commit(built.id).unwrap();
    let found = index.search(&[1.0, 0.0], 9, 9, true, None).unwrap();
    assert_eq!(found.iter().map(|c| c.doc_no).collect::<Vec<_>>(), [3]);
    index.insert(7, 4, &[1.0, 0.0]).unwrap();
    assert_eq!((index.len(), index.tombstones()), (1, 1));
}

#[test]
fn inserts_and_removals_go_on_while_a_segment_is_built() {
    let vectors = clustered(100, 10, 3);
    let index = VectorIndex::new(DIMENSIONS, IndexOptions::default());
    let insert = |range: Range<usize>| {
        range.for_each(|i| index.insert(i as u64, i as u32, &vectors[i]).unwrap());
    };
    insert(0..700);
    let built = std::thread::scope(|scope| {
        let build = scope.spawn(|| index.seal().unwrap().unwrap());
        insert(700..1000);
        index.remove_range(10..20);
        build.join().unwrap()
    });
    index.remove_range(20..30);
    index.remove_range(950..960);
    let before: Vec<_> = index.search(&vectors[7], 20, 64, true, None).unwrap();
    index.commit(built.id).unwrap();
    assert_eq!(index.len(), 970);
    assert_eq!(index.search(&vectors[7], 20, 64, true, None).unwrap(), before);
    assert!(index.contains(7) && index.contains(999) && !index.contains(15) && !index.contains(25));
    assert_eq!(index.commit(built.id).unwrap_err().reason, "SEGMENT_NOT_PENDING");
}

#[test]
fn a_head_is_sealed_while_segments_are_merged() {
    let vectors = clustered(100, 12, 5);
    let (index, _) = filled(&vectors, options(512));
    index.remove_range(0..5);
    assert!(index.unsealed() > 0 && !index.segment_ids().is_empty());
    let merged = index.merge(&index.segment_ids()).unwrap().unwrap();
    let sealed = index.seal().unwrap().unwrap();
    // Of either, while neither is in use: the removals must outlive a restart.
    index.remove_range(10..20);
    let last = 1_195..1_198;
    index.remove_range(last.clone());
    assert!(!index.settled_removals().contains(&(10..20)) && !index.settled_removals().contains(&last));
    let before = index.search(&vectors[7], 50, 64, true, None).unwrap();
    index.commit(sealed.id).unwrap();
    index.commit(merged.id).unwrap();
    assert_eq!((index.len(), index.unsealed(), index.tombstones()), (1_200 - 18, 0, 13));
    assert_eq!(index.search(&vectors[7], 50, 64, true, None).unwrap(), before);
    assert_eq!(index.segment_ids().len(), 2);
    // What another of its kind has begun is given up, and nothing is kept of it.
    let first = index.merge(&index.segment_ids()).unwrap().unwrap();
    let second = index.merge(&index.segment_ids()).unwrap().unwrap();
    assert_eq!(index.commit(first.id).unwrap_err().reason, "SEGMENT_NOT_PENDING");
    index.commit(second.id).unwrap();
    assert!(index.merge_until(&index.segment_ids(), &|| true).is_err());
    index.remove_range(30..40);
    let all = index.merge(&index.segment_ids()).unwrap().unwrap();
    index.commit(all.id).unwrap();
    assert_eq!((index.len(), index.tombstones()), (1_200 - 28, 0));
    assert!(index.settled_removals().contains(&(30..40)));
}

#[test]
fn merging_drops_the_dead_and_settles_their_removals() {
    let vectors = clustered(100, 12, 4);
    let options = options(512);
    let (index, stored) = filled(&vectors, options);
    let read = |id: u64| stored.get(&id).cloned().ok_or_else(|| damaged("it is not there"));
    index.remove_range(100..150);
    index.remove_range(1_190..1_195);
    assert!(index.settled_removals().iter().eq([&(1_190..1_195)]));
    let reopened = VectorIndex::from_segments(options, &index.manifest(), read).unwrap();
    assert_eq!((reopened.len(), reopened.watermark()), (1024, Some(1023)));
    reopened.remove_range(100..150);
    let merged = index.merge(&index.segment_ids()).unwrap().unwrap();
    index.remove_range(0..10);
    index.commit(merged.id).unwrap();
    assert_eq!((index.len(), index.tombstones()), (1_200 - 65, 10));
    assert_eq!(index.settled_removals(), [100..150, 1_190..1_195]);
    index.forget_removals(std::slice::from_ref(&(100..150)));
    assert!(index.settled_removals().iter().eq([&(1_190..1_195)]));
    let missing = VectorIndex::from_segments(options, &index.manifest(), read).unwrap_err();
    assert_eq!(missing.reason, "INDEX_DAMAGED");
    index.remove_range(0..2000);
    let ids = index.plan_merge().unwrap();
    let merged = index.merge(&ids).unwrap().unwrap();
    index.commit(merged.id).unwrap();
    assert_eq!((index.len(), index.tombstones(), index.plan_merge()), (0, 0, None));
    assert!(merged.bytes.is_empty() && index.segment_ids().is_empty());
}

#[test]
fn so_many_candidates_that_a_walk_costs_more_are_scanned() {
    let vectors = clustered(100, 30, 6);
    let index = one_segment(&vectors);
    for ef in [1_000, 100_000, usize::MAX] {
        let found = index.search(&vectors[7], 50, ef, false, None).unwrap();
        assert_eq!(found, index.search(&vectors[7], 50, 64, true, None).unwrap());
    }
}

#[test]
fn an_index_of_the_first_version_opens() {
    let manifest = include_bytes!("testdata/manifest-v1.bin");
    let read = |id: u64| {
        Ok(match id {
            1 => include_bytes!("testdata/segment-v1-1.bin").to_vec(),
            _ => include_bytes!("testdata/segment-v1-2.bin").to_vec(),
        })
    };
    let index = VectorIndex::from_segments(IndexOptions::default(), manifest, read).unwrap();
    assert_eq!((index.len(), index.tombstones(), index.watermark()), (78, 2, Some(237)));
    let best = [15, 129, 42, 123, 204];
    for exact in [true, false] {
        let found = index.search(&[1.0; 16], 5, 64, exact, None).unwrap();
        assert_eq!(found.iter().map(|c| c.point).collect::<Vec<_>>(), best);
    }
    // What it says was removed stays removed, in its next manifest too, until the segment is rewritten.
    let again = VectorIndex::from_segments(IndexOptions::default(), &index.manifest(), read).unwrap();
    assert_eq!(again.len(), 78);
    let merged = again.merge(&again.segment_ids()).unwrap().unwrap();
    again.commit(merged.id).unwrap();
    let found = again.search(&[1.0; 16], 5, 64, false, None).unwrap();
    assert_eq!(found.iter().map(|c| c.point).collect::<Vec<_>>(), best);
}

fn small() -> &'static Vec<u8> {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| {
        let (_, stored) = filled(&clustered(20, 5, 5), options(100));
        stored.into_values().next().unwrap()
    })
}

#[test]
fn bytes_round_trip() {
    let segment = Segment::from_bytes(small()).unwrap();
    assert_eq!(segment.len(), 100);
    assert_eq!(&segment.to_bytes(), small());
}

/// What a caller keeps on disk: the vectors, which are the truth, and what the index gave to store.
#[derive(Default)]
struct Disk {
    vectors: BTreeMap<u64, (u32, Vec<f32>)>,
    tombstones: Vec<Range<u64>>,
    segments: HashMap<u64, Vec<u8>>,
    manifest: Option<Vec<u8>>,
}

impl Disk {
    fn open(&mut self, options: IndexOptions) -> VectorIndex {
        let index = match &self.manifest {
            None => VectorIndex::new(8, options),
            Some(manifest) => {
                let read = |id: u64| Ok(self.segments.get(&id).cloned().unwrap_or_default());
                VectorIndex::from_segments(options, manifest, read).unwrap()
            }
        };
        let used = index.segment_ids();
        self.segments.retain(|id, _| used.contains(id));
        self.tombstones.iter().for_each(|range| index.remove_range(range.clone()));
        let first = index.watermark().map_or(0, |watermark| watermark + 1);
        for (point, (doc, vector)) in self.vectors.range(first..) {
            index.insert(*point, *doc, vector).unwrap();
        }
        index
    }

    /// Takes the steps of [`switch`](crate::catalog), or only the first of them.
    fn switch(&mut self, index: &VectorIndex, built: SealedSegment, steps: usize) {
        if steps > 0 {
            self.segments.insert(built.id, built.bytes);
        }
        if steps > 1 {
            index.commit(built.id).unwrap();
        }
        if steps > 2 {
            let settled = index.settled_removals();
            self.manifest = Some(index.manifest());
            self.tombstones.retain(|range| !settled.contains(range));
            index.forget_removals(&settled);
        }
        if steps > 3 {
            built.obsolete.iter().for_each(|id| drop(self.segments.remove(id)));
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u8),
    Remove(u16),
    Seal(usize),
    Merge(usize, u8),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    // The number of steps taken before a crash; four are all.
    let steps = || prop_oneof![3 => Just(4usize), 1 => 0..4usize];
    prop_oneof![
        6 => (1u8..12).prop_map(Op::Insert),
        4 => any::<u16>().prop_map(Op::Remove),
        2 => steps().prop_map(Op::Seal),
        2 => (steps(), any::<u8>()).prop_map(|(steps, which)| Op::Merge(steps, which)),
        1 => Just(Op::Reopen),
    ]
}

/// That exact searches, filtered and not, find what a scan of the vectors finds.
fn agrees(index: &VectorIndex, disk: &Disk, query: &[f32]) -> std::result::Result<(), TestCaseError> {
    let docs = disk.vectors.values().map(|(doc, _)| *doc);
    let filter: RoaringBitmap = docs.filter(|doc| doc % 3 == 0).collect();
    for filter in [None, Some(&filter)] {
        let counts = |doc: u32| filter.is_none_or(|filter| filter.contains(doc));
        let wanted: Vec<u64> =
            disk.vectors.iter().filter(|(_, (doc, _))| counts(*doc)).map(|(point, _)| *point).collect();
        for (k, exact) in [(wanted.len() + 1, true), (wanted.len() + 1, false), (5, true)] {
            let found = index.search(query, k, k, exact, filter).unwrap();
            prop_assert!(found.windows(2).all(|pair| pair[0].similarity >= pair[1].similarity));
            let mut points: Vec<u64> = found.iter().map(|c| c.point).collect();
            points.sort_unstable();
            points.dedup();
            prop_assert_eq!(points.len(), found.len());
            prop_assert!(points.iter().all(|point| wanted.binary_search(point).is_ok()));
            if exact {
                prop_assert_eq!(points.len(), k.min(wanted.len()));
            }
            for found in &found {
                let (doc, vector) = &disk.vectors[&found.point];
                prop_assert_eq!(found.doc_no, *doc);
                let cosine = dot(query, vector) / (dot(query, query) * dot(vector, vector)).sqrt();
                prop_assert!((cosine - found.similarity).abs() < 0.02);
            }
        }
    }
    let found = index.search(query, disk.vectors.len().max(1), 1, true, None).unwrap();
    let points: Vec<u64> = found.iter().map(|c| c.point).chain([u64::MAX]).collect();
    let similarities: Vec<_> = found.iter().map(|c| Some(c.similarity)).chain([None]).collect();
    prop_assert_eq!(index.similarities(query, &points).unwrap(), similarities);
    let gone: Vec<u64> = disk.tombstones.iter().cloned().flatten().collect();
    prop_assert_eq!(index.similarities(query, &gone).unwrap(), vec![None; gone.len()]);
    prop_assert_eq!(index.len(), disk.vectors.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_index_agrees_with_the_disk(ops in proptest::collection::vec(op(), 1..40)) {
        let options = IndexOptions { m: 4, ef_construction: 8, ef_link: 8, ..options(20) };
        let mut disk = Disk::default();
        let mut index = disk.open(options);
        let mut source = Source(11);
        let (mut point, mut doc) = (0, 0);
        for op in ops {
            match op {
                Op::Insert(count) => {
                    for _ in 0..count {
                        let vector = source.vector(8);
                        disk.vectors.insert(point, (doc, vector.clone()));
                        index.insert(point, doc, &vector).unwrap();
                        point += 1;
                    }
                    doc += 1;
                }
                Op::Remove(which) => {
                    let at = usize::from(which) % disk.vectors.len().max(1);
                    let Some(doc) = disk.vectors.values().nth(at).map(|(doc, _)| *doc) else { continue };
                    let of = |entry: &(&u64, &(u32, Vec<f32>))| entry.1.0 == doc;
                    let first = *disk.vectors.iter().find(of).unwrap().0;
                    let range = first..first + disk.vectors.iter().filter(of).count() as u64;
                    disk.vectors.retain(|_, (of, _)| *of != doc);
                    disk.tombstones.push(range.clone());
                    index.remove_range(range);
                }
                Op::Seal(steps) => {
                    if let Some(built) = index.seal().unwrap() {
                        disk.switch(&index, built, steps);
                    }
                    if steps < 4 {
                        index = disk.open(options);
                    }
                }
                Op::Merge(steps, which) => {
                    let ids = index.segment_ids();
                    let some: Vec<u64> = ids.into_iter().filter(|id| which >> (id % 8) & 1 == 0).collect();
                    if let Some(built) = index.merge(&some).unwrap() {
                        disk.switch(&index, built, steps);
                    }
                    if steps < 4 {
                        index = disk.open(options);
                    }
                }
                Op::Reopen => index = disk.open(options),
            }
            agrees(&index, &disk, &source.vector(8))?;
        }
    }

    #[test]
    fn a_plan_ends_with_few_segments(sizes in proptest::collection::vec((1usize..100_000, 0usize..=100), 0..40)) {
        let size = |(id, (points, dead)): (u64, (usize, usize))| plan::Size { id, points, alive: points - points * dead / 100 };
        let mut sizes: Vec<plan::Size> = (1u64..).zip(sizes).map(size).collect();
        let alive: usize = sizes.iter().map(|size| size.alive).sum();
        let mut next = 1_000;
        while let Some(ids) = plan::merge(sizes.clone(), 2) {
            let (merged, rest): (Vec<_>, Vec<_>) = sizes.into_iter().partition(|size| ids.contains(&size.id));
            prop_assert_eq!(merged.len(), ids.len());
            prop_assert!(merged.len() <= 4);
            let points = merged.iter().map(|size| size.alive).sum();
            sizes = rest;
            sizes.extend((points > 0).then_some(plan::Size { id: next, points, alive: points }));
            next += 1;
            prop_assert!(next < 2_000);
        }
        prop_assert_eq!(sizes.iter().map(|size| size.alive).sum::<usize>(), alive);
        prop_assert!(sizes.len() <= 2 + alive.checked_ilog(3).unwrap_or(0) as usize);
    }

    #[test]
    fn damage_never_panics(cut in 0usize..100_000, at in 0usize..100_000, front in 0usize..32, value: u8) {
        let bytes = small();
        prop_assert_eq!(Segment::from_bytes(&bytes[..cut % bytes.len()]).unwrap_err().reason, "INDEX_DAMAGED");
        let query = quantize(DIMENSIONS, &[1.0; DIMENSIONS]).unwrap();
        let deleted = RoaringBitmap::new();
        let ask = Ask { query: &query, k: 5, ef: 32, exact: false, filter: None, deleted: &deleted, is_cancelled: &|| false };
        for at in [at % bytes.len(), front] {
            let mut flipped = bytes.clone();
            flipped[at] = value;
            if let Ok(segment) = Segment::from_bytes(&flipped) {
                segment.search(&ask, &mut Scratch::default());
            }
        }
    }

    #[test]
    fn damage_is_noticed(at in 0usize..100_000, bit in 0u8..8) {
        let mut bytes = small().clone();
        let checksum = blake3::hash(&bytes).as_bytes().to_vec();
        let entry = SegmentEntry { id: 1, points: 100, checksum, deleted: Vec::new() };
        prop_assert!(Live::open(DIMENSIONS, &entry, &bytes).is_ok());
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(Live::open(DIMENSIONS, &entry, &bytes).unwrap_err().reason, "INDEX_DAMAGED");
    }

    #[test]
    fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Segment::from_bytes(&bytes).is_err());
    }
}

#[test]
fn a_scan_and_a_merge_end_when_nobody_waits() {
    let vectors = clustered(50, 400, 7);
    let options = IndexOptions { head_limit: 12_000, ..IndexOptions::default() };
    let index = VectorIndex::new(DIMENSIONS, options);
    for (i, vector) in vectors.iter().enumerate() {
        index.insert(i as u64, i as u32, vector).unwrap();
    }
    let asked = |index: &VectorIndex, cancel_at: usize| {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let wanted = Wanted { k: 10, ef: 10, exact: true, filter: None };
        let found = index.search_until(&vectors[0], wanted, &|| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 >= cancel_at
        });
        (found.map(|found| found.len()).map_err(|error| error.reason), count.into_inner())
    };
    // In the head.
    let (found, all) = asked(&index, usize::MAX);
    assert!(found == Ok(10) && all >= 2, "{found:?} {all}");
    assert_eq!(asked(&index, 1), (Err("CANCELLED"), 1));
    assert!(asked(&index, 3).1 <= 3 + 1);
    // In a segment.
    let sealed = index.seal().unwrap().unwrap();
    index.commit(sealed.id).unwrap();
    let (found, all) = asked(&index, usize::MAX);
    assert!(found == Ok(10) && all >= 3, "{found:?} {all}");
    let (found, count) = asked(&index, 2);
    assert!(found == Err("CANCELLED") && count < all, "{found:?} {count} of {all}");
    // A merge leaves everything as it was.
    let sealed = index.seal().unwrap().unwrap();
    index.commit(sealed.id).unwrap();
    let ids = index.segment_ids();
    assert_eq!(index.merge_until(&ids, &|| true).unwrap_err().reason, "CANCELLED");
    assert_eq!((index.segment_ids(), index.len()), (ids.clone(), vectors.len()));
    let merged = index.merge(&ids).unwrap().unwrap();
    index.commit(merged.id).unwrap();
    assert_eq!((index.segment_ids().len(), index.len()), (1, vectors.len()));
}
