//! Killing all that a command started, and collecting what is orphaned.

use atoll_guest::protocol::{ErrorCode, ExecRequest, Request, ServerMessage};

use super::guest::{Guest, Setup, assert_refused, eventually, has_python};

/// A tree of the kinds that get away: a child, one with a session of its own, a daemon whose parents are gone, and
/// one that changed its name and ignores every signal it can.
const TREE: &str = r#"
import os, signal, sys, time
def stay(name):
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    open(name, 'w').write(str(os.getpid()))
    time.sleep(1000)
def daemon(name):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.chdir('/'); os.chdir(base)
            for fd in range(3): os.close(fd)
            stay(name)
        os._exit(0)
base = os.getcwd()
if os.fork() == 0: stay('child')
if os.fork() == 0:
    os.setsid(); stay('session')
daemon('daemon1'); daemon('daemon2')
if os.fork() == 0:
    if os.fork() == 0:
        os.setpgid(0, 0); stay('orphan')
    os._exit(0)
stay('leader')
"#;

const NAMES: [&str; 6] = ["child", "session", "daemon1", "daemon2", "orphan", "leader"];

fn start_tree(guest: &Guest, timeout_ms: Option<u64>) -> (String, super::guest::Session) {
    let (started, session) = guest.exec(ExecRequest { timeout_ms, ..ExecRequest::new(["python3", "-c", TREE]) });
    eventually("the tree stands", || {
        let standing =
            |name: &&str| std::fs::read_to_string(guest.base().join(name)).is_ok_and(|text| !text.is_empty());
        NAMES.iter().all(standing).then_some(())
    });
    (started.exec_id, session)
}

fn setups() -> [Setup; 2] {
    [Setup::plain(), Setup::pid_1()]
}

#[test]
fn a_kill_takes_the_whole_tree() {
    for setup in setups() {
        let Some(guest) = setup.start("a_kill_takes_the_whole_tree") else { return };
        if !has_python() {
            println!("SKIPPED a_kill_takes_the_whole_tree: needs python3");
            return;
        }
        // A tree of another command stays.
        let (other, _session) = guest.exec(ExecRequest::new(["sleep", "1000"]));
        let (exec_id, mut session) = start_tree(&guest, None);
        assert_eq!(guest.processes().len(), NAMES.len() + 1);
        assert_eq!(guest.ask(&Request::Kill { exec_id }), ServerMessage::Done {});
        assert_eq!(guest.processes().len(), 1, "when the kill is answered, none is left");
        assert_eq!(session.finish().exit.signal, Some(9));
        let ServerMessage::Execs { execs } = guest.ask(&Request::ListExecs {}) else { panic!() };
        assert!(execs.iter().any(|exec| exec.exec_id == other.exec_id && exec.exit.is_none()));
    }
}

#[test]
fn killing_the_leader_alone_would_leave_the_tree() {
    let Some(guest) = Setup::plain().start("killing_the_leader_alone") else { return };
    if !has_python() {
        println!("SKIPPED killing_the_leader_alone_would_leave_the_tree: needs python3");
        return;
    }
    let (exec_id, mut session) = start_tree(&guest, None);
    // The twin of the test above: a signal to leader and process group misses all that left the group.
    session.send(&atoll_guest::protocol::ClientMessage::Signal { signal: libc::SIGKILL });
    session.finish();
    eventually("the group is gone and the rest is not", || (guest.processes().len() == 4).then_some(()));
    // What is left can still be killed by the command's id.
    assert_eq!(guest.ask(&Request::Kill { exec_id }), ServerMessage::Done {});
    assert_eq!(guest.processes(), Vec::<i32>::new());
}

#[test]
fn a_timeout_takes_the_whole_tree() {
    for setup in setups() {
        let Some(guest) = setup.start("a_timeout_takes_the_whole_tree") else { return };
        if !has_python() {
            println!("SKIPPED a_timeout_takes_the_whole_tree: needs python3");
            return;
        }
        let (_, mut session) = start_tree(&guest, Some(3_000));
        let exit = session.finish().exit;
        assert!(exit.timed_out && exit.code == 137 && !exit.oom_suspected, "{exit:?}");
        assert_eq!(guest.processes(), Vec::<i32>::new());
    }
}

#[test]
fn a_tree_that_keeps_forking_is_killed() {
    let mut setup = Setup::plain();
    setup.config.limits.nproc = Some(60);
    setup.config.exec_user.uid = super::guest::USER_ID + 50;
    let Some(guest) = setup.start("a_tree_that_keeps_forking") else { return };
    std::os::unix::fs::chown(guest.base(), Some(super::guest::USER_ID + 50), None).unwrap();
    if !has_python() {
        println!("SKIPPED a_tree_that_keeps_forking_is_killed: needs python3");
        return;
    }
    let bomb = super::guest::FORKING;
    let (started, mut session) = guest.exec(ExecRequest::new(["python3", "-c", bomb]));
    eventually("the limit is reached", || (guest.processes().len() >= 60).then_some(()));
    assert_eq!(guest.ask(&Request::Kill { exec_id: started.exec_id }), ServerMessage::Done {});
    assert_eq!(guest.processes(), Vec::<i32>::new());
    session.finish();
}

#[test]
fn orphans_are_collected() {
    for setup in setups() {
        let Some(guest) = setup.start("orphans_are_collected") else { return };
        let finished = guest.shell("for i in 1 2 3 4 5 6 7 8 9 10; do (sleep 0.05 &) ; done; echo started");
        assert_eq!(finished.stdout, "started\n");
        let pid = guest.pid();
        eventually("no child is left, dead or alive", || {
            let mut children = String::new();
            for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
                children += &std::fs::read_to_string(task.ok()?.path().join("children")).unwrap_or_default();
            }
            children.is_empty().then_some(())
        });
    }
}

#[test]
fn unknown_commands_are_not_killed() {
    let Some(guest) = Setup::plain().start("unknown_commands_are_not_killed") else { return };
    assert_refused(&guest.refusal(&Request::Kill { exec_id: "x".into() }), ErrorCode::NotFound, "\"x\"");
}
