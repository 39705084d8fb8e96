//! Sends documents over ingest streams: a bounded number without an answer, again after a lost connection,
//! until every one is settled. Sending one twice is harmless: the server tells that it is unchanged.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::progress::{Progress, Tally};
use super::read::{Item, Read};
use crate::cli::client::Client;
use crate::cli::failure::{code_name, describe_status};
use crate::proto::document::Content;
use crate::proto::ingest_documents_response::Event;
use crate::proto::{
    Document, DocumentResult, DocumentStatus, IngestDocumentsRequest, IngestDocumentsResponse, IngestStart,
    ingest_documents_request::Part,
};

/// Most bytes sent and not yet acknowledged, unless one document alone is larger.
const MAX_UNACKNOWLEDGED: u64 = 64 << 20;
/// First wait after a lost connection or a full queue; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// Times that a document is sent again because the server was too busy for it.
const MOST_ATTEMPTS: u32 = 20;

/// How to send.
#[derive(Debug, Clone)]
pub struct SendOptions {
    /// Collection.
    pub collection: String,
    /// Most documents sent and not yet acknowledged.
    pub window: usize,
    /// Time to go on trying without an acknowledgement.
    pub patience: Duration,
    /// Whether even unchanged documents are made anew.
    pub force: bool,
    /// Most bytes of one piece of a file.
    pub piece_bytes: usize,
}

/// A document on its way.
struct Outgoing {
    document: Box<Document>,
    /// The file that follows in pieces.
    file: Option<PathBuf>,
    size: u64,
    attempts: u32,
}

/// How a stream ended.
enum End {
    /// Everything is settled.
    Done,
    /// The user does not want to wait any longer.
    Interrupted,
    /// What is left needs another stream.
    Reopen,
    /// The connection is gone; what is not acknowledged waits to be sent again.
    Lost(String),
}

/// Sends every item; returns when all are settled or the user interrupted.
///
/// # Errors
/// What makes going on useless, or the last failure of a server that stayed away too long.
pub async fn send(
    client: &Client,
    options: &SendOptions,
    items: mpsc::Receiver<Item>,
    progress: &mut Progress,
    tally: &mut Tally,
) -> Result<()> {
    let mut run = Run {
        client,
        options,
        items,
        again: VecDeque::new(),
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
        settled_at: Instant::now(),
        progress,
        tally,
    };
    let mut wait = FIRST_WAIT;
    loop {
        let before = run.settled_at;
        let lost = match run.stream().await {
            Ok(End::Done | End::Interrupted) => return Ok(()),
            Ok(End::Reopen) => continue,
            Ok(End::Lost(why)) => (why, None),
            Err(status) if may_pass(&status) => (describe_status(&status), Some(status)),
            Err(status) => return Err(status.into()),
        };
        if run.tally.interrupted {
            return Ok(());
        }
        if run.settled_at > before {
            wait = FIRST_WAIT;
        }
        let (why, status) = lost;
        if run.settled_at.elapsed() + wait > options.patience {
            let what = format!("gave up after {} s without an answer", options.patience.as_secs());
            return Err(match status {
                Some(status) => anyhow::Error::from(status).context(what),
                None => tonic::Status::unavailable(format!("{what}: {why}")).into(),
            });
        }
        run.progress.note(&format!("lost the server ({why}); trying again in {:.1} s", wait.as_secs_f32()));
        if run.interrupted_within(wait).await {
            run.tally.interrupted = true;
            return Ok(());
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Reads on where nothing more is expected, so that the server ends the call and does not see its caller leave.
async fn read_to_end(inbound: &mut Streaming<IngestDocumentsResponse>) {
    let rest = async { while let Ok(Some(_)) = inbound.message().await {} };
    let _ = tokio::time::timeout(LONGEST_WAIT, rest).await;
}

/// Whether a failure of the stream may pass when it is opened again.
fn may_pass(status: &tonic::Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Unknown
            | Code::Internal
            | Code::Cancelled
            | Code::Aborted
            | Code::ResourceExhausted
    )
}

struct Run<'a> {
    client: &'a Client,
    options: &'a SendOptions,
    items: mpsc::Receiver<Item>,
    again: VecDeque<Outgoing>,
    interrupt: Signal,
    terminate: Signal,
    settled_at: Instant,
    progress: &'a mut Progress,
    tally: &'a mut Tally,
}

impl Run<'_> {
    /// One stream, from its start to its end. What has no answer when it ends goes back to be sent again.
    async fn stream(&mut self) -> Result<End, tonic::Status> {
        let mut in_flight = BTreeMap::new();
        let end = self.exchange(&mut in_flight).await;
        for outgoing in in_flight.into_values().rev() {
            self.again.push_front(outgoing);
        }
        end
    }

    async fn exchange(&mut self, in_flight: &mut BTreeMap<u64, Outgoing>) -> Result<End, tonic::Status> {
        let (sender, receiver) = mpsc::channel(self.options.window + 1);
        let start = Part::Start(IngestStart {
            collection: self.options.collection.clone(),
            force: self.options.force,
        });
        let _ = sender.send(IngestDocumentsRequest { part: Some(start) }).await;
        let messages = ReceiverStream::new(receiver);
        let mut inbound = self.client.documents().ingest_documents(messages).await?.into_inner();
        let mut sender = Some(sender);
        let mut next_index = 0;
        let mut read_all = false;
        let mut resume_at = Instant::now();
        let mut pieces: Option<Pieces> = None;
        loop {
            if read_all && self.again.is_empty() && in_flight.is_empty() {
                drop(sender);
                read_to_end(&mut inbound).await;
                return Ok(End::Done);
            }
            if self.tally.interrupted && pieces.is_none() {
                sender = None;
            }
            if sender.is_none() && in_flight.is_empty() {
                read_to_end(&mut inbound).await;
                return Ok(if self.tally.interrupted { End::Interrupted } else { End::Reopen });
            }
            let bytes: u64 = in_flight.values().map(|outgoing| outgoing.size).sum();
            let room = in_flight.len() < self.options.window && bytes < MAX_UNACKNOWLEDGED;
            let paused = resume_at > Instant::now();
            let may_send = sender.is_some() && pieces.is_none() && room && !paused;
            tokio::select! {
                message = inbound.message() => match message? {
                    Some(response) => match response.event {
                        Some(Event::Result(result)) => {
                            if let Some(outgoing) = in_flight.remove(&result.index)
                                && let Some(again) = self.settle(outgoing, result)
                            {
                                resume_at = Instant::now() + FIRST_WAIT;
                                self.again.push_back(again);
                            }
                        }
                        Some(Event::ShuttingDown(_)) => (sender, pieces) = (None, None),
                        None => {}
                    },
                    None => return Ok(End::Lost("the server ended the stream".to_owned())),
                },
                item = next(&mut self.again, &mut self.items, &mut read_all), if may_send && !(read_all && self.again.is_empty()) => {
                    let Some(outgoing) = item.and_then(|next| self.take(next)) else { continue };
                    let part = Some(Part::Document((*outgoing.document).clone()));
                    pieces = outgoing.file.as_ref().map(|path| Pieces {
                        path: path.clone(),
                        file: None,
                        left: outgoing.size,
                    });
                    in_flight.insert(next_index, outgoing);
                    next_index += 1;
                    let Some(sender) = &sender else { continue };
                    if sender.send(IngestDocumentsRequest { part }).await.is_err() {
                        return Ok(End::Lost("the server closed the stream".to_owned()));
                    }
                },
                // Only the wait for room may be dropped here: reading moves on in the file.
                slot = slot(sender.clone()), if sender.is_some() && pieces.is_some() => {
                    let Some(slot) = slot else {
                        return Ok(End::Lost("the server closed the stream".to_owned()));
                    };
                    match next_piece(&mut pieces, self.options.piece_bytes).await {
                        Ok(piece) => {
                            slot.send(IngestDocumentsRequest { part: Some(Part::DataChunk(piece)) });
                        }
                        // The server tells that the file is not whole once the stream ends.
                        Err(_) => (sender, pieces) = (None, None),
                    }
                },
                () = sleep_until(resume_at), if paused => {}
                _ = self.interrupt.recv() => if self.interrupted(in_flight.len()) { return Ok(End::Interrupted) },
                _ = self.terminate.recv() => if self.interrupted(in_flight.len()) { return Ok(End::Interrupted) },
            }
        }
    }

    /// Takes what comes next: a document to send, or nothing where that is settled already.
    fn take(&mut self, next: Next) -> Option<Outgoing> {
        let item = match next {
            Next::Again(outgoing) => return Some(outgoing),
            Next::Read(item) => item,
        };
        self.tally.seen.insert(item.id.clone());
        match item.read {
            Read::Document(document) => {
                return Some(Outgoing { document, file: None, size: item.size, attempts: 0 });
            }
            Read::File(document, path) => {
                let size = match document.content {
                    Some(Content::DataSize(size)) => size,
                    _ => item.size,
                };
                return Some(Outgoing { document, file: Some(path), size, attempts: 0 });
            }
            Read::Unchanged => self.tally.unchanged += 1,
            Read::Failed(reason) => self.progress.fail(self.tally, &item.id, &reason),
        }
        self.progress.advance(item.size, self.tally);
        None
    }

    /// Counts an answer; gives the document back where it is to be sent again.
    fn settle(&mut self, mut outgoing: Outgoing, mut result: DocumentResult) -> Option<Outgoing> {
        let id = &outgoing.document.id;
        self.progress.warn(self.tally, id, std::mem::take(&mut result.warnings));
        match result.status() {
            DocumentStatus::Indexed => {
                self.tally.indexed += 1;
                self.tally.passages += u64::from(result.passage_count);
            }
            DocumentStatus::Updated => self.tally.updated += 1,
            DocumentStatus::Unchanged => self.tally.unchanged += 1,
            _ if is_busy(&result) && outgoing.attempts < MOST_ATTEMPTS => {
                outgoing.attempts += 1;
                return Some(outgoing);
            }
            _ if result.error_reason == "EMPTY_DOCUMENT" => {
                self.tally.empty.push(id.clone());
                self.tally.seen.remove(id);
                self.progress.note(&format!("skipped: {id}: it holds no text"));
            }
            _ => {
                let code = code_name(Code::from(result.error_code));
                let reason = format!("{code} {}: {}", result.error_reason, result.error_message);
                self.progress.fail(self.tally, id, &reason);
            }
        }
        self.settled_at = Instant::now();
        self.progress.advance(outgoing.size, self.tally);
        None
    }

    /// The first interrupt stops sending; whether this one ends the run at once.
    fn interrupted(&mut self, waiting: usize) -> bool {
        if self.tally.interrupted {
            self.progress.note(&format!("left {waiting} documents without an answer"));
            return true;
        }
        self.tally.interrupted = true;
        self.progress.note(&format!(
            "interrupted: waiting for the {waiting} documents already sent; interrupt again to leave at once"
        ));
        false
    }

    async fn interrupted_within(&mut self, wait: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(wait) => false,
            _ = self.interrupt.recv() => true,
            _ = self.terminate.recv() => true,
        }
    }
}

/// A file that is being sent.
struct Pieces {
    path: PathBuf,
    file: Option<tokio::fs::File>,
    left: u64,
}

impl Pieces {
    /// The next piece; a file that has become shorter is an error.
    async fn read(&mut self, most: usize) -> std::io::Result<Vec<u8>> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tokio::fs::File::open(&self.path).await?),
        };
        let mut piece = vec![0; usize::try_from(self.left).unwrap_or(usize::MAX).min(most)];
        file.read_exact(&mut piece).await?;
        self.left -= piece.len() as u64;
        Ok(piece)
    }
}

/// Reads the next piece of a file, after which there may be none left.
async fn next_piece(pieces: &mut Option<Pieces>, most: usize) -> std::io::Result<Vec<u8>> {
    let Some(current) = pieces else { return Ok(Vec::new()) };
    let piece = current.read(most).await?;
    if current.left == 0 {
        *pieces = None;
    }
    Ok(piece)
}

/// Waits for room in the stream; none where the stream is closed.
async fn slot(
    sender: Option<mpsc::Sender<IngestDocumentsRequest>>,
) -> Option<OwnedPermit<IngestDocumentsRequest>> {
    sender?.reserve_owned().await.ok()
}

/// What to send next.
enum Next {
    /// What was sent before without an answer.
    Again(Outgoing),
    /// What was read.
    Read(Item),
}

/// Waits for what to send next. Dropping the future loses nothing.
async fn next(
    again: &mut VecDeque<Outgoing>,
    items: &mut mpsc::Receiver<Item>,
    read_all: &mut bool,
) -> Option<Next> {
    if let Some(outgoing) = again.pop_front() {
        return Some(Next::Again(outgoing));
    }
    let item = items.recv().await;
    *read_all = item.is_none();
    item.map(Next::Read)
}

/// Whether the server had no room for a document just now.
fn is_busy(result: &DocumentResult) -> bool {
    result.error_reason == "QUEUE_FULL" || Code::from(result.error_code) == Code::Unavailable
}
