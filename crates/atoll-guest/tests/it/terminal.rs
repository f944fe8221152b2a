//! Commands on a terminal.

use atoll_guest::protocol::{ClientMessage, ExecRequest, FrameKind, TerminalSize};

use super::guest::Setup;

fn on_terminal(script: &str) -> ExecRequest {
    let tty = Some(TerminalSize { cols: 101, rows: 31 });
    ExecRequest { tty, stdin: true, ..ExecRequest::new(["/bin/sh", "-c", script]) }
}

#[test]
fn a_terminal_has_its_size_its_kind_and_its_owner() {
    let Some(guest) = Setup::plain().start("a_terminal_has_its_size") else { return };
    let script = "stty size; test -t 0 && test -t 1 && test -t 2 && echo all-three; echo $TERM; stat -c %u $(tty); echo >/dev/tty ok";
    let finished = guest.exec(on_terminal(script)).1.finish();
    let uid = super::guest::USER_ID;
    assert_eq!(finished.stdout, format!("31 101\r\nall-three\r\nxterm-256color\r\n{uid}\r\nok\r\n"), "{finished:?}");
    assert_eq!(finished.stderr, "");
}

#[test]
fn keys_resizing_and_control_characters_work() {
    let Some(guest) = Setup::plain().start("keys_resizing_and_control") else { return };
    let script = "trap 'stty size' WINCH; trap 'echo interrupted' INT; echo ready; while :; do sleep 0.05; done";
    let (_, mut session) = guest.exec(on_terminal(script));
    session.read_until("ready");
    session.send(&ClientMessage::Resize(TerminalSize { cols: 50, rows: 20 }));
    session.read_until("20 50");
    session.send_bytes(FrameKind::Stdin, b"\x03");
    session.read_until("interrupted");
    session.send_bytes(FrameKind::Stdin, b"\x1c");
    assert_eq!(session.finish().exit.signal, Some(3));
}

#[test]
fn the_end_of_input_is_typed() {
    let Some(guest) = Setup::plain().start("the_end_of_input_is_typed") else { return };
    let (_, mut session) = guest.exec(on_terminal("cat; echo end-of-cat"));
    session.send_bytes(FrameKind::Stdin, b"line\n");
    session.read_until("line\r\nline\r\n");
    session.send(&ClientMessage::StdinEof {});
    assert!(session.finish().stdout.contains("end-of-cat"));
}

#[test]
fn all_that_was_written_before_the_end_arrives() {
    let Some(guest) = Setup::plain().start("all_that_was_written") else { return };
    for _ in 0..10 {
        let finished = guest.exec(on_terminal("seq 1 3000; exit 0")).1.finish();
        assert!(
            finished.stdout.ends_with("\r\n2999\r\n3000\r\n"),
            "{:?}",
            &finished.stdout[finished.stdout.len() - 40..]
        );
    }
}

#[test]
fn nobody_can_type_into_the_terminal() {
    let Some(guest) = Setup::plain().start("nobody_can_type_into_the_terminal") else { return };
    if !super::guest::has_python() {
        println!("SKIPPED nobody_can_type_into_the_terminal: needs python3");
        return;
    }
    let script = "import fcntl\nfor request in (0x5412, 0x541c, 0x100005412):\n try:\n  fcntl.ioctl(0, request & 0xffffffff, b'x')\n  print('typed')\n except PermissionError: print('refused')";
    let request = ExecRequest { argv: ["python3", "-c", script].map(str::to_owned).to_vec(), ..on_terminal("") };
    assert_eq!(guest.exec(request).1.finish().stdout, "refused\r\nrefused\r\nrefused\r\n");
}
