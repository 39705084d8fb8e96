//! A model directory in the Hugging Face layout, with sentence-transformers' extra files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Files that decide what the model computes, in the order they are hashed.
const HASHED: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "model.safetensors",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
];

/// How token vectors become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// Mean of the tokens.
    Mean,
    /// The first token of the range.
    Cls,
    /// Largest value of each dimension.
    Max,
    /// The last token of the range.
    Last,
}

impl Pooling {
    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
            Pooling::Max => "max",
            Pooling::Last => "last_token",
        }
    }
}

/// What a model directory says about its model.
#[derive(Debug, Clone)]
pub struct ModelDir {
    /// Where it is.
    pub path: PathBuf,
    /// Last part of its path.
    pub id: String,
    /// BLAKE3 of the files that decide what the model computes.
    pub revision: String,
    /// How the model was trained to pool.
    pub pooling: Pooling,
    /// Whether its vectors are scaled to unit length.
    pub normalize: bool,
    /// Most tokens of one input, special ones included.
    pub max_tokens: usize,
    /// Texts put before an input, by name.
    pub prompts: BTreeMap<String, String>,
    pub(super) bert: BertConfig,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct BertConfig {
    pub model_type: String,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_attention_heads: usize,
    pub num_hidden_layers: usize,
    pub max_position_embeddings: usize,
    pub type_vocab_size: usize,
    pub vocab_size: usize,
    pub layer_norm_eps: f32,
    pub hidden_act: String,
    #[serde(default)]
    pub position_embedding_type: Option<String>,
}

#[derive(Deserialize)]
struct PoolingConfig {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct SentenceBertConfig {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
struct PromptConfig {
    #[serde(default)]
    prompts: BTreeMap<String, String>,
}

impl ModelDir {
    /// Reads and checks a model directory's configuration and hashes its files.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(Error::not_found(
                "MODEL_NOT_FOUND",
                format!("no model directory at {}", path.display()),
            ));
        }
        let bert: BertConfig = parse_required(path, "config.json")?;
        bert.check()?;
        let pooling = match parse::<PoolingConfig>(path, "1_Pooling/config.json")? {
            Some(config) => config.pooling()?,
            None => Pooling::Mean,
        };
        let modules: Vec<Module> = parse(path, "modules.json")?.unwrap_or_default();
        let limit =
            parse::<SentenceBertConfig>(path, "sentence_bert_config.json")?.and_then(|c| c.max_seq_length);
        let max_tokens = limit.unwrap_or(bert.max_position_embeddings).min(bert.max_position_embeddings);
        if max_tokens < 3 {
            return Err(unsupported(format!("expected a limit of at least 3 tokens, got {max_tokens}")));
        }
        let prompts = parse::<PromptConfig>(path, "config_sentence_transformers.json")?.map(|c| c.prompts);
        Ok(Self {
            path: path.to_owned(),
            id: path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            revision: hash(path)?,
            pooling,
            normalize: modules.iter().any(|m| m.kind.ends_with(".Normalize")),
            max_tokens,
            prompts: prompts.unwrap_or_default(),
            bert,
        })
    }

    /// Width of the vectors.
    pub fn dimensions(&self) -> usize {
        self.bert.hidden_size
    }

    /// Size of the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.bert.vocab_size
    }

    /// Reads one of its files.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path.join(name);
        std::fs::read(&path).map_err(|e| unreadable(&path, e))
    }
}

impl BertConfig {
    fn check(&self) -> Result<()> {
        if self.model_type != "bert" {
            return Err(unsupported(format!("expected model_type bert, got {:?}", self.model_type)));
        }
        if self.hidden_act != "gelu" {
            return Err(unsupported(format!("expected hidden_act gelu, got {:?}", self.hidden_act)));
        }
        if self.position_embedding_type.as_deref().is_some_and(|kind| kind != "absolute") {
            return Err(unsupported("expected absolute positions".to_owned()));
        }
        let sizes =
            [self.hidden_size, self.num_attention_heads, self.num_hidden_layers, self.type_vocab_size];
        if sizes.contains(&0) || !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(unsupported(format!("sizes do not fit together: {sizes:?}")));
        }
        Ok(())
    }
}

impl PoolingConfig {
    fn pooling(&self) -> Result<Pooling> {
        match (self.pooling_mode_mean_tokens, self.pooling_mode_cls_token, self.pooling_mode_max_tokens) {
            (true, false, false) => Ok(Pooling::Mean),
            (false, true, false) => Ok(Pooling::Cls),
            (false, false, true) => Ok(Pooling::Max),
            _ => Err(unsupported("expected exactly one pooling mode of mean, cls and max".to_owned())),
        }
    }
}

fn unsupported(message: String) -> Error {
    Error::precondition("UNSUPPORTED_MODEL", message)
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::not_found("MODEL_FILE_MISSING", format!("cannot read {}: {error}", path.display()))
        .with_source(error)
}

fn parse<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>> {
    if dir.join(name).is_file() { parse_required(dir, name).map(Some) } else { Ok(None) }
}

fn parse_required<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<T> {
    let path = dir.join(name);
    let bytes = std::fs::read(&path).map_err(|e| unreadable(&path, e))?;
    serde_json::from_slice(&bytes).map_err(|e| {
        Error::data_loss("DAMAGED_MODEL", format!("cannot parse {}: {e}", path.display())).with_source(e)
    })
}

fn hash(dir: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for name in HASHED {
        let path = dir.join(name);
        if !path.is_file() {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(|e| unreadable(&path, e))?;
        hasher.update(name.as_bytes()).update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
    }
    Ok(hasher.finalize().to_hex().to_string())
}
