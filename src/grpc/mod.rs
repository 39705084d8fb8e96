//! The services of `trove.v1` over tonic: conversion, checks of requests, streams.

mod admin;
mod answer;
mod collections;
pub mod convert;
mod documents;
mod embedding;
mod ingest;
mod search;
mod status;
mod stop;

pub use admin::Admin;
pub use answer::Answer;
pub use collections::Collections;
pub use documents::Documents;
pub use embedding::Embedding;
pub use ingest::Room;
pub use search::Search;
pub use status::{code, code_name, explain, explain_response, name_request};
pub use stop::Stop;

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
    crate::task::blocking("TASK_FAILED", work).await
}
