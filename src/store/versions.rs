//! Versions of documents that are kept for views: what a document was before a change. The change and the note of what it
//! was are in one batch. The rows of a version (text, passages, vectors) never change, so while its note is there they
//! stay as they are; they go with the note.
//!
//! A note stands under the document's id and the number of the latest view's moment. For a view the first note of its
//! moment or a later one tells what a document was; where there is none, the document is as it was. One note for each id
//! and number is enough: what came after it is of no moment that anybody reads.

use super::live::Live;
use super::readers::Readers;
use super::records::DocumentRecord;
use super::{Inner, codec, commit, keys};
use crate::error::Result;

/// Documents whose rows are deleted before others may write.
const BATCH: usize = 32;

/// What became of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is described anew; its rows are those of the version that is there.
    Described,
    /// It was removed or replaced; its rows go with the note.
    Removed,
    /// It was removed, and its record could not be read before.
    Lost,
}

/// What a document was.
pub struct Version {
    pub record: DocumentRecord,
    pub change: Change,
}

/// Adds to the batch of a change what the document was before, where somebody reads the collection as it was. Whether the
/// document's rows must stay.
pub fn keep(
    live: &Live,
    readers: &Readers,
    batch: &mut sled::Batch,
    cid: u32,
    old: &DocumentRecord,
    change: Change,
) -> Result<bool> {
    let Some(moment) = readers.keeps(cid) else { return Ok(false) };
    let key = keys::version(cid, &old.id, moment);
    let Some(noted) = live.get(&key)? else {
        batch.insert(key.as_slice(), pack(&key, change, old));
        return Ok(change != Change::Lost);
    };
    // If the note cannot be read, what it stands for cannot be told from what is there.
    let Ok(noted) = unpack(&key, &noted) else { return Ok(true) };
    let is_same = noted.record.doc_no == old.doc_no && noted.change != Change::Lost;
    if is_same && change == Change::Removed {
        batch.insert(key.as_slice(), pack(&key, Change::Removed, &noted.record));
    }
    Ok(is_same)
}

/// Deletes the notes of before a moment, and the rows of what was removed. Lets others write in between.
pub fn drop_before(inner: &Inner, cid: u32, moment: u64, is_stopping: impl Fn() -> bool) -> Result<()> {
    let prefix = keys::versions(cid);
    let mut start = prefix.clone();
    loop {
        let writer = inner.writer.lock();
        let live = inner.live.load_full();
        let mut batch = sled::Batch::default();
        let mut dropped = 0;
        let mut next = None;
        for item in live.from(&start) {
            let (key, value) = item?;
            if !key.starts_with(&prefix) {
                break;
            }
            if dropped == BATCH {
                next = Some(key);
                break;
            }
            if keys::moment_of(&key) >= moment {
                continue;
            }
            drop_one(&mut batch, cid, &key, &value);
            dropped += 1;
        }
        live.apply(batch)?;
        writer.unlock_fair();
        match next.filter(|_| !is_stopping()) {
            Some(next) => start = next,
            None => return Ok(()),
        }
    }
}

/// Deletes what was kept for the readers of a program that has ended.
pub fn drop_all(live: &Live) -> Result<()> {
    let mut is_any = false;
    for item in live.prefix(&[keys::VERSION]) {
        let (key, value) = item?;
        let mut batch = sled::Batch::default();
        drop_one(&mut batch, keys::cid_of(&key).unwrap_or_default(), &key, &value);
        live.apply(batch)?;
        is_any = true;
    }
    if is_any { live.sync() } else { Ok(()) }
}

fn drop_one(batch: &mut sled::Batch, cid: u32, key: &[u8], value: &[u8]) {
    match unpack(key, value) {
        Ok(Version { record, change: Change::Removed }) => commit::remove_rows(batch, cid, &record),
        Ok(_) => {}
        Err(error) => {
            tracing::error!(cid, %error, "rows of a document that was removed stay with the collection");
        }
    }
    batch.remove(key);
}

fn pack(key: &[u8], change: Change, record: &DocumentRecord) -> Vec<u8> {
    let mut value = vec![match change {
        Change::Described => b'd',
        Change::Removed => b'r',
        Change::Lost => b'l',
    }];
    value.extend_from_slice(&codec::encode_document(record));
    codec::seal(key, value)
}

/// The version that a note tells of.
pub fn unpack(key: &[u8], value: &[u8]) -> Result<Version> {
    let read = |value: &[u8]| {
        let (kind, record) = value.split_first()?;
        let change = match kind {
            b'd' => Change::Described,
            b'r' => Change::Removed,
            b'l' => Change::Lost,
            _ => return None,
        };
        Some(Version { record: codec::decode_document(record)?, change })
    };
    read(codec::unseal(key, value)?).ok_or_else(|| codec::damaged(key, "it does not decode"))
}
