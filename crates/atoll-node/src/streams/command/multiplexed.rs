//! Commands over SPDY: a stream each for the status, standard input, output and error, and the terminal's size.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use http::HeaderMap;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::channels::Size;
use super::{CommandOptions, Gone, Input, Outputs, Peer, Source};
use crate::streams::StreamRefusal;
use crate::streams::spdy::{self, SpdyStream, StreamReader, StreamWriter, header};

/// What is spoken.
const PROTOCOL: &str = "v4.channel.k8s.io";
/// Names the protocols that a client offers, and the one that is settled on.
pub(in crate::streams) const PROTOCOL_HEADER: &str = "x-stream-protocol-version";
/// How long a client may take to open its streams.
const STREAMS_PATIENCE: Duration = Duration::from_secs(30);

/// The protocol that both sides know.
pub(in crate::streams) fn settle_protocol(
    headers: &HeaderMap,
    known: &'static str,
) -> Result<&'static str, StreamRefusal> {
    let mut offered = headers.get_all(PROTOCOL_HEADER).iter().filter_map(|value| value.to_str().ok());
    let is_offered = offered.any(|value| value.split(',').any(|one| one.trim() == known));
    if is_offered {
        return Ok(known);
    }
    Err(StreamRefusal::bad_request(format!("{PROTOCOL_HEADER} must offer {known}")))
}

/// The protocol of commands.
pub(in crate::streams) fn command_protocol(headers: &HeaderMap) -> Result<&'static str, StreamRefusal> {
    settle_protocol(headers, PROTOCOL)
}

#[derive(Default)]
struct Streams {
    status: Option<StreamWriter>,
    stdin: Option<StreamReader>,
    stdout: Option<StreamWriter>,
    stderr: Option<StreamWriter>,
    resize: Option<StreamReader>,
}

impl Streams {
    fn take(&mut self, stream: SpdyStream) {
        let SpdyStream { headers, reader, writer } = stream;
        match header(&headers, "streamtype") {
            Some("error") => self.status = Some(writer),
            Some("stdin") => self.stdin = Some(reader),
            Some("stdout") => self.stdout = Some(writer),
            Some("stderr") => self.stderr = Some(writer),
            Some("resize") => self.resize = Some(reader),
            _ => {}
        }
    }

    fn are_complete(&self, options: &CommandOptions) -> bool {
        self.status.is_some()
            && (!options.stdin || self.stdin.is_some())
            && (!options.stdout || self.stdout.is_some())
            && (!options.stderr || self.stderr.is_some())
            && (!options.tty || self.resize.is_some())
    }
}

/// A client behind a SPDY connection.
pub(in crate::streams) async fn over_spdy<S>(io: S, options: &CommandOptions) -> Result<Peer, Gone>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (driver, mut incoming) = spdy::open(io);
    let mut driver = Box::pin(driver.run());
    let mut streams = Streams::default();
    let collect = async {
        while !streams.are_complete(options) {
            tokio::select! {
                Some(stream) = incoming.recv() => streams.take(stream),
                _ended = &mut driver => return Err(Gone),
            }
        }
        Ok(())
    };
    tokio::time::timeout(STREAMS_PATIENCE, collect).await.map_err(|_| Gone)??;
    let Streams { status, stdin, stdout, stderr, resize } = streams;
    let stdin = stdin.filter(|_| options.stdin).map_or_else(|| stream::pending().boxed(), stdin_inputs);
    let resize = resize.map_or_else(|| stream::pending().boxed(), resize_inputs);
    // Streams are open to the end of the connection, whatever the client has closed.
    let inputs = stream::select(stdin, resize).take_until(async move {
        let _how = driver.await;
        drop(incoming);
    });
    let outputs = Multiplexed { status: status.ok_or(Gone)?, stdout, stderr };
    Ok(Peer { inputs: inputs.fuse().boxed(), outputs: Box::new(outputs) })
}

fn stdin_inputs(reader: StreamReader) -> BoxStream<'static, Input> {
    let bytes = stream::unfold(reader, |mut reader| async move { reader.next().await.map(|bytes| (bytes, reader)) });
    bytes.map(Input::Stdin).chain(stream::once(async { Input::StdinEof })).chain(stream::pending()).boxed()
}

/// Sizes come as JSON documents one after the other, usually one a frame.
fn resize_inputs(reader: StreamReader) -> BoxStream<'static, Input> {
    let frames = stream::unfold(reader, |mut reader| async move { reader.next().await.map(|bytes| (bytes, reader)) });
    let sizes = frames.flat_map(|bytes| {
        let sizes: Vec<Input> = serde_json::Deserializer::from_slice(&bytes)
            .into_iter::<Size>()
            .map_while(Result::ok)
            .map(|size| Input::Resize(size.into()))
            .collect();
        stream::iter(sizes)
    });
    sizes.chain(stream::pending()).boxed()
}

struct Multiplexed {
    status: StreamWriter,
    stdout: Option<StreamWriter>,
    stderr: Option<StreamWriter>,
}

#[async_trait]
impl Outputs for Multiplexed {
    async fn output(&mut self, source: Source, bytes: &[u8]) -> Result<(), Gone> {
        let writer = match source {
            Source::Stdout => &self.stdout,
            Source::Stderr => &self.stderr,
        };
        match writer {
            Some(writer) => writer.send(bytes).await.map_err(|_| Gone),
            None => Ok(()),
        }
    }

    async fn finish(&mut self, status: &Value) -> Result<(), Gone> {
        for writer in [&self.stdout, &self.stderr].into_iter().flatten() {
            writer.finish().await.map_err(|_| Gone)?;
        }
        self.status.send(status.to_string().as_bytes()).await.map_err(|_| Gone)?;
        self.status.finish().await.map_err(|_| Gone)
    }
}
