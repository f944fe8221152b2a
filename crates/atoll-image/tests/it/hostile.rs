//! Layers of bad will. Each attack is also given to an unpacker without the control, where it succeeds.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use atoll_image::layer::Taken;
use atoll_image::{Bounds, LayerError, unpack};
use tar::EntryType;

use crate::maker::{Layer, gzip};
use crate::stacking::stack;

/// A directory that holds a root, and beside it a file that no layer may touch.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(place.root()).unwrap();
        fs::write(place.outside(), "untouched").unwrap();
        place
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("root")
    }

    fn outside(&self) -> std::path::PathBuf {
        self.directory.path().join("outside")
    }

    fn is_untouched(&self) -> bool {
        let names = fs::read_dir(self.directory.path()).unwrap().count();
        fs::read_to_string(self.outside()).is_ok_and(|text| text == "untouched") && names == 2
    }
}

/// What an unpacker does that joins paths and asks nothing.
fn naive(root: &Path, layers: &[Vec<u8>]) {
    for layer in layers {
        for entry in tar::Archive::new(layer.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = root.join(entry.path().unwrap());
            let link = entry.link_name().unwrap().map(|link| link.into_owned());
            let _ = match (entry.header().entry_type(), link) {
                (EntryType::Directory, _) => fs::create_dir_all(&path),
                (EntryType::Symlink, Some(link)) => std::os::unix::fs::symlink(link, &path),
                (EntryType::Link, Some(link)) => fs::hard_link(root.join(link), &path),
                _ => {
                    let mut content = Vec::new();
                    std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
                    fs::write(&path, content)
                }
            };
        }
    }
}

#[test]
fn no_path_and_no_link_leads_out() {
    let evil = || Layer::new();
    let attacks: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("a path that goes up", vec![evil().file("../outside", "evil").build()]),
        ("a path that goes up later", vec![evil().directory("a").file("a/../../outside", "evil").build()]),
        ("a link to a directory", vec![evil().symlink("out", "..").file("out/outside", "evil").build()]),
        (
            "a link in a lower layer",
            vec![evil().symlink("out", "../").build(), evil().file("out/outside", "evil").build()],
        ),
        ("a link through a link", vec![evil().symlink("a", "b").symlink("b", "..").file("a/outside", "evil").build()]),
        (
            "a file through a link of its name",
            vec![evil().symlink("file", "../outside").build(), evil().file("file", "evil").build()],
        ),
        (
            "a second name of a file outside",
            vec![evil().hardlink("inside", "../outside").file("inside", "evil").build()],
        ),
        (
            "a second name through a link",
            vec![evil().symlink("out", "..").hardlink("inside", "out/outside").file("inside", "evil").build()],
        ),
    ];
    for (name, layers) in attacks {
        let place = Place::new();
        // Refused, or harmless: a link to `..` is a link to the image's own root.
        let _ = stack(&place.root(), layers.clone());
        assert!(place.is_untouched(), "{name}");

        let place = Place::new();
        naive(&place.root(), &layers);
        assert!(!place.is_untouched(), "{name} does nothing even without the control");
    }
}

#[test]
fn absolute_links_stay_inside() {
    let place = Place::new();
    let outside = place.directory.path().to_str().unwrap().to_owned();
    let layer = || Layer::new().symlink("out", &outside).file("out/outside", "evil").build();
    stack(&place.root(), vec![layer()]).unwrap_err();
    assert!(place.is_untouched());
    naive(&place.root(), &[Layer::new().symlink("more", &outside).file("more/outside", "evil").build()]);
    assert!(!place.is_untouched());
}

#[test]
fn what_is_hidden_is_hidden_inside_only() {
    for name in [".wh...", ".wh.", "out/.wh.outside", "a/.wh...", "../.wh.outside"] {
        let place = Place::new();
        let layers =
            vec![Layer::new().symlink("out", "..").directory("a").build(), Layer::new().file(name, "").build()];
        let _ = stack(&place.root(), layers);
        assert!(place.is_untouched() && place.root().join("a").is_dir(), "{name}");
        // The rest of the name, joined and removed, is what the attack is after.
        if name == "out/.wh.outside" {
            fs::remove_file(place.root().join("out/outside")).unwrap();
            assert!(!place.is_untouched());
        }
    }
}

#[test]
fn devices_are_refused_and_left_out_where_the_sandbox_has_its_own() {
    for kind in [EntryType::Char, EntryType::Block] {
        let place = Place::new();
        let refused = stack(&place.root(), vec![Layer::new().entry(kind, "disk", "", 0o666, &[]).build()]);
        assert!(matches!(refused, Err(LayerError::Refused { reason, .. }) if reason == "it is a device"));
        stack(&place.root(), vec![Layer::new().entry(kind, "dev/null", "", 0o666, &[]).build()]).unwrap();
        assert!(!place.root().join("dev/null").exists());
    }
    // Kinds that mean something to one archiver alone.
    for kind in [b'S', b'V', b'Z'] {
        let place = Place::new();
        let layer = Layer::new().entry(EntryType::new(kind), "odd", "", 0o644, &[]).build();
        assert!(matches!(stack(&place.root(), vec![layer]), Err(LayerError::Refused { .. })));
    }
}

#[test]
fn owners_that_a_sandbox_does_not_have_are_refused() {
    let place = Place::new();
    let mut header = tar::Header::new_gnu();
    header.set_path("file").unwrap();
    header.set_size(0);
    header.set_uid(65_536);
    header.set_gid(0);
    header.set_mode(0o644);
    header.set_cksum();
    let mut layer = header.as_bytes().to_vec();
    layer.extend_from_slice(&[0; 1024]);
    let refused = stack(&place.root(), vec![layer]);
    assert!(matches!(refused, Err(LayerError::Refused { reason, .. }) if reason.contains("65536")));
}

#[test]
fn what_is_cut_short_is_refused() {
    let whole = Layer::new().file("a", &"x".repeat(2000)).open_ended();
    for length in [100, 511, 513, 1500, 2000] {
        let place = Place::new();
        let refused = stack(&place.root(), vec![whole[..length].to_vec()]);
        assert!(matches!(refused, Err(LayerError::Damaged(_))), "{length}: {refused:?}");
    }
    let place = Place::new();
    stack(&place.root(), vec![whole]).unwrap();
}

#[test]
fn more_than_is_allowed_is_refused() {
    let bounds = Bounds { bytes_max: 1000, entries_max: 10, ..Bounds::default() };
    let unpacked = |layer: Vec<u8>, bounds: &Bounds| {
        let place = Place::new();
        let root = File::open(place.root()).unwrap();
        unpack(layer.as_slice(), root.as_fd(), bounds, &mut Taken::default())
    };
    let many = || (0..11).fold(Layer::new(), |layer, number| layer.file(&number.to_string(), "")).build();
    let large = || Layer::new().file("a", &"x".repeat(600)).file("b", &"x".repeat(600)).build();
    for layer in [many(), large()] {
        assert!(matches!(unpacked(layer, &bounds), Err(LayerError::TooMuch(_))));
    }
    for layer in [many(), large()] {
        unpacked(layer, &Bounds::default()).unwrap();
    }
    // A name of two megabytes, which a careless reader would hold in memory.
    let name = Layer::new().entry(EntryType::GNULongName, "././@LongLink", "", 0, &vec![b'a'; 2 << 20]).file("x", "");
    assert!(matches!(unpacked(name.build(), &Bounds::default()), Err(LayerError::TooMuch(_))));
}

#[test]
fn a_bomb_is_noticed_before_it_fills_the_disk() {
    let place = Place::new();
    let bomb = place.directory.path().join("bomb.tar.gz");
    let mut layer = Layer::new().entry(EntryType::Regular, "zeros", "", 0o644, &vec![0; 6 << 20]).build();
    layer.extend_from_slice(&[0; 1024]);
    File::create(&bomb).unwrap().write_all(&gzip(&layer)).unwrap();
    let opened = |ratio_max: u64| {
        let (root, staging) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bounds = Bounds { ratio_max, ..Bounds::default() };
        atoll_image::source::unpack_image(&bomb, root.path(), staging.path(), &bounds)
    };
    let error = opened(100).unwrap_err();
    assert!(atoll_stdx::chain(&error).contains("more than 100 times"), "{}", atoll_stdx::chain(&error));
    assert_eq!(opened(100_000).unwrap().bytes, 6 << 20);
}
