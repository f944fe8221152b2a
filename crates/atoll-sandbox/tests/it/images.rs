//! Images other than the host's: here one of a few files and a static program, the guest itself.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;

use atoll_sandbox::launcher::user_of_image;
use atoll_sandbox::{Image, Mount, MountKind, SandboxSpec};

use crate::plane::{Plane, idle, with_plane};

crate::runner::tests![
    a_sandbox_sees_its_image_and_cannot_change_it,
    what_sandboxes_write_is_their_own,
    an_image_is_a_volume_too,
    an_image_that_is_not_there_is_refused,
];

const ID: &str = "abcdef0123";

/// A root file system with the machine's shell and what that needs, owned by root inside.
fn image(plane: &Plane) -> PathBuf {
    let root = plane.state_dir().join("images").join(ID).join("rootfs");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::create_dir_all(root.join("work")).unwrap();
    for directory in [root.as_path(), root.parent().unwrap()] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(root.join("etc/release"), "made here").unwrap();
    fs::write(root.join("etc/hosts"), "of the image").unwrap();
    symlink("/nowhere/resolv.conf", root.join("etc/resolv.conf")).unwrap();
    fs::write(root.join("etc/private"), "root's").unwrap();
    fs::set_permissions(root.join("etc/private"), fs::Permissions::from_mode(0o600)).unwrap();
    chown(root.join("work"), Some(1000), Some(1000)).unwrap();
    for program in ["sh", "cat", "stat", "rm", "touch", "ls"] {
        carry(&root, &fs::canonicalize(format!("/bin/{program}")).unwrap(), &format!("bin/{program}"));
    }
    root
}

/// Copies a program with its libraries.
fn carry(root: &std::path::Path, program: &std::path::Path, to: &str) {
    let place = |path: &str| {
        let place = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        place
    };
    fs::copy(program, place(to)).unwrap();
    let listed = std::process::Command::new("ldd").arg(program).output().unwrap();
    for library in String::from_utf8(listed.stdout).unwrap().split_whitespace().filter(|word| word.starts_with('/')) {
        fs::copy(library, place(library)).unwrap();
    }
}

fn on_image(number: u8, read_only_root: bool) -> SandboxSpec {
    SandboxSpec { image: Image::Kept { id: ID.to_owned() }, read_only_root, ..idle(number) }
}

fn a_sandbox_sees_its_image_and_cannot_change_it() {
    with_plane(|plane| {
        let root = image(plane);
        let sandbox = plane.create(on_image(2, true));
        let guest = plane.guest(&sandbox);
        let seen = guest.sh("cat /etc/release; stat -c ' %u' /etc/release; ls -d /usr/share 2>&1; cat /etc/hosts");
        assert!(seen.stdout.starts_with("made here 0\n"), "{} {}", seen.stdout, seen.stderr);
        assert!(!seen.stdout.contains("/usr/share\n") && seen.stdout.contains("localhost"), "{}", seen.stdout);
        assert!(guest.sh("cat /etc/resolv.conf").stdout.starts_with("nameserver"));
        assert_ne!(guest.sh("cat /etc/private").code, 0);
        for change in ["echo x > /work/file", "echo x > /etc/release", "rm /etc/release"] {
            assert_ne!(guest.sh_as_root(change).code, 0, "{change}");
        }
        assert_eq!(guest.sh("echo y > /workspace/file && cat /workspace/file").stdout, "y\n");
        assert_eq!(fs::read_to_string(root.join("etc/hosts")).unwrap(), "of the image");
        assert_eq!(user_of_image(plane.state_dir(), ID).as_deref(), Some(sandbox.id.as_str()));
        plane.run(plane.driver.destroy(&sandbox.id, 0)).unwrap();
        assert_eq!(user_of_image(plane.state_dir(), ID), None);
    });
}

fn what_sandboxes_write_is_their_own() {
    with_plane(|plane| {
        let root = image(plane);
        let sandboxes = [2, 3].map(|number| plane.create(on_image(number, false)));
        let [one, other] = sandboxes.each_ref().map(|sandbox| plane.guest(sandbox));
        let written = one.sh("echo mine > /work/file && cat /work/file");
        assert_eq!((written.code, written.stdout.as_str()), (0, "mine\n"), "{}", written.stderr);
        let changed = one.sh_as_root("rm /etc/release && echo changed > /etc/release && cat /etc/release");
        assert_eq!((changed.code, changed.stdout.as_str()), (0, "changed\n"), "{}", changed.stderr);
        assert_eq!(other.sh("cat /etc/release; ls /work").stdout, "made here");
        assert_eq!(fs::read_to_string(root.join("etc/release")).unwrap(), "made here");
        assert_eq!(fs::metadata(root.join("etc/release")).unwrap().uid(), 0);
    });
}

fn an_image_is_a_volume_too() {
    with_plane(|plane| {
        image(plane);
        let kind = MountKind::Image { id: ID.to_owned() };
        let mount = Mount { target: "/data".to_owned(), kind, read_only: true };
        let sandbox = plane.create(SandboxSpec { mounts: vec![mount], ..idle(2) });
        let guest = plane.guest(&sandbox);
        let seen = guest.sh("cat /data/etc/release; stat -c ' %u' /data/etc/release");
        assert_eq!(seen.stdout, "made here 0\n", "{}", seen.stderr);
        for refused in ["/data/bin/cat /data/etc/release", "echo x > /data/etc/release", "cat /data/etc/private"] {
            assert_ne!(guest.sh(refused).code, 0, "{refused}");
        }
        assert_eq!(user_of_image(plane.state_dir(), ID).as_deref(), Some(sandbox.id.as_str()));
    });
}

fn an_image_that_is_not_there_is_refused() {
    with_plane(|plane| {
        let refused = plane.run(plane.driver.create(on_image(2, true))).unwrap_err();
        assert!(atoll_stdx::chain(&refused).contains("there is no image"), "{}", atoll_stdx::chain(&refused));
        let outside = SandboxSpec { image: Image::Kept { id: "../../etc".to_owned() }, ..idle(2) };
        assert!(plane.run(plane.driver.create(outside)).is_err());
        assert_eq!(plane.run(plane.driver.list()).unwrap().len(), 0);
    });
}
