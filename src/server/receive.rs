//! The body of a request: takes memory for each message before it is read, and gives up one that does not come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::PollSemaphore;
use tonic::Status;
use tonic::body::Body;

use crate::error::{Error, ErrorKind};
use crate::grpc::{Allowance, Memory};

/// Bytes before each message: whether it is compressed, and its length.
const HEADER: usize = 5;

/// How a request is received.
pub(super) struct Receiving {
    pub memory: Memory,
    /// What the call has of it.
    pub allowance: Allowance,
    /// A longer message takes no memory: it is refused by its length alone.
    pub max_message_bytes: usize,
    /// Longest wait for the next bytes of a message.
    pub timeout: Duration,
    /// Whether the caller may send message after message: then the memory of one is free when the next is read, and
    /// one waits for memory instead of being refused.
    pub is_stream: bool,
}

/// The body of a request, watched.
pub(super) struct Received {
    inner: Body,
    receiving: Receiving,
    framing: Framing,
    /// What waits for memory, and the units that it needs.
    waiting: Option<(Bytes, u32)>,
    /// What came after the end of a message: one is handed on before the next takes memory, or it would wait for
    /// its own.
    rest: Option<Bytes>,
    semaphore: PollSemaphore,
    /// Runs while bytes are missing.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Received {
    pub fn new(inner: Body, receiving: Receiving) -> Self {
        let semaphore = PollSemaphore::new(receiving.memory.units().clone());
        Self {
            inner,
            receiving,
            framing: Framing::default(),
            waiting: None,
            rest: None,
            semaphore,
            timer: None,
        }
    }

    /// Takes memory for the message that begins in some bytes, before these are handed on.
    fn poll_memory(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        let Some((_, units)) = &self.waiting else { return Poll::Ready(Ok(None)) };
        let permit = if self.receiving.is_stream {
            ready!(self.semaphore.poll_acquire_many(context, *units))
        } else {
            self.receiving.memory.units().clone().try_acquire_many_owned(*units).ok()
        };
        let Some(permit) = permit else { return Poll::Ready(Err(self.receiving.memory.short())) };
        self.receiving.allowance.keep_for_message(permit);
        Poll::Ready(Ok(self.waiting.take().map(|(bytes, _)| bytes)))
    }

    /// The next bytes, those that were kept back first; trailers and the end as they come.
    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            self.timer = None;
            return Poll::Ready(frame);
        }
        ready!(self.poll_timer(context));
        let seconds = self.receiving.timeout.as_secs();
        let message = format!("expected a whole message, got no byte of it for {seconds} s");
        let error = Error::new(ErrorKind::DeadlineExceeded, "REQUEST_INCOMPLETE", message);
        Poll::Ready(Some(Err(error.into())))
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.receiving.is_stream && self.framing.is_between() {
            self.timer = None;
            return Poll::Pending;
        }
        let timeout = self.receiving.timeout;
        self.timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + timeout)))
            .as_mut()
            .poll(context)
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Some(bytes) = ready!(this.poll_memory(context))? {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if this.receiving.is_stream && this.framing.is_between() {
            // Whoever asks for more has taken what came before.
            this.receiving.allowance.free_message();
        }
        let frame = match ready!(this.poll_bytes(context)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return Poll::Ready(Some(Ok(frame))),
        };
        let Read { bytes, begun } = this.framing.read(&data, this.receiving.max_message_bytes);
        let piece = data.split_to(bytes);
        this.rest = Some(data).filter(|rest| !rest.is_empty());
        if begun == 0 {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        this.waiting = Some((piece, this.receiving.memory.units_of(begun)));
        let bytes = ready!(this.poll_memory(context))?;
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.rest.is_none() && self.inner.is_end_stream()
    }
}

/// Where in the sequence of length-prefixed messages a body is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Framing {
    header: [u8; HEADER],
    /// Bytes of the header that have come.
    filled: usize,
    /// Bytes of the message that have not.
    left: usize,
}

/// What was read of some bytes.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    /// How many, up to the end of a message.
    bytes: usize,
    /// The length of the message that began in them; zero if none did or it is over the limit.
    begun: usize,
}

impl Framing {
    /// Reads on, up to the end of a message.
    fn read(&mut self, data: &[u8], most: usize) -> Read {
        let mut read = Read { bytes: 0, begun: 0 };
        if self.left == 0 {
            for byte in data {
                if let Some(place) = self.header.get_mut(self.filled) {
                    *place = *byte;
                }
                self.filled += 1;
                read.bytes += 1;
                if self.filled == HEADER {
                    break;
                }
            }
            if self.filled < HEADER {
                return read;
            }
            let [_, length @ ..] = self.header;
            self.left = u32::from_be_bytes(length) as usize;
            self.filled = 0;
            read.begun = Some(self.left).filter(|&length| length <= most).unwrap_or_default();
        }
        let part = self.left.min(data.len() - read.bytes);
        self.left -= part;
        read.bytes += part;
        read
    }

    /// Whether the last message that began is whole.
    fn is_between(&self) -> bool {
        self.filled == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use proptest::prelude::*;

    use super::*;

    const UNIT: usize = 1 << 10;

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((length as u32).to_be_bytes());
        bytes.extend(vec![7; length]);
        bytes
    }

    /// A body that gives these pieces and then ends, or stalls.
    struct Pieces(Vec<Vec<u8>>, bool);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            if self.0.is_empty() {
                return if self.1 { Poll::Pending } else { Poll::Ready(None) };
            }
            Poll::Ready(Some(Ok(Frame::data(self.0.remove(0).into()))))
        }
    }

    fn received(
        memory: &Memory,
        pieces: Vec<Vec<u8>>,
        stalls: bool,
        is_stream: bool,
    ) -> (Received, Allowance) {
        let held = Allowance::new(memory.clone());
        let receiving = Receiving {
            memory: memory.clone(),
            allowance: held.clone(),
            max_message_bytes: 8 * UNIT,
            timeout: Duration::from_secs(5),
            is_stream,
        };
        (Received::new(Body::new(Pieces(pieces, stalls)), receiving), held)
    }

    async fn next(body: &mut Received) -> Option<Result<Frame<Bytes>, Status>> {
        std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
    }

    fn free(memory: &Memory) -> usize {
        memory.units().available_permits()
    }

    #[tokio::test]
    async fn a_message_holds_its_memory_until_its_call_ends() {
        let memory = Memory::new(10 * UNIT, UNIT);
        let whole = message(6 * UNIT);
        let (first, rest) = whole.split_at(20);
        let (mut body, held) = received(&memory, vec![first.to_vec(), rest.to_vec()], false, false);
        assert!(next(&mut body).await.unwrap().is_ok());
        assert_eq!(free(&memory), 4, "taken before the rest is read");
        assert!(next(&mut body).await.unwrap().is_ok() && next(&mut body).await.is_none());
        drop(body);
        assert_eq!(free(&memory), 4);
        let (mut other, _) = received(&memory, vec![message(5 * UNIT)], false, false);
        let status = next(&mut other).await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        drop(held);
        assert_eq!(free(&memory), 10);
    }

    #[tokio::test]
    async fn what_is_too_long_takes_no_memory() {
        let memory = Memory::new(10 * UNIT, UNIT);
        let (mut body, _held) = received(&memory, vec![message(9 * UNIT)], false, false);
        assert!(next(&mut body).await.unwrap().is_ok());
        assert_eq!(free(&memory), 10);
    }

    #[tokio::test]
    async fn a_stream_waits_for_memory_and_frees_that_of_the_message_before() {
        let memory = Memory::new(10 * UNIT, UNIT);
        let pieces = vec![message(6 * UNIT), message(7 * UNIT)];
        let (mut body, _held) = received(&memory, pieces, false, true);
        assert!(next(&mut body).await.unwrap().is_ok());
        assert_eq!(free(&memory), 4);
        let other = memory.units().clone().acquire_many_owned(4).await.unwrap();
        assert!(futures::poll!(Box::pin(next(&mut body))).is_pending());
        drop(other);
        assert!(next(&mut body).await.unwrap().is_ok());
        assert_eq!(free(&memory), 3);
        assert!(next(&mut body).await.is_none());
        assert_eq!(free(&memory), 10);
    }

    #[tokio::test]
    async fn messages_are_freed_however_they_are_cut_into_frames() {
        let memory = Memory::new(10 * UNIT, UNIT);
        // The longest ones need all the memory there is, so that none may wait for that of the one before.
        for length in [UNIT, 8 * UNIT] {
            let messages = vec![message(length); 20].concat();
            let pieces = messages.chunks(700).map(<[u8]>::to_vec).collect();
            let (mut body, _held) = received(&memory, pieces, false, true);
            let mut read = 0;
            while let Some(frame) = next(&mut body).await {
                read += frame.unwrap().into_data().unwrap().len();
            }
            assert_eq!((read, free(&memory)), (messages.len(), 10));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_message_is_given_up_and_a_quiet_stream_is_not() {
        let memory = Memory::new(10 * UNIT, UNIT);
        let half = message(100)[..50].to_vec();
        for is_stream in [false, true] {
            let (mut body, _held) = received(&memory, vec![half.clone()], true, is_stream);
            assert!(next(&mut body).await.unwrap().is_ok());
            let status = next(&mut body).await.unwrap().unwrap_err();
            assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        }
        let (mut quiet, _held) = received(&memory, vec![message(100)], true, true);
        assert!(next(&mut quiet).await.unwrap().is_ok());
        assert!(tokio::time::timeout(Duration::from_secs(60), next(&mut quiet)).await.is_err());
    }

    #[tokio::test]
    async fn every_byte_is_handed_on() {
        let memory = Memory::new(10 * UNIT, UNIT);
        let pieces = vec![message(3), message(0), message(UNIT)];
        let (body, _held) = received(&memory, pieces.clone(), false, false);
        let frames = futures::stream::unfold(body, |mut body| async move {
            next(&mut body).await.map(|frame| (frame.unwrap().into_data().unwrap(), body))
        });
        assert_eq!(frames.collect::<Vec<_>>().await.concat(), pieces.concat());
    }

    proptest! {
        #[test]
        fn lengths_are_found_however_the_bytes_are_cut(
            lengths in prop::collection::vec(0_usize..50, 0..20),
            cuts in prop::collection::vec(1_usize..30, 1..50),
        ) {
            let all: Vec<u8> = lengths.iter().flat_map(|&length| message(length)).collect();
            let mut framing = Framing::default();
            let (mut rest, mut begun) = (all.as_slice(), 0);
            for cut in cuts.iter().cycle() {
                let (mut piece, after) = rest.split_at(rest.len().min(*cut));
                while !piece.is_empty() {
                    let read = framing.read(piece, 40);
                    begun += read.begun;
                    piece = &piece[read.bytes..];
                    prop_assert!(piece.is_empty() || framing.is_between());
                }
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(begun, lengths.iter().filter(|&&length| length <= 40).sum::<usize>());
            prop_assert!(framing.is_between());
        }
    }
}
