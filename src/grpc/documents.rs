use std::pin::Pin;
use std::sync::Arc;

use futures::StreamExt;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::pulse::pulse;
use super::status::{log_fault, shown_message};
use super::{
    Reply, Room, Stop, answer_room, blocking, caller, check_batch, code, collection_name, convert,
    unknown_value,
};
use crate::catalog::Catalog;
use crate::domain::{CollectionName, bounds};
use crate::error::{Error, Result};
use crate::ingest::{Action, Content, Ingest, Input, Outcome, UpsertOptions};
use crate::proto;
use crate::room::AnswerRoom;
use crate::search::unknown_document;
use crate::store::{DocumentRecord, PassageRecord, ReadableDocument, Store};

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
    /// Memory for the documents of all streams.
    pub room: Room,
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
        Some(Message::Data(bytes)) if document.mime_type.is_empty() => {
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

pub(super) fn document_out(record: DocumentRecord) -> proto::Document {
    proto::Document {
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

/// Documents of a page with their texts, as many as fit into it and at least one, and whether others were left out. One
/// that was deleted meanwhile is left out.
fn full_page(
    store: &Store,
    cid: u32,
    records: &[DocumentRecord],
    room: &AnswerRoom,
) -> Result<(Vec<proto::Document>, usize)> {
    let (mut documents, mut bytes) = (Vec::new(), 0_usize);
    for (count, record) in records.iter().enumerate() {
        let text = usize::try_from(record.text_bytes).unwrap_or(usize::MAX);
        let own = text.saturating_add(record_bytes(record));
        bytes = bytes.saturating_add(text);
        if count > 0 && (bytes > PAGE_TEXT_BYTES || own > room.left()) {
            return Ok((documents, count));
        }
        room.add(own)?;
        let Some(document) = store.readable_document(cid, &record.id)? else { continue };
        let passages = passages_bytes(&document);
        if !documents.is_empty() && passages > room.left() {
            return Ok((documents, count));
        }
        room.add(passages)?;
        documents.push(full(document));
    }
    Ok((documents, records.len()))
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
        let caller = caller(&request)?;
        let request = request.into_inner();
        let collection = collection_name(&caller, "collection", request.collection)?;
        self.catalog.collection(&collection)?;
        check_batch("documents", request.documents.len(), self.max_batch_size)?;
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
        let (caller, pulse) = (caller(&request)?, pulse(&request)?);
        let mut messages = request.into_inner();
        let start = messages.message().await?.and_then(|m| m.part);
        let Some(Part::Start(start)) = start else {
            let message = "expected start as the first message of the stream";
            return Err(Error::invalid_field("part", "NO_START", message).into());
        };
        let collection = collection_name(&caller, "start.collection", start.collection)?;
        self.catalog.collection(&collection)?;
        let options = UpsertOptions { validate_only: false, force: start.force };
        Ok(Response::new(Box::pin(super::ingest::serve(self.clone(), collection, options, messages, pulse))))
    }

    async fn get_document(
        &self,
        request: Request<proto::GetDocumentRequest>,
    ) -> Reply<proto::GetDocumentResponse> {
        let caller = caller(&request)?;
        let room = answer_room(&request, self.max_message_bytes)?;
        let request = request.into_inner();
        let record = self.catalog.collection(&collection_name(&caller, "collection", request.collection)?)?;
        let view = view_in(request.view)?;
        let catalog = self.catalog.clone();
        let document = blocking(move || {
            let (store, id) = (catalog.store(), request.document_id);
            let found = store.document(record.cid, &id)?.ok_or_else(|| unknown_document(&id))?;
            room.add(record_bytes(&found))?;
            if view == proto::DocumentView::Basic {
                return Ok(document_out(found));
            }
            // The text is read when there is room for it, and its passages when there is for theirs.
            room.add(usize::try_from(found.text_bytes).unwrap_or(usize::MAX))?;
            let document = store.readable_document(record.cid, &id)?.ok_or_else(|| unknown_document(&id))?;
            room.add(passages_bytes(&document))?;
            Ok(full(document))
        });
        Ok(Response::new(proto::GetDocumentResponse { document: Some(document.await?) }))
    }

    async fn list_documents(
        &self,
        request: Request<proto::ListDocumentsRequest>,
    ) -> Reply<proto::ListDocumentsResponse> {
        let caller = caller(&request)?;
        let room = answer_room(&request, self.max_message_bytes)?;
        let request = request.into_inner();
        let record = self.catalog.collection(&collection_name(&caller, "collection", request.collection)?)?;
        let size = convert::page_size(request.page_size)?;
        let filter = convert::filter_in(request.filter)?;
        let view = view_in(request.view)?;
        let after = convert::page_token_in(&request.page_token)?;
        let catalog = self.catalog.clone();
        let page = blocking(move || {
            let (records, more) = catalog.page(record.cid, after.as_deref(), size, filter.as_ref())?;
            let last =
                |count: usize| records.get(count.wrapping_sub(1)).map(|r| convert::page_token_out(&r.id));
            if view == proto::DocumentView::Full {
                let (documents, count) = full_page(catalog.store(), record.cid, &records, &room)?;
                let next = last(count).filter(|_| more || count < records.len());
                return Ok((documents, next.unwrap_or_default()));
            }
            let mut count = 0;
            for record in &records {
                let bytes = record_bytes(record);
                if count > 0 && bytes > room.left() {
                    break;
                }
                room.add(bytes)?;
                count += 1;
            }
            let next = last(count).filter(|_| more || count < records.len()).unwrap_or_default();
            Ok((records.into_iter().take(count).map(document_out).collect(), next))
        });
        let (documents, next_page_token) = page.await?;
        Ok(Response::new(proto::ListDocumentsResponse { documents, next_page_token }))
    }

    async fn delete_documents(
        &self,
        request: Request<proto::DeleteDocumentsRequest>,
    ) -> Reply<proto::DeleteDocumentsResponse> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let record = self.catalog.collection(&collection_name(&caller, "collection", request.collection)?)?;
        let Some(filter) = convert::filter_in(request.filter)? else {
            let message = "expected a filter, got an empty one";
            return Err(Error::invalid_field("filter", "EMPTY_FILTER", message).into());
        };
        let deleted = self.catalog.delete_matching(&record, filter).await?;
        Ok(Response::new(proto::DeleteDocumentsResponse { deleted_count: deleted as i64 }))
    }

    type ExportDocumentsStream = Pin<
        Box<dyn Stream<Item = std::result::Result<proto::ExportDocumentsResponse, Status>> + Send + 'static>,
    >;

    async fn export_documents(
        &self,
        request: Request<proto::ExportDocumentsRequest>,
    ) -> Reply<Self::ExportDocumentsStream> {
        let caller = caller(&request)?;
        let parts = super::transfer::export(self.catalog.clone(), &caller, request.into_inner())?;
        Ok(Response::new(Box::pin(parts)))
    }

    type ImportDocumentsStream = Pin<
        Box<dyn Stream<Item = std::result::Result<proto::ImportDocumentsResponse, Status>> + Send + 'static>,
    >;

    async fn import_documents(
        &self,
        request: Request<Streaming<proto::ImportDocumentsRequest>>,
    ) -> Reply<Self::ImportDocumentsStream> {
        let (caller, pulse) = (caller(&request)?, pulse(&request)?);
        let answers = super::transfer::import(self.clone(), &caller, request.into_inner(), pulse).await?;
        Ok(Response::new(Box::pin(answers)))
    }
}
