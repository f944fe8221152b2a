//! Answers.

use serde_json::Value;

/// The statuses that the guest answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    BadRequest,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    TooLarge,
    Unprocessable,
    UpgradeRequired,
    HeadTooLarge,
    Failed,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::TooLarge => "413 Content Too Large",
            Self::Unprocessable => "422 Unprocessable Content",
            Self::UpgradeRequired => "426 Upgrade Required",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::Failed => "500 Internal Server Error",
        }
    }
}

/// An answer.
pub(crate) struct Response {
    status: Status,
    headers: Vec<(&'static str, String)>,
    length: u64,
    body: Vec<u8>,
}

impl Response {
    /// An answer of JSON.
    pub(crate) fn json(status: Status, value: &Value) -> Self {
        let body = value.to_string().into_bytes();
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status, headers, length: body.len() as u64, body }
    }

    /// The head of an answer whose body of `length` bytes the caller sends.
    pub(crate) fn of_bytes(length: u64) -> Self {
        let headers = vec![("content-type", "application/octet-stream".to_owned())];
        Self { status: Status::Ok, headers, length, body: Vec::new() }
    }

    /// Adds a header. The value must be printable ASCII.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "a header value is printable ASCII");
        self.headers.push((name, value));
        self
    }

    pub(super) fn head(&self, keep_alive: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {}\r\n", self.status.line());
        for (name, value) in &self.headers {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
        head.push_str(&format!("content-length: {}\r\n", self.length));
        head.push_str(if keep_alive { "\r\n" } else { "connection: close\r\n\r\n" });
        head.into_bytes()
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }
}
