//! Layers one on the other.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use atoll_image::layer::Taken;
use atoll_image::{Bounds, LayerError, unpack};
use tar::EntryType;

use crate::maker::Layer;

/// Unpacks layers into a directory.
pub(crate) fn stack(root: &Path, layers: Vec<Vec<u8>>) -> Result<Taken, LayerError> {
    let mut taken = Taken::default();
    let directory = File::open(root).unwrap();
    for layer in layers {
        unpack(layer.as_slice(), directory.as_fd(), &Bounds::default(), &mut taken)?;
    }
    Ok(taken)
}

/// Every path with what is there, sorted.
fn tree(root: &Path) -> Vec<String> {
    fn walk(root: &Path, directory: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let kind = fs::symlink_metadata(&path).unwrap();
            if kind.is_dir() {
                found.push(format!("{name}/"));
                walk(root, &path, found);
            } else if kind.is_symlink() {
                found.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else {
                found.push(format!("{name}={}", fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

fn stacked(layers: Vec<Vec<u8>>) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    stack(root.path(), layers).unwrap();
    tree(root.path())
}

#[test]
fn later_layers_replace_and_hide() {
    let base =
        || Layer::new().directory("./").directory("a/").file("a/one", "1").file("a/two", "2").file("b/deep/x", "x");
    assert_eq!(stacked(vec![base().build()]), ["a/", "a/one=1", "a/two=2", "b/", "b/deep/", "b/deep/x=x"]);
    let cases = [
        (Layer::new().file("a/one", "new"), vec!["a/", "a/one=new", "a/two=2", "b/", "b/deep/", "b/deep/x=x"]),
        (Layer::new().file("a/.wh.one", ""), vec!["a/", "a/two=2", "b/", "b/deep/", "b/deep/x=x"]),
        (Layer::new().file(".wh.b", ""), vec!["a/", "a/one=1", "a/two=2"]),
        (Layer::new().file(".wh.none", ""), vec!["a/", "a/one=1", "a/two=2", "b/", "b/deep/", "b/deep/x=x"]),
        // Opaque: what this layer has stays, before and after.
        (
            Layer::new().file("a/new", "n").file("a/.wh..wh..opq", "").file("a/two", "t"),
            vec!["a/", "a/new=n", "a/two=t", "b/", "b/deep/", "b/deep/x=x"],
        ),
        (
            Layer::new().file("b/deep/y", "y").file("b/.wh..wh..opq", ""),
            vec!["a/", "a/one=1", "a/two=2", "b/", "b/deep/", "b/deep/y=y"],
        ),
        // A file in place of a directory, and the other way round.
        (Layer::new().file("b", "file"), vec!["a/", "a/one=1", "a/two=2", "b=file"]),
        (
            Layer::new().directory("a/one/").file("a/one/in", "i"),
            vec!["a/", "a/one/", "a/one/in=i", "a/two=2", "b/", "b/deep/", "b/deep/x=x"],
        ),
    ];
    for (layer, expected) in cases {
        assert_eq!(stacked(vec![base().build(), layer.build()]), expected);
    }
}

#[test]
fn links_within_the_image_are_followed_and_kept() {
    let base = Layer::new().directory("usr/lib/").symlink("lib", "usr/lib").symlink("abs", "/usr");
    let more = Layer::new().file("lib/a.so", "a").file("abs/b", "b").hardlink("usr/again", "lib/a.so");
    let expected = ["abs -> /usr", "lib -> usr/lib", "usr/", "usr/again=a", "usr/b=b", "usr/lib/", "usr/lib/a.so=a"];
    assert_eq!(stacked(vec![base.build(), more.build()]), expected);
}

#[test]
fn rights_are_taken_over_but_not_those_that_lend_an_owners() {
    let root = tempfile::tempdir().unwrap();
    let layer = Layer::new()
        .entry(EntryType::Regular, "su", "", 0o6755, b"x")
        .entry(EntryType::Directory, "tmp/", "", 0o1777, &[])
        .file("plain", "x");
    stack(root.path(), vec![layer.build()]).unwrap();
    let mode = |name: &str| fs::metadata(root.path().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode("su"), mode("tmp"), mode("plain")], [0o755, 0o1777, 0o644]);
    assert_eq!(fs::metadata(root.path().join("plain")).unwrap().mtime(), 1_000_000);
}

#[test]
fn names_of_any_length_are_put_together() {
    let long = format!("{}/file", ["directory-with-a-long-name"; 6].join("/"));
    let root = tempfile::tempdir().unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    header.set_uid(u64::from(rustix::process::geteuid().as_raw()));
    header.set_gid(u64::from(rustix::process::getegid().as_raw()));
    builder.append_data(&mut header.clone(), &long, &b"1"[..]).unwrap();
    let pax = "p/".repeat(60) + "file";
    builder.append_pax_extensions([("path", pax.as_bytes()), ("comment", b"none")]).unwrap();
    builder.append_data(&mut header, "short", &b"2"[..]).unwrap();
    stack(root.path(), vec![builder.into_inner().unwrap()]).unwrap();
    assert_eq!(fs::read(root.path().join(long)).unwrap(), b"1");
    assert_eq!(fs::read(root.path().join(pax)).unwrap(), b"2");
}
