//! Weights of the BERT family in safetensors, written as an ONNX graph of fused operators.

use prost::Message;
use safetensors::SafeTensors;

use super::adapter::Adapter;
use super::config::{Config, ModelKind};
use super::dir::unsupported;
use super::onnx::{Axis, FLOAT, Graph, INT32, MICROSOFT, Model, Node, OperatorSet, Tensor, ValueInfo};
use super::table::StaticTable;
use super::weights;
use crate::error::Result;

/// Name of the writing program, by which a graph is known as one of these.
pub(super) const PRODUCER: &str = "trove";
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

/// Which names the weights have, and what the embeddings add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Bert,
    /// BERT whose positions start after the padding id; XLM-RoBERTa and CamemBERT too.
    Roberta,
    /// BERT without token types.
    DistilBert,
}

/// What follows the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// Nothing: the hidden states are the output.
    None,
    /// A cross-encoder's, which makes one logit of the first token's state.
    Pair,
    /// A dense layer that makes so many values of each token's state. Its tensors are `reader.weight` and `reader.bias`.
    Tokens(usize),
}

/// What the graph of a model looks like.
#[derive(Debug, Clone)]
pub(super) struct Architecture {
    family: Family,
    hidden: usize,
    inner: usize,
    heads: usize,
    layers: usize,
    vocabulary: usize,
    position_rows: usize,
    position_offset: usize,
    /// Rows of the table of token types; zero where there is none.
    types: usize,
    epsilon: f32,
    pub head: Head,
}

impl Architecture {
    /// Takes what is needed from config.json.
    ///
    /// # Errors
    /// `UNSUPPORTED_MODEL` says which families are written and what else would do.
    pub fn read(config: &Config) -> Result<Self> {
        let family = match config.family() {
            "bert" => Family::Bert,
            "roberta" | "xlm-roberta" | "camembert" => Family::Roberta,
            "distilbert" => Family::DistilBert,
            other => {
                return Err(unsupported(format!(
                    "model.safetensors: expected a family of bert, roberta, xlm-roberta, camembert or distilbert, \
                     got {other:?}; a ready-made onnx/model.onnx runs for any family"
                )));
            }
        };
        if config.activation() != Some("gelu") {
            return Err(unsupported(format!("expected activation gelu, got {:?}", config.activation())));
        }
        if config.position_embedding_type.as_deref().is_some_and(|kind| kind != "absolute") {
            return Err(unsupported("expected absolute positions"));
        }
        if config.is_decoder == Some(true) {
            return Err(unsupported("config.json: expected tokens that see all others, got is_decoder"));
        }
        let told = |name: &str, value: Option<usize>| {
            let missing = || unsupported(format!("config.json: expected {name} of at least 1"));
            value.filter(|&v| v > 0).ok_or_else(missing)
        };
        let typed = family != Family::DistilBert;
        let this = Self {
            family,
            hidden: config.width()?,
            inner: told("intermediate_size", config.inner())?,
            heads: told("num_attention_heads", config.heads())?,
            layers: told("num_hidden_layers", config.layers())?,
            vocabulary: told("vocab_size", config.vocab_size)?,
            position_rows: told("max_position_embeddings", config.position_rows())?,
            position_offset: config.position_offset(),
            types: if typed { told("type_vocab_size", config.type_vocab_size)? } else { 0 },
            epsilon: config.layer_norm_eps.unwrap_or(1e-12),
            head: if config.kind() == ModelKind::Encoder { Head::None } else { Head::Pair },
        };
        if this.head != Head::None && family == Family::DistilBert {
            return Err(unsupported(
                "model.safetensors: expected a cross-encoder of family bert, roberta, xlm-roberta or camembert, got \
                 \"distilbert\"; a ready-made onnx/model.onnx runs for any family",
            ));
        }
        if !this.hidden.is_multiple_of(this.heads) || this.position_offset >= this.position_rows {
            return Err(unsupported(format!("config.json: sizes do not fit together: {this:?}")));
        }
        Ok(this)
    }
}

/// Builds the graph: inputs `input_ids` and `attention_mask` (int32, `[batch, sequence]`), output
/// `last_hidden_state`. Gives the input embeddings too. What reads two texts has an input `token_type_ids` where its
/// family tells them apart by it; a cross-encoder has the output `logits`, `[batch, 1]`. An adapter changes the weights.
pub(super) fn build(
    architecture: &Architecture,
    safetensors: &[u8],
    adapter: Option<&Adapter<'_>>,
) -> Result<(Vec<u8>, Option<StaticTable>)> {
    let weights = weights::parse("model.safetensors", safetensors)?;
    let prefix = ["", "bert.", "roberta.", "distilbert."]
        .into_iter()
        .find(|prefix| weights.tensor(&format!("{prefix}{WORDS}")).is_ok())
        .unwrap_or_default();
    let mut writer =
        Writer { weights, adapter, prefix, config: architecture, graph: Graph::default(), table: None };
    writer.write()?;
    let opset = |domain: &str, version| OperatorSet { domain: domain.to_owned(), version };
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: PRODUCER.to_owned(),
        graph: Some(writer.graph),
        opset_import: vec![opset("", OPSET), opset(MICROSOFT, 1)],
    };
    Ok((model.encode_to_vec(), writer.table))
}

/// Output with a vector for each token.
const STATES: &str = "last_hidden_state";
const WORDS: &str = "embeddings.word_embeddings.weight";
const TYPES: &str = "embeddings.token_type_embeddings.weight";

/// Names of a layer's weights.
struct Names {
    query: String,
    key: String,
    value: String,
    projection: String,
    attention_norm: String,
    widen: String,
    narrow: String,
    output_norm: String,
}

impl Names {
    fn of(family: Family, layer: usize) -> Self {
        let [base, query, key, value, projection, attention_norm, widen, narrow, output_norm] = match family {
            Family::Bert | Family::Roberta => [
                "encoder.layer",
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "attention.output.dense",
                "attention.output.LayerNorm",
                "intermediate.dense",
                "output.dense",
                "output.LayerNorm",
            ],
            Family::DistilBert => [
                "transformer.layer",
                "attention.q_lin",
                "attention.k_lin",
                "attention.v_lin",
                "attention.out_lin",
                "sa_layer_norm",
                "ffn.lin1",
                "ffn.lin2",
                "output_layer_norm",
            ],
        };
        let name = |part: &str| format!("{base}.{layer}.{part}");
        Self {
            query: name(query),
            key: name(key),
            value: name(value),
            projection: name(projection),
            attention_norm: name(attention_norm),
            widen: name(widen),
            narrow: name(narrow),
            output_norm: name(output_norm),
        }
    }
}

struct Writer<'a> {
    weights: SafeTensors<'a>,
    adapter: Option<&'a Adapter<'a>>,
    prefix: &'static str,
    config: &'a Architecture,
    graph: Graph,
    table: Option<StaticTable>,
}

impl Writer<'_> {
    fn write(&mut self) -> Result<()> {
        let axes = || vec![Axis::Free("batch"), Axis::Free("sequence")];
        self.graph.name = "encoder".to_owned();
        self.graph.input =
            ["input_ids", "attention_mask"].map(|n| ValueInfo::tensor(n, INT32, axes())).into();
        if self.has_types() {
            self.graph.input.push(ValueInfo::tensor("token_type_ids", INT32, axes()));
        }
        let of_tokens = |width: usize| {
            let out_axes = axes().into_iter().chain([Axis::Fixed(width as i64)]).collect();
            ValueInfo::tensor(STATES, FLOAT, out_axes)
        };
        self.graph.output = vec![match self.config.head {
            Head::None => of_tokens(self.config.hidden),
            Head::Pair => ValueInfo::tensor("logits", FLOAT, vec![Axis::Free("batch"), Axis::Fixed(1)]),
            Head::Tokens(width) => of_tokens(width),
        }];

        self.embeddings()?;
        let layers = self.config.layers;
        let mut state = "embedded".to_owned();
        for layer in 0..layers {
            let last = layer + 1 == layers;
            let is_output = last && self.config.head == Head::None;
            let output = if is_output { STATES.to_owned() } else { format!("layer{layer}") };
            self.layer(layer, &state, &output)?;
            state = output;
        }
        match self.config.head {
            Head::None => Ok(()),
            Head::Pair => self.pair_head(&state),
            Head::Tokens(width) => self.dense("reader", self.config.hidden, width, &state, STATES),
        }
    }

    /// Whether tokens are of two types.
    fn has_types(&self) -> bool {
        self.config.head != Head::None && self.config.types > 1
    }

    /// Where every token is of type 0, that type's row is added to the positions here. Rows before the first position
    /// that a token can have are left out.
    fn embeddings(&mut self) -> Result<()> {
        let Architecture { hidden, vocabulary, position_rows, position_offset, types, .. } = *self.config;
        let words = self.read(WORDS, &[vocabulary, hidden])?;
        self.table = StaticTable::new(hidden, words.iter().map(|&x| half::f16::from_f32(x)).collect());
        self.push(WORDS, &[vocabulary, hidden], &words);
        let mut rows = self.read("embeddings.position_embeddings.weight", &[position_rows, hidden])?;
        rows.drain(..position_offset * hidden);
        let mut type_input = ["", ""];
        if self.has_types() {
            type_input = ["token_type_ids", TYPES];
            self.copy(TYPES, &[types, hidden])?;
        } else if types > 0 {
            let types = self.read(TYPES, &[types, hidden])?;
            for row in rows.chunks_exact_mut(hidden) {
                row.iter_mut().zip(&types).for_each(|(x, t)| *x += t);
            }
        }
        self.push("positions", &[position_rows - position_offset, hidden], &rows);
        let norm = self.norm("embeddings.LayerNorm")?;
        let [type_ids, type_rows] = type_input;
        let input = ["input_ids", type_ids, WORDS, "positions", type_rows, &norm[0], &norm[1]];
        let mut node = Node::new("EmbedLayerNormalization", MICROSOFT, &input, "embedded");
        node.output.push("unused_mask_index".to_owned());
        self.graph.node.push(node.float("epsilon", self.config.epsilon));
        Ok(())
    }

    /// One logit of the first token's state: a dense layer, tanh, and another one.
    fn pair_head(&mut self, state: &str) -> Result<()> {
        let hidden = self.config.hidden;
        let [dense, out] = match self.config.family {
            Family::Roberta => ["classifier.dense".to_owned(), "classifier.out_proj".to_owned()],
            Family::Bert | Family::DistilBert => {
                [format!("{}pooler.dense", self.prefix), "classifier".to_owned()]
            }
        };
        // The head's tensors have no prefix of their model's, apart from the pooler, whose name has it already.
        let prefix = std::mem::take(&mut self.prefix);
        self.graph.initializer.push(Tensor::integers("first", &[], &[0]));
        let gather = Node::new("Gather", "", &[state, "first"], "first_state");
        self.graph.node.push(gather.int("axis", 1));
        self.dense(&dense, hidden, hidden, "first_state", "pooled")?;
        self.graph.node.push(Node::new("Tanh", "", &["pooled"], "pooled_tanh"));
        self.dense(&out, hidden, 1, "pooled_tanh", "logits")?;
        self.prefix = prefix;
        Ok(())
    }

    /// `output = input · weightᵀ + bias`.
    fn dense(&mut self, name: &str, from: usize, to: usize, input: &str, output: &str) -> Result<()> {
        let product = format!("{output}.product");
        self.matmul(name, from, to, input, &product)?;
        let bias = self.copy(&format!("{name}.bias"), &[to])?;
        self.graph.node.push(Node::new("Add", "", &[&product, &bias], output));
        Ok(())
    }

    fn layer(&mut self, layer: usize, state: &str, output: &str) -> Result<()> {
        let Architecture { hidden, inner, heads, .. } = *self.config;
        let names = Names::of(self.config.family, layer);
        let value = |part: &str| format!("{layer}.{part}");

        let (qkv, qkv_bias) = self.join_attention(&names)?;
        self.push(&value("qkv.weight"), &[hidden, 3 * hidden], &qkv);
        self.push(&value("qkv.bias"), &[3 * hidden], &qkv_bias);
        let input = [state, &value("qkv.weight"), &value("qkv.bias"), "attention_mask"];
        let attention = Node::new("Attention", MICROSOFT, &input, &value("attended"));
        self.graph.node.push(attention.int("num_heads", heads as i64));

        self.matmul(&names.projection, hidden, hidden, &value("attended"), &value("projected"))?;
        let middle = value("middle");
        self.skip_norm(&names.attention_norm, &names.projection, &value("projected"), state, &middle)?;

        self.matmul(&names.widen, hidden, inner, &middle, &value("widened"))?;
        let bias = self.copy(&format!("{}.bias", names.widen), &[inner])?;
        let gelu = Node::new("BiasGelu", MICROSOFT, &[&value("widened"), &bias], &value("activated"));
        self.graph.node.push(gelu);

        self.matmul(&names.narrow, inner, hidden, &value("activated"), &value("narrowed"))?;
        self.skip_norm(&names.output_norm, &names.narrow, &value("narrowed"), &middle, output)
    }

    /// Query, key and value side by side: `[hidden, 3 * hidden]` and `[3 * hidden]`.
    fn join_attention(&self, names: &Names) -> Result<(Vec<f32>, Vec<f32>)> {
        let hidden = self.config.hidden;
        let mut parts = Vec::with_capacity(3);
        let mut bias = Vec::new();
        for name in [&names.query, &names.key, &names.value] {
            parts.push(self.read(&format!("{name}.weight"), &[hidden, hidden])?);
            bias.extend(self.read(&format!("{name}.bias"), &[hidden])?);
        }
        // The file has as many values, so the sizes are real ones by now.
        let mut weight = vec![0.0; 3 * hidden * hidden];
        for (part, rows) in parts.iter().enumerate() {
            for (out, row) in rows.chunks_exact(hidden).enumerate() {
                for (from, &x) in row.iter().enumerate() {
                    weight[from * 3 * hidden + part * hidden + out] = x;
                }
            }
        }
        Ok((weight, bias))
    }

    /// `output = input · weightᵀ`; the weight is stored as `[to, from]`.
    fn matmul(&mut self, name: &str, from: usize, to: usize, input: &str, output: &str) -> Result<()> {
        let weight = format!("{name}.weight");
        let rows = self.read(&weight, &[to, from])?;
        let mut transposed = vec![0.0; rows.len()];
        for (o, row) in rows.chunks_exact(from).enumerate() {
            row.iter().enumerate().for_each(|(i, &x)| transposed[i * to + o] = x);
        }
        self.push(&weight, &[from, to], &transposed);
        self.graph.node.push(Node::new("MatMul", "", &[input, &weight], output));
        Ok(())
    }

    /// `output = LayerNorm(input + skip + bias of the dense layer)`.
    fn skip_norm(&mut self, norm: &str, dense: &str, input: &str, skip: &str, output: &str) -> Result<()> {
        let norm = self.norm(norm)?;
        let bias = self.copy(&format!("{dense}.bias"), &[self.config.hidden])?;
        let input = [input, skip, &norm[0], &norm[1], &bias];
        let node = Node::new("SkipLayerNormalization", MICROSOFT, &input, output);
        self.graph.node.push(node.float("epsilon", self.config.epsilon));
        Ok(())
    }

    /// Copies a LayerNorm's weight and bias, which old files call gamma and beta.
    fn norm(&mut self, name: &str) -> Result<[String; 2]> {
        let old = self.weights.tensor(&format!("{}{name}.gamma", self.prefix)).is_ok();
        let [weight, bias] = if old { ["gamma", "beta"] } else { ["weight", "bias"] };
        let shape = [self.config.hidden];
        Ok([self.copy(&format!("{name}.{weight}"), &shape)?, self.copy(&format!("{name}.{bias}"), &shape)?])
    }

    /// Copies a tensor into the graph under its own name.
    fn copy(&mut self, name: &str, shape: &[usize]) -> Result<String> {
        let values = self.read(name, shape)?;
        self.push(name, shape, &values);
        Ok(name.to_owned())
    }

    fn push(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.graph.initializer.push(Tensor::floats(name, shape, values));
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Some(adapter) = self.adapter else {
            return self.base(name, shape);
        };
        if let Some(whole) = adapter.whole(name, shape)? {
            return Ok(whole);
        }
        let mut values = self.base(name, shape)?;
        adapter.add(name, shape, &mut values)?;
        Ok(values)
    }

    fn base(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        weights::floats(&self.weights, &format!("{}{name}", self.prefix), shape)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use safetensors::Dtype;
    use serde_json::json;

    use super::*;

    fn architecture(changes: serde_json::Value) -> Result<Architecture> {
        let mut config = json!({
            "model_type": "bert", "hidden_size": 4, "intermediate_size": 8, "num_attention_heads": 2,
            "num_hidden_layers": 1, "max_position_embeddings": 6, "type_vocab_size": 2, "vocab_size": 5,
            "layer_norm_eps": 1e-12, "hidden_act": "gelu"
        });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        Architecture::read(&serde_json::from_value(config).unwrap())
    }

    /// A whole model of four dimensions, as safetensors.
    fn safetensors() -> Vec<u8> {
        let mut shapes: Vec<(String, Vec<usize>)> = vec![
            (WORDS.to_owned(), vec![5, 4]),
            ("embeddings.position_embeddings.weight".to_owned(), vec![6, 4]),
            ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, 4]),
            ("embeddings.LayerNorm.weight".to_owned(), vec![4]),
            ("embeddings.LayerNorm.bias".to_owned(), vec![4]),
        ];
        let names = Names::of(Family::Bert, 0);
        for (name, to, from) in [
            (&names.query, 4, 4),
            (&names.key, 4, 4),
            (&names.value, 4, 4),
            (&names.projection, 4, 4),
            (&names.widen, 8, 4),
            (&names.narrow, 4, 8),
        ] {
            shapes.push((format!("{name}.weight"), vec![to, from]));
            shapes.push((format!("{name}.bias"), vec![to]));
        }
        for name in [&names.attention_norm, &names.output_norm] {
            shapes.push((format!("{name}.weight"), vec![4]));
            shapes.push((format!("{name}.bias"), vec![4]));
        }
        let bytes: Vec<u8> = (0..32).flat_map(|i| (i as f32 / 8.0).to_le_bytes()).collect();
        let views = shapes.iter().map(|(name, shape)| {
            let data = &bytes[..4 * shape.iter().product::<usize>()];
            (name, safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
        });
        safetensors::serialize(views, None).unwrap()
    }

    #[test]
    fn a_graph_is_written_and_bad_weights_are_refused() {
        let fine = architecture(json!({})).unwrap();
        let (graph, table) = build(&fine, &safetensors(), None).unwrap();
        assert!(Model::decode(graph.as_slice()).unwrap().graph.unwrap().node.len() == 8);
        assert_eq!(table.unwrap().vocabulary(), 5);
        for wrong in [
            json!({"hidden_size": 8}),
            json!({"vocab_size": 1_000_000_000_000_u64}),
            json!({"hidden_size": 1_000_000_000_000_u64, "num_attention_heads": 1}),
            json!({"num_hidden_layers": 1_000_000_000_000_u64}),
            json!({"intermediate_size": 9}),
        ] {
            let built = build(&architecture(wrong.clone()).unwrap(), &safetensors(), None);
            let error = built.map(drop).unwrap_err();
            assert_eq!(error.reason, "DAMAGED_MODEL", "{wrong}");
        }
        for wrong in [
            json!({"model_type": "t5"}),
            json!({"hidden_act": "relu"}),
            json!({"position_embedding_type": "relative_key"}),
            json!({"is_decoder": true}),
            json!({"num_attention_heads": 3}),
            json!({"num_hidden_layers": 0}),
        ] {
            assert_eq!(architecture(wrong.clone()).unwrap_err().reason, "UNSUPPORTED_MODEL", "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn damaged_files_are_refused_or_written(at in 0usize..4000, to in any::<u8>(), keep in 0usize..4000) {
            let mut bytes = safetensors();
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(keep);
            if let Err(error) = build(&architecture(json!({})).unwrap(), &bytes, None) {
                prop_assert_eq!(error.reason, "DAMAGED_MODEL");
            }
        }

        #[test]
        fn lying_headers_are_refused(length in any::<u64>(), rest in prop::collection::vec(any::<u8>(), 0..60)) {
            let bytes = [&length.to_le_bytes()[..], &rest].concat();
            let error = build(&architecture(json!({})).unwrap(), &bytes, None).map(drop).unwrap_err();
            prop_assert_eq!(error.reason, "DAMAGED_MODEL");
        }
    }
}
