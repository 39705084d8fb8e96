//! Where a model runs and in which precision: what goes together.

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

impl Device {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Cpu, Self::Openvino, Self::Cuda];

    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Device::Auto => "auto",
            Device::Cpu => "cpu",
            Device::Openvino => "openvino",
            Device::Cuda => "cuda",
        }
    }

    /// The device of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|device| device.as_str() == name)
    }
}

/// What a model computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// What suits the device.
    #[default]
    Auto,
    /// 32-bit floats.
    Fp32,
    /// 16-bit floats.
    Fp16,
    /// bfloat16.
    Bf16,
    /// Weights as 8-bit integers in blocks.
    Int8,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Auto, Self::Fp32, Self::Fp16, Self::Bf16, Self::Int8];

    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Precision::Auto => "auto",
            Precision::Fp32 => "fp32",
            Precision::Fp16 => "fp16",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        }
    }

    /// The precision of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.as_str() == name)
    }
}

/// Settings of the CUDA provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CudaOptions {
    /// Number of the device.
    pub device_id: u32,
    /// Most bytes of the memory arena; zero for no limit.
    pub memory_limit_bytes: u64,
    /// Whether the arena grows by what was asked for instead of by powers of two: slower, and smaller.
    pub exact_growth: bool,
    /// Whether matrix products may round to TF32: faster, and checked against fp32 at load like all else.
    pub tf32: bool,
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
    /// Settings of the CUDA provider.
    pub cuda: CudaOptions,
}

impl SessionOptions {
    /// The same with `Auto` replaced by what this machine does best, and what to try next where that fails: a device
    /// or a precision that was named is the only one.
    ///
    /// # Errors
    /// `UNSUPPORTED_PRECISION` where device and precision do not go together, with what does.
    pub fn candidates(self) -> Result<Vec<Self>> {
        self.candidates_for(has_bf16())
    }

    fn candidates_for(self, bf16: bool) -> Result<Vec<Self>> {
        let first = self.resolve(bf16)?;
        let next = match (self.device, self.precision) {
            (Device::Auto, _) => Self { device: Device::Cpu, ..self }.resolve(bf16).ok(),
            // A ready-made graph runs in the precision that it was made in.
            (Device::Cuda, Precision::Auto) => Some(Self { precision: Precision::Fp32, ..first }),
            _ => None,
        };
        Ok([Some(first), next.filter(|next| *next != first)].into_iter().flatten().collect())
    }

    fn resolve(self, bf16: bool) -> Result<Self> {
        use Device::{Auto, Cpu, Cuda, Openvino};
        let (device, precision) = match (self.device, self.precision) {
            (Auto | Openvino, Precision::Auto) if bf16 => (Openvino, Precision::Bf16),
            (Auto | Openvino, Precision::Bf16) if bf16 => (Openvino, Precision::Bf16),
            (Auto | Cpu, Precision::Auto | Precision::Fp32) => (Cpu, Precision::Fp32),
            (Openvino, Precision::Auto | Precision::Fp32) => (Openvino, Precision::Fp32),
            (Auto | Openvino, Precision::Int8) => (Openvino, Precision::Int8),
            (Cpu, Precision::Int8) => (Cpu, Precision::Int8),
            (Cuda, Precision::Auto | Precision::Fp16) => (Cuda, Precision::Fp16),
            (Cuda, Precision::Fp32) => (Cuda, Precision::Fp32),
            (device, precision) => return Err(unsupported(device, precision)),
        };
        Ok(Self { device, precision, threads: self.threads.max(1), cuda: self.cuda })
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

fn unsupported(device: Device, precision: Precision) -> Error {
    let (device, precision) = (device.as_str(), precision.as_str());
    let does = match device {
        "cpu" => "fp32 and int8",
        "cuda" => "fp16 and fp32",
        _ => "fp32 and int8, and bf16 on a processor with AVX512-BF16, which this one lacks",
    };
    let message = format!("precision {precision} does not run on device {device}; {device} does {does}");
    Error::invalid("UNSUPPORTED_PRECISION", message)
}

fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    let found = std::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let found = false;
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair, on a processor with bf16 and without.
    #[test]
    fn every_pair_runs_or_says_why_not() {
        let table = [
            ("auto", "auto", "openvino bf16, cpu fp32", "cpu fp32"),
            ("auto", "fp32", "cpu fp32", "cpu fp32"),
            ("auto", "bf16", "openvino bf16", ""),
            ("auto", "int8", "openvino int8, cpu int8", "openvino int8, cpu int8"),
            ("cpu", "auto", "cpu fp32", "cpu fp32"),
            ("cpu", "fp32", "cpu fp32", "cpu fp32"),
            ("cpu", "bf16", "", ""),
            ("cpu", "int8", "cpu int8", "cpu int8"),
            ("openvino", "auto", "openvino bf16", "openvino fp32"),
            ("openvino", "fp32", "openvino fp32", "openvino fp32"),
            ("openvino", "bf16", "openvino bf16", ""),
            ("openvino", "int8", "openvino int8", "openvino int8"),
            ("auto", "fp16", "", ""),
            ("cpu", "fp16", "", ""),
            ("openvino", "fp16", "", ""),
            ("cuda", "auto", "cuda fp16, cuda fp32", "cuda fp16, cuda fp32"),
            ("cuda", "fp32", "cuda fp32", "cuda fp32"),
            ("cuda", "fp16", "cuda fp16", "cuda fp16"),
            ("cuda", "bf16", "", ""),
            ("cuda", "int8", "", ""),
        ];
        assert_eq!(table.len(), Device::ALL.len() * Precision::ALL.len());
        for (device, precision, with, without) in table {
            let options = SessionOptions {
                device: Device::parse(device).unwrap(),
                precision: Precision::parse(precision).unwrap(),
                threads: 0,
                cuda: CudaOptions::default(),
            };
            for (bf16, expected) in [(true, with), (false, without)] {
                match options.candidates_for(bf16) {
                    Ok(got) => {
                        let name =
                            |o: &SessionOptions| format!("{} {}", o.device.as_str(), o.precision.as_str());
                        let got: Vec<_> = got.iter().map(name).collect();
                        assert_eq!(got.join(", "), expected, "{device} {precision} {bf16}");
                    }
                    Err(error) => {
                        assert_eq!((error.reason, expected), ("UNSUPPORTED_PRECISION", ""), "{device}");
                        assert!(error.message.contains(device) && error.message.contains(precision));
                    }
                }
            }
        }
    }
}
