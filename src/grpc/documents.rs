use std::pin::Pin;
use std::sync::Arc;

use futures::StreamExt;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::allowance::allowance;
use super::pulse::pulse;
use super::status::{log_fault, shown_message, to_status};
use super::{
    Reply, Stop, answer_room, blocking, caller, cancellable, check_batch, code, collection_name, convert,
    unknown_value,
};
use crate::catalog::{Catalog, Deletion, Page};
use crate::domain::{CollectionName, Filter, Warning, bounds};
use crate::error::{Error, ErrorKind, Result};
use crate::ingest::{Action, Content, Ingest, Input, Outcome, UpsertOptions};
use crate::proto;
use crate::room::AnswerRoom;
use crate::search::unknown_document;
use crate::store::{Damaged, DocumentRecord, PassageRecord, ReadableDocument, Store};

/// Documents of one call or stream that are worked on at once: enough passages, where documents are short, for full
/// batches of like length while others wait for the disk.
pub(super) const IN_FLIGHT: usize = 256;
/// Bytes of a content hash in hexadecimal digits.
const HASH_BYTES: usize = 64;
/// Most bytes of an id that is repeated to a caller: no document has a longer one.
const SHOWN_ID_BYTES: usize = 512;
/// Text from which on a page of whole documents is full.
const PAGE_TEXT_BYTES: usize = 4 << 20;

/// DocumentService.
#[derive(Clone)]
pub struct Documents {
    /// Puts documents in.
    pub ingest: Arc<Ingest>,
    /// Reads them and takes them out.
    pub catalog: Arc<Catalog>,
    /// Most documents of one call.
    pub max_batch_size: usize,
    /// Most bytes of an answer.
    pub max_message_bytes: usize,
    /// Most bytes of one file.
    pub max_document_bytes: usize,
    /// Ends the streams when the server stops.
    pub stop: Stop,
}

impl Documents {
    /// Puts a document in; documents of one id in the order of the calls, however the futures are polled.
    pub(super) fn put(
        &self,
        collection: &CollectionName,
        index: u64,
        document: proto::Document,
        options: UpsertOptions,
    ) -> impl Future<Output = (proto::DocumentResult, u32)> + Send + use<> {
        let id = document.id.clone();
        let upsert = input_in(document).map(|input| self.ingest.upsert(collection, input, options));
        async move {
            let outcome = match upsert {
                Ok(upsert) => upsert.await,
                Err(error) => Err(error),
            };
            let tokens = outcome.as_ref().map_or(0, |o| o.tokens);
            (result_out(index, id, outcome), tokens)
        }
    }
}

pub(super) fn input_in(document: proto::Document) -> Result<Input> {
    use proto::document::Content as Message;
    convert::check_described(&document)?;
    let content = match document.content {
        Some(Message::Text(text)) => Content::Text(text),
        Some(Message::Data(bytes)) if says_nothing(&document.mime_type) => {
            let media_type =
                crate::extract::media_type_of(std::path::Path::new(&document.source_uri), &bytes)
                    .ok_or_else(|| {
                        let message = "expected a format, got none that is known";
                        Error::invalid_field("mime_type", "UNSUPPORTED_FORMAT", message)
                    })?;
            Content::Data { bytes, media_type: media_type.to_owned() }
        }
        Some(Message::Data(bytes)) => Content::Data { bytes, media_type: document.mime_type },
        Some(Message::DataSize(_)) => {
            let message = "expected text or data: a file in pieces goes through IngestDocuments";
            return Err(Error::invalid_field("content", "DATA_WITHOUT_STREAM", message));
        }
        None => {
            let message = "expected text or data, got none";
            return Err(Error::invalid_field("content", "EMPTY_DOCUMENT", message));
        }
    };
    Ok(Input {
        id: document.id,
        title: document.title,
        source_uri: document.source_uri,
        content,
        metadata: convert::metadata_in(document.metadata)?,
    })
}

/// Whether a media type leaves open what a file is.
fn says_nothing(media_type: &str) -> bool {
    matches!(crate::extract::essence(media_type).as_str(), "" | "application/octet-stream")
}

pub(super) fn result_out(index: u64, document_id: String, outcome: Result<Outcome>) -> proto::DocumentResult {
    use proto::DocumentStatus;
    match outcome {
        Ok(outcome) => proto::DocumentResult {
            index,
            document_id: outcome.document_id,
            status: match outcome.action {
                Action::Indexed => DocumentStatus::Indexed,
                Action::Unchanged => DocumentStatus::Unchanged,
                Action::Updated => DocumentStatus::Updated,
            } as i32,
            passage_count: outcome.passage_count,
            warnings: outcome.warnings.into_iter().map(warning_out).collect(),
            ..Default::default()
        },
        Err(error) => {
            log_fault(&error);
            proto::DocumentResult {
                index,
                document_id: bounds::shown(document_id, SHOWN_ID_BYTES),
                status: DocumentStatus::Failed as i32,
                error_code: code(error.kind) as i32,
                error_reason: error.reason.to_owned(),
                error_message: shown_message(error.message),
                ..Default::default()
            }
        }
    }
}

fn warning_out(warning: Warning) -> proto::Warning {
    proto::Warning {
        page_number: warning.page.unwrap_or_default(),
        reason: warning.reason,
        message: warning.message,
    }
}

pub(super) fn document_out(record: DocumentRecord) -> proto::Document {
    let of_file =
        record.file_metadata.iter().filter(|(key, value)| record.metadata.get(*key) == Some(*value));
    proto::Document {
        file_metadata_keys: of_file.map(|(key, _)| key.clone()).collect(),
        content_hash: blake3::Hash::from_bytes(record.content_hash).to_hex().to_string(),
        create_time: Some(convert::timestamp(record.create_time_ns)),
        update_time: Some(convert::timestamp(record.update_time_ns)),
        extraction_version: record.processing.version,
        id: record.id,
        title: record.title,
        source_uri: record.source_uri,
        mime_type: record.media_type,
        metadata: convert::metadata_out(record.metadata),
        ..Default::default()
    }
}

fn full(document: ReadableDocument) -> proto::Document {
    let ReadableDocument { record, text, passages } = document;
    let passage = |passage: PassageRecord| proto::Passage {
        document_id: record.id.clone(),
        passage_index: passage.index,
        span: Some(convert::span(passage.span)),
        text: passage.span.slice(&text).unwrap_or_default().to_owned(),
        headings: passage.headings,
        page_number: passage.page,
    };
    let passages = passages.into_iter().map(passage).collect();
    proto::Document { passages, content: Some(proto::document::Content::Text(text)), ..document_out(record) }
}

/// Memory of a document's message without its text and passages, at most.
fn record_bytes(record: &DocumentRecord) -> usize {
    size_of::<proto::Document>() + HASH_BYTES + record.shown_bytes()
}

/// Memory that the messages of a document's passages take, each with its text.
fn passages_bytes(document: &ReadableDocument) -> usize {
    let passage = |passage: &PassageRecord| {
        let headings: usize = passage.headings.iter().map(|h| size_of::<String>() + h.len()).sum();
        size_of::<proto::Passage>() + document.record.id.len() + passage.span.len() as usize + headings
    };
    document.passages.iter().map(passage).sum()
}

/// A page of documents, as many as there is room for and at least one; the rest are left for the next page. Of those that
/// it has with their texts, each is checked again as it is read.
fn page_out(
    catalog: &Catalog,
    cid: u32,
    page: Page,
    view: proto::DocumentView,
    filter: Option<&Filter>,
    room: &PageRoom,
) -> Result<proto::ListDocumentsResponse> {
    let mut filling = Filling { store: catalog.store(), cid, filter, room, texts: 0 };
    let mut response = proto::ListDocumentsResponse::default();
    let (mut is_more, mut last) = (page.is_more, None);
    for listed in page.documents {
        let id = listed.as_ref().map_or_else(|damaged| damaged.id.clone(), |record| record.id.clone());
        let is_first = last.is_none();
        let added = match listed {
            Err(damaged) => Added::Damaged(damaged),
            Ok(record) if view == proto::DocumentView::Full => filling.full(&record, is_first)?,
            Ok(record) if !is_first && !room.fits(record_bytes(&record)) => Added::Full,
            Ok(record) => {
                room.answer.add(record_bytes(&record))?;
                Added::Document(Box::new(document_out(record)))
            }
        };
        match added {
            Added::Document(document) => response.documents.push(*document),
            Added::Damaged(damaged) => response.damaged.push(damaged_out(damaged)),
            Added::Gone => {}
            Added::Full => {
                is_more = true;
                break;
            }
        }
        last = Some(id);
    }
    let next = last.filter(|_| is_more).map(|last| token_out(cid, &last));
    response.next_page_token = next.unwrap_or_default();
    Ok(response)
}

/// Room for a page: it ends before it takes more memory than an answer may have bytes, but for its first document.
struct PageRoom {
    answer: AnswerRoom,
    /// What the room had before anything was in it, and how much of that a page takes.
    whole: usize,
    most: usize,
}

impl PageRoom {
    fn new(answer: AnswerRoom, most: usize) -> Self {
        Self { whole: answer.left(), answer, most }
    }

    fn fits(&self, bytes: usize) -> bool {
        let taken = self.whole - self.answer.left();
        taken.saturating_add(bytes) <= self.most
    }
}

/// What became of a document that a page might have.
enum Added {
    Document(Box<proto::Document>),
    Damaged(Damaged),
    /// It was deleted, or no longer matches.
    Gone,
    /// The page has no room for it.
    Full,
}

/// Puts documents with their texts into a page.
struct Filling<'a> {
    store: &'a Store,
    cid: u32,
    filter: Option<&'a Filter>,
    room: &'a PageRoom,
    /// Bytes of the texts that are in it.
    texts: usize,
}

impl Filling<'_> {
    fn full(&mut self, record: &DocumentRecord, is_first: bool) -> Result<Added> {
        let text = usize::try_from(record.text_bytes).unwrap_or(usize::MAX);
        let own = text.saturating_add(record_bytes(record));
        let fits = self.texts.saturating_add(text) <= PAGE_TEXT_BYTES && self.room.fits(own);
        if !is_first && !fits {
            return Ok(Added::Full);
        }
        self.room.answer.add(own)?;
        let document = match self.store.readable_document(self.cid, &record.id) {
            Ok(Some(document)) => document,
            Ok(None) => return Ok(Added::Gone),
            Err(error) if error.kind == ErrorKind::DataLoss => {
                tracing::error!(cid = self.cid, id = record.id, %error, "a document is damaged");
                return Ok(Added::Damaged(Damaged { id: record.id.clone(), error }));
            }
            Err(error) => return Err(error),
        };
        let is_match = self.filter.is_none_or(|filter| filter.matches(&record.id, &document.record.metadata));
        if !is_match {
            return Ok(Added::Gone);
        }
        let passages = passages_bytes(&document);
        if !is_first && !self.room.fits(passages) {
            return Ok(Added::Full);
        }
        self.room.answer.add(passages)?;
        self.texts = self.texts.saturating_add(text);
        Ok(Added::Document(Box::new(full(document))))
    }
}

pub(super) fn damaged_out(damaged: Damaged) -> proto::DamagedDocument {
    proto::DamagedDocument {
        document_id: damaged.id,
        error_reason: damaged.error.reason.to_owned(),
        error_message: damaged.error.message,
    }
}

/// The token of the page after a document of a collection.
fn token_out(cid: u32, id: &str) -> String {
    convert::page_token_out(&format!("{cid}:{id}"))
}

/// The document that a page begins after. Pages are of one collection: of another one that has its name by now, as
/// after a restore, they would be a listing of neither.
///
/// # Errors
/// `BAD_PAGE_TOKEN` and `LISTING_OUTDATED`.
fn token_in(token: &str, cid: u32) -> Result<Option<String>> {
    let Some(place) = convert::page_token_in(token)? else { return Ok(None) };
    let parts = place.split_once(':').and_then(|(cid, id)| Some((cid.parse::<u32>().ok()?, id.to_owned())));
    match parts {
        Some((number, id)) if number == cid => Ok(Some(id)),
        Some(_) => Err(Error::new(
            ErrorKind::Aborted,
            "LISTING_OUTDATED",
            "the collection was replaced or made anew since the page before: begin again with the first page",
        )),
        None => {
            let message = "expected the token of the page before";
            Err(Error::invalid_field("page_token", "BAD_PAGE_TOKEN", message))
        }
    }
}

fn view_in(view: i32) -> Result<proto::DocumentView> {
    proto::DocumentView::try_from(view).map_err(|_| unknown_value("view", view))
}

#[tonic::async_trait]
impl proto::document_service_server::DocumentService for Documents {
    async fn upsert_documents(
        &self,
        request: Request<proto::UpsertDocumentsRequest>,
    ) -> Reply<proto::UpsertDocumentsResponse> {
        let caller = caller(&request).map_err(to_status)?;
        let request = request.into_inner();
        let collection = collection_name(&caller, "collection", request.collection).map_err(to_status)?;
        self.catalog.collection(&collection).map_err(to_status)?;
        check_batch("documents", request.documents.len(), self.max_batch_size).map_err(to_status)?;
        let options = UpsertOptions { validate_only: request.validate_only, force: request.force };
        let put = |(index, document)| self.put(&collection, index, document, options);
        let puts: Vec<_> = (0u64..).zip(request.documents).map(put).collect();
        let done: Vec<_> = futures::stream::iter(puts).buffered(IN_FLIGHT).collect().await;
        let tokens = done.iter().map(|(_, tokens)| tokens).sum();
        let results = done.into_iter().map(|(result, _)| result).collect();
        let usage = proto::Usage { prompt_tokens: tokens, ..Default::default() };
        Ok(Response::new(proto::UpsertDocumentsResponse { results, usage: Some(usage) }))
    }

    type IngestDocumentsStream = Pin<
        Box<dyn Stream<Item = std::result::Result<proto::IngestDocumentsResponse, Status>> + Send + 'static>,
    >;

    async fn ingest_documents(
        &self,
        request: Request<Streaming<proto::IngestDocumentsRequest>>,
    ) -> Reply<Self::IngestDocumentsStream> {
        use proto::ingest_documents_request::Part;
        let (caller, watched) = (
            caller(&request).map_err(to_status)?,
            (pulse(&request).map_err(to_status)?, allowance(&request).map_err(to_status)?),
        );
        let mut messages = request.into_inner();
        let start = messages.message().await?.and_then(|m| m.part);
        let Some(Part::Start(start)) = start else {
            let message = "expected start as the first message of the stream";
            return Err(to_status(Error::invalid_field("part", "NO_START", message)));
        };
        let collection = collection_name(&caller, "start.collection", start.collection).map_err(to_status)?;
        self.catalog.collection(&collection).map_err(to_status)?;
        let options = UpsertOptions { validate_only: false, force: start.force };
        Ok(Response::new(Box::pin(super::ingest::serve(
            self.clone(),
            collection,
            options,
            messages,
            watched,
        ))))
    }

    async fn get_document(
        &self,
        request: Request<proto::GetDocumentRequest>,
    ) -> Reply<proto::GetDocumentResponse> {
        let caller = caller(&request).map_err(to_status)?;
        let room = answer_room(&request, self.max_message_bytes).map_err(to_status)?;
        let request = request.into_inner();
        let reading = self
            .catalog
            .read(&collection_name(&caller, "collection", request.collection).map_err(to_status)?)
            .map_err(to_status)?;
        let view = view_in(request.view).map_err(to_status)?;
        let catalog = self.catalog.clone();
        let document = blocking(move || {
            let (store, id) = (catalog.store(), request.document_id);
            let found = store.document(reading.cid(), &id)?.ok_or_else(|| unknown_document(&id))?;
            room.add(record_bytes(&found))?;
            if view == proto::DocumentView::Basic {
                return Ok(document_out(found));
            }
            // The text is read when there is room for it, and its passages when there is for theirs.
            room.add(usize::try_from(found.text_bytes).unwrap_or(usize::MAX))?;
            let document =
                store.readable_document(reading.cid(), &id)?.ok_or_else(|| unknown_document(&id))?;
            room.add(passages_bytes(&document))?;
            Ok(full(document))
        });
        Ok(Response::new(proto::GetDocumentResponse { document: Some(document.await.map_err(to_status)?) }))
    }

    async fn list_documents(
        &self,
        request: Request<proto::ListDocumentsRequest>,
    ) -> Reply<proto::ListDocumentsResponse> {
        let caller = caller(&request).map_err(to_status)?;
        let room = PageRoom::new(
            answer_room(&request, self.max_message_bytes).map_err(to_status)?,
            self.max_message_bytes,
        );
        let request = request.into_inner();
        let reading = self
            .catalog
            .read(&collection_name(&caller, "collection", request.collection).map_err(to_status)?)
            .map_err(to_status)?;
        let size = convert::page_size(request.page_size).map_err(to_status)?;
        let filter = convert::filter_in(request.filter).map_err(to_status)?;
        let view = view_in(request.view).map_err(to_status)?;
        let after = token_in(&request.page_token, reading.cid()).map_err(to_status)?;
        let catalog = self.catalog.clone();
        let page = cancellable(move |is_cancelled| {
            let page = catalog.page(&reading, after.as_deref(), size, filter.as_ref(), is_cancelled)?;
            page_out(&catalog, reading.cid(), page, view, filter.as_ref(), &room)
        });
        Ok(Response::new(page.await.map_err(to_status)?))
    }

    async fn delete_documents(
        &self,
        request: Request<proto::DeleteDocumentsRequest>,
    ) -> Reply<proto::DeleteDocumentsResponse> {
        let caller = caller(&request).map_err(to_status)?;
        let request = request.into_inner();
        let collection = collection_name(&caller, "collection", request.collection).map_err(to_status)?;
        self.catalog.collection(&collection).map_err(to_status)?;
        let Some(filter) = convert::filter_in(request.filter).map_err(to_status)? else {
            let message = "expected a filter, got an empty one";
            return Err(to_status(Error::invalid_field("filter", "EMPTY_FILTER", message)));
        };
        let Deletion { deleted, damaged } =
            self.catalog.delete_matching(&collection, filter).await.map_err(to_status)?;
        let damaged = damaged.into_iter().map(damaged_out).collect();
        Ok(Response::new(proto::DeleteDocumentsResponse { deleted_count: deleted as i64, damaged }))
    }

    type ExportDocumentsStream = Pin<
        Box<dyn Stream<Item = std::result::Result<proto::ExportDocumentsResponse, Status>> + Send + 'static>,
    >;

    async fn export_documents(
        &self,
        request: Request<proto::ExportDocumentsRequest>,
    ) -> Reply<Self::ExportDocumentsStream> {
        let caller = caller(&request).map_err(to_status)?;
        let parts = super::export::serve(self.catalog.clone(), &caller, request.into_inner())
            .await
            .map_err(to_status)?;
        Ok(Response::new(Box::pin(parts)))
    }

    type ImportDocumentsStream = Pin<
        Box<dyn Stream<Item = std::result::Result<proto::ImportDocumentsResponse, Status>> + Send + 'static>,
    >;

    async fn import_documents(
        &self,
        request: Request<Streaming<proto::ImportDocumentsRequest>>,
    ) -> Reply<Self::ImportDocumentsStream> {
        let (caller, watched) = (
            caller(&request).map_err(to_status)?,
            (pulse(&request).map_err(to_status)?, allowance(&request).map_err(to_status)?),
        );
        let answers = super::import::serve(self.clone(), &caller, request.into_inner(), watched).await?;
        Ok(Response::new(Box::pin(answers)))
    }
}
