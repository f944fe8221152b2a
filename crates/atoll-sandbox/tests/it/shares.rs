//! Files of the machine that root shares with a sandbox.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use atoll_sandbox::share::Share;
use atoll_sandbox::{Mount, MountKind, SandboxSpec};

use crate::plane::{Plane, idle, with_plane};

crate::runner::tests![
    one_user_of_the_machine_is_the_sandboxs,
    a_read_only_share_is_read_only_whatever_is_asked,
    what_was_put_in_a_shares_place_is_not_mounted,
    a_share_that_root_did_not_make_is_refused,
    a_share_of_another_pod_is_refused,
];

/// The user of the machine whose files these are.
const ME: u32 = 54_321;

/// Who the shares are for.
const POD: &str = "default/box";

/// A directory of that user's, in a directory that everybody may pass.
fn data() -> (tempfile::TempDir, PathBuf) {
    let around = tempfile::tempdir().unwrap();
    fs::set_permissions(around.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let data = around.path().join("data");
    fs::create_dir(&data).unwrap();
    chown(&data, Some(ME), Some(ME)).unwrap();
    (around, data)
}

fn share(plane: &Plane, path: &Path, read_only: bool, name: &str) {
    let share = Share::of(path, None, read_only, plane.state_dir(), POD).unwrap();
    share.grant(plane.state_dir(), name).unwrap();
}

fn with_share(spec: SandboxSpec, name: &str) -> SandboxSpec {
    let kind = MountKind::Share { name: name.to_owned(), pod: POD.to_owned() };
    SandboxSpec { mounts: vec![Mount { target: "/shared".to_owned(), kind, read_only: false }], ..spec }
}

fn one_user_of_the_machine_is_the_sandboxs() {
    with_plane(|plane| {
        let (_around, data) = data();
        fs::write(data.join("mine"), "mine").unwrap();
        chown(data.join("mine"), Some(ME), Some(ME)).unwrap();
        fs::write(data.join("roots"), "roots").unwrap();
        fs::set_permissions(data.join("roots"), fs::Permissions::from_mode(0o600)).unwrap();
        share(plane, &data, false, "data");
        let sandbox = plane.create(with_share(idle(2), "data"));
        let guest = plane.guest(&sandbox);
        let seen =
            guest.sh("cd /shared && stat -c '%n %u %g' mine roots && cat mine && echo new > made && echo more >> mine");
        assert_eq!(
            (seen.code, seen.stdout.as_str()),
            (0, "mine 1000 1000\nroots 65534 65534\nmine"),
            "{}",
            seen.stderr
        );
        let made = fs::metadata(data.join("made")).unwrap();
        assert_eq!((made.uid(), made.gid()), (ME, ME));
        assert_eq!(fs::read_to_string(data.join("mine")).unwrap(), "minemore\n");
        // Not even root inside reads or makes what is root's outside.
        let refused = guest.sh_as_root("cat /shared/roots; touch /shared/of-root");
        assert_ne!(refused.code, 0);
        assert_eq!(refused.stdout, "");
        assert!(!data.join("of-root").exists());
        // Where nobody but the sandbox's user may write, too.
        share(plane, &data, true, "deep");
        let mut spec = with_share(idle(4), "deep");
        spec.mounts[0].target = "/workspace/some/where".to_owned();
        let sandbox = plane.create(spec);
        let seen = plane.guest(&sandbox).sh("cat /workspace/some/where/mine && stat -c %u /workspace/some");
        assert_eq!(seen.stdout, "minemore\n1000\n", "{}", seen.stderr);
        // One file alone can be shared as well.
        share(plane, &data.join("mine"), false, "one");
        let sandbox = plane.create(with_share(idle(3), "one"));
        assert_eq!(plane.guest(&sandbox).sh("cat /shared").stdout, "minemore\n");
    });
}

fn a_read_only_share_is_read_only_whatever_is_asked() {
    with_plane(|plane| {
        let (_around, data) = data();
        for (number, read_only) in [(2, true), (3, false)] {
            let name = format!("share-{number}");
            share(plane, &data, read_only, &name);
            let sandbox = plane.create(with_share(idle(number), &name));
            let written = plane.guest(&sandbox).sh(&format!("echo x > /shared/{name}"));
            assert_eq!((written.code != 0, data.join(&name).exists()), (read_only, !read_only), "{}", written.stderr);
        }
    });
}

fn what_was_put_in_a_shares_place_is_not_mounted() {
    with_plane(|plane| {
        let (around, data) = data();
        let private = around.path().join("private");
        fs::create_dir(&private).unwrap();
        fs::write(private.join("key"), "secret").unwrap();
        share(plane, &data, false, "data");
        fs::rename(&data, around.path().join("moved")).unwrap();
        type Put = fn(&Path, &Path);
        let link: Put = |from, to| symlink(from, to).unwrap();
        let rename: Put = |from, to| fs::rename(from, to).unwrap();
        for put in [link, rename] {
            put(&private, &data);
            let refused = plane.run(plane.driver.create(with_share(idle(2), "data"))).unwrap_err();
            assert!(atoll_stdx::chain(&refused).contains("as it was shared"), "{}", atoll_stdx::chain(&refused));
            if data.is_symlink() {
                fs::remove_file(&data).unwrap();
            }
        }
        // The attack is real: shared as it is now, the same path shows what was put there.
        share(plane, &data, false, "now");
        let sandbox = plane.create(with_share(idle(3), "now"));
        assert_eq!(plane.guest(&sandbox).sh("cat /shared/key").stdout, "secret");
    });
}

fn a_share_that_root_did_not_make_is_refused() {
    with_plane(|plane| {
        for name in ["none", "../sandboxes", "/etc"] {
            let refused = plane.run(plane.driver.create(with_share(idle(2), name))).unwrap_err();
            assert!(atoll_stdx::chain(&refused).contains("there is no share"), "{}", atoll_stdx::chain(&refused));
        }
        assert_eq!(plane.run(plane.driver.list()).unwrap().len(), 0);
    });
}

fn a_share_of_another_pod_is_refused() {
    with_plane(|plane| {
        let (_around, data) = data();
        share(plane, &data, false, "data");
        for (pod, is_refused) in [("other/box", true), ("default/other", true), (POD, false)] {
            let mut spec = with_share(idle(2), "data");
            spec.mounts[0].kind = MountKind::Share { name: "data".to_owned(), pod: pod.to_owned() };
            let created = plane.run(plane.driver.create(spec));
            assert_eq!(created.is_err(), is_refused, "{pod}: {created:?}");
        }
    });
}
