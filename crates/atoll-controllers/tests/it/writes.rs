//! How many writes a warm claim costs, from its creation to its deletion and the pool full again.

use std::collections::BTreeMap;
use std::time::Duration;

use atoll_api::{Sandbox, SandboxClaim};
use atoll_controllers::ControllersConfig;
use serde_json::json;

use crate::it::plane::{CONTROLLER, Plane, SCHEDULER, eventually};

const CLAIMS: u64 = 10;
const WRITES_PER_CLAIM_MAX: u64 = 6;
/// What is counted apart: Events, and the pool's status, which is written at most once a second.
const APART: [&str; 2] = ["events", "sandboxwarmpools"];

fn difference(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    after
        .iter()
        .map(|(write, count)| (write.clone(), count - before.get(write).copied().unwrap_or_default()))
        .filter(|(write, count)| *count > 0 && !APART.iter().any(|apart| write.contains(apart)))
        .collect()
}

/// Waits that are longer than any start takes: what is counted does not depend on how fast the machine is.
fn patient() -> ControllersConfig {
    ControllersConfig {
        first_status_window: Duration::from_secs(600),
        pending_members_wait: Duration::from_secs(600),
        missing_wait: Duration::from_secs(600),
        ..ControllersConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_claim_costs_six_writes() {
    let plane = Plane::start_with(patient()).await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 5).await;
    plane.pool_until("p", 5).await;
    settle(&plane, 5).await;
    let before = (plane.writes_of(CONTROLLER), plane.writes_of(SCHEDULER));
    for number in 0..CLAIMS {
        let name = format!("c-{number}");
        plane.claim(&name, "p", json!({})).await;
        let claim = plane.claim_until(&name, "True DependenciesReady").await;
        let sandbox = claim.status.and_then(|status| status.sandbox).expect("it is bound").name;
        plane.delete::<SandboxClaim>(&name).await;
        plane.until_gone::<Sandbox>(&sandbox).await;
        settle(&plane, 5).await;
    }
    let writes = difference(&before.0, &plane.writes_of(CONTROLLER));
    let total: u64 = writes.values().sum();
    assert!(total <= CLAIMS * WRITES_PER_CLAIM_MAX, "{total} for {CLAIMS} claims: {writes:#?}");
    assert!(total >= CLAIMS * 4, "what was counted is what was done: {writes:#?}");
    let scheduler: u64 = difference(&before.1, &plane.writes_of(SCHEDULER)).values().sum();
    assert_eq!(scheduler, CLAIMS, "one for each new Pod");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_settled_costs_nothing() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 3).await;
    plane.sandbox("s", json!({"spec": {"service": true}})).await;
    plane.claim("c", "p", json!({})).await;
    plane.claim_until("c", "True").await;
    plane.sandbox_until("s", "True DependenciesReady: Pod is Ready; Service Exists").await;
    plane.pool_until("p", 3).await;
    settle(&plane, 3).await;
    let before = plane.writes_of(CONTROLLER);
    // A change that means nothing to the controllers has all of them look again.
    for name in ["a", "b"] {
        plane.merge::<Sandbox>("s", json!({"metadata": {"annotations": {"touched": name}}})).await;
        plane.merge::<SandboxClaim>("c", json!({"metadata": {"annotations": {"touched": name}}})).await;
        settle(&plane, 3).await;
    }
    assert_eq!(difference(&before, &plane.writes_of(CONTROLLER)), BTreeMap::new());
}

/// Waits until the pool is full and the controllers have written nothing for a while.
async fn settle(plane: &Plane, members: usize) {
    let ready = "agents.x-k8s.io/warm-pool-sandbox";
    let mut last = plane.writes_of(CONTROLLER);
    let mut calm = 0;
    let settled = eventually(|| {
        let now = plane.writes_of(CONTROLLER);
        calm = if now == last { calm + 1 } else { 0 };
        last = now;
        let calm = calm;
        async move {
            let found = plane.list::<Sandbox>(ready).await;
            let all_ready = found.iter().all(|member| {
                let status = member.status.clone().unwrap_or_default();
                atoll_api::conditions::is_true(&status.conditions, "Ready")
            });
            (calm >= 10 && found.len() == members && all_ready).then_some(())
        }
    });
    assert!(settled.await.is_some(), "the controllers never rest");
}
