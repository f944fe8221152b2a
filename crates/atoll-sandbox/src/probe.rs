//! What this machine can do, each finding with its evidence and its remedy.
//!
//! Looking changes nothing, and starts nothing but a trial of gVisor. So some findings say what speaks for a thing, not
//! that it works; their evidence says which.

mod kernel;

use std::fs;
use std::path::Path;

use atoll_stdx::{Hint, chain};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::cgroup::{CgroupError, Controller, Layout, Version};
use crate::gvisor::runtime;
use crate::launcher::LauncherConfig;
use crate::launcher::paths::RUN_DIR;
use crate::spec::Tier;

/// One finding about the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at, for example `user namespaces`.
    pub name: String,
    /// Whether it is as needed.
    pub ok: bool,
    /// What was seen.
    pub evidence: String,
    /// What to do about it; `None` when `ok`.
    pub remedy: Option<String>,
    /// The tiers that cannot be had without it; empty when it is only worth knowing.
    pub needed_for: Vec<Tier>,
}

impl Finding {
    /// All is well where there is nothing to do.
    fn new(name: &str, needed_for: &[Tier], evidence: String, remedy: Option<String>) -> Self {
        Self { name: name.to_owned(), ok: remedy.is_none(), evidence, remedy, needed_for: needed_for.to_vec() }
    }
}

const EVERY_TIER: &[Tier] = &[Tier::Native, Tier::Gvisor];
/// Only worth knowing.
const NONE: &[Tier] = &[];

/// Maps the owners of mounts (5.12), has Landlock (5.13) and ends whole control groups (5.14).
const KERNEL_MIN: (u32, u32) = (5, 14);
/// Less free space than this is worth a word.
const FREE_BYTES_MIN: u64 = 1 << 30;
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];

/// Looks at the machine. Takes some milliseconds.
#[must_use]
pub fn probe(config: &LauncherConfig) -> Vec<Finding> {
    let release = read("/proc/sys/kernel/osrelease");
    let capabilities = rustix::thread::capabilities(None).map(|sets| sets.effective);
    vec![
        root(rustix::process::geteuid().as_raw()),
        privileges(capabilities),
        kernel_version(&release),
        user_namespaces(),
        namespaces(),
        cgroups(&Layout::detect()),
        seccomp(&read("/proc/sys/kernel/seccomp/actions_avail")),
        packet_filter(),
        gvisor(config),
        idmapped_mounts(&release, &config.state_dir),
        landlock(),
        kvm(),
        disk_space(&config.state_dir),
        limits_privilege(capabilities),
    ]
}

/// A small file of the kernel's, empty where it has none.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn root(euid: u32) -> Finding {
    let remedy = (euid != 0).then(|| "run it as root, for example with sudo".to_owned());
    Finding::new("root", EVERY_TIER, format!("effective user id {euid}"), remedy)
}

/// Root of a container lacks these.
fn privileges(effective: Result<CapabilitySet, Errno>) -> Finding {
    let (evidence, remedy) = match effective {
        Ok(effective) => {
            let needed = [("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN), ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN)];
            let (have, lack): (Vec<_>, Vec<_>) = needed.into_iter().partition(|(_, set)| effective.contains(*set));
            let names = |list: Vec<(&'static str, CapabilitySet)>| {
                list.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" and ")
            };
            if lack.is_empty() {
                (format!("{} are in effect", names(have)), None)
            } else {
                let lack = names(lack);
                (
                    format!("not in effect: {lack}"),
                    Some(format!("run it with {lack}; in a container, as a privileged one")),
                )
            }
        }
        Err(errno) => (
            format!("the capabilities of this process cannot be read: {errno}"),
            Some("run it as root, outside of a container".to_owned()),
        ),
    };
    Finding::new("capabilities", EVERY_TIER, evidence, remedy)
}

/// Major and minor number of a release such as `6.8.0-45-generic`.
fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn is_new_enough(release: &str) -> bool {
    version_of(release).is_some_and(|version| version >= KERNEL_MIN)
}

/// What to do where the kernel lacks something that newer ones have.
pub(crate) fn newer_kernel() -> String {
    format!("run a kernel of at least {}.{}", KERNEL_MIN.0, KERNEL_MIN.1)
}

fn kernel_version(release: &str) -> Finding {
    let evidence = match version_of(release) {
        Some(_) => format!("Linux {release}"),
        None => format!("/proc/sys/kernel/osrelease does not tell a version: {release:?}"),
    };
    Finding::new("kernel", EVERY_TIER, evidence, (!is_new_enough(release)).then(newer_kernel))
}

/// How many namespaces of a kind there may be; `None` where the kernel has no such setting.
fn namespace_limit(kind: &str) -> Option<u64> {
    read(&format!("/proc/sys/user/max_{kind}_namespaces")).parse().ok()
}

fn has_namespace(kind: &str) -> bool {
    Path::new("/proc/self/ns").join(kind).symlink_metadata().is_ok()
}

fn user_namespaces() -> Finding {
    let limit = namespace_limit("user");
    let (evidence, remedy) = match limit {
        _ if !has_namespace("user") => (
            "/proc/self/ns/user is not there".to_owned(),
            Some("run a kernel with user namespaces (CONFIG_USER_NS)".to_owned()),
        ),
        Some(0) => (
            "the sysctl user.max_user_namespaces is 0".to_owned(),
            Some("set the sysctl user.max_user_namespaces above 0".to_owned()),
        ),
        Some(limit) => (format!("the kernel has them; user.max_user_namespaces is {limit}"), None),
        None => ("the kernel has them; user.max_user_namespaces cannot be read".to_owned(), None),
    };
    Finding::new("user namespaces", EVERY_TIER, evidence, remedy)
}

fn namespaces() -> Finding {
    let missing: Vec<&str> = NAMESPACES.into_iter().filter(|kind| !has_namespace(kind)).collect();
    let forbidden: Vec<&str> = NAMESPACES.into_iter().filter(|kind| namespace_limit(kind) == Some(0)).collect();
    let (evidence, remedy) = if !missing.is_empty() {
        (
            format!("not in /proc/self/ns: {}", missing.join(", ")),
            Some("run a kernel with all of them (CONFIG_NAMESPACES, CONFIG_CGROUPS)".to_owned()),
        )
    } else if !forbidden.is_empty() {
        let settings: Vec<String> = forbidden.iter().map(|kind| format!("user.max_{kind}_namespaces")).collect();
        let settings = settings.join(", ");
        (format!("0 by sysctl: {settings}"), Some(format!("set above 0: {settings}")))
    } else {
        (NAMESPACES.join(", "), None)
    };
    Finding::new("namespaces", EVERY_TIER, evidence, remedy)
}

fn cgroups(layout: &Layout) -> Finding {
    let found = |controller: &Controller| layout.find(*controller);
    let on_version_1 = Controller::NEEDED.iter().filter_map(found).any(|(version, _)| version == Version::V1);
    let kind = match (&layout.unified, on_version_1) {
        (Some(_), true) => "hybrid",
        (Some(_), false) => "version 2",
        (None, true) => "version 1",
        (None, false) => "none mounted",
    };
    let missing = Controller::NEEDED.into_iter().filter(|controller| layout.find(*controller).is_none());
    let remedies: Vec<String> =
        missing.filter_map(|controller| CgroupError::Missing(controller.name()).hint()).collect();
    let remedy = (!remedies.is_empty()).then(|| remedies.join("; "));
    Finding::new("control groups", EVERY_TIER, format!("{kind}: {}", layout.describe()), remedy)
}

fn seccomp(actions: &str) -> Finding {
    let has_errno = actions.split_whitespace().any(|action| action == "errno");
    let evidence = if actions.is_empty() {
        "/proc/sys/kernel/seccomp/actions_avail is not there".to_owned()
    } else {
        format!("actions: {actions}")
    };
    let remedy = "run a kernel with seccomp filters (CONFIG_SECCOMP_FILTER)";
    Finding::new("seccomp filters", EVERY_TIER, evidence, (!has_errno).then(|| remedy.to_owned()))
}

/// Rules that need more than `nf_tables` itself show only when the filter is put in force, which starts nothing
/// without it.
fn packet_filter() -> Finding {
    let (evidence, remedy) = match kernel::ask_packet_filter() {
        Ok(()) => ("nf_tables answers; its rules are put in force at the first start".to_owned(), None),
        Err(Errno::PERM) => (
            "nf_tables does not answer this user".to_owned(),
            Some("run it as root with CAP_NET_ADMIN to find out".to_owned()),
        ),
        Err(errno) => (
            format!("nf_tables does not answer: {errno}"),
            Some(
                "run a kernel with nf_tables and connection tracking (CONFIG_NF_TABLES_INET, CONFIG_NFT_CT), or \
                 `modprobe nf_tables`"
                    .to_owned(),
            ),
        ),
    };
    Finding::new("packet filter", EVERY_TIER, evidence, remedy)
}

/// Runs a program in it: that it is there proves nothing.
fn gvisor(config: &LauncherConfig) -> Finding {
    const NAME: &str = "gVisor (runsc)";
    let only = &[Tier::Gvisor];
    let path = match runtime::locate(config.runsc.as_deref(), &config.state_dir) {
        Ok(path) => path,
        Err(error) => return Finding::new(NAME, only, error.to_string(), error.hint()),
    };
    if !rustix::process::geteuid().is_root() {
        let evidence = format!("runsc is at {}; it was not tried", path.display());
        return Finding::new(NAME, only, evidence, Some("run it as root to find out".to_owned()));
    }
    match runtime::open(path, Path::new(RUN_DIR)) {
        Ok(found) => {
            let evidence = format!("{} ran a program on its platform {}", found.path.display(), found.platform);
            Finding::new(NAME, only, evidence, None)
        }
        Err(error) => {
            let remedy = error.hint().or_else(|| Some("make room on /run".to_owned()));
            Finding::new(NAME, only, chain(&error), remedy)
        }
    }
}

fn idmapped_mounts(release: &str, state_dir: &Path) -> Finding {
    let (evidence, remedy) = if is_new_enough(release) {
        let directory = state_dir.display();
        (format!("the kernel has them; whether the file system of {directory} has shows with the first volume"), None)
    } else {
        ("the kernel has none".to_owned(), Some(newer_kernel()))
    };
    Finding::new("idmapped mounts", NONE, evidence, remedy)
}

fn landlock() -> Finding {
    let (evidence, remedy) = match kernel::landlock_version() {
        Ok(version) => (format!("version {version} of its interface"), None),
        Err(error) => (
            format!("does not answer: {}", chain(&error)),
            Some("run a kernel with CONFIG_SECURITY_LANDLOCK and `landlock` in `lsm=`".to_owned()),
        ),
    };
    Finding::new("Landlock", &[Tier::Native], evidence, remedy)
}

fn kvm() -> Finding {
    let (evidence, remedy) = match kernel::kvm_version() {
        Ok(version) => (
            format!(
                "/dev/kvm answers with version {version}, which is no proof that a virtual machine boots; no tier uses \
                 it"
            ),
            None,
        ),
        Err(error) => (
            format!("/dev/kvm does not answer: {}; no tier uses it", chain(&error)),
            Some(match error.kind() {
                std::io::ErrorKind::PermissionDenied => "to find out, run it as root".to_owned(),
                _ => "to have it, turn on (nested) virtualisation and load kvm_intel or kvm_amd".to_owned(),
            }),
        ),
    };
    Finding::new("/dev/kvm", NONE, evidence, remedy)
}

/// The directory or the nearest above it that is there.
fn nearest_existing(directory: &Path) -> Option<&Path> {
    directory.ancestors().find(|ancestor| ancestor.is_dir())
}

fn disk_space(state_dir: &Path) -> Finding {
    const NAME: &str = "free disk space";
    let choose = || Some("choose a state directory that can be reached".to_owned());
    let Some(directory) = nearest_existing(state_dir) else {
        return Finding::new(NAME, NONE, format!("nothing is there of {}", state_dir.display()), choose());
    };
    match rustix::fs::statvfs(directory) {
        Ok(space) => {
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            let remedy = (free < FREE_BYTES_MIN)
                .then(|| "free some disk space (at least 1024 MiB), or choose another state directory".to_owned());
            Finding::new(NAME, NONE, format!("{} MiB at {}", free >> 20, directory.display()), remedy)
        }
        Err(errno) => Finding::new(NAME, NONE, format!("{} cannot be asked: {errno}", directory.display()), choose()),
    }
}

fn limits_privilege(effective: Result<CapabilitySet, Errno>) -> Finding {
    let (evidence, remedy) = match effective {
        Ok(effective) if effective.contains(CapabilitySet::SYS_RESOURCE) => ("in effect".to_owned(), None),
        _ => (
            "not in effect".to_owned(),
            Some("run it with CAP_SYS_RESOURCE to let it raise hard limits, such as that of open files".to_owned()),
        ),
    };
    Finding::new("CAP_SYS_RESOURCE", NONE, evidence, remedy)
}

#[cfg(test)]
mod tests;
