//! Writes a decoder as an ONNX graph of fused operators.
//!
//! Quantized weights keep their file's numbers, in the order that the operator `BlockProduct` reads; the only rounding is that
//! of the activations to 8 bits within it. [`super::standard`] writes the operators that every provider has instead.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use prost::Message;

use super::config::{Activation, DecoderConfig};
use super::operators::{BLOCK_PRODUCT, DOMAIN};
use super::packed;
use super::standard::{bytes_of, nibbles_of};
use super::tensors::{Source, Tensor};
use crate::error::Result;
use crate::model::gguf::{BlockRows, Blocks, Weights};
use crate::model::onnx::{
    Axis, FLOAT, Graph, INT32, INT64, MICROSOFT, Model, Node, OperatorSet, Tensor as Initializer, UINT8,
    ValueInfo,
};
use crate::model::place::unwritable;

/// Name of the graph's file in its directory.
pub const GRAPH_FILE: &str = "model.onnx";
/// Name of the weights' file beside it.
pub const DATA_FILE: &str = "model.onnx.data";
/// Input of token ids, `[batch, sequence]`.
pub(super) const INPUT_IDS: &str = "input_ids";
/// Input: length of each row with its new tokens, less one.
pub(super) const SEQUENCE_LENGTHS: &str = "seqlens_k";
/// Input: the greatest of those lengths.
pub(super) const TOTAL_LENGTH: &str = "total_sequence_length";
/// Input: which rows of `[batch * sequence]` get logits. Ready-made graphs do not have it.
pub(super) const LOGIT_ROWS: &str = "logit_rows";
/// Output, `[rows, vocabulary]`.
pub(super) const LOGITS: &str = "logits";

pub(super) const IR_VERSION: i64 = 8;
pub(super) const OPSET: i64 = 17;
/// ONNX Runtime maps external data that starts on a page.
const PAGE: u64 = 4096;

/// Attributes of `GroupQueryAttention`: how many keys a token sees, and the cap of scores.
pub(super) const WINDOW: &str = "local_window_size";
pub(super) const SCORE_CAP: &str = "softcap";
/// Bits of a float.
const FLOAT_BITS: usize = 32;
/// What is zero of the embedding's values as they are stored.
const NIBBLE_ZERO: f32 = 8.0;
const BYTE_ZERO: f32 = 128.0;

/// Writes graph and weights into a directory that exists; gives the type of most weights, such as `int4`.
pub(super) fn write(config: &DecoderConfig, source: &dyn Source, dir: &Path) -> Result<String> {
    source.check_names(config)?;
    let data = DataFile::create(&dir.join(DATA_FILE))?;
    let mut writer = Writer { source, config, graph: Graph::default(), data, counts: BTreeMap::new() };
    writer.write()?;
    let Writer { graph, data, counts, .. } = writer;
    data.finish()?;
    let opset = |domain: &str, version| OperatorSet { domain: domain.to_owned(), version };
    let mut opset_import = vec![opset("", OPSET), opset(MICROSOFT, 1)];
    if graph.node.iter().any(|node| node.domain == DOMAIN) {
        opset_import.push(opset(DOMAIN, 1));
    }
    let model =
        Model { ir_version: IR_VERSION, producer_name: "trove".to_owned(), graph: Some(graph), opset_import };
    let path = dir.join(GRAPH_FILE);
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&model.encode_to_vec())?;
        file.sync_all()
    });
    written.map_err(|e| unwritable(&path, e))?;
    let most = counts.into_iter().max_by_key(|&(_, count)| count).map_or(FLOAT_BITS, |(bits, _)| bits);
    Ok(if most == FLOAT_BITS { "fp32".to_owned() } else { format!("int{most}") })
}

struct Writer<'a> {
    source: &'a dyn Source,
    config: &'a DecoderConfig,
    graph: Graph,
    data: DataFile,
    /// Weights of matrices by their bits.
    counts: BTreeMap<usize, usize>,
}

impl Writer<'_> {
    fn write(&mut self) -> Result<()> {
        let DecoderConfig { hidden, kv_heads, head, vocabulary, .. } = *self.config;
        let layers = self.config.layers();
        self.graph.name = self.config.family.model_type().to_owned();
        let rows = || vec![Axis::Free("batch"), Axis::Free("sequence")];
        self.graph.input = vec![
            ValueInfo::tensor(INPUT_IDS, INT64, rows()),
            ValueInfo::tensor(SEQUENCE_LENGTHS, INT32, vec![Axis::Free("batch")]),
            ValueInfo::tensor(TOTAL_LENGTH, INT32, Vec::new()),
            ValueInfo::tensor(LOGIT_ROWS, INT64, vec![Axis::Free("rows")]),
        ];
        let logits = vec![Axis::Free("rows"), Axis::Fixed(vocabulary as i64)];
        self.graph.output = vec![ValueInfo::tensor(LOGITS, FLOAT, logits)];
        for layer in 0..layers {
            for part in ["key", "value"] {
                let axes = || {
                    vec![
                        Axis::Free("batch"),
                        Axis::Fixed(kv_heads as i64),
                        Axis::Free("capacity"),
                        Axis::Fixed(head as i64),
                    ]
                };
                let past = format!("past_key_values.{layer}.{part}");
                self.graph.input.push(ValueInfo::tensor(&past, FLOAT, axes()));
                self.graph.output.push(ValueInfo::tensor(&format!("present.{layer}.{part}"), FLOAT, axes()));
            }
        }

        self.constants()?;
        self.embedding()?;
        let mut residual = "embedded".to_owned();
        if let Some(scale) = self.config.embedding_scale {
            self.floats("embedding_scale", &[], &[scale]);
            self.graph.node.push(Node::new("Mul", "", &["embedded", "embedding_scale"], "embedded.scaled"));
            residual = "embedded.scaled".to_owned();
        }
        self.norm(Tensor::AttentionNorm(0), "norm.0.weight", &residual, "layer.0.input")?;
        for layer in 0..layers {
            residual = self.layer(layer, &residual)?;
        }
        self.gather_rows(hidden, &format!("layer.{layers}.input"))
    }

    /// Tables and shapes that all layers use.
    fn constants(&mut self) -> Result<()> {
        let DecoderConfig { context, hidden, head, ref ropes, ref blocks, .. } = *self.config;
        for (number, rope) in ropes.iter().enumerate() {
            if blocks.iter().all(|block| block.rope != Some(number)) {
                continue;
            }
            let (cos, sin) = rope.tables(context);
            let [cos_name, sin_name] = rope_tables(number);
            self.store_floats(&cos_name, &[context, rope.pairs()], &cos)?;
            self.store_floats(&sin_name, &[context, rope.pairs()], &sin)?;
        }
        self.integers("shape.hidden", &[-1, hidden as i64]);
        self.integers("shape.attended", &[-1, self.config.wide() as i64]);
        self.integers("shape.head", &[-1, head as i64]);
        self.graph.node.push(Node::new("Shape", "", &[INPUT_IDS], "shape.rows"));
        Ok(())
    }

    /// Rows of the embedding, `[batch * sequence, hidden]`; quantized ones stay quantized in memory.
    fn embedding(&mut self) -> Result<()> {
        let DecoderConfig { vocabulary, hidden, .. } = *self.config;
        self.integers("shape.flat", &[-1]);
        self.graph.node.push(Node::new("Reshape", "", &[INPUT_IDS, "shape.flat"], "ids"));
        let blocks = match self.source.matrix(Tensor::Embedding, vocabulary, hidden)? {
            Weights::Dense(values) => {
                self.store_floats("embedding.weight", &[vocabulary, hidden], &values)?;
                self.graph.node.push(Node::new("Gather", "", &["embedding.weight", "ids"], "embedded"));
                return Ok(());
            }
            Weights::Blocks(blocks) => blocks.to_rows(),
        };
        let per_row = blocks.blocks_per_row;
        let (packed, zero) = if blocks.bits == 4 {
            (nibbles_of(&blocks), NIBBLE_ZERO)
        } else {
            (bytes_of(&blocks), BYTE_ZERO)
        };
        let width = blocks.block * blocks.bits / 8;
        self.store("embedding.weight", &[vocabulary, per_row, width], UINT8, &packed)?;
        self.store_floats("embedding.scales", &[vocabulary, per_row], &blocks.scales)?;
        self.graph.node.push(Node::new("Gather", "", &["embedding.weight", "ids"], "embedding.bytes"));
        self.graph.node.push(Node::new("Gather", "", &["embedding.scales", "ids"], "embedding.scale"));
        self.floats("embedding.zero", &[], &[zero]);
        self.integers("axis.last", &[2]);
        self.graph
            .node
            .push(Node::new("Cast", "", &["embedding.bytes"], "embedding.cast").int("to", FLOAT.into()));
        let values = if blocks.bits == 4 { self.split_nibbles(&blocks) } else { "embedding.cast" };
        self.graph.node.push(Node::new("Sub", "", &[values, "embedding.zero"], "embedding.centred"));
        self.graph.node.push(Node::new(
            "Unsqueeze",
            "",
            &["embedding.scale", "axis.last"],
            "embedding.factor",
        ));
        self.graph.node.push(Node::new(
            "Mul",
            "",
            &["embedding.centred", "embedding.factor"],
            "embedding.scaled",
        ));
        let mut scaled = "embedding.scaled";
        if let Some(offsets) = &blocks.offsets {
            self.store_floats("embedding.offsets", &[vocabulary, per_row], offsets)?;
            self.graph.node.push(Node::new("Gather", "", &["embedding.offsets", "ids"], "embedding.offset"));
            let input = ["embedding.offset", "axis.last"];
            self.graph.node.push(Node::new("Unsqueeze", "", &input, "embedding.shift"));
            self.graph.node.push(Node::new("Add", "", &[scaled, "embedding.shift"], "embedding.shifted"));
            scaled = "embedding.shifted";
        }
        self.graph.node.push(Node::new("Reshape", "", &[scaled, "shape.hidden"], "embedded"));
        Ok(())
    }

    /// The halves of gathered bytes, in the order of the values. Floats are exact here, and every device has them.
    fn split_nibbles(&mut self, blocks: &BlockRows) -> &'static str {
        self.floats("sixteen", &[], &[16.0]);
        self.integers("axis.pair", &[3]);
        self.integers("shape.embedded", &[-1, blocks.blocks_per_row as i64, blocks.block as i64]);
        let nodes = [
            Node::new("Div", "", &["embedding.cast", "sixteen"], "embedding.divided"),
            Node::new("Floor", "", &["embedding.divided"], "embedding.high"),
            Node::new("Mul", "", &["embedding.high", "sixteen"], "embedding.above"),
            Node::new("Sub", "", &["embedding.cast", "embedding.above"], "embedding.low"),
            Node::new("Unsqueeze", "", &["embedding.low", "axis.pair"], "embedding.first"),
            Node::new("Unsqueeze", "", &["embedding.high", "axis.pair"], "embedding.second"),
            Node::new("Concat", "", &["embedding.first", "embedding.second"], "embedding.pairs")
                .int("axis", 3),
            Node::new("Reshape", "", &["embedding.pairs", "shape.embedded"], "embedding.values"),
        ];
        self.graph.node.extend(nodes);
        "embedding.values"
    }

    /// Attention and feed-forward of a layer with the norms after them; gives the name of the residual.
    fn layer(&mut self, layer: usize, residual: &str) -> Result<String> {
        let DecoderConfig { family, hidden, inner, .. } = *self.config;
        let (wide, narrow) = (self.config.wide(), self.config.narrow());
        let name = |part: &str| format!("layer.{layer}.{part}");
        let input = name("input");
        let apart = [
            (Tensor::Query(layer), "query", wide),
            (Tensor::Key(layer), "key", narrow),
            (Tensor::Value(layer), "value", narrow),
        ];
        let fused = [(Tensor::QueryKeyValue(layer), "query", wide + 2 * narrow)];
        let parts = if family.is_fused() { &fused[..] } else { &apart[..] };
        let mut projected = self.project(&name("attention"), parts, hidden, &input)?;
        if family.has_biases() {
            projected = self.biases(layer, projected)?;
        }
        if family.has_head_norms() {
            projected = self.head_norms(layer, projected)?;
        }
        self.attention(layer, projected)?;

        let attended = name("attended");
        self.single(Tensor::AttentionOutput(layer), &name("output"), hidden, wide, &attended)?;
        let mut output = name("output");
        if family.has_post_norms() {
            self.norm(Tensor::AttentionPostNorm(layer), &name("post_norm.weight"), &output, &name("normed"))?;
            output = name("normed");
        }
        let middle = name("middle");
        let sum = name("residual");
        self.skip_norm(
            Tensor::InnerNorm(layer),
            &name("inner_norm.weight"),
            [&output, residual],
            &middle,
            &sum,
        )?;

        let apart = [(Tensor::Gate(layer), "gate", inner), (Tensor::Up(layer), "up", inner)];
        let fused = [(Tensor::GateUp(layer), "gate", 2 * inner)];
        let parts = if family.is_fused() { &fused[..] } else { &apart[..] };
        let mut widened = self.project(&name("widened"), parts, hidden, &middle)?;
        if widened.len() == 1 {
            self.integers("split.inner", &[inner as i64, inner as i64]);
            let node = Node::new("Split", "", &[&widened[0], "split.inner"], &name("gate")).int("axis", -1);
            self.graph.node.push(node.and_output(&name("up")));
            widened = vec![name("gate"), name("up")];
        }
        let (gate, activated) = (&widened[0], name("activated"));
        self.graph.node.push(match self.config.activation {
            // With alpha 1 this is x * sigmoid(x).
            Activation::Silu => Node::new("QuickGelu", MICROSOFT, &[gate], &activated).float("alpha", 1.0),
            Activation::GeluTanh => Node::new("FastGelu", MICROSOFT, &[gate], &activated),
        });
        self.graph.node.push(Node::new("Mul", "", &[&activated, &widened[1]], &name("gated")));
        self.single(Tensor::Down(layer), &name("down"), hidden, inner, &name("gated"))?;
        let mut down = name("down");
        if family.has_post_norms() {
            let weight = name("inner_post_norm.weight");
            self.norm(Tensor::InnerPostNorm(layer), &weight, &down, &name("down.normed"))?;
            down = name("down.normed");
        }

        let next = layer + 1;
        let norm =
            if next == self.config.layers() { Tensor::OutputNorm } else { Tensor::AttentionNorm(next) };
        let (output, last) = (format!("layer.{next}.input"), name("last"));
        self.skip_norm(norm, &format!("norm.{next}.weight"), [&down, &sum], &output, &last)?;
        Ok(last)
    }

    /// Adds biases to queries, keys and values, be they one tensor or three.
    fn biases(&mut self, layer: usize, projected: Vec<String>) -> Result<Vec<String>> {
        let (wide, narrow) = (self.config.wide(), self.config.narrow());
        let parts = [
            (Tensor::QueryBias(layer), wide),
            (Tensor::KeyBias(layer), narrow),
            (Tensor::ValueBias(layer), narrow),
        ];
        let mut biases = Vec::with_capacity(parts.len());
        for (tensor, width) in parts {
            biases.push(self.source.vector(tensor, width)?);
        }
        if projected.len() == 1 {
            biases = vec![biases.concat()];
        }
        let added = projected.into_iter().zip(biases).map(|(from, bias)| {
            let (weight, to) = (format!("{from}.bias"), format!("{from}.biased"));
            self.floats(&weight, &[bias.len()], &bias);
            self.graph.node.push(Node::new("Add", "", &[&from, &weight], &to));
            to
        });
        Ok(added.collect())
    }

    /// Norms each head's queries and keys.
    fn head_norms(&mut self, layer: usize, mut projected: Vec<String>) -> Result<Vec<String>> {
        let (wide, narrow) = (self.config.wide() as i64, self.config.narrow() as i64);
        let name = |part: &str| format!("layer.{layer}.{part}");
        if let [joined] = projected.as_slice() {
            let parts = ["query", "key", "value"].map(name);
            self.integers("split.heads", &[wide, narrow, narrow]);
            let node = Node::new("Split", "", &[joined, "split.heads"], &parts[0]).int("axis", -1);
            self.graph.node.push(node.and_output(&parts[1]).and_output(&parts[2]));
            projected = parts.to_vec();
        }
        let tensors = [(Tensor::QueryNorm(layer), wide), (Tensor::KeyNorm(layer), narrow)];
        for (part, (tensor, width)) in projected.iter_mut().zip(tensors) {
            let [heads, normed, shape] =
                [format!("{part}.heads"), format!("{part}.normed"), format!("shape.{width}")];
            self.integers(&shape, &[-1, width]);
            self.graph.node.push(Node::new("Reshape", "", &[part, "shape.head"], &heads));
            self.norm(tensor, &format!("{part}.norm.weight"), &heads, &format!("{heads}.normed"))?;
            self.graph.node.push(Node::new("Reshape", "", &[&format!("{heads}.normed"), &shape], &normed));
            *part = normed;
        }
        Ok(projected)
    }

    fn attention(&mut self, layer: usize, projected: Vec<String>) -> Result<()> {
        let DecoderConfig { heads, kv_heads, interleaved, score_scale, score_cap, .. } = *self.config;
        let (wide, narrow) = (self.config.wide(), self.config.narrow());
        let block = self.config.blocks[layer];
        let name = |part: &str| format!("layer.{layer}.{part}");
        let widths: &[usize] = match projected.len() {
            1 => &[wide + 2 * narrow],
            _ => &[wide, narrow, narrow],
        };
        let mut inputs = Vec::with_capacity(9);
        for (from, width) in projected.iter().zip(widths) {
            let shape = format!("shape.rows.{width}");
            if self.integers(&format!("width.{width}"), &[*width as i64]) {
                let node = Node::new("Concat", "", &["shape.rows", &format!("width.{width}")], &shape);
                self.graph.node.push(node.int("axis", 0));
            }
            let to = format!("{from}.rows");
            self.graph.node.push(Node::new("Reshape", "", &[from, &shape], &to));
            inputs.push(to);
        }
        inputs.resize(3, String::new());
        for part in ["key", "value"] {
            inputs.push(format!("past_key_values.{layer}.{part}"));
        }
        inputs.extend([SEQUENCE_LENGTHS, TOTAL_LENGTH].map(str::to_owned));
        inputs.extend(block.rope.map(rope_tables).into_iter().flatten());
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let mut node = Node::new("GroupQueryAttention", MICROSOFT, &inputs, &name("attended.rows"))
            .and_output(&format!("present.{layer}.key"))
            .and_output(&format!("present.{layer}.value"))
            .int("num_heads", heads as i64)
            .int("kv_num_heads", kv_heads as i64)
            .float("scale", score_scale)
            .int("do_rotary", block.rope.is_some().into())
            .int("rotary_interleaved", interleaved.into());
        if let Some(window) = block.window {
            node = node.int(WINDOW, window as i64);
        }
        if let Some(cap) = score_cap {
            node = node.float(SCORE_CAP, cap);
        }
        self.graph.node.push(node);
        let input = [name("attended.rows"), "shape.attended".to_owned()];
        self.graph.node.push(Node::new("Reshape", "", &[&input[0], &input[1]], &name("attended")));
        Ok(())
    }

    /// Logits of the rows that are asked for.
    fn gather_rows(&mut self, hidden: usize, state: &str) -> Result<()> {
        let DecoderConfig { vocabulary, tied, logit_cap, .. } = *self.config;
        self.graph.node.push(Node::new("Gather", "", &[state, LOGIT_ROWS], "chosen"));
        let tensor = if tied { Tensor::Embedding } else { Tensor::Output };
        let weights = self.source.matrix(tensor, vocabulary, hidden)?;
        let output = if logit_cap.is_some() { "logits.free" } else { LOGITS };
        if tied && matches!(weights, Weights::Dense(_)) {
            let node = Node::new("Gemm", "", &["chosen", "embedding.weight"], output).int("transB", 1);
            self.graph.node.push(node);
        } else {
            self.linear("output", weights, hidden, "chosen", output)?;
        }
        if let Some(cap) = logit_cap {
            self.floats("logit_cap", &[], &[cap]);
            self.graph.node.push(Node::new("Div", "", &[output, "logit_cap"], "logits.divided"));
            self.graph.node.push(Node::new("Tanh", "", &["logits.divided"], "logits.bent"));
            self.graph.node.push(Node::new("Mul", "", &["logits.bent", "logit_cap"], LOGITS));
        }
        Ok(())
    }

    /// One matrix after an input; the output has the name.
    fn single(&mut self, tensor: Tensor, name: &str, rows: usize, columns: usize, input: &str) -> Result<()> {
        let weights = self.source.matrix(tensor, rows, columns)?;
        self.linear(name, weights, columns, input, name)
    }

    /// Several matrices after one input: as one, where their formats agree. Gives the names of the outputs.
    fn project(
        &mut self,
        name: &str,
        parts: &[(Tensor, &str, usize)],
        columns: usize,
        input: &str,
    ) -> Result<Vec<String>> {
        let weights = parts
            .iter()
            .map(|&(tensor, _, rows)| self.source.matrix(tensor, rows, columns))
            .collect::<Result<Vec<_>>>()?;
        match join(weights) {
            Ok(joined) => {
                self.linear(name, joined, columns, input, name)?;
                Ok(vec![name.to_owned()])
            }
            Err(apart) => {
                let mut names = Vec::with_capacity(apart.len());
                for (weights, (_, part, _)) in apart.into_iter().zip(parts) {
                    let name = format!("{name}.{part}");
                    self.linear(&name, weights, columns, input, &name)?;
                    names.push(name);
                }
                Ok(names)
            }
        }
    }

    /// `output = input · weightsᵀ`, all of rank 2.
    fn linear(
        &mut self,
        name: &str,
        weights: Weights,
        columns: usize,
        input: &str,
        output: &str,
    ) -> Result<()> {
        let weight = format!("{name}.weight");
        match weights {
            Weights::Dense(values) => {
                *self.counts.entry(FLOAT_BITS).or_default() += values.len();
                let rows = values.len() / columns;
                let mut transposed = vec![0.0; values.len()];
                for (row, from) in values.chunks_exact(columns).enumerate() {
                    from.iter().enumerate().for_each(|(column, &x)| transposed[column * rows + row] = x);
                }
                self.store_floats(&weight, &[columns, rows], &transposed)?;
                self.graph.node.push(Node::new("MatMul", "", &[input, &weight], output));
            }
            Weights::Blocks(blocks) => {
                let rows = blocks.rows();
                *self.counts.entry(blocks.kind.bits()).or_default() += rows * columns;
                let packed = packed::pack(&blocks)?;
                self.store(&weight, &[packed.len()], UINT8, &packed)?;
                let node = Node::new(BLOCK_PRODUCT, DOMAIN, &[input, &weight], output)
                    .int("kind", blocks.kind.number().into())
                    .int("columns", columns as i64)
                    .int("outputs", rows as i64);
                self.graph.node.push(node);
            }
        }
        Ok(())
    }

    /// The norm of an input, whose weights get a name.
    fn norm(&mut self, tensor: Tensor, weight: &str, input: &str, output: &str) -> Result<()> {
        self.norm_weights(tensor, weight)?;
        let node = Node::new("SimplifiedLayerNormalization", "", &[input, weight], output);
        let node = node.int("axis", -1).int("stash_type", 1).float("epsilon", self.config.norm_epsilon);
        self.graph.node.push(node);
        Ok(())
    }

    /// The norm of the sum of two inputs, and that sum.
    fn skip_norm(
        &mut self,
        tensor: Tensor,
        weight: &str,
        [input, skip]: [&str; 2],
        output: &str,
        sum: &str,
    ) -> Result<()> {
        self.norm_weights(tensor, weight)?;
        let node = Node::new("SkipSimplifiedLayerNormalization", MICROSOFT, &[input, skip, weight], output);
        let node = node.and_output("").and_output("").and_output(sum);
        self.graph.node.push(node.float("epsilon", self.config.norm_epsilon));
        Ok(())
    }

    fn norm_weights(&mut self, tensor: Tensor, name: &str) -> Result<()> {
        let width = match tensor {
            Tensor::QueryNorm(_) | Tensor::KeyNorm(_) => self.config.head,
            _ => self.config.hidden,
        };
        let mut values = self.source.vector(tensor, width)?;
        values.iter_mut().for_each(|value| *value += self.config.norm_shift);
        self.floats(name, &[width], &values);
        Ok(())
    }

    /// A small tensor within the graph.
    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) {
        if self.data.names.insert(name.to_owned()) {
            self.graph.initializer.push(Initializer::floats(name, dims, values));
        }
    }

    /// A vector of integers within the graph; false where it is there already.
    fn integers(&mut self, name: &str, values: &[i64]) -> bool {
        let new = self.data.names.insert(name.to_owned());
        if new {
            self.graph.initializer.push(Initializer::integers(name, &[values.len()], values));
        }
        new
    }

    fn store_floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.store(name, dims, FLOAT, &bytes)
    }

    fn store(&mut self, name: &str, dims: &[usize], data_type: i32, bytes: &[u8]) -> Result<()> {
        let offset = self.data.append(bytes)?;
        self.data.names.insert(name.to_owned());
        let tensor = Initializer::external(name, dims, data_type, DATA_FILE, offset, bytes.len() as u64);
        self.graph.initializer.push(tensor);
        Ok(())
    }
}

/// Names of a rotary embedding's tables.
fn rope_tables(number: usize) -> [String; 2] {
    ["cos_cache", "sin_cache"]
        .map(|name| if number == 0 { name.to_owned() } else { format!("{name}.{number}") })
}

/// One above another, where the formats agree.
fn join(parts: Vec<Weights>) -> std::result::Result<Weights, Vec<Weights>> {
    let agree = parts.windows(2).all(|pair| match pair {
        [Weights::Dense(_), Weights::Dense(_)] => true,
        [Weights::Blocks(a), Weights::Blocks(b)] => (a.kind, a.columns) == (b.kind, b.columns),
        _ => false,
    });
    if !agree {
        return Err(parts);
    }
    let joined = parts.into_iter().reduce(|mut all, part| {
        match (&mut all, part) {
            (Weights::Dense(all), Weights::Dense(part)) => all.extend(part),
            (Weights::Blocks(Blocks { bytes: all, .. }), Weights::Blocks(part)) => all.extend(part.bytes),
            _ => {}
        }
        all
    });
    joined.ok_or_else(Vec::new)
}

/// The weights' file; tensors start on pages.
struct DataFile {
    path: std::path::PathBuf,
    file: BufWriter<File>,
    length: u64,
    /// Of all initializers, those within the graph too.
    names: HashSet<String>,
}

impl DataFile {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|e| unwritable(path, e))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), length: 0, names: HashSet::new() })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let offset = self.length.next_multiple_of(PAGE);
        let padding = vec![0; (offset - self.length) as usize];
        self.file
            .write_all(&padding)
            .and_then(|()| self.file.write_all(bytes))
            .map_err(|e| unwritable(&self.path, e))?;
        self.length = offset + bytes.len() as u64;
        Ok(offset)
    }

    fn finish(self) -> Result<()> {
        let Self { path, file, .. } = self;
        let synced =
            file.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|f| f.sync_all());
        synced.map_err(|e| unwritable(&path, e))
    }
}
