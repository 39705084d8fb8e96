//! Index data: sealed segments in chunks, and a small manifest for each level.

use std::ops::Range;

use super::codec::{self, SegmentHead};
use super::live::{Live, check_free};
use super::{Store, keys, unknown_collection};
use crate::domain::Level;
use crate::error::{Error, Result};
use crate::fault;

/// Segments are cut into chunks of this many bytes; a manifest fits into one.
const CHUNK: usize = 60 << 10;
/// Chunks written or removed in one batch.
const BATCH: usize = 64;
/// The chunk number of a segment's head, which is written last.
const HEAD: u32 = u32::MAX;

impl Store {
    /// Writes a segment and returns its BLAKE3. It counts only once a manifest names it. Other writes go on between
    /// its batches; its head is written last, so that a part of a segment is none.
    ///
    /// # Errors
    /// `DISK_FULL`, `UNKNOWN_COLLECTION` where the collection was deleted, and whatever the disk gives.
    pub fn write_segment(&self, cid: u32, level: Level, id: u64, bytes: &[u8]) -> Result<[u8; 32]> {
        let hash = *blake3::hash(bytes).as_bytes();
        let room = self.inner.options.min_free_bytes.saturating_add(bytes.len() as u64);
        check_free(&self.inner.dir, room)?;
        self.purge_in_turns(&keys::segment(cid, level, id))?;
        self.write_chunks(cid, level, id, bytes, hash).inspect_err(|_| {
            if let Err(error) = self.delete_segment(cid, level, id) {
                tracing::warn!(cid, ?level, id, %error, "a part of a segment stays until the next start");
            }
        })?;
        Ok(hash)
    }

    fn write_chunks(&self, cid: u32, level: Level, id: u64, bytes: &[u8], hash: [u8; 32]) -> Result<()> {
        let mut chunks = (0u32..).zip(bytes.chunks(CHUNK)).peekable();
        while chunks.peek().is_some() {
            let mut batch = sled::Batch::default();
            for (chunk, part) in chunks.by_ref().take(BATCH) {
                let key = keys::segment_chunk(cid, level, id, chunk);
                let value = codec::seal(&key, part.to_vec());
                batch.insert(key, value);
            }
            self.take_turn(cid, |live| live.apply(batch))?;
            fault::point!("segment-write");
        }
        let key = keys::segment_chunk(cid, level, id, HEAD);
        let head = SegmentHead { bytes: bytes.len() as u64, blake3: hash.to_vec() };
        self.take_turn(cid, |live| {
            live.put(&key, codec::pack(&key, &head))?;
            live.sync()
        })
    }

    /// Writes something of a collection, and then lets others write who wait. Between two turns the database may have
    /// become another one, and the collection may have gone.
    fn take_turn(&self, cid: u32, write: impl FnOnce(&Live) -> Result<()>) -> Result<()> {
        let writer = self.inner.writer.lock();
        self.inner.check_room()?;
        let live = self.live();
        if live.get(&keys::counters(cid))?.is_none() {
            return Err(unknown_collection(format!("number {cid}")));
        }
        write(&live)?;
        writer.unlock_fair();
        Ok(())
    }

    /// Removes all keys with a prefix, and lets others write in between.
    fn purge_in_turns(&self, prefix: &[u8]) -> Result<()> {
        if self.live().prefix(prefix).next().transpose()?.is_none() {
            return Ok(());
        }
        loop {
            let writer = self.inner.writer.lock();
            self.inner.check_little_room()?;
            let live = self.live();
            if !live.purge_some(prefix, BATCH)? {
                return live.sync();
            }
            writer.unlock_fair();
        }
    }

    /// A segment, checked against its BLAKE3.
    pub fn read_segment(&self, cid: u32, level: Level, id: u64) -> Result<Vec<u8>> {
        let live = self.live();
        let key = keys::segment_chunk(cid, level, id, HEAD);
        let unknown = || Error::not_found("UNKNOWN_SEGMENT", format!("there is no index segment {id}"));
        let head: SegmentHead = codec::unpack(&key, &live.get(&key)?.ok_or_else(unknown)?)?;
        let mut bytes = Vec::new();
        for chunk in 0..head.bytes.div_ceil(CHUNK as u64) as u32 {
            let key = keys::segment_chunk(cid, level, id, chunk);
            let value = live.get(&key)?.ok_or_else(|| codec::damaged(&key, "it is missing"))?;
            bytes.extend_from_slice(codec::unseal(&key, &value)?);
        }
        if bytes.len() as u64 != head.bytes || blake3::hash(&bytes).as_bytes().as_slice() != head.blake3 {
            return Err(codec::damaged(&key, "the segment does not match its hash"));
        }
        Ok(bytes)
    }

    /// Deletes a segment; nothing happens where there is none. Other writes go on meanwhile.
    pub fn delete_segment(&self, cid: u32, level: Level, id: u64) -> Result<()> {
        self.purge_in_turns(&keys::segment(cid, level, id))
    }

    /// Removes all tombstones of a level, whatever is in them: where no segment holds any of its points.
    pub fn forget_tombstones(&self, cid: u32, level: Level) -> Result<()> {
        self.purge_in_turns(&keys::tombstones(cid, level))
    }

    /// Numbers of the segments that are stored, whole or in part.
    pub fn segments(&self, cid: u32, level: Level) -> Result<Vec<u64>> {
        let live = self.live();
        let prefix = keys::segments(cid, level);
        let mut found = Vec::new();
        let mut start = prefix.clone();
        while let Some((key, _)) = live.from(&start).next().transpose()? {
            let Some(id) = key.strip_prefix(prefix.as_slice()).and_then(|rest| rest.first_chunk::<8>())
            else {
                break;
            };
            let id = u64::from_be_bytes(*id);
            found.push(id);
            let Some(next) = id.checked_add(1) else { break };
            start = keys::segment(cid, level, next);
        }
        Ok(found)
    }

    /// A level's manifest.
    pub fn manifest(&self, cid: u32, level: Level) -> Result<Option<Vec<u8>>> {
        let key = keys::manifest(cid, level);
        let Some(value) = self.live().get(&key)? else { return Ok(None) };
        Ok(Some(codec::unseal(&key, &value)?.to_vec()))
    }

    /// Replaces a level's manifest and removes the tombstones it no longer needs, in one atomic batch.
    pub fn put_manifest(
        &self,
        cid: u32,
        level: Level,
        bytes: &[u8],
        remove_tombstones: &[Range<u64>],
    ) -> Result<()> {
        if bytes.len() > CHUNK {
            let message = format!("expected a manifest of at most {CHUNK} bytes, got {}", bytes.len());
            return Err(Error::internal("MANIFEST_TOO_LARGE", message));
        }
        let _writer = self.inner.writer.lock();
        self.inner.check_little_room()?;
        let live = self.live();
        if live.get(&keys::counters(cid))?.is_none() {
            return Err(unknown_collection(format!("number {cid}")));
        }
        let mut batch = sled::Batch::default();
        let key = keys::manifest(cid, level);
        let value = codec::seal(&key, bytes.to_vec());
        batch.insert(key, value);
        remove_tombstones.iter().for_each(|range| batch.remove(keys::tombstone(cid, level, range.start)));
        live.apply(batch)?;
        live.sync()
    }
}
