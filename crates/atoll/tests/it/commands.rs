//! `atoll run` and `atoll sandbox`: docker's habits.

use crate::world::{World, skip_without_root};

#[test]
fn run_behaves_like_a_command_of_this_machine() {
    if skip_without_root("run_behaves_like_a_command_of_this_machine") {
        return;
    }
    let world = World::with_plane();

    let done = world.atoll(&["run", "--rm", "--", "python3", "-c", "print(1)"]).ok();
    assert_eq!(done.stdout, "1\n");

    let done = world.atoll(&["run", "--rm", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (7, "out\n", "err\n"));

    let done = world
        .atoll(&["run", "--rm", "-e", "GREETING=hello", "-w", "/tmp", "--", "sh", "-c", "echo $GREETING; pwd"])
        .ok();
    assert_eq!(done.stdout, "hello\n/tmp\n");

    let done = world.atoll_with_input(&["run", "--rm", "-i", "--", "wc", "-c"], "12345").ok();
    assert_eq!(done.stdout.trim(), "5");

    world.atoll(&["run", "--rm", "--", "no-such-program"]).fails(127, "could not be started", "");
    world.atoll(&["run", "--rm", "--image", "example.com/none", "--", "true"]).fails(125, "cannot start", "");

    std::fs::write(world.path().join("data.txt"), "carried in").expect("it is writable");
    let volume = format!("{}:/workspace/data.txt", world.path().join("data.txt").display());
    let done = world.atoll(&["run", "--rm", "-v", &volume, "--", "cat", "/workspace/data.txt"]).ok();
    assert_eq!(done.stdout, "carried in");

    std::fs::create_dir(world.path().join("shared")).expect("it is writable");
    let volume = format!("{}:/workspace/shared", world.path().join("shared").display());
    let write = "echo made > /workspace/shared/made; stat -c %u /workspace/shared/made";
    let done = world.atoll(&["run", "--rm", "-v", &volume, "--", "sh", "-c", write]).ok();
    assert_eq!(done.stdout, "1000\n");
    assert_eq!(std::fs::read_to_string(world.path().join("shared/made")).expect("it was made outside"), "made\n");
    let read_only = format!("{volume}:ro");
    let refused = world.atoll(&["run", "--rm", "-v", &read_only, "--", "sh", "-c", "echo no > /workspace/shared/made"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("Read-only file system"), "{}", refused.stderr);
    for (source, expected) in [("/proc", "proc"), ("/dev/null", "a device"), ("/nowhere", "cannot look at /nowhere")] {
        let volume = format!("{source}:/workspace/x");
        world.atoll(&["run", "--rm", "-v", &volume, "--", "true"]).fails(125, expected, "");
    }

    let left = world.atoll(&["sandbox", "ls", "-A", "--json"]).ok().json();
    assert_eq!(left.as_array().map(Vec::len), Some(0), "{left}");
}

#[test]
fn a_sandbox_keeps_what_is_put_into_it() {
    if skip_without_root("a_sandbox_keeps_what_is_put_into_it") {
        return;
    }
    let world = World::with_plane();
    world.atoll(&["sandbox", "create", "box"]).ok();
    world.atoll(&["sandbox", "create", "box"]).fails(1, "already exists", "");

    let note = world.path().join("note");
    std::fs::write(&note, "remember").expect("it is writable");
    world.atoll(&["sandbox", "cp", &note.display().to_string(), "box:/workspace/note"]).ok();
    let done = world.atoll(&["sandbox", "exec", "box", "--", "cat", "/workspace/note"]).ok();
    assert_eq!(done.stdout, "remember");
    let back = world.path().join("back");
    world.atoll(&["sandbox", "cp", "box:/workspace/note", &back.display().to_string()]).ok();
    assert_eq!(std::fs::read_to_string(&back).expect("it was copied"), "remember");

    let listed = world.atoll(&["sandbox", "ls"]).ok().stdout;
    assert!(listed.contains("box") && listed.contains("True") && listed.contains("native"), "{listed}");

    world.atoll(&["sandbox", "rm", "box"]).ok();
    world.atoll(&["sandbox", "rm", "box"]).fails(3, "no sandbox", "sandbox ls");
    world.atoll(&["sandbox", "exec", "box", "--", "true"]).fails(125, "", "");
}
