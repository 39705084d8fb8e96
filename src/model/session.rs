use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider};
use ort::session::Session;
use ort::value::TensorRef;

use super::runtime::Runtime;
use crate::error::{Error, Result};

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The fastest that gives right vectors.
    #[default]
    Auto,
    /// ONNX Runtime's own CPU kernels.
    Cpu,
    /// OpenVINO on the CPU.
    Openvino,
    /// A CUDA device.
    Cuda,
}

/// What a model computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// What suits the device.
    #[default]
    Auto,
    /// 32-bit floats.
    Fp32,
    /// bfloat16.
    Bf16,
    /// 8-bit integers.
    Int8,
}

impl Precision {
    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Precision::Auto => "auto",
            Precision::Fp32 => "fp32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        }
    }
}

/// How to run a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Where.
    pub device: Device,
    /// In which precision.
    pub precision: Precision,
    /// Threads of the session.
    pub threads: usize,
}

impl SessionOptions {
    /// The same with `Auto` replaced by what this machine does best; an error where the two do not go together.
    pub fn resolve(self) -> Result<Self> {
        let fast = has_bf16();
        let (device, precision) = match (self.device, self.precision) {
            (Device::Auto, Precision::Auto) if fast => (Device::Openvino, Precision::Bf16),
            (Device::Auto | Device::Cpu, Precision::Auto | Precision::Fp32) => (Device::Cpu, Precision::Fp32),
            (Device::Auto | Device::Openvino, Precision::Bf16) => (Device::Openvino, Precision::Bf16),
            (Device::Openvino, Precision::Auto) if fast => (Device::Openvino, Precision::Bf16),
            (Device::Openvino, Precision::Auto | Precision::Fp32) => (Device::Openvino, Precision::Fp32),
            (Device::Cuda, Precision::Auto | Precision::Fp32) => (Device::Cuda, Precision::Fp32),
            (device, precision) => {
                return Err(Error::invalid(
                    "UNSUPPORTED_PRECISION",
                    format!("precision {} is not supported on device {device:?}", precision.as_str()),
                ));
            }
        };
        Ok(Self { device, precision, threads: self.threads.max(1) })
    }

    /// Name of the execution provider that a resolved device uses.
    pub fn provider(&self) -> &'static str {
        match self.device {
            Device::Auto | Device::Cpu => "CPUExecutionProvider",
            Device::Openvino => "OpenVINOExecutionProvider",
            Device::Cuda => "CUDAExecutionProvider",
        }
    }
}

fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    let found = std::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let found = false;
    found
}

/// One loaded encoder; runs one batch at a time.
pub struct EncoderSession {
    session: Session,
    dimensions: usize,
}

impl EncoderSession {
    /// Loads a graph from memory with resolved options.
    pub fn load(graph: &[u8], dimensions: usize, options: SessionOptions) -> Result<Self> {
        let failed = |e: String| {
            Error::precondition(
                "SESSION_FAILED",
                format!("cannot load the model on {}: {e}", options.provider()),
            )
        };
        let environment = Runtime::environment()?;
        let mut builder = Session::builder(&environment)
            .map_err(|e| failed(e.to_string()))?
            .with_intra_threads(options.threads)
            .map_err(|e| failed(e.to_string()))?
            .with_intra_op_spinning(false)
            .map_err(|e| failed(e.to_string()))?;
        let provider = match options.device {
            Device::Auto | Device::Cpu => None,
            Device::Openvino => Some(openvino(options)),
            Device::Cuda => Some(ep::CUDA::default().build().error_on_failure()),
        };
        if let Some(provider) = provider {
            builder = builder.with_execution_providers([provider]).map_err(|e| failed(e.to_string()))?;
        }
        let session = builder.commit_from_memory(graph).map_err(|e| failed(e.to_string()))?;
        Ok(Self { session, dimensions })
    }

    /// Runs a padded batch, `ids` and `mask` flat `[batch, sequence]`; gives the hidden states, flat
    /// `[batch, sequence, dimensions]`.
    pub fn run(&mut self, ids: &[i64], mask: &[i64], batch: usize, sequence: usize) -> Result<Vec<f32>> {
        self.run_with(ids, mask, batch, sequence, <[f32]>::to_vec)
    }

    /// Like [`run`](Self::run), but lets `read` see the hidden states where the runtime left them: they are large.
    pub fn run_with<R>(
        &mut self,
        ids: &[i64],
        mask: &[i64],
        batch: usize,
        sequence: usize,
        read: impl FnOnce(&[f32]) -> R,
    ) -> Result<R> {
        let failed = |e: ort::Error| Error::internal("INFERENCE_FAILED", format!("the model failed: {e}"));
        if ids.len() != batch * sequence || mask.len() != ids.len() {
            return Err(Error::internal(
                "INFERENCE_FAILED",
                format!("expected {batch} x {sequence} ids and mask, got {} and {}", ids.len(), mask.len()),
            ));
        }
        let narrow = |values: &[i64]| values.iter().map(|&v| v as i32).collect::<Vec<_>>();
        let (ids, mask) = (narrow(ids), narrow(mask));
        let ids = TensorRef::from_array_view(([batch, sequence], ids.as_slice())).map_err(failed)?;
        let mask = TensorRef::from_array_view(([batch, sequence], mask.as_slice())).map_err(failed)?;
        let outputs = self
            .session
            .run(ort::inputs! { "input_ids" => ids, "attention_mask" => mask })
            .map_err(failed)?;
        let output = outputs.get("last_hidden_state").ok_or_else(|| {
            Error::internal("INFERENCE_FAILED", "the model has no output last_hidden_state")
        })?;
        let (_, hidden) = output.try_extract_tensor::<f32>().map_err(failed)?;
        if hidden.len() != batch * sequence * self.dimensions {
            return Err(Error::internal(
                "INFERENCE_FAILED",
                format!("unexpected output of {} values", hidden.len()),
            ));
        }
        Ok(read(hidden))
    }
}

fn openvino(options: SessionOptions) -> ep::ExecutionProviderDispatch {
    let hint = if options.precision == Precision::Bf16 { "bf16" } else { "f32" };
    let config = serde_json::json!({ "CPU": {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": options.threads.to_string(),
        "NUM_STREAMS": "1",
    }});
    ep::OpenVINO::default()
        .with_device_type("CPU")
        .with_arbitrary_config("load_config", config)
        .build()
        .error_on_failure()
}
