//! Where a sandbox's guest can be reached: what the node knows and the API does not say.

use std::net::Ipv4Addr;
use std::path::PathBuf;

/// The two ways into one running sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestEndpoint {
    /// The guest's private Unix socket on this machine.
    pub socket: PathBuf,
    /// The sandbox's own address, as the node gave it out.
    pub address: Ipv4Addr,
}

/// Tells where the guest of a Pod that runs on this machine is. A closure will do.
pub trait GuestLocator: Send + Sync + 'static {
    /// The endpoint of the Pod with this UID; `None` when it does not run here (any more).
    fn locate(&self, pod_uid: &str) -> Option<GuestEndpoint>;
}

impl<F> GuestLocator for F
where
    F: Fn(&str) -> Option<GuestEndpoint> + Send + Sync + 'static,
{
    fn locate(&self, pod_uid: &str) -> Option<GuestEndpoint> {
        self(pod_uid)
    }
}
