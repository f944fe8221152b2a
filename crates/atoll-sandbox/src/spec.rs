//! What a sandbox is asked to be.

mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use validate::{InvalidSpec, check_id, is_name};

/// The user that workloads and commands run as when nothing else is said.
pub const DEFAULT_USER_ID: u32 = 1000;
/// Where file operations and commands start when nothing else is said.
pub const DEFAULT_BASE_DIR: &str = "/workspace";

/// One sandbox to create.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Name of the sandbox for its whole life: lower-case letters, digits and `-`, at most 63. A Pod's UID, say.
    pub id: String,
    /// The isolation asked for. What cannot be had is refused, never replaced by less.
    pub tier: Tier,
    /// Host name seen inside.
    pub hostname: String,
    /// What the root file system is made of.
    pub image: Image,
    /// The command whose life is the sandbox's; `None` for a sandbox that idles until commands are run in it.
    pub workload: Option<Workload>,
    /// Who commands and file operations run as.
    pub exec_user: User,
    /// Environment of commands that are run in the sandbox (the workload has its own).
    pub env: BTreeMap<String, String>,
    /// Absolute path inside where commands and relative paths start. A writable directory on disk is provided there
    /// when no mount is.
    pub base_dir: String,
    /// File systems added to the image.
    pub mounts: Vec<Mount>,
    /// Limits.
    pub resources: Resources,
    /// Whether `/` is read-only (mounts keep their own setting).
    pub read_only_root: bool,
    /// Its place in the network.
    pub network: NetworkSpec,
    /// Milliseconds between the polite and the final signal when the sandbox is stopped.
    pub termination_grace_ms: u64,
}

impl fmt::Debug for SandboxSpec {
    /// Names the environment variables, never their values: they hold credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SandboxSpec")
            .field("id", &self.id)
            .field("tier", &self.tier)
            .field("image", &self.image)
            .field("workload", &self.workload)
            .field("exec_user", &self.exec_user)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("mounts", &self.mounts)
            .field("resources", &self.resources)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

impl SandboxSpec {
    /// An idle native sandbox on the host image with default limits.
    #[must_use]
    pub fn idle(id: &str, address: Ipv4Addr) -> Self {
        Self {
            id: id.to_owned(),
            tier: Tier::Native,
            hostname: "sandbox".to_owned(),
            image: Image::Host,
            workload: None,
            exec_user: User::default(),
            env: BTreeMap::new(),
            base_dir: DEFAULT_BASE_DIR.to_owned(),
            mounts: Vec::new(),
            resources: Resources::default(),
            read_only_root: true,
            network: NetworkSpec { address },
            termination_grace_ms: 30_000,
        }
    }
}

/// How a sandbox is kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Namespaces, cgroups and seccomp on the machine's own kernel.
    Native,
    /// gVisor's user-space kernel (`runsc`).
    Gvisor,
}

impl Tier {
    /// The name that people and RuntimeClasses use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Gvisor => "gvisor",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What the root file system is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Image {
    /// `atoll.local/host`: the machine's own `/usr`, read-only, with everything private left out.
    Host,
    /// One that was imported; its files are `images/<id>/rootfs` of the state directory, owned by ids inside.
    Kept {
        /// Its id: lower-case hexadecimal digits, at most 64.
        id: String,
    },
}

/// A command of the sandbox.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Program and arguments; a program without `/` is looked up in `PATH`.
    pub argv: Vec<String>,
    /// The whole environment, except what the guest adds by itself (`HOME`, `PATH` when absent).
    pub env: BTreeMap<String, String>,
    /// Absolute working directory; the sandbox's base directory when `None`.
    pub cwd: Option<String>,
    /// Who it runs as.
    pub user: User,
}

impl fmt::Debug for Workload {
    /// Names the environment variables, never their values: they hold credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Workload")
            .field("argv", &self.argv)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("cwd", &self.cwd)
            .field("user", &self.user)
            .finish()
    }
}

/// Numeric identity inside the sandbox; every number is below 65536.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    #[serde(default)]
    pub groups: Vec<u32>,
}

impl Default for User {
    fn default() -> Self {
        Self { uid: DEFAULT_USER_ID, gid: DEFAULT_USER_ID, groups: Vec::new() }
    }
}

/// One file system added to the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside, without `.`, `..` or symbolic links; made if absent.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// What a mount holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// Memory, counted against the sandbox's memory limit.
    Tmpfs {
        /// Most bytes it holds.
        size_bytes: u64,
    },
    /// An empty directory on disk that lives as long as the sandbox.
    EmptyDir {
        /// Its name within the sandbox: lower-case letters, digits, `-` and `.`, at most 63.
        name: String,
    },
    /// A directory that outlives the sandbox, as [`crate::SandboxDriver::make_volume`] returned it. No other
    /// directory of the machine is accepted.
    Directory {
        /// Absolute path on the machine.
        host_path: PathBuf,
    },
    /// A file or directory of the machine that root shares under this name, see [`crate::share`]. The sandbox's user
    /// is the share's owner in it.
    Share {
        /// Name of the share.
        name: String,
        /// Who mounts it: a share is for one Pod. Namespace and name, for example `default/box`.
        pod: String,
    },
    /// The files of an image that was imported, as they are; never written.
    Image {
        /// Its id, as of [`Image::Kept`].
        id: String,
    },
    /// A few files kept in memory, for example of a ConfigMap or a Secret. Never written to disk.
    Files {
        /// Content by file name; a name may hold `/` for sub-directories.
        files: BTreeMap<String, FileBytes>,
        /// Permission bits of every file, for example `0o644`.
        mode: u32,
    },
}

/// The content of one file; not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct FileBytes(pub Vec<u8>);

impl From<Vec<u8>> for FileBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for FileBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FileBytes({} bytes)", self.0.len())
    }
}

impl Serialize for FileBytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for FileBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = String::deserialize(deserializer)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// Limits; each is enforced by the kernel or the sandbox is refused. `None` means no limit of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes of memory, page cache and memory file systems included; swap is not given.
    pub memory_bytes: Option<u64>,
    /// Processes and threads, the guest's own included. [`DEFAULT_PIDS_MAX`] when `None`: never unlimited.
    pub pids_max: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_millis: Option<u64>,
    /// Open files per process.
    pub nofile: Option<u64>,
}

/// Processes and threads of a sandbox that does not say.
pub const DEFAULT_PIDS_MAX: u64 = 1024;

/// A sandbox's place in the network: an address of its own, and no way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// An address within [`POD_NETWORK`], used by no other sandbox.
    pub address: Ipv4Addr,
}

/// Network that sandbox addresses come from; a /16.
pub const POD_NETWORK: Ipv4Addr = Ipv4Addr::new(10, 201, 0, 0);
/// The host's end of every sandbox's link.
pub const ROUTER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 201, 0, 1);
