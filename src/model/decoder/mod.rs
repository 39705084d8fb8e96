//! Decoder-only models of the llama architecture: import, and sessions with KV caches.

mod binding;
mod config;
mod dir;
mod graph;
mod growing;
mod import;
mod load;
mod operators;
mod record;
mod rewrite;
mod session;
mod shared;
mod slots;
mod tensors;
#[cfg(test)]
mod tests;
mod tokenizer;

#[cfg(feature = "fuzzing")]
pub use config::LlamaConfig;
pub use dir::DecoderDir;
pub(super) use dir::{BESIDE, GRAPH_FILES};
pub use graph::{DATA_FILE, GRAPH_FILE};
pub use import::{DecoderImport, GRAPH_DIR, ImportedDecoder, import_gguf, import_llama_safetensors};
pub use session::{DecoderOptions, DecoderSession, Run, Sharing, Step};
