//! The client of the guest's session protocol: commands, files and ports of one sandbox.
//!
//! A [`SandboxConnection`] only knows how to reach the sandbox; every call dials anew, because one connection carries
//! one request. It is cheap to clone. The same calls work through the router and over the guest's own Unix socket.

mod dial;
mod error;
mod exec;
mod file;
mod forward;
mod session;

use std::path::PathBuf;

pub use atoll_guest::protocol::{
    DirectoryEntry, ErrorCode, ExecRequest, ExecState, ExecSummary, Exit, FileKind, FileStat, HelloReply, Kernel,
    ListeningPort, LookupReply, TerminalSize, User, WriteFileRequest,
};
use atoll_guest::protocol::{Request, ServerMessage};
pub use dial::{RouterEndpoint, SandboxRef};
pub use error::SandboxError;
pub use exec::{ExecEvent, ExecInput, ExecOutput, ExecSession};
pub use file::{FileReader, FileWriter, SandboxPath};
pub use forward::{ForwardReader, ForwardWriter};

use dial::Dialer;
use session::Session;

/// How to reach one sandbox's guest.
#[derive(Debug, Clone)]
pub struct SandboxConnection {
    dialer: Dialer,
}

impl SandboxConnection {
    /// Through the router, which authorises, resolves and (if need be) wakes the sandbox.
    #[must_use]
    pub fn over_router(endpoint: RouterEndpoint, sandbox: SandboxRef) -> Self {
        Self { dialer: Dialer::Router { endpoint, sandbox } }
    }

    /// Over the guest's listening socket on this machine.
    #[must_use]
    pub fn over_unix(path: impl Into<PathBuf>) -> Self {
        Self { dialer: Dialer::Unix { path: path.into() } }
    }

    /// Asks the guest who it is; the cheapest proof that it serves.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn hello(&self) -> Result<HelloReply, SandboxError> {
        match self.ask(&Request::Hello {}).await? {
            ServerMessage::Hello(reply) => Ok(reply),
            other => Err(SandboxError::unexpected(&other)),
        }
    }

    /// Runs a command. With an idempotency key that was used before it is not run again: the session replays.
    ///
    /// # Errors
    /// Any [`SandboxError`]; [`SandboxError::Guest`] when the program can not be started.
    pub async fn exec(&self, request: ExecRequest) -> Result<ExecSession, SandboxError> {
        ExecSession::open(self, &Request::Exec(request)).await
    }

    /// Takes up a command that runs or ran: its kept output first, then what follows.
    ///
    /// # Errors
    /// Any [`SandboxError`]; [`SandboxError::Guest`] with `not_found` when there is no such command.
    pub async fn attach(&self, exec_id: &str) -> Result<ExecSession, SandboxError> {
        ExecSession::open(self, &Request::Attach { exec_id: exec_id.to_owned() }).await
    }

    /// What became of the command that was given this idempotency key. The reply carries the guest's incarnation:
    /// `unknown` means "not run" only within that incarnation.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn lookup(&self, idempotency_key: &str) -> Result<LookupReply, SandboxError> {
        match self.ask(&Request::Lookup { idempotency_key: idempotency_key.to_owned() }).await? {
            ServerMessage::Lookup(reply) => Ok(reply),
            other => Err(SandboxError::unexpected(&other)),
        }
    }

    /// Kills a command's whole process tree and returns when none of it is left.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn kill(&self, exec_id: &str) -> Result<(), SandboxError> {
        self.ask_done(&Request::Kill { exec_id: exec_id.to_owned() }).await
    }

    /// Commands that run and those still remembered, oldest first.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn list_execs(&self) -> Result<Vec<ExecSummary>, SandboxError> {
        match self.ask(&Request::ListExecs {}).await? {
            ServerMessage::Execs { execs } => Ok(execs),
            other => Err(SandboxError::unexpected(&other)),
        }
    }

    /// TCP ports on which something in the sandbox listens.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn listening_ports(&self) -> Result<Vec<ListeningPort>, SandboxError> {
        match self.ask(&Request::ListeningPorts {}).await? {
            ServerMessage::ListeningPorts { ports } => Ok(ports),
            other => Err(SandboxError::unexpected(&other)),
        }
    }

    /// Sends a signal to the Pod's command.
    ///
    /// # Errors
    /// Any [`SandboxError`]; [`SandboxError::Guest`] with `not_found` in an idle sandbox.
    pub async fn signal_workload(&self, signal: i32) -> Result<(), SandboxError> {
        self.ask_done(&Request::SignalWorkload { signal }).await
    }

    /// Tells the sandbox to end: SIGTERM, then SIGKILL after `grace_ms` (the configured grace when `None`). Returns
    /// when the guest has agreed, not when it has ended.
    ///
    /// # Errors
    /// Any [`SandboxError`].
    pub async fn shutdown(&self, grace_ms: Option<u64>) -> Result<(), SandboxError> {
        self.ask_done(&Request::Shutdown { grace_ms }).await
    }

    async fn open(&self, request: &Request) -> Result<Session, SandboxError> {
        let mut session = Session::new(self.dialer.dial().await?);
        session.send(request).await?;
        Ok(session)
    }

    async fn ask(&self, request: &Request) -> Result<ServerMessage, SandboxError> {
        self.open(request).await?.next_message().await
    }

    async fn ask_done(&self, request: &Request) -> Result<(), SandboxError> {
        match self.ask(request).await? {
            ServerMessage::Done {} => Ok(()),
            other => Err(SandboxError::unexpected(&other)),
        }
    }
}
