//! Touching the file system as the workload's user.
//!
//! A short-lived thread takes on the user's groups and file-system ids and keeps the guest's other ids (where the kernel
//! has such ids): it then judges its file access as the user's, and the user's processes still can not signal it. There is no way back in such
//! a thread, so no code after it can forget to return.
#![expect(unsafe_code, reason = "file-system ids of one thread have no safe interface")]

use std::thread;

use atoll_guest::protocol::User;
use rustix::io::Errno;
use rustix::process::Gid;
use rustix::thread::set_thread_groups;

/// Stack of a thread that works as the user.
const STACK_BYTES: usize = 256 * 1024;

/// Why the identity could not be taken on; nothing was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("a thread for the user could not be started")]
    Thread(#[source] std::io::Error),
    #[error("the groups of the user could not be taken on")]
    Groups(#[source] Errno),
    #[error("the file-system ids {uid}:{gid} could not be taken on")]
    Ids { uid: u32, gid: u32 },
}

/// Runs `work` with the file-system identity of `user` and waits for it.
pub(crate) fn as_user<T: Send>(user: &User, work: impl FnOnce() -> T + Send) -> Result<T, IdentityError> {
    thread::scope(|scope| {
        let body = || {
            take_on(user)?;
            Ok(work())
        };
        let thread = thread::Builder::new()
            .name("as-user".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, body)
            .map_err(IdentityError::Thread)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn take_on(user: &User) -> Result<(), IdentityError> {
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    set_thread_groups(&groups).map_err(IdentityError::Groups)?;
    // These two calls report no errors; asking for an impossible id tells what is in force.
    // SAFETY: raw system calls without pointers; they change this thread only.
    let (gid, uid) = unsafe {
        libc::syscall(libc::SYS_setfsgid, user.gid);
        libc::syscall(libc::SYS_setfsuid, user.uid);
        (libc::syscall(libc::SYS_setfsgid, u32::MAX), libc::syscall(libc::SYS_setfsuid, u32::MAX))
    };
    let in_force = gid == i64::from(user.gid) && uid == i64::from(user.uid);
    if in_force || (uid < 0 && become_user(user)) {
        Ok(())
    } else {
        Err(IdentityError::Ids { uid: user.uid, gid: user.gid })
    }
}

/// For a kernel without ids for files alone (gVisor): all ids of the thread, which gives up its capabilities too. The
/// user's processes can then end the thread, and the sandbox with it: their own.
fn become_user(user: &User) -> bool {
    let (uid, gid) = (user.uid, user.gid);
    // SAFETY: raw system calls without pointers; unlike the C library's functions they change this thread only.
    unsafe {
        libc::syscall(libc::SYS_setresgid, gid, gid, gid) == 0 && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
    }
}
