//! Dense layers behind the pooling, vectors that are cut, and modules in folders of their own: a small BERT model whose
//! vectors torch made (tests/data/make_tiny_dense.py).

use std::path::Path;

use serde_json::{Value, json};
use trove::encoder::{EmbedOptions, Level, PassageInput, Representation};
use trove::model::{Import, ModelDir};

use super::{copy, data, load, read_json, refused, tiny_dense, trove, vectors, write};

const PROMPTS: &str = "config_sentence_transformers.json";
const FIRST: &str = "2_Dense/config.json";

/// Changes fields of a JSON file; null takes one out.
fn change(dir: &Path, file: &str, fields: &[(&str, Value)]) {
    let mut value = read_json(&dir.join(file));
    for (key, field) in fields {
        match field {
            Value::Null => drop(value.as_object_mut().unwrap().remove(*key)),
            field => value[*key] = field.clone(),
        }
    }
    write(dir, file, value.to_string());
}

fn modules(dir: &Path, list: &[(&str, &str)]) {
    let module = |(kind, path): &(&str, &str)| json!({"type": format!("sentence_transformers.models.{kind}"), "path": path});
    write(dir, "modules.json", json!(list.iter().map(module).collect::<Vec<_>>()).to_string());
}

const BEFORE: [(&str, &str); 2] = [("Transformer", "0_Transformer"), ("Pooling", "pooling/of tokens")];

/// The vectors of a directory are the expected ones of a name, their leading components.
async fn gives(dir: &Path, name: &str, width: usize) {
    let encoder = load(dir).unwrap();
    assert_eq!(encoder.info().dimensions as usize, width, "{name}");
    let items = read_json(&tiny_dense().join("expected.json"));
    let items = items.as_array().unwrap();
    let texts: Vec<&str> = items.iter().map(|item| item["text"].as_str().unwrap()).collect();
    let options = EmbedOptions { normalize: false, ..EmbedOptions::document() };
    for (got, item) in vectors(&encoder, &texts, options).await.iter().zip(items) {
        let expected: Vec<f32> = serde_json::from_value(item[name].clone()).unwrap();
        assert_eq!(got.len(), width);
        let off = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-5, "{name} of {:?} is off by {off}", item["text"]);
    }
}

#[tokio::test]
async fn dense_layers_are_applied_and_vectors_cut() {
    if data().is_none() {
        return;
    }
    gives(&tiny_dense(), "Tanh", 6).await;
    let dir = copy(&tiny_dense());
    change(dir.path(), PROMPTS, &[("truncate_dim", Value::Null)]);
    gives(dir.path(), "Tanh", 8).await;
    for name in ["Identity", "ReLU", "Sigmoid"] {
        change(dir.path(), FIRST, &[("activation_function", json!(format!("torch.nn.modules.x.{name}")))]);
        gives(dir.path(), name, 8).await;
    }
    // Tanh is what sentence-transformers takes where none is told.
    change(dir.path(), FIRST, &[("activation_function", Value::Null)]);
    gives(dir.path(), "Tanh", 8).await;
    let layers = [("Dense", "2_Dense"), ("Dense", "3_Dense")];
    modules(dir.path(), &[&BEFORE[..], &[("Normalize", "")], &layers].concat());
    gives(dir.path(), "scaled_before", 8).await;
    modules(dir.path(), &BEFORE);
    gives(dir.path(), "pooled", 16).await;
    change(dir.path(), PROMPTS, &[("truncate_dim", json!(5))]);
    gives(dir.path(), "pooled", 5).await;
}

#[tokio::test]
async fn parts_of_a_text_are_of_the_same_space() {
    if data().is_none() {
        return;
    }
    let encoder = load(&tiny_dense()).unwrap();
    let text = "the lake is late".to_owned();
    for level in [Level::Token, Level::Word, Level::Document] {
        let options = EmbedOptions { level, ..EmbedOptions::document() };
        let result = encoder.embed(vec![text.clone()], &options).await.unwrap().results.remove(0);
        assert!(result.embeddings.iter().all(|(_, vector)| vector.len() == 6), "{level:?}");
    }
    let whole = encoder.embed(vec![text.clone()], &EmbedOptions::document()).await.unwrap();
    let passage = PassageInput { sentences: Vec::new(), text, ..Default::default() };
    let passage = encoder.encode_passages(vec![passage]).await.unwrap().remove(0);
    assert_eq!(passage.sum, passage.passage, "states of before the layers are not added up");
    let off = passage.passage.iter().zip(&whole.results[0].embeddings[0].1).map(|(a, b)| (a - b).abs());
    assert!(off.fold(0.0, f32::max) < 1e-6);
    let options = EmbedOptions { representation: Representation::Static, ..EmbedOptions::document() };
    let error = encoder.embed(vec!["lake".to_owned()], &options).await.unwrap_err();
    assert!(!encoder.info().has_static && error.reason == "UNSUPPORTED_REPRESENTATION", "{error}");
}

#[tokio::test]
async fn an_import_keeps_folders_and_layers() {
    if data().is_none() {
        return;
    }
    let models = tempfile::tempdir().unwrap();
    let source = tiny_dense();
    let import = Import {
        source: &source,
        label: "a test",
        models: models.path(),
        name: "dense",
        replace: false,
        without_head: false,
    };
    let (model, _) = import.run(|staged| trove::encoder::check_model(staged, true)).unwrap();
    assert_eq!(model.revision, ModelDir::open(&source).unwrap().revision);
    assert_eq!((model.dimensions(), model.max_tokens, model.weights.as_str()), (6, 60, "onnx/model.onnx"));
    let there = models.path().join("dense");
    gives(&there, "Tanh", 6).await;
    assert!(!there.join("0_Transformer/model.safetensors").exists(), "the weights are kept once");
    let layer = std::fs::read(there.join("3_Dense/model.safetensors")).unwrap();
    let mut flipped = layer.clone();
    *flipped.last_mut().unwrap() ^= 1;
    write(&there, "3_Dense/model.safetensors", flipped);
    let error = refused(&there);
    assert!(
        error.reason == "DAMAGED_MODEL" && error.message.contains("3_Dense/model.safetensors"),
        "{error}"
    );
}

#[test]
fn layers_that_do_not_fit_are_refused_by_name() {
    if data().is_none() {
        return;
    }
    let with = |file: &str, fields: &[(&str, Value)]| {
        let dir = copy(&tiny_dense());
        change(dir.path(), file, fields);
        let error = refused(dir.path());
        (error.reason, error.message)
    };
    for fields in [
        ("in_features", json!(15)),
        ("out_features", json!(0)),
        ("out_features", json!(13)),
        ("activation_function", json!("torch.nn.modules.activation.GELU")),
        ("module_input_name", json!("token_embeddings")),
    ] {
        let (reason, message) = with(FIRST, &[fields]);
        assert!(reason == "UNSUPPORTED_MODEL" && message.contains("_Dense/config.json"), "{message}");
    }
    // Beyond what the layers give, and what keeps nothing.
    for kept in [0, 9] {
        assert_eq!(with(PROMPTS, &[("truncate_dim", json!(kept))]).0, "UNSUPPORTED_MODEL");
    }
    let dir = copy(&tiny_dense());
    change(dir.path(), "3_Dense/config.json", &[("bias", json!(true))]);
    let error = refused(dir.path());
    assert!(error.reason == "DAMAGED_MODEL" && error.message.contains("linear.bias"), "{error}");

    let dir = copy(&tiny_dense());
    let weights = dir.path().join("2_Dense/model.safetensors");
    std::fs::rename(&weights, weights.with_file_name("pytorch_model.bin")).unwrap();
    let error = refused(dir.path());
    assert!(
        error.reason == "UNSUPPORTED_MODEL" && error.message.contains("2_Dense/pytorch_model.bin"),
        "{error}"
    );
    for file in ["2_Dense/pytorch_model.bin", "2_Dense/config.json", "pooling/of tokens/config.json"] {
        std::fs::remove_file(dir.path().join(file)).unwrap();
        assert_eq!(refused(dir.path()).reason, "MODEL_FILE_MISSING", "{file}");
    }
}

#[test]
fn lower_case_that_the_tokenizer_does_not_make_is_refused() {
    if data().is_none() {
        return;
    }
    let dir = copy(&tiny_dense());
    change(dir.path(), "0_Transformer/sentence_bert_config.json", &[("do_lower_case", json!(true))]);
    let error = refused(dir.path());
    assert!(error.reason == "UNSUPPORTED_MODEL" && error.message.contains("do_lower_case"), "{error}");
    let name = "0_Transformer/tokenizer.json";
    change(dir.path(), name, &[("normalizer", json!({"type": "Lowercase"}))]);
    assert!(load(dir.path()).is_ok());
}

#[test]
fn the_program_shows_what_a_model_of_several_folders_gives() {
    let Some(data) = data() else { return };
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(data.join("runtime"), dir.path().join("runtime")).unwrap();
    let source = tiny_dense();
    let arguments =
        ["models", "--data-dir", dir.path().to_str().unwrap(), "import", source.to_str().unwrap(), "--json"];
    let told = super::stdout_json(&trove(&arguments, &[]));
    assert_eq!((told["dimensions"].as_u64(), told["id"].as_str()), (Some(6), Some("tiny-dense")));
}
