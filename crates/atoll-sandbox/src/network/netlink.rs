//! Just enough netlink: messages with attributes, sent in one go, each acknowledged.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink as protocols;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const HEADER_BYTES: usize = 16;
const RECEIVE_BYTES_MAX: usize = 64 * 1024;
const RECEIVE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

pub(super) const FLAG_REQUEST: u16 = 0x1;
pub(super) const FLAG_ACK: u16 = 0x4;
pub(super) const FLAG_EXCLUSIVE: u16 = 0x200;
pub(super) const FLAG_CREATE: u16 = 0x400;
pub(super) const FLAG_APPEND: u16 = 0x800;
pub(super) const FLAG_DUMP: u16 = 0x300;

const ATTRIBUTE_NESTED: u16 = 0x8000;

/// The kernel was asked over netlink and something went wrong.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused a request.
    #[error("the kernel refused")]
    Refused(#[source] io::Error),
    /// The socket does not work.
    #[error("netlink does not work")]
    Socket(#[source] io::Error),
    /// The kernel's answer makes no sense.
    #[error("the kernel's answer was cut short")]
    Answer,
    /// The kernel accepted a request and did not follow it.
    #[error("the kernel accepted the request and did not follow it")]
    Ignored,
}

impl NetlinkError {
    /// The kernel's error number, where it gave one.
    pub(super) fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused(error) => error.raw_os_error(),
            _ => None,
        }
    }
}

/// What a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Route,
    Filter,
}

/// One message under construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of a type, with the fixed part of its body.
    pub(super) fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | FLAG_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(body);
        pad(&mut bytes);
        Self { bytes }
    }

    /// Appends an attribute.
    #[must_use]
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).expect("attributes are small");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        pad(&mut self.bytes);
        self
    }

    /// Appends a text attribute with its final zero.
    #[must_use]
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Appends a number as nf_tables wants it, in network order.
    #[must_use]
    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Appends an attribute that holds what `fill` appends.
    #[must_use]
    pub(super) fn nested(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes[start + 2..start + 4].copy_from_slice(&(kind | ATTRIBUTE_NESTED).to_ne_bytes());
        let mut filled = fill(self);
        let length = u16::try_from(filled.bytes.len() - start).expect("attributes are small");
        filled.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled
    }

    /// Appends bytes of a fixed layout within an attribute.
    #[must_use]
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        pad(&mut self.bytes);
        self
    }

    fn finish(&mut self, sequence: u32) {
        let length = u32::try_from(self.bytes.len()).expect("messages are small");
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }

    fn wants_ack(&self) -> bool {
        u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) & FLAG_ACK != 0
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// One message that came back: its type and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) kind: u16,
    pub(super) body: Vec<u8>,
}

/// A netlink socket.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in the current network namespace.
    pub(super) fn open(family: Family) -> Result<Self, NetlinkError> {
        let protocol = match family {
            // NETLINK_ROUTE is 0, which is how "no protocol" is said.
            Family::Route => None,
            Family::Filter => Some(protocols::NETFILTER),
        };
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .map_err(|errno| NetlinkError::Socket(errno.into()))?;
        // The kernel answers at once; a request that it forgot must not stop the launcher for ever.
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(RECEIVE_TIMEOUT))
            .map_err(|errno| NetlinkError::Socket(errno.into()))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; RECEIVE_BYTES_MAX] })
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Sends messages together and waits for an acknowledgement of each that asks for one. The first refusal is the
    /// result.
    pub(super) fn transact(&mut self, messages: Vec<Message>) -> Result<(), NetlinkError> {
        let first = self.sequence.wrapping_add(1);
        let mut waiting = std::collections::BTreeSet::new();
        let mut bytes = Vec::new();
        for mut message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.finish(self.sequence);
            if message.wants_ack() {
                waiting.insert(self.sequence);
            }
            bytes.append(&mut message.bytes);
        }
        self.send(&bytes)?;
        while !waiting.is_empty() {
            let mut outcome = Ok(());
            for (sequence, reply) in self.receive()? {
                // What came for an earlier request is nobody's business any more.
                let of_these = sequence.wrapping_sub(first) <= self.sequence.wrapping_sub(first);
                if of_these && reply.kind == NLMSG_ERROR {
                    waiting.remove(&sequence);
                    outcome = outcome.and(acknowledged(&reply));
                }
            }
            outcome?;
        }
        Ok(())
    }

    /// Sends one request and collects everything that comes back until the end is told.
    pub(super) fn dump(&mut self, mut message: Message) -> Result<Vec<Reply>, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        message.finish(self.sequence);
        self.send(&message.bytes)?;
        let mut replies = Vec::new();
        loop {
            for (sequence, reply) in self.receive()? {
                if sequence != self.sequence {
                    continue;
                }
                match reply.kind {
                    NLMSG_DONE => return Ok(replies),
                    NLMSG_ERROR => {
                        acknowledged(&reply)?;
                        return Ok(replies);
                    }
                    _ => replies.push(reply),
                }
            }
        }
    }

    /// Sends one request that has one answer.
    pub(super) fn ask(&mut self, mut message: Message) -> Result<Reply, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        message.finish(self.sequence);
        self.send(&message.bytes)?;
        loop {
            for (sequence, reply) in self.receive()? {
                if sequence != self.sequence {
                    continue;
                }
                if reply.kind == NLMSG_ERROR {
                    acknowledged(&reply)?;
                    return Err(NetlinkError::Answer);
                }
                return Ok(reply);
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        rustix::net::send(&self.socket, bytes, SendFlags::empty())
            .map(drop)
            .map_err(|errno| NetlinkError::Socket(errno.into()))
    }

    fn receive(&mut self) -> Result<Vec<(u32, Reply)>, NetlinkError> {
        let (count, _) = rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())
            .map_err(|errno| NetlinkError::Socket(errno.into()))?;
        split(&self.buffer[..count])
    }
}

fn acknowledged(reply: &Reply) -> Result<(), NetlinkError> {
    let code = reply.body.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes)).ok_or(NetlinkError::Answer)?;
    if code == 0 { Ok(()) } else { Err(NetlinkError::Refused(io::Error::from_raw_os_error(-code))) }
}

fn split(mut bytes: &[u8]) -> Result<Vec<(u32, Reply)>, NetlinkError> {
    let mut replies = Vec::new();
    while bytes.len() >= HEADER_BYTES {
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let length = word(0) as usize;
        if length < HEADER_BYTES || length > bytes.len() {
            return Err(NetlinkError::Answer);
        }
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        replies.push((word(8), Reply { kind, body: bytes[HEADER_BYTES..length].to_vec() }));
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    Ok(replies)
}

/// The attributes of a body, after its fixed part.
pub(super) fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        if length < 4 || length > bytes.len() {
            break;
        }
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & !ATTRIBUTE_NESTED;
        found.push((kind, &bytes[4..length]));
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_measured() {
        let mut message = Message::new(16, FLAG_ACK, &[1, 2])
            .text(3, "ab")
            .nested(4, |inner| inner.number(5, 6).nested(6, |deepest| deepest.raw(&[9])));
        message.finish(7);
        #[rustfmt::skip]
        let expected = [
            48, 0, 0, 0, 16, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0,
            1, 2, 0, 0,
            7, 0, 3, 0, b'a', b'b', 0, 0,
            20, 0, 4, 0x80,
            8, 0, 5, 0, 0, 0, 0, 6,
            8, 0, 6, 0x80, 9, 0, 0, 0,
        ];
        assert_eq!(message.bytes, expected);
    }

    #[test]
    fn attributes_come_apart_again() {
        let message = Message::new(16, 0, &[]).text(3, "ab").number(5, 6);
        assert_eq!(attributes(&message.bytes[HEADER_BYTES..]), vec![(3, &b"ab\0"[..]), (5, &[0, 0, 0, 6][..])]);
        assert!(attributes(&[200, 0, 1, 0]).is_empty(), "a length beyond the end is no attribute");
    }

    #[test]
    fn answers_cut_short_are_noticed() {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[0] = 40;
        assert!(matches!(split(&bytes), Err(NetlinkError::Answer)));
    }
}
