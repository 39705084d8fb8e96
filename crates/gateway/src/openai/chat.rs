//! `POST /v1/chat/completions`: the model is a collection, and the answer comes from its documents, with citations.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tonic::body::Body;
use tower::Service;

use super::{method, read};
use crate::events::{self, Pieces, streamed};
use crate::failure::Failure;
use crate::json;
use crate::layer::{Asked, answered};

/// What is said where the documents hold no answer.
const REFUSAL: &str = "The documents do not answer this question.";

#[derive(Deserialize)]
struct Completions {
    #[serde(default)]
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    temperature: Option<f32>,
    #[serde(default)]
    top_p: Option<f32>,
    #[serde(default)]
    seed: Option<i64>,
    #[serde(default)]
    stop: Option<Stop>,
    #[serde(default)]
    n: Option<u32>,
    #[serde(default)]
    tool_choice: Option<Json>,
    #[serde(default)]
    response_format: Option<Json>,
    #[serde(default)]
    trove: Own,
}

/// What Trove has beside OpenAI's form.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Own {
    /// `auto`, `generative` or `extractive`.
    #[serde(default)]
    mode: Option<String>,
    /// Most passages that are looked at.
    #[serde(default)]
    limit: Option<u32>,
    /// As `Filter` of the API.
    #[serde(default)]
    filter: Option<Json>,
    /// `inline`, the default, or `annotations` alone.
    #[serde(default)]
    citations: Option<String>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
}

impl Message {
    fn text(self) -> Result<(String, String), Failure> {
        let text = match self.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => {
                if let Some(other) = parts.iter().find(|part| part.kind != "text") {
                    let message = format!("messages: expected parts of text, got {:?}", other.kind);
                    return Err(Failure::bad("UNSUPPORTED_CONTENT", message).about("messages"));
                }
                parts.into_iter().map(|part| part.text).collect::<Vec<_>>().join("\n")
            }
        };
        Ok((self.role, text))
    }
}

/// How the answer is put.
#[derive(Clone, Default)]
struct Shape {
    collection: String,
    stream: bool,
    with_usage: bool,
    is_inline: bool,
}

impl Completions {
    fn check(&self) -> Result<(), Failure> {
        let refuse =
            |param: &str, message: &str| Err(Failure::bad("UNSUPPORTED_PARAMETER", message).about(param));
        if self.n.is_some_and(|n| n != 1) {
            return refuse("n", "n: expected 1");
        }
        let format = self.response_format.as_ref().and_then(|format| format["type"].as_str());
        if format.is_some_and(|format| format != "text") {
            return refuse("response_format", "response_format: expected text");
        }
        let choice = self.tool_choice.as_ref();
        if choice.is_some_and(|choice| !matches!(choice.as_str(), Some("auto" | "none"))) {
            return refuse("tool_choice", "tool_choice: expected auto or none, since no tools are called");
        }
        Ok(())
    }

    fn request(self, descriptor: &MessageDescriptor, collection: &str) -> Result<DynamicMessage, Failure> {
        let mut history = Vec::new();
        for message in self.messages {
            let (role, text) = message.text()?;
            match role.as_str() {
                "user" => history.push(("ROLE_USER", text)),
                "assistant" => history.push(("ROLE_ASSISTANT", text)),
                // What to answer by is what the documents say.
                "system" | "developer" | "tool" | "function" => {}
                other => {
                    let message =
                        format!("messages: expected a role of user, assistant or system, got {other:?}");
                    return Err(Failure::bad("BAD_JSON", message).about("messages"));
                }
            }
        }
        let Some(("ROLE_USER", question)) = history.pop() else {
            let message = "messages: expected the last one to be of the user";
            return Err(Failure::bad("NO_QUESTION", message).about("messages"));
        };
        let history: Vec<Json> =
            history.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
        let mut sampling =
            json!({"max_tokens": self.max_completion_tokens.or(self.max_tokens).unwrap_or_default()});
        let mut set = |name: &str, value: Option<Json>| {
            if let Some(value) = value {
                sampling[name] = value;
            }
        };
        set("temperature", self.temperature.map(|x| json!(x)));
        set("top_p", self.top_p.map(|x| json!(x)));
        set("seed", self.seed.map(|seed| json!(seed.unsigned_abs())));
        set(
            "stop",
            self.stop.map(|stop| match stop {
                Stop::One(one) => json!([one]),
                Stop::Many(many) => json!(many),
            }),
        );
        let mut search = json!({"collection": collection, "limit": self.trove.limit.unwrap_or_default()});
        if let Some(filter) = self.trove.filter {
            search["filter"] = filter;
        }
        let mode = self.trove.mode.unwrap_or_else(|| "auto".to_owned());
        let mode = format!("ANSWER_MODE_{}", mode.to_uppercase());
        json::message_of(
            descriptor,
            json!({"search": search, "question": question, "history": history, "sampling": sampling, "mode": mode}),
        )
    }
}

/// Answers the last message of the user from a collection: the one that the path names, or else the model.
///
/// # Errors
/// What the call failed with.
pub(super) async fn completions<S>(
    asked: &mut Asked<'_, S>,
    collection: Option<String>,
) -> Result<Response<Body>, Failure>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    asked.check_json(&["application/json"])?;
    let method = method(asked.gateway, "AnswerService/Answer")?;
    let input = method.input();
    let shape = Arc::new(Mutex::new(Shape::default()));
    let told = shape.clone();
    let make = move |bytes: Bytes| {
        let made = read::<Completions>(&bytes).and_then(|asked| {
            asked.check()?;
            let collection = collection.unwrap_or_else(|| asked.model.clone());
            *told.lock() = Shape {
                collection: collection.clone(),
                stream: asked.stream,
                with_usage: asked.stream_options.as_ref().is_some_and(|options| options.include_usage),
                is_inline: asked.trove.citations.as_deref() != Some("annotations"),
            };
            asked.request(&input, &collection)
        });
        std::future::ready(made)
    };
    let mut answer = asked.with_body(&method, make).await?;
    let shape = shape.lock().clone();
    let id = answer.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
    let id = format!("chatcmpl-{id}");
    let mut writing = Writing { id, created: now(), shape, ..Writing::default() };
    if writing.shape.stream {
        return Ok(streamed(answer, "text/event-stream", writing));
    }
    let mut text = String::new();
    while let Some(message) = answer.next().await? {
        text.push_str(&writing.text_of(&message));
    }
    let mut message = json!({"role": "assistant", "content": text});
    message["annotations"] = writing.annotations.clone().into();
    let value = json!({
        "id": writing.id, "object": "chat.completion", "created": writing.created, "model": writing.shape.collection,
        "choices": [{"index": 0, "message": message, "finish_reason": writing.finish(), "logprobs": null}],
        "usage": writing.usage, "trove": writing.trove,
    });
    Ok(answered(&answer, Bytes::from(value.to_string())))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}

/// An answer as it is put into OpenAI's form.
#[derive(Default)]
struct Writing {
    id: String,
    created: u64,
    shape: Shape,
    /// Characters written so far.
    written: usize,
    has_begun: bool,
    annotations: Vec<Json>,
    usage: Json,
    /// How it ended, in Trove's words.
    trove: Json,
}

impl Writing {
    /// What an event adds to the text.
    fn text_of(&mut self, message: &DynamicMessage) -> String {
        let Some((kind, event)) = events::kind(message) else { return String::new() };
        let text = match (kind.as_str(), event) {
            ("delta", Value::String(delta)) => delta,
            ("citation", Value::Message(citation)) => self.cite(&json::value(&citation)),
            ("done", Value::Message(done)) => self.end_of(&json::value(&done)),
            _ => String::new(),
        };
        self.written += text.chars().count();
        text
    }

    fn cite(&mut self, citation: &Json) -> String {
        let (number, passage) = (&citation["number"], &citation["passage"]);
        let mark = if self.shape.is_inline { format!(" [{number}]") } else { String::new() };
        let end = self.written + mark.chars().count();
        // The citation counts from the start of its passage, the page from that of the document.
        let start = passage["span"]["start"].as_u64().unwrap_or_default();
        let in_document = |bound: &str| start + citation["passage_span"][bound].as_u64().unwrap_or_default();
        let url = format!(
            "/ui/document?collection={}&id={}&start={}&end={}",
            encoded(&self.shape.collection),
            encoded(passage["document_id"].as_str().unwrap_or_default()),
            in_document("start"),
            in_document("end")
        );
        self.annotations.push(json!({"type": "url_citation", "url_citation": {
            "start_index": self.written, "end_index": end, "title": passage["document_id"], "url": url,
        }}));
        mark
    }

    fn end_of(&mut self, done: &Json) -> String {
        let (prompt, completion) = (&done["usage"]["prompt_tokens"], &done["usage"]["completion_tokens"]);
        let total = prompt.as_u64().unwrap_or_default() + completion.as_u64().unwrap_or_default();
        self.usage = json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total});
        self.trove = json!({"finish_reason": done["finish_reason"], "kind": done["kind"]});
        if self.written == 0 { REFUSAL.to_owned() } else { String::new() }
    }

    fn finish(&self) -> &'static str {
        if self.trove["finish_reason"] == "FINISH_REASON_LENGTH" { "length" } else { "stop" }
    }

    fn chunk(&self, delta: &Json, finish: Option<&str>) -> String {
        let chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.shape.collection,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": null}],
        });
        format!("data: {chunk}\n\n")
    }
}

impl Pieces for Writing {
    fn message(&mut self, message: DynamicMessage) -> Option<String> {
        let text = self.text_of(&message);
        let mut out = String::new();
        if !self.has_begun {
            self.has_begun = true;
            out.push_str(&self.chunk(&json!({"role": "assistant", "content": ""}), None));
        }
        if !text.is_empty() {
            out.push_str(&self.chunk(&json!({"content": text}), None));
        }
        (!out.is_empty()).then_some(out)
    }

    fn failure(&mut self, failure: &Failure) -> String {
        format!("data: {}\n\n", failure.json())
    }

    fn end(&mut self) -> Option<String> {
        let mut out = String::new();
        if !self.annotations.is_empty() {
            out.push_str(&self.chunk(&json!({"annotations": self.annotations}), None));
        }
        out.push_str(&self.chunk(&json!({}), Some(self.finish())));
        if self.shape.with_usage {
            let usage = json!({
                "id": self.id, "object": "chat.completion.chunk", "created": self.created,
                "model": self.shape.collection, "choices": [], "usage": self.usage,
            });
            out.push_str(&format!("data: {usage}\n\n"));
        }
        out.push_str("data: [DONE]\n\n");
        Some(out)
    }
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
