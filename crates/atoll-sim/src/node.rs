//! A node that only pretends to run Pods. It looks at all of them again and again, so that it needs no luck.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::dice::Dice;

const NODE: &str = "pretender";
/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(200);
/// The longest that a Pod takes to start or to stop.
const CHANGE_MAX: Duration = Duration::from_secs(4);

/// Registers the node. The server answers.
pub(crate) async fn register(client: &Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = serde_json::from_value(json!({"metadata": {"name": NODE}})).expect("it is a node");
    nodes.create(&PostParams::default(), &node).await.expect("the node is registered");
    let room = json!({"cpu": "64", "memory": "64Gi", "pods": "1000"});
    let status = json!({"status": {
        "capacity": room, "allocatable": room,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Pretending", "message": "",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }});
    nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(status)).await.expect("the node is ready");
}

/// Runs Pods for ever.
pub(crate) async fn run(client: Client, dice: Dice) {
    let pods: Api<Pod> = Api::all(client.clone());
    let mut changes: HashMap<(String, bool), Instant> = HashMap::new();
    let mut addresses = 0;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Ok(list) = pods.list(&ListParams::default()).await else { continue };
        for pod in list.items {
            let Some(step) = next_step(&pod) else { continue };
            let key = (pod.uid().unwrap_or_default(), step == Step::Stop);
            let due = *changes.entry(key).or_insert_with(|| Instant::now() + dice.up_to(CHANGE_MAX));
            if Instant::now() >= due {
                addresses += 1;
                take(&client, &pod, step, addresses).await;
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Start,
    Stop,
}

fn next_step(pod: &Pod) -> Option<Step> {
    let given = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(NODE);
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    match (given, pod.metadata.deletion_timestamp.is_some(), phase) {
        (false, ..) => None,
        (true, true, _) => Some(Step::Stop),
        (true, false, "Pending") => Some(Step::Start),
        (true, false, _) => None,
    }
}

/// What fails is tried again at the next look.
async fn take(client: &Client, pod: &Pod, step: Step, address: u32) {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let _outcome = match step {
        Step::Start => {
            let status = running(pod, address);
            api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status)).await.map(drop)
        }
        Step::Stop => {
            let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
            api.delete(&name, &now).await.map(drop)
        }
    };
}

fn running(pod: &Pod, address: u32) -> Value {
    let ip = format!("10.201.{}.{}", address / 250, address % 250 + 2);
    json!({"metadata": {"uid": pod.uid()}, "status": {
        "phase": "Running",
        "hostIP": "10.201.0.1",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }})
}
