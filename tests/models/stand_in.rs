//! A stand-in for the hub's file API on loopback: repositories, redirects to a store of large files, ranges, and faults.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::trove;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What is wrong with the hub.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Connections break after so many bytes of a file.
    pub cut: Option<usize>,
    /// Files are sent from their start whatever is asked for.
    pub no_ranges: bool,
    /// The listing has names alone.
    pub bare_listing: bool,
    /// This file is said to have other contents.
    pub lie: Option<String>,
    /// Questions that are answered by "too many requests" before the next is answered.
    pub busy: usize,
}

/// A request for a file's contents that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub name: String,
    /// First byte.
    pub from: usize,
    pub bytes: usize,
}

#[derive(Default)]
struct State {
    stopped: bool,
    files: BTreeMap<String, Vec<u8>>,
    faults: Faults,
    sent: Vec<Sent>,
    /// Whether a request to the store of large files had the token.
    leaked: bool,
    /// Whether a request to the hub had it.
    known: bool,
}

/// Serves files as `owner/tiny`; those of 1 KiB and more from a store of large files, under another name of this host.
pub struct Hub {
    url: String,
    state: Arc<Mutex<State>>,
}

impl Hub {
    pub fn of(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.lock().unwrap().stopped {
                    return;
                }
                let (shared, port) = (shared.clone(), listener.local_addr().unwrap().port());
                std::thread::spawn(move || answer(stream.unwrap(), &shared, port));
            }
        });
        Hub { url, state }
    }

    /// The files of a directory and below.
    pub fn of_dir(dir: &Path) -> Self {
        let mut files = BTreeMap::new();
        let walk = ignore::WalkBuilder::new(dir).standard_filters(false).build();
        for entry in walk.flatten().filter(|entry| entry.path().is_file()) {
            let name = entry.path().strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            files.insert(name, std::fs::read(entry.path()).unwrap());
        }
        files.insert("README.md".to_owned(), b"readme".to_vec());
        Self::of(files)
    }

    pub fn stop(&self) {
        self.state.lock().unwrap().stopped = true;
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }

    pub fn faults(&self, faults: Faults) {
        self.state.lock().unwrap().faults = faults;
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.state.lock().unwrap().files.insert(name.to_owned(), bytes.to_vec());
    }

    /// What was sent since this was asked last.
    pub fn sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.state.lock().unwrap().sent)
    }

    /// Whether the token went to the hub, and whether it went elsewhere.
    pub fn token(&self) -> (bool, bool) {
        let state = self.state.lock().unwrap();
        (state.known, state.leaked)
    }

    pub fn pull(&self, home: &Path, arguments: &[&str]) -> Output {
        self.run(home, &[&["models", "--data-dir", home.to_str().unwrap(), "pull"], arguments].concat(), &[])
    }

    /// Runs the program with this hub.
    pub fn run(&self, home: &Path, arguments: &[&str], more: &[(&str, &str)]) -> Output {
        let cache = format!("{}/hub", home.to_str().unwrap());
        let variables = [
            ("HF_ENDPOINT", self.url.as_str()),
            ("HF_HUB_CACHE", &cache),
            ("HF_TOKEN", "secret"),
            ("NO_PROXY", "127.0.0.1,localhost"),
        ];
        trove(arguments, &[&variables[..], more].concat())
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_large(bytes: &[u8]) -> bool {
    bytes.len() >= 1 << 10
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let mut headers = BTreeMap::new();
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(": ") {
            headers.insert(name.to_lowercase(), value.to_owned());
        }
    }
    Some(Request { method, path: target.to_owned(), headers })
}

fn answer(mut stream: TcpStream, state: &Mutex<State>, port: u16) {
    let Some(request) = read(&stream) else { return };
    let mut state = state.lock().unwrap();
    let has_token = request.headers.get("authorization").is_some_and(|value| value == "Bearer secret");
    let mut head = |status: &str, headers: &[(&str, String)], length: usize| {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{lines}Connection: close\r\n\r\n");
        stream.write_all(head.as_bytes())
    };
    if state.faults.busy > 0 {
        state.faults.busy -= 1;
        let _ = head("429 Too Many Requests", &[], 0);
        return;
    }
    let known = |revision: &str| revision == "main" || revision == COMMIT;
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let told = |state: &State, name: &str, bytes: &[u8]| {
        if state.faults.lie.as_deref() == Some(name) { sha256(b"another file") } else { sha256(bytes) }
    };
    if let Some(revision) = path.strip_prefix("/api/models/owner/tiny/revision/") {
        state.known |= has_token;
        if !known(revision) {
            let _ = head("404 Not Found", &[("X-Error-Code", "RevisionNotFound".to_owned())], 0);
            return;
        }
        let full = query.contains("blobs=true") && !state.faults.bare_listing;
        let entry = |(name, bytes): (&String, &Vec<u8>)| match (full, is_large(bytes)) {
            (false, _) => json!({ "rfilename": name }),
            (true, false) => {
                json!({"rfilename": name, "size": bytes.len(), "blobId": sha256(name.as_bytes())[..40]})
            }
            (true, true) => json!({"rfilename": name, "size": bytes.len(), "blobId": "0",
                "lfs": {"sha256": told(&state, name, bytes), "size": bytes.len(), "pointerSize": 134}}),
        };
        let siblings: Vec<_> = state.files.iter().map(entry).collect();
        let body = json!({"id": "owner/tiny", "sha": COMMIT, "siblings": siblings}).to_string();
        let _ = head("200 OK", &[], body.len());
        let _ = stream.write_all(body.as_bytes());
        return;
    }
    let in_store = path.strip_prefix("/store/");
    let in_hub = path.strip_prefix("/owner/tiny/resolve/").and_then(|rest| rest.split_once('/'));
    let name = in_store.or(in_hub.filter(|(revision, _)| known(revision)).map(|(_, name)| name));
    let name = name.map(|name| name.replace("%20", " "));
    let found = name.and_then(|name| Some((name.clone(), state.files.get(&name)?.clone())));
    let Some((name, body)) = found else {
        let _ = head("404 Not Found", &[("X-Error-Code", "EntryNotFound".to_owned())], 0);
        return;
    };
    if in_store.is_none() {
        state.known |= has_token;
        if is_large(&body) {
            let headers = [
                ("Location", format!("http://localhost:{port}/store/{name}")),
                ("X-Linked-Etag", format!("\"{}\"", told(&state, &name, &body))),
                ("X-Linked-Size", body.len().to_string()),
                ("ETag", "\"of-the-redirect\"".to_owned()),
            ];
            let _ = head("302 Found", &headers, 0);
            return;
        }
    } else {
        state.leaked |= has_token;
    }
    let range =
        request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    let from = range.and_then(|from| from.parse().ok()).filter(|_| !state.faults.no_ranges).unwrap_or(0);
    if from >= body.len() && from > 0 {
        let _ = head("416 Range Not Satisfiable", &[], 0);
        return;
    }
    let rest = &body[from..];
    let mut headers = vec![("ETag", format!("W/\"{}\"", &sha256(&body)[..40]))];
    if from > 0 {
        headers.push(("Content-Range", format!("bytes {from}-{}/{}", body.len() - 1, body.len())));
    }
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let _ = head(status, &headers, rest.len());
    if request.method == "HEAD" {
        return;
    }
    let bytes = state.faults.cut.filter(|_| is_large(&body)).map_or(rest.len(), |cut| cut.min(rest.len()));
    state.sent.push(Sent { name, from, bytes });
    drop(state);
    let _ = stream.write_all(&rest[..bytes]);
}
