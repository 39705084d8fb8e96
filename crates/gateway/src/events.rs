//! Answers that come in pieces: server-sent events, lines of JSON, or one object of all of them.

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::StreamBody;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use serde_json::{Map, Value as Json};
use tonic::Status;
use tonic::body::Body;

use crate::call::Answer;
use crate::failure::Failure;
use crate::json;

/// The field of a message's oneof that is set: what kind of event it is.
pub(crate) fn kind(message: &DynamicMessage) -> Option<(String, Value)> {
    let oneof = message.descriptor().oneofs().next()?;
    let field = oneof.fields().find(|field| message.has_field(field))?;
    Some((field.name().to_owned(), message.get_field(&field).into_owned()))
}

/// What becomes of each message, and of the end, in an answer that is sent as it comes.
pub(crate) trait Pieces: Send + 'static {
    /// Text of a message; nothing for one that is not shown.
    fn message(&mut self, message: DynamicMessage) -> Option<String>;
    /// Text of a failure in the middle.
    fn failure(&mut self, failure: &Failure) -> String;
    /// Text at the end of all, where all went well.
    fn end(&mut self) -> Option<String>;
}

/// Sends an answer as it comes. A client that leaves drops it, which ends the call.
pub(crate) fn streamed(answer: Answer, media_type: &'static str, pieces: impl Pieces) -> Response<Body> {
    let id = answer.request_id.clone();
    let state = (answer, pieces, false);
    let frames = stream::unfold(state, |(mut answer, mut pieces, is_over)| async move {
        if is_over {
            return None;
        }
        loop {
            let (text, is_over) = match answer.next().await {
                Ok(Some(message)) => (pieces.message(message), false),
                Ok(None) => (pieces.end(), true),
                Err(failure) => (Some(pieces.failure(&failure)), true),
            };
            match text {
                Some(text) => {
                    return Some((
                        Ok::<_, Status>(Frame::data(Bytes::from(text))),
                        (answer, pieces, is_over),
                    ));
                }
                None if is_over => return None,
                None => {}
            }
        }
    });
    let mut response = Response::new(Body::new(StreamBody::new(Box::pin(frames))));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Proxies that collect answers would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    if let Some(id) = id {
        headers.insert("x-request-id", id);
    }
    response
}

/// Server-sent events, named by their kind.
pub(crate) struct ServerSent;

impl Pieces for ServerSent {
    fn message(&mut self, message: DynamicMessage) -> Option<String> {
        let name = kind(&message).map_or_else(|| "message".to_owned(), |(name, _)| name);
        Some(format!("event: {name}\ndata: {}\n\n", json::value(&message)))
    }

    fn failure(&mut self, failure: &Failure) -> String {
        format!("event: error\ndata: {}\n\n", failure.json())
    }

    fn end(&mut self) -> Option<String> {
        None
    }
}

/// A line of JSON for each message.
pub(crate) struct Lines;

impl Pieces for Lines {
    fn message(&mut self, message: DynamicMessage) -> Option<String> {
        Some(format!("{}\n", json::value(&message)))
    }

    fn failure(&mut self, failure: &Failure) -> String {
        format!("{}\n", failure.json())
    }

    fn end(&mut self) -> Option<String> {
        None
    }
}

/// All events of an answer in one object: texts joined as `text`, citations listed as `citations`, others by their kind.
///
/// # Errors
/// What the call failed with.
pub(crate) async fn object(answer: &mut Answer) -> Result<Json, Failure> {
    let (mut text, mut citations, mut object) = (String::new(), Vec::new(), Map::new());
    while let Some(message) = answer.next().await? {
        let Some((name, event)) = kind(&message) else { continue };
        match event {
            Value::String(delta) => text.push_str(&delta),
            Value::Message(citation) if name == "citation" => citations.push(json::value(&citation)),
            Value::Message(other) => {
                object.insert(name, json::value(&other));
            }
            _ => {}
        }
    }
    // What was sent in pieces may have been replaced by a quotation at the end.
    if let Some(last) = object.get("done").and_then(|done| done.get("text")).and_then(Json::as_str) {
        last.clone_into(&mut text);
    }
    object.insert("text".to_owned(), text.into());
    object.insert("citations".to_owned(), citations.into());
    Ok(Json::Object(object))
}
