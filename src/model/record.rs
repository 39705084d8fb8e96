//! The record that an import leaves: which files there are and what their source was.

use serde::{Deserialize, Serialize};

use super::dir::{is_inside, unsupported};
use crate::error::{Error, Result};

/// Its name.
pub(super) const FILE: &str = "trove.json";
/// The only form so far.
const FORMAT: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ImportRecord {
    format: u32,
    /// Where it came from, for people.
    pub source: String,
    /// Revision of the source, which is the model's: the import changes nothing that it computes.
    pub revision: String,
    /// File that the weights come from.
    pub weights: String,
    pub files: Vec<FileRecord>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FileRecord {
    pub name: String,
    pub bytes: u64,
    pub blake3: String,
}

impl ImportRecord {
    pub fn new(source: &str, revision: &str, weights: &str, files: Vec<FileRecord>) -> Self {
        Self {
            format: FORMAT,
            source: source.to_owned(),
            revision: revision.to_owned(),
            weights: weights.to_owned(),
            files,
        }
    }

    /// Refuses a record of a later form, and names that lead out of the directory.
    pub fn check(&self) -> Result<()> {
        if self.format != FORMAT {
            return Err(unsupported(format!("{FILE}: expected format {FORMAT}, got {}", self.format)));
        }
        if let Some(file) = self.files.iter().find(|f| !is_inside(&f.name)) {
            return Err(damaged(format!("{FILE}: expected names inside the directory, got {:?}", file.name)));
        }
        if self.file(&self.weights).is_none() {
            return Err(damaged(format!(
                "{FILE}: expected the weights among the files, got {:?}",
                self.weights
            )));
        }
        Ok(())
    }

    pub fn file(&self, name: &str) -> Option<&FileRecord> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Refuses a file that is not the one that was imported.
    pub fn verify(&self, name: &str, bytes: u64, hash: &blake3::Hash) -> Result<()> {
        let Some(file) = self.file(name) else {
            return Err(damaged(format!("{name} was not there at the import; import the model again")));
        };
        if file.bytes != bytes || file.blake3 != hash.to_hex().as_str() {
            return Err(damaged(format!(
                "{name} is not what was imported: expected {} bytes of hash {}, got {bytes} of hash {}; import \
                 the model again",
                file.bytes,
                file.blake3,
                hash.to_hex()
            )));
        }
        Ok(())
    }
}

fn damaged(message: String) -> Error {
    Error::data_loss("DAMAGED_MODEL", message)
}
