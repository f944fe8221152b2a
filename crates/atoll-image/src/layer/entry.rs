//! Entries of a layer's archive, with names and numbers that are too long for their headers put together.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use tar::{Archive, EntryType, PaxExtensions};

use super::{Bounds, LayerError};

/// Bytes of a path, and of what a link says.
const PATH_BYTES_MAX: usize = 4096;
const DEPTH_MAX: usize = 256;
/// Bytes of one header that extends another.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// Ids inside a sandbox are below this.
const IDS: u64 = 65_536;
/// Permission bits that are taken over: neither those that lend an owner's rights to others.
const MODE_MASK: u32 = 0o1777;

/// One thing to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Relative, of plain names; empty for the root.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since the Unix epoch.
    pub(super) modified: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File { bytes: u64 },
    Symlink { target: PathBuf },
    Hardlink { target: PathBuf },
    Pipe,
    Device,
}

/// What headers before an entry say of it.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    uid: Option<u64>,
    gid: Option<u64>,
}

pub(super) struct Reader<R: Read> {
    archive: Archive<Bounded<R>>,
}

/// Bytes of the archive for each entry besides its content: its headers.
const HEADERS_BYTES: u64 = 8192;

/// Reads so much, and then no more: an end would look like the archive's own.
struct Bounded<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let left = self.left.checked_sub(read as u64);
        self.left = left.ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "the archive is too long"))?;
        Ok(read)
    }
}

impl<R: Read> Reader<R> {
    /// An archive is at most as long as its files may be, and their headers.
    pub(super) fn new(reader: R, bounds: &Bounds) -> Self {
        let headers = bounds.entries_max.saturating_mul(HEADERS_BYTES);
        let left = bounds.bytes_max.saturating_mul(2).saturating_add(headers);
        Self { archive: Archive::new(Bounded { reader, left }) }
    }

    /// Hands every entry on with its content.
    pub(super) fn each(
        &mut self,
        mut take: impl FnMut(Entry, &mut dyn Read) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        let mut extension = Extension::default();
        // Raw, as the crate would read extensions of any length into memory.
        for entry in self.archive.entries().map_err(LayerError::Damaged)?.raw(true) {
            let mut entry = entry.map_err(LayerError::Damaged)?;
            match entry.header().entry_type() {
                EntryType::GNULongName => extension.path = Some(text(&mut entry)?),
                EntryType::GNULongLink => extension.link = Some(text(&mut entry)?),
                EntryType::XHeader => extension.read_pax(&text(&mut entry)?)?,
                EntryType::XGlobalHeader => drop(text(&mut entry)?),
                _ => {
                    let read = std::mem::take(&mut extension).entry(&entry)?;
                    take(read, &mut entry)?;
                }
            }
        }
        Ok(())
    }
}

/// A name or a list of settings that is an entry of its own.
fn text(entry: &mut impl Read) -> Result<Vec<u8>, LayerError> {
    let mut bytes = Vec::new();
    entry.take(EXTENSION_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(LayerError::Damaged)?;
    if bytes.len() as u64 > EXTENSION_BYTES_MAX {
        return Err(LayerError::TooMuch(format!("{EXTENSION_BYTES_MAX} bytes in one header")));
    }
    Ok(bytes)
}

impl Extension {
    fn read_pax(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        for setting in PaxExtensions::new(bytes) {
            let setting = setting.map_err(LayerError::Damaged)?;
            let value = setting.value_bytes();
            let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            match setting.key_bytes() {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"uid" => self.uid = number(),
                b"gid" => self.gid = number(),
                // The archive's own reader goes by the header's size.
                b"size" => return Err(LayerError::TooMuch("8 GiB in one file".to_owned())),
                // Attributes lend rights; times are in the header as well.
                _ => {}
            }
        }
        Ok(())
    }

    fn entry<R: Read>(self, entry: &tar::Entry<'_, R>) -> Result<Entry, LayerError> {
        let header = entry.header();
        let raw_path = self.path.unwrap_or_else(|| entry.path_bytes().into_owned());
        let path = relative(&raw_path)?;
        let refused = |reason: &str| LayerError::Refused { path: path.clone(), reason: reason.to_owned() };
        let link = || {
            let link = self.link.clone().or_else(|| entry.link_name_bytes().map(|name| name.into_owned()));
            let link = link.filter(|link| !link.is_empty() && link.len() <= PATH_BYTES_MAX);
            link.map(|link| trimmed(&link).to_vec()).ok_or_else(|| refused("it leads nowhere"))
        };
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => Kind::File { bytes: entry.size() },
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink { target: PathBuf::from(OsStr::from_bytes(&link()?)) },
            EntryType::Link => Kind::Hardlink { target: relative(&link()?)? },
            EntryType::Fifo => Kind::Pipe,
            EntryType::Char | EntryType::Block => Kind::Device,
            _ => return Err(refused("its kind is not known")),
        };
        let uid = self.uid.map_or_else(|| header.uid(), Ok).map_err(LayerError::Damaged)?;
        let gid = self.gid.map_or_else(|| header.gid(), Ok).map_err(LayerError::Damaged)?;
        let id = |id: u64| {
            u32::try_from(id).ok().filter(|_| id < IDS).ok_or_else(|| refused("its owner is not below 65536"))
        };
        let mode = header.mode().map_err(LayerError::Damaged)? & MODE_MASK;
        let modified = header.mtime().unwrap_or(0);
        Ok(Entry { uid: id(uid)?, gid: id(gid)?, path, kind, mode, modified })
    }
}

/// Without the zero byte that ends it.
fn trimmed(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A path as names below the root. `/a` and `./a` are `a`; what goes up is refused, wherever it would end.
fn relative(bytes: &[u8]) -> Result<PathBuf, LayerError> {
    let path = Path::new(OsStr::from_bytes(trimmed(bytes)));
    let refused = |reason: &str| LayerError::Refused { path: path.to_owned(), reason: reason.to_owned() };
    let mut names = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refused("it leads out of the image")),
        }
    }
    if names.as_os_str().len() > PATH_BYTES_MAX || names.components().count() > DEPTH_MAX {
        return Err(refused("it is too long"));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        for (path, expected) in [("./a/b", "a/b"), ("/etc/x", "etc/x"), ("a//b/", "a/b"), ("./", ""), ("a\0b", "a")] {
            assert_eq!(relative(path.as_bytes()).unwrap(), Path::new(expected), "{path}");
        }
        for path in ["../a", "a/../../b", "/..", "a/.."] {
            assert!(matches!(relative(path.as_bytes()), Err(LayerError::Refused { .. })), "{path}");
        }
        assert!(relative("a/".repeat(300).as_bytes()).is_err());
    }
}
