//! Frames of SPDY/3.1 (draft-mbelshe-httpbis-spdy, section 2.2 and 2.6).

use super::SpdyError;

/// Bytes before each frame's payload.
pub(super) const HEAD_BYTES: usize = 8;
/// Frames larger than this are refused; the other side sends at most 64 KiB.
pub(super) const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

const VERSION: u16 = 3;
const CONTROL: u8 = 0x80;
const FLAG_FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// What a frame means; a header block is still compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// A new stream.
    SynStream { stream: u32, fin: bool, block: Vec<u8> },
    /// Further headers: of no use here, but part of the compressed stream.
    Headers { block: Vec<u8> },
    /// Bytes of a stream.
    Data { stream: u32, fin: bool, bytes: Vec<u8> },
    /// The end of a stream in both directions.
    Reset { stream: u32 },
    /// To be sent back.
    Ping { id: u32 },
    /// No further streams.
    GoAway,
    /// Settings, windows and what else there is: nothing that is needed here.
    Other,
}

/// How many bytes follow this head.
pub(super) fn payload_bytes(head: &[u8; HEAD_BYTES]) -> Result<usize, SpdyError> {
    let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
    if length > PAYLOAD_BYTES_MAX { Err(SpdyError::Frame) } else { Ok(length) }
}

/// Reads a frame.
pub(super) fn parse(head: &[u8; HEAD_BYTES], payload: Vec<u8>) -> Result<Frame, SpdyError> {
    let fin = head[4] & FLAG_FIN != 0;
    if head[0] & CONTROL == 0 {
        let stream = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        return Ok(Frame::Data { stream, fin, bytes: payload });
    }
    if u16::from_be_bytes([head[0] & !CONTROL, head[1]]) != VERSION {
        return Err(SpdyError::Frame);
    }
    let number = |at: usize| -> Result<u32, SpdyError> {
        let bytes = payload.get(at..at + 4).ok_or(SpdyError::Frame)?;
        Ok(u32::from_be_bytes(bytes.try_into().expect("four bytes")) & 0x7fff_ffff)
    };
    let after = |at: usize| payload.get(at..).map(<[u8]>::to_vec).ok_or(SpdyError::Frame);
    Ok(match u16::from_be_bytes([head[2], head[3]]) {
        SYN_STREAM => Frame::SynStream { stream: number(0)?, fin, block: after(10)? },
        SYN_REPLY | HEADERS => Frame::Headers { block: after(4)? },
        RST_STREAM => Frame::Reset { stream: number(0)? },
        PING => Frame::Ping { id: u32::from_be_bytes(after(0)?.try_into().map_err(|_| SpdyError::Frame)?) },
        GOAWAY => Frame::GoAway,
        _ => Frame::Other,
    })
}

fn control(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD_BYTES + payload.len());
    frame.extend_from_slice(&(u16::from(CONTROL) << 8 | VERSION).to_be_bytes());
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The answer to a new stream.
pub(super) fn syn_reply(stream: u32, block: &[u8]) -> Vec<u8> {
    control(SYN_REPLY, &[&stream.to_be_bytes()[..], block].concat())
}

/// The end of a stream in both directions, with a status of the draft.
pub(super) fn reset(stream: u32, status: u32) -> Vec<u8> {
    control(RST_STREAM, &[stream.to_be_bytes(), status.to_be_bytes()].concat())
}

/// The answer to a ping.
pub(super) fn ping(id: u32) -> Vec<u8> {
    control(PING, &id.to_be_bytes())
}

/// Bytes of a stream, fewer than 16 MiB; `fin` with the last.
pub(super) fn data(stream: u32, bytes: &[u8], fin: bool) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD_BYTES + bytes.len());
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&(bytes.len() as u32 | u32::from(if fin { FLAG_FIN } else { 0 }) << 24).to_be_bytes());
    frame.extend_from_slice(bytes);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Frame, SpdyError> {
        let (head, payload) = bytes.split_at(HEAD_BYTES);
        let head = head.try_into().unwrap();
        assert_eq!(payload_bytes(&head)?, payload.len());
        parse(&head, payload.to_vec())
    }

    #[test]
    fn what_is_written_is_read() {
        let cases = [
            (data(5, b"abc", true), Frame::Data { stream: 5, fin: true, bytes: b"abc".to_vec() }),
            (data(7, b"", false), Frame::Data { stream: 7, fin: false, bytes: vec![] }),
            (reset(9, 5), Frame::Reset { stream: 9 }),
            (ping(0xffff_ffff), Frame::Ping { id: 0xffff_ffff }),
            (syn_reply(3, b"zz"), Frame::Headers { block: b"zz".to_vec() }),
            (control(GOAWAY, &[0; 8]), Frame::GoAway),
            (control(4, &[0; 4]), Frame::Other),
            (
                control(SYN_STREAM, &[0, 0, 0, 11, 0, 0, 0, 0, 0, 0, b'x']),
                Frame::SynStream { stream: 11, fin: false, block: b"x".to_vec() },
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(read(&bytes).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let mut other_version = ping(1);
        other_version[1] = 2;
        let cases = [other_version, control(SYN_STREAM, &[0; 4]), control(RST_STREAM, &[]), control(PING, &[0; 3])];
        for bytes in cases {
            assert!(read(&bytes).is_err(), "{bytes:?}");
        }
        assert!(payload_bytes(&[0, 0, 0, 1, 0, 0x10, 0, 1]).is_err(), "one byte too many");
    }
}
