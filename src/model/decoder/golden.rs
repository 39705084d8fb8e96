//! Tiny decoders of every family against the logits of `transformers`; tests/data/make_tiny_decoders.py made both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::config::DecoderConfig;
use super::graph;
use super::load::{load_shared, written};
use super::session::{DecoderOptions, DecoderSession, Run, Step};
use super::tests::{cosine, options, runtime};
use super::{DecoderImport, GRAPH_DIR, GRAPH_FILE, import_safetensors};
use crate::model::gguf::Gguf;

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

/// The same models as GGUF files, whose weights are rounded to 16-bit floats.
#[test]
fn gguf_files_compute_what_transformers_does() {
    if !runtime() {
        return;
    }
    let golden = golden();
    for name in ["llama", "llama3", "smollm3", "qwen2", "qwen3", "phi3_long", "gemma2", "gemma3"] {
        let file = Gguf::open(&folder().join(format!("{name}.gguf"))).unwrap();
        let config = DecoderConfig::from_gguf(&file).unwrap();
        let from_hub = std::fs::read(folder().join(name).join("config.json")).unwrap();
        let from_hub = DecoderConfig::from_json(&from_hub).unwrap();
        assert_eq!((config.tied, &config.blocks), (from_hub.tied, &from_hub.blocks), "{name}");
        let directory = tempfile::tempdir().unwrap();
        // Gemma's scores are scaled by another width here, which GGUF files do not tell.
        let config = DecoderConfig { score_scale: from_hub.score_scale, ..config };
        graph::write(&config, &file, directory.path()).unwrap();
        let graph = directory.path().join(GRAPH_FILE);
        let mut session = DecoderSession::load(&graph, of_context(64, 1)).unwrap();
        let got = whole(&mut session, &golden.ids);
        for (&row, expected) in golden.rows.iter().zip(&golden.logits[name]) {
            let difference = difference(&got[row], expected);
            assert!(difference < 1e-3, "{name}, token {row}: {difference}");
        }
    }
}

#[test]
fn several_files_are_read_by_their_index() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    std::fs::create_dir(&source).unwrap();
    for entry in std::fs::read_dir(folder().join("qwen3")).unwrap().flatten() {
        std::fs::copy(entry.path(), source.join(entry.file_name())).unwrap();
    }
    let import = || import_safetensors(&source, &directory.path().join("model"));
    assert!(import().unwrap().bytes > 100_000);
    let part = source.join("model-00002-of-00002.safetensors");
    let whole = std::fs::read(&part).unwrap();

    let refused = |expected: &str, named: &str| {
        let error = import().unwrap_err();
        assert_eq!(error.reason, expected, "{error:?}");
        assert!(error.message.contains(named), "{}", error.message);
    };
    for cut in [0, 4, 9, 300, whole.len() - 1] {
        std::fs::write(&part, &whole[..cut]).unwrap();
        refused("DAMAGED_MODEL", "model-00002-of-00002.safetensors");
    }
    std::fs::write(&part, [&whole[..], b"more"].concat()).unwrap();
    refused("DAMAGED_MODEL", "expected");
    std::fs::remove_file(&part).unwrap();
    refused("MODEL_FILE_MISSING", "model-00002-of-00002.safetensors");
    std::fs::write(&part, &whole).unwrap();

    let index = source.join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, text.replace("model-00002-of", "../model-00002-of")).unwrap();
    refused("DAMAGED_MODEL", "inside the directory");
    std::fs::write(&index, text.replace("model.norm.weight", "model.form.weight")).unwrap();
    refused("DAMAGED_MODEL", "model.form.weight");
    std::fs::write(&index, "{").unwrap();
    refused("DAMAGED_MODEL", "index.json");
    std::fs::write(&index, &text).unwrap();
    import().unwrap();
}

#[test]
fn a_directory_without_a_tokenizer_is_refused_before_its_weights_are_read() {
    let models = tempfile::tempdir().unwrap();
    let source = folder().join("qwen2");
    let import = DecoderImport { source: &source, models: models.path(), name: "tiny", replace: false };
    let error = import.run().unwrap_err();
    assert_eq!(error.reason, "MODEL_FILE_MISSING");
    assert!(error.message.contains("tokenizer.json"), "{}", error.message);
    assert!(std::fs::read_dir(models.path()).unwrap().flatten().all(|entry| !entry.path().is_dir()));
}
