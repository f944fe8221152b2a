//! What is known about one pool.

use std::sync::Arc;
use std::time::Duration;

use atoll_api::pool::SandboxWarmPoolStatus;
use atoll_api::reasons::condition;
use atoll_api::{Sandbox, SandboxTemplate, SandboxWarmPool, conditions, labels};
use atoll_client::ObjectKey;
use atoll_stdx::name_hash;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::ages::Ages;
use crate::caches::{
    BY_CONTROLLER, CLAIMS_WAITING, Caches, TEMPLATES_BY_NAME_HASH, elder_of_same_hash, name_of, template_of_pool,
};
use crate::members::Members;
use crate::owner::{is_terminating, uid_of};
use crate::pool::memory::Recollection;
use crate::pool::report::statements;
use crate::report;
use crate::write::Write;

/// Reason of a Pod that no node has room for.
const UNSCHEDULABLE: &str = "Unschedulable";
/// Reason of a Pod that somebody else holds back, a queue of jobs for example.
const SCHEDULING_GATED: &str = "SchedulingGated";

/// One Sandbox that the pool made and no claim took.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
    /// Since it was made, by its creation time.
    pub(crate) age: Duration,
    /// No node has room for its Pod.
    pub(crate) unschedulable: bool,
}

/// One pool.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) pool: Arc<SandboxWarmPool>,
    pub(crate) template: Option<Arc<SandboxTemplate>>,
    /// An older template whose name has the same hash: then this pool's is not used.
    pub(crate) template_rival: Option<Arc<SandboxTemplate>>,
    pub(crate) members: Vec<Member>,
    /// Sandboxes that name this pool as their controller but were not made by it, and for how long each has been known.
    pub(crate) strangers: Vec<(Arc<Sandbox>, Duration)>,
    /// Claims that could still take a member.
    pub(crate) waiting_claims: usize,
    pub(crate) recollection: Recollection,
    pub(crate) now: Timestamp,
}

impl View {
    /// Members that are not on their way out.
    pub(crate) fn active(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.terminating)
    }

    /// How many members there shall be.
    pub(crate) fn desired(&self) -> usize {
        usize::try_from(self.pool.spec.replicas).unwrap_or_default()
    }

    /// Whether members are missing.
    pub(crate) fn is_short(&self) -> bool {
        self.active().count() < self.desired()
    }

    /// Whether there are members, and as many as there shall be.
    pub(crate) fn is_complete(&self) -> bool {
        self.desired() > 0 && !self.is_short()
    }

    /// The status as it should be.
    pub(crate) fn status(&self) -> SandboxWarmPoolStatus {
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        SandboxWarmPoolStatus {
            replicas: count(self.active().count()),
            ready_replicas: count(self.active().filter(|member| member.ready).count()),
            selector: format!("{}={}", labels::WARM_POOL, name_hash(name_of(&*self.pool))),
            observed_generation: self.pool.metadata.generation,
        }
    }

    /// Whether the status, or the report, is not what it should be.
    pub(crate) fn status_differs(&self) -> bool {
        self.pool.status.as_ref() != Some(&self.status()) || self.report().is_some()
    }

    /// The write that has the pool carry its conditions, if they are wanted and not what they should be.
    pub(crate) fn report(&self) -> Option<Write> {
        if !report::is_wanted(&self.pool.metadata) {
            return None;
        }
        report::write(&*self.pool, statements(self), self.now)
    }
}

/// Everything but the recollection, which depends on it.
pub(crate) fn observe(
    caches: &Caches,
    members: &Members,
    ages: &Ages,
    key: &ObjectKey,
    now: Timestamp,
) -> Option<View> {
    let pool = caches.pools.get(key)?;
    let of_pool = caches.sandboxes.find(BY_CONTROLLER, uid_of(&pool.metadata));
    let (own, strangers): (Vec<_>, Vec<_>) = of_pool.into_iter().partition(|sandbox| members.contains(sandbox));
    let template = caches.templates.get(&template_of_pool(&pool));
    Some(View {
        template_rival: template
            .as_ref()
            .and_then(|template| elder_of_same_hash(&caches.templates, TEMPLATES_BY_NAME_HASH, template)),
        template,
        members: own.into_iter().map(|sandbox| member(caches, sandbox, now)).collect(),
        strangers: strangers
            .into_iter()
            .filter(|sandbox| !is_terminating(&sandbox.metadata))
            .map(|sandbox| (Arc::clone(&sandbox), ages.age(uid_of(&sandbox.metadata))))
            .collect(),
        waiting_claims: caches.claims.count(CLAIMS_WAITING, &key.to_string()),
        recollection: Recollection::default(),
        now,
        pool,
    })
}

fn member(caches: &Caches, sandbox: Arc<Sandbox>, now: Timestamp) -> Member {
    let ready = is_ready(&sandbox);
    let created = sandbox.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    Member {
        ready,
        terminating: is_terminating(&sandbox.metadata),
        age: Duration::try_from(now.duration_since(created)).unwrap_or_default(),
        unschedulable: !ready
            && caches.pods.find(BY_CONTROLLER, uid_of(&sandbox.metadata)).iter().any(|pod| is_unschedulable(pod)),
        sandbox,
    }
}

/// Whether a Sandbox says that it is Ready.
pub(crate) fn is_ready(sandbox: &Sandbox) -> bool {
    sandbox.status.as_ref().is_some_and(|status| conditions::is_true(&status.conditions, condition::READY))
}

fn is_unschedulable(pod: &Pod) -> bool {
    pod.status.iter().flat_map(|status| status.conditions.iter().flatten()).any(|condition| {
        condition.type_ == atoll_api::reasons::condition::POD_SCHEDULED
            && condition.status == conditions::FALSE
            && matches!(condition.reason.as_deref(), Some(UNSCHEDULABLE | SCHEDULING_GATED))
    })
}
