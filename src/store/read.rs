//! Reads. They never wait for writers.

use std::ops::Range;

use roaring::RoaringBitmap;

use super::commit::{self, TEXT_CHUNK};
use super::live::Live;
use super::records::{DocumentRecord, PassageRecord};
use super::{Store, codec, keys, salvage};
use crate::domain::{Level, Span};
use crate::error::{Error, Result};

impl Store {
    /// A document by id.
    pub fn document(&self, cid: u32, id: &str) -> Result<Option<DocumentRecord>> {
        let key = keys::document(cid, id);
        self.live().get(&key)?.map(|value| document_in(&key, &value)).transpose()
    }

    /// The id of the document of a number.
    pub fn document_id(&self, cid: u32, doc_no: u32) -> Result<Option<String>> {
        let key = keys::number(cid, doc_no);
        let Some(value) = self.live().get(&key)? else { return Ok(None) };
        let id = codec::unseal(&key, &value)?.to_vec();
        String::from_utf8(id).map(Some).map_err(|_| codec::damaged(&key, "it is not UTF-8"))
    }

    /// Numbers of all documents.
    pub fn document_numbers(&self, cid: u32) -> Result<RoaringBitmap> {
        document_numbers(&self.live(), cid)
    }

    /// Documents after the given one, in order of their ids; of one that is damaged the error, which names it.
    pub fn documents_after(
        &self,
        cid: u32,
        after: Option<&str>,
    ) -> impl Iterator<Item = Result<DocumentRecord>> + Send + use<> {
        let prefix = keys::document(cid, "");
        let mut start = keys::document(cid, after.unwrap_or_default());
        if after.is_some() {
            // The first key that is greater.
            start.push(0);
        }
        let live = self.live();
        let items = live.from(&start);
        items
            .take_while(move |item| {
                // The database and its directory stay while the iterator lives.
                let _open = &live;
                item.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix))
            })
            .map(|item| {
                let (key, value) = item?;
                document_in(&key, &value)
            })
    }

    /// All documents whose ids start with a prefix, in order of their ids; of one that is damaged the error, which names it.
    pub fn documents_of(
        &self,
        cid: u32,
        id_prefix: &str,
    ) -> impl Iterator<Item = Result<DocumentRecord>> + Send + use<> {
        let live = self.live();
        live.prefix(&keys::document(cid, id_prefix)).map(move |item| {
            // The database and its directory stay while the iterator lives.
            let _open = &live;
            let (key, value) = item?;
            document_in(&key, &value)
        })
    }

    /// A passage by point.
    pub fn passage(&self, cid: u32, point: u64) -> Result<Option<PassageRecord>> {
        let key = keys::passage(cid, point);
        self.live().get(&key)?.map(|value| codec::unpack_passage(&key, &value)).transpose()
    }

    /// A part of a document's text; reads only the chunks it lies in. `None` where the document is gone: replaced or
    /// deleted since its number was read.
    ///
    /// # Errors
    /// `SPAN_OUT_OF_BOUNDS`, `SPAN_CUTS_CHARACTER`, and `DATA_LOSS` where a chunk is damaged or missing.
    pub fn text(&self, cid: u32, doc_no: u32, span: Span) -> Result<Option<String>> {
        let (start, end) = (span.start as usize, span.end as usize);
        if span.is_empty() {
            return Ok(Some(String::new()));
        }
        let live = self.live();
        let first = start / TEXT_CHUNK;
        let mut bytes = Vec::with_capacity(span.len().min(1 << 20) as usize + TEXT_CHUNK);
        for chunk in first..=(end - 1) / TEXT_CHUNK {
            let key = keys::text(cid, doc_no, chunk as u32);
            let Some(value) = live.get(&key)? else {
                return self.missing_text(cid, doc_no, span, &key);
            };
            bytes.extend_from_slice(codec::unseal(&key, &value)?);
        }
        let offset = first * TEXT_CHUNK;
        let Some(slice) = bytes.get(start - offset..end - offset) else { return Err(out_of_bounds(span)) };
        let text = std::str::from_utf8(slice).map_err(|_| {
            Error::invalid("SPAN_CUTS_CHARACTER", format!("the span {start}..{end} cuts a character"))
        })?;
        Ok(Some(text.to_owned()))
    }

    /// Tells a document that is gone from a chunk that is missing.
    fn missing_text(&self, cid: u32, doc_no: u32, span: Span, key: &[u8]) -> Result<Option<String>> {
        let Some(id) = self.document_id(cid, doc_no)? else { return Ok(None) };
        match self.document(cid, &id)?.filter(|record| record.doc_no == doc_no) {
            Some(record) if u64::from(span.end) > record.text_bytes => Err(out_of_bounds(span)),
            Some(_) => Err(codec::damaged(key, "it is missing")),
            None => Ok(None),
        }
    }

    /// A point's vector. A sentence's point is `passage point << 8 | position`.
    pub fn vector(&self, cid: u32, level: Level, point: u64) -> Result<Option<Vec<f32>>> {
        if level == Level::Sentence {
            let vectors = self.sentence_vectors(cid, point >> 8)?.unwrap_or_default();
            return Ok(vectors.into_iter().nth((point & 0xff) as usize));
        }
        let key = keys::vector(cid, level, point);
        let Some(value) = self.live().get(&key)? else { return Ok(None) };
        Ok(Some(codec::unpack_vector(&key, &value)?.1))
    }

    /// The vectors of a passage's sentences, in their order: at most 256, as many as a point's number tells apart.
    pub fn sentence_vectors(&self, cid: u32, point: u64) -> Result<Option<Vec<Vec<f32>>>> {
        let key = keys::vector(cid, Level::Sentence, point);
        let Some(value) = self.live().get(&key)? else { return Ok(None) };
        let (_, mut vectors) = codec::unpack_sentences(&key, &value)?;
        vectors.truncate(256);
        Ok(Some(vectors))
    }

    /// All points from `first_point` on in order: point, document number, vector. Damaged vectors are logged
    /// and left out, so that one of them does not keep an index from opening.
    pub fn vectors_after(
        &self,
        cid: u32,
        level: Level,
        first_point: u64,
    ) -> impl Iterator<Item = Result<(u64, u32, Vec<f32>)>> + Send + use<> {
        let stored = if level == Level::Sentence { first_point >> 8 } else { first_point };
        let prefix = keys::vectors(cid, level);
        let live = self.live();
        let items = live.from(&keys::vector(cid, level, stored));
        items
            .take_while(move |item| {
                // The database and its directory stay while the iterator lives.
                let _open = &live;
                item.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix))
            })
            .flat_map(move |item| match item.and_then(|(key, value)| points(level, &key, &value)) {
                Ok(points) => points.into_iter().map(Ok).collect(),
                Err(error) if error.reason == codec::CORRUPT_RECORD => {
                    tracing::error!(cid, ?level, %error, "a point is not indexed");
                    Vec::new()
                }
                Err(error) => vec![Err(error)],
            })
            .filter(move |item| item.as_ref().map_or(true, |(point, _, _)| *point >= first_point))
    }

    /// Ranges of points that were removed and may still be in the index. One whose record is damaged goes up to the
    /// next point that is there.
    pub fn tombstones(&self, cid: u32, level: Level) -> Result<Vec<Range<u64>>> {
        let live = self.live();
        let range = |item: Result<(Vec<u8>, Vec<u8>)>| {
            let (key, value) = item?;
            let first = keys::last_u64(&key).ok_or_else(|| codec::damaged(&key, "its key is too short"))?;
            let end = match codec::unpack::<codec::Number>(&key, &value) {
                Ok(count) => first.saturating_add(count.value),
                Err(error) => {
                    let end = salvage::end_of_removed(&live, cid, level, first)?;
                    tracing::error!(cid, ?level, first, end, %error, "points up to the next one are taken for deleted");
                    end
                }
            };
            Ok(first..end)
        };
        live.prefix(&keys::tombstones(cid, level)).map(range).collect()
    }

    /// Share of its document numbers that a collection has used. Each document that is written or replaced uses one, and
    /// none is used twice: the index tells by them what is new.
    pub fn numbers_used(&self, cid: u32) -> Result<f64> {
        commit::numbers_used(&self.live(), cid)
    }

    /// How many documents and passages a collection has.
    pub fn counts(&self, cid: u32) -> Result<(u64, u64)> {
        commit::counts(&self.live(), cid)
    }
}

/// A document's record; the error of one that is damaged names it.
fn document_in(key: &[u8], value: &[u8]) -> Result<DocumentRecord> {
    codec::unpack_document(key, value).map_err(|error| error.about("document", keys::id_of(key)))
}

/// Numbers of all documents of a collection.
fn document_numbers(live: &Live, cid: u32) -> Result<RoaringBitmap> {
    let number = |item: Result<(Vec<u8>, Vec<u8>)>| {
        let (key, _) = item?;
        keys::last_u32(&key).ok_or_else(|| codec::damaged(&key, "its key is too short"))
    };
    live.prefix(&keys::numbers(cid)).map(number).collect()
}

fn points(level: Level, key: &[u8], value: &[u8]) -> Result<Vec<(u64, u32, Vec<f32>)>> {
    let point = keys::last_u64(key).ok_or_else(|| codec::damaged(key, "its key is too short"))?;
    if level != Level::Sentence {
        let (doc_no, vector) = codec::unpack_vector(key, value)?;
        return Ok(vec![(point, doc_no, vector)]);
    }
    let (doc_no, vectors) = codec::unpack_sentences(key, value)?;
    Ok((0u64..).zip(vectors).map(|(at, vector)| (point << 8 | at, doc_no, vector)).collect())
}

fn out_of_bounds(span: Span) -> Error {
    Error::invalid(
        "SPAN_OUT_OF_BOUNDS",
        format!("the span {}..{} goes beyond the text", span.start, span.end),
    )
}
