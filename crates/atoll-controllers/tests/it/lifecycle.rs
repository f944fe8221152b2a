//! How Sandboxes and claims end.

use atoll_api::{Sandbox, SandboxClaim};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::it::node::ENDS;
use crate::it::plane::{Plane, text_of, texts_of};

const EXPIRED: &str = "False SandboxExpired: Sandbox has expired";
const CLAIM_EXPIRED: &str = "False ClaimExpired: Claim expired. Sandbox cleanup initiated.";

/// So many seconds from now, as the API writes times.
fn soon(seconds: i64) -> Value {
    let time = Timestamp::now().checked_add(SignedDuration::from_secs(seconds)).expect("soon");
    json!(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// A Pod that ends by itself: a node that pretends is told so, a real one sees it.
fn ending(phase: &str) -> Value {
    let code = i32::from(phase == "Failed").to_string();
    let container =
        json!({"name": "main", "image": "atoll.local/host", "command": ["sh", "-c", format!("exit {code}")]});
    json!({"spec": {"podTemplate": {
        "metadata": {"annotations": {ENDS: phase}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_sandbox_is_kept_without_its_pod() {
    let plane = Plane::start().await;
    plane.sandbox("leased", json!({"spec": {"service": true}})).await;
    plane.sandbox_until("leased", "True DependenciesReady: Pod is Ready; Service Exists").await;
    plane.merge::<Sandbox>("leased", json!({"spec": {"shutdownTime": soon(1)}})).await;
    plane.until_gone::<Pod>("leased").await;
    plane.until_gone::<Service>("leased").await;
    let sandbox = plane
        .until("leased", "cleared", |sandbox: &Sandbox| {
            sandbox.status.as_ref().is_some_and(|status| status.selector.is_none())
        })
        .await;
    let status = sandbox.status.expect("it is told");
    assert_eq!(
        texts_of(&status.conditions),
        [format!("Ready {EXPIRED}"), "Suspended False NotSuspended: Sandbox is not suspended".to_owned()]
    );
    assert_eq!((status.service, status.pod_ips, status.node_name), (None, Vec::new(), None));

    plane.merge::<Sandbox>("leased", json!({"spec": {"shutdownTime": null}})).await;
    plane.sandbox_until("leased", "True DependenciesReady: Pod is Ready; Service Exists").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_sandbox_may_delete_itself() {
    let plane = Plane::start().await;
    plane.sandbox("brief", json!({"spec": {"shutdownTime": soon(1), "shutdownPolicy": "Delete"}})).await;
    plane.until_gone::<Sandbox>("brief").await;
    plane.until_gone::<Pod>("brief").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_it_finished_outlives_expiry() {
    let plane = Plane::start().await;
    plane.sandbox("done", ending("Succeeded")).await;
    let sandbox = plane.sandbox_until("done", "False PodSucceeded: Pod completed successfully").await;
    let finished = "True PodSucceeded: Pod completed successfully";
    assert_eq!(text_of(&sandbox.status.expect("it is told").conditions, "Finished"), finished);
    plane.merge::<Sandbox>("done", json!({"spec": {"shutdownTime": soon(0)}})).await;
    plane.until_gone::<Pod>("done").await;
    let sandbox = plane.sandbox_until("done", EXPIRED).await;
    assert_eq!(text_of(&sandbox.status.expect("it is told").conditions, "Finished"), finished);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_outlives_its_finish_by_its_time_to_live() {
    let plane = Plane::start().await;
    plane.template("t", ending("Succeeded")).await;
    plane.pool("p", "t", 0).await;
    plane.claim("kept", "p", json!({})).await;
    plane
        .claim("gone", "p", json!({"spec": {"lifecycle": {"ttlSecondsAfterFinished": 1, "shutdownPolicy": "Delete"}}}))
        .await;
    plane.claim("bare", "p", json!({"spec": {"lifecycle": {"ttlSecondsAfterFinished": 0}}})).await;

    plane.until_gone::<SandboxClaim>("gone").await;
    plane.until_gone::<Sandbox>("gone").await;
    plane.until_gone::<Sandbox>("bare").await;
    let bare = plane
        .until("bare", "without a sandbox", |claim: &SandboxClaim| {
            claim.status.as_ref().is_some_and(|status| status.sandbox.is_none() && !status.conditions.is_empty())
        })
        .await;
    assert_eq!(
        texts_of(&bare.status.expect("it is told").conditions),
        ["Finished True PodSucceeded: Pod completed successfully".to_owned(), format!("Ready {CLAIM_EXPIRED}")]
    );
    plane.claim_until("kept", "False PodSucceeded: Pod completed successfully").await;
    assert!(plane.get::<Sandbox>("kept").await.is_some(), "without a time to live it stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_earlier_end_of_a_claim_counts() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 1).await;
    plane.pool_until("p", 1).await;
    let lifecycle = json!({"shutdownTime": soon(1), "ttlSecondsAfterFinished": 3600, "shutdownPolicy": "Delete"});
    let claim = plane.claim("short", "p", json!({"spec": {"lifecycle": lifecycle}})).await;
    plane.until_gone::<SandboxClaim>("short").await;
    let uid = format!("agents.x-k8s.io/claim-uid={}", claim.uid().expect("it has one"));
    plane.until_count::<Sandbox>(&uid, 0).await;
    plane.pool_until("p", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retained_claim_loses_its_sandbox() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 1).await;
    plane.pool_until("p", 1).await;
    plane.claim("held", "p", json!({})).await;
    let bound = plane.claim_until("held", "True DependenciesReady").await;
    let sandbox = bound.status.and_then(|status| status.sandbox).expect("it is bound").name;
    let patch = json!({"spec": {"lifecycle": {"shutdownTime": soon(0), "shutdownPolicy": "Retain"}}});
    plane.merge::<SandboxClaim>("held", patch).await;
    plane.until_gone::<Sandbox>(&sandbox).await;
    plane.until_gone::<Pod>(&sandbox).await;
    let claim = plane
        .until("held", "unbound", |claim: &SandboxClaim| {
            claim.status.as_ref().is_some_and(|status| status.sandbox.is_none())
        })
        .await;
    assert_eq!(text_of(&claim.status.expect("it is told").conditions, "Ready"), CLAIM_EXPIRED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_may_go_after_its_sandbox() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 0).await;
    plane.claim("last", "p", json!({})).await;
    plane.claim_until("last", "True DependenciesReady").await;
    plane.merge::<Pod>("last", json!({"metadata": {"finalizers": ["example.com/hold"]}})).await;
    let patch = json!({"spec": {"lifecycle": {"shutdownTime": soon(0), "shutdownPolicy": "DeleteForeground"}}});
    plane.merge::<SandboxClaim>("last", patch).await;
    let claim = plane.until("last", "going", |claim: &SandboxClaim| claim.metadata.deletion_timestamp.is_some()).await;
    assert_eq!(claim.finalizers(), ["foregroundDeletion"]);
    plane.until("last", "going", |pod: &Pod| pod.metadata.deletion_timestamp.is_some()).await;
    assert!(plane.get::<SandboxClaim>("last").await.is_some(), "the claim waits for its children");
    plane.merge::<Pod>("last", json!({"metadata": {"finalizers": null}})).await;
    plane.until_gone::<SandboxClaim>("last").await;
    plane.until_gone::<Sandbox>("last").await;
}
