//! The unprivileged half: asks the launcher for sandboxes and watches them.

mod connection;
mod watch;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use atoll_rt::TaskGroup;
use atoll_stdx::Hint;

use crate::cgroup::{CgroupError, Groups};
use crate::launcher::paths::Paths;
use crate::launcher::protocol::{Answer, Call, Greeting, Refusal, RefusalKind};
use crate::launcher::{LauncherConfig, process, read_frame, write_frame};
use crate::network::rules::NetworkRules;
use crate::probe::Finding;
use crate::record::{ExitRecord, SandboxRecord, SandboxState, SandboxStats};
use crate::spec::{SandboxSpec, Tier};
use connection::Connection;

/// Between two looks at a sandbox whose supervisor cannot be watched.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How long a launcher may take to find what earlier ones left.
const GREETING_TIMEOUT: Duration = Duration::from_secs(60);
/// Politely stopping is signal 15 everywhere.
const SIGTERM: i32 = 15;

/// A started launcher process.
#[derive(Debug)]
pub struct LauncherProcess {
    /// The driver's end of its socket; the launcher ends when it is closed.
    pub socket: UnixStream,
    /// The process.
    pub child: Child,
}

/// Asks for sandboxes. Clones share one launcher.
#[derive(Debug, Clone)]
pub struct SandboxDriver {
    connection: Connection,
    paths: Paths,
}

/// A sandbox that was just made. Its guest runs and its socket can be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningSandbox {
    /// Its id.
    pub id: String,
    /// Its own address.
    pub address: Ipv4Addr,
    /// The guest's control socket.
    pub guest_socket: PathBuf,
    /// The isolation that is really in force.
    pub tier_in_force: Tier,
    /// Start, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// Process id of the supervisor.
    pub supervisor_pid: u32,
    /// Lives of a sandbox id are told apart by this number; a later one is larger.
    pub incarnation: u64,
}

/// A sandbox could not be made, watched or removed.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The launcher refused; nothing half-made is left.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The launcher is gone. Running sandboxes go on.
    #[error("the launcher is gone")]
    LauncherGone,
    /// The launcher could not be started.
    #[error("cannot start the launcher")]
    Start(#[source] io::Error),
    /// The launcher's answer makes no sense.
    #[error("the launcher gave an answer of the wrong kind")]
    Protocol,
    /// A sandbox cannot be watched.
    #[error("cannot watch the sandbox {id}")]
    Watch {
        /// Which.
        id: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A sandbox's counters cannot be read.
    #[error("cannot read what the sandbox uses")]
    Stats(#[source] CgroupError),
}

impl DriverError {
    /// The launcher's kind of reason, where it gave one.
    #[must_use]
    pub fn refusal_kind(&self) -> Option<RefusalKind> {
        match self {
            Self::Refused(refusal) => Some(refusal.kind),
            _ => None,
        }
    }
}

impl Hint for DriverError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(refusal) => refusal.hint.clone(),
            Self::LauncherGone => Some("restart the plane: it finds the running sandboxes again".to_owned()),
            _ => None,
        }
    }
}

impl SandboxDriver {
    /// Runs `program argument` as the launcher. To be called as root, before threads exist and before privileges are
    /// dropped; the process must call [`crate::launcher::run_launcher`]. It gets nothing of this process's environment
    /// but `PATH`: there may be credentials in it.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn spawn_launcher(
        program: &Path,
        argument: &str,
        config: &LauncherConfig,
    ) -> Result<LauncherProcess, DriverError> {
        let start = || -> io::Result<LauncherProcess> {
            let (mut socket, theirs) = UnixStream::pair()?;
            let mut command = Command::new(program);
            command.arg(argument).env_clear().stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
            if let Some(path) = std::env::var_os("PATH") {
                command.env("PATH", path);
            }
            let child = command.spawn()?;
            write_frame(&mut socket, &serde_json::to_vec(config)?)?;
            Ok(LauncherProcess { socket, child })
        };
        start().map_err(DriverError::Start)
    }

    /// Speaks to a launcher over its socket. Waits for it to be ready: the time that it takes to find the sandboxes of
    /// an earlier plane.
    ///
    /// # Errors
    /// The launcher could not start ([`DriverError::Refused`] says why), or the socket cannot be used.
    pub fn connect(mut socket: UnixStream, group: &TaskGroup) -> Result<Self, DriverError> {
        socket.set_read_timeout(Some(GREETING_TIMEOUT)).map_err(DriverError::Start)?;
        let frame = read_frame(&mut socket).map_err(DriverError::Start)?.ok_or(DriverError::LauncherGone)?;
        let greeting: Greeting = serde_json::from_slice(&frame).map_err(|_| DriverError::Protocol)?;
        let state_dir = greeting.ready.map_err(DriverError::Refused)?;
        let connection = Connection::new(socket, group).map_err(DriverError::Start)?;
        Ok(Self { connection, paths: Paths::new(&state_dir) })
    }

    /// Makes a sandbox, or leaves nothing behind. The guest has been executed when this returns.
    ///
    /// # Errors
    /// [`DriverError::Refused`] with the kind of reason.
    pub async fn create(&self, spec: SandboxSpec) -> Result<RunningSandbox, DriverError> {
        let record = sandbox(self.connection.call(Call::Create(Box::new(spec))).await?)?;
        Ok(RunningSandbox {
            id: record.id,
            address: record.address,
            guest_socket: record.guest_socket,
            tier_in_force: record.tier_in_force,
            started_at_ms: record.started_at_ms,
            supervisor_pid: record.supervisor_pid,
            incarnation: record.incarnation,
        })
    }

    /// Stops the sandbox politely, waits at most `grace_ms` milliseconds, kills what is left and removes every trace.
    /// Succeeds when there is no such sandbox.
    ///
    /// # Errors
    /// The launcher could not remove everything.
    pub async fn destroy(&self, id: &str, grace_ms: u64) -> Result<(), DriverError> {
        if grace_ms > 0 {
            match self.signal(id, SIGTERM).await {
                Err(error) if error.refusal_kind() == Some(RefusalKind::NotFound) => return Ok(()),
                other => other?,
            }
            // Whether it stopped by itself or not, it is removed next.
            let _ = tokio::time::timeout(Duration::from_millis(grace_ms), self.wait(id)).await;
        }
        done(self.connection.call(Call::Destroy { id: id.to_owned() }).await?)
    }

    /// Sends a signal to the guest: 15 stops the sandbox politely.
    ///
    /// # Errors
    /// No such sandbox.
    pub async fn signal(&self, id: &str, signal: i32) -> Result<(), DriverError> {
        done(self.connection.call(Call::Signal { id: id.to_owned(), signal }).await?)
    }

    /// Every sandbox of this state directory, those of an earlier plane included.
    ///
    /// # Errors
    /// The launcher is gone.
    pub async fn list(&self) -> Result<Vec<SandboxRecord>, DriverError> {
        match self.connection.call(Call::List).await? {
            Answer::Sandboxes(records) => Ok(records),
            _ => Err(DriverError::Protocol),
        }
    }

    /// One sandbox.
    ///
    /// # Errors
    /// No such sandbox.
    pub async fn inspect(&self, id: &str) -> Result<SandboxRecord, DriverError> {
        sandbox(self.connection.call(Call::Inspect { id: id.to_owned() }).await?)
    }

    /// Waits until the sandbox has ended. Cancel-safe.
    ///
    /// # Errors
    /// No such sandbox, or it was destroyed meanwhile.
    pub async fn wait(&self, id: &str) -> Result<ExitRecord, DriverError> {
        loop {
            let record = self.inspect(id).await?;
            if let SandboxState::Exited(exit) = record.state {
                return Ok(exit);
            }
            match process::open(record.supervisor_pid, record.supervisor_started_ticks) {
                Some(supervisor) => {
                    watch::ended(supervisor).await.map_err(|source| DriverError::Watch { id: id.to_owned(), source })?
                }
                // It ended between the two looks.
                None => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        }
    }

    /// Stops every process of the sandbox where it is; its memory is kept.
    ///
    /// # Errors
    /// No such sandbox.
    pub async fn freeze(&self, id: &str) -> Result<(), DriverError> {
        done(self.connection.call(Call::Freeze { id: id.to_owned(), frozen: true }).await?)
    }

    /// Undoes [`SandboxDriver::freeze`].
    ///
    /// # Errors
    /// No such sandbox.
    pub async fn thaw(&self, id: &str) -> Result<(), DriverError> {
        done(self.connection.call(Call::Freeze { id: id.to_owned(), frozen: false }).await?)
    }

    /// What the sandbox uses now.
    ///
    /// # Errors
    /// No such sandbox, or one that has ended.
    pub async fn stats(&self, id: &str) -> Result<SandboxStats, DriverError> {
        let by_controller = self.inspect(id).await?.cgroups;
        Groups { by_controller }.stats().map_err(DriverError::Stats)
    }

    /// Replaces what the sandbox may send and receive, in one step. A sandbox that was never told may nothing; rules
    /// outlive the launcher, and end with the sandbox.
    ///
    /// # Errors
    /// No such sandbox, or rules beyond what the launcher takes; those before stay in force then.
    pub async fn set_network(&self, id: &str, rules: NetworkRules) -> Result<(), DriverError> {
        done(self.connection.call(Call::SetNetwork { id: id.to_owned(), rules }).await?)
    }

    /// What this machine can do.
    ///
    /// # Errors
    /// The launcher is gone.
    pub async fn probe(&self) -> Result<Vec<Finding>, DriverError> {
        match self.connection.call(Call::Probe).await? {
            Answer::Findings(findings) => Ok(findings),
            _ => Err(DriverError::Protocol),
        }
    }

    /// Makes a directory that outlives sandboxes, for [`crate::MountKind::Directory`]; the same one for the same name.
    /// Its content belongs to user ids from 0 on, whatever range a sandbox has.
    ///
    /// # Errors
    /// A bad name, or the disk.
    pub async fn make_volume(&self, name: &str) -> Result<PathBuf, DriverError> {
        match self.connection.call(Call::MakeVolume { name: name.to_owned() }).await? {
            Answer::Directory(path) => Ok(path),
            _ => Err(DriverError::Protocol),
        }
    }

    /// Removes a volume with its content. Succeeds when there is none.
    ///
    /// # Errors
    /// A sandbox uses it.
    pub async fn remove_volume(&self, name: &str) -> Result<(), DriverError> {
        done(self.connection.call(Call::RemoveVolume { name: name.to_owned() }).await?)
    }

    /// Names of all volumes.
    ///
    /// # Errors
    /// The launcher is gone.
    pub async fn list_volumes(&self) -> Result<Vec<String>, DriverError> {
        match self.connection.call(Call::ListVolumes).await? {
            Answer::Names(names) => Ok(names),
            _ => Err(DriverError::Protocol),
        }
    }

    /// The log of the sandbox's workload, in CRI format; readable by the plane. The older half, if any, is beside it
    /// with `.1` appended.
    #[must_use]
    pub fn logs_path(&self, id: &str) -> PathBuf {
        self.paths.log(id)
    }
}

fn done(answer: Answer) -> Result<(), DriverError> {
    match answer {
        Answer::Done => Ok(()),
        _ => Err(DriverError::Protocol),
    }
}

fn sandbox(answer: Answer) -> Result<SandboxRecord, DriverError> {
    match answer {
        Answer::Sandbox(record) => Ok(*record),
        _ => Err(DriverError::Protocol),
    }
}
