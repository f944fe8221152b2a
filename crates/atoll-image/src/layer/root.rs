//! The directory that an image is unpacked into, as if it were `/`: links lead nowhere else.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::LayerError;
use super::entry::Entry;

/// Directories within each other that are removed.
const REMOVE_DEPTH_MAX: usize = 512;
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) struct Root<'a> {
    directory: BorrowedFd<'a>,
    /// Whether owners can be set.
    is_root: bool,
}

impl<'a> Root<'a> {
    pub(super) fn new(directory: BorrowedFd<'a>) -> Self {
        Self { directory, is_root: rustix::process::geteuid().is_root() }
    }

    /// A directory within, links followed as inside; made if absent.
    fn reach(&self, path: &Path) -> io::Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            return self.directory.try_clone_to_owned();
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(self.directory, path, DIRECTORY, Mode::empty(), resolve) {
            Err(Errno::NOENT) => {}
            other => return Ok(other?),
        }
        let parent = self.reach(path.parent().unwrap_or_else(|| Path::new("")))?;
        let name = path.file_name().unwrap_or_default();
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
        Ok(rustix::fs::openat(&parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?)
    }

    fn parent<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
        let parent = self.reach(path.parent().unwrap_or_else(|| Path::new("")))?;
        Ok((parent, path.file_name().unwrap_or_default()))
    }

    /// Owner, permissions and time of what was made.
    fn finish(&self, directory: &OwnedFd, name: &OsStr, entry: &Entry, is_link: bool) -> io::Result<()> {
        if self.is_root {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if !is_link {
            // Nobody else writes here, so that the name is what was just made.
            rustix::fs::chmodat(directory, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        }
        let time = Timespec { tv_sec: i64::try_from(entry.modified).unwrap_or(0), tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    pub(super) fn set_root(&self, entry: &Entry) -> io::Result<()> {
        self.finish(&self.directory.try_clone_to_owned()?, OsStr::new("."), entry, false)
    }

    pub(super) fn directory(&self, entry: &Entry) -> io::Result<()> {
        let (parent, name) = self.parent(&entry.path)?;
        match kind(parent.as_fd(), name)? {
            Some(FileType::Directory) => {}
            Some(_) => {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
                rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700))?;
            }
            None => rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700))?,
        }
        self.finish(&parent, name, entry, false)
    }

    pub(super) fn file(&self, entry: &Entry, bytes: u64, content: &mut dyn Read) -> Result<(), LayerError> {
        let failed = |source: io::Error| LayerError::Write { path: entry.path.clone(), source };
        let (parent, name) = self.emptied(entry).map_err(failed)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(opened.map_err(|error| failed(error.into()))?);
        copy(content, &mut file, bytes, failed)?;
        drop(file);
        self.finish(&parent, name, entry, false).map_err(failed)
    }

    pub(super) fn symlink(&self, entry: &Entry, target: &Path) -> io::Result<()> {
        let (parent, name) = self.emptied(entry)?;
        rustix::fs::symlinkat(target, &parent, name)?;
        self.finish(&parent, name, entry, true)
    }

    /// Another name of a file that is there.
    pub(super) fn hardlink(&self, entry: &Entry, target: &Path) -> io::Result<()> {
        let (from, from_name) = self.parent(target)?;
        let (parent, name) = self.parent(&entry.path)?;
        if target != entry.path {
            self.remove(&entry.path)?;
            rustix::fs::linkat(&from, from_name, &parent, name, AtFlags::empty())?;
        }
        Ok(())
    }

    pub(super) fn pipe(&self, entry: &Entry) -> io::Result<()> {
        let (parent, name) = self.emptied(entry)?;
        rustix::fs::mknodat(&parent, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        self.finish(&parent, name, entry, false)
    }

    /// The place of an entry, with nothing there.
    fn emptied<'p>(&self, entry: &'p Entry) -> io::Result<(OwnedFd, &'p OsStr)> {
        self.remove(&entry.path)?;
        self.parent(&entry.path)
    }

    /// Removes whatever is at a path; a link itself, not what it leads to.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        remove(parent.as_fd(), name, REMOVE_DEPTH_MAX)
    }

    /// Removes what is in a directory and was not made by this layer.
    pub(super) fn clear(&self, path: &Path, own: &BTreeSet<std::path::PathBuf>) -> io::Result<()> {
        let directory = self.reach(path)?;
        for name in names(directory.as_fd())? {
            let inner = path.join(&name);
            if own.contains(&inner) {
                continue;
            }
            // A directory that holds something of this layer stays for it.
            if own.range(inner.clone()..).next().is_some_and(|next| next.starts_with(&inner)) {
                self.clear(&inner, own)?;
            } else {
                remove(directory.as_fd(), &name, REMOVE_DEPTH_MAX)?;
            }
        }
        Ok(())
    }
}

/// Copies exactly as much as was announced.
fn copy(
    content: &mut dyn Read,
    file: &mut File,
    bytes: u64,
    failed: impl Fn(io::Error) -> LayerError,
) -> Result<(), LayerError> {
    use std::io::Write;
    let mut buffer = vec![0; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = content.read(&mut buffer[..part]).map_err(LayerError::Damaged)?;
        if read == 0 {
            return Err(LayerError::Damaged(io::ErrorKind::UnexpectedEof.into()));
        }
        file.write_all(&buffer[..read]).map_err(&failed)?;
        left -= read as u64;
    }
    Ok(())
}

fn kind(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<FileType>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        other => Ok(Some(FileType::from_raw_mode(other?.st_mode))),
    }
}

fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<std::ffi::OsString>> {
    use std::os::unix::ffi::OsStrExt;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(opened)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn remove(parent: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
    match kind(parent, name)? {
        None => Ok(()),
        Some(FileType::Directory) if depth > 0 => {
            let directory = rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
            for inner in names(directory.as_fd())? {
                remove(directory.as_fd(), &inner, depth - 1)?;
            }
            Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
        }
        Some(FileType::Directory) => Err(Errno::LOOP.into()),
        Some(_) => Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?),
    }
}
