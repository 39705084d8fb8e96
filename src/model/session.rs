//! Sessions of ONNX Runtime that turn token ids into hidden states.

use std::path::PathBuf;

use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider};
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session, SessionOutputs};
use ort::value::{DynValue, Outlet, Tensor, TensorElementType, ValueType};
use prost::Message;
use prost::bytes::Bytes;

use super::config::ModelKind;
use super::device::{Device, Precision, SessionOptions};
use super::dir::unsupported;
use super::half::to_half;
use super::onnx::Model;
use super::quantize::{Form, quantize};
use super::runtime::Runtime;
use super::table::StaticTable;
use crate::error::{Error, Result};

/// A batch of rows of one length, each flat `[batch, sequence]`.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Token ids; those under a mask of zero do not matter.
    pub ids: &'a [i64],
    /// One for tokens, zero for what fills a row up.
    pub mask: &'a [i64],
    /// Token types; empty where all are zero.
    pub types: &'a [i64],
    /// Rows.
    pub batch: usize,
    /// Length of each.
    pub sequence: usize,
}

/// Outputs with token vectors, in the order in which they are looked for.
const OUTPUTS: [&str; 2] = ["last_hidden_state", "token_embeddings"];

/// An encoder's graph with its weights, from which sessions are made.
pub struct EncoderGraph {
    pub(super) bytes: Bytes,
    /// Where it is, if some of its weights are in files beside it.
    pub(super) file: Option<PathBuf>,
    /// Whether it is one of the fused graphs that are written here.
    pub(super) fused: bool,
    /// What it gives.
    pub(super) kind: ModelKind,
    pub(super) width: usize,
    pub(super) table: Option<StaticTable>,
}

impl EncoderGraph {
    /// The graph as an ONNX file's contents.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Tokens that have an input embedding, if the graph has them in plain sight.
    pub fn vocabulary(&self) -> Option<usize> {
        self.table.as_ref().map(StaticTable::vocabulary)
    }

    /// Takes the input embeddings out, if the graph has them in plain sight.
    pub fn take_table(&mut self) -> Option<StaticTable> {
        self.table.take()
    }

    /// The graph that a precision computes with on a device; `None` where it is this one.
    ///
    /// # Errors
    /// `UNSUPPORTED_PRECISION` for a ready-made graph in int8 or fp16.
    pub fn prepare(&self, options: &SessionOptions) -> Result<Option<Self>> {
        let precision = options.precision;
        if !matches!(precision, Precision::Int8 | Precision::Fp16) {
            return Ok(None);
        }
        if !self.fused {
            return Err(Error::precondition(
                "UNSUPPORTED_PRECISION",
                format!(
                    "precision {} needs a model imported from safetensors; this one is a ready-made ONNX graph, which \
                     runs in the precision that it was made in",
                    precision.as_str()
                ),
            ));
        }
        let bytes = match (precision, options.device) {
            (Precision::Fp16, _) => halved(&self.bytes)?,
            (_, Device::Openvino) => quantize(&self.bytes, Form::Columns)?,
            _ => quantize(&self.bytes, Form::Blocks)?,
        };
        let (kind, width) = (self.kind, self.width);
        Ok(Some(Self { bytes: bytes.into(), file: None, fused: true, kind, width, table: None }))
    }
}

/// The graph in 16-bit floats; the hidden states come out of it 32 bits wide, as all else here expects them.
fn halved(graph: &[u8]) -> Result<Vec<u8>> {
    let mut model = Model::decode(graph).map_err(|e| {
        Error::internal("SESSION_FAILED", format!("the graph cannot be read: {e}")).with_source(e)
    })?;
    if let Some(graph) = &mut model.graph {
        to_half(graph, |_| false);
    }
    Ok(model.encode_to_vec())
}

/// What an input of the graph is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Ids,
    Mask,
    Types,
}

struct Input {
    name: String,
    role: Role,
    /// 64-bit instead of 32-bit integers.
    wide: bool,
}

/// One loaded encoder or cross-encoder; runs one batch at a time.
pub struct EncoderSession {
    session: Session,
    inputs: Vec<Input>,
    output: String,
    kind: ModelKind,
    dimensions: usize,
    padding: i64,
    landing: Option<Landing>,
}

/// Where a device leaves the hidden states: memory of the host that it writes to without a copy between. Pooling reads
/// them there.
struct Landing {
    binding: IoBinding,
    memory: MemoryInfo<'static>,
}

impl Landing {
    fn new(session: &Session, memory: MemoryInfo<'static>) -> ort::Result<Self> {
        Ok(Self { binding: session.create_binding()?, memory })
    }

    /// Memory that a CUDA device's driver has pinned.
    fn pinned(session: &Session, device: u32) -> ort::Result<Self> {
        let id = i32::try_from(device).unwrap_or(i32::MAX);
        let memory =
            MemoryInfo::new(AllocationDevice::CUDA_PINNED, id, AllocatorType::Device, MemoryType::CPUOutput)?;
        Self::new(session, memory)
    }

    fn run<'s>(
        &'s mut self,
        session: &'s mut Session,
        values: Vec<(&str, DynValue)>,
        output: &str,
    ) -> ort::Result<SessionOutputs<'s>> {
        for (name, value) in values {
            // The binding keeps the value. It must own its data: ort would copy what is borrowed, and hangs on that.
            self.binding.bind_input(name, &value)?;
        }
        self.binding.bind_output_to_device(output, &self.memory)?;
        let outputs = session.run_binding(&self.binding)?;
        self.binding.synchronize_outputs()?;
        Ok(outputs)
    }
}

impl EncoderSession {
    /// Makes a session of a graph with resolved options; rows are filled up with the padding id.
    ///
    /// # Errors
    /// `DEVICE_UNAVAILABLE`, `SESSION_FAILED`, or `UNSUPPORTED_MODEL` where inputs or outputs are not an encoder's.
    pub fn load(graph: &EncoderGraph, padding: u32, options: SessionOptions) -> Result<Self> {
        let failed = |e: ort::Error| session_error(&options, &e.to_string());
        let environment = Runtime::environment()?;
        let mut builder = Session::builder(&environment)
            .map_err(failed)?
            .with_intra_threads(options.threads)
            .map_err(|e| failed(e.into()))?
            .with_intra_op_spinning(false)
            .map_err(|e| failed(e.into()))?;
        if let Some(provider) = provider(&options)? {
            builder = builder.with_execution_providers([provider]).map_err(|e| failed(e.into()))?;
        }
        let session = match &graph.file {
            Some(file) => builder.commit_from_file(file),
            None => builder.commit_from_memory(&graph.bytes),
        }
        .map_err(failed)?;
        let inputs = inputs(&session)?;
        let output = match graph.kind {
            ModelKind::Encoder => states_output(&session, graph.width)?,
            ModelKind::CrossEncoder(_) => logits_output(&session)?,
        };
        let landing = match options.device {
            Device::Cuda => Some(Landing::pinned(&session, options.cuda.device_id).map_err(failed)?),
            _ => None,
        };
        let (kind, dimensions, padding) = (graph.kind, graph.width, i64::from(padding));
        let mut this = Self { session, inputs, output, kind, dimensions, padding, landing };
        if !graph.fused {
            this.probe()?;
        }
        Ok(this)
    }

    /// Runs two short rows, one of them padded: a ready-made graph may have any shape inside.
    fn probe(&mut self) -> Result<()> {
        let (ids, mask) = ([0, 0, 0, 0], [1, 1, 1, 0]);
        self.run(&Rows { ids: &ids, mask: &mask, types: &[], batch: 2, sequence: 2 })
            .map(drop)
            .map_err(|e| unsupported(format!("a test run failed: {}", e.message)))
    }

    /// Runs a padded batch. An encoder gives the hidden states, flat `[batch, sequence, dimensions]`, a cross-encoder
    /// one logit for each row.
    pub fn run(&mut self, rows: &Rows<'_>) -> Result<Vec<f32>> {
        self.run_with(rows, <[f32]>::to_vec)
    }

    /// Values of the output for each row of so many tokens.
    pub fn values_of_row(&self, sequence: usize) -> usize {
        match self.kind {
            ModelKind::Encoder => sequence * self.dimensions,
            ModelKind::CrossEncoder(_) => 1,
        }
    }

    /// Like [`run`](Self::run), but lets `read` see the output where the runtime left it: hidden states are large.
    pub fn run_with<R>(&mut self, rows: &Rows<'_>, read: impl FnOnce(&[f32]) -> R) -> Result<R> {
        let Rows { ids, mask, types, batch, sequence } = *rows;
        let expected = self.values_of_row(sequence);
        let failed = |e: ort::Error| Error::internal("INFERENCE_FAILED", format!("the model failed: {e}"));
        if ids.len() != batch * sequence || mask.len() != ids.len() {
            return Err(Error::internal(
                "INFERENCE_FAILED",
                format!("expected {batch} x {sequence} ids and mask, got {} and {}", ids.len(), mask.len()),
            ));
        }
        let value = |role: Role, i: usize| match role {
            Role::Ids if mask[i] == 0 => self.padding,
            Role::Ids => ids[i],
            Role::Mask => mask[i],
            Role::Types => types.get(i).copied().unwrap_or(0),
        };
        let shape = [batch, sequence];
        let mut values: Vec<(&str, DynValue)> = Vec::with_capacity(self.inputs.len());
        for Input { name, role, wide } in &self.inputs {
            let all = (0..ids.len()).map(|i| value(*role, i));
            let tensor = match wide {
                true => Tensor::from_array((shape, all.collect::<Vec<i64>>())).map(Tensor::into_dyn),
                false => Tensor::from_array((shape, all.map(|x| x as i32).collect::<Vec<i32>>()))
                    .map(Tensor::into_dyn),
            };
            values.push((name, tensor.map_err(failed)?));
        }
        let outputs = match &mut self.landing {
            Some(landing) => landing.run(&mut self.session, values, &self.output),
            None => self.session.run(values),
        };
        let outputs = outputs.map_err(failed)?;
        let output = outputs.get(self.output.as_str()).ok_or_else(|| {
            Error::internal("INFERENCE_FAILED", format!("the model has no output {:?}", self.output))
        })?;
        let (shape, hidden) = output.try_extract_tensor::<f32>().map_err(failed)?;
        if hidden.len() != batch * expected {
            return Err(Error::internal(
                "INFERENCE_FAILED",
                format!("expected an output of {batch} x {expected} values, got {shape:?}"),
            ));
        }
        Ok(read(hidden))
    }
}

fn inputs(session: &Session) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for outlet in session.inputs() {
        let role = match outlet.name() {
            "input_ids" => Role::Ids,
            "attention_mask" => Role::Mask,
            "token_type_ids" => Role::Types,
            other => {
                return Err(unsupported(format!(
                    "expected inputs input_ids, attention_mask and token_type_ids, got {other:?}"
                )));
            }
        };
        let wide = match element(outlet) {
            Some((TensorElementType::Int64, _)) => true,
            Some((TensorElementType::Int32, _)) => false,
            _ => {
                return Err(unsupported(format!(
                    "input {}: expected int64 or int32, got {:?}",
                    outlet.name(),
                    outlet.dtype()
                )));
            }
        };
        inputs.push(Input { name: outlet.name().to_owned(), role, wide });
    }
    for (role, name) in [(Role::Ids, "input_ids"), (Role::Mask, "attention_mask")] {
        if !inputs.iter().any(|input| input.role == role) {
            return Err(unsupported(format!("expected an input {name}, got none")));
        }
    }
    Ok(inputs)
}

/// The output with token vectors: the one of the usual name, else the first of three axes.
fn states_output(session: &Session, width: usize) -> Result<String> {
    let floats = |outlet: &&Outlet| matches!(element(outlet), Some((TensorElementType::Float32, axes)) if axes.len() == 3);
    let named = |name| session.outputs().iter().find(|outlet| outlet.name() == name).filter(floats);
    let found = OUTPUTS.into_iter().find_map(named).or_else(|| session.outputs().iter().find(floats));
    let Some(outlet) = found else {
        let got: Vec<_> = session.outputs().iter().map(|o| format!("{} {}", o.name(), o.dtype())).collect();
        return Err(unsupported(format!(
            "expected an output of token vectors, 32-bit floats of [batch, sequence, width], got {}",
            got.join(", ")
        )));
    };
    let last = element(outlet).and_then(|(_, axes)| axes.last().copied()).unwrap_or(-1);
    if last >= 0 && last as usize != width {
        return Err(unsupported(format!(
            "config.json: expected hidden_size {last} as output {} has, got {width}",
            outlet.name()
        )));
    }
    Ok(outlet.name().to_owned())
}

/// The output with one logit for each row.
fn logits_output(session: &Session) -> Result<String> {
    let is_logit =
        |outlet: &&Outlet| matches!(element(outlet), Some((TensorElementType::Float32, [_] | [_, 1 | -1])));
    let named = session.outputs().iter().find(|outlet| outlet.name() == "logits").filter(is_logit);
    let Some(outlet) = named.or_else(|| session.outputs().iter().find(is_logit)) else {
        let got: Vec<_> = session.outputs().iter().map(|o| format!("{} {}", o.name(), o.dtype())).collect();
        return Err(unsupported(format!(
            "expected an output of logits, 32-bit floats of [batch, 1], got {}",
            got.join(", ")
        )));
    };
    Ok(outlet.name().to_owned())
}

fn element(outlet: &Outlet) -> Option<(TensorElementType, &[i64])> {
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => Some((*ty, shape)),
        _ => None,
    }
}

pub(super) fn provider(options: &SessionOptions) -> Result<Option<ep::ExecutionProviderDispatch>> {
    Ok(match options.device {
        Device::Auto | Device::Cpu => None,
        Device::Openvino => Some(openvino(options)),
        Device::Cuda => Some(cuda(options)?),
    })
}

/// Entries that OpenVINO keeps of what it prepared for shapes of batches. With its default of 5000 memory grows as long
/// as batches of other shapes come; to prepare a shape anew costs no speed that can be measured (docs/BENCHMARKS.md).
const PREPARED_SHAPES: &str = "64";

fn openvino(options: &SessionOptions) -> ep::ExecutionProviderDispatch {
    let hint = if options.precision == Precision::Bf16 { "bf16" } else { "f32" };
    let config = serde_json::json!({ "CPU": {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": options.threads.to_string(),
        "NUM_STREAMS": "1",
        // Each session would bind its threads to the first cores: several would share them and leave the rest idle.
        "ENABLE_CPU_PINNING": false,
        "CPU_RUNTIME_CACHE_CAPACITY": PREPARED_SHAPES,
    }});
    ep::OpenVINO::default()
        .with_device_type("CPU")
        .with_arbitrary_config("load_config", config)
        .build()
        .error_on_failure()
}

fn cuda(options: &SessionOptions) -> Result<ep::ExecutionProviderDispatch> {
    let settings = options.cuda;
    let device = i32::try_from(settings.device_id)
        .map_err(|_| Error::invalid("BAD_CONFIG", format!("cuda.device_id: got {}", settings.device_id)))?;
    let growth = if settings.exact_growth {
        ep::ArenaExtendStrategy::SameAsRequested
    } else {
        ep::ArenaExtendStrategy::NextPowerOfTwo
    };
    let mut provider = ep::CUDA::default()
        .with_device_id(device)
        .with_arena_extend_strategy(growth)
        .with_tf32(settings.tf32);
    if settings.memory_limit_bytes > 0 {
        provider =
            provider.with_memory_limit(usize::try_from(settings.memory_limit_bytes).unwrap_or(usize::MAX));
    }
    Ok(provider.build().error_on_failure())
}

/// What CUDA says where there is no device that can be used; all else that a load fails of is about the model, or the
/// device's memory.
const NO_DEVICE: [&str; 10] = [
    "CUDA failure 3: initialization error",
    "system not yet initialized",
    "forward compatibility was attempted",
    "no CUDA-capable device",
    "CUDA driver version is insufficient",
    "CUDA driver is a stub",
    "system has unsupported display driver",
    "invalid device ordinal",
    "device(s) is/are busy or unavailable",
    "no kernel image is available",
];

/// Tells what is missing and what to do about it.
pub(super) fn session_error(options: &SessionOptions, cause: &str) -> Error {
    let lacks_provider = cause.contains("not enabled in this build");
    let lacks_library =
        cause.contains("Failed to load library") || cause.contains("cannot open shared object");
    let lacks_device = NO_DEVICE.iter().any(|part| cause.contains(part));
    let remedy = match options.device {
        Device::Cuda if lacks_provider => {
            "this ONNX Runtime library has no CUDA provider: set encoder.library to one that has it, such as that of \
             the Python package onnxruntime-gpu, or set the device to auto (encoder.device, generator.device)"
        }
        Device::Cuda if lacks_library => {
            "a library of CUDA, cuDNN or the driver is missing: install them, put their folders into \
             LD_LIBRARY_PATH, or set the device to auto (encoder.device, generator.device)"
        }
        Device::Openvino if lacks_provider || lacks_library => {
            "this ONNX Runtime library has no OpenVINO provider: set encoder.library to one that has it, such as \
             that of the Python package onnxruntime-openvino, or set encoder.device to cpu"
        }
        Device::Cuda if lacks_device => {
            "the CUDA provider found no device that it can use: see that the driver is loaded and that \
             cuda.device_id is right, or set the device to auto (encoder.device, generator.device)"
        }
        _ => {
            let message = format!("cannot load the model on {}: {cause}", options.provider());
            return Error::precondition("SESSION_FAILED", message);
        }
    };
    Error::precondition(
        "DEVICE_UNAVAILABLE",
        format!("device {} cannot be used: {remedy} ({cause})", options.device.as_str()),
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::{CudaOptions, ModelDir};
    use super::*;

    /// The directory of the runtime library and the models, once the library is loaded.
    fn data() -> Option<PathBuf> {
        let data = PathBuf::from(std::env::var("TROVE_DATA_DIR").unwrap_or_else(|_| ".trove".to_owned()));
        if !data.join("models").is_dir() && std::env::var_os("CI").is_none() {
            eprintln!("skipped: no models in {}; run scripts/fetch.py", data.display());
            return None;
        }
        Runtime::init(&data.join("runtime")).unwrap();
        Some(data)
    }

    fn options(device: Device, precision: Precision) -> SessionOptions {
        SessionOptions { device, precision, threads: 1, cuda: CudaOptions::default() }
    }

    #[test]
    fn only_what_names_device_or_driver_says_that_there_is_none() {
        let reason = |device, cause: &str| {
            let error = session_error(&options(device, Precision::Auto), cause);
            assert!(error.message.contains(cause), "{error}");
            error.reason
        };
        for cause in [
            "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; expr=cudaSetDevice(info_.device_id);",
            "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1",
            "CUDA failure 101: invalid device ordinal ; GPU=32 ; expr=cudaSetDevice(info_.device_id);",
            "Failed to load library libonnxruntime_providers_cuda.so with error: libcudnn.so.9: cannot open shared object file",
            "CUDA execution provider is not enabled in this build.",
        ] {
            assert_eq!(reason(Device::Cuda, cause), "DEVICE_UNAVAILABLE", "{cause}");
        }
        for cause in [
            "/models/cuda/model.onnx: Load model failed: Protobuf parsing failed.",
            "/home/driver/model.onnx: Could not find an implementation for GroupQueryAttention(1) node",
            "CUDA failure 2: out of memory ; GPU=0 ; expr=cudaSetDevice(info_.device_id);",
            "Failed to allocate memory for requested buffer of size 8589934592",
        ] {
            assert_eq!(reason(Device::Cuda, cause), "SESSION_FAILED", "{cause}");
        }
        assert_eq!(reason(Device::Cpu, "no CUDA-capable device is detected"), "SESSION_FAILED");
    }

    /// Two rows of words, one of them padded.
    fn run(session: &mut EncoderSession) -> Vec<f32> {
        let ids = [101, 8870, 3637, 2005, 2087, 102, 101, 4937, 102, 0, 0, 0];
        let mask = [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0];
        session.run(&Rows { ids: &ids, mask: &mask, types: &[], batch: 2, sequence: 6 }).unwrap()
    }

    fn least_cosine(a: &[f32], b: &[f32], width: usize) -> f32 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        let cosine = |(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        // Padding may come out as anything.
        let rows = a.chunks_exact(width).zip(b.chunks_exact(width)).take(9);
        rows.map(cosine).fold(1.0, f32::min)
    }

    /// What CUDA is given, on what is here: CUDA alone has kernels for all of it, and OpenVINO reads it too.
    #[test]
    fn the_graph_in_half_precision_computes_the_same() {
        let Some(data) = data() else { return };
        let graph = ModelDir::load(&data.join("models/all-MiniLM-L6-v2")).unwrap().graph;
        let exact = options(Device::Cpu, Precision::Fp32);
        let expected = run(&mut EncoderSession::load(&graph, 0, exact).unwrap());
        let half = graph.prepare(&options(Device::Cuda, Precision::Fp16)).unwrap().unwrap();
        let mut session = match EncoderSession::load(&half, 0, options(Device::Openvino, Precision::Fp32)) {
            Err(error) if error.reason == "DEVICE_UNAVAILABLE" => return eprintln!("skipped: {error}"),
            session => session.unwrap(),
        };
        let got = run(&mut session);
        let least = least_cosine(&expected, &got, graph.width);
        assert!(least > 0.9999 && got != expected, "{least}");
    }

    #[test]
    fn a_landing_gives_what_a_plain_run_gives() {
        let Some(data) = data() else { return };
        let graph = ModelDir::load(&data.join("models/all-MiniLM-L6-v2")).unwrap().graph;
        let mut session = EncoderSession::load(&graph, 0, options(Device::Cpu, Precision::Fp32)).unwrap();
        let expected = run(&mut session);
        session.landing = Some(Landing::new(&session.session, MemoryInfo::default()).unwrap());
        assert_eq!(run(&mut session), expected);
        // Batches of another shape take another output.
        let short = Rows { ids: &[101, 102], mask: &[1, 1], types: &[], batch: 1, sequence: 2 };
        assert_eq!(session.run(&short).unwrap().len(), 2 * graph.width);
        assert_eq!(run(&mut session), expected);
    }
}
