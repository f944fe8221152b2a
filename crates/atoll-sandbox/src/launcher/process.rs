//! Telling one process from a later one with the same number.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

/// When a process started, in clock ticks since boot; `None` if there is none.
pub(crate) fn started_ticks(pid: u32) -> Option<u64> {
    parse_started(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The 22nd field; the second is a name in parentheses that may hold anything.
fn parse_started(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// A handle to the process that has this number and started then; `None` if it is gone.
pub(crate) fn open(pid: u32, started: u64) -> Option<OwnedFd> {
    let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let handle = rustix::process::pidfd_open(number, PidfdFlags::empty()).ok()?;
    // Looked at after opening: now the number cannot pass to another process unnoticed.
    (started_ticks(pid)? == started).then_some(handle)
}

/// Whether the process has ended, reaped or not.
pub(crate) fn has_ended(handle: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(handle, PollFlags::IN)];
    matches!(rustix::event::poll(&mut polled, Some(&Timespec::default())), Ok(ready) if ready > 0)
}

/// Ends it, if it has not ended.
pub(crate) fn kill(handle: &OwnedFd) {
    // ESRCH is what was wanted.
    let _ = rustix::process::pidfd_send_signal(handle, Signal::KILL);
}

/// Takes the exit status of a child that has ended; nothing if it is somebody else's child.
pub(crate) fn reap(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
    }
}

/// Tells one start of the machine from another.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        let stat = "42 (a) b ) (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        assert_eq!(parse_started(stat), Some(987_654));
        assert_eq!(parse_started("42 (a) S 1"), None);
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = std::process::id();
        let started = started_ticks(own).unwrap();
        let handle = open(own, started).unwrap();
        assert!(!has_ended(&handle));
        assert!(open(own, started + 1).is_none());
    }

    #[test]
    fn the_end_of_a_child_is_seen_before_it_is_reaped() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let handle = open(child.id(), started_ticks(child.id()).unwrap()).unwrap();
        let mut polled = [PollFd::new(&handle, PollFlags::IN)];
        rustix::event::poll(&mut polled, None).unwrap();
        assert!(has_ended(&handle));
        child.wait().unwrap();
    }
}
