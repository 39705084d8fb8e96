//! The metadata index: what it costs to open and to keep, and what filters cost.
//!
//! `cargo bench --bench filters -- --documents 1000000 [--stored 100000]` makes so many documents with six metadata
//! keys, two of which differ in each document, and puts so many of them into a store to open it again.

use std::time::{Duration, Instant};

use futures::StreamExt;
use roaring::RoaringBitmap;
use trove::catalog::Filters;
use trove::domain::{Filter, Metadata, MetadataValue, RangeBounds, Test};
use trove::error::Result;
use trove::metadata::{DocumentIds, MetadataIndex, ResolvedFilter, matching};
use trove::store::{CollectionRecord, NewDocument, Store, StoreOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Repetitions of each filter.
const ROUNDS: u32 = 20;

/// The filters of this program name no documents.
struct NoIds;

impl DocumentIds for NoIds {
    fn number(&self, _: &str) -> Result<Option<u32>> {
        Ok(None)
    }

    fn numbers(&self, _: &str, _: trove::task::Cancelled<'_>) -> Result<RoaringBitmap> {
        Ok(RoaringBitmap::new())
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut documents, mut stored) = (0u32, 0u32);
    while let Some(name) = arguments.next() {
        let mut number = || arguments.next().and_then(|value| value.parse().ok()).unwrap_or(0);
        match name.as_str() {
            "--documents" => documents = number(),
            "--stored" => stored = number(),
            _ => {}
        }
    }
    if documents == 0 {
        println!("skipped: give --documents N");
        return;
    }
    in_memory(documents);
    if stored > 0 {
        tokio::runtime::Runtime::new().expect("runtime").block_on(in_a_store(stored));
    }
}

fn mixed(number: u32) -> u32 {
    number.wrapping_mul(0x9e37_79b9).rotate_right(16)
}

fn metadata(number: u32) -> Metadata {
    let string = |value: String| MetadataValue::String(value);
    let tags = (0..3).map(|i| format!("tag{}", mixed(number + i) % 1000)).collect();
    Metadata::from([
        ("lang".to_owned(), string(["en", "de", "fr", "es"][mixed(number) as usize % 4].to_owned())),
        ("year".to_owned(), MetadataValue::Int(1980 + i64::from(mixed(number) % 45))),
        ("author".to_owned(), string(format!("author {}", mixed(number) % 10_000))),
        ("tags".to_owned(), MetadataValue::StringList(tags)),
        ("modified".to_owned(), MetadataValue::Timestamp(1_600_000_000 + i64::from(mixed(number)), 0)),
        ("path".to_owned(), string(format!("folder{:03}/file-{number:08}.md", mixed(number) % 500))),
    ])
}

/// Resident bytes of this process.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn cpu() -> Duration {
    cpu_time::ProcessTime::now().as_duration()
}

fn in_memory(documents: u32) {
    let keys: Vec<String> = metadata(0).into_keys().collect();
    println!("{documents} documents, keys {}", keys.join(", "));
    for key in &keys {
        let before = memory();
        let mut index = MetadataIndex::default();
        for number in 0..documents {
            let mut all = metadata(number);
            all.retain(|other, _| other == key);
            index.insert(number, &all);
        }
        let bytes = memory().saturating_sub(before);
        println!("{key}: {:.1} bytes a document", bytes as f64 / f64::from(documents));
        drop(std::hint::black_box(index));
    }
    let values: Vec<Metadata> = (0..documents).map(metadata).collect();
    let start = cpu();
    let mut index = MetadataIndex::default();
    (0u32..).zip(&values).for_each(|(number, metadata)| index.insert(number, metadata));
    let each = (cpu() - start).as_secs_f64() * 1e6 / f64::from(documents);
    println!("all keys: {each:.2} microseconds a document to add");
    println!("\n| filter | matching | microseconds |\n|---|---|---|");
    for (name, filter) in filters() {
        let start = cpu();
        let mut found = 0;
        for _ in 0..ROUNDS {
            let resolved = ResolvedFilter::new(&filter, &NoIds, &|| false).expect("resolve");
            let numbers = matching(&resolved, &|step| index.step(step), &|| false).expect("matching");
            found = std::hint::black_box(numbers).len();
        }
        println!("| {name} | {found} | {:.0} |", (cpu() - start).as_secs_f64() * 1e6 / f64::from(ROUNDS));
    }
    let filter = Filter::Field("lang".to_owned(), Test::Equals(MetadataValue::String("en".to_owned())));
    let start = cpu();
    let scanned = values.iter().filter(|metadata| filter.matches("", metadata)).count();
    println!(
        "| lang = en, by a look at each document in memory | {scanned} | {:.0} |",
        (cpu() - start).as_secs_f64() * 1e6
    );
}

fn filters() -> Vec<(&'static str, Filter)> {
    let field = |key: &str, test: Test| Filter::Field(key.to_owned(), test);
    let equals = |key: &str, value: &str| field(key, Test::Equals(MetadataValue::String(value.to_owned())));
    let from = |gte: f64| Test::Range(RangeBounds { gte: Some(gte), ..Default::default() });
    vec![
        ("lang = en", equals("lang", "en")),
        ("lang != en", Filter::Not(Box::new(equals("lang", "en")))),
        ("year >= 2020", field("year", from(2020.0))),
        ("author = author 7", equals("author", "author 7")),
        (
            "lang = en and year >= 2020 and a tag",
            Filter::All(vec![equals("lang", "en"), field("year", from(2020.0)), equals("tags", "tag7")]),
        ),
        ("path starts with folder007/", field("path", Test::Prefix("folder007/".to_owned()))),
        (
            "modified in the later half, all values different",
            field("modified", from(1_600_000_000.0 + 2f64.powi(31))),
        ),
    ]
}

/// Puts documents into a store, and opens store and metadata index again.
async fn in_a_store(documents: u32) {
    let dir = tempfile::tempdir().expect("directory");
    let options = StoreOptions::default();
    let store = Store::open(dir.path(), options.clone()).expect("store");
    let record = CollectionRecord { name: "a".to_owned(), dimensions: 1, ..CollectionRecord::default() };
    let cid = store.create_collection(record).expect("collection").cid;
    let put = |number| {
        let document = NewDocument {
            id: format!("document {number:08}"),
            title: format!("The title of document {number}"),
            text: "A text. ".repeat(40),
            metadata: metadata(number),
            ..NewDocument::default()
        };
        store.upsert(cid, document)
    };
    let mut puts = futures::stream::iter((0..documents).map(put)).buffer_unordered(64);
    while let Some(result) = puts.next().await {
        result.expect("write");
    }
    drop(puts);
    drop(store);
    let start = Instant::now();
    let store = Store::open(dir.path(), options).expect("store");
    let opened = start.elapsed();
    let start = Instant::now();
    let filters = Filters::open(&store, cid).expect("filters");
    let seconds = start.elapsed().as_secs_f64();
    drop(std::hint::black_box(filters));
    println!(
        "\n{documents} documents stored: the store opens in {:.2} s, the metadata index in {seconds:.2} s",
        opened.as_secs_f64()
    );
}
