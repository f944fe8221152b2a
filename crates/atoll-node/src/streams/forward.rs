//! `portforward`: connections of a client to ports of a Pod.

mod channels;
mod pairs;

use std::sync::Arc;

use async_trait::async_trait;
use atoll_client::sandbox::{ForwardReader, ForwardWriter, SandboxConnection};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

pub(super) use channels::{PROTOCOLS as CHANNEL_PROTOCOLS, over_websocket, ports};
pub(super) use pairs::over_spdy;

const READ_BYTES: usize = 16 * 1024;

/// What SPDY streams are for, in the word of client-go.
pub(super) const PROTOCOL: &str = "portforward.k8s.io";
/// SPDY within a WebSocket, as `kubectl` since 1.31 asks for it.
pub(super) const TUNNEL_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";

/// A part of the plane that has ports.
pub trait PlanePart: Send + Sync + 'static {
    /// A new connection to a port, for a user of the API server; `None` when nothing listens there.
    fn connect(&self, port: u16, user: &str, groups: &[String]) -> Option<DuplexStream>;
}

/// How ports are reached.
#[derive(Clone)]
pub(super) enum Reach {
    /// Within a sandbox.
    Guest(SandboxConnection),
    /// In this process.
    Part { part: Arc<dyn PlanePart>, user: String, groups: Vec<String> },
}

/// The Pod that is reached.
#[derive(Clone)]
pub(super) struct Destination {
    pub(super) reach: Reach,
    /// `NAME, uid UID`, for errors.
    pub(super) named: String,
}

/// Takes the bytes that come from a port.
#[async_trait]
trait Sink: Send {
    async fn bytes(&mut self, bytes: &[u8]) -> bool;
    async fn end(&mut self);
}

/// Yields the bytes that go to a port.
#[async_trait]
trait Source: Send {
    async fn next(&mut self) -> Option<Bytes>;
}

impl Destination {
    /// Joins a client's two directions with a port until both have ended or one has failed.
    ///
    /// # Errors
    /// Why the port cannot be reached, in words for the client.
    async fn join(&self, port: u16, source: &mut impl Source, sink: &mut impl Sink) -> Result<(), String> {
        let (reader, writer) = self
            .connect(port)
            .await
            .map_err(|why| format!("error forwarding port {port} to pod {}: {why}", self.named))?;
        tokio::try_join!(up(source, writer), down(reader, sink)).map_or(Ok(()), |_both_ended| Ok(()))
    }

    async fn connect(&self, port: u16) -> Result<(FromPort, ToPort), String> {
        match &self.reach {
            Reach::Guest(guest) => {
                let (reader, writer) = guest.connect(port).await.map_err(|error| atoll_stdx::chain(&error))?;
                Ok((FromPort::Guest(reader), ToPort::Guest(writer)))
            }
            Reach::Part { part, user, groups } => {
                let stream = part.connect(port, user, groups).ok_or("nothing listens there")?;
                let (reader, writer) = tokio::io::split(stream);
                Ok((FromPort::Part(reader), ToPort::Part(writer)))
            }
        }
    }
}

enum FromPort {
    Guest(ForwardReader),
    Part(ReadHalf<DuplexStream>),
}

impl FromPort {
    /// The next bytes; `None` when no more come.
    async fn next(&mut self) -> Result<Option<Bytes>, Failed> {
        match self {
            Self::Guest(reader) => reader.next_chunk().await.map_err(|_| Failed),
            Self::Part(reader) => {
                let mut bytes = BytesMut::with_capacity(READ_BYTES);
                let count = reader.read_buf(&mut bytes).await.map_err(|_| Failed)?;
                Ok((count > 0).then(|| bytes.freeze()))
            }
        }
    }
}

enum ToPort {
    Guest(ForwardWriter),
    Part(WriteHalf<DuplexStream>),
}

impl ToPort {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        match self {
            Self::Guest(writer) => writer.write(bytes).await.map_err(|_| Failed),
            Self::Part(writer) => writer.write_all(bytes).await.map_err(|_| Failed),
        }
    }

    async fn finish(&mut self) -> Result<(), Failed> {
        match self {
            Self::Guest(writer) => writer.finish().await.map_err(|_| Failed),
            Self::Part(writer) => writer.shutdown().await.map_err(|_| Failed),
        }
    }
}

/// The other direction has no sense any more.
struct Failed;

async fn up(source: &mut impl Source, mut port: ToPort) -> Result<(), Failed> {
    while let Some(bytes) = source.next().await {
        port.write(&bytes).await?;
    }
    port.finish().await
}

async fn down(mut port: FromPort, sink: &mut impl Sink) -> Result<(), Failed> {
    while let Some(bytes) = port.next().await? {
        if !sink.bytes(&bytes).await {
            return Err(Failed);
        }
    }
    sink.end().await;
    Ok(())
}
