//! A call of a service, and the messages of its answer.

use std::collections::VecDeque;
use std::convert::Infallible;

use bytes::{Buf, BytesMut};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::BodyExt;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use crate::body::Wrong;
use crate::failure::Failure;

/// Headers that a call takes along.
const KEPT: [HeaderName; 6] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("grpc-timeout"),
    header::USER_AGENT,
];

/// What calls and their answers have in common with the request that they are made of.
#[derive(Clone)]
pub(crate) struct Caller {
    headers: HeaderMap,
    extensions: http::Extensions,
}

impl Caller {
    /// Takes what belongs to the caller out of a request.
    pub fn of(parts: &mut http::request::Parts) -> Self {
        let mut headers = HeaderMap::new();
        for name in KEPT {
            if let Some(value) = parts.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        Self { headers, extensions: std::mem::take(&mut parts.extensions) }
    }

    fn request(&self, method: &MethodDescriptor, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = path.parse().unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        *request.extensions_mut() = self.extensions.clone();
        request
    }
}

/// The answer of a call: its messages, one after the other.
pub(crate) struct Answer {
    body: Body,
    buffer: BytesMut,
    output: MessageDescriptor,
    max_message_bytes: usize,
    wrong: Wrong,
    /// What was looked at already.
    ready: VecDeque<DynamicMessage>,
    is_over: bool,
    /// Id of the request, as the answer names it.
    pub request_id: Option<HeaderValue>,
}

/// Calls a method.
///
/// # Errors
/// What the call is refused with at once.
pub(crate) async fn call<S>(
    service: &mut S,
    caller: &Caller,
    method: &MethodDescriptor,
    body: Body,
    wrong: Wrong,
    max_message_bytes: usize,
) -> Result<Answer, Failure>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let Ok(response) = service.call(caller.request(method, body)).await;
    let request_id = response.headers().get("x-request-id").cloned();
    let refused = Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok);
    if let Some(status) = refused {
        return Err(wrong.take().unwrap_or_else(|| Failure::of(&status)));
    }
    Ok(Answer {
        body: response.into_body(),
        buffer: BytesMut::new(),
        output: method.output(),
        max_message_bytes,
        wrong,
        ready: VecDeque::new(),
        is_over: false,
        request_id,
    })
}

impl Answer {
    /// The next message; none at the end.
    ///
    /// # Errors
    /// What the call failed with.
    pub async fn next(&mut self) -> Result<Option<DynamicMessage>, Failure> {
        if let Some(message) = self.ready.pop_front() {
            return Ok(Some(message));
        }
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(Some(message));
            }
            if self.is_over {
                return Ok(None);
            }
            let Some(frame) = self.body.frame().await else {
                self.is_over = true;
                continue;
            };
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => self.buffer.extend_from_slice(&data),
                Ok(Err(frame)) => {
                    let Ok(trailers) = frame.into_trailers() else { continue };
                    self.is_over = true;
                    let status =
                        Status::from_header_map(&trailers).unwrap_or_else(|| Status::unknown("no status"));
                    if status.code() != Code::Ok {
                        return Err(self.failure(&status));
                    }
                }
                Err(status) => {
                    self.is_over = true;
                    return Err(self.failure(&status));
                }
            }
        }
    }

    /// Waits for the first message, so that a call that fails at once fails with its status.
    ///
    /// # Errors
    /// What the call failed with.
    pub async fn begin(&mut self) -> Result<(), Failure> {
        let first = self.next().await?;
        self.ready.extend(first);
        Ok(())
    }

    /// The only message.
    ///
    /// # Errors
    /// What the call failed with.
    pub async fn only(&mut self) -> Result<DynamicMessage, Failure> {
        let message = self.next().await?;
        // What failed after the message is told too.
        while self.next().await?.is_some() {}
        message.ok_or_else(|| internal("the call ended without an answer"))
    }

    fn failure(&self, status: &Status) -> Failure {
        self.wrong.take().unwrap_or_else(|| Failure::of(status))
    }

    fn buffered(&mut self) -> Result<Option<DynamicMessage>, Failure> {
        let Some(header) = self.buffer.first_chunk::<5>() else { return Ok(None) };
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if length > self.max_message_bytes {
            let most = self.max_message_bytes;
            let message =
                format!("expected an answer of at most {most} bytes, got {length}: ask for less, or by gRPC");
            return Err(Failure::new(http::StatusCode::PAYLOAD_TOO_LARGE, "RESPONSE_TOO_LARGE", message));
        }
        if self.buffer.len() < 5 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        let bytes = self.buffer.split_to(length);
        let message = DynamicMessage::decode(self.output.clone(), bytes);
        message.map(Some).map_err(|_| internal("the answer cannot be read"))
    }
}

fn internal(message: &str) -> Failure {
    Failure::new(http::StatusCode::INTERNAL_SERVER_ERROR, "GATEWAY_FAILED", message)
}
