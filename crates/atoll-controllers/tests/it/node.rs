//! A node that pretends: Pods that are given to it are Running and Ready at once, deleted ones are gone at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use atoll_rt::TaskGroup;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

/// The name of the node.
pub(crate) const NODE: &str = "pretender";
/// Annotation of a Pod: the phase that it ends in.
pub(crate) const ENDS: &str = "example.com/ends";
/// Annotation of a Pod: it never starts.
pub(crate) const STUCK: &str = "example.com/stuck";

const PODS_AT_ONCE: usize = 32;

/// Registers the node and starts it.
pub(crate) async fn start(client: Client, cpu: &str, group: &TaskGroup) {
    register(&client, cpu).await;
    let addresses = Arc::new(AtomicU32::new(1));
    let stop = group.token();
    group.spawn("fake-node", async move {
        let pods: Api<Pod> = Api::all(client.clone());
        // Without a pause between attempts it would never give way once the server is gone.
        let events = watcher(pods, watcher::Config::default()).default_backoff().filter_map(|event| async {
            match event {
                Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => Some(pod),
                _ => None,
            }
        });
        let work =
            events.for_each_concurrent(PODS_AT_ONCE, |pod| converge(client.clone(), Arc::clone(&addresses), pod));
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    });
}

async fn register(client: &Client, cpu: &str) {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = serde_json::from_value(json!({"metadata": {"name": NODE}})).expect("it is a node");
    nodes.create(&PostParams::default(), &node).await.expect("the node is registered");
    let status = json!({"status": {
        "capacity": {"cpu": cpu, "memory": "64Gi", "pods": "1000"},
        "allocatable": {"cpu": cpu, "memory": "64Gi", "pods": "1000"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Pretending", "message": "",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }});
    nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(status)).await.expect("the node is ready");
}

async fn converge(client: Client, addresses: Arc<AtomicU32>, pod: Pod) {
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.node_name.as_deref()) != Some(NODE) {
        return;
    }
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace().expect("pods have namespaces"));
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        // Perhaps it is gone already, or a finalizer holds it.
        let _outcome = api.delete(&name, &now).await;
        return;
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    let ends = pod.annotations().get(ENDS).map(String::as_str);
    let status = match (phase, ends) {
        ("Pending", _) if pod.annotations().contains_key(STUCK) => return,
        ("Pending", _) => running(addresses.fetch_add(1, Ordering::Relaxed)),
        ("Running", Some(end)) => ended(end),
        _ => return,
    };
    // Perhaps it was deleted meanwhile.
    let _outcome = api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status)).await;
}

fn running(number: u32) -> Value {
    let ip = format!("10.201.{}.{}", number / 250, number % 250 + 2);
    json!({"status": {
        "phase": "Running",
        "hostIP": "10.201.0.1",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }})
}

fn ended(phase: &str) -> Value {
    json!({"status": {
        "phase": phase,
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }})
}
