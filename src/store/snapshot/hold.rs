//! What keeps a snapshot at one moment while writes go on.
//!
//! A snapshot notes the numbers of the documents that are there when it begins, and then copies one after the
//! other. A document's parts never change; they only go when it is replaced or deleted. So it is enough that
//! whoever is about to change or remove a document that has not been copied copies it first. The copies wait
//! here for the snapshot to write them; if too much waits, the writer waits too.

use std::collections::{BTreeMap, VecDeque};

use roaring::RoaringBitmap;

use crate::error::{Error, ErrorKind, Result};
use crate::lock::{COPIES, Condvar, Mutex, WRITER};
use crate::store::live::Live;
use crate::store::records::{DocumentRecord, Inserted};
use crate::store::{codec, content, keys};

/// Bytes of copies that may wait before writers wait too.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// The documents that a snapshot still has to copy.
pub struct Hold {
    state: Mutex<State, COPIES>,
    room: Condvar,
}

struct State {
    /// Numbers of the documents that nobody has copied, by collection.
    pending: BTreeMap<u32, RoaringBitmap>,
    /// Copies made by writers.
    waiting: VecDeque<Copied>,
    waiting_bytes: usize,
    /// Collections that were deleted meanwhile; their rows go when the snapshot is over.
    deleted: Vec<u32>,
    is_over: bool,
}

/// A document as it was when the snapshot began, or why it cannot be read.
pub struct Copied {
    pub cid: u32,
    pub doc_no: u32,
    pub document: Result<Inserted>,
}

impl Hold {
    pub fn new(pending: BTreeMap<u32, RoaringBitmap>) -> Self {
        let state = State {
            pending,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            deleted: Vec::new(),
            is_over: false,
        };
        Self { state: Mutex::new(state), room: Condvar::new() }
    }

    /// Called before a document is changed or removed. May wait for the snapshot to write what others copied.
    pub fn before_change(&self, live: &Live, cid: u32, doc_no: u32) {
        let mut state = self.state.lock();
        if !state.takes(cid, doc_no) {
            return;
        }
        let copied = copy(live, cid, doc_no);
        state.waiting_bytes += copied.bytes();
        state.waiting.push_back(copied);
        while state.waiting_bytes > MAX_WAITING_BYTES && !state.is_over {
            // Under the writer's lock: the snapshot writes without it.
            self.room.wait_with(&mut state, WRITER);
        }
    }

    /// Called when a collection's record is gone: whether its rows have to stay for now.
    pub fn keeps(&self, cid: u32) -> bool {
        let mut state = self.state.lock();
        let keeps = !state.is_over && state.pending.contains_key(&cid);
        if keeps {
            state.deleted.push(cid);
        }
        keeps
    }

    /// The next document to write; `None` after the last. `live` is asked for while nobody can change what is
    /// read from it.
    pub fn next(&self, live: impl FnOnce() -> std::sync::Arc<Live>) -> Option<Copied> {
        let mut state = self.state.lock();
        if let Some(copied) = state.waiting.pop_front() {
            state.waiting_bytes = state.waiting_bytes.saturating_sub(copied.bytes());
            self.room.notify_all();
            return Some(copied);
        }
        let (cid, doc_no) = state.pending.iter().find_map(|(cid, numbers)| Some((*cid, numbers.min()?)))?;
        state.takes(cid, doc_no);
        Some(copy(&live(), cid, doc_no))
    }

    /// Lets go of everything; gives the collections whose rows have waited for it.
    pub fn end(&self) -> Vec<u32> {
        let mut state = self.state.lock();
        state.is_over = true;
        state.pending.clear();
        state.waiting.clear();
        self.room.notify_all();
        std::mem::take(&mut state.deleted)
    }
}

impl State {
    /// Takes a document off the list; whether it was on it.
    fn takes(&mut self, cid: u32, doc_no: u32) -> bool {
        !self.is_over && self.pending.get_mut(&cid).is_some_and(|numbers| numbers.remove(doc_no))
    }
}

impl Copied {
    /// About the bytes that it takes.
    fn bytes(&self) -> usize {
        let Ok(Inserted { document, .. }) = &self.document else { return 0 };
        let vectors = |p: &crate::store::NewPassage| {
            p.vector.len() + p.sentence_vectors.iter().map(Vec::len).sum::<usize>() + 64
        };
        document.text.len() + 4 * document.passages.iter().map(vectors).sum::<usize>()
    }
}

fn copy(live: &Live, cid: u32, doc_no: u32) -> Copied {
    let document = record(live, cid, doc_no)
        .and_then(|record| Ok(Inserted { document: content::read(live, cid, &record)?, record }));
    Copied { cid, doc_no, document }
}

fn record(live: &Live, cid: u32, doc_no: u32) -> Result<DocumentRecord> {
    let key = keys::number(cid, doc_no);
    let id = live.get(&key)?.ok_or_else(|| codec::damaged(&key, "it is missing"))?;
    let id = String::from_utf8(codec::unseal(&key, &id)?.to_vec())
        .map_err(|_| codec::damaged(&key, "it is not UTF-8"))?;
    let key = keys::document(cid, &id);
    let value = live.get(&key)?.ok_or_else(|| codec::damaged(&key, "it is missing"))?;
    let record = codec::unpack_document(&key, &value)?;
    if record.doc_no != doc_no {
        return Err(Error::new(
            ErrorKind::DataLoss,
            codec::CORRUPT_RECORD,
            format!(
                "the number {doc_no} in the store is damaged: its document has the number {}",
                record.doc_no
            ),
        ));
    }
    Ok(record)
}
