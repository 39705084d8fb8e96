use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// When a client should come back to a server that stops.
const RECONNECT_AFTER: Duration = Duration::from_secs(2);

/// Tells streams that have no end of their own that the server stops.
#[derive(Debug, Clone)]
pub struct Stop {
    token: CancellationToken,
    grace: Duration,
}

impl Stop {
    /// A stop that has not begun; `grace` is the time that calls then have to end.
    pub fn new(grace: Duration) -> Self {
        Self { token: CancellationToken::new(), grace }
    }

    /// Begins it.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves when it has begun.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// What is told of the work that it ends.
    pub(super) fn error() -> Error {
        Error::stopping(RECONNECT_AFTER)
    }

    /// Time that calls have to end once it has begun.
    pub fn grace(&self) -> Duration {
        self.grace
    }
}
