//! The encoder against golden vectors, on the real model.

use std::path::PathBuf;
use std::sync::Arc;

use trove::domain::Span;
use trove::encoder::{
    Device, EmbedOptions, Encoder, EncoderOptions, Level, Overflow, PassageInput, Precision,
};
use trove::model::Runtime;

fn encoder(device: Device, precision: Precision) -> Option<Arc<Encoder>> {
    load(EncoderOptions { device, precision, ..EncoderOptions::default() })
}

fn load(options: EncoderOptions) -> Option<Arc<Encoder>> {
    let data = PathBuf::from(std::env::var("TROVE_DATA_DIR").unwrap_or_else(|_| ".trove".to_owned()));
    if !data.is_dir() && std::env::var_os("CI").is_none() {
        eprintln!("skipped: no data directory at {}; run scripts/fetch.py", data.display());
        return None;
    }
    Runtime::init(&data.join("runtime")).unwrap();
    let options = EncoderOptions { sessions: 1, threads: 1, ..options };
    Some(Encoder::load(&data.join("models/all-MiniLM-L6-v2"), options).unwrap())
}

fn cpu() -> Option<Arc<Encoder>> {
    encoder(Device::Cpu, Precision::Fp32)
}

fn golden() -> Vec<(String, Vec<u32>, Vec<f32>)> {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("data/golden/minilm_embeddings.json")).unwrap();
    let item = |item: &serde_json::Value| {
        let ids = serde_json::from_value(item["input_ids"].clone()).unwrap();
        let vector = serde_json::from_value(item["embedding"].clone()).unwrap();
        (item["text"].as_str().unwrap().to_owned(), ids, vector)
    };
    file["items"].as_array().unwrap().iter().map(item).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[tokio::test]
async fn fp32_equals_the_golden_vectors() {
    let Some(encoder) = cpu() else { return };
    let mut worst = (1.0_f64, 0.0_f32);
    for (text, ids, expected) in golden() {
        let got: Vec<u32> = encoder.tokenize(&text, true).unwrap().iter().map(|t| t.id).collect();
        assert_eq!(got.get(..255), ids.get(..255), "{text:?}");
        assert!(got.len() == ids.len() || ids.len() == 256, "{text:?}");
        let options = EmbedOptions { overflow: Overflow::TruncateRight, ..EmbedOptions::document() };
        let output = encoder.embed(vec![text.clone()], &options).await;
        if text.trim().is_empty() {
            assert_eq!(output.unwrap_err().reason, "EMPTY_INPUT");
            continue;
        }
        let got = &output.unwrap().results[0].embeddings[0].1;
        let off = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        worst = (worst.0.min(cosine(got, &expected)), worst.1.max(off));
    }
    println!("fp32: least cosine {}, largest difference {}", worst.0, worst.1);
    assert!(worst.0 >= 0.999999 && worst.1 <= 2e-6, "{worst:?}");
}

#[tokio::test]
async fn openvino_is_close_to_the_golden_vectors() {
    let Some(encoder) = encoder(Device::Auto, Precision::Auto) else { return };
    let (texts, expected): (Vec<_>, Vec<_>) =
        golden().into_iter().filter(|g| !g.0.trim().is_empty()).map(|(t, _, v)| (t, v)).unzip();
    let options = EmbedOptions { overflow: Overflow::TruncateRight, ..EmbedOptions::document() };
    let output = encoder.embed(texts, &options).await.unwrap();
    let pairs = output.results.iter().zip(&expected);
    let least = pairs.map(|(r, e)| cosine(&r.embeddings[0].1, e)).fold(1.0, f64::min);
    println!("{} {}: least cosine {least}", encoder.info().execution_provider, encoder.info().precision);
    assert!(least > 0.999);
}

#[tokio::test]
async fn batches_do_not_change_vectors() {
    let Some(encoder) = cpu() else { return };
    let texts: Vec<String> = (1..30).map(|n| "a boat on the lake ".repeat(n)).collect();
    let together = encoder.embed(texts.clone(), &EmbedOptions::document()).await.unwrap();
    for (text, result) in texts.into_iter().zip(together.results) {
        let alone = encoder.embed(vec![text], &EmbedOptions::document()).await.unwrap();
        assert!(cosine(&alone.results[0].embeddings[0].1, &result.embeddings[0].1) > 0.999999);
    }
}

#[tokio::test]
async fn long_inputs_follow_the_overflow_setting() {
    let Some(encoder) = cpu() else { return };
    let text = "the lake is deep and cold ".repeat(100);
    let with = |overflow, level| EmbedOptions { overflow, level, ..EmbedOptions::document() };
    let error = encoder.embed(vec![text.clone()], &EmbedOptions::document()).await.unwrap_err();
    assert_eq!(
        (error.reason, error.message.as_str()),
        ("INPUT_TOO_LONG", "expected at most 256 tokens, got 602")
    );
    for overflow in [Overflow::TruncateRight, Overflow::TruncateLeft] {
        let output = encoder.embed(vec![text.clone()], &with(overflow, Level::Document)).await.unwrap();
        assert!(output.results[0].truncated && output.results[0].tokens == 256);
    }
    let output = encoder.embed(vec![text.clone()], &with(Overflow::Window, Level::Word)).await.unwrap();
    assert_eq!(output.results[0].embeddings.len(), 600);
    assert!(!output.results[0].truncated);
    assert!(output.results[0].embeddings.iter().all(|(span, _)| span.slice(&text).is_some()));
}

#[tokio::test]
async fn offsets_are_whole_characters() {
    let Some(encoder) = cpu() else { return };
    let room = trove::room::AnswerRoom::unbounded;
    let text = "Café naïve e\u{301}tude 日本語 🙂 done";
    let tokens = encoder.tokenize(text, true).unwrap();
    assert!(tokens[0].special && tokens[0].span.is_none());
    let words = tokens.iter().filter_map(|t| t.span).map(|s| s.slice(text).unwrap()).collect::<Vec<_>>();
    for expected in ["Café", "日", "本", "語", "🙂", "done"] {
        assert!(words.contains(&expected), "{expected} in {words:?}");
    }
    assert!(encoder.detokenize(vec![u32::MAX], true, room()).await.is_err());
    let ids: Vec<u32> = tokens.iter().map(|t| t.id).collect();
    assert!(encoder.detokenize(ids, true, room()).await.unwrap().contains("cafe"));
}

#[tokio::test]
async fn passages_give_sentence_vectors_and_sums() {
    let Some(encoder) = cpu() else { return };
    let text = "The lake is cold. Boats stay in the harbour.".to_owned();
    let sentences = vec![Span::new(0, 17), Span::new(18, text.len() as u32), Span::new(17, 18)];
    let passage = PassageInput { text: text.clone(), sentences, ..Default::default() };
    let vectors = encoder.encode_passages(vec![passage]).await.unwrap().remove(0);
    let alone = encoder.embed(vec![text], &EmbedOptions::document()).await.unwrap();
    assert_eq!(vectors.sentences.len(), 3);
    assert_eq!(vectors.sentences[2], vectors.passage);
    assert!(cosine(&vectors.passage, &alone.results[0].embeddings[0].1) > 0.999999);
    assert!(cosine(&vectors.passage, &vectors.sum) > 0.999999);
    assert!(cosine(&vectors.sentences[0], &vectors.sentences[1]) < 0.95);
}

#[tokio::test]
async fn levels_give_one_vector_per_span() {
    let Some(encoder) = cpu() else { return };
    let text = "Boats sail. Harbours wait.";
    let splitter = |_: &str| vec![Span::new(0, 11), Span::new(12, 26)];
    for (level, count) in [(Level::Token, 6), (Level::Word, 6), (Level::Sentence, 2), (Level::Document, 1)] {
        let options = EmbedOptions { level, splitter, dimensions: Some(64), ..EmbedOptions::document() };
        let result = encoder.embed(vec![text.to_owned()], &options).await.unwrap().results.remove(0);
        assert!(result.embeddings.len() >= count, "{level:?}: {}", result.embeddings.len());
        for (span, vector) in &result.embeddings {
            assert!(span.slice(text).is_some_and(|s| !s.is_empty()));
            assert!(vector.len() == 64 && (cosine(vector, vector) - 1.0).abs() < 1e-6);
            assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }
    let options = EmbedOptions { dimensions: Some(385), ..EmbedOptions::document() };
    let error = encoder.embed(vec![text.to_owned()], &options).await.unwrap_err();
    assert_eq!(error.reason, "INVALID_DIMENSIONS");
    let options = EmbedOptions { prompt_name: Some("query".to_owned()), ..EmbedOptions::document() };
    let error = encoder.embed(vec![text.to_owned()], &options).await.unwrap_err();
    assert_eq!(error.reason, "UNKNOWN_PROMPT");
}

#[tokio::test]
async fn a_large_call_leaves_room_for_queries_and_documents() {
    let (device, precision) = (Device::Cpu, Precision::Fp32);
    // A batch has one of the texts, so that others wait in the queue meanwhile.
    let (queue_capacity, max_batch_tokens) = (16, 128);
    let options =
        EncoderOptions { device, precision, queue_capacity, max_batch_tokens, ..EncoderOptions::default() };
    let Some(encoder) = load(options) else { return };
    let texts: Vec<String> =
        (0..100).map(|n| format!("The boats of harbour {n} are old. ").repeat(8)).collect();
    let large = |encoder: Arc<Encoder>| {
        let texts = texts.clone();
        async move { encoder.embed(texts, &EmbedOptions::document()).await }
    };
    let work = tokio::spawn(large(encoder.clone()));
    while encoder.waiting() == 0 {
        assert!(!work.is_finished(), "nothing was seen to wait");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(large(encoder.clone()).await.unwrap_err().reason, "QUEUE_FULL");
    encoder.embed(vec!["Where is the lake?".to_owned()], &EmbedOptions::document()).await.unwrap();
    let text = "The lake is cold.".to_owned();
    encoder
        .encode_passages(vec![PassageInput { text, sentences: Vec::new(), ..Default::default() }])
        .await
        .unwrap();
    assert!(!work.is_finished(), "the queries came after all of the large call");
    let output = work.await.unwrap().unwrap();
    assert_eq!(output.results.len(), texts.len());
    let last = encoder.embed(vec![texts[99].clone()], &EmbedOptions::document()).await.unwrap();
    assert!(cosine(&output.results[99].embeddings[0].1, &last.results[0].embeddings[0].1) > 0.99999);
    large(encoder).await.unwrap();
}

/// A provider that binds its threads to cores would put all sessions on the same ones.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_may_run_on_every_core() {
    let Some(encoder) = encoder(Device::Auto, Precision::Auto) else { return };
    let allowed = |path: PathBuf| {
        let status = std::fs::read_to_string(path).unwrap_or_default();
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:").map(str::trim).map(str::to_owned))
    };
    let own = allowed("/proc/thread-self/status".into()).unwrap();
    let texts = vec!["The wind tunnel measures the pressure along the wing. ".repeat(20); 64];
    let work = tokio::spawn(async move { encoder.embed(texts, &EmbedOptions::document()).await.map(drop) });
    let mut seen = 0;
    while !work.is_finished() {
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let task = task.unwrap().path();
            let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
            let Some(mask) = allowed(task.join("status")).filter(|_| name.starts_with("encoder-")) else {
                continue;
            };
            assert_eq!(mask, own, "{}", name.trim());
            seen += 1;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    work.await.unwrap().unwrap();
    assert!(seen > 0);
}
