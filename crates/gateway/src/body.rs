//! The body of a gRPC request that is made of the body of an HTTP request once the service asks for it: by then the guard
//! has admitted the call, and what is read takes room of the call's own memory.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{self, Stream, StreamExt};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use parking_lot::Mutex;
use prost_reflect::DynamicMessage;
use prost_reflect::prost::Message;
use tonic::Status;
use tonic::body::Body;

use crate::Options;
use crate::failure::Failure;

/// Bytes before each message: whether it is compressed, and its length.
const HEADER: usize = 5;

/// What was wrong with the body. A body can only fail without saying why, so this does.
#[derive(Clone, Default)]
pub(crate) struct Wrong(Arc<Mutex<Option<Failure>>>);

impl Wrong {
    fn put(&self, failure: Failure) -> Status {
        let status = Status::invalid_argument(failure.message.clone());
        self.0.lock().get_or_insert(failure);
        status
    }

    pub fn take(&self) -> Option<Failure> {
        self.0.lock().take()
    }
}

/// A message as gRPC sends it.
pub(crate) fn framed(message: &DynamicMessage) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(HEADER + length);
    out.put_u8(0);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // The buffer grows, so that encoding cannot fail.
    let _ = message.encode(&mut out);
    out.freeze()
}

/// A message that is there already.
pub(crate) fn of_message(message: &DynamicMessage) -> Body {
    Body::new(http_body_util::Full::new(framed(message)))
}

/// One message of the whole body.
pub(crate) fn whole<M, F>(body: Body, options: Options, wrong: Wrong, make: M) -> Body
where
    M: FnOnce(Bytes) -> F + Send + 'static,
    F: Future<Output = Result<DynamicMessage, Failure>> + Send + 'static,
{
    let made = async move {
        let made = async {
            let (bytes, _room) = read(body, &options).await?;
            Ok(framed(&make(bytes).await?))
        };
        made.await.map(Frame::data).map_err(|failure| wrong.put(failure))
    };
    Body::new(StreamBody::new(stream::once(Box::pin(made))))
}

/// All of a body.
async fn read(body: Body, options: &Options) -> Result<(Bytes, Vec<Box<dyn Send>>), Failure> {
    let (mut body, mut read, mut rooms) = (body, BytesMut::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| cut(&error))?.into_data() else { continue };
        if read.len() + data.len() > options.max_body_bytes {
            return Err(too_large(options.max_body_bytes));
        }
        rooms.push((options.room)(data.len())?);
        read.extend_from_slice(&data);
    }
    let read = read.freeze();
    rooms.push((options.room)(crate::json::room(&read).saturating_sub(read.len()))?);
    Ok((read, rooms))
}

fn cut(error: &Status) -> Failure {
    Failure::bad("BODY_CUT_OFF", format!("the body did not come to its end: {}", error.message()))
}

fn too_large(most: usize) -> Failure {
    let message = format!("expected a body of at most {most} bytes, got more");
    Failure::new(http::StatusCode::PAYLOAD_TOO_LARGE, "MESSAGE_TOO_LARGE", message)
}

/// A message for each line of the body, as they come.
pub(crate) fn lines<M>(body: Body, options: Options, wrong: Wrong, first: Bytes, make: M) -> Body
where
    M: Fn(&[u8]) -> Result<DynamicMessage, Failure> + Send + 'static,
{
    let lines = split(body, options.max_body_bytes).enumerate();
    let messages = lines.filter_map(move |(at, line)| {
        let made = line.and_then(|line| {
            if line.iter().all(u8::is_ascii_whitespace) {
                return Ok(None);
            }
            let _room = (options.room)(crate::json::room(&line))?;
            let numbered = |mut failure: Failure| {
                failure.message = format!("line {}: {}", at + 1, failure.message);
                failure
            };
            make(&line).map(|message| Some(framed(&message))).map_err(numbered)
        });
        let made = made.map(|made| made.map(Frame::data)).map_err(|failure| wrong.put(failure)).transpose();
        std::future::ready(made)
    });
    let first = stream::iter((!first.is_empty()).then(|| Ok(Frame::data(first))));
    Body::new(StreamBody::new(first.chain(messages)))
}

/// The lines of a body, without their ends.
fn split(body: Body, most: usize) -> impl Stream<Item = Result<Bytes, Failure>> {
    let state = (BodyStream::new(body), BytesMut::new(), false);
    stream::unfold(state, move |(mut body, mut buffer, mut is_over)| async move {
        let mut looked = 0;
        loop {
            if let Some(at) = buffer[looked..].iter().position(|byte| *byte == b'\n') {
                let mut line = buffer.split_to(looked + at + 1);
                line.truncate(looked + at);
                return Some((Ok(line.freeze()), (body, buffer, is_over)));
            }
            if is_over {
                let rest = buffer.split().freeze();
                return (!rest.is_empty()).then_some((Ok(rest), (body, buffer, true)));
            }
            looked = buffer.len();
            match body.next().await {
                None => is_over = true,
                Some(Err(error)) => {
                    buffer.clear();
                    return Some((Err(cut(&error)), (body, buffer, true)));
                }
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if buffer.len() + data.len() > most && !data.contains(&b'\n') {
                        buffer.clear();
                        return Some((Err(too_large(most)), (body, buffer, true)));
                    }
                    buffer.extend_from_slice(&data);
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines_of(pieces: &'static [&'static str]) -> Vec<Result<Bytes, String>> {
        let pieces =
            pieces.iter().map(|piece| Ok::<_, Status>(Frame::data(Bytes::from_static(piece.as_bytes()))));
        let body = Body::new(StreamBody::new(stream::iter(pieces)));
        split(body, 8).map(|line| line.map_err(|failure| failure.reason)).collect().await
    }

    #[tokio::test]
    async fn lines_come_whole_however_they_are_cut() {
        let lines = lines_of(&["a", "b\nc", "\n\nde", "f"]).await;
        assert_eq!(lines, ["ab", "c", "", "def"].map(|line| Ok(Bytes::from_static(line.as_bytes()))));
        assert_eq!(lines_of(&["123456", "789"]).await, [Err("MESSAGE_TOO_LARGE".to_owned())]);
    }
}
