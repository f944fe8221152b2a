//! `atoll controllers`: the controllers on a cluster that has an API server of its own.

mod conversion;
mod election;
mod endpoints;
mod requests;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use atoll_controllers::ControllersConfig;
use atoll_rt::TaskGroup;
use atoll_rt::telemetry::{LogFormat, init_logging};
use http::HeaderValue;
use http::header::USER_AGENT;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};

use self::election::Election;
use self::endpoints::Vitals;
use self::requests::RequestCounts;
use crate::args::{ControllersArgs, LogForm};
use crate::failure::{Exit, Failure, Outcome};
use crate::printer::Printer;

/// The lease of upstream's controllers: of theirs and ours, one works at a time.
const LEASE: &str = "a3317529.agent-sandbox.x-k8s.io";
/// Where the lease is when nothing says otherwise.
const NAMESPACE: &str = "agent-sandbox-system";
/// Where a Pod finds its own namespace.
const OWN_NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
const RBAC: &str = include_str!("../../../../deploy/rbac.yaml");
const CRDS: &[&str] = &[
    include_str!("../../../../schemas/crds/agents.x-k8s.io_sandboxes.yaml"),
    include_str!("../../../../schemas/crds/extensions.agents.x-k8s.io_sandboxclaims.yaml"),
    include_str!("../../../../schemas/crds/extensions.agents.x-k8s.io_sandboxtemplates.yaml"),
    include_str!("../../../../schemas/crds/extensions.agents.x-k8s.io_sandboxwarmpools.yaml"),
];

/// Prints the definitions of the sandbox kinds, for `kubectl apply --server-side -f -`.
/// With `older`, `v1alpha1` is served too, converted by the webhook of `atoll controllers`.
pub(super) fn crds(older: bool, printer: &Printer) -> Outcome {
    if older {
        let definitions =
            atoll_apiserver::conversion::definitions_with_older_version(&conversion::client_config(NAMESPACE));
        let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": definitions });
        printer.raw(format!("{list}\n").as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    printer.raw(CRDS.join("---\n").as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// Runs the controllers until a signal.
pub(super) fn controllers(args: &ControllersArgs, printer: &Printer) -> Outcome {
    if args.print_rbac {
        printer.raw(RBAC.as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    let format = match args.log_format {
        LogForm::Text => LogFormat::Text,
        LogForm::Json => LogFormat::Json,
    };
    init_logging(&args.log, format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::because(Exit::Machine, "cannot start the runtime", &error))?;
    runtime.block_on(run(args))
}

async fn run(args: &ControllersArgs) -> Outcome {
    atoll_rt::tls::install_crypto_provider();
    let config = cluster(args).await?;
    let vitals = Vitals { lease: LEASE.to_owned(), ..Vitals::default() };
    let front = TaskGroup::new("endpoints");
    endpoints::serve_health(vitals.clone(), args.health_probe_bind_address, &front).await?;
    endpoints::serve_metrics(vitals.clone(), args.metrics_bind_address, &front).await?;
    let client = client(&config, "leader-election", &vitals.requests)?;
    let version = client.apiserver_version().await;
    version.map_err(|error| Failure::because(Exit::Unreachable, "the API server does not answer", &error))?;
    vitals.ready.store(true, Ordering::Relaxed);
    let stop = front.token();
    stop_at_signals(&front)?;
    let namespace = args.leader_election_namespace.clone().unwrap_or_else(own_namespace);
    if let Some(address) = args.conversion_webhook_bind_address {
        conversion::serve(client.clone(), &namespace, address, &front).await?;
    }
    let mut election = Election::new(client, &namespace, LEASE);
    if args.leader_elect && !election.win(&stop).await {
        return Ok(ExitCode::SUCCESS);
    }
    vitals.leads.store(true, Ordering::Relaxed);
    let group = start(args, config, &vitals).await?;
    tokio::select! {
        () = election.until_lost(), if args.leader_elect => {
            // Whoever leads now must not find us at work: end at once, and be started anew.
            return Err(Failure::new(Exit::Failure, "the lease was lost to another process"));
        }
        () = stop.cancelled() => {}
    }
    group.drain(DRAIN_TIMEOUT).await;
    if args.leader_elect {
        election.release().await;
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(args: &ControllersArgs, config: Config, vitals: &Vitals) -> Result<TaskGroup, Failure> {
    let group = TaskGroup::new("controllers");
    // Made here, so that a configuration that is of no use is told before anything starts.
    let names = ["sandbox", "sandboxtemplate", "sandboxwarmpool", "sandboxclaim"];
    let clients = names
        .into_iter()
        .map(|name| Ok((name, client(&config, name, &vitals.requests)?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    let shared = client(&config, "cache", &vitals.requests)?;
    let others = shared.clone();
    let client_of = move |wanted: &'static str| {
        let own = clients.iter().find(|(name, _)| *name == wanted);
        own.map_or_else(|| others.clone(), |(_, client)| client.clone())
    };
    let settings = ControllersConfig {
        cluster_domain: args.cluster_domain.clone(),
        scheduler: false,
        client_of: Some(Arc::new(client_of)),
        claim_observability_annotations: args.claim_observability_annotations,
        sandbox_workers: args.sandbox_concurrent_workers,
        claim_workers: args.sandbox_claim_concurrent_workers,
        ..ControllersConfig::default()
    };
    let running = atoll_controllers::run_all(shared, settings, &group);
    running.synced().await;
    let _first = vitals.controllers.set(running);
    tracing::info!("the controllers are at work");
    Ok(group)
}

/// Where the cluster is: the kubeconfig that was named, or that of the Pod this runs in.
async fn cluster(args: &ControllersArgs) -> Result<Config, Failure> {
    let Some(path) = &args.kubeconfig else {
        return Config::incluster().map_err(|error| {
            Failure::because(Exit::Usage, "no kubeconfig was named, and this is no Pod", &error)
                .hint("Name one with --kubeconfig FILE")
        });
    };
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::because(Exit::Usage, format!("cannot use the kubeconfig {}", path.display()), error)
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| failed(&error))
}

/// A client that says which controller it is.
fn client(config: &Config, controller: &'static str, requests: &RequestCounts) -> Result<Client, Failure> {
    let mut config = config.clone();
    let name = format!("atoll/{} ({controller})", env!("CARGO_PKG_VERSION"));
    let value = HeaderValue::from_str(&name).expect("names of controllers are printable");
    config.headers.push((USER_AGENT, value));
    let builder = ClientBuilder::try_from(config)
        .map_err(|error| Failure::because(Exit::Usage, "cannot make a client from the kubeconfig", &error))?;
    Ok(builder.with_layer(&requests.of(controller)).build())
}

fn own_namespace() -> String {
    std::fs::read_to_string(OWN_NAMESPACE_FILE).map_or_else(|_| NAMESPACE.to_owned(), |text| text.trim().to_owned())
}

/// Cancels the group at SIGTERM and SIGINT.
fn stop_at_signals(group: &TaskGroup) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::because(Exit::Machine, "cannot listen for signals", &error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let stopping = group.clone();
    group.spawn("signals", async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
    });
    Ok(())
}
