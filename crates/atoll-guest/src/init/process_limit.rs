//! How many processes and threads the sandbox may have, where the kernel is the sandbox's own: the machine counts that
//! kernel's threads, and reaching the machine's limit would end the sandbox instead of refusing one process.

use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// An empty directory of every root, covered for a moment.
const MOUNT_POINT: &str = "/mnt";
const GROUP: &str = "sandbox";

/// Why the limit is not in force.
#[derive(Debug, thiserror::Error)]
#[error("the limit of processes can not be put in force: {step}")]
pub(crate) struct ProcessLimitError {
    step: &'static str,
    #[source]
    errno: Errno,
}

fn step<T>(step: &'static str, result: rustix::io::Result<T>) -> Result<T, ProcessLimitError> {
    result.map_err(|errno| ProcessLimitError { step, errno })
}

/// Puts this process, and so everything it will start, into a control group of at most `pids_max`. The group has no
/// path afterwards, so that nobody can change it; it lives as long as this process.
pub(crate) fn enforce(pids_max: u64) -> Result<(), ProcessLimitError> {
    step("mounting", mount("pids", MOUNT_POINT, "cgroup", MountFlags::NOSUID | MountFlags::NODEV, c"pids"))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let hierarchy = step("opening", open(MOUNT_POINT, flags, Mode::empty()))?;
    step("making a group", mkdirat(&hierarchy, GROUP, Mode::from_raw_mode(0o700)))?;
    let group = step("opening the group", openat(&hierarchy, GROUP, flags, Mode::empty()))?;
    for (name, value) in [("pids.max", pids_max.to_string()), ("cgroup.procs", "1".to_owned())] {
        let file = step(name, openat(&group, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()))?;
        step(name, rustix::io::write(&file, value.as_bytes()))?;
    }
    step("unmounting", unmount(MOUNT_POINT, UnmountFlags::DETACH))?;
    // The file system goes with its last descriptor, and the limit with it.
    std::mem::forget(hierarchy);
    Ok(())
}
