//! Disconnecting, attaching again, and asking twice.

use atoll_guest::protocol::{
    ClientMessage, ErrorCode, ExecRequest, ExecState, Exit, FrameKind, LookupReply, Request, ServerMessage, Started,
};

use super::guest::{Guest, Session, Setup, assert_refused, eventually};

fn attach(guest: &Guest, exec_id: &str) -> (Started, Session) {
    let mut session = guest.session(&Request::Attach { exec_id: exec_id.to_owned() });
    match session.message() {
        ServerMessage::Started(started) => (started, session),
        other => panic!("{other:?}"),
    }
}

fn lookup(guest: &Guest, key: &str) -> LookupReply {
    match guest.ask(&Request::Lookup { idempotency_key: key.to_owned() }) {
        ServerMessage::Lookup(reply) => reply,
        other => panic!("{other:?}"),
    }
}

fn keyed<const N: usize>(key: &str, argv: [&str; N]) -> ExecRequest {
    ExecRequest { idempotency_key: Some(key.to_owned()), ..ExecRequest::new(argv) }
}

#[test]
fn a_command_survives_its_client_and_is_attached_to_again() {
    let Some(guest) = Setup::plain().start("a_command_survives_its_client") else { return };
    let script = "echo before; read line; echo after $line; exit 5";
    let request = ExecRequest { stdin: true, ..ExecRequest::new(["/bin/sh", "-c", script]) };
    let (started, mut session) = guest.exec(request);
    assert!(!started.replayed);
    session.read_until("before\n");
    drop(session);
    let (again, mut session) = attach(&guest, &started.exec_id);
    assert_eq!(again, Started { exec_id: started.exec_id.clone(), replayed: true, dropped_bytes: 0 });
    session.read_until("before\n");
    session.send_bytes(FrameKind::Stdin, b"input\n");
    let finished = session.finish();
    assert_eq!((finished.stdout.as_str(), finished.exit.code), ("after input\n", 5));
    // Also after the end: all of it once more.
    assert_eq!(attach(&guest, &started.exec_id).1.finish().stdout, "before\nafter input\n");
    assert_refused(&guest.refusal(&Request::Attach { exec_id: "none".into() }), ErrorCode::NotFound, "\"none\"");
}

#[test]
fn two_clients_see_the_same() {
    let Some(guest) = Setup::plain().start("two_clients_see_the_same") else { return };
    let script = "read line; i=0; while [ $i -lt 5000 ]; do echo $i; i=$((i+1)); done";
    let (started, mut one) = guest.exec(ExecRequest { stdin: true, ..ExecRequest::new(["/bin/sh", "-c", script]) });
    let (_, mut two) = attach(&guest, &started.exec_id);
    one.send_bytes(FrameKind::Stdin, b"go\n");
    let other = std::thread::spawn(move || two.finish());
    assert_eq!(one.finish(), other.join().unwrap());
}

#[test]
fn without_a_client_the_oldest_output_is_dropped_and_counted() {
    let Some(guest) = Setup::plain().start("without_a_client") else { return };
    let script = "read line; i=0; while [ $i -lt 300000 ]; do echo line-$i; i=$((i+1)); done; touch done";
    let (started, mut session) = guest.exec(ExecRequest { stdin: true, ..ExecRequest::new(["/bin/sh", "-c", script]) });
    session.send_bytes(FrameKind::Stdin, b"go\n");
    session.send(&ClientMessage::StdinEof {});
    drop(session);
    eventually("the command is not held up", || guest.base().join("done").exists().then_some(()));
    let (again, mut session) = attach(&guest, &started.exec_id);
    let finished = session.finish();
    let total: u64 = (0..300_000u64).map(|n| format!("line-{n}\n").len() as u64).sum();
    assert_eq!(again.dropped_bytes + finished.stdout.len() as u64, total);
    assert!(again.dropped_bytes > 0 && finished.stdout.ends_with("line-299999\n"));
}

#[test]
fn a_key_runs_its_command_once() {
    let Some(guest) = Setup::plain().start("a_key_runs_its_command_once") else { return };
    assert_eq!(lookup(&guest, "k").state, ExecState::Unknown);
    let request = || keyed("k", ["/bin/sh", "-c", "echo run >> runs; echo output; exit 7"]);
    let (first, mut session) = guest.exec(request());
    assert!(!first.replayed);
    let finished = session.finish();
    for _ in 0..3 {
        let (again, mut session) = guest.exec(request());
        assert!(again.replayed);
        assert_eq!(again.exec_id, first.exec_id);
        assert_eq!(session.finish(), finished);
    }
    assert_eq!(std::fs::read_to_string(guest.base().join("runs")).unwrap(), "run\n");
    let exit = Exit { code: 7, ..Exit::default() };
    let expected =
        LookupReply { state: ExecState::Exited, exec_id: Some(first.exec_id), exit: Some(exit), incarnation: 7 };
    assert_eq!(lookup(&guest, "k"), expected);
    // Without a key the same command does run again.
    guest.shell("echo run >> runs");
    assert_eq!(std::fs::read_to_string(guest.base().join("runs")).unwrap(), "run\nrun\n");
}

#[test]
fn a_key_asked_for_by_many_at_once_runs_once() {
    let Some(guest) = Setup::plain().start("a_key_asked_for_by_many") else { return };
    let replayed: Vec<bool> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    let (started, mut session) =
                        guest.exec(keyed("k", ["/bin/sh", "-c", "echo run >> runs; sleep 0.1"]));
                    session.finish();
                    started.replayed
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(replayed.iter().filter(|replayed| !**replayed).count(), 1);
    assert_eq!(std::fs::read_to_string(guest.base().join("runs")).unwrap(), "run\n");
}

#[test]
fn a_running_key_is_found_and_attached_to() {
    let Some(guest) = Setup::plain().start("a_running_key_is_found") else { return };
    let request = || keyed("k", ["/bin/sh", "-c", "echo begun; sleep 1000"]);
    let (started, mut session) = guest.exec(request());
    session.read_until("begun\n");
    drop(session);
    assert_eq!(lookup(&guest, "k").state, ExecState::Running);
    let (again, mut session) = guest.exec(request());
    assert!(again.replayed && again.exec_id == started.exec_id);
    session.read_until("begun\n");
    session.kill();
    assert_eq!(session.finish().exit.signal, Some(9));
}

#[test]
fn a_key_is_bound_to_its_command_and_one_that_failed_to_start_is_free() {
    let Some(guest) = Setup::plain().start("a_key_is_bound_to_its_command") else { return };
    let refusal = guest.refusal(&Request::Exec(keyed("k", ["nope"])));
    assert_eq!(refusal.code, ErrorCode::NotFound);
    assert_eq!(lookup(&guest, "k").state, ExecState::Unknown);
    guest.exec(keyed("k", ["true"])).1.finish();
    let other = guest.refusal(&Request::Exec(keyed("k", ["false"])));
    assert_refused(&other, ErrorCode::Conflict, "used for another command");
    let long = guest.refusal(&Request::Exec(keyed(&"k".repeat(257), ["true"])));
    assert_eq!(long.code, ErrorCode::InvalidArgument);
}

#[test]
fn the_end_of_a_keyed_command_outlives_its_output() {
    let Some(guest) = Setup::plain().start("the_end_of_a_keyed_command") else { return };
    let (first, mut session) = guest.exec(keyed("old", ["/bin/sh", "-c", "echo 12345; echo run >> runs; exit 3"]));
    session.finish();
    for _ in 0..300 {
        guest.exec(ExecRequest::new(["true"])).1.finish();
    }
    assert_eq!(guest.refusal(&Request::Attach { exec_id: first.exec_id.clone() }).code, ErrorCode::NotFound);
    let (again, mut session) = guest.exec(keyed("old", ["/bin/sh", "-c", "echo 12345; echo run >> runs; exit 3"]));
    assert_eq!(again, Started { exec_id: first.exec_id, replayed: true, dropped_bytes: 6 });
    assert_eq!(session.finish().exit.code, 3);
    assert_eq!(std::fs::read_to_string(guest.base().join("runs")).unwrap(), "run\n");
}
