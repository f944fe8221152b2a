//! One line of a log file, and the text that a reader gets for it. Pure.

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;

use super::LogOptions;

/// Where an entry came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

/// One entry; a line that was too long is told in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) time: &'a str,
    pub(crate) source: Source,
    /// More of the same line follows.
    pub(crate) is_partial: bool,
    pub(crate) text: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads a line without its end; `None` if it is none of a log.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let source = match parts.next()? {
            b"stdout" => Source::Stdout,
            b"stderr" => Source::Stderr,
            _ => return None,
        };
        let is_partial = match parts.next()? {
            b"F" => false,
            b"P" => true,
            _ => return None,
        };
        Some(Self { time, source, is_partial, text: parts.next()? })
    }
}

/// Turns lines of a log into what was asked for.
pub(super) struct Formatter {
    timestamps: bool,
    since: Option<Timestamp>,
    source: Option<Source>,
    room: Option<u64>,
    /// The entry before was only the beginning of a line.
    is_within_line: bool,
}

impl Formatter {
    pub(super) fn new(options: &LogOptions) -> Self {
        Self {
            timestamps: options.timestamps,
            since: options.since,
            source: options.source,
            room: options.limit_bytes,
            is_within_line: false,
        }
    }

    /// Whether as much was told as was asked for.
    pub(super) fn is_full(&self) -> bool {
        self.room == Some(0)
    }

    /// The text of whole lines.
    pub(super) fn format(&mut self, lines: &[u8]) -> Bytes {
        let mut text = BytesMut::with_capacity(lines.len());
        for entry in lines.split(|byte| *byte == b'\n').filter_map(Entry::parse) {
            if self.source.is_some_and(|wanted| wanted != entry.source) || self.is_too_old(entry.time) {
                continue;
            }
            if self.timestamps && !self.is_within_line {
                text.put_slice(entry.time.as_bytes());
                text.put_u8(b' ');
            }
            text.put_slice(entry.text);
            if !entry.is_partial {
                text.put_u8(b'\n');
            }
            self.is_within_line = entry.is_partial;
        }
        if let Some(room) = &mut self.room {
            text.truncate(usize::try_from(*room).unwrap_or(usize::MAX));
            *room -= text.len() as u64;
        }
        text.freeze()
    }

    fn is_too_old(&self, time: &str) -> bool {
        self.since.is_some_and(|since| time.parse::<Timestamp>().is_ok_and(|time| time < since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "2026-11-22T10:00:00.1Z stdout F one\n\
         2026-11-22T10:00:01.1Z stderr F two  spaces\n\
         2026-11-22T10:00:02.1Z stdout P th\n\
         2026-11-22T10:00:03.1Z stdout F ree\n\
         2026-11-22T10:00:04.1Z stdout F \n\
         no line of a log\n";

    #[test]
    fn lines_are_told_as_asked_for() {
        let cases: [(LogOptions, &str); 5] = [
            (LogOptions::default(), "one\ntwo  spaces\nthree\n\n"),
            (LogOptions { source: Some(Source::Stderr), ..LogOptions::default() }, "two  spaces\n"),
            (LogOptions { since: Some("2026-11-22T10:00:02Z".parse().unwrap()), ..LogOptions::default() }, "three\n\n"),
            (LogOptions { limit_bytes: Some(5), ..LogOptions::default() }, "one\nt"),
            (
                LogOptions { timestamps: true, ..LogOptions::default() },
                "2026-11-22T10:00:00.1Z one\n2026-11-22T10:00:01.1Z two  spaces\n\
                 2026-11-22T10:00:02.1Z three\n2026-11-22T10:00:04.1Z \n",
            ),
        ];
        for (options, expected) in cases {
            assert_eq!(Formatter::new(&options).format(LINES.as_bytes()), expected, "{options:?}");
        }
    }
}
