//! Commands: starting them once, remembering them, and attaching to them.

mod begin;
mod error;
mod output;
mod pump;
mod record;
mod streams;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use atoll_guest::protocol::{ExecState, ExecSummary, Exit, LookupReply};
use rustix::process::WaitStatus;

use super::process::Processes;

pub(crate) use error::ExecError;
pub(crate) use record::{Attachment, Exec, Next};

/// Commands that ended and whose output is still kept.
const ENDED_MAX: usize = 256;

/// Output of all ended commands together; the oldest are forgotten first.
const ENDED_OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// All commands of this incarnation.
pub(crate) struct Execs {
    incarnation: u64,
    processes: Arc<Processes>,
    /// Held while a command with an idempotency key is started, so that a second one with that key waits.
    keyed_start: Mutex<()>,
    known: Mutex<Known>,
    /// Whose child is whose. Held over `fork`, so that no exit is reaped before its owner is known.
    children: Mutex<HashMap<i32, Arc<Exec>>>,
}

#[derive(Default)]
struct Known {
    /// `None` while the command is being started.
    by_id: HashMap<String, Option<Arc<Exec>>>,
    /// In order of start.
    order: VecDeque<String>,
    keys: HashMap<String, KeyEntry>,
    running: usize,
    started: u64,
}

/// What is never forgotten about a command with an idempotency key.
struct KeyEntry {
    exec_id: String,
    argv_digest: ArgvDigest,
    exit: Option<Exit>,
    output_bytes: u64,
}

type ArgvDigest = [u8; 32];

/// Answer to a request for a command.
pub(crate) enum Begun {
    /// It runs or ran, and is still known.
    Attached { attachment: Attachment, replayed: bool },
    /// It ended long ago: only its end is still known.
    Remembered { exec_id: String, exit: Exit, output_bytes: u64 },
}

impl Execs {
    pub(crate) fn new(incarnation: u64, processes: Arc<Processes>) -> Self {
        Self {
            incarnation,
            processes,
            keyed_start: Mutex::default(),
            known: Mutex::default(),
            children: Mutex::default(),
        }
    }

    /// Attaches to a command that is still known.
    pub(crate) fn attach(&self, exec_id: &str) -> Result<Attachment, ExecError> {
        Ok(Attachment::new(self.find(exec_id)?))
    }

    /// What became of the command with this key. Waits for one that is just being started.
    pub(crate) fn lookup(&self, key: &str) -> LookupReply {
        let _not_starting = self.keyed_start.lock().expect("no panic while a command is started");
        let known = self.known();
        let entry = known.keys.get(key);
        LookupReply {
            state: match entry {
                None => ExecState::Unknown,
                Some(entry) if entry.exit.is_none() => ExecState::Running,
                Some(_) => ExecState::Exited,
            },
            exec_id: entry.map(|entry| entry.exec_id.clone()),
            exit: entry.and_then(|entry| entry.exit.clone()),
            incarnation: self.incarnation,
        }
    }

    /// Kills all processes of a command, also those that it left behind.
    pub(crate) fn kill(&self, exec_id: &str) -> Result<(), ExecError> {
        let exec = self.find(exec_id)?;
        exec.will_be_killed(false);
        Ok(self.processes.kill_tree(exec.tag())?)
    }

    pub(crate) fn list(&self) -> Vec<ExecSummary> {
        let known = self.known();
        known.order.iter().filter_map(|id| known.by_id.get(id)?.as_ref()).map(|exec| exec.summary()).collect()
    }

    /// Called by the reaper for every child that ended.
    pub(crate) fn reaped(&self, pid: i32, status: WaitStatus) {
        let owner = self.children().remove(&pid);
        if let Some(exec) = owner {
            exec.leader_ended(status);
        }
    }

    /// Called once for every command, when its end and all its output are known.
    fn ended(&self, exec: &Exec, exit: &Exit, output_bytes: u64) {
        let mut known = self.known();
        known.running -= 1;
        let entry = exec.idempotency_key().and_then(|key| known.keys.get_mut(key));
        if let Some(entry) = entry {
            entry.exit = Some(exit.clone());
            entry.output_bytes = output_bytes;
        }
        self.forget_oldest(&mut known);
    }

    fn forget_oldest(&self, known: &mut Known) {
        let kept: Vec<(String, usize)> = known
            .order
            .iter()
            .filter_map(|id| Some((id.clone(), known.by_id.get(id)?.as_ref()?.kept_bytes_if_ended()?)))
            .collect();
        let mut count = kept.len();
        let mut bytes: usize = kept.iter().map(|(_, bytes)| bytes).sum();
        for (id, size) in kept {
            if count <= ENDED_MAX && bytes <= ENDED_OUTPUT_BYTES_MAX {
                break;
            }
            if let Some(Some(exec)) = known.by_id.remove(&id) {
                self.processes.release_tag(exec.tag());
            }
            known.order.retain(|other| *other != id);
            count -= 1;
            bytes -= size;
        }
    }

    fn find(&self, exec_id: &str) -> Result<Arc<Exec>, ExecError> {
        let found = self.known().by_id.get(exec_id).cloned().flatten();
        found.ok_or_else(|| ExecError::Unknown { exec_id: exec_id.to_owned() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no panic while commands are counted")
    }

    fn children(&self) -> MutexGuard<'_, HashMap<i32, Arc<Exec>>> {
        self.children.lock().expect("no panic while a child is noted")
    }
}
