use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use tokenizers::Tokenizer;

use super::*;
use crate::model::gguf::builder::{Builder, put_string};

#[derive(Deserialize)]
struct Golden {
    vocabulary: usize,
    ids: Vec<(String, Vec<u32>)>,
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/decoders")
}

/// tests/data/make_tiny_decoders.py trained the tokenizer and let SentencePiece encode the texts.
#[test]
fn a_sentencepiece_vocabulary_gives_the_tokens_of_sentencepiece() {
    let golden = std::fs::read(folder().join("sentencepiece.json")).unwrap();
    let golden: Golden = serde_json::from_slice(&golden).unwrap();
    let file = Gguf::open(&folder().join("sentencepiece.gguf")).unwrap();
    let files = build(&file, golden.vocabulary, 64).unwrap();
    assert_eq!((files.start_id, files.end_ids.as_slice()), (Some(1), [2].as_slice()));
    assert_eq!(files.tokenizer_config["bos_token"], "<s>");
    let tokenizer: Tokenizer = files.tokenizer.to_string().parse().unwrap();
    assert_eq!(golden.ids.len(), 5);
    for (text, expected) in golden.ids {
        let got = tokenizer.encode(text.as_str(), false).unwrap();
        assert_eq!(got.get_ids(), expected, "{text:?}");
        assert_eq!(tokenizer.decode(got.get_ids(), true).unwrap(), text);
        let started = tokenizer.encode(text.as_str(), true).unwrap();
        assert_eq!(started.get_ids(), [&[1], expected.as_slice()].concat(), "with the start");
    }
}

fn strings(list: &[&str]) -> Vec<u8> {
    let mut bytes = [8_u32.to_le_bytes().as_slice(), &(list.len() as u64).to_le_bytes()].concat();
    list.iter().for_each(|text| put_string(&mut bytes, text));
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_string(&mut bytes, text);
    bytes
}

#[test]
fn what_is_missing_or_unknown_is_named() {
    let refused = |builder: Builder| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&builder.build()).unwrap();
        let error = build(&Gguf::open(file.path()).unwrap(), 2, 8).unwrap_err();
        (error.reason, error.message)
    };
    let expect = |builder: Builder, reason: &str, named: &str| {
        let (got, message) = refused(builder);
        assert_eq!(got, reason, "{message}");
        assert!(message.contains(named), "{message}");
    };
    let with = |model: &str| {
        let tokens = strings(&["a", "b"]);
        Builder::new().value("tokenizer.ggml.model", 8, &text(model)).value(
            "tokenizer.ggml.tokens",
            9,
            &tokens,
        )
    };
    expect(Builder::new(), "UNSUPPORTED_MODEL", "tokenizer.ggml.model");
    let no_tokens = Builder::new().value("tokenizer.ggml.model", 8, &text("gpt2"));
    expect(no_tokens, "UNSUPPORTED_MODEL", "tokenizer.ggml.tokens");
    for model in ["bert", "t5", "rwkv", "plamo2"] {
        expect(with(model), "UNSUPPORTED_MODEL", model);
    }
    expect(with("gpt2"), "UNSUPPORTED_MODEL", "tokenizer.ggml.merges");
    let merges = with("gpt2").value("tokenizer.ggml.merges", 9, &strings(&[]));
    expect(merges.value("tokenizer.ggml.pre", 8, &text("tekken")), "UNSUPPORTED_MODEL", "tekken");
    let unknown = with("gpt2").value("tokenizer.ggml.merges", 9, &strings(&["a b"]));
    expect(unknown, "VOCABULARY_MISMATCH", "\"ab\"");
    expect(with("llama"), "UNSUPPORTED_MODEL", "tokenizer.ggml.scores");
    let floats = |scores: &[f32]| {
        let mut bytes = [6_u32.to_le_bytes().as_slice(), &(scores.len() as u64).to_le_bytes()].concat();
        scores.iter().for_each(|score| bytes.extend(score.to_le_bytes()));
        bytes
    };
    expect(with("llama").value("tokenizer.ggml.scores", 9, &floats(&[0.0])), "VOCABULARY_MISMATCH", "scores");
    let types = [5_u32.to_le_bytes().as_slice(), &2_u64.to_le_bytes(), &[1, 0, 0, 0, 1, 0, 0, 0]].concat();
    let nan = with("llama").value("tokenizer.ggml.scores", 9, &floats(&[f32::NAN, 0.0]));
    expect(nan.value("tokenizer.ggml.token_type", 9, &types), "UNSUPPORTED_MODEL", "NaN");
    expect(Builder::new().value("tokenizer.ggml.model", 4, &[1, 0, 0, 0]), "DAMAGED_MODEL", "a string");
}
