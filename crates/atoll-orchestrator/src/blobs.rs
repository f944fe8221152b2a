//! Uploaded files, kept under the hash of their content.

use std::io;
use std::path::{Path, PathBuf};

use atoll_rt::ids;
use sha2::{Digest, Sha256};
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

use crate::digest::is_sha256;

/// The largest upload.
pub(crate) const BLOB_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A directory of files named by their SHA-256.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    directory: PathBuf,
}

/// A blob could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    #[error("at most {BLOB_BYTES_MAX} bytes are accepted")]
    TooLarge,
    #[error("the blob cannot be stored")]
    Io(#[source] io::Error),
}

impl Blobs {
    /// Opens the directory, making it if need be, and removes what interrupted uploads left.
    pub(crate) async fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory).await?;
        let mut entries = fs::read_dir(&directory).await?;
        while let Some(entry) = entries.next_entry().await? {
            if !entry.file_name().to_str().is_some_and(is_sha256) {
                fs::remove_file(entry.path()).await?;
            }
        }
        Ok(Self { directory })
    }

    /// Where the blob is, if it is there.
    pub(crate) async fn find(&self, sha256: &str) -> Option<PathBuf> {
        let path = is_sha256(sha256).then(|| self.directory.join(sha256))?;
        fs::try_exists(&path).await.is_ok_and(|there| there).then_some(path)
    }

    /// Begins an upload.
    pub(crate) async fn create(&self) -> Result<Upload, BlobError> {
        let path = self.directory.join(format!("upload-{}", ids::random_hex(8)));
        let file = File::create_new(&path).await.map_err(BlobError::Io)?;
        Ok(Upload { directory: self.directory.clone(), path, file, hash: Sha256::new(), size_bytes: 0 })
    }
}

/// A blob on its way in. Dropping it leaves a file that the next start removes.
pub(crate) struct Upload {
    directory: PathBuf,
    path: PathBuf,
    file: File,
    hash: Sha256,
    size_bytes: u64,
}

impl Upload {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.size_bytes += bytes.len() as u64;
        if self.size_bytes > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge);
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).await.map_err(BlobError::Io)
    }

    /// Makes the blob durable; returns its name and its size in bytes.
    pub(crate) async fn finish(mut self) -> Result<(String, u64), BlobError> {
        let sha256 = hex::encode(std::mem::take(&mut self.hash).finalize());
        self.store(&sha256).await.map_err(BlobError::Io)?;
        Ok((sha256, self.size_bytes))
    }

    async fn store(&mut self, sha256: &str) -> io::Result<()> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        fs::rename(&self.path, self.directory.join(sha256)).await?;
        sync_directory(&self.directory).await
    }

    /// Throws the upload away.
    pub(crate) async fn abort(self) {
        if let Err(error) = fs::remove_file(&self.path).await {
            tracing::debug!(cause = %error, "an aborted upload stays until the next start");
        }
    }
}

/// Makes names in a directory durable.
pub(crate) async fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path).await?.sync_all().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256_hex;

    #[tokio::test]
    async fn a_blob_is_found_by_its_hash_and_leftovers_go() {
        let directory = tempfile::tempdir().expect("a directory");
        let blobs = Blobs::open(directory.path().join("blobs")).await.expect("it opens");
        let mut upload = blobs.create().await.expect("a file");
        upload.write(b"he").await.expect("room");
        upload.write(b"llo").await.expect("room");
        let (name, size_bytes) = upload.finish().await.expect("it is kept");
        assert_eq!((name.clone(), size_bytes), (sha256_hex(b"hello"), 5));
        assert!(blobs.find(&name).await.is_some());
        assert!(blobs.find("../blobs").await.is_none());

        let mut left = blobs.create().await.expect("a file");
        left.write(b"half").await.expect("room");
        drop(left);
        let blobs = Blobs::open(directory.path().join("blobs")).await.expect("it opens again");
        assert!(blobs.find(&name).await.is_some());
        assert_eq!(std::fs::read_dir(directory.path().join("blobs")).expect("readable").count(), 1);
    }
}
