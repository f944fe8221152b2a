//! The tier `gvisor` from create to destroy.

use atoll_guest::protocol::Kernel;
use atoll_sandbox::{ExitReason, Resources, SandboxSpec, SandboxState, Tier};

use crate::plane::{Plane, idle, of, script, with_plane};

crate::runner::tests![
    a_sandbox_in_gvisor_comes_up_and_goes,
    its_end_and_the_wish_for_it_pass_through,
    it_outlives_its_launcher,
    too_little_memory_is_refused,
];

/// Runs `test` where there is gVisor.
fn with_gvisor(name: &str, test: impl FnOnce(&mut Plane) + Send) {
    if crate::plane::runsc().is_none() {
        println!("SKIPPED {name}: no runsc (tools/gvisor/build makes one)");
        return;
    }
    with_plane(test);
}

fn a_sandbox_in_gvisor_comes_up_and_goes() {
    with_gvisor("a_sandbox_in_gvisor_comes_up_and_goes", |plane| {
        let sandbox = plane.create(of(Tier::Gvisor, idle(2)));
        assert_eq!(sandbox.tier_in_force, Tier::Gvisor);
        let hello = plane.guest(&sandbox).hello();
        assert_eq!((hello.sandbox_id.as_str(), hello.kernel), ("sandbox-2", Some(Kernel::Gvisor)));
        let output =
            plane.guest(&sandbox).sh("id -u; hostname; echo $PWD; echo kept >note; cat note; echo oops >&2; exit 3");
        assert_eq!((output.code, output.stderr.as_str()), (3, "oops\n"));
        assert_eq!(output.stdout, "1000\nsandbox\n/workspace\nkept\n");
        plane.run(plane.driver.destroy(&sandbox.id, 0)).unwrap();
        assert!(plane.run(plane.driver.list()).unwrap().is_empty());
    });
}

fn its_end_and_the_wish_for_it_pass_through() {
    with_gvisor("its_end_and_the_wish_for_it_pass_through", |plane| {
        let ended = |spec: SandboxSpec| {
            let sandbox = plane.create(of(Tier::Gvisor, spec));
            plane.run(plane.driver.wait(&sandbox.id)).unwrap()
        };
        let done = ended(script(2, "echo done"));
        assert_eq!((done.code, done.reason), (0, ExitReason::Completed));
        assert!(plane.log_with("sandbox-2", "done").contains(" stdout "));
        assert_eq!(ended(script(3, "exit 7")).code, 7);
        let polite = plane.create(of(
            Tier::Gvisor,
            script(4, "trap 'echo asked; exit 5' TERM; echo waiting; while :; do sleep 0.1; done"),
        ));
        plane.log_with(&polite.id, "waiting");
        plane.run(plane.driver.signal(&polite.id, 15)).unwrap();
        assert_eq!(plane.run(plane.driver.wait(&polite.id)).unwrap().code, 5);
    });
}

fn it_outlives_its_launcher() {
    with_gvisor("it_outlives_its_launcher", |plane| {
        let sandbox = plane.create(of(Tier::Gvisor, idle(2)));
        plane.guest(&sandbox).sh("echo kept >note");
        plane.kill_launcher();
        plane.restart();
        let found = plane.run(plane.driver.inspect(&sandbox.id)).unwrap();
        assert_eq!((found.tier_in_force, found.state), (Tier::Gvisor, SandboxState::Running));
        assert_eq!(plane.guest(&sandbox).sh("cat note").stdout, "kept\n");
    });
}

fn too_little_memory_is_refused() {
    with_gvisor("too_little_memory_is_refused", |plane| {
        let resources = Resources { memory_bytes: Some(16 << 20), ..Resources::default() };
        let refused = plane.run(plane.driver.create(of(Tier::Gvisor, SandboxSpec { resources, ..idle(2) })));
        assert!(refused.unwrap_err().to_string().contains("too few for the tier gvisor"));
        assert!(plane.run(plane.driver.list()).unwrap().is_empty());
    });
}
