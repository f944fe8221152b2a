//! The 32-bit name hash that labels of the sandbox API carry.

const OFFSET_BASIS: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;

/// 32-bit FNV-1a of the bytes, as exactly eight lower-case hexadecimal digits.
///
/// It names things, it does not identify them: with 65 thousand names two collide more likely than not, so routes
/// and ownership go by UID.
#[must_use]
pub fn name_hash(name: &str) -> String {
    let hash = name.bytes().fold(OFFSET_BASIS, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(PRIME));
    format!("{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vectors_of_fnv_1a_hold() {
        for (name, expected) in [("", "811c9dc5"), ("a", "e40c292c"), ("foobar", "bf9cf968")] {
            assert_eq!(name_hash(name), expected, "{name:?}");
        }
    }

    #[test]
    fn short_hashes_are_padded() {
        let padded = (0..100_000).map(|n| name_hash(&n.to_string())).find(|hash| hash.starts_with('0'));
        assert_eq!(padded.expect("one in sixteen begins with zero").len(), 8);
    }
}
