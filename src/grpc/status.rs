//! The one place where errors become gRPC statuses.

use std::time::Duration;

use tonic::codegen::http;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::{Error, ErrorKind};

/// Domain of the stable reasons in `ErrorInfo`.
const DOMAIN: &str = "trove.v1";
/// Most bytes of a message or a name in a status.
const MAX_TEXT_BYTES: usize = 1000;
/// How tonic begins the text of a message that is over the limit.
const TOO_LARGE: &str = "Error, decoded message length too large";
/// And how that of an answer.
const ANSWER_TOO_LARGE: &str = "Error, encoded message length too large";
/// How that of an answer begins that the codec refuses.
const NOT_ENCODED: &str = "Error encoding: ";
/// How those of bytes begin that are no messages: as tonic frames them, and as other services decode them.
const MALFORMED: [&str; 5] = [
    "protocol error: received message with ",
    "Unexpected EOF decoding stream.",
    "Missing request message.",
    "Error decompressing",
    "failed to decode Protobuf message",
];
/// How that of a message begins that is compressed.
const COMPRESSED: &str = "Content is compressed with ";
/// When a caller should try again where memory is short.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The canonical code of a kind of error.
pub fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::OutOfRange => Code::OutOfRange,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::Aborted => Code::Aborted,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::DataLoss => Code::DataLoss,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The canonical upper-case name of a code.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The status of an error, with its reason and details; faults of the program are logged.
pub fn to_status(mut error: Error) -> Status {
    shorten(&mut error.message);
    log_fault(&error);
    let mut details = ErrorDetails::new();
    details.set_error_info(error.reason, DOMAIN, [] as [(String, String); 0]);
    if error.retry_after.is_some() {
        details.set_retry_info(error.retry_after);
    }
    match error.kind {
        ErrorKind::InvalidArgument | ErrorKind::OutOfRange => {
            details.add_bad_request_violation(error.field.unwrap_or_default(), error.message.clone());
        }
        ErrorKind::ResourceExhausted => {
            details.add_quota_failure_violation(error.reason, error.message.clone());
        }
        _ => {}
    }
    if let Some(mut resource) = error.resource {
        shorten(&mut resource.name);
        details.set_resource_info(resource.kind, resource.name, "", error.message.clone());
    }
    Status::with_error_details(code(error.kind), error.message, details)
}

/// Logs what is no mistake of a caller, with its cause, which no caller is told.
pub(super) fn log_fault(error: &Error) {
    if matches!(error.kind, ErrorKind::Internal | ErrorKind::DataLoss) {
        tracing::error!(reason = error.reason, source = ?error.source, "{}", error.message);
    }
}

/// Cuts a message that repeats what a caller sent.
pub(super) fn shown_message(mut text: String) -> String {
    shorten(&mut text);
    text
}

/// Cuts a text that repeats what a caller sent: a status travels in headers, which have little room.
fn shorten(text: &mut String) {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push('…');
    }
}

/// An answer that there is no room for, as the transport hands it on.
pub(super) fn unsent(error: Error) -> Status {
    Status::resource_exhausted(format!("{}: {}", error.reason, error.message))
}

/// Gives a stable reason to what the transport refuses before a service sees it, or after.
fn explain(status: Status) -> Status {
    let (message, code) = (status.message(), status.code());
    let (reason, code) = match code {
        Code::OutOfRange if message.starts_with(TOO_LARGE) => ("MESSAGE_TOO_LARGE", code),
        Code::OutOfRange if message.starts_with(ANSWER_TOO_LARGE) => ("RESPONSE_TOO_LARGE", code),
        Code::Internal if MALFORMED.iter().any(|begin| message.starts_with(begin)) => {
            ("MALFORMED_MESSAGE", Code::InvalidArgument)
        }
        Code::Internal if message.starts_with(NOT_ENCODED) => return unencoded(status),
        Code::Unimplemented if message.starts_with(COMPRESSED) => ("UNSUPPORTED_COMPRESSION", code),
        _ => return status,
    };
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, [] as [(String, String); 0]);
    if matches!(code, Code::OutOfRange | Code::InvalidArgument) {
        details.add_bad_request_violation("", message);
    }
    Status::with_error_details(code, message, details)
}

/// What the transport made of an answer that there was no room for.
fn unencoded(status: Status) -> Status {
    let has = |reason: &str| status.message().contains(reason);
    let Some(reason) = ["REQUEST_MEMORY_FULL", "CALL_TOO_LARGE"].into_iter().find(|reason| has(reason))
    else {
        return status;
    };
    let message = "expected an answer that the memory of calls has room for, got a larger one";
    match reason {
        "REQUEST_MEMORY_FULL" => to_status(Error::exhausted(reason, message, RETRY_AFTER)),
        _ => to_status(Error::new(ErrorKind::ResourceExhausted, reason, message)),
    }
}

/// Adds to an error in headers or trailers what its details lack: the reason where the transport refused the message
/// or its answer, and the id of the request.
pub fn complete(headers: &mut http::HeaderMap, request_id: &str) {
    let Some(status) = Status::from_header_map(headers).filter(|status| status.code() != Code::Ok) else {
        return;
    };
    let status = explain(status);
    // Details that are not of the standard types would be lost.
    let Ok(mut details) = status.check_error_details() else { return };
    if details.request_info().is_some() {
        return;
    }
    details.set_request_info(request_id, "");
    let named = Status::with_error_details(status.code(), status.message(), details);
    // A status that does not fit into headers stays as it is.
    let _ = named.add_header(headers);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_tell_the_field_and_the_resource() {
        let status =
            to_status(Error::invalid_field("limit", "BAD_LIMIT", "expected 1").within("requests[2]"));
        let details = status.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!((violation.field.as_str(), status.message()), ("requests[2].limit", "limit: expected 1"));
        let status = to_status(Error::not_found("UNKNOWN_COLLECTION", "no").about("collection", "x"));
        let resource = status.get_error_details().resource_info().unwrap().clone();
        assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), ("collection", "x"));
    }

    #[test]
    fn a_status_fits_into_headers_whatever_the_caller_sent() {
        let long = "é".repeat(100_000);
        let status = to_status(Error::not_found("UNKNOWN_MODEL", &long).about("model", &long));
        assert!(status.message().len() < 1010 && status.details().len() < 4000);
    }

    #[test]
    fn an_error_names_its_request_and_a_success_stays() {
        let status = to_status(Error::invalid_field("limit", "BAD_LIMIT", "expected 1"));
        let mut headers = http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        complete(&mut headers, "r-1");
        let status = Status::from_header_map(&headers).unwrap();
        let details = status.get_error_details();
        assert_eq!(details.request_info().unwrap().request_id, "r-1");
        assert_eq!(details.error_info().unwrap().reason, "BAD_LIMIT");
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "limit: expected 1"));
        let mut fine = http::HeaderMap::new();
        Status::ok("").add_header(&mut fine).unwrap();
        let before = fine.clone();
        complete(&mut fine, "r-1");
        assert_eq!(fine, before);
    }

    #[test]
    fn a_message_that_is_too_large_gets_a_reason() {
        for (text, reason) in [(TOO_LARGE, "MESSAGE_TOO_LARGE"), (ANSWER_TOO_LARGE, "RESPONSE_TOO_LARGE")] {
            let status = Status::out_of_range(format!("{text}: found 9 bytes, the limit is: 1 bytes"));
            let mut headers = http::HeaderMap::new();
            status.add_header(&mut headers).unwrap();
            complete(&mut headers, "r-1");
            let details = Status::from_header_map(&headers).unwrap().get_error_details();
            assert_eq!(details.error_info().unwrap().reason, reason);
            assert_eq!(details.request_info().unwrap().request_id, "r-1");
        }
    }
}
