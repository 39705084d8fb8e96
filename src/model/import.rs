//! Copies a model into the models' directory, with its graph written, all or nothing.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use prost::bytes::Bytes;

use super::dir::{Folder, Head, LoadedModel, ModelDir, ONNX, is_safetensors, unreadable};
use super::place::{Imported, Place, sync_dir, unwritable};
use super::record::{self, FileRecord, ImportRecord};
use crate::error::{Error, Result};

const COPY_BYTES: usize = 1 << 20;

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
    /// Whether a head that is not used here, such as that of a masked language model, is left out; without it such a
    /// model is refused.
    pub without_head: bool,
}

impl Import<'_> {
    /// Reads the source, writes a copy beside the other models, has it checked, and gives it its name: a crash at
    /// any point leaves the old model or the new one. Weights in safetensors become an ONNX graph.
    ///
    /// # Errors
    /// `INVALID_MODEL_NAME`, `MODEL_EXISTS`, `MODEL_WRITE_FAILED`, and those of [`ModelDir::load`] and of the check.
    pub fn run(&self, check: impl FnOnce(&Path) -> Result<()>) -> Result<(ModelDir, Imported)> {
        super::check_name(self.name)?;
        let head = if self.without_head { Head::LeftOut } else { Head::Refused };
        let LoadedModel { model, graph, .. } = ModelDir::load_with(self.source, head)?;
        let place = Place::claim(self.models, self.name)?;
        if place.target.exists() {
            if let Ok(there) = ModelDir::open(&place.target)
                && there.revision == model.revision
                && (there.imported || !self.replace)
            {
                return Ok((there, Imported::Unchanged));
            }
            if !self.replace {
                return Err(place.taken());
            }
        }
        let made = self.stage(&place.staged, &model, graph.bytes).and_then(|()| check(&place.staged));
        if let Err(error) = made {
            place.abandon()?;
            return Err(error);
        }
        let imported = place.publish()?;
        Ok((ModelDir::open(&place.target)?, imported))
    }

    /// Writes the files, the record last.
    fn stage(&self, staged: &Path, model: &ModelDir, graph: Bytes) -> Result<()> {
        let folder = Folder::open(self.source)?;
        let from_safetensors = is_safetensors(&model.weights);
        let names = folder.contents(&model.weights, false)?.names;
        let mut files = Vec::with_capacity(names.len());
        for name in names.iter().filter(|name| **name != model.weights || !from_safetensors) {
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
