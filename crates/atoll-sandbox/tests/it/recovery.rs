//! What is left when something dies.

use atoll_sandbox::{ExitReason, RunningSandbox, SandboxState, leak_count};
use rustix::process::{Pid, Signal, kill_process};

use crate::plane::{Plane, eventually, idle, with_plane};

crate::runner::tests![
    sandboxes_outlive_their_launcher,
    a_killed_guest_is_recorded,
    a_guest_killed_without_a_launcher_is_recorded,
    many_lives_leave_nothing,
];

const LIVES: usize = 20;

fn kill_guest(plane: &Plane, sandbox: &RunningSandbox) {
    let record = plane.run(plane.driver.inspect(&sandbox.id)).unwrap();
    kill_process(Pid::from_raw(record.guest_pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

fn assert_killed(plane: &Plane, sandbox: &RunningSandbox) {
    let exit = plane.run(plane.driver.wait(&sandbox.id)).unwrap();
    assert_eq!((exit.code, exit.signal, exit.reason), (137, Some(9), ExitReason::Error));
    let record = plane.run(plane.driver.inspect(&sandbox.id)).unwrap();
    assert_eq!(record.state, SandboxState::Exited(exit));
}

fn sandboxes_outlive_their_launcher() {
    with_plane(|plane| {
        let sandbox = plane.create(idle(2));
        plane.guest(&sandbox).sh("echo kept >note");
        let before = plane.run(plane.driver.list()).unwrap();
        plane.kill_launcher();
        plane.restart();
        let after = plane.run(plane.driver.list()).unwrap();
        assert_eq!(after, before);
        assert_eq!(after[0].state, SandboxState::Running);
        assert_eq!(plane.guest(&sandbox).sh("cat note").stdout, "kept\n");
        assert!(plane.create(idle(3)).incarnation > sandbox.incarnation);
        plane.run(plane.driver.destroy(&sandbox.id, 0)).unwrap();
        assert_eq!(plane.run(plane.driver.list()).unwrap().len(), 1);
    });
}

fn a_killed_guest_is_recorded() {
    with_plane(|plane| {
        let sandbox = plane.create(idle(2));
        kill_guest(plane, &sandbox);
        assert_killed(plane, &sandbox);
    });
}

fn a_guest_killed_without_a_launcher_is_recorded() {
    with_plane(|plane| {
        let (killed, other) = (plane.create(idle(2)), plane.create(idle(3)));
        let guest_pid = plane.run(plane.driver.inspect(&killed.id)).unwrap().guest_pid;
        plane.kill_launcher();
        kill_process(Pid::from_raw(guest_pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
        plane.restart();
        assert_killed(plane, &killed);
        assert_eq!(plane.run(plane.driver.inspect(&other.id)).unwrap().state, SandboxState::Running);
    });
}

fn many_lives_leave_nothing() {
    with_plane(|plane| {
        let live = || {
            let sandbox = plane.create(idle(2));
            plane.guest(&sandbox).hello();
            plane.run(plane.driver.destroy(&sandbox.id, 0)).unwrap();
        };
        // The first one makes what all share.
        live();
        let count = || leak_count(plane.state_dir()).unwrap();
        let (mut before, mut same) = (count(), 0);
        assert!(eventually(|| {
            let now = count();
            same = if now == before { same + 1 } else { 0 };
            before = now;
            same == 50
        }));
        (0..LIVES).for_each(|_| live());
        assert!(eventually(|| count() == before), "before {before:?}, after {:?}", count());
    });
}
