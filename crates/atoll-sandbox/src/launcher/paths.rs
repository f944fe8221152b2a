//! Where things are below a state directory.

use std::path::{Path, PathBuf};

/// Machine-wide: ranges of ids in use, and the lock of the packet filter. Gone with a restart, as all it tells of is.
pub(crate) const RUN_DIR: &str = "/run/atoll";

/// Paths below one state directory.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    root: PathBuf,
}

impl Paths {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    pub(crate) fn sandbox(&self, id: &str) -> PathBuf {
        self.sandboxes().join(id)
    }

    pub(crate) fn record(&self, id: &str) -> PathBuf {
        self.sandbox(id).join("record.json")
    }

    pub(crate) fn processes(&self, id: &str) -> PathBuf {
        self.sandbox(id).join("processes.json")
    }

    pub(crate) fn guest_socket(&self, id: &str) -> PathBuf {
        self.sandbox(id).join("guest.sock")
    }

    /// Written by the supervisor alone; readable by the plane.
    pub(crate) fn run(&self, id: &str) -> PathBuf {
        self.sandbox(id).join("run")
    }

    pub(crate) fn log(&self, id: &str) -> PathBuf {
        self.run(id).join(atoll_guest::supervisor::LOG_FILE)
    }

    pub(crate) fn exit(&self, id: &str) -> PathBuf {
        self.run(id).join(atoll_guest::supervisor::EXIT_FILE)
    }

    pub(crate) fn own_volume(&self, id: &str, name: &str) -> PathBuf {
        self.sandbox(id).join("volumes").join(name)
    }

    /// What waits to be deleted.
    pub(crate) fn trash(&self) -> PathBuf {
        self.sandboxes().join(".trash")
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.volumes().join(name)
    }

    /// Images that were imported.
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(crate) fn host_image(&self) -> PathBuf {
        self.root.join("image-host")
    }

    /// Name of this plane's control groups.
    pub(crate) fn cgroup(&self) -> String {
        format!("atoll-{}", atoll_stdx::name_hash(&self.root.to_string_lossy()))
    }
}
