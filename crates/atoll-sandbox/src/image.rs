//! The image `atoll.local/host`: the machine's own `/usr` and the few files of `/etc` that programs there need.
//!
//! Those files are copied once, when the launcher starts, so that a sandbox needs one mount for all of them and sees
//! nothing else of `/etc`. Only what every user of the machine may read is copied.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use atoll_stdx::Hint;

/// What programs in `/usr` look for in `/etc`, without a trailing `*` the exact name.
const WANTED: [&str; 21] = [
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "debian_version",
    "java-*",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "os-release",
    "perl",
    "pki/ca-trust",
    "pki/tls/certs",
    "protocols",
    "python3*",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
];

/// Directories at the top that a system keeps in `/usr`, as links or apart.
const TOP: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

const FILES_MAX: usize = 8192;
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The image could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file could not be copied.
    #[error("cannot copy {path} for the host image")]
    Copy {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More than can be sensible.
    #[error("/etc holds more than {FILES_MAX} files for the host image")]
    TooMany,
}

impl Hint for ImageError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Copy { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some disk space, or choose another state directory".to_owned())
            }
            _ => None,
        }
    }
}

/// The prepared image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostImage {
    /// Copies of files of `/etc`.
    pub etc: PathBuf,
    /// Names at the top of `etc`.
    pub etc_names: Vec<String>,
    /// Names at the root beside `/usr`, and what each link says; `None` for a directory of its own.
    pub top: Vec<(String, Option<String>)>,
}

impl HostImage {
    /// Copies what has changed since the last time to `directory`. Running sandboxes see each file as it was or as it
    /// is, never in between.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn prepare(directory: &Path) -> Result<Self, ImageError> {
        let etc = directory.join("etc");
        make_dir(&etc)?;
        let mut budget = FILES_MAX;
        for pattern in WANTED {
            for name in matching(pattern) {
                copy(&Path::new("/etc").join(&name), &etc.join(&name), &mut budget)?;
            }
        }
        let mut etc_names: Vec<String> = fs::read_dir(&etc)
            .map_err(|source| ImageError::Copy { path: etc.clone(), source })?
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        etc_names.sort();
        let top = TOP.into_iter().filter_map(top_entry).collect();
        Ok(Self { etc, etc_names, top })
    }
}

fn top_entry(name: &str) -> Option<(String, Option<String>)> {
    let path = Path::new("/").join(name);
    let metadata = fs::symlink_metadata(&path).ok()?;
    if metadata.is_dir() {
        return Some((name.to_owned(), None));
    }
    let target = fs::read_link(&path).ok()?.into_os_string().into_string().ok()?;
    Some((name.to_owned(), Some(target)))
}

/// Names below `/etc` that a pattern stands for.
fn matching(pattern: &str) -> Vec<String> {
    let Some(prefix) = pattern.strip_suffix('*') else { return vec![pattern.to_owned()] };
    let Ok(entries) = fs::read_dir("/etc") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Whether every user of the machine may read it.
fn is_public(metadata: &Metadata) -> bool {
    let wanted = if metadata.is_dir() { 0o005 } else { 0o004 };
    metadata.permissions().mode() & wanted == wanted
}

fn copy(from: &Path, to: &Path, budget: &mut usize) -> Result<(), ImageError> {
    let failed = |source| ImageError::Copy { path: from.to_owned(), source };
    let metadata = match fs::symlink_metadata(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed)?,
    };
    *budget = budget.checked_sub(1).ok_or(ImageError::TooMany)?;
    if metadata.is_symlink() {
        return copy_link(from, to).map_err(failed);
    }
    if !is_public(&metadata) {
        return Ok(());
    }
    if metadata.is_dir() {
        make_dir(to)?;
        for entry in fs::read_dir(from).map_err(failed)?.flatten() {
            // Hundreds of links to manual pages in `alternatives`.
            if entry.path().extension().is_some_and(|extension| extension == "gz") {
                continue;
            }
            copy(&entry.path(), &to.join(entry.file_name()), budget)?;
        }
        return Ok(());
    }
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        make_dir(parent)?;
    }
    let bytes = fs::read(from).map_err(failed)?;
    if fs::read(to).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let new = to.with_extension("atoll-new");
    let write = || -> io::Result<()> {
        use std::io::Write as _;
        let mut options = fs::File::options();
        let mut file = options.create(true).truncate(true).write(true).mode(0o644).open(&new)?;
        file.write_all(&bytes)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        fs::rename(&new, to)
    };
    write().map_err(failed)
}

fn copy_link(from: &Path, to: &Path) -> io::Result<()> {
    let target = fs::read_link(from)?;
    if fs::read_link(to).is_ok_and(|present| present == target) {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    let new = to.with_extension("atoll-new");
    let _ = fs::remove_file(&new);
    std::os::unix::fs::symlink(target, &new)?;
    fs::rename(&new, to)
}

fn make_dir(path: &Path) -> Result<(), ImageError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|source| ImageError::Copy { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_not_everybody_may_read_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("public"), "p").unwrap();
        fs::write(from.join("private"), "s").unwrap();
        fs::set_permissions(from.join("private"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::create_dir(from.join("closed")).unwrap();
        fs::write(from.join("closed/inner"), "s").unwrap();
        fs::set_permissions(from.join("closed"), fs::Permissions::from_mode(0o750)).unwrap();
        std::os::unix::fs::symlink("/usr/bin/true", from.join("link")).unwrap();

        let mut budget = 10;
        copy(&from, &to, &mut budget).unwrap();
        let mut names: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["link", "public"]);
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/usr/bin/true"));

        fs::write(from.join("public"), "changed").unwrap();
        copy(&from, &to, &mut budget).unwrap();
        assert_eq!(fs::read(to.join("public")).unwrap(), b"changed");
    }

    #[test]
    fn an_etc_without_end_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let from = directory.path().join("from");
        fs::create_dir(&from).unwrap();
        for number in 0..5 {
            fs::write(from.join(number.to_string()), "").unwrap();
        }
        let outcome = copy(&from, &directory.path().join("to"), &mut 3);
        assert!(matches!(outcome, Err(ImageError::TooMany)));
    }
}
