//! What a specification must keep to, so that nothing in it surprises the launcher.

use std::path::{Component, Path};

use super::{Image, Mount, MountKind, POD_NETWORK, ROUTER_ADDRESS, SandboxSpec};

/// Longest id or host name.
const NAME_BYTES_MAX: usize = 63;
const IMAGE_ID_DIGITS_MAX: usize = 64;
const MOUNTS_MAX: usize = 64;
/// The guest itself needs this much.
const MEMORY_BYTES_MIN: u64 = 4 * 1024 * 1024;
const PIDS_MIN: u64 = 16;
const NOFILE_MIN: u64 = 16;

/// Where nothing may be mounted: the sandbox's own protections.
const RESERVED_TARGETS: [&str; 3] = ["/proc", "/sys", "/dev"];
/// Nor there on the host image: its read-only part.
const HOST_IMAGE_TARGETS: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/.host"];

/// A specification that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidSpec {
    /// Where, for example `mounts[2].target`.
    pub field: String,
    /// Which rule.
    pub reason: String,
}

fn invalid<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, InvalidSpec> {
    Err(InvalidSpec { field: field.into(), reason: reason.into() })
}

impl SandboxSpec {
    /// Checks everything that can be checked without looking at the machine.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        check_id(&self.id)?;
        if self.hostname.is_empty()
            || self.hostname.len() > NAME_BYTES_MAX
            || !self.hostname.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
        {
            return invalid("hostname", "must be 1 to 63 letters, digits, `-` or `.`");
        }
        if let Image::Kept { id } = &self.image {
            check_image_id("image", id)?;
        }
        self.validate_users()?;
        self.validate_workload()?;
        check_path("base_dir", &self.base_dir)?;
        self.validate_resources()?;
        self.validate_mounts()?;
        let address = self.network.address;
        if address.octets()[..2] != POD_NETWORK.octets()[..2] || address == ROUTER_ADDRESS || address == POD_NETWORK {
            return invalid("network.address", format!("must be a free address of {POD_NETWORK}/16"));
        }
        Ok(())
    }

    fn validate_users(&self) -> Result<(), InvalidSpec> {
        let workload = self.workload.as_ref().map(|workload| ("workload.user", &workload.user));
        for (field, user) in [("exec_user", &self.exec_user)].into_iter().chain(workload) {
            let ids = [user.uid, user.gid].into_iter().chain(user.groups.iter().copied());
            if ids.into_iter().any(|id| id >= atoll_guest::supervisor::ID_RANGE) {
                return invalid(field, "ids inside a sandbox are below 65536");
            }
        }
        Ok(())
    }

    fn validate_workload(&self) -> Result<(), InvalidSpec> {
        let environments = [("env", Some(&self.env)), ("workload.env", self.workload.as_ref().map(|w| &w.env))];
        for (field, environment) in environments {
            for (name, value) in environment.into_iter().flatten() {
                if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                    return invalid(format!("{field}[{name:?}]"), "is not a name and a value without zero bytes");
                }
            }
        }
        let Some(workload) = &self.workload else { return Ok(()) };
        if workload.argv.first().is_none_or(String::is_empty) {
            return invalid("workload.argv", "names no program");
        }
        if workload.argv.iter().any(|argument| argument.contains('\0')) {
            return invalid("workload.argv", "holds a zero byte");
        }
        workload.cwd.as_deref().map_or(Ok(()), |cwd| check_path("workload.cwd", cwd))
    }

    fn validate_resources(&self) -> Result<(), InvalidSpec> {
        let resources = &self.resources;
        let bounds = [
            ("resources.memory_bytes", resources.memory_bytes, MEMORY_BYTES_MIN),
            ("resources.pids_max", resources.pids_max, PIDS_MIN),
            ("resources.cpu_millis", resources.cpu_millis, 1),
            ("resources.nofile", resources.nofile, NOFILE_MIN),
        ];
        for (field, value, least) in bounds {
            if value.is_some_and(|value| value < least) {
                return invalid(field, format!("must be at least {least}"));
            }
        }
        Ok(())
    }

    fn validate_mounts(&self) -> Result<(), InvalidSpec> {
        if self.mounts.len() > MOUNTS_MAX {
            return invalid("mounts", format!("at most {MOUNTS_MAX}"));
        }
        for (index, mount) in self.mounts.iter().enumerate() {
            let field = format!("mounts[{index}]");
            check_target(&field, &mount.target, &self.image)?;
            check_kind(&field, mount)?;
            if self.mounts[..index].iter().any(|other| other.target == mount.target) {
                return invalid(format!("{field}.target"), format!("{} is mounted twice", mount.target));
            }
        }
        Ok(())
    }
}

/// An id becomes names of directories and groups.
///
/// # Errors
/// What it must look like.
pub fn check_id(id: &str) -> Result<(), InvalidSpec> {
    if is_name(id, NAME_BYTES_MAX, b"-") {
        Ok(())
    } else {
        invalid("id", "must be 1 to 63 lower-case letters, digits or `-`, and begin with a letter or digit")
    }
}

/// Whether it can name a directory of ours: lower-case letters, digits, and `others` except at the beginning.
#[must_use]
pub fn is_name(name: &str, bytes_max: usize, others: &[u8]) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= bytes_max
        && name.bytes().next().is_some_and(alphanumeric)
        && name.bytes().all(|byte| alphanumeric(byte) || others.contains(&byte))
}

fn check_path(field: &str, path: &str) -> Result<(), InvalidSpec> {
    let plain = path.starts_with('/')
        && !path.contains('\0')
        && (path == "/" || path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != ".."));
    if plain { Ok(()) } else { invalid(field, format!("{path:?} must be absolute, without `.`, `..` or empty parts")) }
}

fn check_target(field: &str, target: &str, image: &Image) -> Result<(), InvalidSpec> {
    let field = format!("{field}.target");
    check_path(&field, target)?;
    if target == "/" {
        return invalid(field, "the root is the image's");
    }
    let of_host_image = HOST_IMAGE_TARGETS.into_iter().filter(|_| *image == Image::Host);
    let reserved =
        RESERVED_TARGETS.into_iter().chain(of_host_image).find(|reserved| Path::new(target).starts_with(reserved));
    // A memory file system for programs that share memory is common, and harmless.
    match reserved {
        Some(_) if target == "/dev/shm" => Ok(()),
        Some(reserved) => invalid(field, format!("nothing can be mounted in {reserved}")),
        None => Ok(()),
    }
}

fn check_image_id(field: &str, id: &str) -> Result<(), InvalidSpec> {
    if !id.is_empty() && id.len() <= IMAGE_ID_DIGITS_MAX && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    invalid(field, "its id is 1 to 64 hexadecimal digits")
}

fn check_kind(field: &str, mount: &Mount) -> Result<(), InvalidSpec> {
    match &mount.kind {
        MountKind::Tmpfs { size_bytes } if *size_bytes == 0 => invalid(format!("{field}.size_bytes"), "must not be 0"),
        MountKind::Image { id } => check_image_id(&format!("{field}.id"), id),
        MountKind::EmptyDir { name } if !is_name(name, NAME_BYTES_MAX, b"-.") => {
            invalid(format!("{field}.name"), "must be 1 to 63 lower-case letters, digits, `-` or `.`")
        }
        MountKind::Files { files, .. } => {
            let bad = files.keys().find(|name| {
                Path::new(name).components().any(|part| !matches!(part, Component::Normal(_)))
                    || name.is_empty()
                    || name.contains("//")
                    || name.ends_with('/')
                    || name.contains('\0')
            });
            bad.map_or(Ok(()), |name| invalid(format!("{field}.files"), format!("{name:?} is not a relative path")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use super::super::*;

    fn spec() -> SandboxSpec {
        SandboxSpec::idle("a1b2-c3", Ipv4Addr::new(10, 201, 0, 2))
    }

    fn with_mount(target: &str, kind: MountKind) -> SandboxSpec {
        SandboxSpec { mounts: vec![Mount { target: target.to_owned(), kind, read_only: false }], ..spec() }
    }

    #[test]
    fn a_plain_specification_is_fine() {
        spec().validate().unwrap();
        with_mount("/data/x", MountKind::EmptyDir { name: "data".into() }).validate().unwrap();
        with_mount("/dev/shm", MountKind::Tmpfs { size_bytes: 1 }).validate().unwrap();
        with_mount("/etc/app", MountKind::Files { files: BTreeMap::new(), mode: 0o644 }).validate().unwrap();
    }

    #[test]
    fn each_broken_rule_names_its_field() {
        let empty_dir = || MountKind::EmptyDir { name: "data".into() };
        let files = |name: &str| MountKind::Files {
            files: BTreeMap::from([(name.to_owned(), FileBytes(Vec::new()))]),
            mode: 0o644,
        };
        let workload = |argv: Vec<&str>| Workload {
            argv: argv.into_iter().map(str::to_owned).collect(),
            env: BTreeMap::new(),
            cwd: None,
            user: User::default(),
        };
        let resources = |memory: u64| Resources { memory_bytes: Some(memory), ..Resources::default() };
        let cases = [
            (SandboxSpec { id: "../x".into(), ..spec() }, "id"),
            (SandboxSpec { id: String::new(), ..spec() }, "id"),
            (SandboxSpec { id: "x".repeat(64), ..spec() }, "id"),
            (SandboxSpec { hostname: "a b".into(), ..spec() }, "hostname"),
            (SandboxSpec { exec_user: User { uid: 65536, ..User::default() }, ..spec() }, "exec_user"),
            (SandboxSpec { base_dir: "workspace".into(), ..spec() }, "base_dir"),
            (SandboxSpec { workload: Some(workload(vec![])), ..spec() }, "workload.argv"),
            (SandboxSpec { workload: Some(workload(vec!["a\0"])), ..spec() }, "workload.argv"),
            (SandboxSpec { env: BTreeMap::from([("A=".into(), String::new())]), ..spec() }, "env[\"A=\"]"),
            (SandboxSpec { resources: resources(5), ..spec() }, "resources.memory_bytes"),
            (SandboxSpec { network: NetworkSpec { address: ROUTER_ADDRESS }, ..spec() }, "network.address"),
            (
                SandboxSpec { network: NetworkSpec { address: Ipv4Addr::new(127, 0, 0, 1) }, ..spec() },
                "network.address",
            ),
            (SandboxSpec { image: Image::Kept { id: "../x".into() }, ..spec() }, "image"),
            (with_mount("/", empty_dir()), "mounts[0].target"),
            (with_mount("/proc/sys", empty_dir()), "mounts[0].target"),
            (with_mount("/a/../proc", empty_dir()), "mounts[0].target"),
            (with_mount("relative", empty_dir()), "mounts[0].target"),
            (with_mount("/usr/local", empty_dir()), "mounts[0].target"),
            (with_mount("/data", MountKind::EmptyDir { name: "../x".into() }), "mounts[0].name"),
            (with_mount("/data", MountKind::Image { id: "../x".into() }), "mounts[0].id"),
            (with_mount("/data", MountKind::Tmpfs { size_bytes: 0 }), "mounts[0].size_bytes"),
            (with_mount("/data", files("../x")), "mounts[0].files"),
            (with_mount("/data", files("/x")), "mounts[0].files"),
        ];
        for (spec, field) in cases {
            assert_eq!(spec.validate().unwrap_err().field, field, "{spec:?}");
        }
    }

    #[test]
    fn credentials_are_not_printed() {
        let mut spec = with_mount(
            "/data",
            MountKind::Files { files: BTreeMap::from([("token".into(), FileBytes(b"hunter2".to_vec()))]), mode: 0o600 },
        );
        spec.workload = Some(Workload {
            argv: vec!["true".into()],
            env: BTreeMap::from([("KEY".into(), "hunter2".into())]),
            cwd: None,
            user: User::default(),
        });
        spec.env = BTreeMap::from([("KEY".into(), "hunter2".into())]);
        assert!(!format!("{spec:?}").contains("hunter2"));
    }
}
