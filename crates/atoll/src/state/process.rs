//! Whether a process has been killed though it is still there.

use std::fs;

/// `PF_EXITING` of the kernel's `include/linux/sched.h`, as `/proc/PID/stat` shows it in its field `flags`.
const PF_EXITING: u64 = 0x4;
/// SIGKILL's bit in the masks of `/proc/PID/status`.
const SIGKILL_BIT: u64 = 1 << 8;

/// Whether a process is gone, a zombie, on its way out of the kernel, or has an undelivered SIGKILL.
pub(super) fn is_ending(pid: u32) -> bool {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
    let (Ok(stat), Ok(status)) = (read("stat"), read("status")) else {
        return true;
    };
    stat_says_ending(&stat) || status_says_killed(&status)
}

/// The fields of `/proc/PID/stat` follow the last parenthesis, as a command may contain anything: proc_pid_stat(5).
fn stat_says_ending(stat: &str) -> bool {
    let Some((_, fields)) = stat.rsplit_once(')') else {
        return false;
    };
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let is_dead = matches!(fields.first(), Some(&("Z" | "X")));
    let flags = fields.get(6).and_then(|flags| flags.parse::<u64>().ok()).unwrap_or(0);
    is_dead || flags & PF_EXITING != 0
}

/// The masks of pending signals, of the thread and of the process: proc_pid_status(5).
fn status_says_killed(status: &str) -> bool {
    status
        .lines()
        .filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")))
        .filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .any(|mask| mask & SIGKILL_BIT != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_ends_once_the_kernel_says_so() {
        let cases = [
            ("7 (atoll) S 1 7 7 0 -1 4194560 0", false),
            ("7 (atoll) Z 1 7 7 0 -1 4194560 0", true),
            ("7 (atoll) R 1 7 7 0 -1 4194564 0", true),
            ("7 (a) Z (b) R 1 7 7 0 -1 4194560 0", false),
            ("", false),
        ];
        for (stat, ending) in cases {
            assert_eq!(stat_says_ending(stat), ending, "{stat}");
        }
    }

    #[test]
    fn an_undelivered_kill_counts() {
        let cases = [
            ("SigPnd:\t0000000000000100\nShdPnd:\t0000000000000000", true),
            ("SigPnd:\t0000000000000000\nShdPnd:\t0000000000000100", true),
            ("SigPnd:\t0000000000000000\nShdPnd:\t0000000000004002", false),
            ("SigBlk:\t0000000000000100", false),
        ];
        for (status, killed) in cases {
            assert_eq!(status_says_killed(status), killed, "{status}");
        }
    }

    #[test]
    fn oneself_is_not_ending_and_a_zombie_is() {
        assert!(!is_ending(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().expect("true runs");
        while !is_ending(child.id()) {
            std::thread::yield_now();
        }
        child.wait().expect("it is ours");
    }
}
