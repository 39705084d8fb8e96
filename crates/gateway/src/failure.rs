//! Errors as HTTP has them: a status and `{"error": {…}}`, in the form that clients of OpenAI's API know.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use trove_core::error::{Error, ErrorKind};

/// Why a call failed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    pub status: StatusCode,
    pub reason: String,
    pub message: String,
    /// Field or parameter that is wrong.
    pub param: Option<String>,
    /// Seconds after which a retry may work.
    pub retry_after: Option<u64>,
    pub request_id: Option<String>,
}

impl Failure {
    pub fn new(status: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.to_owned(),
            message: message.into(),
            param: None,
            retry_after: None,
            request_id: None,
        }
    }

    /// Bad input.
    pub fn bad(reason: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason, message)
    }

    pub fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// What a gRPC call ended with.
    pub fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let reason =
            info.map_or_else(|| format!("{:?}", status.code()).to_uppercase(), |info| info.reason.clone());
        let param =
            details.bad_request().and_then(|bad| bad.field_violations.first()).map(|v| v.field.clone());
        let delay = details.retry_info().and_then(|retry| retry.retry_delay);
        Self {
            status: http_status(status.code(), &reason),
            message: status.message().to_owned(),
            param: param.filter(|field| !field.is_empty()),
            // Rounded up: clients take whole seconds.
            retry_after: delay.map(|delay| delay.as_secs() + u64::from(delay.subsec_nanos() > 0)),
            request_id: details.request_info().map(|info| info.request_id.clone()),
            reason,
        }
    }

    pub fn json(&self) -> Value {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            400..500 => "invalid_request_error",
            _ => "server_error",
        };
        json!({"error": {
            "code": self.reason, "message": self.message, "type": kind, "param": self.param, "request_id": self.request_id,
        }})
    }

    pub fn response(&self) -> Response<Body> {
        let mut response = json_response(self.status, &self.json());
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind {
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
        };
        let mut failure = Self::new(http_status(code, error.reason), error.reason, error.message);
        failure.param = error.field;
        failure.retry_after = error.retry_after.map(|delay| delay.as_secs().max(1));
        failure
    }
}

/// The status of a code. What lasts is never 409: clients of OpenAI's API try that again by themselves.
fn http_status(code: Code, reason: &str) -> StatusCode {
    let too_large = reason.ends_with("TOO_LARGE") || reason.ends_with("TOO_LONG");
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange if too_large => StatusCode::PAYLOAD_TOO_LARGE,
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition | Code::AlreadyExists => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted if reason == "CALL_TOO_LARGE" || reason == "RESPONSE_TOO_LARGE" => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A JSON answer.
pub(crate) fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    let text = Bytes::from(value.to_string());
    bytes_response(status, "application/json", text)
}

/// An answer of one piece.
pub(crate) fn bytes_response(status: StatusCode, media_type: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::new(bytes)));
    *response.status_mut() = status;
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
