//! Where an agent's tools work: a sandbox, seen through what the tools need of it.

pub mod sandbox;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use atoll_engine::SandboxIdentity;
use atoll_stdx::Hint;

/// Makes benches and takes them away.
#[async_trait]
pub trait Workbench: Send + Sync {
    /// The bench of an agent: made when it is not there, found again when it is. Returns once commands can run.
    async fn open(&self, order: &BenchOrder) -> Result<Arc<dyn Bench>, BenchError>;

    /// Takes away every bench of a run. Doing it twice is fine.
    async fn release(&self, run_id: &str) -> Result<(), BenchError>;
}

/// One agent's place of work.
///
/// Paths are absolute. Every method may be called again after a [`BenchError::Broken`].
#[async_trait]
pub trait Bench: Send + Sync {
    /// What answers there now. Another UID or incarnation than before means that nothing of before is left.
    async fn identity(&self) -> Result<SandboxIdentity, BenchError>;

    /// Runs a command to its end, handing output over as it comes. A key that was used before in the same incarnation
    /// does not run again: its kept output is handed over, then what follows. Dropping the future leaves the command
    /// running.
    async fn exec(&self, command: &BenchCommand, output: OutputFn<'_>) -> Result<BenchExit, BenchError>;

    /// What became of a key.
    async fn lookup(&self, key: &str) -> Result<KeyState, BenchError>;

    /// Kills the whole process tree of the command with this key, if it runs.
    async fn kill(&self, key: &str) -> Result<(), BenchError>;

    /// A whole regular file of at most `bytes_max` bytes.
    async fn read_file(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, BenchError>;

    /// Puts a whole file in place at once, with the directories above it.
    async fn write_file(&self, path: &str, content: &[u8]) -> Result<(), BenchError>;
}

/// Takes a command's output piece by piece.
pub type OutputFn<'a> = &'a mut (dyn FnMut(OutputStream, &[u8]) + Send);

/// What is wanted of a bench.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchOrder {
    pub run_id: String,
    /// Id of the agent within the run.
    pub agent: u32,
    pub agent_name: String,
    /// Kubernetes quantities; the workbench's default when `None`.
    pub cpu: Option<String>,
    pub memory: Option<String>,
}

/// A command to run on a bench; it reads nothing from standard input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BenchCommand {
    pub key: String,
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: String,
    pub timeout_ms: u64,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BenchExit {
    /// Exit code, or 128 plus the signal's number.
    pub code: i32,
    pub timed_out: bool,
    /// It was killed from outside, most often for its memory.
    pub killed: bool,
    /// Output that nobody has any more.
    pub lost_bytes: u64,
}

/// What became of an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// This incarnation never started a command with it.
    Unknown,
    Running,
    Exited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    Stdout,
    Stderr,
}

/// A bench could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No sandbox can be had.
    #[error("no sandbox for the agent: {message}")]
    Unavailable { message: String, hint: Option<String> },
    /// The connection broke, or the sandbox is away for a moment.
    #[error("the connection to the sandbox broke: {message}")]
    Broken { message: String },
    /// There is no such file or program.
    #[error("{message}")]
    NotFound { message: String },
    /// The sandbox refused.
    #[error("{message}")]
    Refused { message: String },
    #[error("the file has {size} bytes, at most {limit} can be read")]
    TooLarge { size: u64, limit: u64 },
}

impl Hint for BenchError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unavailable { hint, .. } => hint.clone(),
            Self::Broken { .. } => Some("see whether the sandbox runs with `atoll sandbox ls`".to_owned()),
            Self::NotFound { .. } | Self::Refused { .. } | Self::TooLarge { .. } => None,
        }
    }
}
