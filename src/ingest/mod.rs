//! The way of a document: extract, split, encode, store. The store's commit feeds the index.

mod context;
mod turns;

use std::future::Future;
use std::sync::Arc;

use ::metrics::counter;
use futures::{StreamExt, TryStreamExt};

use crate::catalog::Catalog;
use crate::domain::{CollectionName, DocumentId, Extracted, Metadata, Section, Warning, bounds};
use crate::encoder::{Encoder, Encoders, PassageVectors};
use crate::error::{Error, ErrorKind, Result};
use crate::extract::{self, Extractor};
use crate::fair::Fair;
use crate::metrics;
use crate::store::{
    CollectionRecord, DocumentRecord, DocumentUpdate, NewDocument, NewPassage, Processing, Store,
    check_copies, check_foreign, check_unit_vectors,
};
use crate::task;
use crate::text::{self, EXTRACTION_VERSION, PassageDraft, SplitOptions};
use turns::{Turn, Turns};

/// From this version of extraction on the title is encoded with the first passage.
const ENCODES_TITLE: u32 = 3;

/// Passages of a document that are encoded together: enough for several batches of like length, and few enough that
/// others do not wait long for their turn.
const PIECE_PASSAGES: usize = 64;
/// Pieces of one document that run or wait at a time, so that sessions have something to do between two.
const PIECES_AHEAD: usize = 2;
/// Text that is split without waiting for a turn: it takes some tenths of a second.
const SMALL_TEXT_BYTES: usize = 256 << 10;

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
        /// Its media type.
        media_type: String,
    },
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match self {
            Content::Text(text) => text.as_bytes(),
            Content::Data { bytes, .. } => bytes,
        }
    }

    fn media_type(&self) -> String {
        match self {
            Content::Text(_) => extract::PLAIN.to_owned(),
            Content::Data { media_type, .. } => extract::essence(media_type),
        }
    }
}

/// How to put a document in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpsertOptions {
    /// Check only.
    pub validate_only: bool,
    /// Extract and encode again even what is unchanged.
    pub force: bool,
}

/// What was done with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It was encoded and stored, or would be.
    Indexed,
    /// It was stored just so already.
    Unchanged,
    /// Its content was stored already; its title, source or metadata were not.
    Updated,
}

/// What became of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its id.
    pub document_id: String,
    /// Passages it has.
    pub passage_count: u32,
    /// What was done.
    pub action: Action,
    /// Tokens that were encoded for it.
    pub tokens: u32,
    /// Parts of its file that could not be read, where it was read now.
    pub warnings: Vec<Warning>,
}

/// Limits of an ingest.
#[derive(Debug, Clone, Copy)]
pub struct IngestLimits {
    /// Most bytes of a file.
    pub max_document_bytes: usize,
    /// Most bytes of a document's text.
    pub max_text_bytes: usize,
    /// Passages that may wait for the encoder at once; further ones wait before they are tokenized.
    pub max_passages: usize,
}

/// Puts documents into collections. Idempotent: what is stored already is not encoded again.
pub struct Ingest {
    catalog: Arc<Catalog>,
    encoders: Encoders,
    extractor: Extractor,
    limits: IngestLimits,
    passages: Fair,
    splits: Fair,
    turns: Turns,
}

impl Ingest {
    /// An ingest over its parts.
    pub fn new(
        catalog: Arc<Catalog>,
        encoders: Encoders,
        extractor: Extractor,
        limits: IngestLimits,
    ) -> Self {
        let passages = Fair::new(limits.max_passages);
        let splits = Fair::new(std::thread::available_parallelism().map_or(1, usize::from));
        Self { catalog, encoders, extractor, limits, passages, splits, turns: Turns::default() }
    }

    /// Adds or replaces a document; when the future ends, the document is durable and searchable.
    ///
    /// Writes of one document are done in the order of the calls of this function, however their futures
    /// are polled.
    ///
    /// # Errors
    /// Bad input with its reason; the stored version of the document, if there is one, stays.
    pub fn upsert(
        self: &Arc<Self>,
        collection: &CollectionName,
        input: Input,
        options: UpsertOptions,
    ) -> impl Future<Output = Result<Outcome>> + Send + use<> {
        let arrival = self.arrive(collection, &input);
        let ingest = self.clone();
        async move {
            let mut arrival = arrival?;
            arrival.turn.wait().await;
            let bytes = input.content.bytes().len();
            let outcome = ingest.put(arrival, input, options).await;
            if !options.validate_only {
                measure(&outcome, bytes);
            }
            outcome
        }
    }

    /// Stores a document that another store has made, with its passages as they are, and with new vectors if
    /// `encode` is set. One that is stored just so is left alone.
    ///
    /// # Errors
    /// Bad input with its reason; the stored version of the document, if there is one, stays.
    pub async fn import(
        &self,
        collection: &CollectionName,
        mut document: NewDocument,
        encode: bool,
    ) -> Result<Outcome> {
        let record = self.catalog.collection(collection)?;
        DocumentId::new(document.id.as_str())?;
        if document.passages.is_empty() {
            return Err(Error::invalid("EMPTY_DOCUMENT", "expected a document with passages, got none"));
        }
        check_foreign(&document)?;
        check_copies(&document)?;
        if !encode {
            check_unit_vectors(&document, record.dimensions as usize)?;
        }
        let mut turn = self.turns.take(record.cid, &document.id);
        turn.wait().await;
        let mut tokens = 0;
        if encode {
            let drafts = std::mem::take(&mut document.passages).into_iter().map(draft).collect();
            let encoded = self.encode(&record, &document.title, &document.text, drafts).await?;
            (document.passages, document.document_vector, tokens) = encoded;
        } else if let Ok(Some(stored)) = self.catalog.store().whole_document(record.cid, &document.id)
            && stored.document == document
        {
            self.catalog.store().settled().await?;
            return Ok(Outcome {
                document_id: document.id,
                passage_count: stored.record.passage_count,
                action: Action::Unchanged,
                tokens,
                warnings: Vec::new(),
            });
        }
        let stored = self.store(&record, document).await?;
        let (document_id, passage_count) = (stored.id, stored.passage_count);
        Ok(Outcome { document_id, passage_count, action: Action::Indexed, tokens, warnings: Vec::new() })
    }

    /// Checks what can be checked at once and takes the document's turn.
    fn arrive(&self, collection: &CollectionName, input: &Input) -> Result<Arrival> {
        let record = self.catalog.collection(collection)?;
        let (most, got) = (self.limits.max_document_bytes, input.content.bytes().len());
        if got > most {
            let message = format!("expected a document of at most {most} bytes, got {got}");
            return Err(Error::invalid("DOCUMENT_TOO_LARGE", message));
        }
        let hash = blake3::hash(input.content.bytes());
        let id = if input.id.is_empty() { hash.to_hex().to_string() } else { input.id.clone() };
        let id = DocumentId::new(id)?;
        let turn = self.turns.take(record.cid, id.as_str());
        Ok(Arrival { record, hash: *hash.as_bytes(), id, turn })
    }

    async fn put(&self, arrival: Arrival, input: Input, options: UpsertOptions) -> Result<Outcome> {
        let Arrival { record, hash, id, turn: _turn } = arrival;
        let media_type = input.content.media_type();
        let processing = Processing {
            version: EXTRACTION_VERSION,
            max_tokens: record.max_tokens,
            overlap_tokens: record.overlap_tokens,
        };
        if !options.force
            && let Some(stored) = readable(self.catalog.store(), record.cid, id.as_str())?
            && stored.content_hash == hash
            && extract::essence(&stored.media_type) == media_type
            && made_alike(stored.processing, processing)
            && let Some(outcome) = self.describe(&record, stored, &input, options).await?
        {
            return Ok(outcome);
        }
        let extracted = self.extract(input.content).await?;
        let (file_title, warnings) = (extracted.title.unwrap_or_default(), extracted.warnings);
        let file_metadata = bounds::merged(Metadata::new(), &extracted.metadata);
        let title = if input.title.is_empty() { file_title.clone() } else { input.title };
        let (drafts, text) = self.split(&record, &title, extracted.text, extracted.sections).await?;
        if options.validate_only {
            return Ok(Outcome {
                document_id: id.as_str().to_owned(),
                passage_count: drafts.len() as u32,
                action: Action::Indexed,
                tokens: 0,
                warnings,
            });
        }
        let (passages, document_vector, tokens) = self.encode(&record, &title, &text, drafts).await?;
        let document = NewDocument {
            id: id.as_str().to_owned(),
            title,
            source_uri: input.source_uri,
            media_type,
            content_hash: hash,
            metadata: bounds::merged(input.metadata, &file_metadata),
            text,
            passages,
            document_vector,
            token_count: u64::from(tokens),
            file_title,
            file_metadata,
            processing,
        };
        let stored = self.store(&record, document).await?;
        Ok(Outcome {
            document_id: stored.id,
            passage_count: stored.passage_count,
            action: Action::Indexed,
            tokens,
            warnings,
        })
    }

    async fn store(&self, record: &CollectionRecord, document: NewDocument) -> Result<DocumentRecord> {
        let stored = self.catalog.store().upsert(record.cid, document).await;
        stored.map_err(|error| self.catalog.explain(record, error))
    }

    /// Brings what describes a stored document up to date; its content is right already. `None` where the
    /// document went away meanwhile, or has another title now, which is in its vectors.
    async fn describe(
        &self,
        record: &CollectionRecord,
        stored: DocumentRecord,
        input: &Input,
        options: UpsertOptions,
    ) -> Result<Option<Outcome>> {
        let title = match input.title.as_str() {
            "" => stored.file_title.as_ref().unwrap_or(&stored.title),
            title => title,
        };
        if stored.title != title && stored.processing.version >= ENCODES_TITLE {
            return Ok(None);
        }
        let is_same = stored.title == title
            && stored.source_uri == input.source_uri
            && stored.metadata == described(&stored, input);
        if !is_same && !options.validate_only {
            let update = DocumentUpdate {
                id: stored.id.clone(),
                doc_no: stored.doc_no,
                title: title.to_owned(),
                source_uri: input.source_uri.clone(),
                metadata: described(&stored, input),
            };
            if self.catalog.store().update_document(record.cid, update).await?.is_none() {
                return Ok(None);
            }
        } else if !options.validate_only {
            // What was read may still wait for its fsync.
            self.catalog.store().settled().await?;
        }
        Ok(Some(Outcome {
            document_id: stored.id,
            passage_count: stored.passage_count,
            action: if is_same { Action::Unchanged } else { Action::Updated },
            tokens: 0,
            warnings: Vec::new(),
        }))
    }

    async fn extract(&self, content: Content) -> Result<Extracted> {
        let extracted = match content {
            Content::Text(text) => task::blocking("EXTRACTION_CRASHED", || extract::plain_text(text)).await?,
            Content::Data { bytes, media_type } => self.extractor.extract(bytes, &media_type).await?,
        };
        let (most, got) = (self.limits.max_text_bytes, extracted.text.len());
        if got > most {
            let message = format!("expected a document of at most {most} bytes of text, got {got}");
            return Err(Error::invalid("DOCUMENT_TOO_LARGE", message));
        }
        if extracted.text.trim().is_empty() {
            return Err(Error::invalid("EMPTY_DOCUMENT", "expected a document with text, got none"));
        }
        Ok(extracted)
    }

    /// Splits on a blocking thread: long documents take a while to tokenize, and take turns.
    async fn split(
        &self,
        record: &CollectionRecord,
        title: &str,
        text: String,
        sections: Vec<Section>,
    ) -> Result<(Vec<PassageDraft>, String)> {
        let encoder = self.encoders.bound(&record.model_id, &record.model_revision)?.clone();
        let room = (encoder.info().passage_tokens as usize).saturating_sub(context::room(&encoder, title)?);
        let max_tokens = record.max_tokens as usize;
        let options = SplitOptions {
            max_tokens,
            first_max_tokens: room.min(max_tokens),
            overlap_tokens: record.overlap_tokens as usize,
        };
        let _turn = match text.len() {
            0..=SMALL_TEXT_BYTES => None,
            _ => Some(self.splits.take(1).await),
        };
        task::blocking("SPLIT_FAILED", move || {
            let drafts =
                text::split_passages(&text, &sections, &options, &|piece: &str| encoder.token_spans(piece))?;
            if drafts.is_empty() {
                return Err(Error::invalid("EMPTY_DOCUMENT", "expected a document with words, got none"));
            }
            Ok((drafts, text))
        })
        .await
    }

    async fn encode(
        &self,
        record: &CollectionRecord,
        title: &str,
        text: &str,
        drafts: Vec<PassageDraft>,
    ) -> Result<(Vec<NewPassage>, Vec<f32>, u32)> {
        let encoder = self.encoders.bound(&record.model_id, &record.model_revision)?;
        let mut sum = vec![0.0; encoder.info().dimensions as usize];
        let mut tokens = 0;
        let mut passages = Vec::with_capacity(drafts.len());
        let encode = |(at, piece)| {
            let title = if at == 0 { Some(title) } else { None };
            self.encode_piece(encoder, title, text, piece)
        };
        let mut encoded =
            futures::stream::iter(pieces(drafts).enumerate()).map(encode).buffered(PIECES_AHEAD);
        while let Some(piece) = encoded.try_next().await? {
            for (draft, vectors) in piece {
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
        }
        let norm = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
        if norm > 0.0 {
            sum.iter_mut().for_each(|x| *x /= norm);
        }
        Ok((passages, sum, tokens))
    }

    /// Encodes some passages of a document once there is room for them. Nothing else is held meanwhile but the room of
    /// the piece before, which is given back whatever becomes of this one.
    async fn encode_piece(
        &self,
        encoder: &Arc<Encoder>,
        title: Option<&str>,
        text: &str,
        drafts: Vec<PassageDraft>,
    ) -> Result<impl Iterator<Item = (PassageDraft, PassageVectors)> + use<>> {
        let _room = self.passages.take(drafts.len()).await;
        let inputs = (drafts.iter().enumerate())
            .map(|(at, draft)| {
                let title = title.filter(|_| at == 0);
                context::passage_input(encoder, title, text, draft)
            })
            .collect::<Result<Vec<_>>>()?;
        let vectors = encoder.encode_passages(inputs).await?;
        Ok(drafts.into_iter().zip(vectors))
    }
}

/// Passages in pieces that others come between.
fn pieces(drafts: Vec<PassageDraft>) -> impl Iterator<Item = Vec<PassageDraft>> {
    let mut left = drafts.into_iter();
    std::iter::from_fn(move || {
        let piece: Vec<_> = left.by_ref().take(PIECE_PASSAGES).collect();
        (!piece.is_empty()).then_some(piece)
    })
}

/// A document that has its place in line.
struct Arrival {
    record: CollectionRecord,
    hash: [u8; 32],
    id: DocumentId,
    turn: Turn,
}

/// Counts what became of a document of so many bytes.
fn measure(outcome: &Result<Outcome>, bytes: usize) {
    let result = match outcome.as_ref().map(|outcome| outcome.action) {
        Ok(Action::Indexed) => "indexed",
        Ok(Action::Unchanged) => "unchanged",
        Ok(Action::Updated) => "updated",
        Err(_) => "failed",
    };
    counter!(metrics::INGEST_DOCUMENTS, "result" => result).increment(1);
    if let Ok(Outcome { action: Action::Indexed, passage_count, .. }) = outcome {
        counter!(metrics::INGEST_BYTES).increment(bytes as u64);
        counter!(metrics::INGEST_PASSAGES).increment((*passage_count).into());
    }
}

/// The stored document, unless its record is damaged: then it is written anew.
fn readable(store: &Store, cid: u32, id: &str) -> Result<Option<DocumentRecord>> {
    match store.document(cid, id) {
        Err(error) if error.kind == ErrorKind::DataLoss => Ok(None),
        other => other,
    }
}

/// The metadata that a stored document has, with what its file says of itself, as it comes in now.
fn described(stored: &DocumentRecord, input: &Input) -> Metadata {
    bounds::merged(input.metadata.clone(), &stored.file_metadata)
}

/// Whether passages were made with the settings of now. What an older program made stays until asked for.
fn made_alike(stored: Processing, now: Processing) -> bool {
    stored.max_tokens == 0
        || (stored.max_tokens == now.max_tokens && stored.overlap_tokens == now.overlap_tokens)
}

fn draft(passage: NewPassage) -> PassageDraft {
    PassageDraft {
        span: passage.span,
        sentences: passage.sentences,
        headings: passage.headings,
        page: passage.page,
    }
}
