//! Models on disk and the sessions that run them; the only user of ONNX Runtime.

mod bert;
pub mod decoder;
mod dir;
pub mod gguf;
mod onnx;
mod runtime;
mod session;

pub use bert::{build_graph, import_safetensors};
pub use dir::{ModelDir, Pooling};
pub use runtime::Runtime;
pub use session::{Device, EncoderSession, Precision, SessionOptions};
