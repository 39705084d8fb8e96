//! What a hit shows.

use super::candidates::{Probe, Scored};
use super::{Hit, Options, Place};
use crate::domain::{Level, Span, cosine};
use crate::error::{ErrorKind, Result};
use crate::store::{DocumentRecord, PassageRecord, Store};

/// Memory of a hit's message beside its strings.
const HIT_BYTES: usize = 512;
/// Sentences marked in a hit.
const HIGHLIGHTS: usize = 2;

/// Reads what a hit shows; `None` where it was removed meanwhile, or is described anew so that the filter does not match
/// it any more: a hit shows the very record that matches.
pub fn hit(
    store: &Store,
    cid: u32,
    probe: &Probe,
    scored: &Scored,
    options: &Options,
) -> Result<Option<Hit>> {
    let Some(document) = document(store, cid, probe, scored, options)? else { return Ok(None) };
    let point = match options.unit {
        Level::Passage => scored.point,
        Level::Sentence => scored.point >> 8,
        Level::Document => document.first_passage,
    };
    let Some(passage) = store.passage(cid, point)? else { return Ok(None) };
    let span = span_of(&passage, scored, options.unit);
    options.room.add(bytes_of(&document, &passage) + span.len() as usize)?;
    let Some(text) = store.text(cid, document.doc_no, span)? else { return Ok(None) };
    let highlights = match probe.vector.as_deref() {
        Some(query) if options.include_highlights && options.unit != Level::Sentence => {
            let similarities = match scored.sentences.is_empty() {
                true => {
                    let vectors = store.sentence_vectors(cid, point)?.unwrap_or_default();
                    vectors.iter().map(|vector| cosine(query, vector)).collect()
                }
                false => scored.sentences.clone(),
            };
            highlights(&similarities, &passage, &text)
        }
        _ => Vec::new(),
    };
    let vector = match options.include_vectors {
        true if scored.vector.is_empty() => store.vector(cid, options.unit, scored.point)?,
        wanted => wanted.then(|| scored.vector.clone()),
    };
    options.room.add(vector.as_ref().map_or(0, |vector| size_of_val(vector.as_slice())))?;
    Ok(Some(Hit {
        text,
        document,
        passage_index: passage.index,
        span,
        headings: passage.headings,
        page: passage.page,
        score: scored.score,
        vector_score: scored.vector_score,
        sentence_score: scored.sentence_score(),
        keyword_score: scored.keyword_score,
        rerank_score: None,
        vector,
        highlights,
        repeats: Vec::new(),
        repeat_count: 0,
    }))
}

/// Where a passage or sentence stands that another hit shows; `None` as for [`hit`].
pub fn place(
    store: &Store,
    cid: u32,
    probe: &Probe,
    scored: &Scored,
    options: &Options,
) -> Result<Option<Place>> {
    let Some(document) = document(store, cid, probe, scored, options)? else { return Ok(None) };
    let point = if options.unit == Level::Sentence { scored.point >> 8 } else { scored.point };
    let Some(passage) = store.passage(cid, point)? else { return Ok(None) };
    let span = span_of(&passage, scored, options.unit);
    options
        .room
        .add(size_of::<Place>() + document.id.len() + document.title.len() + document.source_uri.len())?;
    Ok(Some(Place {
        document_id: document.id,
        title: document.title,
        source_uri: document.source_uri,
        passage_index: passage.index,
        span,
        page: passage.page,
    }))
}

/// Whether a candidate's document is there still, can be read and matches the filter.
///
/// # Errors
/// Whatever the store gives but damage, which is left to whoever reads the hit.
pub fn is_shown(store: &Store, cid: u32, probe: &Probe, scored: &Scored, options: &Options) -> Result<bool> {
    match document(store, cid, probe, scored, options) {
        Err(error) if error.kind == ErrorKind::DataLoss => Ok(false),
        found => Ok(found?.is_some()),
    }
}

/// The document of a candidate, if it is there still and wanted.
fn document(
    store: &Store,
    cid: u32,
    probe: &Probe,
    scored: &Scored,
    options: &Options,
) -> Result<Option<DocumentRecord>> {
    let Some(id) = store.document_id(cid, scored.doc_no)? else { return Ok(None) };
    let Some(document) = store.document(cid, &id)?.filter(|d| d.doc_no == scored.doc_no) else {
        return Ok(None);
    };
    let is_wanted = match (&options.filter, &probe.excluded) {
        // It may have been written anew since it was looked up.
        (_, Some(excluded)) if excluded.id == id => false,
        (Some(filter), _) => filter.matches(&id, &document.metadata),
        (None, _) => true,
    };
    Ok(is_wanted.then_some(document))
}

/// Where a candidate stands in its document.
fn span_of(passage: &PassageRecord, scored: &Scored, unit: Level) -> Span {
    match unit {
        Level::Sentence => {
            passage.sentences.get((scored.point & 0xff) as usize).copied().unwrap_or(passage.span)
        }
        Level::Passage | Level::Document => passage.span,
    }
}

/// Memory that a hit takes, beside its text and vector, as it is found and in an answer.
fn bytes_of(document: &DocumentRecord, passage: &PassageRecord) -> usize {
    let headings: usize = passage.headings.iter().map(|heading| size_of::<String>() + heading.len()).sum();
    size_of::<Hit>() + HIT_BYTES + document.shown_bytes() + headings
}

/// The sentences of a passage closest to the query, by the similarities of all of them.
fn highlights(similarities: &[f32], passage: &PassageRecord, text: &str) -> Vec<(Span, f32)> {
    let sentences = passage.sentences.iter().copied().zip(similarities.iter().copied());
    let mut best: Vec<(Span, f32)> =
        sentences.filter(|(span, _)| has_letters(text, passage.span, *span)).collect();
    best.sort_by(|a, b| b.1.total_cmp(&a.1));
    best.truncate(HIGHLIGHTS);
    best
}

/// Whether a sentence of a passage says something: rows of numbers and dashes do not.
fn has_letters(text: &str, passage: Span, sentence: Span) -> bool {
    let start = sentence.start.saturating_sub(passage.start);
    let within = Span::new(start, start.saturating_add(sentence.len()));
    within.slice(text).is_some_and(|sentence| sentence.chars().any(char::is_alphabetic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn highlights_have_letters() {
        let passage = Span::new(10, 25);
        assert!(has_letters("Übers. --- 12.", passage, Span::new(10, 17)));
        assert!(!has_letters("Übers. --- 12.", passage, Span::new(18, 21)));
        assert!(!has_letters("Übers. --- 12.", passage, Span::new(22, 25)));
        assert!(!has_letters("short", passage, Span::new(90, 99)));
    }
}
