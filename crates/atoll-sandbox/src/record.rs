//! What is known of sandboxes that were made.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use atoll_guest::supervisor::{ExitReason, ExitRecord};

use crate::spec::Tier;

/// One sandbox that the launcher knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Its id.
    pub id: String,
    /// The isolation that is really in force.
    pub tier_in_force: Tier,
    /// Its own address.
    pub address: Ipv4Addr,
    /// The guest's control socket, connectable by the plane alone.
    pub guest_socket: PathBuf,
    /// Lives of a sandbox id are told apart by this number; a later one is larger.
    pub incarnation: u64,
    /// Start, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// Process id of the supervisor on the machine.
    pub supervisor_pid: u32,
    /// When that process started, in clock ticks since boot: tells it from a later process with the same id.
    pub supervisor_started_ticks: u64,
    /// Process id of the guest on the machine.
    pub guest_pid: u32,
    /// Whether it runs.
    pub state: SandboxState,
    /// Directories of its control groups by controller (`memory`, `pids`, `cpu`, `unified`).
    pub cgroups: std::collections::BTreeMap<String, PathBuf>,
}

/// Whether a sandbox runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxState {
    /// It runs, or is frozen.
    Running,
    /// It ended.
    Exited(ExitRecord),
}

/// What a sandbox uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxStats {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Processor time used so far, in microseconds.
    pub cpu_usage_us: u64,
    /// Processes and threads.
    pub pids: u64,
}
