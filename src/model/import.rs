//! Copies a model into the models' directory, with its graph written, all or nothing.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use prost::bytes::Bytes;

use super::dir::{Folder, LoadedModel, ModelDir, ONNX, SAFETENSORS, unreadable};
use super::record::{self, FileRecord, ImportRecord};
use crate::error::{Error, ErrorKind, Result};

/// Most characters of a name.
const MAX_NAME: usize = 96;
const COPY_BYTES: usize = 1 << 20;

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

/// A model to import.
#[derive(Debug, Clone, Copy)]
pub struct Import<'a> {
    /// A directory in the Hugging Face layout.
    pub source: &'a Path,
    /// Where it came from, for people.
    pub label: &'a str,
    /// The models' directory.
    pub models: &'a Path,
    /// Name to give it.
    pub name: &'a str,
    /// Whether another model of that name is replaced.
    pub replace: bool,
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

impl Import<'_> {
    /// Reads the source, writes a copy beside the other models, has it checked, and gives it its name: a crash at
    /// any point leaves the old model or the new one. Weights in safetensors become an ONNX graph.
    ///
    /// # Errors
    /// `INVALID_MODEL_NAME`, `MODEL_EXISTS`, `MODEL_WRITE_FAILED`, and those of [`ModelDir::load`] and of the check.
    pub fn run(&self, check: impl FnOnce(&Path) -> Result<()>) -> Result<(ModelDir, Imported)> {
        check_name(self.name)?;
        let LoadedModel { model, graph, .. } = ModelDir::load(self.source)?;
        let target = self.models.join(self.name);
        fs::create_dir_all(self.models).map_err(|e| unwritable(self.models, e))?;
        let _lock = self.lock()?;
        let (staged, old) = (self.hidden("import"), self.hidden("old"));
        if old.exists() && !target.exists() {
            fs::rename(&old, &target).map_err(|e| unwritable(&target, e))?;
        }
        for left in [&staged, &old] {
            remove(left)?;
        }
        if target.exists() {
            if let Ok(there) = ModelDir::open(&target)
                && there.revision == model.revision
                && (there.imported || !self.replace)
            {
                return Ok((there, Imported::Unchanged));
            }
            if !self.replace {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    "MODEL_EXISTS",
                    format!("another model of the name {:?} is there; --replace replaces it", self.name),
                ));
            }
        }
        let made = self.stage(&staged, &model, graph.bytes).and_then(|()| check(&staged));
        if let Err(error) = made {
            remove(&staged)?;
            return Err(error);
        }
        let replaced = target.exists();
        if replaced {
            fs::rename(&target, &old).map_err(|e| unwritable(&old, e))?;
        }
        fs::rename(&staged, &target).map_err(|e| unwritable(&target, e))?;
        sync_dir(self.models)?;
        remove(&old)?;
        let model = ModelDir::open(&target)?;
        Ok((model, if replaced { Imported::Replaced } else { Imported::New }))
    }

    /// Writes the files, the record last.
    fn stage(&self, staged: &Path, model: &ModelDir, graph: Bytes) -> Result<()> {
        let folder = Folder::open(self.source)?;
        let from_safetensors = model.weights == SAFETENSORS;
        let names = folder.contents(&model.weights, false)?.names;
        let mut files = Vec::with_capacity(names.len());
        for name in names.iter().filter(|name| *name != SAFETENSORS || !from_safetensors) {
            let from = self.source.join(name);
            let source = File::open(&from).map_err(|e| unreadable(&from, e))?;
            files.push(write(staged, name, source)?);
        }
        let mut weights = model.weights.as_str();
        if from_safetensors {
            weights = ONNX[0];
            files.push(write(staged, weights, graph.as_ref())?);
        }
        let record = ImportRecord::new(self.label, &model.revision, weights, files);
        let json = serde_json::to_vec_pretty(&record)
            .map_err(|e| Error::internal("MODEL_WRITE_FAILED", e.to_string()))?;
        write(staged, record::FILE, json.as_slice())?;
        sync_dir(staged)
    }

    fn hidden(&self, what: &str) -> PathBuf {
        self.models.join(format!(".{what}-{}", self.name))
    }

    /// Held while models are written, so that what another import left half-done can be told from one that runs.
    fn lock(&self) -> Result<File> {
        let path = self.models.join(".lock");
        let file = File::create(&path).map_err(|e| unwritable(&path, e))?;
        file.lock().map_err(|e| unwritable(&path, e))?;
        Ok(file)
    }
}

fn write(folder: &Path, name: &str, mut from: impl Read) -> Result<FileRecord> {
    let path = folder.join(name);
    let failed = |e| unwritable(&path, e);
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(failed)?;
    let mut file = File::create(&path).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; COPY_BYTES];
    let mut bytes = 0;
    loop {
        let count = from.read(&mut buffer).map_err(failed)?;
        let part = buffer.get(..count).unwrap_or_default();
        if part.is_empty() {
            break;
        }
        hasher.update(part);
        file.write_all(part).map_err(failed)?;
        bytes += count as u64;
    }
    file.sync_all().map_err(failed)?;
    sync_dir(parent)?;
    Ok(FileRecord { name: name.to_owned(), bytes, blake3: hasher.finalize().to_hex().to_string() })
}

fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|e| unwritable(path, e))
}

/// Deletes a directory, if it is there. A link is deleted, not what it leads to.
fn remove(path: &Path) -> Result<()> {
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

fn unwritable(path: &Path, error: std::io::Error) -> Error {
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
