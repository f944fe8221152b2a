//! What upstream's own end-to-end tests look at and the other files here do not; `docs/contract.md` says which is where.

use atoll_api::{Sandbox, SandboxClaim};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, WatchEvent, WatchParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::it::node::ENDS;
use crate::it::plane::{Plane, text_of};

const HOLD: &str = "example.com/hold";
const READY: &str = "True DependenciesReady";

/// Waits until the claim is on its way out, and shows that it waits for what it owns.
async fn goes_after_its_pod(plane: &Plane, claim: &str, pod: &str) {
    let going = plane.until(claim, "going", |claim: &SandboxClaim| claim.meta().deletion_timestamp.is_some()).await;
    assert_eq!(going.finalizers(), ["foregroundDeletion"]);
    plane.until(pod, "going", |pod: &Pod| pod.meta().deletion_timestamp.is_some()).await;
    assert!(plane.get::<SandboxClaim>(claim).await.is_some(), "the claim waits for its Pod");
    assert!(plane.get::<Sandbox>(pod).await.is_some(), "so does the Sandbox");
    plane.merge::<Pod>(pod, json!({"metadata": {"finalizers": null}})).await;
    plane.until_gone::<SandboxClaim>(claim).await;
    plane.until_gone::<Sandbox>(pod).await;
    plane.until_gone::<Pod>(pod).await;
}

async fn hold(plane: &Plane, pod: &str) {
    plane.merge::<Pod>(pod, json!({"metadata": {"finalizers": [HOLD]}})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_deleted_in_the_foreground_goes_last() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 1).await;
    plane.pool_until("p", 1).await;
    plane.claim("c", "p", json!({})).await;
    let claim = plane.claim_until("c", READY).await;
    let sandbox = claim.status.and_then(|status| status.sandbox).expect("it is bound").name;
    hold(&plane, &sandbox).await;
    let _begun =
        plane.api::<SandboxClaim>().delete("c", &DeleteParams::foreground()).await.expect("its deletion begins");
    goes_after_its_pod(&plane, "c", &sandbox).await;
    plane.pool_until("p", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_claim_may_go_in_the_foreground() {
    let plane = Plane::start().await;
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 0).await;
    let lifecycle = json!({"ttlSecondsAfterFinished": 0, "shutdownPolicy": "DeleteForeground"});
    plane.claim("c", "p", json!({"spec": {"lifecycle": lifecycle}})).await;
    plane.claim_until("c", READY).await;
    hold(&plane, "c").await;
    plane.merge::<Pod>("c", json!({"metadata": {"annotations": {ENDS: "Succeeded"}}})).await;
    goes_after_its_pod(&plane, "c", "c").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_ever_sees_ready_before_what_it_is_about() {
    let plane = Plane::start().await;
    let claims = plane.api::<SandboxClaim>();
    let sandboxes = plane.api::<Sandbox>();
    let watch = WatchParams::default();
    let mut claim_events = claims.watch(&watch, "0").await.expect("claims can be watched").boxed();
    let mut sandbox_events = sandboxes.watch(&watch, "0").await.expect("Sandboxes can be watched").boxed();
    plane.template("t", json!({})).await;
    plane.pool("p", "t", 2).await;
    for name in ["c-0", "c-1", "c-2"] {
        plane.claim(name, "p", json!({})).await;
    }
    let mut ready = std::collections::BTreeSet::new();
    while ready.len() < 3 {
        let event = claim_events.try_next().await.expect("the watch goes on").expect("it has not ended");
        let (WatchEvent::Added(claim) | WatchEvent::Modified(claim)) = event else { continue };
        let status = claim.status.clone().unwrap_or_default();
        if text_of(&status.conditions, "Ready").starts_with("True") {
            let sandbox = status.sandbox.expect("a claim that is Ready names its Sandbox in the same write");
            assert!(!sandbox.name.is_empty() && !sandbox.pod_ips.is_empty(), "{sandbox:?}");
            ready.insert(claim.name_any());
        }
    }
    let mut seen = 0;
    while seen < 3 {
        let event = sandbox_events.try_next().await.expect("the watch goes on").expect("it has not ended");
        let (WatchEvent::Added(sandbox) | WatchEvent::Modified(sandbox)) = event else { continue };
        let status: Value = serde_json::to_value(sandbox.status.clone().unwrap_or_default()).expect("it is JSON");
        let conditions = sandbox.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        if text_of(conditions, "Ready").starts_with("True") {
            for field in ["podIPs", "selector", "nodeName"] {
                assert!(
                    status[field].as_array().map_or(status[field].is_string(), |it| !it.is_empty()),
                    "{field}: {status}"
                );
            }
            seen += 1;
        }
    }
}
