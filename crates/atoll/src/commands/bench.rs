//! `atoll bench`: measurements with percentiles, success rate and conditions.
//!
//! With `--json` one object is printed:
//! `{"bench","version","conditions":{…},"rows":[{"name","unit","n","ok","p50","p95","p99","max"} | {"name","unit","value"}]}`.
//! Row names are stable: `claim_to_ready_sequential`, `api_writes_per_claim`, `claim_to_ready_burst_N`,
//! `claims_per_second_burst_N`, `claim_to_ready_sustained`, `claims_per_second`, `cpu_per_claim`, `run_true`, `plane_rss`, `launcher_rss`,
//! `step_overhead`, `resume_10000_steps`, `journal_10000_steps`, `audit_append_per_second`, `decision_100_rules`,
//! `shell_parse_and_decide`, `egress_rss`, `direct_connect_echo`, `proxied_connect_echo`, `proxy_added_p50`,
//! `direct_throughput`, `proxied_throughput`,
//! `native_first_output`, `native_fast_first_output`, `gvisor_first_output`; peers that were measured in the same run
//! have rows `first_output` with `"peer":"NAME"`.

mod api;
mod claim;
pub(crate) use claim::is_ready as is_claim_ready;
mod egress;
mod measure;
mod orchestrator;
mod peers;
mod policy;
mod start;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use measure::{Report, Row, Samples};

use super::{block_on, lifecycle};
use crate::args::{BenchApiArgs, BenchClaimArgs, BenchCommand, BenchPods, GlobalArgs, ModelArgs, PortArgs, UpArgs};
use crate::failure::{Exit, Failure, Outcome};
use crate::plane::{Plane, options_of_environment, start_in_background};
use crate::printer::Printer;
use crate::state::StateDir;

pub(crate) fn bench(global: &GlobalArgs, command: &BenchCommand, printer: &Printer) -> Outcome {
    match command {
        BenchCommand::Orchestrator(args) => return done(&orchestrator::measure(args)?, printer),
        BenchCommand::Policy { n } => return done(&policy::measure(*n), printer),
        BenchCommand::Egress { n } => return done(&bench_egress(*n)?, printer),
        BenchCommand::Start { n } => return done(&start::measure(*n, printer)?, printer),
        _ => {}
    }
    if let BenchCommand::Claim(args) = command
        && let Some(kubeconfig) = &args.kubeconfig
    {
        bench_cluster(kubeconfig, args)?.print(printer);
        return Ok(ExitCode::SUCCESS);
    }
    if let BenchCommand::Api(args) = command
        && let Some(kubeconfig) = &args.kubeconfig
    {
        let rows = block_on(api::measure(kubeconfig, args))?;
        api_report(None, args, rows).condition("server", "of a kubeconfig").print(printer);
        return Ok(ExitCode::SUCCESS);
    }
    if let BenchCommand::Api(args) = command
        && StateDir::new(&global.state_dir).running()?.is_none()
    {
        printer.note("no plane is running: measuring an API server alone");
        let report = api_report(None, args, api::measure_alone(args)?);
        return done(&report.condition("server", "alone in a process of its own"), printer);
    }
    let bench = BenchPlane::find_or_start(global, printer)?;
    let report = match command {
        BenchCommand::Api(args) => bench_api(&bench.plane, args),
        BenchCommand::Claim(args) => bench_claim(&bench.plane, args),
        BenchCommand::Run { n } => bench_run(&bench.plane, *n),
        _ => bench_idle(&bench.plane),
    };
    bench.finish()?;
    done(&report?, printer)
}

fn done(report: &Report, printer: &Printer) -> Outcome {
    report.print(printer);
    Ok(ExitCode::SUCCESS)
}

/// The plane that is up, or a private one for the length of the measurement.
struct BenchPlane {
    plane: Plane,
    private: Option<tempfile::TempDir>,
}

impl BenchPlane {
    fn find_or_start(global: &GlobalArgs, printer: &Printer) -> Result<Self, Failure> {
        let state = StateDir::new(&global.state_dir);
        if let Some(info) = state.running()? {
            return Ok(Self { plane: Plane::connect(state, info)?, private: None });
        }
        printer.note("no plane is running: measuring a private one");
        let dir = private_state_dir("atoll-bench-")?;
        let state = StateDir::new(dir.path());
        let info = start_in_background(&state, &private_plane(ModelArgs::default())?)?;
        Ok(Self { plane: Plane::connect(state, info)?, private: Some(dir) })
    }

    fn finish(self) -> Result<(), Failure> {
        let Some(dir) = self.private else {
            return Ok(());
        };
        lifecycle::stop(&self.plane.state, &self.plane.info, false)?;
        dir.close().map_err(|error| Failure::because(Exit::Failure, "cannot remove the private plane's files", &error))
    }
}

/// A temporary directory that the unprivileged plane can enter.
pub(crate) fn private_state_dir(prefix: &str) -> Result<tempfile::TempDir, Failure> {
    use std::os::unix::fs::PermissionsExt;

    tempfile::Builder::new()
        .prefix(prefix)
        .permissions(std::fs::Permissions::from_mode(0o711))
        .tempdir()
        .map_err(|error| Failure::because(Exit::State, "cannot make a temporary directory", &error))
}

/// A plane on free ports, beside any other.
pub(crate) fn private_plane(model: ModelArgs) -> Result<UpArgs, Failure> {
    let ports = PortArgs { api_port: 0, router_port: 0, platform_port: 0, policy_port: 0 };
    Ok(UpArgs { ports, ..options_of_environment(model)? })
}

fn bench_claim(plane: &Plane, args: &BenchClaimArgs) -> Result<Report, Failure> {
    let rows = block_on(async { claim::measure(plane.kube().await?, args).await })?;
    let pods = match args.pods {
        BenchPods::Native => "native sandboxes",
        BenchPods::Simulated => "simulated",
    };
    Ok(Report::new("claim", Some(plane), rows)
        .condition("pool", args.pool.max(args.burst))
        .condition("pods", pods)
        .condition("rate_asked_per_s", args.rate))
}

/// The same on a cluster, with whatever runs Pods there.
fn bench_cluster(kubeconfig: &Path, args: &BenchClaimArgs) -> Result<Report, Failure> {
    atoll_rt::tls::install_crypto_provider();
    let (version, rows) = block_on(async {
        let client = atoll_client::from_kubeconfig(kubeconfig, None)
            .await
            .map_err(|error| Failure::because(Exit::Unreachable, "cannot use the kubeconfig", &error))?;
        let version = client
            .apiserver_version()
            .await
            .map_err(|error| Failure::because(Exit::Unreachable, "the API server does not answer", &error))?;
        Ok((version.git_version, claim::measure(client, args).await?))
    })?;
    Ok(Report::new("claim", None, rows)
        .condition("pool", args.pool.max(args.burst))
        .condition("server", version)
        .condition("rate_asked_per_s", args.rate))
}

/// The plane's own API server, over TLS, as any client reaches it.
fn bench_api(plane: &Plane, args: &BenchApiArgs) -> Result<Report, Failure> {
    let rss = || measure::resident_kib(plane.info.pid).map(|kib| kib / 1024.0);
    let before = rss()?;
    let mut rows = block_on(api::measure(&plane.state.kubeconfig(), args))?;
    rows.push(Row::value("plane_rss_before", "MiB", before));
    rows.push(Row::value("plane_rss_after", "MiB", rss()?));
    Ok(api_report(Some(plane), args, rows))
}

fn api_report(plane: Option<&Plane>, args: &BenchApiArgs, rows: Vec<Row>) -> Report {
    Report::new("api", plane, rows)
        .condition("clients", args.clients)
        .condition("seconds", args.seconds)
        .condition("object_bytes", "about 1000")
        .condition("transport", "HTTP/1.1 over TLS, clients on the same machine")
}

/// `atoll run --rm -- true`, whole processes.
fn bench_run(plane: &Plane, n: u32) -> Result<Report, Failure> {
    let mut samples = Samples::default();
    for _ in 0..n {
        let started = Instant::now();
        let status = std::process::Command::new("/proc/self/exe")
            .arg("--state-dir")
            .arg(plane.state.root())
            .args(["--quiet", "run", "--rm", "--", "true"])
            .status()
            .map_err(|error| Failure::because(Exit::Failure, "cannot run atoll", &error))?;
        samples.record(started.elapsed(), status.success());
    }
    Ok(Report::new("run", Some(plane), vec![samples.row("run_true")]))
}

/// The egress proxy beside no proxy, in this process.
fn bench_egress(n: u32) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::because(Exit::Machine, "cannot start the runtime", &error))?;
    let rows = runtime.block_on(egress::measure(n))?;
    runtime.shutdown_background();
    Ok(Report::new("egress", None, rows).condition("network", "loopback; client, proxy and server in one process"))
}

/// Memory of a plane that does nothing.
fn bench_idle(plane: &Plane) -> Result<Report, Failure> {
    let plane_kib = measure::resident_kib(plane.info.pid)?;
    let mut rows = vec![Row::value("plane_rss", "MiB", plane_kib / 1024.0)];
    for child in measure::children(plane.info.pid) {
        let name = if measure::has_argument(child, "__egress") { "egress_rss" } else { "launcher_rss" };
        rows.push(Row::value(name, "MiB", measure::resident_kib(child)? / 1024.0));
    }
    Ok(Report::new("idle", Some(plane), rows))
}
