use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};

/// When bytes of a request came last. A message that stops coming is given up where it is read; this is for what takes
/// several messages.
#[derive(Debug, Clone)]
pub struct Pulse {
    last: Arc<Mutex<Instant>>,
    timeout: Duration,
}

impl Pulse {
    /// A pulse that has stopped after so long without a byte.
    pub fn new(timeout: Duration) -> Self {
        Self { last: Arc::new(Mutex::new(Instant::now())), timeout }
    }

    /// Notes that bytes came, or that they are waited for from now on.
    pub fn beat(&self) {
        *self.last.lock() = Instant::now();
    }

    /// Resolves when no byte has come for so long, to the reason to give up what is not whole. Poll it after what reads
    /// the request: while nobody reads, nothing is noted.
    pub(super) async fn stopped(&self) -> Error {
        loop {
            let at = *self.last.lock() + self.timeout;
            if at <= Instant::now() {
                let message =
                    format!("expected the rest of the document, got none of it for {:?}", self.timeout);
                return Error::new(ErrorKind::DeadlineExceeded, "REQUEST_INCOMPLETE", message);
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

    #[tokio::test(start_paused = true)]
    async fn it_stops_when_nothing_comes() {
        let pulse = Pulse::new(Duration::from_secs(30));
        let mut stopped = Box::pin(pulse.stopped());
        for _ in 0..5 {
            assert!(tokio::time::timeout(Duration::from_secs(20), &mut stopped).await.is_err());
            pulse.beat();
        }
        let error = tokio::time::timeout(Duration::from_secs(31), stopped).await.unwrap();
        assert_eq!((error.kind, error.reason), (ErrorKind::DeadlineExceeded, "REQUEST_INCOMPLETE"));
    }
}
