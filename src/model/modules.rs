//! The files that sentence-transformers puts beside a model: its modules, how token vectors are pooled, and prompts.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::dir::{Folder, is_inside, unsupported};
use crate::error::Result;

/// Modules of the list.
pub(super) const MODULES: &str = "modules.json";
/// Where the pooling is configured unless the list of modules tells.
pub(super) const POOLING: &str = "1_Pooling/config.json";
/// Token limit, in the transformer's folder.
pub(super) const LIMIT: &str = "sentence_bert_config.json";
/// Prompts.
pub(super) const PROMPTS: &str = "config_sentence_transformers.json";

/// Package of the modules that are known; what others compute under the same names is not.
const PACKAGE: &str = "sentence_transformers.";

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

/// A module behind the pooling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// A dense layer, whose files are in this folder.
    Dense(String),
    /// Scales to unit length.
    Normalize,
}

/// What the list of modules says: what follows what, and where each has its files.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    /// Folder of the transformer and its tokenizer; empty for the directory itself.
    transformer: String,
    /// Folder of the pooling's configuration, where the list names one.
    pooling: Option<String>,
    /// What follows the pooling, in order.
    pub stages: Vec<Stage>,
}

impl Layout {
    /// Checks a list of modules; an empty one is that of a model with its files in the directory itself.
    ///
    /// # Errors
    /// `UNSUPPORTED_MODEL` for modules that are not known or in another order than is computed here, since the vectors
    /// would be wrong. What an older Trove imported is taken as it was then (`is_imported`): any package, and no pooling
    /// for a mean.
    fn of(modules: &[Module], is_imported: bool) -> Result<Self> {
        let mut this = Self::default();
        let mut has_transformer = false;
        for module in modules {
            let folder = module.folder()?;
            match module.name(is_imported) {
                "Dropout" => {}
                "Transformer" if !has_transformer => {
                    (this.transformer, has_transformer) = (folder, true);
                }
                "Pooling" if has_transformer && this.pooling.is_none() => this.pooling = Some(folder),
                "Dense" if this.pooling.is_some() => this.stages.push(Stage::Dense(folder)),
                "Normalize" if this.pooling.is_some() || is_imported => this.stages.push(Stage::Normalize),
                known @ ("Transformer" | "Pooling" | "Dense" | "Normalize") => {
                    return Err(unsupported(format!(
                        "{MODULES}: expected one Transformer, then one Pooling, then any of Dense and Normalize, got \
                         {known} in another place"
                    )));
                }
                _ => {
                    return Err(unsupported(format!(
                        "{MODULES}: expected modules Transformer, Pooling, Dense, Normalize and Dropout of \
                         sentence_transformers, got {}: without it the vectors would be wrong",
                        module.kind
                    )));
                }
            }
        }
        if !modules.is_empty() && this.pooling.is_none() && !is_imported {
            return Err(unsupported(format!(
                "{MODULES}: expected a module Pooling, which makes one vector of a text, got none"
            )));
        }
        Ok(this)
    }

    pub fn read(folder: &Folder) -> Result<Self> {
        Self::of(&folder.json::<Vec<Module>>(MODULES)?.unwrap_or_default(), folder.record.is_some())
    }

    /// Where a file of the transformer or its tokenizer is.
    pub fn of_transformer(&self, name: &str) -> String {
        within(&self.transformer, name)
    }

    /// Where the pooling is configured.
    pub fn pooling(&self) -> String {
        match self.pooling.as_deref() {
            None | Some("") => POOLING.to_owned(),
            Some(folder) => within(folder, "config.json"),
        }
    }

    /// Folders of the dense layers.
    pub fn dense(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().filter_map(|stage| match stage {
            Stage::Dense(folder) => Some(folder.as_str()),
            Stage::Normalize => None,
        })
    }
}

/// A name in a folder, which may be the directory itself.
pub(super) fn within(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// What the files say.
#[derive(Debug, Clone)]
pub(super) struct Modules {
    pub pooling: Pooling,
    /// Whether a prompt's tokens are pooled with the text's.
    pub include_prompt: bool,
    pub normalize: bool,
    pub max_tokens: Option<usize>,
    /// Whether texts are put into lower case before they are tokenized.
    pub lower_case: bool,
    /// Leading components of a vector that are kept.
    pub truncate: Option<usize>,
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
    do_lower_case: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PromptConfig {
    prompts: Option<BTreeMap<String, String>>,
    default_prompt_name: Option<String>,
    truncate_dim: Option<usize>,
}

impl Modules {
    /// Reads the files; without them, token vectors are averaged and not scaled.
    ///
    /// # Errors
    /// `UNSUPPORTED_MODEL`; `MODEL_FILE_MISSING` where the list names a pooling that has no file.
    pub fn read(folder: &Folder) -> Result<Self> {
        let layout = &folder.layout;
        let file = layout.pooling();
        let config: Option<PoolingConfig> = folder.json(&file)?;
        if config.is_none() && layout.pooling.is_some() && folder.record.is_none() {
            return Err(folder.missing(&file));
        }
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
        let limit = folder.json::<LimitConfig>(&layout.of_transformer(LIMIT))?.unwrap_or_default();
        Ok(Self {
            pooling,
            include_prompt,
            normalize: layout.stages.last() == Some(&Stage::Normalize),
            max_tokens: limit.max_seq_length,
            lower_case: limit.do_lower_case.unwrap_or_default(),
            truncate: prompts.truncate_dim,
            prompts: known,
            default_prompt,
        })
    }
}

impl Module {
    /// The class without its package, which differs between versions; the whole of one from another package.
    fn name(&self, of_any_package: bool) -> &str {
        let is_known = of_any_package || self.kind.starts_with(PACKAGE);
        self.kind.rsplit('.').next().filter(|_| is_known).unwrap_or(&self.kind)
    }

    fn folder(&self) -> Result<String> {
        let path = self.path.trim_matches('/');
        if !path.is_empty() && !is_inside(path) {
            return Err(unsupported(format!(
                "{MODULES}: expected a path inside the directory, got {:?}",
                self.path
            )));
        }
        Ok(path.to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(modules: &[(&str, &str)]) -> Result<Layout> {
        let module = |&(kind, path): &(&str, &str)| Module { kind: kind.to_owned(), path: path.to_owned() };
        Layout::of(&modules.iter().map(module).collect::<Vec<_>>(), false)
    }

    #[test]
    fn modules_have_an_order_and_places() {
        let plain = layout(&[]).unwrap();
        assert_eq!((plain.of_transformer("a"), plain.pooling()), ("a".to_owned(), POOLING.to_owned()));
        let [t, p, d, n] = ["Transformer", "Pooling", "Dense", "Normalize"]
            .map(|name| format!("sentence_transformers.models.{name}"));
        let (t, p, d, n) = (t.as_str(), p.as_str(), d.as_str(), n.as_str());
        let dropout = "sentence_transformers.models.Dropout";
        let moved =
            layout(&[(t, "0_T/"), (p, "p/q"), (dropout, "1"), (d, "2_D"), (n, "3_N"), (d, "4_D")]).unwrap();
        assert_eq!(moved.of_transformer("config.json"), "0_T/config.json");
        assert_eq!(moved.pooling(), "p/q/config.json");
        assert_eq!(moved.dense().collect::<Vec<_>>(), ["2_D", "4_D"]);
        let newer = "sentence_transformers.base.modules.dense.Dense";
        assert_eq!(layout(&[(t, ""), (p, ""), (newer, "2")]).unwrap().dense().count(), 1);
        for (bad, named) in [
            (&[(p, ""), (t, "")][..], "Pooling"),
            (&[(t, ""), (d, "1_D"), (p, "2")], "Dense"),
            (&[(t, ""), (p, ""), (p, "2")], "Pooling"),
            (&[(t, ""), (t, ""), (p, "")], "Transformer"),
            (&[(t, ""), (n, "")], "Normalize"),
            (&[(t, "")], "Pooling"),
            (&[(t, ""), (p, "../1_Pooling")], "../1_Pooling"),
            (&[(t, "/etc/../.."), (p, "")], "etc"),
            (&[("custom_st.Transformer", ""), (p, "")], "custom_st.Transformer"),
            (&[("sentence_transformers.sparse_encoder.models.MLMTransformer", "")], "MLMTransformer"),
            (&[(t, ""), (p, ""), ("sentence_transformers.models.LayerNorm", "2")], "LayerNorm"),
        ] {
            let error = layout(bad).unwrap_err();
            assert!(error.reason == "UNSUPPORTED_MODEL" && error.message.contains(named), "{bad:?}: {error}");
        }
    }
}
