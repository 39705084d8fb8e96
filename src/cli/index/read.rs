//! Reads found files into documents, on a thread of its own.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use tokio::sync::mpsc;

use super::ids::{fitting, without_controls};
use super::known::{EXTENSION_KEY, FILE_KEY, Known, PATH_KEY};
use super::numbers::Stored as Numbers;
use super::walk::{FoundFile, Kind};
use crate::cli::output::string_value;
use crate::domain::bounds::METADATA_STRING_BYTES;
use crate::domain::{self, Metadata};
use crate::grpc::convert::metadata_out;
use crate::proto::document::Content;
use crate::proto::metadata_value;
use crate::proto::{Document, MetadataValue};
use crate::records::{self, Format, Options, Record};

/// Files from this size on are sent in pieces, so that little of them is held in memory.
const PIECES_FROM: u64 = 4 << 20;

/// Bytes at the start of a text that may tell what it is.
const BEGINNING: u64 = 512;

/// What reading gives for one document, with the bytes of the file that it stands for.
#[derive(Debug)]
pub struct Item {
    /// The id that it has or would have.
    pub id: String,
    /// Bytes of the file.
    pub size: u64,
    /// What was read.
    pub read: Read,
}

/// What was read.
#[derive(Debug)]
pub enum Read {
    /// A document to send.
    Document(Box<Document>),
    /// A file that is sent in pieces, and the document that announces it.
    File(Box<Document>, PathBuf),
    /// A document that the collection holds just so.
    Unchanged,
    /// A file or record that cannot be used, and why.
    Failed(String),
}

/// What the server takes.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Most bytes of a document that is sent in one message.
    pub message_bytes: u64,
    /// Most bytes of a file that is sent in pieces.
    pub file_bytes: u64,
}

/// How to read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Give documents that the collection holds just so all the same.
    pub force: bool,
    /// Give those too whose passages another version than this of the extraction made.
    pub version: Option<u32>,
    /// How records become documents.
    pub records: Options,
}

/// Starts reading; the channel ends after the last file. Dropping the receiver stops it.
pub fn start(
    files: Vec<FoundFile>,
    known: Arc<Known>,
    limits: ReadLimits,
    options: ReadOptions,
) -> mpsc::Receiver<Item> {
    // Few: each item may hold a whole file.
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let reader = Reader { known: &known, numbers: Numbers::new(&known), limits, options, sender };
        for file in files {
            if !reader.read(&file) {
                return;
            }
        }
    });
    receiver
}

struct Reader<'a> {
    known: &'a Known,
    numbers: Numbers<'a>,
    limits: ReadLimits,
    options: ReadOptions,
    sender: mpsc::Sender<Item>,
}

impl Reader<'_> {
    fn read(&self, file: &FoundFile) -> bool {
        match file.kind {
            Kind::Document(media_type) => {
                let read = match self.whole(file, media_type) {
                    Ok(read) => read,
                    Err(reason) => Read::Failed(reason),
                };
                self.send(Item { id: file.id.clone(), size: file.size, read })
            }
            Kind::Records(format) => self.records(file, format),
        }
    }

    fn send(&self, item: Item) -> bool {
        self.sender.blocking_send(item).is_ok()
    }

    fn whole(&self, file: &FoundFile, media_type: &'static str) -> Result<Read, String> {
        let metadata = std::fs::metadata(&file.path).map_err(|error| error.to_string())?;
        if metadata.len() > self.limits.file_bytes {
            return Err(too_large(metadata.len(), self.limits.file_bytes));
        }
        let media_type = in_fact(&file.path, media_type).map_err(|error| error.to_string())?;
        let mut document = Document {
            id: file.id.clone(),
            source_uri: source_uri(&file.path),
            mime_type: media_type.to_owned(),
            metadata: describe(file).into(),
            ..Default::default()
        };
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        if let Some(since) = modified {
            let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
            let time = prost_types::Timestamp { seconds, nanos: 0 };
            let kind = Some(metadata_value::Kind::TimestampValue(time));
            document.metadata.insert("modified".to_owned(), MetadataValue { kind });
        }
        if metadata.len() > PIECES_FROM.min(self.limits.message_bytes) {
            let hash = File::open(&file.path)
                .and_then(|opened| Ok(blake3::Hasher::new().update_reader(opened)?.finalize()));
            document.content = Some(Content::DataSize(metadata.len()));
            let read = self.compare(document, &hash.map_err(|error| error.to_string())?)?;
            return Ok(match read {
                Read::Document(document) => Read::File(document, file.path.clone()),
                other => other,
            });
        }
        let data = std::fs::read(&file.path).map_err(|error| error.to_string())?;
        let hash = blake3::hash(&data);
        document.content = Some(Content::Data(data));
        self.compare(document, &hash)
    }

    fn records(&self, file: &FoundFile, format: Format) -> bool {
        let open = || File::open(&file.path);
        let mut numbers = HashMap::new();
        if self.numbers.knows(&file.id) {
            let mut unnamed = Vec::new();
            records::read(&open, format, &self.options.records, &mut |record| {
                if let Ok(document) = record.document.as_ref()
                    && document.id.is_none()
                {
                    unnamed.push((record.number, blake3::hash(document.text.as_bytes())));
                }
                !self.sender.is_closed()
            });
            numbers = self.numbers.assign(&file.id, &unnamed);
        }
        let source_uri = source_uri(&file.path);
        let mut ids = HashSet::new();
        let mut alive = true;
        records::read(&open, format, &self.options.records, &mut |record| {
            let number = numbers.get(&record.number).copied().unwrap_or(record.number);
            alive = self.send(self.record(file, &source_uri, (record, number), &mut ids));
            alive
        });
        alive
    }

    /// Reads a record, which without an id of its own has this number, given the ids of those before it in the file.
    fn record(
        &self,
        file: &FoundFile,
        source_uri: &str,
        (record, number): (Record, u64),
        ids: &mut HashSet<String>,
    ) -> Item {
        let Record { place, document, bytes: size, .. } = record;
        let failed = |id, reason| Item { id, size, read: Read::Failed(format!("{place}: {reason}")) };
        let mut record = match document {
            Ok(document) => document,
            // The file's own id, so that --delete-missing keeps the records that it had.
            Err(reason) => return failed(file.id.clone(), reason),
        };
        let own_id = record.id.take().unwrap_or_else(|| number.to_string());
        let whole_id = format!("{}#{}", file.id, without_controls(&own_id));
        let id = fitting(whole_id.clone(), 0);
        if ids.contains(&own_id) {
            let reason = format!(
                "expected one record of the id {own_id:?}, got another one; a record without an id takes its number"
            );
            return failed(id, reason);
        }
        if id != format!("{}#{own_id}", file.id) && own_id.len() <= METADATA_STRING_BYTES {
            // What it was is not lost.
            record.metadata.entry("id".to_owned()).or_insert_with(|| metadata_string(own_id.clone()));
        }
        ids.insert(own_id);
        for (key, value) in describe_record(file, &record.metadata) {
            record.metadata.entry(key).or_insert(value);
        }
        let hash = blake3::hash(record.text.as_bytes());
        let document = Document {
            id: id.clone(),
            title: record.title,
            source_uri: source_uri.to_owned(),
            mime_type: "text/plain".to_owned(),
            metadata: metadata_out(record.metadata),
            content: Some(Content::Text(record.text)),
            ..Document::default()
        };
        let encoded = prost::Message::encoded_len(&document) as u64;
        let read = if encoded > self.limits.message_bytes {
            Err(too_large(encoded, self.limits.message_bytes))
        } else {
            self.compare(document, &hash)
        };
        Item { id, size, read: read.unwrap_or_else(Read::Failed) }
    }

    /// Tells what is there already.
    fn compare(&self, document: Document, hash: &blake3::Hash) -> Result<Read, String> {
        let Some(stored) = self.known.get(&document.id) else {
            return Ok(Read::Document(Box::new(document)));
        };
        if let Some(other) = stored.other_file(&document.source_uri) {
            return Err(format!(
                "the collection has a document of this id from {other}, which is still there; use --name or another --collection"
            ));
        }
        let is_outdated = self.options.version.is_some_and(|version| version != stored.extraction_version);
        if !self.options.force && !is_outdated && stored.is(hash, &document) {
            return Ok(Read::Unchanged);
        }
        Ok(Read::Document(Box::new(document)))
    }
}

fn too_large(bytes: u64, most: u64) -> String {
    format!("expected at most {most} bytes, which the server takes, got {bytes}")
}

fn describe(file: &FoundFile) -> [(String, MetadataValue); 2] {
    [
        (PATH_KEY.to_owned(), string_value(file.id.clone())),
        (EXTENSION_KEY.to_owned(), string_value(file.extension.clone())),
    ]
}

/// What tells of a record's file, beside what it says itself.
fn describe_record(file: &FoundFile, own: &Metadata) -> Vec<(String, domain::MetadataValue)> {
    let mut told = vec![
        (PATH_KEY.to_owned(), metadata_string(file.id.clone())),
        (EXTENSION_KEY.to_owned(), metadata_string(file.extension.clone())),
    ];
    if own.contains_key(PATH_KEY) {
        told.push((FILE_KEY.to_owned(), metadata_string(file.id.clone())));
    }
    told
}

fn metadata_string(text: String) -> domain::MetadataValue {
    domain::MetadataValue::String(text)
}

/// The media type of a text by its first bytes, where these tell another one than its name.
fn in_fact(path: &Path, media_type: &'static str) -> std::io::Result<&'static str> {
    if !matches!(media_type, "text/plain" | "text/markdown") {
        return Ok(media_type);
    }
    let mut start = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(File::open(path)?, BEGINNING), &mut start)?;
    if start.starts_with(b"%PDF-") {
        return Ok("application/pdf");
    }
    let text = String::from_utf8_lossy(&start).to_ascii_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let is_html = text.starts_with("<!doctype html") || text.starts_with("<html");
    Ok(if is_html { "text/html" } else { media_type })
}

/// Where the documents of a file come from.
pub fn source_uri(path: &Path) -> String {
    let full = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    format!("file://{}", full.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::index::walk::{Choice, Root, walk};

    #[test]
    fn the_second_record_of_an_id_fails_and_says_where() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let lines = "{\"id\":\"a\",\"text\":\"x\"}\n{\"id\":\"a\",\"text\":\"y\"}\n{\"id\":4,\"text\":\"z\"}\n{\"text\":\"no id\"}\n";
        std::fs::write(dir.path().join("rows.jsonl"), lines)?;
        let found = walk(&[Root::new(dir.path().to_owned(), Some("r".to_owned()))], &Choice::default());
        let limits = ReadLimits { message_bytes: 1 << 20, file_bytes: 1 << 20 };
        let mut items = start(found.files, Arc::default(), limits, ReadOptions::default());
        let mut read = Vec::new();
        while let Some(item) = items.blocking_recv() {
            let failed = match item.read {
                Read::Failed(reason) => reason,
                _ => String::new(),
            };
            read.push((item.id, failed));
        }
        let [first, second, third, fourth] = read.as_slice() else { anyhow::bail!("got {read:?}") };
        assert_eq!((first.0.as_str(), first.1.as_str()), ("r/rows.jsonl#a", ""));
        assert!(second.1.starts_with("line 2: expected one record of the id \"a\""), "{second:?}");
        assert_eq!((third.0.as_str(), third.1.as_str()), ("r/rows.jsonl#4", ""));
        assert!(fourth.1.starts_with("line 4: ") && fourth.1.contains("takes its number"), "{fourth:?}");
        Ok(())
    }

    #[test]
    fn texts_are_what_their_first_bytes_say() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("x");
        for (text, expected) in [
            ("%PDF-1.4\n", "application/pdf"),
            ("\u{feff}\n<!DOCTYPE html><p>x", "text/html"),
            ("<HTML><p>x", "text/html"),
            ("<p>a paragraph in Markdown</p>", "text/markdown"),
            ("", "text/markdown"),
        ] {
            std::fs::write(&path, text)?;
            assert_eq!(in_fact(&path, "text/markdown")?, expected, "{text}");
        }
        Ok(())
    }
}
