//! The egress proxy: takes the connections of every sandbox of this node, finds out where each wants to go, and carries
//! those that a rule allows to addresses that it looked up and checked itself.
//!
//! ```text
//! connection ─▶ whose? (source address) ─▶ where to? (address that stands for a name | address | CONNECT)
//!   ─▶ allowed? ─▶ says the same within? (SNI, Host) ─▶ look up, check ─▶ dial what was checked ─▶ carry, count, record
//! ```

mod http;
mod relay;
mod resolver;
mod session;
mod terminate;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_rt::TaskGroup;
use atoll_rt::clock::now_unix_ms;
use atoll_rt::tls::CertificateAuthority;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::lookup::Lookup;
use crate::record::{About, ConnectionRecord, Spoken};
use crate::snapshot::{SandboxPolicy, Snapshot};
use crate::synthetic::SyntheticNames;
use crate::verdict::Refusal;

/// Connections at a time, of all sandboxes.
const CONNECTIONS_MAX: usize = 8192;
/// Connections at a time of one sandbox: as many as hosted sandboxes are given elsewhere.
const CONNECTIONS_OF_ONE_MAX: usize = 2500;
/// Pause after a failed accept (for instance: no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where a connection was going before it was turned here.
pub type OriginalDestination = Arc<dyn Fn(&TcpStream) -> io::Result<SocketAddrV4> + Send + Sync>;

/// How long a connection may take to say what it is for, to greet, and to send a request's head.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The proxy's sockets.
#[derive(Debug)]
pub struct ProxySockets {
    /// Takes connections.
    pub tcp: TcpListener,
    /// Answers questions.
    pub dns_udp: UdpSocket,
    /// The same over TCP.
    pub dns_tcp: TcpListener,
}

/// What a proxy is made of.
pub struct ProxyConfig {
    /// What is allowed; changes take effect at once.
    pub policy: watch::Receiver<Arc<Snapshot>>,
    /// Where records go. A proxy that cannot record does not carry.
    pub records: mpsc::Sender<ConnectionRecord>,
    /// How names are looked up.
    pub lookup: Arc<dyn Lookup>,
    /// Certificates that servers may prove themselves by.
    pub roots: rustls::RootCertStore,
    /// Makes certificates for hosts whose requests must be seen. Sandboxes that such rules are for trust it.
    pub authority: CertificateAuthority,
    /// How to learn where a connection was going.
    pub original_destination: OriginalDestination,
    /// [`PATIENCE`].
    pub patience: Duration,
}

/// What all connections share.
struct Shared {
    policy: watch::Receiver<Arc<Snapshot>>,
    records: mpsc::Sender<ConnectionRecord>,
    lookup: Arc<dyn Lookup>,
    trust: Arc<rustls::ClientConfig>,
    leaves: terminate::Leaves,
    original_destination: OriginalDestination,
    patience: Duration,
    names: Mutex<SyntheticNames>,
    by_sandbox: Mutex<HashMap<Ipv4Addr, Arc<Semaphore>>>,
    next_id: AtomicU64,
    group: TaskGroup,
}

/// By the kernel's record of how it turned the connection.
///
/// # Errors
/// It was not turned.
pub fn kernel_original_destination(stream: &TcpStream) -> io::Result<SocketAddrV4> {
    rustix::net::sockopt::ip_original_dst(stream).map_err(io::Error::from)
}

/// Serves until the group stops.
pub fn serve(sockets: ProxySockets, config: ProxyConfig, group: &TaskGroup) {
    let shared = Arc::new(Shared {
        policy: config.policy,
        records: config.records,
        lookup: config.lookup,
        trust: terminate::client_config(config.roots),
        leaves: terminate::Leaves::new(config.authority),
        original_destination: config.original_destination,
        patience: config.patience,
        names: Mutex::default(),
        by_sandbox: Mutex::default(),
        // Ids go on rising over restarts.
        next_id: AtomicU64::new(now_unix_ms() << 20),
        group: group.clone(),
    });
    let ProxySockets { tcp, dns_udp, dns_tcp } = sockets;
    let stop = group.token();
    spawn(group, &stop, "egress-names", resolver::keep_known_names(Arc::clone(&shared)));
    spawn(group, &stop, "egress-dns", resolver::serve_udp(Arc::clone(&shared), dns_udp));
    let connections = group.clone();
    spawn(group, &stop, "egress-dns-tcp", accept(Arc::clone(&shared), dns_tcp, connections, resolver::serve_tcp));
    let connections = group.clone();
    spawn(group, &stop, "egress-proxy", accept(shared, tcp, connections, session::serve));
}

fn spawn(
    group: &TaskGroup,
    stop: &tokio_util::sync::CancellationToken,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let stop = stop.clone();
    group.spawn(name, async move {
        let _stopped = stop.run_until_cancelled(task).await;
    });
}

/// One connection that was accepted, with what it takes up.
struct Accepted {
    stream: TcpStream,
    sandbox: Ipv4Addr,
    /// Room for one connection, of all and of this sandbox; `None` when the sandbox has no more.
    _room: OwnedSemaphorePermit,
    own_room: Option<OwnedSemaphorePermit>,
}

async fn accept<F, Fut>(shared: Arc<Shared>, listener: TcpListener, group: TaskGroup, serve: F)
where
    F: Fn(Arc<Shared>, Accepted) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let rooms = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let stop = group.token();
    loop {
        let room = Arc::clone(&rooms).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, SocketAddr::V4(peer))) => {
                // Small pieces are questions somebody waits for. A socket without the option still works.
                let _ = stream.set_nodelay(true);
                let own_room = shared.room_of(*peer.ip());
                let accepted = Accepted { stream, sandbox: *peer.ip(), _room: room, own_room };
                spawn(&group, &stop, "egress-connection", serve(Arc::clone(&shared), accepted));
            }
            Ok((_, SocketAddr::V6(_))) => {}
            Err(error) => {
                tracing::warn!(cause = %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Shared {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.policy.borrow())
    }

    fn policy_of(&self, sandbox: Ipv4Addr) -> Option<SandboxPolicy> {
        self.policy.borrow().sandboxes.get(&sandbox).cloned()
    }

    fn room_of(&self, sandbox: Ipv4Addr) -> Option<OwnedSemaphorePermit> {
        let mut by_sandbox = self.by_sandbox.lock().unwrap_or_else(PoisonError::into_inner);
        by_sandbox.retain(|address, rooms| *address == sandbox || rooms.available_permits() < CONNECTIONS_OF_ONE_MAX);
        let rooms = by_sandbox.entry(sandbox).or_insert_with(|| Arc::new(Semaphore::new(CONNECTIONS_OF_ONE_MAX)));
        Arc::clone(rooms).try_acquire_owned().ok()
    }

    fn names(&self) -> std::sync::MutexGuard<'_, SyntheticNames> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn about(&self, protocol: Spoken, port: u16) -> About {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        About { id, at_unix_ms: now_unix_ms(), protocol, name: None, address: None, port }
    }

    /// Writes a record down; `false` when nobody takes records any more: then nothing may be carried.
    async fn record(&self, record: ConnectionRecord) -> bool {
        self.records.send(record).await.is_ok()
    }

    async fn refuse(&self, policy: &SandboxPolicy, about: &About, refusal: &Refusal) {
        let _nobody_listens = self.record(ConnectionRecord::refused(policy, about, refusal)).await;
    }
}

#[cfg(test)]
mod tests;
