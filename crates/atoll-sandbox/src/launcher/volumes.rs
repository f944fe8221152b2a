//! Directories that outlive sandboxes. What is in them belongs to ids from 0 on, whichever range a sandbox has.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

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

/// The name of the volume at `path`, if it is one.
pub(super) fn name_of(paths: &Paths, path: &Path) -> Option<String> {
    let name = path.strip_prefix(paths.volumes()).ok()?.to_str()?;
    (is_name(name, NAME_BYTES_MAX, b"-.") && paths.volume(name).is_dir()).then(|| name.to_owned())
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
