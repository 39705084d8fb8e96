//! Ways for `fuzz/` to what is private here.

use prost::Message;

use super::codec;
use super::records::CollectionRecord;
use super::snapshot;

/// Reads bytes as each kind of record. What decodes must stay the same when it is written and read again.
pub fn record(bytes: &[u8]) {
    let key = b"d\0\0\0\x01id";
    let sealed = codec::seal(key, bytes.to_vec());
    let _ = codec::unseal(key, bytes);
    if let Ok(record) = codec::unpack_document(key, &sealed) {
        let again = codec::encode_document(&record);
        let read = codec::decode_document(&again).map(|record| codec::encode_document(&record));
        assert_eq!(read, Some(again));
    }
    if let Ok(record) = codec::unpack_passage(key, &sealed) {
        assert_eq!(codec::decode_passage(&codec::encode_passage(&record)), Some(record));
    }
    let _ = codec::unpack_vector(key, &sealed);
    let _ = codec::unpack_sentences(key, &sealed);
    let _ = codec::unpack::<CollectionRecord>(key, &sealed);
    let _ = codec::unpack::<codec::Counters>(key, &sealed);
    let _ = codec::unpack::<codec::SegmentHead>(key, &sealed);
    let _ = codec::unpack::<codec::Number>(key, &sealed);
    let _ = super::keys::describe(bytes);
}

/// Reads a snapshot file to its end, as a restore does.
pub fn snapshot(file: &[u8]) {
    snapshot::fuzz(file);
}

/// The same for a file whose checksums are right around whatever records it holds.
pub fn snapshot_records(records: &[u8]) {
    snapshot::fuzz(&snapshot::seal(records));
}

/// What the chunks of a snapshot hold, as [`snapshot_records`] takes it: a collection and a document of two passages.
pub fn snapshot_seed() -> Vec<u8> {
    snapshot::seed()
}

/// A whole snapshot file of it.
pub fn snapshot_file_seed() -> Vec<u8> {
    snapshot::seal(&snapshot::seed())
}

/// A record of a collection.
pub fn collection_seed() -> Vec<u8> {
    let record = CollectionRecord { name: "notes".to_owned(), cid: 1, dimensions: 2, ..Default::default() };
    record.encode_to_vec()
}

/// A record of a document, and one of a passage.
pub fn record_seeds() -> Vec<Vec<u8>> {
    let document = snapshot::example();
    let passage = super::records::PassageRecord {
        doc_no: 1,
        index: 0,
        span: crate::domain::Span::new(0, 3),
        headings: vec!["top".to_owned()],
        page: Some(7),
        sentences: vec![crate::domain::Span::new(0, 3)],
    };
    vec![codec::encode_document(&document.record), codec::encode_passage(&passage), collection_seed()]
}
