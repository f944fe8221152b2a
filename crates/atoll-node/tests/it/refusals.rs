//! Pods that cannot run say why, and nothing of them stays.

use atoll_node::{RuntimeError, RuntimeErrorKind};
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::plane::{Plane, eventually, is_ready, runtime, waiting_reason};

fn message(pod: &Value) -> &str {
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_node_does_not_do_is_refused_by_name() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node(&runtime).await;
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str, &str); 6] = [
        (
            "host-network",
            |pod| pod["spec"]["hostNetwork"] = json!(true),
            "CreateContainerConfigError",
            "spec.hostNetwork",
        ),
        (
            "privileged",
            |pod| pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true}),
            "CreateContainerConfigError",
            "securityContext.privileged",
        ),
        (
            "host-path",
            |pod| pod["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": "/"}}]),
            "CreateContainerConfigError",
            "spec.volumes[0].hostPath",
        ),
        (
            "two",
            |pod| {
                let second = json!({"name": "side", "image": "atoll.local/host"});
                pod["spec"]["containers"].as_array_mut().unwrap().push(second);
            },
            "CreateContainerConfigError",
            "\"side\"",
        ),
        (
            "image",
            |pod| pod["spec"]["containers"][0]["image"] = json!("docker.io/library/python:3.12"),
            "ErrImagePull",
            "docker.io/library/python:3.12",
        ),
        (
            "root",
            |pod| pod["spec"]["securityContext"] = json!({"runAsUser": 0}),
            "CreateContainerConfigError",
            "runAsUser 0",
        ),
    ];
    for (name, change, reason, named) in cases {
        plane.pod(name, change).await;
        let pod = plane.pod_when(name, |pod| waiting_reason(pod) == reason).await;
        assert!(message(&pod).contains(named), "{name}: {}", message(&pod));
        assert_eq!(pod["status"]["phase"], "Pending");
        assert_eq!(pod["status"]["podIP"], Value::Null);
        plane.delete_pod(name).await;
        plane.pod_when(name, Value::is_null).await;
    }
    assert!(runtime.created().is_empty());
    let events = plane.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    let told = events.iter().filter_map(|event| event.message.as_deref());
    assert!(told.into_iter().any(|message| message.contains("spec.hostNetwork")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_waited_for() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node(&runtime).await;
    plane
        .pod("p", |pod| {
            pod["spec"]["containers"][0]["env"] =
                json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}]);
        })
        .await;
    let pod = plane.pod_when("p", |pod| waiting_reason(pod) == "CreateContainerConfigError").await;
    assert_eq!(message(&pod), "configmap \"settings\" not found");
    plane.create::<ConfigMap>(json!({"metadata": {"name": "settings"}, "data": {"a": "1"}})).await;
    plane.pod_when("p", is_ready).await;
    assert_eq!(runtime.created()[0].env.get("A").map(String::as_str), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_is_told_and_tried_again() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node(&runtime).await;
    runtime.refuse_next(RuntimeError {
        kind: RuntimeErrorKind::Exhausted,
        message: "no process ids are left".to_owned(),
        hint: Some("raise pids.max".to_owned()),
    });
    plane.pod("p", |_| ()).await;
    let pod = plane.pod_when("p", |pod| waiting_reason(pod) == "CreateContainerError").await;
    assert_eq!(message(&pod), "no process ids are left (raise pids.max)");
    plane.pod_when("p", is_ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_start_is_not_tried_again_and_can_be_deleted() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node(&runtime).await;
    runtime.refuse_next(RuntimeError::new(RuntimeErrorKind::Unsupported, "runsc is not installed"));
    plane.pod("p", |pod| pod["spec"]["runtimeClassName"] = json!("gvisor")).await;
    plane.pod_when("p", |pod| waiting_reason(pod) == "CreateContainerConfigError").await;
    plane.delete_pod("p").await;
    plane.pod_when("p", Value::is_null).await;
    assert!(runtime.created().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_start_is_cleared_away_first() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node(&runtime).await;
    runtime.refuse_next(RuntimeError::new(RuntimeErrorKind::AlreadyExists, "it exists"));
    plane.pod("p", |_| ()).await;
    plane.pod_when("p", is_ready).await;
    eventually("the start", || runtime.created().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_somebody_elses_is_passed_over() {
    let plane = Plane::start().await;
    let runtime = runtime();
    let _node = plane.node(&runtime).await;
    for _ in 0..3 {
        runtime.refuse_next(RuntimeError::new(RuntimeErrorKind::AddressInUse, "another plane has it"));
    }
    plane.pod("p", |_| ()).await;
    let pod = plane.pod_when("p", is_ready).await;
    assert_eq!(pod["status"]["podIP"], "10.201.0.5");
    plane.assert_status_writes(1).await;
}
