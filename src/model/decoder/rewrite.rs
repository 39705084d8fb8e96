//! Graphs that [`super::graph`] has written, made into what the CPU runs best.

use std::collections::HashMap;

use super::graph::{SCORE_CAP, SEQUENCE_LENGTHS, TOTAL_LENGTH, WINDOW};
use super::operators::{ATTENTION, BLOCK_OFFSETS, DOMAIN, OUTPUT_MULTIPLE};
use crate::model::onnx::{Axis, Graph, INT32, Model, Node, OperatorSet, ValueInfo};

/// Input: the slot of each token, `[rows]`.
pub(super) const SLOTS: &str = "slots";
/// Input: the position of each token in its slot, `[rows]`.
pub(super) const POSITIONS: &str = "positions";

/// Attention over caches of the operator's own, and offsets of blocks in one operator, where an older version wrote them;
/// without the inputs and outputs that held the caches.
pub(super) fn for_operators(model: &mut Model) {
    let Some(graph) = &mut model.graph else { return };
    let outputs = output_widths(graph);
    let makers: HashMap<String, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(at, node)| node.output.iter().map(move |output| (output.clone(), at)))
        .collect();
    // What a node that only changes the shape was given.
    let source = |name: &str, op_type: &str| {
        let node = &graph.node[*makers.get(name)?];
        if node.op_type == op_type { node.input.first().cloned() } else { None }
    };
    let unshaped = |name: &str| source(name, "Reshape").unwrap_or_else(|| name.to_owned());
    let mut nodes = Vec::with_capacity(graph.node.len());
    let mut layer = 0;
    for node in &graph.node {
        match node.op_type.as_str() {
            "GroupQueryAttention" => {
                let mut inputs: Vec<String> = node.input.iter().take(3).map(|name| unshaped(name)).collect();
                inputs.extend([SLOTS, POSITIONS].map(str::to_owned));
                inputs.extend(node.input.iter().skip(7).cloned());
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                let output = node.output.first().map_or("", String::as_str);
                let mut new = Node::new(ATTENTION, DOMAIN, &inputs, output).int("layer", layer);
                let of_both = ["num_heads", "rotary_interleaved", "scale", WINDOW, SCORE_CAP];
                let kept = node.attribute.iter().filter(|a| of_both.contains(&a.name.as_str()));
                new.attribute.extend(kept.cloned());
                nodes.push(new);
                layer += 1;
            }
            "Gemm" => {
                let offsets = node.input.get(1).and_then(|name| outputs.get(name));
                let summed = node.input.first().and_then(|sums| source(sums, "ReduceSum"));
                let (Some(blocks), Some(true), [_, table, product]) =
                    (summed, offsets.map(|n| n % OUTPUT_MULTIPLE == 0), node.input.as_slice())
                else {
                    nodes.push(node.clone());
                    continue;
                };
                let input = unshaped(&blocks);
                let inputs = [product, &input, table].map(String::as_str);
                nodes.push(Node::new(BLOCK_OFFSETS, DOMAIN, &inputs, &node.output[0]));
            }
            _ => nodes.push(node.clone()),
        }
    }
    graph.node = nodes;
    graph.input.retain(|input| {
        let of_cache = input.name.starts_with("past_key_values.");
        !of_cache && input.name != SEQUENCE_LENGTHS && input.name != TOTAL_LENGTH
    });
    graph.output.retain(|output| !output.name.starts_with("present."));
    for name in [SLOTS, POSITIONS] {
        graph.input.push(ValueInfo::tensor(name, INT32, vec![Axis::Free("tokens")]));
    }
    prune(graph);
    if model.opset_import.iter().all(|import| import.domain != DOMAIN) {
        model.opset_import.push(OperatorSet { domain: DOMAIN.to_owned(), version: 1 });
    }
}

/// Columns of the initializers of rank 2.
fn output_widths(graph: &Graph) -> HashMap<String, usize> {
    let rank_2 = graph.initializer.iter().filter(|tensor| tensor.dims.len() == 2);
    rank_2.map(|tensor| (tensor.name.clone(), tensor.dims[1].max(0) as usize)).collect()
}

/// Drops nodes whose outputs nothing uses.
fn prune(graph: &mut Graph) {
    let mut used: std::collections::HashSet<String> =
        graph.output.iter().map(|output| output.name.clone()).collect();
    let mut kept = Vec::with_capacity(graph.node.len());
    // Nodes follow those that they depend on.
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|output| used.contains(output)) {
            used.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.initializer.retain(|tensor| used.contains(&tensor.name));
}
