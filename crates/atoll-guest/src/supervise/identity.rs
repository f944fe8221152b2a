//! Who the processes are: the sandbox's user namespace, and the rights that supervisor and guest keep.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets};

use atoll_guest::supervisor::{ID_RANGE, Plan, Step};

use super::sys::{self, Side, Trouble, check, check_io};

/// Kinds of namespaces that nobody in the sandbox may make, by the kernel's own count.
const FORBIDDEN_NAMESPACES: [&str; 8] = [
    "max_user_namespaces",
    "max_mnt_namespaces",
    "max_net_namespaces",
    "max_pid_namespaces",
    "max_ipc_namespaces",
    "max_uts_namespaces",
    "max_cgroup_namespaces",
    "max_time_namespaces",
];

/// What the guest keeps: enough to become the workload's user, to end its processes, and to take from them even the
/// bounding set.
const GUEST_CAPABILITIES: CapabilitySet =
    CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::KILL).union(CapabilitySet::SETPCAP);

/// Highest capability number to remove from the bounding set; kernels refuse those they do not know.
const CAPABILITY_LAST: u32 = 63;

/// Makes the sandbox's user namespace by a process that ends at once.
///
/// It exists before the sandbox does, since mounts are mapped through it; the guest enters it last, so that every
/// other namespace belongs to the machine and root inside has no say in them.
pub(super) fn user_namespace(plan: &Plan) -> Result<OwnedFd, Trouble> {
    let (ready, start) = check("make a pipe", rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC))?;
    match sys::fork("make a user namespace", libc::CLONE_NEWUSER as u64, None)? {
        Side::Child => {
            drop(start);
            sys::exit_now(forbid_namespaces(&ready).map_or(1, |()| 0))
        }
        Side::Parent(pid) => {
            drop(ready);
            let map = format!("0 {} {ID_RANGE}", plan.id_base);
            let namespace = map_ids(pid, &map, &map);
            if namespace.is_ok() {
                check("start the user namespace", rustix::io::write(&start, b"!"))?;
            }
            drop(start);
            let status =
                check("end the user namespace's maker", rustix::process::waitpid(Some(pid), WaitOptions::empty()))?;
            let namespace = namespace?;
            if status.is_none_or(|(_, status)| status.exit_status() != Some(0)) {
                return Err(Trouble::plain("forbid namespaces within the sandbox"));
            }
            Ok(namespace)
        }
    }
}

/// For each share of the plan, in order, a user namespace that says who is who in it. Nobody ever enters one.
pub(super) fn share_maps(plan: &Plan) -> Result<Vec<OwnedFd>, Trouble> {
    let maps = plan.steps.iter().filter_map(|step| match step {
        Step::Share { user, group, .. } => Some([user, group].map(|(machine, inside)| {
            let inside = u64::from(plan.id_base) + u64::from(*inside);
            format!("{machine} {inside} 1")
        })),
        _ => None,
    });
    maps.map(|[users, groups]| share_map(&users, &groups)).collect()
}

fn share_map(users: &str, groups: &str) -> Result<OwnedFd, Trouble> {
    let (ready, start) = check("make a pipe", rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC))?;
    match sys::fork("make a user namespace", libc::CLONE_NEWUSER as u64, None)? {
        Side::Child => {
            drop(start);
            // Until the other end closes, whatever happens there.
            let _ = rustix::io::read(&ready, &mut [0]);
            sys::exit_now(0)
        }
        Side::Parent(pid) => {
            drop(ready);
            let namespace = map_ids(pid, users, groups);
            drop(start);
            check("end the user namespace's maker", rustix::process::waitpid(Some(pid), WaitOptions::empty()))?;
            namespace
        }
    }
}

fn map_ids(pid: Pid, users: &str, groups: &str) -> Result<OwnedFd, Trouble> {
    for (file, map) in [("uid_map", users), ("gid_map", groups)] {
        let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
        let written = File::options().write(true).open(&path).and_then(|mut file| file.write_all(map.as_bytes()));
        check_io(&format!("write {file}"), written)?;
    }
    let path = format!("/proc/{}/ns/user", pid.as_raw_nonzero());
    check("open the user namespace", rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))
}

/// In the new user namespace, once ids are mapped.
fn forbid_namespaces(ready: &OwnedFd) -> Result<(), Trouble> {
    let mut byte = [0];
    if check("wait for the id maps", rustix::io::read(ready, &mut byte))? != 1 {
        return Err(Trouble::plain("wait for the id maps"));
    }
    for name in FORBIDDEN_NAMESPACES {
        let path = format!("/proc/sys/user/{name}");
        match File::options().write(true).open(path).and_then(|mut file| file.write_all(b"0")) {
            // A kernel that lacks the kind lacks the file.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => check_io(name, other)?,
        }
    }
    Ok(())
}

/// In the sandbox, at last: root of its user namespace with four capabilities and no way to more.
pub(super) fn become_guest(namespace: &OwnedFd) -> Result<(), Trouble> {
    check(
        "enter the user namespace",
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(rustix::thread::LinkNameSpaceType::User)),
    )?;
    sys::set_ids("become root inside", 0, 0)?;
    for number in 0..=CAPABILITY_LAST {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if GUEST_CAPABILITIES.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Err(rustix::io::Errno::INVAL) => break,
            other => check("narrow the bounding set", other)?,
        }
    }
    let sets = CapabilitySets {
        effective: GUEST_CAPABILITIES,
        permitted: GUEST_CAPABILITIES,
        inheritable: CapabilitySet::empty(),
    };
    check("give up capabilities", rustix::thread::set_capabilities(None, sets))?;
    check("give up new privileges", rustix::thread::set_no_new_privs(true))
}

/// After start: the id that root inside has, without any right on the machine. With another id the kernel would not
/// let this process's death end the guest.
pub(super) fn become_supervisor(plan: &Plan) -> Result<(), Trouble> {
    become_nobody(plan.id_base, plan.supervisor_gid)
}

/// The same for the process between supervisor and gVisor, which may read nothing that the supervisor writes.
pub(super) fn become_keeper(plan: &Plan) -> Result<(), Trouble> {
    become_nobody(plan.id_base, plan.id_base)
}

fn become_nobody(uid: u32, gid: u32) -> Result<(), Trouble> {
    sys::set_ids("become the supervisor's user", uid, gid)?;
    check("give up new privileges", rustix::thread::set_no_new_privs(true))?;
    let sets = check("read the supervisor's capabilities", rustix::thread::capabilities(None))?;
    if sets.effective.is_empty() && sets.permitted.is_empty() {
        Ok(())
    } else {
        Err(Trouble::plain("give up the supervisor's capabilities"))
    }
}
