//! What can be set about the controllers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use atoll_rt::clock::SystemClock;
use atoll_stdx::Clock;

/// The client of the controller of that name: `sandbox`, `sandboxtemplate`, `sandboxwarmpool`, `sandboxclaim`.
pub type ClientOf = Arc<dyn Fn(&'static str) -> kube::Client + Send + Sync>;

/// Settings of all controllers. The defaults are right for one machine.
#[derive(Clone)]
pub struct ControllersConfig {
    /// The last part of Service names.
    pub cluster_domain: String,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Whether Pods are given to nodes here; off where a cluster has its own scheduler.
    pub scheduler: bool,
    /// The scheduler's own client, where it is to act under an identity of its own.
    pub scheduler_client: Option<kube::Client>,
    /// Each controller's own client by the controller's name, where their requests are to be told apart.
    pub client_of: Option<ClientOf>,
    /// The domains whose labels a claim may put on its Pod.
    pub allowed_label_domains: Vec<String>,
    /// Sandboxes worked on at once.
    pub sandbox_workers: usize,
    /// Claims worked on at once.
    pub claim_workers: usize,
    /// Members that one pass of a pool makes or deletes at most.
    pub pool_batch_max: usize,
    /// How long a member may take to become Ready before it is replaced.
    pub readiness_grace: Duration,
    /// How often a pool looks again at a member that no node has room for.
    pub unschedulable_recheck: Duration,
    /// The shortest time between two writes of one pool's status.
    pub pool_status_interval: Duration,
    /// How long a pool that claims are waiting for puts off refilling itself.
    pub refill_hold_max: Duration,
    /// How long a Sandbox that names a pool as its controller, but was not made by it, stays.
    pub stranger_grace: Duration,
    /// How long a claim waits for pool members that are still starting before it starts a Sandbox of its own.
    pub pending_members_wait: Duration,
    /// How long a claim waits for its pool and template to appear before it says that they are missing.
    pub missing_wait: Duration,
    /// How long the first status of a new Sandbox may wait, so that a quick start is told in one write.
    pub first_status_window: Duration,
    /// Whether idle members are marked as safe to evict.
    pub warm_pool_eviction: bool,
    /// Whether claims get annotations that tell when they were seen and when they became Ready: one more write each.
    pub claim_observability_annotations: bool,
    /// Whether claims and pools get Events.
    pub events: bool,
}

impl Default for ControllersConfig {
    fn default() -> Self {
        Self {
            cluster_domain: "cluster.local".to_owned(),
            clock: Arc::new(SystemClock),
            scheduler: true,
            scheduler_client: None,
            client_of: None,
            allowed_label_domains: vec!["sandbox.users.io".to_owned()],
            sandbox_workers: 100,
            claim_workers: 50,
            pool_batch_max: 300,
            readiness_grace: Duration::from_secs(300),
            unschedulable_recheck: Duration::from_secs(60),
            pool_status_interval: Duration::from_secs(1),
            refill_hold_max: Duration::from_secs(1),
            stranger_grace: Duration::from_secs(30),
            pending_members_wait: Duration::from_secs(2),
            missing_wait: Duration::from_millis(500),
            first_status_window: Duration::from_secs(1),
            warm_pool_eviction: true,
            claim_observability_annotations: false,
            events: true,
        }
    }
}

impl fmt::Debug for ControllersConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ControllersConfig")
            .field("cluster_domain", &self.cluster_domain)
            .field("scheduler", &self.scheduler)
            .finish_non_exhaustive()
    }
}
