//! Notes of documents whose titles or named languages changed while their numbers stayed, for what is derived from titles and goes by
//! numbers otherwise. Written with the change, and kept until they are said to be settled.

use super::codec::{self, Number};
use super::{Store, keys};
use crate::error::{ErrorKind, Result};

/// A document that has another title since a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retitled {
    /// Number of the document.
    pub doc_no: u32,
    /// When its record was changed, in nanoseconds since 1970.
    pub update_time_ns: i64,
}

impl Store {
    /// Documents with a new title that is not settled.
    pub fn retitled(&self, cid: u32) -> Result<Vec<Retitled>> {
        let read = |item: Result<(Vec<u8>, Vec<u8>)>| {
            let (key, value) = item?;
            let doc_no = keys::last_u32(&key).ok_or_else(|| codec::damaged(&key, "its key is too short"))?;
            // A note that is damaged still tells whose title it is.
            let time = match codec::unpack::<Number>(&key, &value) {
                Err(error) if error.kind == ErrorKind::DataLoss => 0,
                time => time?.value,
            };
            Ok(Retitled { doc_no, update_time_ns: time as i64 })
        };
        self.live().prefix(&keys::retitled_all(cid)).map(read).collect()
    }

    /// Drops the notes of titles that are taken over, unless they changed again meanwhile. Need not be on disk
    /// afterwards: what is taken over twice does no harm.
    pub fn settle_retitled(&self, cid: u32, settled: &[Retitled]) -> Result<()> {
        if settled.is_empty() {
            return Ok(());
        }
        let _writer = self.inner.writer.lock();
        let noted = self.retitled(cid)?;
        let mut batch = sled::Batch::default();
        for note in settled.iter().filter(|note| noted.contains(note)) {
            batch.remove(keys::retitled(cid, note.doc_no));
        }
        self.live().apply(batch)
    }
}
