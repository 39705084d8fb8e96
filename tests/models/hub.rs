//! `trove models pull` against a stand-in for the hub's file API on loopback.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use trove::model::ModelDir;

use super::{data, load, stdout_json, tiny, trove};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const FILES: [&str; 4] = ["README.md", "config.json", "onnx/model.onnx", "tokenizer.json"];

/// Serves the tiny model as `owner/tiny`.
struct Hub {
    url: String,
    stopped: Arc<AtomicBool>,
    /// Whether the weights break off half-way.
    cuts: Arc<AtomicBool>,
    /// Paths of the files that were sent.
    sent: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hub = Hub {
            url: format!("http://{}", listener.local_addr().unwrap()),
            stopped: Arc::default(),
            cuts: Arc::default(),
            sent: Arc::default(),
        };
        let (stopped, cuts, sent) = (hub.stopped.clone(), hub.cuts.clone(), hub.sent.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (cuts, sent) = (cuts.clone(), sent.clone());
                std::thread::spawn(move || answer(stream.unwrap(), &cuts, &sent));
            }
        });
        hub
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }

    fn pull(&self, home: &Path, arguments: &[&str]) -> Output {
        let home = home.to_str().unwrap();
        let cache = format!("{home}/hub");
        let variables = [
            ("HF_ENDPOINT", self.url.as_str()),
            ("HF_HUB_CACHE", &cache),
            ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"),
            ("NO_PROXY", "127.0.0.1"),
        ];
        trove(&[&["models", "--data-dir", home, "pull"], arguments].concat(), &variables)
    }
}

fn answer(mut stream: TcpStream, cuts: &AtomicBool, sent: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(request)) = lines.next() else { return };
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let path = target.split('?').next().unwrap();
    let siblings: Vec<_> = FILES.iter().map(|name| json!({ "rfilename": name })).collect();
    let info = json!({"id": "owner/tiny", "sha": COMMIT, "siblings": siblings}).to_string().into_bytes();
    let size = |name: &str| std::fs::metadata(tiny().join(name)).map_or(6, |m| m.len());
    let entry = |name: &&str| json!({"type": "file", "oid": "0", "size": size(name), "path": name});
    let tree = json!(FILES.iter().map(entry).collect::<Vec<_>>()).to_string().into_bytes();
    let api = path.strip_prefix("/api/models/owner/tiny");
    let file = path.strip_prefix("/owner/tiny/resolve/").and_then(|rest| rest.split_once('/'));
    let known = |revision: &str| revision == "main" || revision == COMMIT;
    let (name, body) = match (api, file) {
        (Some(""), _) => ("", Some(info)),
        (Some(rest), _) if rest.strip_prefix("/revision/").is_some_and(known) => ("", Some(info)),
        (Some(rest), _) if rest.strip_prefix("/tree/").is_some_and(known) => ("", Some(tree)),
        (_, Some((revision, "README.md"))) if known(revision) => ("README.md", Some(b"readme".to_vec())),
        (_, Some((revision, name))) if known(revision) => (name, std::fs::read(tiny().join(name)).ok()),
        _ => ("", None),
    };
    let (status, body) = body.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"{}\"\r\nX-Repo-Commit: {COMMIT}\r\n\
         Connection: close\r\n\r\n",
        body.len(),
        blake3::hash(&body).to_hex()
    );
    let _ = stream.write_all(head.as_bytes());
    if method == "HEAD" {
        return;
    }
    let cut = cuts.load(Ordering::SeqCst) && name == "onnx/model.onnx";
    let _ = stream.write_all(if cut { &body[..body.len() / 2] } else { &body });
    if !name.is_empty() {
        sent.lock().unwrap().push(name.to_owned());
    }
}

fn failed(output: &Output, reason: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains(reason), "{reason} in {error}");
}

fn home(data: &Path) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(data.join("runtime"), home.path().join("runtime")).unwrap();
    home
}

#[test]
fn a_model_is_pulled_once_and_works_offline() {
    let Some(data) = data() else { return };
    let (hub, home) = (Hub::start(), home(&data));
    let told = stdout_json(&hub.pull(home.path(), &["owner/tiny", "--json"]));
    assert_eq!((told["result"].as_str(), told["commit"].as_str()), (Some("imported"), Some(COMMIT)));
    assert_eq!(told["from_cache"].as_bool(), Some(false));
    let there = home.path().join("models/tiny");
    assert_eq!(ModelDir::open(&there).unwrap().revision, ModelDir::open(&tiny()).unwrap().revision);
    assert!(load(&there).is_ok());
    let sent = std::mem::take(&mut *hub.sent.lock().unwrap());
    assert!(!sent.contains(&"README.md".to_owned()), "only what is needed: {sent:?}");
    assert_eq!(sent.iter().filter(|name| *name == "onnx/model.onnx").count(), 1);

    let told = stdout_json(&hub.pull(home.path(), &["owner/tiny", "--revision", COMMIT, "--json"]));
    assert_eq!(told["result"].as_str(), Some("unchanged"));
    assert!(hub.sent.lock().unwrap().is_empty(), "nothing is sent twice");
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
fn a_download_that_breaks_off_leaves_no_model() {
    let Some(data) = data() else { return };
    let (hub, home) = (Hub::start(), home(&data));
    hub.cuts.store(true, Ordering::SeqCst);
    failed(&hub.pull(home.path(), &["owner/tiny"]), "HUB_UNREACHABLE");
    failed(&hub.pull(home.path(), &["owner/tiny", "--offline"]), "NOT_IN_CACHE");
    assert!(!home.path().join("models/tiny").exists());
    hub.cuts.store(false, Ordering::SeqCst);
    let told = stdout_json(&hub.pull(home.path(), &["owner/tiny", "--json"]));
    assert_eq!(told["result"].as_str(), Some("imported"));
    assert!(load(&home.path().join("models/tiny")).is_ok());
    hub.stop();
}
