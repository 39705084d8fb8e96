//! Ready-made ONNX graphs, on a small RoBERTa-style one.

use trove::domain::Span;
use trove::encoder::{EmbedOptions, Level, Overflow, PassageInput, Pooling, Representation};
use trove::model::ModelDir;

use super::{copy, data, load, read_json, refused, tiny, trove, vectors, write};

#[tokio::test]
async fn a_graph_runs_as_it_is() {
    if data().is_none() {
        return;
    }
    let encoder = load(&tiny()).unwrap();
    let info = encoder.info();
    // 66 positions, of which the padding id and those before it are not used.
    assert_eq!((info.dimensions, info.max_tokens, info.passage_tokens), (16, 64, 62));
    assert!(info.has_static && info.pooling == Pooling::Mean && !info.normalize);
    let items = read_json(&tiny().join("expected.json"));
    let items = items.as_array().unwrap();
    let texts: Vec<&str> = items.iter().map(|item| item["text"].as_str().unwrap()).collect();
    let ways = [
        ("mean", Some(Pooling::Mean), Representation::Contextual),
        ("cls", Some(Pooling::Cls), Representation::Contextual),
        ("max", Some(Pooling::Max), Representation::Contextual),
        ("last_token", Some(Pooling::Last), Representation::Contextual),
        ("static_mean", None, Representation::Static),
    ];
    for (name, pooling, representation) in ways {
        let options = EmbedOptions { pooling, representation, normalize: false, ..EmbedOptions::document() };
        // All in one padded batch: padding has an id and positions of its own in this family.
        for (got, item) in vectors(&encoder, &texts, options).await.iter().zip(items) {
            let expected: Vec<f32> = serde_json::from_value(item[name].clone()).unwrap();
            // Static vectors are kept as 16-bit floats.
            let tolerance = if name == "static_mean" { 1e-3 } else { 1e-5 };
            let off = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < tolerance, "{name} of {:?} is off by {off}", item["text"]);
        }
    }
}

#[tokio::test]
async fn tokens_of_parts_of_a_character_have_its_span() {
    if data().is_none() {
        return;
    }
    let encoder = load(&tiny()).unwrap();
    let text = "a 🙂é the lake";
    let tokens = encoder.tokenize(text, false).unwrap();
    let smile = tokens.iter().filter(|t| t.span.unwrap().slice(text) == Some("🙂")).count();
    assert_eq!(smile, 4, "one token per byte");
    // This family counts the space before a word in; a span does not.
    assert!(tokens.iter().any(|t| t.span.unwrap().slice(text) == Some("the")));
    let options = EmbedOptions { level: Level::Word, ..EmbedOptions::document() };
    let words = encoder.embed(vec![text.to_owned()], &options).await.unwrap().results.remove(0).embeddings;
    let words: Vec<_> = words.iter().map(|(span, _)| span.slice(text).unwrap()).collect();
    assert_eq!(words, ["a", "🙂", "é", "the", "lake"]);
}

#[tokio::test]
async fn the_limit_counts_the_offset_of_positions() {
    if data().is_none() {
        return;
    }
    let encoder = load(&tiny()).unwrap();
    let fits = "a".repeat(62);
    assert!(encoder.embed(vec![fits.clone()], &EmbedOptions::document()).await.is_ok());
    let error = encoder.embed(vec![fits.clone() + "a"], &EmbedOptions::document()).await.unwrap_err();
    assert_eq!(
        (error.reason, error.message.as_str()),
        ("INPUT_TOO_LONG", "expected at most 64 tokens, got 65")
    );
    let options = EmbedOptions { overflow: Overflow::Window, ..EmbedOptions::document() };
    assert!(encoder.embed(vec![fits.repeat(4)], &options).await.is_ok());
    let options = EmbedOptions { representation: Representation::Static, ..EmbedOptions::document() };
    assert!(encoder.embed(vec![fits.repeat(4)], &options).await.is_ok(), "static vectors have no limit");
}

#[tokio::test]
async fn sentence_transformers_files_are_honoured() {
    if data().is_none() {
        return;
    }
    let dir = copy(&tiny());
    let module = |kind: &str, path: &str| serde_json::json!({"idx": 0, "name": "0", "path": path, "type": format!("sentence_transformers.models.{kind}")});
    let modules = |kinds: &[(&str, &str)]| {
        let list: Vec<_> = kinds.iter().map(|(kind, path)| module(kind, path)).collect();
        write(dir.path(), "modules.json", serde_json::to_vec(&list).unwrap());
    };
    modules(&[("Transformer", ""), ("Pooling", "2_Pooling"), ("Normalize", "3_Normalize")]);
    let mut revisions = std::collections::HashSet::from([ModelDir::open(&tiny()).unwrap().revision]);
    for (config, pooling) in [
        (r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#, Pooling::Cls),
        (r#"{"pooling_mode_max_tokens": true}"#, Pooling::Max),
        (r#"{"pooling_mode_lasttoken": true}"#, Pooling::Last),
        (r#"{"pooling_mode": "lasttoken"}"#, Pooling::Last),
        (r#"{"pooling_mode_mean_tokens": true}"#, Pooling::Mean),
    ] {
        write(dir.path(), "2_Pooling/config.json", config);
        let model = ModelDir::open(dir.path()).unwrap();
        assert!(model.pooling == pooling && model.normalize, "{config}");
        assert!(revisions.insert(model.revision), "the revision does not tell {config}");
    }
    for bad in [
        r#"{"pooling_mode_weightedmean_tokens": true}"#,
        r#"{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}"#,
        r#"{"pooling_mode": "attention"}"#,
        "{}",
    ] {
        write(dir.path(), "2_Pooling/config.json", bad);
        assert_eq!(ModelDir::open(dir.path()).unwrap_err().reason, "UNSUPPORTED_MODEL", "{bad}");
    }
    write(
        dir.path(),
        "2_Pooling/config.json",
        r#"{"pooling_mode_mean_tokens": true, "include_prompt": false}"#,
    );
    write(dir.path(), "sentence_bert_config.json", r#"{"max_seq_length": 20}"#);
    let prompts = r#"{"prompts": {"query": "the lake ", "passage": "", "topic": "is "}, "default_prompt_name": "topic"}"#;
    write(dir.path(), "config_sentence_transformers.json", prompts);
    let encoder = load(dir.path()).unwrap();
    assert_eq!((encoder.info().max_tokens, encoder.info().default_prompt.as_deref()), (20, Some("topic")));
    assert_eq!(encoder.info().prompts, ["passage", "query", "topic"]);
    let with = |name: Option<&str>| EmbedOptions {
        prompt_name: name.map(str::to_owned),
        ..EmbedOptions::document()
    };
    let of = async |options| vectors(&encoder, &["cold"], options).await.remove(0);
    assert_eq!(of(with(None)).await, of(with(Some("topic"))).await, "the default prompt");
    assert_eq!(of(with(Some(""))).await, of(with(Some("passage"))).await, "no prompt");
    assert_ne!(of(with(Some("query"))).await, of(with(Some("topic"))).await);
    // The prompt is read by the model, but its tokens are not pooled: the same tokens as without are averaged.
    let read = encoder.embed(vec!["cold".to_owned()], &with(Some("query"))).await.unwrap().results.remove(0);
    assert_eq!(read.embeddings[0].0.slice("cold"), Some("cold"));
    write(
        dir.path(),
        "config_sentence_transformers.json",
        r#"{"prompts": {}, "default_prompt_name": "topic"}"#,
    );
    assert_eq!(refused(dir.path()).reason, "UNSUPPORTED_MODEL");

    modules(&[("Transformer", ""), ("Pooling", "2_Pooling"), ("WordWeights", "3_WordWeights")]);
    let error = refused(dir.path());
    assert!(error.reason == "UNSUPPORTED_MODEL" && error.message.contains("WordWeights"), "{error}");
    modules(&[("Transformer", ""), ("Pooling", "../2_Pooling")]);
    assert_eq!(refused(dir.path()).reason, "UNSUPPORTED_MODEL");
}

#[test]
fn models_without_special_tokens_are_read() {
    if data().is_none() {
        return;
    }
    let dir = copy(&tiny());
    let mut tokenizer = read_json(&dir.path().join("tokenizer.json"));
    tokenizer["post_processor"] = serde_json::Value::Null;
    write(dir.path(), "tokenizer.json", tokenizer.to_string());
    let encoder = load(dir.path()).unwrap();
    assert_eq!((encoder.info().max_tokens, encoder.info().passage_tokens), (64, 64));
    assert!(encoder.tokenize("the lake", true).unwrap().iter().all(|t| !t.special));
}

#[test]
fn an_import_keeps_a_graph_as_it_is() {
    let Some(data) = data() else { return };
    let target = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(data.join("runtime"), target.path().join("runtime")).unwrap();
    let [source, into] = [tiny(), target.path().to_owned()].map(|p| p.to_str().unwrap().to_owned());
    let output = trove(&["models", "--data-dir", &into, "import", &source, "--json"], &[]);
    let told = super::stdout_json(&output);
    assert_eq!((told["result"].as_str(), told["id"].as_str()), (Some("imported"), Some("tiny-roberta")));
    let there = target.path().join("models/tiny-roberta");
    assert_eq!(ModelDir::open(&there).unwrap().revision, ModelDir::open(&tiny()).unwrap().revision);
    let same =
        |name: &str| std::fs::read(there.join(name)).unwrap() == std::fs::read(tiny().join(name)).unwrap();
    assert!(same("onnx/model.onnx") && same("tokenizer.json") && !there.join("expected.json").exists());
    assert!(load(&there).is_ok());
}

fn greatest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / length).collect()
}

#[tokio::test]
async fn parts_of_a_text_are_averaged_where_the_model_pools_one_token() {
    if data().is_none() {
        return;
    }
    let dir = copy(&tiny());
    let text = "the lake is cold. the cold sea";
    let splitter = |_: &str| vec![Span::new(0, 17), Span::new(18, 30)];
    for (config, pooling) in [
        (r#"{"pooling_mode_cls_token": true}"#, Pooling::Cls),
        (r#"{"pooling_mode_lasttoken": true}"#, Pooling::Last),
    ] {
        write(dir.path(), "1_Pooling/config.json", config);
        let encoder = load(dir.path()).unwrap();
        assert_eq!(encoder.info().pooling, pooling);
        let passage = PassageInput { text: text.to_owned(), sentences: splitter(text), ..Default::default() };
        let passage = encoder.encode_passages(vec![passage]).await.unwrap().remove(0);
        let at = async |level| {
            let options = EmbedOptions { level, splitter, normalize: false, ..EmbedOptions::document() };
            encoder.embed(vec![text.to_owned()], &options).await.unwrap().results.remove(0).embeddings
        };
        let (tokens, sentences, whole) =
            (at(Level::Token).await, at(Level::Sentence).await, at(Level::Document).await);
        // What is stored has unit length, whatever the model gives.
        assert!(greatest_difference(&passage.passage, &unit(&whole[0].1)) < 1e-5);
        assert_eq!(passage.sum, passage.passage, "the document is made of its passages' vectors");
        for (stored, (span, embedded)) in passage.sentences.iter().zip(&sentences) {
            let own: Vec<_> =
                tokens.iter().filter(|(at, _)| (span.start..span.end).contains(&at.start)).collect();
            let sum_at = |i: usize| own.iter().map(|(_, vector)| vector[i]).sum::<f32>();
            let mean: Vec<f32> = (0..stored.len()).map(|i| sum_at(i) / own.len() as f32).collect();
            assert!(own.len() > 2 && greatest_difference(stored, &unit(&mean)) < 1e-5);
            assert!(greatest_difference(embedded, &mean) < 1e-5);
        }
    }
}

#[tokio::test]
async fn the_first_token_is_pooled_though_the_prompt_is_not() {
    if data().is_none() {
        return;
    }
    let dir = copy(&tiny());
    write(dir.path(), "config_sentence_transformers.json", r#"{"prompts": {"query": "the lake "}}"#);
    let mut all = Vec::new();
    for include_prompt in [true, false] {
        let config = serde_json::json!({"pooling_mode_cls_token": true, "include_prompt": include_prompt});
        write(dir.path(), "1_Pooling/config.json", config.to_string());
        let encoder = load(dir.path()).unwrap();
        let options = EmbedOptions { prompt_name: Some("query".to_owned()), ..EmbedOptions::document() };
        all.push(vectors(&encoder, &["cold"], options).await.remove(0));
        assert_ne!(vectors(&encoder, &["cold"], EmbedOptions::document()).await[0], all[0]);
    }
    assert_eq!(all[0], all[1]);
}
