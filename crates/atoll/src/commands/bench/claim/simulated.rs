//! A node that pretends to run Pods, so that what is measured is the control plane alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::failure::{Exit, Failure};

const NODE: &str = "bench-simulated";
const NODE_LABEL: &str = "atoll.dev/simulated";
const PODS_AT_ONCE: usize = 64;

/// A Pod that only the pretending node takes.
pub(super) fn pod_spec(mut pod: PodSpec) -> PodSpec {
    pod.node_selector = Some(BTreeMap::from([(NODE_LABEL.to_owned(), "true".to_owned())]));
    pod
}

/// Registers the node with room for everything.
pub(super) async fn register(client: &Client) -> Result<(), Failure> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = json!({"metadata": {"name": NODE, "labels": {NODE_LABEL: "true", "kubernetes.io/hostname": NODE}}});
    let node = serde_json::from_value(node).expect("it is a node");
    let refused = |error: &kube::Error| Failure::because(Exit::Failure, "the simulated node is not accepted", error);
    match nodes.create(&PostParams::default(), &node).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(refused(&error)),
    }
    let room = json!({"cpu": "10000", "memory": "10Ti", "pods": "100000"});
    let status = json!({"status": {
        "capacity": room, "allocatable": room,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Simulated", "message": "",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }});
    nodes
        .patch_status(NODE, &PatchParams::default(), &Patch::Merge(status))
        .await
        .map(drop)
        .map_err(|error| refused(&error))
}

/// Runs Pods until dropped: those that are given to the node are Running and Ready at once, deleted ones gone at once.
pub(super) async fn run(client: Client) {
    let pods: Api<Pod> = Api::all(client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={NODE}"));
    let addresses = Arc::new(AtomicU32::new(1));
    watcher(pods, config)
        .default_backoff()
        .filter_map(|event| async {
            match event {
                Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => Some(pod),
                _ => None,
            }
        })
        .for_each_concurrent(PODS_AT_ONCE, |pod| converge(client.clone(), Arc::clone(&addresses), pod))
        .await;
}

/// Takes the node away.
pub(super) async fn deregister(client: &Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    // Part of tidying up.
    let _ = nodes.delete(NODE, &DeleteParams::default()).await;
}

async fn converge(client: Client, addresses: Arc<AtomicU32>, pod: Pod) {
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        // Perhaps it is gone already.
        let _ = api.delete(&name, &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await;
        return;
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    if phase == "Pending" {
        let status = running(addresses.fetch_add(1, Ordering::Relaxed));
        // Perhaps it was deleted meanwhile.
        let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status)).await;
    }
}

fn running(number: u32) -> Value {
    let ip = format!("10.{}.{}.{}", 210 + number / 62_500 % 40, number / 250 % 250, number % 250 + 2);
    json!({"status": {
        "phase": "Running", "hostIP": "127.0.0.1", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }})
}
