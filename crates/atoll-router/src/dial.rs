//! Opens a connection into a sandbox: to an address it owns, or to its guest's private socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

use crate::locator::GuestEndpoint;
use crate::metrics::Metrics;
use crate::request::{GUEST_PATH_PREFIX, GUEST_PORTS, Target};
use crate::routes::Permits;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses before a dial is tried again: a server that was just started in the sandbox may not listen yet.
const RETRY_PAUSES_MS: [u64; 3] = [50, 100, 200];

/// Where one request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The guest alone.
    Guest(PathBuf),
    /// The workload's server, or the guest where the workload has none.
    WorkloadOrGuest(SocketAddr, PathBuf),
    /// The workload's server.
    Workload(SocketAddr),
}

impl Destination {
    /// Chooses by the node's own knowledge of the Pod.
    pub(crate) fn choose(target: &Target, path: &str, endpoint: GuestEndpoint) -> Self {
        let workload = SocketAddr::from((endpoint.address, target.port));
        let is_guest_port = GUEST_PORTS.contains(&target.port);
        if !is_guest_port {
            Self::Workload(workload)
        } else if path.starts_with(GUEST_PATH_PREFIX) {
            Self::Guest(endpoint.socket)
        } else {
            Self::WorkloadOrGuest(workload, endpoint.socket)
        }
    }

    /// The limit that a request to it counts against.
    pub(crate) fn permits<'p>(&self, permits: &'p Permits) -> &'p Arc<Semaphore> {
        match self {
            Self::Guest(_) | Self::WorkloadOrGuest(..) => &permits.guest,
            Self::Workload(_) => &permits.workload,
        }
    }

    /// Connects, trying again a few times where nothing listens yet.
    pub(crate) async fn connect(&self, metrics: &Metrics) -> io::Result<Connection> {
        let mut pauses = RETRY_PAUSES_MS.iter();
        loop {
            let error = match self.connect_once().await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            let Some(pause) = pauses.next().filter(|_| is_refused(&error)) else { return Err(error) };
            Metrics::add(&metrics.upstream_retries);
            tokio::time::sleep(Duration::from_millis(*pause)).await;
        }
    }

    async fn connect_once(&self) -> io::Result<Connection> {
        match self {
            Self::Guest(socket) => connect_unix(socket).await,
            Self::Workload(address) => connect_tcp(*address).await,
            Self::WorkloadOrGuest(address, socket) => match connect_tcp(*address).await {
                Err(error) if is_refused(&error) => connect_unix(socket).await,
                outcome => outcome,
            },
        }
    }

    /// The `Host` that the server in the sandbox is asked for.
    pub(crate) fn host(&self, address: Ipv4Addr, port: u16) -> HeaderValue {
        HeaderValue::from_str(&format!("{address}:{port}")).expect("an address is a header value")
    }
}

/// Nothing listens there. A timeout is another matter: somebody may.
fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset | io::ErrorKind::NotFound)
}

async fn connect_tcp(address: SocketAddr) -> io::Result<Connection> {
    let stream = within(TcpStream::connect(address)).await?;
    // A connection from one of the machine's own ports to itself can answer itself: nobody listened.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    Ok(Connection::Tcp(stream))
}

async fn connect_unix(socket: &PathBuf) -> io::Result<Connection> {
    within(UnixStream::connect(socket)).await.map(Connection::Unix)
}

async fn within<T>(connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}

/// A byte stream into a sandbox.
#[derive(Debug)]
pub(crate) enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
