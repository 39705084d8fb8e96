//! Calls of any method, by its path and the bytes of its request.

use std::future::poll_fn;

use bytes::{Buf, BufMut, Bytes};
use futures::{Stream, StreamExt};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{self, Response};
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Hands bytes on as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// Puts a header into a request.
pub fn with<T>(message: T, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// The headers that show a key.
pub fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

/// Sends one message and reads the first answer, whatever kind of method it is.
pub async fn call(
    channel: &Channel,
    path: &'static str,
    message: Vec<u8>,
    headers: &[(&'static str, &str)],
) -> Result<Vec<u8>, Status> {
    let messages = with(tokio_stream::once(message), headers);
    let mut answers = open(channel, path, messages).await?;
    Ok(answers.message().await?.unwrap_or_default())
}

/// Opens a call whose messages come from a stream.
pub async fn open(
    channel: &Channel,
    path: &'static str,
    messages: Request<impl Stream<Item = Vec<u8>> + Send + 'static>,
) -> Result<tonic::Streaming<Vec<u8>>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    Ok(client.streaming(messages, PathAndQuery::from_static(path), Raw).await?.into_inner())
}

/// A message as bytes.
pub fn bytes(message: &impl Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// Opens a call whose body is bytes as they are, with the headers of messages or what looks like them.
pub async fn open_bytes(
    channel: &Channel,
    path: &str,
    body: impl Stream<Item = Vec<u8>> + Send + 'static,
    headers: &[(&'static str, &str)],
) -> Result<Response<Body>, tonic::transport::Error> {
    let frames = body.map(|bytes| Ok::<_, Status>(Frame::data(Bytes::from(bytes))));
    let mut request =
        http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Body::new(StreamBody::new(Box::pin(frames)));
    let mut channel = channel.clone();
    poll_fn(|context| channel.poll_ready(context)).await?;
    channel.call(request.body(body).unwrap()).await
}

/// How a call that [`open_bytes`] has opened ends.
pub async fn end_of(response: Response<Body>) -> Status {
    let (parts, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&parts.headers) {
        return status;
    }
    match body.collect().await {
        Ok(collected) => collected
            .trailers()
            .and_then(Status::from_header_map)
            .unwrap_or_else(|| Status::unknown("no trailers")),
        Err(status) => status,
    }
}

/// What stands before a message of this length.
pub fn header(length: usize) -> Vec<u8> {
    let mut header = vec![0];
    header.extend(u32::try_from(length).unwrap().to_be_bytes());
    header
}
