//! `config.json`: what a transformer looks like.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::dir::unsupported;
use crate::error::Result;

/// Families that count positions from the padding id on, so that a table of 514 positions takes 512 tokens.
const OFFSET_POSITIONS: [&str; 8] = [
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "mpnet",
    "longformer",
    "data2vec-text",
    "xlm-roberta-flash",
];
/// How the name of a classifier of texts ends.
const CLASSIFIER: &str = "ForSequenceClassification";
/// The padding id of those families where the file does not tell.
const OFFSET_PADDING: usize = 1;

/// What a model gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// A vector for each token of a text.
    Encoder,
    /// One score for a query and a text together.
    CrossEncoder(Activation),
}

/// What becomes of a cross-encoder's logit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The score is the logit: any number.
    Identity,
    /// The score is the logistic function of the logit: 0 to 1.
    Sigmoid,
}

impl Activation {
    /// The score of a logit.
    pub fn of(self, logit: f32) -> f32 {
        match self {
            Activation::Identity => logit,
            Activation::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
        }
    }
}

/// The fields that are used, under the names that the families give them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub model_type: Option<String>,
    architectures: Option<Vec<String>>,
    hidden_size: Option<usize>,
    dim: Option<usize>,
    d_model: Option<usize>,
    n_embd: Option<usize>,
    max_position_embeddings: Option<usize>,
    n_positions: Option<usize>,
    pub vocab_size: Option<usize>,
    pub type_vocab_size: Option<usize>,
    intermediate_size: Option<usize>,
    hidden_dim: Option<usize>,
    num_attention_heads: Option<usize>,
    n_heads: Option<usize>,
    num_hidden_layers: Option<usize>,
    n_layers: Option<usize>,
    pub layer_norm_eps: Option<f32>,
    hidden_act: Option<String>,
    activation: Option<String>,
    pub position_embedding_type: Option<String>,
    pub is_decoder: Option<bool>,
    pub pad_token_id: Option<usize>,
    num_labels: Option<usize>,
    id2label: Option<BTreeMap<String, serde_json::Value>>,
    sbert_ce_default_activation_function: Option<String>,
    sentence_transformers: Option<SentenceTransformers>,
}

/// What sentence-transformers adds for cross-encoders since its version 4.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct SentenceTransformers {
    activation_fn: Option<String>,
}

/// Whether the class of an architecture has a head behind its token states: `BertForMaskedLM`, `BertLMHeadModel`.
fn has_head(name: &str) -> bool {
    let purpose = |rest: &str| rest.starts_with(|c: char| c.is_ascii_uppercase());
    let names_purpose =
        name.match_indices("For").any(|(at, word)| name.get(at + word.len()..).is_some_and(purpose));
    names_purpose || name.contains("LMHead") || name.contains("DoubleHeads")
}

impl Config {
    /// The family's name; empty where the file does not tell.
    pub fn family(&self) -> &str {
        self.model_type.as_deref().unwrap_or_default()
    }

    /// Whether the model writes text.
    pub fn is_generator(&self) -> bool {
        let writes = |name: &String| name.ends_with("ForCausalLM");
        self.architectures.iter().flatten().any(writes) || self.family() == "llama"
    }

    /// What the model gives. A classifier with a single label is a cross-encoder; its activation is the one that
    /// sentence-transformers would use.
    pub fn kind(&self) -> ModelKind {
        let classifies = |name: &String| name.ends_with(CLASSIFIER);
        if !self.architectures.iter().flatten().any(classifies) || self.labels() != 1 {
            return ModelKind::Encoder;
        }
        let told = self.sentence_transformers.as_ref().and_then(|s| s.activation_fn.as_ref());
        let told = told.or(self.sbert_ce_default_activation_function.as_ref());
        let is_identity = told.is_some_and(|name| name.ends_with("Identity"));
        ModelKind::CrossEncoder(if is_identity { Activation::Identity } else { Activation::Sigmoid })
    }

    /// Refuses a model whose head is not used here: its token states were trained for that head, and not to be
    /// compared.
    ///
    /// # Errors
    /// `UNSUPPORTED_MODEL` names the head, and says what to do.
    pub fn check_head(&self) -> Result<()> {
        if self.kind() != ModelKind::Encoder {
            return Ok(());
        }
        let Some(name) = self.architectures.iter().flatten().find(|name| has_head(name)) else {
            return Ok(());
        };
        let labels = match self.labels() {
            labels if name.ends_with(CLASSIFIER) => format!(" of {labels} labels (a cross-encoder has one)"),
            _ => String::new(),
        };
        Err(unsupported(format!(
            "config.json: expected an encoder or a cross-encoder, got {name}{labels}, whose head Trove does not use and \
             whose states were trained for it: take a model of sentence vectors; or, where the vectors are meant to be \
             the pooled states below the head, as in a model of sentence-transformers, import it with --without-head"
        )))
    }

    /// Labels of a classifier: two where the file does not tell, as in transformers.
    fn labels(&self) -> usize {
        self.num_labels.or(self.id2label.as_ref().map(BTreeMap::len)).unwrap_or(2)
    }

    /// Width of the hidden states.
    pub fn width(&self) -> Result<usize> {
        let width = self.hidden_size.or(self.dim).or(self.d_model).or(self.n_embd);
        width.filter(|&w| w > 0).ok_or_else(|| unsupported("config.json: expected hidden_size, got none"))
    }

    /// Rows of the position table.
    pub fn position_rows(&self) -> Option<usize> {
        self.max_position_embeddings.or(self.n_positions)
    }

    /// Rows of the position table that no token uses.
    pub fn position_offset(&self) -> usize {
        if OFFSET_POSITIONS.contains(&self.family()) {
            self.pad_token_id.unwrap_or(OFFSET_PADDING).saturating_add(1)
        } else {
            0
        }
    }

    /// Most tokens that have a position; `None` where the model has no table of positions.
    pub fn positions(&self) -> Option<usize> {
        self.position_rows().map(|rows| rows.saturating_sub(self.position_offset()))
    }

    pub fn inner(&self) -> Option<usize> {
        self.intermediate_size.or(self.hidden_dim)
    }

    pub fn heads(&self) -> Option<usize> {
        self.num_attention_heads.or(self.n_heads)
    }

    pub fn layers(&self) -> Option<usize> {
        self.num_hidden_layers.or(self.n_layers)
    }

    pub fn activation(&self) -> Option<&str> {
        self.hidden_act.as_deref().or(self.activation.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_head_that_is_not_used_is_refused_by_name() {
        let check =
            |config: serde_json::Value| serde_json::from_value::<Config>(config).unwrap().check_head();
        for fine in [
            json!({}),
            json!({"architectures": null}),
            json!({"architectures": ["BertModel"]}),
            json!({"architectures": ["XLMRobertaModel"]}),
            json!({"architectures": ["NomicBertModel"]}),
            json!({"architectures": ["T5EncoderModel"]}),
            json!({"architectures": ["BertForSequenceClassification"], "num_labels": 1}),
            json!({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}),
        ] {
            assert!(check(fine.clone()).is_ok(), "{fine}");
        }
        for (name, told) in [
            ("BertForMaskedLM", "BertForMaskedLM,"),
            ("BertForQuestionAnswering", "BertForQuestionAnswering,"),
            ("RobertaForTokenClassification", "RobertaForTokenClassification,"),
            ("BertForMultipleChoice", "BertForMultipleChoice,"),
            ("BertForPreTraining", "BertForPreTraining,"),
            ("BertForNextSentencePrediction", "BertForNextSentencePrediction,"),
            ("BertLMHeadModel", "BertLMHeadModel,"),
            // What transformers leaves out: it has two labels.
            ("BertForSequenceClassification", "of 2 labels"),
        ] {
            let error = check(json!({"architectures": [name]})).unwrap_err();
            assert!(error.reason == "UNSUPPORTED_MODEL" && error.message.contains(told), "{error}");
            assert!(error.message.contains("--without-head"), "{error}");
        }
        let three = json!({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b", "2": "c"}});
        assert!(check(three).unwrap_err().message.contains("of 3 labels"));
    }
}
