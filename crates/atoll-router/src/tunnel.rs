//! An upgraded connection (WebSocket, a guest session, …): bytes both ways until one side is done.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use atoll_rt::CancellationToken;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::lease::Lease;
use crate::metrics::{Gauge, Metrics};

const COPY_BUFFER_BYTES: usize = 64 * 1024;

/// Both ends of a tunnel to be.
pub(crate) struct Tunnel {
    pub(crate) client: OnUpgrade,
    pub(crate) sandbox: OnUpgrade,
    pub(crate) gone: CancellationToken,
    pub(crate) drained: CancellationToken,
    pub(crate) idle_limit: Duration,
    pub(crate) lease: Lease,
}

impl Tunnel {
    /// Copies until both directions have ended, the sandbox is gone, the router ends, or nothing moved for too long.
    pub(crate) async fn run(self, metrics: Arc<Metrics>) {
        let _gauge = Gauge::raise(&metrics, |metrics| &metrics.tunnels);
        let _lease = self.lease;
        let (client, sandbox) = match tokio::try_join!(self.client, self.sandbox) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(cause = %atoll_stdx::chain(&error), "an upgrade was not completed");
                return;
            }
        };
        let moved = Arc::new(AtomicU64::new(0));
        let mut client = Counted { inner: TokioIo::new(client), moved: Arc::clone(&moved) };
        let mut sandbox = Counted { inner: TokioIo::new(sandbox), moved: Arc::clone(&moved) };
        let copy =
            tokio::io::copy_bidirectional_with_sizes(&mut client, &mut sandbox, COPY_BUFFER_BYTES, COPY_BUFFER_BYTES);
        tokio::select! {
            outcome = copy => {
                if let Err(error) = outcome {
                    tracing::debug!(cause = %error, "a tunnel broke");
                }
            }
            () = self.gone.cancelled() => tracing::debug!("a tunnel's sandbox is gone"),
            () = self.drained.cancelled() => tracing::debug!("a tunnel was cut off by the drain"),
            () = idle(&moved, self.idle_limit) => tracing::debug!("a tunnel was idle for too long"),
        }
    }
}

/// Returns once nothing was read for a whole period.
async fn idle(moved: &AtomicU64, limit: Duration) {
    loop {
        let before = moved.load(Ordering::Relaxed);
        tokio::time::sleep(limit).await;
        if moved.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

/// Counts what is read.
struct Counted<I> {
    inner: I,
    moved: Arc<AtomicU64>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Counted<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buffer);
        if polled.is_ready() {
            this.moved.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Counted<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
