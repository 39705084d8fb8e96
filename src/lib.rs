//! Trove: embedding and semantic search over gRPC. See ARCHITECTURE.md for the map of modules.
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

pub mod access;
pub mod answer;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod encoder;
pub mod fault;
pub mod generator;
pub mod grpc;
pub mod http;
pub mod index;
pub mod ingest;
pub mod metadata;
pub mod model;
pub mod search;
pub mod server;
pub mod store;
pub mod telemetry;

pub use trove_core::{domain, error, fair, lock, metrics, party, private, room, task, visible};
pub use trove_keywords as keywords;
pub use trove_text::{extract, records, text};

/// Code generated from `proto/trove/v1`.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("trove.v1");
    /// Encoded file descriptor set, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("trove_descriptor");
}
