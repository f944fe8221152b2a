//! The workload's output as a log in the CRI format: `2026-11-22T17:51:03.123456789Z stdout F text`.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags};

use atoll_guest::supervisor::LOG_FILE;

/// Longest text of one entry; a longer line is told in parts.
const ENTRY_BYTES_MAX: usize = 16 * 1024;

/// Where output goes. Bounded: one file being written and one older one.
pub(super) struct Log {
    run_dir: OwnedFd,
    file: Option<File>,
    written_bytes: u64,
    bytes_max: u64,
}

impl Log {
    pub(super) fn new(run_dir: OwnedFd, bytes_max: u64) -> Self {
        Self { run_dir, file: None, written_bytes: 0, bytes_max }
    }

    /// Opens the file before anything is written, so that readers find it.
    pub(super) fn open(&mut self) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.run_dir, LOG_FILE, flags, Mode::from_raw_mode(0o640))?);
        self.written_bytes = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        if self.written_bytes + entries.len() as u64 > self.bytes_max && self.written_bytes > 0 {
            self.file = None;
            rustix::fs::renameat(&self.run_dir, LOG_FILE, &self.run_dir, format!("{LOG_FILE}.1"))?;
        }
        if self.file.is_none() {
            self.open()?;
        }
        let file = self.file.as_mut().expect("it was just opened");
        file.write_all(entries)?;
        self.written_bytes += entries.len() as u64;
        Ok(())
    }
}

/// One output stream of the workload.
pub(super) struct Stream {
    name: &'static str,
    /// The beginning of a line whose end has not come yet.
    pending: Vec<u8>,
}

impl Stream {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, pending: Vec::with_capacity(ENTRY_BYTES_MAX) }
    }

    /// Logs what came, up to its last line end.
    pub(super) fn write(&mut self, bytes: &[u8], log: &mut Log) -> io::Result<()> {
        let entries = self.entries(bytes, &timestamp(SystemTime::now()));
        if entries.is_empty() { Ok(()) } else { log.append(&entries) }
    }

    /// Logs the rest, at the end of the stream.
    pub(super) fn finish(&mut self, log: &mut Log) -> io::Result<()> {
        if self.pending.is_empty() { Ok(()) } else { self.write(b"\n", log) }
    }

    fn entries(&mut self, bytes: &[u8], time: &str) -> Vec<u8> {
        let mut entries = Vec::with_capacity(bytes.len() + 64);
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = ENTRY_BYTES_MAX - self.pending.len();
            let newline = rest.iter().take(room + 1).position(|byte| *byte == b'\n');
            let taken = newline.unwrap_or_else(|| room.min(rest.len()));
            self.pending.extend_from_slice(&rest[..taken]);
            rest = &rest[taken + usize::from(newline.is_some())..];
            let tag = match newline {
                Some(_) => 'F',
                None if self.pending.len() == ENTRY_BYTES_MAX => 'P',
                None => break,
            };
            entries.extend_from_slice(format!("{time} {} {tag} ", self.name).as_bytes());
            entries.append(&mut self.pending);
            entries.push(b'\n');
        }
        entries
    }
}

/// RFC 3339 with nanoseconds, in UTC.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second_of_day) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    let nanos = since.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is a year's last; an era is 400 years.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_BEFORE_1970: u64 = 719_468;
    const DAYS_OF_ERA: u64 = 146_097;
    let days = days + DAYS_BEFORE_1970;
    let (era, day_of_era) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_rfc_3339_with_nanoseconds() {
        let cases = [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, 5, "2000-02-29T00:00:00.000000005Z"),
            (1_709_164_799, 999_999_999, "2024-02-28T23:59:59.999999999Z"),
            (1_795_370_000, 0, "2026-11-22T17:53:20.000000000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
        ];
        for (seconds, nanos, expected) in cases {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::new(seconds, nanos)), expected);
        }
    }

    fn check(chunks: &[&[u8]], expected: &[(char, usize)]) {
        let mut stream = Stream::new("stdout");
        let mut entries: Vec<u8> = chunks.iter().flat_map(|chunk| stream.entries(chunk, "T")).collect();
        if !stream.pending.is_empty() {
            entries.extend(stream.entries(b"\n", "T"));
        }
        let text = String::from_utf8(entries).unwrap();
        let found: Vec<(char, usize)> = text
            .lines()
            .map(|line| {
                let rest = line.strip_prefix("T stdout ").unwrap();
                (rest.chars().next().unwrap(), rest.len() - 2)
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn lines_become_entries_however_they_arrive() {
        check(&[b"one\ntwo\n"], &[('F', 3), ('F', 3)]);
        check(&[b"o", b"ne", b"\n\n"], &[('F', 3), ('F', 0)]);
        check(&[b"no end"], &[('F', 6)]);
    }

    #[test]
    fn long_lines_are_told_in_parts() {
        let full = vec![b'x'; ENTRY_BYTES_MAX];
        let exact = [full.clone(), b"\n".to_vec()].concat();
        check(&[&exact], &[('F', ENTRY_BYTES_MAX)]);
        let longer = [full.clone(), full, b"xyz\n".to_vec()].concat();
        check(&[&longer], &[('P', ENTRY_BYTES_MAX), ('P', ENTRY_BYTES_MAX), ('F', 3)]);
    }
}
