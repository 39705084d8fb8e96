//! Spans over any Unicode, with a tokenizer that rewrites text (BERT) and one that cuts characters into bytes.

use std::sync::Arc;

use proptest::prelude::*;
use trove::domain::Span;
use trove::encoder::{EmbedOptions, Encoder, Level, Representation};
use trove::room::AnswerRoom;

use super::{data, load, minilm, tiny};

/// Text of all that makes spans hard, and of anything.
fn texts() -> impl Strategy<Value = String> {
    let hard = prop::sample::select(vec![
        "a",
        "B",
        " ",
        "\n",
        "\t",
        "e\u{301}",
        "\u{301}",
        "é",
        "İ",
        "ß",
        "ﬁ",
        "日本語",
        "각",
        "ㄱ",
        "🙂",
        "👩‍👩‍👧",
        "🏳️‍🌈",
        "🇩🇪",
        "\u{200d}",
        "\u{200b}",
        "\u{feff}",
        "\u{0}",
        "\u{ad}",
        "ا",
        "مرحبا",
        "हिन्दी",
        "don't",
        "3.14",
        "...",
        "[CLS]",
        "##ing",
        "<s>",
        "\u{1f1e9}",
        "\u{e000}",
        "\u{10ffff}",
        "naïve",
        "word",
    ]);
    let piece = prop_oneof![3 => hard.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
    prop::collection::vec(piece, 1..24).prop_map(|pieces| pieces.concat())
}

/// Spans at a level, by the path that needs no session. Empty for a text without tokens.
fn spans(encoder: &Arc<Encoder>, text: &str, level: Level) -> Vec<Span> {
    let splitter = |text: &str| trove::text::sentences(text, Span::new(0, text.len() as u32));
    let options =
        EmbedOptions { level, splitter, representation: Representation::Static, ..EmbedOptions::document() };
    let output = futures::executor::block_on(encoder.embed(vec![text.to_owned()], &options));
    match output {
        Ok(output) => output.results[0].embeddings.iter().map(|(span, _)| *span).collect(),
        Err(error) => {
            assert_eq!(error.reason, "EMPTY_INPUT", "{text:?}");
            Vec::new()
        }
    }
}

fn check(encoder: &Arc<Encoder>, text: &str) -> Result<(), TestCaseError> {
    let tokens = encoder.tokenize(text, false).unwrap();
    for level in [Level::Token, Level::Word, Level::Sentence] {
        let spans = spans(encoder, text, level);
        for span in &spans {
            prop_assert!(span.slice(text).is_some(), "{level:?} {span:?} cuts a character of {text:?}");
        }
        let in_order = spans.windows(2).all(|pair| pair[0].start <= pair[1].start);
        prop_assert!(in_order, "{level:?} spans of {text:?} are out of order: {spans:?}");
        if level == Level::Word && !spans.is_empty() {
            let mut words: Vec<(Option<u32>, Span)> = Vec::new();
            for token in &tokens {
                let span = token.span.unwrap();
                match words.last_mut() {
                    Some((word, whole)) if word.is_some() && *word == token.word_index => {
                        *whole = Span::new(whole.start.min(span.start), whole.end.max(span.end));
                    }
                    _ => words.push((token.word_index, span)),
                }
            }
            let unions: Vec<Span> = words.into_iter().map(|(_, span)| span).collect();
            prop_assert_eq!(&spans, &unions, "words of {:?} are the unions of their tokens", text);
        }
    }
    Ok(())
}

/// Joins token ids, wherever the caller runs.
fn detokenize(encoder: &Arc<Encoder>, ids: Vec<u32>, skip_special: bool) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(encoder.detokenize(ids, skip_special, AnswerRoom::unbounded())).unwrap()
}

#[test]
fn spans_are_whole_ordered_and_nested() {
    let Some(data) = data() else { return };
    let encoders = [load(&minilm(&data)).unwrap(), load(&tiny()).unwrap()];
    proptest!(ProptestConfig::with_cases(400), |(text in texts())| {
        for encoder in &encoders {
            check(encoder, &text)?;
            let ids: Vec<u32> = encoder.tokenize(&text, false).unwrap().iter().map(|t| t.id).collect();
            detokenize(encoder, ids, false);
        }
        // Bytes are joined to what they were.
        let ids: Vec<u32> = encoders[1].tokenize(&text, true).unwrap().iter().map(|t| t.id).collect();
        if !text.contains("<s>") {
            prop_assert_eq!(detokenize(&encoders[1], ids, true), text);
        }
    });
}

#[test]
fn plain_words_come_back() {
    let Some(data) = data() else { return };
    let encoder = load(&minilm(&data)).unwrap();
    proptest!(ProptestConfig::with_cases(200), |(words in prop::collection::vec("[a-z]{1,12}", 1..12))| {
        let text = words.join(" ");
        let ids: Vec<u32> = encoder.tokenize(&text, true).unwrap().iter().map(|t| t.id).collect();
        prop_assert_eq!(detokenize(&encoder, ids, true), text);
    });
}
