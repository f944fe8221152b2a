//! Conversations about a command.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use atoll_guest::protocol::{
    ClientMessage, ErrorCode, ErrorReply, ExecRequest, Exit, FrameKind, ServerMessage, Started,
};
use rustix::event::{PollFd, PollFlags, poll};

use super::super::Guest;
use super::super::clock::timespec;
use super::super::exec::{Attachment, Begun, Next};
use super::{Broken, Session, refusal, send, send_bytes};

const STACK_BYTES: usize = 128 * 1024;

/// How long a client may take to close a session after it was told the end.
const LINGER_MS: u64 = 5_000;

pub(super) fn exec(session: &mut Session, guest: &Arc<Guest>, request: ExecRequest) -> Result<(), Broken> {
    match guest.execs.begin(guest, request) {
        Ok(Begun::Attached { attachment, replayed }) => converse(session, guest, attachment, replayed),
        Ok(Begun::Remembered { exec_id, exit, output_bytes }) => tell_end(session, exec_id, exit, output_bytes),
        Err(error) => session.refuse(refusal(error.code(), &error)),
    }
}

pub(super) fn attach(session: &mut Session, guest: &Arc<Guest>, exec_id: &str) -> Result<(), Broken> {
    match guest.execs.attach(exec_id) {
        Ok(attachment) => converse(session, guest, attachment, true),
        Err(error) => session.refuse(refusal(error.code(), &error)),
    }
}

/// A command of which only the end is still known.
fn tell_end(session: &mut Session, exec_id: String, exit: Exit, output_bytes: u64) -> Result<(), Broken> {
    session.send(&ServerMessage::Started(Started { exec_id, replayed: true, dropped_bytes: output_bytes }))?;
    session.send(&ServerMessage::Exited(exit))
}

/// This thread listens to the client, another one sends to it. The command goes on if the client goes away.
fn converse(session: &mut Session, guest: &Arc<Guest>, attachment: Attachment, replayed: bool) -> Result<(), Broken> {
    session.send(&ServerMessage::Started(attachment.started(replayed)))?;
    let exec = Arc::clone(attachment.exec());
    let closer = attachment.closer();
    let writer = session.connection.writer().map_err(|_| Broken)?;
    let sending = thread::Builder::new().name("output".to_owned()).stack_size(STACK_BYTES);
    let sending = match sending.spawn(move || send_output(attachment, writer)) {
        Ok(sending) => sending,
        Err(error) => return session.refuse(refusal(ErrorCode::ResourceExhausted, &error)),
    };
    while let Ok(Some(frame)) = session.receive() {
        let result = match frame.kind {
            FrameKind::Stdin => {
                exec.push_stdin(frame.payload);
                Ok(())
            }
            FrameKind::Control => match serde_json::from_slice(&frame.payload) {
                Ok(message) => obey(guest, &exec, message),
                Err(_) => Err(unexpected("a control frame that is not understood")),
            },
            _ => Err(unexpected("a frame that does not belong here")),
        };
        // What can not be done is not worth ending the session for; a client that breaks the protocol is.
        if result.is_err_and(|refusal| refusal.code == ErrorCode::Unsupported) {
            break;
        }
    }
    closer.close();
    let _ = sending.join();
    Ok(())
}

fn unexpected(message: &str) -> ErrorReply {
    ErrorReply { code: ErrorCode::Unsupported, message: message.to_owned() }
}

fn obey(guest: &Guest, exec: &super::super::exec::Exec, message: ClientMessage) -> Result<(), ErrorReply> {
    match message {
        ClientMessage::StdinEof {} => {
            exec.end_stdin();
            Ok(())
        }
        ClientMessage::Signal { signal } => exec.signal(signal),
        ClientMessage::Resize(size) => exec.resize(size),
        ClientMessage::Kill {} => guest.execs.kill(exec.id()).map_err(|error| refusal(error.code(), &error)),
        ClientMessage::Eof {} => Err(unexpected("an end of data that does not belong here")),
    }
}

/// Sends output and the end, then ends the sending direction; a client answers by closing the connection.
fn send_output(mut attachment: Attachment, mut writer: UnixStream) {
    loop {
        let sent = match attachment.next() {
            Next::Output(kind, bytes) => send_bytes(&mut writer, kind, &bytes),
            Next::Exited(exit) => {
                let _ = send(&writer, &ServerMessage::Exited(exit));
                Err(Broken)
            }
            Next::Closed => Err(Broken),
        };
        if sent.is_err() {
            break;
        }
    }
    let _ = writer.shutdown(Shutdown::Write);
    // What the client still sends is taken by the other thread meanwhile, so that it does not destroy what was sent.
    let mut hangup = [PollFd::new(&writer, PollFlags::empty())];
    let _ = poll(&mut hangup, Some(&timespec(LINGER_MS)));
    let _ = writer.shutdown(Shutdown::Both);
}
