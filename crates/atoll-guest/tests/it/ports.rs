//! Ports inside the sandbox.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use atoll_guest::protocol::{ClientMessage, ErrorCode, FrameKind, ListeningPort, Request, ServerMessage};

use super::guest::{Setup, assert_refused};

#[test]
fn listening_ports_are_told() {
    let Some(guest) = Setup::plain().start("listening_ports_are_told") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ServerMessage::ListeningPorts { ports } = guest.ask(&Request::ListeningPorts {}) else { panic!() };
    assert!(ports.contains(&ListeningPort { port, loopback_only: true }), "{ports:?}");
    drop(listener);
    let ServerMessage::ListeningPorts { ports } = guest.ask(&Request::ListeningPorts {}) else { panic!() };
    assert!(ports.iter().all(|listening| listening.port != port));
}

#[test]
fn a_connection_is_carried_both_ways_to_its_end() {
    let Some(guest) = Setup::plain().start("a_connection_is_carried") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        // Half-closed: the answer still goes back.
        stream.write_all(&received).unwrap();
        stream.write_all(b"and more").unwrap();
        received
    });
    let mut session = guest.session(&Request::Connect { port });
    assert_eq!(session.message(), ServerMessage::Connected {});
    let content = vec![7; 2_000_000];
    for piece in content.chunks(900_000) {
        session.send_bytes(FrameKind::Data, piece);
    }
    session.send(&ClientMessage::Eof {});
    let mut back = Vec::new();
    loop {
        let frame = session.frame().expect("the end of the connection");
        if frame.kind == FrameKind::Data {
            back.extend(frame.payload);
        } else {
            assert_eq!(serde_json::from_slice::<ServerMessage>(&frame.payload).unwrap(), ServerMessage::Eof {});
            break;
        }
    }
    assert!(server.join().unwrap() == content);
    assert!(back == [content.as_slice(), b"and more"].concat());
}

#[test]
fn a_client_that_goes_away_takes_its_connection_along() {
    let Some(guest) = Setup::plain().start("a_client_that_goes_away") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut session = guest.session(&Request::Connect { port: listener.local_addr().unwrap().port() });
    assert_eq!(session.message(), ServerMessage::Connected {});
    let (mut stream, _) = listener.accept().unwrap();
    drop(session);
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn a_port_without_a_listener_is_not_found() {
    let Some(guest) = Setup::plain().start("a_port_without_a_listener") else { return };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_refused(&guest.refusal(&Request::Connect { port }), ErrorCode::NotFound, &port.to_string());
}
