use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};

/// How often it is looked whether a client is waited for again.
const LOOK: Duration = Duration::from_secs(1);

/// How fast something must come.
#[derive(Debug, Clone, Copy)]
pub struct Least {
    /// Longest wait for the next byte, and time beside that which the rate gives.
    pub timeout: Duration,
    /// Bytes for each second beyond that.
    pub bytes_per_second: u64,
}

/// Measures how fast something comes. Only time in which the client is waited for counts: what the server needs itself
/// is not the client's fault.
#[derive(Debug)]
pub struct Pace {
    least: Least,
    bytes: u64,
    /// For how long the client was waited for, up to the last byte.
    waited: Duration,
    waiting_since: Option<Instant>,
}

impl Pace {
    /// Nothing has come, and nothing is waited for.
    pub fn new(least: Least) -> Self {
        Self { least, bytes: 0, waited: Duration::ZERO, waiting_since: None }
    }

    /// The client is waited for from now on, if it is not yet.
    pub fn wait(&mut self) {
        self.waiting_since.get_or_insert_with(Instant::now);
    }

    /// The client is not waited for any more.
    pub fn pause(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
    }

    /// So many bytes came.
    pub fn receive(&mut self, bytes: usize) {
        if bytes > 0 {
            self.pause();
            self.bytes = self.bytes.saturating_add(bytes as u64);
        }
    }

    /// What comes next is another thing.
    pub fn restart(&mut self) {
        *self = Self { waiting_since: self.waiting_since.map(|_| Instant::now()), ..Self::new(self.least) };
    }

    /// When it is too slow unless a byte comes before; none while the client is not waited for.
    pub fn deadline(&self) -> Option<Instant> {
        let since = self.waiting_since?;
        let earned = Duration::from_secs(self.bytes / self.least.bytes_per_second.max(1));
        let left = (self.least.timeout + earned).saturating_sub(self.waited);
        Some(since + left.min(self.least.timeout))
    }

    /// The error of what is too slow.
    pub fn error(&self, what: &str) -> Error {
        let Least { timeout, bytes_per_second } = self.least;
        let message = format!(
            "expected {what} whole after {timeout:?} and a second for each {bytes_per_second} bytes, and never \
             {timeout:?} without a byte, got {} bytes of it",
            self.bytes
        );
        Error::new(ErrorKind::DeadlineExceeded, "REQUEST_INCOMPLETE", message)
    }
}

/// How fast what takes several messages comes. A message that is too slow is given up where it is read.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Mutex<Pace>>);

impl Pulse {
    /// A pulse that stops when less comes than this.
    pub fn new(least: Least) -> Self {
        Self(Arc::new(Mutex::new(Pace::new(least))))
    }

    /// Changes what is measured.
    pub fn note(&self, note: impl FnOnce(&mut Pace)) {
        note(&mut self.0.lock());
    }

    /// Resolves when what began with the last [`Pace::restart`] comes too slowly, to the reason to give it up. Poll it
    /// after what reads the request: while nobody reads, nothing is noted.
    pub(super) async fn stopped(&self) -> Error {
        loop {
            let now = Instant::now();
            let at = self.0.lock().deadline().unwrap_or(now + LOOK);
            if at <= now {
                return self.0.lock().error("the rest of the document");
            }
            tokio::time::sleep_until(at).await;
        }
    }
}

/// The pulse of a request, as the server has put it there.
pub(super) fn pulse<T>(request: &tonic::Request<T>) -> Result<Pulse> {
    let unknown = || Error::internal("NO_PULSE", "the server does not note when bytes of a request come");
    request.extensions().get::<Pulse>().cloned().ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Least = Least { timeout: Duration::from_secs(30), bytes_per_second: 1000 };

    /// Waits for bytes that come in such portions; for how long it is until it is given up.
    async fn given_up_after(portion: usize, every: Duration, whole: usize) -> Option<Duration> {
        let (started, mut came, mut pace) = (Instant::now(), 0, Pace::new(LEAST));
        while came < whole {
            pace.wait();
            if pace.deadline()? <= Instant::now() + every {
                return Some(pace.deadline()? - started);
            }
            tokio::time::sleep(every).await;
            pace.receive(portion);
            came += portion;
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn slow_links_pass_and_trickles_do_not() {
        let (second, megabyte) = (Duration::from_secs(1), 1_000_000);
        assert_eq!(given_up_after(16_000, second, 100 * megabyte).await, None);
        assert_eq!(given_up_after(20_000, 20 * second, megabyte).await, None);
        let trickle = given_up_after(1, second, megabyte).await.unwrap();
        assert!((29 * second..=31 * second).contains(&trickle), "{trickle:?}");
        let slow = given_up_after(900, second, megabyte).await.unwrap();
        assert!((250 * second..=350 * second).contains(&slow), "{slow:?}");
        let stalled = given_up_after(100_000, 40 * second, megabyte).await.unwrap();
        assert_eq!(stalled, 30 * second);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_server_needs_itself_does_not_count() {
        let mut pace = Pace::new(LEAST);
        for _ in 0..100 {
            pace.wait();
            tokio::time::sleep(Duration::from_millis(200)).await;
            pace.pause();
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(pace.deadline(), None);
        }
        pace.wait();
        assert_eq!(pace.deadline().unwrap() - Instant::now(), Duration::from_secs(10));
        pace.restart();
        assert_eq!(pace.deadline().unwrap() - Instant::now(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pulse_stops_when_nothing_comes() {
        let pulse = Pulse::new(LEAST);
        let mut stopped = Box::pin(pulse.stopped());
        let wait = |time| Duration::from_secs(time);
        assert!(tokio::time::timeout(wait(100), &mut stopped).await.is_err(), "nothing is waited for");
        for _ in 0..5 {
            pulse.note(Pace::wait);
            assert!(tokio::time::timeout(wait(20), &mut stopped).await.is_err());
            pulse.note(|pace| pace.receive(20_000));
        }
        pulse.note(Pace::wait);
        let error = tokio::time::timeout(wait(32), stopped).await.unwrap();
        assert_eq!((error.kind, error.reason), (ErrorKind::DeadlineExceeded, "REQUEST_INCOMPLETE"));
    }
}
