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
    /// Of commits that it makes.
    date: String,
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
        Self { directory: directory.into(), date: "2000-01-01T00:00:00Z".to_owned() }
    }

    /// The same, making commits with this date.
    pub(crate) fn dated(&self, date: &str) -> Self {
        Self { date: date.to_owned(), ..self.clone() }
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

    /// The same for a command that says no with exit code 1. Returns whether it said yes, and what it wrote.
    pub(crate) async fn ask(&self, arguments: &[&str]) -> Result<(bool, String), GitError> {
        let (code, stdout, stderr) = self.output(arguments, NO_PROTOCOLS, Stdio::null()).await?;
        match code {
            Some(0 | 1) => Ok((code == Some(0), stdout)),
            _ => Err(failed(arguments, code, &stderr)),
        }
    }

    /// The same for a push to a remote.
    pub(crate) async fn push(&self, arguments: &[&str]) -> Result<String, GitError> {
        self.run_with(arguments, PUSH_PROTOCOLS, Stdio::null()).await
    }

    /// The same over HTTP with a header that nobody else sees: it is in no argument and no file.
    pub(crate) async fn push_as(&self, arguments: &[&str], url: &str, authorization: &str) -> Result<String, GitError> {
        let mut command = self.command(arguments, "https:http");
        let settings = [
            (format!("http.{url}.extraHeader"), format!("Authorization: {authorization}")),
            ("http.followRedirects".to_owned(), "false".to_owned()),
        ];
        command.env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (number, (key, value)) in settings.into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key).env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        let (code, stdout, stderr) = output_of(command, arguments, Stdio::null()).await?;
        if code == Some(0) { Ok(stdout) } else { Err(failed(arguments, code, &stderr)) }
    }

    async fn run_with(&self, arguments: &[&str], protocols: &str, input: Stdio) -> Result<String, GitError> {
        let (code, stdout, stderr) = self.output(arguments, protocols, input).await?;
        if code == Some(0) { Ok(stdout) } else { Err(failed(arguments, code, &stderr)) }
    }

    async fn output(
        &self,
        arguments: &[&str],
        protocols: &str,
        input: Stdio,
    ) -> Result<(Option<i32>, String, String), GitError> {
        output_of(self.command(arguments, protocols), arguments, input).await
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
            .env("GIT_AUTHOR_DATE", &self.date)
            .env("GIT_COMMITTER_DATE", &self.date)
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes")
            .current_dir(self.directory.parent().unwrap_or(Path::new("/")))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// Exit code, standard output, standard error.
async fn output_of(
    mut command: Command,
    arguments: &[&str],
    input: Stdio,
) -> Result<(Option<i32>, String, String), GitError> {
    let name = arguments.first().copied().unwrap_or_default().to_owned();
    let mut child = command.stdin(input).spawn().map_err(GitError::Start)?;
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
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ok((status.code(), text(&stdout), text(&stderr)))
}

fn failed(arguments: &[&str], code: Option<i32>, stderr: &str) -> GitError {
    let command = arguments.first().copied().unwrap_or_default().to_owned();
    let ended = || code.map_or_else(|| "it was killed".to_owned(), |code| format!("exit code {code}"));
    let message = if stderr.trim().is_empty() { ended() } else { stderr.trim().to_owned() };
    GitError::Failed { command, message }
}
