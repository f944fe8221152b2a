//! Names made of hashes.

use sha2::{Digest, Sha256};

/// Lower hex SHA-256.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The first `bytes` bytes of the SHA-256 of the parts, in lower hex. The same parts give the same name, so that what
/// is done again after a crash carries the name it had.
pub(crate) fn name_of(parts: &[&str], bytes: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..bytes])
}

/// Whether the text is a lower hex SHA-256.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
