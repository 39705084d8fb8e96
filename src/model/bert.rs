//! BERT weights in safetensors, written as an ONNX graph of fused operators.

use std::path::Path;

use prost::Message;
use safetensors::{Dtype, SafeTensors};

use super::dir::{BertConfig, ModelDir};
use super::onnx::{Axis, FLOAT, Graph, INT32, MICROSOFT, Model, Node, OperatorSet, Tensor, ValueInfo};
use crate::error::{Error, Result};

const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

/// Reads a model directory's weights and writes its graph to a file.
pub fn import_safetensors(model_dir: &Path, out_path: &Path) -> Result<()> {
    let bytes = build_graph(&ModelDir::open(model_dir)?)?;
    std::fs::write(out_path, bytes).map_err(|e| {
        Error::internal("MODEL_WRITE_FAILED", format!("cannot write {}: {e}", out_path.display()))
            .with_source(e)
    })
}

/// Builds the graph of a model directory: inputs `input_ids` and `attention_mask` (int32, `[batch, sequence]`),
/// output `last_hidden_state`.
pub fn build_graph(model: &ModelDir) -> Result<Vec<u8>> {
    let bytes = model.read("model.safetensors")?;
    let weights = SafeTensors::deserialize(&bytes).map_err(|e| {
        Error::data_loss("DAMAGED_MODEL", format!("model.safetensors cannot be read: {e}")).with_source(e)
    })?;
    let prefix = if weights.tensor("bert.embeddings.word_embeddings.weight").is_ok() { "bert." } else { "" };
    let mut writer = Writer { weights, prefix, config: &model.bert, graph: Graph::default() };
    writer.write()?;
    let opset = |domain: &str, version| OperatorSet { domain: domain.to_owned(), version };
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "trove".to_owned(),
        graph: Some(writer.graph),
        opset_import: vec![opset("", OPSET), opset(MICROSOFT, 1)],
    };
    Ok(model.encode_to_vec())
}

struct Writer<'a> {
    weights: SafeTensors<'a>,
    prefix: &'static str,
    config: &'a BertConfig,
    graph: Graph,
}

impl Writer<'_> {
    fn write(&mut self) -> Result<()> {
        let hidden = self.config.hidden_size;
        let axes = || vec![Axis::Free("batch"), Axis::Free("sequence")];
        self.graph.name = "bert".to_owned();
        self.graph.input =
            ["input_ids", "attention_mask"].map(|n| ValueInfo::tensor(n, INT32, axes())).into();
        let mut out_axes = axes();
        out_axes.push(Axis::Fixed(hidden as i64));
        self.graph.output = vec![ValueInfo::tensor("last_hidden_state", FLOAT, out_axes)];

        self.embeddings()?;
        let layers = self.config.num_hidden_layers;
        let mut state = "embedded".to_owned();
        for layer in 0..layers {
            let last = layer + 1 == layers;
            let output = if last { "last_hidden_state".to_owned() } else { format!("layer{layer}") };
            self.layer(layer, &state, &output)?;
            state = output;
        }
        Ok(())
    }

    /// Every token is of type 0, so that type's row is added to the positions here.
    fn embeddings(&mut self) -> Result<()> {
        let BertConfig { hidden_size: hidden, vocab_size, max_position_embeddings: positions, .. } =
            *self.config;
        self.copy("embeddings.word_embeddings.weight", &[vocab_size, hidden])?;
        let mut rows = self.read("embeddings.position_embeddings.weight", &[positions, hidden])?;
        let types =
            self.read("embeddings.token_type_embeddings.weight", &[self.config.type_vocab_size, hidden])?;
        for row in rows.chunks_exact_mut(hidden) {
            row.iter_mut().zip(&types).for_each(|(x, t)| *x += t);
        }
        self.graph.initializer.push(Tensor::floats("positions", &[positions, hidden], &rows));
        self.copy("embeddings.LayerNorm.weight", &[hidden])?;
        self.copy("embeddings.LayerNorm.bias", &[hidden])?;
        let input = [
            "input_ids",
            "",
            "embeddings.word_embeddings.weight",
            "positions",
            "",
            "embeddings.LayerNorm.weight",
            "embeddings.LayerNorm.bias",
        ];
        let mut node = Node::new("EmbedLayerNormalization", MICROSOFT, &input, "embedded");
        node.output.push("unused_mask_index".to_owned());
        self.graph.node.push(node.float("epsilon", self.config.layer_norm_eps));
        Ok(())
    }

    fn layer(&mut self, layer: usize, state: &str, output: &str) -> Result<()> {
        let BertConfig { hidden_size: hidden, intermediate_size: inner, num_attention_heads: heads, .. } =
            *self.config;
        let base = format!("encoder.layer.{layer}");
        let name = |part: &str| format!("{base}.{part}");

        let (qkv, qkv_bias) = self.join_attention(&base)?;
        self.push(&name("qkv.weight"), &[hidden, 3 * hidden], &qkv);
        self.push(&name("qkv.bias"), &[3 * hidden], &qkv_bias);
        let input = [state, &name("qkv.weight"), &name("qkv.bias"), "attention_mask"];
        let attention = Node::new("Attention", MICROSOFT, &input, &name("attended"));
        self.graph.node.push(attention.int("num_heads", heads as i64));

        self.matmul(&name("attention.output.dense"), hidden, hidden, &name("attended"), &name("projected"))?;
        self.skip_norm(&name("attention.output"), &name("projected"), state, &name("middle"))?;

        self.matmul(&name("intermediate.dense"), hidden, inner, &name("middle"), &name("widened"))?;
        self.copy(&name("intermediate.dense.bias"), &[inner])?;
        let input = [&name("widened"), &name("intermediate.dense.bias")].map(|s| s.clone());
        let gelu = Node::new("BiasGelu", MICROSOFT, &[&input[0], &input[1]], &name("activated"));
        self.graph.node.push(gelu);

        self.matmul(&name("output.dense"), inner, hidden, &name("activated"), &name("narrowed"))?;
        self.skip_norm(&name("output"), &name("narrowed"), &name("middle"), output)
    }

    /// Query, key and value side by side: `[hidden, 3 * hidden]` and `[3 * hidden]`.
    fn join_attention(&self, base: &str) -> Result<(Vec<f32>, Vec<f32>)> {
        let hidden = self.config.hidden_size;
        let mut weight = vec![0.0; 3 * hidden * hidden];
        let mut bias = Vec::with_capacity(3 * hidden);
        for (part, which) in ["query", "key", "value"].into_iter().enumerate() {
            let name = format!("{base}.attention.self.{which}");
            let rows = self.read(&format!("{name}.weight"), &[hidden, hidden])?;
            for (out, row) in rows.chunks_exact(hidden).enumerate() {
                for (from, &x) in row.iter().enumerate() {
                    weight[from * 3 * hidden + part * hidden + out] = x;
                }
            }
            bias.extend(self.read(&format!("{name}.bias"), &[hidden])?);
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

    fn skip_norm(&mut self, name: &str, input: &str, skip: &str, output: &str) -> Result<()> {
        let parts = ["LayerNorm.weight", "LayerNorm.bias", "dense.bias"].map(|part| format!("{name}.{part}"));
        for part in &parts {
            self.copy(part, &[self.config.hidden_size])?;
        }
        let input = [input, skip, &parts[0], &parts[1], &parts[2]];
        let node = Node::new("SkipLayerNormalization", MICROSOFT, &input, output);
        self.graph.node.push(node.float("epsilon", self.config.layer_norm_eps));
        Ok(())
    }

    fn copy(&mut self, name: &str, shape: &[usize]) -> Result<()> {
        let values = self.read(name, shape)?;
        self.push(name, shape, &values);
        Ok(())
    }

    fn push(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.graph.initializer.push(Tensor::floats(name, shape, values));
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let full = format!("{}{name}", self.prefix);
        let damaged = |message: String| Error::data_loss("DAMAGED_MODEL", message);
        let view =
            self.weights.tensor(&full).map_err(|e| damaged(format!("tensor {full} cannot be read: {e}")))?;
        if view.shape() != shape {
            return Err(damaged(format!(
                "expected tensor {full} of shape {shape:?}, got {:?}",
                view.shape()
            )));
        }
        let data = view.data();
        match view.dtype() {
            Dtype::F32 => Ok(data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
            Dtype::F16 => {
                Ok(data.as_chunks::<2>().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect())
            }
            Dtype::BF16 => {
                Ok(data.as_chunks::<2>().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect())
            }
            other => Err(damaged(format!("expected tensor {full} in F32, F16 or BF16, got {other:?}"))),
        }
    }
}
