//! Binary keys: a letter for the kind of record, then big-endian numbers, so that ranges sort as numbers do.

use crate::domain::Level;

/// Version of the layout.
pub const SCHEMA: &[u8] = b"S";
/// The next collection number.
pub const NEXT_CID: &[u8] = b"K";
/// How often the database has been synced.
pub const SYNCS: &[u8] = b"Q";
/// Kinds of records whose keys go on with a collection number.
pub const OWNED: [u8; 11] = [b'k', b'd', b'n', b't', b'p', b'v', b'x', b'g', b'h', b'u', VERSION];
/// Kind of the notes of what a document was, which are kept for views.
pub const VERSION: u8 = b'r';
/// Prefix of collection records, which are keyed by name.
pub const COLLECTION: u8 = b'c';

/// The letter of a level.
pub fn level(level: Level) -> u8 {
    match level {
        Level::Passage => b'P',
        Level::Sentence => b'S',
        Level::Document => b'D',
    }
}

fn join(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![kind];
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

pub fn collection(name: &str) -> Vec<u8> {
    join(COLLECTION, &[name.as_bytes()])
}

/// The name in the key of a collection's record.
pub fn name_of(key: &[u8]) -> String {
    String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned()
}

pub fn owned(kind: u8, cid: u32) -> Vec<u8> {
    join(kind, &[&cid.to_be_bytes()])
}

pub fn counters(cid: u32) -> Vec<u8> {
    owned(b'k', cid)
}

pub fn document(cid: u32, id: &str) -> Vec<u8> {
    join(b'd', &[&cid.to_be_bytes(), id.as_bytes()])
}

/// The id in the key of a document's record.
pub fn id_of(key: &[u8]) -> String {
    String::from_utf8_lossy(key.get(5..).unwrap_or_default()).into_owned()
}

/// The collection number in a key of [`OWNED`].
pub fn cid_of(key: &[u8]) -> Option<u32> {
    key.get(1..).and_then(|rest| rest.first_chunk::<4>()).map(|bytes| u32::from_be_bytes(*bytes))
}

pub fn versions(cid: u32) -> Vec<u8> {
    owned(VERSION, cid)
}

/// What a document was at a moment. An id has no byte that is zero, so these keys sort as ids do, and then by moments.
pub fn version(cid: u32, id: &str, moment: u64) -> Vec<u8> {
    join(VERSION, &[&cid.to_be_bytes(), id.as_bytes(), &[0], &moment.to_be_bytes()])
}

/// The first key of a version of an id after the given one.
pub fn versions_after(cid: u32, id: Option<&str>) -> Vec<u8> {
    match id {
        None => versions(cid),
        Some(id) => join(VERSION, &[&cid.to_be_bytes(), id.as_bytes(), &[1]]),
    }
}

/// The moment in the key of a version.
pub fn moment_of(key: &[u8]) -> u64 {
    last_u64(key).unwrap_or_default()
}

/// The id in the key of a version.
pub fn versioned_id_of(key: &[u8]) -> String {
    let id = key.get(5..key.len().saturating_sub(9)).unwrap_or_default();
    String::from_utf8_lossy(id).into_owned()
}

pub fn numbers(cid: u32) -> Vec<u8> {
    owned(b'n', cid)
}

pub fn number(cid: u32, doc_no: u32) -> Vec<u8> {
    join(b'n', &[&cid.to_be_bytes(), &doc_no.to_be_bytes()])
}

pub fn texts(cid: u32, doc_no: u32) -> Vec<u8> {
    join(b't', &[&cid.to_be_bytes(), &doc_no.to_be_bytes()])
}

pub fn text(cid: u32, doc_no: u32, chunk: u32) -> Vec<u8> {
    join(b't', &[&cid.to_be_bytes(), &doc_no.to_be_bytes(), &chunk.to_be_bytes()])
}

pub fn passages(cid: u32) -> Vec<u8> {
    owned(b'p', cid)
}

pub fn passage(cid: u32, point: u64) -> Vec<u8> {
    join(b'p', &[&cid.to_be_bytes(), &point.to_be_bytes()])
}

pub fn vectors(cid: u32, of: Level) -> Vec<u8> {
    join(b'v', &[&cid.to_be_bytes(), &[level(of)]])
}

/// Sentence vectors are kept by passage: `point` is then the passage's.
pub fn vector(cid: u32, of: Level, point: u64) -> Vec<u8> {
    join(b'v', &[&cid.to_be_bytes(), &[level(of)], &point.to_be_bytes()])
}

pub fn tombstones(cid: u32, of: Level) -> Vec<u8> {
    join(b'x', &[&cid.to_be_bytes(), &[level(of)]])
}

pub fn tombstone(cid: u32, of: Level, first: u64) -> Vec<u8> {
    join(b'x', &[&cid.to_be_bytes(), &[level(of)], &first.to_be_bytes()])
}

pub fn segments(cid: u32, of: Level) -> Vec<u8> {
    join(b'g', &[&cid.to_be_bytes(), &[level(of)]])
}

pub fn segment(cid: u32, of: Level, id: u64) -> Vec<u8> {
    join(b'g', &[&cid.to_be_bytes(), &[level(of)], &id.to_be_bytes()])
}

pub fn segment_chunk(cid: u32, of: Level, id: u64, chunk: u32) -> Vec<u8> {
    join(b'g', &[&cid.to_be_bytes(), &[level(of)], &id.to_be_bytes(), &chunk.to_be_bytes()])
}

pub fn manifest(cid: u32, of: Level) -> Vec<u8> {
    join(b'h', &[&cid.to_be_bytes(), &[level(of)]])
}

pub fn retitled_all(cid: u32) -> Vec<u8> {
    owned(b'u', cid)
}

/// A document whose title changed while its number stayed.
pub fn retitled(cid: u32, doc_no: u32) -> Vec<u8> {
    join(b'u', &[&cid.to_be_bytes(), &doc_no.to_be_bytes()])
}

/// The number in the last eight bytes of a key.
pub fn last_u64(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The number in the last four bytes of a key.
pub fn last_u32(key: &[u8]) -> Option<u32> {
    key.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

/// What a key stands for, in words for an error message.
pub fn describe(key: &[u8]) -> String {
    let name = |from: usize| String::from_utf8_lossy(key.get(from..).unwrap_or_default()).into_owned();
    match key.first() {
        Some(b'S') => "the schema version".to_owned(),
        Some(b'K') => "the next collection number".to_owned(),
        Some(b'Q') => "the count of syncs".to_owned(),
        Some(&COLLECTION) => format!("the record of collection {:?}", name(1)),
        Some(b'd') => format!("the record of document {:?}", name(5)),
        Some(b'k') => "a collection's counters".to_owned(),
        Some(b'n') => "a document's number".to_owned(),
        Some(b't') => "a part of a document's text".to_owned(),
        Some(b'p') => "a passage".to_owned(),
        Some(b'v') => "a vector".to_owned(),
        Some(b'x') => "a list of deleted points".to_owned(),
        Some(b'u') => "a note of a new title".to_owned(),
        Some(&VERSION) => format!("the former record of document {:?}", versioned_id_of(key)),
        Some(b'g' | b'h') => "a part of an index".to_owned(),
        _ => "an unknown record".to_owned(),
    }
}
