//! Files in a sandbox.

use std::fmt;
use std::sync::Arc;

use atoll_guest::protocol::{
    ClientMessage, DirectoryEntry, FRAME_PAYLOAD_BYTES_MAX, FileStat, FrameKind, ReadFileRequest, Request,
    ServerMessage, WriteFileRequest,
};
use bytes::Bytes;
use tokio::sync::Mutex;

use super::session::{FrameReader, FrameWriter, parse};
use super::{SandboxConnection, SandboxError};

/// A path in a sandbox.
///
/// Without a root, an absolute path starts at the sandbox's `/` and a relative one at its base directory. With a root
/// the path is taken beneath it, and neither `..` nor symbolic links lead out: the guest answers `permission_denied`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPath {
    /// The path.
    pub path: String,
    /// Directory that the path can not leave.
    pub root: Option<String>,
}

impl SandboxPath {
    /// A path that can not leave `root`.
    pub fn beneath(root: impl Into<String>, path: impl Into<String>) -> Self {
        Self { path: path.into(), root: Some(root.into()) }
    }
}

impl From<&str> for SandboxPath {
    fn from(path: &str) -> Self {
        Self { path: path.to_owned(), root: None }
    }
}

impl From<String> for SandboxPath {
    fn from(path: String) -> Self {
        Self { path, root: None }
    }
}

impl SandboxConnection {
    /// Opens a regular file for streaming; `offset` bytes are skipped, at most `length` are sent.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn open_file(
        &self,
        path: impl Into<SandboxPath>,
        offset: Option<u64>,
        length: Option<u64>,
    ) -> Result<FileReader, SandboxError> {
        let SandboxPath { path, root } = path.into();
        let mut session = self.open(&Request::ReadFile(ReadFileRequest { path, root, offset, length })).await?;
        match session.next_message().await? {
            ServerMessage::File(stat) => Ok(FileReader { stat, reader: session.reader, ended: false }),
            other => Err(SandboxError::unexpected(&other)),
        }
    }

    /// Reads a whole file of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// Any [`SandboxError`]; [`SandboxError::TooLarge`] when the file is larger.
    pub async fn read_file(&self, path: impl Into<SandboxPath>, bytes_max: u64) -> Result<Vec<u8>, SandboxError> {
        let mut file = self.open_file(path, None, Some(bytes_max.saturating_add(1))).await?;
        let mut content = Vec::new();
        while let Some(bytes) = file.next_chunk().await? {
            content.extend_from_slice(&bytes);
        }
        if content.len() as u64 > bytes_max {
            return Err(SandboxError::TooLarge { size: file.stat.size.max(content.len() as u64), limit: bytes_max });
        }
        Ok(content)
    }

    /// Begins to replace a file; nothing changes before [`FileWriter::finish`].
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn create_file(&self, request: WriteFileRequest) -> Result<FileWriter, SandboxError> {
        let session = self.open(&Request::WriteFile(request)).await?;
        Ok(FileWriter { reader: session.reader, writer: session.writer })
    }

    /// Replaces a file, making missing parent directories. The file's mode stays, a new one gets 0644.
    ///
    /// # Errors
    /// Any [`SandboxError`]; the file is then as it was.
    pub async fn write_file(&self, path: impl Into<SandboxPath>, content: &[u8]) -> Result<(), SandboxError> {
        let SandboxPath { path, root } = path.into();
        let request = WriteFileRequest { path, root, mkdirs: true, ..WriteFileRequest::default() };
        let mut file = self.create_file(request).await?;
        file.write(content).await?;
        file.finish().await.map(|_| ())
    }

    /// Names in a directory, sorted.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn list_dir(&self, path: impl Into<SandboxPath>) -> Result<Vec<DirectoryEntry>, SandboxError> {
        let SandboxPath { path, root } = path.into();
        let mut session = self.open(&Request::ListDir { path, root }).await?;
        let mut entries = Vec::new();
        loop {
            match session.next_message().await? {
                ServerMessage::Entries(part) => {
                    entries.extend(part.entries);
                    if !part.more {
                        return Ok(entries);
                    }
                }
                other => return Err(SandboxError::unexpected(&other)),
            }
        }
    }

    /// Facts about a path, symbolic links followed.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn stat(&self, path: impl Into<SandboxPath>) -> Result<FileStat, SandboxError> {
        let SandboxPath { path, root } = path.into();
        match self.ask(&Request::Stat { path, root }).await? {
            ServerMessage::Stat(stat) => Ok(stat),
            other => Err(SandboxError::unexpected(&other)),
        }
    }

    /// Removes a file, link or directory; a directory that is not empty only when `recursive`.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn remove(&self, path: impl Into<SandboxPath>, recursive: bool) -> Result<(), SandboxError> {
        let SandboxPath { path, root } = path.into();
        self.ask_done(&Request::Remove { path, root, recursive }).await
    }

    /// Makes a directory and its missing parents.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn make_dir(&self, path: impl Into<SandboxPath>) -> Result<(), SandboxError> {
        let SandboxPath { path, root } = path.into();
        self.ask_done(&Request::MakeDir { path, root }).await
    }
}

/// A file being read.
pub struct FileReader {
    stat: FileStat,
    reader: FrameReader,
    ended: bool,
}

impl fmt::Debug for FileReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FileReader").field("stat", &self.stat).finish()
    }
}

impl FileReader {
    /// Facts about the file as it was opened.
    #[must_use]
    pub fn stat(&self) -> &FileStat {
        &self.stat
    }

    /// The next bytes, `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// Any [`SandboxError`]; a file that ends early is an error, never a shorter file.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, SandboxError> {
        if self.ended {
            return Ok(None);
        }
        let frame = self.reader.next_frame().await?.ok_or(SandboxError::Closed)?;
        if frame.kind == FrameKind::Data {
            return Ok(Some(frame.payload.into()));
        }
        match parse(&frame)? {
            ServerMessage::Done {} => {
                self.ended = true;
                Ok(None)
            }
            other => Err(SandboxError::unexpected(&other)),
        }
    }
}

/// A file being replaced. Dropping it leaves the old file as it was.
pub struct FileWriter {
    reader: FrameReader,
    writer: Arc<Mutex<FrameWriter>>,
}

impl fmt::Debug for FileWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FileWriter").finish_non_exhaustive()
    }
}

impl FileWriter {
    /// Adds bytes.
    ///
    /// # Errors
    /// Any [`SandboxError`]; the guest's own reason when it refused the file.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), SandboxError> {
        for piece in bytes.chunks(FRAME_PAYLOAD_BYTES_MAX) {
            let sent = self.writer.lock().await.send(FrameKind::Data, piece).await;
            if let Err(broken) = sent {
                return Err(self.guest_reason().await.unwrap_or(broken));
            }
        }
        Ok(())
    }

    /// Puts the new content in place, durably, and returns its size in bytes.
    ///
    /// # Errors
    /// Any [`SandboxError`]; the old file is then as it was.
    pub async fn finish(mut self) -> Result<u64, SandboxError> {
        let sent = self.writer.lock().await.send_json(&ClientMessage::Eof {}).await;
        if let Err(broken) = sent {
            return Err(self.guest_reason().await.unwrap_or(broken));
        }
        let frame = self.reader.next_frame().await?.ok_or(SandboxError::Closed)?;
        match parse(&frame)? {
            ServerMessage::Written { size } => Ok(size),
            other => Err(SandboxError::unexpected(&other)),
        }
    }

    /// A guest that refuses a file says so and closes; the words are still there to be read.
    async fn guest_reason(&mut self) -> Option<SandboxError> {
        let frame = self.reader.next_frame().await.ok()??;
        parse(&frame).err()
    }
}
