//! What was acknowledged stays: after a stop, a full disk, and from older programs. tests/soak.rs kills.

mod common;

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::*;
use futures::StreamExt;
use tonic::Code;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_types::StatusExt;
use trove::proto::admin_service_client::AdminServiceClient;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::embedding_service_client::EmbeddingServiceClient;
use trove::proto::ingest_documents_request::Part;
use trove::proto::ingest_documents_response::Event;
use trove::proto::{self, DocumentStatus};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_finishes_what_was_read_and_says_so() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let mut server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: "trove.v1.DocumentService".to_owned() };
    let mut watch = health.watch(request).await.unwrap().into_inner();
    let serving = tonic_health::pb::health_check_response::ServingStatus::Serving as i32;
    assert_eq!(watch.message().await.unwrap().unwrap().status, serving);

    let text = |n: u32| format!("Note {n} tells of the number {n}. It has a second sentence.");
    let parts = (0..50_000).map(move |n| Part::Document(text_document(&format!("n{n}"), &text(n))));
    let messages = tokio_stream::iter(ingest_messages(parts));
    let mut stream = documents(&channel).ingest_documents(messages).await.unwrap().into_inner();
    let (mut acknowledged, mut said_so) = (Vec::new(), false);
    let end = loop {
        match stream.message().await {
            Ok(Some(message)) => match message.event {
                Some(Event::Result(result)) => {
                    assert!(!said_so, "a result after the farewell");
                    assert_eq!(result.status(), DocumentStatus::Indexed, "{result:?}");
                    acknowledged.push(result.document_id);
                }
                Some(Event::ShuttingDown(_)) => said_so = true,
                None => panic!("an event that is empty"),
            },
            Ok(None) => panic!("the stream ended as if it were complete"),
            Err(status) => break status,
        }
        if acknowledged.len() == 40 {
            server.terminate();
        }
    };
    assert!(said_so && acknowledged.len() >= 40);
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unavailable, "SERVER_STOPPING"));
    assert!(end.get_error_details().retry_info().is_some());
    assert_ne!(watch.message().await.unwrap().unwrap().status, serving);
    assert!(server.wait(Duration::from_secs(10)).success());

    let server = Server::start(data.path()).await;
    let mut stored: Vec<_> = list(&server.channel().await).await.into_iter().map(|d| d.id).collect();
    acknowledged.sort_unstable();
    stored.sort_unstable();
    assert!(stored == acknowledged, "{} are stored, {} were acknowledged", stored.len(), acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quiet_streams_do_not_hold_up_a_stop() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let mut server = Server::start(data.path()).await;
    let channel = server.channel().await;
    let request = proto::EmbedRequest { inputs: vec!["Rain falls.".to_owned()], options: None };
    let batch = proto::EmbedStreamRequest { request: Some(request) };
    let batches = tokio_stream::once(batch).chain(tokio_stream::pending());
    let mut embedding = EmbeddingServiceClient::new(channel.clone());
    let mut vectors = embedding.embed_stream(batches).await.unwrap().into_inner();
    assert!(vectors.message().await.unwrap().is_some());
    let listing = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let questions = tokio_stream::once(listing).chain(tokio_stream::pending());
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let mut services = reflection.server_reflection_info(questions).await.unwrap().into_inner();
    assert!(services.message().await.unwrap().is_some());

    server.terminate();
    let end = vectors.message().await.unwrap_err();
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unavailable, "SERVER_STOPPING"));
    assert!(end.get_error_details().retry_info().is_some());
    assert!(services.message().await.unwrap().is_none());
    assert!(server.wait(Duration::from_secs(10)).success());
}

#[tokio::test]
async fn a_deadline_ends_a_call_and_its_work() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let long =
        |n: u32| text_document(&format!("d{n}"), &format!("Document {n}. {}", "More of it. ".repeat(2000)));
    let mut request = tonic::Request::new(upsert_request((0..200).map(long).collect()));
    request.set_timeout(Duration::from_millis(1500));
    let status = documents(&channel).upsert_documents(request).await.unwrap_err();
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&status.code()), "{status:?}");
    // What is encoded already is stored; the queue behind it must be gone, or this would wait for it.
    let started = std::time::Instant::now();
    upsert(&channel, vec![text_document("after", "A short note.")]).await;
    let waited = started.elapsed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let settled = list(&channel).await.len();
    assert!(settled < 150, "{settled} of 200 documents were stored; the next call waited {waited:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(list(&channel).await.len(), settled, "the work went on");
}

#[tokio::test]
async fn an_acknowledgement_comes_after_an_fsync() {
    let Some(models) = models() else { return };
    if Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        eprintln!("skipped: there is no strace");
        return;
    }
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let log = data.path().join("strace.log");
    let mut strace = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=pwrite64,write,writev,sendto,sendmsg,fsync,fdatasync", "-o"])
        .arg(&log)
        .args(["-p", &server.child.id().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It says so when it has attached to every thread.
    let mut byte = [0];
    let mut said = Vec::new();
    let stderr = strace.stderr.as_mut().unwrap();
    while !said.ends_with(b"attached") {
        if stderr.read(&mut byte).unwrap() == 0 {
            eprintln!("skipped: strace may not attach: {}", String::from_utf8_lossy(&said));
            let _ = strace.wait();
            return;
        }
        said.push(byte[0]);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    // So much text that sled writes pages of it to files of their own.
    let text = format!("A note that is kept. {}", "\u{2028}".repeat(300_000));
    let results = upsert(&channel, vec![text_document("x", &text)]).await;
    assert_eq!(results[0].status(), DocumentStatus::Indexed);
    tokio::time::sleep(Duration::from_millis(300)).await;
    Command::new("kill").args(["-INT", &strace.id().to_string()]).status().unwrap();
    strace.wait().unwrap();
    let log = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let is_db = |line: &str| line.contains("/db>");
    let written = lines.iter().position(|l| l.contains("pwrite64(") && is_db(l));
    let written = written.unwrap_or_else(|| panic!("nothing was written to the database:\n{log}"));
    // A call that another thread interrupts is logged in two lines; it is done at the second.
    let begun = lines.iter().skip(written).position(|l| l.contains("fdatasync(") && is_db(l));
    let begun = written + begun.unwrap_or_else(|| panic!("the database was not synced:\n{log}"));
    let thread = lines[begun].split_whitespace().next().unwrap();
    let is_done = |l: &&&str| l.starts_with(thread) && l.contains("fdatasync") && l.ends_with("= 0");
    let done = lines.iter().skip(begun).position(|l| is_done(&l)).expect("the sync succeeds") + begun;
    check_blobs(&lines, begun);
    let answers = |l: &str| l.contains("TCP") || l.contains("socket:");
    let answered =
        lines.iter().skip(written).position(|l| answers(l)).expect("the call is answered") + written;
    assert!(done < answered, "answered in line {answered}, synced in line {done}:\n{log}");
}

/// That all files beside the database that were written before it was synced, in line `synced`, were synced between, and
/// then their directory.
fn check_blobs(lines: &[&str], synced: usize) {
    let before = || lines.iter().take(synced).enumerate().filter(|(_, line)| line.contains("/blobs"));
    let path =
        |line: &str| line.split_once('<').and_then(|(_, rest)| Some(rest.split_once('>')?.0.to_owned()));
    let written: BTreeMap<_, _> =
        before().filter(|(_, line)| line.contains("write(")).map(|(at, line)| (path(line), at)).collect();
    let last = |call: &str, of: &Option<String>| {
        before().filter(|(_, line)| line.contains(call) && path(line) == *of).map(|(at, _)| at).next_back()
    };
    assert!(!written.is_empty(), "nothing was written beside the database:\n{}", lines.join("\n"));
    for (blob, at) in written {
        let name = blob.as_ref().unwrap();
        // Some are removed again before the sync.
        if !Path::new(name).exists() {
            continue;
        }
        let file = last("fdatasync(", &blob).filter(|file| *file > at);
        let file = file.unwrap_or_else(|| panic!("{name} was not synced:\n{}", lines.join("\n")));
        let directory = Path::new(name).parent().unwrap().to_str().unwrap().to_owned();
        assert!(last("fsync(", &Some(directory)) > Some(file), "{name} has no entry:\n{}", lines.join("\n"));
    }
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, with the reason on standard error, where this user may not mount.
    fn mount(megabytes: u32) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(SmallDisk(dir)),
            Ok(output) => {
                eprintln!(
                    "skipped: no disk can be mounted: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                );
                None
            }
            Err(error) => {
                eprintln!("skipped: no disk can be mounted: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

// Several threads, or a test that waits for the server would keep its own connection from closing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let Some(models) = models() else { return };
    let Some(disk) = SmallDisk::mount(80) else { return };
    borrow_models(&models, disk.path());
    let mut server = Server::start(disk.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    // What replacing leaves to be cleared away.
    for text in ["The first text.", "The second text."] {
        upsert(&channel, vec![text_document("again", text)]).await;
    }
    let ballast = disk.path().join("ballast");
    // Little is left above the reserve, so that a few documents use it up.
    std::fs::write(&ballast, vec![0; 10 << 20]).unwrap();
    let mut acknowledged = vec!["again".to_owned()];
    let refused = loop {
        let id = format!("d{}", acknowledged.len());
        // Text without a repetition is large on disk and quick to encode.
        let text = format!("Note {id}. {}", "\u{2028}".repeat(300_000));
        let result = upsert(&channel, vec![text_document(&id, &text)]).await.remove(0);
        if result.status() == DocumentStatus::Failed {
            break result;
        }
        acknowledged.push(id);
        assert!(acknowledged.len() < 500, "the disk does not fill up");
    };
    assert!(acknowledged.len() > 1);
    let code = Code::ResourceExhausted as i32;
    assert_eq!((refused.error_code, refused.error_reason.as_str()), (code, "DISK_FULL"));
    // Reads go on, also after a restart, for which there is no room to clear anything away.
    assert_eq!(ids(&found(&channel, query("note")).await).len(), acknowledged.len().min(10));
    let more = disk.path().join("more");
    std::fs::write(&more, vec![0; 45 << 20]).unwrap();
    server.terminate();
    assert!(server.wait(Duration::from_secs(10)).success());
    let mut server = Server::start(disk.path()).await;
    let channel = server.channel().await;
    assert_eq!(ids(&found(&channel, query("note")).await).len(), acknowledged.len().min(10));
    let refused = upsert(&channel, vec![text_document("no", "There is no room.")]).await.remove(0);
    assert_eq!(refused.error_reason, "DISK_FULL");
    // Writing goes on once there is room again, without a restart.
    std::fs::remove_file(&ballast).unwrap();
    std::fs::remove_file(&more).unwrap();
    let result = upsert(&channel, vec![text_document("later", "There is room again.")]).await.remove(0);
    assert_eq!(result.status(), DocumentStatus::Indexed, "{result:?}");
    acknowledged.push("later".to_owned());
    server.terminate();
    assert!(server.wait(Duration::from_secs(10)).success());

    let server = Server::start(disk.path()).await;
    let mut stored: Vec<_> = list(&server.channel().await).await.into_iter().map(|d| d.id).collect();
    acknowledged.sort_unstable();
    stored.sort_unstable();
    assert_eq!(stored, acknowledged);
}

/// The folder that stores of old versions keep.
const STORES: &str = "tests/data/stores";

fn unpack(archive: &Path, to: &Path) {
    let file = std::fs::File::open(archive).unwrap();
    zip::ZipArchive::new(file).unwrap().extract(to).unwrap();
}

#[tokio::test]
async fn stores_of_every_past_version_open() {
    let Some(models) = models() else { return };
    let mut archives: Vec<_> = std::fs::read_dir(STORES).unwrap().map(|e| e.unwrap().path()).collect();
    archives.retain(|path| path.extension().is_some_and(|e| e == "zip"));
    archives.sort();
    assert!(archives.len() as u32 >= trove::store::SCHEMA_VERSION);
    for archive in archives {
        let data = data_dir(&models);
        unpack(&archive, data.path());
        let server = Server::start(data.path()).await;
        let channel = server.channel().await;
        let stored = list(&channel).await;
        let ids_of: Vec<_> = stored.iter().map(|d| d.id.as_str()).collect();
        assert_eq!(ids_of, ["notes/bread.txt", "notes/lighthouse.md"], "{}", archive.display());
        assert_eq!(text_of(&stored[0]).lines().nth(1), Some("Bake the loaf until the crust is brown."));
        assert_eq!((stored[1].title.as_str(), stored[1].passages.len()), ("Lighthouses", 3));
        assert_eq!(stored[1].passages[1].headings, ["Lighthouses", "Purpose"]);
        assert_eq!(stored[1].metadata["extension"], string("md"));
        let hits = found(&channel, query("beacons for sailors")).await;
        assert_eq!(ids(&hits)[0], "notes/lighthouse.md");
        assert_eq!(hits.len(), 4, "what was replaced and deleted stays away");
        // What the vectors say must not depend on who stored them.
        let again = upsert(&channel, vec![text_document("again", text_of(&stored[0]))]).await;
        assert_eq!(again[0].status(), DocumentStatus::Indexed);
        let like = proto::search_query::Query::DocumentId("again".to_owned());
        let request =
            proto::SearchRequest { query: Some(proto::SearchQuery { query: Some(like) }), ..query("") };
        let hits = found(&channel, request).await;
        assert_eq!(ids(&hits)[0], "notes/bread.txt");
        assert!(hits[0].score > 0.999, "{}", hits[0].score);
        // The same file is known by its content, though the old program did not write down how it was read.
        let markdown = std::fs::read(format!("{STORES}/lighthouse.md")).unwrap();
        let results =
            upsert(&channel, vec![data_document("notes/lighthouse.md", &markdown, "text/markdown")]).await;
        assert_eq!(results[0].status(), DocumentStatus::Updated);
    }
}

/// Run this with `--ignored` at the end of a schema's time, before the next one is written, and commit what
/// it leaves in `tests/data/stores`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes into the source tree"]
async fn save_a_store_of_this_version() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let mut server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let file = |id: &str, text: &str, media_type| proto::Document {
        metadata: [("extension".to_owned(), string(id.rsplit('.').next().unwrap()))].into(),
        ..data_document(id, text.as_bytes(), media_type)
    };
    let lighthouse = std::fs::read_to_string(format!("{STORES}/lighthouse.md")).unwrap();
    let bread = "Bread needs flour, water, salt and yeast.\n";
    upsert(
        &channel,
        vec![
            file("notes/lighthouse.md", &lighthouse, "text/markdown"),
            file("notes/bread.txt", &format!("{bread}Knead the dough for ten minutes.\n"), "text/plain"),
            file("notes/gone.txt", "This note will be deleted.\n", "text/plain"),
        ],
    )
    .await;
    let last = format!("{bread}Bake the loaf until the crust is brown.\n");
    upsert(&channel, vec![file("notes/bread.txt", &last, "text/plain")]).await;
    assert_eq!(delete(&channel, &["notes/gone.txt"]).await, 1);
    server.terminate();
    assert!(server.wait(Duration::from_secs(10)).success());
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    pack(&mut archive, data.path(), &data.path().join("store"));
    let name = format!("{STORES}/v{:04}.zip", trove::store::SCHEMA_VERSION);
    std::fs::write(name, archive.finish().unwrap().into_inner()).unwrap();
}

fn pack(archive: &mut zip::ZipWriter<Cursor<Vec<u8>>>, root: &Path, dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            archive.add_directory(name, zip::write::SimpleFileOptions::default()).unwrap();
            pack(archive, root, &path);
        } else {
            archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(&std::fs::read(&path).unwrap()).unwrap();
        }
    }
}

/// A text without a repetition, large on disk and quick to encode: sled writes pages of it to files of their own.
fn large(id: &str) -> proto::Document {
    text_document(id, &format!("Note {id}. {}", "\u{2028}".repeat(300_000)))
}

/// Files and directories below one, with their modes; links are not followed.
fn modes(path: &Path, found: &mut Vec<(String, u32)>) {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    if metadata.is_symlink() {
        return;
    }
    found.push((path.display().to_string(), metadata.permissions().mode() & 0o777));
    if metadata.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| modes(&entry.unwrap().path(), found));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_is_its_owners_alone() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let fill = async |before: &str, round: &str| {
        let server = Server::start_after(before, data.path(), &[]).await;
        let channel = server.channel().await;
        if round == "a" {
            create(&channel, NOTES).await;
        }
        let results =
            upsert(&channel, vec![large(round), text_document(&format!("{round}2"), "A note.")]).await;
        assert!(results.iter().all(|result| result.status() == DocumentStatus::Indexed), "{results:?}");
        let mode = proto::SearchMode::Keyword.into();
        assert!(!found(&channel, proto::SearchRequest { mode, ..query("note") }).await.is_empty());
        let snapshot = proto::CreateSnapshotRequest { name: round.to_owned(), collections: Vec::new() };
        AdminServiceClient::new(channel.clone()).create_snapshot(snapshot).await.unwrap();
        let compact = proto::CompactCollectionRequest { name: NOTES.to_owned() };
        CollectionServiceClient::new(channel).compact_collection(compact).await.unwrap();
        make_key(data.path(), round, "admin", &[]);
    };
    let check = || {
        let mut found = Vec::new();
        std::fs::read_dir(data.path()).unwrap().for_each(|entry| modes(&entry.unwrap().path(), &mut found));
        let open: Vec<_> = found.iter().filter(|(_, mode)| mode & 0o077 != 0).collect();
        assert!(found.len() > 20 && open.is_empty(), "of {}: {open:?}", found.len());
    };
    fill("umask 0", "a").await;
    check();
    // As an older program left it.
    let opened = Command::new("chmod").args(["-R", "go+rX"]).arg(data.path()).status().unwrap();
    assert!(opened.success());
    std::fs::remove_file(data.path().join("keys.json")).unwrap();
    fill("umask 022", "b").await;
    check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_take_no_descriptor_that_a_write_needs() {
    let Some(models) = models() else { return };
    // The connections need descriptors here too.
    rlimit::increase_nofile_limit(8192).unwrap();
    let data = data_dir(&models);
    let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = [
        ("TROVE__LIMITS__MAX_CONNECTIONS", "300"),
        ("TROVE__LIMITS__MAX_CONNECTIONS_PER_CLIENT", "300"),
        ("TROVE__METRICS__LISTEN", &metrics.to_string()),
    ];
    let server = Server::start_after("ulimit -n 1024", data.path(), &settings).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let address = server.url.strip_prefix("http://").unwrap().parse().unwrap();
    let mut connections = Vec::new();
    for to in [metrics, address] {
        for _ in 0..1200 {
            let connect = std::net::TcpStream::connect_timeout(&to, Duration::from_millis(200));
            connections.extend(connect.ok());
        }
    }
    assert!(connections.len() > 1100, "{}", connections.len());
    let mut written = Vec::new();
    for n in 0..12 {
        let html = format!("<html><body><p>Page {n} says what it says.</p></body></html>");
        let batch = vec![
            large(&format!("a{n:02}")),
            data_document(&format!("b{n:02}"), html.as_bytes(), "text/html"),
        ];
        written.extend(batch.iter().map(|document| document.id.clone()));
        let results = upsert(&channel, batch).await;
        assert!(results.iter().all(|result| result.status() == DocumentStatus::Indexed), "{results:?}");
    }
    let snapshot = proto::CreateSnapshotRequest { name: "one".to_owned(), collections: Vec::new() };
    AdminServiceClient::new(channel.clone()).create_snapshot(snapshot).await.unwrap();
    let compact = proto::CompactCollectionRequest { name: NOTES.to_owned() };
    CollectionServiceClient::new(channel.clone()).compact_collection(compact).await.unwrap();
    drop(server);
    drop(connections);
    let server = Server::start(data.path()).await;
    let mut stored: Vec<_> = list(&server.channel().await).await.into_iter().map(|d| d.id).collect();
    stored.sort_unstable();
    written.sort_unstable();
    assert_eq!(stored, written);
}

#[test]
fn settings_that_need_more_files_than_there_may_be_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let run = |command: &str| {
        let line = format!("ulimit -n 1024 && exec \"$0\" {command} --data-dir \"$1\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &line, env!("CARGO_BIN_EXE_trove")]).arg(data.path());
        shell.env_remove("TROVE_CONFIG").env("TROVE__LISTEN", "127.0.0.1:0");
        let output = shell.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    for command in ["serve", "config check", "doctor"] {
        let told = run(command);
        for part in ["TOO_FEW_FILES", "limits.max_connections = 1024", "got 1024", "at most 300"] {
            assert!(told.contains(part), "{command} does not tell {part}: {told}");
        }
    }
    assert!(!data.path().join("store").exists());
}
