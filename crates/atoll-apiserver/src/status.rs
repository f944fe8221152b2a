//! Refusals, as Kubernetes `Status` objects with the words of a real server.

use std::fmt::Write;

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::schema::Cause;

/// A refused request.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status.
    pub code: StatusCode,
    /// The machine-readable reason, for instance `AlreadyExists`. May be empty.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
    details: Option<Box<Details>>,
    continue_token: Option<String>,
    /// Remarks on the request that was refused.
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Details {
    name: String,
    group: String,
    kind: String,
    uid: String,
    causes: Vec<(String, String, String)>,
    retry_after_seconds: Option<u32>,
}

/// What an error is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) group: &'a str,
    /// The plural, or the kind for [`ApiError::invalid`].
    pub(crate) kind: &'a str,
    pub(crate) name: &'a str,
}

impl About<'_> {
    /// `pods "x"`, `sandboxes.agents.x-k8s.io "x"`, or without a name.
    fn words(&self) -> String {
        let mut words = self.kind.to_owned();
        if !self.group.is_empty() {
            write!(words, ".{}", self.group).expect("writing to a string cannot fail");
        }
        if !self.name.is_empty() {
            write!(words, " {:?}", self.name).expect("writing to a string cannot fail");
        }
        words
    }

    fn details(&self) -> Details {
        Details { name: self.name.into(), group: self.group.into(), kind: self.kind.into(), ..Details::default() }
    }
}

impl ApiError {
    fn plain(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, continue_token: None, warnings: Vec::new() }
    }

    fn about(code: StatusCode, reason: &'static str, about: &About<'_>, message: String) -> Self {
        Self { details: Some(Box::new(about.details())), ..Self::plain(code, reason, message) }
    }

    pub(crate) fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::plain(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::plain(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn not_found(about: &About<'_>) -> Self {
        Self::about(StatusCode::NOT_FOUND, "NotFound", about, format!("{} not found", about.words()))
    }

    /// No such path, kind or subresource.
    pub(crate) fn no_such_resource() -> Self {
        let mut error =
            Self::plain(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource");
        error.details = Some(Box::default());
        error
    }

    pub(crate) fn already_exists(about: &About<'_>) -> Self {
        Self::about(StatusCode::CONFLICT, "AlreadyExists", about, format!("{} already exists", about.words()))
    }

    pub(crate) fn conflict(about: &About<'_>, problem: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {}: {problem}", about.words());
        Self::about(StatusCode::CONFLICT, "Conflict", about, message)
    }

    pub(crate) fn modified(about: &About<'_>) -> Self {
        Self::conflict(
            about,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub(crate) fn forbidden(about: &About<'_>, problem: &str) -> Self {
        let message = format!("{} is forbidden: {problem}", about.words());
        Self::about(StatusCode::FORBIDDEN, "Forbidden", about, message)
    }

    pub(crate) fn forbidden_path(user: &str, verb: &str, path: &str) -> Self {
        let message = format!("forbidden: User {user:?} cannot {verb} path {path:?}");
        let mut error = Self::plain(StatusCode::FORBIDDEN, "Forbidden", message);
        error.details = Some(Box::default());
        error
    }

    /// `about.kind` is the kind here, not the plural.
    pub(crate) fn invalid(about: &About<'_>, causes: &[Cause]) -> Self {
        let problems: Vec<String> = causes.iter().map(ToString::to_string).collect();
        let problems = match problems.as_slice() {
            [problem] => problem.clone(),
            problems => format!("[{}]", problems.join(", ")),
        };
        let message = format!("{} is invalid: {problems}", about.quoted());
        let mut error = Self::about(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", about, message);
        error = causes
            .iter()
            .fold(error, |error, cause| error.with_cause(cause.reason.as_str(), &cause.message, &cause.field));
        error
    }

    /// The server-side apply's refusal, with one cause per field.
    pub(crate) fn apply_conflict(message: String, causes: &[(String, String)]) -> Self {
        let error = Self::plain(StatusCode::CONFLICT, "Conflict", message);
        causes.iter().fold(error, |error, (message, field)| error.with_cause("FieldManagerConflict", message, field))
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        let mut error = Self::plain(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message);
        error.details = Some(Box::default());
        error
    }

    /// Nothing is made of a kind whose definition is on its way out.
    pub(crate) fn definition_terminating() -> Self {
        let message = "create not allowed while custom resource definition is terminating";
        Self { message: message.to_owned(), ..Self::method_not_allowed() }
    }

    pub(crate) fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub(crate) fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json, application/yaml";
        Self::plain(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    pub(crate) fn too_large(limit_bytes: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit_bytes}");
        Self::plain(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    pub(crate) fn too_many_requests() -> Self {
        let message = "Too many requests, please try again later.";
        Self::plain(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).with_retry_after(1)
    }

    /// The history that was asked for is gone.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::plain(StatusCode::GONE, "Expired", message)
    }

    /// A revision that does not exist yet.
    pub(crate) fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let error = Self::plain(StatusCode::GATEWAY_TIMEOUT, "Timeout", format!("Timeout: {message}"));
        error.with_retry_after(1).with_cause("ResourceVersionTooLarge", "Too large resource version", "")
    }

    pub(crate) fn timeout() -> Self {
        let message = "Timeout: request did not complete within the allotted timeout";
        Self::plain(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::plain(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message).with_retry_after(1)
    }

    /// A refusal for which Kubernetes has no reason word.
    pub(crate) fn unknown(code: StatusCode, message: impl Into<String>) -> Self {
        Self::plain(code, "", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        let error = Self::plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            format!("Internal error occurred: {message}"),
        );
        error.with_cause("", &message, "")
    }

    pub(crate) fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.causes.push((reason.to_owned(), message.to_owned(), field.to_owned()));
        self
    }

    /// The same with words before its message.
    pub(crate) fn prefixed(mut self, words: &str) -> Self {
        self.message.insert_str(0, words);
        self
    }

    /// A patch that does not fit the object it is for.
    pub(crate) fn patch_does_not_apply() -> Self {
        let message = "the server rejected our request due to an error in our request";
        let mut error = Self::plain(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        error.details = Some(Box::default());
        error
    }

    pub(crate) fn with_retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    /// A token with which the rest of a list can still be had.
    pub(crate) fn with_continue(mut self, token: String) -> Self {
        self.continue_token = Some(token);
        self
    }

    /// Whether trying again soon may succeed, and after how many seconds.
    pub(crate) fn retry_after_seconds(&self) -> Option<u32> {
        self.details.as_ref().and_then(|details| details.retry_after_seconds)
    }

    /// The `Status` object.
    #[must_use]
    pub fn to_status(&self) -> Value {
        let metadata = match &self.continue_token {
            Some(token) => json!({ "continue": token }),
            None => json!({}),
        };
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure", "message": self.message,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            status["details"] = details.to_value();
        }
        status["code"] = self.code.as_u16().into();
        status
    }
}

impl About<'_> {
    fn quoted(&self) -> String {
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        format!("{}{group} {:?}", self.kind, self.name)
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut details = Map::new();
        for (name, text) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)] {
            if !text.is_empty() {
                details.insert(name.to_owned(), Value::from(text.as_str()));
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(|(reason, message, field)| {
                let mut cause = Map::new();
                for (name, text) in [("reason", reason), ("message", message), ("field", field)] {
                    if !text.is_empty() {
                        cause.insert(name.to_owned(), Value::from(text.as_str()));
                    }
                }
                Value::Object(cause)
            });
            details.insert("causes".to_owned(), causes.collect());
        }
        if let Some(seconds) = self.retry_after_seconds {
            details.insert("retryAfterSeconds".to_owned(), seconds.into());
        }
        Value::Object(details)
    }
}

/// The answer of a removal that left nothing: a `Status` of success.
pub(crate) fn success(about: &About<'_>, uid: &str) -> Value {
    let details = Details { uid: uid.to_owned(), ..about.details() };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details.to_value(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Reason;

    const CLAIM: About<'static> = About { group: "extensions.agents.x-k8s.io", kind: "sandboxclaims", name: "c" };

    #[test]
    fn messages_are_those_of_a_real_server() {
        let pod = About { group: "", kind: "pods", name: "x" };
        let cases = [
            (ApiError::not_found(&pod), "pods \"x\" not found"),
            (ApiError::already_exists(&CLAIM), "sandboxclaims.extensions.agents.x-k8s.io \"c\" already exists"),
            (
                ApiError::modified(&pod),
                "Operation cannot be fulfilled on pods \"x\": the object has been modified; please apply your changes \
                 to the latest version and try again",
            ),
            (ApiError::forbidden(&About { name: "", ..pod }, "no"), "pods is forbidden: no"),
            (ApiError::too_large_resource_version(9, 3), "Timeout: Too large resource version: 9, current: 3"),
        ];
        for (error, message) in cases {
            assert_eq!(error.message, message);
        }
    }

    #[test]
    fn causes_are_listed_in_the_message_and_in_the_details() {
        let cause = |field: &str| Cause {
            reason: Reason::FieldValueRequired,
            field: field.to_owned(),
            message: "Required value".to_owned(),
        };
        let sandbox = About { group: "agents.x-k8s.io", kind: "Sandbox", name: "s" };
        let one = ApiError::invalid(&sandbox, &[cause("spec")]);
        assert_eq!(one.message, "Sandbox.agents.x-k8s.io \"s\" is invalid: spec: Required value");
        let two = ApiError::invalid(&sandbox, &[cause("a"), cause("b")]).to_status();
        assert_eq!(
            two,
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "Sandbox.agents.x-k8s.io \"s\" is invalid: [a: Required value, b: Required value]",
                "reason": "Invalid",
                "details": {
                    "name": "s", "group": "agents.x-k8s.io", "kind": "Sandbox",
                    "causes": [
                        {"reason": "FieldValueRequired", "message": "Required value", "field": "a"},
                        {"reason": "FieldValueRequired", "message": "Required value", "field": "b"},
                    ],
                },
                "code": 422,
            })
        );
    }
}
