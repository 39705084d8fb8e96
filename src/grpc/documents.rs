use std::pin::Pin;
use std::sync::Arc;

use futures::StreamExt;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::allowance::allowance;
use super::pulse::pulse;
use super::status::log_fault;
use super::{Reply, Stop, blocking, caller, check_batch, code, collection_name, convert, unknown_value};
use crate::catalog::Catalog;
use crate::domain::CollectionName;
use crate::error::{Error, Result};
use crate::ingest::{Action, Content, Ingest, Input, Outcome, UpsertOptions};
use crate::proto;
use crate::search::unknown_document;
use crate::store::{DocumentRecord, PassageRecord, ReadableDocument};

/// Documents of one call or stream that are worked on at once: enough passages, where documents are short, for full
/// batches of like length while others wait for the disk.
pub(super) const IN_FLIGHT: usize = 256;
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
                document_id,
                status: DocumentStatus::Failed as i32,
                error_code: code(error.kind) as i32,
                error_reason: error.reason.to_owned(),
                error_message: error.message,
                ..Default::default()
            }
        }
    }
}

pub(super) fn document_out(record: &DocumentRecord) -> proto::Document {
    proto::Document {
        id: record.id.clone(),
        title: record.title.clone(),
        source_uri: record.source_uri.clone(),
        mime_type: record.media_type.clone(),
        metadata: convert::metadata_out(&record.metadata),
        content_hash: blake3::Hash::from_bytes(record.content_hash).to_hex().to_string(),
        create_time: Some(convert::timestamp(record.create_time_ns)),
        update_time: Some(convert::timestamp(record.update_time_ns)),
        extraction_version: record.processing.version,
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
    proto::Document { passages, content: Some(proto::document::Content::Text(text)), ..document_out(&record) }
}

/// How many of the documents fit into one page with their texts; at least one does.
fn fitting(records: &[DocumentRecord]) -> usize {
    let mut bytes = 0;
    let fits = |record: &&DocumentRecord| {
        let is_first = bytes == 0;
        bytes += record.text_bytes as usize;
        is_first || bytes <= PAGE_TEXT_BYTES
    };
    records.iter().take_while(fits).count()
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
        let (caller, watched) = (caller(&request)?, (pulse(&request)?, allowance(&request)?));
        let mut messages = request.into_inner();
        let start = messages.message().await?.and_then(|m| m.part);
        let Some(Part::Start(start)) = start else {
            let message = "expected start as the first message of the stream";
            return Err(Error::invalid_field("part", "NO_START", message).into());
        };
        let collection = collection_name(&caller, "start.collection", start.collection)?;
        self.catalog.collection(&collection)?;
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
        let caller = caller(&request)?;
        let request = request.into_inner();
        let record = self.catalog.collection(&collection_name(&caller, "collection", request.collection)?)?;
        let view = view_in(request.view)?;
        let catalog = self.catalog.clone();
        let document = blocking(move || {
            let (store, id) = (catalog.store(), request.document_id);
            let document = match view {
                proto::DocumentView::Basic => {
                    store.document(record.cid, &id)?.map(|document| document_out(&document))
                }
                _ => store.readable_document(record.cid, &id)?.map(full),
            };
            document.ok_or_else(|| unknown_document(&id))
        });
        Ok(Response::new(proto::GetDocumentResponse { document: Some(document.await?) }))
    }

    async fn list_documents(
        &self,
        request: Request<proto::ListDocumentsRequest>,
    ) -> Reply<proto::ListDocumentsResponse> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let record = self.catalog.collection(&collection_name(&caller, "collection", request.collection)?)?;
        let size = convert::page_size(request.page_size)?;
        let filter = convert::filter_in(request.filter)?;
        let view = view_in(request.view)?;
        let after = convert::page_token_in(&request.page_token)?;
        let catalog = self.catalog.clone();
        let page = blocking(move || {
            let (mut records, mut more) =
                catalog.page(record.cid, after.as_deref(), size, filter.as_ref())?;
            if view == proto::DocumentView::Full {
                let fitting = fitting(&records);
                more |= fitting < records.len();
                records.truncate(fitting);
            }
            let next = records.last().filter(|_| more).map(|r| convert::page_token_out(&r.id));
            // One that was deleted meanwhile is left out.
            let documents = records.iter().filter_map(|document| match view {
                proto::DocumentView::Full => catalog
                    .store()
                    .readable_document(record.cid, &document.id)
                    .transpose()
                    .map(|d| d.map(full)),
                _ => Some(Ok(document_out(document))),
            });
            Ok((documents.collect::<Result<Vec<_>>>()?, next.unwrap_or_default()))
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
        let (caller, watched) = (caller(&request)?, (pulse(&request)?, allowance(&request)?));
        let answers = super::transfer::import(self.clone(), &caller, request.into_inner(), watched).await?;
        Ok(Response::new(Box::pin(answers)))
    }
}
