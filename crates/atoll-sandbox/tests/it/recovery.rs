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

const LIVES: usize = 300;
const LIVES_SOAK: usize = 10_000;

fn kill_guest(plane: &Plane, sandbox: &RunningSandbox) {
    kill(plane.run(plane.driver.inspect(&sandbox.id)).unwrap().guest_pid);
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
        kill(guest_pid);
        plane.restart();
        assert_killed(plane, &killed);
        assert_eq!(plane.run(plane.driver.inspect(&other.id)).unwrap().state, SandboxState::Running);
    });
}

/// How a sandbox's life is ended before it is destroyed.
#[derive(Debug, Clone, Copy)]
enum Death {
    None,
    Guest,
    Supervisor,
    Launcher,
}

/// The same sequence in every run, with all kinds in it.
fn deaths(count: usize) -> impl Iterator<Item = Death> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state % 40 {
            0 => Death::Launcher,
            1..=6 => Death::Guest,
            7..=12 => Death::Supervisor,
            _ => Death::None,
        }
    })
    .take(count)
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

fn live(plane: &mut Plane, death: Death) {
    let sandbox = plane.create(idle(2));
    plane.guest(&sandbox).hello();
    match death {
        Death::None => {}
        Death::Guest => kill_guest(plane, &sandbox),
        Death::Supervisor => kill(sandbox.supervisor_pid),
        Death::Launcher => {
            plane.kill_launcher();
            plane.restart();
        }
    }
    plane.run(plane.driver.destroy(&sandbox.id, 0)).unwrap();
}

fn many_lives_leave_nothing() {
    let lives = if std::env::var_os("ATOLL_SOAK").is_some() { LIVES_SOAK } else { LIVES };
    with_plane(|plane| {
        // The first one makes what all share.
        live(plane, Death::Launcher);
        let count = |plane: &Plane| leak_count(plane.state_dir()).unwrap();
        let (mut before, mut same) = (count(plane), 0);
        assert!(eventually(|| {
            let now = count(plane);
            same = if now == before { same + 1 } else { 0 };
            before = now;
            same == 50
        }));
        deaths(lives).for_each(|death| live(plane, death));
        assert!(eventually(|| count(plane) == before), "before {before:?}, after {:?}", count(plane));
        println!("SOAK sandbox lives {lives}: before {before:?}, after {:?}", count(plane));
    });
}
