//! The forms of OpenAI's, Cohere's, Jina's and text-embeddings-inference's APIs, as far as their clients use them.

mod chat;
mod embeddings;
mod models;
mod rerank;

use std::convert::Infallible;

use http::{Method, Request, Response};
use prost_reflect::MethodDescriptor;
use serde::de::DeserializeOwned;
use tonic::body::Body;
use tower::Service;

use crate::Gateway;
use crate::failure::Failure;
use crate::layer::Asked;
use crate::routes;

/// Serves a path of one of these APIs; none where the path is of none.
///
/// # Errors
/// What the call failed with.
pub(crate) async fn serve<S>(
    asked: &mut Asked<'_, S>,
    verb: &Method,
    path: &str,
) -> Result<Option<Response<Body>>, Failure>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let served = match (verb.as_str(), path) {
        ("POST", "/v1/embeddings") => embeddings::embeddings(asked).await,
        ("POST", "/embed") => embeddings::embed(asked).await,
        ("POST", "/v1/rerank" | "/v2/rerank" | "/rerank") => rerank::rerank(asked).await,
        ("POST", "/v1/chat/completions") => chat::completions(asked, None).await,
        ("GET", "/v1/models") => models::list(asked).await,
        ("GET", "/info") => models::info(asked).await,
        ("GET", _) if path.starts_with("/v1/models/") => {
            let id = path.strip_prefix("/v1/models/").unwrap_or_default();
            models::one(asked, &routes::decoded(id)).await
        }
        ("POST", _) => match collection_of(path) {
            Some(collection) => chat::completions(asked, Some(collection)).await,
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    served.map(Some)
}

/// The collection that a base address names: `/v1/collections/NAME/chat/completions`.
fn collection_of(path: &str) -> Option<String> {
    let name = path.strip_prefix("/v1/collections/")?.strip_suffix("/chat/completions")?;
    (!name.is_empty() && !name.contains('/')).then(|| routes::decoded(name))
}

/// A method of the API.
///
/// # Errors
/// `GATEWAY_FAILED` where the API has none of this name.
fn method(gateway: &Gateway, name: &str) -> Result<MethodDescriptor, Failure> {
    routes::method(&gateway.pool, name).ok_or_else(|| {
        Failure::new(
            http::StatusCode::INTERNAL_SERVER_ERROR,
            "GATEWAY_FAILED",
            format!("the API has no {name}"),
        )
    })
}

/// A body of these APIs.
///
/// # Errors
/// `BAD_JSON`, with the field.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::bad("BAD_JSON", error.to_string()))
}
