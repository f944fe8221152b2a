//! Finding and killing all processes of one command.
//!
//! Every command gets a supplementary group of its own, its *tag*. The kernel hands it to every descendant, whatever
//! that does (fork, `setsid`, double fork, exec), and a process without capabilities can not drop it. So the
//! processes of a command are exactly those with its tag, at any time.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal};

use super::clock;

/// First of the group ids reserved for tags.
const TAG_FIRST: u32 = 60_000;

/// Group ids reserved for tags.
const TAG_COUNT: u32 = 4_096;

/// How long a tree may take to die; processes stuck in the kernel can outlast it.
const KILL_WAIT_MS_MAX: u64 = 10_000;

/// Pause between two rounds of killing, doubled up to the larger value.
const KILL_PAUSE_MS: u64 = 1;
const KILL_PAUSE_MS_MAX: u64 = 20;

/// Bytes of `/proc/PID/status` that are looked at; `Groups:` comes early.
const STATUS_BYTES_MAX: u64 = 16 * 1024;

const DIRECTORY_BUFFER_BYTES: usize = 8 * 1024;

/// Why processes could not be found or killed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("/proc can not be read")]
    Proc(#[source] Errno),
    #[error("/proc does not tell the groups of processes, by which they are told apart")]
    NoGroups,
    #[error("{remaining} processes did not die within {KILL_WAIT_MS_MAX} ms")]
    Undead { remaining: usize },
    #[error("all {TAG_COUNT} process tags are in use")]
    NoTagLeft,
}

/// The supplementary group that marks the processes of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tag(u32);

impl Tag {
    pub(crate) fn gid(self) -> u32 {
        self.0
    }

    /// Whether a group id is reserved.
    pub(crate) fn is_reserved(gid: u32) -> bool {
        (TAG_FIRST..TAG_FIRST + TAG_COUNT).contains(&gid)
    }
}

/// All processes below this one.
pub(crate) struct Processes {
    proc_dir: OwnedFd,
    next_tag: AtomicU32,
    taken_tags: Mutex<HashSet<u32>>,
}

struct Found {
    parent: i32,
    alive: bool,
    tags: Vec<u32>,
}

impl Processes {
    pub(crate) fn open() -> Result<Self, ProcessError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc_dir = openat(CWD, "/proc", flags, Mode::empty()).map_err(ProcessError::Proc)?;
        let processes = Self { proc_dir, next_tag: AtomicU32::new(0), taken_tags: Mutex::default() };
        let own = processes.status(getpid().as_raw_nonzero().get()).ok_or(ProcessError::NoGroups)?;
        if own.lines().any(|line| line.starts_with("Groups:")) { Ok(processes) } else { Err(ProcessError::NoGroups) }
    }

    /// A tag that no process has, taken until [`Processes::release_tag`].
    pub(crate) fn take_tag(&self) -> Result<Tag, ProcessError> {
        let mut taken = self.taken_tags.lock().expect("no panic while the set is changed");
        let mut worn: Option<HashSet<u32>> = None;
        for _ in 0..TAG_COUNT {
            let turn = self.next_tag.fetch_add(1, Ordering::Relaxed);
            let gid = TAG_FIRST + turn % TAG_COUNT;
            if taken.contains(&gid) {
                continue;
            }
            if turn >= TAG_COUNT {
                // Used before: a command that has ended may have left processes that still wear it.
                if worn.is_none() {
                    worn = Some(self.scan()?.into_values().flat_map(|found| found.tags).collect());
                }
                if worn.as_ref().is_some_and(|worn| worn.contains(&gid)) {
                    continue;
                }
            }
            taken.insert(gid);
            return Ok(Tag(gid));
        }
        Err(ProcessError::NoTagLeft)
    }

    /// Gives a tag back; it is used again only when no process wears it.
    pub(crate) fn release_tag(&self, tag: Tag) {
        self.taken_tags.lock().expect("no panic while the set is changed").remove(&tag.0);
    }

    /// Kills every process with the tag, until there is none.
    pub(crate) fn kill_tree(&self, tag: Tag) -> Result<(), ProcessError> {
        self.kill_until_none(|found| found.tags.contains(&tag.0))
    }

    /// Kills every process below this one, until there is none.
    pub(crate) fn kill_all(&self) -> Result<(), ProcessError> {
        self.kill_until_none(|_| true)
    }

    /// Sends a signal once to every process below this one.
    pub(crate) fn signal_all(&self, signal: Signal) -> Result<(), ProcessError> {
        for (pid, _) in self.below_this_process()? {
            self.signal(pid, signal, |_| true);
        }
        Ok(())
    }

    /// Whether no process lives below this one.
    pub(crate) fn are_none(&self) -> bool {
        self.below_this_process().is_ok_and(|below| below.is_empty())
    }

    fn kill_until_none(&self, wanted: impl Fn(&Found) -> bool) -> Result<(), ProcessError> {
        let deadline = clock::monotonic_ms() + KILL_WAIT_MS_MAX;
        self.stop_all(&wanted, deadline)?;
        let mut pause_ms = KILL_PAUSE_MS;
        loop {
            let mut victims = self.below_this_process()?;
            victims.retain(|(_, found)| wanted(found));
            if victims.is_empty() {
                return Ok(());
            }
            if clock::monotonic_ms() >= deadline {
                return Err(ProcessError::Undead { remaining: victims.len() });
            }
            for (pid, _) in &victims {
                self.signal(*pid, Signal::KILL, &wanted);
            }
            std::thread::sleep(std::time::Duration::from_millis(pause_ms));
            pause_ms = (pause_ms * 2).min(KILL_PAUSE_MS_MAX);
        }
    }

    /// Stops the processes before they are killed. So none of them sees another's death and acts on it, and none can
    /// fork faster than it is killed: a stopped process still takes the place that a new one would need.
    fn stop_all(&self, wanted: impl Fn(&Found) -> bool, deadline: u64) -> Result<(), ProcessError> {
        let mut stopped = HashSet::new();
        loop {
            let mut found_more = false;
            for (pid, _) in self.below_this_process()?.into_iter().filter(|(_, found)| wanted(found)) {
                if stopped.insert(pid) {
                    self.signal(pid, Signal::STOP, &wanted);
                    found_more = true;
                }
            }
            if !found_more || clock::monotonic_ms() >= deadline {
                return Ok(());
            }
        }
    }

    /// Signals a process, provided that the id still means a process that is wanted.
    fn signal(&self, pid: i32, signal: Signal, wanted: impl Fn(&Found) -> bool) {
        let Some(pid) = Pid::from_raw(pid) else { return };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Some(handle),
            // gVisor has none. It gives a number out again only after all others.
            Err(Errno::NOSYS) => None,
            Err(_) => return,
        };
        // The handle is fixed now: what the id means at this moment is what will get the signal.
        let still = self.status(pid.as_raw_nonzero().get()).and_then(|status| parse_status(&status));
        if still.is_some_and(|found| wanted(&found)) {
            // A process that is gone meanwhile needs no signal.
            let _ = handle.map_or_else(|| kill_process(pid, signal), |handle| pidfd_send_signal(handle, signal));
        }
    }

    /// Living processes whose chain of parents leads here. In a sandbox that is every process but this one.
    fn below_this_process(&self) -> Result<Vec<(i32, Found)>, ProcessError> {
        let own = getpid().as_raw_nonzero().get();
        let all = self.scan()?;
        let is_below = |pid: i32| {
            let mut at = pid;
            // A chain is never longer than the number of processes; parents that changed meanwhile could make a loop.
            for _ in 0..=all.len() {
                match all.get(&at) {
                    _ if at == own => return true,
                    Some(found) => at = found.parent,
                    None => return false,
                }
            }
            false
        };
        let below: HashSet<i32> =
            all.keys().copied().filter(|pid| *pid != own && (own == 1 || is_below(*pid))).collect();
        Ok(all.into_iter().filter(|(pid, found)| found.alive && below.contains(pid)).collect())
    }

    fn scan(&self) -> Result<HashMap<i32, Found>, ProcessError> {
        // A directory is listed from a descriptor's own position: two threads must not share one.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listing = openat(&self.proc_dir, ".", flags, Mode::empty()).map_err(ProcessError::Proc)?;
        let mut buffer = Vec::with_capacity(DIRECTORY_BUFFER_BYTES);
        let mut entries = RawDir::new(listing, buffer.spare_capacity_mut());
        let mut all = HashMap::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(ProcessError::Proc)?;
            let Some(pid) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process that ended meanwhile is none.
            if let Some(found) = self.status(pid).and_then(|status| parse_status(&status)) {
                all.insert(pid, found);
            }
        }
        Ok(all)
    }

    fn status(&self, pid: i32) -> Option<String> {
        let file = openat(&self.proc_dir, format!("{pid}/status"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut bytes = Vec::new();
        std::fs::File::from(file.ok()?).take(STATUS_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Parent, life and tags from `/proc/PID/status`. The kernel escapes line breaks in the process's own name.
fn parse_status(status: &str) -> Option<Found> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let state = field("State:\t")?.chars().next()?;
    let parent = field("PPid:\t")?.trim().parse().ok()?;
    let tags = field("Groups:\t")?
        .split_ascii_whitespace()
        .filter_map(|gid| gid.parse().ok())
        .filter(|gid| Tag::is_reserved(*gid))
        .collect();
    Some(Found { parent, alive: !matches!(state, 'Z' | 'X' | 'x'), tags })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_file_is_understood() {
        let status = "Name:\tsh\\nGroups:\\t60001\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t7\nPid:\t7\nPPid:\t3\n\
                      Uid:\t1000\t1000\t1000\t1000\nGroups:\t27 1000 60017 \nVmPeak:\t 1 kB\n";
        let found = parse_status(status).unwrap();
        assert_eq!((found.parent, found.alive, found.tags), (3, true, vec![60_017]));
    }

    #[test]
    fn a_zombie_is_not_alive_and_a_status_without_groups_is_no_answer() {
        assert!(!parse_status("State:\tZ (zombie)\nPPid:\t1\nGroups:\t\n").unwrap().alive);
        assert!(parse_status("State:\tS (sleeping)\nPPid:\t1\n").is_none());
    }

    #[test]
    fn tags_are_given_once_until_all_are_taken() {
        let processes = Processes::open().unwrap();
        let first = processes.take_tag().unwrap();
        let mut seen = HashSet::from([first]);
        for _ in 1..TAG_COUNT {
            let tag = processes.take_tag().unwrap();
            assert!(Tag::is_reserved(tag.gid()) && seen.insert(tag));
        }
        assert!(matches!(processes.take_tag(), Err(ProcessError::NoTagLeft)));
        processes.release_tag(first);
        assert_eq!(processes.take_tag().unwrap(), first);
    }
}
