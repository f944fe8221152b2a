//! Tokens taken out of what comes back from a server, also where they are cut in two by its pieces. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Shorter tokens than this would be found everywhere; they are not brokered.
pub const TOKEN_BYTES_MIN: usize = 8;

/// Replaces tokens by as many asterisks, in a stream of pieces.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    needles: Vec<Vec<u8>>,
    /// The end of what came so far that may be the beginning of a token.
    held: Vec<u8>,
}

impl Redactor {
    /// Looks for a token and for how it was written on the wire, plain and in the usual encodings.
    #[must_use]
    pub fn new(token: &str, written: &str) -> Self {
        let mut needles: Vec<Vec<u8>> =
            vec![token.into(), STANDARD.encode(token).into(), URL_SAFE_NO_PAD.encode(token).into()];
        needles.extend(written.split(' ').filter(|word| word.len() >= TOKEN_BYTES_MIN).map(Into::into));
        needles.push(percent_encoded(token).into());
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
        needles.dedup();
        Self { needles, held: Vec::new() }
    }

    /// The next piece; what may be the start of a token is kept back until more is known.
    pub fn piece(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(piece);
        self.blot_out(&mut bytes);
        let keep = self.needles.iter().map(|needle| open_end(&bytes, needle)).max().unwrap_or(0);
        self.held = bytes.split_off(bytes.len() - keep);
        bytes
    }

    /// What was kept back, at the end.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// A whole text at once, for example a header's value.
    #[must_use]
    pub fn whole(&self, text: &[u8]) -> Vec<u8> {
        let mut bytes = text.to_vec();
        self.blot_out(&mut bytes);
        bytes
    }

    fn blot_out(&self, bytes: &mut [u8]) {
        for needle in &self.needles {
            let mut from = 0;
            while let Some(at) = find(&bytes[from..], needle) {
                bytes[from + at..from + at + needle.len()].fill(b'*');
                from += at + needle.len();
            }
        }
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let (first, rest) = needle.split_first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| byte == first) {
        let start = from + at;
        if bytes[start + 1..].starts_with(rest) {
            return Some(start);
        }
        from = start + 1;
    }
    None
}

/// How many of the last bytes are a beginning of the needle.
fn open_end(bytes: &[u8], needle: &[u8]) -> usize {
    let most = bytes.len().min(needle.len() - 1);
    (1..=most).rev().find(|length| needle.starts_with(&bytes[bytes.len() - length..])).unwrap_or(0)
}

fn percent_encoded(token: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    token.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn encodings_are_found_too() {
        let redactor = Redactor::new("s3cret+token", "Basic eDpzM2NyZXQrdG9rZW4=");
        for text in ["s3cret+token", "czNjcmV0K3Rva2Vu", "s3cret%2Btoken", "eDpzM2NyZXQrdG9rZW4="] {
            let seen = redactor.whole(format!("[{text}]").as_bytes());
            assert_eq!(String::from_utf8(seen).expect("text"), format!("[{}]", "*".repeat(text.len())));
        }
        assert_eq!(redactor.whole(b"s3cret-token"), b"s3cret-token");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[ab]{0,60}", cuts in prop::collection::vec(0usize..60, 0..6)) {
            let mut redactor = Redactor { needles: vec![b"aabaab".to_vec(), b"bbbb".to_vec()], held: Vec::new() };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut out = Vec::new();
            for pair in cuts.windows(2) {
                out.extend(redactor.piece(&text.as_bytes()[pair[0]..pair[1]]));
            }
            out.extend(redactor.rest());
            prop_assert_eq!(out.len(), text.len());
            prop_assert!(find(&out, b"aabaab").is_none() && find(&out, b"bbbb").is_none());
            if find(text.as_bytes(), b"aabaab").is_none() && find(text.as_bytes(), b"bbbb").is_none() {
                prop_assert_eq!(out, text.into_bytes());
            }
        }
    }
}
