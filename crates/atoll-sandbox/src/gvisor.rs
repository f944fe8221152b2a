//! The tier `gvisor`: a kernel in user space (`runsc`) between the sandbox and the machine's. Turns a specification into
//! a plan with an OCI bundle. Pure, but for [`runtime`], which finds and tries `runsc`.
//!
//! What differs from the native tier, and why:
//! - gVisor's own `/proc`, `/sys`, `/dev` and memory file systems; the rest of the root is built as for the native tier
//!   and served by its file server.
//! - gVisor's own network stack, on the sandbox's end of the link. It bypasses packet filters of the sandbox's network
//!   namespace; ours is on the machine's end, which it cannot.
//! - The machine's count of processes is of gVisor's own threads. The sandbox's are limited within, by `RLIMIT_NPROC` of
//!   each user, which nothing inside can raise: gVisor's own control group of processes is asked for one fork in seven
//!   only (it charges the first hierarchy that comes along, whichever that is).

pub mod runtime;

use std::path::Path;

use atoll_guest::protocol::{CONFIG_FD_ENV, CONNECTIONS_FD_ENV};
use atoll_guest::supervisor::{Access, ID_RANGE, Plan, RUNSC_ROOTFS, RunscPlan, Step};
use serde_json::{Value, json};

use crate::native::{self, Surroundings};
use crate::spec::{DEFAULT_PIDS_MAX, Mount, MountKind, Resources, SandboxSpec};
use runtime::Platform;

/// Where the guest is in the sandbox's root: a program without a path does not run in gVisor.
const GUEST: &str = "/run/atoll-guest";
/// Name of the directory, among a sandbox's, that runsc's root is mounted on.
pub const RUNSC_DIRECTORY: &str = "runsc";
/// gVisor alone takes about 20 MiB; with less than this a sandbox would end before its first command.
pub const MEMORY_BYTES_MIN: u64 = 48 * 1024 * 1024;
/// Threads that gVisor may need for itself: it makes one for each of its own calls that waits, and ends when it cannot.
/// On two busy cores 400 were seen.
const OWN_THREADS: u64 = 2048;
/// Threads of gVisor for each thread of the sandbox, and users that each have the limit for themselves: root, the
/// workload's and that of commands.
const THREADS_EACH: u64 = 2 * 3;
/// What the guest keeps.
const GUEST_CAPABILITIES: [&str; 4] = ["CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_SETPCAP"];
const GUEST_FILES: u64 = 4096;

/// The plan, and the bytes that its files refer to. `guest` is the guest binary, by a path without links.
#[must_use]
pub fn plan(spec: &SandboxSpec, around: &Surroundings<'_>, platform: Platform, guest: &Path) -> (Plan, Vec<u8>) {
    let (mut plan, blobs) = native::plan(spec, &Surroundings { own_kernel: true, ..around.clone() });
    let runsc = RunscPlan {
        root_mount_point: around.sandbox_dir.join(RUNSC_DIRECTORY).to_string_lossy().into_owned(),
        bundle_config: bundle(spec, around.id_base).to_string(),
        flags: flags(platform),
        devices: platform.devices(),
    };
    plan.steps.push(Step::Bind {
        source: guest.to_string_lossy().into_owned(),
        path: GUEST.to_owned(),
        idmapped: false,
        access: Access { read_only: true, no_devices: true, no_exec: false },
    });
    (Plan { runsc: Some(runsc), ..plan }, blobs)
}

/// Limits for the machine's side of a sandbox.
#[must_use]
pub fn outer_resources(resources: &Resources) -> Resources {
    let inner = resources.pids_max.unwrap_or(DEFAULT_PIDS_MAX);
    Resources { pids_max: Some(inner.saturating_mul(THREADS_EACH).saturating_add(OWN_THREADS)), ..resources.clone() }
}

fn flags(platform: Platform) -> Vec<String> {
    [
        // The launcher has put it into its groups.
        "--ignore-cgroups",
        "--network=sandbox",
        // What is written goes where the plan has put it, with its limits.
        "--overlay2=none",
        "--host-uds=none",
        "--host-fifo=none",
        "--host-settings=ignore",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([format!("--platform={platform}")])
    .collect()
}

/// `config.json` as of the OCI runtime specification, version 1.1.
fn bundle(spec: &SandboxSpec, id_base: u32) -> Value {
    let mapping = json!([{"containerID": 0, "hostID": id_base, "size": ID_RANGE}]);
    json!({
        "ociVersion": "1.1.0",
        "hostname": spec.hostname,
        "root": {"path": RUNSC_ROOTFS, "readonly": spec.read_only_root},
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": [GUEST, "init"],
            "env": [format!("{CONFIG_FD_ENV}=3"), format!("{CONNECTIONS_FD_ENV}=4")],
            "cwd": "/",
            "noNewPrivileges": true,
            "rlimits": rlimits(spec),
            "capabilities": {
                "bounding": GUEST_CAPABILITIES,
                "effective": GUEST_CAPABILITIES,
                "permitted": GUEST_CAPABILITIES,
            },
        },
        "mounts": mounts(spec),
        "linux": {
            "namespaces": [
                {"type": "pid"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "mount"},
                {"type": "user"},
                // Of the process that runs runsc.
                {"type": "network", "path": "/proc/1/ns/net"},
            ],
            "uidMappings": mapping,
            "gidMappings": mapping,
        },
    })
}

fn rlimits(spec: &SandboxSpec) -> Value {
    let files = spec.resources.nofile.unwrap_or(GUEST_FILES).max(GUEST_FILES);
    json!([{"type": "RLIMIT_NOFILE", "soft": files, "hard": files}])
}

/// gVisor's own file systems, and volumes: they may be written where the root may not, and may be shared, so that
/// gVisor must not keep what it knows of them.
fn mounts(spec: &SandboxSpec) -> Value {
    let memory = |path: &str, size_bytes: u64, read_only: bool| {
        let mut options = vec![format!("size={size_bytes}"), "mode=1777".to_owned(), "nosuid".to_owned()];
        if read_only {
            options.push("ro".to_owned());
        }
        json!({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options})
    };
    let mut all = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["ro", "nosuid", "noexec", "nodev"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts"}),
        memory("/tmp", native::tmp_bytes(spec), false),
    ];
    if spec.mounts.iter().all(|mount| mount.target != "/dev/shm") {
        all.push(memory("/dev/shm", native::SHM_BYTES, false));
    }
    all.extend(native::own_paths(spec).iter().map(|path| bind(path, false)));
    let mut own: Vec<&Mount> = spec.mounts.iter().collect();
    // A mount within another comes after it.
    own.sort_by_key(|mount| mount.target.split('/').count());
    all.extend(own.into_iter().filter_map(|mount| match &mount.kind {
        MountKind::Tmpfs { size_bytes } => Some(memory(&mount.target, *size_bytes, mount.read_only)),
        MountKind::Directory { .. } | MountKind::EmptyDir { .. } | MountKind::Share { .. } => {
            Some(bind(&mount.target, mount.read_only))
        }
        MountKind::Image { .. } => Some(bind(&mount.target, true)),
        // A part of the root, unless something covers it.
        MountKind::Files { .. } => {
            (!mount.read_only || is_covered(spec, &mount.target)).then(|| bind(&mount.target, mount.read_only))
        }
    }));
    Value::Array(all)
}

/// What the supervisor has mounted in the root, mounted there by gVisor too.
fn bind(target: &str, read_only: bool) -> Value {
    let access = if read_only { "ro" } else { "rw" };
    json!({
        "destination": target,
        "type": "bind",
        "source": format!("{RUNSC_ROOTFS}{target}"),
        "options": ["rbind", access, "nosuid", "nodev"],
    })
}

/// Whether another mount of gVisor's covers a path of the root.
fn is_covered(spec: &SandboxSpec, path: &str) -> bool {
    let is_above = |above: &str| above != path && Path::new(path).starts_with(above);
    is_above("/tmp")
        || native::own_paths(spec).iter().any(|own| is_above(own))
        || spec.mounts.iter().any(|mount| is_above(&mount.target))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::PathBuf;

    use super::*;

    fn idle() -> SandboxSpec {
        SandboxSpec::idle("a", Ipv4Addr::new(10, 201, 0, 2))
    }

    #[test]
    fn root_inside_is_nobody_outside() {
        let bundle = bundle(&idle(), 0x4001_0000);
        let mapping = json!([{"containerID": 0, "hostID": 0x4001_0000, "size": 65_536}]);
        assert_eq!(bundle["linux"]["uidMappings"], mapping);
        assert_eq!(bundle["linux"]["gidMappings"], mapping);
        let kinds: Vec<&str> =
            bundle["linux"]["namespaces"].as_array().unwrap().iter().filter_map(|one| one["type"].as_str()).collect();
        assert!(kinds.contains(&"user"));
        assert_eq!(bundle["root"]["readonly"], true);
        assert_eq!(bundle["process"]["noNewPrivileges"], true);
    }

    #[test]
    fn volumes_may_be_shared_and_come_in_order() {
        let directory = |target: &str, read_only| Mount {
            target: target.to_owned(),
            kind: MountKind::Directory { host_path: PathBuf::from("/state/volumes/v") },
            read_only,
        };
        let memory =
            Mount { target: "/dev/shm".to_owned(), kind: MountKind::Tmpfs { size_bytes: 4096 }, read_only: false };
        let spec =
            SandboxSpec { mounts: vec![directory("/data/deep", true), memory, directory("/data", false)], ..idle() };
        let all = mounts(&spec);
        let targets: Vec<&str> = all.as_array().unwrap().iter().filter_map(|one| one["destination"].as_str()).collect();
        assert_eq!(
            targets,
            [
                "/proc",
                "/sys",
                "/dev",
                "/dev/pts",
                "/tmp",
                "/workspace",
                "/home/sandbox",
                "/data",
                "/data/deep",
                "/dev/shm"
            ]
        );
        assert_eq!(all[5]["options"][1], "rw", "the root is read-only, this is not");
        assert_eq!(all[7]["source"], "/rootfs/data");
        assert_eq!(all[8]["options"][1], "ro");
    }

    #[test]
    fn gvisor_has_room_for_its_own_threads() {
        let resources = Resources { pids_max: Some(32), memory_bytes: Some(7), ..Resources::default() };
        let outer = outer_resources(&resources);
        assert_eq!((outer.pids_max, outer.memory_bytes), (Some(2048 + 6 * 32), Some(7)));
        assert!(outer_resources(&Resources::default()).pids_max.unwrap() > DEFAULT_PIDS_MAX);
    }
}
