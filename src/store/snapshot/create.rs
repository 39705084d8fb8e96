//! Makes snapshots.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use super::folder::{SnapshotInfo, SnapshotName};
use super::format::{End, Header, Writer};
use super::hold::{Copied, Hold};
use super::{Cancelled, check_cancelled, counted};
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::store::collections::{purge, read_all};
use crate::store::live::{check_free, from_io, sync_dir};
use crate::store::records::CollectionRecord;
use crate::store::{Store, now_ns, read};

/// Bytes after which it is looked whether the disk still has room.
const CHECK_BYTES: u64 = 16 << 20;

/// Lets the writers go on when the snapshot is over, however it ended.
struct HoldGuard<'a> {
    store: &'a Store,
    hold: Arc<Hold>,
}

impl Drop for HoldGuard<'_> {
    fn drop(&mut self) {
        *self.store.inner.hold.write() = None;
        for cid in self.hold.end() {
            let _writer = self.store.inner.writer.lock();
            if let Err(error) = purge(&self.store.live(), cid) {
                tracing::warn!(cid, %error, "what is left of a deleted collection stays until the next start");
            }
        }
    }
}

impl Store {
    /// Writes a snapshot of the named collections, or of all where none is named, as they are now. Writes go on
    /// meanwhile. Documents that are damaged are left out and counted. Blocks for as long as the copy takes.
    ///
    /// # Errors
    /// `SNAPSHOT_EXISTS`, `UNKNOWN_COLLECTION`, `DISK_FULL`, or that the caller left; then nothing stays.
    pub fn create_snapshot(
        &self,
        name: &SnapshotName,
        collections: &[String],
        is_scheduled: bool,
        is_cancelled: Cancelled<'_>,
    ) -> Result<SnapshotInfo> {
        let operation = if is_scheduled { "scheduled" } else { "create" };
        counted(operation, || self.make_snapshot(name, collections, is_scheduled, is_cancelled))
    }

    fn make_snapshot(
        &self,
        name: &SnapshotName,
        collections: &[String],
        is_scheduled: bool,
        is_cancelled: Cancelled<'_>,
    ) -> Result<SnapshotInfo> {
        let inner = &self.inner;
        let _one = inner.snapshotting.lock_until(is_cancelled)?;
        let (file, unfinished) = (inner.snapshots.file(name), inner.snapshots.unfinished(name));
        if file.exists() {
            let message = format!("there is a snapshot {:?} already", name.as_str());
            let error = Error::new(ErrorKind::AlreadyExists, "SNAPSHOT_EXISTS", message);
            return Err(error.about("snapshot", name.as_str()));
        }
        inner.check_little_room()?;
        let (collections, guard) = self.hold(collections)?;
        let header = Header {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            create_time_ns: now_ns(),
            is_scheduled,
            collections,
        };
        let written = self.write_snapshot(&unfinished, &header, &guard.hold, is_cancelled);
        drop(guard);
        let named = written.and_then(|end| {
            fault::point!("snapshot-rename");
            fs::rename(&unfinished, &file).map_err(from_io)?;
            sync_dir(inner.snapshots.path())?;
            Ok(end)
        });
        match named {
            Ok(end) => {
                let size = fs::metadata(&file).map_err(from_io)?.len();
                Ok(SnapshotInfo::new(name, size, &header, end))
            }
            Err(error) => {
                if let Err(error) = fs::remove_file(&unfinished)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::warn!(path = %unfinished.display(), %error, "an unfinished snapshot could not be removed");
                }
                Err(error)
            }
        }
    }

    /// Notes what is there now. From here on, whoever changes a document of it copies it first.
    fn hold(&self, names: &[String]) -> Result<(Vec<CollectionRecord>, HoldGuard<'_>)> {
        let _writer = self.inner.writer.lock();
        let live = self.live();
        let mut records = Vec::new();
        if names.is_empty() {
            // One that cannot be read would be missing in silence: it has to be left out by name.
            records = read_all(&live)?.into_iter().collect::<Result<_>>()?;
        }
        for name in names {
            if !records.iter().any(|record: &CollectionRecord| record.name == *name) {
                records.push(self.get_collection(name)?);
            }
        }
        let mut pending = BTreeMap::new();
        for record in &records {
            pending.insert(record.cid, read::document_numbers(&live, record.cid)?);
        }
        let hold = Arc::new(Hold::new(pending));
        *self.inner.hold.write() = Some(hold.clone());
        Ok((records, HoldGuard { store: self, hold }))
    }

    fn write_snapshot(
        &self,
        path: &Path,
        header: &Header,
        hold: &Hold,
        is_cancelled: Cancelled<'_>,
    ) -> Result<End> {
        let folder = self.inner.snapshots.path();
        let room = self.inner.options.min_free_bytes / 2;
        let output = BufWriter::new(File::create(path).map_err(from_io)?);
        let mut writer = Writer::new(output, header)?;
        let mut checked = 0;
        while let Some(Copied { cid, doc_no, document }) = hold.next(|| self.live()) {
            check_cancelled(is_cancelled)?;
            fault::point!("snapshot-write");
            let position = header.collections.iter().position(|record| record.cid == cid);
            match document {
                Ok(document) => writer.document(position.unwrap_or_default() as u32, &document)?,
                Err(error) if error.kind == ErrorKind::DataLoss => {
                    tracing::error!(cid, doc_no, %error, "a damaged document is left out of the snapshot");
                    writer.leave_out();
                }
                Err(error) => return Err(error),
            }
            if writer.bytes() >= checked + CHECK_BYTES {
                checked = writer.bytes();
                check_free(folder, room)?;
            }
        }
        let (end, output) = writer.finish()?;
        let file = output.into_inner().map_err(|error| from_io(error.into_error()))?;
        file.sync_all().map_err(from_io)?;
        Ok(end)
    }
}
