//! Ways for `fuzz/` to the readers of models.

use std::path::Path;

use prost::bytes::Bytes;
use safetensors::SafeTensors;

use super::bert::{self, Architecture};
use super::config::Config;
use super::decoder::DecoderConfig;
use super::graph::GraphFile;

/// Weights in safetensors under a configuration that fits them: a graph is written of them, or there is an error.
pub fn safetensors(config: &[u8], weights: &[u8]) {
    let Ok(config) = serde_json::from_slice::<Config>(config) else { return };
    let _ = config.positions();
    let _ = config.is_generator();
    let Ok(architecture) = Architecture::read(&config) else { return };
    if let Ok((graph, _)) = bert::build(&architecture, weights, None) {
        let parsed = GraphFile::parse(graph.into(), "model.onnx");
        assert!(parsed.is_ok_and(|parsed| parsed.external_files().is_ok()), "a graph that cannot be read");
    }
}

/// A decoder's configuration.
pub fn decoder_config(json: &[u8]) {
    if let Ok(config) = DecoderConfig::from_json(json) {
        let _ = format!("{config:?}");
    }
}

/// The parts of a ready-made graph that are read.
pub fn graph(bytes: &[u8]) {
    let Ok(graph) = GraphFile::parse(Bytes::copy_from_slice(bytes), "model.onnx") else { return };
    let _ = graph.external_files();
    for width in [1, 2, 384] {
        let _ = graph.static_table(Path::new("/nonexistent"), width);
    }
}

/// A small encoder: its configuration and its weights.
pub fn safetensors_seed() -> (Vec<u8>, Vec<u8>) {
    let config = br#"{"model_type":"bert","hidden_size":2,"intermediate_size":2,"num_attention_heads":1,
        "num_hidden_layers":1,"vocab_size":2,"max_position_embeddings":2,"type_vocab_size":1,"hidden_act":"gelu"}"#;
    let matrix = ["query", "key", "value"].map(|part| format!("attention.self.{part}"));
    let others = ["attention.output.dense", "intermediate.dense", "output.dense"].map(str::to_owned);
    let norms = ["attention.output.LayerNorm", "output.LayerNorm"];
    let mut tensors: Vec<(String, Vec<usize>)> = Vec::new();
    for name in matrix.iter().chain(&others) {
        tensors.push((format!("encoder.layer.0.{name}.weight"), vec![2, 2]));
        tensors.push((format!("encoder.layer.0.{name}.bias"), vec![2]));
    }
    for name in norms {
        tensors.push((format!("encoder.layer.0.{name}.weight"), vec![2]));
        tensors.push((format!("encoder.layer.0.{name}.bias"), vec![2]));
    }
    for (name, rows) in [("word", 2), ("position", 2), ("token_type", 1)] {
        tensors.push((format!("embeddings.{name}_embeddings.weight"), vec![rows, 2]));
    }
    for part in ["weight", "bias"] {
        tensors.push((format!("embeddings.LayerNorm.{part}"), vec![2]));
    }
    let data = [0_u8; 16];
    let views = tensors.iter().filter_map(|(name, shape)| {
        let bytes = data.get(..shape.iter().product::<usize>() * 4)?;
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        Some((name.clone(), view.ok()?))
    });
    let weights = safetensors::serialize(views, None).unwrap_or_default();
    debug_assert!(SafeTensors::deserialize(&weights).is_ok());
    (config.to_vec(), weights)
}
