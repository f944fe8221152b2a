//! Starting a program directly in a control group, which the standard library cannot. Moving it there afterwards takes
//! a lock that all of the machine's forks share, and up to 15 ms.
#![expect(unsafe_code, reason = "clone3 and execveat")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// A program that could not be executed.
const EXIT_CODE_FAILED: i32 = 127;

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Executes `program` with nothing but standard input, output and error, and an empty environment, in a version 2
/// control group. Returns its process id.
///
/// Only for processes with a single thread. A program that cannot be executed ends at once with code 127.
pub(super) fn spawn(
    program: BorrowedFd<'_>,
    arguments: &[&CStr],
    standard: [BorrowedFd<'_>; 3],
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<u32> {
    let pointers: Vec<*const libc::c_char> =
        arguments.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
    let environment: [*const libc::c_char; 1] = [std::ptr::null()];
    let args = CloneArgs {
        flags: cgroup.map_or(0, |_| CLONE_INTO_CGROUP),
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.map_or(0, |directory| u64::try_from(directory.as_raw_fd()).unwrap_or(u64::MAX)),
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM the child has a copy of everything, and this process has one thread, so that no lock is
    // held by a thread that the child lacks.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if pid == 0 {
        // SAFETY: in the child, whose descriptors 0 to 2 nobody uses any more; the lists end with null pointers. Every
        // other descriptor of the launcher closes on execution.
        unsafe {
            for (number, fd) in (0..).zip(standard) {
                libc::dup2(fd.as_raw_fd(), number);
            }
            libc::syscall(
                libc::SYS_execveat,
                program.as_raw_fd(),
                c"".as_ptr(),
                pointers.as_ptr(),
                environment.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
            libc::_exit(EXIT_CODE_FAILED)
        }
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    u32::try_from(pid).map_err(io::Error::other)
}
