//! `atoll image`, and sandboxes on what it keeps.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::world::{World, eventually, skip_without_root};

/// A root file system with the machine's shell and what that needs.
fn make_root(root: &Path) {
    let place = |path: &str| {
        let place = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().expect("it is below the root")).expect("it is writable");
        place
    };
    fs::write(place("etc/made"), "made here\n").expect("it is writable");
    for program in ["sh", "cat"] {
        let program = fs::canonicalize(format!("/bin/{program}")).expect("every machine has it");
        fs::copy(&program, place(&format!("bin/{}", program.file_name().expect("a name").display()))).expect("copied");
        let listed = Command::new("ldd").arg(&program).output().expect("ldd runs");
        for library in String::from_utf8_lossy(&listed.stdout).split_whitespace().filter(|it| it.starts_with('/')) {
            fs::copy(library, place(library)).expect("copied");
        }
    }
    let shell = fs::canonicalize("/bin/sh").expect("every machine has it");
    if shell.file_name().is_some_and(|name| name != "sh") {
        let shell = shell.file_name().expect("a name");
        std::os::unix::fs::symlink(shell, root.join("bin/sh")).expect("it is writable");
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

#[test]
fn an_image_is_imported_run_and_removed() {
    if skip_without_root("an_image_is_imported_run_and_removed") {
        return;
    }
    let world = World::with_plane();
    let root = world.path().join("rootfs");
    fs::create_dir(&root).expect("it is writable");
    make_root(&root);
    let archive = world.path().join("rootfs.tar");
    let packed = Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).arg(".").status();
    assert!(packed.is_ok_and(|status| status.success()));

    world.atoll(&["run", "--rm", "--image", "made", "--", "true"]).fails(125, "is not on this node", "");
    world.atoll(&["image", "import", "/nowhere"]).fails(1, "cannot read /nowhere", "docker save");
    let imported = world.atoll(&["image", "import", &archive.display().to_string(), "--name", "made"]).ok();
    assert!(imported.stdout.contains("docker.io/library/made:latest"), "{}", imported.stdout);
    let listed = world.atoll(&["image", "ls"]).ok();
    assert!(listed.stdout.contains("docker.io/library/made:latest"), "{}", listed.stdout);

    let done = world.atoll(&["run", "--rm", "--image", "made", "--", "/bin/cat", "/etc/made"]).ok();
    assert_eq!(done.stdout, "made here\n");
    world.atoll(&["sandbox", "create", "box", "--image", "made"]).ok();
    world.atoll(&["image", "rm", "made"]).fails(4, "in use by the sandbox", "remove the sandbox");
    let done = world.atoll(&["sandbox", "exec", "box", "--", "/bin/sh", "-c", "echo $(cat /etc/made) still"]).ok();
    assert_eq!(done.stdout, "made here still\n");
    world.atoll(&["sandbox", "rm", "box"]).ok();
    eventually("the sandbox is gone", || world.atoll(&["image", "rm", "made"]).code == 0);
    world.atoll(&["image", "rm", "made"]).fails(3, "there is no image", "image ls");
}
