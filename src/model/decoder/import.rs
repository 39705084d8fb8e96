use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::config::DecoderConfig;
use super::dir::{BESIDE, DecoderDir, GRAPH_FILES, find_graph};
use super::graph;
use super::record::Checksums;
use super::safetensors::Safetensors;
use super::tokenizer;
use crate::error::{Error, Result};
use crate::model::dir::unreadable;
use crate::model::gguf::Gguf;
use crate::model::place::{Imported, Place, remove, sync_dir, unwritable};

/// Folder of the graph within a model directory.
pub const GRAPH_DIR: &str = "onnx";

/// The tokenizer that a generator needs.
const TOKENIZER: &str = "tokenizer.json";

/// What an import made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedDecoder {
    /// The model directory.
    pub path: PathBuf,
    /// Type of most weights, such as `int4` or `fp32`.
    pub precision: String,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Positions that the model was trained for.
    pub context_tokens: usize,
    /// Bytes of graph and weights.
    pub bytes: u64,
}

/// A generator to take into a models' directory.
#[derive(Debug, Clone, Copy)]
pub struct DecoderImport<'a> {
    /// A GGUF file, or a directory in the Hugging Face layout with a graph or safetensors.
    pub source: &'a Path,
    /// The models' directory.
    pub models: &'a Path,
    /// Name to give it.
    pub name: &'a str,
    /// Whether another model of that name is replaced.
    pub replace: bool,
}

impl DecoderImport<'_> {
    /// Writes the model beside the others and gives it its name when it is whole.
    ///
    /// # Errors
    /// `INVALID_MODEL_NAME`, `MODEL_EXISTS`, `MODEL_WRITE_FAILED`, and those of [`DecoderDir::open`] and
    /// [`import_gguf`].
    pub fn run(&self) -> Result<(DecoderDir, Imported)> {
        let place = Place::claim(self.models, self.name)?;
        let model = match self.stage(&place.staged) {
            Ok(model) => model,
            Err(error) => {
                place.abandon()?;
                return Err(error);
            }
        };
        let there = DecoderDir::open_imported(&place.target);
        if let Some(there) = there.ok().filter(|there| there.revision == model.revision) {
            place.abandon()?;
            return Ok((there, Imported::Unchanged));
        }
        if place.target.exists() && !self.replace {
            place.abandon()?;
            return Err(place.taken());
        }
        let imported = place.publish()?;
        Ok((DecoderDir::open_imported(&place.target)?, imported))
    }

    fn stage(&self, staged: &Path) -> Result<DecoderDir> {
        if self.source.is_file() {
            import_gguf(self.source, staged)?;
            return DecoderDir::open_imported(staged);
        }
        let folder = staged.join(GRAPH_DIR);
        std::fs::create_dir_all(&folder).map_err(|e| unwritable(&folder, e))?;
        for name in BESIDE {
            copy(&self.source.join(name), &staged.join(name))?;
        }
        if let Some(graph) = find_graph(self.source) {
            // What the graph says of its weights' files are their names.
            for name in GRAPH_FILES {
                copy(&graph.with_file_name(name), &folder.join(name))?;
            }
        } else {
            // Before all weights are read.
            if !self.source.join(TOKENIZER).is_file() {
                return Err(Error::not_found(
                    "MODEL_FILE_MISSING",
                    format!(
                        "expected {TOKENIZER} in {}; tokenizer.model and vocab.json are not read, but `transformers` \
                         makes the file of them: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
                        self.source.display()
                    ),
                ));
            }
            import_safetensors(self.source, staged)?;
        }
        let beside = BESIDE.map(str::to_owned);
        let of_graph = GRAPH_FILES.map(|name| format!("{GRAPH_DIR}/{name}"));
        Checksums::of(staged, &[&beside[..], &of_graph[..]].concat())?.write(staged)?;
        DecoderDir::open_imported(staged)
    }
}

/// Copies a file, if it is there, and waits until it is on the disk.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_file() {
        return Ok(());
    }
    std::fs::copy(from, to).and_then(|_| File::open(to)?.sync_all()).map_err(|e| unwritable(to, e))
}

/// Turns a GGUF file of a [`Family`](super::Family) that is known into a model directory in the Hugging Face layout: `onnx/model.onnx` with its
/// weights beside it, `config.json`, `generation_config.json`, `tokenizer.json` and `tokenizer_config.json`. The weights
/// keep the file's quantization.
///
/// The files are written beside their place and moved there at the end, the graph last. Those of an older import are
/// replaced; other files are kept.
///
/// # Errors
/// `NOT_GGUF`, `DAMAGED_MODEL`, `UNSUPPORTED_MODEL`, `VOCABULARY_MISMATCH`, `MODEL_FILE_MISSING`, `MODEL_WRITE_FAILED`.
pub fn import_gguf(path: &Path, out_dir: &Path) -> Result<ImportedDecoder> {
    let file = Gguf::open(path)?;
    let config = DecoderConfig::from_gguf(&file)?;
    let tokens = tokenizer::build(&file, config.vocabulary, config.context)?;
    let staging = Staging::create(out_dir)?;
    let precision = graph::write(&config, &file, &staging.graph_dir)?;
    staging.write_json("tokenizer.json", &tokens.tokenizer)?;
    staging.write_json("tokenizer_config.json", &tokens.tokenizer_config)?;
    let config_json = config_json(&config, &precision, tokens.start_id, &tokens.end_ids);
    staging.write_json("config.json", &config_json)?;
    let generation = json!({ "bos_token_id": tokens.start_id, "eos_token_id": tokens.end_ids });
    staging.write_json("generation_config.json", &generation)?;
    let bytes = staging.publish(out_dir)?;
    Ok(imported(&config, &precision, bytes, out_dir))
}

/// Writes the graph of a Hugging Face directory with `config.json` of a [`Family`](super::Family) that is known, and
/// `model.safetensors` or several such files with `model.safetensors.index.json`, into a directory, which may be the same:
/// as `onnx/model.onnx` with its weights beside it.
///
/// # Errors
/// As of [`import_gguf`].
pub fn import_safetensors(source: &Path, out_dir: &Path) -> Result<ImportedDecoder> {
    let path = source.join("config.json");
    let config = DecoderConfig::from_json(&std::fs::read(&path).map_err(|e| unreadable(&path, e))?)?;
    let weights = Safetensors::open(source, &config)?;
    let staging = Staging::create(out_dir)?;
    let precision = graph::write(&config, &weights, &staging.graph_dir)?;
    let bytes = staging.publish(out_dir)?;
    Ok(imported(&config, &precision, bytes, out_dir))
}

fn imported(config: &DecoderConfig, precision: &str, bytes: u64, path: &Path) -> ImportedDecoder {
    ImportedDecoder {
        path: path.to_owned(),
        precision: precision.to_owned(),
        vocabulary: config.vocabulary,
        context_tokens: config.context,
        bytes,
    }
}

fn config_json(config: &DecoderConfig, precision: &str, start_id: Option<u32>, end_ids: &[u32]) -> Value {
    json!({
        "architectures": [config.family.class()],
        "model_type": config.family.model_type(),
        "hidden_size": config.hidden,
        "intermediate_size": config.inner,
        "num_hidden_layers": config.layers(),
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head,
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.ropes.first().map(|rope| rope.base),
        "tie_word_embeddings": config.tied,
        "weight_type": precision,
        "bos_token_id": start_id,
        "eos_token_id": end_ids,
    })
}

/// A directory that is filled beside its place; deleted unless it is published.
struct Staging {
    dir: PathBuf,
    graph_dir: PathBuf,
}

impl Staging {
    fn create(out_dir: &Path) -> Result<Self> {
        let name = out_dir.file_name().ok_or_else(|| {
            Error::invalid("BAD_PATH", format!("expected a directory to write to, got {}", out_dir.display()))
        })?;
        let dir = out_dir.with_file_name(format!(".{}.graph", name.to_string_lossy()));
        let graph_dir = dir.join(GRAPH_DIR);
        remove(&dir)?;
        std::fs::create_dir_all(&graph_dir).map_err(|e| unwritable(&graph_dir, e))?;
        Ok(Self { dir, graph_dir })
    }

    fn write_json(&self, name: &str, value: &Value) -> Result<()> {
        let path = self.dir.join(name);
        let bytes = serde_json::to_vec(value)
            .map_err(|e| Error::internal("MODEL_WRITE_FAILED", format!("cannot write {name}: {e}")))?;
        File::create(&path)
            .and_then(|mut file| {
                file.write_all(&bytes)?;
                file.sync_all()
            })
            .map_err(|e| unwritable(&path, e))
    }

    /// Moves every file to its place with their checksums, the graph last, for a directory without it is not taken for a
    /// model.
    fn publish(self, out_dir: &Path) -> Result<u64> {
        let names = BESIDE.map(str::to_owned).into_iter();
        let of_graph = [graph::DATA_FILE, graph::GRAPH_FILE].map(|name| format!("{GRAPH_DIR}/{name}"));
        Checksums::of(&self.dir, &names.chain(of_graph).collect::<Vec<_>>())?.write(&self.dir)?;
        let to_graph = out_dir.join(GRAPH_DIR);
        std::fs::create_dir_all(&to_graph).map_err(|e| unwritable(&to_graph, e))?;
        let old = to_graph.join(graph::GRAPH_FILE);
        if old.is_file() {
            std::fs::remove_file(&old).map_err(|e| unwritable(&old, e))?;
        }
        let entries = std::fs::read_dir(&self.dir).map_err(|e| unwritable(&self.dir, e))?;
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()) {
            if let Some(name) = path.file_name() {
                std::fs::rename(&path, out_dir.join(name)).map_err(|e| unwritable(&path, e))?;
            }
        }
        let mut bytes = 0;
        for name in [graph::DATA_FILE, graph::GRAPH_FILE] {
            let (from, to) = (self.graph_dir.join(name), to_graph.join(name));
            bytes += std::fs::metadata(&from).map_err(|e| unwritable(&from, e))?.len();
            std::fs::rename(&from, &to).map_err(|e| unwritable(&to, e))?;
        }
        for dir in [to_graph.as_path(), out_dir] {
            sync_dir(dir)?;
        }
        Ok(bytes)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What is left of a failed import is of no use to anyone.
        let _ = remove(&self.dir);
    }
}
