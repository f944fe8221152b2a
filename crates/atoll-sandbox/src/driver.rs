//! The unprivileged half: asks the launcher for sandboxes and watches them.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;

use atoll_rt::TaskGroup;
use atoll_stdx::Hint;

use crate::launcher::LauncherConfig;
use crate::launcher::protocol::{Refusal, RefusalKind};
use crate::probe::Finding;
use crate::record::{ExitRecord, SandboxRecord, SandboxStats};
use crate::spec::{SandboxSpec, Tier};

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
pub struct SandboxDriver {}

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
    Start(#[source] std::io::Error),
    /// The launcher's answer makes no sense.
    #[error("the launcher gave an answer of the wrong kind")]
    Protocol,
    /// A sandbox's files could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
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
    /// dropped; the process must call [`crate::launcher::run_launcher`].
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn spawn_launcher(
        _program: &Path,
        _argument: &str,
        _config: &LauncherConfig,
    ) -> Result<LauncherProcess, DriverError> {
        Err(DriverError::LauncherGone)
    }

    /// Speaks to a launcher over its socket.
    ///
    /// # Errors
    /// The socket cannot be used asynchronously.
    pub fn connect(_socket: UnixStream, _group: &TaskGroup) -> Result<Self, DriverError> {
        Err(DriverError::LauncherGone)
    }

    /// Makes a sandbox, or leaves nothing behind. The guest has been executed when this returns.
    ///
    /// # Errors
    /// [`DriverError::Refused`] with the kind of reason.
    pub async fn create(&self, _spec: SandboxSpec) -> Result<RunningSandbox, DriverError> {
        Err(DriverError::LauncherGone)
    }

    /// Stops the sandbox politely, waits at most `grace_ms` milliseconds, kills what is left and removes every trace.
    /// Succeeds when there is no such sandbox.
    ///
    /// # Errors
    /// The launcher could not remove everything.
    pub async fn destroy(&self, _id: &str, _grace_ms: u64) -> Result<(), DriverError> {
        Err(DriverError::LauncherGone)
    }

    /// Sends a signal to the guest: 15 stops the sandbox politely.
    ///
    /// # Errors
    /// No such sandbox.
    pub async fn signal(&self, _id: &str, _signal: i32) -> Result<(), DriverError> {
        Err(DriverError::LauncherGone)
    }

    /// Every sandbox of this state directory, those of an earlier plane included.
    ///
    /// # Errors
    /// The launcher is gone.
    pub async fn list(&self) -> Result<Vec<SandboxRecord>, DriverError> {
        Err(DriverError::LauncherGone)
    }

    /// One sandbox.
    ///
    /// # Errors
    /// No such sandbox.
    pub async fn inspect(&self, _id: &str) -> Result<SandboxRecord, DriverError> {
        Err(DriverError::LauncherGone)
    }

    /// Waits until the sandbox has ended. Cancel-safe.
    ///
    /// # Errors
    /// No such sandbox, or it was destroyed meanwhile.
    pub async fn wait(&self, _id: &str) -> Result<ExitRecord, DriverError> {
        Err(DriverError::LauncherGone)
    }

    /// Stops every process of the sandbox where it is; its memory is kept.
    ///
    /// # Errors
    /// No such sandbox.
    pub async fn freeze(&self, _id: &str) -> Result<(), DriverError> {
        Err(DriverError::LauncherGone)
    }

    /// Undoes [`SandboxDriver::freeze`].
    ///
    /// # Errors
    /// No such sandbox.
    pub async fn thaw(&self, _id: &str) -> Result<(), DriverError> {
        Err(DriverError::LauncherGone)
    }

    /// What the sandbox uses now.
    ///
    /// # Errors
    /// No such sandbox.
    pub async fn stats(&self, _id: &str) -> Result<SandboxStats, DriverError> {
        Err(DriverError::LauncherGone)
    }

    /// What this machine can do.
    ///
    /// # Errors
    /// The launcher is gone.
    pub async fn probe(&self) -> Result<Vec<Finding>, DriverError> {
        Err(DriverError::LauncherGone)
    }

    /// Makes a directory that outlives sandboxes, for [`crate::MountKind::Directory`]; the same one for the same name.
    /// Its content belongs to user ids from 0 on, whatever range a sandbox has.
    ///
    /// # Errors
    /// A bad name, or the disk.
    pub async fn make_volume(&self, _name: &str) -> Result<PathBuf, DriverError> {
        Err(DriverError::LauncherGone)
    }

    /// Removes a volume with its content. Succeeds when there is none.
    ///
    /// # Errors
    /// A sandbox uses it.
    pub async fn remove_volume(&self, _name: &str) -> Result<(), DriverError> {
        Err(DriverError::LauncherGone)
    }

    /// Names of all volumes.
    ///
    /// # Errors
    /// The launcher is gone.
    pub async fn list_volumes(&self) -> Result<Vec<String>, DriverError> {
        Err(DriverError::LauncherGone)
    }

    /// The log of the sandbox's workload, in CRI format; readable by the plane. The older half, if any, is beside it
    /// with `.1` appended.
    #[must_use]
    pub fn logs_path(&self, _id: &str) -> PathBuf {
        PathBuf::new()
    }
}
