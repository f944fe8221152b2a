//! A container's log: `TIME STREAM TAG TEXT` lines, in one file that is written and an older one beside it, read as
//! `pods/log` asks for them.

mod entry;
mod options;
mod tail;

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};

use entry::Formatter;
pub(crate) use entry::{Entry, Source};
pub(crate) use options::LogOptions;

/// How often a file that may grow is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const READ_BYTES: usize = 64 * 1024;
/// A line longer than this is no line of a log: the supervisor splits them long before.
const LINE_BYTES_MAX: usize = 256 * 1024;

/// Where a log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFiles {
    /// The file that is (or was) written.
    pub(crate) current: PathBuf,
}

impl LogFiles {
    fn older(&self) -> PathBuf {
        let mut name = self.current.as_os_str().to_owned();
        name.push(".1");
        name.into()
    }
}

/// Reads one log from a place in it to its end, or on and on.
pub(crate) struct LogReader {
    files: LogFiles,
    open: VecDeque<OpenFile>,
    unread: BytesMut,
    follow: bool,
    /// Whether nobody writes any more.
    is_over: Box<dyn Fn() -> bool + Send + Sync>,
    was_over: bool,
}

struct OpenFile {
    file: File,
    inode: u64,
}

impl LogReader {
    /// Opens a log at its last `tail_lines` lines, or at its beginning.
    ///
    /// # Errors
    /// `NotFound` when there is no log.
    pub(crate) async fn open(
        files: LogFiles,
        tail_lines: Option<u64>,
        follow: bool,
        is_over: impl Fn() -> bool + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let mut current = open(&files.current).await?;
        let mut older = match open(&files.older()).await {
            // It was rotated between the two: what was current is the older one now.
            Ok(older) if older.inode == current.inode => None,
            Ok(older) => Some(older),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(lines) = tail_lines {
            let found = tail::seek_to_last_lines(&mut current.file, lines).await?;
            match older.as_mut().filter(|_| found < lines) {
                Some(older) => drop(tail::seek_to_last_lines(&mut older.file, lines - found).await?),
                None => older = None,
            }
        }
        let open = older.into_iter().chain([current]).collect();
        let unread = BytesMut::with_capacity(READ_BYTES);
        Ok(Self { files, open, unread, follow, is_over: Box::new(is_over), was_over: false })
    }

    /// The next whole lines; `None` at the end. Cancel-safe.
    pub(crate) async fn next_lines(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(last) = self.unread.iter().rposition(|byte| *byte == b'\n') {
                return Ok(Some(self.unread.split_to(last + 1).freeze()));
            }
            if self.unread.len() > LINE_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of the log does not end"));
            }
            let Some(front) = self.open.front_mut() else { return Ok(None) };
            self.unread.reserve(READ_BYTES);
            if front.file.read_buf(&mut self.unread).await? > 0 {
                continue;
            }
            if self.open.len() > 1 {
                self.open.pop_front();
            } else if !self.follow || self.was_over {
                return Ok(None);
            } else {
                self.wait_for_more().await?;
            }
        }
    }

    /// At the end of the current file: it may grow, be rotated, or never change again.
    async fn wait_for_more(&mut self) -> io::Result<()> {
        // Asked first: what was written before the end is read once more after it.
        if (self.is_over)() {
            self.was_over = true;
            return Ok(());
        }
        let inode = self.open.front().map(|open| open.inode);
        match tokio::fs::metadata(&self.files.current).await {
            Ok(metadata) if Some(metadata.ino()) != inode => self.open.push_back(open(&self.files.current).await?),
            Ok(_) => tokio::time::sleep(LOOK_INTERVAL).await,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Between two names of a rotation, or gone for good.
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

async fn open(path: &Path) -> io::Result<OpenFile> {
    let mut file = File::open(path).await?;
    file.seek(SeekFrom::Start(0)).await?;
    let inode = file.metadata().await?.ino();
    Ok(OpenFile { file, inode })
}

/// A log as text, the way its reader wants it.
pub(crate) struct LogText {
    reader: LogReader,
    formatter: Formatter,
}

impl LogText {
    pub(crate) fn new(reader: LogReader, options: &LogOptions) -> Self {
        Self { reader, formatter: Formatter::new(options) }
    }

    /// The next text; `None` at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while !self.formatter.is_full() {
            let Some(lines) = self.reader.next_lines().await? else { return Ok(None) };
            let text = self.formatter.format(&lines);
            if !text.is_empty() {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn line(text: &str) -> String {
        format!("2026-11-22T10:00:00.000000001Z stdout F {text}\n")
    }

    fn log(directory: &Path, older: Option<&str>, current: &str) -> LogFiles {
        let files = LogFiles { current: directory.join("log") };
        if let Some(older) = older {
            fs::write(files.older(), older).unwrap();
        }
        fs::write(&files.current, current).unwrap();
        files
    }

    async fn read(files: LogFiles, options: LogOptions) -> String {
        let reader = LogReader::open(files, options.tail_lines, false, || true).await.unwrap();
        let mut text = LogText::new(reader, &options);
        let mut all = Vec::new();
        while let Some(bytes) = text.next().await.unwrap() {
            all.extend_from_slice(&bytes);
        }
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn a_rotated_log_is_read_as_one() {
        let directory = tempfile::tempdir().unwrap();
        let files = log(directory.path(), Some(&(line("one") + &line("two"))), &(line("three") + &line("four")));
        assert_eq!(read(files.clone(), LogOptions::default()).await, "one\ntwo\nthree\nfour\n");
        for (lines, expected) in
            [(0, ""), (1, "four\n"), (2, "three\nfour\n"), (3, "two\nthree\nfour\n"), (9, "one\ntwo\nthree\nfour\n")]
        {
            let options = LogOptions { tail_lines: Some(lines), ..LogOptions::default() };
            assert_eq!(read(files.clone(), options).await, expected, "{lines}");
        }
        let options = LogOptions { limit_bytes: Some(6), ..LogOptions::default() };
        assert_eq!(read(files, options).await, "one\ntw");
    }

    #[tokio::test]
    async fn following_goes_over_a_rotation_and_ends_with_the_container() {
        let directory = tempfile::tempdir().unwrap();
        let files = log(directory.path(), None, &line("one"));
        let is_over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&is_over);
        let mut reader =
            LogReader::open(files.clone(), None, true, move || ended.load(Ordering::SeqCst)).await.unwrap();
        assert_eq!(reader.next_lines().await.unwrap().unwrap(), line("one"));

        fs::rename(&files.current, files.older()).unwrap();
        fs::write(&files.current, line("two")).unwrap();
        assert_eq!(reader.next_lines().await.unwrap().unwrap(), line("two"));

        // A line that is being written is not told before it is whole.
        let whole = line("three");
        let mut file = fs::OpenOptions::new().append(true).open(&files.current).unwrap();
        io::Write::write_all(&mut file, &whole.as_bytes()[..20]).unwrap();
        assert!(tokio::time::timeout(LOOK_INTERVAL * 4, reader.next_lines()).await.is_err());
        io::Write::write_all(&mut file, &whole.as_bytes()[20..]).unwrap();
        is_over.store(true, Ordering::SeqCst);
        assert_eq!(reader.next_lines().await.unwrap().unwrap(), whole);
        assert_eq!(reader.next_lines().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_log_that_is_not_there_is_not_found() {
        let files = LogFiles { current: "/nonexistent/log".into() };
        let opened = LogReader::open(files, None, false, || true).await;
        assert!(opened.is_err_and(|error| error.kind() == io::ErrorKind::NotFound));
    }
}
