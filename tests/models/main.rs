//! Models as their users meet them: what is read, imported, pulled, refused, and run on which device.

mod broken;
mod cross_encoder;
mod dense;
mod devices;
mod families;
mod heads;
mod hub;
mod imports;
mod ready_made;
mod service;
mod setup;
mod spans;
mod stand_in;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use trove::encoder::{Device, EmbedOptions, Encoder, EncoderOptions, Overflow, Precision};
use trove::error::{Error, Result};
use trove::model::Runtime;

/// Runtime and models; `make test` fetches them.
fn data() -> Option<PathBuf> {
    let dir = std::env::var_os("TROVE_DATA_DIR").map_or_else(|| PathBuf::from(".trove"), PathBuf::from);
    if dir.join("models/all-MiniLM-L6-v2").is_dir() {
        Runtime::init(&dir.join("runtime")).unwrap();
        return Some(std::fs::canonicalize(dir).unwrap());
    }
    assert!(std::env::var_os("CI").is_none(), "no models in {}: run `make test`", dir.display());
    eprintln!("skipped: no models in {}; `make test` fetches them", dir.display());
    None
}

/// The real model's directory.
fn minilm(data: &Path) -> PathBuf {
    data.join("models/all-MiniLM-L6-v2")
}

/// A RoBERTa-style model with random weights, as a ready-made graph.
fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-roberta")
}

/// A BERT-style model with random weights whose modules are in folders of their own, with dense layers.
fn tiny_dense() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-dense")
}

/// A copy of a model's directory that a test may change.
fn copy(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_into(from, dir.path());
    dir
}

fn copy_into(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_into(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

fn write(dir: &Path, name: &str, contents: impl AsRef<[u8]>) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, contents).unwrap();
}

fn read_json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn options(device: Device, precision: Precision) -> EncoderOptions {
    EncoderOptions { device, precision, sessions: 1, threads: 1, ..EncoderOptions::default() }
}

/// Loads a model in exact fp32.
fn load(dir: &Path) -> Result<Arc<Encoder>> {
    Encoder::load(dir, options(Device::Cpu, Precision::Fp32))
}

/// The error of a model that does not load.
fn refused(dir: &Path) -> Error {
    match load(dir) {
        Ok(_) => panic!("{} was loaded", dir.display()),
        Err(error) => error,
    }
}

/// Vectors of whole texts as the model makes them, cut to its limit.
async fn vectors(encoder: &Arc<Encoder>, texts: &[&str], options: EmbedOptions) -> Vec<Vec<f32>> {
    let texts = texts.iter().map(|&t| t.to_owned()).collect();
    let options = EmbedOptions { overflow: Overflow::TruncateRight, ..options };
    let output = encoder.embed(texts, &options).await.unwrap();
    output.results.into_iter().map(|r| r.embeddings.into_iter().next().unwrap().1).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

const TEXTS: [&str; 4] = [
    "A man is eating food.",
    "naïve café 日本語 🙂",
    "The index is built in the background while searches go on, and it is written before it is used.",
    "lake",
];

/// Runs the program; no server is asked.
fn trove(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trove"))
        .args(arguments)
        .env("TROVE_SERVER", "http://127.0.0.1:9")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn stdout_json(output: &Output) -> serde_json::Value {
    let error = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON; stderr: {error}"))
}
