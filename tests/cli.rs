//! The command line as people and scripts meet it: the real program against a real server.

mod common;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{data_dir, models};
use serde_json::Value;

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(90);

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trove"));
    for name in ["TROVE_SERVER", "TROVE_CONFIG"] {
        command.env_remove(name);
    }
    command
}

struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts the program and reads the address from its ready line.
    fn start(data: &Path, listen: &str) -> Self {
        Self::start_with(data, listen, "limits.max_batch_size=1024")
    }

    fn start_with(data: &Path, listen: &str, setting: &str) -> Self {
        let mut child = program()
            .args(["serve", "--listen", listen, "--log-filter", "warn", "--set", setting, "--data-dir"])
            .arg(data)
            .env("TROVE__GENERATOR__MODELS", "none")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("got {line:?}"));
        Self { child, address: address.to_owned() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program();
        command.env("TROVE_SERVER", &self.address).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must leave with an exit code and gives its JSON.
    fn json(&self, code: i32, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder as people keep it, with what usually goes wrong.
fn folder(parent: &Path) -> PathBuf {
    let notes = parent.join("notes");
    std::fs::create_dir_all(notes.join("sub")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(notes.join(name), text).unwrap();
    write(
        "bread.md",
        "# Baking\n\nKnead the dough for ten minutes. Bake the loaf until the crust is brown.\n",
    );
    write("sub/cats.txt", "Cats sleep for most of the day. They hunt mice at dusk.\n");
    write("page.html", "<title>Rust</title><h1>Borrowing</h1><p>The borrow checker refuses aliasing.</p>");
    write(
        "rows.jsonl",
        "{\"id\":\"a\",\"text\":\"An index makes a query fast.\"}\n{\"text\":\"Joins combine rows.\"}\n",
    );
    write("people.csv", "id,name,text\n7,Ada,Ada wrote the first program.\n");
    write("README", "This folder holds notes.\n");
    // More than a message of the test's server takes: it is sent in pieces.
    write("long.txt", &"Whales sing in the deep sea. ".repeat(600));
    write("empty.md", "");
    write("code.py", "print('not a document')\n");
    write("ignored.md", "Nobody reads this.\n");
    write(".gitignore", "ignored.md\n");
    write("broken.pdf", "%PDF-1.4 nonsense");
    std::fs::write(notes.join(OsStr::from_bytes(b"caf\xe9.txt")), "A name in Latin-1.\n").unwrap();
    std::os::unix::fs::symlink(notes.join("gone.md"), notes.join("dangling.md")).unwrap();
    notes
}

fn ids(listed: &Value) -> Vec<&str> {
    listed.as_array().unwrap().iter().map(|d| d["id"].as_str().unwrap()).collect()
}

#[test]
fn what_cannot_be_read_is_told() {
    let Some(models) = models() else { return };
    let (store, files) = (data_dir(&models), tempfile::tempdir().unwrap());
    let server = Server::start(store.path(), "127.0.0.1:0");
    let folder = files.path().join("papers");
    std::fs::create_dir(&folder).unwrap();
    for file in ["P09/scan.pdf", "P19/no-tounicode.pdf", "P24/indexed-colour.pdf"] {
        let name = file.rsplit('/').next().unwrap();
        std::fs::copy(Path::new("tests/data/cases").join(file), folder.join(name)).unwrap();
    }
    let path = folder.to_str().unwrap();
    let told = stderr(&server.run(&["index", path]));
    assert!(told.contains("failed: papers/scan.pdf") && told.contains("OCR"), "{told}");
    assert!(
        told.contains("1 file was read with warnings") && told.contains("papers/no-tounicode.pdf"),
        "{told}"
    );
    assert!(!told.contains("UNMAPPED_TEXT"), "{told}");
    let told = stderr(&server.run(&["index", path, "--force", "--verbose"]));
    assert!(told.contains("warning: papers/no-tounicode.pdf: UNMAPPED_TEXT: "), "{told}");
    let told = server.json(1, &["index", path, "--force"]);
    let warnings = told["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{told}");
    assert_eq!((&warnings[0]["reason"], &warnings[0]["page_number"]), (&"UNMAPPED_TEXT".into(), &1.into()));
    assert_eq!(warnings[0]["id"], "papers/no-tounicode.pdf");
}

#[test]
fn a_folder_is_indexed_searched_indexed_again_and_mirrored() {
    let Some(models) = models() else { return };
    let (store, files) = (data_dir(&models), tempfile::tempdir().unwrap());
    let server = Server::start_with(store.path(), "127.0.0.1:0", "limits.max_message_bytes=32000");
    let notes = folder(files.path());
    let path = notes.to_str().unwrap();

    let dry = server.run(&["index", path, "--dry-run"]);
    assert!(
        stdout(&dry).contains("notes/sub/cats.txt") && stderr(&dry).contains(".py 1"),
        "{}",
        stderr(&dry)
    );
    let first = server.json(1, &["index", path]);
    assert_eq!(
        (&first["indexed"], &first["empty"], &first["failed"]),
        (&9.into(), &1.into(), &1.into()),
        "{first}"
    );
    assert_eq!(first["failures"][0]["id"], "notes/broken.pdf");
    assert!(first["failures"][0]["reason"].as_str().unwrap().contains("BROKEN_DOCUMENT"));
    let listed = server.json(0, &["documents", "list"]);
    let wanted = [
        "notes/README",
        "notes/bread.md",
        "notes/caf%E9.txt",
        "notes/long.txt",
        "notes/page.html",
        "notes/people.csv#7",
        "notes/rows.jsonl#2",
        "notes/rows.jsonl#a",
        "notes/sub/cats.txt",
    ];
    assert_eq!(ids(&listed), wanted);

    std::fs::remove_file(notes.join("broken.pdf")).unwrap();
    let second = server.json(0, &["index", path]);
    assert_eq!((&second["indexed"], &second["unchanged"]), (&0.into(), &9.into()), "{second}");

    let pieces = server.json(0, &["search", "whales", "--filter", "path=notes/long.txt", "--limit", "500"]);
    let end = |hit: &Value| hit["passage"]["span"][1].as_u64().unwrap();
    assert!(pieces.as_array().unwrap().iter().map(end).max().unwrap() > 17_000, "the file is not whole");
    let forced =
        server.json(0, &["index", notes.join("README").to_str().unwrap(), "--force", "--name", "again"]);
    assert_eq!(forced["indexed"], 1, "{forced}");
    assert_eq!(server.json(0, &["documents", "delete", "again"])["deleted_count"], 1);

    let hits = server.json(0, &["search", "feline pets that catch rodents"]);
    assert_eq!(hits[0]["passage"]["document_id"], "notes/sub/cats.txt");
    let text = stdout(&server.run(&["search", "how to make bread brown", "--limit", "1"]));
    assert!(text.starts_with("  1. 0.") && text.contains("notes/bread.md"), "{text}");
    assert!(
        text.contains("Baking") && text.contains(">>Bake the loaf until the crust is brown.<<"),
        "{text}"
    );
    let none = server.run(&["search", "bread", "--filter", "extension=pdf"]);
    assert_eq!((none.status.code(), stdout(&none).trim()), (Some(1), "nothing found"));

    std::fs::write(notes.join("README"), "This folder holds other notes.\n").unwrap();
    std::fs::remove_file(notes.join("page.html")).unwrap();
    std::fs::write(notes.join("rows.jsonl"), "{\"id\":\"a\",\"text\":\"An index makes a query fast.\"}\n")
        .unwrap();
    let missing = files.path().join("missing");
    let kept = server.json(1, &["index", path, missing.to_str().unwrap(), "--delete-missing"]);
    assert_eq!((&kept["deleted"], &kept["indexed"]), (&0.into(), &1.into()), "{kept}");
    let third = server.json(0, &["index", path, "--delete-missing"]);
    assert_eq!((&third["deleted"], &third["unchanged"]), (&2.into(), &7.into()), "{third}");
    // What other options leave out is still there.
    assert_eq!(server.json(0, &["index", path, "--all-text"])["indexed"], 1);
    assert_eq!(server.json(0, &["index", path, "--delete-missing"])["deleted"], 0);
    assert_eq!(server.json(0, &["documents", "delete", "notes/code.py"])["deleted_count"], 1);

    // Another folder of the same name must not take the place of this one.
    let other = files.path().join("other/notes");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("README"), "Not the same.\n").unwrap();
    let refused = server.json(1, &["index", other.to_str().unwrap(), "--delete-missing"]);
    assert!(refused["failures"][0]["reason"].as_str().unwrap().contains("--name"), "{refused}");
    assert_eq!(refused["deleted"], 0, "{refused}");
    server.json(0, &["index", other.to_str().unwrap(), "--name", "others"]);

    let shown = server.json(0, &["documents", "show", "notes/bread.md"]);
    assert_eq!(shown["passages"][0]["headings"][0], "Baking");
    assert_eq!(server.json(0, &["documents", "delete", "others/README"])["deleted_count"], 1);
    assert_eq!(server.json(1, &["documents", "delete", "others/README"])["deleted_count"], 0);
    assert_eq!(server.json(0, &["collections", "show", "default"])["document_count"], 7);
    let changed =
        server.json(0, &["collections", "update", "default", "--language", "german", "--max-tokens", "64"]);
    assert_eq!((&changed["language"], &changed["chunking"]["max_tokens"]), (&"german".into(), &64.into()));
    assert_eq!(changed["chunking"]["overlap_tokens"], 0);
    let half = server.run(&["collections", "update", "default", "--overlap-tokens", "2147483648"]);
    assert!(stderr(&half).contains("expected at most half of 64, got 2147483648"), "{}", stderr(&half));
    assert_eq!(server.run(&["collections", "update", "default"]).status.code(), Some(2));
    let refused = server.run(&["collections", "delete", "default"]);
    assert_eq!(refused.status.code(), Some(1), "{}", stdout(&refused));
    assert_eq!(server.json(0, &["collections", "delete", "default", "--force"])["deleted"], "default");
    let unknown = server.run(&["search", "x"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("UNKNOWN_COLLECTION") && stderr(&unknown).contains("hint:"));
}

#[test]
fn texts_are_embedded_and_tokenized_and_quality_is_measured() {
    let Some(models) = models() else { return };
    let (store, files) = (data_dir(&models), tempfile::tempdir().unwrap());
    let server = Server::start(store.path(), "127.0.0.1:0");
    let embedded = server.json(0, &["embed", "hello world", "second"]);
    assert_eq!(embedded["results"][1]["embeddings"][0]["vector"].as_array().unwrap().len(), 384);
    let words = server.json(0, &["embed", "hello world", "--level", "word"]);
    assert_eq!(words["results"][0]["embeddings"][1]["span"], serde_json::json!([6, 11]));
    let mut child =
        server.command(&["tokenize"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n\nna\xc3\xafve\n").unwrap();
    let text = stdout(&child.wait_with_output().unwrap());
    assert!(text.contains("hello  (3 tokens)") && text.contains("naïve"), "{text}");
    assert_eq!(server.json(0, &["info"])["models"][0]["dimensions"], 384);

    let set = files.path().join("set");
    std::fs::create_dir(&set).unwrap();
    let write = |name: &str, lines: &[&str]| std::fs::write(set.join(name), lines.join("\n")).unwrap();
    write(
        "corpus.jsonl",
        &[
            "{\"id\":\"cats\",\"title\":\"Cats\",\"text\":\"They hunt mice at dusk.\"}",
            "{\"id\":\"bread\",\"title\":\"Baking\",\"text\":\"Bake the loaf until the crust is brown.\"}",
            "{\"id\":\"sql\",\"title\":\"Databases\",\"text\":\"Joins combine rows of two tables.\"}",
            "{\"id\":\"empty\",\"text\":\"\"}",
        ],
    );
    write(
        "queries.jsonl",
        &[
            "{\"id\":\"q1\",\"text\":\"feline pets that catch rodents\"}",
            "{\"id\":\"q2\",\"text\":\"how to make bread brown\"}",
            "{\"id\":\"q3\",\"text\":\"relational query\"}",
        ],
    );
    // q1: 1. q2: of two relevant documents one is not there: 1 / (1 + 1/log2(3)). q3: the only one is excluded: 0.
    write(
        "qrels.tsv",
        &["query-id\tcorpus-id\tscore", "q1\tcats\t1", "q2\tbread\t1", "q2\tgone\t1", "q3\tsql\t1"],
    );
    write("exclude.tsv", &["query-id\tcorpus-id", "q3\tsql"]);
    let expected = (1.0 + 1.0 / (1.0 + 1.0 / 3f64.log2())) / 3.0;
    let path = set.to_str().unwrap();
    for protocol in
        [&["--protocol", "beir"][..], &["--protocol", "service"], &["--protocol", "service", "--exact"]]
    {
        let measured = server.json(0, &[&["eval", path], protocol].concat());
        assert!((measured["ndcg_at_10"].as_f64().unwrap() - expected).abs() < 1e-9, "{measured}");
        assert!((measured["mrr_at_10"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9, "{measured}");
        assert!((measured["recall_at_100"].as_f64().unwrap() - 0.5).abs() < 1e-9, "{measured}");
    }
    assert_eq!(server.json(0, &["collections", "list"]), serde_json::json!([]));
    let all = server.json(0, &["eval", path, "--no-exclude", "--no-title", "--limit-queries", "3"]);
    assert!((all["mrr_at_10"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{all}");

    let pairs = files.path().join("pairs.tsv");
    let lines = "score\ta\tb\n5\tA man rides a horse.\tA man is riding a horse.\n2.5\tA man rides a horse.\tA man \
                 is near a horse.\n0\tA man rides a horse.\tShares fell on Monday.\n";
    std::fs::write(&pairs, lines).unwrap();
    let measured = server.json(0, &["eval", pairs.to_str().unwrap()]);
    assert!((measured["spearman"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{measured}");
    let unknown = server.run(&["eval", set.join("queries.jsonl").to_str().unwrap()]);
    assert_eq!(unknown.status.code(), Some(2), "{}", stderr(&unknown));
}

#[test]
fn indexing_goes_on_after_a_crash_of_the_server_and_after_an_interrupt() {
    let Some(models) = models() else { return };
    let (store, files) = (data_dir(&models), tempfile::tempdir().unwrap());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let mut server = Server::start(store.path(), &listen);
    let path = files.path().join("many.jsonl");
    let count = 1500;
    let lines = (0..count)
        .map(|n| format!("{{\"id\":{n},\"text\":\"Note {n} tells of the number {n}. It is short.\"}}\n"));
    std::fs::write(&path, lines.collect::<String>()).unwrap();
    let index = ["index", path.to_str().unwrap(), "--json", "--window", "16"];
    let start = |server: &Server| {
        server.command(&index).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let documents = |server: &Server| {
        let shown = server.run(&["collections", "show", "default", "--json"]);
        let value: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
        value["document_count"].as_u64().unwrap_or_default()
    };
    let wait_for = |server: &Server, least: u64| {
        let started = Instant::now();
        while documents(server) < least {
            assert!(started.elapsed() < PATIENCE, "no progress");
            std::thread::sleep(Duration::from_millis(20));
        }
    };

    let client = start(&server);
    wait_for(&server, 100);
    let interrupted = Command::new("kill").args(["-INT", &client.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    // What was sent before the interrupt was waited for.
    assert_eq!(summary["indexed"].as_u64(), Some(documents(&server)), "{summary}");
    let before = documents(&server);
    assert!(before < count, "the run ended before the interrupt");

    let client = start(&server);
    wait_for(&server, before + 100);
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let server = Server::start(store.path(), &listen);
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("lost the server"), "{}", stderr(&output));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let settled = summary["indexed"].as_u64().unwrap() + summary["unchanged"].as_u64().unwrap();
    assert_eq!((settled, documents(&server)), (count, count), "{summary}");
}

#[test]
fn exit_codes_without_a_server() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = format!("http://127.0.0.1:{port}");
    let run = |args: &[&str]| {
        program().args(["--server", &server]).args(args).stdin(Stdio::null()).output().unwrap()
    };
    for (code, args) in [
        (3, &["search", "x"][..]),
        (3, &["info"]),
        (3, &["index", "."]),
        (2, &["search"]),
        (2, &["search", "x", "--no-such-flag"]),
        (2, &["search", "x", "--filter", "novalue"]),
        (2, &["index", "src", "demo/../src"]),
        (2, &["tokenize"]),
        (2, &["--server", "not a url", "info"]),
        (2, &["serve", "--set", "novalue"]),
        (1, &["serve", "--listen", "nowhere"]),
        (0, &["help", "index"]),
        (0, &["completions", "bash"]),
        (0, &["--version"]),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert_eq!(output.stderr.is_empty(), code == 0, "{args:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "{args:?}");
    }
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = occupied.local_addr().unwrap().to_string();
    let output = run(&["serve", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("ADDRESS_UNUSABLE"), "{}", stderr(&output));
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = program()
        .args(["config", "reference"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[test]
fn the_configuration_is_checked_and_printed() {
    let dir = tempfile::tempdir().unwrap();
    for part in ["runtime", "models/all-MiniLM-L6-v2"] {
        std::fs::create_dir_all(dir.path().join("data").join(part)).unwrap();
    }
    let file = dir.path().join("trove.toml");
    let check = |extra: &[&str]| {
        let data = dir.path().join("data");
        let data = data.to_str().unwrap();
        let path = file.to_str().unwrap();
        program()
            .env("TROVE__ENCODER__THREADS", "1")
            .args(["config", "check", "--config", path, "--data-dir", data])
            .args(extra)
            .output()
            .unwrap()
    };
    std::fs::write(&file, "[limits]\nmax_batch_size = 7\n").unwrap();
    let good = check(&[]);
    assert_eq!(good.status.code(), Some(0), "{}", stderr(&good));
    let row = |output: &Output, key: &str| {
        let text = stdout(output);
        let line =
            text.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap_or_default().to_owned();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row(&good, "limits.max_batch_size"), format!("7 {}", file.display()));
    assert_eq!(row(&good, "encoder.threads"), "1 TROVE__ENCODER__THREADS");
    assert_eq!(row(&good, "listen"), "127.0.0.1:7700 default");
    std::fs::write(&file, "[limits]\nmax_batch_size = 0\n[encodr]\ndevice = \"cpu\"\n").unwrap();
    let settings = [
        "encoder.models=absent",
        "generator.models=none,auto,typo",
        "tls.certificate=/no/such/certificate.pem",
        "encoder.device=cpu",
        "encoder.precision=fp16",
        "cuda.device_id=5000000000",
        "answer.prompt=none-such",
    ];
    let bad = check(&settings.map(|setting| ["--set", setting]).concat());
    assert_eq!(bad.status.code(), Some(1));
    let problems = [
        "expected a whole number of at least 1, got 0",
        "perhaps encoder.device",
        "models/absent",
        "models/typo",
        "tls.certificate (--set): expected a path that exists",
        "expected both tls.certificate and tls.key",
        "UNSUPPORTED_PRECISION",
        "cuda.device_id (--set): expected a whole number from 0 to 2147483647, got \"5000000000\"",
        "UNKNOWN_PROMPT",
        "9 problems",
    ];
    for problem in problems {
        assert!(stderr(&bad).contains(problem), "{problem} is not in {}", stderr(&bad));
    }
    let no_pem = file.to_str().unwrap();
    let pair = ["certificate", "key"].map(|part| format!("tls.{part}={no_pem}"));
    let bad = check(&["--set", &pair[0], "--set", &pair[1]]);
    assert!(stderr(&bad).contains("BAD_CERTIFICATE: tls.certificate"), "{}", stderr(&bad));
    let open = check(&["--listen", "0.0.0.0:7700", "--set", "access.strict=true"]);
    assert!(stderr(&open).contains("UNPROTECTED: access.strict"), "{}", stderr(&open));
    let default = program().args(["config", "default"]).output().unwrap();
    std::fs::write(&file, &default.stdout).unwrap();
    assert_eq!(check(&[]).status.code(), Some(0));
}

/// What a terminal or a reader's eye obeys instead of showing it: controls, C1, marks of direction, hidden characters.
fn is_unseen(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[test]
fn a_terminal_obeys_nothing_that_a_document_a_file_or_a_server_says() {
    const ESCAPES: &str =
        "\u{1b}]52;c;ZXZpbA==\u{7}\u{1b}[2J\u{9b}31m\u{9d}0;t\u{9c}\u{202e}\u{2066}\u{200b}\u{7f}\r\u{e0041}";
    let Some(models) = models() else { return };
    let (store, files) = (data_dir(&models), tempfile::tempdir().unwrap());
    let server = Server::start(store.path(), "127.0.0.1:0");
    let text =
        format!("The lighthouse {ESCAPES} keeper lit the lamp {ESCAPES} at dusk. Nobody {ESCAPES} saw it.");
    let record = serde_json::json!({"id": "safe\u{202e}id", "title": format!("Title {ESCAPES}"), "text": text, "kind": ESCAPES});
    let folder = files.path().join("evil");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("rows.jsonl"), record.to_string()).unwrap();
    std::fs::write(folder.join(format!("a{}.pdf", "\u{1b}[2J\u{9b}1m\u{202e}\n")), "%PDF-1.4 nonsense")
        .unwrap();
    std::fs::write(
        folder.join("page.md"),
        format!("# Heading {ESCAPES}\n\nThe lamp of the lighthouse {ESCAPES} burns oil.\n"),
    )
    .unwrap();
    std::fs::write(folder.join(format!("x.{}", "\u{1b}[2J\u{9b}")), "of an unknown kind").unwrap();
    let path = folder.to_str().unwrap();
    let exported = files.path().join("out.jsonl");
    let commands: Vec<Vec<&str>> = vec![
        vec!["index", path, "--dry-run"],
        vec!["index", path],
        vec!["index", path, "--json"],
        vec!["search", "who lit the lamp"],
        vec!["search", "who lit the lamp", "--full"],
        vec!["search", "who lit the lamp", "--json"],
        vec!["ask", "Who lit the lamp of the lighthouse?", "--extractive"],
        vec!["ask", "Who lit the lamp of the lighthouse?", "--extractive", "--json"],
        vec!["documents", "list"],
        vec!["documents", "list", "--json"],
        vec!["documents", "show", "evil/rows.jsonl#safe\u{202e}id"],
        vec!["documents", "show", "evil/page.md"],
        vec!["documents", "show", ESCAPES],
        vec!["export", "default"],
        vec!["export", "default", exported.to_str().unwrap()],
        vec!["tokenize", &text],
        vec!["embed", &text, "--overflow", "window"],
        vec!["collections", "update", "default", "--description", ESCAPES],
        vec!["collections", "show", "default"],
        vec!["collections", "create", ESCAPES],
        vec!["search", "x", "--collection", ESCAPES],
        vec!["search", "x", "--filter", ESCAPES],
        vec!["snapshots", "restore", ESCAPES],
        vec!["models", "show", ESCAPES],
        vec!["import", "default", path],
        vec!["info", "--server", "http://127.0.0.1:9\u{202e}"],
    ];
    for command in commands {
        let output = server.run(&command);
        for shown in [stdout(&output), stderr(&output)] {
            assert!(!shown.contains(is_unseen), "{command:?}: {shown:?}");
        }
        let wanted = match command[0] {
            "search" | "ask" | "export"
                if !command.contains(&"--collection") && !command.contains(&"--filter") =>
            {
                0
            }
            _ => continue,
        };
        assert_eq!(output.status.code(), Some(wanted), "{command:?}: {}", stderr(&output));
        if command.len() < 3 || command.last() != exported.to_str().as_ref() {
            let escape = if command.contains(&"--json") || command[0] == "export" {
                r"\u001b"
            } else {
                r"\u{1b}]52;c;ZXZpbA==\u{7}"
            };
            assert!(stdout(&output).contains(escape), "{command:?}: {}", stdout(&output));
        }
    }
    assert!(!std::fs::read_to_string(&exported).unwrap().contains(is_unseen));
    let shown = server.json(0, &["documents", "show", "evil/rows.jsonl#safe\u{202e}id"]);
    assert_eq!(
        (&shown["text"], &shown["metadata"]["kind"]),
        (&text.into(), &ESCAPES.into()),
        "JSON keeps every character"
    );
}
