//! What the proxy knows: a value that the plane makes and the proxy only reads.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use atoll_sandbox::network::rules::NetworkRule;
use atoll_stdx::Secret;
use serde::{Deserialize, Serialize};

use crate::name::HostName;
use crate::ranges::RangeSet;
use crate::rules::Allow;

/// Everything at one moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// By the address that connections come from: the packet filter lets nobody borrow one.
    pub sandboxes: BTreeMap<Ipv4Addr, SandboxPolicy>,
    /// Addresses that allowed names may have.
    pub permitted_for_names: RangeSet,
    /// Addresses of Services' Pods, by the Services' full names.
    pub services: BTreeMap<HostName, Vec<Ipv4Addr>>,
}

/// What one sandbox may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxPolicy {
    /// Its Pod's UID.
    pub uid: String,
    /// Its Pod's namespace.
    pub namespace: String,
    /// Its Pod's name.
    pub name: String,
    /// The template that it was made from.
    pub template: Option<String>,
    /// The run of agents that it works for.
    pub run: Option<String>,
    /// What network policies allow, already within the floor.
    pub egress: Vec<NetworkRule>,
    /// Whether it may ask for names of Services.
    pub resolver: bool,
    /// What rules by name allow.
    pub allow: Vec<ActiveAllow>,
}

/// One destination that is in force for a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveAllow {
    /// Where it is written: `configmap/NAMESPACE/NAME#PLACE`.
    pub rule: String,
    /// What it says.
    pub allow: Allow,
    /// Whether it is granted now; always so for those that need no approval.
    pub granted: bool,
    /// The credential, where one is brokered.
    pub credential: Option<Credential>,
}

/// A credential with its value, on its way to the wire.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// What the sandbox sees instead.
    pub placeholder: String,
    /// The token; `None` when its source has none now.
    #[serde(with = "revealed")]
    pub token: Option<Secret<String>>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credential").field("placeholder", &self.placeholder).finish_non_exhaustive()
    }
}

/// The one way in which a token leaves the plane: over the socket to its own proxy.
mod revealed {
    use atoll_stdx::Secret;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(token: &Option<Secret<String>>, serializer: S) -> Result<S::Ok, S::Error> {
        token.as_ref().map(Secret::expose).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret<String>>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
    }
}
