//! The one error type of the layers below the transport.

use std::time::Duration;

/// What kind of failure it is; each maps to one canonical gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller sent something that can never work.
    InvalidArgument,
    /// What is sent or asked for is larger than one message may be.
    OutOfRange,
    /// A named thing does not exist.
    NotFound,
    /// A thing of that name exists already.
    AlreadyExists,
    /// The request is right, but not in the present state.
    FailedPrecondition,
    /// What the caller began has become pointless by what others did; it may begin anew.
    Aborted,
    /// The caller did not say who it is, or what it said does not hold.
    Unauthenticated,
    /// The caller is known and may not do this.
    PermissionDenied,
    /// The time that the call was given is over.
    DeadlineExceeded,
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

/// A thing that an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// What it is, such as `collection`.
    pub kind: &'static str,
    /// Its name or id.
    pub name: String,
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
    /// Path of the request's field that is wrong, such as `requests[2].limit`, for `InvalidArgument`.
    pub field: Option<String>,
    /// What was not found or exists already.
    pub resource: Option<Box<Resource>>,
    /// When a retry may work, for `ResourceExhausted` and `Unavailable`.
    pub retry_after: Option<Duration>,
    /// What caused it.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Reason of the error of a file that cannot be opened for want of a descriptor.
pub const TOO_MANY_OPEN_FILES: &str = "TOO_MANY_OPEN_FILES";

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error of a kind, with its stable reason and message.
    pub fn new(kind: ErrorKind, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, reason, message, field: None, resource: None, retry_after: None, source: None }
    }

    /// Bad input.
    pub fn invalid(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, reason, message)
    }

    /// Bad input in a field of the request; the message says what was expected there.
    pub fn invalid_field(
        field: impl Into<String>,
        reason: &'static str,
        message: impl std::fmt::Display,
    ) -> Self {
        let field = field.into();
        let mut error = Self::invalid(reason, format!("{field}: {message}"));
        error.field = Some(field);
        error
    }

    /// A named thing that does not exist.
    pub fn not_found(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, reason, message)
    }

    /// Not possible in the present state.
    pub fn precondition(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::FailedPrecondition, reason, message)
    }

    /// The server is stopping; the same request may work after the delay.
    pub fn stopping(retry_after: Duration) -> Self {
        let mut error = Self::new(ErrorKind::Unavailable, "SERVER_STOPPING", "the server is stopping");
        error.retry_after = Some(retry_after);
        error
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

    /// The disk of the data directory has no room; `more` follows the message.
    pub fn disk_full(more: impl std::fmt::Display) -> Self {
        let message = format!("the disk of the data directory is full{more}");
        Self::exhausted("DISK_FULL", message, Duration::from_secs(60))
    }

    /// What an error of the system means where the machine lacks something that may be there again later:
    /// `DISK_FULL` or [`TOO_MANY_OPEN_FILES`]. `None` for any other.
    pub fn of_want(error: &std::io::Error) -> Option<Self> {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(error.kind(), StorageFull | QuotaExceeded) {
            return Some(Self::disk_full(""));
        }
        if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
            let message = "expected a free file descriptor, got none: the limit of open files is too low";
            return Some(Self::exhausted(TOO_MANY_OPEN_FILES, message, Duration::from_secs(1)));
        }
        // Libraries wrap one error into another.
        Self::of_want(error.get_ref()?.downcast_ref()?)
    }

    /// Names the thing that it is about.
    #[must_use]
    pub fn about(mut self, kind: &'static str, name: impl Into<String>) -> Self {
        self.resource = Some(Box::new(Resource { kind, name: name.into() }));
        self
    }

    /// Tells in which part of the request the field is, such as `requests[2]`.
    #[must_use]
    pub fn within(mut self, path: &str) -> Self {
        if self.kind == ErrorKind::InvalidArgument {
            self.field = Some(match self.field {
                Some(field) => format!("{path}.{field}"),
                None => path.to_owned(),
            });
        }
        self
    }

    /// The same error for another caller; the cause stays with the first.
    pub fn copy(&self) -> Self {
        Self {
            kind: self.kind,
            reason: self.reason,
            message: self.message.clone(),
            field: self.field.clone(),
            resource: self.resource.clone(),
            retry_after: self.retry_after,
            source: None,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use super::*;

    #[test]
    fn what_the_machine_lacks_is_told_however_deep_it_is_wrapped() {
        let reason = |error: io::Error| Error::of_want(&error).map(|error| error.reason);
        let wrapped = |error: io::Error| io::Error::other(io::Error::new(ErrorKind::NotFound, error));
        let raw = io::Error::from_raw_os_error;
        assert_eq!(reason(raw(libc::ENOSPC)), Some("DISK_FULL"));
        assert_eq!(reason(raw(libc::EDQUOT)), Some("DISK_FULL"));
        assert_eq!(reason(wrapped(raw(libc::ENOSPC))), Some("DISK_FULL"));
        assert_eq!(reason(wrapped(raw(libc::EMFILE))), Some(TOO_MANY_OPEN_FILES));
        assert_eq!(reason(raw(libc::EIO)), None);
        assert_eq!(reason(io::Error::other("no space")), None);
    }
}
