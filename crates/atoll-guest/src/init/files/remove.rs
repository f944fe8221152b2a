//! Removing files and trees, without following a link.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, FileType, RawDir, statat, unlinkat};
use rustix::io::Errno;

use super::{FileError, Root, display, open_directory_at};

/// Directories inside each other that are descended into; each holds a descriptor.
const DEPTH_MAX: usize = 512;

const DIRECTORY_BUFFER_BYTES: usize = 8 * 1024;

/// A directory is read again as long as names are left, because others may add to it meanwhile; but not for ever.
const ROUNDS_MAX: usize = 64;

/// Removes what the path names: a link itself, a file, or a directory (with all in it when `recursive`).
pub(crate) fn remove(root: &Root, path: &[u8], recursive: bool) -> Result<(), FileError> {
    let (dir, name) = root.locate(path)?;
    let failed = |errno| FileError::new("removing", path, errno);
    let stat = statat(&dir, OsStr::from_bytes(&name), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return unlinkat(&dir, OsStr::from_bytes(&name), AtFlags::empty()).map_err(failed);
    }
    if recursive {
        return remove_tree(dir.as_fd(), &name, path, 0);
    }
    unlinkat(&dir, OsStr::from_bytes(&name), AtFlags::REMOVEDIR).map_err(failed)
}

fn remove_tree(parent: BorrowedFd<'_>, name: &[u8], asked: &[u8], depth: usize) -> Result<(), FileError> {
    if depth >= DEPTH_MAX {
        return Err(FileError::Invalid { path: display(asked), reason: "directories are nested too deeply" });
    }
    let failed = |errno| FileError::new("removing", asked, errno);
    for _ in 0..ROUNDS_MAX {
        match unlinkat(parent, OsStr::from_bytes(name), AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => empty_directory(parent, name, asked, depth)?,
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(failed(Errno::NOTEMPTY))
}

fn empty_directory(parent: BorrowedFd<'_>, name: &[u8], asked: &[u8], depth: usize) -> Result<(), FileError> {
    let failed = |errno| FileError::new("removing", asked, errno);
    let dir = open_directory_at(parent, name).map_err(failed)?;
    let mut buffer = Vec::with_capacity(DIRECTORY_BUFFER_BYTES);
    let mut entries = RawDir::new(dir.as_fd(), buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match unlinkat(&dir, OsStr::from_bytes(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // What a file system says about a directory here.
            Err(Errno::ISDIR | Errno::PERM) => remove_tree(dir.as_fd(), name, asked, depth + 1)?,
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_and_what_its_links_point_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("tree/a/b")).unwrap();
        for name in ["tree/one", "tree/a/two", "tree/a/b/three", "kept"] {
            std::fs::write(base.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink(&base, base.join("tree/up")).unwrap();
        std::os::unix::fs::symlink(base.join("kept"), base.join("link")).unwrap();
        let root = Root::beneath(base.to_str().unwrap()).unwrap();
        assert!(matches!(remove(&root, b"tree", false), Err(FileError::NotEmpty { .. })));
        remove(&root, b"tree", true).unwrap();
        remove(&root, b"link", false).unwrap();
        let left: Vec<_> = base.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
        assert!(matches!(remove(&root, b"missing", true), Err(FileError::NotFound { .. })));
        assert!(matches!(remove(&root, b".", true), Err(FileError::Invalid { .. })));
        assert!(matches!(remove(&root, b"../kept", true), Err(FileError::Escapes { .. })));
    }
}
