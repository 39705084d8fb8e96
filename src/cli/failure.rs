//! How failures are told to people and to the shell.

use tonic::Code;
use tonic_types::StatusExt;

use super::{EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE};

/// Wrong usage that the argument parser cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Code, reason and message of a gRPC status.
pub fn describe_status(status: &tonic::Status) -> String {
    let code = code_name(status.code());
    match status.get_details_error_info() {
        Some(info) if !info.reason.is_empty() => format!("{code} {}: {}", info.reason, status.message()),
        _ => format!("{code}: {}", status.message()),
    }
}

/// One line for people.
pub fn describe(error: &anyhow::Error) -> String {
    if let Some(status) = error.downcast_ref::<tonic::Status>() {
        let what = error.to_string();
        let detail = describe_status(status);
        if what == status.to_string() {
            return detail;
        }
        return format!("{what}: {detail}");
    }
    format!("{error:#}")
}

/// Exit code for an error.
pub fn exit_code(error: &anyhow::Error) -> i32 {
    if error.downcast_ref::<Usage>().is_some() {
        return EXIT_USAGE;
    }
    if error.downcast_ref::<tonic::transport::Error>().is_some() {
        return EXIT_UNREACHABLE;
    }
    match error.downcast_ref::<tonic::Status>() {
        Some(status) if status.code() == Code::Unavailable => EXIT_UNREACHABLE,
        _ => EXIT_FAILED,
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
