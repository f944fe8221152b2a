//! A plane as far as sandboxes are concerned: a state directory, a launcher, a driver, and a network of its own that
//! stands for the machine's, so that tests disturb neither the machine nor each other.

use std::future::Future;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use atoll_rt::TaskGroup;
use atoll_sandbox::{LauncherConfig, RunningSandbox, SandboxDriver, SandboxSpec, Tier, Workload};

use crate::guest::Guest;

mod build {
    include!("../../../atoll-guest/build_static.rs");
}

/// The plane's user: any id that nobody has.
pub(crate) const PLANE_ID: u32 = 64_741;

pub(crate) struct Plane {
    pub(crate) driver: SandboxDriver,
    pub(crate) launcher: Child,
    pub(crate) runtime: tokio::runtime::Runtime,
    directory: tempfile::TempDir,
    group: TaskGroup,
}

/// Runs `test` on a thread with a network namespace of its own, in which only loopback is up.
pub(crate) fn in_own_network<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let handle = scope.spawn(|| {
            own_network();
            test()
        });
        match handle.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[expect(unsafe_code, reason = "unshare can pull descriptor tables apart; not with the one flag used here")]
fn own_network() {
    // SAFETY: no descriptor table is unshared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("a network namespace");
    // RTM_NEWLINK for interface 1, flag and change mask "up".
    netlink(&[32, 0x0005_0010, 1, 0, 0, 1, 1, 1]);
}

/// Asks the kernel for one change of this thread's network, which must work: so that no program is needed. The message
/// is given in words, with the flag that asks for an acknowledgement.
fn netlink(message: &[u32]) {
    let request: Vec<u8> = message.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let kind = rustix::net::SocketType::RAW;
    let socket = rustix::net::socket(rustix::net::AddressFamily::NETLINK, kind, None).unwrap();
    rustix::net::send(&socket, &request, rustix::net::SendFlags::empty()).unwrap();
    let mut answer = [0; 64];
    rustix::net::recv(&socket, &mut answer[..], rustix::net::RecvFlags::empty()).unwrap();
    assert_eq!(answer[16..20], [0; 4], "the kernel makes the change");
}

/// The guest, built once.
fn guest_binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build::build_static_guest().expect("the guest builds"))
}

/// The runsc of these tests: `cargo xtask test` makes one.
pub(crate) fn runsc() -> Option<PathBuf> {
    std::env::var_os("ATOLL_TEST_RUNSC").map(PathBuf::from)
}

/// A plane with everything fresh, in a network of its own.
pub(crate) fn with_plane<T: Send>(test: impl FnOnce(&mut Plane) -> T + Send) -> T {
    in_own_network(|| test(&mut Plane::start()))
}

/// Runs `test` once for each tier that there is here.
pub(crate) fn in_every_tier(name: &str, test: impl Fn(&mut Plane, Tier) + Sync) {
    with_plane(|plane| test(plane, Tier::Native));
    if runsc().is_some() {
        with_plane(|plane| test(plane, Tier::Gvisor));
    } else {
        println!("SKIPPED {name} in gvisor: no runsc (tools/gvisor/build makes one)");
    }
}

/// The same sandbox in a tier.
pub(crate) fn of(tier: Tier, spec: SandboxSpec) -> SandboxSpec {
    SandboxSpec { tier, ..spec }
}

impl Plane {
    pub(crate) fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("atoll-it-").tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let guest = directory.path().join("atoll-guest");
        std::fs::copy(guest_binary(), &guest).unwrap();
        std::fs::set_permissions(&guest, std::fs::Permissions::from_mode(0o755)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let group = TaskGroup::new("test");
        let (launcher, driver) = launch(directory.path(), &runtime, &group);
        Self { driver, launcher, runtime, directory, group }
    }

    pub(crate) fn state_dir(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Makes a sandbox, which must work.
    pub(crate) fn create(&self, spec: SandboxSpec) -> RunningSandbox {
        self.run(self.driver.create(spec)).unwrap_or_else(|error| panic!("{}", atoll_stdx::chain(&error)))
    }

    pub(crate) fn guest(&self, sandbox: &RunningSandbox) -> Guest {
        Guest::new(&sandbox.guest_socket)
    }

    /// Kills the launcher, as with its plane.
    pub(crate) fn kill_launcher(&mut self) {
        self.launcher.kill().unwrap();
        self.launcher.wait().unwrap();
    }

    /// A new launcher on the same state directory.
    pub(crate) fn restart(&mut self) {
        self.group.cancel();
        self.group = TaskGroup::new("test");
        let (launcher, driver) = launch(self.directory.path(), &self.runtime, &self.group);
        self.launcher = launcher;
        self.driver = driver;
    }

    /// The workload's log, once it holds `wanted`.
    pub(crate) fn log_with(&self, id: &str, wanted: &str) -> String {
        let path = self.driver.logs_path(id);
        let mut text = String::new();
        let found = eventually(|| {
            text = std::fs::read_to_string(&path).unwrap_or_default();
            text.contains(wanted)
        });
        assert!(found, "the log lacks {wanted:?}: {text}");
        text
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        let ids: Vec<String> =
            self.run(self.driver.list()).unwrap_or_default().into_iter().map(|record| record.id).collect();
        for id in ids {
            let _ = self.run(self.driver.destroy(&id, 0));
        }
        self.group.cancel();
        let stopped = eventually(|| {
            self.run(async { tokio::time::sleep(Duration::from_millis(1)).await });
            self.launcher.try_wait().is_ok_and(|status| status.is_some())
        });
        if !stopped {
            let _ = self.launcher.kill();
            let _ = self.launcher.wait();
        }
    }
}

fn launch(state_dir: &Path, runtime: &tokio::runtime::Runtime, group: &TaskGroup) -> (Child, SandboxDriver) {
    let config = LauncherConfig {
        state_dir: state_dir.to_owned(),
        guest_binary: state_dir.join("atoll-guest"),
        plane_uid: PLANE_ID,
        plane_gid: PLANE_ID,
        runsc: runsc(),
        make_ahead: true,
    };
    let process =
        SandboxDriver::spawn_launcher(&std::env::current_exe().unwrap(), crate::LAUNCHER_ARGUMENT, &config).unwrap();
    let _entered = runtime.enter();
    let driver =
        SandboxDriver::connect(process.socket, group).unwrap_or_else(|error| panic!("{}", atoll_stdx::chain(&error)));
    (process.child, driver)
}

/// Looks again and again, for as long as a slow machine may take.
pub(crate) fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// An idle sandbox; each number another one.
pub(crate) fn idle(number: u8) -> SandboxSpec {
    SandboxSpec::idle(&format!("sandbox-{number}"), Ipv4Addr::new(10, 201, 7, number))
}

/// A sandbox that runs a shell script.
pub(crate) fn script(number: u8, script: &str) -> SandboxSpec {
    let workload = Workload {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        cwd: None,
        user: atoll_sandbox::User::default(),
    };
    SandboxSpec { workload: Some(workload), ..idle(number) }
}
