//! HTTP for everyone who does not speak gRPC: JSON of the API, the forms of OpenAI and others, and the page. It stands before
//! the services as one more layer: what comes over HTTP becomes the gRPC call that it stands for, goes through the same
//! guard, and its answer becomes JSON. So keys, scopes, limits, deadlines, request ids and metrics are those of gRPC, and
//! the proto is the one definition of the API ([`prost_reflect`] reads it at the start).
//!
//! The body of a call is read once the guard has admitted it, out of the call's own memory.
//!
//! It uses `trove-core` alone; the server puts it before its services.
//!
//! ```
//! use trove_gateway::origin;
//!
//! // A page of another site may not call a server on this machine.
//! assert!(origin::is_same("http://127.0.0.1:7700", "127.0.0.1:7700"));
//! assert!(!origin::is_same("http://evil.example", "127.0.0.1:7700"));
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

mod body;
mod call;
mod events;
mod failure;
mod files;
mod json;
mod layer;
mod openai;
mod openapi;
pub mod origin;
mod page;
mod routes;

use std::sync::Arc;

use prost_reflect::DescriptorPool;
use trove_core::error::{Error, Result};

pub use layer::{GatewayLayer, Gatewayed};

/// Takes room for so many bytes that the present call needs while its body is read; it is free again when what comes back
/// is dropped.
pub type Room = Arc<dyn Fn(usize) -> Result<Box<dyn Send>> + Send + Sync>;

/// How HTTP is served.
#[derive(Clone)]
pub struct Options {
    /// Most bytes of a body, and of a message of an answer.
    pub max_body_bytes: usize,
    /// Memory of the present call.
    pub room: Room,
    /// The media type of a file by its name and its beginning.
    pub media_type_of: fn(&str, &[u8]) -> Option<&'static str>,
    /// Whether the server listens to its own machine alone. Then the name that a browser called must be this machine's, or a
    /// site could have its own name stand for this address.
    pub is_local: bool,
    /// Origins of pages that may call from elsewhere, such as `https://search.example.org`.
    pub origins: Vec<String>,
    /// Version of the program, for `/openapi.json`.
    pub version: &'static str,
}

/// What turns HTTP into calls.
pub struct Gateway {
    options: Options,
    pool: DescriptorPool,
    routes: routes::Routes,
    page: page::Page,
    openapi: bytes::Bytes,
}

impl Gateway {
    /// Reads the encoded descriptors of the API (a `FileDescriptorSet`).
    ///
    /// # Errors
    /// `BAD_DESCRIPTORS` where they do not hold what the routes name.
    pub fn new(descriptors: &[u8], options: Options) -> Result<Arc<Self>> {
        let pool = DescriptorPool::decode(descriptors).map_err(|e| {
            Error::internal("BAD_DESCRIPTORS", "the descriptors of the API cannot be read").with_source(e)
        })?;
        let routes = routes::Routes::new(&pool)?;
        let openapi = openapi::document(&pool, options.version).into();
        Ok(Arc::new(Self { options, pool, routes, page: page::Page::new(), openapi }))
    }
}
