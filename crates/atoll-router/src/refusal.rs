//! The router's own answers: a status and `{"detail": "…"}`, in the words that existing clients know.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};

use crate::router::ResponseBody;

/// Why a request is not passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    MissingId,
    InvalidId,
    InvalidNamespace,
    InvalidPort,
    InvalidTargetIp,
    InvalidUid,
    InvalidTimeout,
    /// Two ways to tell where the body ends, or a target that is not a path.
    AmbiguousRequest,
    MethodNotSupported,
    TokenMissing,
    TokenInvalid,
    TokenUnchecked,
    /// The caller may not use this sandbox.
    NotAllowed {
        id: String,
    },
    RightsUnchecked,
    ForeignTargetIp,
    UidMismatch,
    /// The sandbox does not exist, does not run, or does not listen.
    Unreachable {
        id: String,
    },
    NotReadyInTime {
        id: String,
    },
    NoAnswerInTime {
        id: String,
    },
    Draining,
    TooManyRequests,
}

impl Refusal {
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::MissingId
            | Self::InvalidId
            | Self::InvalidNamespace
            | Self::InvalidPort
            | Self::InvalidTargetIp
            | Self::InvalidUid
            | Self::InvalidTimeout
            | Self::AmbiguousRequest => StatusCode::BAD_REQUEST,
            Self::MethodNotSupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::TokenMissing | Self::TokenInvalid => StatusCode::UNAUTHORIZED,
            Self::TokenUnchecked | Self::RightsUnchecked => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotAllowed { .. } | Self::ForeignTargetIp | Self::UidMismatch => StatusCode::FORBIDDEN,
            Self::Unreachable { .. } => StatusCode::BAD_GATEWAY,
            Self::NotReadyInTime { .. } | Self::NoAnswerInTime { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Draining | Self::TooManyRequests => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(crate) fn detail(&self) -> String {
        match self {
            Self::MissingId => "X-Sandbox-ID header is required.".to_owned(),
            Self::InvalidId => "Invalid sandbox ID format.".to_owned(),
            Self::InvalidNamespace => "Invalid namespace format.".to_owned(),
            Self::InvalidPort => "Invalid port format.".to_owned(),
            Self::InvalidTargetIp => "Invalid target IP address.".to_owned(),
            Self::InvalidUid => "Invalid sandbox UID format.".to_owned(),
            Self::InvalidTimeout => "Invalid timeout format.".to_owned(),
            Self::AmbiguousRequest => "The request is ambiguous.".to_owned(),
            Self::MethodNotSupported => "The method is not supported.".to_owned(),
            Self::TokenMissing => "A bearer token is required.".to_owned(),
            Self::TokenInvalid => "The bearer token is not valid.".to_owned(),
            Self::TokenUnchecked => "The bearer token could not be checked.".to_owned(),
            Self::NotAllowed { id } => {
                format!("Access to the sandbox is denied: {id} (it needs the verb get on sandboxes/proxy)")
            }
            Self::RightsUnchecked => "The caller's rights could not be checked.".to_owned(),
            Self::ForeignTargetIp => "The target IP address does not belong to this sandbox.".to_owned(),
            Self::UidMismatch => "The sandbox has another UID.".to_owned(),
            Self::Unreachable { id } => format!("Could not connect to the backend sandbox: {id}"),
            Self::NotReadyInTime { id } => format!("The sandbox did not become ready in time: {id}"),
            Self::NoAnswerInTime { id } => format!("The sandbox did not answer in time: {id}"),
            Self::Draining => "The router is draining.".to_owned(),
            Self::TooManyRequests => "Too many requests are in flight.".to_owned(),
        }
    }

    pub(crate) fn response(&self) -> Response<ResponseBody> {
        let text = serde_json::json!({ "detail": self.detail() }).to_string();
        let mut response = json_response(self.status(), text);
        let headers = response.headers_mut();
        match self {
            Self::TokenMissing | Self::TokenInvalid => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::Draining | Self::TooManyRequests => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// A complete JSON answer.
pub(crate) fn json_response(status: StatusCode, text: String) -> Response<ResponseBody> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
