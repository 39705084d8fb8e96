//! Checksums of what was written into a generator's directory, so that damage is found when it is loaded and not by
//! what it makes of the answers.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::dir::{is_inside, unreadable};
use crate::model::place::unwritable;
use crate::model::record::FileRecord;

/// Its name.
pub(super) const FILE: &str = "checksums.json";
/// The only form so far.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Checksums {
    format: u32,
    files: Vec<FileRecord>,
}

impl Checksums {
    /// Those of files in a directory, by their names in it; what is not there is left out.
    ///
    /// # Errors
    /// `MODEL_FILE_MISSING` where one cannot be read.
    pub fn of(dir: &Path, names: &[String]) -> Result<Self> {
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            let path = dir.join(name);
            if !path.is_file() {
                continue;
            }
            let mut hasher = blake3::Hasher::new();
            let failed = |e| unreadable(&path, e);
            hasher.update_reader(File::open(&path).map_err(failed)?).map_err(failed)?;
            let (bytes, blake3) = (hasher.count(), hasher.finalize().to_hex().to_string());
            files.push(FileRecord { name: name.clone(), bytes, blake3 });
        }
        Ok(Self { format: FORMAT, files })
    }

    /// Writes them into a directory, and waits until they are on the disk.
    ///
    /// # Errors
    /// `MODEL_WRITE_FAILED`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        let json = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::internal("MODEL_WRITE_FAILED", format!("cannot write {FILE}: {e}")))?;
        let write = |mut file: File| file.write_all(&json).and_then(|()| file.sync_all());
        File::create(&path).and_then(write).map_err(|e| unwritable(&path, e))
    }

    /// Refuses those of a later form, and names that lead out of the directory.
    ///
    /// # Errors
    /// `DAMAGED_MODEL`.
    pub fn check(&self) -> Result<()> {
        let is_fine = self.format == FORMAT && self.files.iter().all(|file| is_inside(&file.name));
        let message = || format!("{FILE}: expected format {FORMAT} with names inside the directory");
        if is_fine { Ok(()) } else { Err(Error::data_loss("DAMAGED_MODEL", message())) }
    }

    /// Refuses a file of the directory that is not what was written. Files that are not among them may be anything.
    ///
    /// # Errors
    /// `DAMAGED_MODEL`.
    pub fn verify(&self, name: &str, hasher: &blake3::Hasher) -> Result<()> {
        let Some(file) = self.files.iter().find(|file| file.name == name) else { return Ok(()) };
        if file.bytes == hasher.count() && file.blake3 == hasher.finalize().to_hex().as_str() {
            return Ok(());
        }
        Err(damaged(name, "is not what its import wrote"))
    }

    /// Refuses a directory that lacks a file.
    ///
    /// # Errors
    /// `DAMAGED_MODEL`.
    pub fn all_among(&self, seen: &HashSet<String>) -> Result<()> {
        match self.files.iter().find(|file| !seen.contains(&file.name)) {
            Some(file) => Err(damaged(&file.name, "is gone, which its import wrote")),
            None => Ok(()),
        }
    }
}

fn damaged(name: &str, what: &str) -> Error {
    let message =
        format!("{name} {what}: import the model again, or delete {FILE} where it was changed on purpose");
    Error::data_loss("DAMAGED_MODEL", message)
}
