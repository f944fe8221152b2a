//! Git on the plane's side. It runs in directories of the plane's own alone, never where a sandbox can write, takes no
//! configuration but the one given here, runs no hook and asks nobody.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use atoll_stdx::Hint;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::process::Command;

/// One git command.
const GIT_TIMEOUT_MS: u64 = 120_000;
/// What is kept of its output.
const GIT_OUTPUT_BYTES_MAX: u64 = 1024 * 1024;
/// Protocols of a remote that a push may go to; `ext` and the like run programs.
const PUSH_PROTOCOLS: &str = "https:http:ssh:git:file";
const NO_PROTOCOLS: &str = "";

/// Git in one bare repository.
#[derive(Clone, Debug)]
pub(crate) struct Git {
    directory: PathBuf,
}

/// A git command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("git could not be started")]
    Start(#[source] std::io::Error),
    #[error("git {command} took longer than {} s", GIT_TIMEOUT_MS / 1000)]
    Timeout { command: String },
    #[error("git {command} failed: {message}")]
    Failed { command: String, message: String },
}

impl Hint for GitError {
    fn hint(&self) -> Option<String> {
        matches!(self, Self::Start(_)).then(|| "install git on the machine that runs the plane".to_owned())
    }
}

impl Git {
    pub(crate) fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs git and returns its standard output. Reads and writes nothing outside the repository and files named.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String, GitError> {
        self.run_with(arguments, NO_PROTOCOLS, Stdio::null()).await
    }

    /// The same, with a file on standard input from a place in it on.
    pub(crate) async fn run_on(&self, arguments: &[&str], file: &Path, offset: u64) -> Result<String, GitError> {
        let mut input = tokio::fs::File::open(file).await.map_err(GitError::Start)?;
        input.seek(SeekFrom::Start(offset)).await.map_err(GitError::Start)?;
        self.run_with(arguments, NO_PROTOCOLS, input.into_std().await.into()).await
    }

    /// The same for a push to a remote.
    pub(crate) async fn push(&self, arguments: &[&str]) -> Result<String, GitError> {
        self.run_with(arguments, PUSH_PROTOCOLS, Stdio::null()).await
    }

    async fn run_with(&self, arguments: &[&str], protocols: &str, input: Stdio) -> Result<String, GitError> {
        let name = arguments.first().copied().unwrap_or_default().to_owned();
        let mut child = self.command(arguments, protocols).stdin(input).spawn().map_err(GitError::Start)?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let read_out = async {
                if let Some(out) = out {
                    let _kept = out.take(GIT_OUTPUT_BYTES_MAX).read_to_end(&mut stdout).await;
                }
            };
            let read_err = async {
                if let Some(err) = err {
                    let _kept = err.take(GIT_OUTPUT_BYTES_MAX).read_to_end(&mut stderr).await;
                }
            };
            tokio::join!(read_out, read_err);
            child.wait().await
        };
        let status = match tokio::time::timeout(Duration::from_millis(GIT_TIMEOUT_MS), work).await {
            Ok(status) => status.map_err(GitError::Start)?,
            Err(_elapsed) => return Err(GitError::Timeout { command: name }),
        };
        if status.success() {
            return Ok(String::from_utf8_lossy(&stdout).trim_end().to_owned());
        }
        let message = String::from_utf8_lossy(&stderr).trim().to_owned();
        let message = if message.is_empty() { status.to_string() } else { message };
        Err(GitError::Failed { command: name, message })
    }

    fn command(&self, arguments: &[&str], protocols: &str) -> Command {
        let mut command = Command::new("git");
        command
            .arg("--git-dir")
            .arg(&self.directory)
            .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.auto=0"])
            .args(["-c", "transfer.fsckObjects=true"])
            .args(["-c", "protocol.ext.allow=never", "-c", "submodule.recurse=false", "-c", "credential.helper="])
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("GIT_ALLOW_PROTOCOL", protocols)
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_AUTHOR_NAME", "Atoll")
            .env("GIT_AUTHOR_EMAIL", "atoll@localhost")
            .env("GIT_COMMITTER_NAME", "Atoll")
            .env("GIT_COMMITTER_EMAIL", "atoll@localhost")
            .env("GIT_AUTHOR_DATE", "2000-01-01T00:00:00Z")
            .env("GIT_COMMITTER_DATE", "2000-01-01T00:00:00Z")
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes")
            .current_dir(self.directory.parent().unwrap_or(Path::new("/")))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}
