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
pub use status::{code, explain, explain_response};
pub use stop::Stop;

use tokio_util::task::AbortOnDropHandle;

use crate::access::Caller;
use crate::domain::CollectionName;
use crate::error::{Error, Result};

/// What a unary call answers.
type Reply<T> = std::result::Result<tonic::Response<T>, tonic::Status>;

/// Who makes a call, as the server has put it into the request.
fn caller<T>(request: &tonic::Request<T>) -> Result<Caller> {
    let unknown = || Error::internal("NO_CALLER", "the server did not check who makes the call");
    request.extensions().get::<Caller>().cloned().ok_or_else(unknown)
}

/// A collection's name from a field of a request. The one way to a name, so that none is used unchecked.
///
/// # Errors
/// `INVALID_COLLECTION_NAME`; `COLLECTION_NOT_ALLOWED` where the caller's key is not for it.
fn collection_name(caller: &Caller, field: &str, name: String) -> Result<CollectionName> {
    let name = CollectionName::new(name).map_err(|error| error.within(field))?;
    caller.check_collection(&name)?;
    Ok(name)
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
    // What has not begun when the caller leaves never begins.
    AbortOnDropHandle::new(tokio::task::spawn_blocking(work))
        .await
        .map_err(|e| Error::internal("TASK_FAILED", "a background task failed").with_source(e))?
}
