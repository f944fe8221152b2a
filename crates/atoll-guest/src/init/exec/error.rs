//! Why a command was not started, or not found.

use atoll_guest::protocol::{EXECS_RUNNING_MAX, ErrorCode};
use rustix::io::Errno;

use super::super::identity::IdentityError;
use super::super::process::ProcessError;
use super::super::pty::TerminalError;
use super::super::spawn::SpawnError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    #[error("there is no command {exec_id:?}")]
    Unknown { exec_id: String },
    #[error("the command {exec_id:?} exists")]
    IdInUse { exec_id: String },
    #[error("the idempotency key was used for another command")]
    KeyReused,
    #[error("{what} is empty or longer than {limit} bytes")]
    Length { what: &'static str, limit: usize },
    #[error("{EXECS_RUNNING_MAX} commands run already")]
    TooMany,
    #[error("{limit} idempotency keys are remembered, no more can be promised")]
    TooManyKeys { limit: usize },
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("no terminal for the command")]
    Terminal(#[source] TerminalError),
    #[error("no descriptors for the command")]
    Descriptors(#[source] Errno),
    #[error("the command's descriptors could not be made for its user")]
    Identity(#[source] IdentityError),
    #[error("no thread for the command")]
    Thread(#[source] std::io::Error),
    #[error(transparent)]
    Processes(#[from] ProcessError),
}

impl ExecError {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown { .. } => ErrorCode::NotFound,
            Self::IdInUse { .. } | Self::KeyReused => ErrorCode::Conflict,
            Self::Length { .. } => ErrorCode::InvalidArgument,
            Self::TooMany | Self::TooManyKeys { .. } | Self::Descriptors(_) | Self::Thread(_) => {
                ErrorCode::ResourceExhausted
            }
            Self::Identity(IdentityError::Thread(_)) => ErrorCode::ResourceExhausted,
            Self::Spawn(error) => spawn_code(error),
            Self::Terminal(_) | Self::Identity(_) | Self::Processes(_) => ErrorCode::Internal,
        }
    }
}

fn spawn_code(error: &SpawnError) -> ErrorCode {
    match error {
        SpawnError::NoProgram | SpawnError::ZeroByte | SpawnError::ReservedGroup { .. } => ErrorCode::InvalidArgument,
        SpawnError::Program { errno, .. } | SpawnError::WorkingDirectory { errno, .. } => match *errno {
            Errno::NOENT | Errno::NOTDIR => ErrorCode::NotFound,
            Errno::ACCESS | Errno::PERM => ErrorCode::PermissionDenied,
            Errno::NOMEM | Errno::AGAIN => ErrorCode::ResourceExhausted,
            _ => ErrorCode::InvalidArgument,
        },
        SpawnError::Fork(_) => ErrorCode::ResourceExhausted,
        SpawnError::Step { .. } => ErrorCode::Internal,
    }
}
