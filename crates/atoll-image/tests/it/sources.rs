//! Images of every form, and the store.

use std::fs;
use std::path::Path;

use atoll_image::{Bounds, ImageName, Images, StoreError};
use serde_json::{Value, json};

use crate::maker::{Layer, Layout, digest, gzip};

fn layers() -> Vec<Vec<u8>> {
    let passwd = "root:x:0:0::/:/bin/sh\napp:x:77:88::/:/bin/sh\n";
    let base = Layer::new().directory("etc").file("etc/passwd", passwd).file("bin/app", "one").build();
    vec![base, Layer::new().file("bin/app", "two").build()]
}

fn config() -> Value {
    json!({"Env": ["A=1"], "Entrypoint": ["/bin/app"], "Cmd": ["serve"], "User": "app", "WorkingDir": "/srv"})
}

fn import(path: &Path) -> (tempfile::TempDir, Result<atoll_image::Image, StoreError>) {
    let state = tempfile::tempdir().unwrap();
    let image = Images::of(state.path()).import(path, None, &Bounds::default());
    (state, image)
}

/// How many files and directories a store has, its lock apart.
fn kept(state: &Path) -> usize {
    let entries = fs::read_dir(state.join("images")).unwrap();
    entries.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name() != "lock")).count()
}

fn said(outcome: Result<atoll_image::Image, StoreError>) -> String {
    atoll_stdx::chain(&outcome.unwrap_err())
}

/// An archive of a directory.
fn archive(directory: &Path) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut builder = tar::Builder::new(file.reopen().unwrap());
    builder.append_dir_all(".", directory).unwrap();
    builder.finish().unwrap();
    file
}

/// As `docker save` writes it.
fn saved(layers: &[Vec<u8>]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let document = json!({"os": "linux", "config": config(), "rootfs": {"diff_ids": diff_ids}}).to_string();
    fs::write(directory.path().join("config.json"), document).unwrap();
    let mut paths = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let name = format!("{index}/layer.tar");
        fs::create_dir(directory.path().join(index.to_string())).unwrap();
        fs::write(directory.path().join(&name), layer).unwrap();
        paths.push(name);
    }
    let manifest = json!([{"Config": "config.json", "RepoTags": ["me/app:2"], "Layers": paths}]);
    fs::write(directory.path().join("manifest.json"), manifest.to_string()).unwrap();
    directory
}

#[test]
fn images_in_parts_are_imported_from_directories_and_archives() {
    let layout = Layout::new(&layers(), &config());
    let saved = saved(&layers());
    let (layout_archive, saved_archive) = (archive(layout.path()), archive(saved.path()));
    let compressed = tempfile::NamedTempFile::new().unwrap();
    fs::write(compressed.path(), gzip(&fs::read(saved_archive.path()).unwrap())).unwrap();
    let cases = [
        (layout.path(), "example.com/made:1"),
        (layout_archive.path(), "example.com/made:1"),
        (saved.path(), "docker.io/me/app:2"),
        (saved_archive.path(), "docker.io/me/app:2"),
        (compressed.path(), "docker.io/me/app:2"),
    ];
    for (path, name) in cases {
        let (state, image) = import(path);
        let image = image.unwrap_or_else(|error| panic!("{}: {}", path.display(), atoll_stdx::chain(&error)));
        let images = Images::of(state.path());
        assert_eq!(image.names.iter().map(ToString::to_string).collect::<Vec<_>>(), [name]);
        assert_eq!((image.user, image.config.working_dir.as_str()), (Some((77, 88)), "/srv"));
        assert_eq!(fs::read_to_string(images.root(&image.id).join("bin/app")).unwrap(), "two");
        assert_eq!(images.find(name).unwrap(), image);
        assert_eq!(images.find(&image.id[..6]).unwrap(), image);
        // Nothing lies about.
        assert_eq!(kept(state.path()), 2);
    }
}

#[test]
fn a_root_file_system_is_an_image_too() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("bin")).unwrap();
    fs::write(root.path().join("bin/app"), "app").unwrap();
    std::os::unix::fs::symlink("bin/app", root.path().join("link")).unwrap();
    let archive = archive(root.path());
    for path in [root.path(), archive.path()] {
        let (state, image) = import(path);
        let image = image.unwrap();
        let unpacked = Images::of(state.path()).root(&image.id);
        assert_eq!(fs::read_to_string(unpacked.join("link")).unwrap(), "app");
        assert_eq!((image.user, image.names.len()), (None, 0));
    }
}

#[test]
fn what_is_not_what_it_says_is_refused_and_nothing_is_left() {
    let spoiled = |spoil: fn(&Layout)| {
        let layout = Layout::new(&layers(), &config());
        spoil(&layout);
        let (state, outcome) = import(layout.path());
        assert_eq!(kept(state.path()), 0);
        said(outcome)
    };
    let intact = Layout::new(&layers(), &config());
    import(intact.path()).1.unwrap();

    // Other bytes under a layer's digest, as good as the right ones otherwise.
    let swapped = spoiled(|layout| {
        let other = gzip(&Layer::new().file("bin/app", "evil").build());
        fs::write(layout.blob_path(&layout.layers()[1]), other).unwrap();
    });
    assert!(swapped.contains("layer 2 of the image has the digest"), "{swapped}");
    let short = spoiled(|layout| {
        let path = layout.blob_path(&layout.layers()[0]);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(short.contains("layer 1 of the image has the digest"), "{short}");
    let absent = spoiled(|layout| fs::remove_file(layout.blob_path(&layout.layers()[0])).unwrap());
    assert!(absent.contains("cannot read"), "{absent}");
    let endless = spoiled(|layout| fs::write(layout.path().join("index.json"), " ".repeat(5 << 20)).unwrap());
    assert!(endless.contains("longer than"), "{endless}");
    let nonsense = spoiled(|layout| fs::write(layout.path().join("index.json"), "{").unwrap());
    assert!(nonsense.contains("index.json of the image cannot be understood"), "{nonsense}");
    let elsewhere = spoiled(|layout| {
        let index = json!({"manifests": [{"digest": "sha256:../../../etc/passwd"}]});
        fs::write(layout.path().join("index.json"), index.to_string()).unwrap();
    });
    assert!(elsewhere.contains("is not a digest"), "{elsewhere}");
}

#[test]
fn the_content_of_saved_layers_is_checked() {
    let directory = saved(&layers());
    fs::write(directory.path().join("1/layer.tar"), Layer::new().file("bin/app", "evil").build()).unwrap();
    let refused = said(import(directory.path()).1);
    assert!(refused.contains("the content of layer 2 of the image has the digest"), "{refused}");
    // A layer that is a link out of the archive leads nowhere.
    fs::remove_file(directory.path().join("1/layer.tar")).unwrap();
    std::os::unix::fs::symlink("../../../../../../etc/passwd", directory.path().join("1/layer.tar")).unwrap();
    assert!(said(import(directory.path()).1).contains("cannot read"));
}

#[test]
fn images_of_other_machines_are_refused() {
    let layout = Layout::new(&layers(), &config());
    let index: Value = serde_json::from_slice(&fs::read(layout.path().join("index.json")).unwrap()).unwrap();
    let mut entry = index["manifests"][0].clone();
    entry["platform"] = json!({"os": "linux", "architecture": "pdp11"});
    fs::write(layout.path().join("index.json"), json!({"manifests": [entry]}).to_string()).unwrap();
    let refused = said(import(layout.path()).1);
    assert!(refused.contains("there is no image for linux/"), "{refused}");
}

#[test]
fn names_move_and_images_go_with_the_last_one() {
    let state = tempfile::tempdir().unwrap();
    let images = Images::of(state.path());
    let name = |text| Some(ImageName::parse(text).unwrap());
    let layout = Layout::new(&layers(), &config());
    let first = images.import(layout.path(), name("app"), &Bounds::default()).unwrap();
    assert_eq!(images.import(layout.path(), name("app:old"), &Bounds::default()).unwrap().names.len(), 3);
    let other = Layout::new(&layers()[..1], &config());
    let second = images.import(other.path(), name("app"), &Bounds::default()).unwrap();
    assert_eq!(images.find("app").unwrap().id, second.id);
    assert_eq!(images.find("app:old").unwrap().id, first.id);

    assert!(images.remove("app:old", |_| None).unwrap(), "the layout's own name went to the second");
    assert!(!images.root(&first.id).exists());
    let in_use = images.remove(&second.id, |_| Some("box".to_owned()));
    assert!(matches!(in_use, Err(StoreError::InUse { .. })));
    assert!(!images.remove("app", |_| None).unwrap());
    assert!(images.remove(&second.id, |_| None).unwrap());
    assert_eq!(images.list().unwrap(), []);
    assert!(matches!(images.find("app"), Err(StoreError::Unknown(_))));
}

#[test]
fn what_killed_imports_and_removals_left_is_never_taken_for_an_image() {
    let state = tempfile::tempdir().unwrap();
    let images = Images::of(state.path());
    let layout = Layout::new(&layers(), &config());
    let image = images.import(layout.path(), None, &Bounds::default()).unwrap();
    // A removal got as far as the description, and some of the files.
    fs::remove_file(state.path().join("images").join(format!("{}.json", image.id))).unwrap();
    fs::remove_dir_all(images.root(&image.id).join("bin")).unwrap();
    // An import got nowhere.
    fs::create_dir_all(state.path().join("images/.unfinished-x/rootfs")).unwrap();
    assert_eq!(images.list().unwrap(), []);

    let again = images.import(layout.path(), None, &Bounds::default()).unwrap();
    assert_eq!(again.id, image.id);
    assert_eq!(fs::read_to_string(images.root(&again.id).join("bin/app")).unwrap(), "two");
    assert_eq!(kept(state.path()), 2);
}
