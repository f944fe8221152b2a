//! One connection: bytes received and not yet used, and bytes to send.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::head::Head;
use super::response::{Response, Status};

/// Largest request head.
const HEAD_BYTES_MAX: usize = 32 * 1024;

const HEADERS_MAX: usize = 64;

const READ_BYTES: usize = 16 * 1024;

/// Longest silence of a client that is to send something, and longest time that it may take to receive.
const IDLE_MS_MAX: u64 = 120_000;

/// After an answer that did not use the whole request, so much of the rest is taken for so long: closing at once
/// could destroy the answer on its way.
const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
const LINGER_MS: u64 = 1_000;

/// A client.
pub(crate) struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    used: usize,
}

/// Why there is no request.
pub(super) enum HeadError {
    /// Nobody is there to be told.
    Io,
    Bad {
        status: Status,
        reason: &'static str,
    },
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        let connection = Self { stream, received: Vec::new(), used: 0 };
        connection.set_timeouts(Some(IDLE_MS_MAX))?;
        Ok(connection)
    }

    /// Reads the next request's head; `None` when the client ended the connection between requests.
    pub(super) fn read_head(&mut self) -> Result<Option<Head>, HeadError> {
        loop {
            // Clients may end a request with an empty line too many.
            while self.received[self.used..].starts_with(b"\r\n") {
                self.used += 2;
            }
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut parsed = httparse::Request::new(&mut headers);
            match parsed.parse(&self.received[self.used..]) {
                Ok(httparse::Status::Complete(length)) => {
                    let head = Head::from_parsed(&parsed);
                    self.used += length;
                    let reason = "the request head is not complete";
                    return head.map(Some).ok_or(HeadError::Bad { status: Status::BadRequest, reason });
                }
                Ok(httparse::Status::Partial) if self.received.len() - self.used >= HEAD_BYTES_MAX => {
                    let reason = "the request head is larger than 32 KiB";
                    return Err(HeadError::Bad { status: Status::HeadTooLarge, reason });
                }
                Ok(httparse::Status::Partial) => {}
                Err(httparse::Error::TooManyHeaders) => {
                    let reason = "the request has more than 64 headers";
                    return Err(HeadError::Bad { status: Status::HeadTooLarge, reason });
                }
                Err(_) => {
                    let reason = "the request head is not HTTP/1.1";
                    return Err(HeadError::Bad { status: Status::BadRequest, reason });
                }
            }
            let is_between_requests = self.used == self.received.len();
            match self.receive() {
                Ok(0) if is_between_requests => return Ok(None),
                Ok(0) | Err(_) => return Err(HeadError::Io),
                Ok(_) => {}
            }
        }
    }

    /// Sends an answer; `keep_alive` tells the client whether another request may follow.
    pub(crate) fn respond(&mut self, response: &Response, keep_alive: bool) -> io::Result<()> {
        self.stream.write_all(&response.head(keep_alive))?;
        self.stream.write_all(response.body())
    }

    /// Sends the head of an answer whose body the caller sends.
    pub(crate) fn respond_head(&mut self, response: &Response, keep_alive: bool) -> io::Result<()> {
        self.stream.write_all(&response.head(keep_alive))
    }

    /// Asks for the body that the client is holding back.
    pub(super) fn ask_for_body(&mut self) -> io::Result<()> {
        self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
    }

    /// Agrees to an upgrade; from here on nobody is waited for with a limit.
    pub(super) fn switch_protocols(&mut self, token: &str) -> io::Result<()> {
        self.set_timeouts(None)?;
        let head = format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {token}\r\n\r\n");
        self.stream.write_all(head.as_bytes())
    }

    /// The same stream, for writing from another thread.
    pub(crate) fn writer(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Ends sending, then takes some of what the client still sends.
    pub(crate) fn linger(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let _ = self.set_timeouts(Some(LINGER_MS));
        let mut taken = 0;
        let mut discarded = [0; READ_BYTES];
        while taken < LINGER_BYTES_MAX {
            match self.stream.read(&mut discarded) {
                Ok(0) | Err(_) => return,
                Ok(count) => taken += count,
            }
        }
    }

    /// Receives more bytes.
    fn receive(&mut self) -> io::Result<usize> {
        self.received.drain(..self.used);
        self.used = 0;
        let start = self.received.len();
        self.received.resize(start + READ_BYTES, 0);
        let result = loop {
            match self.stream.read(&mut self.received[start..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.received.truncate(start + *result.as_ref().unwrap_or(&0));
        result
    }

    fn set_timeouts(&self, limit_ms: Option<u64>) -> io::Result<()> {
        let limit = limit_ms.map(Duration::from_millis);
        self.stream.set_read_timeout(limit)?;
        self.stream.set_write_timeout(limit)
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.received.len() {
            if buffer.len() >= READ_BYTES {
                return self.stream.read(buffer);
            }
            if self.receive()? == 0 {
                return Ok(0);
            }
        }
        let available = &self.received[self.used..];
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.used += count;
        Ok(count)
    }
}

impl Write for Connection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
