//! What is counted and measured: under the names that dashboards for this API know, and some of our own.
//!
//! Names, labels and buckets of the `agent_sandbox…` families are those of the `agent-sandbox-controller`.

mod gauges;
mod labels;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_api::{Sandbox, SandboxClaim, annotations, labels as keys};
use atoll_client::ObjectKey;
use k8s_openapi::jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::caches::{Caches, namespace_of};
use crate::claim::Parking;
use crate::owner::{annotation, label};
use gauges::Gauges;
use labels::{BuildLabels, ClaimLabels, CreationLabels, PoolLabels, StartLabels};

const CLAIM_BUCKETS_MS: [f64; 15] = [
    100.0, 250.0, 500.0, 750.0, 1_000.0, 1_250.0, 1_500.0, 2_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0,
    120_000.0, 240_000.0,
];
const CREATION_BUCKETS_MS: [f64; 14] = [
    50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0, 120_000.0, 240_000.0,
    300_000.0, 600_000.0,
];
const AGE_BUCKETS_S: [f64; 9] = [1.0, 10.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0, 604_800.0];
/// Names of pools and templates that get series of their own; all further ones share the name [`OVERFLOW`].
const NAMES_MAX: usize = 1_000;
const OVERFLOW: &str = "other";

type Milliseconds = Family<StartLabels, Histogram, fn() -> Histogram>;

/// The registry and what is in it.
pub(crate) struct Metrics {
    registry: Registry,
    since_webhook: Milliseconds,
    since_controller: Milliseconds,
    since_client: Milliseconds,
    creation: Family<CreationLabels, Histogram, fn() -> Histogram>,
    claims: Family<ClaimLabels, Counter>,
    hits: Family<PoolLabels, Counter>,
    misses: Family<PoolLabels, Counter>,
    conflicts: Family<PoolLabels, Counter>,
    age_at_adoption: Family<PoolLabels, Histogram, fn() -> Histogram>,
    names: Names,
}

/// How a claim got its Sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Launch {
    /// One of the pool's, Ready or not, made so long ago.
    Warm { ready: bool, age: Duration },
    /// One of its own.
    Cold,
}

fn claim_histogram() -> Histogram {
    Histogram::new(CLAIM_BUCKETS_MS)
}

fn creation_histogram() -> Histogram {
    Histogram::new(CREATION_BUCKETS_MS)
}

fn age_histogram() -> Histogram {
    Histogram::new(AGE_BUCKETS_S)
}

impl Metrics {
    pub(crate) fn new(caches: &Arc<Caches>, parking: &Arc<Parking>) -> Self {
        let started = || Milliseconds::new_with_constructor(claim_histogram);
        let mut metrics = Self {
            registry: Registry::default(),
            since_webhook: started(),
            since_controller: started(),
            since_client: started(),
            creation: Family::new_with_constructor(creation_histogram),
            claims: Family::default(),
            hits: Family::default(),
            misses: Family::default(),
            conflicts: Family::default(),
            age_at_adoption: Family::new_with_constructor(age_histogram),
            names: Names::default(),
        };
        metrics.register_upstreams();
        metrics.register_own();
        metrics.registry.register_collector(Box::new(Gauges::new(caches, parking)));
        metrics
    }

    fn register_upstreams(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "agent_sandbox_claim_startup_latency_ms",
            "From a claim's admission to Ready, in milliseconds",
            self.since_webhook.clone(),
        );
        registry.register(
            "agent_sandbox_claim_controller_startup_latency_ms",
            "From the controller's first sight of a claim to Ready, in milliseconds",
            self.since_controller.clone(),
        );
        registry.register(
            "agent_sandbox_client_claim_startup_latency_ms",
            "From the client's request of a claim to Ready, in milliseconds, by the client's clock",
            self.since_client.clone(),
        );
        registry.register(
            "agent_sandbox_creation_latency_ms",
            "From a Sandbox's creation to Ready, in milliseconds",
            self.creation.clone(),
        );
        registry.register("agent_sandbox_claim_creation", "Claims that got a Sandbox", self.claims.clone());
        let build: Family<BuildLabels, Gauge> = Family::default();
        build.get_or_create(&BuildLabels::of_this_build()).set(1);
        registry.register("agent_sandbox_build_info", "What was built", build);
    }

    fn register_own(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "atoll_warm_pool_hits",
            "Claims that asked for any Sandbox and got one of the pool's",
            self.hits.clone(),
        );
        registry.register(
            "atoll_warm_pool_misses",
            "Claims that asked for any Sandbox and got a cold one",
            self.misses.clone(),
        );
        registry.register(
            "atoll_warm_pool_adoption_conflicts",
            "Members that had changed when a claim was about to take them",
            self.conflicts.clone(),
        );
        registry.register(
            "atoll_warm_pool_member_age_at_adoption_seconds",
            "How old members were when they were taken",
            self.age_at_adoption.clone(),
        );
    }

    /// Everything, in the OpenMetrics text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string never fails");
        text
    }

    /// A claim got its Sandbox.
    pub(crate) fn claim_served(&self, claim: &SandboxClaim, template: &str, launch: Launch) {
        let pool = self.pool_labels(claim);
        let (launch_type, pod_condition) = match launch {
            Launch::Warm { ready, age } => {
                self.hits.get_or_create(&pool).inc();
                self.age_at_adoption.get_or_create(&pool).observe(age.as_secs_f64());
                (keys::LAUNCH_TYPE_WARM, if ready { "ready" } else { "not_ready" })
            }
            Launch::Cold => {
                let wants_its_own = !claim.spec.env.is_empty() || !claim.spec.volume_claim_templates.is_empty();
                if !wants_its_own {
                    self.misses.get_or_create(&pool).inc();
                }
                (keys::LAUNCH_TYPE_COLD, "not_ready")
            }
        };
        let labels = ClaimLabels {
            namespace: pool.namespace,
            sandbox_template: self.names.bounded(template),
            launch_type,
            warmpool_name: pool.pool,
            pod_condition,
            created_by: keys::normalized_created_by(label(&claim.metadata, keys::CREATED_BY).unwrap_or_default()),
        };
        self.claims.get_or_create(&labels).inc();
    }

    /// A member had changed when a claim was about to take it.
    pub(crate) fn adoption_conflict(&self, claim: &SandboxClaim) {
        self.conflicts.get_or_create(&self.pool_labels(claim)).inc();
    }

    /// A claim is Ready for the first time, `known_for` after it was first seen here.
    pub(crate) fn claim_ready(&self, claim: &SandboxClaim, sandbox: &Sandbox, known_for: Duration, now: Timestamp) {
        let labels = StartLabels {
            launch_type: launch_type(sandbox),
            sandbox_template: self.names.bounded(template_of(sandbox)),
        };
        self.since_controller.get_or_create(&labels).observe(milliseconds(known_for));
        for (family, key) in [
            (&self.since_webhook, annotations::WEBHOOK_FIRST_OBSERVED_AT),
            (&self.since_client, annotations::CLIENT_FIRST_REQUESTED_AT),
        ] {
            let start = annotation(&claim.metadata, key).and_then(|time| time.parse::<Timestamp>().ok());
            // Clocks differ: what seems to end before it began says nothing.
            let elapsed = start.and_then(|start| Duration::try_from(now.duration_since(start)).ok());
            if let Some(elapsed) = elapsed {
                family.get_or_create(&labels).observe(milliseconds(elapsed));
            }
        }
    }

    /// A Sandbox is Ready for the first time, so long after it was made.
    pub(crate) fn sandbox_ready(&self, sandbox: &Sandbox, after: Duration) {
        let labels = CreationLabels {
            namespace: self.names.bounded(namespace_of(sandbox)),
            launch_type: launch_type(sandbox),
            sandbox_template: self.names.bounded(template_of(sandbox)),
        };
        self.creation.get_or_create(&labels).observe(milliseconds(after));
    }

    fn pool_labels(&self, claim: &SandboxClaim) -> PoolLabels {
        PoolLabels {
            namespace: self.names.bounded(namespace_of(claim)),
            pool: self.names.bounded(&claim.spec.warm_pool_ref.name),
        }
    }
}

/// Labels that anyone may make up are bounded: every new value is a new series.
#[derive(Default)]
struct Names {
    known: Mutex<HashSet<String>>,
}

impl Names {
    fn bounded(&self, name: &str) -> String {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(name) || known.len() < NAMES_MAX {
            known.insert(name.to_owned());
            return name.to_owned();
        }
        OVERFLOW.to_owned()
    }
}

/// The template of a Sandbox; empty when it was made without one.
fn template_of(sandbox: &Sandbox) -> &str {
    annotation(&sandbox.metadata, annotations::TEMPLATE_REF).unwrap_or_default()
}

fn launch_type(sandbox: &Sandbox) -> &'static str {
    match label(&sandbox.metadata, keys::LAUNCH_TYPE) {
        Some(keys::LAUNCH_TYPE_WARM) => keys::LAUNCH_TYPE_WARM,
        _ => keys::LAUNCH_TYPE_COLD,
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// The pool that a key names, as labels.
fn labels_of_pool(pool: &ObjectKey) -> PoolLabels {
    PoolLabels { namespace: pool.namespace.clone(), pool: pool.name.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_grow_without_bound() {
        let names = Names::default();
        for number in 0..NAMES_MAX {
            assert_eq!(names.bounded(&format!("n{number}")), format!("n{number}"));
        }
        assert_eq!(names.bounded("one too many"), OVERFLOW);
        assert_eq!(names.bounded("n0"), "n0");
    }
}
