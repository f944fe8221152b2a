//! `openat2` for kernels without it (gVisor): one name at a time, each opened from the directory before without
//! following a link, so that nothing can be exchanged between a check and its use. `..` goes back to a directory that
//! was opened on the way here, never to what it may have become.
//!
//! Links of `/proc` that are doors rather than paths are read as the paths that they show.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use rustix::io::Errno;

/// As the kernel's own bound.
const LINKS_MAX: usize = 40;

/// A name that is a link at one look and none at the next is looked at again.
const LOOKS_MAX: usize = 128;

/// `openat2` by the kernel, or by hand where it has none. `start` is not `AT_FDCWD`.
pub(super) fn open(
    start: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    match openat2(start, OsStr::from_bytes(path), flags, Mode::empty(), resolve) {
        Err(Errno::NOSYS) => Walk::new(start, path, resolve)?.open(flags),
        other => other,
    }
}

/// The same from `/`, for absolute paths.
pub(super) fn open_absolute(path: &[u8], flags: OFlags, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    match openat2(CWD, OsStr::from_bytes(path), flags, Mode::empty(), resolve) {
        Err(Errno::NOSYS) => {
            let top = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            Walk::new(top.as_fd(), path, resolve | ResolveFlags::IN_ROOT)?.open(flags)
        }
        other => other,
    }
}

/// On the way.
struct Walk {
    /// Directories from the start on; never empty.
    behind: Vec<OwnedFd>,
    ahead: VecDeque<Vec<u8>>,
    links: usize,
    resolve: ResolveFlags,
}

impl Walk {
    fn new(start: BorrowedFd<'_>, path: &[u8], resolve: ResolveFlags) -> rustix::io::Result<Self> {
        let mut walk = Self {
            behind: vec![rustix::io::fcntl_dupfd_cloexec(start, 3)?],
            ahead: VecDeque::new(),
            links: 0,
            resolve,
        };
        walk.put_ahead(path)?;
        Ok(walk)
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.behind.last().expect("the start stays").as_fd()
    }

    /// What a path or the text of a link asks to be walked before the rest.
    fn put_ahead(&mut self, path: &[u8]) -> rustix::io::Result<()> {
        if path.starts_with(b"/") {
            if self.resolve.contains(ResolveFlags::BENEATH) {
                return Err(Errno::XDEV);
            }
            self.behind.truncate(1);
        }
        let mut names: Vec<Vec<u8>> =
            path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec).collect();
        if path.ends_with(b"/") && !names.is_empty() {
            // What comes before a final slash must be a directory, and a link there is followed.
            names.push(b".".to_vec());
        }
        for name in names.into_iter().rev() {
            self.ahead.push_front(name);
        }
        Ok(())
    }

    fn open(mut self, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        while let Some(name) = self.ahead.pop_front() {
            let is_last = self.ahead.is_empty();
            match name.as_slice() {
                b"." => {}
                b".." if self.behind.len() > 1 => drop(self.behind.pop()),
                b".." if self.resolve.contains(ResolveFlags::BENEATH) => return Err(Errno::XDEV),
                b".." => {}
                name => {
                    if let Some(found) = self.step(name, is_last.then_some(flags))? {
                        return Ok(found);
                    }
                }
            }
        }
        openat(self.here(), ".", flags | OFlags::CLOEXEC, Mode::empty())
    }

    /// One name further. Returns what it opens when it is the last one, and no link.
    fn step(&mut self, name: &[u8], last: Option<OFlags>) -> rustix::io::Result<Option<OwnedFd>> {
        let name = OsStr::from_bytes(name);
        let onward = OFlags::PATH | OFlags::DIRECTORY;
        for _ in 0..LOOKS_MAX {
            match readlinkat(self.here(), name, Vec::new()) {
                Ok(text) if last.is_none_or(|flags| !flags.contains(OFlags::NOFOLLOW)) => {
                    self.links += 1;
                    if self.links > LINKS_MAX || self.resolve.contains(ResolveFlags::NO_SYMLINKS) {
                        return Err(Errno::LOOP);
                    }
                    return self.put_ahead(text.as_bytes()).map(|()| None);
                }
                Ok(_) | Err(Errno::INVAL) => {}
                Err(errno) => return Err(errno),
            }
            let flags = last.unwrap_or(onward) | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(self.here(), name, flags, Mode::empty()) {
                Err(Errno::LOOP) if last.is_none_or(|flags| !flags.contains(OFlags::NOFOLLOW)) => {}
                // A directory is what was asked for, and this is a link by now.
                Err(Errno::NOTDIR) if readlinkat(self.here(), name, Vec::new()).is_ok() => {}
                Ok(found) if last.is_some() => return Ok(Some(found)),
                Ok(directory) => {
                    self.behind.push(directory);
                    return Ok(None);
                }
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// What was opened, as `/proc` calls it.
    fn outcome(opened: rustix::io::Result<OwnedFd>) -> Result<String, Errno> {
        use std::os::fd::AsRawFd as _;
        let opened = opened?;
        let path = readlinkat(CWD, format!("/proc/self/fd/{}", opened.as_raw_fd()), Vec::new())?;
        Ok(path.into_string().expect("a path of this test"))
    }

    #[test]
    fn by_hand_is_as_the_kernel_does_it() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("a/b")).unwrap();
        std::fs::write(base.join("a/b/file"), "x").unwrap();
        for (text, name) in [
            ("b/file", "a/relative"),
            ("/a/b/file", "a/absolute"),
            ("../../../../a/b", "a/climb"),
            ("a/b/", "slash"),
            ("loop", "loop"),
            ("missing", "dangling"),
        ] {
            symlink(text, base.join(name)).unwrap();
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let top = openat(CWD, &base, flags | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let paths = [
            "a/b/file",
            "a/b/../b/file",
            "a//b/./file",
            "a/b/file/",
            "a/b/",
            ".",
            "..",
            "../a",
            "a/../..",
            "a/relative",
            "a/absolute",
            "a/climb",
            "a/climb/file",
            "slash",
            "slash/file",
            "loop",
            "dangling",
            "missing/x",
            "a/b/file/x",
            "/a/b/file",
            "a/relative/..",
        ];
        for resolve in [ResolveFlags::IN_ROOT, ResolveFlags::BENEATH, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS]
        {
            for (path, flags) in paths.iter().flat_map(|path| {
                [OFlags::RDONLY, OFlags::PATH, OFlags::PATH | OFlags::NOFOLLOW].map(|flags| (path, flags))
            }) {
                let flags = flags | OFlags::CLOEXEC;
                let kernel = openat2(&top, *path, flags, Mode::empty(), resolve);
                let by_hand = Walk::new(top.as_fd(), path.as_bytes(), resolve).and_then(|walk| walk.open(flags));
                assert_eq!(outcome(by_hand), outcome(kernel), "{path} {flags:?} {resolve:?}");
            }
        }
    }
}
