//! What is known about one claim.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use atoll_api::{Sandbox, SandboxClaim, SandboxTemplate, SandboxWarmPool, annotations, labels};
use atoll_client::ObjectKey;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;

use crate::blueprint::{Hashes, is_stale};
use crate::caches::{
    BY_CONTROLLER, Caches, TEMPLATES_BY_NAME_HASH, elder_of_same_hash, name_of, namespace_of, pool_of_claim,
    template_of_pool,
};
use crate::claim::candidates::Candidates;
use crate::claim::waiting::priority;
use crate::claim::{Parking, Shelves, shadow};
use crate::owner::{annotation, is_controlled_by, label, uid_of};

/// One claim, and what it could get.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) claim: Arc<SandboxClaim>,
    pub(crate) pool: Option<Arc<SandboxWarmPool>>,
    pub(crate) template: Option<Arc<SandboxTemplate>>,
    /// There is no pool, but this template, for which the pool that the claim names would stand in.
    pub(crate) shadowed: Option<Arc<SandboxTemplate>>,
    /// An older template whose name has the same hash as that of this claim's.
    pub(crate) template_rival: Option<Arc<SandboxTemplate>>,
    /// Whether the API server itself was asked for pool and template.
    pub(crate) asked: bool,
    /// Every Sandbox that the claim controls.
    pub(crate) owned: Vec<Arc<Sandbox>>,
    /// The Sandbox that the status names, whoever's it is.
    pub(crate) bound: Option<Arc<Sandbox>>,
    /// The Sandbox that has the claim's name, whoever's it is.
    pub(crate) namesake: Option<Arc<Sandbox>>,
    /// Members of the pool that nobody else is about to take.
    pub(crate) candidates: Candidates,
    /// Claims that wait for members of the pool and come before this one; not counted beyond the Ready members.
    pub(crate) ahead: usize,
    /// A NetworkPolicy that older controllers made for each claim.
    pub(crate) legacy_policy: Option<Arc<NetworkPolicy>>,
    /// How long the claim has been known.
    pub(crate) age: Duration,
    pub(crate) now: Timestamp,
}

/// What else an observation depends on.
pub(crate) struct Circumstances<'a> {
    /// UIDs of members that are not to be had.
    pub(crate) taken: &'a HashSet<String>,
    pub(crate) shelves: &'a Shelves,
    pub(crate) asked: bool,
    pub(crate) age: Duration,
    pub(crate) now: Timestamp,
    pub(crate) parking: &'a Parking,
}

pub(crate) fn observe(caches: &Caches, claim: Arc<SandboxClaim>, circumstances: &Circumstances<'_>) -> View {
    let namespace = namespace_of(&*claim).to_owned();
    let sandbox_named = |name: &str| caches.sandboxes.get(&ObjectKey::new(namespace.as_str(), name));
    let pool = caches.pools.get(&pool_of_claim(&claim));
    let template = pool.as_ref().and_then(|pool| caches.templates.get(&template_of_pool(pool)));
    let shadowed = match &pool {
        None => shadow::template_of(&claim.spec.warm_pool_ref.name)
            .and_then(|template| caches.templates.get(&ObjectKey::new(namespace.as_str(), template))),
        Some(_) => None,
    };
    let owned = caches.sandboxes.find(BY_CONTROLLER, uid_of(&claim.metadata));
    let bound_name =
        claim.status.as_ref().and_then(|status| status.sandbox.as_ref()).map(|sandbox| sandbox.name.as_str());
    let candidates = match (&pool, &template) {
        (Some(pool), Some(template)) if owned.is_empty() => {
            candidates(circumstances.shelves, &claim, pool, template, circumstances.taken)
        }
        _ => Candidates::default(),
    };
    let ahead = if candidates.ready_count == 0 {
        0
    } else {
        let (pool, key) = (pool_of_claim(&claim), ObjectKey::of(&*claim));
        circumstances.parking.ahead(&pool, &key, priority(&claim), candidates.ready_count)
    };
    let legacy_policy = ObjectKey::new(namespace.as_str(), format!("{}-network-policy", name_of(&*claim)));
    View {
        bound: bound_name.and_then(sandbox_named),
        namesake: sandbox_named(name_of(&*claim)),
        template_rival: template
            .as_ref()
            .and_then(|template| elder_of_same_hash(&caches.templates, TEMPLATES_BY_NAME_HASH, template)),
        candidates,
        ahead,
        legacy_policy: caches
            .network_policies
            .get(&legacy_policy)
            .filter(|policy| is_controlled_by(&policy.metadata, &*claim)),
        asked: circumstances.asked,
        age: circumstances.age,
        now: circumstances.now,
        claim,
        pool,
        template,
        shadowed,
        owned,
    }
}

fn candidates(
    shelves: &Shelves,
    claim: &SandboxClaim,
    pool: &SandboxWarmPool,
    template: &SandboxTemplate,
    taken: &HashSet<String>,
) -> Candidates {
    let pool_uid = uid_of(&pool.metadata);
    let recreate = pool.spec.strategy() == atoll_api::pool::UpdateStrategyType::Recreate;
    let assigned = assigned_name(claim);
    if !recreate && assigned.is_none() {
        return shelves.candidates(pool_uid, taken);
    }
    let hashes = recreate.then(|| Hashes::of(template));
    let mut available = shelves.all(pool_uid, taken);
    available.retain(|sandbox| !hashes.as_ref().is_some_and(|hashes| is_stale(sandbox, template, hashes)));
    if let Some(assigned) = assigned
        && available.iter().any(|sandbox| name_of(&**sandbox) == assigned)
    {
        available.retain(|sandbox| name_of(&**sandbox) == assigned);
    }
    Candidates::among(&available)
}

/// The member that another controller of this API had chosen for the claim.
fn assigned_name(claim: &SandboxClaim) -> Option<&str> {
    annotation(&claim.metadata, annotations::SANDBOX_NAME)
        .or_else(|| label(&claim.metadata, labels::LEGACY_SANDBOX_NAME))
        .filter(|name| !name.is_empty())
}
