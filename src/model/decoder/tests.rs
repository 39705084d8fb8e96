//! Small models of random weights against plain arithmetic.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use prost::Message;

use super::config::{Activation, Block, DecoderConfig, Family, Rope};
use super::graph::{self, GRAPH_FILE};
use super::load as loading;
use super::session::{DecoderOptions, DecoderSession, Run, Sharing, Step};
use super::tensors::{Source, Tensor};
use super::{DecoderDir, import_gguf, import_safetensors};
use crate::model::gguf::builder::{Builder, block, put_string};
use crate::model::gguf::{Gguf, TensorType, Weights};
use crate::model::onnx::{Axis, INT32, INT64, Model, Node, Tensor as Initializer, ValueInfo};
use crate::model::{CudaOptions, Device, Runtime};

const CONFIG: Sizes = Sizes {
    layers: 2,
    hidden: 256,
    inner: 512,
    heads: 4,
    kv_heads: 2,
    head: 64,
    vocabulary: 50,
    context: 600,
    norm_epsilon: 1e-5,
};
const IDS: [i64; 7] = [3, 49, 0, 7, 7, 21, 13];

#[derive(Clone, Copy)]
struct Sizes {
    layers: usize,
    hidden: usize,
    inner: usize,
    heads: usize,
    kv_heads: usize,
    head: usize,
    vocabulary: usize,
    context: usize,
    norm_epsilon: f32,
}

/// A llama of those sizes.
fn llama() -> DecoderConfig {
    let Sizes { hidden, inner, heads, kv_heads, head, vocabulary, context, norm_epsilon, .. } = CONFIG;
    DecoderConfig {
        family: Family::Llama,
        blocks: vec![Block { window: None, rope: Some(0) }; CONFIG.layers],
        ropes: vec![Rope::scaled(10000.0, head / 2, 1.0)],
        hidden,
        inner,
        heads,
        kv_heads,
        head,
        vocabulary,
        context,
        interleaved: true,
        tied: true,
        norm_epsilon,
        norm_shift: 0.0,
        embedding_scale: None,
        score_scale: 1.0 / (head as f32).sqrt(),
        score_cap: None,
        logit_cap: None,
        activation: Activation::Silu,
    }
}

pub(super) fn runtime() -> bool {
    let data = PathBuf::from(std::env::var("TROVE_DATA_DIR").unwrap_or_else(|_| ".trove".to_owned()));
    if !data.join("runtime").is_dir() && std::env::var_os("CI").is_none() {
        eprintln!("skipped: no runtime library in {}; run scripts/fetch.py", data.display());
        return false;
    }
    Runtime::init(&data.join("runtime")).unwrap();
    true
}

/// The same numbers on every machine.
struct Random(u64);

impl Random {
    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 56) as u8
    }

    fn float(&mut self) -> f32 {
        (f32::from(self.byte()) - 127.5) / 1500.0
    }
}

/// All tensors with their rows and columns; those with one row are norms.
fn tensors(tied: bool) -> Vec<(Tensor, usize, usize)> {
    let Sizes { layers, hidden, inner, heads, kv_heads, head, vocabulary, .. } = CONFIG;
    let mut all = vec![(Tensor::Embedding, vocabulary, hidden), (Tensor::OutputNorm, 1, hidden)];
    if !tied {
        all.push((Tensor::Output, vocabulary, hidden));
    }
    for layer in 0..layers {
        all.extend([
            (Tensor::AttentionNorm(layer), 1, hidden),
            (Tensor::Query(layer), heads * head, hidden),
            (Tensor::Key(layer), kv_heads * head, hidden),
            (Tensor::Value(layer), kv_heads * head, hidden),
            (Tensor::AttentionOutput(layer), hidden, heads * head),
            (Tensor::InnerNorm(layer), 1, hidden),
            (Tensor::Gate(layer), inner, hidden),
            (Tensor::Up(layer), inner, hidden),
            (Tensor::Down(layer), hidden, inner),
        ]);
    }
    all
}

fn random_blocks(kind: TensorType, count: usize, random: &mut Random) -> Vec<u8> {
    let halves: &[(usize, f32)] = match kind {
        TensorType::Q4_1 => &[(0, 0.02), (2, -0.14)],
        TensorType::Q5_1 => &[(0, 0.01), (2, -0.14)],
        TensorType::Q4_0 | TensorType::Q5_0 => &[(0, 0.01)],
        TensorType::Q8_0 => &[(0, 0.001)],
        TensorType::Q4K => &[(0, 0.0004), (2, 0.003)],
        TensorType::Q5K => &[(0, 0.0002), (2, 0.003)],
        TensorType::Q6K => &[(208, 0.00003)],
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 => &[],
    };
    let values = count / kind.block().0;
    match kind {
        TensorType::F32 => (0..count).flat_map(|_| random.float().to_le_bytes()).collect(),
        TensorType::F16 => {
            (0..count).flat_map(|_| half::f16::from_f32(random.float()).to_le_bytes()).collect()
        }
        TensorType::Bf16 => {
            (0..count).flat_map(|_| half::bf16::from_f32(random.float()).to_le_bytes()).collect()
        }
        _ => (0..values)
            .flat_map(|_| {
                let bytes: Vec<u8> = (0..kind.block().1).map(|_| random.byte()).collect();
                block(kind, halves, |at| bytes[at])
            })
            .collect(),
    }
}

/// A file whose matrices have the types of their numbers.
fn gguf(tied: bool, kind_of: impl Fn(Tensor) -> u32) -> tempfile::NamedTempFile {
    let mut random = Random(7);
    let text = |text: &str| {
        let mut bytes = Vec::new();
        put_string(&mut bytes, text);
        bytes
    };
    let number = |n: usize| (n as u32).to_le_bytes();
    let mut builder = Builder::new()
        .value("general.architecture", 8, &text("llama"))
        .value("llama.block_count", 4, &number(CONFIG.layers))
        .value("llama.context_length", 4, &number(CONFIG.context))
        .value("llama.embedding_length", 4, &number(CONFIG.hidden))
        .value("llama.feed_forward_length", 4, &number(CONFIG.inner))
        .value("llama.attention.head_count", 4, &number(CONFIG.heads))
        .value("llama.attention.head_count_kv", 4, &number(CONFIG.kv_heads))
        .value("llama.attention.layer_norm_rms_epsilon", 6, &CONFIG.norm_epsilon.to_le_bytes());
    for (tensor, rows, columns) in tensors(tied) {
        if rows == 1 {
            let data: Vec<u8> = (0..columns).flat_map(|_| (1.0 + random.float()).to_le_bytes()).collect();
            builder = builder.tensor(&tensor.gguf_name(), &[columns as u64], 0, &data);
            continue;
        }
        let number = kind_of(tensor);
        let kind = TensorType::from_number(number).unwrap();
        let data = random_blocks(kind, rows * columns, &mut random);
        builder = builder.tensor(&tensor.gguf_name(), &[columns as u64, rows as u64], number, &data);
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&builder.build()).unwrap();
    file
}

fn run(slot: usize, past: usize, tokens: usize) -> Run {
    Run { slot, past, tokens }
}

pub(super) fn options(slots: usize) -> DecoderOptions {
    DecoderOptions {
        device: Device::Cpu,
        threads: 1,
        spinning: false,
        context_tokens: CONFIG.context,
        slots,
        cuda: CudaOptions::default(),
    }
}

fn load(graph: &Path, slots: usize) -> DecoderSession {
    DecoderSession::load(graph, options(slots)).unwrap()
}

/// Logits of every position, by the book: Llama as in `transformers`' `modeling_llama.py`.
fn reference(source: &dyn Source, config: &DecoderConfig, ids: &[i64]) -> Vec<Vec<f32>> {
    let matrix = |tensor, rows, columns| -> Vec<f32> {
        match source.matrix(tensor, rows, columns).unwrap() {
            Weights::Dense(values) => values,
            Weights::Blocks(blocks) => blocks.to_floats(),
        }
    };
    let product = |weights: &[f32], x: &[f64]| -> Vec<f64> {
        let row = |row: &[f32]| row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum();
        weights.chunks_exact(x.len()).map(row).collect()
    };
    let norm = |x: &[f64], weights: &[f32]| -> Vec<f64> {
        let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let factor = 1.0 / (mean + f64::from(config.norm_epsilon)).sqrt();
        x.iter().zip(weights).map(|(v, &w)| v * factor * f64::from(w)).collect()
    };
    let (hidden, head) = (config.hidden, config.head);
    let rotate = |x: &mut [f64], position: usize| {
        for x in x.chunks_exact_mut(head) {
            for pair in 0..head / 2 {
                let angle = position as f64 * config.ropes[0].base.powf(-2.0 * pair as f64 / head as f64);
                let (a, b) =
                    if config.interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + head / 2) };
                let (u, v) = (x[a], x[b]);
                x[a] = u * angle.cos() - v * angle.sin();
                x[b] = v * angle.cos() + u * angle.sin();
            }
        }
    };
    let embedding = matrix(Tensor::Embedding, config.vocabulary, hidden);
    let row = |id: &i64| embedding[*id as usize * hidden..][..hidden].iter().map(|&x| f64::from(x)).collect();
    let mut states: Vec<Vec<f64>> = ids.iter().map(row).collect();
    let (wide, narrow) = (config.heads * head, config.kv_heads * head);
    for layer in 0..config.layers() {
        let weights = source.vector(Tensor::AttentionNorm(layer), hidden).unwrap();
        let inputs: Vec<_> = states.iter().map(|x| norm(x, &weights)).collect();
        let project = |tensor, rows| -> Vec<Vec<f64>> {
            let weights = matrix(tensor, rows, hidden);
            inputs.iter().map(|x| product(&weights, x)).collect()
        };
        let mut queries = project(Tensor::Query(layer), wide);
        let mut keys = project(Tensor::Key(layer), narrow);
        let values = project(Tensor::Value(layer), narrow);
        queries.iter_mut().chain(&mut keys).enumerate().for_each(|(i, x)| rotate(x, i % ids.len()));
        let output = matrix(Tensor::AttentionOutput(layer), hidden, wide);
        for (at, query) in queries.iter().enumerate() {
            let mut attended = Vec::with_capacity(wide);
            for (number, query) in query.chunks_exact(head).enumerate() {
                let from = number / (config.heads / config.kv_heads) * head;
                let score = |key: &Vec<f64>| {
                    query.iter().zip(&key[from..]).map(|(a, b)| a * b).sum::<f64>() / (head as f64).sqrt()
                };
                let weights: Vec<f64> = keys[..=at].iter().map(|key| score(key).exp()).collect();
                let total: f64 = weights.iter().sum();
                for i in 0..head {
                    let sum: f64 = weights.iter().zip(&values).map(|(w, v)| w * v[from + i]).sum();
                    attended.push(sum / total);
                }
            }
            let added = product(&output, &attended);
            states[at].iter_mut().zip(added).for_each(|(x, y)| *x += y);
        }
        let weights = source.vector(Tensor::InnerNorm(layer), hidden).unwrap();
        let gate = matrix(Tensor::Gate(layer), config.inner, hidden);
        let up = matrix(Tensor::Up(layer), config.inner, hidden);
        let down = matrix(Tensor::Down(layer), hidden, config.inner);
        for state in &mut states {
            let input = norm(state, &weights);
            let gate = product(&gate, &input).into_iter().map(|x| x / (1.0 + (-x).exp()));
            let inner: Vec<f64> = gate.zip(product(&up, &input)).map(|(a, b)| a * b).collect();
            state.iter_mut().zip(product(&down, &inner)).for_each(|(x, y)| *x += y);
        }
    }
    let weights = source.vector(Tensor::OutputNorm, hidden).unwrap();
    let output = if config.tied { embedding } else { matrix(Tensor::Output, config.vocabulary, hidden) };
    let logits = states.iter().map(|x| product(&output, &norm(x, &weights)));
    logits.map(|row| row.into_iter().map(|x| x as f32).collect()).collect()
}

pub(super) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn prefill(session: &mut DecoderSession, slot: usize, ids: &[i64]) -> Vec<f32> {
    let rows: Vec<i64> = (0..ids.len() as i64).collect();
    session.run(&Step { runs: &[run(slot, 0, ids.len())], ids, rows: &rows }).unwrap().to_vec()
}

#[test]
fn every_type_of_weights_computes_what_the_book_says() {
    if !runtime() {
        return;
    }
    type KindOf = fn(Tensor) -> u32;
    // As files mix them: the value and down matrices in more bits.
    let mixed: KindOf = |tensor| match tensor {
        Tensor::Value(_) | Tensor::Down(_) | Tensor::Embedding => 14,
        Tensor::Up(_) => 13,
        _ => 12,
    };
    let cases: [(KindOf, bool, &str, f64); 12] = [
        (|_| 0, true, "fp32", 1.0 - 1e-9),
        (|_| 1, false, "fp32", 1.0 - 1e-9),
        (|_| 30, true, "fp32", 1.0 - 1e-9),
        (|_| 2, true, "int4", 0.999),
        (|_| 3, false, "int4", 0.999),
        (|tensor| if tensor == Tensor::Embedding { 8 } else { 3 }, true, "int4", 0.999),
        (|_| 6, true, "int5", 0.999),
        (|_| 7, true, "int5", 0.999),
        (|_| 8, false, "int8", 0.999),
        (|_| 12, true, "int4", 0.999),
        (|_| 14, true, "int6", 0.999),
        (mixed, true, "int4", 0.999),
    ];
    for (number, (kind_of, tied, expected, least)) in cases.into_iter().enumerate() {
        let file = gguf(tied, kind_of);
        let file = Gguf::open(file.path()).unwrap();
        let config = DecoderConfig::from_gguf(&file).unwrap();
        assert_eq!(config.tied, tied);
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(graph::write(&config, &file, directory.path()).unwrap(), expected, "case {number}");
        let mut session = load(&directory.path().join(GRAPH_FILE), 1);
        let got = prefill(&mut session, 0, &IDS);
        for (row, expected) in got.chunks_exact(CONFIG.vocabulary).zip(reference(&file, &config, &IDS)) {
            let cosine = cosine(row, &expected);
            assert!(cosine > least, "case {number}: cosine {cosine}: {row:?} {expected:?}");
        }
    }
}

/// A small model's graph, as it is written.
fn small_graph() -> tempfile::TempDir {
    let file = gguf(true, |tensor| if tensor == Tensor::Embedding { 8 } else { 3 });
    let file = Gguf::open(file.path()).unwrap();
    let config = DecoderConfig::from_gguf(&file).unwrap();
    let directory = tempfile::tempdir().unwrap();
    graph::write(&config, &file, directory.path()).unwrap();
    directory
}

fn last_token(session: &mut DecoderSession, slot: usize, past: usize) -> Vec<f32> {
    let rows = [(IDS.len() - past - 1) as i64];
    let runs = [run(slot, past, IDS.len() - past)];
    session.run(&Step { runs: &runs, ids: &IDS[past..], rows: &rows }).unwrap().to_vec()
}

fn chunks_and_moved_caches(session: &mut DecoderSession, same: impl Fn(&[f32], &[f32]) -> bool) {
    let whole = prefill(session, 0, &IDS);
    let row = |at: usize| &whole[at * CONFIG.vocabulary..][..CONFIG.vocabulary];

    session.run(&Step { runs: &[run(1, 0, 4)], ids: &IDS[..4], rows: &[3] }).unwrap();
    assert!(same(&last_token(session, 1, 4), row(6)));
    // What is behind the past is overwritten, as it is after a draft that was wrong.
    assert!(same(&last_token(session, 1, 4), row(6)));
    // Rows of different length: slot 0 at its last token, slot 1 at its third, slot 2 at its first.
    let ids = [IDS[6], IDS[2], IDS[0]];
    let together = [run(0, 6, 1), run(1, 2, 1), run(2, 0, 1)];
    let got = session.run(&Step { runs: &together, ids: &ids, rows: &[2, 1, 0] }).unwrap().to_vec();
    for (got, at) in got.chunks_exact(CONFIG.vocabulary).zip([0, 2, 6]) {
        assert!(same(got, row(at)), "token {at}");
    }
    session.copy(0, 2, 6).unwrap();
    assert!(same(&last_token(session, 2, 6), row(6)));
    session.swap(1, 2, 7).unwrap();
    assert!(same(&last_token(session, 1, 6), row(6)));

    let bad = [
        Step { runs: &[run(3, 0, 7)], ids: &IDS, rows: &[0] },
        Step { runs: &[run(0, CONFIG.context, 1)], ids: &[1], rows: &[0] },
        Step { runs: &[run(0, 0, 2), run(0, 2, 2)], ids: &IDS[..4], rows: &[0] },
        Step { runs: &[run(0, 0, 3)], ids: &IDS[..4], rows: &[0] },
        Step { runs: &[run(0, 0, 1), run(1, 0, 0)], ids: &IDS[..1], rows: &[0] },
        Step { runs: &[run(0, 0, 1)], ids: &[50], rows: &[0] },
        Step { runs: &[run(0, 0, 1)], ids: &[-1], rows: &[0] },
        Step { runs: &[run(0, 0, 7)], ids: &IDS, rows: &[7] },
        Step { runs: &[run(0, 0, 7)], ids: &IDS, rows: &[] },
        Step { runs: &[], ids: &[], rows: &[0] },
    ];
    for step in bad {
        assert_eq!(session.run(&step).unwrap_err().reason, "INFERENCE_FAILED", "{step:?}");
    }
    assert_eq!(session.copy(0, 3, 1).unwrap_err().reason, "INFERENCE_FAILED");
}

/// On the CPU to the bit, and for steps of any mixture.
#[test]
fn chunks_batches_and_moved_caches_change_nothing() {
    if !runtime() {
        return;
    }
    let directory = small_graph();
    let mut session = load(&directory.path().join(GRAPH_FILE), 3);
    assert_eq!(session.sharing(), Sharing::Any);
    chunks_and_moved_caches(&mut session, |a, b| a == b);

    let whole = prefill(&mut session, 0, &IDS);
    session.run(&Step { runs: &[run(1, 0, 3)], ids: &IDS[..3], rows: &[0] }).unwrap();
    // One decodes its last token, one has two drafted, one starts its prompt.
    let ids = [&IDS[6..], &IDS[3..6], &IDS[..2]].concat();
    let runs = [run(0, 6, 1), run(1, 3, 3), run(2, 0, 2)];
    let got = session.run(&Step { runs: &runs, ids: &ids, rows: &[0, 1, 2, 3, 4, 5] }).unwrap();
    for (got, at) in got.chunks_exact(CONFIG.vocabulary).zip([6, 3, 4, 5, 0, 1]) {
        assert!(got == &whole[at * CONFIG.vocabulary..][..CONFIG.vocabulary], "token {at}");
    }
}

/// Keys come in chunks of 256 and tokens in tiles of 16: a text of both, whole and in pieces.
#[test]
fn long_texts_compute_what_the_book_says_in_any_pieces() {
    if !runtime() {
        return;
    }
    let file = gguf(true, |_| 0);
    let file = Gguf::open(file.path()).unwrap();
    let config = DecoderConfig::from_gguf(&file).unwrap();
    let directory = tempfile::tempdir().unwrap();
    graph::write(&config, &file, directory.path()).unwrap();
    let mut session = load(&directory.path().join(GRAPH_FILE), 2);
    let ids: Vec<i64> = (0..530).map(|n| n * n % 50).collect();
    let whole = prefill(&mut session, 0, &ids);
    let row = |at: usize| &whole[at * CONFIG.vocabulary..][..CONFIG.vocabulary];
    let expected = reference(&file, &config, &ids);
    for at in [0, 15, 16, 255, 256, 511, 512, 529] {
        assert!(cosine(row(at), &expected[at]) > 1.0 - 1e-9, "token {at}");
    }
    let mut past = 0;
    for tokens in [250, 3, 1, 1, 1, 2, 200, 53, 1, 18] {
        let runs = [run(1, past, tokens)];
        let rows = [tokens as i64 - 1];
        let step = Step { runs: &runs, ids: &ids[past..past + tokens], rows: &rows };
        past += tokens;
        assert!(session.run(&step).unwrap() == row(past - 1), "token {}", past - 1);
    }
    assert_eq!(past, ids.len());
}

/// The graph that CUDA gets, in 16-bit floats with caches that are past and present, on the CPU: it computes what the other
/// one does.
#[test]
fn the_graph_in_half_precision_computes_the_same() {
    if !runtime() {
        return;
    }
    let directory = small_graph();
    let path = directory.path().join(GRAPH_FILE);
    let model = loading::written(&path).unwrap().unwrap();
    let mut half = loading::load_shared(&path, model, options(3)).unwrap();
    assert_eq!(half.sharing(), Sharing::Neighbours);
    chunks_and_moved_caches(&mut half, |a, b| cosine(a, b) > 0.9999);
    let runs = [run(0, 0, 1), run(2, 0, 1)];
    assert!(half.run(&Step { runs: &runs, ids: &[1, 1], rows: &[0] }).is_err());
    let runs = [run(0, 0, 2), run(1, 0, 2)];
    assert!(half.run(&Step { runs: &runs, ids: &[1; 4], rows: &[0] }).is_err());

    let mut whole = load(&path, 1);
    let (half, whole) = (prefill(&mut half, 0, &IDS), prefill(&mut whole, 0, &IDS));
    for (half, whole) in half.chunks_exact(CONFIG.vocabulary).zip(whole.chunks_exact(CONFIG.vocabulary)) {
        assert!(cosine(half, whole) > 0.999);
    }
}

/// Older versions wrote products of 4 and 8 bits, whose offsets are added by an operator of their own.
#[test]
fn graphs_of_older_versions_compute_the_same() {
    if !runtime() {
        return;
    }
    let directory = small_graph();
    let path = directory.path().join(GRAPH_FILE);
    let mut model = loading::written(&path).unwrap().unwrap();
    let weights = super::standard::to_standard(&mut model, directory.path()).unwrap();
    let op_types = |model: &Model| -> Vec<String> {
        model.graph.iter().flat_map(|graph| &graph.node).map(|node| node.op_type.clone()).collect()
    };
    assert!(op_types(&model).iter().any(|op| op == "MatMulNBits"));
    assert!(op_types(&model).iter().all(|op| op != "BlockProduct"));
    let mut old = loading::load_slots(&path, model, weights, options(3)).unwrap();
    chunks_and_moved_caches(&mut old, |a, b| a == b);
    let (old, new) = (prefill(&mut old, 0, &IDS), prefill(&mut load(&path, 1), 0, &IDS));
    for (old, new) in old.chunks_exact(CONFIG.vocabulary).zip(new.chunks_exact(CONFIG.vocabulary)) {
        assert!(cosine(old, new) > 0.999, "{}", cosine(old, new));
    }
}

/// Gives a graph the inputs and outputs of ready-made exports.
fn to_hub_layout(path: &Path) {
    let mut model = Model::decode(std::fs::read(path).unwrap().as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    graph
        .input
        .retain(|input| !["seqlens_k", "total_sequence_length", "logit_rows"].contains(&input.name.as_str()));
    let axes = |second| vec![Axis::Free("batch"), Axis::Free(second)];
    graph.input.push(ValueInfo::tensor("attention_mask", INT64, axes("total")));
    graph.input.push(ValueInfo::tensor("position_ids", INT64, axes("sequence")));
    let scalar =
        |name, value| Initializer { dims: Vec::new(), ..Initializer::integers(name, &[1], &[value]) };
    graph.initializer.extend([
        Initializer::integers("hub.axis", &[1], &[1]),
        scalar("hub.zero", 0),
        scalar("hub.one", 1),
    ]);
    let nodes = [
        Node::new("ReduceSum", "", &["attention_mask", "hub.axis"], "hub.length").int("keepdims", 0),
        Node::new("Sub", "", &["hub.length", "hub.one"], "hub.last"),
        Node::new("Cast", "", &["hub.last"], "seqlens_k").int("to", INT32.into()),
        Node::new("Shape", "", &["attention_mask"], "hub.shape"),
        Node::new("Gather", "", &["hub.shape", "hub.one"], "hub.total"),
        Node::new("Cast", "", &["hub.total"], "total_sequence_length").int("to", INT32.into()),
        Node::new("Shape", "", &["input_ids"], "hub.rows"),
        Node::new("Gather", "", &["hub.rows", "hub.one"], "hub.count"),
        Node::new("Range", "", &["hub.zero", "hub.count", "hub.one"], "logit_rows"),
    ];
    graph.node.splice(0..0, nodes);
    std::fs::write(path, model.encode_to_vec()).unwrap();
}

#[test]
fn ready_made_graphs_run_with_growing_caches() {
    if !runtime() {
        return;
    }
    let file = gguf(true, |_| 0);
    let file = Gguf::open(file.path()).unwrap();
    let config = DecoderConfig::from_gguf(&file).unwrap();
    let directory = tempfile::tempdir().unwrap();
    graph::write(&config, &file, directory.path()).unwrap();
    let path = directory.path().join(GRAPH_FILE);
    let expected = prefill(&mut load(&path, 1), 0, &IDS);
    to_hub_layout(&path);
    let mut session = load(&path, 2);
    assert_eq!(session.sharing(), Sharing::Alone);
    let close = |got: &[f32], at: usize| {
        let expected = &expected[at * CONFIG.vocabulary..][..CONFIG.vocabulary];
        got.len() == expected.len() && got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4)
    };
    assert!(close(session.run(&Step { runs: &[run(0, 0, 4)], ids: &IDS[..4], rows: &[3] }).unwrap(), 3));
    assert!(close(session.run(&Step { runs: &[run(0, 4, 3)], ids: &IDS[4..], rows: &[2] }).unwrap(), 6));
    // Back to an earlier past, as after a draft that was wrong, and in another slot.
    assert!(close(session.run(&Step { runs: &[run(0, 2, 2)], ids: &IDS[2..4], rows: &[1] }).unwrap(), 3));
    session.copy(0, 1, 3).unwrap();
    assert!(close(session.run(&Step { runs: &[run(1, 3, 3)], ids: &IDS[3..6], rows: &[2] }).unwrap(), 5));
    session.swap(0, 1, 6).unwrap();
    assert!(close(session.run(&Step { runs: &[run(0, 6, 1)], ids: &IDS[6..], rows: &[0] }).unwrap(), 6));
    assert!(close(session.run(&Step { runs: &[run(0, 0, 1)], ids: &IDS[..1], rows: &[0] }).unwrap(), 0));
    // It has no eight tokens.
    assert!(session.run(&Step { runs: &[run(1, 8, 1)], ids: &IDS[..1], rows: &[0] }).is_err());
}

#[test]
fn safetensors_compute_what_the_book_says() {
    if !runtime() {
        return;
    }
    let mut random = Random(3);
    let mut data: HashMap<String, (Vec<usize>, Vec<u8>)> = HashMap::new();
    for (tensor, rows, columns) in tensors(false) {
        let add = if rows == 1 { 1.0 } else { 0.0 };
        let bytes = (0..rows * columns).flat_map(|_| (random.float() + add).to_le_bytes()).collect();
        let shape = if rows == 1 { vec![columns] } else { vec![rows, columns] };
        data.insert(tensor.hub_name(false), (shape, bytes));
    }
    let views = data.iter().map(|(name, (shape, bytes))| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("model");
    std::fs::create_dir(&dir).unwrap();
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(dir.join("model.safetensors"), &bytes).unwrap();
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": CONFIG.hidden, "intermediate_size": CONFIG.inner,
        "num_hidden_layers": CONFIG.layers, "num_attention_heads": CONFIG.heads,
        "num_key_value_heads": CONFIG.kv_heads, "vocab_size": CONFIG.vocabulary,
        "max_position_embeddings": CONFIG.context, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let imported = import_safetensors(&dir, &dir).unwrap();
    assert_eq!((imported.precision.as_str(), imported.vocabulary), ("fp32", CONFIG.vocabulary));
    let got = prefill(&mut load(&dir.join("onnx").join(GRAPH_FILE), 1), 0, &IDS);
    let config = DecoderConfig { interleaved: false, tied: false, ..llama() };
    let source = super::safetensors::Safetensors::open(&dir, &config).unwrap();
    for (row, expected) in got.chunks_exact(CONFIG.vocabulary).zip(reference(&source, &config, &IDS)) {
        assert!(cosine(row, &expected) > 1.0 - 1e-9);
    }
    assert_eq!(DecoderDir::open(&dir).unwrap_err().reason, "MODEL_FILE_MISSING");
}

#[test]
fn files_that_are_no_llama_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let import = |file: &Path| import_gguf(file, &directory.path().join("model")).unwrap_err();
    let error = import(gguf(true, |_| 8).path());
    assert_eq!(error.reason, "UNSUPPORTED_MODEL");
    assert!(error.message.contains("tokenizer"), "{}", error.message);
    let other = directory.path().join("other.gguf");
    let mut text = Vec::new();
    put_string(&mut text, "mamba");
    std::fs::write(&other, Builder::new().value("general.architecture", 8, &text).build()).unwrap();
    let message = import(&other).message;
    assert!(message.contains("mamba") && message.contains("qwen2"), "{message}");
    std::fs::write(&other, Builder::new().value("split.count", 2, &3_u16.to_le_bytes()).build()).unwrap();
    assert!(import(&other).message.contains("3 parts"));
    std::fs::write(&other, b"GGUF").unwrap();
    assert_eq!(import(&other).reason, "DAMAGED_MODEL");
    // Nothing of a failed import is left.
    let left: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["other.gguf"]);

    let mut random = Random(1);
    let extra = Builder::new().tensor(
        "blk.0.attn_q.bias",
        &[32],
        8,
        &random_blocks(TensorType::Q8_0, 32, &mut random),
    );
    std::fs::write(&other, extra.build()).unwrap();
    let file = Gguf::open(&other).unwrap();
    let error = graph::write(&llama(), &file, directory.path()).unwrap_err();
    assert!(error.message.contains("attn_q.bias"), "{}", error.message);
}
