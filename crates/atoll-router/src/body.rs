//! The body of a sandbox's answer on its way to the client: passed on frame by frame, and cut off when the sandbox
//! goes, when nothing moves for too long, or when the router ends.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use atoll_rt::CancellationToken;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::lease::Lease;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CutOff {
    #[error("the sandbox is gone")]
    Gone,
    #[error("nothing was sent for too long")]
    Idle,
}

/// A streaming answer that holds its place in the router's limits until it ends.
pub(crate) struct StreamedBody {
    inner: Incoming,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    idle: Pin<Box<Sleep>>,
    idle_limit: Duration,
    _lease: Lease,
}

impl StreamedBody {
    pub(crate) fn new(inner: Incoming, lease: Lease, cut: [CancellationToken; 2], idle_limit: Duration) -> Self {
        let [gone, drained] = cut;
        let cut = Box::pin(async move {
            tokio::select! {
                () = gone.cancelled() => {}
                () = drained.cancelled() => {}
            }
        });
        Self { inner, cut, idle: Box::pin(tokio::time::sleep(idle_limit)), idle_limit, _lease: lease }
    }
}

impl Body for StreamedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            let deadline = Instant::now() + this.idle_limit;
            this.idle.as_mut().reset(deadline);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if this.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(CutOff::Gone.into())));
        }
        if this.idle.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(CutOff::Idle.into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
