//! One connection of a sandbox, from its first bytes to the side that carries it.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use atoll_sandbox::network::rules::EXPLICIT_PROXY_PORT;
use atoll_sandbox::spec::ROUTER_ADDRESS;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use super::relay::{Ledger, carry};
use super::{Accepted, Shared, http};
use crate::hello::{self, Hello};
use crate::name::HostName;
use crate::record::Spoken;
use crate::snapshot::SandboxPolicy;
use crate::synthetic::is_synthetic;
use crate::verdict::{self, Grant, Refusal};

const READ_BYTES: usize = 4096;

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Name(HostName, u16),
    Address(Ipv4Addr, u16),
}

impl Target {
    pub(super) fn port(&self) -> u16 {
        match self {
            Self::Name(_, port) | Self::Address(_, port) => *port,
        }
    }

    pub(super) fn name(&self) -> Option<&HostName> {
        match self {
            Self::Name(name, _) => Some(name),
            Self::Address(..) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name, port) => write!(formatter, "{name}:{port}"),
            Self::Address(address, port) => write!(formatter, "{address}:{port}"),
        }
    }
}

/// Any stream of bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Whose connection it is.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) sandbox: Ipv4Addr,
    pub(super) policy: Arc<SandboxPolicy>,
    _room: Arc<[OwnedSemaphorePermit; 2]>,
}

/// Serves one accepted connection.
pub(super) async fn serve(shared: Arc<Shared>, accepted: Accepted) {
    let Accepted { stream, sandbox, own_room, _room } = accepted;
    // A stranger learns nothing.
    let Some(policy) = shared.policy_of(sandbox) else { return };
    let Ok(original) = (shared.original_destination)(&stream) else { return };
    let (address, port) = (*original.ip(), original.port());
    let Some(own_room) = own_room else {
        let about = shared.about(Spoken::Tcp, port);
        return shared.refuse(&policy, &about, &Refusal::TooMany).await;
    };
    let session = Session { shared, sandbox, policy: Arc::new(policy), _room: Arc::new([_room, own_room]) };
    if address == ROUTER_ADDRESS && port == EXPLICIT_PROXY_PORT {
        return http::serve_explicit(session, stream).await;
    }
    if !is_synthetic(address) {
        return session.serve_target(stream, Target::Address(address, port)).await;
    }
    let name = session.shared.names().name_of(address).cloned();
    match name {
        Some(name) => session.serve_target(stream, Target::Name(name, port)).await,
        // Forgotten: the connection itself must tell.
        None => session.serve_unnamed(stream, port).await,
    }
}

impl Session {
    /// As the policies are now.
    pub(super) fn refreshed(&self) -> Option<Arc<SandboxPolicy>> {
        self.shared.policy_of(self.sandbox).filter(|policy| policy.uid == self.policy.uid).map(Arc::new)
    }

    pub(super) async fn refuse(&self, protocol: Spoken, target: Option<&Target>, port: u16, refusal: &Refusal) {
        let mut about = self.shared.about(protocol, port);
        about.name = target.and_then(Target::name).map(ToString::to_string);
        about.address = match (target, refusal) {
            (Some(Target::Address(address, _)), _) | (_, Refusal::Unsafe(_, address)) => Some(*address),
            _ => None,
        };
        self.shared.refuse(&self.policy, &about, refusal).await;
    }

    /// Serves a connection whose destination is known.
    pub(super) async fn serve_target<S: Stream>(self, stream: S, target: Target) {
        let permitted = self.shared.snapshot();
        let judged = match &target {
            Target::Name(name, port) => verdict::by_name(&self.policy, name, *port),
            Target::Address(address, port) => {
                verdict::by_address(&self.policy, &permitted.permitted_for_names, *address, *port)
            }
        };
        match (judged, &target) {
            (Err(refusal), _) => self.refuse(Spoken::Tcp, Some(&target), target.port(), &refusal).await,
            (Ok(Grant::Rule(active)), Target::Name(name, port)) if !active.allow.raw => {
                let (name, port) = (name.clone(), *port);
                self.inspect(stream, Some(name), port).await;
            }
            (Ok(_), _) => self.tunnel(stream, target, Spoken::Tcp).await,
        }
    }

    /// Serves a connection whose name must be read off it.
    async fn serve_unnamed<S: Stream>(self, stream: S, port: u16) {
        self.inspect(stream, None, port).await;
    }

    /// Reads the first bytes, and compares what they say.
    async fn inspect<S: Stream>(self, mut stream: S, expected: Option<HostName>, port: u16) {
        let target = expected.clone().map(|name| Target::Name(name, port));
        let first = tokio::time::timeout(self.shared.patience, first_bytes(&mut stream)).await;
        let (bytes, first) = match first {
            Ok(Ok(Some(found))) => found,
            // Closed without a word.
            Ok(Ok(None) | Err(_)) => return,
            Err(_elapsed) => return self.refuse(Spoken::Tcp, target.as_ref(), port, &Refusal::TooSlow).await,
        };
        let stream = Rewound { first: bytes, at: 0, stream };
        match first {
            First::Tls(Ok(name)) => match expected {
                Some(expected) if expected != name => {
                    let refusal = Refusal::Mismatch { expected: expected.to_string(), found: name.to_string() };
                    self.refuse(Spoken::Tls, target.as_ref(), port, &refusal).await;
                }
                _ => self.named_tls(stream, name, port).await,
            },
            First::Tls(Err(refused)) => {
                self.refuse(Spoken::Tls, target.as_ref(), port, &Refusal::Hello(refused)).await;
            }
            First::Http => http::serve_clear(self, stream, expected, port).await,
            First::Other => {
                let refusal = expected.map_or(Refusal::Unnamed, Refusal::Protocol);
                self.refuse(Spoken::Tcp, target.as_ref(), port, &refusal).await;
            }
        }
    }

    async fn named_tls<S: Stream>(self, stream: S, name: HostName, port: u16) {
        match verdict::by_name(&self.policy, &name, port) {
            Ok(Grant::Rule(active)) if active.allow.is_about_requests() => {
                http::serve_within_tls(self, stream, name, port).await;
            }
            // Whatever it turns out to be, `tunnel` judges it again.
            _ => self.tunnel(stream, Target::Name(name, port), Spoken::Tls).await,
        }
    }

    /// Carries a connection without looking into it.
    async fn tunnel<S: Stream>(self, stream: S, target: Target, protocol: Spoken) {
        let allowed = match self.shared.allow(&self.policy, &target).await {
            Ok(allowed) => allowed,
            Err(refusal) => return self.refuse(protocol, Some(&target), target.port(), &refusal).await,
        };
        let mut about = self.shared.about(protocol, target.port());
        about.name = target.name().map(ToString::to_string);
        about.address = allowed.addresses.first().copied();
        let Some(mut ledger) = Ledger::open(&self.shared, &self.policy, about, allowed.grant.rule()).await else {
            return;
        };
        let refusal = match self.shared.dial(&allowed).await {
            Ok((outside, address)) => {
                ledger.about.address = Some(address);
                let revoked = self.shared.revoked(self.sandbox, &self.policy.uid, &target, Some(address));
                carry(stream, outside, &ledger.counters, revoked).await
            }
            Err(refusal) => Some(refusal),
        };
        ledger.close(&self.shared, &self.policy, refusal.as_ref()).await;
    }
}

/// What the first bytes are.
enum First {
    Tls(Result<HostName, hello::Refused>),
    Http,
    Other,
}

/// Reads as much as tells what it is; `None` if the connection ends before.
async fn first_bytes<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<(Vec<u8>, First)>> {
    let mut bytes = Vec::with_capacity(READ_BYTES);
    loop {
        // The greeting's own limit bounds this.
        let mut piece = [0; READ_BYTES];
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece[..count]);
        let found = match bytes[0] {
            22 => match hello::read(&bytes) {
                Hello::Incomplete => continue,
                Hello::Named(name) => First::Tls(Ok(name)),
                Hello::Refused(refused) => First::Tls(Err(refused)),
            },
            b'A'..=b'Z' if !bytes.starts_with(b"PRI ") => First::Http,
            _ => First::Other,
        };
        return Ok(Some((bytes, found)));
    }
}

/// A stream whose first bytes were read already.
pub(super) struct Rewound<S> {
    first: Vec<u8>,
    at: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.at < this.first.len() {
            let count = buffer.remaining().min(this.first.len() - this.at);
            buffer.put_slice(&this.first[this.at..this.at + count]);
            this.at += count;
            if this.at == this.first.len() {
                this.first = Vec::new();
                this.at = 0;
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
