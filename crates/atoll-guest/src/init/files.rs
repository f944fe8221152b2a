//! Files of the sandbox, touched with the workload's rights and never outside the root that a client names.
//!
//! Every function here expects to run in a thread that has taken on the user's identity ([`with_root`]).

mod remove;
mod root;
mod walk;
mod write;

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use atoll_guest::protocol::{ErrorCode, ErrorReply, FileKind, FileStat};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat, fstat, fstatfs, openat, statat};
use rustix::io::Errno;

use super::Guest;
use super::identity::{IdentityError, as_user};

pub(crate) use remove::remove;
pub(crate) use root::Root;
pub(crate) use write::Replacement;

/// Names that one listing may hold.
const LIST_ENTRIES_MAX: usize = 100_000;

const DIRECTORY_BUFFER_BYTES: usize = 32 * 1024;

/// File system of `/proc`.
const PROC_MAGIC: i64 = 0x9fa0;

/// Why a file operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("No such file or directory: {path}")]
    NotFound { path: String },
    #[error("{path} leads out of {root}")]
    Escapes { path: String, root: String },
    #[error("Permission denied: {path}")]
    Denied { path: String },
    #[error("{path} is not a directory")]
    NotADirectory { path: String },
    #[error("{path} is a directory")]
    IsADirectory { path: String },
    #[error("{path} is not a regular file")]
    NotRegular { path: String },
    #[error("{path} is not empty")]
    NotEmpty { path: String },
    #[error("the root {root} is not an absolute path without symbolic links to a directory")]
    Root { root: String, errno: Errno },
    #[error("{path} can not be used: {reason}")]
    Invalid { path: String, reason: &'static str },
    #[error("the content does not have the announced SHA-256")]
    Digest,
    #[error("the file is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("no space: {path}")]
    NoSpace { path: String },
    #[error("{step} failed for {path}: {errno}")]
    Io { step: &'static str, path: String, errno: Errno },
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl FileError {
    /// The meaning of a system error for the path that was asked for.
    fn new(step: &'static str, path: &[u8], errno: Errno) -> Self {
        let path = display(path);
        match errno {
            Errno::NOENT => Self::NotFound { path },
            Errno::ACCESS | Errno::PERM | Errno::ROFS => Self::Denied { path },
            Errno::NOTDIR => Self::NotADirectory { path },
            Errno::ISDIR => Self::IsADirectory { path },
            Errno::NOTEMPTY => Self::NotEmpty { path },
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Self::NoSpace { path },
            Errno::LOOP => Self::Invalid { path, reason: "too many symbolic links, or one into a process" },
            Errno::NAMETOOLONG => Self::Invalid { path, reason: "a name is too long" },
            errno => Self::Io { step, path, errno },
        }
    }

    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Escapes { .. } | Self::Denied { .. } => ErrorCode::PermissionDenied,
            Self::NotADirectory { .. }
            | Self::IsADirectory { .. }
            | Self::NotRegular { .. }
            | Self::Invalid { .. }
            | Self::Digest => ErrorCode::InvalidArgument,
            Self::Root { errno: Errno::NOENT, .. } => ErrorCode::NotFound,
            Self::Root { .. } => ErrorCode::PermissionDenied,
            Self::NotEmpty { .. } => ErrorCode::Conflict,
            Self::TooLarge { .. } | Self::NoSpace { .. } | Self::Identity(IdentityError::Thread(_)) => {
                ErrorCode::ResourceExhausted
            }
            Self::Io { .. } | Self::Identity(_) => ErrorCode::Internal,
        }
    }

    pub(crate) fn reply(&self) -> ErrorReply {
        ErrorReply { code: self.code(), message: self.to_string() }
    }
}

/// A name in a directory.
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    /// About the name itself.
    pub(crate) stat: FileStat,
}

/// Runs `work` as the sandbox's user on the root that a client named.
pub(crate) fn with_root<T: Send>(
    guest: &Guest,
    root: Option<&str>,
    work: impl FnOnce(&Root) -> Result<T, FileError> + Send,
) -> Result<T, FileError> {
    as_user(&guest.config.exec_user, || {
        let root = match root {
            Some(root) => Root::beneath(&guest.directory(Some(root)))?,
            None => Root::whole(guest.base_dir())?,
        };
        work(&root)
    })?
}

/// Opens a regular file for reading. Nothing else is opened: a FIFO or device could hold the guest up.
pub(crate) fn open_regular(root: &Root, path: &[u8]) -> Result<(OwnedFd, FileStat), FileError> {
    let fd = root.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let stat = fstat(&fd).map_err(|errno| FileError::new("stat", path, errno))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(FileError::IsADirectory { path: display(path) }),
        _ => return Err(FileError::NotRegular { path: display(path) }),
    }
    refuse_proc(&fd, path)?;
    Ok((fd, file_stat(&stat)))
}

/// Facts about what a path leads to.
pub(crate) fn stat(root: &Root, path: &[u8]) -> Result<FileStat, FileError> {
    let fd = root.open(path, OFlags::PATH)?;
    fstat(&fd).map(|stat| file_stat(&stat)).map_err(|errno| FileError::new("stat", path, errno))
}

/// Names in a directory, sorted.
pub(crate) fn list(root: &Root, path: &[u8]) -> Result<Vec<Entry>, FileError> {
    let fd = root.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    refuse_proc(&fd, path)?;
    let mut entries = Vec::new();
    let mut buffer = Vec::with_capacity(DIRECTORY_BUFFER_BYTES);
    let mut names = RawDir::new(fd.as_fd(), buffer.spare_capacity_mut());
    while let Some(name) = names.next() {
        let name = name.map_err(|errno| FileError::new("listing", path, errno))?;
        let name = name.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        if entries.len() >= LIST_ENTRIES_MAX {
            return Err(FileError::Invalid { path: display(path), reason: "the directory holds too many names" });
        }
        // A name that vanished meanwhile is not in the directory.
        if let Ok(stat) = statat(&fd, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
            entries.push(Entry { name: name.to_vec(), stat: file_stat(&stat) });
        }
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// Makes a directory and its missing parents.
pub(crate) fn make_dir(root: &Root, path: &[u8]) -> Result<(), FileError> {
    root.make_directories(path).map(drop)
}

/// Through `/proc` the guest would read itself: a thread may always read its own process.
fn refuse_proc(fd: impl AsFd, path: &[u8]) -> Result<(), FileError> {
    let file_system = fstatfs(fd).map_err(|errno| FileError::new("statfs", path, errno))?;
    if file_system.f_type == PROC_MAGIC {
        return Err(FileError::Invalid { path: display(path), reason: "files of /proc are read by commands only" });
    }
    Ok(())
}

fn file_stat(stat: &Stat) -> FileStat {
    FileStat {
        kind: match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            _ => FileKind::Other,
        },
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        mode: Mode::from_raw_mode(stat.st_mode).bits() & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime_ms: stat.st_mtime * 1_000 + i64::try_from(stat.st_mtime_nsec / 1_000_000).unwrap_or_default(),
    }
}

fn display(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn open_directory_at(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, OsStr::from_bytes(name), flags, Mode::empty())
}
