//! Why the launcher cannot do something, and how it says so to the driver.

use std::io;
use std::path::{Path, PathBuf};

use atoll_stdx::{Hint, chain};

use super::protocol::{Refusal, RefusalKind};
use crate::cgroup::CgroupError;
use crate::gvisor::runtime::RuntimeError;
use crate::image::ImageError;
use crate::network::NetworkError;
use crate::share::ShareError;
use crate::spec::{InvalidSpec, Tier};

/// A request could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("the sandbox's specification is not valid")]
    Invalid(#[source] InvalidSpec),
    #[error("{what}")]
    Rule { what: String, hint: Option<String> },
    #[error("{what}")]
    Unsupported { what: String, remedy: String },
    #[error("the tier {tier} cannot be had here")]
    Tier {
        tier: Tier,
        #[source]
        source: RuntimeError,
    },
    #[error("there is no {kind} {name}")]
    NotFound { kind: &'static str, name: String },
    #[error("a sandbox {0} exists")]
    AlreadyExists(String),
    #[error("the sandbox's network cannot be made")]
    Network(#[source] NetworkError),
    #[error("the sandbox's control groups cannot be made")]
    Cgroup(#[source] CgroupError),
    #[error("the host image cannot be prepared")]
    Image(#[source] ImageError),
    #[error("a share cannot be mounted")]
    Share(#[source] ShareError),
    #[error("cannot {attempted} {path}")]
    Files {
        attempted: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("every range of user ids is in use")]
    IdsExhausted,
    #[error("the supervisor cannot be started")]
    Spawn(#[source] io::Error),
    #[error("the sandbox did not start: cannot {attempted}")]
    Start {
        attempted: String,
        #[source]
        source: Option<io::Error>,
    },
    #[error("the sandbox was destroyed while it was starting")]
    Destroyed,
    #[error("processes of the sandbox {0} do not end")]
    Unkillable(String),
}

impl LaunchError {
    pub(crate) fn files(attempted: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Files { attempted, path, source }
    }

    /// From a supervisor's report.
    pub(super) fn start(attempted: String, errno: i32) -> Self {
        let source = (errno != 0).then(|| io::Error::from_raw_os_error(errno));
        match missing_feature(&attempted, errno) {
            Some(remedy) => Self::Unsupported { what: format!("this machine cannot {attempted}"), remedy },
            None => Self::Start { attempted, source },
        }
    }

    fn kind(&self) -> RefusalKind {
        match self {
            Self::Invalid(_) | Self::Rule { .. } | Self::Share(ShareError::Unknown(_)) => RefusalKind::Invalid,
            Self::Unsupported { .. }
            | Self::Tier { .. }
            | Self::Network(NetworkError::Filter(_))
            | Self::Cgroup(CgroupError::Missing(_) | CgroupError::NoLimit(_)) => RefusalKind::Unsupported,
            Self::NotFound { .. } => RefusalKind::NotFound,
            Self::AlreadyExists(_) => RefusalKind::AlreadyExists,
            Self::Network(NetworkError::AddressInUse(_)) => RefusalKind::AddressInUse,
            Self::IdsExhausted => RefusalKind::Exhausted,
            Self::Files { source, .. } | Self::Spawn(source) if is_exhaustion(source) => RefusalKind::Exhausted,
            Self::Start { .. } | Self::Destroyed => RefusalKind::StartFailed,
            _ => RefusalKind::Internal,
        }
    }

    pub(super) fn refusal(&self) -> Refusal {
        Refusal { kind: self.kind(), message: chain(self), hint: self.hint() }
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSPC | libc::EDQUOT | libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN)
    )
}

/// What to do when a supervisor could not do something because the machine lacks it.
fn missing_feature(attempted: &str, errno: i32) -> Option<String> {
    let refused = matches!(errno, libc::EPERM | libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::ENODEV);
    let newer = crate::probe::newer_kernel();
    let with = |setting: &str| format!("{newer} with {setting}");
    let user_namespaces = "set the sysctl user.max_user_namespaces above 0".to_owned();
    let remedies = [
        (
            "map the owners of",
            "keep the state directory on a file system with idmapped mounts (ext4, xfs, btrfs)".to_owned(),
        ),
        ("share ", "share something on a file system with idmapped mounts (ext4, xfs, btrfs, tmpfs)".to_owned()),
        ("make a user namespace", user_namespaces.clone()),
        ("enter the user namespace", user_namespaces),
        ("clone into namespaces", with("namespaces (CONFIG_NAMESPACES), as root")),
        ("make a tmpfs mount", with("CONFIG_TMPFS")),
        ("make a devpts mount", with("CONFIG_UNIX98_PTYS")),
        ("make a overlay mount", "run a kernel of at least 5.19 with CONFIG_OVERLAY_FS".to_owned()),
        ("make a proc mount", with("CONFIG_PROC_FS")),
        ("restrict ", newer.clone()),
    ];
    let remedy = remedies.into_iter().find(|(beginning, _)| attempted.starts_with(beginning));
    remedy.filter(|_| refused).map(|(_, remedy)| remedy)
}

impl Hint for LaunchError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Rule { hint, .. } => hint.clone(),
            Self::Unsupported { remedy, .. } => Some(remedy.clone()),
            Self::Tier { source, .. } => source.hint(),
            Self::Network(error) => error.hint(),
            Self::Cgroup(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Share(error) => error.hint(),
            Self::IdsExhausted => Some("destroy sandboxes that are no longer needed".to_owned()),
            Self::Files { source, .. } if source.raw_os_error() == Some(libc::ENOSPC) => {
                Some("free some disk space, or choose another state directory".to_owned())
            }
            Self::Files { source, .. } | Self::Spawn(source) if is_exhaustion(source) => {
                Some("destroy sandboxes that are no longer needed, or raise the limits of the service".to_owned())
            }
            Self::Unkillable(_) => Some("look for processes in state D; they wait for a device".to_owned()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_feature_is_named_with_its_remedy() {
        let refusal = LaunchError::start("map the owners of /state/volumes/a".to_owned(), libc::EINVAL).refusal();
        assert_eq!(refusal.kind, RefusalKind::Unsupported);
        assert_eq!(refusal.message, "this machine cannot map the owners of /state/volumes/a");
        assert!(refusal.hint.unwrap().contains("idmapped"));

        let refusal = LaunchError::start("make /data/x".to_owned(), libc::EACCES).refusal();
        assert_eq!(refusal.kind, RefusalKind::StartFailed);
        assert_eq!(refusal.message, "the sandbox did not start: cannot make /data/x: Permission denied (os error 13)");
    }
}
