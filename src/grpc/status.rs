//! The one place where errors become gRPC statuses.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::{Error, ErrorKind};

/// Domain of the stable reasons in `ErrorInfo`.
const DOMAIN: &str = "trove.v1";

/// The canonical code of a kind of error.
pub fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::DataLoss => Code::DataLoss,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Internal => Code::Internal,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(error.reason, DOMAIN, [] as [(String, String); 0]);
        if error.retry_after.is_some() {
            details.set_retry_info(error.retry_after);
        }
        if error.kind == ErrorKind::InvalidArgument {
            details.add_bad_request_violation("", error.message.clone());
        }
        if matches!(error.kind, ErrorKind::Internal | ErrorKind::DataLoss) {
            tracing::error!(reason = error.reason, source = ?error.source, "{}", error.message);
        }
        Status::with_error_details(code(error.kind), error.message, details)
    }
}
