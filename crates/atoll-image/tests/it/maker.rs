//! Makes layers and images byte by byte, so that what no archiver would write can be written.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// A layer under construction.
pub(crate) struct Layer {
    bytes: Vec<u8>,
}

impl Layer {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Any entry, with the name as it is given.
    pub(crate) fn entry(mut self, kind: EntryType, name: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_mtime(1_000_000);
        // Past the checks of the crate.
        let raw = header.as_mut_bytes();
        raw[..name.len()].copy_from_slice(name.as_bytes());
        raw[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name, "", 0o644, content.as_bytes())
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", 0o755, &[])
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, 0o777, &[])
    }

    pub(crate) fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, target, 0o644, &[])
    }

    /// Without the end that an archive has.
    pub(crate) fn open_ended(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn build(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// An OCI layout of one image with compressed layers, in a directory of its own.
pub(crate) struct Layout {
    pub(crate) directory: tempfile::TempDir,
}

impl Layout {
    pub(crate) fn new(layers: &[Vec<u8>], config: &Value) -> Self {
        let layout = Self { directory: tempfile::tempdir().unwrap() };
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let document = json!({
            "os": "linux", "architecture": "", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = layout.blob(document.to_string().as_bytes());
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layout.blob(&gzip(layer))}))
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": {"digest": config}, "layers": layers});
        let manifest = layout.blob(manifest.to_string().as_bytes());
        let annotations = json!({"org.opencontainers.image.ref.name": "example.com/made:1"});
        let index = json!({"schemaVersion": 2, "manifests": [{"digest": manifest, "annotations": annotations}]});
        fs::write(layout.path().join("index.json"), index.to_string()).unwrap();
        fs::write(layout.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        layout
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let path = self.blob_path(&digest);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        digest
    }

    pub(crate) fn blob_path(&self, digest: &str) -> PathBuf {
        self.path().join("blobs").join(digest.replace(':', "/"))
    }

    /// The manifest's layers' digests.
    pub(crate) fn layers(&self) -> Vec<String> {
        let index: Value = serde_json::from_slice(&fs::read(self.path().join("index.json")).unwrap()).unwrap();
        let manifest = self.blob_path(index["manifests"][0]["digest"].as_str().unwrap());
        let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
        let digest = |layer: &Value| layer["digest"].as_str().unwrap().to_owned();
        manifest["layers"].as_array().unwrap().iter().map(digest).collect()
    }
}
