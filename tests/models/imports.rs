//! Imports: whole or not at all, the same model, and found out when it is changed.

use std::path::Path;

use trove::encoder::EmbedOptions;
use trove::model::{Import, Imported, ModelDir, list_models};

use super::{TEXTS, copy, cosine, data, load, minilm, refused, stdout_json, tiny, trove, vectors, write};

fn import<'a>(source: &'a Path, models: &'a Path, name: &'a str) -> Import<'a> {
    Import { source, label: "a test", models, name, replace: false, without_head: false }
}

fn fine(_: &Path) -> trove::error::Result<()> {
    Ok(())
}

#[tokio::test]
async fn an_imported_model_is_the_same_model() {
    let Some(data) = data() else { return };
    let models = tempfile::tempdir().unwrap();
    let (model, imported) = import(&minilm(&data), models.path(), "mini").run(fine).unwrap();
    assert!(imported == Imported::New && model.imported && model.id == "mini");
    assert_eq!(model.weights, "onnx/model.onnx");
    // Collections are bound to this hash: it must never change for files that do not.
    let source = ModelDir::open(&minilm(&data)).unwrap();
    assert_eq!(model.revision, source.revision);
    assert_eq!(source.revision, "89b9a98aad0b309d7c909af5aec2525e18bb52e5b5e8f67bfc440f40ae1b3b5d");
    let there = models.path().join("mini");
    assert!(!there.join("model.safetensors").exists(), "the weights are kept once");
    let (exact, copied) = (load(&minilm(&data)).unwrap(), load(&there).unwrap());
    assert!(copied.info().has_static);
    let expected = vectors(&exact, &TEXTS, EmbedOptions::document()).await;
    let got = vectors(&copied, &TEXTS, EmbedOptions::document()).await;
    assert!(got.iter().zip(&expected).all(|(a, b)| cosine(a, b) > 0.999_999));

    let again = import(&minilm(&data), models.path(), "mini").run(fine).unwrap();
    assert_eq!(again.1, Imported::Unchanged);
    let error = import(&tiny(), models.path(), "mini").run(fine).unwrap_err();
    assert_eq!(error.reason, "MODEL_EXISTS");
    let other = tiny();
    let replace = Import { replace: true, ..import(&other, models.path(), "mini") };
    let (model, imported) = replace.run(fine).unwrap();
    assert!(imported == Imported::Replaced && model.dimensions() == 16);
    assert_eq!(list_models(models.path()).unwrap(), ["mini"]);
}

#[test]
fn what_was_changed_after_the_import_is_refused() {
    if data().is_none() {
        return;
    }
    let models = tempfile::tempdir().unwrap();
    import(&tiny(), models.path(), "tiny").run(fine).unwrap();
    let there = models.path().join("tiny");
    assert!(load(&there).is_ok());
    let graph = std::fs::read(there.join("onnx/model.onnx")).unwrap();
    let mut flipped = graph.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    write(&there, "onnx/model.onnx", &flipped);
    let error = refused(&there);
    assert!(error.reason == "DAMAGED_MODEL" && error.message.contains("onnx/model.onnx"), "{error}");
    write(&there, "onnx/model.onnx", &graph);
    write(&there, "1_Pooling/config.json", r#"{"pooling_mode_cls_token": true}"#);
    assert!(refused(&there).message.contains("was not there at the import"));
    std::fs::remove_dir_all(there.join("1_Pooling")).unwrap();
    std::fs::remove_file(there.join("tokenizer.json")).unwrap();
    assert_eq!(refused(&there).reason, "MODEL_FILE_MISSING");
    let record = std::fs::read_to_string(there.join("trove.json")).unwrap();
    write(&there, "trove.json", record.replace("\"config.json\"", "\"../../config.json\""));
    assert_eq!(refused(&there).reason, "DAMAGED_MODEL");
    write(&there, "trove.json", record.replace("\"format\": 1", "\"format\": 2"));
    assert_eq!(refused(&there).reason, "UNSUPPORTED_MODEL");
}

#[test]
fn an_import_is_whole_or_not_there() {
    if data().is_none() {
        return;
    }
    let models = tempfile::tempdir().unwrap();
    let refuse = |_: &Path| Err(trove::error::Error::invalid("NO", "not this one"));
    assert_eq!(import(&tiny(), models.path(), "tiny").run(refuse).unwrap_err().reason, "NO");
    assert!(list_models(models.path()).unwrap().is_empty());
    let left = || std::fs::read_dir(models.path()).unwrap().flatten().filter(|e| e.path().is_dir()).count();
    assert_eq!(left(), 0, "nothing is left behind");

    // What a crash leaves: a half-written copy, or an old model out of its place.
    write(&models.path().join(".import-tiny"), "config.json", "{");
    import(&tiny(), models.path(), "tiny").run(fine).unwrap();
    assert!(left() == 1 && load(&models.path().join("tiny")).is_ok());
    std::fs::rename(models.path().join("tiny"), models.path().join(".old-tiny")).unwrap();
    let (_, imported) = import(&tiny(), models.path(), "tiny").run(fine).unwrap();
    assert!(imported == Imported::Unchanged && left() == 1, "the old model is back in its place");

    let broken = copy(&tiny());
    write(broken.path(), "onnx/model.onnx", "no graph");
    let replace = Import { replace: true, ..import(broken.path(), models.path(), "tiny") };
    assert_eq!(replace.run(fine).unwrap_err().reason, "DAMAGED_MODEL");
    assert!(load(&models.path().join("tiny")).is_ok(), "the model that was there stays");
    for name in ["../tiny", "a/b", "", ".hidden", "/etc"] {
        let error = import(&tiny(), models.path(), name).run(fine).unwrap_err();
        assert_eq!(error.reason, "INVALID_MODEL_NAME", "{name}");
    }
}

#[test]
fn the_program_imports_lists_and_shows() {
    let Some(data) = data() else { return };
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(data.join("runtime"), dir.path().join("runtime")).unwrap();
    let into = dir.path().to_str().unwrap();
    let models = |arguments: &[&str]| trove(&[&["models", "--data-dir", into], arguments].concat(), &[]);
    let output = models(&["list"]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("no models"));

    let source = tiny();
    let source = source.to_str().unwrap();
    let told = stdout_json(&models(&["import", source, "--name", "small", "--json"]));
    assert_eq!((told["result"].as_str(), told["dimensions"].as_u64()), (Some("imported"), Some(16)));
    let told = stdout_json(&models(&["import", source, "--name", "small", "--json"]));
    assert_eq!(told["result"].as_str(), Some("unchanged"));
    write(&dir.path().join("models/broken"), "config.json", "{}");

    let told = stdout_json(&models(&["list", "--json"]));
    let of = |id: &str| told["models"].as_array().unwrap().iter().find(|m| m["id"] == id).unwrap().clone();
    assert_eq!(
        (of("small")["pooling"].as_str(), &of("small")["loaded"]),
        (Some("mean"), &serde_json::Value::Null)
    );
    assert_eq!(of("broken")["error"]["reason"].as_str(), Some("UNSUPPORTED_MODEL"));
    let output = models(&["list"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("small") && text.contains("UNSUPPORTED_MODEL"),
        "{text}"
    );

    let told = stdout_json(&models(&["show", "small", "--json"]));
    assert_eq!((told["max_tokens"].as_u64(), told["family"].as_str()), (Some(64), Some("roberta")));
    assert!(
        told["files"]
            .as_array()
            .unwrap()
            .iter()
            .any(|f| f["name"] == "onnx/model.onnx" && f["bytes"] == 43491)
    );
    let text = String::from_utf8_lossy(&models(&["show", "small"]).stdout).into_owned();
    for line in ["dimensions", "revision", "no server", "tokenizer.json"] {
        assert!(text.contains(line), "{line} in {text}");
    }

    for (arguments, code, reason) in [
        (&["show", "none"][..], 1, "MODEL_NOT_FOUND"),
        (&["show", "../models"], 2, "INVALID_MODEL_NAME"),
        (&["show", "broken"], 1, "UNSUPPORTED_MODEL"),
        (&["import", source, "--name", "a/b"], 2, "INVALID_MODEL_NAME"),
        (&["import", "/nonexistent"], 2, "a model directory or a GGUF file"),
        (&["import", source, "--name", "broken"], 1, "MODEL_EXISTS"),
        (&["pull", "no-owner"], 2, "INVALID_REPOSITORY"),
    ] {
        let output = models(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && error.contains(reason), "{arguments:?}: {error}");
    }
}

#[test]
fn the_program_imports_generators() {
    let Some(data) = data() else { return };
    let from = data.join("models/SmolLM2-135M-Instruct");
    let Some(gguf) = std::fs::read_dir(&from).ok().and_then(|mut entries| {
        entries
            .find_map(|e| Some(e.ok()?.path()).filter(|path| path.extension().is_some_and(|e| e == "gguf")))
    }) else {
        eprintln!("skipped: no GGUF file in {}", from.display());
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().to_str().unwrap();
    let models = |arguments: &[&str]| trove(&[&["models", "--data-dir", into], arguments].concat(), &[]);
    let import = |source: &Path, name| {
        stdout_json(&models(&["import", source.to_str().unwrap(), "--name", name, "--json"]))
    };
    let first = import(&gguf, "small");
    assert_eq!((first["result"].as_str(), first["kind"].as_str()), (Some("imported"), Some("generator")));
    assert_eq!(import(&gguf, "small")["result"].as_str(), Some("unchanged"));
    // What an import has made is a model directory like any other.
    let copy = import(&dir.path().join("models/small"), "copy");
    assert_eq!((copy["result"].as_str(), &copy["revision"]), (Some("imported"), &first["revision"]));
    let shown = stdout_json(&models(&["show", "copy", "--json"]));
    assert_eq!((&shown["max_tokens"], &shown["chat_template"]), (&8192.into(), &true.into()));

    let bytes = std::fs::read(&gguf).unwrap();
    let cut = dir.path().join("cut.gguf");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let output = models(&["import", cut.to_str().unwrap(), "--name", "cut"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && error.contains("DAMAGED_MODEL"), "{error}");
    let left: Vec<_> = std::fs::read_dir(dir.path().join("models")).unwrap().flatten().collect();
    let left: std::collections::BTreeSet<_> =
        left.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(left.into_iter().collect::<Vec<_>>(), [".lock", "copy", "small"]);
}
