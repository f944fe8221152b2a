//! Generated names, as the API server would make them.

/// Letters and digits that form no words.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_CHARS: usize = 5;
/// The longest name that a Pod or Service may have, so that a member's children can have its name.
const NAME_CHARS_MAX: usize = 63;

/// The prefix, cut if need be, and five random characters.
pub(crate) fn generate(prefix: &str) -> String {
    let kept: String = prefix.chars().take(NAME_CHARS_MAX - SUFFIX_CHARS).collect();
    let random = atoll_rt::ids::random_hex(SUFFIX_CHARS * 2);
    let suffix = (0..SUFFIX_CHARS).map(|position| {
        let number = u32::from_str_radix(&random[position * 4..position * 4 + 4], 16).unwrap_or_default();
        char::from(ALPHABET[number as usize % ALPHABET.len()])
    });
    kept.chars().chain(suffix).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_enough_and_differ() {
        let names: std::collections::HashSet<String> = (0..100).map(|_| generate("pool-")).collect();
        assert!(names.len() > 98, "{names:?}");
        assert!(names.iter().all(|name| name.len() == 10 && name.starts_with("pool-")), "{names:?}");
        assert_eq!(generate(&"p".repeat(100)).len(), NAME_CHARS_MAX);
    }
}
