//! Weights in safetensors, in one file or in several with an index. Headers are read at once, tensors when they are asked
//! for: memory is that of one tensor.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use super::config::{DecoderConfig, unsupported};
use super::tensors::{Source, Tensor, refuse_unknown};
use crate::error::{Error, Result};
use crate::model::dir::{is_inside, unreadable};
use crate::model::gguf::Weights;

/// Weights in one file.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// Says which of several files holds which tensor.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Length of a header; the format's own limit, and bytes of its length.
const MOST_HEADER: u64 = 100_000_000;
const LENGTH_BYTES: u64 = 8;

/// The weights of a directory.
pub(super) struct Safetensors {
    files: Vec<Part>,
    /// File of each tensor.
    places: HashMap<String, usize>,
    has_post_norms: bool,
}

struct Part {
    path: PathBuf,
    file: File,
    header: Metadata,
    data_start: u64,
}

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

impl Safetensors {
    /// Whether a directory has weights of this kind.
    pub fn is_at(dir: &Path) -> bool {
        dir.join(WEIGHTS).is_file() || dir.join(INDEX).is_file()
    }

    /// Reads and checks the headers of a directory's files.
    ///
    /// # Errors
    /// `MODEL_FILE_MISSING`, `DAMAGED_MODEL` for a file that is cut or says something else than the index.
    pub fn open(dir: &Path, config: &DecoderConfig) -> Result<Self> {
        let has_post_norms = config.family.has_post_norms();
        // As `transformers`, which takes the one file where both are there.
        if dir.join(WEIGHTS).is_file() || !dir.join(INDEX).is_file() {
            let part = Part::open(dir.join(WEIGHTS))?;
            let places = part.header.tensors().into_keys().map(|name| (name, 0)).collect();
            return Ok(Self { files: vec![part], places, has_post_norms });
        }
        let path = dir.join(INDEX);
        let bytes = std::fs::read(&path).map_err(|e| unreadable(&path, e))?;
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|e| damaged(format!("cannot parse {}: {e}", path.display())).with_source(e))?;
        let names: BTreeSet<&String> = index.weight_map.values().collect();
        if let Some(name) = names.iter().find(|name| !is_inside(name)) {
            return Err(damaged(format!("{INDEX}: expected files inside the directory, got {name:?}")));
        }
        let files = names.iter().map(|name| Part::open(dir.join(name))).collect::<Result<Vec<_>>>()?;
        let numbers: HashMap<&String, usize> = names.into_iter().zip(0..).collect();
        let mut places = HashMap::with_capacity(index.weight_map.len());
        for (tensor, name) in &index.weight_map {
            let number = numbers.get(name).copied().unwrap_or_default();
            if files.get(number).is_none_or(|part| part.header.info(tensor).is_none()) {
                return Err(damaged(format!("{INDEX}: expected tensor {tensor} in {name}, which has none")));
            }
            places.insert(tensor.clone(), number);
        }
        // A tensor that the index leaves out would be left out of the model.
        for (number, part) in files.iter().enumerate() {
            for name in part.header.tensors().into_keys() {
                places.entry(name).or_insert(number);
            }
        }
        Ok(Self { files, places, has_post_norms })
    }

    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let part = self.places.get(name).and_then(|&number| self.files.get(number));
        let found = part.and_then(|part| Some((part, part.header.info(name)?)));
        let (part, info) = found.ok_or_else(|| damaged(format!("tensor {name} is missing")))?;
        if info.shape != shape {
            return Err(damaged(format!("expected tensor {name} of shape {shape:?}, got {:?}", info.shape)));
        }
        let decode: fn(&[u8]) -> Vec<f32> = match info.dtype {
            Dtype::F32 => |bytes| bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Dtype::F16 => |bytes| {
                bytes.as_chunks::<2>().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect()
            },
            Dtype::BF16 => |bytes| {
                bytes.as_chunks::<2>().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect()
            },
            other => {
                return Err(unsupported(format!(
                    "expected tensor {name} in F32, F16 or BF16, got {other:?}"
                )));
            }
        };
        let (start, end) = info.data_offsets;
        // The header's check has compared this length with that of the file.
        let mut bytes = vec![0; end - start];
        let mut file = &part.file;
        file.seek(SeekFrom::Start(part.data_start + start as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| damaged(format!("cannot read tensor {name} of {}: {e}", part.path.display())))?;
        Ok(decode(&bytes))
    }
}

impl Part {
    fn open(path: PathBuf) -> Result<Self> {
        let mut file = File::open(&path).map_err(|e| unreadable(&path, e))?;
        let length = file.metadata().map_err(|e| unreadable(&path, e))?.len();
        let cut = || damaged(format!("{} is cut off: it has {length} bytes", path.display()));
        let mut size = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut size).map_err(|e| cut().with_source(e))?;
        let size = u64::from_le_bytes(size);
        if size > MOST_HEADER.min(length.saturating_sub(LENGTH_BYTES)) {
            return Err(cut());
        }
        let mut bytes = vec![0; size as usize];
        file.read_exact(&mut bytes).map_err(|e| cut().with_source(e))?;
        let header: Metadata = serde_json::from_slice(&bytes).map_err(|e| {
            damaged(format!("the header of {} cannot be read: {e}", path.display())).with_source(e)
        })?;
        let data_start = LENGTH_BYTES + size;
        let expected = data_start.saturating_add(header.data_len() as u64);
        if expected != length {
            return Err(damaged(format!(
                "expected {expected} bytes in {}, got {length}: fetch it again",
                path.display()
            )));
        }
        Ok(Self { path, file, header, data_start })
    }
}

impl Source for Safetensors {
    fn matrix(&self, tensor: Tensor, rows: usize, columns: usize) -> Result<Weights> {
        self.floats(&tensor.hub_name(self.has_post_norms), &[rows, columns]).map(Weights::Dense)
    }

    fn vector(&self, tensor: Tensor, length: usize) -> Result<Vec<f32>> {
        self.floats(&tensor.hub_name(self.has_post_norms), &[length])
    }

    fn check_names(&self, config: &DecoderConfig) -> Result<()> {
        let known: HashSet<String> =
            Tensor::all(config).into_iter().map(|tensor| tensor.hub_name(self.has_post_norms)).collect();
        refuse_unknown(config, self.places.keys().map(String::as_str), |name| {
            known.contains(name) || name.ends_with(".rotary_emb.inv_freq")
        })
    }
}

fn damaged(message: String) -> Error {
    Error::data_loss("DAMAGED_MODEL", message)
}
