//! The composition root: every part, in the order in which they need each other, and the order in which they stop.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use atoll_apiserver::{ApiServer, ApiServerConfig, Identity, TokenIdentity, definitions};
use atoll_client::sandbox::RouterEndpoint;
use atoll_controllers::{Controllers, ControllersConfig};
use atoll_gateway::{Dialect, Gateway, GatewayConfig, Timeouts, Upstream, scripted};
use atoll_node::{DriverRuntime, Furnish, Node, NodeConfig};
use atoll_orchestrator::{
    GatewayEndpoint, Orchestrator, OrchestratorConfig, PolicyInForce, SandboxWorkbench, SandboxWorkbenchConfig,
};
use atoll_router::{GuestEndpoint, Router, RouterConfig};
use atoll_rt::clock::{SystemClock, now_unix_ms};
use atoll_rt::listen::{serve_http, serve_https};
use atoll_rt::telemetry::SpanSink;
use atoll_rt::{TaskGroup, ids};
use atoll_sandbox::SandboxDriver;
use atoll_stdx::{Hint, Secret};
use atoll_store::{Journal, Store};
use atoll_trace::TraceStore;
use futures::StreamExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::addresses::{address, into_async};
use super::nodes::OwnNode;
use super::pki::Pki;
use super::router_pod::{self, RouterPart};
use super::{Prepared, backup, policy_file, runtime_classes};
use crate::commands::tell;
use crate::failure::{Exit, Failure, Outcome};
use crate::model::ModelChoice;
use crate::printer::Printer;
use crate::state::{PlaneInfo, StateDir};

pub(super) const NODE_NAME: &str = "atoll";
/// Where agents' sandboxes live.
const AGENT_NAMESPACE: &str = "default";
const TOKEN_BYTES: usize = 32;
/// Finished spans that wait to be stored.
const SPANS_WAITING_MAX: usize = 4096;
/// How long each group of parts may take to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a sandbox may take to stop politely when the plane stops.
const SANDBOX_GRACE_MS: u64 = 2_000;
const STOPS_AT_ONCE: usize = 8;

/// What runs, in groups that stop one after the other.
struct Running {
    /// What takes requests: listeners, router, gateway, orchestrator.
    front: TaskGroup,
    /// What acts on objects: controllers, node.
    middle: TaskGroup,
    /// What keeps things: API server, databases, the connection to the launcher.
    back: TaskGroup,
    driver: SandboxDriver,
    info: PlaneInfo,
    kubeconfig: String,
}

/// Runs the plane until a signal tells it to stop.
pub(super) async fn run(prepared: Prepared, printer: &Printer) -> Outcome {
    let mut signals = Signals::listen()?;
    let Prepared { state, mut reserved, sockets, launcher, egress, policy, policy_file, agents, model, script, _lock } =
        prepared;
    let front = TaskGroup::new("front");
    let middle = TaskGroup::new("middle");
    let back = TaskGroup::new("back");

    let pki = Pki::load_or_create(&state)?;
    let tokens = Tokens::new(&pki);
    let store = Store::open(state.control_database(), &back)
        .map_err(|error| failed(Exit::State, "cannot open the store of objects", &error))?;
    let api_server = start_api_server(store.clone(), &tokens, &back).await?;
    let journal = Journal::open(state.runs_database(), &back)
        .map_err(|error| failed(Exit::State, "cannot open the journal of runs", &error))?;
    runtime_classes::offer(&kube::Client::new(
        api_server.in_process(Identity::administrator("system:atoll:setup")),
        AGENT_NAMESPACE,
    ))
    .await?;
    let driver = SandboxDriver::connect(launcher.socket, &back)
        .map_err(|error| failed(Exit::Machine, "cannot use the launcher", &error))?;
    let controllers = start_controllers(&api_server, &middle);
    let egress_client = client(&api_server, "system:atoll:egress", &[]);
    let egress = egress.start(&state, egress_client, &driver, &journal, (&middle, &back)).await?;
    let node = start_node(&api_server, &driver, (&state, egress.furnish()), &middle).await?;
    api_server.connect_nodes(Arc::new(OwnNode(node.clone())));
    controllers.synced().await;
    egress.synced().await;
    let router = start_router(&api_server, node.clone(), &front).await?;
    node.connect_part(router_pod::part(), Arc::new(RouterPart::new(router.clone(), &front)));
    let keeper = client(&api_server, "system:atoll:plane", &["system:masters"]);
    front.spawn("router-pod", router_pod::keep(keeper, NODE_NAME, front.token()));

    let info = plane_info(&sockets, &pki, &model)?;
    let gateway_url = format!("http://{}", address(&sockets.gateway)?);
    let gateway = start_gateway(model, script, sockets.scripted, &tokens, &front)?;
    serve_https(&front, into_async(sockets.api)?, Arc::clone(&pki.tls), api_server.service());
    serve_http(&front, into_async(sockets.router)?, router.service());
    serve_http(&front, into_async(sockets.gateway)?, gateway.service());

    let (spans, span_receiver) = SpanSink::channel(SPANS_WAITING_MAX);
    let traces = TraceStore::open(journal.clone(), policy.governance().trace_retention_days, now_unix_ms())
        .await
        .map_err(|error| Failure::because(Exit::State, "cannot open the store of traces", &error))?;
    traces.ingest(span_receiver, &back);
    let backups = backup::routes(store, journal.clone(), state.plane(), &back);
    let orchestrator = Orchestrator::start(
        OrchestratorConfig {
            journal,
            workbench: Arc::new(SandboxWorkbench::new(SandboxWorkbenchConfig {
                client: client(&api_server, "system:atoll:orchestrator", &[]),
                router: RouterEndpoint { base_url: info.router_url.clone(), token: tokens.orchestrator.clone() },
                namespace: AGENT_NAMESPACE.to_owned(),
            })),
            gateway: GatewayEndpoint { base_url: gateway_url, token: tokens.gateway.clone() },
            policy: PolicyInForce::new(policy, now_unix_ms()),
            spans,
            clock: Arc::new(SystemClock),
            data_dir: state.plane(),
            instance: format!("{NODE_NAME}-{}", std::process::id()),
            api_token: tokens.admin.clone(),
            api_hosts: Vec::new(),
            limits: atoll_engine::Limits { tool_timeout_ms: agents.tool_timeout_ms, ..atoll_engine::Limits::default() },
            agent_concurrency_max: agents.at_once_max,
        },
        &front,
    )
    .await
    .map_err(|error| failed(Exit::State, "cannot start the orchestrator", &error))?;
    let more = atoll_trace::routes(traces).merge(backups).merge(egress.routes());
    serve_http(&front, into_async(sockets.platform)?, orchestrator.service(more));
    serve_http(&front, into_async(sockets.policy)?, orchestrator.policy_service());
    if let Some(file) = policy_file {
        policy_file::watch(file, orchestrator, &front);
    }

    let kubeconfig = pki.kubeconfig(&info.api_url);
    let running = Running { front, middle, back, driver, info, kubeconfig };
    reserved.publish(&running.info, &running.kubeconfig)?;
    tell(&state, &running.info, printer);
    let stop = signals.next().await;
    reserved.retract();
    running.stop(stop).await
}

/// Bearer tokens of this plane. All but the administrator's live as long as the process.
struct Tokens {
    admin: Secret<String>,
    orchestrator: Secret<String>,
    gateway: Secret<String>,
}

impl Tokens {
    fn new(pki: &Pki) -> Self {
        Self {
            admin: pki.admin_token.clone(),
            orchestrator: Secret::new(ids::random_hex(TOKEN_BYTES)),
            gateway: Secret::new(ids::random_hex(TOKEN_BYTES)),
        }
    }
}

async fn start_api_server(store: Store, tokens: &Tokens, group: &TaskGroup) -> Result<ApiServer, Failure> {
    let config = ApiServerConfig {
        store,
        definitions: definitions::builtin(),
        tokens: vec![
            TokenIdentity::new(tokens.admin.expose(), Identity::administrator("atoll-admin")),
            TokenIdentity::new(tokens.orchestrator.expose(), Identity::new("system:atoll:orchestrator", &[])),
        ],
        clock: Arc::new(SystemClock),
        group: group.clone(),
    };
    ApiServer::build(config).await.map_err(|error| failed(Exit::State, "cannot start the API server", &error))
}

/// A client of the API server for a component of this process, under a name of its own.
fn client(server: &ApiServer, name: &str, groups: &[&str]) -> kube::Client {
    kube::Client::new(server.in_process(Identity::new(name, groups)), AGENT_NAMESPACE)
}

fn start_controllers(server: &ApiServer, group: &TaskGroup) -> Controllers {
    let config = ControllersConfig {
        scheduler_client: Some(client(server, "system:atoll:scheduler", &[])),
        ..ControllersConfig::default()
    };
    atoll_controllers::run_all(client(server, "system:atoll:controllers", &[]), config, group)
}

async fn start_node(
    server: &ApiServer,
    driver: &SandboxDriver,
    (state, furnish): (&StateDir, Arc<dyn Furnish>),
    group: &TaskGroup,
) -> Result<Node, Failure> {
    let identity = client(server, &format!("system:node:{NODE_NAME}"), &["system:nodes"]);
    let runtime = Arc::new(DriverRuntime::new(driver.clone(), state.plane().join("logs")).furnished(furnish));
    let config = NodeConfig {
        parts: vec![router_pod::part()],
        images: Some(atoll_image::Images::of(state.root())),
        ..NodeConfig::new(NODE_NAME, env!("CARGO_PKG_VERSION"))
    };
    Node::start(identity, runtime, config, group)
        .await
        .map_err(|error| failed(Exit::Failure, "cannot start the node", &error))
}

async fn start_router(server: &ApiServer, node: Node, group: &TaskGroup) -> Result<Router, Failure> {
    let locate = move |pod_uid: &str| {
        node.locate_guest(pod_uid).map(|endpoint| GuestEndpoint { socket: endpoint.socket, address: endpoint.address })
    };
    Router::start(client(server, "system:atoll:router", &[]), Arc::new(locate), RouterConfig::default(), group)
        .await
        .map_err(|error| failed(Exit::Failure, "cannot start the router", &error))
}

/// The gateway, with the scripted upstream before it where a conversation is to be played.
fn start_gateway(
    model: ModelChoice,
    script: Option<scripted::Script>,
    socket: TcpListener,
    tokens: &Tokens,
    group: &TaskGroup,
) -> Result<Gateway, Failure> {
    let (upstreams, default_model) = match (model, script) {
        (ModelChoice::Upstreams { upstreams, default_model }, _) => (upstreams, default_model),
        (ModelChoice::Scripted(_), Some(script)) => {
            let key = Secret::new(ids::random_hex(TOKEN_BYTES));
            let upstream = Upstream {
                name: "scripted".to_owned(),
                dialect: Dialect::OpenAi,
                base_url: format!("http://{}/v1", address(&socket)?),
                api_key: Some(key.clone()),
                models: vec!["*".to_owned()],
            };
            let default_model = script.model().to_owned();
            scripted::serve(group, into_async(socket)?, script, key);
            (vec![upstream], default_model)
        }
        (ModelChoice::Scripted(_) | ModelChoice::None, _) => (Vec::new(), String::new()),
    };
    let config =
        GatewayConfig { token: tokens.gateway.clone(), upstreams, default_model, timeouts: Timeouts::default() };
    Gateway::new(config).map_err(|error| {
        Failure::because(Exit::Usage, "cannot use the configured model", &error)
            .hint("check OPENAI_BASE_URL and ANTHROPIC_BASE_URL")
    })
}

fn plane_info(sockets: &super::addresses::Sockets, pki: &Pki, model: &ModelChoice) -> Result<PlaneInfo, Failure> {
    Ok(PlaneInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        api_url: format!("https://{}", address(&sockets.api)?),
        router_url: format!("http://{}", address(&sockets.router)?),
        platform_url: format!("http://{}", address(&sockets.platform)?),
        policy_url: format!("http://{}", address(&sockets.policy)?),
        token: pki.admin_token.expose().clone(),
        model: model.describe(),
        started_at_ms: now_unix_ms(),
    })
}

fn failed<E: std::error::Error + Hint + 'static>(exit: Exit, attempted: &str, error: &E) -> Failure {
    Failure::because(exit, attempted, error).hint_of(error.hint())
}

/// How a plane is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// With every sandbox.
    Everything,
    /// Sandboxes go on; the next plane takes them over.
    KeepSandboxes,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    keep: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::because(Exit::Machine, "cannot listen for signals", &error));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            keep: listen(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::Everything,
            _ = self.interrupt.recv() => Stop::Everything,
            _ = self.keep.recv() => Stop::KeepSandboxes,
        }
    }
}

impl Running {
    async fn stop(self, stop: Stop) -> Outcome {
        for group in [&self.front, &self.middle] {
            if !group.drain(DRAIN_TIMEOUT).await {
                tracing::warn!(?group, "did not stop in time");
            }
        }
        let removed = match stop {
            Stop::Everything => remove_sandboxes(&self.driver).await,
            Stop::KeepSandboxes => Ok(()),
        };
        if !self.back.drain(DRAIN_TIMEOUT).await {
            tracing::warn!(group = ?self.back, "did not stop in time");
        }
        removed.map(|()| std::process::ExitCode::SUCCESS)
    }
}

/// Stops every sandbox. Their Pods stay as they are: the next plane starts them anew.
async fn remove_sandboxes(driver: &SandboxDriver) -> Result<(), Failure> {
    let records = driver.list().await.map_err(|error| failed(Exit::Failure, "cannot list sandboxes", &error))?;
    let failures: Vec<Failure> = futures::stream::iter(records)
        .map(|record| async move { driver.destroy(&record.id, SANDBOX_GRACE_MS).await })
        .buffer_unordered(STOPS_AT_ONCE)
        .filter_map(async |result| result.err().map(|error| failed(Exit::Failure, "a sandbox did not stop", &error)))
        .collect()
        .await;
    failures.into_iter().next().map_or(Ok(()), Err)
}
