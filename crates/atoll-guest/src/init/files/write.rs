//! Replacing a file as a whole.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use atoll_guest::protocol::UPLOAD_BYTES_MAX;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, fsync, openat, renameat, statat, unlinkat};
use rustix::io::{Errno, write};
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest as _, Sha256};

use super::{FileError, Root, display};

const NEW_FILE_MODE: u32 = 0o644;

/// New content that takes the place of a file when it is complete. Dropped before, it leaves no trace.
pub(crate) struct Replacement {
    path: Vec<u8>,
    dir: OwnedFd,
    name: Vec<u8>,
    temporary: Option<Vec<u8>>,
    file: OwnedFd,
    mode: u32,
    size: u64,
    hash: Option<(Sha256, String)>,
}

impl Replacement {
    /// Prepares to replace the file at `path`. Without a mode, that of the file replaced is kept.
    pub(crate) fn begin(
        root: &Root,
        path: &[u8],
        mode: Option<u32>,
        make_parents: bool,
        sha256: Option<&str>,
    ) -> Result<Self, FileError> {
        let failed = |step, errno| FileError::new(step, path, errno);
        let (dir, name) = root.locate_for_writing(path, make_parents)?;
        let existing = match statat(&dir, OsStr::from_bytes(&name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Some(stat.st_mode & 0o777),
                FileType::Directory => return Err(FileError::IsADirectory { path: display(path) }),
                _ => return Err(FileError::NotRegular { path: display(path) }),
            },
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(failed("stat", errno)),
        };
        let temporary = temporary_name().map_err(|errno| failed("naming a temporary file", errno))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&dir, OsStr::from_bytes(&temporary), flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| failed("making a temporary file", errno))?;
        Ok(Self {
            path: path.to_vec(),
            dir,
            name,
            temporary: Some(temporary),
            file,
            mode: mode.or(existing).unwrap_or(NEW_FILE_MODE) & 0o777,
            size: 0,
            hash: sha256.map(|expected| (Sha256::new(), expected.to_ascii_lowercase())),
        })
    }

    /// Adds content.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), FileError> {
        self.size += bytes.len() as u64;
        if self.size > UPLOAD_BYTES_MAX {
            return Err(FileError::TooLarge { limit: UPLOAD_BYTES_MAX });
        }
        if let Some((hash, _)) = &mut self.hash {
            hash.update(bytes);
        }
        while !bytes.is_empty() {
            match write(&self.file, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(FileError::new("writing", &self.path, errno)),
            }
        }
        Ok(())
    }

    /// Puts the content in place, durably; returns its size in bytes.
    pub(crate) fn finish(mut self) -> Result<u64, FileError> {
        if let Some((hash, expected)) = self.hash.take()
            && hex(&hash.finalize()) != expected
        {
            return Err(FileError::Digest);
        }
        let failed = |step| move |errno: Errno| (step, errno);
        let name = OsStr::from_bytes(&self.name);
        let temporary = self.temporary.as_ref().expect("present until the end");
        let placed = fchmod(&self.file, Mode::from_raw_mode(self.mode))
            .map_err(failed("setting the mode"))
            .and_then(|()| fsync(&self.file).map_err(failed("syncing")))
            .and_then(|()| {
                renameat(&self.dir, OsStr::from_bytes(temporary), &self.dir, name).map_err(failed("renaming"))
            });
        placed.map_err(|(step, errno)| FileError::new(step, &self.path, errno))?;
        self.temporary = None;
        fsync(&self.dir).map_err(|errno| FileError::new("syncing the directory", &self.path, errno))?;
        Ok(self.size)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // It may be gone with its whole directory.
            let _ = unlinkat(&self.dir, OsStr::from_bytes(temporary), AtFlags::empty());
        }
    }
}

fn temporary_name() -> rustix::io::Result<Vec<u8>> {
    let mut random = [0; 8];
    getrandom(&mut random, GetRandomFlags::empty())?;
    Ok(format!(".atoll-{}.tmp", hex(&random)).into_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).expect("a digit below 16"));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO_SHA256: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    struct Place {
        dir: tempfile::TempDir,
        root: Root,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let root = Root::beneath(dir.path().canonicalize().unwrap().to_str().unwrap()).unwrap();
            Self { dir, root }
        }

        fn put(&self, path: &str, mode: Option<u32>, content: &[u8], sha256: Option<&str>) -> Result<u64, FileError> {
            let mut file = Replacement::begin(&self.root, path.as_bytes(), mode, true, sha256)?;
            file.write(content)?;
            file.finish()
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> =
                self.dir.path().read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        fn mode(&self, path: &str) -> u32 {
            use std::os::unix::fs::PermissionsExt as _;
            self.dir.path().join(path).metadata().unwrap().permissions().mode() & 0o777
        }
    }

    #[test]
    fn a_file_is_replaced_and_keeps_its_mode() {
        let place = Place::new();
        assert_eq!(place.put("a/b/tool", Some(0o755), b"one", None).unwrap(), 3);
        assert_eq!(place.put("a/b/tool", None, b"two!", None).unwrap(), 4);
        assert_eq!(std::fs::read(place.dir.path().join("a/b/tool")).unwrap(), b"two!");
        assert_eq!(place.mode("a/b/tool"), 0o755);
        place.put("new", None, b"", None).unwrap();
        assert_eq!(place.mode("new"), 0o644);
    }

    #[test]
    fn a_wrong_digest_changes_nothing_and_leaves_nothing() {
        let place = Place::new();
        place.put("file", None, b"old", None).unwrap();
        assert!(matches!(place.put("file", None, b"other", Some(HELLO_SHA256)), Err(FileError::Digest)));
        assert_eq!(std::fs::read(place.dir.path().join("file")).unwrap(), b"old");
        assert_eq!(place.names(), ["file"]);
        place.put("file", None, b"hello", Some(&HELLO_SHA256.to_uppercase())).unwrap();
        assert_eq!(std::fs::read(place.dir.path().join("file")).unwrap(), b"hello");
    }

    #[test]
    fn writing_through_links_stays_inside() {
        let place = Place::new();
        let outside = tempfile::tempdir().unwrap();
        let link = |target: &std::path::Path, name: &str| {
            std::os::unix::fs::symlink(target, place.dir.path().join(name)).unwrap();
        };
        std::fs::write(outside.path().join("victim"), "old").unwrap();
        place.put("real", None, b"old", None).unwrap();
        link("real".as_ref(), "inside");
        link(&outside.path().join("victim"), "file-out");
        link(&outside.path().join("not-yet"), "dangling-out");
        link(outside.path(), "dir-out");
        place.put("inside", None, b"new", None).unwrap();
        assert_eq!(std::fs::read(place.dir.path().join("real")).unwrap(), b"new");
        assert!(place.dir.path().join("inside").is_symlink());
        for path in ["file-out", "dangling-out", "dir-out/victim", "dir-out/new/file", "../up", "a/../../up"] {
            assert!(matches!(place.put(path, None, b"x", None), Err(FileError::Escapes { .. })), "{path}");
        }
        assert_eq!(std::fs::read(outside.path().join("victim")).unwrap(), b"old");
        assert_eq!(outside.path().read_dir().unwrap().count(), 1);
        // Without a root the same path does reach the file outside.
        std::fs::write(place.dir.path().join("file-out"), "escaped").unwrap();
        assert_eq!(std::fs::read(outside.path().join("victim")).unwrap(), b"escaped");
    }

    #[test]
    fn a_directory_is_not_replaced() {
        let place = Place::new();
        place.put("dir/file", None, b"", None).unwrap();
        for path in ["dir", "dir/", "."] {
            assert!(matches!(place.put(path, None, b"", None), Err(FileError::IsADirectory { .. })), "{path}");
        }
    }
}
