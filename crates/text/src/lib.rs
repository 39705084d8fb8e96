//! Text out of files, records out of tables and JSON, and sentences and passages out of text, each with its place in bytes.
//!
//! It uses `trove-core` alone. The server's ingestion and the command line use it.
//!
//! ```
//! let found = trove_text::extract::extract(b"# Boats\n\nThe ferry leaves at noon.", "text/markdown")?;
//! assert_eq!(found.title.as_deref(), Some("Boats"));
//! let text = "It rains. We stay in.";
//! let sentences = trove_text::text::sentences(text, trove_core::domain::Span::new(0, text.len() as u32));
//! assert_eq!(sentences.len(), 2);
//! # Ok::<(), trove_core::error::Error>(())
//! ```
#![warn(missing_docs)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented
    )
)]

pub mod extract;
pub mod records;
pub mod text;
