//! A GGUF file's tokenizer in the format of the `tokenizers` library.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::config::unsupported;
use crate::error::{Error, Result};
use crate::model::gguf::Gguf;

/// Kinds of tokens in `tokenizer.ggml.token_type`.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// Names of tokens that end an answer whatever the metadata says; the list follows llama.cpp's.
const END_TOKENS: [&str; 8] = [
    "<|endoftext|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<EOT>",
];

/// Splits of texts before byte-pair encoding, by `tokenizer.ggml.pre`. The expressions are those of the models' own
/// tokenizer files.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What a GGUF file's metadata says about its tokenizer.
#[derive(Debug)]
pub(super) struct TokenizerFiles {
    /// `tokenizer.json`.
    pub tokenizer: Value,
    /// `tokenizer_config.json`, with the chat template where there is one.
    pub tokenizer_config: Value,
    /// Tokens that end an answer, ascending.
    pub end_ids: Vec<u32>,
    /// Token that starts a text, where there is one.
    pub start_id: Option<u32>,
}

/// Builds the files of a GGUF file whose embedding has a number of rows.
pub(super) fn build(file: &Gguf, vocabulary: usize, context: usize) -> Result<TokenizerFiles> {
    let model = file.string("tokenizer.ggml.model")?;
    if model != Some("gpt2") {
        return Err(unsupported(format!("expected a byte-level BPE tokenizer (gpt2), got {model:?}")));
    }
    let missing = |key: &str| unsupported(format!("metadata {key} is missing"));
    let tokens = file.strings("tokenizer.ggml.tokens")?.ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
    if tokens.len() != vocabulary {
        return Err(Error::data_loss(
            "VOCABULARY_MISMATCH",
            format!("expected {vocabulary} tokens as the embedding has rows, got {}", tokens.len()),
        ));
    }
    let types = file.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
    let merges = file.strings("tokenizer.ggml.merges")?.ok_or_else(|| missing("tokenizer.ggml.merges"))?;
    let ids: BTreeMap<&str, u32> = tokens.iter().map(String::as_str).zip(0..).collect();
    if ids.len() != tokens.len() {
        return Err(unsupported("expected every token once in the vocabulary".to_owned()));
    }
    let pairs = merges.iter().map(|merge| split_merge(merge, &ids)).collect::<Result<Vec<_>>>()?;

    let added = tokens.iter().zip(&types).zip(0_u32..).filter_map(|((token, &kind), id)| {
        let special = kind == CONTROL;
        (special || kind == USER_DEFINED).then(|| {
            json!({ "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special })
        })
    });
    let id_of = |key: &str| -> Result<Option<u32>> {
        match file.unsigned(key)? {
            Some(id) if id < vocabulary as u64 => Ok(Some(id as u32)),
            Some(id) => Err(Error::data_loss(
                "VOCABULARY_MISMATCH",
                format!("{key}: expected a token below {vocabulary}, got {id}"),
            )),
            None => Ok(None),
        }
    };
    let text_of = |id: Option<u32>| id.and_then(|id| tokens.get(id as usize));
    let start_id = id_of("tokenizer.ggml.bos_token_id")?;
    let end_id = id_of("tokenizer.ggml.eos_token_id")?;
    let add_start = file.boolean("tokenizer.ggml.add_bos_token")?.unwrap_or(false);
    let mut end_ids: Vec<u32> = END_TOKENS.iter().filter_map(|token| ids.get(token).copied()).collect();
    end_ids.extend(end_id);
    end_ids.extend(id_of("tokenizer.ggml.eot_token_id")?);
    end_ids.sort_unstable();
    end_ids.dedup();

    let (pre_tokenizer, ignore_merges) =
        pre_tokenizer(file.string("tokenizer.ggml.pre")?.unwrap_or("default"))?;
    let post_processor = match (add_start, start_id, text_of(start_id)) {
        (true, Some(id), Some(token)) => json!({
            "type": "TemplateProcessing",
            "single": [
                { "SpecialToken": { "id": token, "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } },
            ],
            "pair": [
                { "Sequence": { "id": "A", "type_id": 0 } },
                { "Sequence": { "id": "B", "type_id": 0 } },
            ],
            "special_tokens": { token: { "id": token, "ids": [id], "tokens": [token] } },
        }),
        _ => Value::Null,
    };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
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
        },
    });
    let tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "add_bos_token": add_start,
        "bos_token": text_of(start_id),
        "eos_token": text_of(end_id),
        "chat_template": file.string("tokenizer.chat_template")?,
    });
    Ok(TokenizerFiles { tokenizer, tokenizer_config, end_ids, start_id })
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
        "qwen2" => Ok((split(QWEN2), false)),
        other => Err(unsupported(format!(
            "expected tokenizer.ggml.pre of default, gpt-2, smollm, llama-bpe or qwen2, got {other:?}"
        ))),
    }
}
