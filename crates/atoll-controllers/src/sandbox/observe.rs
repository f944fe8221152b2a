//! What is known about one Sandbox.

use std::sync::Arc;
use std::time::Duration;

use atoll_api::Sandbox;
use atoll_client::ObjectKey;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::jiff::Timestamp;

use crate::caches::{BY_CONTROLLER, Caches, SANDBOXES_BY_NAME_HASH, elder_of_same_hash, name_of, namespace_of};
use crate::owner::uid_of;
use crate::sandbox::{pod_name, volumes};

/// One Sandbox and everything of its names or under its control.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) sandbox: Arc<Sandbox>,
    /// Every Pod that this Sandbox controls.
    pub(crate) owned_pods: Vec<Arc<Pod>>,
    /// The Pod that has the name, whoever's it is.
    pub(crate) named_pod: Option<Arc<Pod>>,
    /// The Service that has the name, whoever's it is.
    pub(crate) service: Option<Arc<Service>>,
    /// For each volume claim template in order, the claim that has its name, whoever's it is.
    pub(crate) volume_claims: Vec<Option<Arc<PersistentVolumeClaim>>>,
    /// An older Sandbox whose name has the same hash.
    pub(crate) rival: Option<Arc<Sandbox>>,
    /// How long the Sandbox has been known.
    pub(crate) age: Duration,
    pub(crate) now: Timestamp,
}

pub(crate) fn observe(
    caches: &Caches,
    key: &ObjectKey,
    age_of: impl Fn(&str) -> Duration,
    now: Timestamp,
) -> Option<View> {
    let sandbox = caches.sandboxes.get(key)?;
    let namespace = namespace_of(&*sandbox);
    let at = |name: &str| ObjectKey::new(namespace, name);
    let own_name = name_of(&*sandbox);
    Some(View {
        owned_pods: caches.pods.find(BY_CONTROLLER, uid_of(&sandbox.metadata)),
        named_pod: caches.pods.get(&at(pod_name(&sandbox))).or_else(|| caches.pods.get(&at(own_name))),
        service: caches.services.get(&at(own_name)),
        volume_claims: sandbox
            .spec
            .volume_claim_templates
            .iter()
            .map(|template| caches.volume_claims.get(&at(&volumes::claim_name(&template.metadata.name, own_name))))
            .collect(),
        rival: elder_of_same_hash(&caches.sandboxes, SANDBOXES_BY_NAME_HASH, &sandbox),
        age: age_of(uid_of(&sandbox.metadata)),
        now,
        sandbox,
    })
}
