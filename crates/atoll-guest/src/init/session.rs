//! Sessions: one request each, in frames.

mod command;
mod file;
mod forward;

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use atoll_guest::protocol::{
    ErrorCode, ErrorReply, Frame, FrameError, FrameKind, HelloReply, PROTOCOL_VERSION, Request, ServerMessage,
    encode_json, read_frame, write_frame,
};

use super::Guest;
use super::clock::monotonic_ms;
use super::http::Connection;
use super::listening;

/// The guest's side of a session.
pub(crate) struct Session {
    connection: Connection,
    writer: UnixStream,
}

/// The client is gone or breaks the protocol: nothing is left to be said.
pub(crate) struct Broken;

/// What a request comes to: an answer, or a reason to refuse.
type Answer = Result<ServerMessage, ErrorReply>;

/// Serves one session to its end.
pub(crate) fn serve(guest: &Arc<Guest>, connection: Connection) {
    let Ok(writer) = connection.writer() else { return };
    let mut session = Session { connection, writer };
    let _ = session.run(guest);
    session.connection.linger();
}

impl Session {
    fn run(&mut self, guest: &Arc<Guest>) -> Result<(), Broken> {
        let frame = self.receive()?.ok_or(Broken)?;
        let request = match parse(&frame) {
            Ok(request) => request,
            Err(refusal) => return self.refuse(refusal),
        };
        let answer = match request {
            Request::Exec(request) => return command::exec(self, guest, request),
            Request::Attach { exec_id } => return command::attach(self, guest, &exec_id),
            Request::ReadFile(request) => return file::read(self, guest, &request),
            Request::WriteFile(request) => return file::write(self, guest, &request),
            Request::ListDir { path, root } => return file::list(self, guest, &path, root.as_deref()),
            Request::Connect { port } => return forward::connect(self, port),
            other => simple(guest, other),
        };
        match answer {
            Ok(message) => self.send(&message),
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn receive(&mut self) -> Result<Option<Frame>, Broken> {
        read_frame(&mut self.connection).map_err(|_| Broken)
    }

    fn send(&mut self, message: &ServerMessage) -> Result<(), Broken> {
        send(&mut self.writer, message)
    }

    fn send_bytes(&mut self, kind: FrameKind, bytes: &[u8]) -> Result<(), Broken> {
        send_bytes(&mut self.writer, kind, bytes)
    }

    fn refuse(&mut self, refusal: ErrorReply) -> Result<(), Broken> {
        self.send(&ServerMessage::Error(refusal))
    }
}

/// Requests that are one message each way.
fn simple(guest: &Guest, request: Request) -> Answer {
    let done = |()| ServerMessage::Done {};
    let failed = |error: super::exec::ExecError| refusal(error.code(), &error);
    match request {
        Request::Hello {} => Ok(ServerMessage::Hello(HelloReply {
            protocol: PROTOCOL_VERSION,
            sandbox_id: guest.config.sandbox_id.clone(),
            incarnation: guest.config.incarnation,
            uptime_ms: monotonic_ms() - guest.booted_ms,
            workload_running: guest.workload.is_running(),
            kernel: Some(guest.kernel),
        })),
        Request::Lookup { idempotency_key } => Ok(ServerMessage::Lookup(guest.execs.lookup(&idempotency_key))),
        Request::Kill { exec_id } => guest.execs.kill(&exec_id).map(done).map_err(failed),
        Request::ListExecs {} => Ok(ServerMessage::Execs { execs: guest.execs.list() }),
        Request::Stat { path, root } => file::stat(guest, &path, root.as_deref()),
        Request::Remove { path, root, recursive } => file::remove(guest, &path, root.as_deref(), recursive).map(done),
        Request::MakeDir { path, root } => file::make_dir(guest, &path, root.as_deref()).map(done),
        Request::ListeningPorts {} => match listening::ports() {
            Ok(ports) => Ok(ServerMessage::ListeningPorts { ports }),
            Err(error) => Err(refusal(ErrorCode::Internal, &error)),
        },
        Request::SignalWorkload { signal } => guest.workload.signal(signal).map(done),
        Request::Shutdown { grace_ms } => {
            guest.stop.ask(grace_ms.unwrap_or(guest.config.termination_grace_ms));
            Ok(done(()))
        }
        Request::Exec(_)
        | Request::Attach { .. }
        | Request::ReadFile(_)
        | Request::WriteFile(_)
        | Request::ListDir { .. }
        | Request::Connect { .. } => unreachable!("these have conversations of their own"),
    }
}

fn parse(frame: &Frame) -> Result<Request, ErrorReply> {
    let invalid = |message: String| ErrorReply { code: ErrorCode::InvalidArgument, message };
    if frame.kind != FrameKind::Control {
        return Err(invalid("a session begins with a request in a control frame".to_owned()));
    }
    let value: serde_json::Value =
        serde_json::from_slice(&frame.payload).map_err(|error| invalid(format!("the request is not JSON: {error}")))?;
    serde_json::from_value(value).map_err(|error| {
        let text = error.to_string();
        let code =
            if text.starts_with("unknown variant") { ErrorCode::Unsupported } else { ErrorCode::InvalidArgument };
        ErrorReply { code, message: format!("the request is not understood: {text}") }
    })
}

fn refusal(code: ErrorCode, error: &dyn std::error::Error) -> ErrorReply {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    ErrorReply { code, message }
}

fn send(mut writer: impl std::io::Write, message: &ServerMessage) -> Result<(), Broken> {
    let frame = encode_json(message).or_else(|error| match error {
        FrameError::Length { .. } => encode_json(&ServerMessage::Error(ErrorReply {
            code: ErrorCode::ResourceExhausted,
            message: "the answer is larger than a frame".to_owned(),
        })),
        other => Err(other),
    });
    writer.write_all(&frame.map_err(|_| Broken)?).map_err(|_| Broken)
}

fn send_bytes(writer: &mut UnixStream, kind: FrameKind, bytes: &[u8]) -> Result<(), Broken> {
    write_frame(writer, kind, bytes).and_then(|()| writer.flush().map_err(FrameError::Io)).map_err(|_| Broken)
}
