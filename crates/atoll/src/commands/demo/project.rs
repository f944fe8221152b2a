//! The small git repository that the team works on: the files of `examples/calculator`, carried in the binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::commands::git::Repository;
use crate::failure::{Exit, Failure};

const FILES: &[(&str, &str)] = &[
    ("calculator.py", include_str!("../../../../../examples/calculator/calculator.py")),
    ("test_calculator.py", include_str!("../../../../../examples/calculator/test_calculator.py")),
    ("README.md", include_str!("../../../../../examples/calculator/README.md")),
];
const CONVERSATION: &str = include_str!("../../../../../examples/calculator/conversation.yaml");

/// The project and the conversation about it, in a directory.
#[derive(Debug)]
pub(super) struct Project {
    path: PathBuf,
    conversation: PathBuf,
}

impl Project {
    pub(super) fn create(dir: &Path) -> Result<Self, Failure> {
        let project = Self { path: dir.join("calculator"), conversation: dir.join("conversation.yaml") };
        std::fs::create_dir(&project.path).map_err(|error| unwritable(&project.path, &error))?;
        for (name, text) in FILES {
            let path = project.path.join(name);
            std::fs::write(&path, text).map_err(|error| unwritable(&path, &error))?;
        }
        std::fs::write(&project.conversation, CONVERSATION)
            .map_err(|error| unwritable(&project.conversation, &error))?;
        for arguments in [
            ["init", "--quiet", "--initial-branch=main"].as_slice(),
            &["add", "--all"],
            &["commit", "--quiet", "--message=A calculator with a failing test"],
        ] {
            project.git(arguments)?;
        }
        Ok(project)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn conversation(&self) -> &Path {
        &self.conversation
    }

    pub(super) fn repository(&self) -> Result<Repository, Failure> {
        Repository::open(&self.path)
    }

    /// What a branch changed, as git tells it.
    pub(super) fn describe(&self, branch: &str) -> Result<String, Failure> {
        let log = self.git(&["log", "--format=%h %an: %s", "--stat", "--patch", &format!("main..{branch}")])?;
        let status = self.git(&["status", "--short", "--branch"])?;
        Ok(format!("{log}\ngit status: {}", status.trim()))
    }

    fn git(&self, arguments: &[&str]) -> Result<String, Failure> {
        let output = Command::new("git")
            .arg("-C")
            .arg(&self.path)
            .args(["-c", "user.name=Demo", "-c", "user.email=demo@atoll.local", "-c", "core.hooksPath=/dev/null"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure::because(Exit::Machine, "cannot run git", &error).hint("install git"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Failure::new(Exit::Failure, format!("git {}: {}", arguments.join(" "), text.trim())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::because(Exit::Failure, format!("cannot write {}", path.display()), error)
}
