//! Pools: size, rollout, restart.

use std::collections::BTreeSet;

use atoll_api::{Sandbox, SandboxTemplate, SandboxWarmPool};
use atoll_controllers::ControllersConfig;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::it::node::STUCK;
use crate::it::plane::{Plane, eventually};

const MEMBERS: &str = "agents.x-k8s.io/warm-pool-sandbox";
const RENEWED: &str = "/tmp";

async fn names(plane: &Plane, pool: &str) -> BTreeSet<String> {
    let selector = format!("{MEMBERS}={}", atoll_stdx::name_hash(pool));
    plane.list::<Sandbox>(&selector).await.iter().map(ResourceExt::name_any).collect()
}

/// Waits until the pool has `count` Ready members of which none is among `old`.
async fn until_replaced(plane: &Plane, pool: &str, old: &BTreeSet<String>, count: usize) -> BTreeSet<String> {
    let replaced = eventually(|| async {
        let new = names(plane, pool).await;
        (new.is_disjoint(old) && new.len() == count).then_some(new)
    })
    .await;
    let replaced = replaced.expect("the members are replaced");
    plane.pool_until(pool, i32::try_from(count).expect("small")).await;
    replaced
}

/// Another Pod than the template had before.
fn renewed() -> Value {
    let container = json!({"name": "main", "image": "atoll.local/host", "workingDir": RENEWED});
    json!({"spec": {"podTemplate": {"spec": {"containers": [container]}}}})
}

async fn pool(plane: &Plane, name: &str, template: &str, replicas: i32, strategy: Option<&str>) {
    let mut spec = json!({"replicas": replicas, "sandboxTemplateRef": {"name": template}});
    if let Some(strategy) = strategy {
        spec["updateStrategy"] = json!({"type": strategy});
    }
    plane.create_json::<SandboxWarmPool>(json!({"metadata": {"name": name}, "spec": spec})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_grows_and_shrinks() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 3).await;
    let pool = plane.pool_until("p", 3).await;
    let selector = format!("{MEMBERS}={}", atoll_stdx::name_hash("p"));
    assert_eq!(pool.status.expect("it is told").selector, selector);
    assert!(names(&plane, "p").await.iter().all(|name| name.starts_with("p-") && name.len() == 7));
    for replicas in [8, 2, 0, 1] {
        plane.merge::<SandboxWarmPool>("p", json!({"spec": {"replicas": replicas}})).await;
        plane.pool_until("p", replicas).await;
        plane.until_count::<Pod>(&selector, usize::try_from(replicas).expect("small")).await;
    }
    plane.delete::<SandboxWarmPool>("p").await;
    plane.until_count::<Sandbox>(MEMBERS, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pool_leaves_claimed_sandboxes_alone() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 2).await;
    plane.pool_until("p", 2).await;
    plane.claim("c", "p", json!({})).await;
    let claim = plane.claim_until("c", "True").await;
    plane.delete::<SandboxWarmPool>("p").await;
    plane.until_count::<Sandbox>(MEMBERS, 0).await;
    let name = claim.status.and_then(|status| status.sandbox).expect("it is bound").name;
    assert!(plane.get::<Sandbox>(&name).await.is_some_and(|sandbox| sandbox.metadata.deletion_timestamp.is_none()));
    plane.claim_until("c", "True").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_member_is_replaced() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 3).await;
    plane.pool_until("p", 3).await;
    let lost = names(&plane, "p").await.pop_first().expect("there are three");
    plane.delete::<Sandbox>(&lost).await;
    let refilled = eventually(|| async {
        let now = names(&plane, "p").await;
        (now.len() == 3 && !now.contains(&lost)).then_some(())
    });
    assert!(refilled.await.is_some());
    plane.pool_until("p", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_template_rolls_only_pools_that_recreate() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.template("other", json!({})).await;
    pool(&plane, "kept", "t", 2, None).await;
    pool(&plane, "lazy", "t", 2, Some("OnReplenish")).await;
    pool(&plane, "eager", "t", 2, Some("Recreate")).await;
    pool(&plane, "apart", "other", 2, Some("Recreate")).await;
    let mut before = Vec::new();
    for name in ["kept", "lazy", "eager", "apart"] {
        plane.pool_until(name, 2).await;
        before.push(names(&plane, name).await);
    }
    plane.merge::<SandboxTemplate>("t", renewed()).await;
    let new = until_replaced(&plane, "eager", &before[2], 2).await;
    for name in &new {
        let pod: Pod = plane.get(name).await.expect("it runs");
        assert_eq!(pod.spec.expect("it has one").containers[0].working_dir.as_deref(), Some(RENEWED));
    }
    for (position, name) in ["kept", "lazy", "eager", "apart"].into_iter().enumerate() {
        assert_eq!(names(&plane, name).await == before[position], name != "eager", "{name}");
    }

    plane.claim("c", "lazy", json!({})).await;
    let claim = plane.claim_until("c", "True").await;
    let bound = claim.status.and_then(|status| status.sandbox).expect("it is bound").name;
    assert!(before[1].contains(&bound), "old members are handed out");
    plane.pool_until("lazy", 2).await;
    let fresh = names(&plane, "lazy").await.difference(&before[1]).next().expect("one is new").clone();
    let pod: Pod = plane.get(&fresh).await.expect("it runs");
    assert_eq!(pod.spec.expect("it has one").containers[0].working_dir.as_deref(), Some(RENEWED));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_alone_rolls_nothing() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    pool(&plane, "eager", "t", 2, Some("Recreate")).await;
    plane.pool_until("eager", 2).await;
    let before = names(&plane, "eager").await;
    plane
        .merge::<SandboxTemplate>("t", json!({"spec": {"podTemplate": {"metadata": {"labels": {"team": "red"}}}}}))
        .await;
    plane.claim("c", "eager", json!({})).await;
    let claim = plane.claim_until("c", "True").await;
    let bound = claim.status.and_then(|status| status.sandbox).expect("it is bound").name;
    assert!(before.contains(&bound));
    plane.until(&bound, "relabelled", |pod: &Pod| pod.labels().get("team").is_some_and(|team| team == "red")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_template_rolls_even_if_it_says_the_same() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.template("twin", json!({})).await;
    pool(&plane, "eager", "t", 2, Some("Recreate")).await;
    plane.pool_until("eager", 2).await;
    let before = names(&plane, "eager").await;
    plane.merge::<SandboxWarmPool>("eager", json!({"spec": {"sandboxTemplateRef": {"name": "twin"}}})).await;
    for name in until_replaced(&plane, "eager", &before, 2).await {
        let sandbox: Sandbox = plane.get(&name).await.expect("it is there");
        assert_eq!(sandbox.annotations()["agents.x-k8s.io/sandbox-template-ref"], "twin");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_waits_for_its_template() {
    let plane = Plane::start().await;
    plane.pool("p", "t", 1).await;
    plane.until("p", "told of", |pool: &SandboxWarmPool| pool.status.is_some()).await;
    assert!(names(&plane, "p").await.is_empty());
    plane.template("t", json!({})).await;
    plane.pool_until("p", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_never_start_are_replaced() {
    let config =
        ControllersConfig { readiness_grace: std::time::Duration::from_secs(2), ..ControllersConfig::default() };
    let plane = Plane::start_with(config).await;
    plane.template("t", json!({"spec": {"podTemplate": {"metadata": {"annotations": {STUCK: "yes"}}}}})).await;
    plane.pool("p", "t", 1).await;
    let first = plane.until_count::<Sandbox>(MEMBERS, 1).await.remove(0).name_any();
    plane.until_gone::<Sandbox>(&first).await;
    plane.until_count::<Sandbox>(MEMBERS, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_that_start_again_find_their_members() {
    let plane = Plane::start_idle().await;
    let first = plane.start_controllers(ControllersConfig::default()).await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 3).await;
    plane.pool_until("p", 3).await;
    let before = names(&plane, "p").await;
    assert!(first.drain(std::time::Duration::from_secs(30)).await, "they stop when told");
    plane.claim("c", "p", json!({})).await;

    plane.start_controllers(ControllersConfig::default()).await;
    let claim = plane.claim_until("c", "True").await;
    let bound = claim.status.and_then(|status| status.sandbox).expect("it is bound").name;
    assert!(before.contains(&bound), "{bound} is one of {before:?}");
    plane.pool_until("p", 3).await;
    assert_eq!(plane.list::<Sandbox>("").await.len(), 4);
}
