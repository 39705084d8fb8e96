//! What is left where a record cannot be read: of a document, and of a collection's counters.

use super::codec::{self, Counters};
use super::collections::read_all;
use super::commit::TEXT_CHUNK;
use super::keys;
use super::live::Live;
use super::records::{CollectionRecord, DocumentRecord, Processing};
use crate::domain::{Level, Metadata};
use crate::error::Result;

/// A record that names all that can be found of the document, for its removal. Reads the whole collection's
/// numbers, passages and vectors: damage is rare. `doc_no` is `u32::MAX` where even the number is lost; what
/// it had is then unreachable, and stays until the collection is deleted.
pub fn find(live: &Live, cid: u32, id: &str) -> Result<DocumentRecord> {
    let mut record = DocumentRecord {
        id: id.to_owned(),
        title: String::new(),
        source_uri: String::new(),
        media_type: String::new(),
        content_hash: [0; 32],
        metadata: Metadata::new(),
        create_time_ns: super::now_ns(),
        update_time_ns: 0,
        doc_no: u32::MAX,
        first_passage: 0,
        passage_count: 0,
        text_bytes: 0,
        token_count: 0,
        file_title: None,
        file_metadata: Metadata::new(),
        processing: Processing::default(),
    };
    let Some(doc_no) = number(live, cid, id)? else { return Ok(record) };
    record.doc_no = doc_no;
    let chunks = live.prefix(&keys::texts(cid, doc_no)).count();
    record.text_bytes = (chunks * TEXT_CHUNK) as u64;
    let mut points = None;
    let mut add = |key: &[u8]| {
        let Some(point) = keys::last_u64(key) else { return };
        let (first, last) = points.unwrap_or((point, point));
        points = Some((point.min(first), point.max(last)));
    };
    for item in live.prefix(&keys::passages(cid)) {
        let (key, value) = item?;
        if codec::unpack_passage(&key, &value).is_ok_and(|passage| passage.doc_no == doc_no) {
            add(&key);
        }
    }
    for item in live.prefix(&keys::vectors(cid, Level::Passage)) {
        let (key, value) = item?;
        if codec::unpack_vector(&key, &value).is_ok_and(|(owner, _)| owner == doc_no) {
            add(&key);
        }
    }
    if let Some((first, last)) = points {
        record.first_passage = first;
        record.passage_count = u32::try_from(last - first + 1).unwrap_or(u32::MAX);
    }
    Ok(record)
}

/// Numbers that are passed over when counters are made again. Those of the last documents may have been removed
/// without a trace, while an index that lags behind still knows them.
const GAP: u32 = 1 << 20;

/// A collection's counters by its rows; `None` where there is no such collection.
pub fn counters(live: &Live, cid: u32) -> Result<Option<Counters>> {
    let of_collection = |record: &CollectionRecord| record.cid == cid;
    let mut records = read_all(live)?.into_iter().filter_map(|(_, record)| record.ok());
    let Some(record) = records.find(of_collection) else { return Ok(None) };
    let mut counters = Counters::of(&record);
    counters.documents = live.prefix(&keys::document(cid, "")).count() as u64;
    counters.passages = live.prefix(&keys::passages(cid)).count() as u64;
    let last = |prefix: Vec<u8>| -> Result<u64> {
        let Some((key, _)) = live.prefix(&prefix).next_back().transpose()? else { return Ok(0) };
        Ok(keys::last_u64(&key).map_or(0, |last| last.saturating_add(1)))
    };
    let removed = |level: Level| -> Result<u64> {
        let Some((key, value)) = live.prefix(&keys::tombstones(cid, level)).next_back().transpose()? else {
            return Ok(0);
        };
        let count = codec::unpack::<codec::Number>(&key, &value).map_or(0, |number| number.value);
        Ok(keys::last_u64(&key).unwrap_or_default().saturating_add(count))
    };
    let numbered = live.prefix(&keys::numbers(cid)).next_back().transpose()?;
    let numbered = numbered.and_then(|(key, _)| keys::last_u32(&key)).map_or(0, |last| u64::from(last) + 1);
    let documents = numbered.max(last(keys::vectors(cid, Level::Document))?).max(removed(Level::Document)?);
    counters.next_doc_no = u32::try_from(documents).unwrap_or(u32::MAX).saturating_add(GAP);
    let points = last(keys::passages(cid))?
        .max(last(keys::vectors(cid, Level::Passage))?)
        .max(last(keys::vectors(cid, Level::Sentence))?)
        .max(removed(Level::Passage)?);
    counters.next_point = points.saturating_add(u64::from(GAP));
    Ok(Some(counters))
}

/// Where removed points end at the latest that begin at one: at the next point that has a vector, or where the
/// collection's points end. What lies between is in no index for good reason.
pub fn end_of_removed(live: &Live, cid: u32, level: Level, first: u64) -> Result<u64> {
    let to_point = |stored: u64| if level == Level::Sentence { stored << 8 } else { stored };
    let stored = if level == Level::Sentence { first >> 8 } else { first };
    let vectors = keys::vectors(cid, level);
    if let Some((key, _)) = live.from(&keys::vector(cid, level, stored)).next().transpose()?
        && key.starts_with(&vectors)
        && let Some(next) = keys::last_u64(&key)
    {
        return Ok(to_point(next));
    }
    let counters = super::commit::counters(live, cid)?;
    Ok(match level {
        Level::Document => u64::from(counters.next_doc_no),
        Level::Passage | Level::Sentence => to_point(counters.next_point),
    })
}

fn number(live: &Live, cid: u32, id: &str) -> Result<Option<u32>> {
    let mut found = None;
    for item in live.prefix(&keys::numbers(cid)) {
        let (key, value) = item?;
        if codec::unseal(&key, &value).is_ok_and(|stored| stored == id.as_bytes()) {
            // A later version of the same id has the greater number.
            found = key.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
        }
    }
    Ok(found)
}
