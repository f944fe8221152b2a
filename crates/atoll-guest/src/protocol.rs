//! Types and framing of the host/guest protocol, version [`PROTOCOL_VERSION`].
//!
//! Three things cross the border between the machine and a sandbox:
//!
//! 1. [`GuestConfig`]: JSON, read once at boot from the descriptor named by [`CONFIG_FD_ENV`].
//! 2. The listening Unix socket, inherited as the descriptor named by [`LISTEN_FD_ENV`], or connections that somebody
//!    else accepts on it, by the descriptor named by [`CONNECTIONS_FD_ENV`]. Everything on them is HTTP/1.1: the agent-sandbox runtime endpoints, and [`SESSION_PATH`].
//! 3. Sessions: `GET /atoll/v1/session` with `Upgrade: atoll-guest/1` answers 101 and then carries [`Frame`]s both
//!    ways. One connection is one request: the first frame is a JSON [`Request`], and what follows depends on it.
//!
//! Unknown JSON fields are ignored on both sides, so that fields can be added within a version.

mod config;
mod frame;
mod message;

pub use config::{
    BootProblem, CONFIG_BYTES_MAX, CONFIG_FD_ENV, CONNECTIONS_FD_ENV, EXIT_CODE_BAD_CONFIG,
    EXIT_CODE_WORKLOAD_NOT_EXECUTABLE, EXIT_CODE_WORKLOAD_NOT_FOUND, GREETING_BYTES_MAX, Greeting, GuestConfig, Kernel,
    LISTEN_FD_ENV, ProcessLimits, User, Workload,
};
pub use frame::{Frame, FrameDecoder, FrameError, FrameKind, encode, encode_json, read_frame, write_frame, write_json};
pub use message::{
    ClientMessage, DirectoryEntry, Entries, ErrorCode, ErrorReply, ExecRequest, ExecState, ExecSummary, Exit, FileKind,
    FileStat, HelloReply, ListeningPort, LookupReply, ReadFileRequest, Request, ServerMessage, Started, TerminalSize,
    WriteFileRequest,
};

/// Version spoken by this build; carried in [`GuestConfig`] and in [`HelloReply`].
pub const PROTOCOL_VERSION: u32 = 1;

/// HTTP path of the session endpoint.
pub const SESSION_PATH: &str = "/atoll/v1/session";

/// Value of the `Upgrade` header that starts a session.
pub const UPGRADE_TOKEN: &str = "atoll-guest/1";

/// Largest value of a frame's length field: one byte of kind plus the payload.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Largest payload of one frame.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - 1;

/// Largest file that one `write_file` or `/upload` may carry.
pub const UPLOAD_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Connections served at once; one more is answered 503 and closed.
pub const CONNECTIONS_MAX: usize = 64;

/// Commands running at once in one sandbox.
pub const EXECS_RUNNING_MAX: usize = 256;

/// Output of a command kept for a client that re-attaches.
pub const OUTPUT_RING_BYTES_MAX: usize = 1024 * 1024;

/// Longest idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// Longest exec id that a client may choose.
pub const EXEC_ID_BYTES_MAX: usize = 128;
