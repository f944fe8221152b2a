//! Plane and proxy are two processes: this is what they say to each other, one JSON text a line, over a socket pair.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use atoll_rt::TaskGroup;
use atoll_rt::tls::{CertificateAuthority, KeyedCertificate};
use atoll_sandbox::network::rules::ProxyPorts;
use atoll_sandbox::spec::ROUTER_ADDRESS;
use atoll_stdx::Secret;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UdpSocket, UnixStream};
use tokio::sync::{mpsc, watch};

use crate::lookup::MachineLookup;
use crate::proxy::{self, PATIENCE, ProxyConfig, ProxySockets};
use crate::record::ConnectionRecord;
use crate::snapshot::Snapshot;

/// Longest line.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Records on their way; more wait, and their connections with them.
const RECORDS_MAX: usize = 4096;
const BACKLOG: i32 = 1024;

/// What the proxy is told first.
#[derive(Serialize, Deserialize)]
struct Hello {
    certificate_pem: String,
    key_pem: String,
}

/// What the proxy answers.
#[derive(Serialize, Deserialize)]
enum Greeting {
    Ready(ProxyPorts),
    Failed(String),
}

/// The plane's side of a running proxy.
#[derive(Debug)]
pub struct ProxyLink {
    /// Where it listens.
    pub ports: ProxyPorts,
    /// What it is to know; the latest value is sent.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// What it did.
    pub records: mpsc::Receiver<ConnectionRecord>,
}

impl ProxyLink {
    /// Speaks to a proxy over its socket, in tasks of `group`.
    ///
    /// # Errors
    /// The proxy could not start.
    pub async fn connect(
        socket: StdUnixStream,
        authority: &CertificateAuthority,
        group: &TaskGroup,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (reader, mut writer) = UnixStream::from_std(socket)?.into_split();
        let mut reader = BufReader::new(reader);
        let stored = authority.stored();
        let hello = Hello { certificate_pem: stored.certificate_pem, key_pem: stored.key_pem.expose().clone() };
        write_line(&mut writer, &hello).await?;
        let ports = match read_line(&mut reader).await? {
            Some(Greeting::Ready(ports)) => ports,
            Some(Greeting::Failed(why)) => return Err(io::Error::other(why)),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let (snapshots, mut latest) = watch::channel(Arc::new(Snapshot::default()));
        let (sender, records) = mpsc::channel(RECORDS_MAX);
        let stop = group.token();
        group.spawn("egress-snapshots", async move {
            let sending = async {
                while latest.changed().await.is_ok() {
                    let snapshot = Arc::clone(&latest.borrow_and_update());
                    if write_line(&mut writer, &*snapshot).await.is_err() {
                        return;
                    }
                }
            };
            let _stopped = stop.run_until_cancelled(sending).await;
        });
        let stop = group.token();
        group.spawn("egress-records", async move {
            let receiving = async {
                while let Ok(Some(record)) = read_line(&mut reader).await {
                    if sender.send(record).await.is_err() {
                        return;
                    }
                }
                tracing::error!("the egress proxy is gone: nothing leaves sandboxes until the plane is restarted");
            };
            let _stopped = stop.run_until_cancelled(receiving).await;
        });
        Ok(Self { ports, snapshots, records })
    }
}

/// The proxy process: serves until the plane's side of its socket is closed.
///
/// # Errors
/// It cannot start, which the plane is told too; or the socket fails.
pub async fn run_proxy(socket: StdUnixStream) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let (reader, mut writer) = UnixStream::from_std(socket)?.into_split();
    let mut reader = BufReader::new(reader);
    let Some(hello) = read_line::<Hello, _>(&mut reader).await? else { return Ok(()) };
    let group = TaskGroup::new("egress");
    let (policy, policy_receiver) = watch::channel(Arc::new(Snapshot::default()));
    let (sender, mut records) = mpsc::channel(RECORDS_MAX);
    let ports = match start(hello, policy_receiver, sender, &group) {
        Ok(ports) => ports,
        Err(error) => {
            write_line(&mut writer, &Greeting::Failed(error.to_string())).await?;
            return Err(error);
        }
    };
    write_line(&mut writer, &Greeting::Ready(ports)).await?;
    let telling = async {
        while let Some(record) = records.recv().await {
            if write_line(&mut writer, &record).await.is_err() {
                return;
            }
        }
    };
    let learning = async {
        while let Ok(Some(snapshot)) = read_line::<Snapshot, _>(&mut reader).await {
            policy.send_replace(Arc::new(snapshot));
        }
    };
    // Without the plane nobody records: then nothing is carried.
    tokio::select! {
        () = telling => {}
        () = learning => {}
    }
    group.cancel();
    Ok(())
}

fn start(
    hello: Hello,
    policy: watch::Receiver<Arc<Snapshot>>,
    records: mpsc::Sender<ConnectionRecord>,
    group: &TaskGroup,
) -> io::Result<ProxyPorts> {
    let stored = KeyedCertificate { certificate_pem: hello.certificate_pem, key_pem: Secret::new(hello.key_pem) };
    let authority = CertificateAuthority::load(&stored).map_err(io::Error::other)?;
    let tcp = listen(0)?;
    let dns_tcp = listen(0)?;
    let dns_port = dns_tcp.local_addr()?.port();
    let ports = ProxyPorts { tcp: tcp.local_addr()?.port(), dns: dns_port };
    let sockets = ProxySockets { tcp, dns_udp: receive(dns_port)?, dns_tcp };
    let mut roots = rustls::RootCertStore::empty();
    // A machine without any has hosts that cannot prove themselves: they are refused, by name, when they are asked for.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ProxyConfig {
        policy,
        records,
        lookup: Arc::new(MachineLookup),
        roots,
        authority,
        original_destination: Arc::new(proxy::kernel_original_destination),
        patience: PATIENCE,
    };
    proxy::serve(sockets, config, group);
    Ok(ports)
}

/// A socket at the machine's end of sandbox links, which has its address only while there are any.
fn bound(kind: SocketType, port: u16) -> io::Result<std::os::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
    sockopt::set_ip_freebind(socket.as_fd(), true)?;
    rustix::net::bind(&socket, &std::net::SocketAddrV4::new(ROUTER_ADDRESS, port))?;
    Ok(socket)
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = bound(SocketType::STREAM, port)?;
    rustix::net::listen(&socket, BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn receive(port: u16) -> io::Result<UdpSocket> {
    UdpSocket::from_std(bound(SocketType::DGRAM, port)?.into())
}

async fn write_line<W: AsyncWrite + Unpin>(writer: &mut W, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::other)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

/// `None` at the end.
async fn read_line<T: DeserializeOwned, R: AsyncRead + Unpin>(reader: &mut BufReader<R>) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    let count = (&mut *reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    if count == 0 {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(io::Error::other)
}
