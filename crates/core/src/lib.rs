//! What every other crate of Trove speaks: validated types (`domain`), the one error type, the table of metrics, and the
//! small tools for work that is shared, locked, bounded or kept from others' eyes.
//!
//! All other crates of the workspace may use it; it uses none of them.
//!
//! ```
//! use trove_core::domain::CollectionName;
//!
//! let name = CollectionName::new("notes")?;
//! assert_eq!(name.as_str(), "notes");
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

pub mod domain;
pub mod error;
pub mod fair;
pub mod lock;
pub mod metrics;
pub mod party;
pub mod private;
pub mod room;
pub mod task;
pub mod visible;
