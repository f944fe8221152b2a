//! Server-sent events as model APIs use them: the `data` of each event, one after the other.

use bytes::Bytes;

/// One event may be this large.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Puts pieces of a stream together to events.
#[derive(Debug, Default)]
pub(crate) struct EventReader {
    pending: Vec<u8>,
    /// So many bytes of it were searched for the end of an event already.
    searched: usize,
}

/// An event is too large to be one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EventTooLarge;

impl EventReader {
    /// Takes a piece; gives the data of the events that it completes.
    pub(crate) fn push(&mut self, piece: &Bytes) -> Result<Vec<String>, EventTooLarge> {
        self.pending.extend(piece.iter().copied().filter(|byte| *byte != b'\r'));
        let mut events = Vec::new();
        let mut start = 0;
        while let Some(length) = self.pending[self.searched..].windows(2).position(|pair| pair == b"\n\n") {
            let end = self.searched + length + 2;
            events.extend(data(&self.pending[start..end]));
            (start, self.searched) = (end, end);
        }
        self.pending.drain(..start);
        self.searched = self.pending.len().saturating_sub(1);
        if self.pending.len() > EVENT_BYTES_MAX {
            return Err(EventTooLarge);
        }
        Ok(events)
    }

    /// What is left when the stream ends without a blank line.
    pub(crate) fn finish(&mut self) -> Option<String> {
        data(&std::mem::take(&mut self.pending))
    }
}

fn data(event: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(event);
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// An event on the wire.
pub(crate) fn event(data: &str) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_they_are_cut() {
        let stream = ": ping\n\ndata: one\n\nevent: x\r\ndata: two\r\ndata: lines\r\n\r\ndata:last";
        for size in [1, 2, 7, 1000] {
            let mut reader = EventReader::default();
            let mut events = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                events.extend(reader.push(&Bytes::copy_from_slice(piece)).expect("they are small"));
            }
            events.extend(reader.finish());
            assert_eq!(events, ["one", "two\nlines", "last"], "pieces of {size}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut reader = EventReader::default();
        assert_eq!(reader.push(&Bytes::from(vec![b'x'; EVENT_BYTES_MAX + 1])), Err(EventTooLarge));
    }
}
