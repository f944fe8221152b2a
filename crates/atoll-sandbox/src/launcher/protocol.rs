//! What the driver and the launcher say to each other: frames of a big-endian `u32` length and that much JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::network::rules::NetworkRules;
use crate::probe::Finding;
use crate::record::SandboxRecord;
use crate::spec::SandboxSpec;

/// Largest frame. Files for sandboxes travel in it.
pub const FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The launcher's first frame.
#[derive(Debug, Serialize, Deserialize)]
pub struct Greeting {
    /// The state directory without symbolic links, or why the launcher cannot start.
    pub ready: Result<PathBuf, Refusal>,
}

/// One request; answered by the [`Response`] with its number, in any order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the driver.
    pub number: u64,
    /// What to do.
    pub call: Call,
}

/// What the launcher can do, and nothing else.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Makes a sandbox and starts its guest, or leaves nothing behind.
    Create(Box<SandboxSpec>),
    /// Sends a signal to the guest, `15` to stop it politely.
    Signal {
        /// The sandbox.
        id: String,
        /// Number of the signal.
        signal: i32,
    },
    /// Kills whatever runs in the sandbox and removes every trace of it. Succeeds when there is none.
    Destroy {
        /// The sandbox.
        id: String,
    },
    /// Every sandbox.
    List,
    /// One sandbox.
    Inspect {
        /// The sandbox.
        id: String,
    },
    /// Stops or continues every process of a sandbox.
    Freeze {
        /// The sandbox.
        id: String,
        /// Stop (`true`) or continue.
        frozen: bool,
    },
    /// Replaces what a sandbox may send and receive. One that was never told may nothing.
    SetNetwork {
        /// The sandbox.
        id: String,
        /// What it may.
        rules: NetworkRules,
    },
    /// What the machine can do.
    Probe,
    /// Makes a directory that outlives sandboxes, if absent.
    MakeVolume {
        /// Lower-case letters, digits, `-` and `.`, at most 128.
        name: String,
    },
    /// Removes a volume with its content. Succeeds when there is none.
    RemoveVolume {
        /// Its name.
        name: String,
    },
    /// Names of all volumes.
    ListVolumes,
}

/// The answer to one request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Response {
    /// The request's number.
    pub number: u64,
    /// What came of it.
    pub outcome: Result<Answer, Refusal>,
}

/// What a request yields.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Nothing but success.
    Done,
    /// One sandbox.
    Sandbox(Box<SandboxRecord>),
    /// Sandboxes.
    Sandboxes(Vec<SandboxRecord>),
    /// Findings.
    Findings(Vec<Finding>),
    /// A directory on the machine.
    Directory(PathBuf),
    /// Names.
    Names(Vec<String>),
}

/// Why a request was not carried out. Nothing half-made is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind of reason.
    pub kind: RefusalKind,
    /// The reason, in words.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The machine or this version cannot do what was asked.
    Unsupported,
    /// The request contradicts itself or breaks a rule.
    Invalid,
    /// No such sandbox or volume.
    NotFound,
    /// A sandbox with this id exists.
    AlreadyExists,
    /// The address belongs to something else on this machine.
    AddressInUse,
    /// Memory, disk, processes or ids are used up.
    Exhausted,
    /// The sandbox did not come up.
    StartFailed,
    /// Anything else.
    Internal,
}
