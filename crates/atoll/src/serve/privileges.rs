//! Giving up root for good.

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::failure::{Exit, Failure};

/// Makes this process an unprivileged user whose group has the same number, without other groups, capabilities or a way
/// back. To be called before any thread exists.
pub(super) fn give_up(id: u32) -> Result<(), Failure> {
    let uid = Uid::from_raw(id);
    let gid = Gid::from_raw(id);
    setgroups(&[gid])
        .and_then(|()| setresgid(gid, gid, gid))
        .and_then(|()| setresuid(uid, uid, uid))
        .map_err(|error| Failure::because(Exit::Machine, "cannot give up root", &error))?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| Failure::because(Exit::Machine, "cannot give up gaining rights", &error))?;
    // Changing the user clears the effective and permitted sets; that nothing is left is worth a look.
    let left = rustix::thread::capabilities(None)
        .map_err(|error| Failure::because(Exit::Machine, "cannot read the remaining rights", &error))?;
    if !left.effective.is_empty() || !left.permitted.is_empty() || setresuid(uid, Uid::from_raw(0), uid).is_ok() {
        return Err(Failure::new(Exit::Machine, "root could not be given up: rights are left"));
    }
    // Its memory holds keys: no core file, no other process of the same user may look.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| Failure::because(Exit::Machine, "cannot forbid core files", &error))
}
