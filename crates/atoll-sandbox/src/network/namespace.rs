//! Network namespaces: made by this single-threaded process stepping into a new one and back.
#![expect(unsafe_code, reason = "unshare can pull descriptor tables apart; not with the one flag used here")]

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::NetworkError;
use super::netlink::{Family, Netlink};

/// A new namespace with a socket in it.
pub(super) struct SandboxNamespace {
    pub(super) namespace: OwnedFd,
    pub(super) routes: Netlink,
}

fn failed(attempted: &'static str) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError::Namespace { attempted, source }
}

/// The namespace this thread is in.
pub(super) fn current() -> Result<OwnedFd, NetworkError> {
    rustix::fs::openat(CWD, "/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed("open the network namespace")(errno.into()))
}

/// Makes a namespace and comes back to `host`.
pub(super) fn create(host: &OwnedFd) -> Result<SandboxNamespace, NetworkError> {
    // SAFETY: no descriptor table is unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
        .map_err(|errno| failed("make a network namespace")(errno.into()))?;
    let made = furnish();
    let back = rustix::thread::move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::Network));
    // In a namespace of a sandbox this process would do all it does next to the wrong network.
    back.expect("a process can go back to the namespace that it came from");
    made
}

/// In the new namespace.
fn furnish() -> Result<SandboxNamespace, NetworkError> {
    let namespace = current()?;
    let settings = [
        ("ipv6/conf/all/disable_ipv6", "1"),
        ("ipv6/conf/default/disable_ipv6", "1"),
        // Nobody inside has the capability that low ports want, and nobody outside shares them.
        ("ipv4/ip_unprivileged_port_start", "0"),
    ];
    for (name, value) in settings {
        match fs::write(format!("/proc/sys/net/{name}"), value) {
            // A kernel without IPv6 has none to disable.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(failed("set up the network namespace"))?,
        }
    }
    let routes = Netlink::open(Family::Route)
        .map_err(|source| NetworkError::Link { attempted: "open a netlink socket in the sandbox", source })?;
    Ok(SandboxNamespace { namespace, routes })
}
