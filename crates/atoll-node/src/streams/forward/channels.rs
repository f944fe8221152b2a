//! Ports over a WebSocket's channels: for each port asked for in the query one for data and one for errors. One
//! connection a port, for the life of the WebSocket.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use futures::SinkExt;
use futures::stream::{FuturesUnordered, SplitSink, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::{Destination, Sink, Source};
use crate::streams::StreamRefusal;

/// What is spoken.
pub(in crate::streams) const PROTOCOLS: [&str; 1] = ["v4.channel.k8s.io"];
/// Channels are numbered by one byte, two a port.
const PORTS_MAX: usize = 64;
const MESSAGES_WAITING_MAX: usize = 32;

/// The ports of a query: `ports=80,81` or `ports` several times.
pub(in crate::streams) fn ports(query: &[(String, String)]) -> Result<Vec<u16>, StreamRefusal> {
    let texts = query.iter().filter(|(name, _)| name == "ports").flat_map(|(_, value)| value.split(','));
    let ports: Vec<u16> = texts
        .map(|text| {
            let port = text.parse().ok().filter(|port| *port > 0);
            port.ok_or_else(|| StreamRefusal::bad_request(format!("{text:?} is not a port")))
        })
        .collect::<Result<_, _>>()?;
    match ports.len() {
        0 => Err(StreamRefusal::bad_request("at least one port must be given in the query: ports=")),
        1..=PORTS_MAX => Ok(ports),
        _ => Err(StreamRefusal::bad_request(format!("at most {PORTS_MAX} ports can be forwarded"))),
    }
}

type Sender<S> = Arc<Mutex<SplitSink<WebSocketStream<S>, Message>>>;

/// Serves a client until it hangs up.
pub(in crate::streams) async fn over_websocket<S>(socket: WebSocketStream<S>, ports: Vec<u16>, destination: Destination)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sink, mut messages) = socket.split();
    let sender: Sender<S> = Arc::new(Mutex::new(sink));
    let mut inboxes = Vec::new();
    let mut forwards = FuturesUnordered::new();
    for (index, port) in ports.into_iter().enumerate() {
        let (inbox, sent) = mpsc::channel(MESSAGES_WAITING_MAX);
        inboxes.push(Some(inbox));
        let channel = u8::try_from(2 * index).expect("ports are few");
        forwards.push(forward(Arc::clone(&sender), channel, port, Sent(sent), &destination));
    }
    let deliver = async {
        while let Some(Ok(message)) = messages.next().await {
            let Message::Binary(mut bytes) = message else { continue };
            let Some(channel) = bytes.first().copied() else { continue };
            bytes.advance(1);
            let inbox = inboxes.get(usize::from(channel / 2)).filter(|_| channel.is_multiple_of(2));
            if let Some(Some(inbox)) = inbox {
                // A port whose connection has ended takes no more.
                let _ = inbox.send(bytes).await;
            }
        }
    };
    let serve = async { while forwards.next().await.is_some() {} };
    tokio::select! {
        () = deliver => {}
        () = serve => {
            let _ = sender.lock().await.close().await;
        }
    }
}

async fn forward<S>(sender: Sender<S>, channel: u8, port: u16, mut source: Sent, destination: &Destination)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut sink = Received { sender: Arc::clone(&sender), channel };
    let mut errors = Received { sender, channel: channel + 1 };
    // The first message of each channel is the port, so that clients know which is which.
    let is_there = sink.bytes(&port.to_le_bytes()).await && errors.bytes(&port.to_le_bytes()).await;
    if !is_there {
        return;
    }
    if let Err(message) = destination.join(port, &mut source, &mut sink).await {
        errors.bytes(message.as_bytes()).await;
    }
}

struct Sent(mpsc::Receiver<Bytes>);

#[async_trait]
impl Source for Sent {
    async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }
}

struct Received<S> {
    sender: Sender<S>,
    channel: u8,
}

#[async_trait]
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Sink for Received<S> {
    async fn bytes(&mut self, bytes: &[u8]) -> bool {
        let mut message = Vec::with_capacity(bytes.len() + 1);
        message.push(self.channel);
        message.extend_from_slice(bytes);
        self.sender.lock().await.send(Message::Binary(message.into())).await.is_ok()
    }

    /// This protocol has no way to say it.
    async fn end(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_the_query() {
        let check = |pairs: &[(&str, &str)]| {
            let query: Vec<(String, String)> =
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            ports(&query).map_err(|refusal| refusal.message)
        };
        assert_eq!(check(&[("ports", "80,81"), ("x", "1"), ("ports", "82")]), Ok(vec![80, 81, 82]));
        assert!(check(&[]).is_err_and(|message| message.contains("at least one")));
        assert!(check(&[("ports", "0")]).is_err_and(|message| message.contains("\"0\"")));
        assert!(check(&[("ports", "http")]).is_err());
        assert!(check(&[("ports", &vec!["1"; 65].join(","))]).is_err_and(|message| message.contains("at most 64")));
    }
}
