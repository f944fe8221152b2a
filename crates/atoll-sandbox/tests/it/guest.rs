//! Talks to a guest as a router would: its session protocol over its socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_guest::protocol::{ExecRequest, FrameKind, HelloReply, Request, ServerMessage, User, read_frame, write_json};

const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Guest {
    socket: PathBuf,
}

/// What a command left.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Guest {
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    fn session(&self, request: &Request) -> UnixStream {
        let mut stream = UnixStream::connect(&self.socket).expect("the guest's socket accepts");
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let head =
            "GET /atoll/v1/session HTTP/1.1\r\nHost: guest\r\nConnection: Upgrade\r\nUpgrade: atoll-guest/1\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the guest answers");
            answer.push(byte[0]);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        write_json(&mut stream, request).unwrap();
        stream
    }

    pub(crate) fn hello(&self) -> HelloReply {
        let mut stream = self.session(&Request::Hello {});
        let frame = read_frame(&mut stream).unwrap().expect("a reply");
        match serde_json::from_slice(&frame.payload).unwrap() {
            ServerMessage::Hello(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// Runs a shell script to its end as the sandbox's user.
    pub(crate) fn sh(&self, script: &str) -> Output {
        self.exec(ExecRequest::new(["/bin/sh", "-c", script]))
    }

    /// The same as root inside.
    pub(crate) fn sh_as_root(&self, script: &str) -> Output {
        let user = Some(User { uid: 0, gid: 0, groups: Vec::new() });
        self.exec(ExecRequest { user, ..ExecRequest::new(["/bin/sh", "-c", script]) })
    }

    pub(crate) fn exec(&self, request: ExecRequest) -> Output {
        let mut stream = self.session(&Request::Exec(request));
        let mut output = Output::default();
        loop {
            let frame = read_frame(&mut stream).unwrap().expect("the command's end");
            let text = String::from_utf8_lossy(&frame.payload).into_owned();
            match frame.kind {
                FrameKind::Stdout => output.stdout.push_str(&text),
                FrameKind::Stderr => output.stderr.push_str(&text),
                FrameKind::Control => match serde_json::from_slice(&frame.payload).unwrap() {
                    ServerMessage::Exited(exit) => {
                        output.code = exit.code;
                        return output;
                    }
                    ServerMessage::Started(_) => {}
                    other => panic!("{other:?}"),
                },
                _ => {}
            }
        }
    }
}
