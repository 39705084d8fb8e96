//! Documents with all that is stored of them, out of a collection: as they are when the export begins.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use prost::Message;
use tokio_stream::Stream;
use tonic::Status;

use super::documents::{damaged_out, document_out};
use super::status::to_status;
use super::{cancellable, collection_name, collections, convert};
use crate::access::Caller;
use crate::catalog::{Catalog, Listed, Reading};
use crate::domain::Filter;
use crate::error::{ErrorKind, Result};
use crate::proto;
use crate::proto::export_documents_response::Part;
use crate::store::{Damaged, DocumentRecord, NewPassage, View};
use crate::task::{Cancelled, check_cancelled};

/// Bytes of text or passages in one message, and of messages that wait for the client.
const MESSAGE_BYTES: usize = 256 << 10;
/// Documents whose records are read at once.
const PAGE: usize = 64;

/// An export on its way. However large documents are, it holds no more of them than the next messages.
struct Export {
    catalog: Arc<Catalog>,
    reading: Reading,
    view: View,
    filter: Option<Filter>,
    /// Documents whose records are read.
    page: VecDeque<Listed>,
    after: Option<String>,
    is_last_page: bool,
    /// The document whose parts come next.
    open: Option<OpenDocument>,
}

/// A document of which parts have been sent.
struct OpenDocument {
    record: DocumentRecord,
    /// Bytes of its text that have been sent.
    text_bytes: u64,
    /// The point of its next passage.
    next_passage: u64,
}

/// The messages of an export.
pub(super) async fn serve(
    catalog: Arc<Catalog>,
    caller: &Caller,
    request: proto::ExportDocumentsRequest,
) -> Result<impl Stream<Item = std::result::Result<proto::ExportDocumentsResponse, Status>> + Send + 'static>
{
    let name = collection_name(caller, "collection", request.collection)?;
    let filter = convert::filter_in(request.filter)?;
    let begin = {
        let catalog = catalog.clone();
        move |is_cancelled: Cancelled<'_>| catalog.read_moment(&name, is_cancelled)
    };
    let (reading, view) = cancellable(begin).await?;
    let first = Part::Collection(collections::out(&catalog, reading.record(), view.counts()));
    let export = Export {
        catalog,
        reading,
        view,
        filter,
        page: VecDeque::new(),
        after: None,
        is_last_page: false,
        open: None,
    };
    let parts = futures::stream::try_unfold(export, |mut export| async move {
        let next = cancellable(move |is_cancelled| {
            let parts = export.some(is_cancelled)?;
            Ok((!parts.is_empty()).then_some((parts, export)))
        });
        next.await.map_err(to_status)
    });
    let parts = parts.flat_map(|parts| {
        futures::stream::iter(match parts {
            Ok(parts) => parts.into_iter().map(Ok).collect(),
            Err(status) => vec![Err(status)],
        })
    });
    let message = |part: std::result::Result<Part, Status>| {
        part.map(|part| proto::ExportDocumentsResponse { part: Some(part) })
    };
    Ok(futures::stream::iter([Ok(first)]).chain(parts).map(message))
}

impl Export {
    /// The next parts, about as many as one message has room for; none after the last.
    fn some(&mut self, is_cancelled: Cancelled<'_>) -> Result<Vec<Part>> {
        let (mut parts, mut bytes) = (Vec::new(), 0);
        while bytes < MESSAGE_BYTES
            && let Some(part) = self.next(is_cancelled)?
        {
            bytes += match &part {
                Part::Text(text) => text.len(),
                Part::Document(document) => document.encoded_len(),
                Part::Passages(passages) => passages.encoded_len(),
                Part::Collection(_) | Part::Damaged(_) => 0,
            };
            parts.push(part);
        }
        Ok(parts)
    }

    fn next(&mut self, is_cancelled: Cancelled<'_>) -> Result<Option<Part>> {
        loop {
            check_cancelled(is_cancelled)?;
            if let Some(open) = &mut self.open {
                match open.next(&self.catalog, self.reading.cid()) {
                    Ok(Some(part)) => return Ok(Some(part)),
                    Ok(None) => self.open = None,
                    Err(error) if error.kind == ErrorKind::DataLoss => {
                        let id = open.record.id.clone();
                        self.open = None;
                        return Ok(Some(self.left_out(Damaged { id, error })));
                    }
                    Err(error) => return Err(error),
                }
            }
            match self.page.pop_front() {
                Some(Ok(record)) if !self.is_wanted(&record) => {}
                Some(Ok(record)) => return self.begin(record).map(Some),
                Some(Err(damaged)) => return Ok(Some(self.left_out(damaged))),
                None if self.is_last_page => return Ok(None),
                None => {
                    let page = self.catalog.store().view_page(&self.view, self.after.as_deref(), PAGE)?;
                    self.page = page.documents.into();
                    self.is_last_page = page.next.is_none();
                    self.after = page.next;
                }
            }
        }
    }

    fn is_wanted(&self, record: &DocumentRecord) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(&record.id, &record.metadata))
    }

    /// The first part of a document.
    fn begin(&mut self, record: DocumentRecord) -> Result<Part> {
        let vector = match self.catalog.store().own_vector(self.reading.cid(), &record) {
            Err(error) if error.kind == ErrorKind::DataLoss => {
                return Ok(self.left_out(Damaged { id: record.id, error }));
            }
            vector => vector?,
        };
        let part = Part::Document(proto::StoredDocument {
            text_bytes: record.text_bytes,
            passage_count: record.passage_count,
            token_count: record.token_count,
            file_title: record.file_title.clone().unwrap_or_default(),
            file_metadata: convert::metadata_out(record.file_metadata.clone()),
            chunking: Some(proto::ChunkingConfig {
                max_tokens: record.processing.max_tokens,
                overlap_tokens: record.processing.overlap_tokens,
            }),
            vector: vector_out(vector),
            document: Some(document_out(record.clone())),
        });
        let next_passage = record.first_passage;
        self.open = Some(OpenDocument { record, text_bytes: 0, next_passage });
        Ok(part)
    }

    fn left_out(&self, damaged: Damaged) -> Part {
        let Damaged { id, error } = &damaged;
        let collection = &self.reading.record().name;
        tracing::error!(collection, id, %error, "a damaged document is left out of an export");
        Part::Damaged(damaged_out(damaged))
    }
}

impl OpenDocument {
    /// The next part; `None` after the last.
    fn next(&mut self, catalog: &Catalog, cid: u32) -> Result<Option<Part>> {
        let store = catalog.store();
        if self.text_bytes < self.record.text_bytes {
            let text = store.text_piece(cid, &self.record, self.text_bytes, MESSAGE_BYTES)?;
            self.text_bytes += text.len() as u64;
            return Ok(Some(Part::Text(text)));
        }
        let (mut passages, mut bytes) = (Vec::new(), 0);
        let end = self.record.passages().end;
        while self.next_passage < end && bytes < MESSAGE_BYTES {
            let passage = passage_out(store.whole_passage(cid, self.next_passage)?);
            bytes += passage.encoded_len();
            passages.push(passage);
            self.next_passage += 1;
        }
        Ok((!passages.is_empty()).then_some(Part::Passages(proto::StoredPassages { passages })))
    }
}

fn vector_out(values: Vec<f32>) -> Option<proto::DenseVector> {
    (!values.is_empty()).then_some(proto::DenseVector { values })
}

fn passage_out(passage: NewPassage) -> proto::StoredPassage {
    proto::StoredPassage {
        span: Some(convert::span(passage.span)),
        headings: passage.headings,
        page_number: passage.page,
        sentences: passage.sentences.into_iter().map(convert::span).collect(),
        vector: vector_out(passage.vector),
        sentence_vectors: passage
            .sentence_vectors
            .into_iter()
            .map(|values| proto::DenseVector { values })
            .collect(),
    }
}
