//! Connections to ports inside the sandbox.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use atoll_guest::protocol::{ClientMessage, ErrorCode, ErrorReply, FrameKind, ServerMessage};

use super::{Broken, Session, refusal, send, send_bytes};

const CONNECT_MS_MAX: u64 = 5_000;

const STACK_BYTES: usize = 192 * 1024;

const READ_BYTES: usize = 64 * 1024;

/// This thread moves bytes towards the port, another one moves them back.
pub(super) fn connect(session: &mut Session, port: u16) -> Result<(), Broken> {
    let peer = match dial(port) {
        Ok(peer) => peer,
        Err(refusal) => return session.refuse(refusal),
    };
    let clones = peer.try_clone().and_then(|peer| session.connection.writer().map(|writer| (peer, writer)));
    let (reading, mut writer) = match clones {
        Ok(clones) => clones,
        Err(error) => return session.refuse(refusal(ErrorCode::ResourceExhausted, &error)),
    };
    session.send(&ServerMessage::Connected {})?;
    let back = thread::Builder::new().name("forward".to_owned()).stack_size(STACK_BYTES);
    let back = match back.spawn(move || move_back(reading, &mut writer)) {
        Ok(back) => back,
        Err(error) => return session.refuse(refusal(ErrorCode::ResourceExhausted, &error)),
    };
    let client_is_there = move_forth(session, &peer);
    // A client that went away takes the connection with it; one that only sends no more still listens.
    let _ = peer.shutdown(if client_is_there { Shutdown::Write } else { Shutdown::Both });
    if client_is_there {
        while let Ok(Some(_)) = session.receive() {}
        let _ = peer.shutdown(Shutdown::Both);
    }
    let _ = back.join();
    Ok(())
}

fn dial(port: u16) -> Result<TcpStream, ErrorReply> {
    let mut last = io::Error::from(io::ErrorKind::ConnectionRefused);
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        match TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_millis(CONNECT_MS_MAX)) {
            Ok(peer) => {
                let _ = peer.set_nodelay(true);
                return Ok(peer);
            }
            // Without IPv6 the second failure would only hide the first.
            Err(error) if address.is_ipv4() => last = error,
            Err(_) => {}
        }
    }
    let code = match last.kind() {
        io::ErrorKind::ConnectionRefused => ErrorCode::NotFound,
        io::ErrorKind::InvalidInput => ErrorCode::InvalidArgument,
        _ => ErrorCode::Internal,
    };
    Err(ErrorReply { code, message: format!("nothing could be reached on port {port}: {last}") })
}

/// Returns whether the client said that it sends no more, rather than going away.
fn move_forth(session: &mut Session, mut peer: &TcpStream) -> bool {
    loop {
        match session.receive() {
            Ok(Some(frame)) if frame.kind == FrameKind::Data => {
                if peer.write_all(&frame.payload).is_err() {
                    return false;
                }
            }
            Ok(Some(frame)) => {
                return matches!(serde_json::from_slice(&frame.payload), Ok(ClientMessage::Eof {}));
            }
            Ok(None) | Err(Broken) => return false,
        }
    }
}

fn move_back(mut peer: TcpStream, writer: &mut UnixStream) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match peer.read(&mut buffer) {
            Ok(0) => {
                let _ = send(&*writer, &ServerMessage::Eof {});
                break;
            }
            Ok(count) => {
                if send_bytes(writer, FrameKind::Data, &buffer[..count]).is_err() {
                    let _ = peer.shutdown(Shutdown::Both);
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let _ = send(&*writer, &ServerMessage::Error(refusal(ErrorCode::Internal, &error)));
                break;
            }
        }
    }
    let _ = writer.shutdown(Shutdown::Write);
}
