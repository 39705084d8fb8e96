//! Reads found files into documents, on a thread of its own.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::UNIX_EPOCH;

use tokio::sync::mpsc;

use super::records::{Record, read_csv, read_jsonl};
use super::walk::{FoundFile, media_type};
use crate::cli::output::string_value;
use crate::proto::document::Content;
use crate::proto::metadata_value::Kind;
use crate::proto::{Document, MetadataValue};

/// What reading gives.
#[derive(Debug)]
pub enum Item {
    /// A document to send.
    Document(Box<Document>),
    /// A file or record that cannot be used.
    Failed {
        /// The id it has or would have.
        id: String,
        /// Why.
        reason: String,
    },
    /// So many documents more than there are files.
    More(u64),
}

/// Starts reading; the channel ends after the last file. Dropping the receiver stops it.
pub fn start(files: Vec<FoundFile>, max_bytes: u64) -> mpsc::Receiver<Item> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        for file in files {
            if !read(&file, max_bytes, &sender) {
                return;
            }
        }
    });
    receiver
}

fn read(file: &FoundFile, max_bytes: u64, sender: &mpsc::Sender<Item>) -> bool {
    let item = match file.extension.as_str() {
        "jsonl" | "csv" => return read_records(file, max_bytes, sender),
        _ => match whole(file, max_bytes) {
            Ok(document) => Item::Document(Box::new(document)),
            Err(reason) => Item::Failed { id: file.id.clone(), reason },
        },
    };
    sender.blocking_send(item).is_ok()
}

fn whole(file: &FoundFile, max_bytes: u64) -> Result<Document, String> {
    let size = std::fs::metadata(&file.path).map_err(|error| error.to_string())?.len();
    if size > max_bytes {
        return Err(format!("the file has {size} bytes, the server takes at most {max_bytes}"));
    }
    let data = std::fs::read(&file.path).map_err(|error| error.to_string())?;
    let mut document = Document {
        id: file.id.clone(),
        source_uri: source_uri(&file.path),
        content: Some(Content::Data(data)),
        mime_type: media_type(&file.extension).unwrap_or("text/plain").to_owned(),
        ..Default::default()
    };
    describe(&mut document, file);
    Ok(document)
}

fn read_records(file: &FoundFile, max_bytes: u64, sender: &mpsc::Sender<Item>) -> bool {
    let opened = match File::open(&file.path) {
        Ok(opened) => BufReader::new(opened),
        Err(error) => {
            return sender
                .blocking_send(Item::Failed { id: file.id.clone(), reason: error.to_string() })
                .is_ok();
        }
    };
    let mut count = 0u64;
    let mut alive = true;
    let mut sink = |record: Record| {
        count += 1;
        if count > 1 {
            alive = sender.blocking_send(Item::More(1)).is_ok();
        }
        alive = alive && sender.blocking_send(record_item(file, max_bytes, record)).is_ok();
        alive
    };
    match file.extension.as_str() {
        "csv" => read_csv(opened, &mut sink),
        _ => read_jsonl(opened, &mut sink),
    }
    alive
}

fn record_item(file: &FoundFile, max_bytes: u64, record: Record) -> Item {
    let mut document = match record {
        Ok(document) => document,
        // The file's own id, so that --delete-missing keeps the records that it had.
        Err((place, reason)) => {
            return Item::Failed { id: file.id.clone(), reason: format!("{place}: {reason}") };
        }
    };
    document.id = format!("{}#{}", file.id, document.id);
    document.source_uri = source_uri(&file.path);
    describe(&mut document, file);
    let size = prost::Message::encoded_len(&document) as u64;
    if size > max_bytes {
        let reason = format!("the record has {size} bytes, the server takes at most {max_bytes}");
        return Item::Failed { id: document.id, reason };
    }
    Item::Document(Box::new(document))
}

fn describe(document: &mut Document, file: &FoundFile) {
    document.metadata.insert("path".to_owned(), string_value(file.id.clone()));
    document.metadata.insert("extension".to_owned(), string_value(file.extension.clone()));
    let modified = std::fs::metadata(&file.path).and_then(|m| m.modified()).ok();
    let Some(since) = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()) else { return };
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let value = prost_types::Timestamp { seconds, nanos: 0 };
    document
        .metadata
        .insert("modified".to_owned(), MetadataValue { kind: Some(Kind::TimestampValue(value)) });
}

fn source_uri(path: &Path) -> String {
    let full = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    format!("file://{}", full.display())
}
