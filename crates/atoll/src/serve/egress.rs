//! What sandboxes may reach: the proxy's process, the controller that keeps it and the packet filter, and what is kept of
//! their connections.

mod ledger;
mod routes;
mod trust;

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use atoll_egress::controller::ProxyFeed;
use atoll_egress::grants::Grants;
use atoll_egress::link::{ProxyLink, run_proxy};
use atoll_egress::node_credentials::NodeCredentials;
use atoll_egress::{EgressConfig, EgressController};
use atoll_node::Furnish;
use atoll_rt::TaskGroup;
use atoll_rt::telemetry::{LogFormat, init_logging};
use atoll_sandbox::SandboxDriver;
use atoll_store::Journal;

use super::pki::egress_authority;
use super::plane::NODE_NAME;
use super::privileges;
use crate::failure::{Exit, Failure};
use crate::state::{EGRESS_UID, StateDir};
use ledger::Ledger;

const ARGUMENT: &str = "__egress";
const CREDENTIALS_BYTES_MAX: u64 = 1024 * 1024;
/// What the proxy's process inherits: where to find programs, and the certificates that servers prove themselves by.
const INHERITED: [&str; 3] = ["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Whether this process was started as the proxy.
pub(super) fn is_asked_for() -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == ARGUMENT)
}

/// The proxy's `main`: ends when the plane's side of its socket is closed.
pub(super) fn run() -> ExitCode {
    init_logging("warn", LogFormat::Text);
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!(cause = failure.message(), "the egress proxy stops");
            failure.exit_code()
        }
    }
}

fn serve() -> Result<(), Failure> {
    let failed =
        |what: &'static str, error: &(dyn std::error::Error + 'static)| Failure::because(Exit::Machine, what, error);
    let socket = take_socket().map_err(|error| failed("the egress proxy was started without its socket", &error))?;
    privileges::give_up(EGRESS_UID)?;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    // At worst, fewer connections fit.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("cannot start the runtime", &error))?;
    let outcome = runtime.block_on(run_proxy(socket));
    runtime.shutdown_background();
    outcome.map_err(|error| failed("the egress proxy cannot go on", &error))
}

/// The socket is standard input: nothing else needs to be told.
fn take_socket() -> std::io::Result<UnixStream> {
    let own = rustix::io::fcntl_dupfd_cloexec(std::io::stdin().as_fd(), 3)?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(null)?;
    rustix::net::sockopt::socket_type(&own)?;
    Ok(UnixStream::from(own))
}

/// Credentials that the administrator gives, read while this process may read them.
pub(super) fn load_credentials(path: Option<&Path>) -> Result<NodeCredentials, Failure> {
    let Some(path) = path else { return Ok(NodeCredentials::default()) };
    let read = || -> std::io::Result<String> {
        if std::fs::metadata(path)?.len() > CREDENTIALS_BYTES_MAX {
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "too large for credentials"));
        }
        std::fs::read_to_string(path)
    };
    let text =
        read().map_err(|error| Failure::because(Exit::NotFound, format!("cannot read {}", path.display()), &error))?;
    NodeCredentials::read(&text).map_err(|error| {
        Failure::because(Exit::Usage, format!("{} is not a file of credentials", path.display()), &error)
            .hint("it maps names to {hosts: [HOST], file: PATH | environment: NAME | exec: [PROGRAM]}")
    })
}

/// A proxy that waits to be told.
pub(super) struct ProxyProcess {
    socket: UnixStream,
    credentials: NodeCredentials,
}

/// Everything about egress that the plane's other parts use.
pub(super) struct Egress {
    controller: EgressController,
    grants: Grants,
    ledger: Ledger,
    authority_pem: String,
}

impl ProxyProcess {
    /// To be called as root and before threads exist; the proxy gives its rights up by itself.
    pub(super) fn spawn(credentials: NodeCredentials) -> Result<Self, Failure> {
        let start = || -> std::io::Result<UnixStream> {
            let (socket, theirs) = UnixStream::pair()?;
            let mut command = Command::new("/proc/self/exe");
            command.arg0("atoll").arg(ARGUMENT).env_clear().stdin(Stdio::from(OwnedFd::from(theirs)));
            command.stdout(Stdio::null());
            command.envs(INHERITED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
            command.spawn()?;
            Ok(socket)
        };
        use std::os::unix::process::CommandExt;
        let socket =
            start().map_err(|error| Failure::because(Exit::Machine, "cannot start the egress proxy", &error))?;
        Ok(Self { socket, credentials })
    }

    /// Starts to enforce and to record. Records go on as long as `back` does.
    pub(super) async fn start(
        self,
        state: &StateDir,
        client: kube::Client,
        driver: &SandboxDriver,
        journal: &Journal,
        (middle, back): (&TaskGroup, &TaskGroup),
    ) -> Result<Egress, Failure> {
        let authority = egress_authority(state)?;
        let link = ProxyLink::connect(self.socket, &authority, back)
            .await
            .map_err(|error| Failure::because(Exit::Machine, "cannot use the egress proxy", &error))?;
        let grants = Grants::default();
        self.credentials.ask_helpers(middle);
        let config = EgressConfig {
            node_name: NODE_NAME.to_owned(),
            machine_addresses: machine_addresses()?,
            proxy: Some(ProxyFeed { ports: link.ports, snapshots: link.snapshots }),
            grants: grants.clone(),
            credentials: self.credentials,
        };
        let controller = EgressController::start(client, Arc::new(driver.clone()), config, middle);
        let ledger = Ledger::start(link.records, journal.clone(), back);
        Ok(Egress { controller, grants, ledger, authority_pem: authority.certificate_pem().to_owned() })
    }
}

impl Egress {
    /// Returns when what is allowed is known.
    pub(super) async fn synced(&self) {
        self.controller.synced().await;
    }

    /// What sandboxes get so that they trust the proxy, where they must.
    pub(super) fn furnish(&self) -> Arc<dyn Furnish> {
        Arc::new(trust::Trust::new(self.controller.clone(), &self.authority_pem))
    }

    /// `/v1/egress/…`.
    pub(super) fn routes(self) -> axum::Router {
        routes::routes(self.controller, self.grants, self.ledger)
    }
}

/// The machine's own addresses: no rule of a sandbox opens them.
fn machine_addresses() -> Result<Vec<Ipv4Addr>, Failure> {
    let interfaces = nix::ifaddrs::getifaddrs()
        .map_err(|error| Failure::because(Exit::Machine, "cannot list this machine's addresses", &error))?;
    Ok(interfaces.filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip())).collect())
}
