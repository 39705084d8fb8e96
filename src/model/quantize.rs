//! The fused fp32 graph with the weights of its matrix products as 8-bit integers.
//!
//! Two forms, by what computes fast and is small: ONNX Runtime's CPU kernels multiply blocks of 32 weights that share
//! a scale (`MatMulNBits`, activations rounded to 8 bits as well); OpenVINO takes a scale per column, written as
//! `DequantizeLinear` before the product. Embeddings, biases and norms stay as they are.

use std::collections::HashMap;

use prost::Message;

use super::onnx::{Graph, MICROSOFT, Model, Node, Tensor};
use crate::error::{Error, Result};

const UINT8: i32 = 2;
const INT8: i32 = 3;
const BLOCK: usize = 32;
/// Greatest absolute value of a quantized weight.
const GREATEST: f32 = 127.0;
/// What `MatMulNBits` takes for zero.
const ZERO: f32 = 128.0;
/// `MatMulNBits` computes in 8-bit integers.
const ACCURACY_INT8: i64 = 4;

/// How weights share scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// 32 weights of a column, for ONNX Runtime's CPU kernels.
    Blocks,
    /// A whole column, for OpenVINO.
    Columns,
}

/// Quantizes a graph that [`bert`](super::bert) wrote.
///
/// # Errors
/// `DAMAGED_MODEL` where it is not one.
pub(super) fn quantize(graph: &[u8], form: Form) -> Result<Vec<u8>> {
    let mut model =
        Model::decode(graph).map_err(|e| damaged(format!("the graph cannot be read: {e}")).with_source(e))?;
    let Graph { node: nodes, initializer, .. } =
        model.graph.as_mut().ok_or_else(|| damaged("expected a graph, got none".to_owned()))?;
    let mut writer = Writer {
        weights: std::mem::take(initializer).into_iter().map(|t| (t.name.clone(), t)).collect(),
        nodes: Vec::with_capacity(nodes.len()),
        form,
    };
    for node in std::mem::take(nodes) {
        writer.node(node)?;
    }
    *nodes = writer.nodes;
    *initializer = writer.weights.into_values().collect();
    // Two sessions of the same weights are the same file.
    initializer.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(model.encode_to_vec())
}

struct Writer {
    weights: HashMap<String, Tensor>,
    nodes: Vec<Node>,
    form: Form,
}

/// Weights of a product, `[rows, columns]`.
struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Writer {
    fn node(&mut self, mut node: Node) -> Result<()> {
        let is_product = matches!(node.op_type.as_str(), "MatMul" | "Attention");
        let [state, weight, rest @ ..] = node.input.as_slice() else {
            self.nodes.push(node);
            return Ok(());
        };
        if !is_product {
            self.nodes.push(node);
            return Ok(());
        }
        let (state, weight, rest) = (state.clone(), weight.clone(), rest.to_vec());
        let matrix = self.take(&weight)?;
        let output = node.output.first().cloned().unwrap_or_default();
        match (self.form, node.op_type.as_str(), rest.as_slice()) {
            (Form::Columns, ..) => {
                let dequantized = self.columns(&weight, &matrix);
                if let Some(input) = node.input.get_mut(1) {
                    *input = dequantized;
                }
                self.nodes.push(node);
            }
            (Form::Blocks, "MatMul", _) => self.blocks(&weight, &matrix, &state, &output)?,
            (Form::Blocks, _, [bias, mask]) => {
                let width = matrix.columns / 3;
                let mut inputs = Vec::with_capacity(5);
                for (part, name) in ["query", "key", "value"].into_iter().enumerate() {
                    let product = format!("{output}.{name}");
                    let part = matrix.columns_of(part * width, width);
                    self.blocks(&format!("{weight}.{name}"), &part, &state, &product)?;
                    inputs.push(product);
                }
                inputs.extend([bias.clone(), mask.clone()]);
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                let mut attention = Node::new("MultiHeadAttention", MICROSOFT, &inputs, &output);
                attention.attribute = node.attribute;
                self.nodes.push(attention);
            }
            (Form::Blocks, ..) => {
                return Err(damaged(format!("node {}: expected a bias and a mask", node.name)));
            }
        }
        Ok(())
    }

    /// Takes a weight out of the graph.
    fn take(&mut self, name: &str) -> Result<Matrix> {
        let tensor = self.weights.remove(name).ok_or_else(|| damaged(format!("expected a weight {name}")))?;
        let &[rows, columns] = tensor.dims.as_slice() else {
            return Err(damaged(format!("weight {name}: expected two axes, got {:?}", tensor.dims)));
        };
        let values: Vec<f32> =
            tensor.raw_data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        let (rows, columns) = (usize::try_from(rows).unwrap_or(0), usize::try_from(columns).unwrap_or(0));
        if columns == 0 || rows.checked_mul(columns) != Some(values.len()) {
            return Err(damaged(format!("weight {name}: expected {rows} x {columns}, got {}", values.len())));
        }
        Ok(Matrix { rows, columns, values })
    }

    /// Writes a weight with a scale per column; gives the name under which it is dequantized.
    fn columns(&mut self, name: &str, matrix: &Matrix) -> String {
        let mut scales = vec![0.0_f32; matrix.columns];
        for row in matrix.values.chunks_exact(matrix.columns) {
            scales.iter_mut().zip(row).for_each(|(scale, x)| *scale = scale.max(x.abs()));
        }
        scales.iter_mut().for_each(|scale| *scale = scale_of(*scale));
        let rows = matrix.values.chunks_exact(matrix.columns);
        let quantized =
            rows.flat_map(|row| row.iter().zip(&scales).map(|(x, scale)| rounded(*x, *scale) as i8 as u8));
        let quantized = quantized.collect();
        let [integers, scale, zero, output] =
            ["int8", "scale", "zero", "dequantized"].map(|part| format!("{name}.{part}"));
        self.add(&integers, INT8, &[matrix.rows, matrix.columns], quantized);
        self.add(&zero, INT8, &[matrix.columns], vec![0; matrix.columns]);
        self.insert(Tensor::floats(&scale, &[matrix.columns], &scales));
        let node = Node::new("DequantizeLinear", "", &[&integers, &scale, &zero], &output);
        self.nodes.push(node.int("axis", 1));
        output
    }

    /// Writes `output = input · weight` with a scale per block of a column.
    fn blocks(&mut self, name: &str, matrix: &Matrix, input: &str, output: &str) -> Result<()> {
        let Matrix { rows, columns, values } = matrix;
        if !rows.is_multiple_of(BLOCK) {
            return Err(Error::precondition(
                "UNSUPPORTED_PRECISION",
                format!(
                    "precision int8 on device cpu: expected widths that are multiples of {BLOCK}, got {rows}"
                ),
            ));
        }
        let mut quantized = Vec::with_capacity(values.len());
        let mut scales = Vec::with_capacity(values.len() / BLOCK);
        let mut block = [0.0_f32; BLOCK];
        for column in 0..*columns {
            for first in (0..*rows).step_by(BLOCK) {
                for (x, row) in block.iter_mut().zip(first..) {
                    *x = values[row * columns + column];
                }
                let scale = scale_of(block.iter().fold(0.0, |most: f32, x| most.max(x.abs())));
                quantized.extend(block.iter().map(|&x| (rounded(x, scale) + ZERO) as u8));
                scales.push(scale);
            }
        }
        let [integers, scale] = ["uint8", "scale"].map(|part| format!("{name}.{part}"));
        self.add(&integers, UINT8, &[*columns, rows / BLOCK, BLOCK], quantized);
        self.insert(Tensor::floats(&scale, &[scales.len()], &scales));
        let node = Node::new("MatMulNBits", MICROSOFT, &[input, &integers, &scale], output);
        self.nodes.push(
            node.int("K", *rows as i64)
                .int("N", *columns as i64)
                .int("bits", 8)
                .int("block_size", BLOCK as i64)
                .int("accuracy_level", ACCURACY_INT8),
        );
        Ok(())
    }

    fn add(&mut self, name: &str, data_type: i32, dims: &[usize], raw_data: Vec<u8>) {
        let dims = dims.iter().map(|&d| d as i64).collect();
        self.insert(Tensor { dims, data_type, name: name.to_owned(), raw_data, ..Tensor::default() });
    }

    fn insert(&mut self, tensor: Tensor) {
        self.weights.insert(tensor.name.clone(), tensor);
    }
}

impl Matrix {
    /// Some of its columns.
    fn columns_of(&self, from: usize, count: usize) -> Self {
        let rows = self.values.chunks_exact(self.columns);
        let values = rows.flat_map(|row| row.iter().skip(from).take(count).copied()).collect();
        Self { rows: self.rows, columns: count, values }
    }
}

/// The scale that maps the greatest absolute value to the greatest integer.
fn scale_of(greatest: f32) -> f32 {
    if greatest > 0.0 { greatest / GREATEST } else { 1.0 }
}

fn rounded(value: f32, scale: f32) -> f32 {
    (value / scale).round_ties_even().clamp(-GREATEST, GREATEST)
}

fn damaged(message: String) -> Error {
    Error::data_loss("DAMAGED_MODEL", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product() -> Vec<u8> {
        let values: Vec<f32> = (0..64 * 2).map(|i| (i as f32 - 60.0) / 7.0).collect();
        let graph = Graph {
            node: vec![Node::new("MatMul", "", &["x", "w"], "y")],
            initializer: vec![Tensor::floats("w", &[64, 2], &values)],
            ..Graph::default()
        };
        Model { graph: Some(graph), ..Model::default() }.encode_to_vec()
    }

    #[test]
    fn blocks_keep_weights_to_half_a_step() {
        let graph =
            Model::decode(quantize(&product(), Form::Blocks).unwrap().as_slice()).unwrap().graph.unwrap();
        assert_eq!(graph.node[0].op_type, "MatMulNBits");
        let [scales, weights] = graph.initializer.as_slice() else { panic!("two tensors") };
        assert_eq!((weights.dims.as_slice(), scales.dims.as_slice()), (&[2_i64, 2, 32][..], &[4_i64][..]));
        for (i, &q) in weights.raw_data.iter().enumerate() {
            let (column, row) = (i / 64, i % 64);
            let exact = ((row * 2 + column) as f32 - 60.0) / 7.0;
            let scale = f32::from_le_bytes(scales.raw_data.as_chunks::<4>().0[i / 32]);
            assert!((f32::from(q) - 128.0).mul_add(scale, -exact).abs() <= scale * 0.5001);
        }
    }

    #[test]
    fn columns_are_dequantized_before_the_product() {
        let graph =
            Model::decode(quantize(&product(), Form::Columns).unwrap().as_slice()).unwrap().graph.unwrap();
        let kinds: Vec<_> = graph.node.iter().map(|n| n.op_type.as_str()).collect();
        assert_eq!(kinds, ["DequantizeLinear", "MatMul"]);
        assert_eq!(graph.node[1].input[1], graph.node[0].output[0]);
    }

    #[test]
    fn other_graphs_are_refused() {
        let graph = Graph { node: vec![Node::new("MatMul", "", &["x", "w"], "y")], ..Graph::default() };
        let bytes = Model { graph: Some(graph), ..Model::default() }.encode_to_vec();
        assert_eq!(quantize(&bytes, Form::Blocks).unwrap_err().reason, "DAMAGED_MODEL");
        assert_eq!(quantize(b"\xff\xff", Form::Blocks).unwrap_err().reason, "DAMAGED_MODEL");
    }
}
