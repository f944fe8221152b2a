//! Answers that are not a success.

use atoll_api::v1::{ErrorBody, ErrorDetail};
use atoll_stdx::{Hint, chain};
use atoll_store::JournalError;
use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::orchestrator::HistoryError;

/// A request that is not fulfilled.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    hint: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: &str) -> Self {
        self.hint = (!hint.is_empty()).then(|| hint.to_owned());
        self
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "this path does not take that method")
    }

    pub(crate) fn invalid(message: &str, hint: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", message).hint(hint)
    }

    pub(crate) fn conflict(message: impl Into<String>, hint: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message).hint(hint)
    }

    pub(crate) fn busy(message: impl Into<String>, hint: &str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", message).hint(hint)
    }

    pub(crate) fn unavailable(message: &str, hint: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).hint(hint)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let detail = ErrorDetail { code: self.code.to_owned(), message: self.message, hint: self.hint };
        (self.status, Json(ErrorBody { error: detail })).into_response()
    }
}

impl From<JournalError> for Refusal {
    fn from(error: JournalError) -> Self {
        tracing::error!(cause = chain(&error), "the journal failed a request");
        Self::unavailable(&chain(&error), &error.hint().unwrap_or_default())
    }
}

impl From<HistoryError> for Refusal {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Journal(error) => error.into(),
            HistoryError::Log(error) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", chain(&error))
                .hint("the state directory may be damaged"),
        }
    }
}

impl From<BytesRejection> for Refusal {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::too_large("the body is too large");
        }
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", "the body could not be read")
    }
}
