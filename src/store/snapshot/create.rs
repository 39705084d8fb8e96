//! Makes snapshots.

use std::fs;
use std::io::BufWriter;
use std::path::Path;

use super::folder::{SnapshotInfo, SnapshotName};
use super::format::{End, Header, Writer};
use super::{Cancelled, check_cancelled, counted};
use crate::error::{Error, ErrorKind, Result};
use crate::store::collections::read_all;
use crate::store::live::{check_free, from_io, sync_dir};
use crate::store::records::{CollectionRecord, Damaged, DocumentRecord, Inserted};
use crate::store::{Store, View, content, now_ns};
use crate::{fault, private};

/// Documents whose records are read at once.
const PAGE: usize = 256;
/// Bytes after which it is looked whether the disk still has room.
const CHECK_BYTES: u64 = 16 << 20;

impl Store {
    /// Writes a snapshot of the named collections, or of all where none is named, as they are now. Writes go on
    /// meanwhile. Documents that are damaged are left out and counted, and collections whose records are damaged are left
    /// out and named. Blocks for as long as the copy takes.
    ///
    /// # Errors
    /// `SNAPSHOT_EXISTS`, `UNKNOWN_COLLECTION`, `DISK_FULL`, `STORE_READ_ONLY`, or that the caller left; then nothing
    /// stays.
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
            // The call that made it may have failed before its name was on the disk.
            sync_dir(inner.snapshots.path())?;
            let message = format!("there is a snapshot {:?} already", name.as_str());
            let error = Error::new(ErrorKind::AlreadyExists, "SNAPSHOT_EXISTS", message);
            return Err(error.about("snapshot", name.as_str()));
        }
        inner.check_little_room()?;
        let Contents { collections, views, damaged_collections } = self.contents(collections)?;
        let header = Header {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            create_time_ns: now_ns(),
            is_scheduled,
            collections,
            number: inner.snapshots.next_number()?,
            damaged_collections,
        };
        let written = self.write_snapshot(&unfinished, &header, &views, is_cancelled);
        drop(views);
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

    /// What there is now of the named collections, or of all. One whose record is damaged is left out by name: the others
    /// must not be without a snapshot for it.
    fn contents(&self, names: &[String]) -> Result<Contents> {
        let _writer = self.inner.writer.lock();
        // What a snapshot holds is on the disk; what a power cut may take back is not in it.
        self.inner.settled()?;
        let mut contents = Contents::default();
        let mut damage = None;
        for (name, record) in self.named(names)? {
            match record {
                Ok(record) => {
                    contents.views.push(self.inner.view(record.cid)?);
                    contents.collections.push(record);
                }
                Err(error) if error.kind == ErrorKind::DataLoss => {
                    tracing::error!(collection = name, %error, "a damaged collection is left out of the snapshot");
                    contents.damaged_collections.push(name);
                    damage = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match damage {
            Some(error) if contents.collections.is_empty() => Err(error),
            _ => Ok(contents),
        }
    }

    /// The records of the named collections, or of all, each once.
    fn named(&self, names: &[String]) -> Result<Vec<(String, Result<CollectionRecord>)>> {
        if names.is_empty() {
            return read_all(&self.live());
        }
        let mut records: Vec<(String, Result<CollectionRecord>)> = Vec::new();
        for name in names {
            if records.iter().all(|(other, _)| other != name) {
                records.push((name.clone(), self.get_collection(name)));
            }
        }
        Ok(records)
    }

    fn write_snapshot(
        &self,
        path: &Path,
        header: &Header,
        views: &[View],
        is_cancelled: Cancelled<'_>,
    ) -> Result<End> {
        let folder = self.inner.snapshots.path();
        let room = self.inner.options.min_free_bytes / 2;
        let mut options = private::options();
        let file = options.write(true).create(true).truncate(true).open(path).map_err(from_io)?;
        let output = BufWriter::new(file);
        let mut writer = Writer::new(output, header)?;
        let mut checked = 0;
        for ((position, record), view) in (0u32..).zip(&header.collections).zip(views) {
            self.each_document(record.cid, view, |document| {
                check_cancelled(is_cancelled)?;
                fault::point!("snapshot-write");
                match document {
                    Ok(document) => writer.document(position, &document)?,
                    Err(Damaged { id, error }) => {
                        let collection = &record.name;
                        tracing::error!(collection, id, %error, "a damaged document is left out of the snapshot");
                        writer.leave_out();
                    }
                }
                if writer.bytes() >= checked + CHECK_BYTES {
                    checked = writer.bytes();
                    check_free(folder, room)?;
                }
                Ok(())
            })?;
        }
        let (end, output) = writer.finish()?;
        let file = output.into_inner().map_err(|error| from_io(error.into_error()))?;
        file.sync_all().map_err(from_io)?;
        Ok(end)
    }

    /// Gives each document of a view, whole, or what is wrong with it.
    fn each_document(
        &self,
        cid: u32,
        view: &View,
        mut each: impl FnMut(std::result::Result<Inserted, Damaged>) -> Result<()>,
    ) -> Result<()> {
        let mut after = None;
        loop {
            let page = self.view_page(view, after.as_deref(), PAGE)?;
            for document in page.documents {
                each(match document {
                    Ok(record) => self.whole(cid, record)?,
                    Err(damaged) => Err(damaged),
                })?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn whole(&self, cid: u32, record: DocumentRecord) -> Result<std::result::Result<Inserted, Damaged>> {
        match content::read(&self.live(), cid, &record) {
            Ok(document) => Ok(Ok(Inserted { record, document })),
            Err(error) if error.kind == ErrorKind::DataLoss => Ok(Err(Damaged { id: record.id, error })),
            Err(error) => Err(error),
        }
    }
}

/// What goes into a snapshot.
#[derive(Default)]
struct Contents {
    collections: Vec<CollectionRecord>,
    /// One for each of them, all of one moment.
    views: Vec<View>,
    damaged_collections: Vec<String>,
}
