//! Connections to ports inside a sandbox.

use std::fmt;
use std::sync::Arc;

use atoll_guest::protocol::{ClientMessage, FRAME_PAYLOAD_BYTES_MAX, FrameKind, Request, ServerMessage};
use bytes::Bytes;
use tokio::sync::Mutex;

use super::session::{FrameReader, FrameWriter, parse};
use super::{SandboxConnection, SandboxError};

impl SandboxConnection {
    /// Connects to a TCP port on the sandbox's loopback. Dropping both halves closes the connection.
    ///
    /// # Errors
    /// Any [`SandboxError`]; [`SandboxError::Guest`] with `not_found` when nothing listens there.
    pub async fn connect(&self, port: u16) -> Result<(ForwardReader, ForwardWriter), SandboxError> {
        let mut session = self.open(&Request::Connect { port }).await?;
        match session.next_message().await? {
            ServerMessage::Connected {} => {
                Ok((ForwardReader { reader: session.reader, ended: false }, ForwardWriter { writer: session.writer }))
            }
            other => Err(SandboxError::unexpected(&other)),
        }
    }
}

/// Bytes from the port.
pub struct ForwardReader {
    reader: FrameReader,
    ended: bool,
}

impl fmt::Debug for ForwardReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ForwardReader").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl ForwardReader {
    /// The next bytes, `None` when the peer sends no more. Cancel-safe.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, SandboxError> {
        if self.ended {
            return Ok(None);
        }
        let frame = self.reader.next_frame().await?.ok_or(SandboxError::Closed)?;
        if frame.kind == FrameKind::Data {
            return Ok(Some(frame.payload.into()));
        }
        match parse(&frame)? {
            ServerMessage::Eof {} => {
                self.ended = true;
                Ok(None)
            }
            other => Err(SandboxError::unexpected(&other)),
        }
    }
}

/// Bytes to the port.
pub struct ForwardWriter {
    writer: Arc<Mutex<FrameWriter>>,
}

impl fmt::Debug for ForwardWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ForwardWriter").finish_non_exhaustive()
    }
}

impl ForwardWriter {
    /// Sends bytes; waits while the peer does not read.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), SandboxError> {
        for piece in bytes.chunks(FRAME_PAYLOAD_BYTES_MAX) {
            self.writer.lock().await.send(FrameKind::Data, piece).await?;
        }
        Ok(())
    }

    /// Tells the peer that no more will come; it may still send.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn finish(&mut self) -> Result<(), SandboxError> {
        self.writer.lock().await.send_json(&ClientMessage::Eof {}).await
    }
}
