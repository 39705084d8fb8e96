//! Export and import of collections as JSON Lines, through the program.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use tonic::transport::Channel;
use trove::proto;
use trove::proto::export_documents_response::Part;

/// The program as a client: its exit code, and what it printed on standard output and error.
fn trove(server: &Server, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_trove"))
        .args(["--server", &server.url])
        .args(args)
        .env_remove("TROVE_SERVER")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

const MARKDOWN: &str =
    "# Lighthouses\n\nA lighthouse warns ships. It stands on a rock.\n\n## Lamps\n\nLamps turn.";

async fn fill(channel: &Channel) {
    create(channel, NOTES).await;
    let mut long = text_document("long", &"A sentence of äöü and more. ".repeat(3000));
    long.title = "Long \"quoted\"\nand broken".to_owned();
    let kinds = [
        proto::metadata_value::Kind::IntValue(i64::MIN),
        proto::metadata_value::Kind::DoubleValue(0.1 + 0.2),
        proto::metadata_value::Kind::BoolValue(true),
        proto::metadata_value::Kind::TimestampValue(prost_types::Timestamp {
            seconds: -1,
            nanos: 999_999_999,
        }),
        proto::metadata_value::Kind::StringList(proto::StringList {
            values: vec!["a".to_owned(), String::new()],
        }),
    ];
    for (n, kind) in kinds.into_iter().enumerate() {
        long.metadata.insert(format!("k{n}"), proto::MetadataValue { kind: Some(kind) });
    }
    long.metadata.insert("null".to_owned(), proto::MetadataValue { kind: None });
    let documents = vec![
        long,
        data_document("light.md", MARKDOWN.as_bytes(), "text/markdown"),
        text_document("short", "Bread rises."),
    ];
    for result in upsert(channel, documents).await {
        assert_eq!(result.status(), proto::DocumentStatus::Indexed, "{result:?}");
    }
}

/// All parts of an export, without times and what the collection is called.
async fn export(channel: &Channel, collection: &str) -> Vec<Part> {
    let request = proto::ExportDocumentsRequest { collection: collection.to_owned(), filter: None };
    let mut stream = documents(channel).export_documents(request).await.unwrap().into_inner();
    let mut parts = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        let mut part = message.part.unwrap();
        match &mut part {
            Part::Collection(_) => continue,
            Part::Document(stored) => {
                let document = stored.document.as_mut().unwrap();
                (document.create_time, document.update_time) = (None, None);
            }
            _ => {}
        }
        parts.push(part);
    }
    parts
}

fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exported_is_imported_to_the_bit() {
    let Some(models) = models() else { return };
    let (data, files) = (data_dir(&models), tempfile::tempdir().unwrap());
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    fill(&channel).await;
    let file = path(files.path(), "notes.jsonl");
    let file = file.to_str().unwrap();
    let (code, out, err) = trove(&server, &["export", NOTES, file]);
    assert_eq!((code, out.as_str()), (0, "exported 3 documents of notes\n"), "{err}");
    let before = export(&channel, NOTES).await;
    assert!(
        before.iter().filter(|part| matches!(part, Part::Passages(_))).count() > 3,
        "parts of a long document"
    );

    let (code, out, err) = trove(&server, &["import", "copy", file]);
    assert_eq!((code, out.as_str()), (0, "imported 3 documents into copy, 0 unchanged\n"), "{err}");
    assert_eq!(export(&channel, "copy").await, before);
    let (_, out, _) = trove(&server, &["import", "copy", file]);
    assert_eq!(out, "imported 0 documents into copy, 3 unchanged\n");
    let request = proto::SearchRequest { collection: "copy".to_owned(), ..query("beacons for ships") };
    assert_eq!(ids(&found(&channel, request).await)[0], "light.md");

    // Into an empty server under the old name, through standard output and input.
    let elsewhere = data_dir(&models);
    let other = Server::start(elsewhere.path()).await;
    let channel = other.channel().await;
    assert_eq!(trove(&other, &["--json", "import", file]).0, 0);
    assert_eq!(export(&channel, NOTES).await, before);
    let (code, out, _) = trove(&other, &["export", NOTES]);
    assert_eq!((code, out.lines().count()), (0, 5));
    let lines = |text: &str| {
        text.lines().map(|l| l.split("\"create_time\"").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(lines(&out), lines(&std::fs::read_to_string(file).unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_lines_are_named_and_the_others_go_in() {
    let Some(models) = models() else { return };
    let (data, files) = (data_dir(&models), tempfile::tempdir().unwrap());
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    fill(&channel).await;
    let (_, good, _) = trove(&server, &["export", NOTES]);
    let lines: Vec<&str> = good.lines().collect();
    let import = |name: &str, text: String, more: &[&str]| {
        let file = path(files.path(), name);
        std::fs::write(&file, text).unwrap();
        trove(&server, &[&["import", name, file.to_str().unwrap()], more].concat())
    };
    let short = lines.iter().find(|line| line.contains("Bread rises")).unwrap();
    let end = r#"{"documents":4}"#;
    // A vector of another length, a span beyond the text, and what is no JSON.
    let vector = short.split("\"vector\":\"").nth(1).unwrap().split('"').next().unwrap();
    let wrong_vector = short.replacen(vector, "AACAPw==", 1).replace("\"short\"", "\"wrong\"");
    let wrong_span = short.replacen("\"span\":[0,", "\"span\":[0,9", 1).replace("\"short\"", "\"span\"");
    let text = [lines[0], &wrong_vector, "{not json", &wrong_span, short, end].join("\n");
    let (code, out, err) = import("bad", text, &[]);
    assert_eq!((code, out.as_str()), (1, "imported 1 documents into bad, 0 unchanged, 3 failed\n"), "{err}");
    assert!(err.contains("line 2: \"wrong\": INVALID_ARGUMENT WRONG_DIMENSIONS"), "{err}");
    assert!(
        err.contains("line 3: ") && err.contains("line 4: \"span\": INVALID_ARGUMENT SPAN_OUT_OF_BOUNDS"),
        "{err}"
    );

    let (code, _, err) = import("cut", lines[..3].join("\n"), &[]);
    assert!(code == 1 && err.contains("line 4") && err.contains("cut off"), "{err}");
    let (code, _, err) = import("head", short.to_string(), &[]);
    assert!(code == 1 && err.contains("line 1: expected the header"), "{err}");

    // Vectors of a model that the server does not have.
    let (model, digits) =
        lines[0].split_once('@').map(|(_, rest)| rest.split_at(8)).map(|(a, b)| (a.to_owned(), b)).unwrap();
    assert!(digits.len() > 8);
    let text = good.replacen(&format!("@{model}"), "@00000000", 1);
    let (code, _, err) = import("other", text.clone(), &[]);
    assert!(code == 1 && err.contains("--encode"), "{err}");
    let unknown = channel.clone();
    let request = proto::ExportDocumentsRequest { collection: "other".to_owned(), filter: None };
    assert!(documents(&unknown).export_documents(request).await.is_err(), "nothing was made");
    let (code, out, err) = import("other", text, &["--encode"]);
    assert_eq!((code, out.as_str()), (0, "imported 3 documents into other, 0 unchanged\n"), "{err}");
    // The same model makes the same vectors, but for the batches it makes them in.
    let request = proto::SearchRequest { collection: "other".to_owned(), ..query("beacons for ships") };
    let hits = found(&channel, request).await;
    assert_eq!(ids(&hits)[0], "light.md");
    assert_eq!(hits[0].passage.as_ref().unwrap().headings[0], "Lighthouses");
    // The server itself refuses vectors of another model.
    let start =
        proto::ImportStart { collection: NOTES.to_owned(), model: "other@1".to_owned(), encode: false };
    let part = Some(proto::import_documents_request::Part::Start(start));
    let messages = tokio_stream::iter([proto::ImportDocumentsRequest { part }]);
    let status = documents(&channel).import_documents(messages).await.unwrap_err();
    assert_eq!(reason(&status), "MODEL_MISMATCH");
}
