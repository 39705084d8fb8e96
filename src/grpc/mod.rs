//! The services of `trove.v1` over tonic: conversion, checks of requests, streams.

mod admin;
mod answer;
mod collections;
pub mod convert;
mod documents;
mod embedding;
mod search;
mod status;

pub use admin::Admin;
pub use answer::Answer;
pub use collections::Collections;
pub use documents::Documents;
pub use embedding::Embedding;
pub use search::Search;
pub use status::code;

/// What a unary call answers.
type Reply<T> = std::result::Result<tonic::Response<T>, tonic::Status>;
