//! A GGUF file's tokenizer in the format of the `tokenizers` library.

mod byte_level;
mod sentencepiece;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::config::unsupported;
use crate::error::{Error, Result};
use crate::model::gguf::Gguf;

/// Kinds of tokens in `tokenizer.ggml.token_type`.
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// Kinds of tokenizers in `tokenizer.ggml.model`.
const BYTE_LEVEL: &str = "gpt2";
const SENTENCEPIECE: &str = "llama";

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
    let model = file.string("tokenizer.ggml.model")?.ok_or_else(|| missing("tokenizer.ggml.model"))?;
    let tokens = file.strings("tokenizer.ggml.tokens")?.ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
    if tokens.len() != vocabulary {
        return Err(Error::data_loss(
            "VOCABULARY_MISMATCH",
            format!("expected {vocabulary} tokens as the embedding has rows, got {}", tokens.len()),
        ));
    }
    let types = file.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
    let ids: BTreeMap<&str, u32> = tokens.iter().map(String::as_str).zip(0..).collect();
    if ids.len() != tokens.len() {
        return Err(unsupported("expected every token once in the vocabulary".to_owned()));
    }
    let is_sentencepiece = model == SENTENCEPIECE;
    let [normalizer, pre_tokenizer, decoder, model] = match model {
        BYTE_LEVEL => byte_level::parts(file, &ids)?,
        SENTENCEPIECE => sentencepiece::parts(file, tokens, &types, &ids)?,
        other => {
            return Err(unsupported(format!(
                "expected tokenizer.ggml.model {BYTE_LEVEL} (byte-pair encoding of bytes) or {SENTENCEPIECE} \
                 (SentencePiece), got {other:?}"
            )));
        }
    };

    let added = tokens.iter().zip(&types).zip(0_u32..).filter_map(|((token, &kind), id)| {
        let special = kind == CONTROL || kind == UNKNOWN;
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
    let add_start = file.boolean("tokenizer.ggml.add_bos_token")?.unwrap_or(is_sentencepiece);
    let mut end_ids: Vec<u32> = END_TOKENS.iter().filter_map(|token| ids.get(token).copied()).collect();
    end_ids.extend(end_id);
    end_ids.extend(id_of("tokenizer.ggml.eot_token_id")?);
    end_ids.sort_unstable();
    end_ids.dedup();

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
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
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

fn missing(key: &str) -> Error {
    unsupported(format!("expected metadata {key} in the GGUF file, which lacks its tokenizer; got none"))
}
