//! What a command writes, kept within bounds: the beginning and the end.

use std::collections::VecDeque;

/// Output that was kept.
#[derive(Debug)]
pub(crate) struct Collected {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    half_bytes: usize,
    total_bytes: u64,
}

impl Collected {
    /// Keeps at most `bytes_max` bytes, half of them from the beginning and half from the end.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { head: Vec::new(), tail: VecDeque::new(), half_bytes: bytes_max / 2, total_bytes: 0 }
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.total_bytes += bytes.len() as u64;
        let (first, rest) = bytes.split_at(bytes.len().min(self.half_bytes - self.head.len()));
        self.head.extend_from_slice(first);
        let newest = &rest[rest.len().saturating_sub(self.half_bytes)..];
        let excess = (self.tail.len() + newest.len()).saturating_sub(self.half_bytes);
        self.tail.drain(..excess);
        self.tail.extend(newest);
    }

    /// Forgets everything: the command's output comes again from its beginning.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.half_bytes * 2);
    }

    /// Everything kept, with a mark where something is missing.
    pub(crate) fn text(&self) -> String {
        let missing = self.total_bytes - (self.head.len() + self.tail.len()) as u64;
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if missing == 0 {
            return String::from_utf8_lossy(&[self.head.as_slice(), &tail].concat()).into_owned();
        }
        let (head, tail) = (String::from_utf8_lossy(&self.head), String::from_utf8_lossy(&tail));
        format!("{head}\n[… {missing} bytes were not kept …]\n{tail}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_kept_whole() {
        let mut kept = Collected::new(10);
        kept.add(b"abc");
        kept.add(b"defg");
        assert_eq!(kept.text(), "abcdefg");
        kept.clear();
        assert_eq!(kept.text(), "");
    }

    #[test]
    fn of_much_the_ends_are_kept() {
        for pieces in [1, 3, 7, 26] {
            let mut kept = Collected::new(8);
            for piece in b"abcdefghijklmnopqrstuvwxyz".chunks(pieces) {
                kept.add(piece);
            }
            assert_eq!(kept.text(), "abcd\n[… 18 bytes were not kept …]\nwxyz", "pieces of {pieces}");
        }
    }
}
