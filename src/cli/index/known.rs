//! What the collection holds already, so that unchanged documents are not sent again.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;

use anyhow::Result;

use super::walk::Root;
use crate::cli::client::Client;
use crate::cli::{documents, output};
use crate::proto::Document;
use crate::proto::metadata_value::Kind;

/// Metadata key of the file that a document was read from.
pub const PATH_KEY: &str = "path";
/// Metadata key of that file where a record has a path of its own.
pub const FILE_KEY: &str = "trove.file";
/// Metadata key of the file's extension.
pub const EXTENSION_KEY: &str = "extension";

/// A stored document, as far as a run needs it.
#[derive(Debug, Clone)]
pub struct Stored {
    fingerprint: [u8; 32],
    /// The hash of its content.
    pub content: Option<blake3::Hash>,
    title: String,
    media_type: String,
    /// Where it came from.
    pub source_uri: String,
    /// The file that it was read from, by the id of a file.
    pub file: String,
    /// That file's extension.
    pub extension: String,
    /// Version of the extraction that made its passages.
    pub extraction_version: u32,
}

/// Stored documents by id.
pub type Known = HashMap<String, Stored>;

/// Lists what the collection holds of the roots.
pub async fn load(client: &Client, collection: &str, roots: &[Root]) -> Result<Known> {
    // By ids, since a record may have a path of its own in its metadata.
    let prefixes = roots
        .iter()
        .flat_map(|root| ["/", "#"].map(|mark| output::id_prefix(format!("{}{mark}", root.name))));
    let names = output::ids_filter(roots.iter().map(|root| root.name.clone()).collect());
    let filter = output::any(prefixes.chain([names]).collect());
    // One that is damaged is not known, and so is sent again, which mends it.
    let listed = documents::list(client, collection, Some(filter), 0).await?;
    if !listed.documents.is_empty() {
        // What can be listed may still wait for its fsync. A deletion of nothing is answered when it is on the disk.
        documents::delete(client, collection, output::ids_filter(Vec::new())).await?;
    }
    Ok(listed.documents.into_iter().map(|document| (document.id.clone(), stored(document))).collect())
}

/// What a run needs of a document.
pub fn stored(document: Document) -> Stored {
    let text = |key: &str| match document.metadata.get(key).and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) => Some(text.clone()),
        _ => None,
    };
    let file = text(FILE_KEY).or_else(|| text(PATH_KEY)).unwrap_or_default();
    Stored {
        fingerprint: fingerprint(&document.content_hash, &document),
        content: blake3::Hash::from_hex(&document.content_hash).ok(),
        extension: Path::new(&file).extension().and_then(OsStr::to_str).unwrap_or_default().to_lowercase(),
        file,
        title: document.title,
        media_type: document.mime_type,
        source_uri: document.source_uri,
        extraction_version: document.extraction_version,
    }
}

/// Hash of a document's content hash, source and metadata.
fn fingerprint(content_hash: &str, document: &Document) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    add(content_hash.as_bytes());
    add(document.source_uri.as_bytes());
    let mut metadata: Vec<_> = document.metadata.iter().collect();
    metadata.sort_by_key(|(key, _)| *key);
    // What the file says of itself goes with its content.
    for (key, value) in metadata.into_iter().filter(|(key, _)| !document.file_metadata_keys.contains(key)) {
        add(key.as_bytes());
        add(&prost::Message::encode_to_vec(value));
    }
    hasher.finalize().into()
}

impl Stored {
    /// Whether sending the document would change nothing.
    pub fn is(&self, content_hash: &blake3::Hash, document: &Document) -> bool {
        (document.title.is_empty() || document.title == self.title)
            && self.media_type == document.mime_type
            && self.fingerprint == fingerprint(content_hash.to_hex().as_str(), document)
    }

    /// Another file that has this id and is still there: indexing would put one in place of the other.
    pub fn other_file(&self, source_uri: &str) -> Option<&str> {
        let path = self.source_uri.strip_prefix("file://")?;
        (self.source_uri != source_uri && Path::new(path).is_file()).then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unchanged_means_content_source_title_and_metadata() {
        let hash = blake3::hash(b"x");
        let with = |title: &str, key: &str| Document {
            id: "a".to_owned(),
            title: title.to_owned(),
            source_uri: "file:///a".to_owned(),
            metadata: [(key.to_owned(), output::string_value("v"))].into(),
            content_hash: hash.to_hex().to_string(),
            ..Default::default()
        };
        let stored = stored(with("T", "k"));
        assert!(stored.is(&hash, &with("T", "k")) && stored.is(&hash, &with("", "k")));
        assert!(!stored.is(&hash, &with("U", "k")));
        assert!(!stored.is(&hash, &with("T", "l")));
        assert!(!stored.is(&blake3::hash(b"y"), &with("T", "k")));
        let mut of_file = with("T", "k");
        of_file.metadata.insert("tags".to_owned(), output::string_value("a"));
        assert!(!self::stored(of_file.clone()).is(&hash, &with("T", "k")));
        of_file.file_metadata_keys.push("tags".to_owned());
        assert!(self::stored(of_file).is(&hash, &with("T", "k")));
    }
}
