//! A model directory in the Hugging Face layout, with sentence-transformers' extra files.
//!
//! The graph comes from the first of these that is there: `model.safetensors`, where the family is one that
//! [`build_graph`](super::build_graph) writes (its fused graph is the fastest, and the same numbers);
//! `onnx/model.onnx`; `model.onnx`. An imported directory has the graph that was written at its import.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use prost::bytes::Bytes;
use serde::de::DeserializeOwned;

use super::adapter::Adapter;
use super::bert::{self, Architecture};
use super::config::{Config, ModelKind};
use super::graph::GraphFile;
use super::modules::{self, Layout, Modules, Pooling};
use super::projection::{self, Projection};
use super::record::{self, ImportRecord};
use super::session::EncoderGraph;
use crate::error::{Error, Result};

pub(super) const CONFIG: &str = "config.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const SAFETENSORS: &str = "model.safetensors";
/// Ready-made graphs, in the order in which they are looked for.
pub(super) const ONNX: [&str; 2] = ["onnx/model.onnx", "model.onnx"];

/// What a model directory says about its model.
#[derive(Debug, Clone)]
pub struct ModelDir {
    /// Where it is.
    pub path: PathBuf,
    /// Last part of its path.
    pub id: String,
    /// BLAKE3 of the files that decide what the model computes.
    pub revision: String,
    /// The family's name in config.json, such as `bert`; may be empty.
    pub family: String,
    /// What it gives.
    pub kind: ModelKind,
    /// File that the weights come from, relative to the directory.
    pub weights: String,
    /// Whether `trove models import` wrote the directory.
    pub imported: bool,
    /// How the model was trained to pool.
    pub pooling: Pooling,
    /// Whether a prompt's tokens are pooled with the text's.
    pub include_prompt: bool,
    /// Whether its vectors are scaled to unit length.
    pub normalize: bool,
    /// Most tokens of one input, special ones included.
    pub max_tokens: usize,
    /// Texts put before an input, by name.
    pub prompts: BTreeMap<String, String>,
    /// Name of the prompt that is used where none is asked for.
    pub default_prompt: Option<String>,
    /// Id that fills up short rows, where config.json tells.
    pub padding: Option<u32>,
    /// Whether texts are put into lower case before they are tokenized.
    pub lower_case: bool,
    width: usize,
    dimensions: usize,
    has_dense: bool,
    vocabulary: Option<usize>,
}

/// A model directory with what an encoder or cross-encoder is made of, each file read once.
pub struct LoadedModel {
    /// What the directory says.
    pub model: ModelDir,
    /// The graph with its weights.
    pub graph: EncoderGraph,
    /// Contents of tokenizer.json.
    pub tokenizer: Bytes,
    /// What becomes of its pooled vectors.
    pub projection: Projection,
}

/// What becomes of a head in config.json that is not used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// The model is refused.
    Refused,
    /// The states below it are taken.
    LeftOut,
}

impl ModelDir {
    /// Reads and checks a model directory's configuration and hashes its files.
    ///
    /// # Errors
    /// `MODEL_NOT_FOUND`, `MODEL_FILE_MISSING`, `DAMAGED_MODEL` or `UNSUPPORTED_MODEL`.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self::read(&Folder::open(path)?, false, Head::Refused)?.0)
    }

    /// The same, with the graph and the tokenizer.
    ///
    /// # Errors
    /// Those of [`ModelDir::open`].
    pub fn load(path: &Path) -> Result<LoadedModel> {
        Self::load_with(path, Head::Refused)
    }

    pub(super) fn load_with(path: &Path, head: Head) -> Result<LoadedModel> {
        let folder = Folder::open(path)?;
        let (model, mut kept, config) = Self::read(&folder, true, head)?;
        let projection = Projection::read(&folder, &kept, model.width, model.dimensions)?;
        let tokenizer = folder.layout.of_transformer(TOKENIZER);
        let tokenizer = kept.remove(&tokenizer).ok_or_else(|| folder.missing(&tokenizer))?;
        let weights = kept.remove(&model.weights).ok_or_else(|| folder.missing(&model.weights))?;
        let graph = if is_safetensors(&model.weights) {
            let (bytes, table) = bert::build(&Architecture::read(&config)?, &weights, None)?;
            let kind = model.kind;
            EncoderGraph { bytes: bytes.into(), file: None, fused: true, kind, width: model.width, table }
        } else {
            let file = folder.path.join(&model.weights);
            let parent = file.parent().unwrap_or(&folder.path);
            let parsed = GraphFile::parse(weights.clone(), &model.weights)?;
            let table = parsed.static_table(parent, model.width);
            let fused = parsed.producer == bert::PRODUCER;
            let external = !parsed.external_files()?.is_empty();
            let file = external.then_some(file);
            EncoderGraph { bytes: weights, file, fused, kind: model.kind, width: model.width, table }
        };
        Ok(LoadedModel { model, graph, tokenizer, projection })
    }

    /// The same of a model in safetensors with an adapter that makes `width` values of each token of two texts.
    ///
    /// # Errors
    /// Those of [`ModelDir::load`]; `UNSUPPORTED_MODEL` for a ready-made graph; `WRONG_BASE` where the adapter was trained
    /// on other weights.
    pub fn load_adapted(path: &Path, adapter: &[u8], width: usize) -> Result<LoadedModel> {
        let folder = Folder::open(path)?;
        let (model, mut kept, config) = Self::read(&folder, true, Head::Refused)?;
        if !is_safetensors(&model.weights) {
            return Err(unsupported(format!("expected {SAFETENSORS} to adapt, got {}", model.weights)));
        }
        let tokenizer = folder.layout.of_transformer(TOKENIZER);
        let tokenizer = kept.remove(&tokenizer).ok_or_else(|| folder.missing(&tokenizer))?;
        let weights = kept.remove(&model.weights).ok_or_else(|| folder.missing(&model.weights))?;
        let mut architecture = Architecture::read(&config)?;
        architecture.head = bert::Head::Tokens(width);
        let adapter = Adapter::read(adapter, &weights)?;
        let (bytes, _) = bert::build(&architecture, &weights, Some(&adapter))?;
        let kind = ModelKind::Encoder;
        let graph = EncoderGraph { bytes: bytes.into(), file: None, fused: true, kind, width, table: None };
        Ok(LoadedModel { model, graph, tokenizer, projection: Projection::default() })
    }

    fn read(folder: &Folder, keep: bool, head: Head) -> Result<(Self, BTreeMap<String, Bytes>, Config)> {
        let config = folder.config()?;
        if config.is_generator() {
            return Err(unsupported(format!(
                "config.json: expected an encoder, got a model of family {:?} that writes text",
                config.family()
            )));
        }
        // What was imported was checked then, by the Trove of that day.
        if head == Head::Refused && folder.record.is_none() {
            config.check_head()?;
        }
        let width = config.width()?;
        let weights = folder.weights(&config)?;
        let modules = Modules::read(folder)?;
        let dimensions = projection::dimensions(folder, &modules, width)?;
        let max_tokens = match (modules.max_tokens, config.positions()) {
            (Some(limit), Some(positions)) => limit.min(positions),
            (Some(limit), None) | (None, Some(limit)) => limit,
            (None, None) => {
                return Err(unsupported(
                    "expected a token limit in sentence_bert_config.json or config.json, got none",
                ));
            }
        };
        let Contents { revision, kept, .. } = folder.contents(&weights, keep)?;
        let model = Self {
            path: folder.path.clone(),
            id: folder.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            revision,
            family: config.family().to_owned(),
            kind: config.kind(),
            weights,
            imported: folder.record.is_some(),
            pooling: modules.pooling,
            include_prompt: modules.include_prompt,
            normalize: modules.normalize,
            max_tokens,
            prompts: modules.prompts,
            default_prompt: modules.default_prompt,
            padding: config.pad_token_id.and_then(|id| u32::try_from(id).ok()),
            lower_case: modules.lower_case,
            width,
            dimensions,
            has_dense: folder.layout.dense().next().is_some(),
            vocabulary: config.vocab_size,
        };
        Ok((model, kept, config))
    }

    /// Width of the vectors.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Width of a token's state.
    pub fn state_width(&self) -> usize {
        self.width
    }

    /// Whether the vector of several texts is that of the sum of their token states.
    pub fn sums_tokens(&self) -> bool {
        self.pooling == Pooling::Mean && !self.has_dense
    }

    /// Name of the prompt that is put before a search's query: the one named so, else the default one.
    pub fn query_prompt(&self) -> Option<&str> {
        self.prompt_of(&["query"])
    }

    /// Name of the prompt that is put before what is searched: the one named so, else the default one.
    pub fn passage_prompt(&self) -> Option<&str> {
        self.prompt_of(&["passage", "document", "corpus"])
    }

    fn prompt_of(&self, names: &[&str]) -> Option<&str> {
        let named = names.iter().find_map(|name| self.prompts.get_key_value(*name));
        named.map(|(name, _)| name.as_str()).or(self.default_prompt.as_deref())
    }

    /// Size of the vocabulary, where config.json tells.
    pub fn vocabulary(&self) -> Option<usize> {
        self.vocabulary
    }
}

/// A directory and the record of its import, if it has one.
pub(super) struct Folder {
    pub path: PathBuf,
    pub record: Option<ImportRecord>,
    pub layout: Layout,
}

impl Folder {
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(Error::not_found(
                "MODEL_NOT_FOUND",
                format!("no model directory at {}", path.display()),
            ));
        }
        let mut folder = Self { path: path.to_owned(), record: None, layout: Layout::default() };
        folder.record = folder.json::<ImportRecord>(record::FILE)?;
        if let Some(record) = &folder.record {
            record.check()?;
        }
        folder.layout = Layout::read(&folder)?;
        Ok(folder)
    }

    /// The transformer's configuration.
    pub fn config(&self) -> Result<Config> {
        let name = self.layout.of_transformer(CONFIG);
        self.json(&name)?.ok_or_else(|| self.missing(&name))
    }

    /// Parses one of its files; `None` where it is not there.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.path.join(name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(unreadable(&path, e)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            Error::data_loss("DAMAGED_MODEL", format!("cannot parse {}: {e}", path.display())).with_source(e)
        })
    }

    /// The error for a file that is not there.
    pub fn missing(&self, name: &str) -> Error {
        Error::not_found(
            "MODEL_FILE_MISSING",
            format!("expected the file {name} in {}, got none", self.path.display()),
        )
    }

    /// The file that the weights come from.
    fn weights(&self, config: &Config) -> Result<String> {
        if let Some(record) = &self.record {
            return Ok(record.weights.clone());
        }
        let has = |name: &String| self.path.join(name).is_file();
        let architecture = Architecture::read(config);
        let safetensors = self.layout.of_transformer(SAFETENSORS);
        if has(&safetensors) && architecture.is_ok() {
            return Ok(safetensors);
        }
        let graphs = ONNX.map(|name| self.layout.of_transformer(name));
        if let Some(name) = graphs.iter().find(|name| has(name)) {
            return Ok(name.clone());
        }
        match architecture {
            Err(error) if has(&safetensors) => Err(error),
            _ => Err(self.missing(&format!("{safetensors}, {} or {}", graphs[0], graphs[1]))),
        }
    }

    /// Hashes the files that decide what the model computes, each read once; keeps the tokenizer and the weights if
    /// told to. Files of an imported directory must be those that were imported, and its revision is that of its
    /// source.
    pub fn contents(&self, weights: &str, keep: bool) -> Result<Contents> {
        let mut names = self.named_files(weights);
        let (tokenizer, dense) = (self.layout.of_transformer(TOKENIZER), projection::files(self));
        let mut contents = Contents { revision: String::new(), names: Vec::new(), kept: BTreeMap::new() };
        let mut whole = blake3::Hasher::new();
        let mut next = 0;
        while let Some(name) = names.get(next).cloned() {
            next += 1;
            let path = self.path.join(&name);
            let recorded = self.record.as_ref().is_some_and(|record| record.file(&name).is_some());
            if !path.is_file() {
                if recorded {
                    return Err(self.missing(&name));
                }
                continue;
            }
            let failed = |e| unreadable(&path, e);
            let mut file = std::fs::File::open(&path).map_err(failed)?;
            let length = file.metadata().map_err(failed)?.len();
            let mut own = blake3::Hasher::new();
            let hasher = if self.record.is_some() {
                &mut own
            } else {
                whole.update(name.as_bytes()).update(&length.to_le_bytes())
            };
            let is_graph = name == weights && !is_safetensors(weights);
            let is_used = || name == weights || name == tokenizer || dense.contains(&name);
            if is_graph || (keep && is_used()) {
                let mut bytes = Vec::new();
                // What a file says of its size need not be true.
                bytes
                    .try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX))
                    .map_err(|_| failed(std::io::ErrorKind::OutOfMemory.into()))?;
                file.read_to_end(&mut bytes).map_err(failed)?;
                hasher.update(&bytes);
                let bytes = Bytes::from(bytes);
                if is_graph {
                    let beside = Path::new(weights).parent().unwrap_or(Path::new(""));
                    let files = GraphFile::parse(bytes.clone(), weights)?.external_files()?;
                    names.extend(files.iter().map(|file| beside.join(file).to_string_lossy().into_owned()));
                }
                contents.kept.insert(name.clone(), bytes);
            } else {
                hasher.update_reader(file).map_err(failed)?;
            }
            if let Some(record) = &self.record {
                record.verify(&name, length, &own.finalize())?;
            }
            contents.names.push(name);
        }
        contents.revision = match &self.record {
            Some(record) => record.revision.clone(),
            None => whole.finalize().to_hex().to_string(),
        };
        Ok(contents)
    }

    /// Files that may be there and decide what the model computes, in the order in which they are hashed: the order
    /// is part of the revision.
    fn named_files(&self, weights: &str) -> Vec<String> {
        let mut names = [CONFIG, TOKENIZER].map(|name| self.layout.of_transformer(name)).to_vec();
        if is_safetensors(weights) {
            names.push(weights.to_owned());
        }
        names.extend([modules::MODULES, modules::POOLING].map(str::to_owned));
        names.extend([self.layout.of_transformer(modules::LIMIT), modules::PROMPTS.to_owned()]);
        let pooling = self.layout.pooling();
        if pooling != modules::POOLING {
            names.push(pooling);
        }
        names.extend(projection::files(self));
        if !is_safetensors(weights) {
            names.push(weights.to_owned());
        }
        names
    }
}

/// The files of a directory that decide what its model computes.
pub(super) struct Contents {
    pub revision: String,
    /// Files that are there.
    pub names: Vec<String>,
    pub kept: BTreeMap<String, Bytes>,
}

/// Whether weights are those that a graph is written of.
pub(super) fn is_safetensors(weights: &str) -> bool {
    weights.ends_with(SAFETENSORS)
}

/// Whether a file's name stays inside the directory that it is relative to.
pub(super) fn is_inside(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|c| matches!(c, Component::Normal(_)))
}

pub(super) fn unsupported(message: impl Into<String>) -> Error {
    Error::precondition("UNSUPPORTED_MODEL", message)
}

pub(super) fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::not_found("MODEL_FILE_MISSING", format!("cannot read {}: {error}", path.display()))
        .with_source(error)
}
