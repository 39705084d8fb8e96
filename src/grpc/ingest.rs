//! One ingest stream: reads documents, also in pieces, has a bounded number of them worked on at once, and
//! answers each as it is done.

use std::collections::{BTreeMap, VecDeque};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::documents::{Documents, IN_FLIGHT, result_out};
use super::pulse::Pulse;
use super::room::{Place, Room};
use super::{Stop, convert};
use crate::domain::CollectionName;
use crate::error::Error;
use crate::ingest::UpsertOptions;
use crate::proto::document::Content;
use crate::proto::ingest_documents_request::Part;
use crate::proto::ingest_documents_response::Event;
use crate::proto::{self, DocumentResult, IngestDocumentsRequest, IngestDocumentsResponse};

/// What the reader comes upon.
enum Incoming {
    Document { index: u64, document: Box<proto::Document>, room: Place },
    Refused { index: u64, id: String, error: Error },
    End,
    Broken(Status),
}

/// A document that waits for room.
struct Waiting {
    index: u64,
    document: Box<proto::Document>,
    /// Length of the file that follows in pieces.
    size: usize,
}

impl Waiting {
    /// What it takes with all that describes it.
    fn bytes(&self) -> usize {
        let content = match &self.document.content {
            Some(Content::Data(data)) => data.len(),
            Some(Content::Text(text)) => text.len(),
            Some(Content::DataSize(_)) | None => 0,
        };
        convert::described_bytes(&self.document).saturating_add(content).saturating_add(self.size)
    }
}

/// A file that comes in pieces.
struct Pieces {
    index: u64,
    document: Box<proto::Document>,
    size: usize,
    data: Vec<u8>,
    room: Place,
}

/// Reads messages into documents. Everything that it holds is in its fields, so that [`Reader::next`] may be
/// dropped at any point and called again.
struct Reader {
    messages: Streaming<IngestDocumentsRequest>,
    pulse: Pulse,
    room: Room,
    max_document_bytes: usize,
    count: u64,
    next: Option<Part>,
    waiting: Option<Waiting>,
    pieces: Option<Pieces>,
    /// Whether pieces belong to a file that was refused.
    passing_over: bool,
}

impl Reader {
    async fn next(&mut self) -> Incoming {
        loop {
            if let Some(waiting) = &self.waiting {
                let room = match self.room.take(waiting.bytes()).await {
                    Ok(room) => room,
                    Err(error) => return Incoming::Broken(error.into()),
                };
                let Some(Waiting { index, document, size }) = self.waiting.take() else { continue };
                if !matches!(document.content, Some(Content::DataSize(_))) {
                    return Incoming::Document { index, document, room };
                }
                self.pulse.beat();
                self.pieces = Some(Pieces { index, document, size, data: Vec::new(), room });
            }
            if self.pieces.as_ref().is_some_and(|pieces| pieces.data.len() == pieces.size)
                && let Some(Pieces { index, mut document, data, room, .. }) = self.pieces.take()
            {
                document.content = Some(Content::Data(data));
                return Incoming::Document { index, document, room };
            }
            let part = match self.next.take() {
                Some(part) => part,
                None => tokio::select! {
                    biased;
                    message = self.messages.next() => match message {
                        Some(Ok(IngestDocumentsRequest { part: Some(part) })) => part,
                        Some(Ok(IngestDocumentsRequest { part: None })) => return no_document(),
                        Some(Err(status)) => return Incoming::Broken(status),
                        None => match self.pieces.take() {
                            Some(pieces) => return incomplete(pieces, "the stream ended"),
                            None => return Incoming::End,
                        },
                    },
                    error = self.pulse.stopped(), if self.pieces.is_some() => {
                        self.passing_over = true;
                        let Some(Pieces { index, document, .. }) = self.pieces.take() else { continue };
                        return Incoming::Refused { index, id: document.id, error };
                    }
                },
            };
            if let Some(incoming) = self.part(part) {
                return incoming;
            }
        }
    }

    fn part(&mut self, part: Part) -> Option<Incoming> {
        match part {
            Part::Start(_) => Some(no_document()),
            Part::Document(document) => {
                if let Some(pieces) = self.pieces.take() {
                    self.next = Some(Part::Document(document));
                    return Some(incomplete(pieces, "the next document came"));
                }
                self.document(Box::new(document))
            }
            Part::DataChunk(chunk) => {
                let Some(pieces) = &mut self.pieces else {
                    return if self.passing_over { None } else { Some(no_document()) };
                };
                pieces.data.extend_from_slice(&chunk);
                if pieces.data.len() <= pieces.size {
                    return None;
                }
                self.passing_over = true;
                self.pieces.take().map(|pieces| incomplete(pieces, "its last piece came"))
            }
        }
    }

    fn document(&mut self, mut document: Box<proto::Document>) -> Option<Incoming> {
        let index = self.count;
        self.count += 1;
        self.passing_over = false;
        if let Err(error) = convert::check_described(&document) {
            self.passing_over = true;
            return Some(Incoming::Refused { index, id: document.id, error });
        }
        // The server makes its own: they would only take memory.
        document.passages = Vec::new();
        let (bytes, size) = match &document.content {
            Some(Content::DataSize(size)) => {
                let size = usize::try_from(*size).unwrap_or(usize::MAX);
                (size, size)
            }
            Some(Content::Data(data)) => (data.len(), 0),
            Some(Content::Text(text)) => (text.len(), 0),
            None => (0, 0),
        };
        if bytes > self.max_document_bytes {
            self.passing_over = true;
            let message =
                format!("expected a document of at most {} bytes, got {bytes}", self.max_document_bytes);
            let error = Error::invalid("DOCUMENT_TOO_LARGE", message);
            return Some(Incoming::Refused { index, id: document.id, error });
        }
        self.waiting = Some(Waiting { index, document, size });
        None
    }

    /// Gives up what was only read in part.
    fn abandon(&mut self) -> Option<(u64, String)> {
        let waiting = self.waiting.take().map(|w| (w.index, w.document.id));
        waiting.or_else(|| self.pieces.take().map(|p| (p.index, p.document.id)))
    }
}

fn no_document() -> Incoming {
    let message = "expected a document or a piece of the file announced last, got another part";
    Incoming::Broken(Error::invalid_field("part", "NO_DOCUMENT", message).into())
}

fn incomplete(pieces: Pieces, until: &str) -> Incoming {
    let message =
        format!("expected a file of {} bytes, got {} until {until}", pieces.size, pieces.data.len());
    let error = Error::invalid_field("data_chunk", "WRONG_DATA_SIZE", message);
    Incoming::Refused { index: pieces.index, id: pieces.document.id, error }
}

/// A stream that is served.
struct Session {
    service: Documents,
    collection: CollectionName,
    options: UpsertOptions,
    reader: Reader,
    working: FuturesUnordered<BoxFuture<'static, DocumentResult>>,
    /// Ids of the documents that are worked on, by their index.
    unanswered: BTreeMap<u64, String>,
    /// How the stream ends once all is answered; `None` while it is read.
    ending: Option<Ending>,
    /// What is sent last.
    last: VecDeque<Result<IngestDocumentsResponse, Status>>,
    is_over: bool,
}

enum Ending {
    Complete,
    Broken(Status),
    /// The server stops; what is not done at the deadline is refused.
    Stopping(Instant),
}

/// Serves a stream whose start has been read.
pub(super) fn serve(
    service: Documents,
    collection: CollectionName,
    options: UpsertOptions,
    messages: Streaming<IngestDocumentsRequest>,
    pulse: Pulse,
) -> impl Stream<Item = Result<IngestDocumentsResponse, Status>> + Send + 'static {
    let reader = Reader {
        messages,
        pulse,
        room: service.room.clone(),
        max_document_bytes: service.max_document_bytes,
        count: 0,
        next: None,
        waiting: None,
        pieces: None,
        passing_over: false,
    };
    let session = Session {
        service,
        collection,
        options,
        reader,
        working: FuturesUnordered::new(),
        unanswered: BTreeMap::new(),
        ending: None,
        last: VecDeque::new(),
        is_over: false,
    };
    futures::stream::unfold(session, |mut session| async move {
        let response = session.next().await?;
        Some((response, session))
    })
}

impl Session {
    async fn next(&mut self) -> Option<Result<IngestDocumentsResponse, Status>> {
        loop {
            if self.is_over {
                return self.last.pop_front();
            }
            if self.ending.is_some() && self.working.is_empty() {
                self.end();
                continue;
            }
            let deadline = match self.ending {
                Some(Ending::Stopping(deadline)) => Some(deadline),
                _ => None,
            };
            let may_read = self.ending.is_none() && self.working.len() < IN_FLIGHT;
            tokio::select! {
                biased;
                Some(result) = self.working.next() => {
                    self.unanswered.remove(&result.index);
                    return Some(Ok(response(Event::Result(result))));
                }
                () = self.service.stop.begun(), if self.ending.is_none() => {
                    // Time for the last answers to reach the client.
                    let grace = self.service.stop.grace().mul_f32(0.8);
                    self.ending = Some(Ending::Stopping(Instant::now() + grace));
                    if let Some((index, id)) = self.reader.abandon() {
                        return Some(Ok(refused(index, id, Stop::error())));
                    }
                }
                () = until(deadline), if deadline.is_some() => self.working.clear(),
                incoming = self.reader.next(), if may_read => {
                    if let Some(response) = self.take(incoming) {
                        return Some(Ok(response));
                    }
                }
            }
        }
    }

    fn take(&mut self, incoming: Incoming) -> Option<IngestDocumentsResponse> {
        match incoming {
            Incoming::Document { index, document, room } => {
                self.unanswered.insert(index, document.id.clone());
                let put = self.service.put(&self.collection, index, *document, self.options);
                self.working.push(Box::pin(async move {
                    let (result, _) = put.await;
                    drop(room);
                    result
                }));
                None
            }
            Incoming::Refused { index, id, error } => Some(refused(index, id, error)),
            Incoming::End => {
                self.ending = Some(Ending::Complete);
                None
            }
            Incoming::Broken(status) => {
                self.ending = Some(Ending::Broken(status));
                None
            }
        }
    }

    /// Nothing is worked on any more: says what is left to say.
    fn end(&mut self) {
        self.is_over = true;
        match self.ending.take() {
            Some(Ending::Broken(status)) => self.last.push_back(Err(status)),
            Some(Ending::Stopping(_)) => {
                let left = std::mem::take(&mut self.unanswered);
                let refuse = |(index, id)| Ok(refused(index, id, Stop::error()));
                self.last.extend(left.into_iter().map(refuse));
                self.last.push_back(Ok(response(Event::ShuttingDown(proto::IngestShuttingDown {}))));
                self.last.push_back(Err(Stop::error().into()));
            }
            Some(Ending::Complete) | None => {}
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn response(event: Event) -> IngestDocumentsResponse {
    IngestDocumentsResponse { event: Some(event) }
}

fn refused(index: u64, id: String, error: Error) -> IngestDocumentsResponse {
    response(Event::Result(result_out(index, id, Err(error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_takes_room_with_all_that_describes_it() {
        let document = proto::Document {
            title: "x".repeat(1000),
            source_uri: "x".repeat(1000),
            metadata: [("x".repeat(1000), proto::MetadataValue::default())].into(),
            content: Some(Content::DataSize(5000)),
            ..Default::default()
        };
        let waiting = Waiting { index: 0, document: Box::new(document), size: 5000 };
        assert!((8000..9500).contains(&waiting.bytes()), "{}", waiting.bytes());
    }
}
