//! `trove models pull` against a stand-in for the hub's file API.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::json;
use trove::model::ModelDir;

use super::stand_in::{COMMIT, Faults, Hub, Sent, sha256};
use super::{copy, data, load, read_json, stdout_json, tiny, tiny_dense, write};

const GRAPH: &str = "onnx/model.onnx";

fn failed(output: &Output, reason: &str) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains(reason), "{reason} in {error}");
    error
}

fn home(data: &Path) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(data.join("runtime"), home.path().join("runtime")).unwrap();
    home
}

fn of(sent: &[Sent], name: &str) -> Vec<Sent> {
    sent.iter().filter(|sent| sent.name == name).cloned().collect()
}

/// The contents that are in the cache, by their names.
fn blobs(home: &Path) -> BTreeMap<String, PathBuf> {
    let folder = home.join("hub/models--owner--tiny/blobs");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path())).collect()
}

fn graph() -> Vec<u8> {
    std::fs::read(tiny().join(GRAPH)).unwrap()
}

#[test]
fn a_model_is_pulled_once_and_works_offline() {
    let Some(data) = data() else { return };
    let (hub, home) = (Hub::of_dir(&tiny()), home(&data));
    let told = stdout_json(&hub.pull(home.path(), &["owner/tiny", "--json"]));
    assert_eq!((told["result"].as_str(), told["commit"].as_str()), (Some("imported"), Some(COMMIT)));
    assert_eq!(told["from_cache"].as_bool(), Some(false));
    let there = home.path().join("models/tiny");
    assert_eq!(ModelDir::open(&there).unwrap().revision, ModelDir::open(&tiny()).unwrap().revision);
    assert!(load(&there).is_ok());
    let sent = hub.sent();
    assert!(of(&sent, "README.md").is_empty(), "only what is needed: {sent:?}");
    assert_eq!(of(&sent, GRAPH).len(), 1);
    assert!(blobs(home.path()).contains_key(&sha256(&graph())), "as the hub's tools name it");
    assert_eq!(hub.token(), (true, false), "the token goes to the hub and nowhere else");

    let told = stdout_json(&hub.pull(home.path(), &["owner/tiny", "--revision", COMMIT, "--json"]));
    assert_eq!(told["result"].as_str(), Some("unchanged"));
    assert!(hub.sent().is_empty(), "nothing is sent twice");
    failed(&hub.pull(home.path(), &["owner/none"]), "UNKNOWN_REPOSITORY");
    failed(&hub.pull(home.path(), &["owner/tiny", "--revision", "v9"]), "UNKNOWN_REPOSITORY");

    hub.stop();
    for (arguments, name) in [(&["--offline"][..], "second"), (&[], "third")] {
        let arguments = [&["owner/tiny", "--json", "--name", name], arguments].concat();
        let told = stdout_json(&hub.pull(home.path(), &arguments));
        assert_eq!((told["id"].as_str(), told["from_cache"].as_bool()), (Some(name), Some(true)));
    }
    failed(&hub.pull(home.path(), &["owner/other", "--offline"]), "NOT_IN_CACHE");
    failed(&hub.pull(home.path(), &["owner/other"]), "HUB_UNREACHABLE");
}

#[test]
fn a_download_that_breaks_off_leaves_no_model_and_goes_on_where_it_stopped() {
    let Some(data) = data() else { return };
    let (hub, home) = (Hub::of_dir(&tiny()), home(&data));
    let size = graph().len();
    hub.faults(Faults { cut: Some(size / 16), ..Faults::default() });
    let error = failed(&hub.pull(home.path(), &["owner/tiny"]), "HUB_UNREACHABLE");
    assert!(error.contains("goes on from there"), "{error}");
    failed(&hub.pull(home.path(), &["owner/tiny", "--offline"]), "NOT_IN_CACHE");
    assert!(!home.path().join("models/tiny").exists());
    let sent = of(&hub.sent(), GRAPH);
    let stopped = sent.last().map(|sent| sent.from + sent.bytes).unwrap();
    assert!(
        sent.len() > 1 && sent.windows(2).all(|pair| pair[1].from == pair[0].from + pair[0].bytes),
        "{sent:?}"
    );

    hub.faults(Faults::default());
    let told = stdout_json(&hub.pull(home.path(), &["owner/tiny", "--json"]));
    assert_eq!(told["result"].as_str(), Some("imported"));
    let rest = Sent { name: GRAPH.to_owned(), from: stopped, bytes: size - stopped };
    assert_eq!(of(&hub.sent(), GRAPH), [rest], "no byte is sent twice");
    assert!(load(&home.path().join("models/tiny")).is_ok());
    hub.stop();
}

#[test]
fn what_an_earlier_run_left_is_not_trusted() {
    let Some(data) = data() else { return };
    let hub = Hub::of_dir(&tiny());
    let size = graph().len();
    for no_ranges in [false, true] {
        let home = home(&data);
        hub.faults(Faults { cut: Some(size / 16), ..Faults::default() });
        failed(&hub.pull(home.path(), &["owner/tiny"]), "HUB_UNREACHABLE");
        let partial = blobs(home.path()).remove(&format!("{}.incomplete", sha256(&graph()))).unwrap();
        let mut bytes = std::fs::read(&partial).unwrap();
        bytes[7] ^= 1;
        std::fs::write(&partial, bytes).unwrap();
        hub.faults(Faults { no_ranges, ..Faults::default() });
        hub.sent();
        let told = stdout_json(&hub.pull(home.path(), &["owner/tiny", "--json"]));
        assert_eq!(told["result"].as_str(), Some("imported"));
        let starts: Vec<usize> = of(&hub.sent(), GRAPH).iter().map(|sent| sent.from).collect();
        assert_eq!(starts.last(), Some(&0), "fetched anew: {starts:?}");
        assert!(load(&home.path().join("models/tiny")).is_ok());
    }
    hub.stop();
}

#[test]
fn a_file_that_is_not_what_the_hub_says_is_refused() {
    let Some(data) = data() else { return };
    let hub = Hub::of_dir(&tiny());
    for bare_listing in [false, true] {
        let home = home(&data);
        hub.faults(Faults { lie: Some(GRAPH.to_owned()), bare_listing, ..Faults::default() });
        let error = failed(&hub.pull(home.path(), &["owner/tiny"]), "CHECKSUM_MISMATCH");
        assert!(error.contains(GRAPH) && error.contains(&sha256(b"another file")), "{error}");
        assert!(!home.path().join("models/tiny").exists());
        assert!(
            !blobs(home.path()).keys().any(|name| name.contains(&sha256(b"another file"))),
            "it is deleted"
        );
        // Many questions at once are put again.
        hub.faults(Faults { bare_listing, busy: 2, ..Faults::default() });
        assert_eq!(
            stdout_json(&hub.pull(home.path(), &["owner/tiny", "--json"]))["result"].as_str(),
            Some("imported")
        );
    }
    hub.stop();
}

#[test]
fn folders_of_modules_are_followed_and_heads_refused_before_the_weights() {
    let Some(data) = data() else { return };
    let (hub, home) = (Hub::of_dir(&tiny_dense()), home(&data));
    let told = stdout_json(&hub.pull(home.path(), &["owner/tiny", "--json"]));
    assert_eq!((told["result"].as_str(), told["dimensions"].as_u64()), (Some("imported"), Some(6)));
    assert!(load(&home.path().join("models/tiny")).is_ok());
    hub.stop();

    let dir = copy(&tiny());
    let mut config = read_json(&dir.path().join("config.json"));
    config["architectures"] = json!(["RobertaForMaskedLM"]);
    write(dir.path(), "config.json", config.to_string());
    let (hub, home) = (Hub::of_dir(dir.path()), self::home(&data));
    let error = failed(&hub.pull(home.path(), &["owner/tiny"]), "UNSUPPORTED_MODEL");
    assert!(error.contains("RobertaForMaskedLM") && of(&hub.sent(), GRAPH).is_empty(), "{error}");
    let told = stdout_json(&hub.pull(home.path(), &["owner/tiny", "--without-head", "--json"]));
    assert_eq!(told["result"].as_str(), Some("imported"));
    hub.stop();
}

#[test]
fn a_generator_is_fetched_by_its_quantization() {
    let Some(data) = data() else { return };
    let home = home(&data);
    let file = |n: u8| vec![n; 5000];
    let names = ["m-q4_k_m.gguf", "m-q8_0.gguf", "m-q6_k-00001-of-00002.gguf", "m-q6_k-00002-of-00002.gguf"];
    let hub = Hub::of((1..).zip(names).map(|(n, name)| (name.to_owned(), file(n))).collect());
    let pull = |arguments: &[&str]| hub.pull(home.path(), arguments);
    let error = failed(&pull(&["owner/tiny:Q5_K_M"]), "UNKNOWN_QUANTIZATION");
    assert!(error.contains("m-q8_0.gguf"), "it names those that are there: {error}");
    let error = failed(&pull(&["owner/tiny:Q6_K"]), "UNSUPPORTED_MODEL");
    assert!(error.contains("one of 2 parts") && hub.sent().is_empty(), "{error}");
    // These are no GGUF files: what was fetched is what the import is given.
    failed(&pull(&["owner/tiny:Q8_0"]), "NOT_GGUF");
    assert_eq!(hub.sent(), [Sent { name: "m-q8_0.gguf".to_owned(), from: 0, bytes: 5000 }]);
    failed(&pull(&["owner/tiny:m-q8_0.gguf"]), "NOT_GGUF");
    assert!(hub.sent().is_empty(), "it is in the cache");
    failed(&pull(&["owner/tiny"]), "NOT_GGUF");
    assert_eq!(of(&hub.sent(), "m-q4_k_m.gguf").len(), 1, "the usual one");
    hub.stop();
    failed(&pull(&["owner/tiny:q8_0", "--offline"]), "NOT_GGUF");
    failed(&pull(&["owner/tiny:q2_k", "--offline"]), "UNKNOWN_QUANTIZATION");
}

#[test]
fn weights_in_several_files_are_fetched_by_their_index() {
    let Some(data) = data() else { return };
    let home = home(&data);
    let text = |value: serde_json::Value| value.to_string().into_bytes();
    let parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let index = json!({"weight_map": {"a": parts[0], "b": parts[1], "c": parts[0]}});
    let mut files = BTreeMap::from([
        (
            "config.json".to_owned(),
            text(json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})),
        ),
        ("tokenizer.json".to_owned(), b"{}".to_vec()),
        ("pytorch_model.bin".to_owned(), vec![0; 2000]),
        ("model.safetensors.index.json".to_owned(), text(index)),
    ]);
    files.extend(parts.map(|name| (name.to_owned(), name.repeat(100).into_bytes())));
    let hub = Hub::of(files);
    // No model is made of this; each part was fetched once, and the other form of the weights was not.
    assert!(!hub.pull(home.path(), &["owner/tiny"]).status.success());
    let sent = hub.sent();
    assert!(parts.iter().all(|part| of(&sent, part).len() == 1), "{sent:?}");
    assert!(of(&sent, "pytorch_model.bin").is_empty());
    let outside = json!({"weight_map": {"a": "../../etc/passwd"}});
    hub.put("model.safetensors.index.json", &text(outside));
    let other = self::home(&data);
    failed(&hub.pull(other.path(), &["owner/tiny"]), "UNSUPPORTED_MODEL");
    hub.put("../outside", b"x");
    let error = String::from_utf8_lossy(&hub.pull(other.path(), &["owner/tiny"]).stderr).into_owned();
    assert!(error.contains("INVALID_REPOSITORY"), "{error}");
    hub.stop();
}
