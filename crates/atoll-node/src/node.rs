//! The node: a handle to the task that converges Pods.

use std::net::Ipv4Addr;
use std::path::PathBuf;

/// The two ways into one running sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestEndpoint {
    /// The guest's private Unix socket on this machine.
    pub socket: PathBuf,
    /// The sandbox's own address.
    pub address: Ipv4Addr,
}

/// The node could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The Node object could not be written.
    #[error("cannot register the node with the API server")]
    Register(#[source] kube::Error),
}

/// A running node. Clones share it.
#[derive(Clone)]
pub struct Node {}

impl Node {
    /// Where the guest of the Pod with this UID is; `None` when it does not run here (any more).
    #[must_use]
    pub fn locate_guest(&self, _pod_uid: &str) -> Option<GuestEndpoint> {
        None
    }
}
