//! What the controllers know: one cache for each kind, and by what the objects in it are found.

use std::fmt::Debug;
use std::sync::Arc;

use atoll_api::reasons::{self, condition};
use atoll_api::{Sandbox, SandboxClaim, SandboxTemplate, SandboxWarmPool};
use atoll_client::{Cache, ObjectKey};
use atoll_stdx::name_hash;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, PodSpec, PodStatus, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Resource;
use serde::de::DeserializeOwned;

use crate::owner::{controller_uid, is_terminating, uid_of};

/// Index of Sandboxes and Pods: the UID of the controller.
pub(crate) const BY_CONTROLLER: usize = 0;
/// Index of Sandboxes: the hash of the name, see [`by_name_hash`].
pub(crate) const SANDBOXES_BY_NAME_HASH: usize = 1;
/// Index of templates: the hash of the name, see [`by_name_hash`].
pub(crate) const TEMPLATES_BY_NAME_HASH: usize = 0;
/// Index of claims: the pool, see [`pool_value`].
pub(crate) const CLAIMS_BY_POOL: usize = 0;
/// Index of claims: the pool, for claims that still want one of its members.
pub(crate) const CLAIMS_WAITING: usize = 1;
/// Index of pools: the template, as namespace and name.
pub(crate) const POOLS_BY_TEMPLATE: usize = 0;

/// Reasons for which a claim is not served until it changes.
const REFUSALS: [&str; 5] = [
    reasons::INVALID_CONFIGURATION,
    reasons::INVALID_METADATA,
    reasons::ENV_VARS_INJECTION_REJECTED,
    reasons::VOLUME_CLAIM_TEMPLATES_ERROR,
    reasons::CLAIM_EXPIRED,
];

/// One cache for each kind.
pub(crate) struct Caches {
    pub(crate) sandboxes: Cache<Sandbox>,
    pub(crate) templates: Cache<SandboxTemplate>,
    pub(crate) pools: Cache<SandboxWarmPool>,
    pub(crate) claims: Cache<SandboxClaim>,
    pub(crate) pods: Cache<Pod>,
    pub(crate) services: Cache<Service>,
    pub(crate) volume_claims: Cache<PersistentVolumeClaim>,
    pub(crate) network_policies: Cache<NetworkPolicy>,
    pub(crate) nodes: Cache<Node>,
}

impl Caches {
    /// Returns when every first list is complete; nodes are followed for the scheduler alone. Cancel-safe.
    pub(crate) async fn synced(&self, with_nodes: bool) {
        self.sandboxes.synced().await;
        self.templates.synced().await;
        self.pools.synced().await;
        self.claims.synced().await;
        self.pods.synced().await;
        self.services.synced().await;
        self.volume_claims.synced().await;
        self.network_policies.synced().await;
        if with_nodes {
            self.nodes.synced().await;
        }
    }
}

/// Leaves of a Pod what these controllers look at where somebody else gives Pods to nodes. There are as many Pods as
/// Sandboxes, and each is larger than its Sandbox.
pub(crate) fn outline_of_pod(pod: &mut Pod) {
    let node_name = pod.spec.take().and_then(|spec| spec.node_name);
    pod.spec = node_name.map(|node_name| PodSpec { node_name: Some(node_name), ..PodSpec::default() });
    let Some(status) = pod.status.take() else { return };
    let looked_at = [condition::READY, condition::POD_SCHEDULED];
    let mut conditions = status.conditions;
    if let Some(conditions) = &mut conditions {
        conditions.retain(|condition| looked_at.contains(&condition.type_.as_str()));
        conditions.shrink_to_fit();
    }
    pod.status = Some(PodStatus { phase: status.phase, pod_ips: status.pod_ips, conditions, ..PodStatus::default() });
}

/// Values of [`BY_CONTROLLER`].
pub(crate) fn by_controller<K: Resource>(object: &K) -> Vec<String> {
    match controller_uid(object.meta()) {
        "" => Vec::new(),
        uid => vec![uid.to_owned()],
    }
}

/// Values of [`SANDBOXES_BY_NAME_HASH`] and [`TEMPLATES_BY_NAME_HASH`]: namespace and hash.
pub(crate) fn by_name_hash<K: Resource>(object: &K) -> Vec<String> {
    vec![format!("{}/{}", namespace_of(object), name_hash(name_of(object)))]
}

/// The oldest other object of the same namespace whose name has the same hash, if it is older than this one.
///
/// The hash selects children and policies. Two names of one hash would share them, and such names can be made on purpose;
/// so the first to come has the hash for itself.
pub(crate) fn elder_of_same_hash<K>(cache: &Cache<K>, index: usize, object: &K) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let rank = |object: &K| {
        let created = object.meta().creation_timestamp.as_ref().map(|time| time.0);
        (created, uid_of(object.meta()).to_owned())
    };
    let value = by_name_hash(object).remove(0);
    let eldest = cache.find(index, &value).into_iter().min_by_key(|other| rank(other))?;
    (name_of(&*eldest) != name_of(object) && rank(&eldest) < rank(object)).then_some(eldest)
}

/// Values of [`CLAIMS_BY_POOL`].
pub(crate) fn claims_by_pool(claim: &SandboxClaim) -> Vec<String> {
    vec![pool_of_claim(claim).to_string()]
}

/// Values of [`CLAIMS_WAITING`].
pub(crate) fn claims_waiting(claim: &SandboxClaim) -> Vec<String> {
    if is_waiting(claim) { claims_by_pool(claim) } else { Vec::new() }
}

/// Values of [`POOLS_BY_TEMPLATE`].
pub(crate) fn pools_by_template(pool: &SandboxWarmPool) -> Vec<String> {
    vec![template_of_pool(pool).to_string()]
}

/// The pool that a claim refers to.
pub(crate) fn pool_of_claim(claim: &SandboxClaim) -> ObjectKey {
    ObjectKey::new(namespace_of(claim), claim.spec.warm_pool_ref.name.as_str())
}

/// The template that a pool refers to.
pub(crate) fn template_of_pool(pool: &SandboxWarmPool) -> ObjectKey {
    ObjectKey::new(namespace_of(pool), pool.spec.sandbox_template_ref.name.as_str())
}

/// The namespace of an object.
pub(crate) fn namespace_of<K: Resource>(object: &K) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

/// The name of an object.
pub(crate) fn name_of<K: Resource>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

/// Whether a claim could still take a member of its pool.
pub(crate) fn is_waiting(claim: &SandboxClaim) -> bool {
    let status = claim.status.as_ref();
    let bound = status.is_some_and(|status| status.sandbox.is_some());
    let refused = status
        .is_some_and(|status| REFUSALS.contains(&atoll_api::conditions::reason(&status.conditions, condition::READY)));
    let wants_its_own = !claim.spec.env.is_empty() || !claim.spec.volume_claim_templates.is_empty();
    !bound && !refused && !wants_its_own && !is_terminating(&claim.metadata)
}
