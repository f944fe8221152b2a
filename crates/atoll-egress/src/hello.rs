//! The first message of TLS, read for the name that it asks for (RFC 8446 section 4.1.2, RFC 6066 section 3). Pure.

use crate::name::HostName;

/// The largest first message that is read.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;
const RECORD_HANDSHAKE: u8 = 22;
const RECORD_HEADER_BYTES: usize = 5;
const RECORD_BYTES_MAX: usize = 16 * 1024;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_NAME: u16 = 0;
const EXTENSION_ENCRYPTED_HELLO: u16 = 0xfe0d;
const NAME_IS_HOST: u8 = 0;

/// What a look at the first bytes found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// More bytes are needed to tell.
    Incomplete,
    /// A first message that names a server.
    Named(HostName),
    /// Something that is refused, and why.
    Refused(Refused),
}

/// Why a first message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not TLS as clients speak it.
    #[error("the TLS greeting is malformed")]
    Malformed,
    /// It does not say which server it wants.
    #[error("the TLS greeting names no server (no SNI)")]
    NoName,
    /// The name is none, or an address.
    #[error("the TLS greeting's server name is no host name")]
    BadName,
    /// The real name is hidden from the proxy.
    #[error("the TLS greeting hides the server's name (encrypted client hello)")]
    Encrypted,
    /// It is too large.
    #[error("the TLS greeting is too large")]
    TooLarge,
}

/// Reads the first bytes of a connection that speaks TLS.
#[must_use]
pub fn read(bytes: &[u8]) -> Hello {
    match handshake(bytes) {
        Ok(Some(message)) => client_hello(&message).map_or_else(Hello::Refused, Hello::Named),
        Ok(None) if bytes.len() >= HELLO_BYTES_MAX => Hello::Refused(Refused::TooLarge),
        Ok(None) => Hello::Incomplete,
        Err(refused) => Hello::Refused(refused),
    }
}

/// The first handshake message, put together from the records that carry it; `None` while it is incomplete.
fn handshake(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, Refused> {
    let mut message = Vec::new();
    loop {
        let Some(header) = bytes.first_chunk::<RECORD_HEADER_BYTES>() else {
            let plausible = bytes.first().is_none_or(|kind| *kind == RECORD_HANDSHAKE);
            return if plausible { Ok(None) } else { Err(Refused::Malformed) };
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if header[0] != RECORD_HANDSHAKE || header[1] != 3 || length == 0 || length > RECORD_BYTES_MAX {
            return Err(Refused::Malformed);
        }
        let record = &bytes[RECORD_HEADER_BYTES..];
        message.extend_from_slice(&record[..length.min(record.len())]);
        if let Some(head) = message.first_chunk::<4>() {
            let wanted = usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]);
            if head[0] != CLIENT_HELLO {
                return Err(Refused::Malformed);
            }
            if wanted > HELLO_BYTES_MAX {
                return Err(Refused::TooLarge);
            }
            if message.len() >= 4 + wanted {
                return Ok(Some(message[4..4 + wanted].to_vec()));
            }
        }
        if record.len() < length {
            return Ok(None);
        }
        bytes = &record[length..];
    }
}

fn client_hello(message: &[u8]) -> Result<HostName, Refused> {
    let mut reader = Reader(message);
    let legacy_version_and_random = 34;
    reader.take(legacy_version_and_random)?;
    reader.vector8()?;
    reader.vector16()?;
    reader.vector8()?;
    let mut extensions = Reader(reader.vector16().map_err(|_| Refused::NoName)?);
    if !reader.0.is_empty() {
        return Err(Refused::Malformed);
    }
    let mut name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let content = extensions.vector16()?;
        match kind {
            EXTENSION_NAME if name.is_some() => return Err(Refused::Malformed),
            EXTENSION_NAME => name = Some(server_name(content)?),
            EXTENSION_ENCRYPTED_HELLO => return Err(Refused::Encrypted),
            _ => {}
        }
    }
    name.ok_or(Refused::NoName)
}

fn server_name(content: &[u8]) -> Result<HostName, Refused> {
    let mut outer = Reader(content);
    let mut list = Reader(outer.vector16()?);
    let kind = list.take(1)?[0];
    let name = list.vector16()?;
    if kind != NAME_IS_HOST || !list.0.is_empty() || !outer.0.is_empty() {
        return Err(Refused::Malformed);
    }
    let text = std::str::from_utf8(name).map_err(|_| Refused::BadName)?;
    HostName::parse(text).map_err(|_| Refused::BadName)
}

/// Takes bytes off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Refused::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number16(&mut self) -> Result<u16, Refused> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Result<&'a [u8], Refused> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Result<&'a [u8], Refused> {
        let length = self.number16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector16(bytes: &[u8]) -> Vec<u8> {
        let mut vector = u16::try_from(bytes.len()).expect("short").to_be_bytes().to_vec();
        vector.extend_from_slice(bytes);
        vector
    }

    fn sni(name: &[u8]) -> Vec<u8> {
        let entry = [&[0][..], &vector16(name)].concat();
        [&[0, 0][..], &vector16(&vector16(&entry))].concat()
    }

    /// A greeting with these extensions, in records of at most `record` bytes.
    pub(crate) fn greeting(extensions: &[u8], record: usize) -> Vec<u8> {
        let body = [&[3, 3][..], &[7; 32], &[0], &vector16(&[0x13, 1]), &[1, 0], &vector16(extensions)].concat();
        let length = u32::try_from(body.len()).expect("short").to_be_bytes();
        let message = [&[1][..], &length[1..], &body].concat();
        message.chunks(record).flat_map(|part| [&[22, 3, 1][..], &vector16(part)].concat()).collect()
    }

    fn named(text: &str) -> Hello {
        Hello::Named(HostName::parse(text).expect("a name"))
    }

    #[test]
    fn names_are_found() {
        let extensions = [vec![0, 10, 0, 2, 0, 0], sni(b"API.example.com")].concat();
        for record in [9000, 100, 7, 1] {
            assert_eq!(read(&greeting(&extensions, record)), named("api.example.com"), "{record}");
        }
        let whole = greeting(&extensions, 50);
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), Hello::Incomplete, "{length}");
        }
    }

    #[test]
    fn what_cannot_be_trusted_is_refused() {
        let encrypted = [sni(b"a.example"), vec![0xfe, 0x0d, 0, 1, 0]].concat();
        for (bytes, refused) in [
            (greeting(&[], 9000), Refused::NoName),
            (greeting(&sni(b"127.0.0.1"), 9000), Refused::BadName),
            (greeting(&sni(b"a.example\0.evil"), 9000), Refused::BadName),
            (greeting(&sni(b"\xff.example"), 9000), Refused::BadName),
            (greeting(&encrypted, 9000), Refused::Encrypted),
            (greeting(&[sni(b"a.example"), sni(b"b.example")].concat(), 9000), Refused::Malformed),
            (greeting(&[0, 0, 0, 9, 0], 9000), Refused::Malformed),
            (b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00".to_vec(), Refused::Malformed),
            (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff".to_vec(), Refused::TooLarge),
            (b"\x16\x09\x01\x00\x04\x01\xff\xff\xff".to_vec(), Refused::Malformed),
            (b"GET / HTTP/1.1".to_vec(), Refused::Malformed),
        ] {
            assert_eq!(read(&bytes), Hello::Refused(refused), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let _ = read(&greeting(&bytes, 50));
        }

        #[test]
        fn greetings_with_one_byte_changed(at in 0usize..90, byte in any::<u8>()) {
            let mut bytes = greeting(&sni(b"a.example"), 9000);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Hello::Named(name) = read(&bytes) {
                prop_assert!(HostName::parse(name.as_str()).is_ok());
            }
        }
    }
}
