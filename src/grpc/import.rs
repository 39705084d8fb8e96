//! Documents with all that is stored of them, into a collection.

use futures::StreamExt;
use prost::Message;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::allowance::{Allowance, Part, Unfinished};
use super::documents::{Documents, result_out};
use super::pulse::{Pace, Pulse};
use super::status::to_status;
use super::{Stop, collection_name, convert};
use crate::access::Caller;
use crate::domain::{CollectionName, Span, bounds};
use crate::error::{Error, Result};
use crate::proto;
use crate::proto::import_documents_request::Part as In;
use crate::store::{NewDocument, NewPassage, Processing};

/// Documents of one import that are stored at once.
const IN_FLIGHT: usize = 64;
/// Most bytes of a passage besides its vectors, on average over a document that is imported.
const PASSAGE_BYTES: usize = 16 << 10;
/// Vectors of a passage: its own and those of its sentences, of which the store takes so many.
const PASSAGE_VECTORS: usize = 1 + 256;

/// A document that is being read.
struct Partial {
    index: u64,
    document: NewDocument,
    text_bytes: usize,
    passages: usize,
    /// Memory that it takes so far, and may take.
    bytes: usize,
    most: usize,
    /// Room for what it takes: its messages had it.
    room: Part,
    _unfinished: Unfinished,
}

/// A document that has been read, with its room until it is stored.
struct Whole {
    document: NewDocument,
    room: Part,
}

/// One that has been read, or why it is refused.
struct Arrived {
    index: u64,
    id: String,
    document: Result<Whole>,
}

/// Reads the messages of an import into documents.
struct Import {
    messages: Streaming<proto::ImportDocumentsRequest>,
    pulse: Pulse,
    allowance: Allowance,
    /// Most bytes of a passage, on average over a document.
    passage_bytes: usize,
    max_document_bytes: usize,
    stop: Stop,
    count: u64,
    partial: Option<Partial>,
    /// The record that ended the document before it.
    next: Option<Box<proto::StoredDocument>>,
    /// Whether parts belong to a document that was refused.
    passing_over: bool,
    is_over: bool,
}

/// The answers to an import whose collection is known.
pub(super) async fn serve(
    service: Documents,
    caller: &Caller,
    mut messages: Streaming<proto::ImportDocumentsRequest>,
    (pulse, allowance): (Pulse, Allowance),
) -> std::result::Result<
    impl Stream<Item = std::result::Result<proto::ImportDocumentsResponse, Status>> + Send + 'static,
    Status,
> {
    let start = messages.message().await?.and_then(|m| m.part);
    let Some(In::Start(start)) = start else {
        let message = "expected start as the first message of the stream";
        return Err(to_status(Error::invalid_field("part", "NO_START", message)));
    };
    let collection = collection_name(caller, "start.collection", start.collection).map_err(to_status)?;
    let record = service.catalog.collection(&collection).map_err(to_status)?;
    let model = format!("{}@{}", record.model_id, record.model_revision);
    if !start.encode && start.model != model {
        let message = format!(
            "expected vectors of {model}, the model of collection {collection}, got vectors of {:?}: set encode to have new ones made",
            start.model.chars().take(200).collect::<String>()
        );
        return Err(to_status(Error::precondition("MODEL_MISMATCH", message)));
    }
    let reader = Import {
        messages,
        pulse,
        allowance,
        passage_bytes: PASSAGE_BYTES + PASSAGE_VECTORS * vector_bytes(record.dimensions as usize),
        max_document_bytes: service.max_document_bytes,
        stop: service.stop.clone(),
        count: 0,
        partial: None,
        next: None,
        passing_over: false,
        is_over: false,
    };
    let arrivals = futures::stream::unfold(reader, |mut reader| async move {
        let arrived = reader.next().await?;
        reader.is_over = arrived.is_err();
        Some((arrived, reader))
    });
    let put = move |arrived: std::result::Result<Arrived, Status>| {
        put(service.clone(), collection.clone(), start.encode, arrived)
    };
    Ok(arrivals.map(put).buffered(IN_FLIGHT))
}

async fn put(
    service: Documents,
    collection: CollectionName,
    encode: bool,
    arrived: std::result::Result<Arrived, Status>,
) -> std::result::Result<proto::ImportDocumentsResponse, Status> {
    let Arrived { index, id, document } = arrived?;
    let outcome = match document {
        Ok(Whole { document, room: _room }) => service.ingest.import(&collection, document, encode).await,
        Err(error) => Err(error),
    };
    Ok(proto::ImportDocumentsResponse { result: Some(result_out(index, id, outcome)) })
}

impl Import {
    /// The next document; `None` after the last.
    async fn next(&mut self) -> Option<std::result::Result<Arrived, Status>> {
        while !self.is_over {
            if let Some(document) = self.next.take()
                && let Some(refused) = self.begin(*document)
            {
                return Some(Ok(refused));
            }
            if self.partial.as_ref().is_some_and(Partial::is_whole) {
                return self.partial.take().map(|partial| Ok(arrived(partial, None)));
            }
            let message = tokio::select! {
                biased;
                () = self.stop.begun() => return Some(Err(to_status(Stop::error()))),
                message = self.messages.next() => message,
                error = self.pulse.stopped(), if self.partial.is_some() => {
                    return self.refuse(error).map(Ok);
                }
            };
            let part = match message {
                Some(Ok(message)) => message.part,
                Some(Err(status)) => return Some(Err(status)),
                None => {
                    self.is_over = true;
                    return self.partial.take().map(|partial| Ok(arrived(partial, Some("the stream ended"))));
                }
            };
            match part {
                Some(In::Document(document)) => {
                    self.next = Some(Box::new(document));
                    if let Some(partial) = self.partial.take() {
                        return Some(Ok(arrived(partial, Some("the next document came"))));
                    }
                }
                Some(In::Text(text)) if self.partial.is_some() => {
                    if let Some(refused) = self.add(|partial| partial.text(&text)) {
                        return Some(Ok(refused));
                    }
                }
                Some(In::Passages(list)) if self.partial.is_some() => {
                    if let Some(refused) = self.add(|partial| partial.passages(list)) {
                        return Some(Ok(refused));
                    }
                }
                Some(In::Text(_) | In::Passages(_)) if self.passing_over => {}
                _ => {
                    let message = "expected a document, or a text or passages after one, got another part";
                    return Some(Err(to_status(Error::invalid_field("part", "NO_DOCUMENT", message))));
                }
            }
        }
        None
    }

    /// Begins a document. Gives it at once where it is refused.
    fn begin(&mut self, stored: proto::StoredDocument) -> Option<Arrived> {
        let index = self.count;
        self.count += 1;
        self.passing_over = true;
        let text_bytes = usize::try_from(stored.text_bytes).unwrap_or(usize::MAX);
        let passages = stored.passage_count as usize;
        let described = stored.document.as_ref().map_or(0, convert::described_bytes);
        let described = described.saturating_add(convert::metadata_bytes(&stored.file_metadata));
        let bytes = stored.encoded_len().saturating_add(described);
        let id = stored.document.as_ref().map(|d| d.id.clone()).unwrap_or_default();
        let document = if text_bytes > self.max_document_bytes {
            let message = format!(
                "expected a document of at most {} bytes of text, got {text_bytes}",
                self.max_document_bytes
            );
            Err(Error::invalid("DOCUMENT_TOO_LARGE", message))
        } else {
            document_in(stored)
        };
        let begun = document.and_then(|document| Ok((document, self.allowance.keep(bytes)?)));
        let (document, room) = match begun {
            Ok(begun) => begun,
            Err(error) => return Some(Arrived { index, id, document: Err(error) }),
        };
        let parts = text_bytes.saturating_add(passages.saturating_mul(self.passage_bytes));
        let most = bytes.saturating_add(parts).min(self.max_document_bytes.saturating_mul(2));
        self.pulse.note(Pace::restart);
        self.passing_over = false;
        let _unfinished = self.allowance.begin_document();
        self.partial =
            Some(Partial { index, document, text_bytes, passages, bytes, most, room, _unfinished });
        None
    }

    /// Adds to the document that is read; gives it where it is refused for that.
    fn add(&mut self, add: impl FnOnce(&mut Partial) -> Result<()>) -> Option<Arrived> {
        let partial = self.partial.as_mut()?;
        let before = partial.bytes;
        let added = add(partial).and_then(|()| self.allowance.keep(partial.bytes.saturating_sub(before)));
        match added {
            Ok(room) => {
                partial.room.merge(room);
                None
            }
            Err(error) => self.refuse(error),
        }
    }

    /// Gives up the document that is read; parts of it that still come are passed over.
    fn refuse(&mut self, error: Error) -> Option<Arrived> {
        self.passing_over = true;
        let partial = self.partial.take()?;
        Some(Arrived { index: partial.index, id: partial.document.id, document: Err(error) })
    }
}

fn arrived(partial: Partial, ended_by: Option<&str>) -> Arrived {
    let (index, id) = (partial.index, partial.document.id.clone());
    let document = match ended_by {
        None => Ok(Whole { document: partial.document, room: partial.room }),
        Some(what) => {
            let message = format!(
                "expected {} bytes of text and {} passages, got {} and {} until {what}",
                partial.text_bytes,
                partial.passages,
                partial.document.text.len(),
                partial.document.passages.len()
            );
            Err(Error::invalid("WRONG_DATA_SIZE", message))
        }
    };
    Arrived { index, id, document }
}

impl Partial {
    fn is_whole(&self) -> bool {
        self.document.text.len() == self.text_bytes && self.document.passages.len() == self.passages
    }

    fn text(&mut self, piece: &str) -> Result<()> {
        if self.document.text.len() + piece.len() > self.text_bytes {
            let message = format!("expected {} bytes of text, got more", self.text_bytes);
            return Err(Error::invalid("WRONG_DATA_SIZE", message));
        }
        self.count(piece.len())?;
        self.document.text.push_str(piece);
        Ok(())
    }

    /// Counts more memory that it takes: it must not go beyond what it may.
    fn count(&mut self, bytes: usize) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        let most = self.most;
        if self.bytes > most {
            let passages = self.passages;
            let message = format!(
                "expected {passages} passages that take at most {most} bytes with the text, got more"
            );
            return Err(Error::invalid("DOCUMENT_TOO_LARGE", message));
        }
        Ok(())
    }

    fn passages(&mut self, list: proto::StoredPassages) -> Result<()> {
        if self.document.passages.len() + list.passages.len() > self.passages {
            let message = format!("expected {} passages, got more", self.passages);
            return Err(Error::invalid("WRONG_DATA_SIZE", message));
        }
        for passage in list.passages {
            let field = format!("passages[{}]", self.document.passages.len());
            let passage = passage_in(passage).map_err(|error| error.within(&field))?;
            self.count(bytes_of(&passage))?;
            self.document.passages.push(passage);
        }
        Ok(())
    }
}

/// Memory that a passage takes.
fn bytes_of(passage: &NewPassage) -> usize {
    let headings: usize = passage.headings.iter().map(|heading| size_of::<String>() + heading.len()).sum();
    let vectors: usize = passage.sentence_vectors.iter().map(|vector| vector_bytes(vector.len())).sum();
    let sentences = size_of_val(passage.sentences.as_slice());
    size_of::<NewPassage>() + headings + sentences + vector_bytes(passage.vector.len()) + vectors
}

/// Memory that a vector of so many dimensions takes.
fn vector_bytes(dimensions: usize) -> usize {
    size_of::<Vec<f32>>() + dimensions * size_of::<f32>()
}

pub(super) fn document_in(stored: proto::StoredDocument) -> Result<NewDocument> {
    let missing = || Error::invalid_field("document", "EMPTY_DOCUMENT", "expected a document, got none");
    let document = stored.document.ok_or_else(missing)?;
    convert::check_described(&document).map_err(|error| error.within("document"))?;
    convert::check_metadata(&stored.file_metadata)?;
    bounds::check_text("file_title", stored.file_title.len(), bounds::TITLE_BYTES)?;
    let hash = blake3::Hash::from_hex(&document.content_hash).map_err(|_| {
        let message = "expected a BLAKE3 in hexadecimal digits";
        Error::invalid_field("document.content_hash", "BAD_CONTENT_HASH", message)
    })?;
    let chunking = stored.chunking.unwrap_or_default();
    Ok(NewDocument {
        id: document.id,
        title: document.title,
        source_uri: document.source_uri,
        media_type: document.mime_type,
        content_hash: *hash.as_bytes(),
        metadata: convert::metadata_in(document.metadata)?,
        text: String::new(),
        passages: Vec::new(),
        document_vector: stored.vector.unwrap_or_default().values,
        token_count: stored.token_count,
        file_title: stored.file_title,
        file_metadata: convert::metadata_in(stored.file_metadata)?,
        processing: Processing {
            version: document.extraction_version,
            max_tokens: chunking.max_tokens,
            overlap_tokens: chunking.overlap_tokens,
        },
    })
}

pub(super) fn passage_in(passage: proto::StoredPassage) -> Result<NewPassage> {
    let span =
        passage.span.ok_or_else(|| Error::invalid_field("span", "NO_SPAN", "expected a span, got none"))?;
    let span_in = |span: proto::ByteSpan| Span::new(span.start, span.end);
    bounds::check_headings(&passage.headings)?;
    Ok(NewPassage {
        span: span_in(span),
        headings: passage.headings,
        page: passage.page_number,
        sentences: passage.sentences.into_iter().map(span_in).collect(),
        vector: passage.vector.unwrap_or_default().values,
        sentence_vectors: passage.sentence_vectors.into_iter().map(|v| v.values).collect(),
    })
}
