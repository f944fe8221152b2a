//! System calls that rustix does not wrap, each a function that cannot be misused.
#![expect(unsafe_code, reason = "raw system calls")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

/// Something did not work.
#[derive(Debug)]
pub(super) struct Trouble {
    /// What was attempted.
    pub(super) attempted: String,
    /// The kernel's error number, 0 if it was not the kernel that refused.
    pub(super) errno: i32,
}

impl Trouble {
    pub(super) fn new(attempted: impl Into<String>, errno: Errno) -> Self {
        Self { attempted: attempted.into(), errno: errno.raw_os_error() }
    }

    pub(super) fn plain(attempted: impl Into<String>) -> Self {
        Self { attempted: attempted.into(), errno: 0 }
    }
}

/// Names what a system call was for.
pub(super) fn check<T>(attempted: &str, outcome: Result<T, Errno>) -> Result<T, Trouble> {
    outcome.map_err(|errno| Trouble::new(attempted, errno))
}

/// Names what an operation of the standard library was for.
pub(super) fn check_io<T>(attempted: &str, outcome: std::io::Result<T>) -> Result<T, Trouble> {
    outcome.map_err(|error| Trouble { attempted: attempted.to_owned(), errno: error.raw_os_error().unwrap_or(0) })
}

/// Takes ownership of a descriptor that this process was started with.
pub(super) fn claim_fd(fd: RawFd) -> OwnedFd {
    // SAFETY: called once, at the very start, for a descriptor that the launcher passes by convention. If it is not
    // open, every use of it fails with EBADF.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Closes every descriptor from `first` on.
pub(super) fn close_from(first: RawFd) -> Result<(), Trouble> {
    close_range(first, 0, "close inherited descriptors")
}

/// Marks every descriptor from `first` on to be closed by the next execution.
pub(super) fn close_from_on_exec(first: RawFd) -> Result<(), Trouble> {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC, "mark descriptors to be closed")
}

fn close_range(first: RawFd, flags: u32, attempted: &str) -> Result<(), Trouble> {
    // SAFETY: `first` is above every descriptor that an owner in this process will use again (see the callers).
    let outcome = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) };
    succeed(attempted, outcome).map(drop)
}

/// Which side of a [`fork`] this is.
pub(super) enum Side {
    Parent(rustix::process::Pid),
    Child,
}

/// Duplicates this process into new namespaces (`CLONE_NEW…` flags) and into a version 2 control group.
pub(super) fn fork(attempted: &str, namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Side, Trouble> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
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
    let args = CloneArgs {
        flags: namespaces | cgroup.map_or(0, |_| CLONE_INTO_CGROUP),
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.map_or(0, |directory| u64::try_from(directory.as_raw_fd()).unwrap_or(u64::MAX)),
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM the child has a copy of everything, and this process has one thread, so that no lock is
    // held by a thread that the child lacks.
    let outcome = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    let pid = succeed(attempted, outcome)?;
    let pid = i32::try_from(pid).map_err(|_| Trouble::plain(attempted))?;
    Ok(rustix::process::Pid::from_raw(pid).map_or(Side::Child, Side::Parent))
}

/// Sees control groups from the own group on.
pub(super) fn own_cgroup_namespace() -> Result<(), Trouble> {
    // SAFETY: no descriptor table is unshared.
    let outcome = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) };
    check("enter a control-group namespace", outcome)
}

/// Ends this process at once, running no handlers of the process that it is a copy of.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; nothing is touched after it.
    unsafe { libc::_exit(code) }
}

/// Attributes for [`mount_setattr`].
#[repr(C)]
#[derive(Default)]
pub(super) struct MountAttributes {
    pub(super) set: u64,
    pub(super) clear: u64,
    pub(super) propagation: u64,
    pub(super) user_namespace: u64,
}

/// Changes the mount that `mount` refers to.
pub(super) fn mount_setattr(
    attempted: &str,
    mount: BorrowedFd<'_>,
    attributes: &MountAttributes,
) -> Result<(), Trouble> {
    // SAFETY: the path is an empty C string, the attributes are read for their whole size.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attributes),
            size_of::<MountAttributes>(),
        )
    };
    succeed(attempted, outcome).map(drop)
}

/// Ids that this thread's file operations use from now on, machine-wide numbers.
pub(super) fn set_file_ids(uid: u32, gid: u32) -> Result<(), Trouble> {
    // SAFETY: calls without pointers. They return the former id, so the user id is asked for again.
    let now = unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
        libc::syscall(libc::SYS_setfsuid, u32::MAX)
    };
    if now == i64::from(uid) { Ok(()) } else { Err(Trouble::new("take on the sandbox's ids for files", Errno::PERM)) }
}

/// All user and group ids of this process; no supplementary groups.
pub(super) fn set_ids(attempted: &str, uid: u32, gid: u32) -> Result<(), Trouble> {
    // SAFETY: calls without pointers, but for an empty list.
    let outcomes = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()),
            libc::syscall(libc::SYS_setresgid, gid, gid, gid),
            libc::syscall(libc::SYS_setresuid, uid, uid, uid),
        ]
    };
    if outcomes == [0, 0, 0] { Ok(()) } else { Err(Trouble::new(attempted, Errno::PERM)) }
}

/// Leaves the session's key ring for a new, empty one.
pub(super) fn new_keyring() -> Result<(), Trouble> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous ring.
    let outcome =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    match succeed("take a new key ring", outcome) {
        // A kernel without key rings has none to leak.
        Err(trouble) if trouble.errno == libc::ENOSYS => Ok(()),
        other => other.map(drop),
    }
}

/// Copies `fd` to exactly the number `target`, open across execution.
pub(super) fn place_fd(fd: BorrowedFd<'_>, target: RawFd) -> Result<(), Trouble> {
    // SAFETY: the caller gives up whatever `target` was; this process is about to execute.
    let outcome = unsafe { libc::dup2(fd.as_raw_fd(), target) };
    succeed("place a descriptor", i64::from(outcome)).map(drop)
}

/// Executes the program that `program` refers to. Returns only when that fails.
pub(super) fn execute(program: BorrowedFd<'_>, arguments: &[&CStr], environment: &[&CStr]) -> Trouble {
    let pointers = |list: &[&CStr]| -> Vec<*const libc::c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists end with a null pointer and outlive the call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    match succeed("execute the guest", outcome) {
        Err(trouble) => trouble,
        Ok(_) => Trouble::plain("execute the guest"),
    }
}

fn succeed(attempted: &str, outcome: i64) -> Result<i64, Trouble> {
    if outcome >= 0 {
        return Ok(outcome);
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    Err(Trouble { attempted: attempted.to_owned(), errno })
}
