use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::graph::{DATA_FILE, GRAPH_FILE};
use super::import::{GRAPH_DIR, import_gguf, import_safetensors};
use super::record::{self, Checksums};
use super::safetensors::Safetensors;
use crate::error::{Error, Result};
use crate::model::dir::unreadable;
use crate::model::place;

/// Files beside the graph that decide what the model computes, in the order they are hashed.
pub(in crate::model) const BESIDE: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];

/// A graph and the files of its weights: the name that is given here, and the exporters'.
pub(in crate::model) const GRAPH_FILES: [&str; 3] = [GRAPH_FILE, DATA_FILE, "model.onnx_data"];

/// A directory of a decoder-only model in the Hugging Face layout.
#[derive(Debug, Clone)]
pub struct DecoderDir {
    /// Where it is.
    pub path: PathBuf,
    /// Last part of its path.
    pub id: String,
    /// BLAKE3 of the files that decide what the model computes.
    pub revision: String,
    /// The ONNX graph.
    pub graph: PathBuf,
    /// Positions that the model was trained for.
    pub context_tokens: usize,
    /// Type of most weights, such as `int4`; `unknown` for a ready-made graph that does not say.
    pub precision: String,
    /// Tokens that end an answer.
    pub end_ids: Vec<u32>,
    /// Jinja source that makes a prompt of messages.
    pub chat_template: Option<String>,
    /// Text of the token that starts a text.
    pub start_token: Option<String>,
    /// Text of the token that ends one.
    pub end_token: Option<String>,
}

/// The fields that are used, under the names that the families give them; some files have several.
#[derive(Deserialize)]
struct ModelConfig {
    max_position_embeddings: Option<usize>,
    n_positions: Option<usize>,
    n_ctx: Option<usize>,
    #[serde(default)]
    eos_token_id: Ids,
    weight_type: Option<String>,
    torch_dtype: Option<String>,
    dtype: Option<String>,
}

impl ModelConfig {
    fn positions(&self) -> Option<usize> {
        self.max_position_embeddings.or(self.n_positions).or(self.n_ctx)
    }

    fn weight_type(&self) -> Option<&str> {
        let told = self.weight_type.as_ref().or(self.torch_dtype.as_ref()).or(self.dtype.as_ref());
        told.map(String::as_str)
    }
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    model_type: String,
    #[serde(default)]
    architectures: Vec<String>,
}

impl Kind {
    fn writes(&self) -> bool {
        let causal = |name: &String| name.ends_with("ForCausalLM") || name.ends_with("LMHeadModel");
        self.model_type == "llama" || self.architectures.iter().any(causal)
    }
}

#[derive(Default, Deserialize)]
struct GenerationConfig {
    #[serde(default)]
    eos_token_id: Ids,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Ids {
    Many(Vec<u32>),
    One(u32),
    #[default]
    None,
}

impl Ids {
    fn into_vec(self) -> Vec<u32> {
        match self {
            Ids::Many(ids) => ids,
            Ids::One(id) => vec![id],
            Ids::None => Vec::new(),
        }
    }
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<Templates>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Added { content: String },
}

impl Token {
    fn into_text(self) -> String {
        match self {
            Token::Text(text) | Token::Added { content: text } => text,
        }
    }
}

impl DecoderDir {
    /// Whether a directory has its graph already, so that opening it writes nothing.
    pub fn has_graph(path: &Path) -> bool {
        find_graph(path).is_some()
    }

    /// Reads a model directory. One that holds a GGUF file or safetensors and no graph gets its graph written
    /// first, once.
    ///
    /// # Errors
    /// `MODEL_NOT_FOUND`, `MODEL_FILE_MISSING`, `DAMAGED_MODEL`, and those of [`import_gguf`].
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(Error::not_found(
                "MODEL_NOT_FOUND",
                format!("no model directory at {}", path.display()),
            ));
        }
        let graph = match find_graph(path) {
            Some(graph) => graph,
            None => {
                // Two loads of one model at once write its graph once.
                let _lock = place::lock(path.parent().unwrap_or(path))?;
                match find_graph(path) {
                    Some(graph) => graph,
                    None => import(path)?,
                }
            }
        };
        Self::read(path, graph)
    }

    /// As [`DecoderDir::open`], but a directory without a graph is not a model, and neither is one of another kind.
    ///
    /// # Errors
    /// `UNSUPPORTED_MODEL` too.
    pub fn open_imported(path: &Path) -> Result<Self> {
        let graph = find_graph(path).ok_or_else(|| missing(path, "onnx/model.onnx"))?;
        let kind: Kind = parse(path, "config.json")?.ok_or_else(|| missing(path, "config.json"))?;
        if !kind.writes() {
            return Err(Error::precondition(
                "UNSUPPORTED_MODEL",
                format!("expected a model that writes text, got model_type {:?}", kind.model_type),
            ));
        }
        Self::read(path, graph)
    }

    /// Whether a path is a GGUF file, or a directory whose configuration is a decoder's.
    pub fn is_at(path: &Path) -> bool {
        if path.is_file() {
            return path.extension().is_some_and(|extension| extension == "gguf");
        }
        parse::<Kind>(path, "config.json").is_ok_and(|kind| kind.is_some_and(|kind| kind.writes()))
    }

    fn read(path: &Path, graph: PathBuf) -> Result<Self> {
        let config: ModelConfig = parse(path, "config.json")?.ok_or_else(|| missing(path, "config.json"))?;
        let generation: GenerationConfig = parse(path, "generation_config.json")?.unwrap_or_default();
        let tokens: TokenizerConfig = parse(path, "tokenizer_config.json")?.unwrap_or_default();
        if !path.join("tokenizer.json").is_file() {
            return Err(missing(path, "tokenizer.json"));
        }
        let checksums: Option<Checksums> = parse(path, record::FILE)?;
        checksums.as_ref().map_or(Ok(()), Checksums::check)?;
        let context_tokens = config.positions().unwrap_or(0);
        let precision = config.weight_type().unwrap_or("unknown").to_owned();
        let mut end_ids = generation.eos_token_id.into_vec();
        if end_ids.is_empty() {
            end_ids = config.eos_token_id.into_vec();
        }
        let file = path.join("chat_template.jinja");
        let chat_template = if file.is_file() {
            Some(std::fs::read_to_string(&file).map_err(|e| unreadable(&file, e))?)
        } else {
            tokens.chat_template.and_then(default_template)
        };
        Ok(Self {
            path: path.to_owned(),
            id: path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            revision: hash(path, &graph, checksums.as_ref())?,
            graph,
            context_tokens,
            precision,
            end_ids,
            chat_template,
            start_token: tokens.bos_token.map(Token::into_text),
            end_token: tokens.eos_token.map(Token::into_text),
        })
    }
}

fn default_template(templates: Templates) -> Option<String> {
    match templates {
        Templates::One(template) => Some(template),
        Templates::Named(named) => {
            named.into_iter().find(|entry| entry.name == "default").map(|entry| entry.template)
        }
    }
}

pub(super) fn find_graph(dir: &Path) -> Option<PathBuf> {
    [dir.join(GRAPH_DIR).join(GRAPH_FILE), dir.join(GRAPH_FILE)].into_iter().find(|path| path.is_file())
}

fn import(dir: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(dir).map_err(|e| unreadable(dir, e))?;
    let is_gguf = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "gguf");
    let files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_gguf).collect();
    tracing::info!(model = %dir.display(), "writing the model's graph");
    match files.as_slice() {
        [file] => import_gguf(file, dir)?,
        [] if Safetensors::is_at(dir) => import_safetensors(dir, dir)?,
        [] => return Err(missing(dir, "onnx/model.onnx, a GGUF file or model.safetensors")),
        many => {
            return Err(Error::precondition(
                "UNSUPPORTED_MODEL",
                format!("expected one GGUF file in {}, got {}", dir.display(), many.len()),
            ));
        }
    };
    Ok(dir.join(GRAPH_DIR).join(GRAPH_FILE))
}

fn missing(dir: &Path, name: &str) -> Error {
    Error::not_found("MODEL_FILE_MISSING", format!("expected {name} in {}", dir.display()))
}

fn parse<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>> {
    let path = dir.join(name);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = std::fs::read(&path).map_err(|e| unreadable(&path, e))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        Error::data_loss("DAMAGED_MODEL", format!("cannot parse {}: {e}", path.display())).with_source(e)
    })
}

/// The revision, of files that must be those that were written.
fn hash(dir: &Path, graph: &Path, checksums: Option<&Checksums>) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut seen = HashSet::new();
    let beside = BESIDE.map(|name| (name, dir.join(name)));
    let of_graph = GRAPH_FILES.map(|name| (name, graph.with_file_name(name)));
    let mut buffer = vec![0; 1 << 20];
    for (name, path) in beside.into_iter().chain(of_graph) {
        if !path.is_file() {
            continue;
        }
        let mut file = std::fs::File::open(&path).map_err(|e| unreadable(&path, e))?;
        let length = file.metadata().map_err(|e| unreadable(&path, e))?.len();
        hasher.update(name.as_bytes()).update(&length.to_le_bytes());
        let mut own = blake3::Hasher::new();
        loop {
            let read = file.read(&mut buffer).map_err(|e| unreadable(&path, e))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            if checksums.is_some() {
                own.update(&buffer[..read]);
            }
        }
        let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
        checksums.map_or(Ok(()), |checksums| checksums.verify(&name, &own))?;
        seen.insert(name);
    }
    checksums.map_or(Ok(()), |checksums| checksums.all_among(&seen))?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_may_have_several_names() {
        let read = |json: &str| {
            let config: ModelConfig = serde_json::from_str(json).unwrap();
            (config.positions(), config.weight_type().map(str::to_owned))
        };
        let half = Some("float16".to_owned());
        let both = r#"{"n_positions": 1024, "n_ctx": 512, "torch_dtype": "float16", "dtype": "float32"}"#;
        assert_eq!(read(both), (Some(1024), half.clone()), "as GPT-2 has them");
        assert_eq!(read(r#"{"n_ctx": 512, "dtype": "float16"}"#), (Some(512), half.clone()));
        let first =
            r#"{"max_position_embeddings": 8, "n_ctx": 9, "weight_type": "float16", "dtype": "int4"}"#;
        assert_eq!(read(first), (Some(8), half));
        assert_eq!(read("{}"), (None, None));
    }
}
