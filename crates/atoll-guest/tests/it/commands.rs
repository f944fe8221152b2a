//! Commands: what they see, what they write, how they end.

use atoll_guest::protocol::{ClientMessage, ErrorCode, ExecRequest, Exit, FrameKind, Request, ServerMessage, User};

use super::guest::{Finished, Setup, USER_ID, assert_refused, eventually};

#[test]
fn output_and_exit_code_come_back() {
    let Some(guest) = Setup::plain().start("output_and_exit_code_come_back") else { return };
    let finished = guest.shell("echo out; echo err >&2; exit 3");
    let exit = Exit { code: 3, ..Exit::default() };
    assert_eq!(finished, Finished { stdout: "out\n".into(), stderr: "err\n".into(), exit });
    let killed = guest.shell("kill -TERM $$");
    assert_eq!(killed.exit, Exit { code: 143, signal: Some(15), ..Exit::default() });
}

#[test]
fn output_streams_while_the_command_runs() {
    let Some(guest) = Setup::plain().start("output_streams_while_the_command_runs") else { return };
    let (_, mut session) = guest.exec(ExecRequest {
        stdin: true,
        ..ExecRequest::new(["/bin/sh", "-c", "echo first; read line; echo got $line"])
    });
    // The command waits for its input: its first line must come before it can end.
    session.read_until("first\n");
    session.send_bytes(FrameKind::Stdin, b"second\n");
    assert_eq!(session.finish().stdout, "got second\n");
}

#[test]
fn standard_input_of_any_size_arrives_and_ends() {
    let Some(guest) = Setup::plain().start("standard_input_of_any_size") else { return };
    let (_, session) = guest.exec(ExecRequest { stdin: true, ..ExecRequest::new(["cat"]) });
    let mut reading = super::guest::Session { stream: session.stream.try_clone().unwrap() };
    let content: Vec<u8> = (0..5_000_000u32).map(|n| b'a' + (n % 23) as u8).collect();
    let expected = content.clone();
    let sending = std::thread::spawn(move || {
        let mut session = session;
        for piece in content.chunks(700_000) {
            session.send_bytes(FrameKind::Stdin, piece);
        }
        session.send(&ClientMessage::StdinEof {});
        session
    });
    assert!(reading.finish().stdout.as_bytes() == expected, "what cat was given is what it wrote");
    drop(sending.join());
}

#[test]
fn a_slow_reader_holds_the_command_up_and_loses_nothing() {
    let Some(guest) = Setup::plain().start("a_slow_reader") else { return };
    let script = "head -c 8000000 /dev/zero | tr '\\0' x; touch done";
    let (_, mut session) = guest.exec(ExecRequest::new(["/bin/sh", "-c", script]));
    // Nothing is read until the kept output has long been full.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(!guest.base().join("done").exists(), "the command ran on without its reader");
    let finished = session.finish();
    assert_eq!(finished.stdout.len(), 8_000_000);
    assert!(guest.base().join("done").exists());
}

#[test]
fn environment_directory_and_user_are_as_asked() {
    let Some(guest) = Setup::plain().env("FROM_SANDBOX", "s").env("OVERRIDDEN", "s").start("environment_directory")
    else {
        return;
    };
    let request = ExecRequest {
        env: [("OVERRIDDEN", "r"), ("FROM_REQUEST", "r")].map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
        cwd: Some("/usr".into()),
        user: Some(User { uid: 41_018, gid: 41_019, groups: vec![41_020] }),
        ..ExecRequest::new(["/bin/sh", "-c", "echo $FROM_SANDBOX $OVERRIDDEN $FROM_REQUEST; pwd; id -u; id -g; id -G"])
    };
    let finished = guest.exec(request).1.finish();
    let lines: Vec<&str> = finished.stdout.lines().collect();
    assert_eq!(lines[..4], ["s r r", "/usr", "41018", "41019"], "{finished:?}");
    let groups: Vec<&str> = lines[4].split(' ').collect();
    assert_eq!(groups[..2], ["41019", "41020"], "{groups:?}");
    std::fs::create_dir(guest.base().join("sub")).unwrap();
    let relative = ExecRequest { cwd: Some("sub".into()), ..ExecRequest::new(["pwd"]) };
    assert!(guest.exec(relative).1.finish().stdout.ends_with("/base/sub\n"));
    assert_eq!(guest.shell("id -u; pwd").stdout, format!("{USER_ID}\n{}\n", guest.base().display()));
}

#[test]
fn standard_streams_can_be_opened_by_name() {
    let Some(guest) = Setup::plain().start("standard_streams_can_be_opened") else { return };
    let finished = guest.shell("echo out > /dev/stdout; echo err > /dev/stderr; echo x | cat /dev/stdin");
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\nx\n", "err\n"));
}

#[test]
fn what_can_not_be_started_is_refused_with_the_reason() {
    let Some(guest) = Setup::plain().start("what_can_not_be_started") else { return };
    let refusal = |request: ExecRequest| guest.refusal(&Request::Exec(request));
    let exec = |program: &str| ExecRequest::new([program]);
    assert_refused(&refusal(exec("nope")), ErrorCode::NotFound, "No such file or directory: nope");
    assert_refused(&refusal(exec("/etc/passwd")), ErrorCode::PermissionDenied, "Permission denied: /etc/passwd");
    assert_refused(&refusal(exec("/etc/passwd/x")), ErrorCode::NotFound, "/etc/passwd/x");
    assert_refused(&refusal(exec("a\0b")), ErrorCode::InvalidArgument, "zero byte");
    assert_refused(&refusal(ExecRequest::default()), ErrorCode::InvalidArgument, "empty");
    let cwd = ExecRequest { cwd: Some("/nope".into()), ..exec("true") };
    assert_refused(&refusal(cwd), ErrorCode::NotFound, "working directory /nope");
    let closed = ExecRequest { cwd: Some("/root".into()), ..exec("true") };
    if !std::fs::metadata("/root")
        .is_ok_and(|root| std::os::unix::fs::PermissionsExt::mode(&root.permissions()) & 1 == 1)
    {
        assert_refused(&refusal(closed), ErrorCode::PermissionDenied, "working directory /root");
    }
    let reserved = ExecRequest { user: Some(User { uid: 1, gid: 60_000, groups: vec![] }), ..exec("true") };
    assert_refused(&refusal(reserved), ErrorCode::InvalidArgument, "group 60000 is reserved");
    // Nothing of it is remembered.
    assert_eq!(guest.ask(&Request::ListExecs {}), ServerMessage::Execs { execs: vec![] });
}

#[test]
fn the_end_is_told_when_the_command_ends_though_a_child_holds_its_output() {
    let Some(guest) = Setup::plain().start("the_end_is_told") else { return };
    let finished = guest.shell("echo early; sleep 1000 & exit 4");
    assert_eq!((finished.stdout.as_str(), finished.exit.code), ("early\n", 4));
    // The child was left running on purpose (a server started in the background, say).
    assert_eq!(guest.processes().len(), 1);
}

#[test]
fn a_child_left_behind_can_go_on_writing() {
    let Some(guest) = Setup::plain().start("a_child_left_behind") else { return };
    let script = "(i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done; echo survived > done) & exit 0";
    guest.shell(script);
    let file = guest.base().join("done");
    eventually("the child survives", || std::fs::read_to_string(&file).ok().filter(|text| text == "survived\n"));
}

#[test]
fn signals_reach_the_command_s_group() {
    let Some(guest) = Setup::plain().start("signals_reach_the_command") else { return };
    let script = "trap 'echo got-int; exit 6' INT; echo ready; while :; do sleep 0.05; done";
    let (_, mut session) = guest.exec(ExecRequest::new(["/bin/sh", "-c", script]));
    session.read_until("ready\n");
    session.send(&ClientMessage::Signal { signal: 12_345 });
    session.send(&ClientMessage::Signal { signal: libc::SIGINT });
    let finished = session.finish();
    assert!(finished.stdout.contains("got-int"));
    assert_eq!(finished.exit.code, 6);
}

#[test]
fn a_kill_from_elsewhere_is_told_apart_from_ours() {
    let Some(guest) = Setup::plain().start("a_kill_from_elsewhere") else { return };
    assert!(guest.shell("kill -KILL $$").exit.oom_suspected);
    let (_, mut session) = guest.exec(ExecRequest::new(["sleep", "1000"]));
    session.kill();
    assert_eq!(session.finish().exit, Exit { code: 137, signal: Some(9), ..Exit::default() });
}

#[test]
fn commands_are_listed() {
    let Some(guest) = Setup::plain().start("commands_are_listed") else { return };
    guest.shell("exit 2");
    let (started, _session) =
        guest.exec(ExecRequest { id: Some("mine".into()), ..ExecRequest::new(["sleep", "1000"]) });
    assert_eq!(started.exec_id, "mine");
    let ServerMessage::Execs { execs } = guest.ask(&Request::ListExecs {}) else { panic!() };
    assert_eq!(execs.len(), 2);
    assert_eq!(execs[0].exit.as_ref().map(|exit| exit.code), Some(2));
    assert_eq!((execs[1].exec_id.as_str(), &execs[1].exit, execs[1].attached), ("mine", &None, 1));
    assert_eq!(execs[1].argv, ["sleep", "1000"]);
    let again = ExecRequest { id: Some("mine".into()), ..ExecRequest::new(["true"]) };
    assert_refused(&guest.refusal(&Request::Exec(again)), ErrorCode::Conflict, "\"mine\" exists");
}

#[test]
fn requests_that_are_not_understood_are_refused() {
    let Some(guest) = Setup::plain().start("requests_that_are_not_understood") else { return };
    let refuse = |json: &str| {
        let mut session = guest.session(&serde_json::from_str::<Request>(r#"{"hello":{}}"#).unwrap());
        drop(session.message());
        let mut stream = guest.connect();
        std::io::Write::write_all(
            &mut stream,
            b"GET /atoll/v1/session HTTP/1.1\r\nconnection: Upgrade\r\nupgrade: atoll-guest/1\r\n\r\n",
        )
        .unwrap();
        let head = super::guest::read_answer(&mut stream);
        assert_eq!(head.status, 101);
        let mut session = super::guest::Session { stream };
        session.send_bytes(FrameKind::Control, json.as_bytes());
        match session.message() {
            ServerMessage::Error(reply) => reply,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refuse("{").code, ErrorCode::InvalidArgument);
    assert_eq!(refuse(r#"{"exec":{"argv":5}}"#).code, ErrorCode::InvalidArgument);
    assert_eq!(refuse(r#"{"teleport":{}}"#).code, ErrorCode::Unsupported);
    let without_upgrade = guest.get("/atoll/v1/session");
    assert_eq!(without_upgrade.status, 426);
    assert!(without_upgrade.head.contains("upgrade: atoll-guest/1"));
}
