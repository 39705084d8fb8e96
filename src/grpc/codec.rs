use std::marker::PhantomData;

use bytes::Buf;
use prost::{Message, Name};
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::allowance::{ALLOWANCE, Allowance};
use super::status::to_status;
use super::weight::{malformed, weigh};
use crate::error::{Error, Result};

/// How the messages of `trove.v1` become bytes and back. Of a request, what it will take is told from its bytes, and
/// room is taken for it, before it is decoded. Room for an answer is taken before it is encoded.
#[derive(Debug, Clone, Copy)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

/// The half of a [`Codec`] that writes.
#[derive(Debug, Clone, Copy)]
pub struct MessageEncoder<T>(PhantomData<T>);

/// The half of a [`Codec`] that reads.
#[derive(Debug, Clone, Copy)]
pub struct MessageDecoder<U>(PhantomData<U>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = MessageEncoder<T>;
    type Decoder = MessageDecoder<U>;

    fn encoder(&mut self) -> MessageEncoder<T> {
        MessageEncoder(PhantomData)
    }

    fn decoder(&mut self) -> MessageDecoder<U> {
        MessageDecoder(PhantomData)
    }
}

impl<T: Message> Encoder for MessageEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> std::result::Result<(), Status> {
        let bytes = item.encoded_len();
        // A client has no allowance.
        let room = ALLOWANCE.try_with(|allowance| allowance.take_for_answer(bytes)).unwrap_or(Ok(()));
        room.map_err(super::status::unsent)?;
        buffer.reserve(bytes);
        item.encode(buffer).map_err(|e| Status::internal(format!("a message was not encoded: {e}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl<U: Message + Name + Default> Decoder for MessageDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> std::result::Result<Option<U>, Status> {
        let allowance = ALLOWANCE.try_with(Allowance::clone).ok();
        let length = buffer.remaining();
        // The transport keeps a message in one piece.
        debug_assert_eq!(buffer.chunk().len(), length);
        admit(&U::full_name(), buffer.chunk(), allowance.as_ref()).map_err(to_status)?;
        U::decode(buffer).map(Some).map_err(|error| to_status(undecoded(&error)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// Takes room for what a request becomes.
fn admit(name: &str, bytes: &[u8], allowance: Option<&Allowance>) -> Result<()> {
    let (Some(weight), Some(allowance)) = (weigh(name, bytes)?, allowance) else { return Ok(()) };
    allowance.take_for_message(weight.bytes)
}

/// The error of a message that the decoder refuses.
fn undecoded(error: &prost::DecodeError) -> Error {
    let text = error.to_string();
    let why = text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text);
    malformed(format!("expected a protobuf message, got one that does not decode: {why}"))
}
