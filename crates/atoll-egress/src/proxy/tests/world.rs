//! A proxy, a sandbox that is this process, and servers outside.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use atoll_rt::TaskGroup;
use atoll_rt::tls::CertificateAuthority;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::lookup::Lookup;
use crate::name::HostName;
use crate::proxy::{ProxyConfig, ProxySockets, serve};
use crate::ranges::RangeSet;
use crate::record::{ConnectionRecord, Stage};
use crate::rules::RuleSet;
use crate::snapshot::{ActiveAllow, Credential, SandboxPolicy, Snapshot};

pub(super) const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Where servers outside are; the sandbox itself is at [`HOME`].
pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Where servers are that nobody may reach.
pub(super) const PRIVATE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
pub(super) const EXPLICIT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 201, 0, 1), 3128);
const PATIENCE: Duration = Duration::from_millis(300);

type Table = Arc<Mutex<HashMap<HostName, Vec<Ipv4Addr>>>>;
type Turned = Arc<Mutex<HashMap<u16, SocketAddrV4>>>;

pub(super) struct World {
    pub(super) tcp: SocketAddr,
    pub(super) dns: SocketAddr,
    pub(super) authority_pem: String,
    /// Of servers outside.
    pub(super) outside: Arc<CertificateAuthority>,
    policy: watch::Sender<Arc<Snapshot>>,
    records: tokio::sync::Mutex<mpsc::Receiver<ConnectionRecord>>,
    table: Table,
    turned: Turned,
    group: TaskGroup,
}

struct TableLookup(Table);

#[async_trait]
impl Lookup for TableLookup {
    async fn addresses(&self, name: &HostName) -> io::Result<Vec<Ipv4Addr>> {
        Ok(self.0.lock().expect("no holder panics").get(name).cloned().unwrap_or_default())
    }
}

pub(super) fn roots(pem: &str) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")).expect("a root");
    roots
}

impl World {
    /// A proxy for a sandbox with these rules (the list under `allow`).
    pub(super) async fn new(allow: &str) -> Self {
        atoll_rt::tls::install_crypto_provider();
        let bind = || async { TcpListener::bind((HOME, 0)).await.expect("a port") };
        let (tcp, dns_tcp) = (bind().await, bind().await);
        let dns_udp = UdpSocket::bind(dns_tcp.local_addr().expect("an address")).await.expect("the same port");
        let (authority, outside) =
            (CertificateAuthority::generate().expect("keys"), CertificateAuthority::generate().expect("keys"));
        let authority_pem = authority.certificate_pem().to_owned();
        let (policy, policy_receiver) = watch::channel(Arc::default());
        let (record_sender, records) = mpsc::channel(1024);
        let (table, turned) = (Table::default(), Turned::default());
        let by_port = Arc::clone(&turned);
        let group = TaskGroup::new("test");
        let world = Self {
            tcp: tcp.local_addr().expect("an address"),
            dns: dns_tcp.local_addr().expect("an address"),
            authority_pem,
            policy,
            records: tokio::sync::Mutex::new(records),
            table: Arc::clone(&table),
            turned,
            group: group.clone(),
            outside: Arc::new(outside),
        };
        let config = ProxyConfig {
            policy: policy_receiver,
            records: record_sender,
            lookup: Arc::new(TableLookup(table)),
            roots: roots(world.outside.certificate_pem()),
            authority,
            original_destination: Arc::new(move |stream| {
                let port = stream.peer_addr()?.port();
                by_port
                    .lock()
                    .expect("no holder panics")
                    .get(&port)
                    .copied()
                    .ok_or_else(|| io::ErrorKind::NotFound.into())
            }),
            patience: PATIENCE,
        };
        serve(ProxySockets { tcp, dns_udp, dns_tcp }, config, &group);
        world.allow(allow);
        world
    }

    pub(super) fn allow(&self, allow: &str) {
        self.set(allow, |_| {});
    }

    /// Replaces what is allowed, with a last change by hand.
    pub(super) fn set(&self, allow: &str, change: impl FnOnce(&mut Snapshot)) {
        let rules = RuleSet::parse(&format!("allow: [{allow}]")).unwrap_or_else(|error| panic!("{allow}: {error}"));
        let active = |allow: crate::rules::Allow| ActiveAllow {
            rule: "configmap/team/rules#1".to_owned(),
            granted: !allow.on_approval,
            credential: allow.credential.as_ref().map(|_| Credential {
                placeholder: "atoll-credential-forge".to_owned(),
                token: Some(atoll_stdx::Secret::new("real-forge-token".to_owned())),
            }),
            allow,
        };
        let policy = SandboxPolicy {
            uid: "uid".to_owned(),
            namespace: "team".to_owned(),
            name: "box".to_owned(),
            allow: rules.allow.into_iter().map(active).collect(),
            ..SandboxPolicy::default()
        };
        let mut snapshot = Snapshot {
            sandboxes: BTreeMap::from([(HOME, policy)]),
            permitted_for_names: RangeSet::of([OUTSIDE]),
            services: BTreeMap::new(),
        };
        change(&mut snapshot);
        self.policy.send_replace(Arc::new(snapshot));
    }

    pub(super) fn resolve(&self, name: &str, addresses: &[Ipv4Addr]) {
        let name = HostName::parse(name).expect("a name");
        self.table.lock().expect("no holder panics").insert(name, addresses.to_vec());
    }

    /// A connection of the sandbox to an address.
    pub(super) async fn dial(&self, to: SocketAddrV4) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((HOME, 0).into()).expect("a port");
        let port = socket.local_addr().expect("an address").port();
        self.turned.lock().expect("no holder panics").insert(port, to);
        socket.connect(self.tcp).await.expect("the proxy accepts")
    }

    /// A connection of the sandbox to a name, as its resolver tells it.
    pub(super) async fn dial_name(&self, name: &str, port: u16) -> TcpStream {
        let addresses = self.ask(name, 1).await.1;
        let address = *addresses.first().unwrap_or_else(|| panic!("{name} is told"));
        self.dial(SocketAddrV4::new(address, port)).await
    }

    /// Asks the resolver: the code of the answer, and addresses in it.
    pub(super) async fn ask(&self, name: &str, kind: u8) -> (u8, Vec<Ipv4Addr>) {
        let socket = UdpSocket::bind((HOME, 0)).await.expect("a port");
        socket.send_to(&question(name, kind), self.dns).await.expect("it is sent");
        let mut answer = [0; 600];
        let received = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut answer)).await;
        let length = received.expect("an answer").expect("an answer");
        parse_answer(&answer[..length])
    }

    /// Speaks TLS as a client that trusts `pem`.
    pub(super) async fn tls(
        &self,
        stream: TcpStream,
        name: &str,
        pem: &str,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let config = rustls::ClientConfig::builder().with_root_certificates(roots(pem)).with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// The next record of a stage; those of other stages before it are dropped.
    pub(super) async fn record(&self, stage: Stage) -> ConnectionRecord {
        let mut records = self.records.lock().await;
        let next = async {
            loop {
                let record = records.recv().await.expect("the proxy runs");
                if record.stage == stage {
                    return record;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), next).await.unwrap_or_else(|_| panic!("no {stage:?} record"))
    }

    /// The reason of the next refusal.
    pub(super) async fn refusal(&self) -> String {
        self.record(Stage::Refused).await.reason.expect("refusals have reasons")
    }

    /// A server that answers each line of text with `line from ADDRESS`; its port.
    pub(super) async fn echo(&self, address: Ipv4Addr) -> u16 {
        self.listen(address, |mut stream| async move {
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    /// A server that tells what it got, up to the end of the head and a declared body, as the body of a response.
    pub(super) async fn http(&self, address: Ipv4Addr) -> u16 {
        self.listen(address, tell_requests).await
    }

    /// The same over TLS, as `name`.
    pub(super) async fn https(&self, address: Ipv4Addr, name: &str) -> u16 {
        let leaf = self.outside.issue_server(&[name]).expect("a certificate");
        let certificate = CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.expose().as_bytes()).expect("PEM");
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a configuration");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        self.listen(address, move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    tell_requests(stream).await;
                }
            }
        })
        .await
    }

    pub(super) async fn listen<F, Fut>(&self, address: Ipv4Addr, serve: F) -> u16
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((address, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let group = self.group.clone();
        self.group.spawn("server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                group.spawn("served", serve(stream));
            }
        });
        port
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.group.cancel();
    }
}

/// Reads requests one after the other, each with its declared body, and answers with what came.
pub(super) async fn tell_requests<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut stream: S) {
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let Some(length) = whole_request(&got) else {
            match stream.read(&mut buffer).await {
                Ok(count @ 1..) => got.extend_from_slice(&buffer[..count]),
                _ => return,
            }
            continue;
        };
        let request: Vec<u8> = got.drain(..length).collect();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-server: outside\r\n\r\n", request.len());
        if stream.write_all(&[head.as_bytes(), &request].concat()).await.is_err() {
            return;
        }
    }
}

fn whole_request(got: &[u8]) -> Option<usize> {
    let head = got.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&got[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    if text.contains("transfer-encoding: chunked") {
        return got[head..].windows(5).position(|part| part == b"0\r\n\r\n").map(|end| head + end + 5);
    }
    let whole = head + length.unwrap_or(0);
    (got.len() >= whole).then_some(whole)
}

pub(super) fn question(name: &str, kind: u8) -> Vec<u8> {
    let mut message = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("short"));
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, kind, 0, 1]);
    message
}

pub(super) fn parse_answer(answer: &[u8]) -> (u8, Vec<Ipv4Addr>) {
    let count = usize::from(answer[7]);
    let start = answer.len() - count * 16;
    let addresses = answer[start..].chunks(16).map(|record| {
        let octets: [u8; 4] = record[12..].try_into().expect("four bytes");
        octets.into()
    });
    (answer[3] & 15, addresses.collect())
}

/// Sends text and reads until the other side closes, or is quiet for a while.
pub(super) async fn talk<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut stream: S, text: &str) -> String {
    let _ = stream.write_all(text.as_bytes()).await;
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    let quiet = Duration::from_millis(700);
    while let Ok(Ok(count @ 1..)) = tokio::time::timeout(quiet, stream.read(&mut buffer)).await {
        got.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&got).into_owned()
}
