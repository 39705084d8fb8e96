use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::ImportArgs;
use super::format::{End, Header, Settings, Whole, parse};
use crate::cli::client::Client;
use crate::cli::failure::{Usage, code_name};
use crate::cli::{EXIT_FAILED, EXIT_OK, output};
use crate::proto::import_documents_request::Part;
use crate::proto::{
    CreateCollectionRequest, DocumentStatus, GetCollectionRequest, GetServerInfoRequest,
    ImportDocumentsRequest, ImportStart, StoredPassages,
};

/// Bytes of text or passages in one message.
const MESSAGE_BYTES: usize = 256 << 10;
/// Messages that may wait for the connection.
const QUEUE: usize = 64;

/// What has become of the lines.
#[derive(Default)]
struct Tally {
    indexed: u64,
    unchanged: u64,
    failures: Vec<(usize, String)>,
}

/// What the reading thread shares with the one that hears the answers.
#[derive(Default)]
struct Shared {
    /// Lines of the documents that were sent, by their index.
    lines: BTreeMap<u64, usize>,
    /// Lines that could not be read.
    bad: Vec<(usize, String)>,
}

/// Imports a file of JSON Lines.
pub async fn run(client: &Client, json: bool, args: ImportArgs) -> Result<i32> {
    let mut reader = open(&args.file)?;
    let mut first = Vec::new();
    reader.read_until(b'\n', &mut first)?;
    let header = Header::parse(&first).map_err(|why| anyhow!("line 1: {why}"))?;
    let name = args.collection.unwrap_or_else(|| header.collection.name.clone());
    prepare(client, &header.collection, &name, args.encode).await?;

    let (sender, receiver) = mpsc::channel(QUEUE);
    let start = ImportStart { collection: name.clone(), model: header.collection.model, encode: args.encode };
    sender.send(message(Part::Start(start))).await?;
    let shared = Arc::new(Mutex::new(Shared::default()));
    let reading = tokio::task::spawn_blocking({
        let shared = shared.clone();
        move || read(reader, &shared, &sender)
    });
    let answers = client.documents().import_documents(ReceiverStream::new(receiver)).await;
    let mut tally = Tally::default();
    let heard = match answers {
        Ok(answers) => hear(answers.into_inner(), &shared, &mut tally).await,
        Err(status) => Err(status.into()),
    };
    let read = reading.await.context("reading the file")?;
    tally.failures.append(&mut shared.lock().bad);
    tally.failures.sort();
    report(json, &name, &tally)?;
    heard?;
    if let Err(why) = read {
        return Err(anyhow!(why));
    }
    Ok(if tally.failures.is_empty() { EXIT_OK } else { EXIT_FAILED })
}

fn open(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let file = File::open(path).map_err(|error| Usage(format!("{}: {error}", path.display())))?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
}

/// Makes the collection where it is missing, and checks that the vectors fit it.
async fn prepare(client: &Client, settings: &Settings, name: &str, encode: bool) -> Result<()> {
    let request = GetCollectionRequest { name: name.to_owned() };
    let found = match client.collections().get_collection(request).await {
        Ok(response) => response.into_inner().collection,
        Err(status) if status.code() == Code::NotFound => None,
        Err(status) => return Err(status.into()),
    };
    if let Some(found) = found {
        return if encode || found.model == settings.model {
            Ok(())
        } else {
            Err(other_model(&settings.model, &format!("collection {name} is of {}", found.model)))
        };
    }
    let info = client.admin().get_server_info(GetServerInfoRequest {}).await?.into_inner();
    let is_loaded = info.models.iter().any(|m| format!("{}@{}", m.id, m.revision) == settings.model);
    if !is_loaded && !encode {
        return Err(other_model(&settings.model, "the server has not loaded it"));
    }
    let model = if is_loaded { settings.model.as_str() } else { "" };
    let collection = Some(settings.collection(name, model));
    client.collections().create_collection(CreateCollectionRequest { collection }).await?;
    Ok(())
}

fn other_model(model: &str, why: &str) -> anyhow::Error {
    anyhow!("the file has vectors of {model}, and {why}: --encode has new ones made")
}

/// Sends the documents of the file. The error is about the file as a whole.
fn read(
    mut reader: impl BufRead,
    shared: &Mutex<Shared>,
    sender: &mpsc::Sender<ImportDocumentsRequest>,
) -> Result<(), String> {
    let mut documents = 0;
    let mut sent = 0;
    for number in 2usize.. {
        let mut line = Vec::new();
        let length = reader.read_until(b'\n', &mut line).map_err(|e| format!("line {number}: {e}"))?;
        if length == 0 {
            return Err(format!(
                "line {number}: expected a document or the number of documents, got the end of the file: it is cut off"
            ));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        if let Ok(end) = serde_json::from_slice::<End>(&line) {
            if end.documents != documents {
                return Err(format!(
                    "line {number}: expected {} documents before it, got {documents}",
                    end.documents
                ));
            }
            return Ok(());
        }
        documents += 1;
        match parse(&line) {
            Ok(whole) => {
                shared.lock().lines.insert(sent, number);
                sent += 1;
                // If the stream has ended, its other side tells why.
                if !send(whole, sender) {
                    return Ok(());
                }
            }
            Err(why) => shared.lock().bad.push((number, why)),
        }
    }
    Ok(())
}

fn message(part: Part) -> ImportDocumentsRequest {
    ImportDocumentsRequest { part: Some(part) }
}

/// Sends a document; whether the stream still takes it.
fn send(whole: Whole, sender: &mpsc::Sender<ImportDocumentsRequest>) -> bool {
    let put = |part| sender.blocking_send(message(part)).is_ok();
    if !put(Part::Document(whole.stored)) {
        return false;
    }
    let mut rest = whole.text.as_str();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rest.floor_char_boundary(MESSAGE_BYTES));
        if !put(Part::Text(piece.to_owned())) {
            return false;
        }
        rest = later;
    }
    let (mut passages, mut bytes) = (Vec::new(), 0);
    for passage in whole.passages {
        bytes += prost::Message::encoded_len(&passage);
        passages.push(passage);
        if bytes >= MESSAGE_BYTES {
            let list = StoredPassages { passages: std::mem::take(&mut passages) };
            if !put(Part::Passages(list)) {
                return false;
            }
            bytes = 0;
        }
    }
    passages.is_empty() || put(Part::Passages(StoredPassages { passages }))
}

async fn hear(
    mut answers: tonic::Streaming<crate::proto::ImportDocumentsResponse>,
    shared: &Mutex<Shared>,
    tally: &mut Tally,
) -> Result<()> {
    while let Some(answer) = answers.message().await? {
        let result = answer.result.unwrap_or_default();
        let line = shared.lock().lines.remove(&result.index).unwrap_or_default();
        match result.status() {
            DocumentStatus::Unchanged => tally.unchanged += 1,
            DocumentStatus::Failed => {
                let code = code_name(Code::from(result.error_code));
                let why = format!(
                    "{:?}: {code} {}: {}",
                    result.document_id, result.error_reason, result.error_message
                );
                tally.failures.push((line, why));
            }
            _ => tally.indexed += 1,
        }
    }
    Ok(())
}

fn report(json: bool, name: &str, tally: &Tally) -> Result<()> {
    let Tally { indexed, unchanged, failures } = tally;
    if json {
        let failures = failures.iter().map(|(line, why)| json!({"line": line, "error": why}));
        return output::print_json(&json!({"imported": name, "indexed": indexed, "unchanged": unchanged,
            "failures": failures.collect::<Value>()}));
    }
    for (line, why) in failures {
        output::note(format!("line {line}: {why}"));
    }
    let failed = if failures.is_empty() { String::new() } else { format!(", {} failed", failures.len()) };
    output::line(format!("imported {indexed} documents into {name}, {unchanged} unchanged{failed}"))
}
