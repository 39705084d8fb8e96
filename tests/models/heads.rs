//! Models with a head that is not used: refused by name, unless their token states are asked for.

use std::path::Path;

use serde_json::{Value, json};

use super::{copy, data, load, minilm, read_json, refused, stdout_json, tiny, trove, write};

fn with_architecture(from: &Path, name: &str, labels: usize) -> tempfile::TempDir {
    let dir = copy(from);
    let mut config = read_json(&dir.path().join("config.json"));
    config["architectures"] = json!([name]);
    let labels = (0..labels).map(|n| (n.to_string(), json!(format!("LABEL_{n}"))));
    config["id2label"] = Value::Object(labels.collect());
    write(dir.path(), "config.json", config.to_string());
    dir
}

#[test]
fn a_head_that_is_not_used_is_refused() {
    let Some(data) = data() else { return };
    // With weights in safetensors and sentence-transformers' files, and as a ready-made graph.
    for from in [minilm(&data), tiny()] {
        for (name, labels) in [
            ("BertForMaskedLM", 2),
            ("BertForQuestionAnswering", 2),
            ("BertForSequenceClassification", 3),
            ("BertForTokenClassification", 9),
        ] {
            let dir = with_architecture(&from, name, labels);
            let error = refused(dir.path());
            assert!(error.reason == "UNSUPPORTED_MODEL" && error.message.contains(name), "{error}");
            assert!(error.message.contains("--without-head"), "what to do: {error}");
        }
        assert!(load(with_architecture(&from, "BertModel", 2).path()).is_ok());
    }
}

#[test]
fn the_program_takes_the_states_below_a_head_where_it_is_told_to() {
    let Some(data) = data() else { return };
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(data.join("runtime"), home.path().join("runtime")).unwrap();
    let dir = with_architecture(&tiny(), "RobertaForMaskedLM", 2);
    let import = |more: &[&str]| {
        let (home, source) = (home.path().to_str().unwrap(), dir.path().to_str().unwrap());
        let arguments = ["models", "--data-dir", home, "import", source, "--name", "masked", "--json"];
        trove(&[&arguments[..], more].concat(), &[])
    };
    let output = import(&[]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("RobertaForMaskedLM"), "{error}");
    let there = home.path().join("models/masked");
    assert!(!there.exists());
    assert_eq!(stdout_json(&import(&["--without-head"]))["result"].as_str(), Some("imported"));
    // A directory with a record was checked when it was taken in: those of older versions open as well.
    assert!(load(&there).is_ok());
}
