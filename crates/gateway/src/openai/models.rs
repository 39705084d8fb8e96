//! What there is to name as a model: collections, which answer, and encoders and generators.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use prost_reflect::DynamicMessage;
use serde_json::{Value as Json, json};
use tonic::body::Body;
use tower::Service;

use super::method;
use crate::call::Answer;
use crate::failure::Failure;
use crate::json;
use crate::layer::{Asked, answered};

/// Most collections that are listed.
const MAX_COLLECTIONS: u32 = 1000;

async fn get<S>(
    asked: &mut Asked<'_, S>,
    name: &str,
    fields: &[(&str, &str)],
) -> Result<(Answer, Json), Failure>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let method = method(asked.gateway, name)?;
    let mut message = DynamicMessage::new(method.input());
    fields.iter().try_for_each(|(field, value)| json::set(&mut message, field, value))?;
    let mut answer = asked.with(&method, &message).await?;
    let value = json::value(&answer.only().await?);
    Ok((answer, value))
}

async fn all<S>(asked: &mut Asked<'_, S>) -> Result<(Answer, Vec<Json>), Failure>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let size = MAX_COLLECTIONS.to_string();
    let (_, collections) = get(asked, "CollectionService/ListCollections", &[("page_size", &size)]).await?;
    let (answer, info) = get(asked, "AdminService/GetServerInfo", &[]).await?;
    let list = |value: &Json| value.as_array().cloned().unwrap_or_default();
    let model = |id: &Json, kind: &str| json!({"id": id, "object": "model", "created": 0, "owned_by": "trove", "kind": kind});
    let mut models: Vec<Json> =
        list(&collections["collections"]).iter().map(|found| model(&found["name"], "collection")).collect();
    let loaded = list(&info["models"]);
    let kind = |found: &Json| {
        found["kind"].as_str().unwrap_or_default().trim_start_matches("MODEL_KIND_").to_lowercase()
    };
    models.extend(loaded.iter().map(|found| model(&found["id"], &kind(found))));
    Ok((answer, models))
}

/// `GET /v1/models`.
///
/// # Errors
/// What the call failed with.
pub(super) async fn list<S>(asked: &mut Asked<'_, S>) -> Result<Response<Body>, Failure>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let (answer, models) = all(asked).await?;
    Ok(answered(&answer, Bytes::from(json!({"object": "list", "data": models}).to_string())))
}

/// `GET /v1/models/{id}`.
///
/// # Errors
/// `UNKNOWN_MODEL`, with those that there are.
pub(super) async fn one<S>(asked: &mut Asked<'_, S>, id: &str) -> Result<Response<Body>, Failure>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let (answer, models) = all(asked).await?;
    if let Some(found) = models.iter().find(|model| model["id"] == id) {
        return Ok(answered(&answer, Bytes::from(found.to_string())));
    }
    let known: Vec<&str> = models.iter().filter_map(|model| model["id"].as_str()).collect();
    let message = format!("expected one of {}, got {:?}", known.join(", "), crate::layer::shortened(id));
    Err(Failure::new(StatusCode::NOT_FOUND, "UNKNOWN_MODEL", message).about("model"))
}

/// `GET /info` of text-embeddings-inference's API.
///
/// # Errors
/// What the call failed with.
pub(super) async fn info<S>(asked: &mut Asked<'_, S>) -> Result<Response<Body>, Failure>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let (answer, info) = get(asked, "AdminService/GetServerInfo", &[]).await?;
    let none = Vec::new();
    let models = info["models"].as_array().unwrap_or(&none);
    let encoder = models.iter().find(|model| model["kind"] == "MODEL_KIND_ENCODER").unwrap_or(&Json::Null);
    let value = json!({
        "model_id": encoder["id"], "model_sha": encoder["revision"], "model_dtype": encoder["precision"],
        "model_type": {"embedding": {"pooling": encoder["pooling"]}},
        "max_input_length": encoder["max_tokens"], "max_client_batch_size": info["limits"]["max_batch_size"],
        "version": info["version"],
    });
    Ok(answered(&answer, Bytes::from(value.to_string())))
}
