//! Commands in a sandbox.

use std::fmt;
use std::sync::Arc;

use atoll_guest::protocol::{
    ClientMessage, Exit, FRAME_PAYLOAD_BYTES_MAX, FrameKind, Request, ServerMessage, TerminalSize,
};
use bytes::Bytes;
use tokio::sync::Mutex;

use super::session::{FrameReader, FrameWriter, parse};
use super::{SandboxConnection, SandboxError};

/// A command attached to. Dropping it detaches: the command goes on and can be taken up again by its id.
pub struct ExecSession {
    exec_id: String,
    replayed: bool,
    dropped_bytes: u64,
    reader: FrameReader,
    input: ExecInput,
    ended: bool,
}

impl fmt::Debug for ExecSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ExecSession").field("exec_id", &self.exec_id).field("replayed", &self.replayed).finish()
    }
}

/// Something a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// It wrote to its standard output or terminal.
    Stdout(Bytes),
    /// It wrote to its standard error.
    Stderr(Bytes),
    /// It ended; nothing follows.
    Exited(Exit),
}

/// All that a command wrote, and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Bytes that are missing: beyond the limit, or no longer kept by the guest.
    pub dropped_bytes: u64,
    /// How it ended.
    pub exit: Exit,
}

impl ExecSession {
    pub(super) async fn open(connection: &SandboxConnection, request: &Request) -> Result<Self, SandboxError> {
        let mut session = connection.open(request).await?;
        match session.next_message().await? {
            ServerMessage::Started(started) => Ok(Self {
                input: ExecInput {
                    writer: session.writer,
                    connection: connection.clone(),
                    exec_id: started.exec_id.as_str().into(),
                },
                exec_id: started.exec_id,
                replayed: started.replayed,
                dropped_bytes: started.dropped_bytes,
                reader: session.reader,
                ended: false,
            }),
            other => Err(SandboxError::unexpected(&other)),
        }
    }

    /// Id to attach to, or to kill by.
    #[must_use]
    pub fn exec_id(&self) -> &str {
        &self.exec_id
    }

    /// Whether an earlier request had started the command, so that this session begins with its kept output.
    #[must_use]
    pub fn replayed(&self) -> bool {
        self.replayed
    }

    /// Bytes of earlier output that the guest no longer keeps.
    #[must_use]
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// Handle for standard input and signals; may be used while events are read elsewhere.
    #[must_use]
    pub fn input(&self) -> ExecInput {
        self.input.clone()
    }

    /// What the command did next; `None` after [`ExecEvent::Exited`]. Cancel-safe.
    ///
    /// # Errors
    /// Any [`SandboxError`]; the command goes on, and its id still finds it.
    pub async fn next_event(&mut self) -> Result<Option<ExecEvent>, SandboxError> {
        if self.ended {
            return Ok(None);
        }
        let Some(frame) = self.reader.next_frame().await? else {
            return Err(SandboxError::Closed);
        };
        let event = match frame.kind {
            FrameKind::Stdout => ExecEvent::Stdout(frame.payload.into()),
            FrameKind::Stderr => ExecEvent::Stderr(frame.payload.into()),
            _ => match parse(&frame)? {
                ServerMessage::Exited(exit) => {
                    self.ended = true;
                    ExecEvent::Exited(exit)
                }
                other => return Err(SandboxError::unexpected(&other)),
            },
        };
        Ok(Some(event))
    }

    /// Waits for the end and collects at most `bytes_max` bytes of each stream; the rest is read and counted.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn output(mut self, bytes_max: usize) -> Result<ExecOutput, SandboxError> {
        let mut output = ExecOutput { dropped_bytes: self.dropped_bytes, ..ExecOutput::default() };
        loop {
            let (kept, bytes) = match self.next_event().await? {
                Some(ExecEvent::Stdout(bytes)) => (&mut output.stdout, bytes),
                Some(ExecEvent::Stderr(bytes)) => (&mut output.stderr, bytes),
                Some(ExecEvent::Exited(exit)) => {
                    output.exit = exit;
                    return Ok(output);
                }
                None => return Err(SandboxError::Closed),
            };
            let room = bytes_max.saturating_sub(kept.len()).min(bytes.len());
            kept.extend_from_slice(&bytes[..room]);
            output.dropped_bytes += (bytes.len() - room) as u64;
        }
    }
}

/// Sends standard input and signals to a command. Cloning shares the session.
#[derive(Clone)]
pub struct ExecInput {
    writer: Arc<Mutex<FrameWriter>>,
    connection: SandboxConnection,
    exec_id: Arc<str>,
}

impl fmt::Debug for ExecInput {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ExecInput").field("exec_id", &self.exec_id).finish()
    }
}

impl ExecInput {
    /// Sends standard input. Waits while the command does not read; events must be read meanwhile.
    ///
    /// # Errors
    /// Any [`SandboxError`], also when the command has ended.
    pub async fn stdin(&self, bytes: &[u8]) -> Result<(), SandboxError> {
        for piece in bytes.chunks(FRAME_PAYLOAD_BYTES_MAX) {
            self.writer.lock().await.send(FrameKind::Stdin, piece).await?;
        }
        Ok(())
    }

    /// Ends standard input.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn stdin_eof(&self) -> Result<(), SandboxError> {
        self.send(&ClientMessage::StdinEof {}).await
    }

    /// Signals the command's process group.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn signal(&self, signal: i32) -> Result<(), SandboxError> {
        self.send(&ClientMessage::Signal { signal }).await
    }

    /// Tells the terminal its new size.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn resize(&self, size: TerminalSize) -> Result<(), SandboxError> {
        self.send(&ClientMessage::Resize(size)).await
    }

    /// Kills the command's whole process tree, also while standard input is stuck: it goes by a connection of its own.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn kill(&self) -> Result<(), SandboxError> {
        self.connection.kill(&self.exec_id).await
    }

    async fn send(&self, message: &ClientMessage) -> Result<(), SandboxError> {
        self.writer.lock().await.send_json(message).await
    }
}
