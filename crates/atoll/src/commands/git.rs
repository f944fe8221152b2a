//! The user's repository: read as it is, written in one way only, by fetching a checked bundle into a branch of ours.
//!
//! Git runs with hooks off. It is the user's own repository and the user's own configuration; nothing a sandbox made
//! is ever a working directory or a configuration here.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Exit, Failure};

/// A repository of the user's.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    path: PathBuf,
}

/// A snapshot of what a repository has checked out, to be sent to the plane.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) bundle: Vec<u8>,
    pub(crate) commit: String,
    pub(crate) branch: Option<String>,
    pub(crate) remote_url: Option<String>,
    pub(crate) name: Option<String>,
}

impl Repository {
    /// The repository that `path` lies in.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        if !path.exists() {
            return Err(Failure::new(Exit::NotFound, format!("{} does not exist", path.display())));
        }
        let candidate = Self { path: path.to_owned() };
        let top = candidate.git(&["rev-parse", "--show-toplevel"]).map_err(|failure| {
            if failure.message().contains("dubious ownership") {
                return failure.hint("the repository belongs to another user; see git's safe.directory");
            }
            Failure::new(Exit::NotFound, format!("{} is not a git repository", path.display()))
                .hint("choose one with --repo PATH, or make one: git init && git add -A && git commit -m start")
        })?;
        Ok(Self { path: PathBuf::from(top) })
    }

    /// What is checked out, as a bundle. Refuses uncommitted changes unless they are to be left out.
    pub(crate) fn snapshot(&self, allow_dirty: bool) -> Result<Snapshot, Failure> {
        let commit = self.git(&["rev-parse", "--verify", "HEAD^{commit}"]).map_err(|_| {
            Failure::new(Exit::Failure, format!("{} has no commit yet", self.path.display()))
                .hint("commit something first")
        })?;
        let changes = self.git(&["status", "--porcelain", "--untracked-files=normal"])?;
        if !changes.is_empty() && !allow_dirty {
            let count = changes.lines().count();
            return Err(Failure::new(
                Exit::Failure,
                format!("{} has {count} uncommitted changes", self.path.display()),
            )
            .hint("commit or stash them, or leave them out with --allow-dirty"));
        }
        let branch = self.git(&["symbolic-ref", "--quiet", "--short", "HEAD"]).ok();
        let mut tips = vec!["HEAD"];
        tips.extend(branch.as_deref());
        let bundle = self.bundle(&tips)?;
        Ok(Snapshot {
            bundle,
            commit,
            branch,
            remote_url: self.git(&["remote", "get-url", "origin"]).ok(),
            name: self.path.file_name().map(|name| name.to_string_lossy().into_owned()),
        })
    }

    fn bundle(&self, tips: &[&str]) -> Result<Vec<u8>, Failure> {
        let mut arguments = vec!["bundle", "create", "--quiet", "-"];
        arguments.extend(tips);
        let output = self.command(&arguments).output().map_err(|error| no_git(&error))?;
        if !output.status.success() {
            return Err(git_failed("bundle", &output.stderr));
        }
        Ok(output.stdout)
    }

    /// Fetches one branch out of a bundle into the branch of the same name, every object checked.
    pub(crate) fn fetch_bundle(&self, bundle: &[u8], branch: &str) -> Result<(), Failure> {
        if !branch.starts_with("atoll/") {
            return Err(Failure::new(Exit::Refused, format!("{branch:?} is not a branch of Atoll's")));
        }
        let mut file = tempfile::Builder::new()
            .prefix("atoll-result-")
            .suffix(".bundle")
            .tempfile()
            .and_then(|mut file| file.write_all(bundle).map(|()| file))
            .map_err(|error| Failure::because(Exit::Failure, "cannot store the result for git", &error))?;
        file.flush().map_err(|error| Failure::because(Exit::Failure, "cannot store the result for git", &error))?;
        let path = file.path().to_string_lossy().into_owned();
        self.git(&[
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            &path,
            &format!("+refs/heads/{branch}:refs/heads/{branch}"),
        ])
        .map(drop)
    }

    fn git(&self, arguments: &[&str]) -> Result<String, Failure> {
        let output = self.command(arguments).output().map_err(|error| no_git(&error))?;
        if !output.status.success() {
            return Err(git_failed(arguments.first().unwrap_or(&"git"), &output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(&self.path)
            .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"])
            .args(["-c", "fetch.fsckObjects=true", "-c", "transfer.fsckObjects=true"])
            .args(["-c", "protocol.allow=never", "-c", "protocol.file.allow=always"])
            .args(arguments)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }
}

fn no_git(error: &std::io::Error) -> Failure {
    Failure::because(Exit::Machine, "cannot run git", error).hint("install git")
}

fn git_failed(what: &str, stderr: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(stderr);
    Failure::new(
        Exit::Failure,
        format!("git {what} failed: {}", text.trim().lines().last().unwrap_or("no reason given")),
    )
}
