//! The small functions that every text or vector goes through.

use std::path::PathBuf;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use trove::domain::Span;
use trove::encoder::{Device, Encoder, EncoderOptions, Precision};
use trove::model::Runtime;
use trove::text::{SplitOptions, sentences, split_passages};

fn hot(criterion: &mut Criterion) {
    let data = PathBuf::from(std::env::var("TROVE_DATA_DIR").unwrap_or_else(|_| ".trove".to_owned()));
    let Ok(text) = std::fs::read_to_string("demo/text/gittutorial.txt") else { return };
    let mut group = criterion.benchmark_group("gittutorial.txt");
    group.throughput(Throughput::Bytes(text.len() as u64));
    let all = Span::new(0, text.len() as u32);
    group.bench_function("sentences", |b| b.iter(|| sentences(&text, all)));
    let options = EncoderOptions {
        device: Device::Cpu,
        precision: Precision::Fp32,
        sessions: 1,
        threads: 1,
        ..EncoderOptions::default()
    };
    let encoder = Runtime::init(&data.join("runtime"))
        .and_then(|()| Encoder::load(&data.join("models/all-MiniLM-L6-v2"), options));
    let Ok(encoder) = encoder else {
        eprintln!("skipped: no models in {}; run `make models`", data.display());
        return;
    };
    group.bench_function("tokens", |b| b.iter(|| encoder.token_spans(&text)));
    group.bench_function("tokens with their texts", |b| b.iter(|| encoder.tokenize(&text, true)));
    let split = SplitOptions { max_tokens: 254, first_max_tokens: 254, overlap_tokens: 0 };
    group.bench_function("passages", |b| {
        b.iter(|| split_passages(&text, &[], &split, &|piece: &str| encoder.token_spans(piece)));
    });
}

criterion_group!(benches, hot);
criterion_main!(benches);
