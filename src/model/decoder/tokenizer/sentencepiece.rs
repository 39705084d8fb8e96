//! Byte-pair encoding of characters, as SentencePiece has it (Kudo and Richardson 2018, arXiv:1808.06226):
//! `tokenizer.ggml.model` llama.
//!
//! A file has scores of tokens and no merges. SentencePiece joins the two neighbours whose token has the best score; so the
//! merges are all ways to split a token into two others, the best scores first.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{UNKNOWN, missing, unsupported};
use crate::error::{Error, Result};
use crate::model::gguf::Gguf;

/// Stands for a space.
const SPACE: &str = "\u{2581}";
/// Kinds of tokens that are made of others.
const NORMAL: i64 = 1;
/// Longest token in characters that is looked at; no known one is longer than some hundred bytes.
const MOST_CHARACTERS: usize = 1024;

/// Normalizer, pre-tokenizer, decoder and model.
pub(super) fn parts(
    file: &Gguf,
    tokens: &[String],
    types: &[i64],
    ids: &BTreeMap<&str, u32>,
) -> Result<[Value; 4]> {
    let scores = file.floats("tokenizer.ggml.scores")?.ok_or_else(|| missing("tokenizer.ggml.scores"))?;
    if scores.len() != tokens.len() || types.len() != tokens.len() {
        return Err(Error::data_loss(
            "VOCABULARY_MISMATCH",
            format!(
                "expected {} scores and types of tokens, got {} and {}",
                tokens.len(),
                scores.len(),
                types.len()
            ),
        ));
    }
    let unknown = types.iter().position(|&kind| kind == UNKNOWN).and_then(|id| tokens.get(id));
    let has_prefix = file.boolean("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let space = json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE });
    let normalizer = if has_prefix {
        json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": SPACE }, space] })
    } else {
        space
    };
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if has_prefix {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unknown,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": true,
        "byte_fallback": ids.contains_key("<0x00>"),
        "ignore_merges": false,
        "vocab": ids,
        "merges": merges(tokens, types, &scores, ids)?,
    });
    Ok([normalizer, Value::Null, json!({ "type": "Sequence", "decoders": decoders }), model])
}

/// As `transformers`' `generate_merges`: of equal scores those with the longer first token come first.
fn merges<'a>(
    tokens: &'a [String],
    types: &[i64],
    scores: &[f32],
    ids: &BTreeMap<&str, u32>,
) -> Result<Vec<[&'a str; 2]>> {
    let is_normal = |id: u32| types.get(id as usize) == Some(&NORMAL);
    let mut merges: Vec<(f32, usize, usize, [&str; 2])> = Vec::new();
    for ((token, &kind), &score) in tokens.iter().zip(types).zip(scores) {
        if kind != NORMAL {
            continue;
        }
        if score.is_nan() {
            return Err(unsupported(format!("expected scores that are numbers, got NaN for {token:?}")));
        }
        let characters = token.chars().count();
        if characters > MOST_CHARACTERS {
            return Err(unsupported(format!(
                "expected tokens of at most {MOST_CHARACTERS} characters, got {characters}"
            )));
        }
        let mut splits: Vec<(u32, u32, usize, [&str; 2])> = Vec::new();
        for (before, (at, _)) in token.char_indices().enumerate().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(&first), Some(&last)) = (ids.get(left), ids.get(right))
                && is_normal(first)
                && is_normal(last)
            {
                splits.push((first, last, before, [left, right]));
            }
        }
        splits.sort_unstable_by_key(|&(first, last, ..)| (first, last));
        merges.extend(
            splits.into_iter().map(|(_, _, before, pair)| (score, before, characters - before, pair)),
        );
    }
    // Equal ones stay in the order of the vocabulary.
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2)));
    Ok(merges.into_iter().map(|merge| merge.3).collect())
}
