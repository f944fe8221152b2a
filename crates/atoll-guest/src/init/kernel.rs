//! Which kernel this is, as it looks from inside. To be asked before system calls are filtered.
#![expect(unsafe_code, reason = "the kernel's log is read by a raw system call")]

use atoll_guest::protocol::Kernel;

/// `SYSLOG_ACTION_READ_ALL` of syslog(2).
const READ_ALL: libc::c_int = 3;
/// gVisor's own log is shorter; of Linux's, this is the end.
const LOG_BYTES_MAX: usize = 16 * 1024;
/// How gVisor's log begins (`pkg/sentry/kernel/syslog.go`).
const GVISOR_SAYS: &str = "Starting gVisor...";

/// gVisor answers everybody who reads the kernel's log, in its own words. Linux refuses, or answers in others.
pub(crate) fn look() -> Kernel {
    let mut log = vec![0u8; LOG_BYTES_MAX];
    // SAFETY: the buffer is valid for its length.
    let count = unsafe { libc::syscall(libc::SYS_syslog, READ_ALL, log.as_mut_ptr(), log.len()) };
    let log = usize::try_from(count).ok().and_then(|count| log.get(..count)).unwrap_or_default();
    kernel_of(&String::from_utf8_lossy(log))
}

fn kernel_of(log: &str) -> Kernel {
    if log.lines().next().is_some_and(|line| line.contains(GVISOR_SAYS)) { Kernel::Gvisor } else { Kernel::Linux }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_known_by_its_log() {
        assert_eq!(
            kernel_of("<6>[    0.000000] Starting gVisor...\n<6>[    0.354495] Daemonizing children...\n"),
            Kernel::Gvisor
        );
        for log in ["", "<5>[    0.000000] Linux version 6.18\n", "<6>[ 1.0] x\n<6>[ 2.0] Starting gVisor...\n"] {
            assert_eq!(kernel_of(log), Kernel::Linux, "{log}");
        }
    }

    #[test]
    fn tests_run_on_linux() {
        assert_eq!(look(), Kernel::Linux);
    }
}
