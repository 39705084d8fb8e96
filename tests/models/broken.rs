//! Models that cannot be used, each with an error that says why.

use std::path::Path;

use trove::encoder::check_model;
use trove::model::ModelDir;

use super::{copy, data, minilm, read_json, refused, tiny, write};

/// Changes a copy of the tiny model and gives the reason for which it is refused.
fn reason(change: impl FnOnce(&Path)) -> (&'static str, String) {
    let dir = copy(&tiny());
    change(dir.path());
    let error = refused(dir.path());
    (error.reason, error.message)
}

fn remove(dir: &Path, name: &str) {
    std::fs::remove_file(dir.join(name)).unwrap();
}

fn config(dir: &Path, key: &str, value: serde_json::Value) {
    let mut config = read_json(&dir.join("config.json"));
    config[key] = value;
    write(dir, "config.json", config.to_string());
}

#[test]
fn what_is_missing_is_named() {
    if data().is_none() {
        return;
    }
    let empty = tempfile::tempdir().unwrap();
    let error = refused(empty.path());
    assert!(error.reason == "MODEL_FILE_MISSING" && error.message.contains("config.json"), "{error}");
    assert_eq!(refused(&empty.path().join("none")).reason, "MODEL_NOT_FOUND");
    for name in ["config.json", "tokenizer.json", "onnx/model.onnx"] {
        let (reason, message) = reason(|dir| remove(dir, name));
        assert!(reason == "MODEL_FILE_MISSING" && message.contains(name), "{name}: {message}");
    }
}

#[test]
fn damaged_files_are_named() {
    if data().is_none() {
        return;
    }
    for name in ["config.json", "tokenizer.json", "onnx/model.onnx", "modules.json"] {
        let (reason, message) = reason(|dir| write(dir, name, b"\xff\x00 not what it should be"));
        assert!(reason == "DAMAGED_MODEL" && message.contains(name), "{name}: {reason} {message}");
    }
    let (reason, message) = reason(|dir| {
        let whole = std::fs::read(dir.join("onnx/model.onnx")).unwrap();
        write(dir, "onnx/model.onnx", &whole[..whole.len() / 2]);
    });
    assert!(reason == "DAMAGED_MODEL" && message.contains("onnx/model.onnx"), "{message}");
}

#[test]
fn damaged_weights_are_refused() {
    let Some(data) = data() else { return };
    let dir = copy(&minilm(&data));
    let whole = std::fs::read(dir.path().join("model.safetensors")).unwrap();
    let lie = |length: u64| [&length.to_le_bytes()[..], &whole[8..4096]].concat();
    for bytes in [&whole[..whole.len() - 1], &whole[..1000], &whole[..4], &[], &lie(u64::MAX), &lie(1 << 40)]
    {
        write(dir.path(), "model.safetensors", bytes);
        assert_eq!(refused(dir.path()).reason, "DAMAGED_MODEL", "{} bytes", bytes.len());
    }
    write(dir.path(), "model.safetensors", &whole);
    for (key, value) in [
        ("hidden_size", 512_u64),
        ("vocab_size", 1 << 60),
        ("num_hidden_layers", 1 << 60),
        ("intermediate_size", 1),
        ("max_position_embeddings", 1 << 60),
    ] {
        let before = read_json(&dir.path().join("config.json"));
        config(dir.path(), key, value.into());
        let error = refused(dir.path());
        let wrong = matches!(error.reason, "DAMAGED_MODEL" | "UNSUPPORTED_MODEL");
        assert!(wrong, "{key}: {} {error}", error.reason);
        write(dir.path(), "config.json", before.to_string());
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    if data().is_none() {
        return;
    }
    let (wrong, message) = reason(|dir| config(dir, "hidden_size", 24.into()));
    assert!(wrong == "UNSUPPORTED_MODEL" && message.contains("16") && message.contains("24"), "{message}");
    let (wrong, message) = reason(|dir| {
        let mut tokenizer = read_json(&dir.join("tokenizer.json"));
        tokenizer["model"]["vocab"]["beyond"] = 5000.into();
        write(dir, "tokenizer.json", tokenizer.to_string());
    });
    assert!(wrong == "VOCABULARY_MISMATCH" && message.contains("5000"), "{message}");
    let (wrong, message) = reason(|dir| config(dir, "max_position_embeddings", 4.into()));
    assert!(wrong == "UNSUPPORTED_MODEL" && message.contains("got 2"), "{message}");
    let (wrong, message) = reason(|dir| {
        let whole = std::fs::read(dir.join("onnx/model.onnx")).unwrap();
        // Names of one length in the same places, so the file stays whole.
        let renamed = replace(&whole, b"token_type_ids", b"another_input0");
        write(dir, "onnx/model.onnx", renamed);
    });
    assert!(wrong == "UNSUPPORTED_MODEL" && message.contains("another_input0"), "{message}");
    let (wrong, message) = reason(|dir| {
        let whole = std::fs::read(dir.join("onnx/model.onnx")).unwrap();
        write(dir, "onnx/model.onnx", replace(&whole, b"CumSum", b"NoSuch"));
    });
    assert!(wrong == "SESSION_FAILED" && message.contains("NoSuch"), "{message}");
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(from.len()).position(|w| w == from) {
        bytes[at + found..at + found + to.len()].copy_from_slice(to);
        at += found + to.len();
    }
    bytes
}

#[test]
fn a_check_finds_what_a_load_would() {
    if data().is_none() {
        return;
    }
    assert!(check_model(&tiny(), true).is_ok());
    let dir = copy(&tiny());
    config(dir.path(), "hidden_size", 24.into());
    assert!(ModelDir::open(dir.path()).is_ok(), "only a session tells");
    assert_eq!(check_model(dir.path(), true).unwrap_err().reason, "UNSUPPORTED_MODEL");
}
