//! The place of a model among others: written beside it, renamed when it is whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::dir::unreadable;
use crate::error::{Error, ErrorKind, Result};

/// Most characters of a name.
const MAX_NAME: usize = 96;

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// There was no model of that name.
    New,
    /// Another one was replaced.
    Replaced,
    /// The same revision was there; nothing was written. A directory that was only copied there is imported where it
    /// is to be replaced.
    Unchanged,
}

/// Checks a model's name, which is a directory's: letters, digits, `.`, `-` and `_`, no leading `.`.
///
/// # Errors
/// `INVALID_MODEL_NAME`.
pub fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.len() > MAX_NAME || name.starts_with('.') || !name.chars().all(allowed) {
        return Err(Error::invalid(
            "INVALID_MODEL_NAME",
            format!(
                "expected a model name of 1 to {MAX_NAME} letters, digits, '.', '-' and '_' that starts with no \
                 '.', got {:?}",
                name.chars().take(120).collect::<String>()
            ),
        ));
    }
    Ok(())
}

/// Names in a models' directory, in order; none where there is no such directory.
///
/// # Errors
/// `MODEL_FILE_MISSING` where the directory cannot be read.
pub fn list_models(models: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(models) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(models, e)),
    };
    let named = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    let mut names: Vec<String> = entries.flatten().filter_map(named).collect();
    names.retain(|name| check_name(name).is_ok() && models.join(name).is_dir());
    names.sort();
    Ok(names)
}

/// Where a model goes. One process at a time writes to a models' directory, so that what another left half-done can be
/// told from one that runs.
pub struct Place {
    models: PathBuf,
    /// Of the model, when it is whole.
    pub target: PathBuf,
    /// Where it is written.
    pub staged: PathBuf,
    old: PathBuf,
    _lock: File,
}

impl Place {
    /// Waits for other imports and mends what one left half-done.
    ///
    /// # Errors
    /// `INVALID_MODEL_NAME`, `MODEL_WRITE_FAILED`.
    pub fn claim(models: &Path, name: &str) -> Result<Self> {
        check_name(name)?;
        fs::create_dir_all(models).map_err(|e| unwritable(models, e))?;
        let hidden = |what: &str| models.join(format!(".{what}-{name}"));
        let this = Self {
            models: models.to_owned(),
            target: models.join(name),
            staged: hidden("import"),
            old: hidden("old"),
            _lock: lock(models)?,
        };
        if this.old.exists() && !this.target.exists() {
            fs::rename(&this.old, &this.target).map_err(|e| unwritable(&this.target, e))?;
        }
        for left in [&this.staged, &this.old] {
            remove(left)?;
        }
        Ok(this)
    }

    /// The error where another model has the name and is to stay.
    pub fn taken(&self) -> Error {
        let name = self.target.file_name().unwrap_or_default().to_string_lossy();
        Error::new(
            ErrorKind::AlreadyExists,
            "MODEL_EXISTS",
            format!("another model of the name {name:?} is there; --replace replaces it"),
        )
    }

    /// Deletes what was written so far.
    ///
    /// # Errors
    /// `MODEL_WRITE_FAILED`.
    pub fn abandon(&self) -> Result<()> {
        remove(&self.staged)
    }

    /// Puts what was written in the place of what is there: a crash at any point leaves the one or the other.
    ///
    /// # Errors
    /// `MODEL_WRITE_FAILED`.
    pub fn publish(&self) -> Result<Imported> {
        let replaced = self.target.exists();
        if replaced {
            fs::rename(&self.target, &self.old).map_err(|e| unwritable(&self.old, e))?;
        }
        fs::rename(&self.staged, &self.target).map_err(|e| unwritable(&self.target, e))?;
        sync_dir(&self.models)?;
        remove(&self.old)?;
        Ok(if replaced { Imported::Replaced } else { Imported::New })
    }
}

/// Held while models are written in a directory.
///
/// # Errors
/// `MODEL_WRITE_FAILED`.
pub fn lock(models: &Path) -> Result<File> {
    let path = models.join(".lock");
    let file = File::create(&path).map_err(|e| unwritable(&path, e))?;
    file.lock().map_err(|e| unwritable(&path, e))?;
    Ok(file)
}

/// Makes names in a directory outlive a power cut.
///
/// # Errors
/// `MODEL_WRITE_FAILED`.
pub fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|e| unwritable(path, e))
}

/// Deletes a directory, if it is there. A link is deleted, not what it leads to.
///
/// # Errors
/// `MODEL_WRITE_FAILED`.
pub fn remove(path: &Path) -> Result<()> {
    let gone = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match gone {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(unwritable(path, e)),
        _ => Ok(()),
    }
}

/// The error for what cannot be written.
pub fn unwritable(path: &Path, error: std::io::Error) -> Error {
    if let Some(known) = Error::of_want(&error) {
        let message = format!("cannot write {}: {}", path.display(), known.message);
        return Error { message, ..known }.with_source(error);
    }
    let message = format!("cannot write {}: {error}", path.display());
    Error::internal("MODEL_WRITE_FAILED", message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_single_directories() {
        assert!(check_name("all-MiniLM_L6.v2").is_ok());
        for bad in ["", ".", "..", ".hidden", "a/b", "a\\b", "../a", "é", &"x".repeat(97)] {
            assert_eq!(check_name(bad).unwrap_err().reason, "INVALID_MODEL_NAME", "{bad}");
        }
    }
}
