//! DNS messages, as much as a resolver needs that answers one question at a time (RFC 1035, RFC 6891). Pure.
//!
//! A question that is not plain is no question: one name, no compression, class `IN`, nothing but an `OPT` record after
//! it.

use std::net::Ipv4Addr;

use crate::name::{HostName, NotAName};

/// Largest query and answer over UDP, without and with EDNS.
pub const MESSAGE_BYTES_MAX: usize = 512;
const HEADER_BYTES: usize = 12;
const NAME_BYTES_MAX: usize = 255;
const CLASS_INTERNET: u16 = 1;
const TYPE_A: u16 = 1;
const TYPE_OPT: u16 = 41;
const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
/// Everything but "recursion desired" and the two DNSSEC bits a stub may set.
const FLAGS_OF_OTHERS: u16 = !(FLAG_RECURSION_DESIRED | 0x0020 | 0x0010);
/// Answers are asked for anew after this long, in seconds: rules change.
const TTL_SECONDS: u32 = 30;
const POINTER_TO_QUESTION: u16 = 0xc00c;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    id: u16,
    recursion_desired: bool,
    /// Name, type and class as they came.
    question: Vec<u8>,
    /// The name, or why it is none.
    pub name: Result<HostName, NotAName>,
    /// The type of record.
    pub kind: Kind,
}

/// What kind of record is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An IPv4 address.
    Address,
    /// Something that clients ask for beside it and can do without: IPv6 addresses, `HTTPS` and `SVCB` bindings.
    Beside,
    /// Anything else.
    Other(u16),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Addresses; none when the name exists and has no such record.
    Addresses(Vec<Ipv4Addr>),
    /// There is no such name.
    NoSuchName,
    /// This is not answered.
    Refused,
}

/// A message that is no plain question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no plain DNS question")]
pub struct Malformed;

impl Query {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let word =
            |at: usize| message.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]])).ok_or(Malformed);
        let (id, flags) = (word(0)?, word(2)?);
        let counts = (word(4)?, word(6)?, word(8)?, word(10)?);
        if message.len() > MESSAGE_BYTES_MAX || flags & FLAGS_OF_OTHERS != 0 || !matches!(counts, (1, 0, 0, 0 | 1)) {
            return Err(Malformed);
        }
        let (name, after) = read_name(message, HEADER_BYTES)?;
        let (kind, class) = (word(after)?, word(after + 2)?);
        let end = after + 4;
        if class != CLASS_INTERNET || !only_options(&message[end..], counts.3) {
            return Err(Malformed);
        }
        let kind = match kind {
            TYPE_A => Kind::Address,
            28 | 64 | 65 => Kind::Beside,
            other => Kind::Other(other),
        };
        Ok(Self {
            id,
            recursion_desired: flags & FLAG_RECURSION_DESIRED != 0,
            question: message[HEADER_BYTES..end].to_vec(),
            name,
            kind,
        })
    }

    /// The message that answers it.
    #[must_use]
    pub fn answer(&self, answer: &Answer) -> Vec<u8> {
        let (code, addresses): (u16, &[Ipv4Addr]) = match answer {
            Answer::Addresses(addresses) => (0, addresses),
            Answer::NoSuchName => (3, &[]),
            Answer::Refused => (5, &[]),
        };
        let desired = if self.recursion_desired { FLAG_RECURSION_DESIRED } else { 0 };
        let flags = FLAG_RESPONSE | FLAG_RECURSION_AVAILABLE | desired | code;
        // As many as fit a datagram of any client.
        let room = (MESSAGE_BYTES_MAX - HEADER_BYTES - self.question.len()) / 16;
        let addresses = &addresses[..addresses.len().min(room)];
        let count = u16::try_from(addresses.len()).expect("a datagram has room for few");
        let mut message = Vec::with_capacity(HEADER_BYTES + self.question.len() + addresses.len() * 16);
        for word in [self.id, flags, 1, count, 0, 0] {
            message.extend_from_slice(&word.to_be_bytes());
        }
        message.extend_from_slice(&self.question);
        for address in addresses {
            for word in [POINTER_TO_QUESTION, TYPE_A, CLASS_INTERNET] {
                message.extend_from_slice(&word.to_be_bytes());
            }
            message.extend_from_slice(&TTL_SECONDS.to_be_bytes());
            message.extend_from_slice(&4u16.to_be_bytes());
            message.extend_from_slice(&address.octets());
        }
        message
    }
}

/// The name at a place, and the place after it.
fn read_name(message: &[u8], start: usize) -> Result<(Result<HostName, NotAName>, usize), Malformed> {
    let mut text = String::new();
    let mut at = start;
    loop {
        let length = usize::from(*message.get(at).ok_or(Malformed)?);
        at += 1;
        if length == 0 {
            break;
        }
        // The two high bits mark compression, which a question has no use for.
        if length > 63 || at + length - start > NAME_BYTES_MAX {
            return Err(Malformed);
        }
        let label = message.get(at..at + length).ok_or(Malformed)?;
        if !text.is_empty() {
            text.push('.');
        }
        // Bytes beyond ASCII, and dots within a label, make it no host name.
        text.extend(label.iter().map(|byte| if *byte == b'.' { '\0' } else { char::from(*byte) }));
        at += length;
    }
    Ok((HostName::parse(&text), at))
}

/// Whether what comes after the question is nothing, or one `OPT` record.
fn only_options(rest: &[u8], additional: u16) -> bool {
    if additional == 0 {
        return rest.is_empty();
    }
    let Some(fixed) = rest.first_chunk::<11>() else { return false };
    let (root, kind) = (fixed[0], u16::from_be_bytes([fixed[1], fixed[2]]));
    let length = usize::from(u16::from_be_bytes([fixed[9], fixed[10]]));
    root == 0 && kind == TYPE_OPT && rest.len() == fixed.len() + length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        message
    }

    #[test]
    fn a_question_is_read_and_answered() {
        let query = Query::parse(&question("API.example.com", 1)).expect("a question");
        assert_eq!((query.name.as_ref().map(HostName::as_str), query.kind), (Ok("api.example.com"), Kind::Address));
        let answer = query.answer(&Answer::Addresses(vec![Ipv4Addr::new(198, 18, 0, 1)]));
        assert_eq!(answer[..12], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert!(answer.windows(3).any(|part| part == b"API"), "the question comes back as it was");
        assert!(answer.ends_with(&[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 198, 18, 0, 1]));
        assert_eq!(query.answer(&Answer::NoSuchName)[3] & 15, 3);
        assert_eq!(query.answer(&Answer::Refused)[3] & 15, 5);
        let many = query.answer(&Answer::Addresses(vec![Ipv4Addr::LOCALHOST; 200]));
        assert!(many.len() <= MESSAGE_BYTES_MAX);
    }

    #[test]
    fn what_is_not_plain_is_no_question() {
        let plain = question("example.com", 1);
        let changed = |at: usize, byte: u8| {
            let mut message = plain.clone();
            message[at] = byte;
            message
        };
        let with_options = {
            let mut message = changed(11, 1);
            message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
            message
        };
        assert!(Query::parse(&with_options).is_ok());
        for (message, what) in [
            (changed(2, 0x81), "an answer"),
            (changed(2, 0x29), "another operation"),
            (changed(5, 2), "two questions"),
            (changed(7, 1), "an answer within"),
            (changed(11, 1), "a record that is not there"),
            (changed(12, 0xc0), "compression"),
            (changed(plain.len() - 1, 3), "another class"),
            (plain[..plain.len() - 1].to_vec(), "cut short"),
            ([plain.as_slice(), &[0]].concat(), "something after it"),
            ([with_options.as_slice(), &[0]].concat(), "something after its options"),
            (vec![], "nothing"),
        ] {
            assert_eq!(Query::parse(&message), Err(Malformed), "{what}");
        }
    }

    #[test]
    fn odd_labels_are_no_names() {
        let odd = |label: &[u8]| {
            let mut message = question("x", 1)[..12].to_vec();
            message.push(label.len() as u8);
            message.extend_from_slice(label);
            message.extend_from_slice(&[7, b'e', b'x', b'a', b'm', b'p', b'l', b'e', 0, 0, 1, 0, 1]);
            Query::parse(&message).expect("a question").name
        };
        assert!(odd(b"fine").is_ok());
        for label in [&b"a.b"[..], b"a\0b", b"\xff\xfe", b"a b", b"a@b"] {
            assert!(odd(label).is_err(), "{label:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = Query::parse(&bytes);
        }

        #[test]
        fn questions_with_one_byte_changed(at in 0usize..29, byte in any::<u8>()) {
            let mut message = question("example.com", 1);
            message[at] = byte;
            if let Ok(query) = Query::parse(&message) {
                let answer = query.answer(&Answer::Addresses(vec![Ipv4Addr::LOCALHOST; 99]));
                prop_assert!(answer.len() <= MESSAGE_BYTES_MAX);
                prop_assert_eq!(&answer[..2], &message[..2]);
            }
        }
    }
}
