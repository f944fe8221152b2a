//! Messages inside control frames. Every enum is externally tagged in snake case: `{"exec":{"argv":["true"]}}`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Kernel, User};

/// First frame of a session, from the client.
///
/// | request | answer |
/// |---|---|
/// | `hello` | `hello` |
/// | `exec`, `attach` | `started`, output frames, `exited` |
/// | `lookup` | `lookup` |
/// | `kill`, `signal_workload`, `shutdown`, `remove`, `make_dir` | `done` |
/// | `list_execs` | `execs` |
/// | `read_file` | `file`, data frames, `done` |
/// | `write_file`, data frames, `eof` | `written` |
/// | `list_dir` | one or more `entries` |
/// | `stat` | `stat` |
/// | `listening_ports` | `listening_ports` |
/// | `connect` | `connected`, then data frames and `eof` both ways |
///
/// Any of them may be answered with `error` instead, at any point.
///
/// Paths: with `root`, a path is taken beneath that directory and nothing (`..`, symbolic links) leads out of it; an
/// attempt is `permission_denied`. Without `root`, an absolute path starts at the sandbox's `/` and a relative one
/// at its base directory. Everything happens with the rights of the sandbox's exec user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Who is there.
    Hello {},
    /// Run a command.
    Exec(ExecRequest),
    /// Take up a command again: its kept output, then what follows.
    Attach {
        /// Id from [`Started`].
        exec_id: String,
    },
    /// What became of a command that was given an idempotency key.
    Lookup {
        /// The key.
        idempotency_key: String,
    },
    /// Kill a command's whole process tree, what it left behind after its exit included. Answered when none is left.
    Kill {
        /// Id from [`Started`].
        exec_id: String,
    },
    /// Commands that run, and those that ended and are still remembered.
    ListExecs {},
    /// Read a regular file.
    ReadFile(ReadFileRequest),
    /// Replace a file as a whole: temporary file, fsync, rename.
    WriteFile(WriteFileRequest),
    /// Names in a directory, sorted.
    ListDir {
        /// The directory.
        path: String,
        /// See [`Request`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<String>,
    },
    /// Facts about a path, symbolic links followed.
    Stat {
        /// The path.
        path: String,
        /// See [`Request`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<String>,
    },
    /// Remove a file, a symbolic link (not what it points to) or a directory.
    Remove {
        /// The path.
        path: String,
        /// See [`Request`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<String>,
        /// Whether a directory that is not empty goes too; otherwise it is `conflict`.
        #[serde(default)]
        recursive: bool,
    },
    /// Make a directory and its missing parents; one that exists is fine.
    MakeDir {
        /// The path.
        path: String,
        /// See [`Request`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<String>,
    },
    /// TCP ports on which something in the sandbox listens.
    ListeningPorts {},
    /// Connect to a TCP port on the sandbox's loopback.
    Connect {
        /// The port.
        port: u16,
    },
    /// Send a signal to the workload.
    SignalWorkload {
        /// Signal number.
        signal: i32,
    },
    /// End the sandbox: SIGTERM, then SIGKILL after the grace.
    Shutdown {
        /// Milliseconds; the configured grace when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grace_ms: Option<u64>,
    },
}

/// A command to run.
///
/// `Debug` shows the names of environment variables, never their values.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Id to give the command; chosen by the guest when absent. One in use is `conflict`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Program and arguments, without a shell; a program without `/` is searched in `PATH`.
    pub argv: Vec<String>,
    /// Added to the sandbox's exec environment; wins over it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Working directory, relative to the base directory; the base directory when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Identity; the sandbox's exec user when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// Run on a terminal of this size; standard error is then part of standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<TerminalSize>,
    /// Whether the client will send standard input; otherwise the command reads `/dev/null`.
    #[serde(default)]
    pub stdin: bool,
    /// Kill the whole process tree after so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// A second `exec` with the same key and argv does not run again but re-attaches; with another argv it is
    /// `conflict`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

impl ExecRequest {
    /// A command with every default.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

impl fmt::Debug for ExecRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecRequest")
            .field("id", &self.id)
            .field("argv", &self.argv)
            .field("env", &self.env.keys())
            .field("cwd", &self.cwd)
            .field("user", &self.user)
            .field("tty", &self.tty)
            .field("stdin", &self.stdin)
            .field("timeout_ms", &self.timeout_ms)
            .field("idempotency_key", &self.idempotency_key)
            .finish()
    }
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// Parameters of `read_file`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadFileRequest {
    /// The file.
    pub path: String,
    /// See [`Request`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Bytes to skip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Bytes to send at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
}

/// Parameters of `write_file`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteFileRequest {
    /// The file; through a symbolic link the file it points to is replaced.
    pub path: String,
    /// See [`Request`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Permission bits; those of the file replaced, else 0644, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Whether missing parent directories are made.
    #[serde(default)]
    pub mkdirs: bool,
    /// Lower-case hex digest of the content; a mismatch is `invalid_argument` and changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// A control frame from the client after the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientMessage {
    /// No more standard input.
    StdinEof {},
    /// Signal the command's process group.
    Signal {
        /// Signal number.
        signal: i32,
    },
    /// The terminal has a new size.
    Resize(TerminalSize),
    /// Kill the command's whole process tree.
    Kill {},
    /// No more data frames (`write_file`, `connect`).
    Eof {},
}

/// A control frame from the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerMessage {
    /// Answer to `hello`.
    Hello(HelloReply),
    /// The command runs, ran, or is attached to.
    Started(Started),
    /// The command ended; the last frame.
    Exited(Exit),
    /// Answer to `lookup`.
    Lookup(LookupReply),
    /// Answer to `list_execs`.
    Execs {
        /// Oldest first.
        execs: Vec<ExecSummary>,
    },
    /// The file that the data frames are from.
    File(FileStat),
    /// The request is fulfilled.
    Done {},
    /// Answer to `write_file`.
    Written {
        /// Size of the file in bytes.
        size: u64,
    },
    /// Part of the answer to `list_dir`.
    Entries(Entries),
    /// Answer to `stat`.
    Stat(FileStat),
    /// Answer to `listening_ports`.
    ListeningPorts {
        /// By port.
        ports: Vec<ListeningPort>,
    },
    /// Answer to `connect`.
    Connected {},
    /// The peer of `connect` sends no more.
    Eof {},
    /// The request failed; the last frame.
    Error(ErrorReply),
}

/// Facts about the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloReply {
    /// Protocol version of the guest.
    pub protocol: u32,
    /// Driver-level id of the sandbox.
    pub sandbox_id: String,
    /// Incarnation from the boot configuration.
    pub incarnation: u64,
    /// Milliseconds since the guest booted.
    pub uptime_ms: u64,
    /// Whether the Pod's command runs; false in an idle sandbox.
    pub workload_running: bool,
    /// The kernel as it looks from inside; `None` from a guest that does not look.
    #[serde(default)]
    pub kernel: Option<Kernel>,
}

/// A command's output follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Id of the command.
    pub exec_id: String,
    /// Whether the command was started by an earlier request and this is its kept output.
    pub replayed: bool,
    /// Bytes of earlier output that are no longer kept.
    #[serde(default)]
    pub dropped_bytes: u64,
}

/// How a command ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code, or 128 plus the signal's number.
    pub code: i32,
    /// The signal that ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Whether the guest killed it because its time was up.
    #[serde(default)]
    pub timed_out: bool,
    /// Ended by a SIGKILL that did not come from the guest: most often the memory limit.
    #[serde(default)]
    pub oom_suspected: bool,
}

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecState {
    /// This incarnation never started a command with that key.
    Unknown,
    /// It runs.
    Running,
    /// It ended.
    Exited,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupReply {
    /// Where it stands.
    pub state: ExecState,
    /// Id of the command, unless unknown.
    #[serde(default)]
    pub exec_id: Option<String>,
    /// How it ended, once it has.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// The guest's incarnation: a key used in an earlier one is `unknown` here and yet may have run there.
    pub incarnation: u64,
}

/// A command in `list_execs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSummary {
    /// Id of the command.
    pub exec_id: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Process id inside the sandbox.
    pub pid: i32,
    /// Milliseconds from the guest's boot to the command's start.
    pub started_ms: u64,
    /// How it ended; `None` while it runs.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// Clients attached now.
    pub attached: u32,
}

/// Kind of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link (only in listings).
    Symlink,
    /// Device, FIFO or socket.
    Other,
}

/// Facts about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// What it is.
    pub kind: FileKind,
    /// Size in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification, milliseconds since 1970.
    pub mtime_ms: i64,
}

/// A name in a directory. A name that is not UTF-8 has its bad bytes replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    /// Name, without the directory.
    pub name: String,
    /// Facts about the name itself: links are not followed.
    #[serde(flatten)]
    pub stat: FileStat,
}

/// Part of a directory listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    /// Sorted by name over all parts.
    pub entries: Vec<DirectoryEntry>,
    /// Whether another part follows.
    pub more: bool,
}

/// A port in LISTEN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListeningPort {
    /// The port.
    pub port: u16,
    /// Whether it is bound to loopback addresses only, out of reach for the router.
    pub loopback_only: bool,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// Class of the failure.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

/// Classes of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The file, program or command does not exist.
    NotFound,
    /// The user of the sandbox may not, or the path leads out of its root.
    PermissionDenied,
    /// The request makes no sense.
    InvalidArgument,
    /// It contradicts something that exists: an id in use, a key with another command, a directory not empty.
    Conflict,
    /// A limit of the guest is reached; nothing was done.
    ResourceExhausted,
    /// The guest or the kernel failed.
    Internal,
    /// This guest can not do that.
    #[serde(other)]
    Unsupported,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not found",
            Self::PermissionDenied => "permission denied",
            Self::InvalidArgument => "invalid argument",
            Self::Conflict => "conflict",
            Self::ResourceExhausted => "limit reached",
            Self::Internal => "internal error",
            Self::Unsupported => "not supported",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_request(request: Request, json: &str) {
        assert_eq!(serde_json::to_string(&request).unwrap(), json);
        assert_eq!(serde_json::from_str::<Request>(json).unwrap(), request);
    }

    #[test]
    fn requests_are_written_as_documented() {
        check_request(Request::Hello {}, r#"{"hello":{}}"#);
        check_request(
            Request::Exec(ExecRequest { timeout_ms: Some(5), ..ExecRequest::new(["true"]) }),
            r#"{"exec":{"argv":["true"],"stdin":false,"timeout_ms":5}}"#,
        );
        check_request(Request::Lookup { idempotency_key: "k".into() }, r#"{"lookup":{"idempotency_key":"k"}}"#);
        check_request(Request::ListDir { path: "a".into(), root: None }, r#"{"list_dir":{"path":"a"}}"#);
        check_request(Request::Connect { port: 80 }, r#"{"connect":{"port":80}}"#);
    }

    #[test]
    fn replies_are_written_as_documented() {
        let cases = [
            (
                ServerMessage::Exited(Exit { code: 137, signal: Some(9), timed_out: true, oom_suspected: false }),
                r#"{"exited":{"code":137,"signal":9,"timed_out":true,"oom_suspected":false}}"#,
            ),
            (
                ServerMessage::Error(ErrorReply { code: ErrorCode::NotFound, message: "no".into() }),
                r#"{"error":{"code":"not_found","message":"no"}}"#,
            ),
            (
                ServerMessage::Lookup(LookupReply {
                    state: ExecState::Unknown,
                    exec_id: None,
                    exit: None,
                    incarnation: 4,
                }),
                r#"{"lookup":{"state":"unknown","exec_id":null,"exit":null,"incarnation":4}}"#,
            ),
            (ServerMessage::Done {}, r#"{"done":{}}"#),
        ];
        for (message, json) in cases {
            assert_eq!(serde_json::to_string(&message).unwrap(), json);
            assert_eq!(serde_json::from_str::<ServerMessage>(json).unwrap(), message);
        }
    }

    #[test]
    fn a_code_from_a_newer_guest_is_understood_as_unsupported() {
        let reply: ErrorReply = serde_json::from_str(r#"{"code":"made_later","message":""}"#).unwrap();
        assert_eq!(reply.code, ErrorCode::Unsupported);
    }

    #[test]
    fn debug_shows_no_environment_value() {
        let mut exec = ExecRequest::new(["env"]);
        exec.env.insert("TOKEN".into(), "hunter2".into());
        let shown = format!("{:?}", Request::Exec(exec));
        assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
    }
}
