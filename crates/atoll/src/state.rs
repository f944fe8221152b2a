//! The state directory: what lies where, who owns it, and the file that tells clients where the plane is.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Failure};

mod process;

/// The user and group that the plane runs as after start: no name is needed in the machine's user database.
pub(crate) const PLANE_UID: u32 = 64741;
pub(crate) const PLANE_GID: u32 = 64741;
/// The user and group of the egress proxy, which holds tokens that the plane's other parts need not see.
pub(crate) const EGRESS_UID: u32 = 64742;

/// How long a process that was killed may take to let go of the directory: the kernel first frees its memory.
const ENDING_TIMEOUT: Duration = Duration::from_secs(10);
const ENDING_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Paths within one state directory.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    root: PathBuf,
}

/// Where a running plane answers. Written by the plane, read by clients.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PlaneInfo {
    /// Version of the running binary.
    pub(crate) version: String,
    /// Process id of the plane.
    pub(crate) pid: u32,
    /// Kubernetes API, for example `https://127.0.0.1:6443`.
    pub(crate) api_url: String,
    /// Router, for example `http://127.0.0.1:8080`.
    pub(crate) router_url: String,
    /// Platform API, for example `http://127.0.0.1:8081`.
    pub(crate) platform_url: String,
    /// Policy API, for example `http://127.0.0.1:8082`.
    pub(crate) policy_url: String,
    /// Token of the administrator, accepted by all of them.
    pub(crate) token: String,
    /// The model in use, in words.
    pub(crate) model: String,
    /// Milliseconds since the Unix epoch.
    pub(crate) started_at_ms: u64,
}

impl StateDir {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Private to the plane.
    pub(crate) fn plane(&self) -> PathBuf {
        self.root.join("plane")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    fn info_path(&self) -> PathBuf {
        self.root.join("plane.json")
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.root.join("plane.log")
    }

    pub(crate) fn control_database(&self) -> PathBuf {
        self.plane().join("control.db")
    }

    pub(crate) fn runs_database(&self) -> PathBuf {
        self.plane().join("runs.db")
    }

    /// Makes the directories with the owners and modes that the process split needs. Run as root.
    pub(crate) fn create(&self) -> Result<(), Failure> {
        make_dir(&self.root, 0o711)?;
        make_dir(&self.plane(), 0o700)?;
        chown(&self.plane())?;
        Ok(())
    }

    /// Makes the directory itself, for what is kept in it without a plane.
    pub(crate) fn make_root(&self) -> Result<(), Failure> {
        make_dir(&self.root, 0o711)
    }

    /// Takes the lock that makes this process the only plane on the directory. Held until the file is dropped.
    pub(crate) fn lock(&self) -> Result<fs::File, Failure> {
        let path = self.root.join("lock");
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failure(&path, "open", &error))?;
        if file.try_lock().is_err() {
            self.wait_for_an_ending_owner();
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let owner = fs::read_to_string(&path).unwrap_or_default();
                return Err(Failure::new(
                    Exit::State,
                    format!("{} is in use by another plane (process {})", self.root.display(), owner.trim()),
                )
                .hint("stop it with `atoll down`, or choose another directory with --state-dir"));
            }
            Err(fs::TryLockError::Error(error)) => return Err(failure(&path, "lock", &error)),
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(|error| failure(&path, "write", &error))?;
        Ok(file)
    }

    /// Whether some process holds the directory now.
    pub(crate) fn is_locked(&self) -> bool {
        fs::File::open(self.root.join("lock"))
            .is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
    }

    /// Opens the files that the plane writes after it gave up its rights, as they are only root's to make.
    pub(crate) fn reserve(&self) -> Result<Reserved, Failure> {
        Ok(Reserved { info: private_file(&self.info_path())?, kubeconfig: private_file(&self.kubeconfig())? })
    }

    /// Whoever may not see the lock cannot tell whether a plane runs.
    fn refuse_strangers(&self) -> Result<(), Failure> {
        let path = self.root.join("lock");
        match fs::File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(failure(&path, "read", &error).hint("run as root, as the plane does"))
            }
            _ => Ok(()),
        }
    }

    /// The process that took the lock last.
    fn owner(&self) -> Option<u32> {
        fs::read_to_string(self.root.join("lock")).ok()?.trim().parse().ok()
    }

    /// Waits while the directory is held by a process that has been killed and is still being taken down.
    fn wait_for_an_ending_owner(&self) {
        let deadline = Instant::now() + ENDING_TIMEOUT;
        while self.is_locked() && self.owner().is_some_and(process::is_ending) && Instant::now() < deadline {
            std::thread::sleep(ENDING_POLL_INTERVAL);
        }
    }

    /// Where the plane answers, if one does. A plane that was killed a moment ago does not.
    pub(crate) fn running(&self) -> Result<Option<PlaneInfo>, Failure> {
        self.refuse_strangers()?;
        self.wait_for_an_ending_owner();
        if !self.is_locked() {
            return Ok(None);
        }
        let path = self.info_path();
        match fs::read(&path) {
            // The plane has the lock before it has addresses.
            Ok(text) if text.is_empty() => Ok(None),
            // What a plane that was killed left is not the new one's, which has the lock already.
            Ok(text) => {
                Ok(serde_json::from_slice(&text).ok().filter(|info: &PlaneInfo| self.owner() == Some(info.pid)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(failure(&path, "read", &error).hint("run as root, as the plane does"))
            }
            Err(error) => Err(failure(&path, "read", &error)),
        }
    }
}

/// Files opened while still root.
#[derive(Debug)]
pub(crate) struct Reserved {
    info: fs::File,
    kubeconfig: fs::File,
}

impl Reserved {
    /// Tells clients where the plane is: from now on `StateDir::running` answers.
    pub(crate) fn publish(&mut self, info: &PlaneInfo, kubeconfig: &str) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(info).expect("plain strings serialize");
        for (file, text) in [(&mut self.kubeconfig, kubeconfig), (&mut self.info, text.as_str())] {
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
                .map_err(|error| Failure::because(Exit::State, "cannot write the plane's addresses", &error))?;
        }
        Ok(())
    }

    /// Takes the addresses back.
    pub(crate) fn retract(&self) {
        for file in [&self.info, &self.kubeconfig] {
            // The lock is gone in a moment, and with it the meaning of these files.
            let _ = file.set_len(0);
        }
    }
}

fn private_file(path: &Path) -> Result<fs::File, Failure> {
    fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failure(path, "open", &error))
}

fn make_dir(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|error| failure(path, "make", &error))
}

/// Makes a file the plane's own.
pub(crate) fn give_to_plane(path: &Path) -> Result<(), Failure> {
    chown(path)
}

fn chown(path: &Path) -> Result<(), Failure> {
    std::os::unix::fs::chown(path, Some(PLANE_UID), Some(PLANE_GID)).map_err(|error| failure(path, "chown", &error))
}

fn failure(path: &Path, attempted: &str, error: &std::io::Error) -> Failure {
    let failure = Failure::because(Exit::State, format!("cannot {attempted} {}", path.display()), error);
    match error.kind() {
        std::io::ErrorKind::StorageFull => failure.hint("free some disk space, or choose another --state-dir"),
        std::io::ErrorKind::PermissionDenied => {
            failure.hint("run as root, or choose a directory of your own with --state-dir").with_exit(Exit::Machine)
        }
        std::io::ErrorKind::ReadOnlyFilesystem => failure.hint("choose a writable directory with --state-dir"),
        _ => failure,
    }
}
