//! The Node object and its heartbeat.

use std::sync::Arc;
use std::time::Duration;

use atoll_rt::clock::now_unix_ms;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::node::{NodeError, Shared};
use crate::status::time;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: u32 = 40;
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Heartbeats between two writes of the Node's own status.
const STATUS_EVERY: u32 = 30;
const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;

/// Makes the Node what it should be.
pub(crate) async fn register(shared: &Shared) -> Result<(), NodeError> {
    let api: Api<Node> = Api::all(shared.client.clone());
    let node: Node = serde_json::from_value(node_object(shared)).expect("a Node is made of known fields");
    match api.create(&PostParams::default(), &node).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == CONFLICT => {}
        Err(error) => return Err(NodeError::Register(error)),
    }
    let status = json!({ "status": node_status(shared) });
    api.patch_status(&shared.config.name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .map_err(NodeError::Register)?;
    Ok(())
}

/// Renews the lease until the group stops.
pub(crate) async fn heartbeat(shared: Arc<Shared>) {
    let mut beats: u32 = 0;
    loop {
        if let Err(error) = renew(&shared).await {
            tracing::warn!(cause = %atoll_stdx::chain(&error), "the node's lease could not be renewed");
        }
        tokio::time::sleep(HEARTBEAT).await;
        beats = beats.wrapping_add(1);
        if beats.is_multiple_of(STATUS_EVERY)
            && let Err(error) = register(&shared).await
        {
            tracing::warn!(cause = %atoll_stdx::chain(&error), "the node's status could not be written");
        }
    }
}

async fn renew(shared: &Shared) -> Result<(), kube::Error> {
    let api: Api<k8s_openapi::api::coordination::v1::Lease> = Api::namespaced(shared.client.clone(), LEASE_NAMESPACE);
    let name = &shared.config.name;
    let milliseconds = i64::try_from(now_unix_ms()).unwrap_or(i64::MAX);
    let now = Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX);
    let spec = json!({
        "holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": format!("{now:.6}"),
    });
    let patch = Patch::Merge(json!({ "spec": spec }));
    match api.patch(name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.code == NOT_FOUND => {}
        outcome => return outcome.map(drop),
    }
    let lease = json!({"metadata": {"name": name, "namespace": LEASE_NAMESPACE}, "spec": spec});
    let lease = serde_json::from_value(lease).expect("a Lease is made of known fields");
    match api.create(&PostParams::default(), &lease).await {
        Err(kube::Error::Api(status)) if status.code == CONFLICT => Ok(()),
        outcome => outcome.map(drop),
    }
}

fn node_object(shared: &Shared) -> Value {
    let name = &shared.config.name;
    json!({
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": architecture(),
            },
        },
        "spec": {"podCIDR": format!("{}/16", shared.config.pod_network), "podCIDRs": [format!("{}/16", shared.config.pod_network)]},
    })
}

fn node_status(shared: &Shared) -> Value {
    let capacity = &shared.config.capacity;
    let resources = json!({
        "cpu": format!("{}m", capacity.cpu_milli),
        "memory": format!("{}Ki", capacity.memory_bytes / 1024),
        "pods": capacity.pods.to_string(),
    });
    let now = time(now_unix_ms());
    let since = time(shared.started_at_ms);
    let condition = |type_: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": type_, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": since,
        })
    };
    json!({
        "capacity": resources,
        "allocatable": resources,
        "addresses": [
            {"type": "InternalIP", "address": shared.facts.host_address.to_string()},
            {"type": "Hostname", "address": shared.config.name},
        ],
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "the node has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "the node has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "the node has sufficient PIDs available"),
            condition("Ready", "True", "KubeletReady", "the node is posting ready status"),
        ],
        "nodeInfo": {
            "architecture": architecture(),
            "operatingSystem": "linux",
            "osImage": "Linux",
            "kernelVersion": shared.config.kernel_version,
            "kubeletVersion": shared.config.version,
            "kubeProxyVersion": "",
            "containerRuntimeVersion": format!("atoll://{}", shared.config.version),
            "machineID": "", "systemUUID": "", "bootID": "",
        },
        "runtimeHandlers": [{"name": ""}, {"name": "native"}, {"name": "runsc"}, {"name": "auto"}],
    })
}

/// The machine's architecture in the words of Go.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
