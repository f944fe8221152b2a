//! Booting, running the workload, and ending.

use atoll_guest::protocol::{HelloReply, Request, ServerMessage};

use super::guest::{Setup, USER_ID, eventually};

#[test]
fn hello_says_who_is_there() {
    let Some(guest) = Setup::plain().start("hello_says_who_is_there") else { return };
    let ServerMessage::Hello(HelloReply { protocol, sandbox_id, incarnation, workload_running, .. }) =
        guest.ask(&Request::Hello {})
    else {
        panic!("no hello")
    };
    assert_eq!((protocol, sandbox_id.as_str(), incarnation, workload_running), (1, "test-sandbox", 7, false));
}

#[test]
fn the_workload_s_exit_code_is_the_guest_s() {
    for (script, expected) in [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
        for setup in [Setup::plain(), Setup::pid_1()] {
            let Some(mut guest) = setup.workload(["/bin/sh", "-c", script]).start("the_workload_s_exit_code") else {
                return;
            };
            assert_eq!(guest.wait().code(), Some(expected), "{script}");
        }
    }
}

#[test]
fn the_workload_runs_as_its_user_in_the_base_directory() {
    let script = "id -u; id -g; pwd; echo $HOME; echo $EXTRA; echo to-stderr >&2; readlink /proc/self/fd/0";
    let mut setup = Setup::plain().workload(["/bin/sh", "-c", script]);
    setup.config.workload.as_mut().unwrap().env.insert("EXTRA".into(), "value".into());
    setup.environment.insert("SECRET_OF_THE_HOST".into(), "hunter2".into());
    let Some(mut guest) = setup.start("the_workload_runs_as_its_user") else { return };
    assert_eq!(guest.wait().code(), Some(0));
    let expected = format!("{USER_ID}\n{USER_ID}\n{}\n/\nvalue\nto-stderr\n/dev/null\n", guest.base().display());
    assert_eq!(guest.output(), expected);
}

#[test]
fn what_the_workload_leaves_behind_ends_with_it() {
    let script = "setsid sh -c 'trap \"\" TERM HUP; sleep 1000 & wait' & sleep 0.2; exit 3";
    let Some(mut guest) = Setup::plain().workload(["/bin/sh", "-c", script]).start("what_is_left_behind") else {
        return;
    };
    let left = eventually("the background process runs", || guest.processes().into_iter().nth(2));
    assert_eq!(guest.wait().code(), Some(3));
    eventually("it ends", || (!std::path::Path::new(&format!("/proc/{left}")).exists()).then_some(()));
}

#[test]
fn a_workload_that_can_not_start_says_so() {
    for (program, code, reason) in [
        ("/nonexistent", 127, "No such file or directory: /nonexistent"),
        ("/etc/passwd", 126, "Permission denied: /etc/passwd"),
    ] {
        let Some(mut guest) = Setup::plain().workload([program]).start("a_workload_that_can_not_start") else { return };
        assert_eq!(guest.wait().code(), Some(code));
        assert!(guest.output().contains(reason), "{}", guest.output());
    }
}

#[test]
fn sigterm_asks_the_workload_and_then_kills_it() {
    for setup in [Setup::plain(), Setup::pid_1()] {
        let polite = "trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
        let Some(mut guest) = setup.workload(["/bin/sh", "-c", polite]).start("sigterm_asks_the_workload") else {
            return;
        };
        eventually("the workload is ready", || guest.output().contains("ready").then_some(()));
        guest.signal(libc::SIGTERM);
        guest.wait();
        assert!(guest.output().contains("asked"));
    }
    let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let mut setup = Setup::plain().workload(["/bin/sh", "-c", stubborn]);
    setup.config.termination_grace_ms = 100;
    let Some(mut guest) = setup.start("sigterm_asks_the_workload") else { return };
    eventually("the workload is ready", || guest.output().contains("ready").then_some(()));
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.wait().code(), Some(137));
}

#[test]
fn an_idle_sandbox_ends_when_asked() {
    let Some(mut guest) = Setup::pid_1().start("an_idle_sandbox_ends_when_asked") else { return };
    let (_, mut session) = guest.exec(atoll_guest::protocol::ExecRequest::new(["sleep", "1000"]));
    assert_eq!(guest.ask(&Request::Shutdown { grace_ms: Some(60_000) }), ServerMessage::Done {});
    assert_eq!(guest.wait().code(), Some(0));
    // The command was asked politely and ended, or the connection ended with the guest.
    let _ = session.frame();
    let Some(mut guest) = Setup::plain().start("an_idle_sandbox_ends_when_asked") else { return };
    guest.get("/");
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.wait().code(), Some(0));
}

#[test]
fn a_signal_reaches_the_workload() {
    let script = "trap 'echo got-usr1; exit 9' USR1; echo ready; while :; do sleep 0.05; done";
    let Some(mut guest) = Setup::plain().workload(["/bin/sh", "-c", script]).start("a_signal_reaches_the_workload")
    else {
        return;
    };
    eventually("the workload is ready", || guest.output().contains("ready").then_some(()));
    assert!(matches!(guest.ask(&Request::Hello {}), ServerMessage::Hello(hello) if hello.workload_running));
    assert_eq!(guest.ask(&Request::SignalWorkload { signal: libc::SIGUSR1 }), ServerMessage::Done {});
    assert_eq!(guest.wait().code(), Some(9));
    assert!(guest.output().contains("got-usr1"));
}

#[test]
fn a_guest_that_is_newer_than_the_host_wants_is_refused() {
    let mut setup = Setup::plain();
    setup.config.protocol = 99;
    let Some(mut guest) = setup.start("a_guest_that_is_newer") else { return };
    assert_eq!(guest.wait().code(), Some(125));
    assert!(guest.output().contains("guest protocol 99 is not spoken here"), "{}", guest.output());
}

#[test]
fn the_guest_s_own_environment_and_memory_are_out_of_reach() {
    let mut setup = Setup::pid_1();
    setup.environment.insert("SECRET_OF_THE_HOST".into(), "hunter2".into());
    let Some(guest) = setup.start("the_guest_s_own_environment") else { return };
    let seen =
        guest.shell("cat /proc/1/environ; cat /proc/1/mem; ls /proc/1/fd; readlink /proc/1/exe /proc/1/cwd; env; true");
    assert!(!seen.stdout.contains("hunter2") && !seen.stdout.contains("atoll-guest"), "{seen:?}");
    assert_eq!(seen.stderr.matches("Permission denied").count(), 3, "{seen:?}");
    // The same files of a process of one's own can be read: it is the guest that is closed.
    let own = guest.shell("cat /proc/$$/environ | tr '\\0' '\\n' | grep ^PATH=; ls /proc/$$/fd | head -1");
    assert!(own.stdout.starts_with("PATH=") && own.stdout.ends_with("0\n"), "{own:?}");
}
