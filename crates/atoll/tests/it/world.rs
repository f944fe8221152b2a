//! A plane of a test's own, and the command line that talks to it.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Planes run one at a time: what a machine has left over is counted.
static ONE_PLANE: Mutex<()> = Mutex::new(());

/// Says why a test cannot run here. Returns true if it must return.
pub(crate) fn skip_without_root(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return false;
    }
    println!("SKIPPED {test}: making sandboxes needs root");
    true
}

/// A state directory with `atoll` bound to it. Dropping it stops the plane.
pub(crate) struct World {
    dir: tempfile::TempDir,
    runsc: Option<OsString>,
    _guard: MutexGuard<'static, ()>,
}

/// What a command printed and returned.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// Panics with everything that was printed unless the command succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Panics unless the command failed with this code, and an error and a hint that hold these words.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &str, hint: &str) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        let error = self.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(error.contains(words), "{words:?} is not in {:?}", self.stderr);
        assert!(hint.is_empty() || self.stderr.contains(hint), "{hint:?} is not in {:?}", self.stderr);
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl World {
    /// A world without a plane yet.
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let guard = ONE_PLANE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::Builder::new()
            .prefix("atoll-it-")
            .permissions(std::fs::Permissions::from_mode(0o711))
            .tempdir()
            .expect("a temporary directory");
        Self { dir, runsc: None, _guard: guard }
    }

    /// A world without a plane yet, in which gVisor is found; says why not otherwise.
    pub(crate) fn with_gvisor(test: &str) -> Option<Self> {
        let runsc = std::env::var_os("ATOLL_TEST_RUNSC");
        if runsc.is_none() {
            println!("SKIPPED {test}: ATOLL_TEST_RUNSC names no runsc (cargo xtask test makes one)");
        }
        let mut world = Self::new();
        world.runsc = Some(runsc?);
        Some(world)
    }

    /// A world with a plane that plays the conversation of the calculator example.
    pub(crate) fn with_plane() -> Self {
        let world = Self::new();
        world.up(&[]).ok();
        world
    }

    /// Starts the plane, on free ports unless the arguments name some.
    pub(crate) fn up(&self, more: &[&str]) -> Done {
        let mut arguments = vec!["up", "--detach"];
        for port in ["--api-port", "--router-port", "--platform-port", "--policy-port"] {
            if !more.contains(&port) {
                arguments.extend([port, "0"]);
            }
        }
        arguments.extend(more);
        self.atoll(&arguments)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.state().join("kubeconfig")
    }

    /// Where the plane answers, as it told its clients.
    pub(crate) fn plane(&self) -> serde_json::Value {
        let text = std::fs::read(self.state().join("plane.json")).expect("a plane has been started");
        serde_json::from_slice(&text).expect("it is JSON")
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        let pid = self.plane()["pid"].as_i64().expect("it is a number");
        rustix::process::Pid::from_raw(i32::try_from(pid).expect("it fits")).expect("it is not 0")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atoll"));
        command
            .args(arguments)
            .env("ATOLL_STATE_DIR", self.state())
            .env_remove("OPENAI_API_KEY")
            .env_remove("OPENAI_BASE_URL")
            .env_remove("ANTHROPIC_API_KEY")
            .stdin(Stdio::null());
        if let Some(runsc) = &self.runsc {
            command.env("ATOLL_RUNSC", runsc);
        }
        command
    }

    /// Runs `atoll`.
    pub(crate) fn atoll(&self, arguments: &[&str]) -> Done {
        self.command(arguments).output().expect("atoll runs").into()
    }

    /// Runs `atoll` with something on standard input.
    pub(crate) fn atoll_with_input(&self, arguments: &[&str], input: &str) -> Done {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("atoll runs");
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends").into()
    }

    /// Kills the plane with no chance to tidy up, and waits until it is gone.
    pub(crate) fn kill_plane(&self) {
        let pid = self.pid();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("the plane runs");
        eventually("the plane is gone", || {
            std::fs::File::open(self.state().join("lock")).is_ok_and(|lock| lock.try_lock().is_ok())
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A test that failed half-way leaves no plane behind either.
        let _ = self.command(&["down"]).output();
    }
}

/// Waits for something to become true.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "this never came true: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
