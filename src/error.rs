//! The one error type of the layers below the transport.

use std::time::Duration;

/// What kind of failure it is; each maps to one canonical gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller sent something that can never work.
    InvalidArgument,
    /// A named thing does not exist.
    NotFound,
    /// A thing of that name exists already.
    AlreadyExists,
    /// The request is right, but not in the present state.
    FailedPrecondition,
    /// A limit or a full queue; may work later.
    ResourceExhausted,
    /// What is on disk is damaged.
    DataLoss,
    /// The server is stopping or a part of it is not there.
    Unavailable,
    /// The caller left.
    Cancelled,
    /// A fault of the program or the machine.
    Internal,
}

/// An error with a stable reason that programs can match and a message for people.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Kind, which decides the gRPC code.
    pub kind: ErrorKind,
    /// Stable reason in UPPER_SNAKE_CASE, such as `UNKNOWN_COLLECTION`.
    pub reason: &'static str,
    /// What was expected and what came, in lower case without a full stop.
    pub message: String,
    /// When a retry may work, for `ResourceExhausted` and `Unavailable`.
    pub retry_after: Option<Duration>,
    /// What caused it.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error of a kind, with its stable reason and message.
    pub fn new(kind: ErrorKind, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, reason, message: message.into(), retry_after: None, source: None }
    }

    /// Bad input.
    pub fn invalid(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, reason, message)
    }

    /// A named thing that does not exist.
    pub fn not_found(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, reason, message)
    }

    /// Not possible in the present state.
    pub fn precondition(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::FailedPrecondition, reason, message)
    }

    /// Damage on disk.
    pub fn data_loss(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::DataLoss, reason, message)
    }

    /// A fault of the program or the machine.
    pub fn internal(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, reason, message)
    }

    /// A limit was reached; a retry after the delay may work.
    pub fn exhausted(reason: &'static str, message: impl Into<String>, retry_after: Duration) -> Self {
        let mut error = Self::new(ErrorKind::ResourceExhausted, reason, message);
        error.retry_after = Some(retry_after);
        error
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}
