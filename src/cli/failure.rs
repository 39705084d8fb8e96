//! How failures are told to people and to the shell.

use tonic::Code;
use tonic_types::StatusExt;

use super::{EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE};
use crate::error::{Error, ErrorKind};
pub use crate::grpc::code_name;
use crate::visible::visible_line;

/// Wrong usage that the argument parser cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Reason and message; a wrong argument is wrong usage.
pub fn told(error: Error) -> anyhow::Error {
    match error.kind {
        ErrorKind::InvalidArgument => Usage(format!("{}: {}", error.reason, error.message)).into(),
        _ => error.into(),
    }
}

/// Code, reason and message of a gRPC status, in one line.
pub fn describe_status(status: &tonic::Status) -> String {
    let code = code_name(status.code());
    let told = match status.get_details_error_info() {
        Some(info) if !info.reason.is_empty() => format!("{code} {}: {}", info.reason, status.message()),
        _ => {
            let causes = causes(status);
            let message = status.message();
            if causes.is_empty() {
                format!("{code}: {message}")
            } else {
                format!("{code}: {message}: {causes}")
            }
        }
    };
    visible_line(&told).into_owned()
}

/// The innermost cause below a status, such as a refused connection.
fn causes(status: &tonic::Status) -> String {
    let mut innermost: Option<&dyn std::error::Error> = std::error::Error::source(status);
    while let Some(next) = innermost.and_then(std::error::Error::source) {
        innermost = Some(next);
    }
    innermost.map(ToString::to_string).filter(|text| !status.message().contains(text)).unwrap_or_default()
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
    if let Some(error) = error.downcast_ref::<crate::error::Error>() {
        return format!("{}: {error}", error.reason);
    }
    format!("{error:#}")
}

/// What to do about an error, where that is known.
pub fn hint(error: &anyhow::Error, server: &str) -> Option<String> {
    if exit_code(error) == EXIT_UNREACHABLE {
        return Some(format!(
            "is a server running at {server}? start one with `trove serve`, or name another with --server"
        ));
    }
    let info = error.downcast_ref::<tonic::Status>()?.get_details_error_info()?;
    let hint = match info.reason.as_str() {
        "UNKNOWN_COLLECTION" => {
            "`trove collections list` shows the collections; `trove index PATH --collection NAME` makes one"
        }
        "UNKNOWN_MODEL" => "`trove info` shows the models that the server has loaded",
        "API_KEY_MISSING" => {
            "name a key by --api-key or TROVE_API_KEY; `trove keys create` makes one, where the server runs"
        }
        "API_KEY_INVALID" | "API_KEY_REVOKED" | "API_KEY_EXPIRED" => {
            "`trove keys list` shows the server's keys, where it runs"
        }
        "NO_GENERATOR" => "--extractive answers with the best sentences of the documents",
        "INPUT_TOO_LONG" => {
            "--overflow window pools overlapping windows, --overflow truncate-right cuts the end"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Whether a status says that no server answers: one that does gives a reason, such as `KEYWORDS_NOT_READY`.
fn is_unanswered(status: &tonic::Status) -> bool {
    status.code() == Code::Unavailable
        && status.get_details_error_info().is_none_or(|info| info.reason.is_empty())
}

/// Whether the reader of standard output has left.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
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
        Some(status) if is_unanswered(status) => EXIT_UNREACHABLE,
        _ => EXIT_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_gives_a_reason_was_reached() {
        let gone = anyhow::Error::from(tonic::Status::unavailable("tcp connect error")).context("gave up");
        assert_eq!(exit_code(&gone), EXIT_UNREACHABLE);
        assert!(hint(&gone, "http://here").is_some_and(|hint| hint.contains("running at http://here")));
        let refusal = Error::new(ErrorKind::Unavailable, "KEYWORDS_NOT_READY", "they are made anew");
        let refused = anyhow::Error::from(crate::grpc::to_status(refusal));
        assert_eq!((exit_code(&refused), hint(&refused, "http://here")), (EXIT_FAILED, None));
    }
}
