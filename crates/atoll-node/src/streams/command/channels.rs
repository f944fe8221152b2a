//! Commands over a WebSocket: each message is one byte of channel and what is in it.

use async_trait::async_trait;
use atoll_client::sandbox::TerminalSize;
use bytes::{Buf, Bytes};
use futures::stream::{SplitSink, StreamExt};
use futures::{SinkExt, future};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{CommandOptions, Gone, Input, Outputs, Peer, Source};

/// What is spoken, best first: the fifth version can end standard input.
pub(in crate::streams) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// The size of a terminal, as clients tell it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Size {
    pub(super) width: u16,
    pub(super) height: u16,
}

impl From<Size> for TerminalSize {
    fn from(size: Size) -> Self {
        Self { cols: size.width, rows: size.height }
    }
}

/// A client behind a WebSocket.
pub(in crate::streams) async fn over_websocket<S>(
    socket: WebSocketStream<S>,
    protocol: &'static str,
    options: &CommandOptions,
) -> Result<Peer, Gone>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sink, messages) = socket.split();
    let may_end = protocol == PROTOCOLS[0];
    let inputs = messages
        .take_while(|message| future::ready(!matches!(message, Err(_) | Ok(Message::Close(_)))))
        .filter_map(move |message| future::ready(message.ok().and_then(|message| input(message, may_end))));
    let mut outputs = Channels { sink, stdout: options.stdout, stderr: options.stderr };
    // An empty message says that the connection stands.
    let first = if options.stdout {
        STDOUT
    } else if options.stderr {
        STDERR
    } else {
        STATUS
    };
    outputs.send(first, &[]).await?;
    Ok(Peer { inputs: inputs.fuse().boxed(), outputs: Box::new(outputs) })
}

fn input(message: Message, may_end: bool) -> Option<Input> {
    let mut bytes: Bytes = match message {
        Message::Binary(bytes) => bytes,
        Message::Text(text) => text.into(),
        _ => return None,
    };
    let channel = *bytes.first()?;
    bytes.advance(1);
    match channel {
        STDIN if !bytes.is_empty() => Some(Input::Stdin(bytes)),
        RESIZE => serde_json::from_slice::<Size>(&bytes).ok().map(|size| Input::Resize(size.into())),
        CLOSE if may_end && bytes.first() == Some(&STDIN) => Some(Input::StdinEof),
        _ => None,
    }
}

struct Channels<S> {
    sink: SplitSink<WebSocketStream<S>, Message>,
    stdout: bool,
    stderr: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channels<S> {
    async fn send(&mut self, channel: u8, bytes: &[u8]) -> Result<(), Gone> {
        let mut message = Vec::with_capacity(bytes.len() + 1);
        message.push(channel);
        message.extend_from_slice(bytes);
        self.sink.send(Message::Binary(message.into())).await.map_err(|_| Gone)
    }
}

#[async_trait]
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Outputs for Channels<S> {
    async fn output(&mut self, source: Source, bytes: &[u8]) -> Result<(), Gone> {
        match source {
            Source::Stdout if self.stdout => self.send(STDOUT, bytes).await,
            Source::Stderr if self.stderr => self.send(STDERR, bytes).await,
            _ => Ok(()),
        }
    }

    async fn finish(&mut self, status: &Value) -> Result<(), Gone> {
        self.send(STATUS, status.to_string().as_bytes()).await?;
        // Without a code of their own, clients take the end for an accident.
        let close = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        self.sink.send(Message::Close(Some(close))).await.map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_by_their_channel() {
        let resize = [&[RESIZE][..], br#"{"Width":100,"Height":40}"#].concat();
        let cases = [
            (vec![STDIN, b'x'], Some(Input::Stdin(Bytes::from_static(b"x")))),
            (vec![STDIN], None),
            (vec![], None),
            (vec![CLOSE, STDIN], Some(Input::StdinEof)),
            (vec![CLOSE, STDOUT], None),
            (resize, Some(Input::Resize(TerminalSize { cols: 100, rows: 40 }))),
            (vec![RESIZE, b'{'], None),
            (vec![STDOUT, b'x'], None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(input(Message::Binary(bytes.clone().into()), true), expected, "{bytes:?}");
        }
        assert_eq!(input(Message::Binary(vec![CLOSE, STDIN].into()), false), None, "the fourth version cannot");
    }
}
