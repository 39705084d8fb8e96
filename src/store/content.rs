//! Whole documents: what the store holds of one, and whether one that comes from outside is sound.

use half::f16;

use super::codec;
use super::commit::TEXT_CHUNK;
use super::keys;
use super::live::Live;
use super::records::{DocumentRecord, NewDocument, NewPassage, PassageRecord};
use super::view::View;
use super::{Store, records::Inserted};
use crate::domain::{Level, Span, is_unit};
use crate::error::{Error, Result};

/// How often all passages together may hold a document's text, and how much they may hold at least. Neighbours share at
/// most half of their tokens.
const MOST_COPIES: usize = 4;
const LEAST_TOTAL: usize = 64 << 10;
/// How often a document that is replaced while it is read is read again.
const TRIES: usize = 4;

impl Store {
    /// A document with all that is stored of it, by id: one version, whole. `None` where there is no such
    /// document.
    pub fn whole_document(&self, cid: u32, id: &str) -> Result<Option<Inserted>> {
        let found = self.one_version(cid, id, |live, record| read(live, cid, record))?;
        Ok(found.map(|(record, document)| Inserted { record, document }))
    }

    /// A document's record, text and passages, by id: one version, whole. `None` where there is no such document.
    ///
    /// # Errors
    /// `DATA_LOSS` where a part of it is damaged.
    pub fn readable_document(&self, cid: u32, id: &str) -> Result<Option<ReadableDocument>> {
        let found = self.one_version(cid, id, |live, record| {
            let passages =
                record.passages().map(|point| passage_record(live, cid, point)).collect::<Result<_>>()?;
            Ok((text(live, cid, record)?, passages))
        })?;
        Ok(found.map(|(record, (text, passages))| ReadableDocument { record, text, passages }))
    }

    /// A document's own vector, by id. `None` where there is no such document.
    ///
    /// # Errors
    /// `DATA_LOSS` where it is damaged, or the document has none.
    pub fn document_vector(&self, cid: u32, id: &str) -> Result<Option<Vec<f32>>> {
        let found = self.one_version(cid, id, |live, record| {
            let key = keys::vector(cid, Level::Document, u64::from(record.doc_no));
            Ok(codec::unpack_vector(&key, &stored(live, &key)?)?.1)
        })?;
        Ok(found.map(|(_, vector)| vector))
    }

    /// A document's own vector, of the version of a record; empty where it has none.
    ///
    /// # Errors
    /// `DATA_LOSS` where it is damaged.
    pub fn own_vector(&self, cid: u32, record: &DocumentRecord) -> Result<Vec<f32>> {
        own_vector(&self.live(), cid, record)
    }

    /// The passage of a point, with its vectors.
    ///
    /// # Errors
    /// `DATA_LOSS` where it is damaged or missing.
    pub fn whole_passage(&self, cid: u32, point: u64) -> Result<NewPassage> {
        passage(&self.live(), cid, point)
    }

    /// The text of a record's version from an offset on, which is where a character begins: whole characters, of at most so
    /// many bytes together; at least four must be allowed.
    ///
    /// # Errors
    /// `DATA_LOSS` where it is damaged or missing.
    pub fn text_piece(&self, cid: u32, record: &DocumentRecord, offset: u64, most: usize) -> Result<String> {
        let live = self.live();
        let end = record.text_bytes.min(offset.saturating_add(most as u64));
        let first = offset / TEXT_CHUNK as u64;
        let mut bytes = Vec::with_capacity(most.min(1 << 20) + TEXT_CHUNK);
        for chunk in first..end.div_ceil(TEXT_CHUNK as u64) {
            let key = keys::text(cid, record.doc_no, u32::try_from(chunk).unwrap_or(u32::MAX));
            bytes.extend_from_slice(codec::unseal(&key, &stored(&live, &key)?)?);
        }
        let start = first * TEXT_CHUNK as u64;
        let key = keys::document(cid, &record.id);
        let piece = bytes.get((offset - start) as usize..(end.max(offset) - start) as usize);
        let piece = piece.ok_or_else(|| codec::damaged(&key, "its text is of another length"))?;
        let whole = match std::str::from_utf8(piece) {
            Ok(text) => text,
            // The last character goes on in the next piece.
            Err(error)
                if error.error_len().is_none() && error.valid_up_to() > 0 && end < record.text_bytes =>
            {
                let valid = piece.get(..error.valid_up_to()).unwrap_or_default();
                std::str::from_utf8(valid).unwrap_or_default()
            }
            Err(_) => return Err(codec::damaged(&key, "its text is not UTF-8")),
        };
        Ok(whole.to_owned())
    }

    /// A document's record, and a view of the same moment, which keeps its rows. Nobody writes in between: of a version that
    /// came after the view the rows would not be kept. Of a collection that is gone, where there is no view, nothing changes
    /// any more.
    fn held_document(&self, cid: u32, id: &str) -> Result<(Option<View>, Option<DocumentRecord>)> {
        let _writer = self.inner.writer.lock_until(&|| false)?;
        Ok((self.inner.view(cid).ok(), self.document(cid, id)?))
    }

    /// What `read` gives of the rows that belong to a document's record. If rows went away while they were read,
    /// because somebody has replaced or deleted the document, what is there now is read. The last try reads of one moment,
    /// so that no document is replaced too often to be read.
    fn one_version<T>(
        &self,
        cid: u32,
        id: &str,
        read: impl Fn(&Live, &DocumentRecord) -> Result<T>,
    ) -> Result<Option<(DocumentRecord, T)>> {
        let mut tries = TRIES;
        loop {
            let (_view, record) =
                if tries == 1 { self.held_document(cid, id)? } else { (None, self.document(cid, id)?) };
            let Some(record) = record else { return Ok(None) };
            tries -= 1;
            match read(&self.live(), &record) {
                Ok(found) => return Ok(Some((record, found))),
                Err(_)
                    if tries > 0 && self.document(cid, id)?.is_none_or(|now| now.doc_no != record.doc_no) => {
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// A document as people read it.
#[derive(Debug, Clone)]
pub struct ReadableDocument {
    /// What describes it.
    pub record: DocumentRecord,
    /// All of its text.
    pub text: String,
    /// Its passages, in order.
    pub passages: Vec<PassageRecord>,
}

/// What belongs to a document's record.
pub fn read(live: &Live, cid: u32, record: &DocumentRecord) -> Result<NewDocument> {
    let mut passages = Vec::with_capacity(record.passage_count.min(1 << 16) as usize);
    for point in record.passages() {
        passages.push(passage(live, cid, point)?);
    }
    let document_vector = own_vector(live, cid, record)?;
    Ok(NewDocument {
        id: record.id.clone(),
        title: record.title.clone(),
        source_uri: record.source_uri.clone(),
        media_type: record.media_type.clone(),
        content_hash: record.content_hash,
        metadata: record.metadata.clone(),
        text: text(live, cid, record)?,
        passages,
        document_vector,
        token_count: record.token_count,
        file_title: record.file_title.clone().unwrap_or_default(),
        file_metadata: record.file_metadata.clone(),
        processing: record.processing,
    })
}

fn own_vector(live: &Live, cid: u32, record: &DocumentRecord) -> Result<Vec<f32>> {
    let key = keys::vector(cid, Level::Document, u64::from(record.doc_no));
    match live.get(&key)? {
        Some(value) => Ok(codec::unpack_vector(&key, &value)?.1),
        None => Ok(Vec::new()),
    }
}

fn text(live: &Live, cid: u32, record: &DocumentRecord) -> Result<String> {
    let mut bytes = Vec::new();
    let chunks = record.text_bytes.div_ceil(TEXT_CHUNK as u64);
    for chunk in 0..u32::try_from(chunks).unwrap_or(u32::MAX) {
        let key = keys::text(cid, record.doc_no, chunk);
        bytes.extend_from_slice(codec::unseal(&key, &stored(live, &key)?)?);
    }
    let key = keys::document(cid, &record.id);
    if bytes.len() as u64 != record.text_bytes {
        return Err(codec::damaged(&key, "its text is of another length"));
    }
    String::from_utf8(bytes).map_err(|_| codec::damaged(&key, "its text is not UTF-8"))
}

fn passage_record(live: &Live, cid: u32, point: u64) -> Result<PassageRecord> {
    let key = keys::passage(cid, point);
    codec::unpack_passage(&key, &stored(live, &key)?)
}

fn passage(live: &Live, cid: u32, point: u64) -> Result<NewPassage> {
    let record = passage_record(live, cid, point)?;
    let key = keys::vector(cid, Level::Passage, point);
    let (_, vector) = codec::unpack_vector(&key, &stored(live, &key)?)?;
    let key = keys::vector(cid, Level::Sentence, point);
    let sentence_vectors = match live.get(&key)? {
        Some(value) => codec::unpack_sentences(&key, &value)?.1,
        None => Vec::new(),
    };
    Ok(NewPassage {
        span: record.span,
        headings: record.headings,
        page: record.page,
        sentences: record.sentences,
        vector,
        sentence_vectors,
    })
}

fn stored(live: &Live, key: &[u8]) -> Result<Vec<u8>> {
    live.get(key)?.ok_or_else(|| codec::damaged(key, "it is missing"))
}

/// Checks that the passages of a document do not repeat its text over and over: each copy takes memory wherever they are
/// read.
///
/// # Errors
/// `PASSAGES_TOO_LONG`.
pub fn check_copies(document: &NewDocument) -> Result<()> {
    let most = document.text.len().saturating_mul(MOST_COPIES).saturating_add(LEAST_TOTAL);
    let total: usize = document.passages.iter().map(|passage| passage.span.len() as usize).sum();
    if total > most {
        let message = format!("passages: expected at most {most} bytes of text in all of them, got {total}");
        return Err(Error::invalid("PASSAGES_TOO_LONG", message));
    }
    Ok(())
}

/// Checks that the vectors of a document have unit length: their dot products are taken for cosines. Those of other
/// dimensions, or that are not finite, are refused when the document is written.
///
/// # Errors
/// `VECTOR_NOT_UNIT`, with the passage.
pub fn check_unit_vectors(document: &NewDocument, dimensions: usize) -> Result<()> {
    let check = |what: &dyn Fn() -> String, vector: &[f32]| {
        if is_unit(vector) || vector.len() != dimensions || !vector.iter().all(|x| x.is_finite()) {
            return Ok(());
        }
        let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let message = format!("{}: expected a vector of length 1, got one of length {length:e}", what());
        Err(Error::invalid("VECTOR_NOT_UNIT", message))
    };
    if !document.document_vector.is_empty() {
        check(&|| "vector".to_owned(), &document.document_vector)?;
    }
    for (index, passage) in document.passages.iter().enumerate() {
        check(&|| format!("passages[{index}].vector"), &passage.vector)?;
        for (at, vector) in passage.sentence_vectors.iter().enumerate() {
            check(&|| format!("passages[{index}].sentence_vectors[{at}]"), vector)?;
        }
    }
    Ok(())
}

/// Checks a document that another store has made: that its spans fit its text, its sentences lie in their
/// passages, and there are no more sentence vectors than sentences. Lengths and values of vectors are checked
/// whenever a document is written.
///
/// # Errors
/// `SPAN_OUT_OF_BOUNDS`, `TOO_MANY_SENTENCES` and `VECTOR_NOT_FINITE`.
pub fn check_foreign(document: &NewDocument) -> Result<()> {
    for (index, passage) in document.passages.iter().enumerate() {
        let fits = |span: &Span| span.start <= span.end && span.slice(&document.text).is_some();
        let is_inside = |s: &Span| s.start >= passage.span.start && s.end <= passage.span.end && fits(s);
        if !fits(&passage.span) || !passage.sentences.iter().all(is_inside) {
            let message = format!("passages[{index}]: expected spans of whole characters within the text");
            return Err(Error::invalid("SPAN_OUT_OF_BOUNDS", message));
        }
        if passage.sentence_vectors.len() > passage.sentences.len() {
            let message = format!(
                "passages[{index}]: expected at most {} sentence vectors, got {}",
                passage.sentences.len(),
                passage.sentence_vectors.len()
            );
            return Err(Error::invalid("TOO_MANY_SENTENCES", message));
        }
        if passage.sentence_vectors.iter().flatten().any(|x| !f16::from_f32(*x).is_finite()) {
            let message =
                format!("passages[{index}]: expected sentence vectors of numbers that half precision holds");
            return Err(Error::invalid("VECTOR_NOT_FINITE", message));
        }
    }
    Ok(())
}
