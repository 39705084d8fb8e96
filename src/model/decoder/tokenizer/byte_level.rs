//! Byte-pair encoding of bytes, as GPT-2 has it: `tokenizer.ggml.model` gpt2.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{missing, unsupported};
use crate::error::{Error, Result};
use crate::model::gguf::Gguf;

/// Splits of texts before byte-pair encoding, by `tokenizer.ggml.pre`. The expressions are those of the models' own
/// tokenizer files.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Normalizer, pre-tokenizer, decoder and model.
pub(super) fn parts(file: &Gguf, ids: &BTreeMap<&str, u32>) -> Result<[Value; 4]> {
    let merges = file.strings("tokenizer.ggml.merges")?.ok_or_else(|| missing("tokenizer.ggml.merges"))?;
    let pairs = merges.iter().map(|merge| split_merge(merge, ids)).collect::<Result<Vec<_>>>()?;
    let (pre_tokenizer, ignore_merges) =
        pre_tokenizer(file.string("tokenizer.ggml.pre")?.unwrap_or("default"))?;
    let decoder =
        json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true });
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": null,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": ignore_merges,
        "vocab": ids,
        "merges": pairs,
    });
    Ok([Value::Null, pre_tokenizer, decoder, model])
}

/// The two tokens of a merge, which must be in the vocabulary as must be what they make.
fn split_merge<'a>(merge: &'a str, ids: &BTreeMap<&str, u32>) -> Result<[&'a str; 2]> {
    let (left, right) = merge
        .split_once(' ')
        .ok_or_else(|| unsupported(format!("expected a merge of two tokens, got {merge:?}")))?;
    let joined = format!("{left}{right}");
    match [left, right, &joined].into_iter().find(|token| !ids.contains_key(token)) {
        Some(unknown) => Err(Error::data_loss(
            "VOCABULARY_MISMATCH",
            format!("merge {merge:?}: token {unknown:?} is not in the vocabulary"),
        )),
        None => Ok([left, right]),
    }
}

/// The step before byte-pair encoding, and whether whole tokens win over merges.
fn pre_tokenizer(name: &str) -> Result<(Value, bool)> {
    let bytes = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
    let sequence = |first: Value, last: Value| json!({ "type": "Sequence", "pretokenizers": [first, last] });
    let split = |pattern: &str| {
        sequence(
            json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false }),
            bytes(false),
        )
    };
    match name {
        "gpt-2" | "default" => Ok((bytes(true), false)),
        "smollm" => {
            Ok((sequence(json!({ "type": "Digits", "individual_digits": true }), bytes(true)), false))
        }
        "llama-bpe" | "llama3" | "llama-v3" => Ok((split(LLAMA3), true)),
        "smaug-bpe" => Ok((split(LLAMA3), false)),
        "qwen2" | "deepseek-r1-qwen" => Ok((split(QWEN2), false)),
        other => Err(unsupported(format!(
            "expected tokenizer.ggml.pre of default, gpt-2, smollm, llama-bpe, smaug-bpe or qwen2, got {other:?}; \
             the same model in safetensors brings its own tokenizer.json"
        ))),
    }
}
