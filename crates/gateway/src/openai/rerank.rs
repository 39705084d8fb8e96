//! Texts by their worth for a query: Cohere's and Jina's form (`{query, documents}`), and text-embeddings-inference's
//! (`{query, texts}`, answered by a bare list).

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tonic::body::Body;
use tower::Service;

use super::{method, read};
use crate::failure::Failure;
use crate::json;
use crate::layer::{Asked, answered};

#[derive(Deserialize)]
struct Rerank {
    query: String,
    #[serde(default)]
    documents: Option<Vec<Text>>,
    #[serde(default)]
    texts: Option<Vec<String>>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    top_n: Option<u32>,
    #[serde(default)]
    return_documents: bool,
    #[serde(default)]
    return_text: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Object { text: String },
}

/// How the answer is put.
#[derive(Default, Clone)]
struct Shape {
    /// The texts, where they are wanted back.
    texts: Option<Vec<String>>,
    is_bare: bool,
}

/// `POST /v1/rerank`, `/v2/rerank` and `/rerank`.
///
/// # Errors
/// What the call failed with.
pub(super) async fn rerank<S>(asked: &mut Asked<'_, S>) -> Result<Response<Body>, Failure>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    asked.check_json(&["application/json"])?;
    let method = method(asked.gateway, "EmbeddingService/Rerank")?;
    let input = method.input();
    let shape = Arc::new(Mutex::new(Shape::default()));
    let told = shape.clone();
    let make = move |bytes: Bytes| {
        let made = read::<Rerank>(&bytes).and_then(|asked| {
            let is_bare = asked.texts.is_some();
            let plain = |text| match text {
                Text::Plain(text) | Text::Object { text } => text,
            };
            let texts = match (asked.documents, asked.texts) {
                (Some(documents), None) => documents.into_iter().map(plain).collect(),
                (None, Some(texts)) => texts,
                _ => {
                    return Err(
                        Failure::bad("BAD_JSON", "expected either documents or texts").about("documents")
                    );
                }
            };
            let wanted = asked.return_documents || asked.return_text;
            *told.lock() = Shape { texts: wanted.then(|| texts.clone()), is_bare };
            let limit = asked.top_n.unwrap_or_default();
            let model = asked.model.unwrap_or_default();
            json::message_of(
                &input,
                json!({"model": model, "query": asked.query, "texts": texts, "limit": limit}),
            )
        });
        std::future::ready(made)
    };
    let mut answer = asked.with_body(&method, make).await?;
    let answer_value = json::value(&answer.only().await?);
    let shape = shape.lock().clone();
    let none = Vec::new();
    let results = answer_value["results"].as_array().unwrap_or(&none);
    let one = |result: &Json| {
        let (index, score) = (&result["index"], &result["score"]);
        let text = index.as_u64().and_then(|index| shape.texts.as_ref()?.get(index as usize));
        match (shape.is_bare, text) {
            (true, None) => json!({"index": index, "score": score}),
            (true, Some(text)) => json!({"index": index, "score": score, "text": text}),
            (false, None) => json!({"index": index, "relevance_score": score}),
            (false, Some(text)) => {
                json!({"index": index, "relevance_score": score, "document": {"text": text}})
            }
        }
    };
    let results: Vec<Json> = results.iter().map(one).collect();
    let value = match shape.is_bare {
        true => Json::Array(results),
        false => {
            let tokens = &answer_value["usage"]["prompt_tokens"];
            let id = answer.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
            json!({"id": id, "model": answer_value["model"], "results": results,
                "usage": {"total_tokens": tokens}, "meta": {"billed_units": {"search_units": 1}}})
        }
    };
    Ok(answered(&answer, Bytes::from(value.to_string())))
}
