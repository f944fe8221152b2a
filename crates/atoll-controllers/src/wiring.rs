//! Which change has which controller look at what.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use atoll_api::{Sandbox, SandboxClaim, SandboxTemplate, SandboxWarmPool};
use atoll_client::{Cache, Change, ObjectKey};
use atoll_rt::TaskGroup;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;

use crate::ages::Ages;
use crate::caches::{
    CLAIMS_BY_POOL, Caches, POOLS_BY_TEMPLATE, SANDBOXES_BY_NAME_HASH, TEMPLATES_BY_NAME_HASH, by_controller,
    by_name_hash, claims_by_pool, claims_waiting, is_waiting, name_of, namespace_of, outline_of_pod, pool_of_claim,
    pools_by_template,
};
use crate::claim::{Parking, Shelves, shadow};
use crate::members::Members;
use crate::owner::{controller_of, names_kind, uid_of};
use crate::pool::observe::is_ready;
use crate::queue::WorkQueue;
use crate::scheduler::{Ledger, Waiting, has_ended, needs_node};

/// How long a pool is left alone after a change of its members. A look at a pool looks at all of them, and they change
/// together when many claims come at once; refilling can wait that long, claims do not wait for it.
const MEMBERS_SETTLE: Duration = Duration::from_millis(10);

/// The queues, and what is kept in step with changes besides.
#[derive(Clone)]
pub(crate) struct Wiring {
    pub(crate) sandboxes: WorkQueue,
    pub(crate) templates: WorkQueue,
    pub(crate) pools: WorkQueue,
    pub(crate) claims: WorkQueue,
    pub(crate) pods: WorkQueue,
    pub(crate) ages: Arc<Ages>,
    pub(crate) members: Arc<Members>,
    pub(crate) parking: Arc<Parking>,
    pub(crate) shelves: Arc<Shelves>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) unplaced: Arc<Waiting>,
    /// The caches, once they are there. Weak: the caches hold the wiring.
    caches: Arc<OnceLock<Weak<Caches>>>,
}

impl Wiring {
    pub(crate) fn new() -> Self {
        Self {
            sandboxes: WorkQueue::new(),
            templates: WorkQueue::new(),
            pools: WorkQueue::new(),
            claims: WorkQueue::new(),
            pods: WorkQueue::new(),
            ages: Arc::default(),
            members: Arc::default(),
            parking: Arc::default(),
            shelves: Arc::default(),
            ledger: Arc::default(),
            unplaced: Arc::default(),
            caches: Arc::default(),
        }
    }

    /// Starts to follow every kind, nodes if they are wanted.
    pub(crate) fn start(&self, client: &kube::Client, with_nodes: bool, group: &TaskGroup) -> Arc<Caches> {
        let on = |wiring: &Self| wiring.clone();
        let caches = Arc::new(Caches {
            sandboxes: {
                let wiring = on(self);
                Cache::builder()
                    .index(by_controller)
                    .index(by_name_hash)
                    .on_change(move |change| wiring.sandbox_changed(change))
                    .start(Api::all(client.clone()), group)
            },
            templates: {
                let wiring = on(self);
                Cache::builder()
                    .index(by_name_hash)
                    .on_change(move |change| wiring.template_changed(change))
                    .start(Api::all(client.clone()), group)
            },
            pools: {
                let wiring = on(self);
                Cache::builder()
                    .index(pools_by_template)
                    .on_change(move |change| wiring.pool_changed(change))
                    .start(Api::all(client.clone()), group)
            },
            claims: {
                let wiring = on(self);
                Cache::builder()
                    .index(claims_by_pool)
                    .index(claims_waiting)
                    .on_change(move |change| wiring.claim_changed(change))
                    .start(Api::all(client.clone()), group)
            },
            pods: {
                let wiring = on(self);
                Cache::builder()
                    .index(by_controller)
                    .trim(if with_nodes { |_| {} } else { outline_of_pod })
                    .on_change(move |change| wiring.pod_changed(change))
                    .start(Api::all(client.clone()), group)
            },
            services: {
                let wiring = on(self);
                Cache::builder()
                    .on_change(move |change: &Change<Service>| wiring.child_changed(change))
                    .start(Api::all(client.clone()), group)
            },
            volume_claims: {
                let wiring = on(self);
                Cache::builder()
                    .on_change(move |change: &Change<PersistentVolumeClaim>| wiring.child_changed(change))
                    .start(Api::all(client.clone()), group)
            },
            network_policies: {
                let wiring = on(self);
                Cache::builder()
                    .on_change(move |change| wiring.policy_changed(change))
                    .start(Api::all(client.clone()), group)
            },
            nodes: {
                let wiring = on(self);
                let nodes = Cache::builder().on_change(move |_: &Change<Node>| wiring.unplaced.wake(&wiring.pods));
                if with_nodes { nodes.start(Api::all(client.clone()), group) } else { nodes.detached() }
            },
        });
        let set = self.caches.set(Arc::downgrade(&caches));
        assert!(set.is_ok(), "the wiring is started once");
        caches
    }

    fn with_caches(&self, act: impl FnOnce(&Caches)) {
        if let Some(caches) = self.caches.get().and_then(Weak::upgrade) {
            act(&caches);
        }
    }

    fn sandbox_changed(&self, change: &Change<Sandbox>) {
        let sandbox = &**change.latest();
        self.sandboxes.add(ObjectKey::of(sandbox));
        self.shelves.note(change.old.as_ref(), change.new.as_ref(), |sandbox| self.members.contains(sandbox));
        for side in change.sides() {
            self.owner_of_sandbox(&side.metadata);
        }
        if change.new.is_none() {
            self.ages.forget(uid_of(&sandbox.metadata));
            self.members.forget(sandbox);
            // A claim of this name may have waited for the name to become free.
            self.claims.add(ObjectKey::of(sandbox));
            self.with_caches(|caches| {
                for other in caches.sandboxes.find(SANDBOXES_BY_NAME_HASH, &by_name_hash(sandbox)[0]) {
                    self.sandboxes.add(ObjectKey::of(&*other));
                }
            });
        }
        let was_ready = change.old.as_ref().is_some_and(|old| is_ready(old));
        if !was_ready
            && change.new.as_ref().is_some_and(|new| is_ready(new))
            && let Some(pool) = owner_key::<SandboxWarmPool>(&sandbox.metadata)
            && let Some(claim) = self.parking.wake(&pool)
        {
            self.claims.add(claim);
        }
    }

    fn owner_of_sandbox(&self, metadata: &ObjectMeta) {
        if let Some(claim) = owner_key::<SandboxClaim>(metadata) {
            self.claims.add(claim);
        } else if let Some(pool) = owner_key::<SandboxWarmPool>(metadata) {
            self.pools.add_after(pool, MEMBERS_SETTLE);
        }
    }

    fn template_changed(&self, change: &Change<SandboxTemplate>) {
        let template = &**change.latest();
        let key = ObjectKey::of(template);
        self.templates.add(key.clone());
        if !spec_changed(change) {
            return;
        }
        self.with_caches(|caches| {
            self.pools_of_template(caches, &key);
            for claim in caches.claims.find(CLAIMS_BY_POOL, &shadow::pool_key(&key).to_string()) {
                self.claims.add(ObjectKey::of(&*claim));
            }
            // The hash of the name may be free now.
            for other in caches.templates.find(TEMPLATES_BY_NAME_HASH, &by_name_hash(template)[0]) {
                let key = ObjectKey::of(&*other);
                self.pools_of_template(caches, &key);
                self.templates.add(key);
            }
        });
    }

    fn pools_of_template(&self, caches: &Caches, template: &ObjectKey) {
        for pool in caches.pools.find(POOLS_BY_TEMPLATE, &template.to_string()) {
            self.pool_and_claims(caches, &ObjectKey::of(&*pool));
        }
    }

    fn pool_changed(&self, change: &Change<SandboxWarmPool>) {
        let key = ObjectKey::of(&**change.latest());
        if spec_changed(change) {
            self.with_caches(|caches| self.pool_and_claims(caches, &key));
        }
        self.pools.add(key);
    }

    fn pool_and_claims(&self, caches: &Caches, pool: &ObjectKey) {
        self.pools.add(pool.clone());
        for claim in caches.claims.find(CLAIMS_BY_POOL, &pool.to_string()) {
            self.claims.add(ObjectKey::of(&*claim));
        }
    }

    fn claim_changed(&self, change: &Change<SandboxClaim>) {
        let claim = &**change.latest();
        self.claims.add(ObjectKey::of(claim));
        let waited = change.old.as_ref().is_some_and(|old| is_waiting(old));
        let waits = change.new.as_ref().is_some_and(|new| is_waiting(new));
        if waited && !waits {
            self.pools.add_after(pool_of_claim(claim), MEMBERS_SETTLE);
        }
        if change.new.is_none() {
            self.ages.forget(uid_of(&claim.metadata));
            self.parking.leave(&pool_of_claim(claim), &ObjectKey::of(claim));
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        self.child_changed(change);
        let pod = &**change.latest();
        match &change.new {
            Some(pod) => {
                self.ledger.note(pod);
                if needs_node(pod) {
                    self.pods.add(ObjectKey::of(&**pod));
                }
            }
            None => self.ledger.release(uid_of(&pod.metadata)),
        }
        if change.new.is_none() || has_ended(pod) {
            self.unplaced.wake(&self.pods);
        }
    }

    /// The Sandbox that controls the object, and the one of the same name, which may be waiting for the name.
    fn child_changed<K: kube::Resource>(&self, change: &Change<K>) {
        for side in change.sides() {
            if let Some(sandbox) = owner_key::<Sandbox>(side.meta()) {
                self.sandboxes.add(sandbox);
            }
        }
        self.sandboxes.add(ObjectKey::of(&**change.latest()));
    }

    fn policy_changed(&self, change: &Change<NetworkPolicy>) {
        let policy = &**change.latest();
        for side in change.sides() {
            if let Some(template) = owner_key::<SandboxTemplate>(&side.metadata) {
                self.templates.add(template);
            }
        }
        if let Some(template) = name_of(policy).strip_suffix("-network-policy") {
            self.templates.add(ObjectKey::new(namespace_of(policy), template));
        }
    }
}

/// The key of the controller, if it is of this kind.
fn owner_key<O: k8s_openapi::Resource>(metadata: &ObjectMeta) -> Option<ObjectKey> {
    let owner = controller_of(metadata).filter(|owner| names_kind::<O>(owner))?;
    Some(ObjectKey::new(metadata.namespace.as_deref().unwrap_or_default(), owner.name.as_str()))
}

/// Whether the object is new, gone, or wanted otherwise than before.
fn spec_changed<K: kube::Resource>(change: &Change<K>) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            old.meta().generation != new.meta().generation || uid_of(old.meta()) != uid_of(new.meta())
        }
        _ => true,
    }
}
