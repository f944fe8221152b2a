//! The images of one state directory.
//!
//! `images/<id>.json` tells of an image, for everybody; `images/<id>/rootfs` is its root file system, which nobody on
//! the machine but root reaches: in it are files of every owner. An id is the beginning of a digest.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use atoll_stdx::Hint;
use serde::{Deserialize, Serialize};

use crate::config::ImageConfig;
use crate::layer::Bounds;
use crate::name::ImageName;
use crate::source::{SourceError, unpack_image};

/// Directory of images below a state directory.
const DIRECTORY: &str = "images";
const ROOT: &str = "rootfs";
/// Beginning of names of what is not whole yet, or not any more.
const UNFINISHED: &str = ".unfinished-";
const ID_DIGITS: usize = 32;
/// Largest description of an image.
const IMAGE_BYTES_MAX: u64 = 8 << 20;
/// Bytes of `/etc/passwd` and `/etc/group` of an image that are looked at.
const ACCOUNTS_BYTES_MAX: u64 = 1 << 20;

/// An image cannot be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be unpacked.
    #[error("the image cannot be imported")]
    Source(#[source] SourceError),
    /// A file of the store.
    #[error("cannot {attempted} {path}")]
    Files {
        /// What was attempted.
        attempted: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is none of this name or id.
    #[error("there is no image {0:?}")]
    Unknown(String),
    /// Sandboxes have it.
    #[error("the image {name} is in use by the sandbox {sandbox}")]
    InUse {
        /// The image.
        name: String,
        /// One of its users.
        sandbox: String,
    },
}

impl Hint for StoreError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Source(error) => error.hint(),
            Self::Files { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some disk space, or choose another state directory".to_owned())
            }
            Self::Files { .. } => Some("run as root, and see whether the state directory can be written".to_owned()),
            Self::Unknown(_) => Some("`atoll image ls` lists them; `atoll image import` makes one".to_owned()),
            Self::InUse { .. } => Some("remove the sandbox first".to_owned()),
        }
    }
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its id: lower-case hexadecimal digits.
    pub id: String,
    /// Digest of its configuration, or of what it was made from.
    pub digest: String,
    /// What it is called.
    pub names: BTreeSet<ImageName>,
    /// What it says of its command.
    pub config: ImageConfig,
    /// The user and group that it names, as numbers; `None` for root.
    pub user: Option<(u32, u32)>,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it was imported, in milliseconds since the Unix epoch.
    pub imported_at_ms: u64,
}

/// The images below one state directory.
#[derive(Debug, Clone)]
pub struct Images {
    directory: PathBuf,
}

impl Images {
    /// Of a state directory. Nothing is made.
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self { directory: state_dir.join(DIRECTORY) }
    }

    /// Where an image's root file system is.
    #[must_use]
    pub fn root(&self, id: &str) -> PathBuf {
        self.directory.join(id).join(ROOT)
    }

    /// Unpacks what is at `path` and keeps it, under the names that it brings and `name`. An image that is there already
    /// gets the names only.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is left then.
    pub fn import(&self, path: &Path, name: Option<ImageName>, bounds: &Bounds) -> Result<Image, StoreError> {
        self.make(&self.directory, 0o755)?;
        let _held = self.hold()?;
        self.sweep()?;
        let work = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&self.directory);
        let work = work.map_err(self.failed("make a directory in", &self.directory))?;
        let (root, staging) = (work.path().join(ROOT), work.path().join("staging"));
        self.make(&root, 0o755)?;
        self.make(&staging, 0o700)?;
        let opened = unpack_image(path, &root, &staging, bounds).map_err(StoreError::Source)?;
        let _ = fs::remove_dir_all(&staging);
        let id: String = opened.digest.trim_start_matches("sha256:").chars().take(ID_DIGITS).collect();
        let user = user(&root, &opened.config.user)?;
        let mut image = self.describe(&id)?.unwrap_or(Image {
            id: id.clone(),
            digest: opened.digest,
            names: BTreeSet::new(),
            config: opened.config,
            user,
            bytes: opened.bytes,
            imported_at_ms: now_unix_ms(),
        });
        image.names.extend(opened.names.iter().filter_map(|name| ImageName::parse(name).ok()).chain(name));
        let place = self.directory.join(&id);
        if !place.is_dir() {
            let root = File::open(&root).map_err(self.failed("open", &root))?;
            // What is described is whole, also after the machine lost its power.
            rustix::fs::syncfs(&root).map_err(|error| self.failed("write", &place)(error.into()))?;
            let made = work.keep();
            fs::rename(&made, &place).map_err(self.failed("move", &made))?;
        }
        self.give_names(&image.names, &id)?;
        self.save(&image)?;
        Ok(image)
    }

    /// Every image, by id.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Image>, StoreError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(self.failed("list", &self.directory))?,
        };
        let mut ids: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok()?.strip_suffix(".json").map(str::to_owned))
            .filter(|id| is_id(id))
            .collect();
        ids.sort();
        ids.iter().filter_map(|id| self.describe(id).transpose()).collect()
    }

    /// The image of a name, or of an id or its beginning (at least four digits).
    ///
    /// # Errors
    /// There is none, or the store cannot be read.
    pub fn find(&self, name: &str) -> Result<Image, StoreError> {
        let parsed = ImageName::parse(name).ok();
        let is_id = name.len() >= 4 && is_id(name);
        let images = self.list()?;
        let by_name = |image: &&Image| parsed.as_ref().is_some_and(|name| image.names.contains(name));
        let by_id = |image: &&Image| is_id && image.id.starts_with(name);
        let found = images.iter().find(by_name).or_else(|| images.iter().find(by_id)).cloned();
        found.ok_or_else(|| StoreError::Unknown(name.to_owned()))
    }

    /// Removes a name, and the image with its last name or by its id. `user_of` tells which sandbox has an image of an
    /// id. Returns whether the image itself is gone.
    ///
    /// # Errors
    /// There is none, a sandbox has it, or it cannot be removed.
    pub fn remove(&self, name: &str, user_of: impl Fn(&str) -> Option<String>) -> Result<bool, StoreError> {
        // Where none was ever imported, there is nothing to hold.
        self.find(name)?;
        let _held = self.hold()?;
        let mut image = self.find(name)?;
        if let Ok(parsed) = ImageName::parse(name)
            && image.names.remove(&parsed)
            && !image.names.is_empty()
        {
            self.save(&image)?;
            return Ok(false);
        }
        if let Some(sandbox) = user_of(&image.id) {
            return Err(StoreError::InUse { name: name.to_owned(), sandbox });
        }
        // Without its description nobody finds it any more.
        let description = self.description(&image.id);
        fs::remove_file(&description).map_err(self.failed("remove", &description))?;
        // Half of it must never be taken for the whole.
        let (place, going) = (self.directory.join(&image.id), self.directory.join(format!("{UNFINISHED}{}", image.id)));
        fs::rename(&place, &going).map_err(self.failed("move", &place))?;
        fs::remove_dir_all(&going).map_err(self.failed("remove", &going))?;
        Ok(true)
    }

    /// One import or removal at a time, until the result is dropped.
    fn hold(&self) -> Result<File, StoreError> {
        let path = self.directory.join("lock");
        let mut options = File::options();
        let opened = options.create(true).truncate(false).write(true).mode(0o600).open(&path);
        opened.and_then(|file| file.lock().map(|()| file)).map_err(self.failed("lock", &path))
    }

    /// Removes what imports and removals left that were killed.
    fn sweep(&self) -> Result<(), StoreError> {
        let entries = fs::read_dir(&self.directory).map_err(self.failed("list", &self.directory))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_undescribed = is_id(&name) && !self.description(&name).exists();
            if name.starts_with(UNFINISHED) || is_undescribed {
                fs::remove_dir_all(entry.path()).map_err(self.failed("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    /// A name belongs to one image.
    fn give_names(&self, names: &BTreeSet<ImageName>, id: &str) -> Result<(), StoreError> {
        for mut other in self.list()?.into_iter().filter(|other| other.id != id) {
            let before = other.names.len();
            other.names.retain(|name| !names.contains(name));
            if other.names.len() != before {
                self.save(&other)?;
            }
        }
        Ok(())
    }

    fn description(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    fn describe(&self, id: &str) -> Result<Option<Image>, StoreError> {
        let path = self.description(id);
        let mut text = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(IMAGE_BYTES_MAX).read_to_end(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(self.failed("read", &path))?,
        };
        let image = serde_json::from_slice(&text);
        image.map(Some).map_err(|error| self.failed("understand", &path)(error.into()))
    }

    fn save(&self, image: &Image) -> Result<(), StoreError> {
        let path = self.description(&image.id);
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(&serde_json::to_vec(image)?)?;
            file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(self.failed("write", &path))
    }

    fn make(&self, path: &Path, mode: u32) -> Result<(), StoreError> {
        let made = DirBuilder::new().recursive(true).mode(mode).create(path);
        made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
            .map_err(self.failed("make", path))
    }

    fn failed(&self, attempted: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
        let path = path.to_owned();
        move |source| StoreError::Files { attempted, path, source }
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= ID_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The numbers of the user that a configuration names, by the image's own accounts; `None` for root.
fn user(root: &Path, text: &str) -> Result<Option<(u32, u32)>, StoreError> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    if user.is_empty() || user == "0" || user == "root" {
        return Ok(None);
    }
    let unfit =
        || StoreError::Source(SourceError::Unfit(format!("the image's user {text:?} is not in its /etc/passwd")));
    let accounts = accounts(root, "etc/passwd")?;
    let number = user.parse::<u32>().ok();
    let found = accounts.iter().find(|fields| match number {
        Some(number) => fields.get(2).and_then(|field| field.parse().ok()) == Some(number),
        None => fields.first().is_some_and(|name| name == user),
    });
    let field = |at: usize| found.and_then(|fields| fields.get(at)?.parse::<u32>().ok());
    let uid = number.or_else(|| field(2)).ok_or_else(unfit)?;
    let gid = match group.filter(|group| !group.is_empty()) {
        None => field(3).unwrap_or(0),
        Some(group) => match group.parse() {
            Ok(number) => number,
            Err(_) => {
                let groups = self::accounts(root, "etc/group")?;
                let found = groups.iter().find(|fields| fields.first().is_some_and(|name| name == group));
                found.and_then(|fields| fields.get(2)?.parse().ok()).ok_or_else(unfit)?
            }
        },
    };
    Ok(Some((uid, gid)))
}

/// Lines of a file of the image, in their fields; none where the file is not there.
fn accounts(root: &Path, path: &str) -> Result<Vec<Vec<String>>, StoreError> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
    let failed = |source: io::Error| StoreError::Files { attempted: "read", path: root.join(path), source };
    let directory = rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let directory = directory.map_err(|error| failed(error.into()))?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat2(&directory, path, flags, Mode::empty(), resolve) {
        Err(rustix::io::Errno::NOENT) => return Ok(Vec::new()),
        other => File::from(other.map_err(|error| failed(error.into()))?),
    };
    let mut bytes = Vec::new();
    file.take(ACCOUNTS_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect())
}

fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
