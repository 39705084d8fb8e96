//! Graphs in 16-bit floats, for devices that compute faster in them.

use std::collections::HashSet;

use super::onnx::{FLOAT, FLOAT16, Graph, Node, ValueInfo};

/// Makes a graph compute in 16-bit floats. Weights stay as they are in the file: the runtime rounds them as it loads the
/// graph. Inputs of floats become 16 bits wide, and so do the outputs that `narrow` names; the others stay 32 bits wide.
pub(super) fn to_half(graph: &mut Graph, narrow: impl Fn(&str) -> bool) {
    let weights: HashSet<String> = graph
        .initializer
        .iter()
        .filter(|tensor| tensor.data_type == FLOAT)
        .map(|tensor| tensor.name.clone())
        .collect();
    let wide: HashSet<String> = graph
        .output
        .iter()
        .filter(|output| is_float(output) && !narrow(&output.name))
        .map(|output| output.name.clone())
        .collect();
    let half = |name: &str| format!("{name}.half");
    let cast = |from: &str, to: &str, kind: i32| Node::new("Cast", "", &[from], to).int("to", kind.into());
    for node in &mut graph.node {
        let names = node.input.iter_mut().filter(|name| weights.contains(*name) || wide.contains(*name));
        names.for_each(|name| *name = half(name));
        let names = node.output.iter_mut().filter(|name| wide.contains(*name));
        names.for_each(|name| *name = half(name));
        if node.op_type == "Cast" {
            for attribute in node.attribute.iter_mut().filter(|attribute| attribute.i == Some(FLOAT.into())) {
                attribute.i = Some(FLOAT16.into());
            }
        }
    }
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        if is_float(value) && !wide.contains(&value.name) {
            set_half(value);
        }
    }
    let mut names: Vec<String> = weights.into_iter().collect();
    names.sort_unstable();
    graph.node.splice(0..0, names.iter().map(|name| cast(name, &half(name), FLOAT16)));
    let mut names: Vec<String> = wide.into_iter().collect();
    names.sort_unstable();
    graph.node.extend(names.iter().map(|name| cast(&half(name), name, FLOAT)));
}

fn is_float(value: &ValueInfo) -> bool {
    value.kind.as_ref().and_then(|kind| kind.tensor_type.as_ref()).is_some_and(|t| t.elem_type == FLOAT)
}

fn set_half(value: &mut ValueInfo) {
    if let Some(tensor) = value.kind.as_mut().and_then(|kind| kind.tensor_type.as_mut()) {
        tensor.elem_type = FLOAT16;
    }
}
