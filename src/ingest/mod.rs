//! The way of a document: extract, split, encode, store. The store's commit feeds the index.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::domain::{CollectionName, DocumentId, Extracted, Metadata, Section, Span};
use crate::encoder::{Encoders, PassageInput};
use crate::error::{Error, Result};
use crate::extract::Extractor;
use crate::store::{CollectionRecord, DocumentRecord, NewDocument, NewPassage};
use crate::text::{self, PassageDraft, SplitOptions};

/// Most bytes of one document's text.
const MAX_TEXT_BYTES: usize = 64 << 20;

/// A document as it comes in.
pub struct Input {
    /// Id; empty means the content hash.
    pub id: String,
    /// Title; empty means the file's own.
    pub title: String,
    /// Where it came from.
    pub source_uri: String,
    /// What it holds.
    pub content: Content,
    /// Filterable values.
    pub metadata: Metadata,
}

/// A document's content.
pub enum Content {
    /// Plain text.
    Text(String),
    /// A file of a media type.
    Data {
        /// The file's bytes.
        bytes: Vec<u8>,
        /// Its media type; empty means that it is told from the bytes.
        media_type: String,
    },
}

/// What became of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its id.
    pub document_id: String,
    /// Passages it has.
    pub passage_count: u32,
    /// Whether it was stored already, just so.
    pub unchanged: bool,
    /// Tokens that were encoded for it.
    pub tokens: u32,
}

/// Puts documents into collections. Idempotent: what is stored already is not encoded again.
pub struct Ingest {
    catalog: Arc<Catalog>,
    encoders: Encoders,
    extractor: Extractor,
}

impl Ingest {
    /// An ingest over its parts.
    pub fn new(catalog: Arc<Catalog>, encoders: Encoders, extractor: Extractor) -> Self {
        Self { catalog, encoders, extractor }
    }

    /// Adds or replaces a document; when it returns, the document is durable and searchable.
    ///
    /// # Errors
    /// Bad input with its reason; the stored version of the document, if there is one, stays.
    pub async fn upsert(
        &self,
        collection: &CollectionName,
        input: Input,
        validate_only: bool,
    ) -> Result<Outcome> {
        let record = self.catalog.collection(collection)?;
        let hash = content_hash(&input.content);
        let id = if input.id.is_empty() { hash.to_hex().to_string() } else { input.id.clone() };
        let id = DocumentId::new(id)?;
        let stored = self.catalog.store().document(record.cid, id.as_str())?;
        if let Some(stored) = stored.filter(|stored| same(stored, &hash, &input)) {
            return Ok(Outcome {
                document_id: stored.id,
                passage_count: stored.passage_count,
                unchanged: true,
                tokens: 0,
            });
        }
        let (extracted, media_type) = self.extract(input.content).await?;
        let title = if input.title.is_empty() { extracted.title.unwrap_or_default() } else { input.title };
        let (drafts, text) = self.split(&record, extracted.text, extracted.sections).await?;
        if validate_only {
            return Ok(Outcome {
                document_id: id.as_str().to_owned(),
                passage_count: drafts.len() as u32,
                unchanged: false,
                tokens: 0,
            });
        }
        let (passages, document_vector, tokens) = self.encode(&record, &text, drafts).await?;
        let document = NewDocument {
            id: id.as_str().to_owned(),
            title,
            source_uri: input.source_uri,
            media_type,
            content_hash: *hash.as_bytes(),
            metadata: input.metadata,
            text,
            passages,
            document_vector,
            token_count: u64::from(tokens),
        };
        let stored = self.catalog.store().upsert(record.cid, document).await?;
        Ok(Outcome { document_id: stored.id, passage_count: stored.passage_count, unchanged: false, tokens })
    }

    async fn extract(&self, content: Content) -> Result<(Extracted, String)> {
        let (extracted, media_type) = match content {
            Content::Text(text) => {
                let sections =
                    vec![Section { span: Span::new(0, text.len() as u32), headings: vec![], page: None }];
                (Extracted { title: None, text, sections }, "text/plain".to_owned())
            }
            Content::Data { bytes, media_type } => {
                (self.extractor.extract(bytes, &media_type).await?, media_type)
            }
        };
        if extracted.text.len() > MAX_TEXT_BYTES {
            return Err(Error::invalid(
                "DOCUMENT_TOO_LARGE",
                format!("expected at most {MAX_TEXT_BYTES} bytes of text, got {}", extracted.text.len()),
            ));
        }
        if extracted.text.trim().is_empty() {
            return Err(Error::invalid("EMPTY_DOCUMENT", "expected a document with text, got none"));
        }
        Ok((extracted, media_type))
    }

    /// Splits on a blocking thread: long documents take a while to tokenize.
    async fn split(
        &self,
        record: &CollectionRecord,
        text: String,
        sections: Vec<Section>,
    ) -> Result<(Vec<PassageDraft>, String)> {
        let encoder = self.encoders.bound(&record.model_id, &record.model_revision)?.clone();
        let options = SplitOptions {
            max_tokens: record.max_tokens as usize,
            overlap_tokens: record.overlap_tokens as usize,
        };
        tokio::task::spawn_blocking(move || {
            let drafts =
                text::split_passages(&text, &sections, &options, &|piece: &str| encoder.token_spans(piece))?;
            if drafts.is_empty() {
                return Err(Error::invalid("EMPTY_DOCUMENT", "expected a document with words, got none"));
            }
            Ok((drafts, text))
        })
        .await
        .map_err(|e| Error::internal("SPLIT_FAILED", "splitting the document failed").with_source(e))?
    }

    async fn encode(
        &self,
        record: &CollectionRecord,
        text: &str,
        drafts: Vec<PassageDraft>,
    ) -> Result<(Vec<NewPassage>, Vec<f32>, u32)> {
        let encoder = self.encoders.bound(&record.model_id, &record.model_revision)?;
        let inputs = drafts.iter().map(|draft| passage_input(text, draft)).collect::<Result<Vec<_>>>()?;
        let vectors = encoder.encode_passages(inputs).await?;
        let mut sum = vec![0.0; encoder.info().dimensions as usize];
        let mut tokens = 0;
        let mut passages = Vec::with_capacity(drafts.len());
        for (draft, vectors) in drafts.into_iter().zip(vectors) {
            sum.iter_mut().zip(&vectors.sum).for_each(|(s, x)| *s += x);
            tokens += vectors.tokens;
            passages.push(NewPassage {
                span: draft.span,
                headings: draft.headings,
                page: draft.page,
                sentences: draft.sentences,
                vector: vectors.passage,
                sentence_vectors: vectors.sentences,
            });
        }
        let norm = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
        if norm > 0.0 {
            sum.iter_mut().for_each(|x| *x /= norm);
        }
        Ok((passages, sum, tokens))
    }
}

fn content_hash(content: &Content) -> blake3::Hash {
    match content {
        Content::Text(text) => blake3::hash(text.as_bytes()),
        Content::Data { bytes, .. } => blake3::hash(bytes),
    }
}

/// Whether the stored document is what the input would make.
fn same(stored: &DocumentRecord, hash: &blake3::Hash, input: &Input) -> bool {
    stored.content_hash == *hash.as_bytes()
        && stored.source_uri == input.source_uri
        && stored.metadata == input.metadata
        && (input.title.is_empty() || stored.title == input.title)
}

fn passage_input(text: &str, draft: &PassageDraft) -> Result<PassageInput> {
    let slice = draft.span.slice(text).ok_or_else(|| {
        Error::internal("BAD_SPAN", format!("passage span {:?} does not fit its text", draft.span))
    })?;
    let relative = |s: &Span| {
        Span::new(s.start.saturating_sub(draft.span.start), s.end.saturating_sub(draft.span.start))
    };
    Ok(PassageInput { text: slice.to_owned(), sentences: draft.sentences.iter().map(relative).collect() })
}
