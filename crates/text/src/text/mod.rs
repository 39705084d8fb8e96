//! Sentences and passages of plain text; every result is a byte span of the text given.

mod passages;
mod sentences;

pub use passages::{PassageDraft, SplitOptions, split_passages};
pub use sentences::sentences;
