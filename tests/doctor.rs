//! `trove doctor` and `trove health`: what is whole is found whole, and each kind of damage by name.

mod common;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::{Server, borrow_models, data_dir, models};
use serde_json::Value;

const ENCODER: &str = "encoder all-MiniLM-L6-v2";

/// The report on a data directory, and whether it has no problem.
fn doctor(data: &Path, settings: &[&str]) -> (Vec<Value>, bool) {
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_trove"));
    command.args(["doctor", "--json", "--device", "cpu", "--data-dir"]).arg(data);
    command.args(["--set", &format!("listen={listen}"), "--set", "generator.models=none"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let output = command.env_remove("TROVE_CONFIG").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let checks = report["checks"].as_array().unwrap().clone();
    let problems = checks.iter().filter(|check| check["finding"] == "problem").count();
    assert_eq!(report["problems"], problems);
    assert_eq!(output.status.code(), Some(i32::from(problems > 0)));
    for check in &checks {
        assert_eq!(check["remedy"].is_null(), check["finding"] == "ok", "{check}");
    }
    (checks, problems == 0)
}

/// The finding of a check whose message holds a text.
fn finding<'a>(checks: &'a [Value], name: &str, text: &str) -> &'a str {
    let of_name: Vec<&Value> = checks.iter().filter(|check| check["name"] == name).collect();
    let found = of_name.iter().find(|check| check["message"].as_str().unwrap().contains(text));
    let found = found.unwrap_or_else(|| panic!("{name} does not tell {text:?}: {of_name:?}"));
    found["finding"].as_str().unwrap()
}

#[tokio::test]
async fn a_whole_directory_is_fine_before_beside_and_after_a_server() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let (checks, is_fine) = doctor(data.path(), &[]);
    assert!(is_fine, "{checks:?}");
    assert_eq!(finding(&checks, "runtime library", "rel-1.24"), "ok");
    assert_eq!(finding(&checks, ENCODER, "CPUExecutionProvider in fp32"), "ok");
    assert_eq!(finding(&checks, "store", "none yet"), "ok");
    assert_eq!(finding(&checks, "extraction", "reads a page"), "ok");
    assert_eq!(finding(&checks, "PDFium library", "libpdfium.so reads a page"), "ok");
    let (checks, _) = doctor(data.path(), &["extract.pdfium=/nonexistent"]);
    assert_eq!(finding(&checks, "PDFium library", "PDFIUM_NOT_FOUND"), "problem");
    assert_eq!(finding(&checks, "listen", "is free"), "ok");
    let left: Vec<_> = std::fs::read_dir(data.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "it leaves nothing behind: {left:?}");

    let health = |url: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trove"));
        command.args(["health", "--server", url]).output().unwrap()
    };
    let server = Server::start(data.path()).await;
    let answered = health(&server.url);
    assert_eq!((answered.status.code(), answered.stdout.as_slice()), (Some(0), b"serving\n".as_slice()));
    let address = server.url.strip_prefix("http://").unwrap();
    let (checks, is_fine) = doctor(data.path(), &[&format!("listen={address}")]);
    assert!(is_fine, "{checks:?}");
    assert_eq!(finding(&checks, "listen", "serving"), "ok");
    assert_eq!(finding(&checks, "store", "in use by the server"), "ok");
    let (checks, _) = doctor(data.path(), &[]);
    assert_eq!(finding(&checks, "store", "in use by another process"), "problem");
    let url = server.url.clone();
    drop(server);
    assert_eq!(health(&url).status.code(), Some(3));

    let (checks, is_fine) = doctor(data.path(), &[]);
    assert!(is_fine, "{checks:?}");
    assert_eq!(finding(&checks, "store", "schema version"), "ok");
    assert_eq!(finding(&checks, "file modes", "its owner's alone"), "ok");
    assert_eq!(finding(&checks, "open files", "the settings need 1748"), "ok");
    let snapshots = data.path().join("snapshots");
    std::fs::set_permissions(&snapshots, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (checks, is_fine) = doctor(data.path(), &["limits.max_connections=1000000000"]);
    assert!(!is_fine);
    assert_eq!(finding(&checks, "file modes", "1 files, such as"), "warning");
    assert_eq!(finding(&checks, "open files", "TOO_FEW_FILES"), "problem");

    let current = std::fs::read_to_string(data.path().join("store/CURRENT")).unwrap();
    let database = data.path().join("store").join(current.trim()).join("db");
    std::fs::write(&database, vec![0x5a; 1 << 16]).unwrap();
    let (checks, _) = doctor(data.path(), &[]);
    assert_eq!(finding(&checks, "store", "STORE"), "problem");
    std::fs::write(data.path().join("store/CURRENT"), "nonsense").unwrap();
    let (checks, _) = doctor(data.path(), &[]);
    assert_eq!(finding(&checks, "store", "CORRUPT_STORE"), "problem");
}

#[test]
fn a_directory_that_is_none_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let (checks, _) = doctor(&dir.path().join("none"), &[]);
    assert_eq!(finding(&checks, "data directory", "does not exist"), "problem");
    std::fs::write(dir.path().join("file"), "").unwrap();
    let (checks, _) = doctor(&dir.path().join("file"), &[]);
    assert_eq!(finding(&checks, "data directory", "is no directory"), "problem");
}

#[test]
fn a_missing_or_broken_library_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let (checks, _) = doctor(dir.path(), &[]);
    assert_eq!(finding(&checks, "runtime library", "RUNTIME_NOT_FOUND"), "problem");
    assert_eq!(finding(&checks, ENCODER, "MODEL_NOT_FOUND"), "problem");
    let library = dir.path().join("runtime/libonnxruntime.so");
    std::fs::create_dir(dir.path().join("runtime")).unwrap();
    std::fs::write(library, "no library").unwrap();
    let (checks, _) = doctor(dir.path(), &[]);
    assert_eq!(finding(&checks, "runtime library", "RUNTIME_UNUSABLE"), "problem");
}

#[test]
fn a_model_that_is_not_what_was_imported_is_a_problem() {
    let Some(models) = models() else { return };
    let data = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(models.join("runtime"), data.path().join("runtime")).unwrap();
    let import = Command::new(env!("CARGO_BIN_EXE_trove"))
        .args(["models", "import"])
        .arg(models.join("models/all-MiniLM-L6-v2"))
        .arg("--data-dir")
        .arg(data.path())
        .output()
        .unwrap();
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    let (checks, is_fine) = doctor(data.path(), &[]);
    assert!(is_fine, "{checks:?}");
    assert_eq!(finding(&checks, ENCODER, "files as imported"), "ok");
    let tokenizer = data.path().join("models/all-MiniLM-L6-v2/tokenizer.json");
    let whole = std::fs::read(&tokenizer).unwrap();
    std::fs::write(&tokenizer, [&whole[..], b" "].concat()).unwrap();
    let (checks, _) = doctor(data.path(), &[]);
    assert_eq!(finding(&checks, ENCODER, "DAMAGED_MODEL"), "problem");
    std::fs::remove_file(&tokenizer).unwrap();
    let (checks, _) = doctor(data.path(), &[]);
    assert_eq!(finding(&checks, ENCODER, "MODEL_FILE_MISSING"), "problem");
}

#[test]
fn settings_that_do_not_fit_or_are_risky_are_told() {
    let dir = tempfile::tempdir().unwrap();
    if let Some(models) = models() {
        borrow_models(&models, dir.path());
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (checks, _) = doctor(
        dir.path(),
        &[
            "encoder.models=none-such",
            "limits.no_such_key=1",
            "limits.shutdown_seconds=0",
            "encoder.sessions=9999",
            "encoder.threads=9999",
            "answer.prompt=none-such",
            "extract.worker=/nonexistent",
            "tracing.endpoint=http://127.0.0.1:1",
            &format!("listen={address}"),
            &format!("metrics.listen={address}"),
        ],
    );
    assert_eq!(finding(&checks, "configuration", "limits.no_such_key"), "problem");
    assert_eq!(finding(&checks, "configuration", "limits.shutdown_seconds"), "warning");
    assert_eq!(finding(&checks, "configuration", "encoder.sessions"), "warning");
    assert_eq!(finding(&checks, "listen", "is taken by something"), "problem");
    assert_eq!(finding(&checks, "metrics.listen", "cannot be listened on"), "problem");
    assert_eq!(finding(&checks, "tracing.endpoint", "cannot be reached"), "warning");
    assert_eq!(finding(&checks, "prompts", "UNKNOWN_PROMPT"), "problem");
    assert_eq!(finding(&checks, "extraction", "EXTRACTION_CRASHED"), "problem");
    assert_eq!(finding(&checks, "encoder none-such", "MODEL_NOT_FOUND"), "problem");
    let (checks, _) = doctor(dir.path(), &["listen=0.0.0.0:0", "access.strict=true"]);
    assert_eq!(finding(&checks, "protection", "listen: 0.0.0.0:0"), "problem");
    let (checks, _) = doctor(dir.path(), &["tls.certificate=/nonexistent", "tls.key=/nonexistent"]);
    assert_eq!(finding(&checks, "protection", "nonexistent"), "problem");
    let (checks, _) = doctor(dir.path(), &["listen=0.0.0.0:0", "metrics.listen=0.0.0.0:0"]);
    assert_eq!(finding(&checks, "protection", "listen: 0.0.0.0:0"), "warning");
    assert_eq!(finding(&checks, "configuration", "metrics.listen: 0.0.0.0:0"), "warning");
}

#[test]
fn a_flipped_bit_in_a_generator_is_found_before_it_answers() {
    let Some(models) = models() else { return };
    let data = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(models.join("runtime"), data.path().join("runtime")).unwrap();
    std::fs::create_dir(data.path().join("models")).unwrap();
    std::os::unix::fs::symlink(
        models.join("models/all-MiniLM-L6-v2"),
        data.path().join("models/all-MiniLM-L6-v2"),
    )
    .unwrap();
    let gguf = models.join("models/SmolLM2-135M-Instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
    let trove = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_trove"))
            .args(args)
            .arg("--data-dir")
            .arg(data.path())
            .output()
            .unwrap()
    };
    let imported = trove(&["models", "import", gguf.to_str().unwrap(), "--name", "SmolLM2-135M-Instruct"]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let folder = data.path().join("models/SmolLM2-135M-Instruct");
    let weights = folder.join("onnx").join(trove::model::decoder::DATA_FILE);
    let mut bytes = std::fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, &bytes).unwrap();
    let started = trove(&["serve", "--listen", "127.0.0.1:0"]);
    let told = String::from_utf8_lossy(&started.stderr).into_owned();
    assert_eq!(started.status.code(), Some(1), "{told}");
    assert!(
        told.contains("DAMAGED_MODEL")
            && told.contains(&format!("onnx/{}", trove::model::decoder::DATA_FILE)),
        "{told}"
    );
    let (checks, _) = doctor(data.path(), &["generator.models=SmolLM2-135M-Instruct"]);
    assert!(
        checks.iter().any(|check| check["message"].as_str().unwrap().contains("DAMAGED_MODEL")),
        "{checks:?}"
    );
    // Where it was changed on purpose, the checksums can go.
    std::fs::remove_file(folder.join("checksums.json")).unwrap();
    let listed = trove(&["models", "list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("generator"), "{listed:?}");
}
