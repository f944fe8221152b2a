//! Guests of earlier versions go on running when the plane is replaced by a newer one. What the first version said is
//! written down here, byte for byte, and is never changed: later clients must still understand it.

use std::path::Path;

use atoll_client::sandbox::{ErrorCode, ExecRequest, ExecState, SandboxConnection};
use atoll_rt::TaskGroup;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: atoll-guest/1\r\n\r\n";

const HELLO: &str = r#"{"hello":{"protocol":1,"sandbox_id":"4f1c","incarnation":1795370000123,"uptime_ms":42,"workload_running":true}}"#;
const STARTED: &str = r#"{"started":{"exec_id":"e1795370000123-1","replayed":false,"dropped_bytes":0}}"#;
const EXITED: &str = r#"{"exited":{"code":3,"signal":null,"timed_out":false,"oom_suspected":false}}"#;
const LOOKUP: &str = r#"{"lookup":{"state":"running","exec_id":"e1-1","exit":null,"incarnation":1795370000123}}"#;
const UNKNOWN: &str = r#"{"error":{"code":"unsupported","message":"the request is not understood: unknown variant"}}"#;

const CONTROL: u8 = 0;
const STDOUT: u8 = 2;

/// The first request of each recorded session as the first version took it, and the frames of its answer.
const SESSIONS: &[(&str, &[(u8, &str)])] = &[
    (r#"{"hello":{}}"#, &[(CONTROL, HELLO)]),
    (
        r#"{"exec":{"argv":["sh","-c","echo out; exit 3"],"stdin":false}}"#,
        &[(CONTROL, STARTED), (STDOUT, "out\n"), (CONTROL, EXITED)],
    ),
    (r#"{"lookup":{"idempotency_key":"k"}}"#, &[(CONTROL, LOOKUP)]),
    (r#"{"listening_ports":{}}"#, &[(CONTROL, UNKNOWN)]),
];

/// Plays the recorded guest: a request that it did not know word for word is a failure of the test.
async fn play(listener: UnixListener) {
    for (request, answer) in SESSIONS {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("get /atoll/v1/session http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nupgrade: atoll-guest/1\r\n"), "{head}");
        stream.write_all(SWITCHING.as_bytes()).await.unwrap();
        let length = stream.read_u32().await.unwrap();
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut frame).await.unwrap();
        assert_eq!((frame[0], std::str::from_utf8(&frame[1..]).unwrap()), (CONTROL, *request));
        for (kind, payload) in *answer {
            stream.write_u32(u32::try_from(payload.len() + 1).unwrap()).await.unwrap();
            stream.write_u8(*kind).await.unwrap();
            stream.write_all(payload.as_bytes()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_guest_of_the_first_version_is_understood() {
    let directory = tempfile::tempdir().unwrap();
    let socket: &Path = &directory.path().join("guest.sock");
    let group = TaskGroup::new("test");
    let guest = group.spawn("recorded-guest", play(UnixListener::bind(socket).unwrap()));
    let connection = SandboxConnection::over_unix(socket);

    let hello = connection.hello().await.unwrap();
    assert_eq!((hello.protocol, hello.incarnation, hello.workload_running), (1, 1_795_370_000_123, true));
    let session = connection.exec(ExecRequest::new(["sh", "-c", "echo out; exit 3"])).await.unwrap();
    let output = session.output(100).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.exit.code), (&b"out\n"[..], 3));
    let found = connection.lookup("k").await.unwrap();
    assert_eq!((found.state, found.exit), (ExecState::Running, None));
    let refused = connection.listening_ports().await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::Unsupported), "what it does not know it says so, and nothing breaks");
    guest.await.unwrap();
}
