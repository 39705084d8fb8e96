//! The body of a request: takes memory for what has come of each message, and gives up one that does not come or comes too
//! slowly.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;

use crate::error::{Error, ErrorKind};
use crate::grpc::to_status;
use crate::grpc::{Allowance, Least, Pace, Pulse};

/// Bytes before each message: whether it is compressed, and its length.
const HEADER: usize = 5;
/// What is kept back of a message until so much of it has come, or all: with the first byte the decoder makes a buffer of
/// the announced length, and the allocator may give that huge pages.
const BEGINNING: usize = 256 << 10;
/// In steps of so many bytes a large buffer becomes resident.
const HUGE_PAGE: usize = 2 << 20;
/// Most room that a message of a stream has, beside as much as it is long, for what it is decoded to: it cannot be
/// refused more once it is read. Larger ones take it as they are decoded.
const DECODED: usize = 256 << 10;
/// Bytes for each second that a stream with the kept place must send while others wait for it.
const TENANT_RATE: u64 = 1 << 20;
/// How often it is looked whether others wait for the place that a stream has.
const LOOK: Duration = Duration::from_secs(1);

/// How a request is received.
pub(super) struct Receiving {
    /// What the memory is taken from.
    pub allowance: Allowance,
    /// Is told what comes.
    pub pulse: Pulse,
    /// A longer message takes no memory: it is refused by its length alone.
    pub max_message_bytes: usize,
    /// How fast a message must come.
    pub least: Least,
    /// Whether the caller may send message after message: then the memory of one is free when the next is read, and
    /// one waits for memory instead of being refused.
    pub is_stream: bool,
}

/// The body of a request, watched.
pub(super) struct Received {
    inner: Body,
    receiving: Receiving,
    framing: Framing,
    /// What waits for memory.
    waiting: Option<Bytes>,
    /// The beginning of the present message.
    beginning: VecDeque<Bytes>,
    /// Whether no more comes.
    is_over: bool,
    /// What came after the end of a message: one is handed on before the next takes memory, or it would wait for
    /// its own.
    rest: Option<Bytes>,
    /// How fast the present message comes.
    pace: Pace,
    /// How fast comes what takes the place that is kept for one stream, while the call has it.
    tenant: Option<Pace>,
    /// Runs while bytes are missing.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Received {
    pub fn new(inner: Body, receiving: Receiving) -> Self {
        let pace = Pace::new(receiving.least);
        Self {
            inner,
            receiving,
            framing: Framing::default(),
            waiting: None,
            beginning: VecDeque::new(),
            is_over: false,
            rest: None,
            pace,
            tenant: None,
            timer: None,
        }
    }

    /// Takes memory for bytes of a message before these are handed on.
    fn poll_memory(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        if self.waiting.is_none() {
            return Poll::Ready(Ok(None));
        }
        let (allowance, buffer) = (&self.receiving.allowance, self.framing.resident());
        if !self.receiving.is_stream {
            return Poll::Ready(allowance.receive(buffer).map(|()| self.waiting.take()));
        }
        let came = self.framing.came;
        let decoded = came.saturating_add(came.saturating_mul(3).min(DECODED));
        if allowance.poll_receive(buffer, decoded, context).is_pending() {
            self.pace.pause();
            self.tenant.iter_mut().for_each(Pace::pause);
            self.receiving.pulse.note(Pace::pause);
            return Poll::Pending;
        }
        Poll::Ready(Ok(self.waiting.take()))
    }

    /// The next bytes, those that were kept back first; trailers and the end as they come.
    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            if let Some(Ok(frame)) = &frame {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.pace.receive(bytes);
                self.tenant.iter_mut().for_each(|pace| pace.receive(bytes));
                self.receiving.pulse.note(|pace| pace.receive(bytes));
            }
            return Poll::Ready(frame);
        }
        self.receiving.pulse.note(Pace::wait);
        match self.receiving.is_stream && self.framing.is_between() {
            true => self.pace.pause(),
            false => self.pace.wait(),
        }
        self.tenant = self.as_tenant();
        ready!(self.poll_timer(context));
        let error = match self.pace.deadline() {
            Some(at) if at <= Instant::now() => self.pace.error("a message"),
            _ => in_the_way(self.receiving.least.timeout),
        };
        Poll::Ready(Some(Err(to_status(error))))
    }

    /// Is ready when the client was waited for too long.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            let slow = self.pace.deadline();
            let late = self.tenant.as_ref().and_then(Pace::deadline);
            if slow.is_some_and(|at| at <= now) {
                return Poll::Ready(());
            }
            if late.is_some_and(|at| at <= now) && self.receiving.allowance.is_in_the_way() {
                return Poll::Ready(());
            }
            let late = late.map(|at| at.max(now + LOOK));
            let Some(at) = slow.into_iter().chain(late).min() else {
                self.timer = None;
                return Poll::Pending;
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(context));
        }
    }

    /// Measures how fast the kept place is filled, if the call has it.
    fn as_tenant(&mut self) -> Option<Pace> {
        if !self.receiving.is_stream || !self.receiving.allowance.is_tenant() {
            return None;
        }
        let least = Least { bytes_per_second: TENANT_RATE, ..self.receiving.least };
        let mut pace = self.tenant.take().unwrap_or_else(|| Pace::new(least));
        pace.wait();
        Some(pace)
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.receiving.allowance.end_of_request(self.receiving.is_stream);
    }
}

/// The error of a stream that comes too slowly for the place that it has.
fn in_the_way(timeout: Duration) -> Error {
    let message = format!(
        "memory is short: expected the document within {timeout:?} and a second for each {TENANT_RATE} bytes, while \
         other streams wait for the place that is kept for one of them"
    );
    Error::exhausted("REQUEST_MEMORY_FULL", message, Duration::from_secs(1))
}

/// The error of a second message where there may be one.
fn too_many_messages() -> Error {
    Error::new(ErrorKind::InvalidArgument, "TOO_MANY_MESSAGES", "expected one message, got another one")
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Some(bytes) = ready!(this.poll_memory(context)).map_err(to_status)? {
                this.beginning.push_back(bytes);
            }
            if (this.is_over || !this.framing.is_beginning())
                && let Some(bytes) = this.beginning.pop_front()
            {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if this.receiving.is_stream && this.framing.is_between() {
                this.receiving.allowance.next_message();
                this.tenant = this.tenant.take().filter(|_| this.receiving.allowance.is_tenant());
            }
            let frame = match ready!(this.poll_bytes(context)) {
                Some(Ok(frame)) => frame.into_data(),
                None if !this.beginning.is_empty() => {
                    this.is_over = true;
                    continue;
                }
                other => return Poll::Ready(other),
            };
            let mut data = match frame {
                Ok(data) => data,
                Err(_) if !this.beginning.is_empty() => {
                    this.is_over = true;
                    continue;
                }
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            };
            if !this.receiving.is_stream
                && this.framing.messages > 0
                && !data.is_empty()
                && this.framing.is_between()
            {
                return Poll::Ready(Some(Err(to_status(too_many_messages()))));
            }
            let piece = data.split_to(this.framing.read(&data));
            this.rest = Some(data).filter(|rest| !rest.is_empty());
            if this.framing.is_between() && !piece.is_empty() {
                this.pace.restart();
            }
            if this.framing.length == 0 || this.framing.length > this.receiving.max_message_bytes {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            this.waiting = Some(piece);
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_handed_on = self.waiting.is_none() && self.beginning.is_empty() && self.rest.is_none();
        is_handed_on && self.inner.is_end_stream()
    }
}

/// Where in the sequence of length-prefixed messages a body is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Framing {
    header: [u8; HEADER],
    /// Bytes of the header that have come.
    filled: usize,
    /// How long the message is that came last, and how much of it is there.
    length: usize,
    came: usize,
    /// Messages that are whole.
    messages: usize,
}

impl Framing {
    /// Reads on, up to the end of a message; how many bytes that is.
    fn read(&mut self, data: &[u8]) -> usize {
        let mut read = 0;
        if self.came == self.length {
            for byte in data {
                if let Some(place) = self.header.get_mut(self.filled) {
                    *place = *byte;
                }
                self.filled += 1;
                read += 1;
                if self.filled == HEADER {
                    break;
                }
            }
            if self.filled < HEADER {
                (self.length, self.came) = (0, 0);
                return read;
            }
            let [_, length @ ..] = self.header;
            (self.length, self.came) = (u32::from_be_bytes(length) as usize, 0);
            self.filled = 0;
        }
        let part = (self.length - self.came).min(data.len() - read);
        self.came += part;
        if self.came == self.length {
            self.messages += 1;
        }
        read + part
    }

    /// Whether too little has come of a message for a buffer of its length.
    fn is_beginning(&self) -> bool {
        self.came < self.length.min(BEGINNING)
    }

    /// Bytes that what has come of a message takes, at most.
    fn resident(&self) -> usize {
        match self.is_beginning() {
            true => self.came,
            false => self.came.next_multiple_of(HUGE_PAGE).min(self.length),
        }
    }

    /// Whether the last message that began is whole.
    fn is_between(&self) -> bool {
        self.filled == 0 && self.came == self.length
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use proptest::prelude::*;

    use super::*;
    use crate::grpc::Memory;
    use crate::party::Party;

    const KIB: usize = 1 << 10;
    const LEAST: Least = Least { timeout: Duration::from_secs(5), bytes_per_second: 100 };

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((length as u32).to_be_bytes());
        bytes.extend(vec![7; length]);
        bytes
    }

    /// What a body does next.
    enum Step {
        Gives(Vec<u8>),
        Waits(Duration),
    }

    /// A body that takes these steps and then ends.
    fn body(steps: Vec<Step>) -> Body {
        let frames = futures::stream::iter(steps).filter_map(async |step| match step {
            Step::Gives(bytes) => Some(Ok::<_, Status>(Frame::data(Bytes::from(bytes)))),
            Step::Waits(time) => {
                tokio::time::sleep(time).await;
                None
            }
        });
        Body::new(http_body_util::StreamBody::new(Box::pin(frames)))
    }

    fn received(memory: &Memory, steps: Vec<Step>, is_stream: bool) -> (Received, Allowance) {
        received_of(memory, steps, is_stream, 8 * KIB)
    }

    fn received_of(
        memory: &Memory,
        steps: Vec<Step>,
        is_stream: bool,
        max_message_bytes: usize,
    ) -> (Received, Allowance) {
        let allowance = Allowance::new(memory.clone(), Party::Key("a".into()));
        let receiving = Receiving {
            allowance: allowance.clone(),
            pulse: Pulse::new(LEAST),
            max_message_bytes,
            least: LEAST,
            is_stream,
        };
        (Received::new(body(steps), receiving), allowance)
    }

    fn pieces(bytes: &[u8], length: usize) -> Vec<Step> {
        bytes.chunks(length).map(|piece| Step::Gives(piece.to_vec())).collect()
    }

    async fn next(body: &mut Received) -> Option<Result<Frame<Bytes>, Status>> {
        std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
    }

    /// How it ends: with all of its bytes, or an error.
    async fn read(body: &mut Received) -> Result<usize, Status> {
        let mut read = 0;
        while let Some(frame) = next(body).await {
            read += frame?.into_data().unwrap().len();
        }
        Ok(read)
    }

    #[tokio::test]
    async fn a_message_takes_memory_for_what_has_come_until_its_call_ends() {
        let memory = Memory::new(20 * KIB);
        let (mut body, allowance) = received(&memory, pieces(&message(6 * KIB), KIB), false);
        assert_eq!(read(&mut body).await.unwrap(), 6 * KIB + HEADER);
        drop(body);
        assert_eq!(memory.taken(), 6 * KIB);
        let (mut other, _) = received(&memory, pieces(&message(5 * KIB), KIB), false);
        let status = read(&mut other).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        drop((other, allowance));
        assert_eq!(memory.taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_announced_and_does_not_come_takes_nothing_and_makes_no_buffer() {
        let memory = Memory::new(40 << 20);
        let message = message(8 << 20);
        for is_stream in [false, true] {
            for came in [0, KIB, BEGINNING - 1] {
                let steps =
                    vec![Step::Gives(message[..HEADER + came].to_vec()), Step::Waits(LEAST.timeout * 20)];
                let (mut body, _allowance) = received_of(&memory, steps, is_stream, message.len());
                // Not even the header is handed on.
                let waiting = tokio::time::timeout(Duration::from_secs(1), next(&mut body));
                assert!(waiting.await.is_err(), "{came} bytes");
                let decoded = if is_stream { came + (3 * came).min(DECODED) } else { 0 };
                assert_eq!(memory.taken(), came + decoded);
            }
        }
        // From there on in steps of what may become resident.
        let steps =
            vec![Step::Gives(message[..HEADER + BEGINNING].to_vec()), Step::Waits(LEAST.timeout * 20)];
        let (mut body, _allowance) = received_of(&memory, steps, false, message.len());
        assert_eq!(next(&mut body).await.unwrap().unwrap().into_data().unwrap().len(), HEADER + BEGINNING);
        assert_eq!(memory.taken(), HUGE_PAGE);
    }

    #[tokio::test]
    async fn what_ends_in_its_beginning_is_handed_on() {
        let memory = Memory::new(20 * KIB);
        let (mut body, _allowance) = received(&memory, pieces(&message(6 * KIB)[..4000], KIB), false);
        assert_eq!(read(&mut body).await.unwrap(), 4000, "the decoder says what is wrong with it");
    }

    #[tokio::test]
    async fn what_is_too_long_takes_no_memory() {
        let memory = Memory::new(20 * KIB);
        let (mut body, _allowance) = received(&memory, pieces(&message(9 * KIB), 5 * KIB), false);
        assert!(next(&mut body).await.unwrap().is_ok());
        assert_eq!(memory.taken(), 0);
    }

    #[tokio::test]
    async fn a_call_with_one_message_has_no_other() {
        let memory = Memory::new(20 * KIB);
        for length in [0, 100] {
            let twice = [message(length), message(0)].concat();
            for cut in [1, 7, 500] {
                let (mut body, _allowance) = received(&memory, pieces(&twice, cut), false);
                let status = read(&mut body).await.unwrap_err();
                assert_eq!(status.code(), tonic::Code::InvalidArgument);
            }
        }
    }

    #[tokio::test]
    async fn a_stream_waits_for_memory_and_frees_that_of_the_message_before() {
        let memory = Memory::with_kept_place(24 * KIB, 0, 0);
        let steps = pieces(&[message(2 * KIB), message(2 * KIB)].concat(), 10 * KIB);
        let (mut body, allowance) = received(&memory, steps, true);
        assert!(next(&mut body).await.unwrap().is_ok());
        assert_eq!(memory.taken(), 10 * KIB, "four times as much as it is long, and its buffer");
        let other = Allowance::new(memory.clone(), Party::Key("b".into()));
        other.take(5 * KIB).unwrap();
        assert!(futures::poll!(Box::pin(next(&mut body))).is_pending(), "not more than is free");
        drop(other);
        assert!(next(&mut body).await.unwrap().is_ok());
        assert_eq!(memory.taken(), 10 * KIB, "that of the message before is free again");
        assert!(next(&mut body).await.is_none());
        assert_eq!(memory.taken(), 2 * KIB, "the buffer stays while there is a body");
        drop((body, allowance));
        assert_eq!(memory.taken(), 0);
    }

    #[tokio::test]
    async fn messages_are_freed_however_they_are_cut_into_frames() {
        let memory = Memory::with_kept_place(4 * KIB, 0, 50 * KIB);
        // The longest ones need the kept place, so that none may wait for the memory of the one before.
        for length in [KIB, 8 * KIB] {
            let messages = vec![message(length); 20].concat();
            let (mut body, _allowance) = received(&memory, pieces(&messages, 700), true);
            assert_eq!(read(&mut body).await.unwrap(), messages.len());
            drop(body);
            assert_eq!(memory.taken(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_message_is_given_up_and_a_quiet_stream_is_not() {
        let memory = Memory::with_kept_place(100 * KIB, 0, 0);
        let long = Duration::from_secs(60);
        let half = || vec![Step::Gives(message(100)[..50].to_vec()), Step::Waits(long)];
        for is_stream in [false, true] {
            let (mut body, _allowance) = received(&memory, half(), is_stream);
            assert_eq!(read(&mut body).await.unwrap_err().code(), tonic::Code::DeadlineExceeded);
        }
        let whole = || vec![Step::Gives(message(100)), Step::Waits(long)];
        let (mut quiet, _allowance) = received(&memory, whole(), true);
        assert_eq!(read(&mut quiet).await.unwrap(), 100 + HEADER);
        let (mut unary, _allowance) = received(&memory, whole(), false);
        assert_eq!(read(&mut unary).await.unwrap_err().code(), tonic::Code::DeadlineExceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_trickles_is_given_up_and_a_slow_one_is_not() {
        let memory = Memory::with_kept_place(100 * KIB, 0, 0);
        let steps = |at_once: usize| {
            let parts = pieces(&message(4000), at_once).into_iter();
            parts.flat_map(|piece| [Step::Waits(Duration::from_secs(1)), piece]).collect::<Vec<_>>()
        };
        for is_stream in [false, true] {
            let (mut slow, _allowance) = received(&memory, steps(150), is_stream);
            assert_eq!(read(&mut slow).await.unwrap(), 4000 + HEADER);
            let started = Instant::now();
            let (mut trickle, _allowance) = received(&memory, steps(2), is_stream);
            assert_eq!(read(&mut trickle).await.unwrap_err().code(), tonic::Code::DeadlineExceeded);
            assert!(started.elapsed() <= Duration::from_secs(6), "{:?}", started.elapsed());
            // Frames without a byte are no progress.
            let empty = (0..100).flat_map(|_| [Step::Waits(Duration::from_secs(1)), Step::Gives(Vec::new())]);
            let half = [Step::Gives(message(100)[..50].to_vec())].into_iter().chain(empty).collect();
            let (mut empty, _allowance) = received(&memory, half, is_stream);
            assert_eq!(read(&mut empty).await.unwrap_err().code(), tonic::Code::DeadlineExceeded);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_kept_place_is_not_for_slow_streams_while_others_wait_for_it() {
        let memory = Memory::with_kept_place(KIB, 0, 50 * KIB);
        let fast = || pieces(&message(8 * KIB), 500);
        let slow = || {
            let parts = pieces(&message(8 * KIB), 500).into_iter();
            parts.flat_map(|piece| [Step::Waits(Duration::from_secs(1)), piece]).collect::<Vec<_>>()
        };
        let (mut alone, _allowance) = received(&memory, slow(), true);
        assert_eq!(read(&mut alone).await.unwrap(), 8 * KIB + HEADER);
        drop(alone);
        let (mut first, own) = received(&memory, slow(), true);
        let (mut second, _allowance) = received(&memory, fast(), true);
        let first = async move {
            let read = read(&mut first).await;
            drop((first, own));
            read
        };
        let second = async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            read(&mut second).await
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!(first.unwrap_err().code(), tonic::Code::ResourceExhausted);
        assert_eq!(second.unwrap(), 8 * KIB + HEADER);
    }

    #[tokio::test]
    async fn every_byte_is_handed_on() {
        let memory = Memory::with_kept_place(100 * KIB, 0, 0);
        let messages = [message(3), message(0), message(KIB)].concat();
        let (body, _allowance) = received(&memory, pieces(&messages, 100), true);
        let frames = futures::stream::unfold(body, |mut body| async move {
            next(&mut body).await.map(|frame| (frame.unwrap().into_data().unwrap(), body))
        });
        assert_eq!(frames.collect::<Vec<_>>().await.concat(), messages);
    }

    proptest! {
        #[test]
        fn lengths_are_found_however_the_bytes_are_cut(
            lengths in prop::collection::vec(0_usize..50, 0..20),
            cuts in prop::collection::vec(1_usize..30, 1..50),
        ) {
            let all: Vec<u8> = lengths.iter().flat_map(|&length| message(length)).collect();
            let mut framing = Framing::default();
            let (mut rest, mut found) = (all.as_slice(), Vec::new());
            for cut in cuts.iter().cycle() {
                let (mut piece, after) = rest.split_at(rest.len().min(*cut));
                while !piece.is_empty() {
                    let read = framing.read(piece);
                    piece = &piece[read..];
                    prop_assert!(piece.is_empty() || framing.is_between());
                    if framing.is_between() {
                        found.push(framing.length);
                    }
                }
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(framing.messages, lengths.len());
            prop_assert_eq!(found, lengths);
        }
    }
}
