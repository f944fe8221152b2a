//! Frames: `u32 big-endian length | u8 kind | payload`, the length counting kind and payload.

use std::io::{self, Read, Write};

use serde::Serialize;

use super::{FRAME_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};

const LENGTH_BYTES: usize = 4;
const HEADER_BYTES: usize = LENGTH_BYTES + 1;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// A JSON message: a request first, then [`super::ClientMessage`] or [`super::ServerMessage`].
    Control = 0,
    /// Bytes for a command's standard input.
    Stdin = 1,
    /// Bytes of a command's standard output (or of its terminal).
    Stdout = 2,
    /// Bytes of a command's standard error.
    Stderr = 3,
    /// Bytes of a file or of a forwarded connection.
    Data = 4,
}

impl TryFrom<u8> for FrameKind {
    type Error = FrameError;

    fn try_from(kind: u8) -> Result<Self, FrameError> {
        Ok(match kind {
            0 => Self::Control,
            1 => Self::Stdin,
            2 => Self::Stdout,
            3 => Self::Stderr,
            4 => Self::Data,
            kind => return Err(FrameError::UnknownKind { kind }),
        })
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub kind: FrameKind,
    /// At most [`FRAME_PAYLOAD_BYTES_MAX`] bytes.
    pub payload: Vec<u8>,
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length field is 0 or above [`FRAME_BYTES_MAX`].
    #[error("frame of {length} bytes (at least 1, at most {FRAME_BYTES_MAX})")]
    Length {
        /// Value of the length field.
        length: usize,
    },
    /// The kind byte is not known to this version.
    #[error("unknown frame kind {kind}")]
    UnknownKind {
        /// Value of the kind byte.
        kind: u8,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// A control frame is not the JSON expected here.
    #[error("a control frame is not valid")]
    Json(#[source] serde_json::Error),
    /// The stream itself failed.
    #[error("reading or writing a frame failed")]
    Io(#[source] io::Error),
}

/// Bytes of a frame.
///
/// # Errors
/// [`FrameError::Length`] when the payload is larger than [`FRAME_PAYLOAD_BYTES_MAX`].
pub fn encode(kind: FrameKind, payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let header = header(kind, payload.len())?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// Bytes of a control frame holding `message` as JSON.
///
/// # Errors
/// [`FrameError::Json`] when it can not be written as JSON, [`FrameError::Length`] when it is too large.
pub fn encode_json<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    encode(FrameKind::Control, &serde_json::to_vec(message).map_err(FrameError::Json)?)
}

/// Writes one frame; does not flush.
///
/// # Errors
/// [`FrameError::Length`] and [`FrameError::Io`].
pub fn write_frame(writer: &mut impl Write, kind: FrameKind, payload: &[u8]) -> Result<(), FrameError> {
    let header = header(kind, payload.len())?;
    writer.write_all(&header).and_then(|()| writer.write_all(payload)).map_err(FrameError::Io)
}

/// Writes one control frame holding `message` as JSON; does not flush.
///
/// # Errors
/// [`FrameError::Json`], [`FrameError::Length`] and [`FrameError::Io`].
pub fn write_json<T: Serialize>(writer: &mut impl Write, message: &T) -> Result<(), FrameError> {
    writer.write_all(&encode_json(message)?).map_err(FrameError::Io)
}

/// Reads one frame; `None` when the stream ended between frames.
///
/// # Errors
/// Every [`FrameError`] but `Json`.
pub fn read_frame(reader: &mut impl Read) -> Result<Option<Frame>, FrameError> {
    let mut header = [0; HEADER_BYTES];
    let mut filled = 0;
    while filled < HEADER_BYTES {
        match reader.read(&mut header[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(FrameError::Truncated),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Io(error)),
        }
    }
    let (kind, payload_len) = parse_header(header)?;
    let mut payload = vec![0; payload_len];
    reader.read_exact(&mut payload).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => FrameError::Truncated,
        _ => FrameError::Io(error),
    })?;
    Ok(Some(Frame { kind, payload }))
}

/// Takes frames out of bytes that arrive in arbitrary pieces, for readers that are not blocking.
///
/// Holds at most one incomplete frame beyond what was pushed and not yet taken.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    start: usize,
}

impl FrameDecoder {
    /// Adds bytes as they were received.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError::Length`] and [`FrameError::UnknownKind`]; the stream can not be used afterwards.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let pending = &self.buffer[self.start..];
        let Some(header) = pending.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let (kind, payload_len) = parse_header(*header)?;
        let Some(payload) = pending.get(HEADER_BYTES..HEADER_BYTES + payload_len) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.start += HEADER_BYTES + payload_len;
        Ok(Some(Frame { kind, payload }))
    }

    /// Whether bytes of an incomplete frame are held.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        self.start < self.buffer.len()
    }
}

fn header(kind: FrameKind, payload_len: usize) -> Result<[u8; HEADER_BYTES], FrameError> {
    if payload_len > FRAME_PAYLOAD_BYTES_MAX {
        return Err(FrameError::Length { length: payload_len + 1 });
    }
    let length = u32::try_from(payload_len + 1).expect("FRAME_BYTES_MAX fits in 32 bits");
    let [a, b, c, d] = length.to_be_bytes();
    Ok([a, b, c, d, kind as u8])
}

fn parse_header(header: [u8; HEADER_BYTES]) -> Result<(FrameKind, usize), FrameError> {
    let [a, b, c, d, kind] = header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length == 0 || length > FRAME_BYTES_MAX {
        return Err(FrameError::Length { length });
    }
    Ok((FrameKind::try_from(kind)?, length - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_written_layout() {
        assert_eq!(encode(FrameKind::Stderr, b"no").unwrap(), [0, 0, 0, 3, 3, b'n', b'o']);
        assert_eq!(encode(FrameKind::Stdin, b"").unwrap(), [0, 0, 0, 1, 1]);
    }

    #[test]
    fn reader_and_decoder_agree_for_every_cut() {
        let frames = [
            Frame { kind: FrameKind::Control, payload: b"{}".to_vec() },
            Frame { kind: FrameKind::Data, payload: vec![] },
            Frame { kind: FrameKind::Stdout, payload: vec![7; 300] },
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            write_frame(&mut bytes, frame.kind, &frame.payload).unwrap();
        }
        let mut reader = bytes.as_slice();
        for frame in &frames {
            assert_eq!(read_frame(&mut reader).unwrap().as_ref(), Some(frame));
        }
        assert!(read_frame(&mut reader).unwrap().is_none());
        for step in 1..bytes.len() {
            let mut decoder = FrameDecoder::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, frames, "in pieces of {step}");
            assert!(!decoder.is_mid_frame());
        }
    }

    #[test]
    fn hostile_bytes_are_refused_before_memory_is_taken() {
        let cases: [(&[u8], &str); 4] = [
            (&[0, 0, 0, 0, 0], "frame of 0 bytes (at least 1, at most 1048576)"),
            (&[0xff, 0xff, 0xff, 0xff, 2], "frame of 4294967295 bytes (at least 1, at most 1048576)"),
            (&[0, 0, 0, 1, 9], "unknown frame kind 9"),
            (&[0, 0, 0, 9, 0, 1], "the stream ended inside a frame"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(read_frame(&mut &bytes[..]).unwrap_err().to_string(), expected);
        }
        let too_large = vec![0; FRAME_PAYLOAD_BYTES_MAX + 1];
        assert!(
            matches!(encode(FrameKind::Data, &too_large), Err(FrameError::Length { length }) if length == FRAME_BYTES_MAX + 1)
        );
        assert!(encode(FrameKind::Data, &too_large[1..]).is_ok());
    }
}
