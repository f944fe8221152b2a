//! The server's side of SPDY/3.1 as `kubectl` and client-go speak it: streams of bytes with headers, opened by the
//! client alone, multiplexed over one connection. There are no windows: like theirs, this side stops reading the
//! connection while one stream's reader lags behind.

mod frame;
mod headers;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf};
use tokio::sync::{Mutex, mpsc};

use frame::{Frame, HEAD_BYTES};
use headers::{HeaderReader, HeaderWriter};
pub(crate) use headers::{Headers, header};

/// Streams open at a time; a port-forward has two for each connection.
const STREAMS_MAX: usize = 2048;
/// Frames of one stream that wait for its reader.
const FRAMES_WAITING_MAX: usize = 32;
/// New streams that wait to be looked at.
const STREAMS_WAITING_MAX: usize = 64;
/// Largest frame that is sent, so that streams take turns.
const DATA_BYTES_MAX: usize = 32 * 1024;
/// A status of the draft: the stream is refused before anything was done for it.
const REFUSED_STREAM: u32 = 3;

/// A connection that can go no further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpdyError {
    #[error("a frame is not one of SPDY/3.1")]
    Frame,
    #[error("a header block is not one of SPDY/3.1")]
    Headers,
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
}

/// A stream that the client opened.
pub(crate) struct SpdyStream {
    pub(crate) headers: Headers,
    pub(crate) reader: StreamReader,
    pub(crate) writer: StreamWriter,
}

/// What the client sends on a stream.
pub(crate) struct StreamReader {
    frames: mpsc::Receiver<Bytes>,
}

impl StreamReader {
    /// The next bytes; `None` when the client sends no more. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.frames.recv().await
    }
}

/// Sends on a stream.
#[derive(Clone)]
pub(crate) struct StreamWriter {
    id: u32,
    outgoing: Arc<Mutex<Outgoing>>,
}

impl StreamWriter {
    /// Sends bytes. Cancel-safe: what was begun is finished with the next frame.
    pub(crate) async fn send(&self, bytes: &[u8]) -> Result<(), SpdyError> {
        for piece in bytes.chunks(DATA_BYTES_MAX) {
            self.outgoing.lock().await.send(frame::data(self.id, piece, false)).await?;
        }
        Ok(())
    }

    /// Sends no more.
    pub(crate) async fn finish(&self) -> Result<(), SpdyError> {
        self.outgoing.lock().await.send(frame::data(self.id, &[], true)).await
    }
}

/// The sending side of a connection.
struct Outgoing {
    io: Box<dyn AsyncWrite + Send + Unpin>,
    headers: HeaderWriter,
    unsent: BytesMut,
}

impl Outgoing {
    async fn send(&mut self, frame: Vec<u8>) -> Result<(), SpdyError> {
        // A call that was given up in the middle of a frame left its rest here.
        self.flush().await?;
        self.unsent.extend_from_slice(&frame);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), SpdyError> {
        while self.unsent.has_remaining() {
            self.io.write_buf(&mut self.unsent).await?;
        }
        Ok(self.io.flush().await?)
    }
}

/// The receiving side of a connection. Streams are served only while [`Driver::run`] is polled.
pub(crate) struct Driver<S> {
    io: ReadHalf<S>,
    headers: HeaderReader,
    outgoing: Arc<Mutex<Outgoing>>,
    streams: HashMap<u32, mpsc::Sender<Bytes>>,
    opened: mpsc::Sender<SpdyStream>,
}

/// Takes over a connection; the receiver yields the streams that the client opens.
pub(crate) fn open<S>(io: S) -> (Driver<S>, mpsc::Receiver<SpdyStream>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = tokio::io::split(io);
    let outgoing = Outgoing { io: Box::new(writer), headers: HeaderWriter::new(), unsent: BytesMut::new() };
    let (opened, incoming) = mpsc::channel(STREAMS_WAITING_MAX);
    let driver = Driver {
        io: reader,
        headers: HeaderReader::new(),
        outgoing: Arc::new(Mutex::new(outgoing)),
        streams: HashMap::new(),
        opened,
    };
    (driver, incoming)
}

impl<S: AsyncRead> Driver<S> {
    /// Reads until the client closes the connection or breaks the protocol.
    pub(crate) async fn run(mut self) -> Result<(), SpdyError> {
        loop {
            let mut head = [0; HEAD_BYTES];
            match self.io.read_exact(&mut head).await {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                other => other?,
            };
            let mut payload = vec![0; frame::payload_bytes(&head)?];
            self.io.read_exact(&mut payload).await?;
            match frame::parse(&head, payload)? {
                Frame::SynStream { stream, fin, block } => self.take_stream(stream, fin, &block).await?,
                Frame::Headers { block } => drop(self.headers.read(&block)?),
                Frame::Data { stream, fin, bytes } => self.take_data(stream, fin, bytes).await,
                Frame::Reset { stream } => drop(self.streams.remove(&stream)),
                Frame::Ping { id } => self.outgoing.lock().await.send(frame::ping(id)).await?,
                Frame::GoAway => return Ok(()),
                Frame::Other => {}
            }
        }
    }

    async fn take_stream(&mut self, id: u32, fin: bool, block: &[u8]) -> Result<(), SpdyError> {
        let headers = self.headers.read(block)?;
        self.streams.retain(|_, frames| !frames.is_closed());
        let mut outgoing = self.outgoing.lock().await;
        if self.streams.len() >= STREAMS_MAX || self.streams.contains_key(&id) {
            return outgoing.send(frame::reset(id, REFUSED_STREAM)).await;
        }
        let reply = outgoing.headers.write(&[])?;
        outgoing.send(frame::syn_reply(id, &reply)).await?;
        drop(outgoing);
        let (sender, frames) = mpsc::channel(FRAMES_WAITING_MAX);
        if !fin {
            self.streams.insert(id, sender);
        }
        let writer = StreamWriter { id, outgoing: Arc::clone(&self.outgoing) };
        let stream = SpdyStream { headers, reader: StreamReader { frames }, writer };
        let _nobody_wants_it = self.opened.send(stream).await;
        Ok(())
    }

    async fn take_data(&mut self, id: u32, fin: bool, bytes: Vec<u8>) {
        if let Some(frames) = self.streams.get(&id).filter(|_| !bytes.is_empty()) {
            // A reader that is gone wants no more.
            let _ = frames.send(bytes.into()).await;
        }
        if fin {
            self.streams.remove(&id);
        }
    }
}
