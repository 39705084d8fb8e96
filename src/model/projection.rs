//! What becomes of a pooled vector: dense layers behind the pooling, and the cut to its leading components.

use std::collections::BTreeMap;

use prost::bytes::Bytes;
use serde::Deserialize;

use super::dir::{Folder, SAFETENSORS, unsupported};
use super::modules::{Modules, Stage, within};
use super::weights;
use crate::domain::{dot, scale_to_unit};
use crate::error::{Error, Result};

/// Weights in the form of Python's pickle, which are a program.
const PICKLED: &str = "pytorch_model.bin";
/// Widest vector that a dense layer takes or gives; larger numbers are damage.
const MOST: usize = 1 << 16;

/// The way from a pooled vector to the one that the model gives.
#[derive(Debug, Clone, Default)]
pub struct Projection {
    steps: Vec<Step>,
    dimensions: usize,
}

#[derive(Debug, Clone)]
enum Step {
    Dense(Dense),
    Normalize,
}

/// A dense layer: `activation(weight · x + bias)`.
#[derive(Debug, Clone)]
struct Dense {
    /// Flat `[outputs, inputs]`.
    weight: Vec<f32>,
    /// Empty where there is none.
    bias: Vec<f32>,
    inputs: usize,
    activation: Activation,
}

#[derive(Debug, Clone, Copy)]
enum Activation {
    Identity,
    Tanh,
    Relu,
    Sigmoid,
}

impl Activation {
    /// Of the class that the configuration names; tanh where it names none, as sentence-transformers has it.
    fn of(class: Option<&str>, file: &str) -> Result<Self> {
        match class.map_or("Tanh", |class| class.rsplit('.').next().unwrap_or(class)) {
            "Identity" => Ok(Self::Identity),
            "Tanh" => Ok(Self::Tanh),
            "ReLU" => Ok(Self::Relu),
            "Sigmoid" => Ok(Self::Sigmoid),
            _ => Err(unsupported(format!(
                "{file}: expected an activation_function of Identity, Tanh, ReLU or Sigmoid, got {:?}",
                class.unwrap_or_default()
            ))),
        }
    }

    fn apply(self, x: f32) -> f32 {
        match self {
            Self::Identity => x,
            Self::Tanh => x.tanh(),
            Self::Relu => x.max(0.0),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        }
    }
}

#[derive(Deserialize)]
struct DenseConfig {
    in_features: usize,
    out_features: usize,
    #[serde(default = "yes")]
    bias: bool,
    activation_function: Option<String>,
    module_input_name: Option<String>,
    module_output_name: Option<String>,
}

fn yes() -> bool {
    true
}

impl DenseConfig {
    /// Checks that the layer takes a vector of `width` and changes the text's vector and nothing else.
    fn read(folder: &Folder, layer: &str, width: usize) -> Result<Self> {
        let file = within(layer, "config.json");
        let config: Self = folder.json(&file)?.ok_or_else(|| folder.missing(&file))?;
        if config.in_features != width || !(1..=MOST).contains(&config.out_features) {
            return Err(unsupported(format!(
                "{file}: expected in_features {width}, the width before it, and out_features of 1 to {MOST}, got {} \
                 and {}",
                config.in_features, config.out_features
            )));
        }
        let names = [&config.module_input_name, &config.module_output_name];
        if let Some(name) = names.into_iter().flatten().find(|name| *name != "sentence_embedding") {
            return Err(unsupported(format!(
                "{file}: expected a layer on sentence_embedding, the pooled vector, got {name:?}"
            )));
        }
        Activation::of(config.activation_function.as_deref(), &file)?;
        Ok(config)
    }
}

/// Names of the files that dense layers are made of.
pub(super) fn files(folder: &Folder) -> Vec<String> {
    folder
        .layout
        .dense()
        .flat_map(|layer| ["config.json", SAFETENSORS].map(|name| within(layer, name)))
        .collect()
}

/// Width of the vectors that come out, of token states so wide; reads no weights.
///
/// # Errors
/// `UNSUPPORTED_MODEL`, `MODEL_FILE_MISSING`, `DAMAGED_MODEL`.
pub(super) fn dimensions(folder: &Folder, modules: &Modules, width: usize) -> Result<usize> {
    let mut width = width;
    for layer in folder.layout.dense() {
        width = DenseConfig::read(folder, layer, width)?.out_features;
    }
    match modules.truncate {
        None => Ok(width),
        Some(kept) if (1..=width).contains(&kept) => Ok(kept),
        Some(kept) => Err(unsupported(format!(
            "{}: expected a truncate_dim of 1 to {width}, the width of the vectors, got {kept}",
            super::modules::PROMPTS
        ))),
    }
}

impl Projection {
    /// Reads the layers, whose weights are among the files that were read.
    ///
    /// # Errors
    /// Those of [`dimensions`].
    pub(super) fn read(
        folder: &Folder,
        kept: &BTreeMap<String, Bytes>,
        width: usize,
        dimensions: usize,
    ) -> Result<Self> {
        let mut steps = Vec::new();
        let mut width = width;
        // A scaling at the end is the caller's choice.
        let scaled =
            folder.layout.stages.iter().rev().take_while(|stage| **stage == Stage::Normalize).count();
        let inner = folder.layout.stages.len() - scaled;
        for stage in folder.layout.stages.iter().take(inner) {
            let Stage::Dense(layer) = stage else {
                steps.push(Step::Normalize);
                continue;
            };
            let config = DenseConfig::read(folder, layer, width)?;
            let file = within(layer, SAFETENSORS);
            let bytes = kept.get(&file).ok_or_else(|| no_weights(folder, layer))?;
            let tensors = weights::parse(&file, bytes)?;
            let outputs = config.out_features;
            let weight = weights::floats(&tensors, "linear.weight", &[outputs, width])?;
            let bias = match config.bias {
                true => weights::floats(&tensors, "linear.bias", &[outputs])?,
                false => Vec::new(),
            };
            let activation = Activation::of(config.activation_function.as_deref(), &file)?;
            steps.push(Step::Dense(Dense { weight, bias, inputs: width, activation }));
            width = outputs;
        }
        Ok(Self { steps, dimensions })
    }

    /// Whether there are dense layers, whose cost is worth a thread of its own and whose vectors are of another space
    /// than the states.
    pub fn is_dense(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Dense(_)))
    }

    /// The model's vector of a pooled one.
    pub fn apply(&self, mut vector: Vec<f32>) -> Vec<f32> {
        for step in &self.steps {
            match step {
                Step::Dense(dense) => vector = dense.apply(&vector),
                Step::Normalize => scale_to_unit(&mut vector),
            }
        }
        vector.truncate(self.dimensions);
        vector
    }
}

impl Dense {
    fn apply(&self, x: &[f32]) -> Vec<f32> {
        let rows = self.weight.chunks_exact(self.inputs);
        let biases = self.bias.iter().copied().chain(std::iter::repeat(0.0));
        rows.zip(biases).map(|(row, bias)| self.activation.apply(dot(row, x) + bias)).collect()
    }
}

fn no_weights(folder: &Folder, layer: &str) -> Error {
    let pickled = within(layer, PICKLED);
    if !folder.path.join(&pickled).is_file() {
        return folder.missing(&within(layer, SAFETENSORS));
    }
    unsupported(format!(
        "expected {}, got {pickled}, a form that only Python reads, and that can run code: save the model again with \
         sentence-transformers 3 or later, which writes safetensors",
        within(layer, SAFETENSORS)
    ))
}
