//! Written graphs with the operators that every provider has: what CUDA runs.
//!
//! Quantized weights keep their file's values: `y = x · (scale · q)ᵀ + s · offsetᵀ`, where the first product is a symmetric
//! `MatMulNBits` in 4 or 8 bits and `s` holds the sums of `x` over the blocks of the weights.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use ort::value::{DynValue, Tensor as Value};

use super::binding::failed;
use super::graph::DATA_FILE;
use super::operators::{BLOCK_PRODUCT, DOMAIN};
use super::packed::unpack;
use crate::error::{Error, Result};
use crate::model::dir::unreadable;
use crate::model::gguf::{BlockRows, TensorType};
use crate::model::onnx::{FLOAT, Graph, MICROSOFT, Model, Node, Tensor as Initializer, UINT8};

/// `MatMulNBits`: activations in 8-bit integers.
const ACCURACY_LEVEL: i64 = 4;

/// Replaces the products of weights that keep their file's quantization; gives the new weights by their names in the
/// graph, which names them only. `dir` is where the graph's data are.
///
/// # Errors
/// `MODEL_FILE_MISSING`, `DAMAGED_MODEL` for a graph that is not one of those that are written here.
pub(super) fn to_standard(model: &mut Model, dir: &Path) -> Result<Vec<(String, DynValue)>> {
    model.opset_import.retain(|import| import.domain != DOMAIN);
    let Some(graph) = &mut model.graph else { return Ok(Vec::new()) };
    let nodes = std::mem::take(&mut graph.node);
    let packed: HashMap<String, Initializer> =
        graph.initializer.iter().map(|tensor| (tensor.name.clone(), tensor.clone())).collect();
    let mut writer = Writer { graph, data: None, dir, values: Vec::new(), sums: HashSet::new() };
    let mut replaced = HashSet::new();
    for node in nodes {
        if node.op_type != BLOCK_PRODUCT {
            writer.graph.node.push(node);
            continue;
        }
        let weights = node.input.get(1).and_then(|name| packed.get(name));
        let weights = weights.ok_or_else(|| damaged("a product without weights"))?;
        replaced.insert(weights.name.clone());
        writer.product(&node, weights)?;
    }
    let values = writer.values;
    graph.initializer.retain(|tensor| !replaced.contains(&tensor.name));
    Ok(values)
}

struct Writer<'a> {
    graph: &'a mut Graph,
    data: Option<File>,
    dir: &'a Path,
    values: Vec<(String, DynValue)>,
    /// Names of block sums that the graph has already.
    sums: HashSet<String>,
}

impl Writer<'_> {
    fn product(&mut self, node: &Node, weights: &Initializer) -> Result<()> {
        let attribute = |name: &str| {
            let found = node.attribute.iter().find(|attribute| attribute.name == name);
            let value = found.and_then(|attribute| attribute.i).and_then(|value| usize::try_from(value).ok());
            value.ok_or_else(|| damaged(&format!("a product without {name}")))
        };
        let (columns, outputs) = (attribute("columns")?, attribute("outputs")?);
        let kind = TensorType::from_number(attribute("kind")? as u32);
        let kind = kind.ok_or_else(|| damaged("a product of an unknown kind"))?;
        let (Some(input), Some(output)) = (node.input.first(), node.output.first()) else {
            return Err(damaged("a product without input or output"));
        };
        let blocks = unpack(kind, outputs, columns, &self.read(weights)?)?.to_rows();
        let name = |part: &str| format!("{}.{part}", weights.name);
        let width = blocks.block * blocks.bits / 8;
        let bytes = if blocks.bits == 4 { nibbles_of(&blocks) } else { bytes_of(&blocks) };
        self.bytes(&name("packed"), vec![outputs, blocks.blocks_per_row, width], bytes)?;
        self.floats(&name("scales"), vec![outputs, blocks.blocks_per_row], blocks.scales)?;
        let symmetric = if blocks.offsets.is_some() { name("symmetric") } else { output.clone() };
        let product =
            Node::new("MatMulNBits", MICROSOFT, &[input, &name("packed"), &name("scales")], &symmetric)
                .int("K", columns as i64)
                .int("N", outputs as i64)
                .int("bits", blocks.bits as i64)
                .int("block_size", blocks.block as i64)
                .int("accuracy_level", ACCURACY_LEVEL);
        self.graph.node.push(product);
        let Some(offsets) = blocks.offsets else { return Ok(()) };
        let per_row = blocks.blocks_per_row;
        let mut transposed = vec![0.0; offsets.len()];
        for (row, from) in offsets.chunks_exact(per_row).enumerate() {
            from.iter().enumerate().for_each(|(block, &x)| transposed[block * outputs + row] = x);
        }
        self.floats(&name("offsets"), vec![per_row, outputs], transposed)?;
        let sums = self.block_sums(input, columns, blocks.block);
        self.graph.node.push(Node::new("Gemm", "", &[&sums, &name("offsets"), &symmetric], output));
        Ok(())
    }

    /// Sums of an input over blocks of its columns, once for each input: `[rows, columns / block]`.
    fn block_sums(&mut self, input: &str, columns: usize, block: usize) -> String {
        let sums = format!("{input}.sums{block}");
        if !self.sums.insert(sums.clone()) {
            return sums;
        }
        let (shape, axis, blocks) =
            (format!("{sums}.shape"), format!("{sums}.axis"), format!("{input}.blocks{block}"));
        let values = [-1, (columns / block) as i64, block as i64];
        self.graph.initializer.push(Initializer::integers(&shape, &[3], &values));
        self.graph.initializer.push(Initializer::integers(&axis, &[1], &[2]));
        self.graph.node.push(Node::new("Reshape", "", &[input, &shape], &blocks));
        self.graph.node.push(Node::new("ReduceSum", "", &[&blocks, &axis], &sums).int("keepdims", 0));
        sums
    }

    fn bytes(&mut self, name: &str, dims: Vec<usize>, values: Vec<u8>) -> Result<()> {
        self.declare(name, &dims, UINT8, values.len());
        let value = Value::from_array((dims, values)).map_err(failed)?.into_dyn();
        self.values.push((name.to_owned(), value));
        Ok(())
    }

    fn floats(&mut self, name: &str, dims: Vec<usize>, values: Vec<f32>) -> Result<()> {
        self.declare(name, &dims, FLOAT, values.len() * size_of::<f32>());
        let value = Value::from_array((dims, values)).map_err(failed)?.into_dyn();
        self.values.push((name.to_owned(), value));
        Ok(())
    }

    /// As one whose data are elsewhere, for a graph of more than 2 GB cannot be given to ONNX Runtime.
    fn declare(&mut self, name: &str, dims: &[usize], data_type: i32, bytes: usize) {
        let tensor = Initializer::external(name, dims, data_type, DATA_FILE, 0, bytes as u64);
        self.graph.initializer.push(tensor);
    }

    fn read(&mut self, tensor: &Initializer) -> Result<Vec<u8>> {
        let entry = |key: &str| {
            let found = tensor.external_data.iter().find(|entry| entry.key == key);
            let value = found.and_then(|entry| entry.value.parse::<u64>().ok());
            value.ok_or_else(|| damaged(&format!("tensor {} without {key}", tensor.name)))
        };
        let (offset, length) = (entry("offset")?, entry("length")?);
        let path = self.dir.join(DATA_FILE);
        let file = match &mut self.data {
            Some(file) => file,
            none => none.insert(File::open(&path).map_err(|e| unreadable(&path, e))?),
        };
        let there = file.metadata().map_err(|e| unreadable(&path, e))?.len();
        if offset.checked_add(length).is_none_or(|end| end > there) {
            return Err(damaged(&format!("tensor {} beyond the end of {DATA_FILE}", tensor.name)));
        }
        let mut bytes = vec![0; length as usize];
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| unreadable(&path, e))?;
        Ok(bytes)
    }
}

/// As `MatMulNBits` wants them: an unsigned byte each, zero at 128.
pub(super) fn bytes_of(blocks: &BlockRows) -> Vec<u8> {
    blocks.values.iter().map(|&q| (i16::from(q) + 128) as u8).collect()
}

/// As `MatMulNBits` wants them: two to a byte, the first one low, zero at 8.
pub(super) fn nibbles_of(blocks: &BlockRows) -> Vec<u8> {
    let pairs = blocks.values.as_chunks::<2>().0.iter();
    pairs.map(|&[low, high]| (low + 8) as u8 | ((high + 8) as u8) << 4).collect()
}

fn damaged(what: &str) -> Error {
    Error::data_loss("DAMAGED_MODEL", format!("expected a graph as it is written by an import, got {what}"))
}
