use std::collections::HashSet;
use std::time::Instant;

use proptest::prelude::*;
use simsimd::SpatialSimilarity;

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
}

/// Unit vectors in clusters, cluster after cluster.
fn clustered(clusters: usize, each: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut source = Source(seed);
    let mut vectors = Vec::new();
    for _ in 0..clusters {
        let centre: Vec<f32> = (0..DIMENSIONS).map(|_| source.next()).collect();
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

fn nearest(vectors: &[Vec<f32>], query: &[f32], among: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut all: Vec<(f64, u64)> =
        among.map(|i| (f32::dot(&vectors[i as usize], query).unwrap(), i)).collect();
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

fn filled(vectors: &[Vec<f32>], options: IndexOptions) -> VectorIndex {
    let index = VectorIndex::new(DIMENSIONS, options);
    for (i, vector) in vectors.iter().enumerate() {
        index.insert(i as u64, i as u32, vector).unwrap();
    }
    index
}

fn sealed(index: &VectorIndex) -> SealedSegment {
    let sealed = index.seal().unwrap().unwrap();
    index.commit(sealed.id).unwrap();
    sealed
}

#[test]
fn clusters_are_found_with_filters_and_removals() {
    // hnsw_rs is generic, so without optimisation its code is slow too: fewer points, less effort.
    let (each, ef_construction) = if cfg!(debug_assertions) { (8, 64) } else { (20, 128) };
    let vectors = clustered(1000, each, 1);
    let queries = queries(&vectors, 100);
    let options = IndexOptions { ef_construction, head_limit: 8000, ..IndexOptions::default() };
    let index = filled(&vectors, options);
    assert!(index.needs_seal());
    let start = Instant::now();
    sealed(&index);
    eprintln!("built in {:?}", start.elapsed());
    assert!(!index.needs_seal());
    let start = Instant::now();
    for query in &queries {
        index.search(query, 50, 64, false, None).unwrap();
    }
    eprintln!("{:?} per search", start.elapsed() / queries.len() as u32);
    let plain = recall(&index, &vectors, &queries, None, |_| false);
    eprintln!("recall {plain}");
    assert!(plain >= 0.98, "{plain}");
    for (every, least) in [(2, 0.98), (10, 0.98), (100, 0.99), (1000, 0.99)] {
        let filter: RoaringBitmap = (0..vectors.len() as u32).filter(|i| i % every == 0).collect();
        let filtered = recall(&index, &vectors, &queries[..30], Some(&filter), |_| false);
        eprintln!("recall {filtered} of one in {every}");
        assert!(filtered >= least, "{filtered} of one in {every}");
    }
    index.remove_range(1_000..3_000);
    assert_eq!((index.len(), index.tombstones()), (vectors.len() - 2_000, 2_000));
    let pruned = recall(&index, &vectors, &queries[..50], None, |i| (1_000..3_000).contains(&i));
    eprintln!("recall {pruned} after removals");
    assert!(pruned >= 0.98, "{pruned}");
}

#[test]
fn every_point_finds_itself() {
    let vectors = clustered(150, 20, 2);
    let index = filled(&vectors, IndexOptions::default());
    sealed(&index);
    let lost = vectors.iter().enumerate().filter(|(i, vector)| {
        index.search(vector, 5, 64, false, None).unwrap().iter().all(|c| c.point != *i as u64)
    });
    assert_eq!(lost.count(), 0);
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
fn inserts_and_removals_go_on_while_a_segment_is_built() {
    let vectors = clustered(100, 30, 3);
    let index = filled(&vectors[..2000], IndexOptions::default());
    let built = std::thread::scope(|scope| {
        let build = scope.spawn(|| index.seal().unwrap().unwrap());
        for (i, vector) in vectors.iter().enumerate().take(3000).skip(2000) {
            index.insert(i as u64, i as u32, vector).unwrap();
        }
        index.remove_range(10..20);
        build.join().unwrap()
    });
    index.remove_range(20..30);
    index.remove_range(2500..2510);
    let before: Vec<_> = index.search(&vectors[7], 20, 64, true, None).unwrap();
    index.commit(built.id).unwrap();
    assert_eq!(index.len(), 2970);
    assert_eq!(index.search(&vectors[7], 20, 64, true, None).unwrap(), before);
    assert!(index.contains(7) && index.contains(2999) && !index.contains(15) && !index.contains(25));
    assert_eq!(index.commit(built.id).unwrap_err().reason, "SEGMENT_NOT_PENDING");
}

#[test]
fn merging_drops_the_dead_and_reopening_keeps_the_rest() {
    let vectors = clustered(100, 20, 4);
    let options = IndexOptions { head_limit: 500, ..IndexOptions::default() };
    let index = VectorIndex::new(DIMENSIONS, options);
    let mut stored = Vec::new();
    for (i, vector) in vectors.iter().enumerate() {
        index.insert(i as u64, i as u32, vector).unwrap();
        if index.needs_seal() {
            let sealed = sealed(&index);
            stored.push((sealed.id, sealed.bytes));
        }
    }
    index.remove_range(100..150);
    let reopened = VectorIndex::from_segments(options, &index.manifest(), stored.clone()).unwrap();
    assert_eq!((reopened.len(), reopened.tombstones()), (1950, 50));
    let ids = index.plan_merge().unwrap();
    assert_eq!(ids.len(), 4);
    let merged = index.merge(&ids).unwrap().unwrap();
    index.remove_range(0..10);
    index.commit(merged.id).unwrap();
    assert_eq!((index.len(), index.tombstones(), index.plan_merge()), (1940, 10, None));
    assert_eq!(merged.obsolete, ids);
    assert_eq!(Manifest::from_bytes(&merged.manifest).unwrap().watermark, Some(1999));
    let found = index.search(&vectors[1000], 10, 64, false, None).unwrap();
    assert_eq!(found, reopened.search(&vectors[1000], 10, 64, true, None).unwrap());
    let again = VectorIndex::from_segments(options, &merged.manifest, [(merged.id, merged.bytes)]).unwrap();
    assert_eq!(again.len(), 1950);
    let missing = VectorIndex::from_segments(options, &merged.manifest, stored).unwrap_err();
    assert_eq!(missing.reason, "INDEX_DAMAGED");
    index.remove_range(0..2000);
    let ids = index.plan_merge().unwrap();
    let merged = index.merge(&ids).unwrap().unwrap();
    index.commit(merged.id).unwrap();
    assert_eq!((index.len(), index.tombstones(), index.plan_merge()), (0, 0, None));
}

fn small() -> &'static Vec<u8> {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| sealed(&filled(&clustered(20, 10, 5), IndexOptions::default())).bytes)
}

#[test]
fn bytes_round_trip() {
    let segment = Segment::from_bytes(small()).unwrap();
    assert_eq!(segment.len(), 200);
    assert_eq!(&segment.to_bytes(), small());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_an_error(cut in 0usize..100_000, at in 0usize..100_000, bit in 0u8..8) {
        let bytes = small();
        let cut = cut % bytes.len();
        prop_assert_eq!(Segment::from_bytes(&bytes[..cut]).unwrap_err().reason, "INDEX_DAMAGED");
        let mut flipped = bytes.clone();
        let at = at % bytes.len();
        flipped[at] ^= 1 << bit;
        prop_assert_eq!(Segment::from_bytes(&flipped).unwrap_err().reason, "INDEX_DAMAGED");
    }

    #[test]
    fn damage_behind_the_checksum_never_panics(at in 0usize..100_000, front in 0usize..32, value: u8) {
        let body = &small()[..small().len() - 32];
        let query = quantize(DIMENSIONS, &[1.0; DIMENSIONS]).unwrap();
        for at in [at % body.len(), front] {
            let mut flipped = body.to_vec();
            flipped[at] = value;
            if let Ok(segment) = Segment::from_body(&flipped) {
                segment.search(&query, 5, 32, false, None, &RoaringBitmap::new());
            }
        }
    }

    #[test]
    fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Segment::from_bytes(&bytes).is_err());
        prop_assert!(Segment::from_body(&bytes).is_err());
    }
}
