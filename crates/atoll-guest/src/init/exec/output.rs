//! The kept tail of a command's output, as one sequence of bytes in which every byte has a position.

use std::collections::VecDeque;

use atoll_guest::protocol::{FrameKind, OUTPUT_RING_BYTES_MAX};

/// Pieces kept; a command that writes single bytes to its two streams in turn would need one for each.
const PIECES_MAX: usize = 4_096;

/// A piece that grows stops here, so that what is sent at once stays small.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Standard output and standard error in the order they were read.
#[derive(Default)]
pub(super) struct Output {
    pieces: VecDeque<Piece>,
    kept_bytes: usize,
    end: u64,
}

struct Piece {
    kind: FrameKind,
    start: u64,
    bytes: Vec<u8>,
}

impl Output {
    /// Adds bytes and lets go of the oldest beyond the limits.
    pub(super) fn append(&mut self, kind: FrameKind, bytes: &[u8]) {
        match self.pieces.back_mut() {
            Some(last) if last.kind == kind && last.bytes.len() + bytes.len() <= PIECE_BYTES_MAX => {
                last.bytes.extend_from_slice(bytes);
            }
            _ => self.pieces.push_back(Piece { kind, start: self.end, bytes: bytes.to_vec() }),
        }
        self.kept_bytes += bytes.len();
        self.end += bytes.len() as u64;
        while self.kept_bytes > OUTPUT_RING_BYTES_MAX || self.pieces.len() > PIECES_MAX {
            let oldest = self.pieces.pop_front().expect("something is kept");
            self.kept_bytes -= oldest.bytes.len();
        }
    }

    /// Bytes from `position` on that are of one kind, and the position after them; `None` at the end. A position
    /// that is no longer kept is taken as the oldest that is.
    pub(super) fn read_from(&self, position: u64) -> Option<(FrameKind, Vec<u8>, u64)> {
        let index = self.pieces.partition_point(|piece| piece.start + piece.bytes.len() as u64 <= position);
        let piece = self.pieces.get(index)?;
        let skip = usize::try_from(position.saturating_sub(piece.start)).expect("a piece is small");
        let bytes = piece.bytes[skip..].to_vec();
        Some((piece.kind, bytes, piece.start + piece.bytes.len() as u64))
    }

    /// Whether a reader at `position` should be waited for before more is read: half of what can be kept is unread.
    pub(super) fn is_far_ahead_of(&self, position: u64) -> bool {
        let unread = self.pieces.partition_point(|piece| piece.start + piece.bytes.len() as u64 <= position);
        self.end - position > OUTPUT_RING_BYTES_MAX as u64 / 2 || self.pieces.len() - unread > PIECES_MAX / 2
    }

    /// Position of the oldest byte that is kept: also the number of bytes that are not.
    pub(super) fn start(&self) -> u64 {
        self.end - self.kept_bytes as u64
    }

    /// Position after the last byte: also the number of bytes ever added.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(output: &Output, mut position: u64) -> Vec<(FrameKind, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some((kind, bytes, next)) = output.read_from(position) {
            all.push((kind, bytes));
            position = next;
        }
        all
    }

    #[test]
    fn order_and_kinds_are_kept_and_small_writes_join() {
        let mut output = Output::default();
        for (kind, text) in
            [(FrameKind::Stdout, "a"), (FrameKind::Stdout, "b"), (FrameKind::Stderr, "c"), (FrameKind::Stdout, "d")]
        {
            output.append(kind, text.as_bytes());
        }
        let expected = [(FrameKind::Stdout, "ab"), (FrameKind::Stderr, "c"), (FrameKind::Stdout, "d")];
        assert_eq!(read_all(&output, 0), expected.map(|(kind, text)| (kind, text.as_bytes().to_vec())));
        assert_eq!(read_all(&output, 1)[0].1, b"b");
        assert_eq!(read_all(&output, 4), []);
    }

    #[test]
    fn the_oldest_is_dropped_and_counted() {
        let mut output = Output::default();
        let chunk = vec![1; PIECE_BYTES_MAX];
        for _ in 0..40 {
            output.append(FrameKind::Stdout, &chunk);
        }
        assert!(output.kept_bytes() <= OUTPUT_RING_BYTES_MAX);
        assert_eq!(output.end(), 40 * PIECE_BYTES_MAX as u64);
        let kept: usize = read_all(&output, 0).iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(output.start() + kept as u64, output.end());
    }

    #[test]
    fn single_bytes_on_two_streams_do_not_fill_memory() {
        let mut output = Output::default();
        for turn in 0..100_000 {
            output.append(if turn % 2 == 0 { FrameKind::Stdout } else { FrameKind::Stderr }, b"x");
        }
        assert!(output.pieces.len() <= PIECES_MAX);
        assert!(output.is_far_ahead_of(output.start()));
        assert!(!output.is_far_ahead_of(output.end()));
    }
}
