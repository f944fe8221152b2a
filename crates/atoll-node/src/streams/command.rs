//! `exec` and `attach`: what goes between a client and a command.

mod channels;
mod multiplexed;

use std::time::Duration;

use async_trait::async_trait;
use atoll_client::sandbox::{
    ErrorCode, ExecEvent, ExecRequest, ExecSession, SandboxConnection, SandboxError, TerminalSize,
};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::{Value, json};

use super::StreamRefusal;
use super::log::{Entry, LogReader, Source};

pub(super) use channels::{PROTOCOLS, over_websocket};
pub(super) use multiplexed::{PROTOCOL_HEADER, command_protocol, over_spdy, settle_protocol};

/// A terminal whose size nobody has told yet.
const DEFAULT_TERMINAL: TerminalSize = TerminalSize { cols: 80, rows: 24 };
/// How long the size of a client's terminal is waited for before the command starts on it.
const SIZE_PATIENCE: Duration = Duration::from_millis(100);
/// What a client may send before it tells the size of its terminal.
const EARLY_INPUTS_MAX: usize = 16;
/// How long a client that was told the end may take to hang up.
const FAREWELL: Duration = Duration::from_secs(2);
const SIGHUP: i32 = 1;
/// As shells say it.
const EXIT_CODE_NOT_FOUND: i32 = 127;
const EXIT_CODE_NOT_EXECUTABLE: i32 = 126;

/// What a client asked for (PodExecOptions, PodAttachOptions).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CommandOptions {
    pub(super) command: Vec<String>,
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl CommandOptions {
    /// Reads the query.
    pub(super) fn parse(query: &[(String, String)]) -> Result<Self, StreamRefusal> {
        let flag =
            |name: &str| super::is_true(query.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str()));
        let tty = flag("tty");
        let options = Self {
            command: query.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.clone()).collect(),
            stdin: flag("stdin"),
            stdout: flag("stdout"),
            // A terminal has one output.
            stderr: flag("stderr") && !tty,
            tty,
        };
        if options.stdin || options.stdout || options.stderr {
            Ok(options)
        } else {
            Err(StreamRefusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"))
        }
    }
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    Stdin(Bytes),
    StdinEof,
    Resize(TerminalSize),
}

/// The client is not there any more.
#[derive(Debug)]
pub(super) struct Gone;

/// What a client is sent.
#[async_trait]
pub(super) trait Outputs: Send {
    /// Sends output; what the client did not ask for is dropped.
    async fn output(&mut self, source: Source, bytes: &[u8]) -> Result<(), Gone>;

    /// Sends how the command ended (a `Status`), and nothing more.
    async fn finish(&mut self, status: &Value) -> Result<(), Gone>;
}

/// A client on the other end of a connection.
pub(super) struct Peer {
    /// Ends when the client hangs up.
    pub(super) inputs: BoxStream<'static, Input>,
    pub(super) outputs: Box<dyn Outputs>,
}

/// Runs a command for a client.
pub(super) async fn exec(mut peer: Peer, guest: SandboxConnection, options: CommandOptions) {
    let tty = if options.tty { Some(first_size(&mut peer).await) } else { None };
    let request = ExecRequest { tty, stdin: options.stdin, ..ExecRequest::new(options.command) };
    let status = match guest.exec(request).await {
        Ok(session) => match converse(&mut peer, session, options.tty).await {
            Some(status) => status,
            None => return,
        },
        Err(error) => not_started(&mut peer, &error).await,
    };
    say_goodbye(peer, &status).await;
}

/// Follows what a container writes from now on.
pub(super) async fn follow(mut peer: Peer, mut log: LogReader) {
    let outputs = &mut peer.outputs;
    let told = async {
        while let Ok(Some(lines)) = log.next_lines().await {
            for entry in lines.split(|byte| *byte == b'\n').filter_map(Entry::parse) {
                let mut text = entry.text.to_vec();
                if !entry.is_partial {
                    text.push(b'\n');
                }
                outputs.output(entry.source, &text).await?;
            }
        }
        Ok::<_, Gone>(success())
    };
    let inputs = &mut peer.inputs;
    let hung_up = async { while inputs.next().await.is_some() {} };
    let status = tokio::select! {
        told = told => told.ok(),
        () = hung_up => None,
    };
    if let Some(status) = status {
        say_goodbye(peer, &status).await;
    }
}

/// The size of the client's terminal, if the client tells it soon. What else it sends meanwhile stays in the inputs.
async fn first_size(peer: &mut Peer) -> TerminalSize {
    let mut early = Vec::new();
    let inputs = &mut peer.inputs;
    let told = async {
        while early.len() < EARLY_INPUTS_MAX {
            match inputs.next().await? {
                Input::Resize(size) => return Some(size),
                other => early.push(other),
            }
        }
        None
    };
    let size = tokio::time::timeout(SIZE_PATIENCE, told).await.ok().flatten();
    let later = std::mem::replace(inputs, stream::empty().boxed());
    *inputs = stream::iter(early).chain(later).boxed();
    size.unwrap_or(DEFAULT_TERMINAL)
}

/// Until the command ends (its `Status`) or the client hangs up (`None`).
pub(super) async fn converse(peer: &mut Peer, mut session: ExecSession, is_terminal: bool) -> Option<Value> {
    let command = session.input();
    let (inputs, outputs) = (&mut peer.inputs, &mut peer.outputs);
    let listen = async {
        while let Some(input) = inputs.next().await {
            // A command that ended, or takes no input, is told by the other half.
            let _ = match input {
                Input::Stdin(bytes) => command.stdin(&bytes).await,
                Input::StdinEof => command.stdin_eof().await,
                Input::Resize(size) => command.resize(size).await,
            };
        }
    };
    let tell = async {
        loop {
            let (source, bytes) = match session.next_event().await {
                Ok(Some(ExecEvent::Stdout(bytes))) => (Source::Stdout, bytes),
                Ok(Some(ExecEvent::Stderr(bytes))) => (Source::Stderr, bytes),
                Ok(Some(ExecEvent::Exited(exit))) => return Ok(exited(exit.code)),
                Ok(None) => return Ok(failure("the command's end was not told")),
                Err(error) => return Ok(failure(&atoll_stdx::chain(&error))),
            };
            outputs.output(source, &bytes).await?;
        }
    };
    let status: Option<Result<Value, Gone>> = tokio::select! {
        status = tell => Some(status),
        () = listen => None,
    };
    if let Some(Ok(status)) = status {
        return Some(status);
    }
    // Nobody listens any more: a program on a terminal loses it, another one its input.
    let _ = if is_terminal { command.signal(SIGHUP).await } else { command.stdin_eof().await };
    None
}

async fn say_goodbye(mut peer: Peer, status: &Value) {
    if peer.outputs.finish(status).await.is_err() {
        return;
    }
    // A connection that is closed with something unread in it may lose what was just sent.
    let hang_up = async { while peer.inputs.next().await.is_some() {} };
    let _in_time = tokio::time::timeout(FAREWELL, hang_up).await;
}

async fn not_started(peer: &mut Peer, error: &SandboxError) -> Value {
    let code = match error.code() {
        Some(ErrorCode::NotFound) => EXIT_CODE_NOT_FOUND,
        Some(ErrorCode::PermissionDenied) => EXIT_CODE_NOT_EXECUTABLE,
        _ => return failure(&atoll_stdx::chain(error)),
    };
    let text = format!("{}\n", atoll_stdx::chain(error));
    let _ = peer.outputs.output(Source::Stderr, text.as_bytes()).await;
    exited(code)
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

/// How a command ended, in the words of a kubelet: clients read the code from the cause.
fn exited(code: i32) -> Value {
    if code == 0 {
        return success();
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn failure(message: &str) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": format!("Internal error occurred: error executing command in container: {message}"),
    })
}
