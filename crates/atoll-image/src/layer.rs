//! Unpacks one layer onto the ones below it (`layer.md` of the OCI image specification 1.1).

mod entry;
mod root;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use atoll_stdx::Hint;

use entry::{Entry, Kind};
use root::Root;

/// File of a layer that hides what lower layers have under the rest of its name.
const WHITEOUT_PREFIX: &str = ".wh.";
/// File of a layer that hides everything that lower layers have in its directory.
const OPAQUE: &str = ".wh..wh..opq";

/// What one image may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all files.
    pub bytes_max: u64,
    /// Files, directories and links.
    pub entries_max: u64,
    /// How many bytes may come out of one that is compressed.
    pub ratio_max: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes_max: 16 << 30, entries_max: 2_000_000, ratio_max: 200 }
    }
}

/// Compressed archives that come to less than this are not suspected of anything.
const RATIO_FREE_BYTES: u64 = 4 << 20;

/// A layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It ends early, or is not an archive.
    #[error("the layer is damaged or cut short")]
    Damaged(#[source] io::Error),
    /// It wants something outside, or something that an image may not have.
    #[error("the layer's entry {path:?} is refused: {reason}")]
    Refused {
        /// Which entry.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// More than [`Bounds`] allow.
    #[error("the layer holds more than {0}")]
    TooMuch(String),
    /// It could not be written.
    #[error("cannot write {path:?} of the layer")]
    Write {
        /// Which entry.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Hint for LayerError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Damaged(_) => Some("fetch or export the image again".to_owned()),
            Self::Refused { .. } => Some("do not use this image unless you know who made it, and why so".to_owned()),
            Self::TooMuch(_) => Some("use a smaller image".to_owned()),
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some disk space, or choose another state directory".to_owned())
            }
            Self::Write { .. } => None,
        }
    }
}

/// What has been unpacked so far, of all layers of an image.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Bytes of files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

/// Unpacks an uncompressed archive into the directory `root`, on top of what is there. Owners are as recorded when this
/// process is root, and its own otherwise.
///
/// # Errors
/// [`LayerError`]. The directory is of no use then.
pub fn unpack(archive: impl Read, root: BorrowedFd<'_>, bounds: &Bounds, taken: &mut Taken) -> Result<(), LayerError> {
    let mut unpacking = Unpacking { root: Root::new(root), bounds, taken, own: BTreeSet::new() };
    let mut reader = entry::Reader::new(archive, bounds);
    reader.each(|entry, content| unpacking.take(&entry, content))
}

struct Unpacking<'a> {
    root: Root<'a>,
    bounds: &'a Bounds,
    taken: &'a mut Taken,
    /// Paths that this layer made: what it hides is of lower ones.
    own: BTreeSet<PathBuf>,
}

impl Unpacking<'_> {
    fn take(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), LayerError> {
        self.taken.entries += 1;
        if self.taken.entries > self.bounds.entries_max {
            return Err(LayerError::TooMuch(format!("{} files", self.bounds.entries_max)));
        }
        if let Kind::File { bytes } = entry.kind {
            self.taken.bytes = self.taken.bytes.saturating_add(bytes);
            if self.taken.bytes > self.bounds.bytes_max {
                return Err(LayerError::TooMuch(format!("{} bytes", self.bounds.bytes_max)));
            }
        }
        let failed = |source| LayerError::Write { path: entry.path.clone(), source };
        let Some(name) = entry.path.file_name() else {
            // The root itself.
            return self.root.set_root(entry).map_err(failed);
        };
        let name = name.to_string_lossy();
        if name == OPAQUE {
            let directory = entry.path.parent().unwrap_or(&entry.path);
            return self.root.clear(directory, &self.own).map_err(failed);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            if hidden.is_empty() || hidden == "." || hidden == ".." {
                return Err(refused(entry, "it hides no name"));
            }
            let hidden = entry.path.with_file_name(hidden);
            return if self.own.contains(&hidden) { Ok(()) } else { self.root.remove(&hidden).map_err(failed) };
        }
        self.make(entry, content)?;
        self.own.insert(entry.path.clone());
        Ok(())
    }

    fn make(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), LayerError> {
        let failed = |source| LayerError::Write { path: entry.path.clone(), source };
        match &entry.kind {
            Kind::Directory => self.root.directory(entry).map_err(failed),
            Kind::File { bytes } => self.root.file(entry, *bytes, content),
            Kind::Symlink { target } => self.root.symlink(entry, target).map_err(failed),
            Kind::Hardlink { target } => self.root.hardlink(entry, target).map_err(failed),
            Kind::Pipe => self.root.pipe(entry).map_err(failed),
            // A sandbox has devices of its own there.
            Kind::Device if entry.path.starts_with("dev") => Ok(()),
            Kind::Device => Err(refused(entry, "it is a device")),
        }
    }
}

fn refused(entry: &Entry, reason: &str) -> LayerError {
    LayerError::Refused { path: entry.path.clone(), reason: reason.to_owned() }
}

/// Reads at most as much as is allowed for what went in.
pub(crate) struct Inflated<R> {
    reader: R,
    compressed_bytes: u64,
    bytes: u64,
    ratio_max: u64,
}

impl<R> Inflated<R> {
    pub(crate) fn new(reader: R, compressed_bytes: u64, bounds: &Bounds) -> Self {
        Self { reader, compressed_bytes, bytes: 0, ratio_max: bounds.ratio_max }
    }
}

impl<R: Read> Read for Inflated<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.bytes += read as u64;
        let allowed = self.compressed_bytes.saturating_mul(self.ratio_max).max(RATIO_FREE_BYTES);
        if self.bytes > allowed {
            let message = format!("more than {} times as much comes out as went in", self.ratio_max);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        Ok(read)
    }
}
