//! Resolving paths beneath a root.
//!
//! The kernel resolves (`openat2`), in one step, so that nothing can be exchanged between a check and its use. Links
//! of `/proc` that are doors rather than paths are never followed.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, readlinkat};
use rustix::io::Errno;

use super::{FileError, display, walk};

/// The kernel gives up when directories move while it resolves `..`; then it is asked again.
const RESOLVE_ATTEMPTS_MAX: usize = 128;

/// Symbolic links at the end of a path that is written to, followed one after the other.
const FINAL_LINKS_MAX: usize = 40;

const PATH_BYTES_MAX: usize = 4_096;

const NEW_DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// Where paths start and what they can not leave.
pub(crate) struct Root {
    dir: OwnedFd,
    /// Absolute, without a slash at the end; empty for `/`.
    path: String,
    /// Prefix for relative paths when the root is `/`.
    relative_to: String,
    resolve: ResolveFlags,
}

impl Root {
    /// The sandbox's `/`; relative paths start at `base_dir`. Absolute links mean what they say.
    pub(crate) fn whole(base_dir: &str) -> Result<Self, FileError> {
        let dir = open_root("/")?;
        Ok(Self { dir, path: String::new(), relative_to: base_dir.to_owned(), resolve: ResolveFlags::IN_ROOT })
    }

    /// A directory that no path and no link leads out of. Its own path may not contain links: they could be the
    /// workload's.
    pub(crate) fn beneath(path: &str) -> Result<Self, FileError> {
        let dir = open_root(path)?;
        let path = path.trim_end_matches('/');
        let path = readlinkat(CWD, format!("/proc/self/fd/{}", dir.as_raw_fd()), Vec::new())
            .ok()
            .and_then(|real| real.into_string().ok())
            .unwrap_or_else(|| path.to_owned());
        let path = path.trim_end_matches('/').to_owned();
        Ok(Self { dir, path, relative_to: String::new(), resolve: ResolveFlags::BENEATH })
    }

    /// Opens what the path leads to.
    pub(crate) fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, FileError> {
        let relative = self.relative(path)?;
        match self.resolve(&relative, flags, self.resolve) {
            Err(Errno::XDEV) => self.open_by_real_path(path, &relative, flags),
            Err(Errno::NOENT) if climbs_out(&relative) => Err(self.escapes(path)),
            other => other.map_err(|errno| FileError::new("opening", path, errno)),
        }
    }

    /// The directory and name that writing to a path means: links at its end are followed, as long as they stay inside.
    pub(super) fn locate_for_writing(&self, path: &[u8], make_parents: bool) -> Result<(OwnedFd, Vec<u8>), FileError> {
        let mut at = self.relative(path)?;
        for _ in 0..FINAL_LINKS_MAX {
            let (parent, name) = split_name(&at).ok_or_else(|| FileError::IsADirectory { path: display(path) })?;
            let dir = if make_parents {
                self.make_directories_at(path, parent)?
            } else {
                self.open_inside(path, parent, OFlags::RDONLY | OFlags::DIRECTORY)?
            };
            let Ok(link) = readlinkat(&dir, OsStr::from_bytes(name), Vec::new()) else {
                return Ok((dir, name.to_vec()));
            };
            let mut target = link.into_bytes();
            if target.starts_with(b"/") {
                at = self.strip(&target).ok_or_else(|| self.escapes(path))?;
            } else {
                let mut next = parent.to_vec();
                next.push(b'/');
                next.append(&mut target);
                at = next;
            }
        }
        Err(FileError::new("opening", path, Errno::LOOP))
    }

    /// The directory and name of a path whose last part is not followed.
    pub(super) fn locate(&self, path: &[u8]) -> Result<(OwnedFd, Vec<u8>), FileError> {
        let at = self.relative(path)?;
        let whole = || FileError::Invalid { path: display(path), reason: "the root itself is not removed" };
        let (parent, name) = split_name(&at).ok_or_else(whole)?;
        Ok((self.open_inside(path, parent, OFlags::RDONLY | OFlags::DIRECTORY)?, name.to_vec()))
    }

    /// Makes a directory and its missing parents, and opens it.
    pub(super) fn make_directories(&self, path: &[u8]) -> Result<OwnedFd, FileError> {
        let relative = self.relative(path)?;
        self.make_directories_at(path, &relative)
    }

    fn make_directories_at(&self, asked: &[u8], relative: &[u8]) -> Result<OwnedFd, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match self.open_inside(asked, relative, flags) {
            Err(FileError::NotFound { .. }) => {}
            other => return other,
        }
        let mut so_far: Vec<u8> = Vec::new();
        let mut dir = self.open_inside(asked, b"", flags)?;
        for name in relative.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
            so_far.extend_from_slice(name);
            so_far.push(b'/');
            dir = match self.open_inside(asked, &so_far, flags) {
                Err(FileError::NotFound { .. }) if name != b".." => {
                    match mkdirat(&dir, OsStr::from_bytes(name), NEW_DIRECTORY_MODE) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(FileError::new("making a directory", asked, errno)),
                    }
                    self.open_inside(asked, &so_far, flags)?
                }
                other => other?,
            };
        }
        Ok(dir)
    }

    fn open_inside(&self, asked: &[u8], relative: &[u8], flags: OFlags) -> Result<OwnedFd, FileError> {
        match self.resolve(relative, flags, self.resolve) {
            Err(Errno::XDEV) => self.open_by_real_path(asked, relative, flags),
            Err(Errno::NOENT) if climbs_out(relative) => Err(self.escapes(asked)),
            other => other.map_err(|errno| FileError::new("opening", asked, errno)),
        }
    }

    fn resolve(&self, relative: &[u8], flags: OFlags, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        let path: &[u8] = if relative.is_empty() { b"." } else { relative };
        let flags = flags | OFlags::CLOEXEC;
        for _ in 0..RESOLVE_ATTEMPTS_MAX {
            match walk::open(self.dir.as_fd(), path, flags, resolve | ResolveFlags::NO_MAGICLINKS) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The kernel calls every absolute link a way out. One that leads back inside is followed to its real path, and
    /// that is opened beneath the root again, this time without any link: so the check can not be outrun.
    fn open_by_real_path(&self, asked: &[u8], relative: &[u8], flags: OFlags) -> Result<OwnedFd, FileError> {
        let mut full = self.path.clone().into_bytes();
        full.push(b'/');
        full.extend_from_slice(relative);
        let flags_to_find = OFlags::PATH | OFlags::CLOEXEC;
        let found = walk::open_absolute(&full, flags_to_find, ResolveFlags::NO_MAGICLINKS);
        let found = found.map_err(|_| self.escapes(asked))?;
        let real = readlinkat(CWD, format!("/proc/self/fd/{}", found.as_raw_fd()), Vec::new())
            .map_err(|errno| FileError::new("resolving", asked, errno))?;
        let inside = self.strip(real.as_bytes()).ok_or_else(|| self.escapes(asked))?;
        self.resolve(&inside, flags, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
            .map_err(|errno| FileError::new("opening", asked, errno))
    }

    /// The path relative to the root.
    fn relative(&self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        let invalid = |reason| FileError::Invalid { path: display(path), reason };
        if path.contains(&0) {
            return Err(invalid("it contains a zero byte"));
        }
        if path.len() > PATH_BYTES_MAX {
            return Err(invalid("it is too long"));
        }
        if path.starts_with(b"/") {
            return self.strip(path).ok_or_else(|| self.escapes(path));
        }
        let mut relative = self.relative_to.trim_start_matches('/').as_bytes().to_vec();
        if !relative.is_empty() {
            relative.push(b'/');
        }
        relative.extend_from_slice(path);
        Ok(relative)
    }

    /// What follows the root in an absolute path; `None` when the path does not begin with the root.
    fn strip(&self, absolute: &[u8]) -> Option<Vec<u8>> {
        let rest = absolute.strip_prefix(self.path.as_bytes())?;
        match rest.first() {
            None => Some(Vec::new()),
            Some(b'/') => {
                let start = rest.iter().position(|byte| *byte != b'/').unwrap_or(rest.len());
                Some(rest[start..].to_vec())
            }
            Some(_) => None,
        }
    }

    fn escapes(&self, path: &[u8]) -> FileError {
        FileError::Escapes {
            path: display(path),
            root: if self.path.is_empty() { "/".into() } else { self.path.clone() },
        }
    }
}

fn open_root(path: &str) -> Result<OwnedFd, FileError> {
    let failed = |errno| FileError::Root { root: path.to_owned(), errno };
    if !path.starts_with('/') {
        return Err(failed(Errno::INVAL));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    walk::open_absolute(path.as_bytes(), flags, resolve).map_err(failed)
}

/// Whether `..` would lead above the start even if nothing but directories were on the way. Asked when something on
/// the way does not exist, so that the answer does not tell what exists outside.
fn climbs_out(relative: &[u8]) -> bool {
    let mut depth = 0usize;
    for name in relative.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// Parent and last name; `None` when the path has no last name that could be created or removed.
fn split_name(relative: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = relative.iter().rposition(|byte| *byte != b'/')? + 1;
    let start = relative[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let name = &relative[start..end];
    if matches!(name, b"." | b"..") { None } else { Some((&relative[..start], name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_off() {
        for (path, expected) in [
            ("a/b", Some(("a/", "b"))),
            ("b", Some(("", "b"))),
            ("a/b///", Some(("a/", "b"))),
            ("a/..", None),
            (".", None),
            ("", None),
            ("//", None),
        ] {
            let expected = expected.map(|(parent, name)| (parent.as_bytes(), name.as_bytes()));
            assert_eq!(split_name(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn climbing_is_seen_without_the_file_system() {
        for (path, expected) in
            [("a/../..", true), ("..", true), ("a/b/../../c", false), ("a//./..", false), ("missing/../../x", true)]
        {
            assert_eq!(climbs_out(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn links_that_stay_inside_are_followed_and_others_are_not() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "outside").unwrap();
        let base = tempfile::tempdir().unwrap();
        let base_path = base.path().canonicalize().unwrap();
        std::fs::create_dir(base_path.join("dir")).unwrap();
        std::fs::write(base_path.join("dir/file"), "inside").unwrap();
        let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, base_path.join(name)).unwrap();
        link("dir/file", "relative");
        link(base_path.join("dir/file").to_str().unwrap(), "absolute");
        link(outside.path().join("secret").to_str().unwrap(), "out");
        link(outside.path().to_str().unwrap(), "outdir");
        link("../../../../../../etc/passwd", "climb");
        link("/proc/self/root/etc/passwd", "magic");
        link("loop", "loop");
        let root = Root::beneath(base_path.to_str().unwrap()).unwrap();
        let open = |path: &str| root.open(path.as_bytes(), OFlags::RDONLY);
        for path in ["dir/file", "relative", "absolute", "dir/../dir/file", "/dir/../missing"] {
            let absolute = format!("{}/{}", base_path.display(), path.trim_start_matches('/'));
            if path.ends_with("missing") {
                assert!(matches!(open(&absolute), Err(FileError::NotFound { .. })), "{path}");
            } else {
                open(path).unwrap();
                open(&absolute).unwrap();
            }
        }
        for path in ["out", "outdir/secret", "climb", "magic", "../x", "missing/../../x", "/etc/passwd", ".."] {
            assert!(matches!(open(path), Err(FileError::Escapes { .. })), "{path}: {:?}", open(path).err());
        }
        assert!(matches!(open("loop"), Err(FileError::Invalid { .. })));
        assert!(matches!(open("nul\0"), Err(FileError::Invalid { .. })));
        // The same links do lead outside for anyone who opens them without a root.
        assert_eq!(std::fs::read_to_string(base_path.join("out")).unwrap(), "outside");
        assert_eq!(std::fs::read_to_string(base_path.join("outdir/secret")).unwrap(), "outside");
        assert!(std::fs::read_to_string(base_path.join("climb")).unwrap().contains("root:"));
    }

    #[test]
    fn a_root_that_passes_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("/etc", path.join("link")).unwrap();
        assert!(Root::beneath(&format!("{}/link", path.display())).is_err());
        assert!(Root::beneath(&format!("{}/missing", path.display())).is_err());
        assert!(Root::beneath("relative").is_err());
    }
}
