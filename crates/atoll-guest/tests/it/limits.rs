//! Bounds: of connections, commands, frames, files and processes.
#![expect(unsafe_code, reason = "processes of a control group are killed by number")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use atoll_guest::protocol::{
    CONNECTIONS_MAX, ClientMessage, ErrorCode, ExecRequest, FrameKind, ProcessLimits, Request, ServerMessage,
    UPLOAD_BYTES_MAX, WriteFileRequest,
};

use super::guest::{Setup, USER_ID, assert_refused, eventually, has_python, read_answer};

#[test]
fn one_connection_too_many_is_told_so() {
    let Some(guest) = Setup::plain().start("one_connection_too_many") else { return };
    let mut held: Vec<UnixStream> = (0..CONNECTIONS_MAX).map(|_| guest.connect()).collect();
    // All of them are being served.
    for stream in &mut held {
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(read_answer(stream).status, 200);
    }
    let mut refused = guest.connect();
    let answer = read_answer(&mut refused);
    assert_eq!((answer.status, answer.json()["detail"].as_str()), (503, Some("too many connections to the guest")));
    assert_eq!(refused.read(&mut [0]).unwrap(), 0);
    held.pop();
    eventually("a place is free again", || {
        let mut stream = guest.connect();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").ok()?;
        (read_answer(&mut stream).status == 200).then_some(())
    });
}

#[test]
fn one_command_too_many_is_refused() {
    let Some(guest) = Setup::plain().start("one_command_too_many") else { return };
    for _ in 0..256 {
        guest.exec(ExecRequest::new(["sleep", "1000"]));
    }
    let refusal = guest.refusal(&Request::Exec(ExecRequest::new(["true"])));
    assert_refused(&refusal, ErrorCode::ResourceExhausted, "256 commands run already");
    let ServerMessage::Execs { execs } = guest.ask(&Request::ListExecs {}) else { panic!() };
    assert_eq!(execs.len(), 256);
    assert_eq!(guest.ask(&Request::Kill { exec_id: execs[0].exec_id.clone() }), ServerMessage::Done {});
    eventually("there is room again", || {
        let mut session = guest.session(&Request::Exec(ExecRequest::new(["true"])));
        matches!(session.message(), ServerMessage::Started(_)).then_some(())
    });
}

#[test]
fn process_limits_are_in_force() {
    let mut setup = Setup::plain();
    setup.config.limits = ProcessLimits { nofile: 77, nproc: Some(5_000), file_size_bytes: Some(1_024 * 1_024) };
    let Some(guest) = setup.start("process_limits_are_in_force") else { return };
    let seen =
        guest.shell("ulimit -Hn; ulimit -Hu 2>/dev/null || ulimit -Hp; ulimit -Hf; ulimit -n 78 2>&1 | grep -c .");
    let lines: Vec<&str> = seen.stdout.lines().collect();
    assert_eq!((lines[0], lines[1], lines[3]), ("77", "5000", "1"), "{seen:?}");
    assert_eq!(lines[2], "2048", "blocks of 512 bytes");
}

#[test]
fn a_sandbox_without_processes_left_can_still_be_killed() {
    let mut setup = Setup::pid_1();
    // Should the group not hold, the user's own limit does.
    setup.config.exec_user.uid = USER_ID + 51;
    setup.config.limits.nproc = Some(100);
    let Some(guest) = setup.start("a_sandbox_without_processes_left") else { return };
    if !has_python() {
        println!("SKIPPED a_sandbox_without_processes_left_can_still_be_killed: needs python3");
        return;
    }
    // Threads of the guest (root) are counted by the kernel's limit only where a control group counts them.
    let Some(group) = PidsGroup::with(guest.pid(), 40) else {
        println!("SKIPPED a_sandbox_without_processes_left_can_still_be_killed: no pids control group to use");
        return;
    };
    let bomb = super::guest::FORKING;
    let (started, session) = guest.exec(ExecRequest::new(["python3", "-c", bomb]));
    eventually("no process is left", || (group.count() >= 40).then_some(()));
    // A command can not be started now, but the answer comes, and so does the kill.
    let kill = Request::Kill { exec_id: started.exec_id };
    let answer = eventually("the guest answers", || {
        let refused = guest.refusal(&Request::Exec(ExecRequest::new(["true"])));
        (refused.code == ErrorCode::ResourceExhausted).then(|| guest.ask(&kill))
    });
    assert_eq!(answer, ServerMessage::Done {});
    drop(session);
    eventually("the tree is gone", || guest.processes().is_empty().then_some(()));
    eventually("commands run again", || {
        let mut session = guest.session(&Request::Exec(ExecRequest::new(["true"])));
        matches!(session.message(), ServerMessage::Started(_)).then_some(())
    });
}

/// A pids control group around a guest.
struct PidsGroup {
    path: std::path::PathBuf,
}

impl PidsGroup {
    fn with(pid: i32, limit: u32) -> Option<Self> {
        for top in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            let path = std::path::Path::new(top).join(format!("atoll-guest-test-{pid}"));
            if std::fs::create_dir(&path).is_err() {
                continue;
            }
            let group = Self { path };
            let limited = std::fs::write(group.path.join("pids.max"), limit.to_string());
            if limited.is_ok() && std::fs::write(group.path.join("cgroup.procs"), pid.to_string()).is_ok() {
                return Some(group);
            }
        }
        None
    }

    fn count(&self) -> u32 {
        let text = std::fs::read_to_string(self.path.join("pids.current")).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    }
}

impl Drop for PidsGroup {
    /// Nothing leaves the group alive: outside of it nothing would limit it.
    fn drop(&mut self) {
        eventually("the group is empty", || {
            for pid in std::fs::read_to_string(self.path.join("cgroup.procs")).ok()?.lines() {
                // SAFETY: a process of this test's guest.
                unsafe { libc::kill(pid.parse().ok()?, libc::SIGKILL) };
            }
            std::fs::remove_dir(&self.path).ok()
        });
    }
}

#[test]
fn a_frame_that_is_too_long_ends_the_session() {
    let Some(guest) = Setup::plain().start("a_frame_that_is_too_long") else { return };
    let (started, mut session) = guest.exec(ExecRequest { stdin: true, ..ExecRequest::new(["cat"]) });
    session.stream.write_all(&[0xff, 0xff, 0xff, 0xff, 1]).unwrap();
    assert!(session.frame().is_none());
    // Only the session is over.
    assert_eq!(guest.ask(&Request::Kill { exec_id: started.exec_id }), ServerMessage::Done {});
}

#[test]
fn a_file_that_is_too_large_is_refused_and_leaves_nothing() {
    let Some(guest) = Setup::plain().start("a_file_that_is_too_large") else { return };
    let request = WriteFileRequest { path: "large".into(), ..WriteFileRequest::default() };
    let mut session = guest.session(&Request::WriteFile(request));
    let piece = vec![0; 1_000_000];
    let mut sent = 0;
    while sent <= UPLOAD_BYTES_MAX {
        if atoll_guest::protocol::write_frame(&mut session.stream, FrameKind::Data, &piece).is_err() {
            break;
        }
        sent += piece.len() as u64;
    }
    let _ = atoll_guest::protocol::write_json(&mut session.stream, &ClientMessage::Eof {});
    let ServerMessage::Error(refusal) = session.message() else { panic!() };
    assert_refused(&refusal, ErrorCode::ResourceExhausted, "larger than 268435456 bytes");
    assert_eq!(guest.base().read_dir().unwrap().count(), 0);
}

#[test]
fn standard_input_that_nobody_reads_is_bounded() {
    let Some(guest) = Setup::plain().start("standard_input_that_nobody_reads") else { return };
    let (started, session) = guest.exec(ExecRequest { stdin: true, ..ExecRequest::new(["sleep", "1000"]) });
    let mut stream = session.stream;
    stream.set_write_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let piece = vec![b'x'; 100_000];
    let mut sent = 0usize;
    while atoll_guest::protocol::write_frame(&mut stream, FrameKind::Stdin, &piece).is_ok() {
        sent += piece.len();
        assert!(sent < 16 * 1024 * 1024, "the guest takes standard input without end");
    }
    // The kill comes by a connection of its own and is not stuck behind it.
    assert_eq!(guest.ask(&Request::Kill { exec_id: started.exec_id }), ServerMessage::Done {});
}
