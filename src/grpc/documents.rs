use std::pin::Pin;
use std::sync::Arc;

use futures::StreamExt;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{Reply, code, convert};
use crate::catalog::Catalog;
use crate::domain::{CollectionName, Filter};
use crate::error::{Error, Result};
use crate::ingest::{Content, Ingest, Input, Outcome};
use crate::proto;
use crate::search::unknown_document;
use crate::store::DocumentRecord;

/// Documents of one call that are worked on at once: enough passages, where documents are short, for full batches of
/// like length while others wait for the disk.
const IN_FLIGHT: usize = 256;

/// DocumentService.
#[derive(Clone)]
pub struct Documents {
    /// Puts documents in.
    pub ingest: Arc<Ingest>,
    /// Reads them and takes them out.
    pub catalog: Arc<Catalog>,
    /// Most documents of one call.
    pub max_batch_size: usize,
}

impl Documents {
    async fn put(
        &self,
        collection: &CollectionName,
        index: u64,
        document: proto::Document,
        validate_only: bool,
    ) -> (proto::DocumentResult, u32) {
        let id = document.id.clone();
        let outcome = match input_in(document) {
            Ok(input) => self.ingest.upsert(collection, input, validate_only).await,
            Err(error) => Err(error),
        };
        let tokens = outcome.as_ref().map_or(0, |o| o.tokens);
        (result_out(index, id, outcome), tokens)
    }
}

fn input_in(document: proto::Document) -> Result<Input> {
    use proto::document::Content as Message;
    let content = match document.content {
        Some(Message::Text(text)) => Content::Text(text),
        Some(Message::Data(bytes)) if document.mime_type.is_empty() => {
            let media_type =
                crate::extract::media_type_of(std::path::Path::new(&document.source_uri), &bytes)
                    .ok_or_else(|| {
                        Error::invalid(
                            "UNSUPPORTED_FORMAT",
                            "mime_type: expected a format, got none that is known",
                        )
                    })?;
            Content::Data { bytes, media_type: media_type.to_owned() }
        }
        Some(Message::Data(bytes)) => Content::Data { bytes, media_type: document.mime_type },
        None => return Err(Error::invalid("EMPTY_DOCUMENT", "content: expected text or data, got none")),
    };
    Ok(Input {
        id: document.id,
        title: document.title,
        source_uri: document.source_uri,
        content,
        metadata: convert::metadata_in(document.metadata)?,
    })
}

fn result_out(index: u64, document_id: String, outcome: Result<Outcome>) -> proto::DocumentResult {
    use proto::DocumentStatus;
    match outcome {
        Ok(outcome) => proto::DocumentResult {
            index,
            document_id: outcome.document_id,
            status: if outcome.unchanged { DocumentStatus::Unchanged } else { DocumentStatus::Indexed }
                as i32,
            passage_count: outcome.passage_count,
            ..Default::default()
        },
        Err(error) => proto::DocumentResult {
            index,
            document_id,
            status: DocumentStatus::Failed as i32,
            error_code: code(error.kind) as i32,
            error_reason: error.reason.to_owned(),
            error_message: error.message,
            ..Default::default()
        },
    }
}

fn document_out(record: &DocumentRecord) -> proto::Document {
    proto::Document {
        id: record.id.clone(),
        title: record.title.clone(),
        source_uri: record.source_uri.clone(),
        mime_type: record.media_type.clone(),
        metadata: convert::metadata_out(&record.metadata),
        content_hash: blake3::Hash::from_bytes(record.content_hash).to_hex().to_string(),
        create_time: Some(convert::timestamp(record.create_time_ns)),
        update_time: Some(convert::timestamp(record.update_time_ns)),
        ..Default::default()
    }
}

fn full(catalog: &Catalog, cid: u32, record: &DocumentRecord) -> Result<proto::Document> {
    let mut document = document_out(record);
    let text = catalog.document_text(cid, record)?;
    for passage in catalog.document_passages(cid, record)? {
        document.passages.push(proto::Passage {
            document_id: record.id.clone(),
            passage_index: passage.index,
            span: Some(convert::span(passage.span)),
            text: passage.span.slice(&text).unwrap_or_default().to_owned(),
            headings: passage.headings,
            page_number: passage.page,
        });
    }
    document.content = Some(proto::document::Content::Text(text));
    Ok(document)
}

fn view_in(view: i32) -> Result<proto::DocumentView> {
    proto::DocumentView::try_from(view).map_err(|_| {
        Error::invalid("UNKNOWN_ENUM_VALUE", format!("view: expected a known value, got {view}"))
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal("TASK_FAILED", "a background task failed").with_source(e))?
}

#[tonic::async_trait]
impl proto::document_service_server::DocumentService for Documents {
    async fn upsert_documents(
        &self,
        request: Request<proto::UpsertDocumentsRequest>,
    ) -> Reply<proto::UpsertDocumentsResponse> {
        let request = request.into_inner();
        let collection = CollectionName::new(request.collection)?;
        self.catalog.collection(&collection)?;
        if request.documents.is_empty() || request.documents.len() > self.max_batch_size {
            let (most, got) = (self.max_batch_size, request.documents.len());
            let message = format!("documents: expected 1 to {most}, got {got}");
            return Err(Error::invalid("BATCH_TOO_LARGE", message).into());
        }
        let puts = request.documents.into_iter().enumerate().map(|(index, document)| {
            let collection = &collection;
            async move { self.put(collection, index as u64, document, request.validate_only).await }
        });
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
        let mut messages = request.into_inner();
        let start = messages.message().await?.and_then(|m| m.part);
        let Some(Part::Start(start)) = start else {
            return Err(
                Error::invalid("NO_START", "expected start as the first message of the stream").into()
            );
        };
        let collection = CollectionName::new(start.collection)?;
        self.catalog.collection(&collection)?;
        let service = self.clone();
        let results = messages
            .enumerate()
            .map(move |(index, message)| {
                let (service, collection) = (service.clone(), collection.clone());
                async move {
                    let Some(Part::Document(document)) = message?.part else {
                        let message = "expected a document after the start of the stream";
                        return Err(Status::from(Error::invalid("NO_DOCUMENT", message)));
                    };
                    let (result, _) = service.put(&collection, index as u64, document, false).await;
                    let event = proto::ingest_documents_response::Event::Result(result);
                    Ok(proto::IngestDocumentsResponse { event: Some(event) })
                }
            })
            .buffer_unordered(IN_FLIGHT);
        Ok(Response::new(Box::pin(results)))
    }

    async fn get_document(
        &self,
        request: Request<proto::GetDocumentRequest>,
    ) -> Reply<proto::GetDocumentResponse> {
        let request = request.into_inner();
        let record = self.catalog.collection(&CollectionName::new(request.collection)?)?;
        let view = view_in(request.view)?;
        let catalog = self.catalog.clone();
        let document = blocking(move || {
            let id = request.document_id;
            let document = catalog.store().document(record.cid, &id)?.ok_or_else(|| unknown_document(&id))?;
            if view == proto::DocumentView::Basic {
                return Ok(document_out(&document));
            }
            full(&catalog, record.cid, &document)
        });
        Ok(Response::new(proto::GetDocumentResponse { document: Some(document.await?) }))
    }

    async fn list_documents(
        &self,
        request: Request<proto::ListDocumentsRequest>,
    ) -> Reply<proto::ListDocumentsResponse> {
        let request = request.into_inner();
        let record = self.catalog.collection(&CollectionName::new(request.collection)?)?;
        let size = convert::page_size(request.page_size)?;
        let filter = convert::filter_in(request.filter)?;
        let view = view_in(request.view)?;
        let after = convert::page_token_in(&request.page_token)?;
        let catalog = self.catalog.clone();
        let page = blocking(move || {
            let (records, more) = catalog.page(record.cid, after.as_deref(), size, filter.as_ref())?;
            let next = records.last().filter(|_| more).map(|r| convert::page_token_out(&r.id));
            let documents = records.iter().map(|document| match view {
                proto::DocumentView::Full => full(&catalog, record.cid, document),
                _ => Ok(document_out(document)),
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
        let request = request.into_inner();
        let record = self.catalog.collection(&CollectionName::new(request.collection)?)?;
        let Some(filter) = convert::filter_in(request.filter)? else {
            return Err(Error::invalid("EMPTY_FILTER", "filter: expected a filter, got an empty one").into());
        };
        let catalog = self.catalog.clone();
        let ids = blocking(move || match filter {
            Filter::DocumentIds(ids) => Ok(ids),
            filter => catalog.matching_ids(record.cid, &filter),
        });
        let deleted = self.catalog.store().delete_documents(record.cid, ids.await?).await?;
        Ok(Response::new(proto::DeleteDocumentsResponse { deleted_count: deleted as i64 }))
    }
}
