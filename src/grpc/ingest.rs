//! One ingest stream: reads documents, also in pieces, has a bounded number of them worked on at once, and
//! answers each as it is done.

use std::collections::{BTreeMap, VecDeque};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::allowance::{Allowance, Part, Unfinished};
use super::documents::{Documents, IN_FLIGHT, result_out};
use super::pulse::{Pace, Pulse};
use super::status::to_status;
use super::{Stop, convert};
use crate::domain::CollectionName;
use crate::error::Error;
use crate::ingest::UpsertOptions;
use crate::proto::document::Content;
use crate::proto::ingest_documents_request::Part as Message;
use crate::proto::ingest_documents_response::Event;
use crate::proto::{self, DocumentResult, IngestDocumentsRequest, IngestDocumentsResponse};

/// So much of a file comes before there is a buffer of its announced length: the allocator may give that huge pages.
const BEGINNING: usize = 1 << 20;

/// What the reader comes upon.
enum Incoming {
    Document { index: u64, document: Box<proto::Document>, room: Part },
    Refused { index: u64, id: String, error: Error },
    End,
    Broken(Status),
}

/// A file that comes in pieces.
struct Pieces {
    index: u64,
    document: Box<proto::Document>,
    size: usize,
    data: Vec<u8>,
    /// Room for what has come: its messages had it.
    room: Part,
    _unfinished: Unfinished,
}

impl Pieces {
    /// Adds a piece. A file whose beginning has come has one buffer for all of it, of which only what is written is resident.
    fn add(&mut self, piece: &[u8]) {
        if self.data.len() >= BEGINNING {
            self.data.reserve_exact(self.size - self.data.len());
        }
        self.data.extend_from_slice(piece);
    }
}

/// Reads messages into documents. Everything that it holds is in its fields, so that [`Reader::next`] may be
/// dropped at any point and called again.
struct Reader {
    messages: Streaming<IngestDocumentsRequest>,
    pulse: Pulse,
    allowance: Allowance,
    max_document_bytes: usize,
    count: u64,
    next: Option<Message>,
    pieces: Option<Pieces>,
    /// Whether pieces belong to a file that was refused.
    passing_over: bool,
}

impl Reader {
    async fn next(&mut self) -> Incoming {
        loop {
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

    fn part(&mut self, part: Message) -> Option<Incoming> {
        match part {
            Message::Start(_) => Some(no_document()),
            Message::Document(document) => {
                if let Some(pieces) = self.pieces.take() {
                    self.next = Some(Message::Document(document));
                    return Some(incomplete(pieces, "the next document came"));
                }
                self.document(Box::new(document))
            }
            Message::DataChunk(chunk) => {
                let Some(pieces) = &mut self.pieces else {
                    return if self.passing_over { None } else { Some(no_document()) };
                };
                if pieces.data.len() + chunk.len() > pieces.size {
                    self.passing_over = true;
                    return self.pieces.take().map(|pieces| too_long(pieces, chunk.len()));
                }
                let room = match self.allowance.keep(chunk.len()) {
                    Ok(room) => room,
                    Err(error) => {
                        self.passing_over = true;
                        let Pieces { index, document, .. } = self.pieces.take()?;
                        return Some(Incoming::Refused { index, id: document.id, error });
                    }
                };
                pieces.room.merge(room);
                pieces.add(&chunk);
                None
            }
        }
    }

    fn document(&mut self, document: Box<proto::Document>) -> Option<Incoming> {
        let (index, id) = (self.count, document.id.clone());
        self.count += 1;
        self.passing_over = false;
        match self.begin(index, document) {
            Ok(incoming) => incoming,
            Err(error) => {
                self.passing_over = true;
                Some(Incoming::Refused { index, id, error })
            }
        }
    }

    /// A document that comes as a whole, or none where its file follows in pieces.
    fn begin(
        &mut self,
        index: u64,
        mut document: Box<proto::Document>,
    ) -> crate::error::Result<Option<Incoming>> {
        convert::check_described(&document)?;
        // The server makes its own: they would only take memory.
        document.passages = Vec::new();
        let (bytes, size) = match &document.content {
            Some(Content::DataSize(size)) => {
                let size = usize::try_from(*size).unwrap_or(usize::MAX);
                (size, Some(size))
            }
            Some(Content::Data(data)) => (data.len(), None),
            Some(Content::Text(text)) => (text.len(), None),
            None => (0, None),
        };
        if bytes > self.max_document_bytes {
            let message =
                format!("expected a document of at most {} bytes, got {bytes}", self.max_document_bytes);
            return Err(Error::invalid("DOCUMENT_TOO_LARGE", message));
        }
        // Of a file that follows in pieces, its pieces take their room as they come.
        let own = convert::described_bytes(&document).saturating_add(if size.is_some() { 0 } else { bytes });
        let room = self.allowance.keep(own)?;
        let Some(size) = size else { return Ok(Some(Incoming::Document { index, document, room })) };
        self.pulse.note(Pace::restart);
        let _unfinished = self.allowance.begin_document();
        self.pieces = Some(Pieces { index, document, size, data: Vec::new(), room, _unfinished });
        Ok(None)
    }

    /// Gives up what was only read in part.
    fn abandon(&mut self) -> Option<(u64, String)> {
        self.pieces.take().map(|p| (p.index, p.document.id))
    }
}

fn no_document() -> Incoming {
    let message = "expected a document or a piece of the file announced last, got another part";
    Incoming::Broken(to_status(Error::invalid_field("part", "NO_DOCUMENT", message)))
}

fn incomplete(pieces: Pieces, until: &str) -> Incoming {
    let came = pieces.data.len();
    wrong_size(pieces, came, until)
}

fn too_long(pieces: Pieces, more: usize) -> Incoming {
    let came = pieces.data.len() + more;
    wrong_size(pieces, came, "its last piece came")
}

fn wrong_size(pieces: Pieces, came: usize, until: &str) -> Incoming {
    let message = format!("expected a file of {} bytes, got {came} until {until}", pieces.size);
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
    (pulse, allowance): (Pulse, Allowance),
) -> impl Stream<Item = Result<IngestDocumentsResponse, Status>> + Send + 'static {
    let reader = Reader {
        messages,
        pulse,
        allowance,
        max_document_bytes: service.max_document_bytes,
        count: 0,
        next: None,
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
                self.last.push_back(Err(to_status(Stop::error())));
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
