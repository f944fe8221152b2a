//! Ports over SPDY: for each connection a stream for errors and one for data, paired by their request id.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Destination, Sink, Source};
use crate::streams::spdy::{self, SpdyStream, StreamReader, StreamWriter, header};

/// Streams whose other half has not come.
const UNPAIRED_MAX: usize = 256;

/// Serves a client until it hangs up.
pub(in crate::streams) async fn over_spdy<S>(io: S, destination: Destination)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (driver, mut incoming) = spdy::open(io);
    let mut driver = std::pin::pin!(driver.run());
    let mut unpaired: HashMap<String, SpdyStream> = HashMap::new();
    let mut forwards = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(stream) = incoming.recv() => {
                if let Some(pair) = pair_up(&mut unpaired, stream) {
                    forwards.push(forward(pair, &destination));
                }
            }
            Some(()) = forwards.next() => {}
            ended = &mut driver => {
                if let Err(error) = ended {
                    tracing::debug!(cause = %atoll_stdx::chain(&error), "a port-forward ended early");
                }
                return;
            }
        }
    }
}

struct Pair {
    error: SpdyStream,
    data: SpdyStream,
}

fn pair_up(unpaired: &mut HashMap<String, SpdyStream>, stream: SpdyStream) -> Option<Pair> {
    let request = header(&stream.headers, "requestid").unwrap_or_default().to_owned();
    match unpaired.remove(&request) {
        None => {
            if unpaired.len() < UNPAIRED_MAX {
                unpaired.insert(request, stream);
            }
            None
        }
        Some(other) if header(&other.headers, "streamtype") == Some("error") => {
            Some(Pair { error: other, data: stream })
        }
        Some(other) => Some(Pair { error: stream, data: other }),
    }
}

async fn forward(pair: Pair, destination: &Destination) {
    let Pair { error, data } = pair;
    let port = header(&data.headers, "port").and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    let (mut source, mut sink) = (Sent(data.reader), Received(data.writer.clone()));
    let outcome = match port {
        Some(port) => destination.join(port, &mut source, &mut sink).await,
        None => Err("the port is not a number from 1 to 65535".to_owned()),
    };
    // A client that is gone is not told; one that stays waits for the ends of both streams.
    if let Err(message) = outcome {
        let _ = error.writer.send(message.as_bytes()).await;
    }
    let _ = error.writer.finish().await;
    let _ = data.writer.finish().await;
}

struct Sent(StreamReader);

#[async_trait]
impl Source for Sent {
    async fn next(&mut self) -> Option<Bytes> {
        self.0.next().await
    }
}

struct Received(StreamWriter);

#[async_trait]
impl Sink for Received {
    async fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.0.send(bytes).await.is_ok()
    }

    async fn end(&mut self) {
        let _ = self.0.finish().await;
    }
}
