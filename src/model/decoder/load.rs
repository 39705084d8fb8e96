//! Decoders into ONNX Runtime, each with the caches that suit its graph and device.

use std::path::Path;
use std::sync::Arc;

use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::{DynValue, Outlet, ValueType};
use prost::Message;

use super::graph::{LOGIT_ROWS, LOGITS};
use super::growing::GrowingCache;
use super::operators::{self, KvCache};
use super::rewrite::for_operators;
use super::session::{Cache, CacheShape, DecoderOptions, DecoderSession};
use super::shared::{Memory, SharedCache, copy_graph};
use super::slots::SlotCache;
use super::standard::to_standard;
use crate::error::{Error, Result};
use crate::model::device::{Device, Precision, SessionOptions};
use crate::model::half::to_half;
use crate::model::onnx::{Graph, Model, ValueInfo};
use crate::model::runtime::Runtime;
use crate::model::session::{provider, session_error};

/// Graphs that are written here have their weights in a file beside them, and are smaller than this.
const MOST_BYTES: u64 = 64 << 20;
const FIRST_KEY: &str = "past_key_values.0.key";

impl DecoderSession {
    /// Loads a graph: one that [`super::import_gguf`] has written, or a ready-made one in the Hugging Face layout.
    ///
    /// # Errors
    /// `SESSION_FAILED` where ONNX Runtime cannot load it, `DEVICE_UNAVAILABLE`, `UNSUPPORTED_DEVICE`,
    /// `UNSUPPORTED_MODEL`.
    pub fn load(graph: &Path, options: DecoderOptions) -> Result<Self> {
        let device = if options.device == Device::Auto { Device::Cpu } else { options.device };
        if device == Device::Openvino {
            return Err(Error::invalid(
                "UNSUPPORTED_DEVICE",
                format!("expected a generator on device auto, cpu or cuda, got {}", device.as_str()),
            ));
        }
        let options = DecoderOptions { device, ..options };
        match (written(graph)?, device) {
            (Some(model), Device::Cuda) => load_shared(graph, model, options),
            (Some(mut model), _) => {
                // Without vector instructions for them ONNX Runtime's products are faster, though they take more memory.
                let weights = if operators::has_fast_products() {
                    Vec::new()
                } else {
                    to_standard(&mut model, graph.parent().unwrap_or(graph))?
                };
                load_slots(graph, model, weights, options)
            }
            (None, _) => load_growing(graph, options),
        }
    }
}

/// With caches in buffers of the device, in 16-bit floats: `GroupQueryAttention` on CUDA takes no others.
pub(super) fn load_shared(path: &Path, mut model: Model, options: DecoderOptions) -> Result<DecoderSession> {
    let (layers, shape, vocabulary) = sizes(&model, options)?;
    let weights = to_standard(&mut model, path.parent().unwrap_or(path))?;
    if let Some(graph) = &mut model.graph {
        to_half(graph, |output| output.starts_with("present."));
    }
    let builder_of_weights = with_weights(builder(options)?, weights, options)?;
    let session = commit_model(path, &model, builder_of_weights, options)?;
    let memory = if options.device == Device::Cuda { Memory::Cuda(options.cuda) } else { Memory::Host };
    let copier = commit_model(path, &copy_graph(), builder(options)?, options)?;
    let cache = SharedCache::new(session, copier, layers, shape, vocabulary, memory)?;
    Ok(DecoderSession::new(
        Cache::Shared(Box::new(cache)),
        (layers, shape),
        vocabulary,
        of(options).provider(),
    ))
}

/// With caches of the operators' own. `weights` are those that are not in the file beside the graph.
pub(super) fn load_slots(
    path: &Path,
    mut model: Model,
    weights: Vec<(String, DynValue)>,
    options: DecoderOptions,
) -> Result<DecoderSession> {
    let (layers, shape, vocabulary) = sizes(&model, options)?;
    for_operators(&mut model);
    let cache = Arc::new(KvCache::new(layers, shape)?);
    let failed = |e: String| session_error(&of(options), &e);
    let domain = operators::domain(Arc::clone(&cache)).map_err(|e| failed(e.to_string()))?;
    let builder = builder(options)?.with_operators(domain).map_err(|e| failed(e.to_string()))?;
    let builder = with_weights(builder, weights, options)?;
    let session = commit_model(path, &model, builder, options)?;
    let cache = SlotCache::new(session, cache, shape, vocabulary)?;
    Ok(DecoderSession::new(
        Cache::Slots(Box::new(cache)),
        (layers, shape),
        vocabulary,
        of(options).provider(),
    ))
}

fn load_growing(path: &Path, options: DecoderOptions) -> Result<DecoderSession> {
    let failed = |e: ort::Error| session_error(&of(options), &format!("{}: {e}", path.display()));
    let session = builder(options)?.commit_from_file(path).map_err(failed)?;
    let layers = session.inputs().iter().filter(|input| is_key(input.name())).count();
    let cache = outlet_axes(session.inputs(), FIRST_KEY)?;
    let shape = cache_shape(&cache, options)?;
    let vocabulary = last_axis(&outlet_axes(session.outputs(), LOGITS)?)?;
    let cache = GrowingCache::new(session, layers, shape, vocabulary)?;
    Ok(DecoderSession::new(
        Cache::Growing(Box::new(cache)),
        (layers, shape),
        vocabulary,
        of(options).provider(),
    ))
}

/// The graph, if it is one that is written here.
pub(super) fn written(path: &Path) -> Result<Option<Model>> {
    let unreadable = |e: std::io::Error| {
        Error::precondition("SESSION_FAILED", format!("cannot read {}: {e}", path.display())).with_source(e)
    };
    if !path.is_file() {
        return Err(Error::not_found("MODEL_FILE_MISSING", format!("no graph at {}", path.display())));
    }
    if path.metadata().map_err(unreadable)?.len() > MOST_BYTES {
        return Ok(None);
    }
    // What this cannot parse ONNX Runtime will say more about.
    let model = Model::decode(std::fs::read(path).map_err(unreadable)?.as_slice()).ok();
    let is_written = |graph: &Graph| graph.input.iter().any(|input| input.name == LOGIT_ROWS);
    Ok(model.filter(|model| model.graph.as_ref().is_some_and(is_written)))
}

/// Layers, caches and vocabulary.
fn sizes(model: &Model, options: DecoderOptions) -> Result<(usize, CacheShape, usize)> {
    let graph = model.graph.as_ref().ok_or_else(|| unsupported("expected a graph, got none".to_owned()))?;
    let layers = graph.input.iter().filter(|input| is_key(&input.name)).count();
    let shape = cache_shape(&axes(&graph.input, FIRST_KEY)?, options)?;
    let vocabulary = last_axis(&axes(&graph.output, LOGITS)?)?;
    Ok((layers, shape, vocabulary))
}

fn cache_shape(axes: &[i64], options: DecoderOptions) -> Result<CacheShape> {
    let sizes = match axes {
        &[_, heads, _, width] => [heads, width].map(usize::try_from),
        other => return Err(unsupported(format!("expected a KV cache of rank 4, got axes {other:?}"))),
    };
    let [Ok(heads), Ok(width)] = sizes else {
        return Err(unsupported(format!("expected fixed heads and widths, got {axes:?}")));
    };
    let shape = CacheShape { slots: options.slots.max(1), heads, capacity: options.context_tokens, width };
    let fits = shape.of_slot().checked_mul(shape.slots).is_some_and(|n| n < isize::MAX as usize / 8);
    if heads == 0 || width == 0 || shape.capacity == 0 || !fits {
        return Err(unsupported(format!("expected sizes above zero that fit into memory, got {shape:?}")));
    }
    Ok(shape)
}

fn last_axis(axes: &[i64]) -> Result<usize> {
    let last = axes.last().and_then(|&axis| usize::try_from(axis).ok()).filter(|&size| size > 0);
    last.ok_or_else(|| unsupported(format!("expected a fixed vocabulary, got axes {axes:?}")))
}

fn of(options: DecoderOptions) -> SessionOptions {
    SessionOptions {
        device: options.device,
        precision: Precision::Auto,
        threads: options.threads.max(1),
        cuda: options.cuda,
    }
}

fn builder(options: DecoderOptions) -> Result<SessionBuilder> {
    let resolved = of(options);
    let failed = |e: String| session_error(&resolved, &e);
    let environment = Runtime::environment()?;
    let mut builder = Session::builder(&environment)
        .map_err(|e| failed(e.to_string()))?
        .with_intra_threads(resolved.threads)
        .map_err(|e| failed(e.to_string()))?
        .with_intra_op_spinning(options.spinning)
        .map_err(|e| failed(e.to_string()))?
        // Threads spin between the operators of a run, not between runs.
        .with_config_entry("session.force_spinning_stop", "1")
        .map_err(|e| failed(e.to_string()))?;
    if let Some(provider) = provider(&resolved)? {
        builder = builder.with_execution_providers([provider]).map_err(|e| failed(e.to_string()))?;
    }
    Ok(builder)
}

/// Gives a session weights by their names in its graph.
fn with_weights(
    mut builder: SessionBuilder,
    weights: Vec<(String, DynValue)>,
    options: DecoderOptions,
) -> Result<SessionBuilder> {
    for (name, value) in weights {
        let failed = |e: String| session_error(&of(options), &e);
        builder = builder.with_external_initializer(name, value).map_err(|e| failed(e.to_string()))?;
    }
    Ok(builder)
}

/// The graph comes from memory, its weights from the file beside where it was.
fn commit_model(
    path: &Path,
    model: &Model,
    builder: SessionBuilder,
    options: DecoderOptions,
) -> Result<Session> {
    let failed = |e: String| session_error(&of(options), &format!("{}: {e}", path.display()));
    let dir = path.parent().unwrap_or(path).to_string_lossy();
    builder
        .with_config_entry("session.model_external_initializers_file_folder_path", dir)
        .map_err(|e| failed(e.to_string()))?
        .commit_from_memory(&model.encode_to_vec())
        .map_err(|e| failed(e.to_string()))
}

fn is_key(name: &str) -> bool {
    name.starts_with("past_key_values.") && name.ends_with(".key")
}

/// Axes of a written graph's input or output; −1 for those that are free.
fn axes(values: &[ValueInfo], name: &str) -> Result<Vec<i64>> {
    let value = values.iter().find(|value| value.name == name);
    let shape = value.and_then(|v| v.kind.as_ref()?.tensor_type.as_ref()?.shape.as_ref());
    let shape =
        shape.ok_or_else(|| unsupported(format!("expected a decoder with a tensor {name}, got none")))?;
    Ok(shape.dim.iter().map(|dim| dim.value.unwrap_or(-1)).collect())
}

/// As [`axes`], of a session.
fn outlet_axes(outlets: &[Outlet], name: &str) -> Result<Vec<i64>> {
    match outlets.iter().find(|outlet| outlet.name() == name).map(Outlet::dtype) {
        Some(ValueType::Tensor { shape, .. }) => Ok(shape.iter().copied().collect()),
        other => Err(unsupported(format!("expected a decoder with a tensor {name}, got {other:?}"))),
    }
}

fn unsupported(message: String) -> Error {
    Error::precondition("UNSUPPORTED_MODEL", message)
}
