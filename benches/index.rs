//! The vector index on real vectors: cost of building, recall, speed, filters, removals, memory.
//!
//! `cargo bench --bench index -- --vectors FILE` takes little-endian f32 vectors, in the order in
//! which their documents would come in. One in a hundred is held out as a query. With `--serve`
//! it builds the index and then answers requests on standard input, which is how
//! scripts/bench_index_peers.py takes turns between this index and others.

use std::collections::HashSet;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use roaring::RoaringBitmap;
use trove::domain::dot;
use trove::index::{IndexOptions, VectorIndex};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is asked for beyond ten results, to be scored exactly.
const EXTRA: usize = 10;
/// Similarities this close are the same: what sums in another order differ by.
const TIE: f32 = 1e-6;

struct Arguments {
    vectors: std::path::PathBuf,
    dimensions: usize,
    count: usize,
    queries: usize,
    serve: bool,
    quick: bool,
    threads: usize,
    options: IndexOptions,
}

struct Data {
    dimensions: usize,
    base: Vec<f32>,
    queries: Vec<f32>,
}

impl Data {
    fn vector(&self, i: usize) -> &[f32] {
        &self.base[i * self.dimensions..][..self.dimensions]
    }

    fn query(&self, i: usize) -> &[f32] {
        &self.queries[i * self.dimensions..][..self.dimensions]
    }

    fn len(&self) -> usize {
        self.base.len() / self.dimensions
    }

    fn query_count(&self) -> usize {
        self.queries.len() / self.dimensions
    }
}

fn main() {
    let Some(arguments) = arguments() else {
        println!("skipped: give --vectors FILE, little-endian f32, see docs/BENCHMARKS.md");
        return;
    };
    let data = match read(&arguments) {
        Ok(data) => data,
        Err(error) => {
            eprintln!("{}: {error}", arguments.vectors.display());
            std::process::exit(1);
        }
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build().expect("threads");
    let (index, built) = pool.install(|| build(&data, arguments.options, arguments.serve));
    if arguments.serve {
        return serve(&data, &index, &built);
    }
    report(&data, &pool, index, &built, arguments.quick);
}

fn arguments() -> Option<Arguments> {
    let mut found = Arguments {
        vectors: std::path::PathBuf::new(),
        dimensions: 384,
        count: usize::MAX,
        queries: usize::MAX,
        serve: false,
        quick: false,
        threads: 1,
        options: IndexOptions::default(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut number = || arguments.next().and_then(|value| value.parse().ok()).unwrap_or(0);
        match name.as_str() {
            "--vectors" => found.vectors = arguments.next()?.into(),
            "--dimensions" => found.dimensions = number(),
            "--count" => found.count = number(),
            "--queries" => found.queries = number(),
            "--threads" => found.threads = number(),
            "--m" => found.options.m = number(),
            "--ef-construction" => found.options.ef_construction = number(),
            "--ef-link" => found.options.ef_link = number(),
            "--head-limit" => found.options.head_limit = number(),
            "--merge-factor" => found.options.merge_factor = number(),
            "--quick" => found.quick = true,
            "--serve" => found.serve = true,
            _ => {}
        }
    }
    Some(found).filter(|found| !found.vectors.as_os_str().is_empty())
}

fn read(arguments: &Arguments) -> std::io::Result<Data> {
    let bytes = std::fs::read(&arguments.vectors)?;
    let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    let dimensions = arguments.dimensions;
    let (mut base, mut queries) = (Vec::new(), Vec::new());
    for (i, vector) in numbers.chunks_exact(dimensions).take(arguments.count).enumerate() {
        if i % 100 == 50 { queries.extend_from_slice(vector) } else { base.extend_from_slice(vector) }
    }
    // Fewer queries are drawn from all over the vectors.
    let step = (queries.len() / dimensions).div_ceil(arguments.queries.max(1)).max(1);
    let queries = queries.chunks_exact(dimensions).step_by(step).flatten().copied().collect();
    Ok(Data { dimensions, base, queries })
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    cpu_time::ProcessTime::now().as_duration()
}

#[derive(Default)]
struct Built {
    insert: Duration,
    seal: Duration,
    merge: Duration,
    written: usize,
}

/// Inserts in order, sealing and merging as the catalog does. What the head still holds is sealed, and the segments are
/// joined where the index is to be as it is at rest.
fn build(data: &Data, options: IndexOptions, settles: bool) -> (VectorIndex, Built) {
    let index = VectorIndex::new(data.dimensions, options);
    let mut built = Built::default();
    let mut start = cpu();
    let mut upkeep = |index: &VectorIndex, force: bool| {
        built.insert += cpu() - start;
        start = cpu();
        if (force || index.needs_seal())
            && let Some(segment) = index.seal().expect("seal")
        {
            built.written += segment.bytes.len();
            index.commit(segment.id).expect("commit");
        }
        built.seal += cpu() - start;
        start = cpu();
        while let Some(ids) = index.plan_merge() {
            let segment = index.merge(&ids).expect("merge").expect("segments");
            built.written += segment.bytes.len();
            index.commit(segment.id).expect("commit");
        }
        built.merge += cpu() - start;
        start = cpu();
    };
    for i in 0..data.len() {
        index.insert(i as u64, (i / 3) as u32, data.vector(i)).expect("insert");
        if index.needs_seal() {
            upkeep(&index, false);
        }
    }
    upkeep(&index, true);
    if !settles {
        return (index, built);
    }
    // What the catalog does while nothing is written.
    let start = cpu();
    while let Some(ids) = index.plan_join() {
        let segment = index.merge(&ids).expect("merge").expect("segments");
        built.written += segment.bytes.len();
        index.commit(segment.id).expect("commit");
    }
    built.merge += cpu() - start;
    (index, built)
}

/// What a search should find for a query.
struct Truth {
    /// How many: ten, or all that count where those are fewer.
    count: usize,
    /// The similarity of the last of them. Of equal vectors any may be among the ten.
    bound: f32,
}

/// What the ten nearest of each query are, among the points that count.
fn truth(data: &Data, counts: impl Fn(usize) -> bool + Sync) -> Vec<Truth> {
    let points = (0..data.len()).filter(|&i| counts(i)).count();
    let count = points.min(10);
    (0..data.query_count())
        .into_par_iter()
        .map(|query| {
            let query = data.query(query);
            let mut scores: Vec<f32> =
                (0..data.len()).filter(|&i| counts(i)).map(|i| dot(query, data.vector(i))).collect();
            let last = count.saturating_sub(1);
            let bound = match scores.len() {
                0 => f32::INFINITY,
                _ => *scores.select_nth_unstable_by(last, |a, b| b.total_cmp(a)).1,
            };
            Truth { count, bound }
        })
        .collect()
}

/// How to search.
#[derive(Clone, Copy)]
struct How<'a> {
    k: usize,
    ef: usize,
    filter: Option<&'a RoaringBitmap>,
    rescore: bool,
}

/// The ten best of a query, by exact score where asked for.
fn ten(data: &Data, index: &VectorIndex, query: usize, how: How<'_>) -> Vec<u64> {
    let query = data.query(query);
    let found = index.search(query, how.k, how.ef, false, how.filter).expect("search");
    let mut scored: Vec<(f32, u64)> = found
        .iter()
        .map(|c| {
            (if how.rescore { dot(query, data.vector(c.point as usize)) } else { c.similarity }, c.point)
        })
        .collect();
    scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(10).map(|(_, point)| point).collect()
}

/// The share of what should be found that is.
fn recall(data: &Data, index: &VectorIndex, truth: &[Truth], how: How<'_>) -> f64 {
    let (mut hits, mut wanted) = (0, 0);
    for (query, truth) in truth.iter().enumerate() {
        let found: HashSet<u64> = ten(data, index, query, how).into_iter().collect();
        let query = data.query(query);
        hits += found.iter().filter(|&&i| dot(query, data.vector(i as usize)) >= truth.bound - TIE).count();
        wanted += truth.count;
    }
    hits as f64 / wanted.max(1) as f64
}

/// Queries per second of so many threads that all run all queries. Each thread counts the CPU time
/// it got, so that what else runs on the machine takes less part in the figure.
fn speed(data: &Data, index: &VectorIndex, threads: usize, how: How<'_>) -> f64 {
    let start = cpu();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for query in 0..data.query_count() {
                    std::hint::black_box(ten(data, index, query, how));
                }
            });
        }
    });
    (threads * threads * data.query_count()) as f64 / (cpu() - start).as_secs_f64()
}

fn serve(data: &Data, index: &VectorIndex, built: &Built) {
    let (open_seconds, _) = reopen(index);
    println!(
        "{{\"points\": {}, \"build_cpu\": {:.2}, \"bytes_per_point\": {:.0}, \"open_seconds\": {open_seconds:.3}}}",
        index.len(),
        (built.insert + built.seal + built.merge).as_secs_f64(),
        index.memory() as f64 / index.len() as f64
    );
    let truth = truth(data, |_| true);
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let numbers: Vec<usize> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let &[k, ef, threads] = numbers.as_slice() else { continue };
        let how = How { k, ef, filter: None, rescore: k > 10 };
        let recall = recall(data, index, &truth, how);
        let qps = speed(data, index, threads, how);
        println!("{{\"recall\": {recall:.4}, \"qps\": {qps:.1}}}");
        let _ = std::io::stdout().flush();
    }
}

/// Opens the index from its bytes; the seconds that took, and the bytes.
fn reopen(index: &VectorIndex) -> (f64, usize) {
    let stored = index.segment_bytes();
    let bytes = stored.values().map(Vec::len).sum();
    let manifest = index.manifest();
    let start = Instant::now();
    let read = |id: u64| Ok(stored.get(&id).cloned().unwrap_or_default());
    let opened = VectorIndex::from_segments(IndexOptions::default(), &manifest, read).expect("open");
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(opened.len() + index.tombstones(), index.len() + index.tombstones());
    (seconds, bytes)
}

fn report(data: &Data, pool: &rayon::ThreadPool, index: VectorIndex, built: &Built, quick: bool) {
    let points = data.len();
    let total = built.insert + built.seal + built.merge;
    println!("points {points}, queries {}, dimensions {}", data.query_count(), data.dimensions);
    println!(
        "build CPU-s: insert {:.1}, seal {:.1}, merge {:.1}, total {:.1}; written {:.1} MB",
        built.insert.as_secs_f64(),
        built.seal.as_secs_f64(),
        built.merge.as_secs_f64(),
        total.as_secs_f64(),
        built.written as f64 / 1e6
    );
    let (seconds, bytes) = reopen(&index);
    println!(
        "segments {}, bytes per point {:.0} in memory, {:.0} stored; opened in {seconds:.3} s",
        index.segment_ids().len(),
        index.memory() as f64 / points as f64,
        bytes as f64 / points as f64
    );
    let all = truth(data, |_| true);
    table("several segments", data, &index, &all);
    if quick {
        return;
    }
    filters(data, &index);
    let start = cpu();
    let ids = index.segment_ids();
    if ids.len() > 1 {
        let segment = pool.install(|| index.merge(&ids)).expect("merge").expect("segments");
        index.commit(segment.id).expect("commit");
        println!("merging all: CPU-s {:.1}", (cpu() - start).as_secs_f64());
        table("one segment", data, &index, &all);
        filters(data, &index);
    }
    let start = Instant::now();
    for i in (0..points).filter(|i| i % 4 == 1) {
        index.remove_range(i as u64..i as u64 + 1);
    }
    println!("removing {} points one by one: {:.2} s", index.tombstones(), start.elapsed().as_secs_f64());
    let rest = truth(data, |i| i % 4 != 1);
    table("a quarter removed", data, &index, &rest);
    let start = cpu();
    let segment = pool.install(|| index.merge(&index.segment_ids())).expect("merge").expect("segments");
    index.commit(segment.id).expect("commit");
    println!("rewriting without them: CPU-s {:.1}", (cpu() - start).as_secs_f64());
    table("rewritten", data, &index, &rest);
}

fn table(name: &str, data: &Data, index: &VectorIndex, truth: &[Truth]) {
    println!(
        "\n{name}\n| candidates | ef | recall@10 | QPS, 1 thread | QPS, 2 threads |\n|---|---|---|---|---|"
    );
    for (k, ef) in [(10, 16), (10, 32), (10, 64), (20, 32), (20, 64), (20, 96), (50, 64), (50, 96), (50, 192)]
    {
        let how = How { k, ef, filter: None, rescore: k > 10 };
        let recall = recall(data, index, truth, how);
        let (one, two) = (speed(data, index, 1, how), speed(data, index, 2, how));
        println!("| {k} | {ef} | {recall:.4} | {one:.0} | {two:.0} |");
    }
}

fn filters(data: &Data, index: &VectorIndex) {
    println!("\nfilters, ef 96\n| documents | share | recall@10 | microseconds |\n|---|---|---|---|");
    let documents = data.len() as u32 / 3 + 1;
    let row = |name: &str, filter: &RoaringBitmap| {
        let truth = truth(data, |i| filter.contains((i / 3) as u32));
        let how = How { k: 10 + EXTRA, ef: 96, filter: Some(filter), rescore: true };
        let recall = recall(data, index, &truth, how);
        let share = 100.0 * filter.len() as f64 / f64::from(documents);
        println!("| {name} | {share:.2} % | {recall:.4} | {:.0} |", 1e6 / speed(data, index, 1, how));
    };
    row("all", &(0..documents).collect());
    for every in [2u32, 5, 10, 20, 50, 100, 1000, 10_000] {
        let counts = |doc: &u32| doc.wrapping_mul(0x9e37_79b9).rotate_right(16).is_multiple_of(every);
        row("from all over", &(0..documents).filter(counts).collect());
    }
    let pivot = data.query(0);
    let mut by_nearness: Vec<(f32, u32)> =
        (0..documents - 1).map(|doc| (dot(pivot, data.vector(doc as usize * 3)), doc)).collect();
    by_nearness.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    for every in [2, 5, 10, 100] {
        let part = (documents / every) as usize;
        row("the first", &(0..documents / every).collect());
        row("nearest to one vector", &by_nearness.iter().take(part).map(|(_, doc)| *doc).collect());
        row("farthest from it", &by_nearness.iter().rev().take(part).map(|(_, doc)| *doc).collect());
    }
}
