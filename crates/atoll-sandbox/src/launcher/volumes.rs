//! Directories that outlive sandboxes. What is in them belongs to ids from 0 on, whichever range a sandbox has.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::failure::LaunchError;
use super::paths::Paths;
use crate::spec::is_name;

const NAME_BYTES_MAX: usize = 128;

/// Where the volume of a name is.
pub(super) fn path(paths: &Paths, name: &str) -> Result<PathBuf, LaunchError> {
    if is_name(name, NAME_BYTES_MAX, b"-.") {
        return Ok(paths.volume(name));
    }
    Err(LaunchError::Rule {
        what: format!("{name:?} cannot name a volume"),
        hint: Some("use 1 to 128 lower-case letters, digits, `-` or `.`".to_owned()),
    })
}

/// The name of the volume that `path` is or lies in, if it does. A directory within it is made if absent.
pub(super) fn name_of(paths: &Paths, path: &Path) -> Option<String> {
    let mut parts = path.strip_prefix(paths.volumes()).ok()?.components();
    let name = parts.next()?.as_os_str().to_str()?;
    if !is_name(name, NAME_BYTES_MAX, b"-.") {
        return None;
    }
    let volume = rustix::fs::open(paths.volume(name), DIRECTORY, Mode::empty()).ok()?;
    make_within(volume, parts.as_path()).ok()?;
    Some(name.to_owned())
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes the directories on the way from a volume to something in it. Sandboxes write there: no link is followed.
fn make_within(volume: OwnedFd, path: &Path) -> rustix::io::Result<()> {
    let mut directory = volume;
    for part in path.components() {
        let Component::Normal(name) = part else { return Err(Errno::INVAL) };
        match rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => {
                let made = rustix::fs::openat(
                    &directory,
                    name,
                    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                // As the volume's own root: for every user of the sandbox, whatever the mask.
                rustix::fs::fchmod(&made, Mode::from_raw_mode(0o777))?;
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        directory = rustix::fs::openat(&directory, name, DIRECTORY, Mode::empty())?;
    }
    Ok(())
}

/// Makes a volume, if absent. Nobody on the machine but root reaches it: what a sandbox's root writes there has the
/// machine's root as its owner on disk.
pub(super) fn make(paths: &Paths, name: &str) -> Result<PathBuf, LaunchError> {
    let path = path(paths, name)?;
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(path),
        other => other.map_err(LaunchError::files("make", &path))?,
    }
    fs::set_permissions(&path, Permissions::from_mode(0o777)).map_err(LaunchError::files("open up", &path))?;
    Ok(path)
}

pub(super) fn list(paths: &Paths) -> Result<Vec<String>, LaunchError> {
    let directory = paths.volumes();
    let entries = fs::read_dir(&directory).map_err(LaunchError::files("list", &directory))?;
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_volumes_are_made_and_lead_nowhere_else() {
        let state = tempfile::tempdir().unwrap();
        let paths = Paths::new(state.path());
        fs::create_dir(paths.volumes()).unwrap();
        let volume = make(&paths, "data").unwrap();
        assert_eq!(name_of(&paths, &volume).as_deref(), Some("data"));
        assert_eq!(name_of(&paths, &volume.join("a/b")).as_deref(), Some("data"));
        assert_eq!(fs::metadata(volume.join("a/b")).unwrap().permissions().mode() & 0o777, 0o777);

        // What a sandbox may have left there.
        std::os::unix::fs::symlink("/", volume.join("link")).unwrap();
        fs::write(volume.join("file"), "").unwrap();
        for outside in ["link", "link/tmp", "file", "file/x", "../data", "a/../../data"] {
            assert_eq!(name_of(&paths, &volume.join(outside)), None, "{outside}");
        }
        assert_eq!(name_of(&paths, &paths.volume("none")), None);
        assert_eq!(name_of(&paths, Path::new("/etc")), None);
    }
}
