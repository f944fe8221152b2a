//! Placing Pods on the one node.

use atoll_api::SandboxWarmPool;
use atoll_controllers::ControllersConfig;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use serde_json::{Value, json};

use crate::it::node::NODE;
use crate::it::plane::{Plane, eventually, skipped_on_a_cluster};

fn asking(cpu: &str) -> Value {
    json!({"spec": {"podTemplate": {"spec": {"containers": [
        {"name": "main", "image": "atoll.local/host", "resources": {"requests": {"cpu": cpu}}},
    ]}}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_waits_with_the_reason_until_there_is_room() {
    if skipped_on_a_cluster(
        "what_does_not_fit_waits_with_the_reason_until_there_is_room",
        "a cluster has a scheduler of its own",
    ) {
        return;
    }
    let plane = Plane::start_without_controllers("1").await;
    plane.start_controllers(ControllersConfig::default()).await;
    plane.sandbox("first", asking("600m")).await;
    plane.sandbox_until("first", "True DependenciesReady: Pod is Ready").await;
    plane.sandbox("second", asking("600m")).await;
    let why = "0/1 nodes are available: 1 Insufficient cpu.";
    let waiting = plane
        .until("second", "refused", |sandbox: &atoll_api::Sandbox| {
            let conditions = sandbox.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            crate::it::plane::text_of(conditions, "PodScheduled") == format!("False Unschedulable: {why}")
        })
        .await;
    assert_eq!(waiting.status.and_then(|status| status.node_name), None);
    let told = eventually(|| async {
        let events = plane.list::<Event>("").await;
        events.into_iter().find(|event| event.reason.as_deref() == Some("FailedScheduling"))
    });
    assert_eq!(told.await.and_then(|event| event.note).as_deref(), Some(why));

    plane.delete::<atoll_api::Sandbox>("first").await;
    plane.sandbox_until("second", "True DependenciesReady: Pod is Ready").await;
    let pod: Pod = plane.get("second").await.expect("it runs");
    assert_eq!(pod.spec.and_then(|spec| spec.node_name).as_deref(), Some(NODE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_never_given_more_than_it_has() {
    if skipped_on_a_cluster("a_node_is_never_given_more_than_it_has", "a cluster has a scheduler of its own") {
        return;
    }
    let plane = Plane::start_without_controllers("1").await;
    plane.start_controllers(ControllersConfig::default()).await;
    plane.template("t", asking("250m")).await;
    plane.pool("p", "t", 6).await;
    plane
        .until("p", "as full as it gets", |pool: &SandboxWarmPool| {
            pool.status.as_ref().is_some_and(|status| (status.replicas, status.ready_replicas) == (6, 4))
        })
        .await;
    let placed = plane
        .list::<Pod>("")
        .await
        .into_iter()
        .filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(NODE)));
    assert_eq!(placed.count(), 4);
}
