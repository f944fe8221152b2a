//! What a Kubernetes API server can do: reads and writes of 1 KB ConfigMaps by many clients at a time, and how long an
//! event takes to reach many watchers. Thin clients over HTTP/1.1 and TLS: the machine is the server's.

mod alone;
mod connection;
mod watchers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use http::Method;
use serde_json::json;

use super::measure::{Row, Samples};
use crate::args::BenchApiArgs;
use crate::failure::{Exit, Failure};

pub(super) use alone::measure as measure_alone;
use connection::{Connection, Target};

const NAMESPACE: &str = "atoll-bench-api";
/// The text in each ConfigMap, so that an object has about a kilobyte.
const TEXT_BYTES: usize = 700;

/// What objects are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ConfigMaps,
    /// Nothing runs in them.
    Sandboxes,
}

impl Kind {
    /// Where the objects are.
    fn collection(self) -> String {
        match self {
            Self::ConfigMaps => format!("/api/v1/namespaces/{NAMESPACE}/configmaps"),
            Self::Sandboxes => format!("/apis/agents.x-k8s.io/v1beta1/namespaces/{NAMESPACE}/sandboxes"),
        }
    }

    /// An object of about a kilobyte. `metadata`: members of it, as JSON.
    fn object(self, metadata: &str, number: u64) -> Vec<u8> {
        let text = "x".repeat(TEXT_BYTES);
        let (head, content) = match self {
            Self::ConfigMaps => (
                r#""apiVersion":"v1","kind":"ConfigMap""#,
                format!(r#""data":{{"text":"{text}","number":"{number}"}}"#),
            ),
            Self::Sandboxes => (
                r#""apiVersion":"agents.x-k8s.io/v1beta1","kind":"Sandbox""#,
                format!(
                    r#""spec":{{"operatingMode":"Suspended","podTemplate":{{"spec":{{"containers":[{{"name":"main","image":"atoll.local/host","args":["{text}","{number}"]}}]}}}}}}"#
                ),
            ),
        };
        format!(r#"{{{head},"metadata":{{{metadata}}},{content}}}"#).into_bytes()
    }
}

/// Measures the server of a kubeconfig, or of the plane.
pub(super) async fn measure(kubeconfig: &std::path::Path, args: &BenchApiArgs) -> Result<Vec<Row>, Failure> {
    let target = Target::of(kubeconfig).await?;
    let bench = Bench::new(target, args, Kind::ConfigMaps);
    bench.remove_namespace().await?;
    bench.make_namespace().await?;
    let measured = bench.measure().await;
    let removed = bench.remove_namespace().await;
    let rows = measured?;
    removed.map(|()| rows)
}

/// Makes as many objects as watchers are to look at, and leaves them there.
async fn fill(kubeconfig: &std::path::Path, args: &BenchApiArgs) -> Result<(), Failure> {
    let bench = Bench::new(Target::of(kubeconfig).await?, args, Kind::ConfigMaps);
    bench.make_namespace().await?;
    bench.fill().await
}

/// Watchers of as many Sandboxes, which stay there.
async fn watch_sandboxes(kubeconfig: &std::path::Path, args: &BenchApiArgs) -> Result<Vec<Row>, Failure> {
    let bench = Bench::new(Target::of(kubeconfig).await?, args, Kind::Sandboxes);
    bench.make_namespace().await?;
    bench.fill().await?;
    watchers::measure(&bench.target, args, bench.kind).await
}

struct Bench<'a> {
    target: Target,
    args: &'a BenchApiArgs,
    kind: Kind,
    /// Numbers objects.
    next: AtomicU64,
    created: AtomicU64,
}

/// One thing that clients do over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Create,
    Get,
    Update,
}

impl Deed {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Get => "get",
            Self::Update => "update",
        }
    }
}

impl<'a> Bench<'a> {
    fn new(target: Target, args: &'a BenchApiArgs, kind: Kind) -> Self {
        Self { target, args, kind, next: AtomicU64::new(0), created: AtomicU64::new(0) }
    }

    async fn make_namespace(&self) -> Result<(), Failure> {
        let mut connection = self.target.connect().await?;
        let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }).to_string();
        let request = self.target.request(&Method::POST, "/api/v1/namespaces", body.as_bytes());
        let (status, text) = connection.exchange(&request).await?;
        if status.is_success() { Ok(()) } else { Err(unexpected("make a namespace", status, &text)) }
    }

    /// Removes the namespace with all objects, and waits until it is gone. First the objects: a server without a
    /// controller manager never finishes a namespace, but its objects can go.
    async fn remove_namespace(&self) -> Result<(), Failure> {
        const PATIENCE: Duration = Duration::from_secs(120);
        let mut connection = self.target.connect().await?;
        let path = format!("/api/v1/namespaces/{NAMESPACE}");
        for path in [self.kind.collection(), path.clone()] {
            let (status, text) = connection.exchange(&self.target.request(&Method::DELETE, &path, b"")).await?;
            if !status.is_success() && status.as_u16() != 404 && status.as_u16() != 409 {
                return Err(unexpected("remove what the measurement made", status, &text));
            }
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let (status, _) = connection.exchange(&self.target.request(&Method::GET, &path, b"")).await?;
            if status.as_u16() == 404 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(Failure::new(Exit::Failure, format!("namespace {NAMESPACE} does not go"))
            .hint("the server needs something that finishes namespaces (a controller manager)"))
    }

    async fn measure(&self) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        for deed in [Deed::Create, Deed::Get, Deed::Update] {
            rows.extend(self.repeat(deed).await?);
        }
        self.fill().await?;
        rows.extend(watchers::measure(&self.target, self.args, self.kind).await?);
        Ok(rows)
    }

    /// All clients at once, for the agreed time.
    async fn repeat(&self, deed: Deed) -> Result<Vec<Row>, Failure> {
        let connections = try_join_all((0..self.args.clients).map(|_| self.target.connect())).await?;
        let started = Instant::now();
        let until = started + Duration::from_secs(self.args.seconds);
        let clients = connections.into_iter().map(|connection| self.client(deed, connection, until));
        let samples = try_join_all(clients).await?;
        let elapsed = started.elapsed().as_secs_f64();
        let mut all = Samples::default();
        let mut done = 0_u32;
        for (elapsed, ok) in samples.into_iter().flatten() {
            all.record(elapsed, ok);
            done += u32::from(ok);
        }
        let name = deed.name();
        Ok(vec![
            Row::value(&format!("{name}s_per_second"), "1/s", f64::from(done) / elapsed),
            all.row(&format!("{name}_{}_clients", self.args.clients)),
        ])
    }

    async fn client(
        &self,
        deed: Deed,
        mut connection: Connection,
        until: Instant,
    ) -> Result<Vec<(Duration, bool)>, Failure> {
        let mut samples = Vec::new();
        while Instant::now() < until {
            let request = self.request(deed);
            let started = Instant::now();
            let (status, _) = connection.exchange(&request).await?;
            samples.push((started.elapsed(), status.is_success()));
            if deed == Deed::Create {
                self.created.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(samples)
    }

    fn request(&self, deed: Deed) -> Vec<u8> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let collection = self.kind.collection();
        let named = |number: u64| self.kind.object(&format!(r#""name":"c{number}""#), number);
        if deed == Deed::Create {
            return self.target.request(&Method::POST, &collection, &named(number));
        }
        // Spread over what was made, the same way each time.
        let number = number.wrapping_mul(7919) % self.created.load(Ordering::Relaxed).max(1);
        let path = format!("{collection}/c{number}");
        match deed {
            Deed::Update => {
                let text = self.kind.object(&format!(r#""name":"c{number}""#), self.next.load(Ordering::Relaxed));
                self.target.request(&Method::PUT, &path, &text)
            }
            Deed::Get | Deed::Create => self.target.request(&Method::GET, &path, b""),
        }
    }

    /// Makes objects until there are as many as the watchers are to look at.
    async fn fill(&self) -> Result<(), Failure> {
        let connections = try_join_all((0..self.args.clients).map(|_| self.target.connect())).await?;
        let filling = connections.into_iter().map(|mut connection| async move {
            while self.created.load(Ordering::Relaxed) < u64::from(self.args.objects) {
                connection.exchange(&self.request(Deed::Create)).await?;
                self.created.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), Failure>(())
        });
        try_join_all(filling).await.map(|_| ())
    }
}

fn unexpected(attempted: &str, status: http::StatusCode, text: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(&text[..text.len().min(500)]).into_owned();
    Failure::new(Exit::Failure, format!("cannot {attempted}: the server answered {status}: {text}"))
}

/// Shared by the parts that talk to the server.
type Tls = Arc<rustls::ClientConfig>;
