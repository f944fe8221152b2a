//! What can go wrong between a client and a guest.

use std::io;

use atoll_guest::protocol::{ErrorCode, ErrorReply, FrameError, ServerMessage};
use atoll_stdx::Hint;
use http::StatusCode;

/// A call to a sandbox failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The router's address can not be used.
    #[error("the router address {address:?} is not of the form http://HOST:PORT")]
    Address {
        /// The address given.
        address: String,
    },
    /// Neither router nor guest could be reached.
    #[error("cannot reach {target}")]
    Dial {
        /// Address or path dialled.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The other side did not answer in time.
    #[error("{target} did not answer within {waited_ms} ms")]
    Timeout {
        /// Address or path dialled.
        target: String,
        /// How long was waited.
        waited_ms: u64,
    },
    /// The connection failed before the session began.
    #[error("the session with {target} could not be started")]
    Handshake {
        /// Address or path dialled.
        target: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// Router or guest answered the upgrade with another status.
    #[error("the session was refused with status {status}: {detail}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// Text from the answer.
        detail: String,
    },
    /// The guest refused or failed the request.
    #[error("{code}: {message}")]
    Guest {
        /// Class of the failure.
        code: ErrorCode,
        /// The guest's words.
        message: String,
    },
    /// The stream broke or was not the protocol.
    #[error("the session broke")]
    Frame(#[source] FrameError),
    /// The guest closed the session before it was complete.
    #[error("the session ended early")]
    Closed,
    /// The guest answered with a message that does not belong here.
    #[error("the guest answered with {message}, which does not belong here")]
    Unexpected {
        /// Name of the message.
        message: String,
    },
    /// A file is larger than the caller is ready to take.
    #[error("the file has {size} bytes, at most {limit} were asked for")]
    TooLarge {
        /// Size of the file.
        size: u64,
        /// The caller's limit.
        limit: u64,
    },
}

impl SandboxError {
    /// The guest's class of the failure, if it was the guest that failed the request.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Guest { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(super) fn unexpected(message: &ServerMessage) -> Self {
        let text = format!("{message:?}");
        let name = text.split([' ', '(', '{']).next().unwrap_or_default();
        Self::Unexpected { message: name.to_owned() }
    }
}

impl From<ErrorReply> for SandboxError {
    fn from(reply: ErrorReply) -> Self {
        Self::Guest { code: reply.code, message: reply.message }
    }
}

impl Hint for SandboxError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Dial { .. } => {
                "check that the plane is up (atoll status) and that the sandbox runs (atoll sandbox ls)"
            }
            Self::Address { .. } => "give the router's address as http://HOST:PORT",
            Self::Refused { status, .. } if *status == StatusCode::UNAUTHORIZED => "give a token that the plane knows",
            Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND || *status == StatusCode::BAD_GATEWAY => {
                "check the sandbox's name and namespace, and that it runs (atoll sandbox ls)"
            }
            Self::Refused { status, .. } if *status == StatusCode::SERVICE_UNAVAILABLE => {
                "close sessions with this sandbox that are no longer needed"
            }
            Self::Unexpected { .. } => "the sandbox may have been started by a newer atoll: use that version",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
