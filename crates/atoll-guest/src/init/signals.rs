//! Signals to the guest arrive as readable bytes.
#![expect(unsafe_code, reason = "signal masks and signalfd have no safe interface")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd};

/// What came in since the last look.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// SIGTERM or SIGINT.
    pub(crate) stop: bool,
}

/// A descriptor from which the blocked signals are read.
pub(crate) struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks SIGCHLD, SIGTERM and SIGINT in this thread and all it will start. Blocked, they reach even PID 1, for
    /// which the kernel otherwise drops signals without a handler.
    pub(crate) fn block_and_open() -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `set` is initialised by sigemptyset before use; all pointers are valid for the calls.
        let fd = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT] {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd returned a new descriptor that nobody else owns.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Undoes the blocking, for a program that is about to be executed.
    pub(crate) fn unblock_all() {
        // SAFETY: a zeroed sigset is empty, and valid for the call.
        unsafe {
            let none: libc::sigset_t = std::mem::zeroed();
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        }
    }

    /// Takes all pending signals.
    pub(crate) fn receive(&self) -> Received {
        const RECORD_BYTES: usize = size_of::<libc::signalfd_siginfo>();
        let mut received = Received::default();
        let mut record = [0u8; RECORD_BYTES];
        while let Ok(RECORD_BYTES) = rustix::io::read(&self.fd, &mut record) {
            let number = u32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
            received.stop |= number == libc::SIGTERM as u32 || number == libc::SIGINT as u32;
        }
        received
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
