//! Records to bytes and back. Every value ends in a CRC-32 over its key and its content.

use half::f16;
use prost::Message;

use super::records::{CollectionRecord, DocumentRecord, PassageRecord, Processing};
use crate::domain::{Metadata, MetadataValue, Span};
use crate::error::{Error, Result};

/// Reason of the error of a record that cannot be read.
pub const CORRUPT_RECORD: &str = "CORRUPT_RECORD";

/// Appends the checksum.
pub fn seal(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let sum = checksum(key, &value);
    value.extend_from_slice(&sum.to_le_bytes());
    value
}

/// Checks and removes the checksum.
pub fn unseal<'a>(key: &[u8], sealed: &'a [u8]) -> Result<&'a [u8]> {
    let Some((value, sum)) = sealed.split_last_chunk::<4>() else {
        return Err(damaged(key, "it is too short"));
    };
    if checksum(key, value) != u32::from_le_bytes(*sum) {
        return Err(damaged(key, "its checksum does not match"));
    }
    Ok(value)
}

/// The error of a record that cannot be read.
pub fn damaged(key: &[u8], why: &str) -> Error {
    let what = super::keys::describe(key);
    Error::data_loss(CORRUPT_RECORD, format!("{what} in the store is damaged: {why}"))
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

/// Encodes and seals a message.
pub fn pack(key: &[u8], message: &impl Message) -> Vec<u8> {
    seal(key, message.encode_to_vec())
}

/// Checks and decodes a message.
pub fn unpack<M: Message + Default>(key: &[u8], sealed: &[u8]) -> Result<M> {
    M::decode(unseal(key, sealed)?).map_err(|error| damaged(key, "it does not decode").with_source(error))
}

#[derive(Clone, PartialEq, Message)]
pub struct Counters {
    #[prost(uint32, tag = "1")]
    pub next_doc_no: u32,
    #[prost(uint64, tag = "2")]
    pub next_point: u64,
    #[prost(uint64, tag = "3")]
    pub documents: u64,
    #[prost(uint64, tag = "4")]
    pub passages: u64,
    #[prost(uint32, tag = "5")]
    pub dimensions: u32,
    /// Whether sentences have no index, so that nothing of it has to be forgotten. False where a program that did not
    /// write it down made the collection, until the next open.
    #[prost(bool, tag = "6")]
    pub no_sentence_index: bool,
}

impl Counters {
    /// Those of an empty collection.
    pub fn of(record: &CollectionRecord) -> Self {
        Self { dimensions: record.dimensions, no_sentence_index: !record.index_sentences, ..Self::default() }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Number {
    #[prost(uint64, tag = "1")]
    pub value: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct SegmentHead {
    #[prost(uint64, tag = "1")]
    pub bytes: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub blake3: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct StringList {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct IntList {
    #[prost(sint64, repeated, tag = "1")]
    values: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct DoubleList {
    #[prost(double, repeated, tag = "1")]
    values: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Time {
    #[prost(sint64, tag = "1")]
    seconds: i64,
    #[prost(sint32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "2")]
    String(String),
    #[prost(sint64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(bool, tag = "5")]
    Bool(bool),
    #[prost(message, tag = "6")]
    Time(Time),
    #[prost(message, tag = "7")]
    List(StringList),
    #[prost(message, tag = "8")]
    Ints(IntList),
    #[prost(message, tag = "9")]
    Doubles(DoubleList),
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(oneof = "Value", tags = "2, 3, 4, 5, 6, 7, 8, 9")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct DiskDocument {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    title: String,
    #[prost(string, tag = "3")]
    source_uri: String,
    #[prost(string, tag = "4")]
    media_type: String,
    #[prost(bytes = "vec", tag = "5")]
    content_hash: Vec<u8>,
    #[prost(message, repeated, tag = "6")]
    metadata: Vec<Entry>,
    #[prost(int64, tag = "7")]
    create_time_ns: i64,
    #[prost(int64, tag = "8")]
    update_time_ns: i64,
    #[prost(uint32, tag = "9")]
    doc_no: u32,
    #[prost(uint64, tag = "10")]
    first_passage: u64,
    #[prost(uint32, tag = "11")]
    passage_count: u32,
    #[prost(uint64, tag = "12")]
    text_bytes: u64,
    #[prost(uint64, tag = "13")]
    token_count: u64,
    #[prost(string, optional, tag = "14")]
    file_title: Option<String>,
    #[prost(uint32, tag = "15")]
    version: u32,
    #[prost(uint32, tag = "16")]
    max_tokens: u32,
    #[prost(uint32, tag = "17")]
    overlap_tokens: u32,
    #[prost(message, repeated, tag = "18")]
    file_metadata: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct DiskPassage {
    #[prost(uint32, tag = "1")]
    doc_no: u32,
    #[prost(uint32, tag = "2")]
    index: u32,
    #[prost(uint32, tag = "3")]
    start: u32,
    #[prost(uint32, tag = "4")]
    end: u32,
    #[prost(string, repeated, tag = "5")]
    headings: Vec<String>,
    #[prost(uint32, optional, tag = "6")]
    page: Option<u32>,
    /// Bounds of the sentences: start, end, start, end and so on.
    #[prost(uint32, repeated, tag = "7")]
    sentences: Vec<u32>,
}

fn metadata_to_disk(metadata: &Metadata) -> Vec<Entry> {
    let value = |value: &MetadataValue| match value {
        MetadataValue::Null => None,
        MetadataValue::String(s) => Some(Value::String(s.clone())),
        MetadataValue::Int(i) => Some(Value::Int(*i)),
        MetadataValue::Double(d) => Some(Value::Double(*d)),
        MetadataValue::Bool(b) => Some(Value::Bool(*b)),
        MetadataValue::Timestamp(seconds, nanos) => {
            Some(Value::Time(Time { seconds: *seconds, nanos: *nanos }))
        }
        MetadataValue::StringList(list) => Some(Value::List(StringList { values: list.clone() })),
        MetadataValue::IntList(list) => Some(Value::Ints(IntList { values: list.clone() })),
        MetadataValue::DoubleList(list) => Some(Value::Doubles(DoubleList { values: list.clone() })),
    };
    metadata.iter().map(|(key, v)| Entry { key: key.clone(), value: value(v) }).collect()
}

fn metadata_from_disk(entries: Vec<Entry>) -> Metadata {
    let value = |value: Option<Value>| match value {
        None => MetadataValue::Null,
        Some(Value::String(s)) => MetadataValue::String(s),
        Some(Value::Int(i)) => MetadataValue::Int(i),
        Some(Value::Double(d)) => MetadataValue::Double(d),
        Some(Value::Bool(b)) => MetadataValue::Bool(b),
        Some(Value::Time(t)) => MetadataValue::Timestamp(t.seconds, t.nanos),
        Some(Value::List(list)) => MetadataValue::StringList(list.values),
        Some(Value::Ints(list)) => MetadataValue::IntList(list.values),
        Some(Value::Doubles(list)) => MetadataValue::DoubleList(list.values),
    };
    entries.into_iter().map(|e| (e.key, value(e.value))).collect()
}

/// A document record as sealed bytes.
pub fn pack_document(key: &[u8], record: &DocumentRecord) -> Vec<u8> {
    seal(key, encode_document(record))
}

/// A document record as bytes.
pub fn encode_document(r: &DocumentRecord) -> Vec<u8> {
    let disk = DiskDocument {
        id: r.id.clone(),
        title: r.title.clone(),
        source_uri: r.source_uri.clone(),
        media_type: r.media_type.clone(),
        content_hash: r.content_hash.to_vec(),
        metadata: metadata_to_disk(&r.metadata),
        create_time_ns: r.create_time_ns,
        update_time_ns: r.update_time_ns,
        doc_no: r.doc_no,
        first_passage: r.first_passage,
        passage_count: r.passage_count,
        text_bytes: r.text_bytes,
        token_count: r.token_count,
        file_title: r.file_title.clone(),
        version: r.processing.version,
        max_tokens: r.processing.max_tokens,
        overlap_tokens: r.processing.overlap_tokens,
        file_metadata: metadata_to_disk(&r.file_metadata),
    };
    disk.encode_to_vec()
}

/// A document record from sealed bytes.
pub fn unpack_document(key: &[u8], sealed: &[u8]) -> Result<DocumentRecord> {
    decode_document(unseal(key, sealed)?).ok_or_else(|| damaged(key, "it does not decode"))
}

/// A document record from bytes; `None` where they are no record.
pub fn decode_document(bytes: &[u8]) -> Option<DocumentRecord> {
    let d = DiskDocument::decode(bytes).ok()?;
    let content_hash = <[u8; 32]>::try_from(d.content_hash.as_slice()).ok()?;
    Some(DocumentRecord {
        id: d.id,
        title: d.title,
        source_uri: d.source_uri,
        media_type: d.media_type,
        content_hash,
        metadata: metadata_from_disk(d.metadata),
        create_time_ns: d.create_time_ns,
        update_time_ns: d.update_time_ns,
        doc_no: d.doc_no,
        first_passage: d.first_passage,
        passage_count: d.passage_count,
        text_bytes: d.text_bytes,
        token_count: d.token_count,
        file_title: d.file_title,
        file_metadata: metadata_from_disk(d.file_metadata),
        processing: Processing {
            version: d.version,
            max_tokens: d.max_tokens,
            overlap_tokens: d.overlap_tokens,
        },
    })
}

/// A passage record as sealed bytes.
pub fn pack_passage(key: &[u8], record: &PassageRecord) -> Vec<u8> {
    seal(key, encode_passage(record))
}

/// A passage record as bytes.
pub fn encode_passage(r: &PassageRecord) -> Vec<u8> {
    let disk = DiskPassage {
        doc_no: r.doc_no,
        index: r.index,
        start: r.span.start,
        end: r.span.end,
        headings: r.headings.clone(),
        page: r.page,
        sentences: r.sentences.iter().flat_map(|s| [s.start, s.end]).collect(),
    };
    disk.encode_to_vec()
}

/// A passage record from sealed bytes.
pub fn unpack_passage(key: &[u8], sealed: &[u8]) -> Result<PassageRecord> {
    decode_passage(unseal(key, sealed)?).ok_or_else(|| damaged(key, "it does not decode"))
}

/// A passage record from bytes; `None` where they are no record.
pub fn decode_passage(bytes: &[u8]) -> Option<PassageRecord> {
    let d = DiskPassage::decode(bytes).ok()?;
    let sentences =
        d.sentences.as_chunks::<2>().0.iter().map(|[start, end]| Span::new(*start, *end)).collect();
    Some(PassageRecord {
        doc_no: d.doc_no,
        index: d.index,
        span: Span::new(d.start, d.end),
        headings: d.headings,
        page: d.page,
        sentences,
    })
}

/// One vector of a document or passage, after its document's number.
pub fn pack_vector(key: &[u8], doc_no: u32, vector: &[f32]) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + vector.len() * 4);
    value.extend_from_slice(&doc_no.to_le_bytes());
    vector.iter().for_each(|x| value.extend_from_slice(&x.to_le_bytes()));
    seal(key, value)
}

/// The document's number and the vector.
pub fn unpack_vector(key: &[u8], sealed: &[u8]) -> Result<(u32, Vec<f32>)> {
    let value = unseal(key, sealed)?;
    let Some((doc_no, rest)) = value.split_first_chunk::<4>() else {
        return Err(damaged(key, "it is too short"));
    };
    let vector = rest.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Ok((u32::from_le_bytes(*doc_no), vector))
}

/// The sentence vectors of one passage as half-precision numbers, after the document's number and their count.
pub fn pack_sentences(key: &[u8], doc_no: u32, vectors: &[Vec<f32>]) -> Vec<u8> {
    let mut value = Vec::new();
    value.extend_from_slice(&doc_no.to_le_bytes());
    value.extend_from_slice(&(vectors.len() as u32).to_le_bytes());
    vectors.iter().flatten().for_each(|x| value.extend_from_slice(&f16::from_f32(*x).to_le_bytes()));
    seal(key, value)
}

/// The document's number and the sentence vectors of one passage.
pub fn unpack_sentences(key: &[u8], sealed: &[u8]) -> Result<(u32, Vec<Vec<f32>>)> {
    let value = unseal(key, sealed)?;
    let head = value.split_first_chunk::<4>().and_then(|(doc_no, rest)| {
        rest.split_first_chunk::<4>()
            .map(|(count, rest)| (u32::from_le_bytes(*doc_no), u32::from_le_bytes(*count), rest))
    });
    let Some((doc_no, count, rest)) = head else {
        return Err(damaged(key, "it is too short"));
    };
    let bytes_each = rest.len().checked_div(count as usize).unwrap_or(0);
    if bytes_each == 0 {
        return Ok((doc_no, Vec::new()));
    }
    let halves =
        |bytes: &[u8]| bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect();
    Ok((doc_no, rest.chunks_exact(bytes_each).map(halves).collect()))
}
