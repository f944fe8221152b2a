//! Request bodies.

use std::io::Read;

use super::connection::Connection;
use super::head::Head;

/// Longest line that announces a chunk, and all trailer lines together.
const CHUNK_LINE_BYTES_MAX: usize = 1_024;

/// How a body is framed, and how much of it is left.
#[derive(Debug)]
pub(crate) struct Body {
    framing: Framing,
    /// The client waits to be asked.
    is_held_back: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length { left: u64 },
    Chunked { left: u64, is_first: bool },
    Ended,
}

/// Why a body can not be read further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the request body is not well formed")]
    Malformed,
    #[error("the request body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the connection failed while the request body was read")]
    Io(#[source] std::io::Error),
}

impl Body {
    /// The body announced by a head. Anything that two parties could read differently is refused.
    pub(super) fn of(head: &Head) -> Result<Self, &'static str> {
        let mut encodings = head.all("transfer-encoding");
        let mut lengths = head.all("content-length");
        let framing = match (encodings.next(), lengths.next()) {
            (None, None) => Framing::Ended,
            (Some(_), Some(_)) => return Err("Transfer-Encoding and Content-Length together are not accepted"),
            (Some(encoding), None) => {
                if !encoding.eq_ignore_ascii_case(b"chunked") || encodings.next().is_some() {
                    return Err("the only Transfer-Encoding accepted is chunked");
                }
                Framing::Chunked { left: 0, is_first: true }
            }
            (None, Some(length)) => {
                let text =
                    std::str::from_utf8(length).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let left: Option<u64> = text.and_then(|text| text.parse().ok());
                match left {
                    Some(left) if lengths.next().is_none() => Framing::Length { left },
                    _ => return Err("Content-Length is not one number"),
                }
            }
        };
        Ok(Self { framing, is_held_back: head.has_token("expect", "100-continue") })
    }

    /// Reads some bytes; 0 at the end.
    pub(crate) fn read(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> Result<usize, BodyError> {
        if self.framing == Framing::Ended {
            return Ok(0);
        }
        if std::mem::take(&mut self.is_held_back) {
            connection.ask_for_body().map_err(BodyError::Io)?;
        }
        if let Framing::Chunked { left: 0, is_first } = self.framing {
            self.framing = next_chunk(connection, is_first)?;
        }
        let (Framing::Length { left } | Framing::Chunked { left, .. }) = &mut self.framing else {
            return Ok(0);
        };
        if *left == 0 {
            self.framing = Framing::Ended;
            return Ok(0);
        }
        let wanted = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        match connection.read(&mut buffer[..wanted]).map_err(BodyError::Io)? {
            0 => Err(BodyError::Malformed),
            count => {
                *left -= count as u64;
                Ok(count)
            }
        }
    }

    /// Reads the whole body.
    pub(crate) fn read_to_end(&mut self, connection: &mut Connection, limit: usize) -> Result<Vec<u8>, BodyError> {
        const PIECE_BYTES: usize = 16 * 1024;
        let mut all = Vec::new();
        loop {
            let start = all.len();
            all.resize(start + PIECE_BYTES, 0);
            let count = self.read(connection, &mut all[start..])?;
            all.truncate(start + count);
            if count == 0 {
                return Ok(all);
            }
            if all.len() > limit {
                return Err(BodyError::TooLarge { limit });
            }
        }
    }

    /// Whether all of it was read, so that the next request can follow.
    pub(crate) fn is_used_up(&self) -> bool {
        matches!(self.framing, Framing::Ended | Framing::Length { left: 0 })
    }
}

/// Reads the line that announces a chunk, and what comes after the last one.
fn next_chunk(connection: &mut Connection, is_first: bool) -> Result<Framing, BodyError> {
    if !is_first && !read_line(connection)?.is_empty() {
        return Err(BodyError::Malformed);
    }
    let line = read_line(connection)?;
    let size = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let is_hex = !size.is_empty() && size.len() <= 15 && size.iter().all(u8::is_ascii_hexdigit);
    let size = std::str::from_utf8(size).ok().filter(|_| is_hex).and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let left = size.ok_or(BodyError::Malformed)?;
    if left > 0 {
        return Ok(Framing::Chunked { left, is_first: false });
    }
    let mut trailer_bytes = 0;
    loop {
        let line = read_line(connection)?;
        if line.is_empty() {
            return Ok(Framing::Ended);
        }
        trailer_bytes += line.len();
        if trailer_bytes > CHUNK_LINE_BYTES_MAX {
            return Err(BodyError::Malformed);
        }
    }
}

/// A line without its end, which must be CRLF.
fn read_line(connection: &mut Connection) -> Result<Vec<u8>, BodyError> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() <= CHUNK_LINE_BYTES_MAX {
        if connection.read(&mut byte).map_err(BodyError::Io)? == 0 {
            break;
        }
        line.push(byte[0]);
        if let Some(text) = line.strip_suffix(b"\r\n") {
            return Ok(text.to_vec());
        }
    }
    Err(BodyError::Malformed)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Parses a request and reads its body.
    fn read(request: &str) -> Result<String, String> {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(request.as_bytes()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut connection = Connection::new(server).unwrap();
        let head = connection.read_head().ok().flatten().ok_or("head")?;
        let mut body = Body::of(&head)?;
        let bytes = body.read_to_end(&mut connection, 100).map_err(|error| error.to_string())?;
        assert!(body.is_used_up());
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn bodies_of_every_framing_are_read() {
        let cases = [
            ("POST / HTTP/1.1\r\n\r\nignored", Ok("")),
            ("POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello, more", Ok("hello")),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n",
                Ok("hello world"),
            ),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nsum: 1\r\n\r\n", Ok("a")),
        ];
        for (request, expected) in cases {
            assert_eq!(read(request), expected.map(str::to_owned), "{request:?}");
        }
    }

    #[test]
    fn what_two_parties_could_read_differently_is_refused() {
        let malformed = "the request body is not well formed";
        let cases = [
            (
                "content-length: 5\r\ntransfer-encoding: chunked",
                "",
                "Transfer-Encoding and Content-Length together are not accepted",
            ),
            ("transfer-encoding: gzip, chunked", "", "the only Transfer-Encoding accepted is chunked"),
            ("content-length: 1\r\ncontent-length: 2", "", "Content-Length is not one number"),
            ("content-length: +1", "", "Content-Length is not one number"),
            ("content-length: 99999999999999999999", "", "Content-Length is not one number"),
            ("content-length: 9", "short", malformed),
            ("transfer-encoding: chunked", "5\r\nhello0\r\n\r\n", malformed),
            ("transfer-encoding: chunked", "5\nhello\n0\n\n", malformed),
            ("transfer-encoding: chunked", "-5\r\nhello\r\n", malformed),
            ("transfer-encoding: chunked", "fffffffffffffffff\r\n", malformed),
            ("transfer-encoding: chunked", "5\r\nhel", malformed),
            ("content-length: 101", &"x".repeat(101), "the request body is larger than 100 bytes"),
        ];
        for (headers, body, expected) in cases {
            let request = format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n{body}");
            assert_eq!(read(&request), Err(expected.to_owned()), "{request:?}");
        }
    }
}
