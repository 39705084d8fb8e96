//! Sentences and passages of plain text; every result is a byte span of the text given.

mod passages;
mod sentences;

pub use passages::{PassageDraft, SplitOptions, split_passages};
pub use sentences::sentences;

/// Version of extraction, splitting and what is encoded, kept with each document. Raise it where one of them makes other
/// passages or vectors of the same file: `trove status --outdated` then names what was read before.
pub const EXTRACTION_VERSION: u32 = 3;
