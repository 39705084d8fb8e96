//! Snapshot files with right checksums around any records, and a reader that goes as far as a restore.

use std::collections::BTreeMap;

use super::format::{Header, Reader, Writer};
use super::restore;
use crate::domain::{MetadataValue, Span};
use crate::store::records::{
    CollectionRecord, DocumentRecord, Inserted, NewDocument, NewPassage, Processing,
};

/// Reads a file to its end, as a restore does.
pub fn fuzz(file: &[u8]) {
    let _ = Reader::new(file).and_then(|reader| restore::read_from(reader, &|| false, |_, _| Ok(())));
}

/// A file of these records.
pub fn seal(records: &[u8]) -> Vec<u8> {
    super::format::sealed(records)
}

/// The records of a small snapshot.
pub fn seed() -> Vec<u8> {
    let collection =
        CollectionRecord { name: "notes".to_owned(), cid: 1, dimensions: 2, ..Default::default() };
    let header = Header { program: "0".to_owned(), collections: vec![collection], ..Header::default() };
    let file = Writer::new(Vec::new(), &header).and_then(|mut writer| {
        writer.document(0, &example())?;
        writer.finish()
    });
    file.map(|(_, file)| super::format::unsealed(&file)).unwrap_or_default()
}

/// A stored document of two passages.
pub fn example() -> Inserted {
    let passage = |start, end| NewPassage {
        span: Span::new(start, end),
        headings: vec!["top".to_owned()],
        page: Some(1),
        sentences: vec![Span::new(start, end)],
        vector: vec![0.6, 0.8],
        sentence_vectors: vec![vec![1.0, 0.0]],
    };
    let metadata = BTreeMap::from([
        ("year".to_owned(), MetadataValue::Int(1999)),
        ("tags".to_owned(), MetadataValue::StringList(vec!["a".to_owned()])),
        ("share".to_owned(), MetadataValue::Double(0.5)),
        ("when".to_owned(), MetadataValue::Timestamp(-1, 5)),
    ]);
    let document = NewDocument {
        id: "id".to_owned(),
        title: "title".to_owned(),
        metadata,
        text: "One. Two.".to_owned(),
        passages: vec![passage(0, 4), passage(5, 9)],
        document_vector: vec![0.0, 1.0],
        ..NewDocument::default()
    };
    let record = DocumentRecord {
        id: document.id.clone(),
        title: document.title.clone(),
        source_uri: String::new(),
        media_type: "text/plain".to_owned(),
        content_hash: [7; 32],
        metadata: document.metadata.clone(),
        create_time_ns: 1,
        update_time_ns: 2,
        doc_no: 3,
        first_passage: 4,
        passage_count: 2,
        text_bytes: 9,
        token_count: 6,
        file_title: Some("file".to_owned()),
        file_metadata: document.file_metadata.clone(),
        processing: Processing { version: 1, max_tokens: 2, overlap_tokens: 0 },
    };
    Inserted { record, document }
}
