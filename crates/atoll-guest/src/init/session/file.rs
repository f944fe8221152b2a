//! Conversations about files.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use atoll_guest::protocol::{
    ClientMessage, DirectoryEntry, Entries, ErrorCode, ErrorReply, FileStat, FrameKind, ReadFileRequest, ServerMessage,
    WriteFileRequest,
};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::super::Guest;
use super::super::files::{self, FileError, Replacement};
use super::{Answer, Broken, Session};

const READ_BYTES: usize = 64 * 1024;

/// Names in one part of a listing; a name has at most 255 bytes, each at most six in JSON.
const ENTRIES_PER_PART: usize = 500;

pub(super) fn stat(guest: &Guest, path: &str, root: Option<&str>) -> Answer {
    let stat = files::with_root(guest, root, |root| files::stat(root, path.as_bytes()));
    stat.map(ServerMessage::Stat).map_err(|error| error.reply())
}

pub(super) fn remove(guest: &Guest, path: &str, root: Option<&str>, recursive: bool) -> Result<(), ErrorReply> {
    files::with_root(guest, root, |root| files::remove(root, path.as_bytes(), recursive)).map_err(|error| error.reply())
}

pub(super) fn make_dir(guest: &Guest, path: &str, root: Option<&str>) -> Result<(), ErrorReply> {
    files::with_root(guest, root, |root| files::make_dir(root, path.as_bytes())).map_err(|error| error.reply())
}

pub(super) fn list(session: &mut Session, guest: &Guest, path: &str, root: Option<&str>) -> Result<(), Broken> {
    let entries = match files::with_root(guest, root, |root| files::list(root, path.as_bytes())) {
        Ok(entries) => entries,
        Err(error) => return session.refuse(error.reply()),
    };
    let mut parts = entries.chunks(ENTRIES_PER_PART).peekable();
    loop {
        let part = parts.next().unwrap_or_default();
        let entries = part.iter().map(|entry| DirectoryEntry {
            name: String::from_utf8_lossy(&entry.name).into_owned(),
            stat: entry.stat.clone(),
        });
        let more = parts.peek().is_some();
        session.send(&ServerMessage::Entries(Entries { entries: entries.collect(), more }))?;
        if !more {
            return Ok(());
        }
    }
}

pub(super) fn read(session: &mut Session, guest: &Guest, request: &ReadFileRequest) -> Result<(), Broken> {
    let opened =
        files::with_root(guest, request.root.as_deref(), |root| files::open_regular(root, request.path.as_bytes()));
    match opened {
        Ok((file, stat)) => send_file(session, &file, stat, request),
        Err(error) => session.refuse(error.reply()),
    }
}

/// The descriptor was opened with the user's rights; reading it needs none.
fn send_file(session: &mut Session, file: &OwnedFd, stat: FileStat, request: &ReadFileRequest) -> Result<(), Broken> {
    let failed = |errno: Errno| ErrorReply { code: ErrorCode::Internal, message: format!("reading failed: {errno}") };
    if let Err(errno) = seek(file, SeekFrom::Start(request.offset.unwrap_or(0))) {
        return session.refuse(failed(errno));
    }
    session.send(&ServerMessage::File(stat))?;
    let mut left = request.length.unwrap_or(u64::MAX);
    let mut buffer = vec![0; READ_BYTES];
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match rustix::io::read(file, &mut buffer[..wanted]) {
            Ok(0) => break,
            Ok(count) => {
                session.send_bytes(FrameKind::Data, &buffer[..count])?;
                left -= count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return session.refuse(failed(errno)),
        }
    }
    session.send(&ServerMessage::Done {})
}

/// Why a file was not written.
enum WriteFailure {
    File(FileError),
    Protocol(&'static str),
    Broken,
}

pub(super) fn write(session: &mut Session, guest: &Arc<Guest>, request: &WriteFileRequest) -> Result<(), Broken> {
    let result = files::with_root(guest, request.root.as_deref(), |root| {
        let begun =
            Replacement::begin(root, request.path.as_bytes(), request.mode, request.mkdirs, request.sha256.as_deref())?;
        Ok(receive_content(session, begun))
    });
    match result.unwrap_or_else(|error| Err(WriteFailure::File(error))) {
        Ok(size) => session.send(&ServerMessage::Written { size }),
        Err(WriteFailure::File(error)) => session.refuse(error.reply()),
        Err(WriteFailure::Protocol(message)) => {
            session.refuse(ErrorReply { code: ErrorCode::InvalidArgument, message: message.to_owned() })
        }
        Err(WriteFailure::Broken) => Err(Broken),
    }
}

fn receive_content(session: &mut Session, mut file: Replacement) -> Result<u64, WriteFailure> {
    loop {
        let frame = match session.receive() {
            Ok(Some(frame)) => frame,
            // Without the end being said, the content is not known to be whole.
            Ok(None) | Err(Broken) => return Err(WriteFailure::Broken),
        };
        match frame.kind {
            FrameKind::Data => file.write(&frame.payload).map_err(WriteFailure::File)?,
            FrameKind::Control => {
                return match serde_json::from_slice(&frame.payload) {
                    Ok(ClientMessage::Eof {}) => file.finish().map_err(WriteFailure::File),
                    _ => Err(WriteFailure::Protocol("only data and its end belong here")),
                };
            }
            _ => return Err(WriteFailure::Protocol("only data and its end belong here")),
        }
    }
}
