//! The services of `trove.v1` over tonic: conversion, checks of requests, streams.

mod admin;
mod allowance;
mod answer;
mod codec;
mod collections;
pub mod convert;
mod documents;
mod embedding;
mod export;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod import;
mod ingest;
mod memory;
mod pulse;
mod search;
mod snapshots;
mod status;
mod stop;
mod texts;
mod weight;

pub use admin::Admin;
pub use allowance::{ALLOWANCE, Allowance, Part};
pub use answer::Answer;
pub use codec::Codec;
pub use collections::Collections;
pub use documents::Documents;
pub use embedding::Embedding;
pub use memory::Memory;
pub use pulse::{Least, Pace, Pulse};
pub use search::Search;
pub use status::{code, code_name, complete, to_status};
pub use stop::Stop;

use crate::access::Caller;
use crate::domain::CollectionName;
use crate::domain::bounds::check_text;
use crate::error::{Error, Result};
use crate::room::AnswerRoom;
use crate::task::Cancelled;

/// What a unary call answers.
type Reply<T> = std::result::Result<tonic::Response<T>, tonic::Status>;

/// Who makes a call, as the server has put it into the request.
fn caller<T>(request: &tonic::Request<T>) -> Result<Caller> {
    let unknown = || Error::internal("NO_CALLER", "the server did not check who makes the call");
    request.extensions().get::<Caller>().cloned().ok_or_else(unknown)
}

/// Most memory of an answer of at most so many bytes: as it is made it takes about twice as many. How long it is in the end
/// is seen as it is encoded.
fn answer_memory(max_message_bytes: usize) -> usize {
    max_message_bytes.saturating_mul(2)
}

/// Room for the answer to a request, which is one message of at most so many bytes.
fn answer_room<T>(request: &tonic::Request<T>, max_message_bytes: usize) -> Result<AnswerRoom> {
    Ok(AnswerRoom::new(allowance::allowance(request)?, answer_memory(max_message_bytes)))
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

/// The error for an enum's value that this program does not know.
fn unknown_value(field: &str, value: i32) -> Error {
    Error::invalid_field(field, "UNKNOWN_ENUM_VALUE", format!("expected a known value, got {value}"))
}

/// Runs what blocks off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    crate::task::blocking("TASK_FAILED", work).await
}

/// Runs what blocks for long off the async threads; it is told when the caller leaves.
async fn cancellable<T: Send + 'static>(
    work: impl FnOnce(Cancelled<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    crate::task::cancellable("TASK_FAILED", work).await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message;

    use crate::access::{METHODS, Reach};
    use crate::proto::FILE_DESCRIPTOR_SET;

    #[test]
    fn every_method_says_what_it_needs() {
        let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut described = BTreeMap::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    described.insert(path, method.client_streaming());
                }
            }
        }
        described.insert("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned(), true);
        let listed: BTreeMap<_, _> = METHODS.iter().map(|m| (m.path.to_owned(), m.is_stream)).collect();
        assert_eq!(listed.len(), METHODS.len(), "a method is listed twice");
        assert_eq!(listed, described);
    }

    #[test]
    fn a_method_that_names_a_collection_reaches_it() {
        let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let fields: BTreeMap<String, Vec<(String, String)>> = set
            .file
            .iter()
            .flat_map(|file| file.message_type.iter().map(move |message| (file.package(), message)))
            .map(|(package, message)| {
                let own = message.field.iter().map(|f| (f.name().to_owned(), f.type_name().to_owned()));
                (format!(".{package}.{}", message.name()), own.collect())
            })
            .collect();
        let names_one = |message: &str| {
            let (mut seen, mut open) = (Vec::new(), vec![message.to_owned()]);
            while let Some(message) = open.pop() {
                for (name, kind) in fields.get(&message).into_iter().flatten() {
                    if name == "collection" || name == "collections" {
                        return true;
                    }
                    if !seen.contains(kind) {
                        seen.push(kind.clone());
                        open.push(kind.clone());
                    }
                }
            }
            false
        };
        for service in set.file.iter().flat_map(|file| &file.service) {
            for method in &service.method {
                let path = format!("/trove.v1.{}/{}", service.name(), method.name());
                let reach = METHODS.iter().find(|m| m.path == path).map(|m| m.reach);
                if names_one(method.input_type()) {
                    assert_ne!(reach, Some(Reach::Nothing), "{path}");
                }
            }
        }
    }
}
