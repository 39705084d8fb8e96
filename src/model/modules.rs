//! The files that sentence-transformers puts beside a model: how token vectors are pooled, and prompts.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::dir::{Folder, is_inside, unsupported};
use crate::error::Result;

/// Modules of the list.
pub(super) const MODULES: &str = "modules.json";
/// Where the pooling is configured unless the list of modules tells.
pub(super) const POOLING: &str = "1_Pooling/config.json";
/// Token limit.
pub(super) const LIMIT: &str = "sentence_bert_config.json";
/// Prompts.
pub(super) const PROMPTS: &str = "config_sentence_transformers.json";

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

/// What the files say.
#[derive(Debug, Clone)]
pub(super) struct Modules {
    pub pooling: Pooling,
    /// Whether a prompt's tokens are pooled with the text's.
    pub include_prompt: bool,
    pub normalize: bool,
    pub max_tokens: Option<usize>,
    pub prompts: BTreeMap<String, String>,
    pub default_prompt: Option<String>,
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PoolingConfig {
    pooling_mode: Option<String>,
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_lasttoken: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    include_prompt: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LimitConfig {
    max_seq_length: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PromptConfig {
    prompts: Option<BTreeMap<String, String>>,
    default_prompt_name: Option<String>,
}

/// Files of a folder that decide how its vectors are made, beside those that every model has: the pooling's own
/// configuration where the list of modules puts it elsewhere than usual.
pub(super) fn pooling_file(folder: &Folder) -> Result<String> {
    let modules: Vec<Module> = folder.json(MODULES)?.unwrap_or_default();
    let pooling = modules.iter().find(|m| m.name() == "Pooling").map(|m| m.path.trim_matches('/'));
    match pooling.filter(|path| !path.is_empty()) {
        None => Ok(POOLING.to_owned()),
        Some(path) if is_inside(path) => Ok(format!("{path}/config.json")),
        Some(path) => {
            Err(unsupported(format!("{MODULES}: expected a path inside the directory, got {path:?}")))
        }
    }
}

impl Modules {
    /// Reads the files; without them, token vectors are averaged and not scaled.
    ///
    /// # Errors
    /// `UNSUPPORTED_MODEL` for a module that changes vectors in a way that is not done here, such as a dense layer.
    pub fn read(folder: &Folder) -> Result<Self> {
        let modules: Vec<Module> = folder.json(MODULES)?.unwrap_or_default();
        for module in &modules {
            match module.name() {
                "Transformer" | "Pooling" | "Normalize" | "Dropout" => {}
                other => {
                    return Err(unsupported(format!(
                        "modules.json: expected modules Transformer, Pooling and Normalize, got {other}: \
                         without it the vectors would be wrong"
                    )));
                }
            }
        }
        let file = pooling_file(folder)?;
        let config: Option<PoolingConfig> = folder.json(&file)?;
        let include_prompt = config.as_ref().and_then(|c| c.include_prompt).unwrap_or(true);
        let pooling = config.map_or(Ok(Pooling::Mean), |c| c.pooling(&file))?;
        let prompts: PromptConfig = folder.json(PROMPTS)?.unwrap_or_default();
        let known = prompts.prompts.unwrap_or_default();
        let default_prompt = prompts.default_prompt_name;
        if let Some(name) = default_prompt.as_ref().filter(|name| !known.contains_key(*name)) {
            return Err(unsupported(format!(
                "{PROMPTS}: expected default_prompt_name to be one of the prompts, got {name:?}"
            )));
        }
        Ok(Self {
            pooling,
            include_prompt,
            normalize: modules.iter().any(|m| m.name() == "Normalize"),
            max_tokens: folder.json::<LimitConfig>(LIMIT)?.and_then(|c| c.max_seq_length),
            prompts: known,
            default_prompt,
        })
    }
}

impl Module {
    /// The class without its package, which differs between versions.
    fn name(&self) -> &str {
        self.kind.rsplit('.').next().unwrap_or(&self.kind)
    }
}

impl PoolingConfig {
    fn pooling(&self, file: &str) -> Result<Pooling> {
        if let Some(mode) = &self.pooling_mode {
            return match mode.as_str() {
                "mean" => Ok(Pooling::Mean),
                "cls" => Ok(Pooling::Cls),
                "max" => Ok(Pooling::Max),
                "lasttoken" => Ok(Pooling::Last),
                other => Err(unsupported(format!(
                    "{file}: expected pooling_mode mean, cls, max or lasttoken, got {other:?}"
                ))),
            };
        }
        let modes = [
            (self.pooling_mode_mean_tokens, Some(Pooling::Mean)),
            (self.pooling_mode_cls_token, Some(Pooling::Cls)),
            (self.pooling_mode_max_tokens, Some(Pooling::Max)),
            (self.pooling_mode_lasttoken, Some(Pooling::Last)),
            (self.pooling_mode_mean_sqrt_len_tokens, None),
            (self.pooling_mode_weightedmean_tokens, None),
        ];
        let mut chosen = modes.iter().filter(|(on, _)| *on).map(|(_, mode)| *mode);
        match (chosen.next(), chosen.next()) {
            (Some(Some(mode)), None) => Ok(mode),
            _ => Err(unsupported(format!(
                "{file}: expected exactly one pooling mode of mean, cls, max and last token"
            ))),
        }
    }
}
