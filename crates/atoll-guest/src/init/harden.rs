//! What the guest takes from itself before it does anything else. Every step that fails ends the boot.

use atoll_guest::protocol::GuestConfig;
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_child_subreaper, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, SecureComputingMode, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, secure_computing_mode, set_capabilities, set_no_new_privs,
};

use super::landlock::{self, LandlockError};
use super::seccomp::{self, SeccompError};

/// All that the guest may do beyond an ordinary process: take on the workload's identity, signal its processes, and
/// empty their bounding set.
const KEPT: CapabilitySet =
    CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::KILL).union(CapabilitySet::SETPCAP);

/// One byte: no core file is so small, and a core is not piped to the machine's handler either (0 does not stop that).
const CORE_BYTES: u64 = 1;

/// Why a protection is not in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HardenError {
    #[error("{step} failed")]
    Step {
        step: &'static str,
        #[source]
        errno: Errno,
    },
    #[error("the guest lacks {0}")]
    Missing(&'static str),
    #[error("Landlock can not be put in force")]
    Landlock(#[source] LandlockError),
    #[error("the system call filter can not be put in force")]
    Seccomp(#[source] SeccompError),
}

/// Must run before any thread starts: capabilities and filters belong to threads.
pub(crate) fn harden_this_process(config: &GuestConfig) -> Result<(), HardenError> {
    step("making the guest non-dumpable", set_dumpable_behavior(DumpableBehavior::NotDumpable))?;
    step("turning core dumps off", forbid_cores())?;
    step("setting no_new_privs", set_no_new_privs(true))?;
    if rustix::process::getpid().as_raw_nonzero().get() != 1 {
        // Only PID 1 is given orphans without asking for them.
        let any = rustix::process::getpid();
        step("becoming the reaper of orphans", set_child_subreaper(Some(any)))?;
    }
    reduce_capabilities()?;
    if let Some(writable) = &config.writable_paths {
        landlock::restrict(writable).map_err(HardenError::Landlock)?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    keep_memory_small();
    seccomp::install().map_err(HardenError::Seccomp)?;
    match secure_computing_mode() {
        Ok(SecureComputingMode::Filter) => Ok(()),
        Ok(_) => Err(HardenError::Missing("its system call filter")),
        // Reading the mode is itself a system call that a strict filter may refuse: then one is in force.
        Err(Errno::PERM | Errno::NOSYS) => Ok(()),
        Err(errno) => Err(HardenError::Step { step: "reading the seccomp mode", errno }),
    }
}

/// For this process and, since the filters keep the limit from being changed, for all that it will start.
fn forbid_cores() -> rustix::io::Result<()> {
    let ceiling = getrlimit(Resource::Core).maximum.unwrap_or(CORE_BYTES);
    let limit = Some(CORE_BYTES.min(ceiling));
    setrlimit(Resource::Core, Rlimit { current: limit, maximum: limit })
}

fn reduce_capabilities() -> Result<(), HardenError> {
    let held = capabilities(None).map_err(|errno| HardenError::Step { step: "reading capabilities", errno })?;
    if !held.permitted.contains(KEPT) {
        return Err(HardenError::Missing("CAP_SETUID, CAP_SETGID, CAP_KILL or CAP_SETPCAP"));
    }
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        match remove_capability_from_bounding_set(capability) {
            // Without CAP_SETPCAP the supervisor has done it; a capability unknown to this kernel does not exist.
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
            Err(errno) => return Err(HardenError::Step { step: "reducing the bounding set", errno }),
        }
    }
    match clear_ambient_capability_set() {
        // gVisor's kernel has no such set.
        Err(Errno::INVAL) => {}
        other => step("clearing ambient capabilities", other)?,
    }
    let sets = CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: CapabilitySet::empty() };
    step("dropping capabilities", set_capabilities(None, sets))
}

/// One arena for all threads, and large blocks go back to the kernel: the guest's memory counts as the sandbox's.
#[expect(unsafe_code, reason = "allocator settings have no safe interface")]
fn keep_memory_small() {
    const LARGE_BLOCK_BYTES: libc::c_int = 64 * 1024;
    // SAFETY: called before any thread exists; a refused setting changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE_BLOCK_BYTES);
    }
}

fn step(step: &'static str, result: rustix::io::Result<()>) -> Result<(), HardenError> {
    result.map_err(|errno| HardenError::Step { step, errno })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn four_capabilities_are_kept() {
        let names: BTreeSet<String> = KEPT.iter_names().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, BTreeSet::from(["KILL", "SETGID", "SETPCAP", "SETUID"].map(str::to_owned)));
    }
}
