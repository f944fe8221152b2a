//! Files and directories of the machine that root shares with a sandbox.
//!
//! The plane has no rights on the machine, so it cannot choose what of the machine a sandbox sees: root writes a
//! *share* into a directory that only root can write to, and the launcher mounts what is written there and nothing
//! else. A share says which file it means by device and inode, so that a path which leads elsewhere later is refused.
//!
//! One user of the machine, and nobody else, is the sandbox's user in it: what that user owns belongs to the sandbox's
//! user inside, and what is made inside belongs to that user outside. Everybody else's files belong to nobody inside.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_stdx::Hint;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

use crate::spec::is_name;

/// Directory of shares below a state directory.
const DIRECTORY: &str = "shares";
const NAME_BYTES_MAX: usize = 63;
/// Largest description of a share: a path is at most 4096 bytes.
const SHARE_BYTES_MAX: u64 = 64 * 1024;

/// Trees that hold the machine's interfaces, and sockets of its services.
const INTERFACES: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/var/run"];

/// File systems that are interfaces of the kernel, wherever they are mounted; numbers from `linux/magic.h`.
const KERNEL_FILE_SYSTEMS: [(i64, &str); 12] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x1cd1, "devpts"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0xcafe_4a11, "bpf"),
    (0x6e73_6673, "nsfs"),
    (0x1980_0202, "mqueue"),
    (0x6265_6570, "configfs"),
];

/// Something cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// It cannot be looked at.
    #[error("cannot look at {path}")]
    Look {
        /// What was named.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something that no sandbox may have.
    #[error("{path} cannot be shared: {reason}")]
    Refused {
        /// What was named.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The share cannot be written down.
    #[error("cannot {attempted} the share {path}")]
    Keep {
        /// What was attempted.
        attempted: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no such share.
    #[error("there is no share {0:?}")]
    Unknown(String),
}

impl Hint for ShareError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Look { .. } => Some("name a file or directory that exists".to_owned()),
            Self::Refused { .. } => {
                Some("share a directory of your own, or copy what is needed with `atoll sandbox cp`".to_owned())
            }
            Self::Keep { .. } => Some("run as root, and see whether the state directory can be written".to_owned()),
            Self::Unknown(_) => Some("`atoll run --volume` makes shares for its own sandbox".to_owned()),
        }
    }
}

/// One file or directory that a sandbox may see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Absolute path on the machine without a symbolic link.
    pub path: PathBuf,
    /// Device of the file that is meant.
    pub device: u64,
    /// Inode of the file that is meant.
    pub inode: u64,
    /// The machine's user that the sandbox's user is in it.
    pub owner: u32,
    /// The machine's group that the sandbox's group is in it.
    pub group: u32,
    /// Whether writing is refused, whatever the sandbox asks for.
    pub read_only: bool,
    /// The Pod that may mount it, and no other: namespace and name, for example `default/box`.
    pub pod: String,
}

impl Share {
    /// Looks at what a person named: links on the way are followed now and never again. `owner` is the user and the
    /// group that the sandbox's are in it; those of the file itself when `None`.
    ///
    /// # Errors
    /// It is not there, it is neither file nor directory, or it is part of the machine's own workings.
    pub fn of(
        path: &Path,
        owner: Option<(u32, u32)>,
        read_only: bool,
        state_dir: &Path,
        pod: &str,
    ) -> Result<Self, ShareError> {
        let failed = |source| ShareError::Look { path: path.to_owned(), source };
        let real = fs::canonicalize(path).map_err(failed)?;
        let file = open(&real).map_err(failed)?;
        let refused = |reason: String| Err(ShareError::Refused { path: path.to_owned(), reason });
        let found = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
        let kind = FileType::from_raw_mode(found.st_mode);
        if !matches!(kind, FileType::Directory | FileType::RegularFile) {
            return refused(format!("it is {}, neither file nor directory", words(kind)));
        }
        let file_system = rustix::fs::fstatfs(&file).map_err(|error| failed(error.into()))?.f_type;
        if let Some((_, name)) = KERNEL_FILE_SYSTEMS.into_iter().find(|(magic, _)| *magic == file_system) {
            return refused(format!("it is on {name}, an interface of the machine's kernel"));
        }
        if let Some(reason) = protected(&real, state_dir) {
            return refused(reason);
        }
        let (owner, group) = owner.unwrap_or((found.st_uid, found.st_gid));
        let (device, inode) = (found.st_dev, found.st_ino);
        Ok(Self { path: real, device, inode, owner, group, read_only, pod: pod.to_owned() })
    }

    /// Writes it down for the launcher.
    ///
    /// # Errors
    /// The name is taken or not one, or the state directory cannot be written.
    pub fn grant(&self, state_dir: &Path, name: &str) -> Result<(), ShareError> {
        let path = path_of(state_dir, name)?;
        let failed = |source| ShareError::Keep { attempted: "write", path: path.clone(), source };
        let directory = state_dir.join(DIRECTORY);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        let text = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        let mut options = File::options();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// The share of this name.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn find(state_dir: &Path, name: &str) -> Result<Self, ShareError> {
        let path = path_of(state_dir, name)?;
        let failed = |source| ShareError::Keep { attempted: "read", path: path.clone(), source };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ShareError::Unknown(name.to_owned())),
            other => other.map_err(failed)?,
        };
        let mut text = Vec::new();
        file.take(SHARE_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
        serde_json::from_slice(&text).map_err(|error| failed(error.into()))
    }

    /// This share, if it was made for a Pod. Others are told that there is none: its name, which whoever may read the
    /// Pod learns, opens nothing.
    ///
    /// # Errors
    /// It was made for another Pod.
    pub(crate) fn for_pod(self, name: &str, pod: &str) -> Result<Self, ShareError> {
        if self.pod == pod { Ok(self) } else { Err(ShareError::Unknown(name.to_owned())) }
    }

    /// Forgets the share of this name. Sandboxes that have it keep it. Succeeds when there is none.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn revoke(state_dir: &Path, name: &str) -> Result<(), ShareError> {
        let path = path_of(state_dir, name)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| ShareError::Keep { attempted: "remove", path, source }),
        }
    }

    /// Every share that was granted at least `age` ago, by name; those that cannot be read are left out.
    #[must_use]
    pub fn all(state_dir: &Path, age: Duration) -> Vec<(String, Self)> {
        let Ok(entries) = fs::read_dir(state_dir.join(DIRECTORY)) else { return Vec::new() };
        let is_old = |entry: &fs::DirEntry| {
            let since = entry.metadata().and_then(|found| found.modified()).ok();
            since.is_some_and(|since| since.elapsed().is_ok_and(|elapsed| elapsed >= age))
        };
        let names = entries.flatten().filter(is_old).filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| Self::find(state_dir, &name).ok().map(|share| (name, share))).collect()
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?)
}

fn path_of(state_dir: &Path, name: &str) -> Result<PathBuf, ShareError> {
    if is_name(name, NAME_BYTES_MAX, b"-") {
        Ok(state_dir.join(DIRECTORY).join(name))
    } else {
        Err(ShareError::Unknown(name.to_owned()))
    }
}

/// Why nothing of a path may be shared.
fn protected(path: &Path, state_dir: &Path) -> Option<String> {
    if path == Path::new("/") {
        return Some("it is the whole machine".to_owned());
    }
    if let Some(tree) = INTERFACES.into_iter().find(|tree| path.starts_with(tree)) {
        return Some(format!("{tree} holds interfaces of the machine and its services"));
    }
    let state_dir = fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    if path.starts_with(&state_dir) || state_dir.starts_with(path) {
        return Some(format!("the plane's own directory {} is there", state_dir.display()));
    }
    None
}

fn words(kind: FileType) -> &'static str {
    match kind {
        FileType::Socket => "a socket",
        FileType::Fifo => "a pipe",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn state() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn of(path: &Path, state_dir: &Path) -> Result<Share, ShareError> {
        Share::of(path, None, false, state_dir, "test")
    }

    #[test]
    fn links_are_followed_once() {
        let (state, data) = (state(), state());
        fs::create_dir(data.path().join("real")).unwrap();
        symlink("real", data.path().join("link")).unwrap();
        let share = of(&data.path().join("link"), state.path()).unwrap();
        let real = fs::canonicalize(data.path().join("real")).unwrap();
        let found = fs::metadata(&real).unwrap();
        assert_eq!((&share.path, share.inode, share.device), (&real, found.ino(), found.dev()));
        assert_eq!((share.owner, share.group), (found.uid(), found.gid()));
    }

    #[test]
    fn what_belongs_to_the_machine_is_refused_by_name() {
        let (state, data) = (state(), state());
        let socket = data.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        fs::create_dir(state.path().join("plane")).unwrap();
        let cases = [
            (socket.as_path(), "a socket"),
            (Path::new("/dev/null"), "a device"),
            (Path::new("/proc/self"), "proc"),
            (Path::new("/sys"), "sysfs"),
            (Path::new("/"), "the whole machine"),
            (Path::new("/dev"), "interfaces of the machine"),
            (state.path(), "the plane's own directory"),
            (&state.path().join("plane"), "the plane's own directory"),
            (state.path().parent().unwrap(), "the plane's own directory"),
        ];
        for (path, expected) in cases {
            let error = of(path, state.path()).unwrap_err();
            assert!(matches!(error, ShareError::Refused { .. }), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.hint().is_some());
        }
        let absent = of(&data.path().join("absent"), state.path());
        assert!(matches!(absent, Err(ShareError::Look { .. })));
    }

    #[test]
    fn shares_are_kept_and_forgotten() {
        let (state, data) = (state(), state());
        let share = Share::of(data.path(), Some((7, 8)), true, state.path(), "default/box").unwrap();
        share.grant(state.path(), "run-1").unwrap();
        assert_eq!(fs::metadata(state.path().join("shares")).unwrap().mode() & 0o777, 0o700);
        assert!(matches!(share.grant(state.path(), "run-1"), Err(ShareError::Keep { .. })));
        assert_eq!(Share::find(state.path(), "run-1").unwrap(), share);
        assert_eq!(Share::all(state.path(), Duration::ZERO), [("run-1".to_owned(), share)]);
        assert_eq!(Share::all(state.path(), Duration::from_secs(60)), []);
        Share::revoke(state.path(), "run-1").unwrap();
        Share::revoke(state.path(), "run-1").unwrap();
        for name in ["run-1", "../plane", "", "A"] {
            assert!(matches!(Share::find(state.path(), name), Err(ShareError::Unknown(_))), "{name}");
        }
    }
}
