//! Answers: whole, in pieces, or a watch that goes on.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::node_proxy::NodeBody;
use crate::watch::WatchStream;

/// The body of an answer.
pub struct ResponseBody(Content);

enum Content {
    Pieces(VecDeque<Bytes>),
    Watch(Box<WatchStream>),
    Node(NodeBody),
}

impl ResponseBody {
    pub(crate) fn empty() -> Self {
        Self(Content::Pieces(VecDeque::new()))
    }

    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::pieces([bytes.into()])
    }

    pub(crate) fn pieces(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        Self(Content::Pieces(pieces.into_iter().filter(|piece| !piece.is_empty()).collect()))
    }

    pub(crate) fn watch(stream: WatchStream) -> Self {
        Self(Content::Watch(Box::new(stream)))
    }

    pub(crate) fn from_node(body: NodeBody) -> Self {
        Self(Content::Node(body))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut self.0 {
            Content::Pieces(pieces) => pieces.pop_front(),
            Content::Watch(stream) => std::task::ready!(stream.poll_next(context)),
            Content::Node(body) => return Pin::new(body).poll_frame(context),
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Pieces(pieces) => pieces.is_empty(),
            Content::Watch(_) => false,
            Content::Node(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Pieces(pieces) => SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum()),
            Content::Watch(_) => SizeHint::default(),
            Content::Node(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match &self.0 {
            Content::Pieces(_) => "ResponseBody(pieces)",
            Content::Watch(_) => "ResponseBody(watch)",
            Content::Node(_) => "ResponseBody(node)",
        })
    }
}
