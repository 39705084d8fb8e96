//! Tells HTTP from gRPC and answers the former.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use prost_reflect::{DynamicMessage, MethodDescriptor, Value};
use tonic::body::Body;
use tower::{Layer, Service};

use crate::body::{self, Wrong};
use crate::call::{Answer, Caller, call};
use crate::events::{self, Lines, ServerSent, streamed};
use crate::failure::{Failure, bytes_response};
use crate::routes::{Form, Found, Reply, Route, parameters};
use crate::{Gateway, files, json, openai, origin};

/// Paths of gRPC services begin so.
const SERVICES: [&str; 2] = ["/trove.", "/grpc."];

/// Puts a [`Gateway`] before services.
#[derive(Clone)]
pub struct GatewayLayer(pub Arc<Gateway>);

/// Services with a [`Gateway`] before them.
#[derive(Clone)]
pub struct Gatewayed<S> {
    inner: S,
    gateway: Arc<Gateway>,
}

impl<S> Layer<S> for GatewayLayer {
    type Service = Gatewayed<S>;

    fn layer(&self, inner: S) -> Gatewayed<S> {
        Gatewayed { inner, gateway: self.0.clone() }
    }
}

impl<S> Service<Request<Body>> for Gatewayed<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_grpc(&request) {
            return Box::pin(self.inner.call(request));
        }
        // The service that is ready is the one that was asked.
        let next = self.inner.clone();
        let (service, gateway) = (std::mem::replace(&mut self.inner, next), self.gateway.clone());
        Box::pin(async move {
            let allowed = request.headers().get(header::ORIGIN).cloned();
            let mut response =
                gateway.serve(service, request).await.unwrap_or_else(|failure| failure.response());
            if let Some(origin) = allowed.filter(|origin| gateway.is_named(origin)) {
                let headers = response.headers_mut();
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                headers.insert(header::VARY, HeaderValue::from_static("origin"));
            }
            Ok(response)
        })
    }
}

fn is_grpc(request: &Request<Body>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/grpc"))
        || SERVICES.iter().any(|begin| request.uri().path().starts_with(begin))
}

/// One call over HTTP, and what it is made with.
pub(crate) struct Asked<'a, S> {
    pub gateway: &'a Gateway,
    pub service: S,
    pub caller: Caller,
    pub headers: &'a HeaderMap,
    pub body: Body,
}

impl<S> Asked<'_, S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    /// Calls a method with the one message that is made of the body.
    ///
    /// # Errors
    /// What the call failed with.
    pub async fn with_body<M, F>(&mut self, method: &MethodDescriptor, make: M) -> Result<Answer, Failure>
    where
        M: FnOnce(Bytes) -> F + Send + 'static,
        F: Future<Output = Result<DynamicMessage, Failure>> + Send + 'static,
    {
        let wrong = Wrong::default();
        let body = std::mem::replace(&mut self.body, Body::empty());
        let body = body::whole(body, self.gateway.options.clone(), wrong.clone(), make);
        self.call(method, body, wrong).await
    }

    /// Calls a method with a message.
    ///
    /// # Errors
    /// What the call failed with.
    pub async fn with(
        &mut self,
        method: &MethodDescriptor,
        message: &DynamicMessage,
    ) -> Result<Answer, Failure> {
        self.call(method, body::of_message(message), Wrong::default()).await
    }

    async fn call(&mut self, method: &MethodDescriptor, body: Body, wrong: Wrong) -> Result<Answer, Failure> {
        let most = self.gateway.options.max_body_bytes;
        let mut answer = call(&mut self.service, &self.caller, method, body, wrong, most).await?;
        answer.begin().await?;
        Ok(answer)
    }

    /// Checks that the body is JSON: a page of another site can send other types without asking.
    ///
    /// # Errors
    /// `UNSUPPORTED_MEDIA_TYPE`.
    pub fn check_json(&self, kinds: &[&str]) -> Result<(), Failure> {
        let got = media_type(self.headers);
        if got.as_deref().is_some_and(|got| kinds.contains(&got) || got.ends_with("+json")) {
            return Ok(());
        }
        let message = format!(
            "expected a body with content-type {}, got {}",
            kinds.join(" or "),
            got.as_deref().unwrap_or("none")
        );
        Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message))
    }
}

/// The media type of a body, without parameters.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(kind.split(';').next()?.trim().to_ascii_lowercase())
}

impl Gateway {
    /// Whether the settings name an origin.
    fn is_named(&self, origin: &HeaderValue) -> bool {
        self.options.origins.iter().any(|named| named.as_bytes() == origin.as_bytes())
    }

    async fn serve<S>(&self, service: S, request: Request<Body>) -> Result<Response<Body>, Failure>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let (mut parts, body) = request.into_parts();
        self.check_sender(&parts)?;
        let path = parts.uri.path().to_owned();
        if parts.method == Method::OPTIONS {
            return Ok(preflight());
        }
        let is_read = matches!(parts.method, Method::GET | Method::HEAD);
        match path.as_str() {
            "/" | "/ui" if is_read => return Ok(redirect("/ui/")),
            "/favicon.ico" if is_read => return Ok(redirect("/ui/icon.svg")),
            "/openapi.json" if is_read => {
                return Ok(bytes_response(StatusCode::OK, "application/json", self.openapi.clone()));
            }
            "/health" if is_read => {
                return Ok(bytes_response(
                    StatusCode::OK,
                    "application/json",
                    Bytes::from_static(b"{\"status\":\"ok\"}"),
                ));
            }
            _ => {}
        }
        if let Some(file) = path.strip_prefix("/ui/").filter(|_| is_read) {
            return Ok(self.page.get(file, &parts.headers));
        }
        let caller = Caller::of(&mut parts);
        let mut asked = Asked { gateway: self, service, caller, headers: &parts.headers, body };
        if let Some(response) = openai::serve(&mut asked, &parts.method, &path).await? {
            return Ok(response);
        }
        match self.routes.find(&parts.method, &path) {
            Found::Route(route, method, mut fields) => {
                fields.extend(parameters(parts.uri.query()));
                api(&mut asked, route, method, fields).await
            }
            Found::Verbs(verbs) => {
                let message = format!("expected {} for this path, got {}", verbs.join(" or "), parts.method);
                let mut response =
                    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message).response();
                if let Ok(verbs) = HeaderValue::from_str(&verbs.join(", ")) {
                    response.headers_mut().insert(header::ALLOW, verbs);
                }
                Ok(response)
            }
            Found::Nothing => {
                let message = format!("no such path: {}; /openapi.json lists them", shortened(&path));
                Err(Failure::new(StatusCode::NOT_FOUND, "UNKNOWN_PATH", message))
            }
        }
    }

    /// Refuses what a page of another site sends.
    fn check_sender(&self, parts: &http::request::Parts) -> Result<(), Failure> {
        let refused = |reason, message: String| Err(Failure::new(StatusCode::FORBIDDEN, reason, message));
        let header = |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let authority = parts.uri.authority().map(http::uri::Authority::as_str);
        let host = header(header::HOST).or(authority).unwrap_or_default();
        let is_behind = self.options.origins.iter().any(|named| origin::is_same(named, host));
        if self.options.is_local && !origin::is_local(host) && !is_behind {
            let host = shortened(host);
            let message =
                format!("this server listens to its own machine: expected a Host of localhost, got {host:?}");
            return refused("HOST_REFUSED", message);
        }
        let Some(origin) = parts.headers.get(header::ORIGIN) else { return Ok(()) };
        let text = origin.to_str().unwrap_or_default();
        if origin::is_same(text, host) || self.is_named(origin) {
            return Ok(());
        }
        let message =
            format!("pages of {:?} may not call: http.origins lists those that may", shortened(text));
        refused("ORIGIN_REFUSED", message)
    }
}

/// Serves a route of the API.
async fn api<S>(
    asked: &mut Asked<'_, S>,
    route: &'static Route,
    method: &MethodDescriptor,
    fields: Vec<(String, String)>,
) -> Result<Response<Body>, Failure>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let input = method.input();
    let set = move |message: &mut DynamicMessage| {
        fields.iter().try_for_each(|(name, value)| {
            let named = route.fields.iter().find(|(from, _)| from == name);
            json::set(message, named.map_or(name.as_str(), |(_, to)| to), value)
        })
    };
    let mut answer = match route.form {
        Form::Nothing => {
            let mut message = DynamicMessage::new(input);
            set(&mut message)?;
            asked.with(method, &message).await?
        }
        Form::Json => {
            asked.check_json(&["application/json"])?;
            let make = move |bytes: Bytes| {
                let read = json::message(&input, &bytes);
                std::future::ready(read.and_then(|mut message| set(&mut message).map(|()| message)))
            };
            asked.with_body(method, make).await?
        }
        Form::Files => {
            let boundary = asked.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            let boundary = boundary.and_then(|kind| multer::parse_boundary(kind).ok()).ok_or_else(|| {
                let message = "expected a body with content-type multipart/form-data and a boundary";
                Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message)
            })?;
            let media_type_of = asked.gateway.options.media_type_of;
            let make = move |bytes: Bytes| async move {
                let mut message = files::documents(&input, bytes, boundary, media_type_of).await?;
                set(&mut message).map(|()| message)
            };
            asked.with_body(method, make).await?
        }
        Form::Lines => {
            asked.check_json(&["application/x-ndjson", "application/jsonl", "application/json"])?;
            let mut start = DynamicMessage::new(input.clone());
            set(&mut start)?;
            let (wrong, line) = (Wrong::default(), line_of(method));
            let body = std::mem::replace(&mut asked.body, Body::empty());
            let body =
                body::lines(body, asked.gateway.options.clone(), wrong.clone(), body::framed(&start), line);
            asked.call(method, body, wrong).await?
        }
    };
    let accepts = asked.headers.get(header::ACCEPT).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match route.reply {
        Reply::Lines => Ok(streamed(answer, "application/x-ndjson", Lines)),
        Reply::Events if accepts.contains("text/event-stream") => {
            Ok(streamed(answer, "text/event-stream", ServerSent))
        }
        Reply::Events => {
            let value = events::object(&mut answer).await?;
            Ok(answered(&answer, Bytes::from(value.to_string())))
        }
        Reply::Json => {
            let message = answer.only().await?;
            Ok(answered(&answer, json::text(&message)))
        }
    }
}

/// An answer of JSON, with the id of its request.
pub(crate) fn answered(answer: &Answer, text: Bytes) -> Response<Body> {
    let mut response = bytes_response(StatusCode::OK, "application/json", text);
    if let Some(id) = &answer.request_id {
        response.headers_mut().insert("x-request-id", id.clone());
    }
    response
}

/// What a line of a stream's body is: a document where the stream takes documents by themselves, else a message.
fn line_of(
    method: &MethodDescriptor,
) -> impl Fn(&[u8]) -> Result<DynamicMessage, Failure> + Send + 'static + use<> {
    let input = method.input();
    let is_ingest = method.name() == "IngestDocuments";
    move |line| {
        let document = input.get_field_by_name("document").filter(|_| is_ingest);
        let Some((field, prost_reflect::Kind::Message(kind))) =
            document.map(|field| (field.clone(), field.kind()))
        else {
            return json::message(&input, line);
        };
        let mut message = DynamicMessage::new(input.clone());
        message.set_field(&field, Value::Message(json::message(&kind, line)?));
        Ok(message)
    }
}

fn redirect(to: &'static str) -> Response<Body> {
    let mut response = bytes_response(StatusCode::FOUND, "text/plain", Bytes::new());
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    response
}

/// What a browser asks before it lets a page of a named origin call.
fn preflight() -> Response<Body> {
    let mut response = bytes_response(StatusCode::NO_CONTENT, "text/plain", Bytes::new());
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, POST, PATCH, DELETE");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    let allowed = HeaderValue::from_static("authorization, content-type, x-api-key, x-request-id");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// The beginning of what a caller sent.
pub(crate) fn shortened(text: &str) -> &str {
    text.split_at(text.floor_char_boundary(200)).0
}
