//! Benches in a directory: commands run on this machine, with a ledger of keys that outlives the orchestrator as the
//! guest's does. `/workspace` in paths and commands means the bench's own directory.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_engine::SandboxIdentity;
use atoll_orchestrator::workbench::{
    Bench, BenchCommand, BenchError, BenchExit, BenchOrder, KeyState, OutputFn, OutputStream, Workbench,
};

/// Runs a command once per key: making the directory decides who runs it.
const ONCE: &str = r#"
exec 2>/dev/null
if ! mkdir "$1" 2>/dev/null; then [ -n "$3" ] || exit 0; fi
ledger=$1; limit=$2; shift 3
echo $$ > "$ledger/pid"
timeout -s KILL "$limit" "$@" > "$ledger/out" 2>&1 < /dev/null
echo $? > "$ledger/exit.new"
mv "$ledger/exit.new" "$ledger/exit"
"#;

#[derive(Clone)]
pub(super) struct LocalWorkbench {
    root: PathBuf,
    /// Runs a command again although its key was used: what must not happen.
    forgetful: bool,
}

impl LocalWorkbench {
    pub(super) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), forgetful: false }
    }

    pub(super) fn forgetful(mut self) -> Self {
        self.forgetful = true;
        self
    }

    /// How many benches there are.
    pub(super) fn count(&self) -> usize {
        fs::read_dir(&self.root).map_or(0, Iterator::count)
    }

    /// Ends the life of every bench and begins another: nothing of before is left.
    pub(super) fn restart_all(&self) {
        for entry in fs::read_dir(&self.root).expect("readable").flatten() {
            let bench = LocalBench { directory: entry.path(), forgetful: false };
            let next = bench.incarnation() + 1;
            bench.kill_all();
            for part in ["workspace", "ledger"] {
                fs::remove_dir_all(entry.path().join(part)).expect("it can be removed");
                fs::create_dir_all(entry.path().join(part)).expect("it can be made");
            }
            fs::write(entry.path().join("incarnation"), next.to_string()).expect("it can be written");
        }
    }
}

#[async_trait]
impl Workbench for LocalWorkbench {
    async fn open(&self, order: &BenchOrder) -> Result<Arc<dyn Bench>, BenchError> {
        let directory = self.root.join(format!("{}-{}", order.run_id, order.agent));
        for part in ["workspace", "ledger"] {
            fs::create_dir_all(directory.join(part)).map_err(|error| refused(&error))?;
        }
        Ok(Arc::new(LocalBench { directory, forgetful: self.forgetful }))
    }

    async fn release(&self, run_id: &str) -> Result<(), BenchError> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Ok(()) };
        for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(run_id)) {
            LocalBench { directory: entry.path(), forgetful: false }.kill_all();
            // A command that is just dying may still put a file there.
            for _ in 0..20 {
                if fs::remove_dir_all(entry.path()).is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }
}

struct LocalBench {
    directory: PathBuf,
    forgetful: bool,
}

fn refused(error: &std::io::Error) -> BenchError {
    match error.kind() {
        ErrorKind::NotFound => BenchError::NotFound { message: error.to_string() },
        _ => BenchError::Refused { message: error.to_string() },
    }
}

impl LocalBench {
    fn incarnation(&self) -> u64 {
        fs::read_to_string(self.directory.join("incarnation")).ok().and_then(|text| text.parse().ok()).unwrap_or(1)
    }

    fn here(&self, text: &str) -> String {
        text.replace("/workspace", &self.directory.join("workspace").to_string_lossy())
    }

    fn ledger(&self, key: &str) -> PathBuf {
        let name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        self.directory.join("ledger").join(name)
    }

    fn kill_all(&self) {
        for entry in fs::read_dir(self.directory.join("ledger")).into_iter().flatten().flatten() {
            kill_tree(&entry.path());
        }
    }
}

fn kill_tree(ledger: &Path) {
    let Ok(pid) = fs::read_to_string(ledger.join("pid")) else { return };
    // `timeout` puts its command into a group of its own, below the session that the script leads.
    let _ended = Command::new("pkill").args(["-KILL", "-s", pid.trim()]).status();
}

#[async_trait]
impl Bench for LocalBench {
    async fn identity(&self) -> Result<SandboxIdentity, BenchError> {
        let name = self.directory.file_name().expect("it has a name").to_string_lossy().into_owned();
        Ok(SandboxIdentity { uid: format!("uid-{name}"), name, incarnation: self.incarnation() })
    }

    async fn exec(&self, command: &BenchCommand, output: OutputFn<'_>) -> Result<BenchExit, BenchError> {
        let ledger = self.ledger(&command.key);
        let limit = format!("{}", command.timeout_ms as f64 / 1000.0);
        let status = Command::new("setsid")
            .args(["--fork", "/bin/sh", "-c", ONCE, "sh"])
            .arg(&ledger)
            .arg(&limit)
            .arg(if self.forgetful { "again" } else { "" })
            .args(command.argv.iter().map(|argument| self.here(argument)))
            .envs(command.env.iter().map(|(name, value)| (name, self.here(value))))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .current_dir(self.here(&command.cwd))
            .status()
            .map_err(|error| refused(&error))?;
        assert!(status.success(), "setsid works");
        let exit = loop {
            match fs::read_to_string(ledger.join("exit")) {
                Ok(exit) => break exit,
                Err(_) if !self.directory.exists() => return Err(BenchError::Broken { message: "gone".to_owned() }),
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        };
        output(OutputStream::Stdout, &fs::read(ledger.join("out")).map_err(|error| refused(&error))?);
        let code = exit.trim().parse().expect("a number");
        // `timeout` reports 128+9 when it had to kill.
        Ok(BenchExit { code, timed_out: code == 137, ..BenchExit::default() })
    }

    async fn lookup(&self, key: &str) -> Result<KeyState, BenchError> {
        let ledger = self.ledger(key);
        Ok(match (ledger.exists(), ledger.join("exit").exists()) {
            (false, _) => KeyState::Unknown,
            (true, false) => KeyState::Running,
            (true, true) => KeyState::Exited,
        })
    }

    async fn kill(&self, key: &str) -> Result<(), BenchError> {
        kill_tree(&self.ledger(key));
        Ok(())
    }

    async fn read_file(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, BenchError> {
        let bytes = fs::read(self.here(path)).map_err(|error| refused(&error))?;
        let size = bytes.len() as u64;
        if size > bytes_max { Err(BenchError::TooLarge { size, limit: bytes_max }) } else { Ok(bytes) }
    }

    async fn write_file(&self, path: &str, content: &[u8]) -> Result<(), BenchError> {
        let path = PathBuf::from(self.here(path));
        fs::create_dir_all(path.parent().expect("a directory")).map_err(|error| refused(&error))?;
        let new = path.with_extension("new");
        fs::write(&new, content).and_then(|()| fs::rename(&new, &path)).map_err(|error| refused(&error))
    }
}
