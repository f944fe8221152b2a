//! Backups: made while the plane works, refused where they are no good, never put over something by accident.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::world::{World, skip_without_root};

fn names(world: &World) -> Vec<String> {
    let listed = world.atoll(&["sandbox", "ls", "--json"]).ok().json();
    let items = listed.as_array().expect("a list").iter();
    let mut names: Vec<String> = items.map(|it| it["metadata"]["name"].as_str().expect("a name").to_owned()).collect();
    names.sort();
    names
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

#[test]
fn what_was_backed_up_comes_back() {
    if skip_without_root("what_was_backed_up_comes_back") {
        return;
    }
    let world = World::with_plane();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("plane.backup");
    world.atoll(&["sandbox", "create", "kept"]).ok();
    let plane = world.state().join("plane");
    let repository = plane.join("repos/kept.git");
    std::fs::create_dir_all(&repository).expect("a folder");
    std::fs::write(repository.join("HEAD"), "ref: refs/heads/main\n").expect("a file");
    let authority = std::fs::read(plane.join("pki/ca.key")).expect("the plane has keys");
    world.atoll(&["backup", text(&file)]).ok();
    assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
    world.atoll(&["backup", text(&file)]).fails(4, "exists", "--force");
    world.atoll(&["backup", text(&file), "--force"]).ok();
    world.atoll(&["sandbox", "create", "later"]).ok();
    world.atoll(&["sandbox", "rm", "kept"]).ok();
    world.atoll(&["restore", text(&file), "--force"]).fails(6, "in use by another plane", "atoll down");
    world.atoll(&["down"]).ok();

    // Nobody uses it now: it can be backed up all the same, and is not written over without a word.
    let at_rest = folder.path().join("at-rest.backup");
    world.atoll(&["backup", text(&at_rest)]).ok();
    world.atoll(&["restore", text(&file)]).fails(4, "exists", "--force");
    std::fs::write(plane.join("pki/ca.key"), "lost").expect("a file");
    std::fs::remove_dir_all(plane.join("repos")).expect("it was there");
    world.atoll(&["restore", text(&file), "--force"]).ok();
    assert_eq!(std::fs::read(plane.join("pki/ca.key")).expect("it is back"), authority);
    let key = std::fs::metadata(plane.join("pki/ca.key")).expect("it is back");
    let owner = std::fs::metadata(&plane).expect("it is there").uid();
    assert_eq!((key.permissions().mode() & 0o777, key.uid()), (0o600, owner));
    assert_eq!(std::fs::read_to_string(plane.join("pki.before-restore/ca.key")).expect("it is kept"), "lost");
    assert!(repository.join("HEAD").exists());
    world.up(&[]).ok();
    assert_eq!(names(&world), ["kept"]);
    world.atoll(&["sandbox", "create", "new"]).ok();
    world.atoll(&["down"]).ok();
    world.atoll(&["restore", text(&at_rest), "--force"]).ok();
    world.up(&[]).ok();
    assert_eq!(names(&world), ["later"]);
    world.atoll(&["audit", "verify"]).ok();
}

#[test]
fn what_is_no_backup_is_refused_and_nothing_is_touched() {
    if skip_without_root("what_is_no_backup_is_refused_and_nothing_is_touched") {
        return;
    }
    let world = World::with_plane();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("plane.backup");
    world.atoll(&["sandbox", "create", "kept"]).ok();
    world.atoll(&["backup", text(&file)]).ok();
    world.atoll(&["down"]).ok();
    let good = std::fs::read(&file).expect("it can be read");
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        let bad = folder.path().join("bad.backup");
        std::fs::write(&bad, bytes).expect("it can be written");
        bad
    };
    let find = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).position(|it| it == text).expect("it is there");
    type Case<'a> = (&'a dyn Fn(&mut Vec<u8>), &'a str, &'a str);
    let cases: [Case<'_>; 5] = [
        (&|bytes| *bytes = b"a letter to my aunt".to_vec(), "no backup of Atoll", "atoll backup FILE"),
        (&|bytes| bytes.truncate(bytes.len() / 2), "damaged", "another backup"),
        (&|bytes| bytes.clear(), "no backup of Atoll", "atoll backup FILE"),
        (
            &|bytes| {
                let at = find(bytes, b"\"format\": 2");
                bytes[at + 10] = b'9';
            },
            "format 9",
            "a later one",
        ),
        (
            &|bytes| {
                let at = find(bytes, b"\"name\":\"kept\"");
                bytes[at + 8] = b'K';
            },
            "not what the manifest says",
            "another backup",
        ),
    ];
    for (change, problem, hint) in cases {
        let bad = changed(change);
        world.atoll(&["restore", text(&bad), "--force"]).fails(6, problem, hint);
    }
    world.up(&[]).ok();
    assert_eq!(names(&world), ["kept"]);
}

#[test]
fn the_api_server_can_be_measured() {
    if skip_without_root("the_api_server_can_be_measured") {
        return;
    }
    let world = World::with_plane();
    let small = ["--seconds", "1", "--clients", "4", "--objects", "50", "--watchers", "5", "--json"];
    let own = world.atoll(&[&["bench", "api"], &small[..]].concat()).ok().json();
    let kubeconfig = world.state().join("kubeconfig");
    let other = ["bench", "api", "--kubeconfig", text(&kubeconfig)];
    let other = world.atoll(&[&other[..], &small[..]].concat()).ok().json();
    for report in [&own, &other] {
        let rows = report["rows"].as_array().expect("rows");
        let row =
            |name: &str| rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"));
        for name in ["creates_per_second", "gets_per_second", "updates_per_second"] {
            assert!(row(name)["value"].as_f64().expect("a number") > 0.0, "{name}");
        }
        for name in ["create_4_clients", "get_4_clients", "update_4_clients", "write_to_event"] {
            assert_eq!(row(name)["ok"], row(name)["n"], "{name}");
        }
        assert_eq!(row("write_to_event")["n"], 250);
    }
}
