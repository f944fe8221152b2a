//! Names that have the same 32-bit hash: by that hash Services, NetworkPolicies and adoptions select.

use std::collections::HashMap;

use atoll_api::{Sandbox, SandboxClaim, SandboxTemplate};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use serde_json::json;

use crate::it::plane::Plane;

const READY: &str = "True DependenciesReady: Pod is Ready; Service Exists";

/// Two names of one hash, found by trying: a birthday among 2^32.
fn colliding_names() -> (String, String) {
    let mut seen: HashMap<String, String> = HashMap::new();
    for number in 0_u32.. {
        let name = format!("name-{number}");
        if let Some(other) = seen.insert(atoll_stdx::name_hash(&name), name.clone()) {
            return (other, name);
        }
    }
    unreachable!("there are fewer hashes than names")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_sandbox_has_a_hash_for_itself() {
    let plane = Plane::start().await;
    let (first, second) = colliding_names();
    plane.sandbox(&first, json!({"spec": {"service": true}})).await;
    plane.sandbox_until(&first, READY).await;
    // Creation times count whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    plane.sandbox(&second, json!({"spec": {"service": true}})).await;
    let refused = "False InvalidConfiguration: the name has the same hash as that of sandbox";
    plane
        .until(&second, "refused", |sandbox: &Sandbox| {
            let conditions = sandbox.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            crate::it::plane::text_of(conditions, "Ready").starts_with(refused)
        })
        .await;
    assert!(plane.get::<Pod>(&second).await.is_none() && plane.get::<Service>(&second).await.is_none());
    let selector = format!("agents.x-k8s.io/sandbox-name-hash={}", atoll_stdx::name_hash(&first));
    assert_eq!(plane.list::<Pod>(&selector).await.len(), 1, "one service, one endpoint");

    plane.delete::<Sandbox>(&first).await;
    plane.sandbox_until(&second, READY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_template_has_a_hash_for_itself() {
    let plane = Plane::start().await;
    let (first, second) = colliding_names();
    plane.template(&first, json!({})).await;
    plane.until(&format!("{first}-network-policy"), "made", |_: &NetworkPolicy| true).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let open = json!({"spec": {"networkPolicy": {"ingress": [{}], "egress": [{}]}}});
    plane.template(&second, open).await;
    plane.pool("p", &second, 2).await;
    plane.claim("c", "p", json!({})).await;
    plane.claim_until("c", "False InvalidConfiguration: SandboxTemplate").await;
    assert!(plane.get::<NetworkPolicy>(&format!("{second}-network-policy")).await.is_none());
    assert!(plane.list::<Sandbox>("").await.is_empty(), "neither member nor cold start");

    plane.delete::<SandboxTemplate>(&first).await;
    plane.until(&format!("{second}-network-policy"), "made", |_: &NetworkPolicy| true).await;
    let claim: SandboxClaim = plane.claim_until("c", "True").await;
    assert_eq!(claim.name_any(), "c");
    plane.pool_until("p", 2).await;
}
