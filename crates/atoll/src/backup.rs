//! The form of a backup: a tar archive with a manifest, a copy of each database, and the plane's files.

mod files;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use atoll_stdx::Hint;
use atoll_store::{Journal, JournalError, Store, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::failure::{Exit, Failure};

pub(crate) use files::FOLDERS;

/// The form that this program writes, and the latest that it reads.
const FORMAT: u32 = 2;
/// The last form without files.
const FORMAT_DATABASES_ALONE: u32 = 1;
const MANIFEST: &str = "manifest.json";
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;
/// The databases, in the order of the archive.
pub(crate) const DATABASES: [&str; 2] = ["control.db", "runs.db"];
/// Keys, certificates and repositories, as an archive.
const FILES: &str = "files.tar";
const BUFFER_BYTES: usize = 128 * 1024;
/// Restored objects go on at a revision so much higher, so that none is given out twice that clients have seen after the
/// backup was made.
const REVISIONS_SKIPPED: u32 = 1_000_000;

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: u32,
    /// The release that made it.
    pub(crate) version: String,
    /// Milliseconds since the Unix epoch.
    pub(crate) created_at_ms: u64,
    /// Objects and other keys of the API server.
    pub(crate) keys: usize,
    /// The API server's revision.
    pub(crate) revision: u64,
    files: Vec<Entry>,
}

impl Manifest {
    /// Whether keys and repositories are in it.
    pub(crate) fn has_files(&self) -> bool {
        self.files.iter().any(|file| file.name == FILES)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    name: String,
    bytes: u64,
    sha256: String,
}

/// Why an archive cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error("the objects cannot be copied")]
    Store(#[from] StoreError),
    #[error("the runs cannot be copied")]
    Journal(#[from] JournalError),
    #[error("files cannot be read or written")]
    Io(#[from] io::Error),
    #[error("it is no backup of Atoll: {0}")]
    Foreign(&'static str),
    #[error("it has format {found}, this program reads up to {FORMAT}")]
    Newer { found: u32 },
    #[error("it is damaged: {0}")]
    Damaged(String),
}

impl BackupError {
    pub(crate) fn failure(&self, attempted: impl std::fmt::Display) -> Failure {
        let hint = match self {
            Self::Store(error) => error.hint(),
            Self::Journal(error) => error.hint(),
            Self::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
                Some("free some space on that file system".to_owned())
            }
            Self::Io(_) => None,
            Self::Foreign(_) => Some("`atoll backup FILE` makes one".to_owned()),
            Self::Newer { .. } => Some("use the release that made it, or a later one".to_owned()),
            Self::Damaged(_) => Some("use another backup".to_owned()),
        };
        Failure::because(Exit::State, attempted, self).hint_of(hint)
    }
}

/// What is to be packed.
pub(crate) struct Sources<'a> {
    pub(crate) store: &'a Store,
    pub(crate) journal: &'a Journal,
    /// The plane's directory, for the files in it.
    pub(crate) plane: &'a Path,
}

/// Copies both databases, each at one moment, and then the plane's files, and packs them. `folder` is for the copies.
/// Blocks.
pub(crate) fn pack(sources: &Sources<'_>, folder: &Path, archive: &Path) -> Result<Manifest, BackupError> {
    let [control, runs] = DATABASES.map(|name| folder.join(name));
    let copy = sources.store.backup(&control)?;
    sources.journal.backup(&runs)?;
    files::pack(sources.plane, folder, &folder.join(FILES))?;
    let mut files = Vec::new();
    for name in DATABASES.into_iter().chain([FILES]) {
        let path = folder.join(name);
        files.push(Entry { name: name.to_owned(), bytes: fs::metadata(&path)?.len(), sha256: sha256_of(&path)? });
    }
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created_at_ms: atoll_rt::clock::now_unix_ms(),
        keys: copy.keys,
        revision: copy.revision,
        files,
    };
    let mut builder = tar::Builder::new(private_file(archive)?);
    let text = serde_json::to_vec_pretty(&manifest).expect("plain values serialize");
    append(&mut builder, MANIFEST, text.len() as u64, &*text)?;
    for entry in &manifest.files {
        append(&mut builder, &entry.name, entry.bytes, File::open(folder.join(&entry.name))?)?;
    }
    builder.into_inner()?.sync_all()?;
    Ok(manifest)
}

fn append(builder: &mut tar::Builder<File>, name: &str, bytes: u64, content: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_cksum();
    builder.append_data(&mut header, name, content)
}

/// Reads an archive to its end; with a folder, unpacks it there. What is unpacked is what the manifest says. Blocks.
pub(crate) fn unpack(archive: &Path, folder: Option<&Path>) -> Result<Manifest, BackupError> {
    let mut archive = tar::Archive::new(File::open(archive)?);
    let mut entries = archive.entries().map_err(|_| BackupError::Foreign("it is no tar archive"))?;
    let first = entries.next().ok_or(BackupError::Foreign("it is empty"))?;
    let first = first.map_err(|_| BackupError::Foreign("it is no tar archive"))?;
    let manifest = read_manifest(first)?;
    for expected in &manifest.files {
        let missing = || BackupError::Damaged(format!("{} is missing", expected.name));
        let mut entry = entries.next().ok_or_else(missing)?.map_err(|_| missing())?;
        if entry.path().ok().as_deref() != Some(Path::new(&expected.name)) {
            return Err(missing());
        }
        let target = folder.map(|folder| private_file(&folder.join(&expected.name))).transpose()?;
        let (bytes, sha256) = copy(&mut entry, target, expected.bytes)?;
        if (bytes, &sha256) != (expected.bytes, &expected.sha256) {
            return Err(BackupError::Damaged(format!("{} is not what the manifest says", expected.name)));
        }
    }
    Ok(manifest)
}

fn read_manifest(mut entry: tar::Entry<'_, File>) -> Result<Manifest, BackupError> {
    const NONE: BackupError = BackupError::Foreign("it has no manifest");
    if entry.path().ok().as_deref() != Some(Path::new(MANIFEST)) || entry.size() > MANIFEST_BYTES_MAX {
        return Err(NONE);
    }
    let mut text = Vec::new();
    (&mut entry).take(MANIFEST_BYTES_MAX).read_to_end(&mut text)?;
    // The format is looked at first: a later one may have other members.
    let any: serde_json::Value = serde_json::from_slice(&text).map_err(|_| NONE)?;
    let format = any["format"].as_u64().ok_or(NONE)?;
    if format > u64::from(FORMAT) {
        return Err(BackupError::Newer { found: u32::try_from(format).unwrap_or(u32::MAX) });
    }
    let manifest: Manifest = serde_json::from_value(any).map_err(|_| NONE)?;
    let files = (manifest.format > FORMAT_DATABASES_ALONE).then_some(FILES);
    let expected = DATABASES.into_iter().chain(files);
    if manifest.files.iter().map(|file| file.name.as_str()).eq(expected) { Ok(manifest) } else { Err(NONE) }
}

/// Checks unpacked databases from their first byte to their last, makes them ready to be used, and unpacks the files.
pub(crate) fn verify(folder: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let [control, runs] = DATABASES.map(|name| folder.join(name));
    let copy = Store::verify(&control)?;
    if (copy.keys, copy.revision) != (manifest.keys, manifest.revision) {
        return Err(BackupError::Damaged("the objects are not those that the manifest names".to_owned()));
    }
    Journal::verify(&runs)?;
    Store::advance(&control, REVISIONS_SKIPPED)?;
    if manifest.has_files() {
        files::unpack(&folder.join(FILES), folder)?;
    }
    Ok(())
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)
}

fn sha256_of(path: &Path) -> io::Result<String> {
    copy(&mut File::open(path)?, None, u64::MAX).map(|(_, sha256)| sha256)
}

/// Copies at most `bytes_max` (and one, so that more is seen); returns how much it was, and its hash.
fn copy(source: &mut impl Read, mut target: Option<File>, bytes_max: u64) -> io::Result<(u64, String)> {
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; BUFFER_BYTES]);
    let mut source = source.take(bytes_max.saturating_add(1));
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
        if let Some(target) = &mut target {
            target.write_all(&buffer[..read])?;
        }
    }
    target.map(|target| target.sync_all()).transpose()?;
    Ok((bytes, hex::encode(hash.finalize())))
}
