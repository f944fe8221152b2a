//! Finding `runsc`, and trying what it can do here.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use atoll_stdx::Hint;
use rustix::fs::Access;
use serde_json::json;

/// How long a platform may take to run one small program; broken ones hang.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(15);
const TRIAL_POLL: Duration = Duration::from_millis(2);
/// Of what runsc complains of.
const COMPLAINT_BYTES_MAX: usize = 512;
const PROGRAM: &str = "runsc";

/// How gVisor catches the sandbox's system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// Seccomp traps: works wherever seccomp does.
    Systrap,
    /// A virtual machine without devices.
    Kvm,
    /// The debugger's interface: slow.
    Ptrace,
}

impl Platform {
    /// In the order of preference: what gVisor itself prefers, and what is left.
    const ALL: [Self; 3] = [Self::Systrap, Self::Kvm, Self::Ptrace];

    /// As runsc calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Systrap => "systrap",
            Self::Kvm => "kvm",
            Self::Ptrace => "ptrace",
        }
    }

    /// Device files that it needs: path, major and minor number.
    pub(super) fn devices(self) -> Vec<(String, u32, u32)> {
        const MISC: u32 = 10;
        const KVM_MINOR: u32 = 232;
        match self {
            Self::Kvm => vec![("/dev/kvm".to_owned(), MISC, KVM_MINOR)],
            Self::Systrap | Self::Ptrace => Vec::new(),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A runsc that ran a program here.
#[derive(Debug)]
pub struct Runtime {
    /// Where it is.
    pub path: PathBuf,
    /// The program, open.
    pub program: File,
    /// The platform that it ran on.
    pub platform: Platform,
}

/// There is no gVisor here.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No runsc.
    #[error("runsc was not found: neither {} nor in PATH", .looked.display())]
    NotFound {
        /// Where it was looked for first.
        looked: PathBuf,
    },
    /// What was said to be runsc is none.
    #[error("{} is not an executable file", .0.display())]
    NotExecutable(PathBuf),
    /// It runs nothing.
    #[error("{} runs nothing here: {}", .path.display(), .tried.iter().map(|(platform, reason)| format!("{platform}: {reason}")).collect::<Vec<_>>().join("; "))]
    NoPlatform {
        /// Which runsc.
        path: PathBuf,
        /// Each platform with what went wrong.
        tried: Vec<(Platform, String)>,
    },
    /// A file could not be used.
    #[error("cannot try runsc with {}", .path.display())]
    Files {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Hint for RuntimeError {
    fn hint(&self) -> Option<String> {
        let get = "get runsc (https://gvisor.dev/docs/user_guide/install/, or build it with tools/gvisor/build)";
        Some(match self {
            Self::NotFound { looked } => {
                format!("{get} and put it in PATH or at {}, or set ATOLL_RUNSC", looked.display())
            }
            Self::NotExecutable(_) => format!("{get} and set ATOLL_RUNSC to its path"),
            Self::NoPlatform { .. } => {
                format!("{get} of this year; older ones lack systrap, which wants least of a kernel")
            }
            Self::Files { .. } => return None,
        })
    }
}

/// Where runsc is: as configured, or in the state directory's `bin`, or in `PATH`.
///
/// # Errors
/// [`RuntimeError::NotFound`], [`RuntimeError::NotExecutable`].
pub fn locate(configured: Option<&Path>, state_dir: &Path) -> Result<PathBuf, RuntimeError> {
    let is_program = |path: &Path| path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok();
    if let Some(path) = configured {
        return if is_program(path) { Ok(path.to_owned()) } else { Err(RuntimeError::NotExecutable(path.to_owned())) };
    }
    let own = state_dir.join("bin").join(PROGRAM);
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&directories).map(|directory| directory.join(PROGRAM));
    [own.clone()].into_iter().chain(in_path).find(|path| is_program(path)).ok_or(RuntimeError::NotFound { looked: own })
}

/// Tries the platforms one after the other until one has run a program. Takes a fifth of a second where the first works.
///
/// # Errors
/// [`RuntimeError`].
pub fn open(path: PathBuf, scratch: &Path) -> Result<Runtime, RuntimeError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| RuntimeError::Files { path, source }
    };
    let program = File::open(&path).map_err(failed(&path))?;
    let mut tried = Vec::new();
    for platform in Platform::ALL {
        let directory = scratch.join(format!("gvisor-trial-{}-{platform}", std::process::id()));
        let outcome = try_platform(&path, platform, &directory);
        let removed = fs::remove_dir_all(&directory);
        match outcome.map_err(failed(&directory))? {
            None => {
                removed.map_err(failed(&directory))?;
                return Ok(Runtime { path, program, platform });
            }
            Some(reason) => tried.push((platform, reason)),
        }
    }
    Err(RuntimeError::NoPlatform { path, tried })
}

/// Runs runsc itself in a sandbox of its own, to say its version there. Returns what went wrong, if anything.
fn try_platform(runsc: &Path, platform: Platform, directory: &Path) -> io::Result<Option<String>> {
    DirBuilder::new().mode(0o700).create(directory)?;
    // Whoever runs inside must get through it.
    DirBuilder::new().mode(0o755).create(directory.join("rootfs"))?;
    let bundle = json!({
        "ociVersion": "1.1.0",
        "root": {"path": "rootfs", "readonly": true},
        "process": {
            "user": {"uid": 65_534, "gid": 65_534},
            "args": [PROGRAM, "--version"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]},
    });
    fs::write(directory.join("config.json"), bundle.to_string())?;
    let [log, said, complaint] = ["log", "said", "complaint"].map(|name| directory.join(name));
    let mut child = Command::new(runsc)
        .arg(format!("--root={}", directory.join("state").display()))
        .arg(format!("--log={}", log.display()))
        .args(["--log-format=text", "--network=none", "--ignore-cgroups", "--overlay2=none", "--host-settings=ignore"])
        .arg(format!("--platform={platform}"))
        // Its standard input is the program to run.
        .args(["run", "--exec-fd=0"])
        .arg(format!("--bundle={}", directory.display()))
        .arg(format!("trial-{}-{platform}", std::process::id()))
        .env_clear()
        .stdin(File::open(runsc)?)
        .stdout(File::create(&said)?)
        .stderr(File::create(&complaint)?)
        .process_group(0)
        .spawn()?;
    let deadline = Instant::now() + TRIAL_TIMEOUT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            // Its kernel follows it.
            child.kill()?;
            child.wait()?;
            return Ok(Some(format!("nothing within {} s", TRIAL_TIMEOUT.as_secs())));
        }
        std::thread::sleep(TRIAL_POLL);
    };
    if status.success() && fs::read_to_string(&said)?.starts_with("runsc version") {
        return Ok(None);
    }
    // What its kernel dies of is the first that it says; what it reports itself, the last.
    let first = first_lines(&fs::read(&complaint)?);
    let log = fs::read(&log).unwrap_or_default();
    let last = String::from_utf8_lossy(&log).lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned);
    Ok(Some(first.or(last).unwrap_or_else(|| status.to_string())))
}

/// The beginning of a complaint, on one line.
fn first_lines(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(COMPLAINT_BYTES_MAX)]).into_owned();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_configured_comes_first_and_what_is_none_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (own, other) = (directory.path().join("bin/runsc"), directory.path().join("other"));
        fs::create_dir(directory.path().join("bin")).unwrap();
        for path in [&own, &other] {
            fs::write(path, "#!/bin/sh\n").unwrap();
        }
        assert!(
            matches!(locate(Some(&other), directory.path()), Err(RuntimeError::NotExecutable(path)) if path == other)
        );
        for path in [&own, &other] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        assert_eq!(locate(Some(&other), directory.path()).unwrap(), other);
        assert_eq!(locate(None, directory.path()).unwrap(), own);
    }

    #[test]
    fn what_runs_nothing_is_told_for_each_platform() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runsc");
        fs::write(&path, "#!/bin/sh\nexit 3\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let error = open(path, directory.path()).unwrap_err();
        let text = error.to_string();
        for platform in Platform::ALL {
            assert!(text.contains(&format!("{platform}: exit status: 3")), "{text}");
        }
        assert!(error.hint().unwrap().contains("systrap"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left");
    }
}
