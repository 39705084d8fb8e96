//! The files that sled keeps beside its log.
//!
//! A record of more than about 128 KiB, such as a page with many pieces of text or of a graph, goes to a file of its
//! own, `blobs/NUMBER`; the log says only where. sled fsyncs neither the file nor the directory, so whoever
//! acknowledges a write has to. The number is the record's place in the log. It rises while a database is open, and
//! a flush of the log ends only when the files of all the records that were begun before it are written.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use super::live::{from_io, sync_dir};
use crate::error::Result;

/// The files of an open database.
pub struct Blobs {
    directory: PathBuf,
    /// The greatest number up to which all files are on the disk.
    synced: AtomicI64,
}

impl Blobs {
    /// Those in a database's directory. None counts as synced: a program that was killed may have left them so.
    pub fn of(database: &Path) -> Self {
        Self { directory: database.join("blobs"), synced: AtomicI64::new(-1) }
    }

    /// The greatest number; all files up to it are whole after the next flush of the log.
    pub fn last(&self) -> Result<i64> {
        Ok(self.after(-1)?.into_iter().max().unwrap_or(-1))
    }

    /// Makes durable what is new, and takes all up to `whole` for settled. A later file may belong to a record that
    /// the last flush did not wait for, so it is synced again.
    pub fn sync(&self, whole: i64) -> Result<()> {
        let new = self.after(self.synced.load(Ordering::Relaxed))?;
        for number in &new {
            match File::open(self.directory.join(number.to_string())) {
                Ok(file) => file.sync_data().map_err(from_io)?,
                // sled removes what no record refers to any more.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(from_io(error)),
            }
        }
        if !new.is_empty() {
            sync_dir(&self.directory)?;
        }
        self.synced.fetch_max(whole, Ordering::Relaxed);
        Ok(())
    }

    /// The numbers above one.
    fn after(&self, number: i64) -> Result<Vec<i64>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(from_io)? {
            let name = entry.map_err(from_io)?.file_name();
            let parsed = name.to_str().and_then(|name| name.parse::<i64>().ok());
            found.extend(parsed.filter(|parsed| *parsed > number));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_may_be_unfinished_are_synced_again() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::of(dir.path());
        assert!(blobs.last().is_err(), "without the directory nothing is durable");
        fs::create_dir(dir.path().join("blobs")).unwrap();
        assert_eq!(blobs.last().unwrap(), -1);
        let add = |name: &str| fs::write(dir.path().join("blobs").join(name), "x").unwrap();
        ["7", "12", "notes"].iter().for_each(|name| add(name));
        let whole = blobs.last().unwrap();
        assert_eq!(whole, 12);
        add("30");
        blobs.sync(whole).unwrap();
        add("25");
        let mut left = blobs.after(blobs.synced.load(Ordering::Relaxed)).unwrap();
        left.sort_unstable();
        assert_eq!(left, [25, 30]);
        blobs.sync(blobs.last().unwrap()).unwrap();
        assert!(blobs.after(blobs.synced.load(Ordering::Relaxed)).unwrap().is_empty());
    }
}
