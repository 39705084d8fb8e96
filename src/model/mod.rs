//! Models on disk and the sessions that run them; the only user of ONNX Runtime.

mod adapter;
mod bert;
mod config;
pub mod decoder;
mod device;
mod dir;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
pub mod gguf;
mod graph;
mod half;
mod hub;
mod import;
mod modules;
mod onnx;
mod place;
mod projection;
mod quantize;
mod record;
mod runtime;
mod session;
mod setup;
mod sha256;
mod table;
mod weights;

pub use config::{Activation, ModelKind};
pub use device::{CudaOptions, Device, Precision, SessionOptions};
pub use dir::{LoadedModel, ModelDir};
pub use hub::{Pinned, Pull, PullProgress, Pulled};
pub use import::Import;
pub use modules::Pooling;
pub use place::{Imported, check_name, list_models};
pub use projection::Projection;
pub use runtime::Runtime;
pub use session::{EncoderGraph, EncoderSession, Rows};
pub use setup::{DEFAULT_GENERATOR, Event as SetupEvent, Origin as SetupOrigin, Part, Pins, Setup};
pub use table::StaticTable;
