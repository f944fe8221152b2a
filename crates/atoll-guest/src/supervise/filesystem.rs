//! Builds the sandbox's root from the plan's steps and moves into it.
//!
//! Everything is reached from the new root's descriptor, without following a symbolic link: volumes hold what earlier
//! sandboxes wrote. The mounts belong to the machine's user namespace, so that nobody inside can undo one.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use atoll_guest::supervisor::{Access, Content, FileIdentity, ID_RANGE, Plan, Step};

use super::message::Assignment;
use super::sys::{self, MountAttributes, Trouble, check, check_io};

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
/// Group of terminals inside, as everywhere.
const TTY_GROUP: u32 = 5;
/// Character devices that every program may expect.
const NULL_PATH: &str = "/dev/null";

/// Builds the sandbox's root on its mount point.
pub(super) fn build(assignment: &Assignment, user_namespace: &OwnedFd) -> Result<OwnedFd, Trouble> {
    let plan = &assignment.plan;
    let mask = rustix::process::umask(Mode::empty());
    check(
        "make mounts private",
        rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE),
    )?;
    let mut steps = plan.steps.iter();
    let root = match steps.next() {
        Some(Step::Tmpfs { path, size_bytes, inodes, mode, owner, access }) if path == "/" => memory_mount(
            plan.id_base,
            &Memory { size_bytes: *size_bytes, inodes: *inodes, mode: *mode, owner: *owner },
            *access,
        )?,
        Some(Step::ImageRoot { source, size_bytes, inodes }) => {
            let memory = Memory { size_bytes: *size_bytes, inodes: *inodes, mode: 0o755, owner: 0 };
            image_root(plan, user_namespace, source, &memory)?
        }
        _ => return Err(Trouble::plain("follow a plan whose first step is not the root")),
    };
    check(
        "mount the root",
        rustix::mount::move_mount(
            &root,
            "",
            CWD,
            plan.root_mount_point.as_str(),
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        ),
    )?;
    let mut builder =
        Builder { root, assignment, user_namespace, id_base: plan.id_base, inside: false, empty: None, shares: 0 };
    for step in steps {
        builder.take(step)?;
    }
    builder.act_as(false)?;
    rustix::process::umask(mask);
    if plan.read_only_root {
        seal(builder.root.as_fd(), "make the root read-only")?;
    }
    Ok(builder.root)
}

/// Makes a mounted tree this process's root; the machine's is gone from its view afterwards.
pub(super) fn enter(root: &OwnedFd) -> Result<(), Trouble> {
    check("go to the new root", rustix::process::fchdir(root))?;
    check("change the root", rustix::process::pivot_root(".", "."))?;
    check("leave the machine's root", rustix::mount::unmount(".", UnmountFlags::DETACH))?;
    check("go to /", rustix::process::chdir("/"))
}

/// A memory file system to make.
struct Memory {
    size_bytes: u64,
    inodes: u64,
    mode: u32,
    owner: u32,
}

struct Builder<'a> {
    root: OwnedFd,
    assignment: &'a Assignment,
    user_namespace: &'a OwnedFd,
    id_base: u32,
    /// Whether files are made with the ids of root inside.
    inside: bool,
    /// An empty directory to hide others behind.
    empty: Option<OwnedFd>,
    /// How many shares are mounted.
    shares: usize,
}

impl Builder<'_> {
    fn take(&mut self, step: &Step) -> Result<(), Trouble> {
        match step {
            Step::ImageRoot { .. } => Err(Trouble::plain("follow a plan with two roots")),
            Step::Remove { path } => self.remove(path),
            Step::Directory { path, mode, owner } => self.directory(path, *mode, *owner),
            Step::Symlink { path, target } => {
                self.act_as(true)?;
                let (parent, name) = self.parent(path)?;
                check(&format!("make {path}"), rustix::fs::symlinkat(target.as_str(), &parent, name))
            }
            Step::File { path, mode, content } => self.file(path, *mode, content),
            Step::Device { path, major, minor } => self.device(path, *major, *minor),
            Step::Tmpfs { path, size_bytes, inodes, mode, owner, access } => {
                let target = self.mount_point(path, FileType::Directory)?;
                let memory = memory_mount(
                    self.id_base,
                    &Memory { size_bytes: *size_bytes, inodes: *inodes, mode: *mode, owner: *owner },
                    *access,
                )?;
                attach(memory.as_fd(), target.as_fd(), path)
            }
            Step::Bind { source, path, idmapped, access } => self.bind(source, path, *idmapped, *access),
            Step::Share { source, path, identity, access, .. } => self.share(source, path, *identity, *access),
            Step::Proc { path } => self.proc(path),
            Step::Devpts { path } => self.devpts(path),
            Step::Mask { path } => self.mask(path),
            Step::ReadOnly { path } => self.read_only(path),
            Step::Seal { path } => {
                let mount = self.existing(path)?.ok_or_else(|| Trouble::plain(format!("find {path}")))?;
                seal(mount.as_fd(), &format!("make {path} read-only"))
            }
        }
    }

    /// Makes files as root inside (`true`), who may be refused, or as the machine's root, who may not.
    fn act_as(&mut self, inside: bool) -> Result<(), Trouble> {
        if self.inside != inside {
            let id = if inside { self.id_base } else { 0 };
            sys::set_file_ids(id, id)?;
            self.inside = inside;
        }
        Ok(())
    }

    /// Does something as the owner of a directory of the sandbox's user, in which root inside may not write.
    fn as_owner<T>(&self, directory: &OwnedFd, act: impl FnOnce() -> T) -> Result<T, Trouble> {
        let owner = check("look at a directory's owner", rustix::fs::fstat(directory))?;
        let own = self.id_base..self.id_base + ID_RANGE;
        if !own.contains(&owner.st_uid) || !own.contains(&owner.st_gid) {
            return Err(Trouble::new("make something in a directory of nobody's", Errno::ACCESS));
        }
        sys::set_file_ids(owner.st_uid, owner.st_gid)?;
        let outcome = act();
        sys::set_file_ids(self.id_base, self.id_base)?;
        Ok(outcome)
    }

    /// What is at an absolute path inside, without following a link; `None` if nothing is.
    fn existing(&self, path: &str) -> Result<Option<OwnedFd>, Trouble> {
        let relative = path.trim_start_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        let opened = rustix::fs::openat2(
            &self.root,
            relative,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        );
        match opened {
            Err(Errno::NOENT) => Ok(None),
            other => check(&format!("reach {path}"), other.map(Some)),
        }
    }

    /// The directory that `path` is in, made if absent, and its last part.
    fn parent<'p>(&mut self, path: &'p str) -> Result<(OwnedFd, &'p str), Trouble> {
        let (parent, name) = path.rsplit_once('/').ok_or_else(|| Trouble::plain(format!("use the path {path}")))?;
        if name.is_empty() || name == "." || name == ".." {
            return Err(Trouble::plain(format!("use the path {path}")));
        }
        if let Some(found) = self.existing(parent)? {
            return Ok((found, name));
        }
        self.act_as(true)?;
        let (grandparent, parent_name) = self.parent(parent)?;
        let make = || rustix::fs::mkdirat(&grandparent, parent_name, Mode::from_raw_mode(0o755));
        let made = match make() {
            Err(Errno::ACCESS) => self.as_owner(&grandparent, make)?,
            made => made,
        };
        check(&format!("make {parent}"), made)?;
        let made = self.existing(parent)?.ok_or_else(|| Trouble::plain(format!("find {parent}")))?;
        Ok((made, name))
    }

    /// Modes are exact: this process makes files without a mask.
    fn directory(&mut self, path: &str, mode: u32, owner: u32) -> Result<(), Trouble> {
        let (parent, name) = self.parent(path)?;
        self.act_as(true)?;
        check(&format!("make {path}"), rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode)))?;
        if owner == 0 {
            return Ok(());
        }
        self.act_as(false)?;
        let id = self.id_base + owner;
        let (uid, gid) = (rustix::fs::Uid::from_raw(id), rustix::fs::Gid::from_raw(id));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        check(&format!("give {path} away"), rustix::fs::chownat(&parent, name, Some(uid), Some(gid), flags))
    }

    fn remove(&mut self, path: &str) -> Result<(), Trouble> {
        let (parent, name) = self.parent(path)?;
        self.act_as(true)?;
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            other => check(&format!("remove {path}"), other),
        }
    }

    fn file(&mut self, path: &str, mode: u32, content: &Content) -> Result<(), Trouble> {
        let (parent, name) = self.parent(path)?;
        self.act_as(true)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(mode));
        let mut file = File::from(check(&format!("make {path}"), opened)?);
        match content {
            Content::Text(text) => check_io(&format!("write {path}"), file.write_all(text.as_bytes())),
            Content::Blob { offset, length } => self.copy_blob(&mut file, *offset, *length, path),
        }
    }

    fn copy_blob(&self, file: &mut File, offset: u64, length: u64, path: &str) -> Result<(), Trouble> {
        let attempted = format!("write {path}");
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| Trouble::plain(attempted.as_str()))?];
        let at = self.assignment.blobs_at + offset;
        check_io(&attempted, self.assignment.memory.read_exact_at(&mut bytes, at))?;
        check_io(&attempted, file.write_all(&bytes))
    }

    fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<(), Trouble> {
        let (parent, name) = self.parent(path)?;
        self.act_as(false)?;
        let device = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(0o666);
        check(&format!("make {path}"), rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, mode, device))
    }

    /// Something to mount on; made if absent.
    fn mount_point(&mut self, path: &str, kind: FileType) -> Result<OwnedFd, Trouble> {
        if let Some(found) = self.existing(path)? {
            return Ok(found);
        }
        let (parent, name) = self.parent(path)?;
        self.act_as(true)?;
        let make = || {
            if kind == FileType::Directory {
                rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))
            } else {
                rustix::fs::mknodat(&parent, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
            }
        };
        let made = match make() {
            Err(Errno::ACCESS) => self.as_owner(&parent, make)?,
            made => made,
        };
        check(&format!("make {path}"), made)?;
        self.existing(path)?.ok_or_else(|| Trouble::plain(format!("find {path}")))
    }

    fn bind(&mut self, source: &str, path: &str, idmapped: bool, access: Access) -> Result<(), Trouble> {
        self.act_as(false)?;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(CWD, source, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
        let shown = check(&format!("open {source}"), opened)?;
        let kind = FileType::from_raw_mode(check(&format!("look at {source}"), rustix::fs::fstat(&shown))?.st_mode);
        let mount = clone_mount(shown.as_fd(), source)?;
        let mut attributes = MountAttributes { set: mount_flags(access).bits().into(), ..MountAttributes::default() };
        if idmapped {
            attributes.set |= MOUNT_ATTR_IDMAP;
            attributes.user_namespace =
                u64::try_from(self.user_namespace.as_raw_fd()).expect("descriptors are positive");
        }
        let attempted = if idmapped { "map the owners of" } else { "restrict" };
        sys::mount_setattr(&format!("{attempted} {source}"), mount.as_fd(), &attributes)?;
        let target = self.mount_point(path, kind)?;
        attach(mount.as_fd(), target.as_fd(), path)
    }

    fn share(&mut self, source: &str, path: &str, identity: FileIdentity, access: Access) -> Result<(), Trouble> {
        self.act_as(false)?;
        let shown = open_shared(source, identity, ResolveFlags::NO_SYMLINKS)?;
        let kind = FileType::from_raw_mode(check(&format!("look at {source}"), rustix::fs::fstat(&shown))?.st_mode);
        let mount = clone_mount(shown.as_fd(), source)?;
        let map = self.assignment.share_maps.get(self.shares).ok_or_else(|| Trouble::plain("find a share's map"))?;
        let attributes = MountAttributes {
            set: u64::from(mount_flags(access).bits()) | MOUNT_ATTR_IDMAP,
            user_namespace: u64::try_from(map.as_raw_fd()).expect("descriptors are positive"),
            ..MountAttributes::default()
        };
        sys::mount_setattr(&format!("share {source}"), mount.as_fd(), &attributes)?;
        self.shares += 1;
        let target = self.mount_point(path, kind)?;
        attach(mount.as_fd(), target.as_fd(), path)
    }

    fn proc(&mut self, path: &str) -> Result<(), Trouble> {
        // Processes of other users, the guest's above all, are seen by root's group alone, which is the guest's.
        let group = self.id_base.to_string();
        let options = [("hidepid", "invisible"), ("gid", group.as_str())];
        let flags =
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = new_mount("proc", &options, flags)?;
        let target = self.mount_point(path, FileType::Directory)?;
        attach(mount.as_fd(), target.as_fd(), path)
    }

    fn devpts(&mut self, path: &str) -> Result<(), Trouble> {
        let group = (self.id_base + TTY_GROUP).to_string();
        let options = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", group.as_str())];
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = new_mount("devpts", &options, flags)?;
        let target = self.mount_point(path, FileType::Directory)?;
        attach(mount.as_fd(), target.as_fd(), path)
    }

    fn mask(&mut self, path: &str) -> Result<(), Trouble> {
        let Some(target) = self.existing(path)? else { return Ok(()) };
        let metadata = check(&format!("look at {path}"), rustix::fs::fstat(&target))?;
        if FileType::from_raw_mode(metadata.st_mode) == FileType::Directory {
            if self.empty.is_none() {
                let memory = Memory { size_bytes: 4096, inodes: 1, mode: 0o555, owner: 0 };
                let access = Access { read_only: true, no_devices: true, no_exec: true };
                self.empty = Some(memory_mount(self.id_base, &memory, access)?);
            }
            let empty = self.empty.as_ref().expect("it was just made");
            let cover = clone_mount(empty.as_fd(), "an empty directory")?;
            return attach(cover.as_fd(), target.as_fd(), path);
        }
        let null = self.existing(NULL_PATH)?.ok_or_else(|| Trouble::plain("find the null device"))?;
        let cover = clone_mount(null.as_fd(), NULL_PATH)?;
        attach(cover.as_fd(), target.as_fd(), path)
    }

    fn read_only(&mut self, path: &str) -> Result<(), Trouble> {
        let Some(target) = self.existing(path)? else { return Ok(()) };
        let mount = clone_mount(target.as_fd(), path)?;
        seal(mount.as_fd(), &format!("make {path} read-only"))?;
        attach(mount.as_fd(), target.as_fd(), path)
    }
}

/// An image's files under memory, not mounted anywhere yet. What the two are made of is mounted where the root will be
/// mounted over it.
fn image_root(plan: &Plan, user_namespace: &OwnedFd, source: &str, memory: &Memory) -> Result<OwnedFd, Trouble> {
    let place = plan.root_mount_point.as_str();
    let access = Access { read_only: false, no_devices: true, no_exec: false };
    let upper = memory_mount(plan.id_base, memory, access)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    check("mount the memory of the root", rustix::mount::move_mount(&upper, "", CWD, place, flags))?;
    for (name, mode) in [("files", 0o700), ("changes", 0o755), ("work", 0o700)] {
        check("make the parts of the root", rustix::fs::mkdirat(&upper, name, Mode::from_raw_mode(mode)))?;
    }
    let id = plan.id_base;
    let (uid, gid) = (rustix::fs::Uid::from_raw(id), rustix::fs::Gid::from_raw(id));
    let given = rustix::fs::chownat(&upper, "changes", Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
    check("give the root to root inside", given)?;

    let opened =
        rustix::fs::openat2(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    let files = clone_mount(check("open the image's files", opened)?.as_fd(), "the image's files")?;
    let attributes = MountAttributes {
        set: u64::from(mount_flags(Access { read_only: true, ..access }).bits()) | MOUNT_ATTR_IDMAP,
        user_namespace: u64::try_from(user_namespace.as_raw_fd()).expect("descriptors are positive"),
        ..MountAttributes::default()
    };
    sys::mount_setattr("map the owners of the image's files", files.as_fd(), &attributes)?;
    let target = rustix::fs::openat(&upper, "files", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    attach(files.as_fd(), check("find the parts of the root", target)?.as_fd(), "the image's files")?;

    let part = |name: &str| format!("{place}/{name}");
    let (files, changes, work) = (part("files"), part("changes"), part("work"));
    let options = [("lowerdir", files.as_str()), ("upperdir", changes.as_str()), ("workdir", work.as_str())];
    new_mount("overlay", &options, mount_flags(access))
}

/// What is at a path of the machine now, if it is the file that root shared: between then and now, others who can
/// write to a directory on the way may have put something else in its place.
fn open_shared(source: &str, identity: FileIdentity, links: ResolveFlags) -> Result<OwnedFd, Trouble> {
    let opened = rustix::fs::openat2(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), links);
    let shown = check(&format!("find {source} as it was shared"), opened)?;
    let found = check(&format!("look at {source}"), rustix::fs::fstat(&shown))?;
    if (FileIdentity { device: found.st_dev, inode: found.st_ino }) != identity {
        return Err(Trouble::plain(format!("find {source} as it was shared: it is another file now")));
    }
    Ok(shown)
}

fn seal(mount: BorrowedFd<'_>, attempted: &str) -> Result<(), Trouble> {
    let set = MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into();
    sys::mount_setattr(attempted, mount, &MountAttributes { set, ..MountAttributes::default() })
}

fn mount_flags(access: Access) -> MountAttrFlags {
    let mut flags = MountAttrFlags::MOUNT_ATTR_NOSUID;
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, access.read_only);
    flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, access.no_devices);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, access.no_exec);
    flags
}

fn memory_mount(id_base: u32, memory: &Memory, access: Access) -> Result<OwnedFd, Trouble> {
    let owner = (id_base + memory.owner).to_string();
    let (size, inodes) = (memory.size_bytes.to_string(), memory.inodes.to_string());
    let mode = format!("{:o}", memory.mode);
    let options = [
        ("size", size.as_str()),
        ("nr_inodes", inodes.as_str()),
        ("mode", mode.as_str()),
        ("uid", owner.as_str()),
        ("gid", owner.as_str()),
    ];
    new_mount("tmpfs", &options, mount_flags(access))
}

/// A file system of its own, not mounted anywhere yet.
pub(super) fn new_mount(kind: &str, options: &[(&str, &str)], flags: MountAttrFlags) -> Result<OwnedFd, Trouble> {
    let attempted = format!("make a {kind} mount");
    let context = check(&attempted, rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC))?;
    for (name, value) in options {
        check(
            &format!("{attempted} with {name}={value}"),
            rustix::mount::fsconfig_set_string(&context, *name, *value),
        )?;
    }
    check(&attempted, rustix::mount::fsconfig_create(&context))?;
    check(&attempted, rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags))
}

/// A second mount of what `shown` refers to, without what is mounted below it, not mounted anywhere yet.
fn clone_mount(shown: BorrowedFd<'_>, what: &str) -> Result<OwnedFd, Trouble> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    check(&format!("show {what}"), rustix::mount::open_tree(shown, "", flags))
}

pub(super) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>, path: &str) -> Result<(), Trouble> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    check(&format!("mount {path}"), rustix::mount::move_mount(mount, "", target, "", flags))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::*;

    fn identity(path: &Path) -> FileIdentity {
        let found = std::fs::metadata(path).unwrap();
        FileIdentity { device: found.dev(), inode: found.ino() }
    }

    fn read(directory: &OwnedFd, name: &str) -> String {
        let file = rustix::fs::openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_share_that_was_swapped_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let [shared, private, moved] = ["shared", "private", "moved"].map(|name| directory.path().join(name));
        for (path, text) in [(&shared, "public"), (&private, "secret")] {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("file"), text).unwrap();
        }
        let (meant, source) = (identity(&shared), shared.to_str().unwrap());
        let open = |identity, links| open_shared(source, identity, links);
        assert_eq!(read(&open(meant, ResolveFlags::NO_SYMLINKS).unwrap(), "file"), "public");

        // A link in its place: refused for being a link, and without that for being another file.
        std::fs::rename(&shared, &moved).unwrap();
        std::os::unix::fs::symlink(&private, &shared).unwrap();
        assert_eq!(open(meant, ResolveFlags::NO_SYMLINKS).unwrap_err().errno, libc::ELOOP);
        assert!(open(meant, ResolveFlags::empty()).unwrap_err().attempted.contains("another file"));
        // With both controls off the attack succeeds.
        assert_eq!(read(&open(identity(&private), ResolveFlags::empty()).unwrap(), "file"), "secret");

        // A directory in its place.
        std::fs::remove_file(&shared).unwrap();
        std::fs::rename(&private, &shared).unwrap();
        assert!(open(meant, ResolveFlags::NO_SYMLINKS).unwrap_err().attempted.contains("another file"));
        assert_eq!(read(&open(identity(&shared), ResolveFlags::NO_SYMLINKS).unwrap(), "file"), "secret");
    }
}
