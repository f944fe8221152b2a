//! What the launcher tells a supervisor, and what a supervisor leaves behind: types only.
//!
//! A supervisor is this crate's binary in the role `supervise`. It receives one message on its socket: a [`PlanHeader`]
//! with file descriptors. The first descriptor is a memory file with the [`Plan`] as JSON, followed by the bytes that
//! [`Content::Blob`] points into. The plan leaves no choices: policy is the launcher's.

use serde::{Deserialize, Serialize};

/// Version of the plan. Launcher and supervisor come from one build, so another version is an error.
pub const PLAN_VERSION: u32 = 2;

/// Largest plan, blobs included.
pub const PLAN_BYTES_MAX: u64 = 48 * 1024 * 1024;

/// Descriptor of the supervisor's socket: its standard input.
pub const SUPERVISOR_SOCKET_FD: i32 = 0;

/// Ids within one sandbox's range, from 0 on.
pub const ID_RANGE: u32 = 65_536;

/// Name of the exit record in the run directory.
pub const EXIT_FILE: &str = "exit.json";

/// Name of the log in the run directory; the older half has `.1` appended.
pub const LOG_FILE: &str = "log";

/// Bytes of a log before it is rotated; one older file is kept.
pub const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// The message that carries the plan. Its descriptors are, in this order: the plan, the network namespace, the guest's
/// listening socket, the guest binary, the run directory, the out-of-memory counter, `runsc` if the plan asks for it, the
/// version 2 control group if there is one, and the `tasks` files of version 1 groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanHeader {
    /// Bytes of JSON at the start of the memory file.
    pub plan_bytes: u64,
    /// Whether there is a `runsc` binary.
    pub runsc: bool,
    /// Whether there is a version 2 control group.
    pub unified: bool,
    /// How many `tasks` files there are.
    pub tasks: u32,
}

/// Descriptors that there always are.
pub const FIXED_DESCRIPTORS: usize = 6;

/// Most control groups.
pub const CGROUPS_MAX: usize = 8;

/// Most descriptors of one plan.
pub const DESCRIPTORS_MAX: usize = FIXED_DESCRIPTORS + 1 + CGROUPS_MAX;

/// Everything that one sandbox is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// The machine's user and group id that 0 inside stands for; the range is [`ID_RANGE`] long.
    pub id_base: u32,
    /// Group of the supervisor, which may read what it writes. Its user is [`Plan::id_base`], the only one without
    /// rights that the kernel lets end the guest.
    pub supervisor_gid: u32,
    /// Host name inside.
    pub hostname: String,
    /// Existing empty directory on the machine that the new root is mounted on, in a mount namespace nobody else sees.
    pub root_mount_point: String,
    /// What to build, in this order. The first step mounts the root itself.
    pub steps: Vec<Step>,
    /// Whether `/` is made read-only at last.
    pub read_only_root: bool,
    /// The guest's boot configuration, JSON.
    pub guest_config: String,
    /// Bytes of a log before it is rotated.
    pub log_bytes_max: u64,
    /// How to run the guest in gVisor; on the machine's kernel when `None`.
    #[serde(default)]
    pub runsc: Option<RunscPlan>,
}

/// How to run the guest in gVisor: `runsc` gets a root of its own in which nothing of the machine is but the sandbox's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunscPlan {
    /// Existing empty directory on the machine that runsc's root is mounted on, in a mount namespace nobody else sees.
    pub root_mount_point: String,
    /// `config.json` of the OCI bundle. Its root is [`RUNSC_ROOTFS`].
    pub bundle_config: String,
    /// Flags before the command.
    pub flags: Vec<String>,
    /// Devices of the machine that the platform needs: path, major and minor number.
    pub devices: Vec<(String, u32, u32)>,
}

/// Where the sandbox's root is in runsc's.
pub const RUNSC_ROOTFS: &str = "/rootfs";

/// One step of building the root. Paths are absolute inside; parents exist by earlier steps. Owners are ids inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Mounts the root itself: an image's files, which stay as they are, under memory for what differs.
    ImageRoot {
        /// Absolute path of the files on the machine, owned by ids inside; no part of it may be a symbolic link.
        source: String,
        /// Most bytes of what differs.
        size_bytes: u64,
        /// Most files of what differs.
        inodes: u64,
    },
    /// Removes a file or a link, where it exists.
    Remove {
        /// Where.
        path: String,
    },
    /// Makes a directory, and its parents as root's with mode 0755.
    Directory {
        /// Where.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Owner and group.
        owner: u32,
    },
    /// Makes a symbolic link.
    Symlink {
        /// Where.
        path: String,
        /// What it says.
        target: String,
    },
    /// Writes a file of root's.
    File {
        /// Where.
        path: String,
        /// Permission bits.
        mode: u32,
        /// What it holds.
        content: Content,
    },
    /// Makes a character device that everybody may read and write.
    Device {
        /// Where.
        path: String,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Mounts memory.
    Tmpfs {
        /// Where; `/` is the root itself.
        path: String,
        /// Most bytes.
        size_bytes: u64,
        /// Most files.
        inodes: u64,
        /// Permission bits of its root.
        mode: u32,
        /// Owner and group of its root.
        owner: u32,
        /// How it may be used.
        access: Access,
    },
    /// Shows a file or directory of the machine, without what is mounted below it.
    Bind {
        /// Absolute path on the machine; no part of it may be a symbolic link.
        source: String,
        /// Where; made if absent.
        path: String,
        /// Whether owners on disk are ids inside (0 is root inside), instead of the machine's.
        idmapped: bool,
        /// How it may be used.
        access: Access,
    },
    /// Shows one file or directory that root shares. Every owner but one is nobody's inside.
    Share {
        /// Absolute path on the machine; no part of it may be a symbolic link.
        source: String,
        /// Where; made if absent.
        path: String,
        /// Which file it must be.
        identity: FileIdentity,
        /// The machine's user and the id inside that it has there.
        user: (u32, u32),
        /// The machine's group and the id inside that it has there.
        group: (u32, u32),
        /// How it may be used.
        access: Access,
    },
    /// Mounts the process file system of the new process namespace.
    Proc {
        /// Where.
        path: String,
    },
    /// Mounts a terminal file system of its own.
    Devpts {
        /// Where.
        path: String,
    },
    /// Hides a file (behind the null device) or a directory (behind an empty one), where it exists.
    Mask {
        /// What.
        path: String,
    },
    /// Makes a file or directory read-only, where it exists.
    ReadOnly {
        /// What.
        path: String,
    },
    /// Makes an existing mount read-only, once everything on it is made.
    Seal {
        /// Its mount point.
        path: String,
    },
}

/// Which file is meant, whatever path leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Number of its device.
    pub device: u64,
    /// Number of its inode.
    pub inode: u64,
}

/// How a mount may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// No writing.
    pub read_only: bool,
    /// Device files do nothing.
    pub no_devices: bool,
    /// Programs are not executed.
    pub no_exec: bool,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Text.
    Text(String),
    /// Bytes of the memory file, counted from the end of the JSON.
    Blob {
        /// First byte.
        offset: u64,
        /// How many.
        length: u64,
    },
}

/// What a supervisor answers on its socket, one JSON document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The guest has been executed. The supervisor now wants one byte; without it the guest is ended.
    Started {
        /// The guest, as the machine numbers it.
        guest_pid: u32,
    },
    /// Nothing runs.
    Failed {
        /// What was attempted, for example `mount /proc`.
        attempted: String,
        /// The kernel's error number, 0 if it was not the kernel that refused.
        errno: i32,
    },
}

/// How a sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Exit code of the workload; 128 + signal when a signal ended it.
    pub code: i32,
    /// The signal that ended the guest, if one did.
    pub signal: Option<i32>,
    /// Whether the kernel ended it for lack of memory.
    pub oom_killed: bool,
    /// End, in milliseconds since the Unix epoch.
    pub finished_at_ms: u64,
    /// Why.
    pub reason: ExitReason,
}

/// Why a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// The workload ended by itself with code 0.
    Completed,
    /// The workload ended with another code or by a signal.
    Error,
    /// The kernel ended it for lack of memory.
    OomKilled,
    /// The supervisor died and took the sandbox with it.
    SupervisorLost,
    /// The machine restarted.
    MachineRestarted,
}

/// The exit code of a process that was killed.
pub const EXIT_CODE_KILLED: i32 = 137;

impl ExitRecord {
    /// From what the kernel says of the guest: an exit code, or the signal that ended it.
    #[must_use]
    pub fn new(code: i32, signal: Option<i32>, oom_kills: u64, finished_at_ms: u64) -> Self {
        let code = signal.map_or(code, |signal| 128 + signal);
        let oom_killed = oom_kills > 0 && code == EXIT_CODE_KILLED;
        let reason = match code {
            0 => ExitReason::Completed,
            _ if oom_killed => ExitReason::OomKilled,
            _ => ExitReason::Error,
        };
        Self { code, signal, oom_killed, finished_at_ms, reason }
    }

    /// For a sandbox that left no record of its own.
    #[must_use]
    pub fn lost(reason: ExitReason, finished_at_ms: u64) -> Self {
        Self { code: EXIT_CODE_KILLED, signal: Some(9), oom_killed: false, finished_at_ms, reason }
    }
}

/// The number after `oom_kill` in `memory.events` (version 2) or `memory.oom_control` (version 1); 0 if there is none.
#[must_use]
pub fn oom_kills(counters: &str) -> u64 {
    counters
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == "oom_kill")
        .and_then(|(_, number)| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_get_their_reason() {
        let cases = [
            ((0, None, 0), (0, ExitReason::Completed)),
            ((3, None, 0), (3, ExitReason::Error)),
            ((0, Some(9), 0), (137, ExitReason::Error)),
            ((137, None, 1), (137, ExitReason::OomKilled)),
            ((0, Some(9), 2), (137, ExitReason::OomKilled)),
            // A child was killed for memory, the workload handled it and failed in its own way.
            ((1, None, 1), (1, ExitReason::Error)),
            ((0, None, 1), (0, ExitReason::Completed)),
        ];
        for ((code, signal, kills), (expected_code, expected_reason)) in cases {
            let record = ExitRecord::new(code, signal, kills, 7);
            assert_eq!((record.code, record.reason), (expected_code, expected_reason), "{code} {signal:?} {kills}");
            assert_eq!(record.oom_killed, expected_reason == ExitReason::OomKilled);
        }
    }

    #[test]
    fn both_cgroup_versions_count_kills() {
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 2);
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n"), 1);
        assert_eq!(oom_kills(""), 0);
    }
}
