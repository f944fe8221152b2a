//! The native tier: turns a specification into the plan that a supervisor follows. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use atoll_guest::protocol::{GuestConfig, PROTOCOL_VERSION, ProcessLimits};
use atoll_guest::supervisor::{Access, Content, FileIdentity, LOG_BYTES_MAX, PLAN_VERSION, Plan, Step};

use crate::image::HostImage;
use crate::share::Share;
use crate::spec::{DEFAULT_PIDS_MAX, Mount, MountKind, ROUTER_ADDRESS, SandboxSpec, User};

const MIB: u64 = 1024 * 1024;
/// The root itself holds little: directories, links, generated files.
const ROOT_BYTES: u64 = 16 * MIB;
const ROOT_INODES: u64 = 16 * 1024;
const DEV_BYTES: u64 = 64 * 1024;
const DEV_INODES: u64 = 64;
pub(crate) const SHM_BYTES: u64 = 64 * MIB;
/// `/tmp` of a sandbox without a memory limit.
const TMP_BYTES: u64 = 512 * MIB;
const TMPFS_INODES: u64 = 64 * 1024;
const PAGE_BYTES: u64 = 4096;

/// Directory on disk of the base directory, and of the home directory, among a sandbox's volumes. No name of a
/// specification begins like this.
pub const BASE_VOLUME: &str = "-workspace";
/// See [`BASE_VOLUME`].
pub const HOME_VOLUME: &str = "-home";

/// Directory of an image's files within its own.
pub const IMAGE_FILES: &str = "rootfs";

/// Where copies of the machine's files are, within `/etc`.
const ETC_COPIES: &str = ".host";

const USER_NAME: &str = "sandbox";
const NOBODY_ID: u32 = 65_534;

/// What of `/proc` is hidden: the machine's memory, keys, symbols, timers and hardware.
const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/cmdline",
    "/proc/config.gz",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/modules",
    "/proc/scsi",
    "/proc/sched_debug",
    "/proc/timer_list",
];
/// What of `/proc` cannot be written, whoever asks.
const UNWRITABLE: [&str; 6] =
    ["/proc/bus", "/proc/driver", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Character devices: name, major and minor number.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const DEV_LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// What a plan depends on besides the specification.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// The host image.
    pub image: &'a HostImage,
    /// The files of the image that the specification names; `None` for the host image.
    pub kept_image: Option<&'a Path>,
    /// Where images are, by their ids.
    pub images_dir: &'a Path,
    /// What root shares, by name: all that the specification mounts.
    pub shares: &'a BTreeMap<String, Share>,
    /// The sandbox's own directory on the machine.
    pub sandbox_dir: &'a Path,
    /// First id of its range.
    pub id_base: u32,
    /// Who may read logs.
    pub plane_gid: u32,
    /// Which life of the sandbox this is.
    pub incarnation: u64,
    /// Whether somebody else mounts processes, terminals and devices: then they are left out.
    pub own_kernel: bool,
}

/// A directory on disk that a sandbox wants before it starts; owners are ids inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnDirectory {
    /// Name among the sandbox's volumes.
    pub name: String,
    /// Owner.
    pub user: User,
    /// Permission bits.
    pub mode: u32,
}

/// Directories on disk that live as long as the sandbox.
#[must_use]
pub fn own_directories(spec: &SandboxSpec) -> Vec<OwnDirectory> {
    let mut directories = Vec::new();
    let for_user = |name: &str| OwnDirectory { name: name.to_owned(), user: spec.exec_user.clone(), mode: 0o755 };
    if !is_mounted(spec, &spec.base_dir) {
        directories.push(for_user(BASE_VOLUME));
    }
    if !is_mounted(spec, &home(&spec.exec_user)) {
        directories.push(for_user(HOME_VOLUME));
    }
    for mount in &spec.mounts {
        if let MountKind::EmptyDir { name } = &mount.kind {
            let root = User { uid: 0, gid: 0, groups: Vec::new() };
            // As Kubernetes makes them: for every user of the sandbox.
            directories.push(OwnDirectory { name: name.clone(), user: root, mode: 0o777 });
        }
    }
    directories
}

/// Whether a mount of the specification provides `path`.
fn is_mounted(spec: &SandboxSpec, path: &str) -> bool {
    spec.mounts.iter().any(|mount| Path::new(path).starts_with(&mount.target)) || Path::new(path).starts_with("/tmp")
}

/// The base directory and the home, where nothing else provides them.
pub(crate) fn own_paths(spec: &SandboxSpec) -> Vec<String> {
    [spec.base_dir.clone(), home(&spec.exec_user)].into_iter().filter(|path| !is_mounted(spec, path)).collect()
}

fn home(user: &User) -> String {
    if user.uid == 0 { "/root".to_owned() } else { format!("/home/{USER_NAME}") }
}

/// The plan, and the bytes that its files refer to.
#[must_use]
pub fn plan(spec: &SandboxSpec, around: &Surroundings<'_>) -> (Plan, Vec<u8>) {
    let mut builder = Builder {
        steps: Vec::new(),
        blobs: Vec::new(),
        sandbox_dir: around.sandbox_dir.to_owned(),
        own_kernel: around.own_kernel,
    };
    match around.kept_image {
        Some(files) => builder.kept_image(spec, files),
        None => {
            builder.root(around.image);
            builder.etc(spec, around.image);
        }
    }
    if !around.own_kernel {
        builder.devices();
        builder.processes();
    }
    builder.memory("/tmp", tmp_bytes(spec));
    builder.own(spec);
    let mut mounts: Vec<&Mount> = spec.mounts.iter().collect();
    // A mount within another comes after it.
    mounts.sort_by_key(|mount| mount.target.split('/').count());
    for mount in mounts {
        builder.mount(mount, &spec.exec_user, around);
    }
    let plan = Plan {
        version: PLAN_VERSION,
        id_base: around.id_base,
        supervisor_gid: around.plane_gid,
        hostname: spec.hostname.clone(),
        root_mount_point: around.sandbox_dir.join("root").to_string_lossy().into_owned(),
        steps: builder.steps,
        read_only_root: spec.read_only_root,
        guest_config: guest_config(spec, around),
        log_bytes_max: LOG_BYTES_MAX,
        runsc: None,
    };
    (plan, builder.blobs)
}

/// Size of `/tmp`.
pub(crate) fn tmp_bytes(spec: &SandboxSpec) -> u64 {
    spec.resources.memory_bytes.map_or(TMP_BYTES, |bytes| bytes / 2).max(PAGE_BYTES)
}

fn guest_config(spec: &SandboxSpec, around: &Surroundings<'_>) -> String {
    let user = |user: &User| atoll_guest::protocol::User { uid: user.uid, gid: user.gid, groups: user.groups.clone() };
    let mut limits = ProcessLimits::default();
    if let Some(nofile) = spec.resources.nofile {
        limits.nofile = nofile;
    }
    if around.own_kernel {
        // Otherwise the machine counts the sandbox's processes.
        limits.nproc = Some(spec.resources.pids_max.unwrap_or(DEFAULT_PIDS_MAX));
    }
    let config = GuestConfig {
        protocol: PROTOCOL_VERSION,
        sandbox_id: spec.id.clone(),
        incarnation: around.incarnation,
        workload: spec.workload.as_ref().map(|workload| atoll_guest::protocol::Workload {
            argv: workload.argv.clone(),
            env: workload.env.clone(),
            cwd: workload.cwd.clone(),
            user: user(&workload.user),
            stdin: false,
        }),
        exec_user: user(&spec.exec_user),
        exec_env: spec.env.clone(),
        base_dir: spec.base_dir.clone(),
        termination_grace_ms: spec.termination_grace_ms,
        limits,
        writable_paths: (!around.own_kernel).then(|| writable_paths(spec)),
    };
    serde_json::to_string(&config).expect("maps with text keys serialize")
}

/// Below which the sandbox may write.
fn writable_paths(spec: &SandboxSpec) -> Vec<String> {
    if !spec.read_only_root {
        return vec!["/".to_owned()];
    }
    let own = [spec.base_dir.clone(), home(&spec.exec_user), "/tmp".to_owned(), "/dev".to_owned()];
    let mounts = spec.mounts.iter().filter(|mount| !mount.read_only).map(|mount| mount.target.clone());
    let is_read_only = |path: &String| {
        // The innermost mount decides.
        let around = spec.mounts.iter().filter(|mount| Path::new(path).starts_with(&mount.target));
        around.max_by_key(|mount| mount.target.len()).is_some_and(|mount| mount.read_only)
    };
    own.into_iter().filter(|path| !is_read_only(path)).chain(mounts).collect()
}

const READ_ONLY: Access = Access { read_only: true, no_devices: true, no_exec: false };

struct Builder {
    steps: Vec<Step>,
    blobs: Vec<u8>,
    sandbox_dir: PathBuf,
    own_kernel: bool,
}

impl Builder {
    fn directory(&mut self, path: &str, mode: u32) {
        self.steps.push(Step::Directory { path: path.to_owned(), mode, owner: 0 });
    }

    fn link(&mut self, path: impl Into<String>, target: impl Into<String>) {
        self.steps.push(Step::Symlink { path: path.into(), target: target.into() });
    }

    fn text(&mut self, path: &str, text: impl Into<String>) {
        self.steps.push(Step::File { path: path.to_owned(), mode: 0o644, content: Content::Text(text.into()) });
    }

    fn bind(&mut self, source: &Path, path: &str, idmapped: bool, access: Access) {
        let source = source.to_string_lossy().into_owned();
        self.steps.push(Step::Bind { source, path: path.to_owned(), idmapped, access });
    }

    fn tmpfs(&mut self, path: &str, size_bytes: u64, mode: u32) {
        let access = Access { read_only: false, no_devices: true, no_exec: false };
        self.steps.push(Step::Tmpfs {
            path: path.to_owned(),
            size_bytes,
            inodes: TMPFS_INODES,
            mode,
            owner: 0,
            access,
        });
    }

    /// Memory for everybody; only its place where the sandbox's own kernel provides it.
    fn memory(&mut self, path: &str, size_bytes: u64) {
        if self.own_kernel {
            self.directory(path, 0o755);
        } else {
            self.tmpfs(path, size_bytes, 0o1777);
        }
    }

    fn root(&mut self, image: &HostImage) {
        let access = Access { read_only: false, no_devices: true, no_exec: false };
        self.steps.push(Step::Tmpfs {
            path: "/".to_owned(),
            size_bytes: ROOT_BYTES,
            inodes: ROOT_INODES,
            mode: 0o755,
            owner: 0,
            access,
        });
        self.bind(Path::new("/usr"), "/usr", false, READ_ONLY);
        for (name, target) in &image.top {
            match target {
                Some(target) => self.link(format!("/{name}"), target),
                None => self.bind(&Path::new("/").join(name), &format!("/{name}"), false, READ_ONLY),
            }
        }
        for path in ["/etc", "/home", "/mnt", "/opt", "/proc", "/run", "/srv", "/sys", "/var", "/var/lib", "/var/log"] {
            self.directory(path, 0o755);
        }
        if self.own_kernel {
            self.directory("/dev", 0o755);
        }
        self.directory("/root", 0o700);
        self.link("/var/run", "/run");
        self.link("/var/tmp", "/tmp");
    }

    /// An image has everything but what tells of this one sandbox.
    fn kept_image(&mut self, spec: &SandboxSpec, files: &Path) {
        let source = files.to_string_lossy().into_owned();
        let size_bytes = if spec.read_only_root { ROOT_BYTES } else { tmp_bytes(spec).max(ROOT_BYTES) };
        self.steps.push(Step::ImageRoot { source, size_bytes, inodes: TMPFS_INODES });
        for path in ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"] {
            self.steps.push(Step::Remove { path: path.to_owned() });
        }
        self.place_in_network(spec);
    }

    fn place_in_network(&mut self, spec: &SandboxSpec) {
        self.text("/etc/hostname", format!("{}\n", spec.hostname));
        self.text("/etc/hosts", format!("127.0.0.1 localhost\n{} {}\n", spec.network.address, spec.hostname));
        // The node answers for the names that the sandbox may reach, and tells of no others.
        self.text("/etc/resolv.conf", format!("nameserver {ROUTER_ADDRESS}\noptions timeout:2 attempts:2\n"));
    }

    fn etc(&mut self, spec: &SandboxSpec, image: &HostImage) {
        let no_exec = Access { no_exec: true, ..READ_ONLY };
        self.bind(&image.etc, &format!("/etc/{ETC_COPIES}"), false, no_exec);
        for name in &image.etc_names {
            self.link(format!("/etc/{name}"), format!("{ETC_COPIES}/{name}"));
        }
        let (passwd, group) = accounts(spec);
        self.text("/etc/passwd", passwd);
        self.text("/etc/group", group);
        self.place_in_network(spec);
        self.text("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
        self.link("/etc/mtab", "../proc/self/mounts");
    }

    fn devices(&mut self) {
        let access = Access { read_only: false, no_devices: false, no_exec: true };
        self.steps.push(Step::Tmpfs {
            path: "/dev".to_owned(),
            size_bytes: DEV_BYTES,
            inodes: DEV_INODES,
            mode: 0o755,
            owner: 0,
            access,
        });
        for (name, major, minor) in DEVICES {
            self.steps.push(Step::Device { path: format!("/dev/{name}"), major, minor });
        }
        for (path, target) in DEV_LINKS {
            self.link(path, target);
        }
        self.steps.push(Step::Devpts { path: "/dev/pts".to_owned() });
        self.directory("/dev/shm", 0o755);
        self.steps.push(Step::Seal { path: "/dev".to_owned() });
        self.tmpfs("/dev/shm", SHM_BYTES, 0o1777);
    }

    fn processes(&mut self) {
        self.steps.push(Step::Proc { path: "/proc".to_owned() });
        self.steps.extend(UNWRITABLE.map(|path| Step::ReadOnly { path: path.to_owned() }));
        self.steps.extend(MASKED.map(|path| Step::Mask { path: path.to_owned() }));
    }

    /// The base directory and the home, on disk, where nothing else provides them.
    fn own(&mut self, spec: &SandboxSpec) {
        for (volume, path) in [(BASE_VOLUME, spec.base_dir.clone()), (HOME_VOLUME, home(&spec.exec_user))] {
            if !is_mounted(spec, &path) {
                let source = self.sandbox_dir.join("volumes").join(volume);
                self.bind(&source, &path, true, Access { read_only: false, no_devices: true, no_exec: false });
            }
        }
    }

    fn mount(&mut self, mount: &Mount, user: &User, around: &Surroundings<'_>) {
        let access = Access { read_only: mount.read_only, no_devices: true, no_exec: false };
        match &mount.kind {
            MountKind::Tmpfs { .. } if self.own_kernel => self.directory(&mount.target, 0o755),
            MountKind::Tmpfs { size_bytes } => {
                self.tmpfs(&mount.target, *size_bytes, 0o1777);
                self.seal_if(mount);
            }
            MountKind::EmptyDir { name } => {
                let source = self.sandbox_dir.join("volumes").join(name);
                self.bind(&source, &mount.target, true, access);
            }
            MountKind::Directory { host_path } => self.bind(host_path, &mount.target, true, access),
            MountKind::Files { files, mode } => {
                let content =
                    files.values().map(|bytes| (bytes.0.len() as u64).next_multiple_of(PAGE_BYTES)).sum::<u64>();
                let room = content + (files.len() as u64 + 1) * PAGE_BYTES;
                self.tmpfs(&mount.target, room, 0o755);
                for (name, bytes) in files {
                    let content = Content::Blob { offset: self.blobs.len() as u64, length: bytes.0.len() as u64 };
                    self.blobs.extend_from_slice(&bytes.0);
                    let path = format!("{}/{name}", mount.target);
                    self.steps.push(Step::File { path, mode: *mode, content });
                }
                self.seal_if(mount);
            }
            MountKind::Image { id } => {
                let files = around.images_dir.join(id).join(IMAGE_FILES);
                self.bind(&files, &mount.target, true, Access { no_exec: true, ..READ_ONLY });
            }
            MountKind::Share { name, .. } => {
                self.share(mount, around.shares.get(name).expect("every share of a specification was found"), user);
            }
        }
    }

    fn share(&mut self, mount: &Mount, share: &Share, user: &User) {
        self.steps.push(Step::Share {
            source: share.path.to_string_lossy().into_owned(),
            path: mount.target.clone(),
            identity: FileIdentity { device: share.device, inode: share.inode },
            user: (share.owner, user.uid),
            group: (share.group, user.gid),
            access: Access { read_only: mount.read_only || share.read_only, no_devices: true, no_exec: false },
        });
    }

    fn seal_if(&mut self, mount: &Mount) {
        if mount.read_only {
            self.steps.push(Step::Seal { path: mount.target.clone() });
        }
    }
}

/// `/etc/passwd` and `/etc/group`: root, nobody, and who commands run as.
fn accounts(spec: &SandboxSpec) -> (String, String) {
    let mut passwd = "root:x:0:0:root:/root:/bin/sh\n".to_owned();
    let mut group = "root:x:0:\ntty:x:5:\n".to_owned();
    let workload = spec.workload.as_ref().map(|workload| ("workload", &workload.user));
    let mut seen = vec![(0, 0), (NOBODY_ID, NOBODY_ID)];
    for (name, user) in [(USER_NAME, &spec.exec_user)].into_iter().chain(workload) {
        if seen.iter().all(|(uid, _)| *uid != user.uid) {
            passwd.push_str(&format!("{name}:x:{}:{}::/home/{USER_NAME}:/bin/sh\n", user.uid, user.gid));
        }
        if seen.iter().all(|(_, gid)| *gid != user.gid) {
            group.push_str(&format!("{name}:x:{}:\n", user.gid));
        }
        seen.push((user.uid, user.gid));
    }
    passwd.push_str(&format!("nobody:x:{NOBODY_ID}:{NOBODY_ID}:nobody:/nonexistent:/usr/sbin/nologin\n"));
    group.push_str(&format!("nogroup:x:{NOBODY_ID}:\n"));
    (passwd, group)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::spec::FileBytes;

    fn image() -> HostImage {
        HostImage {
            etc: PathBuf::from("/state/image/etc"),
            etc_names: vec!["ssl".to_owned()],
            top: vec![("bin".to_owned(), Some("usr/bin".to_owned())), ("lib".to_owned(), None)],
        }
    }

    fn plan_of(spec: &SandboxSpec) -> (Plan, Vec<u8>) {
        let image = image();
        let shares = BTreeMap::from([("home".to_owned(), shared())]);
        let around = Surroundings {
            image: &image,
            kept_image: None,
            images_dir: Path::new("/state/images"),
            shares: &shares,
            sandbox_dir: Path::new("/state/sandboxes/a"),
            id_base: 0x4000_0000,
            plane_gid: 7,
            incarnation: 9,
            own_kernel: false,
        };
        plan(spec, &around)
    }

    fn shared() -> Share {
        Share {
            path: PathBuf::from("/home/me"),
            device: 1,
            inode: 2,
            owner: 501,
            group: 20,
            read_only: false,
            pod: "default/box".to_owned(),
        }
    }

    #[test]
    fn a_share_is_for_one_user_and_as_writable_as_both_sides_say() {
        for (asked, granted, expected) in
            [(false, false, false), (true, false, true), (false, true, true), (true, true, true)]
        {
            let kind = MountKind::Share { name: "home".to_owned(), pod: "default/box".to_owned() };
            let mount = Mount { target: "/data".to_owned(), kind, read_only: asked };
            let mut spec = SandboxSpec { mounts: vec![mount], ..idle() };
            spec.exec_user = User { uid: 1000, gid: 100, groups: vec![] };
            let image = image();
            let shares = BTreeMap::from([("home".to_owned(), Share { read_only: granted, ..shared() })]);
            let around = Surroundings {
                image: &image,
                kept_image: None,
                images_dir: Path::new("/state/images"),
                shares: &shares,
                sandbox_dir: Path::new("/state/sandboxes/a"),
                id_base: 0x4000_0000,
                plane_gid: 7,
                incarnation: 9,
                own_kernel: false,
            };
            let (plan, _) = plan(&spec, &around);
            let step = plan.steps.iter().find(|step| matches!(step, Step::Share { .. })).unwrap();
            let access = Access { read_only: expected, no_devices: true, no_exec: false };
            let identity = FileIdentity { device: 1, inode: 2 };
            let (source, path) = ("/home/me".to_owned(), "/data".to_owned());
            assert_eq!(*step, Step::Share { source, path, identity, user: (501, 1000), group: (20, 100), access });
        }
    }

    fn idle() -> SandboxSpec {
        SandboxSpec::idle("a", Ipv4Addr::new(10, 201, 0, 2))
    }

    fn position(plan: &Plan, wanted: impl Fn(&Step) -> bool) -> usize {
        plan.steps.iter().position(wanted).expect("the step is there")
    }

    #[test]
    fn the_machine_is_seen_through_read_only_mounts_alone() {
        let (plan, _) = plan_of(&idle());
        let sources: Vec<(&str, bool, bool)> = plan
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Bind { source, idmapped, access, .. } => Some((source.as_str(), *idmapped, access.read_only)),
                _ => None,
            })
            .collect();
        assert_eq!(
            sources,
            [
                ("/usr", false, true),
                ("/lib", false, true),
                ("/state/image/etc", false, true),
                ("/state/sandboxes/a/volumes/-workspace", true, false),
                ("/state/sandboxes/a/volumes/-home", true, false),
            ]
        );
        assert!(plan.read_only_root);
        assert!(matches!(&plan.steps[0], Step::Tmpfs { path, .. } if path == "/"));
    }

    #[test]
    fn only_dev_has_devices() {
        let (plan, _) = plan_of(&idle());
        for step in &plan.steps {
            match step {
                Step::Tmpfs { path, access, .. } => assert_eq!(access.no_devices, path != "/dev", "{path}"),
                Step::Bind { path, access, .. } => assert!(access.no_devices, "{path}"),
                _ => {}
            }
        }
        let sealed = position(&plan, |step| matches!(step, Step::Seal { path } if path == "/dev"));
        let last_device = plan.steps.iter().rposition(|step| matches!(step, Step::Device { .. })).unwrap();
        assert!(sealed > last_device);
    }

    #[test]
    fn files_are_pointed_to_and_sealed() {
        let files = BTreeMap::from([
            ("a".to_owned(), FileBytes(b"one".to_vec())),
            ("sub/b".to_owned(), FileBytes(b"three".to_vec())),
        ]);
        let mount =
            Mount { target: "/etc/app".to_owned(), kind: MountKind::Files { files, mode: 0o600 }, read_only: true };
        let (plan, blobs) = plan_of(&SandboxSpec { mounts: vec![mount], ..idle() });
        assert_eq!(blobs, b"onethree");
        let file = position(&plan, |step| {
            matches!(step, Step::File { path, mode: 0o600, content: Content::Blob { offset: 3, length: 5 } }
                if path == "/etc/app/sub/b")
        });
        let seal = position(&plan, |step| matches!(step, Step::Seal { path } if path == "/etc/app"));
        assert!(seal > file);
    }

    #[test]
    fn a_mount_provides_the_base_directory_and_comes_before_those_within_it() {
        let mount = |target: &str, name: &str| Mount {
            target: target.to_owned(),
            kind: MountKind::EmptyDir { name: name.to_owned() },
            read_only: false,
        };
        let spec = SandboxSpec { mounts: vec![mount("/workspace/deep/er", "b"), mount("/workspace", "a")], ..idle() };
        let names: Vec<String> = own_directories(&spec).into_iter().map(|directory| directory.name).collect();
        assert_eq!(names, ["-home", "b", "a"]);
        let (plan, _) = plan_of(&spec);
        let at = |wanted: &str| position(&plan, |step| matches!(step, Step::Bind { path, .. } if path == wanted));
        assert!(at("/workspace") < at("/workspace/deep/er"));
    }

    #[test]
    fn accounts_are_the_sandboxs_own() {
        let workload = crate::spec::Workload {
            argv: vec!["true".to_owned()],
            env: BTreeMap::new(),
            cwd: None,
            user: User { uid: 70, gid: 1000, groups: Vec::new() },
        };
        let (passwd, group) = accounts(&SandboxSpec { workload: Some(workload), ..idle() });
        assert_eq!(
            passwd,
            "root:x:0:0:root:/root:/bin/sh\n\
             sandbox:x:1000:1000::/home/sandbox:/bin/sh\n\
             workload:x:70:1000::/home/sandbox:/bin/sh\n\
             nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        );
        assert_eq!(group, "root:x:0:\ntty:x:5:\nsandbox:x:1000:\nnogroup:x:65534:\n");
    }
}
