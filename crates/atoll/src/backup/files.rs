//! The part of a backup that lies in plain files: keys and certificates (`pki/`) and the repositories of agents' work
//! (`repos/`), as one archive within the archive.

use std::fs::{self, DirBuilder, DirEntry, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path};

use super::{BackupError, append, private_file};

/// The folders of the plane's directory that are kept.
pub(crate) const FOLDERS: [&str; 2] = ["pki", "repos"];
const DEPTH_MAX: usize = 32;
/// Git writes a reference after the objects that it needs: read after the references, they are all there.
const LAST: &str = "objects";

/// Packs the folders below `plane` while they are used. `scratch` is for one file at a time.
pub(super) fn pack(plane: &Path, scratch: &Path, archive: &Path) -> io::Result<()> {
    let mut builder = tar::Builder::new(private_file(archive)?);
    for name in FOLDERS {
        if plane.join(name).is_dir() {
            pack_folder(&mut builder, plane, Path::new(name), scratch, 0)?;
        }
    }
    builder.into_inner()?.sync_all()
}

fn pack_folder(
    builder: &mut tar::Builder<File>,
    plane: &Path,
    folder: &Path,
    scratch: &Path,
    depth: usize,
) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(format!("{} nests too deep", folder.display())));
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o700);
    header.set_cksum();
    builder.append_data(&mut header, folder, io::empty())?;
    let mut entries: Vec<DirEntry> = fs::read_dir(plane.join(folder))?.collect::<io::Result<_>>()?;
    entries.sort_by_key(|entry| (entry.file_name() == LAST, entry.file_name()));
    for entry in entries {
        let path = folder.join(entry.file_name());
        let kind = match entry.file_type() {
            // Gone since the folder was read: a temporary file of its owner.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            kind => kind?,
        };
        if kind.is_dir() {
            pack_folder(builder, plane, &path, scratch, depth + 1)?;
        } else if kind.is_file() {
            pack_file(builder, &plane.join(&path), &path, scratch)?;
        } else {
            tracing::warn!(path = %path.display(), "neither file nor folder: left out of the backup");
        }
    }
    Ok(())
}

/// By a copy: the file may grow while it is read, and its length comes before its content.
fn pack_file(builder: &mut tar::Builder<File>, file: &Path, name: &Path, scratch: &Path) -> io::Result<()> {
    let mut source = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        source => source?,
    };
    let mut copy = tempfile::tempfile_in(scratch)?;
    let bytes = io::copy(&mut source, &mut copy)?;
    io::Seek::rewind(&mut copy)?;
    append(builder, &name.to_string_lossy(), bytes, copy)
}

/// Unpacks into `folder`: files that their owner alone can read, in [`FOLDERS`] and nowhere else.
pub(super) fn unpack(archive: &Path, folder: &Path) -> Result<(), BackupError> {
    let damaged = |problem: String| BackupError::Damaged(problem);
    let mut archive = tar::Archive::new(File::open(archive)?);
    for entry in archive.entries()? {
        let mut entry = entry.map_err(|error| damaged(format!("its files cannot be read: {error}")))?;
        let path = entry.path().map_err(|error| damaged(error.to_string()))?.into_owned();
        let mut parts = path.components();
        let known = matches!(parts.next(), Some(Component::Normal(first)) if FOLDERS.iter().any(|it| first == *it));
        if !known || !parts.all(|part| matches!(part, Component::Normal(_))) {
            return Err(damaged(format!("{} has no place in a backup", path.display())));
        }
        let target = folder.join(&path);
        match entry.header().entry_type() {
            tar::EntryType::Directory => DirBuilder::new().mode(0o700).create(target)?,
            tar::EntryType::Regular => {
                let mut file = private_file(&target)?;
                io::copy(&mut entry, &mut file)?;
                file.sync_all()?;
            }
            _ => return Err(damaged(format!("{} is neither file nor folder", path.display()))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn files_come_back_readable_by_their_owner_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let (plane, target) = (dir.path().join("plane"), dir.path().join("target"));
        fs::create_dir_all(plane.join("repos/one.git/objects/ab")).expect("folders");
        fs::create_dir_all(plane.join("pki")).expect("a folder");
        fs::create_dir_all(plane.join("other")).expect("a folder");
        fs::create_dir(&target).expect("a folder");
        fs::write(plane.join("pki/ca.key"), "secret").expect("written");
        fs::set_permissions(plane.join("pki/ca.key"), fs::Permissions::from_mode(0o644)).expect("changed");
        fs::write(plane.join("repos/one.git/objects/ab/cd"), "object").expect("written");
        fs::write(plane.join("repos/one.git/packed-refs"), "refs").expect("written");
        fs::write(plane.join("other/file"), "not kept").expect("written");
        std::os::unix::fs::symlink("/etc/passwd", plane.join("pki/link")).expect("a link");
        let archive = dir.path().join("files.tar");
        pack(&plane, dir.path(), &archive).expect("it is packed");
        unpack(&archive, &target).expect("it is unpacked");
        assert_eq!(fs::read_to_string(target.join("pki/ca.key")).expect("read"), "secret");
        assert_eq!(fs::read_to_string(target.join("repos/one.git/objects/ab/cd")).expect("read"), "object");
        assert_eq!((mode(&target.join("pki/ca.key")), mode(&target.join("pki"))), (0o600, 0o700));
        assert!(!target.join("other").exists() && !target.join("pki/link").exists());
        let mut listed = tar::Archive::new(File::open(&archive).expect("opened"));
        let names = listed.entries().expect("entries").map(|it| it.expect("one").path().expect("a path").into_owned());
        let names: Vec<_> = names.collect();
        let at = |name: &str| names.iter().position(|it| it == Path::new(name)).expect(name);
        assert!(at("repos/one.git/packed-refs") < at("repos/one.git/objects/ab/cd"), "objects come last");
    }

    #[test]
    fn what_would_leave_its_folder_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        for (number, name) in ["../escape", "etc/passwd", "pki/../../escape", "pki"].into_iter().enumerate() {
            let path = dir.path().join(format!("{number}.tar"));
            let mut builder = tar::Builder::new(File::create(&path).expect("made"));
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().expect("it is one").name[..name.len()].copy_from_slice(name.as_bytes());
            let kind = if name == "pki" { tar::EntryType::Symlink } else { tar::EntryType::Regular };
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_mode(0o600);
            header.set_cksum();
            builder.append(&header, io::empty()).expect("appended");
            builder.finish().expect("finished");
            let target = dir.path().join(format!("target{number}"));
            fs::create_dir(&target).expect("a folder");
            assert!(matches!(unpack(&path, &target), Err(BackupError::Damaged(_))), "{name}");
            assert_eq!(fs::read_dir(&target).expect("read").count(), 0, "{name}");
        }
        assert!(!dir.path().join("escape").exists());
    }
}
