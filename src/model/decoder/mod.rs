//! Decoder-only models of the families that [`Family`] names: import, and sessions with KV caches.

mod binding;
mod config;
mod dir;
#[cfg(test)]
mod golden;
mod graph;
mod growing;
mod import;
mod load;
mod operators;
mod packed;
mod record;
mod rewrite;
mod safetensors;
mod session;
mod shared;
mod slots;
mod standard;
mod tensors;
#[cfg(test)]
mod tests;
mod tokenizer;

#[cfg(feature = "fuzzing")]
pub use config::DecoderConfig;
pub use config::Family;
pub use dir::DecoderDir;
pub(super) use dir::{BESIDE, GRAPH_FILES};
pub use graph::{DATA_FILE, GRAPH_FILE};
pub use import::{DecoderImport, GRAPH_DIR, ImportedDecoder, import_gguf, import_safetensors};
pub use session::{DecoderOptions, DecoderSession, Run, Sharing, Step};
