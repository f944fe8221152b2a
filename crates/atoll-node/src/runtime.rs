//! What the node needs from whatever runs sandboxes.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use atoll_sandbox::{ExitRecord, RunningSandbox, SandboxRecord, SandboxSpec};

/// Runs sandboxes: the machine's own driver, or a simulation of it.
#[async_trait]
pub trait PodRuntime: Send + Sync + 'static {
    /// Makes a sandbox, or leaves nothing behind. Its guest answers when this returns.
    ///
    /// # Errors
    /// [`RuntimeError`] with the kind of reason.
    async fn create(&self, spec: SandboxSpec) -> Result<RunningSandbox, RuntimeError>;

    /// Stops a sandbox politely, kills it after `grace_ms` milliseconds, and removes every trace of it. Succeeds when
    /// there is none.
    ///
    /// # Errors
    /// Something is left.
    async fn destroy(&self, id: &str, grace_ms: u64) -> Result<(), RuntimeError>;

    /// Sends a signal to the sandbox's first process.
    ///
    /// # Errors
    /// No such sandbox.
    async fn signal(&self, id: &str, signal: i32) -> Result<(), RuntimeError>;

    /// Waits until the sandbox has ended. Cancel-safe.
    ///
    /// # Errors
    /// No such sandbox, or it was destroyed meanwhile.
    async fn wait(&self, id: &str) -> Result<ExitRecord, RuntimeError>;

    /// Every sandbox, those of an earlier plane included.
    ///
    /// # Errors
    /// The runtime does not answer.
    async fn list(&self) -> Result<Vec<SandboxRecord>, RuntimeError>;

    /// Makes a directory that outlives sandboxes; the same one for the same name.
    ///
    /// # Errors
    /// A bad name, or the disk.
    async fn make_volume(&self, name: &str) -> Result<PathBuf, RuntimeError>;

    /// Removes such a directory with its content. Succeeds when there is none.
    ///
    /// # Errors
    /// A sandbox uses it.
    async fn remove_volume(&self, name: &str) -> Result<(), RuntimeError>;

    /// Names of all such directories.
    ///
    /// # Errors
    /// The runtime does not answer.
    async fn list_volumes(&self) -> Result<Vec<String>, RuntimeError>;

    /// Where the log of a sandbox's workload is, or the one that was kept of its life before this one. The older part,
    /// if there is one, has `.1` appended.
    fn log_path(&self, id: &str, previous: bool) -> PathBuf;

    /// [`PodRuntime::destroy`] for a sandbox that is about to be started anew: its log is kept, in the place of one
    /// kept before.
    ///
    /// # Errors
    /// Something is left.
    async fn destroy_keeping_log(&self, id: &str, grace_ms: u64) -> Result<(), RuntimeError>;

    /// Removes the log that was kept, if one was.
    async fn forget_log(&self, id: &str);

    /// Ids of sandboxes whose logs were kept.
    async fn kept_logs(&self) -> Vec<String>;

    /// Asks a sandbox one question about its health, with a bound on the answer's time.
    async fn check(&self, guest: &GuestEndpoint, question: &Question, limit: Duration) -> CheckOutcome;
}

/// The two ways into one running sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestEndpoint {
    /// The guest's private Unix socket on this machine.
    pub socket: PathBuf,
    /// The sandbox's own address.
    pub address: Ipv4Addr,
}

impl GuestEndpoint {
    pub(crate) fn new(socket: &Path, address: Ipv4Addr) -> Self {
        Self { socket: socket.to_owned(), address }
    }
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A command that exits with 0.
    Exec {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// A port that accepts a connection.
    Tcp {
        /// The port.
        port: u16,
    },
    /// A `GET` that is answered with a status from 200 to 399.
    Http {
        /// The port.
        port: u16,
        /// Path and query.
        path: String,
        /// Additional headers.
        headers: Vec<(String, String)>,
    },
}

/// What came of a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    /// It is as it should be.
    Passed,
    /// It is not, and why.
    Failed(String),
}

/// What kind of reason a [`RuntimeError`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeErrorKind {
    /// The machine or this version cannot do what was asked: asking again does not help.
    Unsupported,
    /// The request breaks a rule: asking again does not help.
    Invalid,
    /// No such sandbox or volume.
    NotFound,
    /// A sandbox with this id is there.
    AlreadyExists,
    /// The address belongs to something else on this machine.
    AddressInUse,
    /// Memory, disk, processes or ids are used up.
    Exhausted,
    /// The sandbox did not come up.
    StartFailed,
    /// The runtime does not answer (any more).
    Gone,
    /// Anything else.
    Internal,
}

/// The runtime refused or failed; nothing half-made is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeError {
    /// What kind of reason.
    pub kind: RuntimeErrorKind,
    /// The reason, in words.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl RuntimeError {
    /// An error without a hint.
    #[must_use]
    pub fn new(kind: RuntimeErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// Reason and hint as one text for a Pod's status.
    #[must_use]
    pub fn told(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{} ({hint})", self.message),
            None => self.message.clone(),
        }
    }
}
