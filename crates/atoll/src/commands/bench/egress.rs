//! What the egress proxy adds: a connection with one byte there and back, and a stream, with and without it, over
//! loopback.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_egress::lookup::MachineLookup;
use atoll_egress::proxy::{PATIENCE, ProxyConfig, ProxySockets, serve};
use atoll_egress::ranges::RangeSet;
use atoll_egress::rules::Allow;
use atoll_egress::snapshot::{ActiveAllow, SandboxPolicy, Snapshot};
use atoll_rt::TaskGroup;
use atoll_rt::tls::{CertificateAuthority, install_crypto_provider};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};

use super::measure::{Row, Samples};
use crate::failure::{Exit, Failure};

const STREAM_TIME: Duration = Duration::from_secs(2);
const PIECE_BYTES: usize = 256 * 1024;
const RECORDS_MAX: usize = 4096;
/// What the first byte of a connection asks the server for.
const ECHO: u8 = 1;
const STREAM: u8 = 2;

pub(super) async fn measure(n: u32) -> Result<Vec<Row>, Failure> {
    let group = TaskGroup::new("bench");
    let measured = measure_in(n, &group).await;
    group.cancel();
    measured.map_err(|error| Failure::because(Exit::Failure, "cannot measure the egress proxy", &error))
}

async fn measure_in(n: u32, group: &TaskGroup) -> std::io::Result<Vec<Row>> {
    let server = start_server(group).await?;
    let proxy = start_proxy(server, group).await?;
    let (mut direct, mut through) = (Samples::default(), Samples::default());
    let (mut direct_times, mut through_times) = (Vec::new(), Vec::new());
    // In turns, so that a machine that becomes busy is busy for both.
    for _ in 0..n {
        for (address, samples, times) in
            [(server, &mut direct, &mut direct_times), (proxy, &mut through, &mut through_times)]
        {
            let started = Instant::now();
            let answered = there_and_back(address).await.is_ok();
            samples.record(started.elapsed(), answered);
            times.push(started.elapsed());
        }
    }
    let added = median(&mut through_times).saturating_sub(median(&mut direct_times));
    Ok(vec![
        direct.row("direct_connect_echo"),
        through.row("proxied_connect_echo"),
        Row::value("proxy_added_p50", "ms", added.as_secs_f64() * 1_000.0),
        Row::value("direct_throughput", "Gbit/s", throughput(server).await?),
        Row::value("proxied_throughput", "Gbit/s", throughput(proxy).await?),
    ])
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn there_and_back(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&[ECHO]).await?;
    stream.read_u8().await.map(drop)
}

/// Gigabits a second from the server.
async fn throughput(address: SocketAddr) -> std::io::Result<f64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&[STREAM]).await?;
    let mut piece = vec![0; PIECE_BYTES];
    let (started, mut received) = (Instant::now(), 0u64);
    while started.elapsed() < STREAM_TIME {
        received += stream.read(&mut piece).await? as u64;
    }
    Ok(received as f64 * 8.0 / started.elapsed().as_secs_f64() / 1e9)
}

async fn start_server(group: &TaskGroup) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let (connections, stop) = (group.clone(), group.token());
    group.spawn("bench-server", async move {
        let accepting = async {
            while let Ok((stream, _)) = listener.accept().await {
                let stop = connections.token();
                connections.spawn("bench-connection", async move {
                    let _ = stop.run_until_cancelled(answer(stream)).await;
                });
            }
        };
        let _ = stop.run_until_cancelled(accepting).await;
    });
    Ok(address)
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    if stream.read_u8().await? == ECHO {
        return stream.write_all(&[ECHO]).await;
    }
    let piece = vec![7; PIECE_BYTES];
    loop {
        stream.write_all(&piece).await?;
    }
}

/// A proxy for whom every connection of this process was going to the server.
async fn start_proxy(server: SocketAddr, group: &TaskGroup) -> std::io::Result<SocketAddr> {
    install_crypto_provider();
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let dns_tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let dns_udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = tcp.local_addr()?;
    let allow =
        Allow { address: Some(Ipv4Addr::LOCALHOST.to_string()), ports: vec![server.port()], ..Allow::default() };
    let active = ActiveAllow { rule: "bench".to_owned(), allow, granted: true, credential: None };
    let policy = SandboxPolicy { uid: "bench".to_owned(), allow: vec![active], ..SandboxPolicy::default() };
    let snapshot = Snapshot {
        sandboxes: BTreeMap::from([(Ipv4Addr::LOCALHOST, policy)]),
        permitted_for_names: RangeSet::of([Ipv4Addr::LOCALHOST]),
        services: BTreeMap::new(),
    };
    let (policies, policy) = watch::channel(Arc::new(snapshot));
    let (records, mut recorded) = mpsc::channel(RECORDS_MAX);
    group.spawn("bench-records", async move {
        // Policies change for as long as somebody can change them.
        let _policies = policies;
        while recorded.recv().await.is_some() {}
    });
    let original = SocketAddrV4::new(Ipv4Addr::LOCALHOST, server.port());
    let config = ProxyConfig {
        policy,
        records,
        lookup: Arc::new(MachineLookup),
        roots: rustls::RootCertStore::empty(),
        authority: CertificateAuthority::generate().map_err(std::io::Error::other)?,
        original_destination: Arc::new(move |_| Ok(original)),
        patience: PATIENCE,
    };
    serve(ProxySockets { tcp, dns_udp, dns_tcp }, config, group);
    Ok(address)
}
