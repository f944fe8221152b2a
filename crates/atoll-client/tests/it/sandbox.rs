//! The session client against the real guest, over its socket and through a router.

use std::io::{Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use atoll_client::sandbox::{
    ErrorCode, ExecEvent, ExecRequest, ExecState, FileKind, RouterEndpoint, SandboxConnection, SandboxError,
    SandboxPath, SandboxRef, TerminalSize, User, WriteFileRequest,
};
use atoll_guest::protocol::{CONFIG_FD_ENV, GuestConfig, LISTEN_FD_ENV};
use atoll_rt::TaskGroup;
use atoll_stdx::{Hint as _, Secret, chain};
use rustix::fs::MemfdFlags;
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

const USER_ID: u32 = 41_217;

/// A guest as an ordinary process.
struct Guest {
    child: Child,
    dir: tempfile::TempDir,
}

impl Guest {
    fn start(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED {test}: needs root");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("client-test").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let base = dir.path().join("base");
        std::fs::create_dir(&base).unwrap();
        std::os::unix::fs::chown(&base, Some(USER_ID), Some(USER_ID)).unwrap();
        let mut config = GuestConfig::idle("client-test", 3);
        config.base_dir = base.to_str().unwrap().to_owned();
        config.exec_user = User { uid: USER_ID, gid: USER_ID, groups: vec![] };
        let listener = UnixListener::bind(dir.path().join("guest.sock")).unwrap();
        let child = launch(&serde_json::to_vec(&config).unwrap(), listener.into());
        Some(Self { child, dir })
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("guest.sock")
    }

    fn connection(&self) -> SandboxConnection {
        SandboxConnection::over_unix(self.socket())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Asked politely, an idle guest ends all that it started.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

fn launch(config: &[u8], listener: OwnedFd) -> Child {
    let memory = rustix::fs::memfd_create("config", MemfdFlags::CLOEXEC).unwrap();
    let mut memory = std::fs::File::from(memory);
    memory.write_all(config).unwrap();
    memory.rewind().unwrap();
    fcntl_setfd(&memory, FdFlags::empty()).unwrap();
    fcntl_setfd(&listener, FdFlags::empty()).unwrap();
    Command::new(guest_binary())
        .arg("init")
        .env(CONFIG_FD_ENV, memory.as_raw_fd().to_string())
        .env(LISTEN_FD_ENV, listener.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The guest's binary, built beside this test.
fn guest_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = std::env::var_os("ATOLL_GUEST_BINARY") {
            return given.into();
        }
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "atoll-guest", "--bin", "atoll-guest"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.unwrap().success(), "the guest builds");
        let deps = std::env::current_exe().unwrap();
        deps.parent().and_then(Path::parent).unwrap().join("atoll-guest")
    })
}

/// A router that knows one token and one sandbox. Returns its address.
async fn router(group: &TaskGroup, guest: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    group.clone().spawn("router", async move {
        while let Ok((client, _)) = listener.accept().await {
            route(client, &guest).await;
        }
    });
    address
}

async fn route(mut client: TcpStream, guest: &Path) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let lower = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let has = |line: &str| lower.lines().any(|found| found == line);
    let expected = ["x-sandbox-id: box", "x-sandbox-namespace: team", "x-sandbox-uid: uid-1"];
    let refusal = if !has("authorization: bearer good") {
        Some(("401 Unauthorized", r#"{"detail":"who are you"}"#))
    } else if !expected.into_iter().all(has) {
        Some(("502 Bad Gateway", r#"{"detail":"Could not connect to the backend sandbox: box"}"#))
    } else {
        None
    };
    if let Some((status, body)) = refusal {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        client.write_all(answer.as_bytes()).await.unwrap();
        return;
    }
    let mut guest = UnixStream::connect(guest).await.unwrap();
    guest.write_all(&head).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut client, &mut guest).await;
}

fn through_router(base_url: &str, token: &str, name: &str) -> SandboxConnection {
    SandboxConnection::over_router(
        RouterEndpoint { base_url: base_url.to_owned(), token: Secret::new(token.to_owned()) },
        SandboxRef { namespace: "team".into(), name: name.into(), uid: Some("uid-1".into()) },
    )
}

#[tokio::test]
async fn the_same_calls_work_over_the_socket_and_through_a_router() {
    let Some(guest) = Guest::start("the_same_calls_work") else { return };
    let group = TaskGroup::new("test");
    let address = router(&group, guest.socket()).await;
    for connection in [guest.connection(), through_router(&address, "good", "box")] {
        let hello = connection.hello().await.unwrap();
        assert_eq!((hello.sandbox_id.as_str(), hello.incarnation), ("client-test", 3));
        let script = "echo out; echo err >&2; exit 5";
        let output =
            connection.exec(ExecRequest::new(["sh", "-c", script])).await.unwrap().output(1_000).await.unwrap();
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (b"out\n".as_slice(), b"err\n".as_slice()));
        assert_eq!((output.exit.code, output.dropped_bytes), (5, 0));
    }
    assert!(group.drain(Duration::from_secs(5)).await || group.running() > 0);
}

#[tokio::test]
async fn refusals_of_a_router_are_told() {
    let Some(guest) = Guest::start("refusals_of_a_router") else { return };
    let group = TaskGroup::new("test");
    let address = router(&group, guest.socket()).await;
    let error = through_router(&address, "bad", "box").hello().await.unwrap_err();
    assert_eq!(chain(&error), "the session was refused with status 401 Unauthorized: who are you");
    assert_eq!(error.hint().as_deref(), Some("give a token that the plane knows"));
    let error = through_router(&address, "good", "other").hello().await.unwrap_err();
    assert!(
        matches!(&error, SandboxError::Refused { detail, .. } if detail.starts_with("Could not connect")),
        "{error}"
    );
    let error = through_router("https://127.0.0.1:1", "good", "box").hello().await.unwrap_err();
    assert!(matches!(error, SandboxError::Address { .. }), "{error}");
    let error = through_router("http://127.0.0.1:1", "good", "box").hello().await.unwrap_err();
    assert!(matches!(error, SandboxError::Dial { .. }) && error.hint().is_some(), "{error}");
    let error = SandboxConnection::over_unix("/nonexistent/guest.sock").hello().await.unwrap_err();
    assert_eq!(chain(&error), "cannot reach /nonexistent/guest.sock: No such file or directory (os error 2)");
    group.cancel();
}

#[tokio::test]
async fn a_command_is_talked_to_while_it_runs() {
    let Some(guest) = Guest::start("a_command_is_talked_to") else { return };
    let script = "trap 'echo usr1' USR1; read line; echo got $line; while :; do read more; done";
    let request = ExecRequest { stdin: true, ..ExecRequest::new(["sh", "-c", script]) };
    let mut session = guest.connection().exec(request).await.unwrap();
    let input = session.input();
    input.stdin(b"hello\n").await.unwrap();
    assert_eq!(session.next_event().await.unwrap(), Some(ExecEvent::Stdout("got hello\n".into())));
    input.signal(10).await.unwrap();
    assert_eq!(session.next_event().await.unwrap(), Some(ExecEvent::Stdout("usr1\n".into())));
    input.kill().await.unwrap();
    let Some(ExecEvent::Exited(exit)) = session.next_event().await.unwrap() else { panic!() };
    assert_eq!(exit.signal, Some(9));
    assert_eq!(session.next_event().await.unwrap(), None);
}

#[tokio::test]
async fn a_terminal_is_resized() {
    let Some(guest) = Guest::start("a_terminal_is_resized") else { return };
    let tty = Some(TerminalSize { cols: 80, rows: 24 });
    let request = ExecRequest { tty, stdin: true, ..ExecRequest::new(["sh", "-c", "read x; stty size"]) };
    let session = guest.connection().exec(request).await.unwrap();
    let input = session.input();
    input.resize(TerminalSize { cols: 33, rows: 44 }).await.unwrap();
    input.stdin(b"\n").await.unwrap();
    assert!(session.output(1_000).await.unwrap().stdout.ends_with(b"44 33\r\n"));
}

#[tokio::test]
async fn a_command_outlives_its_session_and_its_key_is_known() {
    let Some(guest) = Guest::start("a_command_outlives_its_session") else { return };
    let connection = guest.connection();
    assert_eq!(connection.lookup("k").await.unwrap().state, ExecState::Unknown);
    let request = || ExecRequest {
        idempotency_key: Some("k".into()),
        ..ExecRequest::new(["sh", "-c", "echo once >> runs; sleep 0.3; echo end"])
    };
    let first = connection.exec(request()).await.unwrap();
    let exec_id = first.exec_id().to_owned();
    drop(first);
    assert_eq!(connection.lookup("k").await.unwrap().state, ExecState::Running);
    let again = connection.exec(request()).await.unwrap();
    assert!(again.replayed() && again.exec_id() == exec_id);
    assert_eq!(again.output(100).await.unwrap().stdout, b"end\n");
    assert_eq!(connection.attach(&exec_id).await.unwrap().output(2).await.unwrap().dropped_bytes, 2);
    assert_eq!(connection.lookup("k").await.unwrap().state, ExecState::Exited);
    assert_eq!(connection.list_execs().await.unwrap().len(), 1);
    assert_eq!(connection.read_file("runs", 100).await.unwrap(), b"once\n");
    assert_eq!(connection.attach("none").await.unwrap_err().code(), Some(ErrorCode::NotFound));
}

#[tokio::test]
async fn files_go_in_and_come_out() {
    let Some(guest) = Guest::start("files_go_in_and_come_out") else { return };
    let connection = guest.connection();
    let content: Vec<u8> = (0..4_000_000u32).map(|n| (n % 241) as u8).collect();
    connection.write_file("a/b/file", &content).await.unwrap();
    assert!(connection.read_file("a/b/file", content.len() as u64).await.unwrap() == content);
    let too_large = connection.read_file("a/b/file", 10).await.unwrap_err();
    assert!(matches!(too_large, SandboxError::TooLarge { size: 4_000_000, limit: 10 }), "{too_large}");
    let mut part = connection.open_file("a/b/file", Some(241), Some(3)).await.unwrap();
    assert_eq!(part.next_chunk().await.unwrap().as_deref(), Some([0, 1, 2].as_slice()));
    assert_eq!(part.next_chunk().await.unwrap(), None);
    let entries = connection.list_dir("a").await.unwrap();
    assert_eq!((entries[0].name.as_str(), entries[0].stat.kind), ("b", FileKind::Directory));
    assert_eq!(connection.stat("a/b/file").await.unwrap().size, 4_000_000);
    connection.make_dir("c/d").await.unwrap();
    let escape = connection.read_file(SandboxPath::beneath("c", "../a/b/file"), 10).await.unwrap_err();
    assert_eq!(escape.code(), Some(ErrorCode::PermissionDenied));
    connection.remove("a", true).await.unwrap();
    assert_eq!(connection.stat("a").await.unwrap_err().code(), Some(ErrorCode::NotFound));
}

#[tokio::test]
async fn a_refused_file_is_told_with_the_guest_s_reason() {
    let Some(guest) = Guest::start("a_refused_file_is_told") else { return };
    let request = WriteFileRequest { path: "no/parent".into(), ..WriteFileRequest::default() };
    let mut file = guest.connection().create_file(request).await.unwrap();
    // The refusal may come while content is still on its way.
    let content = vec![0; 3_000_000];
    let error = match file.write(&content).await {
        Ok(()) => file.finish().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.code(), Some(ErrorCode::NotFound), "{error}");
}

#[tokio::test]
async fn a_port_is_connected_to() {
    let Some(guest) = Guest::start("a_port_is_connected_to") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connection = guest.connection();
    assert!(connection.listening_ports().await.unwrap().iter().any(|listening| listening.port == port));
    let (mut reader, mut writer) = connection.connect(port).await.unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    writer.write(b"ping").await.unwrap();
    writer.finish().await.unwrap();
    let mut received = Vec::new();
    peer.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"ping");
    peer.write_all(b"pong").await.unwrap();
    drop(peer);
    assert_eq!(reader.next_chunk().await.unwrap().as_deref(), Some(b"pong".as_slice()));
    assert_eq!(reader.next_chunk().await.unwrap(), None);
    drop(listener);
    assert_eq!(connection.connect(port).await.unwrap_err().code(), Some(ErrorCode::NotFound));
}

#[tokio::test]
async fn a_cancelled_write_leaves_the_frames_whole() {
    let Some(guest) = Guest::start("a_cancelled_write") else { return };
    let request = ExecRequest { stdin: true, ..ExecRequest::new(["sh", "-c", "sleep 0.5; cat"]) };
    let session = guest.connection().exec(request).await.unwrap();
    let input = session.input();
    // Nobody reads yet: some write is cut off in the middle of a frame.
    let piece = vec![b'x'; 1_000_000];
    let mut begun = 0;
    loop {
        begun += 1;
        if tokio::time::timeout(Duration::from_millis(50), input.stdin(&piece)).await.is_err() {
            break;
        }
    }
    let finishing = async {
        input.stdin(b"end").await.unwrap();
        input.stdin_eof().await.unwrap();
    };
    let (output, ()) = tokio::join!(session.output(usize::MAX), finishing);
    let stdout = output.unwrap().stdout;
    assert!(stdout.ends_with(b"xend") && stdout.len() == begun * piece.len() + 3, "{} of {begun} pieces", stdout.len());
}

#[tokio::test]
async fn a_sandbox_is_told_to_end() {
    let Some(mut guest) = Guest::start("a_sandbox_is_told_to_end") else { return };
    let error = guest.connection().signal_workload(15).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NotFound));
    guest.connection().shutdown(Some(1_000)).await.unwrap();
    assert!(guest.child.wait().unwrap().success());
}
