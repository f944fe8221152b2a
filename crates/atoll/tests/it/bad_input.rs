//! What people get wrong: one clear error, a hint, an exit code, and nothing half made.

use std::net::TcpListener;

use crate::world::{Done, World, skip_without_root};

#[test]
fn a_taken_port_is_named() {
    if skip_without_root("a_taken_port_is_named") {
        return;
    }
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    world.up(&["--router-port", &port]).fails(5, &format!("port {port}"), "--router-port");
    assert!(!world.state().join("sandboxes").exists(), "nothing was made");
}

#[test]
fn a_damaged_database_is_refused_and_kept() {
    if skip_without_root("a_damaged_database_is_refused_and_kept") {
        return;
    }
    for name in ["control.db", "runs.db"] {
        let world = World::with_plane();
        world.atoll(&["down"]).ok();
        let path = world.state().join("plane").join(name);
        let garbage = b"this is no database ".repeat(100);
        std::fs::write(&path, &garbage).expect("it is writable");
        world.up(&[]).fails(6, name, "");
        assert_eq!(std::fs::read(&path).expect("it is there"), garbage, "the file is left as it was");
    }
}

#[test]
fn a_policy_error_tells_file_line_and_column() {
    let world = World::new();
    let path = world.path().join("policies.yaml");
    std::fs::write(&path, "agents:\n  writer:\n    toolz: [file_read]\n").expect("it is writable");
    let file = path.display().to_string();
    let done = world.atoll(&["policy", "check", &file]).fails(2, &format!("{file}:3:5"), "tools");
    assert!(done.stderr.contains("toolz"), "{}", done.stderr);
    world.atoll(&["policy", "check", "/nonexistent.yaml"]).fails(3, "cannot read", "");
}

#[test]
fn a_repository_that_is_none_is_named() {
    let world = World::new();
    let dir = world.path().join("plain");
    std::fs::create_dir(&dir).expect("it is made");
    let repo = dir.display().to_string();
    world.atoll(&["ask", "do it", "--repo", &repo]).fails(3, "not a git repository", "--repo");
    world.atoll(&["ask", "do it", "--repo", "/nonexistent"]).fails(3, "does not exist", "");
    world.atoll(&["ask", "  ", "--repo", &repo]).fails(2, "task is empty", "");
}

#[test]
fn uncommitted_changes_are_named() {
    let world = World::new();
    let dir = world.path().join("dirty");
    for arguments in [vec!["init", "-q"], vec!["commit", "-q", "--allow-empty", "-m", "start"]] {
        std::fs::create_dir_all(&dir).expect("it is made");
        let done = std::process::Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-C"])
            .arg(&dir)
            .args(arguments)
            .status();
        assert!(done.expect("git runs").success());
    }
    std::fs::write(dir.join("new.txt"), "x").expect("it is writable");
    let repo = dir.display().to_string();
    world.atoll(&["ask", "do it", "--repo", &repo]).fails(1, "uncommitted changes", "--allow-dirty");
}

#[test]
fn without_a_plane_clients_say_how_to_start_one() {
    let world = World::new();
    for arguments in [
        ["status"].as_slice(),
        &["sandbox", "ls"],
        &["runs", "ls"],
        &["trace", "ls"],
        &["approve"],
        &["audit", "verify"],
    ] {
        world.atoll(arguments).fails(7, "no plane runs", "atoll up");
    }
}

#[test]
fn without_its_rights_nobody_is_told_that_no_plane_runs() {
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    if skip_without_root("without_its_rights_nobody_is_told_that_no_plane_runs") {
        return;
    }
    let world = World::with_plane();
    // By its descriptor, as the way to the file may be closed to strangers.
    let binary = std::fs::File::open(env!("CARGO_BIN_EXE_atoll")).expect("it is built");
    let path = format!("/proc/self/fd/{}", binary.as_raw_fd());
    for arguments in [["status"].as_slice(), &["run", "--", "true"]] {
        let mut stranger = Command::new(&path);
        stranger.args(arguments).env("ATOLL_STATE_DIR", world.state()).uid(12_345).gid(12_345).current_dir("/");
        let stranger = stranger.output().expect("atoll runs");
        let code = if arguments[0] == "run" { 125 } else { 5 };
        Done::from(stranger).fails(code, "cannot read", "run as root");
    }
}

#[test]
fn an_unreachable_model_ends_the_run_with_a_hint() {
    if skip_without_root("an_unreachable_model_ends_the_run_with_a_hint") {
        return;
    }
    let world = World::new();
    let project = crate::agents::calculator(&world);
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let up = world
        .command(&[
            "up",
            "--detach",
            "--api-port",
            "0",
            "--router-port",
            "0",
            "--platform-port",
            "0",
            "--policy-port",
            "0",
        ])
        .env("OPENAI_BASE_URL", format!("http://{free}/v1"))
        .output()
        .expect("atoll runs");
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let repo = project.display().to_string();
    world.atoll(&["ask", "do it", "--repo", &repo]).fails(8, "without success", "");
}

#[test]
fn without_a_model_a_task_is_refused_with_the_way_to_one() {
    if skip_without_root("without_a_model_a_task_is_refused_with_the_way_to_one") {
        return;
    }
    let world = World::with_plane();
    let project = crate::agents::calculator(&world);
    let repo = project.display().to_string();
    world.atoll(&["ask", "do it", "--repo", &repo]).fails(8, "no model", "OPENAI_BASE_URL");
}

#[test]
fn wrong_usage_is_exit_code_two() {
    let world = World::new();
    for arguments in [["run"].as_slice(), &["sandbox", "cp", "a"], &["no-such-command"], &["up", "--api-port", "x"]] {
        assert_eq!(world.atoll(arguments).code, 2, "{arguments:?}");
    }
}

/// A state directory on a disk of 96 MiB of its own. Dropping it takes the disk away.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn on(state: std::path::PathBuf) -> Self {
        std::fs::create_dir_all(&state).expect("it is made");
        mount("tmpfs", &state, &["-t", "tmpfs", "-o", "size=96m,mode=755"]);
        Self(state)
    }

    /// Fills the disk but for the last bytes that nothing fits into.
    fn fill(&self) {
        let filler = std::fs::File::create(self.0.join("filler")).expect("it is made");
        let zeroes = vec![0_u8; 64 * 1024];
        for size in [zeroes.len(), 4096] {
            while std::io::Write::write_all(&mut &filler, &zeroes[..size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn mount(source: &str, target: &std::path::Path, options: &[&str]) {
    let status = std::process::Command::new("mount").args(options).arg(source).arg(target).status();
    assert!(status.expect("mount runs").success());
}

/// A world whose state lies on the small disk. The plane goes first, then the disk.
struct SmallWorld {
    world: World,
    disk: SmallDisk,
}

#[test]
fn a_full_disk_refuses_what_is_new_and_keeps_what_was_there() {
    if skip_without_root("a_full_disk_refuses_what_is_new_and_keeps_what_was_there") {
        return;
    }
    let world = World::new();
    let disk = SmallDisk::on(world.state());
    let SmallWorld { world, disk } = &SmallWorld { world, disk };
    world.up(&[]).ok();
    world.atoll(&["sandbox", "create", "before"]).ok();
    disk.fill();
    // What was allocated before is used up first.
    let refused = (0..200).map(|turn| world.atoll(&["sandbox", "create", &format!("late-{turn}")]));
    let refused = refused.into_iter().find(|done| done.code != 0).expect("the disk is full");
    assert!(refused.stderr.contains("no space left"), "{}", refused.stderr);
    world.atoll(&["sandbox", "exec", "before", "--", "true"]).ok();
    disk.make_room();
    world.atoll(&["sandbox", "create", "after"]).ok();
    let listed = world.atoll(&["sandbox", "ls", "--json"]).ok().json();
    let names: Vec<&str> =
        listed.as_array().expect("a list").iter().filter_map(|each| each["metadata"]["name"].as_str()).collect();
    assert!(names.contains(&"before") && names.contains(&"after"), "{names:?}");
}
