//! The services of `trove.v1` over tonic: conversion, checks of requests, streams.

mod admin;
mod answer;
mod collections;
pub mod convert;
mod documents;
mod embedding;
mod ingest;
mod search;
mod snapshots;
mod status;
mod stop;
mod transfer;

pub use admin::Admin;
pub use answer::Answer;
pub use collections::Collections;
pub use documents::Documents;
pub use embedding::Embedding;
pub use ingest::Room;
pub use search::Search;
pub use status::{code, explain, explain_response};
pub use stop::Stop;

use tokio_util::sync::CancellationToken;

use crate::domain::CollectionName;
use crate::error::{Error, Result};

/// What a unary call answers.
type Reply<T> = std::result::Result<tonic::Response<T>, tonic::Status>;

/// A collection's name from a field of a request.
fn collection_name(field: &str, name: String) -> Result<CollectionName> {
    CollectionName::new(name).map_err(|error| error.within(field))
}

/// Checks how many items a list has.
fn check_batch(field: &str, count: usize, most: usize) -> Result<()> {
    if count == 0 {
        return Err(Error::invalid_field(field, "EMPTY_REQUEST", "expected at least one, got none"));
    }
    if count > most {
        let message = format!("expected at most {most}, got {count}");
        return Err(Error::invalid_field(field, "BATCH_TOO_LARGE", message));
    }
    Ok(())
}

/// Runs what blocks off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal("TASK_FAILED", "a background task failed").with_source(e))?
}

/// Runs what blocks for long off the async threads; it is told when the caller leaves.
async fn cancellable<T: Send + 'static>(
    work: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> Result<T> + Send + 'static,
) -> Result<T> {
    let caller = CancellationToken::new();
    let _leaves = caller.clone().drop_guard();
    blocking(move || work(&|| caller.is_cancelled())).await
}
