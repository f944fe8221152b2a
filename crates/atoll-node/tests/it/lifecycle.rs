//! Pods come, run, end and go.

use std::sync::Arc;
use std::time::Duration;

use atoll_node::{SimulatedConfig, SimulatedRuntime};
use atoll_sandbox::ExitReason;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::plane::{NODE, Plane, eventually, is_ready, runtime, waiting_reason};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_becomes_ready_with_one_write_and_goes_without_a_trace() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let node = plane.node(&runtime).await;
    let uid = plane.pod("p", |_| ()).await;
    let pod = plane.pod_when("p", is_ready).await;
    plane.assert_status_writes(1).await;
    let status = &pod["status"];
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["podIP"], "10.201.0.2");
    assert_eq!(status["podIPs"], json!([{"ip": "10.201.0.2"}]));
    assert_eq!(status["hostIP"], "10.201.0.1");
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(status["containerStatuses"][0]["ready"], true);
    assert!(status["startTime"].is_string());
    let guest = node.node.locate_guest(&uid).expect("it runs");
    assert_eq!(guest.address.to_string(), "10.201.0.2");

    plane.delete_pod("p").await;
    plane.pod_when("p", Value::is_null).await;
    eventually("the removal", || runtime.present().is_empty()).await;
    assert_eq!(runtime.destroyed(), [(uid.clone(), 1000)], "with the Pod's own grace");
    assert_eq!(node.node.locate_guest(&uid), None);
    plane.assert_status_writes(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pods_start_at_once_with_addresses_of_their_own() {
    let plane = Plane::start().await;
    let runtime = Arc::new(SimulatedRuntime::new(SimulatedConfig {
        start_delay: Duration::from_millis(20),
        ..SimulatedConfig::default()
    }));
    let _node = plane.node(&runtime).await;
    for n in 0..40 {
        plane.pod(&format!("p{n}"), |_| ()).await;
    }
    for n in 0..40 {
        plane.pod_when(&format!("p{n}"), is_ready).await;
    }
    let addresses: std::collections::BTreeSet<_> = runtime.present().into_values().collect();
    assert_eq!(addresses.len(), 40);
    plane.assert_status_writes(40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_not_used_again_at_once() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node(&runtime).await;
    plane.pod("a", |_| ()).await;
    let first = plane.pod_when("a", is_ready).await["status"]["podIP"].clone();
    plane.delete_pod("a").await;
    plane.pod_when("a", Value::is_null).await;
    plane.pod("a", |_| ()).await;
    let second = plane.pod_when("a", is_ready).await["status"]["podIP"].clone();
    assert_ne!(first, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ends_is_restarted_with_its_address() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node(&runtime).await;
    let uid = plane.pod("p", |_| ()).await;
    let before = plane.pod_when("p", is_ready).await;
    runtime.exit(&uid, 137, ExitReason::OomKilled);
    let after =
        plane.pod_when("p", |pod| is_ready(pod) && pod["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    assert_eq!(before["status"]["podIP"], after["status"]["podIP"]);
    let last = &after["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["reason"], &last["exitCode"]), (&json!("OOMKilled"), &json!(137)));
    runtime.exit(&uid, 1, ExitReason::Error);
    let waits = plane.pod_when("p", |pod| waiting_reason(pod) == "CrashLoopBackOff").await;
    assert_eq!(waits["status"]["phase"], "Running");
    assert!(!is_ready(&waits));
    let message = &waits["status"]["containerStatuses"][0]["state"]["waiting"]["message"];
    assert!(message.as_str().unwrap().starts_with("back-off 10s restarting failed container"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_not_to_restart_keeps_its_exit_code() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node(&runtime).await;
    for (name, code, reason, phase) in
        [("good", 0, ExitReason::Completed, "Succeeded"), ("bad", 3, ExitReason::Error, "Failed")]
    {
        let uid = plane.pod(name, |pod| pod["spec"]["restartPolicy"] = json!("Never")).await;
        plane.pod_when(name, is_ready).await;
        runtime.exit(&uid, code, reason);
        let pod = plane.pod_when(name, |pod| pod["status"]["phase"] == phase).await;
        let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(ended["exitCode"], code);
        assert!(!is_ready(&pod));
    }
    plane.assert_status_writes(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_decide() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node_that_announces(&runtime, 50).await;
    runtime.set_unhealthy(Some("connection refused"));
    plane
        .pod("p", |pod| {
            pod["spec"]["containers"][0]["readinessProbe"] =
                json!({"tcpSocket": {"port": 80}, "periodSeconds": 1, "failureThreshold": 1});
        })
        .await;
    let pod = plane.pod_when("p", |pod| pod["status"]["phase"] == "Running").await;
    assert!(!is_ready(&pod));
    runtime.set_unhealthy(None);
    plane.pod_when("p", is_ready).await;
    runtime.set_unhealthy(Some("connection refused"));
    plane.pod_when("p", |pod| !is_ready(pod)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_by_force_does_not_wait_for_the_grace() {
    let plane = Plane::start().await;
    // This one never ends by itself.
    let runtime = Arc::new(SimulatedRuntime::new(SimulatedConfig::default()));
    let _node = plane.node(&runtime).await;
    plane.pod("p", |pod| pod["spec"]["terminationGracePeriodSeconds"] = json!(3600)).await;
    plane.pod_when("p", is_ready).await;
    plane.delete_pod("p").await;
    plane.pod_when("p", |pod| pod["metadata"]["deletionTimestamp"].is_string()).await;
    assert_eq!(runtime.present().len(), 1, "it is asked politely");
    let force = DeleteParams::default().grace_period(0);
    plane.api::<Pod>().delete("p", &force).await.unwrap();
    eventually("the removal", || runtime.present().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_removed_is_tried_again_before_the_object_goes() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node(&runtime).await;
    plane.pod("p", |_| ()).await;
    plane.pod_when("p", is_ready).await;
    runtime.fail_destroys(2);
    plane.delete_pod("p").await;
    plane.pod_when("p", Value::is_null).await;
    assert!(runtime.present().is_empty(), "the object outlives the sandbox, never the other way round");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_other_nodes_are_left_alone() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node(&runtime).await;
    plane.pod("other", |pod| pod["spec"]["nodeName"] = json!("two")).await;
    plane.pod("unbound", |pod| drop(pod["spec"].as_object_mut().unwrap().remove("nodeName"))).await;
    plane.pod("mine", |_| ()).await;
    plane.pod_when("mine", is_ready).await;
    assert_eq!(runtime.created().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_is_registered_and_its_lease_renewed() {
    let plane = Plane::start().await;
    let _node = plane.node(&runtime()).await;
    let nodes: Api<Node> = Api::all(plane.admin.clone());
    let node = serde_json::to_value(nodes.get(NODE).await.unwrap()).unwrap();
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], NODE);
    assert_eq!(node["status"]["allocatable"]["pods"], "100");
    let conditions = node["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
    let leases: Api<Lease> = Api::namespaced(plane.admin.clone(), "kube-node-lease");
    for _ in 0..400 {
        if leases.get_opt(NODE).await.unwrap().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let lease = leases.get(NODE).await.unwrap();
    assert_eq!(lease.spec.and_then(|spec| spec.holder_identity).as_deref(), Some(NODE));
    assert_eq!(nodes.list(&ListParams::default()).await.unwrap().items.len(), 1);
}
