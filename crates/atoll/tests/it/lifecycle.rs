//! Starting, stopping, being killed: what stays and what goes.

use atoll_sandbox::{LeakCount, leak_count};

use crate::world::{World, eventually, skip_without_root};

#[test]
fn down_leaves_nothing_behind() {
    if skip_without_root("down_leaves_nothing_behind") {
        return;
    }
    let world = World::new();
    std::fs::create_dir(world.state()).expect("it is made");
    let count = || leak_count(&world.state()).expect("the directory is there");
    // Links are counted for the whole machine, whoever made them.
    let before = count();
    assert_eq!(LeakCount { links: 0, rules: 0, ..before }, LeakCount::default());
    world.up(&[]).ok();
    world.atoll(&["sandbox", "create", "one"]).ok();
    world.atoll(&["sandbox", "create", "two"]).ok();
    world.atoll(&["status"]).ok();
    let running = count();
    assert!(
        running.processes >= 4 && running.cgroups > 0 && running.netns >= 2 && running.links >= before.links + 2,
        "{running:?}"
    );
    world.atoll(&["down"]).ok();
    // The kernel takes a link down with its network namespace, a moment after the last process in it is gone.
    eventually("nothing is left behind", || count() == before);
    world.atoll(&["status"]).fails(7, "no plane runs", "atoll up");
    world.atoll(&["down"]).ok();
}

#[test]
fn sandboxes_outlive_a_killed_plane_and_are_found_again() {
    if skip_without_root("sandboxes_outlive_a_killed_plane_and_are_found_again") {
        return;
    }
    let world = World::with_plane();
    world.atoll(&["sandbox", "create", "box"]).ok();
    world.atoll(&["sandbox", "exec", "box", "--", "sh", "-c", "echo kept > /tmp/memory"]).ok();
    let background = "sleep 1000 > /dev/null 2>&1 & echo $! > /tmp/process";
    world.atoll(&["sandbox", "exec", "box", "--", "sh", "-c", background]).ok();

    world.kill_plane();
    world.up(&[]).ok();

    eventually("the sandbox answers again", || world.atoll(&["sandbox", "exec", "box", "--", "true"]).code == 0);
    let done = world.atoll(&["sandbox", "exec", "box", "--", "cat", "/tmp/memory"]).ok();
    assert_eq!(done.stdout, "kept\n");
    let alive = world.atoll(&["sandbox", "exec", "box", "--", "sh", "-c", "kill -0 $(cat /tmp/process)"]);
    assert_eq!(alive.code, 0, "what ran in it goes on: {}", alive.stderr);
    let listed = world.atoll(&["sandbox", "ls", "--json"]).ok().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
}

#[test]
fn acknowledged_objects_survive_a_killed_plane() {
    if skip_without_root("acknowledged_objects_survive_a_killed_plane") {
        return;
    }
    let world = World::with_plane();
    for name in ["a", "b", "c"] {
        world.atoll(&["sandbox", "create", name]).ok();
    }
    world.kill_plane();
    world.up(&[]).ok();
    let listed = world.atoll(&["sandbox", "ls", "--json"]).ok().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");
}

/// The kernel takes a while to take a killed plane down; it still holds the lock then.
#[test]
fn up_right_after_a_kill_starts_a_plane() {
    if skip_without_root("up_right_after_a_kill_starts_a_plane") {
        return;
    }
    let world = World::with_plane();
    for _ in 0..5 {
        let killed = world.pid();
        rustix::process::kill_process(killed, rustix::process::Signal::KILL).expect("the plane runs");
        world.up(&[]).ok();
        assert_ne!(world.pid(), killed, "another plane is up");
        world.atoll(&["status"]).ok();
    }
}

#[test]
fn a_second_plane_is_refused_and_up_twice_is_fine() {
    if skip_without_root("a_second_plane_is_refused_and_up_twice_is_fine") {
        return;
    }
    let world = World::with_plane();
    let again = world.up(&[]).ok();
    assert!(again.stderr.contains("running already"), "{}", again.stderr);
    world.atoll(&["up", "--api-port", "0"]).fails(6, "in use by another plane", "atoll down");
}

#[test]
fn the_plane_has_no_rights_left() {
    if skip_without_root("the_plane_has_no_rights_left") {
        return;
    }
    let world = World::with_plane();
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.pid().as_raw_pid())).expect("it runs");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(!field("Uid:").contains(&"0".to_owned()), "{status}");
    assert!(!field("Gid:").contains(&"0".to_owned()), "{status}");
    assert_eq!(field("CapEff:"), ["0000000000000000"]);
    assert_eq!(field("CapPrm:"), ["0000000000000000"]);
    assert_eq!(field("NoNewPrivs:"), ["1"]);
}
