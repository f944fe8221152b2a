//! Frames over an upgraded stream.

use std::sync::Arc;

use atoll_guest::protocol::{Frame, FrameDecoder, FrameError, FrameKind, ServerMessage, encode, encode_json};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Mutex;

use super::SandboxError;
use super::dial::Upgraded;

const READ_CHUNK_BYTES: usize = 64 * 1024;

/// One request in progress.
pub(super) struct Session {
    pub(super) reader: FrameReader,
    pub(super) writer: Arc<Mutex<FrameWriter>>,
}

impl Session {
    pub(super) fn new(stream: Upgraded) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            reader: FrameReader { stream: read, decoder: FrameDecoder::default(), chunk: vec![0; READ_CHUNK_BYTES] },
            writer: Arc::new(Mutex::new(FrameWriter { stream: write, unsent: Vec::new(), sent: 0 })),
        }
    }

    pub(super) async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), SandboxError> {
        self.writer.lock().await.send_json(message).await
    }

    /// The next control message; an `error` message is an error. Cancel-safe.
    pub(super) async fn next_message(&mut self) -> Result<ServerMessage, SandboxError> {
        match self.reader.next_frame().await? {
            Some(frame) => parse(&frame),
            None => Err(SandboxError::Closed),
        }
    }
}

/// Reads the message of a control frame; an `error` message is an error.
pub(super) fn parse(frame: &Frame) -> Result<ServerMessage, SandboxError> {
    if frame.kind != FrameKind::Control {
        return Err(SandboxError::Unexpected { message: format!("a frame of kind {:?}", frame.kind) });
    }
    match serde_json::from_slice(&frame.payload) {
        Ok(ServerMessage::Error(reply)) => Err(reply.into()),
        Ok(message) => Ok(message),
        Err(error) => Err(SandboxError::Frame(FrameError::Json(error))),
    }
}

pub(super) struct FrameReader {
    stream: ReadHalf<Upgraded>,
    decoder: FrameDecoder,
    chunk: Vec<u8>,
}

impl FrameReader {
    /// The next frame, `None` when the guest closed the session between frames. Cancel-safe.
    pub(super) async fn next_frame(&mut self) -> Result<Option<Frame>, SandboxError> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(SandboxError::Frame)? {
                return Ok(Some(frame));
            }
            match self.stream.read(&mut self.chunk).await {
                Ok(0) if self.decoder.is_mid_frame() => return Err(SandboxError::Frame(FrameError::Truncated)),
                Ok(0) => return Ok(None),
                Ok(count) => self.decoder.push(&self.chunk[..count]),
                Err(error) => return Err(SandboxError::Frame(FrameError::Io(error))),
            }
        }
    }
}

/// Writes whole frames: a call that is cancelled leaves the rest of its frame to be sent by the next one.
pub(super) struct FrameWriter {
    stream: WriteHalf<Upgraded>,
    unsent: Vec<u8>,
    sent: usize,
}

impl FrameWriter {
    /// Cancel-safe: the frame is sent once, now or with the next one.
    pub(super) async fn send(&mut self, kind: FrameKind, payload: &[u8]) -> Result<(), SandboxError> {
        self.flush().await?;
        self.unsent = encode(kind, payload).map_err(SandboxError::Frame)?;
        self.flush().await
    }

    /// Cancel-safe like [`FrameWriter::send`].
    pub(super) async fn send_json<T: Serialize>(&mut self, message: &T) -> Result<(), SandboxError> {
        self.flush().await?;
        self.unsent = encode_json(message).map_err(SandboxError::Frame)?;
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), SandboxError> {
        while self.sent < self.unsent.len() {
            let count = self
                .stream
                .write(&self.unsent[self.sent..])
                .await
                .map_err(|error| SandboxError::Frame(FrameError::Io(error)))?;
            if count == 0 {
                return Err(SandboxError::Closed);
            }
            self.sent += count;
        }
        self.unsent.clear();
        self.sent = 0;
        self.stream.flush().await.map_err(|error| SandboxError::Frame(FrameError::Io(error)))
    }
}
