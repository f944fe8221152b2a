//! What the launcher must know of a sandbox to find it again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::paths::Paths;
use crate::spec::Tier;

/// Version of the file.
const VERSION: u32 = 1;

/// One sandbox, as recorded before anything of it is made and again when it runs. Nothing of its environment or files
/// is in it: those hold credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    version: u32,
    pub(super) id: String,
    /// Process ids mean nothing after the machine restarted.
    pub(super) boot_id: String,
    pub(super) tier: Tier,
    pub(super) address: Ipv4Addr,
    pub(super) link: String,
    pub(super) range: u32,
    pub(super) incarnation: u64,
    pub(super) started_at_ms: u64,
    /// Names of volumes in use.
    pub(super) volumes: Vec<String>,
    /// The images that it runs on and mounts, the host's apart.
    #[serde(default)]
    pub(super) images: Vec<String>,
    /// `None` until it runs; in a file of its own.
    #[serde(skip)]
    pub(super) processes: Option<Processes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Processes {
    pub(super) supervisor_pid: u32,
    pub(super) supervisor_started_ticks: u64,
    pub(super) guest_pid: u32,
    pub(super) guest_started_ticks: u64,
}

/// What is known before anything is made.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) id: String,
    pub(super) boot_id: String,
    pub(super) tier: Tier,
    pub(super) address: Ipv4Addr,
    pub(super) link: String,
    pub(super) range: u32,
    pub(super) incarnation: u64,
    pub(super) started_at_ms: u64,
    pub(super) volumes: Vec<String>,
    pub(super) images: Vec<String>,
}

/// The sandbox of a state directory that runs on or mounts an image of this id, if one does.
#[must_use]
pub fn user_of_image(state_dir: &Path, image: &str) -> Option<String> {
    let paths = Paths::new(state_dir);
    let sandboxes = fs::read_dir(paths.sandboxes()).ok()?;
    let ids = sandboxes.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    ids.filter_map(|id| Stored::load(&paths, &id))
        .find(|stored| stored.images.iter().any(|used| used == image))
        .map(|it| it.id)
}

impl Stored {
    pub(super) fn new(beginning: Beginning) -> Self {
        let Beginning { id, boot_id, tier, address, link, range, incarnation, started_at_ms, volumes, images } =
            beginning;
        Self {
            version: VERSION,
            id,
            boot_id,
            tier,
            address,
            link,
            range,
            incarnation,
            started_at_ms,
            volumes,
            images,
            processes: None,
        }
    }

    /// Writes what is known before anything is made.
    pub(super) fn save(&self, paths: &Paths) -> io::Result<()> {
        write_new(&paths.record(&self.id), self)
    }

    /// Writes what is known once it runs.
    pub(super) fn save_processes(&self, paths: &Paths) -> io::Result<()> {
        write_new(&paths.processes(&self.id), &self.processes)
    }

    /// The record of a sandbox; `None` if there is none that can be understood.
    pub(super) fn load(paths: &Paths, id: &str) -> Option<Self> {
        let mut stored: Self = serde_json::from_slice(&fs::read(paths.record(id)).ok()?).ok()?;
        let processes = fs::read(paths.processes(id)).ok();
        stored.processes = processes.and_then(|text| serde_json::from_slice(&text).ok()?);
        (stored.version == VERSION && stored.id == id).then_some(stored)
    }
}

/// Writes a file at once that nobody replaces: replacing one makes the file system write to the disk. A launcher that
/// is killed in between leaves a file that cannot be understood, which says the same as none.
fn write_new(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut file = File::options().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec(value)?)
}
