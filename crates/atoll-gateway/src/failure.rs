//! Errors as callers see them: `{"error":{"message","type","code","param","hint"}}`, the shape of Chat Completions with
//! a hint beside it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    /// Stable, in snake case.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: Option<&'static str>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), hint: None }
    }

    #[must_use]
    pub(crate) const fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    pub(crate) fn too_large(bytes_max: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("the body is larger than {bytes_max} bytes"))
            .hint("shorten the conversation")
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// The upstream cannot be reached at all.
    pub(crate) fn unreachable(upstream: &str, cause: &str) -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            "upstream_unreachable",
            format!("the model provider {upstream} cannot be reached: {cause}"),
        )
        .hint("check OPENAI_BASE_URL or the network, then try again")
    }

    /// The upstream answered something that is no answer.
    pub(crate) fn nonsense(upstream: &str, what: &str) -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            "upstream_invalid",
            format!("the model provider {upstream} gave an answer that makes no sense: {what}"),
        )
        .hint("check that the address is that of a Chat Completions or Messages API")
    }

    pub(crate) fn body(&self) -> Value {
        let kind = if self.status.is_client_error() { "invalid_request_error" } else { "api_error" };
        json!({"error": {
            "message": self.message, "type": kind, "code": self.code, "param": null, "hint": self.hint,
        }})
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.body())).into_response()
    }
}
