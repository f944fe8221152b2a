//! Dialling what was checked, and carrying bytes both ways while they are counted and while it stays allowed.

use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Shared;
use super::session::Target;
use crate::record::{About, ConnectionRecord, Stage};
use crate::snapshot::SandboxPolicy;
use crate::verdict::{self, Grant, Refusal};

const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses that are tried.
const TRIES_MAX: usize = 3;
/// Bytes on their way in each direction.
const BUFFER_BYTES: usize = 64 * 1024;

/// A connection that is allowed, where to, and by what.
pub(super) struct Allowed {
    pub(super) target: Target,
    pub(super) grant: Grant,
    /// Checked, to be tried in turn.
    pub(super) addresses: Vec<Ipv4Addr>,
}

impl Shared {
    /// Whether a target may be reached, and at which addresses.
    pub(super) async fn allow(&self, policy: &SandboxPolicy, target: &Target) -> Result<Allowed, Refusal> {
        let permitted = &self.snapshot().permitted_for_names;
        let (grant, addresses) = match target {
            Target::Address(address, port) => {
                (verdict::by_address(policy, permitted, *address, *port)?, vec![*address])
            }
            Target::Name(name, port) => {
                let grant = verdict::by_name(policy, name, *port)?;
                let found = self.lookup.addresses(name).await;
                let found = found.map_err(|error| Refusal::Unreachable(name.to_string(), error.to_string()))?;
                let addresses = verdict::verified(policy, &grant, permitted, name, *port, &found)?;
                (grant, addresses)
            }
        };
        Ok(Allowed { target: target.clone(), grant, addresses })
    }

    /// Connects to the first checked address that answers.
    pub(super) async fn dial(&self, allowed: &Allowed) -> Result<(TcpStream, Ipv4Addr), Refusal> {
        let mut problem = None;
        for address in allowed.addresses.iter().take(TRIES_MAX) {
            let dialled =
                tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect((*address, allowed.target.port()))).await;
            match dialled.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => {
                    // As for the accepted side.
                    let _ = stream.set_nodelay(true);
                    return Ok((stream, *address));
                }
                Err(error) => problem = Some(error),
            }
        }
        let why = problem.map_or_else(|| "no address".to_owned(), |error| error.to_string());
        Err(Refusal::Unreachable(allowed.target.to_string(), why))
    }

    /// Returns when a target is not allowed any more, to the same sandbox.
    pub(super) async fn revoked(&self, sandbox: Ipv4Addr, uid: &str, target: &Target, address: Option<Ipv4Addr>) {
        let mut changes = self.policy.clone();
        loop {
            {
                let snapshot = Arc::clone(&changes.borrow_and_update());
                let permitted = &snapshot.permitted_for_names;
                let allowed =
                    snapshot.sandboxes.get(&sandbox).filter(|policy| policy.uid == uid).is_some_and(|policy| {
                        match target {
                            Target::Address(address, port) => {
                                verdict::by_address(policy, permitted, *address, *port).is_ok()
                            }
                            Target::Name(name, port) => verdict::by_name(policy, name, *port).is_ok_and(|grant| {
                                let is_verified = |address| {
                                    verdict::verified(policy, &grant, permitted, name, *port, &[address]).is_ok()
                                };
                                address.is_none_or(is_verified)
                            }),
                        }
                    });
                if !allowed {
                    return;
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// One connection on the record: its beginning when this is made, its end when [`Ledger::close`] is called.
pub(super) struct Ledger {
    pub(super) about: About,
    pub(super) counters: Arc<Counters>,
    rule: String,
    since: Instant,
}

/// Bytes that went each way.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

impl Ledger {
    /// Records the beginning; `None` when that cannot be done.
    pub(super) async fn open(shared: &Shared, policy: &SandboxPolicy, about: About, rule: &str) -> Option<Self> {
        let record = ConnectionRecord { rule: Some(rule.to_owned()), ..about.record(policy) };
        let written = shared.record(record).await;
        written.then(|| Self { about, counters: Arc::default(), rule: rule.to_owned(), since: Instant::now() })
    }

    /// Records the end.
    pub(super) async fn close(self, shared: &Shared, policy: &SandboxPolicy, refusal: Option<&Refusal>) {
        let record = ConnectionRecord {
            stage: Stage::Closed,
            at_unix_ms: atoll_rt::clock::now_unix_ms(),
            rule: Some(self.rule),
            reason: refusal.map(ToString::to_string),
            bytes_sent: self.counters.sent.load(Ordering::Relaxed),
            bytes_received: self.counters.received.load(Ordering::Relaxed),
            duration_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..self.about.record(policy)
        };
        let _nobody_listens = shared.record(record).await;
    }
}

/// Carries bytes until both sides are done, one fails, or `revoked` returns.
pub(super) async fn carry<A, B>(
    mut inside: A,
    outside: B,
    counters: &Arc<Counters>,
    revoked: impl Future<Output = ()>,
) -> Option<Refusal>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut counted = Counted { stream: outside, counters: Arc::clone(counters) };
    tokio::select! {
        _done = tokio::io::copy_bidirectional_with_sizes(&mut inside, &mut counted, BUFFER_BYTES, BUFFER_BYTES) => None,
        () = revoked => Some(Refusal::Revoked),
    }
}

/// The outside's stream, with its bytes counted.
pub(super) struct Counted<S> {
    pub(super) stream: S,
    pub(super) counters: Arc<Counters>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.counters.received.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.counters.sent.fetch_add(*written as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
