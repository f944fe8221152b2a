//! What is counted when it is asked for, from the caches.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use atoll_api::reasons::{self, condition};
use atoll_api::{Sandbox, SandboxClaim, SandboxWarmPool, conditions, labels as keys};
use atoll_client::ObjectKey;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::caches::{BY_CONTROLLER, Caches, namespace_of};
use crate::claim::Parking;
use crate::metrics::labels::SandboxLabels;
use crate::metrics::{NAMES_MAX, OVERFLOW, labels_of_pool, launch_type, template_of};
use crate::owner::{controller_of, label, names_kind, uid_of};
use crate::pool::observe::is_ready;

/// Counts what there is.
#[derive(Debug)]
pub(super) struct Gauges {
    caches: WeakCaches,
    parking: Weak<Parking>,
}

struct WeakCaches(Weak<Caches>);

impl std::fmt::Debug for WeakCaches {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Caches")
    }
}

impl Gauges {
    pub(super) fn new(caches: &Arc<Caches>, parking: &Arc<Parking>) -> Self {
        Self { caches: WeakCaches(Arc::downgrade(caches)), parking: Arc::downgrade(parking) }
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(caches) = self.caches.0.upgrade() else { return Ok(()) };
        sandboxes(&caches, &mut encoder)?;
        pools(&caches, &mut encoder)?;
        let Some(parking) = self.parking.upgrade() else { return Ok(()) };
        let mut waiting = encoder.encode_descriptor(
            "atoll_claims_waiting",
            "Claims that wait for members",
            None,
            MetricType::Gauge,
        )?;
        for (pool, count) in parking.counts().into_iter().take(NAMES_MAX) {
            ConstGauge::new(number(count)).encode(waiting.encode_family(&labels_of_pool(&pool))?)?;
        }
        Ok(())
    }
}

/// How many Sandboxes there are, by what they are like.
fn sandboxes(caches: &Caches, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    let mut counts: BTreeMap<SandboxLabels, usize> = BTreeMap::new();
    for sandbox in caches.sandboxes.all() {
        let labels = sandbox_labels(&sandbox);
        let bounded = if counts.len() < NAMES_MAX || counts.contains_key(&labels) {
            labels
        } else {
            SandboxLabels { namespace: OVERFLOW.to_owned(), sandbox_template: OVERFLOW.to_owned(), ..labels }
        };
        *counts.entry(bounded).or_default() += 1;
    }
    let mut family = encoder.encode_descriptor("agent_sandboxes", "Sandboxes that exist", None, MetricType::Gauge)?;
    for (labels, count) in &counts {
        ConstGauge::new(number(*count)).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

fn sandbox_labels(sandbox: &Sandbox) -> SandboxLabels {
    let all = sandbox.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let ready = conditions::find(all, condition::READY);
    let owner = controller_of(&sandbox.metadata);
    SandboxLabels {
        namespace: namespace_of(sandbox).to_owned(),
        ready_condition: if ready.is_some_and(|ready| ready.status == conditions::TRUE) { "true" } else { "false" },
        expired: if ready.is_some_and(|ready| ready.reason == reasons::SANDBOX_EXPIRED) { "true" } else { "false" },
        launch_type: launch_type(sandbox),
        sandbox_template: template_of(sandbox).to_owned(),
        owned_by: match owner {
            Some(owner) if names_kind::<SandboxClaim>(owner) => "SandboxClaim",
            Some(owner) if names_kind::<SandboxWarmPool>(owner) => "SandboxWarmPool",
            Some(_) => "other",
            None => "none",
        },
        created_by: keys::normalized_created_by(label(&sandbox.metadata, keys::CREATED_BY).unwrap_or_default()),
    }
}

/// How many Ready members each pool has, and how many it wants.
fn pools(caches: &Caches, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    let mut pools = caches.pools.all();
    pools.sort_by_key(|pool| ObjectKey::of(&**pool));
    pools.truncate(NAMES_MAX);
    let mut wanted = encoder.encode_descriptor(
        "atoll_warm_pool_members_wanted",
        "Members that a pool wants",
        None,
        MetricType::Gauge,
    )?;
    for pool in &pools {
        let labels = labels_of_pool(&ObjectKey::of(&**pool));
        ConstGauge::new(i64::from(pool.spec.replicas)).encode(wanted.encode_family(&labels)?)?;
    }
    let mut ready = encoder.encode_descriptor(
        "atoll_warm_pool_members_ready",
        "Members that are Ready",
        None,
        MetricType::Gauge,
    )?;
    for pool in &pools {
        let labels = labels_of_pool(&ObjectKey::of(&**pool));
        let members = caches.sandboxes.find(BY_CONTROLLER, uid_of(&pool.metadata));
        let count = members.iter().filter(|member| is_ready(member)).count();
        ConstGauge::new(number(count)).encode(ready.encode_family(&labels)?)?;
    }
    Ok(())
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
