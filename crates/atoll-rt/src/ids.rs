//! Real identifiers and real randomness.

use atoll_stdx::IdGen;
use ring::rand::{SecureRandom, SystemRandom};
use ulid::Ulid;

/// A ULID in lower case: 26 characters, sortable by creation time, a valid DNS label.
#[must_use]
pub fn ulid() -> String {
    Ulid::generate().to_string().to_lowercase()
}

/// `bytes` bytes of the kernel's randomness in lower-case hexadecimal.
///
/// # Panics
/// If the kernel gives no randomness: nothing that needs a token may go on then.
#[must_use]
pub fn random_hex(bytes: usize) -> String {
    let mut buffer = vec![0_u8; bytes];
    SystemRandom::new().fill(&mut buffer).expect("the kernel gives randomness");
    buffer.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A random (version 4) UUID in its usual form (RFC 9562).
#[must_use]
pub fn uuid() -> String {
    let hex = random_hex(16);
    // The variant nibble is one of 8, 9, a, b.
    let variant = match hex.as_bytes()[16] {
        b'0'..=b'3' => '8',
        b'4'..=b'7' => '9',
        b'8' | b'9' | b'a' | b'b' => 'a',
        _ => 'b',
    };
    format!("{}-{}-4{}-{variant}{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

/// Real identifiers: ULIDs.
#[derive(Debug, Clone, Copy, Default)]
pub struct UlidGen;

impl IdGen for UlidGen {
    fn next_id(&self) -> String {
        ulid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_the_form_of_version_4() {
        let uuid = uuid();
        let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{uuid}");
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uuid.as_bytes()[19]));
    }

    #[test]
    fn ids_do_not_repeat() {
        assert_ne!(ulid(), ulid());
        assert_ne!(random_hex(16), random_hex(16));
    }
}
