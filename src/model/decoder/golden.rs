//! Tiny decoders of every family against the logits of `transformers`; tests/data/make_tiny_decoders.py made both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::load::{load_shared, written};
use super::session::{DecoderOptions, DecoderSession, Run, Step};
use super::tests::{cosine, options, runtime};
use super::{GRAPH_DIR, GRAPH_FILE, import_safetensors};

#[derive(Deserialize)]
struct Golden {
    ids: Vec<i64>,
    rows: Vec<usize>,
    logits: BTreeMap<String, Vec<Vec<f32>>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/decoders")
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(folder().join("logits.json")).unwrap()).unwrap()
}

fn of_context(tokens: usize, slots: usize) -> DecoderOptions {
    DecoderOptions { context_tokens: tokens, ..options(slots) }
}

/// Greatest difference of logits, in the standard deviation of those that are expected.
fn difference(got: &[f32], expected: &[f32]) -> f32 {
    let mean = expected.iter().sum::<f32>() / expected.len() as f32;
    let square = expected.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / expected.len() as f32;
    let greatest = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    greatest / square.sqrt()
}

/// Logits of all tokens of a text, run as one.
fn whole(session: &mut DecoderSession, ids: &[i64]) -> Vec<Vec<f32>> {
    let rows: Vec<i64> = (0..ids.len() as i64).collect();
    let runs = [Run { slot: 0, past: 0, tokens: ids.len() }];
    let logits = session.run(&Step { runs: &runs, ids, rows: &rows }).unwrap();
    logits.chunks_exact(logits.len() / ids.len()).map(<[f32]>::to_vec).collect()
}

#[test]
fn every_family_computes_what_transformers_does() {
    if !runtime() {
        return;
    }
    let golden = golden();
    assert_eq!(golden.logits.len(), 11);
    for (name, expected) in &golden.logits {
        let directory = tempfile::tempdir().unwrap();
        let model = directory.path().join("model");
        let imported = import_safetensors(&folder().join(name), &model).unwrap();
        assert_eq!(imported.precision, "fp32", "{name}");
        let graph = model.join(GRAPH_DIR).join(GRAPH_FILE);
        let mut session = DecoderSession::load(&graph, of_context(64, 2)).unwrap();
        let got = whole(&mut session, &golden.ids);
        for (&row, expected) in golden.rows.iter().zip(expected) {
            let difference = difference(&got[row], expected);
            assert!(difference < 2e-5, "{name}, token {row}: {difference}");
        }

        // The same to the bit in pieces, beside another text's tokens.
        let mut past = 0;
        for tokens in [5, 1, 1, 4, 12, 1, 16] {
            let runs = [Run { slot: 0, past: 30, tokens: 2 }, Run { slot: 1, past, tokens }];
            let ids = [&golden.ids[30..32], &golden.ids[past..past + tokens]].concat();
            let rows = [1, ids.len() as i64 - 1];
            past += tokens;
            let step = Step { runs: &runs, ids: &ids, rows: &rows };
            let logits = session.run(&step).unwrap().to_vec();
            let (first, second) = logits.split_at(logits.len() / 2);
            assert!(first == got[31] && second == got[past - 1], "{name}, token {past}");
        }
        assert_eq!(past, golden.ids.len());

        // The graph that CUDA gets.
        let mut half = load_shared(&graph, written(&graph).unwrap().unwrap(), of_context(64, 1)).unwrap();
        for (at, (half, got)) in whole(&mut half, &golden.ids).iter().zip(&got).enumerate() {
            assert!(cosine(half, got) > 0.999, "{name}, token {at} in 16-bit floats: {}", cosine(half, got));
        }
    }
}
