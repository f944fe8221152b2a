//! The plane: what `atoll up` is. Everything that can be refused is refused before anything is started; what needs
//! root happens before the rights are given up.

mod addresses;
pub(crate) mod alone;
mod backup;
mod egress;
pub(crate) mod guest;
mod nodes;
mod pki;
mod plane;
mod policy_file;
mod privileges;
mod router_pod;
mod runtime_classes;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use atoll_gateway::scripted::Script;
use atoll_policy::Policy;
use atoll_rt::telemetry::{LogFormat, init_logging};
use atoll_sandbox::LauncherConfig;
use atoll_sandbox::driver::{LauncherProcess, SandboxDriver};
use atoll_stdx::Hint;

use crate::args::{GlobalArgs, LogForm, UpArgs};
use crate::commands::load_policy;
use crate::failure::{Exit, Failure, Outcome};
use crate::model::{ModelChoice, ModelEnvironment};
use crate::plane::require_root;
use crate::printer::Printer;
use crate::state::{PLANE_GID, PLANE_UID, Reserved, StateDir};

pub(crate) const LAUNCHER_ARGUMENT: &str = "__launcher";
/// A conversation file may be this large.
const SCRIPT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Becomes the launcher if this process was started as one.
pub(crate) fn launcher_role() -> Option<ExitCode> {
    let is_launcher = std::env::args_os().nth(1).is_some_and(|argument| argument == LAUNCHER_ARGUMENT);
    is_launcher.then(atoll_sandbox::launcher::run_launcher)
}

/// Becomes the egress proxy if this process was started as one.
pub(crate) fn egress_role() -> Option<ExitCode> {
    egress::is_asked_for().then(egress::run)
}

/// Everything that a plane is made of, gathered while still root.
struct Prepared {
    state: StateDir,
    reserved: Reserved,
    sockets: addresses::Sockets,
    launcher: LauncherProcess,
    egress: egress::ProxyProcess,
    policy: Policy,
    /// Where it was read from, to be read again when it changes.
    policy_file: Option<PathBuf>,
    agents: AgentLimits,
    model: ModelChoice,
    script: Option<Script>,
    /// Held for as long as the plane runs.
    _lock: std::fs::File,
}

/// What holds for agents of every policy.
struct AgentLimits {
    at_once_max: usize,
    tool_timeout_ms: u64,
}

/// Runs a plane in the foreground until it is told to stop.
pub(crate) fn serve(global: &GlobalArgs, args: &UpArgs, printer: &Printer) -> Outcome {
    let prepared = prepare(global, args)?;
    privileges::give_up(PLANE_UID)?;
    let format = match args.log_format {
        LogForm::Text => LogFormat::Text,
        LogForm::Json => LogFormat::Json,
    };
    init_logging(&args.log, format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::because(Exit::Machine, "cannot start the runtime", &error))?;
    runtime.block_on(plane::run(prepared, printer))
}

fn prepare(global: &GlobalArgs, args: &UpArgs) -> Result<Prepared, Failure> {
    require_root()?;
    let policy = load_policy(args.policy.as_deref())?;
    let policy_file = args.policy.as_deref().map(absolute).transpose()?;
    let credentials = egress::load_credentials(args.egress_credentials.as_deref())?;
    let model = ModelChoice::resolve(&args.model, &ModelEnvironment::read());
    let script = match &model {
        ModelChoice::Scripted(path) => Some(load_script(path)?),
        ModelChoice::None | ModelChoice::Upstreams { .. } => None,
    };
    let state = StateDir::new(&absolute(&global.state_dir)?);
    state.create()?;
    let lock = state.lock()?;
    let reserved = state.reserve()?;
    let sockets = addresses::Sockets::bind(args.ports)?;
    let launcher = start_launcher(&state)?;
    let agents = AgentLimits {
        at_once_max: args.max_agent_concurrency as usize,
        tool_timeout_ms: args.execution_timeout_seconds * 1000,
    };
    let egress = egress::ProxyProcess::spawn(credentials)?;
    Ok(Prepared { state, reserved, sockets, launcher, egress, policy, policy_file, agents, model, script, _lock: lock })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::because(Exit::Usage, format!("{} is no path", path.display()), &error))
}

fn load_script(path: &Path) -> Result<Script, Failure> {
    let read = || -> std::io::Result<String> {
        if std::fs::metadata(path)?.len() > SCRIPT_BYTES_MAX {
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "too large for a conversation"));
        }
        std::fs::read_to_string(path)
    };
    let text =
        read().map_err(|error| Failure::because(Exit::NotFound, format!("cannot read {}", path.display()), &error))?;
    Script::parse(&text, &path.display().to_string()).map_err(|error| Failure::new(Exit::Usage, error.to_string()))
}

/// The runsc that a person names; otherwise it is looked for.
pub(crate) fn configured_runsc() -> Option<PathBuf> {
    std::env::var_os("ATOLL_RUNSC").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn start_launcher(state: &StateDir) -> Result<LauncherProcess, Failure> {
    let config = LauncherConfig {
        state_dir: state.root().to_owned(),
        guest_binary: guest::install(state)?,
        plane_uid: PLANE_UID,
        plane_gid: PLANE_GID,
        runsc: configured_runsc(),
        make_ahead: true,
    };
    SandboxDriver::spawn_launcher(Path::new("/proc/self/exe"), LAUNCHER_ARGUMENT, &config)
        .map_err(|error| Failure::because(Exit::Machine, "cannot start the launcher", &error).hint_of(error.hint()))
}
