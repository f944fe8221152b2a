//! Label keys and values.

/// The FNV-1a hash of the Sandbox's name; on its Pod, Service and volume claims. Selects, never identifies.
pub const SANDBOX_NAME_HASH: &str = "agents.x-k8s.io/sandbox-name-hash";
/// The UID of the claim that a Sandbox serves.
pub const CLAIM_UID: &str = "agents.x-k8s.io/claim-uid";
/// How a Sandbox came to its claim: [`LAUNCH_TYPE_COLD`] or [`LAUNCH_TYPE_WARM`].
pub const LAUNCH_TYPE: &str = "agents.x-k8s.io/launch-type";
/// Made for the claim.
pub const LAUNCH_TYPE_COLD: &str = "cold";
/// Came, or waits to come, from a pool.
pub const LAUNCH_TYPE_WARM: &str = "warm";
/// Which client asked for the object; see [`normalized_created_by`].
pub const CREATED_BY: &str = "agents.x-k8s.io/created-by";
/// The hash of the pool's name; on unclaimed members and their Pods.
pub const WARM_POOL: &str = "agents.x-k8s.io/warm-pool-sandbox";
/// The hash of the template's name; the pod selector of its NetworkPolicy. Kept after adoption.
pub const TEMPLATE_REF_HASH: &str = "agents.x-k8s.io/sandbox-template-ref-hash";
/// The hash of the whole blueprint; on unclaimed pool members.
pub const TEMPLATE_HASH: &str = "agents.x-k8s.io/sandbox-template-hash";
/// The hash of the pod template alone; deprecated, on unclaimed pool members.
pub const POD_TEMPLATE_HASH: &str = "agents.x-k8s.io/sandbox-pod-template-hash";
/// Set to `true` by a user on a Pod, Service or volume claim that a Sandbox of the right name may take over.
pub const ADOPTABLE: &str = "agents.x-k8s.io/adoptable";
/// An assignment made by an older controller; on claims, only read.
pub const LEGACY_SANDBOX_NAME: &str = "agents.x-k8s.io/sandbox-name";

/// The value of [`CREATED_BY`] that the controllers themselves use.
pub const CREATED_BY_CONTROLLER: &str = "controller";

const CREATED_BY_KNOWN: [&str; 3] = ["go-client", "python-client", CREATED_BY_CONTROLLER];
const SYSTEM_DOMAINS: [&str; 2] = [crate::SANDBOX_GROUP, crate::EXTENSIONS_GROUP];

/// The value of [`CREATED_BY`] as Pods carry it: one of a few known words, else `unknown`.
#[must_use]
pub fn normalized_created_by(value: &str) -> &'static str {
    CREATED_BY_KNOWN.into_iter().find(|known| *known == value).unwrap_or("unknown")
}

/// Whether a label or annotation key belongs to the controllers. Such keys of a pod template never reach a Pod.
#[must_use]
pub fn is_system_key(key: &str) -> bool {
    key == crate::annotations::TRACE_CONTEXT
        || key.split_once('/').is_some_and(|(domain, _)| SYSTEM_DOMAINS.contains(&domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_keys_are_known_by_their_domain() {
        for (key, system) in [
            ("agents.x-k8s.io/claim-uid", true),
            ("extensions.agents.x-k8s.io/anything", true),
            ("opentelemetry.io/trace-context", true),
            ("opentelemetry.io/other", false),
            ("sandbox.users.io/team", false),
            ("not-agents.x-k8s.io/claim-uid", false),
            ("agents.x-k8s.io", false),
        ] {
            assert_eq!(is_system_key(key), system, "{key}");
        }
    }

    #[test]
    fn unknown_creators_are_one_word() {
        assert_eq!(normalized_created_by("python-client"), "python-client");
        assert_eq!(normalized_created_by("somebody"), "unknown");
    }
}
