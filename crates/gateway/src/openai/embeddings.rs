//! Vectors of texts: `POST /v1/embeddings` of OpenAI's API and `POST /embed` of text-embeddings-inference's.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tonic::body::Body;
use tower::Service;

use super::{method, read};
use crate::failure::Failure;
use crate::json;
use crate::layer::{Asked, answered};

/// Names of OpenAI's models, for which clients that know no other get the server's default encoder.
const ALIASES: [&str; 3] = ["text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002"];

#[derive(Deserialize)]
struct Embeddings {
    input: Input,
    #[serde(default)]
    model: String,
    #[serde(default)]
    encoding_format: Option<String>,
    #[serde(default)]
    dimensions: Option<u32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Many(Vec<String>),
    Other(Json),
}

impl Input {
    fn texts(self) -> Result<Vec<String>, Failure> {
        match self {
            Self::One(text) => Ok(vec![text]),
            Self::Many(texts) if !texts.is_empty() => Ok(texts),
            Self::Many(_) => {
                Err(Failure::bad("EMPTY_INPUT", "input: expected a text or more, got none").about("input"))
            }
            Self::Other(Json::Array(tokens))
                if tokens.first().is_some_and(|t| t.is_number() || t.is_array()) =>
            {
                let message = "input: expected texts, got token ids, which are those of another tokenizer: send texts \
                               (LangChain: check_embedding_ctx_length=False)";
                Err(Failure::bad("TOKEN_IDS", message).about("input"))
            }
            Self::Other(_) => {
                Err(Failure::bad("BAD_JSON", "input: expected a text or a list of texts").about("input"))
            }
        }
    }
}

/// The request of the API: whole texts; of one that is longer than the model takes, windows are pooled.
fn request(
    descriptor: &MessageDescriptor,
    texts: Vec<String>,
    options: Json,
) -> Result<DynamicMessage, Failure> {
    json::message_of(descriptor, json!({"inputs": texts, "options": options}))
}

fn options(model: &str, dimensions: Option<u32>) -> Json {
    let model = if ALIASES.contains(&model) { "" } else { model };
    let mut options =
        json!({"model": model, "level": "EMBEDDING_LEVEL_DOCUMENT", "overflow": "OVERFLOW_WINDOW"});
    if let Some(dimensions) = dimensions {
        options["dimensions"] = dimensions.into();
    }
    options
}

/// `POST /v1/embeddings`.
///
/// # Errors
/// What the call failed with.
pub(super) async fn embeddings<S>(asked: &mut Asked<'_, S>) -> Result<Response<Body>, Failure>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    asked.check_json(&["application/json"])?;
    let method = method(asked.gateway, "EmbeddingService/Embed")?;
    let input = method.input();
    let base64_wanted = Arc::new(AtomicBool::new(false));
    let tell = base64_wanted.clone();
    let make = move |bytes: Bytes| {
        let made = read::<Embeddings>(&bytes).and_then(|asked| {
            let as_base64 = match asked.encoding_format.as_deref() {
                None | Some("float") => false,
                Some("base64") => true,
                Some(other) => {
                    let message = format!("encoding_format: expected float or base64, got {other:?}");
                    return Err(Failure::bad("BAD_JSON", message).about("encoding_format"));
                }
            };
            tell.store(as_base64, Ordering::Relaxed);
            request(&input, asked.input.texts()?, options(&asked.model, asked.dimensions))
        });
        std::future::ready(made)
    };
    let mut answer = asked.with_body(&method, make).await?;
    let message = answer.only().await?;
    let as_base64 = base64_wanted.load(Ordering::Relaxed);
    let data: Vec<Json> = vectors(&message)
        .enumerate()
        .map(|(index, vector)| json!({"object": "embedding", "index": index, "embedding": shown(&vector, as_base64)}))
        .collect();
    let tokens = tokens(&message);
    let model = text(&message, "model");
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    let value = json!({"object": "list", "data": data, "model": model, "usage": usage});
    Ok(answered(&answer, Bytes::from(value.to_string())))
}

/// A vector as numbers, or as its little-endian bytes in base64, a quarter as long.
fn shown(vector: &[f32], as_base64: bool) -> Json {
    if !as_base64 {
        return vector.iter().map(|x| json!(x)).collect();
    }
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes).into()
}

/// The first vector of each text.
fn vectors(message: &DynamicMessage) -> impl Iterator<Item = Vec<f32>> + '_ {
    let results = message.get_field_by_name("results");
    let results = results.as_deref().and_then(Value::as_list).map(<[Value]>::to_vec).unwrap_or_default();
    results
        .into_iter()
        .map(|result| {
            let embeddings = result.as_message()?.get_field_by_name("embeddings")?.into_owned();
            let vector =
                embeddings.as_list()?.first()?.as_message()?.get_field_by_name("vector")?.into_owned();
            let values = vector.as_message()?.get_field_by_name("values")?.into_owned();
            Some(values.as_list()?.iter().filter_map(Value::as_f32).collect())
        })
        .map(Option::unwrap_or_default)
}

/// Tokens that were read, special ones included.
fn tokens(message: &DynamicMessage) -> u32 {
    let usage = message.get_field_by_name("usage").map(std::borrow::Cow::into_owned);
    let tokens =
        usage.as_ref().and_then(Value::as_message).and_then(|usage| usage.get_field_by_name("prompt_tokens"));
    tokens.and_then(|tokens| tokens.as_u32()).unwrap_or_default()
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message.get_field_by_name(field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[derive(Deserialize)]
struct Embed {
    inputs: Input,
    #[serde(default)]
    truncate: bool,
    #[serde(default = "yes")]
    normalize: bool,
    #[serde(default)]
    prompt_name: Option<String>,
}

fn yes() -> bool {
    true
}

/// `POST /embed`: a bare list of vectors.
///
/// # Errors
/// What the call failed with.
pub(super) async fn embed<S>(asked: &mut Asked<'_, S>) -> Result<Response<Body>, Failure>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    asked.check_json(&["application/json"])?;
    let method = method(asked.gateway, "EmbeddingService/Embed")?;
    let input = method.input();
    let make = move |bytes: Bytes| {
        let made = read::<Embed>(&bytes).and_then(|asked| {
            let overflow = if asked.truncate { "OVERFLOW_TRUNCATE_RIGHT" } else { "OVERFLOW_ERROR" };
            let mut options =
                json!({"level": "EMBEDDING_LEVEL_DOCUMENT", "overflow": overflow, "normalize": asked.normalize});
            if let Some(name) = asked.prompt_name {
                options["prompt_name"] = name.into();
            }
            request(&input, asked.inputs.texts()?, options)
        });
        std::future::ready(made)
    };
    let mut answer = asked.with_body(&method, make).await?;
    let message = answer.only().await?;
    let list: Json = vectors(&message).map(|vector| shown(&vector, false)).collect();
    Ok(answered(&answer, Bytes::from(list.to_string())))
}
