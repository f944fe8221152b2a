//! Where images come from on this machine: an archive of `docker save`, an OCI layout (a directory or an archive of
//! one), an archive of a root file system, or a directory that is one.
//!
//! What is an archive of archives is unpacked first, in a directory of its own and with the same care as a layer.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use atoll_stdx::Hint;
use flate2::read::GzDecoder;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::config::{ConfigDocument, Descriptor, ImageConfig, Manifest, SavedImage, own_architecture};
use crate::layer::{Bounds, Inflated, LayerError, Taken, unpack};
use crate::name::is_digest;

/// Bytes of one document: configuration, manifest, index.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
const LAYERS_MAX: usize = 512;
/// Indexes within indexes.
const INDEX_DEPTH_MAX: usize = 4;
/// Where the name of an image is in an OCI layout.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// No image can be made of it.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A document is not what it should be.
    #[error("{document} of the image cannot be understood")]
    Document {
        /// Which.
        document: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It contradicts itself, or asks for what cannot be done.
    #[error("{0}")]
    Unfit(String),
    /// What it holds is not what it says.
    #[error("{what} of the image has the digest {found} instead of {expected}")]
    Digest {
        /// Which part.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A layer cannot be unpacked.
    #[error("layer {number} of the image cannot be unpacked")]
    Layer {
        /// Counted from 1, the lowest.
        number: usize,
        /// Why.
        #[source]
        source: LayerError,
    },
}

impl Hint for SourceError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Layer { source, .. } => source.hint(),
            Self::Read { .. } => {
                Some("name an archive of `docker save`, an OCI layout, a tar or a directory".to_owned())
            }
            Self::Document { .. } | Self::Digest { .. } => Some("fetch or export the image again".to_owned()),
            Self::Unfit(_) => None,
        }
    }
}

/// An image whose root file system has been unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Digest of its configuration, or of what it was made from.
    pub digest: String,
    /// What it says of its command.
    pub config: ImageConfig,
    /// Names that it brought.
    pub names: Vec<String>,
    /// What it takes on disk.
    pub bytes: u64,
}

/// Unpacks the image that is at `path` into the empty directory `root`; `staging` is another one, for what lies between.
///
/// # Errors
/// [`SourceError`]. Both directories are of no use then.
pub fn unpack_image(path: &Path, root: &Path, staging: &Path, bounds: &Bounds) -> Result<Opened, SourceError> {
    let read = |source| SourceError::Read { path: path.to_owned(), source };
    let found = fs::metadata(path).map_err(read)?;
    if found.is_dir() {
        return Parts::open(path)?
            .map_or_else(|| from_directory(path, root, staging, bounds), |parts| parts.unpack(root, bounds));
    }
    if !found.is_file() {
        return Err(SourceError::Unfit(format!("{} is neither file nor directory", path.display())));
    }
    if is_archive_of_parts(path, bounds).map_err(read)? {
        let directory = File::open(staging).map_err(read)?;
        let mut taken = Taken::default();
        let layer = |source| SourceError::Layer { number: 0, source };
        unpack(open_inflated(path, bounds).map_err(read)?, directory.as_fd(), bounds, &mut taken).map_err(layer)?;
        let parts = Parts::open(staging)?;
        let parts = parts.ok_or_else(|| SourceError::Unfit("the archive holds no image".to_owned()))?;
        return parts.unpack(root, bounds);
    }
    from_archive(path, root, bounds)
}

/// A file, inflated if it is compressed.
fn open_inflated(path: &Path, bounds: &Bounds) -> io::Result<Box<dyn Read>> {
    inflated(File::open(path)?, bounds)
}

fn inflated(mut file: File, bounds: &Bounds) -> io::Result<Box<dyn Read>> {
    let mut magic = [0; 4];
    let read = read_some(&mut file, &mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    let compressed_bytes = file.metadata()?.len();
    if read >= 2 && magic[..2] == GZIP_MAGIC {
        return Ok(Box::new(Inflated::new(GzDecoder::new(BufReader::new(file)), compressed_bytes, bounds)));
    }
    if magic == ZSTD_MAGIC {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it is compressed by zstd, which is not supported"));
    }
    Ok(Box::new(BufReader::new(file)))
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Whether an archive holds an image in parts, rather than a root file system.
fn is_archive_of_parts(path: &Path, bounds: &Bounds) -> io::Result<bool> {
    let mut archive = tar::Archive::new(open_inflated(path, bounds)?);
    for entry in archive.entries()?.raw(true) {
        let entry = entry?;
        let name = entry.path_bytes();
        let name = name.strip_prefix(b"./").unwrap_or(&name);
        if name == b"manifest.json" || name == b"oci-layout" {
            return Ok(true);
        }
    }
    Ok(false)
}

fn from_archive(path: &Path, root: &Path, bounds: &Bounds) -> Result<Opened, SourceError> {
    let read = |source| SourceError::Read { path: path.to_owned(), source };
    let directory = File::open(root).map_err(read)?;
    let mut archive = Digested::new(open_inflated(path, bounds).map_err(read)?);
    let mut taken = Taken::default();
    let layer = |source| SourceError::Layer { number: 1, source };
    unpack(&mut archive, directory.as_fd(), bounds, &mut taken).map_err(layer)?;
    let digest = archive.finish().map_err(read)?;
    Ok(Opened { digest, config: ImageConfig::default(), names: Vec::new(), bytes: taken.bytes })
}

/// A directory is archived first: so that it is unpacked as everything else is.
fn from_directory(path: &Path, root: &Path, staging: &Path, bounds: &Bounds) -> Result<Opened, SourceError> {
    let read = |source| SourceError::Read { path: path.to_owned(), source };
    let archive = staging.join("rootfs.tar");
    let mut builder = tar::Builder::new(File::create(&archive).map_err(read)?);
    builder.follow_symlinks(false);
    builder.sparse(false);
    builder.append_dir_all(".", path).and_then(|()| builder.finish()).map_err(read)?;
    from_archive(&archive, root, bounds)
}

/// An image in parts: a directory of documents and layers.
struct Parts {
    directory: OwnedFd,
    path: PathBuf,
    form: Form,
}

enum Form {
    Layout,
    Saved,
}

impl Parts {
    /// `None` if there is no image in parts in the directory.
    fn open(path: &Path) -> Result<Option<Self>, SourceError> {
        // Recent archives of `docker save` are both; the layout has digests for everything.
        let form = match (path.join("index.json").is_file(), path.join("manifest.json").is_file()) {
            (true, _) if path.join("oci-layout").is_file() => Form::Layout,
            (_, true) => Form::Saved,
            _ => return Ok(None),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| SourceError::Read { path: path.to_owned(), source: error.into() })?;
        Ok(Some(Self { directory, path: path.to_owned(), form }))
    }

    fn unpack(&self, root: &Path, bounds: &Bounds) -> Result<Opened, SourceError> {
        match self.form {
            Form::Layout => self.unpack_layout(root, bounds),
            Form::Saved => self.unpack_saved(root, bounds),
        }
    }

    /// A file of it; links lead nowhere else.
    fn file(&self, path: &str) -> Result<File, SourceError> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve);
        let failed = |source| SourceError::Read { path: self.path.join(path), source };
        let file = File::from(opened.map_err(|error| failed(error.into()))?);
        if file.metadata().map_err(failed)?.is_file() {
            Ok(file)
        } else {
            Err(SourceError::Unfit(format!("{path} of the image is not a file")))
        }
    }

    fn bytes(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        let failed = |source| SourceError::Read { path: self.path.join(path), source };
        let mut bytes = Vec::new();
        self.file(path)?.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(SourceError::Unfit(format!("{path} of the image is longer than {DOCUMENT_BYTES_MAX} bytes")));
        }
        Ok(bytes)
    }

    /// A document that is what its digest says.
    fn blob<T: DeserializeOwned>(&self, digest: &str) -> Result<T, SourceError> {
        let bytes = self.bytes(&blob_path(digest)?)?;
        check_digest("a document", digest, &digest_of(&bytes))?;
        parse(digest, &bytes)
    }

    fn unpack_layout(&self, root: &Path, bounds: &Bounds) -> Result<Opened, SourceError> {
        let index: Manifest = parse("index.json", &self.bytes("index.json")?)?;
        let (chosen, names) = self.choose(&index)?;
        let config = chosen.config.ok_or_else(|| SourceError::Unfit("the image has no configuration".to_owned()))?;
        let document: ConfigDocument = self.blob(&config.digest)?;
        let mut layers = Vec::new();
        for layer in &chosen.layers {
            if layer.media_type.ends_with("+zstd") {
                let message = format!("layer {} is compressed by zstd, which is not supported", layer.digest);
                return Err(SourceError::Unfit(message));
            }
            layers.push((blob_path(&layer.digest)?, Some(layer.digest.clone())));
        }
        let bytes = self.layers(&layers, &document, root, bounds)?;
        Ok(Opened { digest: config.digest, config: document.config, names, bytes })
    }

    /// The manifest for this machine, and the names that lead to it.
    fn choose(&self, index: &Manifest) -> Result<(Manifest, Vec<String>), SourceError> {
        let mut candidates = index.manifests.clone();
        let mut names = Vec::new();
        for _ in 0..INDEX_DEPTH_MAX {
            let descriptor = pick(&candidates)?;
            let name = NAME_ANNOTATIONS.into_iter().find_map(|key| descriptor.annotations.get(key));
            names.extend(name.cloned());
            let manifest: Manifest = self.blob(&descriptor.digest)?;
            if manifest.manifests.is_empty() {
                return Ok((manifest, names));
            }
            candidates = manifest.manifests;
        }
        Err(SourceError::Unfit("the image's indexes lead from one to another without end".to_owned()))
    }

    fn unpack_saved(&self, root: &Path, bounds: &Bounds) -> Result<Opened, SourceError> {
        let saved: Vec<SavedImage> = parse("manifest.json", &self.bytes("manifest.json")?)?;
        let [image] = saved.as_slice() else {
            let message = format!("the archive holds {} images: save one at a time", saved.len());
            return Err(SourceError::Unfit(message));
        };
        let text = self.bytes(&image.config)?;
        let document: ConfigDocument = parse(&image.config, &text)?;
        let layers: Vec<(String, Option<String>)> = image.layers.iter().map(|path| (path.clone(), None)).collect();
        let bytes = self.layers(&layers, &document, root, bounds)?;
        Ok(Opened { digest: digest_of(&text), config: document.config, names: image.repo_tags.clone(), bytes })
    }

    /// Unpacks layers, each with its path and its own digest where that is known, one on the other.
    fn layers(
        &self,
        layers: &[(String, Option<String>)],
        document: &ConfigDocument,
        root: &Path,
        bounds: &Bounds,
    ) -> Result<u64, SourceError> {
        check_platform(&document.os, &document.architecture)?;
        let diff_ids = &document.rootfs.diff_ids;
        if layers.len() != diff_ids.len() || layers.len() > LAYERS_MAX {
            let message = format!(
                "the image has {} layers and tells of {}; at most {LAYERS_MAX} can be used",
                layers.len(),
                diff_ids.len()
            );
            return Err(SourceError::Unfit(message));
        }
        let read = |source| SourceError::Read { path: root.to_owned(), source };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, root, flags, Mode::empty()).map_err(|error| read(error.into()))?;
        let mut taken = Taken::default();
        for (index, ((path, digest), diff_id)) in layers.iter().zip(diff_ids).enumerate() {
            let number = index + 1;
            let failed = |source| SourceError::Read { path: self.path.join(path), source };
            if let Some(digest) = digest {
                let mut whole = Digested::new(self.file(path)?);
                let found = whole.finish().map_err(failed)?;
                check_digest(&format!("layer {number}"), digest, &found)?;
            }
            let mut content = Digested::new(inflated(self.file(path)?, bounds).map_err(failed)?);
            let layer = |source| SourceError::Layer { number, source };
            unpack(&mut content, directory.as_fd(), bounds, &mut taken).map_err(layer)?;
            let found = content.finish().map_err(failed)?;
            check_digest(&format!("the content of layer {number}"), diff_id, &found)?;
        }
        Ok(taken.bytes)
    }
}

fn parse<T: DeserializeOwned>(document: &str, bytes: &[u8]) -> Result<T, SourceError> {
    serde_json::from_slice(bytes).map_err(|source| SourceError::Document { document: document.to_owned(), source })
}

fn blob_path(digest: &str) -> Result<String, SourceError> {
    if is_digest(digest) {
        Ok(format!("blobs/{}", digest.replacen(':', "/", 1)))
    } else {
        Err(SourceError::Unfit(format!("{digest:?} is not a digest that can be checked: sha256 is")))
    }
}

/// The one for this machine; the only one, where none says what it is for.
fn pick(candidates: &[Descriptor]) -> Result<&Descriptor, SourceError> {
    let fits = |descriptor: &&Descriptor| {
        descriptor.platform.as_ref().is_some_and(|it| it.os == "linux" && it.architecture == own_architecture())
    };
    let fitting: Vec<&Descriptor> = candidates.iter().filter(fits).collect();
    match (fitting.as_slice(), candidates) {
        ([one], _) => Ok(one),
        ([], [only]) if only.platform.is_none() => Ok(only),
        ([], _) => Err(SourceError::Unfit(format!("there is no image for linux/{} in it", own_architecture()))),
        (many, _) => Err(SourceError::Unfit(format!("there are {} images in it: name one", many.len()))),
    }
}

fn check_platform(os: &str, architecture: &str) -> Result<(), SourceError> {
    if (os.is_empty() || os == "linux") && (architecture.is_empty() || architecture == own_architecture()) {
        return Ok(());
    }
    Err(SourceError::Unfit(format!(
        "the image is for {os}/{architecture}, this machine is linux/{}",
        own_architecture()
    )))
}

fn check_digest(what: &str, expected: &str, found: &str) -> Result<(), SourceError> {
    if expected == found {
        return Ok(());
    }
    Err(SourceError::Digest { what: what.to_owned(), expected: expected.to_owned(), found: found.to_owned() })
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Knows the digest of what was read through it.
struct Digested<R> {
    reader: R,
    hash: Sha256,
}

impl<R: Read> Digested<R> {
    fn new(reader: R) -> Self {
        Self { reader, hash: Sha256::new() }
    }

    /// Of everything, the rest included.
    fn finish(&mut self) -> io::Result<String> {
        io::copy(self, &mut io::sink())?;
        Ok(format!("sha256:{}", hex::encode(self.hash.finalize_reset())))
    }
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}
