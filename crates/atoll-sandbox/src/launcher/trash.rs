//! Deleting trees that sandboxes wrote: in small portions, so that a large one delays nobody, and without recursion,
//! so that a deep one breaks nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// A directory of things to delete.
#[derive(Debug)]
pub(super) struct Trash {
    path: PathBuf,
    counter: u64,
    maybe_more: bool,
}

impl Trash {
    /// What an earlier launcher left in `path` is deleted too.
    pub(super) fn open(path: &Path) -> Self {
        Self { path: path.to_owned(), counter: 0, maybe_more: true }
    }

    /// Moves a file or directory of the same file system here. Succeeds when there is none.
    pub(super) fn discard(&mut self, path: &Path) -> io::Result<()> {
        loop {
            self.counter += 1;
            let place = self.path.join(format!("{}-{}", std::process::id(), self.counter));
            // A directory of that name would be replaced only if it were empty: then it is trash as well.
            match std::fs::rename(path, place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                other => {
                    self.maybe_more = true;
                    return other;
                }
            }
        }
    }

    /// Whether there may be something to delete.
    pub(super) fn is_pending(&self) -> bool {
        self.maybe_more
    }

    /// Deletes about `budget` entries. Stops for good at an error: the disk is not what it was.
    pub(super) fn work(&mut self, mut budget: usize) -> io::Result<()> {
        let outcome = self.work_within(&mut budget);
        match &outcome {
            Ok(finished) => self.maybe_more = !finished,
            Err(_) => self.maybe_more = false,
        }
        outcome.map(drop)
    }

    fn work_within(&mut self, budget: &mut usize) -> io::Result<bool> {
        let top = open_directory(CWD, &self.path)?;
        loop {
            let mut empty = true;
            for (name, kind) in entries(&top, *budget)? {
                empty = false;
                if !self.delete(&top, &name, kind, budget)? {
                    return Ok(false);
                }
            }
            if empty {
                return Ok(true);
            }
            if *budget == 0 {
                return Ok(false);
            }
        }
    }

    /// Deletes one entry at the top; directories in it move to the top. Returns whether it is gone.
    fn delete(&mut self, top: &OwnedFd, name: &std::ffi::CStr, kind: FileType, budget: &mut usize) -> io::Result<bool> {
        *budget = budget.saturating_sub(1);
        if kind != FileType::Directory {
            rustix::fs::unlinkat(top, name, AtFlags::empty())?;
            return Ok(true);
        }
        let directory = open_directory(top, name)?;
        loop {
            let found = entries(&directory, *budget)?;
            if found.is_empty() && *budget > 0 {
                rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR)?;
                return Ok(true);
            }
            for (inner, kind) in found {
                if *budget == 0 {
                    return Ok(false);
                }
                *budget -= 1;
                if kind == FileType::Directory {
                    self.lift(&directory, &inner, top)?;
                } else {
                    rustix::fs::unlinkat(&directory, &inner, AtFlags::empty())?;
                }
            }
            if *budget == 0 {
                return Ok(false);
            }
        }
    }

    fn lift(&mut self, from: &OwnedFd, name: &std::ffi::CStr, top: &OwnedFd) -> io::Result<()> {
        loop {
            self.counter += 1;
            let place = format!("{}-{}", std::process::id(), self.counter);
            match rustix::fs::renameat(from, name, top, place.as_str()) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                other => return Ok(other?),
            }
        }
    }
}

fn open_directory<P: rustix::path::Arg, Fd: std::os::fd::AsFd>(at: Fd, path: P) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, path, flags, Mode::empty())?)
}

/// At most `limit` entries of a directory. What they are is looked up where the file system does not say.
fn entries(directory: &OwnedFd, limit: usize) -> io::Result<Vec<(std::ffi::CString, FileType)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if found.len() >= limit {
            break;
        }
        if entry.file_name() == c"." || entry.file_name() == c".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let metadata = rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(metadata.st_mode)
            }
            known => known,
        };
        found.push((entry.file_name().to_owned(), kind));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn finish(trash: &mut Trash, portion: usize) -> usize {
        let mut portions = 0;
        while trash.is_pending() {
            trash.work(portion).unwrap();
            portions += 1;
            assert!(portions < 100_000, "deleting makes no progress");
        }
        portions
    }

    #[test]
    fn a_tree_is_deleted_in_portions() {
        let directory = tempfile::tempdir().unwrap();
        let (path, tree) = (directory.path().join("trash"), directory.path().join("tree"));
        fs::create_dir(&path).unwrap();
        for branch in 0..10 {
            let branch = tree.join(format!("b{branch}/inner"));
            fs::create_dir_all(&branch).unwrap();
            for leaf in 0..10 {
                fs::write(branch.join(leaf.to_string()), "x").unwrap();
            }
        }
        let mut trash = Trash::open(&path);
        trash.discard(&tree).unwrap();
        assert!(!tree.exists());
        assert!(finish(&mut trash, 7) > 10);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, tree) = (directory.path().join("trash"), directory.path().join("tree"));
        let kept = directory.path().join("kept");
        fs::create_dir(&path).unwrap();
        fs::create_dir(&tree).unwrap();
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("link")).unwrap();
        let mut trash = Trash::open(&path);
        trash.discard(&tree).unwrap();
        finish(&mut trash, 100);
        assert!(kept.join("file").exists());
    }

    #[test]
    fn a_very_deep_tree_is_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trash");
        fs::create_dir(&path).unwrap();
        let mut at = OwnedFd::from(fs::File::open(&path).unwrap());
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "deeper", Mode::from_raw_mode(0o755)).unwrap();
            at = open_directory(&at, "deeper").unwrap();
        }
        let mut trash = Trash::open(&path);
        finish(&mut trash, 64);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }
}
