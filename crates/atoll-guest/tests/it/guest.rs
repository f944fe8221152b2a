//! A guest started for one test, and a client for its socket.
#![expect(unsafe_code, reason = "descriptors are handed to the guest by number")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use atoll_guest::protocol::{
    CONFIG_FD_ENV, ClientMessage, ErrorCode, ErrorReply, ExecRequest, Exit, Frame, FrameKind, GuestConfig,
    LISTEN_FD_ENV, Request, SESSION_PATH, ServerMessage, Started, UPGRADE_TOKEN, User, read_frame, write_frame,
    write_json,
};

/// Nobody else on the machine has this id, so that nothing but the test's own processes is counted or signalled.
pub(super) const USER_ID: u32 = 41_017;

/// A Python program whose processes all keep forking others that leave its session. It limits itself, in number and in
/// time, so that a limit or a kill that does not hold costs a failed test and not the machine.
pub(super) const FORKING: &str = "import os, resource, time
soft = resource.getrlimit(resource.RLIMIT_NPROC)[0]
limit = 200 if soft < 0 else min(200, soft)
resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
end = time.monotonic() + 30
while time.monotonic() < end:
    try:
        if os.fork() == 0:
            os.setsid()
    except OSError:
        time.sleep(0.001)
";

/// Longest wait for something that must happen; only a failing test waits so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How a guest is started.
pub(super) struct Setup {
    pub(super) config: GuestConfig,
    /// In a process-id namespace of its own, as PID 1.
    pub(super) as_pid_1: bool,
    pub(super) environment: BTreeMap<String, String>,
}

impl Setup {
    /// A guest as an ordinary process of the machine.
    pub(super) fn plain() -> Self {
        let mut config = GuestConfig::idle("test-sandbox", 7);
        config.exec_user = User { uid: USER_ID, gid: USER_ID, groups: vec![] };
        Self { config, as_pid_1: false, environment: BTreeMap::new() }
    }

    /// A guest as PID 1 of namespaces of its own.
    pub(super) fn pid_1() -> Self {
        Self { as_pid_1: true, ..Self::plain() }
    }

    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.config.exec_env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(super) fn workload<const N: usize>(mut self, argv: [&str; N]) -> Self {
        self.config.workload = Some(atoll_guest::protocol::Workload {
            argv: argv.map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            cwd: None,
            user: self.config.exec_user.clone(),
            stdin: false,
        });
        self
    }

    /// Starts it, or says why this test can not run here.
    pub(super) fn start(self, test: &str) -> Option<Guest> {
        if let Some(reason) = self.missing() {
            println!("SKIPPED {test}: {reason}");
            return None;
        }
        Some(Guest::start(self))
    }

    fn missing(&self) -> Option<&'static str> {
        if !is_root() {
            return Some("needs root");
        }
        if self.as_pid_1 {
            let tried = Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).output();
            if !tried.is_ok_and(|output| output.status.success()) {
                return Some("unshare(1) can not make a process-id namespace here");
            }
        }
        None
    }
}

pub(super) fn is_root() -> bool {
    // SAFETY: no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// A running guest. Dropping it kills it and all its processes.
pub(super) struct Guest {
    child: Child,
    dir: tempfile::TempDir,
    pub(super) pid_is_1_inside: bool,
}

impl Guest {
    fn start(mut setup: Setup) -> Self {
        let dir = tempfile::Builder::new().prefix("sandbox-test").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let base = dir.path().join("base");
        std::fs::create_dir(&base).unwrap();
        std::os::unix::fs::chown(&base, Some(USER_ID), Some(USER_ID)).unwrap();
        if setup.config.base_dir == "/workspace" {
            setup.config.base_dir = base.to_str().unwrap().to_owned();
        }
        let listener = UnixListener::bind(dir.path().join("guest.sock")).unwrap();
        let config = serde_json::to_vec(&setup.config).unwrap();
        let child = launch(&setup, &config, &listener, &dir.path().join("output"));
        Self { child, dir, pid_is_1_inside: setup.as_pid_1 }
    }

    pub(super) fn base(&self) -> PathBuf {
        self.dir.path().join("base")
    }

    /// What the guest and its workload wrote.
    pub(super) fn output(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("output")).unwrap()
    }

    /// Process id of the guest on the machine.
    pub(super) fn pid(&self) -> i32 {
        let started = i32::try_from(self.child.id()).unwrap();
        if !self.pid_is_1_inside {
            return started;
        }
        // What was started is unshare(1); the guest is its child.
        eventually("the guest is unshare's child", || {
            let children = std::fs::read_to_string(format!("/proc/{started}/task/{started}/children")).ok()?;
            children.split_ascii_whitespace().next()?.parse().ok()
        })
    }

    pub(super) fn signal(&self, signal: i32) {
        // SAFETY: sends a signal to a process that this test started and has not waited for.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
    }

    pub(super) fn wait(&mut self) -> ExitStatus {
        eventually("the guest ends", || self.child.try_wait().unwrap())
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(super) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.dir.path().join("guest.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes and reads until the guest closes or has sent a whole answer.
    pub(super) fn http(&self, request: &[u8]) -> HttpAnswer {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        read_answer(&mut stream)
    }

    pub(super) fn get(&self, path: &str) -> HttpAnswer {
        self.http(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
    }

    pub(super) fn post_json(&self, path: &str, json: &serde_json::Value) -> HttpAnswer {
        let body = json.to_string();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        self.http(format!("{head}{body}").as_bytes())
    }

    /// Runs a command through `/execute`.
    pub(super) fn execute(&self, command: &str) -> serde_json::Value {
        let answer = self.post_json("/execute", &serde_json::json!({"command": command}));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Begins a session.
    pub(super) fn session(&self, request: &Request) -> Session {
        let mut stream = self.connect();
        write!(
            stream,
            "GET {SESSION_PATH} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: {UPGRADE_TOKEN}\r\n\r\n"
        )
        .unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let mut session = Session { stream };
        session.send(request);
        session
    }

    /// The only message of an answer.
    pub(super) fn ask(&self, request: &Request) -> ServerMessage {
        self.session(request).message()
    }

    pub(super) fn refusal(&self, request: &Request) -> ErrorReply {
        match self.ask(request) {
            ServerMessage::Error(reply) => reply,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(super) fn exec(&self, request: ExecRequest) -> (Started, Session) {
        let mut session = self.session(&Request::Exec(request));
        match session.message() {
            ServerMessage::Started(started) => (started, session),
            other => panic!("not started: {other:?}"),
        }
    }

    /// Runs a shell script to its end.
    pub(super) fn shell(&self, script: &str) -> Finished {
        self.exec(ExecRequest::new(["/bin/sh", "-c", script])).1.finish()
    }

    /// Processes of the test's user that live below the guest, by what is seen from outside.
    pub(super) fn processes(&self) -> Vec<i32> {
        let top = self.pid();
        let parents: BTreeMap<i32, (i32, bool)> = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| {
                let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
                let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
                let alive = !field("State:\t")?.starts_with(['Z', 'X']);
                Some((pid, (field("PPid:\t")?.parse().ok()?, alive)))
            })
            .collect();
        let is_below = |mut pid: i32| {
            while let Some((parent, _)) = parents.get(&pid) {
                if *parent == top {
                    return true;
                }
                pid = *parent;
            }
            false
        };
        parents.iter().filter(|(pid, (_, alive))| *alive && is_below(**pid)).map(|(pid, _)| *pid).collect()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- the guest wrote:\n{}---", self.output());
        }
        // With PID 1 its whole namespace ends; an ordinary guest's processes are ended before it.
        while !self.pid_is_1_inside && self.is_running() {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for pid in left {
                // SAFETY: a process that this test started.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(setup: &Setup, config: &[u8], listener: &UnixListener, output: &Path) -> Child {
    let binary = std::env::var_os("ATOLL_GUEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_atoll-guest").into());
    let mut command = if setup.as_pid_1 {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--ipc", "--uts"]).arg(binary);
        command
    } else {
        Command::new(binary)
    };
    // SAFETY: the name is a C string; the descriptor returned is new.
    let memory = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"config".as_ptr(), libc::MFD_CLOEXEC)) };
    let mut memory = std::fs::File::from(memory);
    memory.write_all(config).unwrap();
    std::io::Seek::rewind(&mut memory).unwrap();
    let output = std::fs::File::create(output).unwrap();
    let fds = [memory.as_raw_fd(), listener.as_raw_fd()];
    command
        .arg("init")
        .env(CONFIG_FD_ENV, fds[0].to_string())
        .env(LISTEN_FD_ENV, fds[1].to_string())
        .envs(&setup.environment)
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output);
    // SAFETY: between fork and exec only fcntl is called.
    unsafe {
        command.pre_exec(move || {
            for fd in fds {
                if libc::fcntl(fd, libc::F_SETFD, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        })
    };
    command.spawn().unwrap()
}

/// An HTTP answer.
#[derive(Debug)]
pub(super) struct HttpAnswer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl HttpAnswer {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(super) fn read_answer(stream: &mut UnixStream) -> HttpAnswer {
    let head = read_head(stream);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    HttpAnswer { status, head, body }
}

fn read_head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            end => panic!("{end:?} after {:?}", String::from_utf8_lossy(&head)),
        }
    }
    String::from_utf8(head).unwrap()
}

/// A session in progress. Dropping it disconnects.
pub(super) struct Session {
    pub(super) stream: UnixStream,
}

/// A command that ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) exit: Exit,
}

impl Session {
    pub(super) fn send<T: serde::Serialize>(&mut self, message: &T) {
        write_json(&mut self.stream, message).unwrap();
    }

    pub(super) fn send_bytes(&mut self, kind: FrameKind, bytes: &[u8]) {
        write_frame(&mut self.stream, kind, bytes).unwrap();
    }

    pub(super) fn kill(&mut self) {
        self.send(&ClientMessage::Kill {});
    }

    pub(super) fn frame(&mut self) -> Option<Frame> {
        read_frame(&mut self.stream).unwrap()
    }

    pub(super) fn message(&mut self) -> ServerMessage {
        let frame = self.frame().expect("a message");
        assert_eq!(frame.kind, FrameKind::Control, "{frame:?}");
        serde_json::from_slice(&frame.payload).unwrap()
    }

    /// Output until the text has been seen in it.
    pub(super) fn read_until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            let frame = self.frame().unwrap_or_else(|| panic!("ended after {seen:?}"));
            assert_ne!(frame.kind, FrameKind::Control, "{seen:?} and then {}", String::from_utf8_lossy(&frame.payload));
            seen.push_str(&String::from_utf8_lossy(&frame.payload));
        }
        seen
    }

    /// All output, and the end.
    pub(super) fn finish(&mut self) -> Finished {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            let frame = self.frame().expect("the end of the command");
            match frame.kind {
                FrameKind::Stdout => stdout.extend(frame.payload),
                FrameKind::Stderr => stderr.extend(frame.payload),
                _ => match serde_json::from_slice(&frame.payload).unwrap() {
                    ServerMessage::Exited(exit) => {
                        assert!(self.frame().is_none(), "nothing follows the end");
                        let text = |bytes| String::from_utf8(bytes).unwrap();
                        return Finished { stdout: text(stdout), stderr: text(stderr), exit };
                    }
                    other => panic!("{other:?}"),
                },
            }
        }
    }
}

/// Repeats until there is an answer; fails loudly after long patience.
pub(super) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let pause = Duration::from_millis(5);
    for _ in 0..PATIENCE.as_millis() / pause.as_millis() {
        if let Some(found) = attempt() {
            return found;
        }
        std::thread::sleep(pause);
    }
    panic!("never happened: {what}");
}

pub(super) fn assert_refused(refusal: &ErrorReply, code: ErrorCode, message: &str) {
    assert_eq!(refusal.code, code, "{refusal:?}");
    assert!(refusal.message.contains(message), "{refusal:?}");
}

/// A python3 that the test's user can run.
pub(super) fn has_python() -> bool {
    Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success())
}
