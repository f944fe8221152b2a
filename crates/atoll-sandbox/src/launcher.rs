//! The privileged half: a single-threaded process without secrets that makes and unmakes sandboxes for one plane.

pub mod protocol;

use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// What the launcher is told once, before anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LauncherConfig {
    /// The plane's state directory, absolute; sandboxes and volumes are kept below it.
    pub state_dir: PathBuf,
    /// The static guest binary.
    pub guest_binary: PathBuf,
    /// Who may connect to guests and read logs.
    pub plane_uid: u32,
    /// The plane's group.
    pub plane_gid: u32,
    /// `runsc`, for the tier `gvisor`; looked for in `PATH` when `None`.
    pub runsc: Option<PathBuf>,
}

/// Environment variable that carries the number of the launcher's socket.
pub const LAUNCHER_FD_ENV: &str = "ATOLL_LAUNCHER_FD";

/// The launcher's `main`: serves its socket until the other side closes it. Sandboxes go on after it.
///
/// To be called first thing in a fresh process, as root, before any thread exists.
#[must_use]
pub fn run_launcher() -> ExitCode {
    ExitCode::FAILURE
}
